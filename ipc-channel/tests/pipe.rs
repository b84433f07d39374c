//! Typed channels within one process.

#![cfg(not(ipc_loom))]

use std::thread;

use shmkit_channel::{ChannelOptions, Endpoint, Pipe, Receiver, RecvError, SendError, Sender};
use shmkit_core::Region;

#[test]
fn messages_arrive_in_order_until_the_sender_is_dropped() {
    let (mut tx, mut rx): (Sender<u64>, Receiver<u64>) = ChannelOptions::new().capacity(10).both().expect("a channel");
    let sender = thread::spawn(move || (0..100_000).try_for_each(|number| tx.send(number)));

    let received: Vec<u64> = rx.iter().collect();

    sender.join().expect("no panic").expect("a receiver");
    assert!(received.iter().copied().eq(0..100_000));
    assert!(matches!(rx.try_recv(), Err(RecvError::Disconnected)));
}

#[test]
fn as_many_messages_fit_in_as_were_asked_for() {
    for capacity in 1..30 {
        let (mut tx, mut rx): (Sender<u64>, _) = ChannelOptions::new().capacity(capacity).both().expect("a channel");
        for round in 0..20 {
            (0..capacity).for_each(|number| tx.try_send(number).expect("room"));
            assert!(matches!(tx.try_send(7), Err(SendError::Full(7))));
            (0..capacity).for_each(|number| assert_eq!(rx.try_recv().expect("a message"), number, "round {round}"));
            assert!(matches!(rx.try_recv(), Err(RecvError::Empty)));
        }
    }
}

#[test]
fn slices_go_through_a_ring_that_is_smaller_than_they() {
    let (mut tx, mut rx): (Sender<[u8; 3]>, _) = ChannelOptions::new().capacity(50).both().expect("a channel");
    let all: Vec<[u8; 3]> = (0..10_000u32).map(|number| [number as u8, (number >> 8) as u8, 7]).collect();
    let sent = all.clone();
    let sender = thread::spawn(move || tx.send_slice(&sent));

    let mut received = Vec::new();
    let mut part = [[0; 3]; 33];
    while let Ok(count) = rx.recv_slice(&mut part) {
        received.extend_from_slice(&part[..count]);
    }

    sender.join().expect("no panic").expect("a receiver");
    assert!(received == all);
}

#[test]
fn both_ends_of_a_pipe_send_and_receive() {
    let region = Region::anonymous(1 << 16).expect("a region");
    let mut first: Pipe<[u64; 20]> = ChannelOptions::new().create_in(&region, "pipe").expect("a pipe");
    let mut second = Pipe::<[u64; 20]>::open_in(&region, "pipe").expect("the other end");
    for number in 0..200 {
        first.send([number; 20]).expect("room");
        assert_eq!(second.recv().expect("a message"), [number; 20]);
        second.send([number + 1; 20]).expect("room");
        assert_eq!(first.recv().expect("a message"), [number + 1; 20]);
    }
}
