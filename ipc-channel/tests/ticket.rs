//! Tickets within one process.

#![cfg(not(ipc_loom))]

use std::os::unix::net::UnixStream;
use std::process::Command;

use shmkit_channel::{ChannelOptions, Endpoint, OpenError, Pipe, Receiver, RecvError, SendError, Sender, Ticket};
use shmkit_core::Error;

#[test]
fn the_end_that_a_ticket_is_for_can_be_taken_in_the_same_process() {
    let (mut first, ticket) = ChannelOptions::new().capacity(3).pair::<Pipe<u64>>().expect("a pipe");
    first.send(1).expect("room before anybody has come");

    let mut second = ticket.take().expect("the other end");

    assert_eq!(second.recv().expect("a message"), 1);
    second.send(2).expect("room");
    assert_eq!(first.recv().expect("a message"), 2);
}

#[test]
fn either_end_of_one_way_can_be_the_first() {
    let (mut tx, ticket) = ChannelOptions::new().pair::<Sender<u8>>().expect("a channel");
    let mut rx: Receiver<u8> = ticket.take().expect("the end that receives");
    tx.send(1).expect("room");
    assert_eq!(rx.recv().expect("a message"), 1);

    let (mut rx, ticket) = ChannelOptions::new().pair::<Receiver<u8>>().expect("a channel");
    let mut tx: Sender<u8> = ticket.take().expect("the end that sends");
    tx.send(2).expect("room");
    assert_eq!(rx.recv().expect("a message"), 2);
}

#[test]
fn a_dropped_ticket_is_a_closed_end() {
    let (mut pipe, ticket) = ChannelOptions::new().pair::<Pipe<u64>>().expect("a pipe");
    assert!(matches!(pipe.try_recv(), Err(RecvError::Empty)));
    assert!(!pipe.is_closed());

    drop(ticket);

    assert!(matches!(pipe.try_recv(), Err(RecvError::Disconnected)));
    assert!(matches!(pipe.send(1), Err(SendError::Disconnected(1))));
    assert!(pipe.is_closed());
}

#[test]
fn a_dropped_ticket_wakes_those_who_wait() {
    let (mut pipe, ticket) = ChannelOptions::new().pair::<Pipe<u64>>().expect("a pipe");
    let waiter = std::thread::spawn(move || pipe.recv());

    drop(ticket);

    assert!(matches!(waiter.join().expect("no panic"), Err(RecvError::Disconnected)));
}

#[test]
fn a_name_that_no_variable_can_have_is_refused() {
    for name in ["", "a=b", "a\0b"] {
        let (mut pipe, ticket) = ChannelOptions::new().pair::<Pipe<u64>>().expect("a pipe");
        let refused = ticket.inherit(&mut Command::new("true"), name).expect_err("a refusal");
        assert!(matches!(refused, OpenError::Failed(Error::InvalidName { .. })), "{refused:?}");
        assert!(matches!(pipe.recv(), Err(RecvError::Disconnected)));
        let refused = Pipe::<u64>::inherited(name).expect_err("a refusal");
        assert!(matches!(refused, OpenError::Failed(Error::InvalidName { .. })), "{refused:?}");
    }
}

#[test]
fn nobody_inherits_from_nobody() {
    let refused = Pipe::<u64>::inherited("shmkit-no-such-ticket").expect_err("a refusal");
    assert_eq!(
        refused.to_string(),
        "there is no ticket for this end of a channel: nothing was inherited under this name"
    );
}

#[test]
fn a_ticket_is_received_as_what_it_is() {
    let send = || {
        let (here, there) = UnixStream::pair().expect("sockets");
        let (tx, ticket) = ChannelOptions::new().pair::<Sender<u64>>().expect("a channel");
        ticket.send(&here).expect("room");
        (tx, there)
    };

    let (mut tx, socket) = send();
    let mut rx = Ticket::<Receiver<u64>>::receive(&socket).expect("a ticket").take().expect("an end");
    tx.send(1).expect("room");
    assert_eq!(rx.recv().expect("a message"), 1);

    let (_tx, socket) = send();
    let refused = Ticket::<Sender<u64>>::receive(&socket).expect_err("it is for the other end");
    assert!(matches!(refused, OpenError::NoTicket { .. }), "{refused:?}");

    let (_tx, socket) = send();
    let refused = Ticket::<Receiver<u32>>::receive(&socket).expect_err("it is for other messages");
    assert!(matches!(refused, OpenError::Failed(Error::WrongType { .. })), "{refused:?}");
}

#[test]
fn an_end_that_is_being_taken_is_not_gone() {
    for turn in 0..1_000 {
        let (tx, ticket) = ChannelOptions::new().pair::<Sender<u64>>().expect("a channel");
        let taker = std::thread::spawn(move || ticket.take().expect("the end that receives"));
        while !taker.is_finished() {
            assert!(!tx.is_closed(), "turn {turn}");
        }
        let _rx = taker.join().expect("no panic");
        assert!(!tx.is_closed());
    }
}
