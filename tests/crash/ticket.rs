//! The sweep through the ways of a ticket.

use std::iter;
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use shmkit::shim::crash::arm;
use shmkit::{ChannelOptions, Pipe, RecvError, SendError, Ticket};

use crate::Scene;
use crate::common::{BOUND, Child, Name, Parent, Stage, is_readable, prompt, until};

pub(crate) const SCENES: &[(&str, Scene)] = &[
    ("ticket_send", get_what_the_victim_sends),
    ("ticket_inherit", get_what_the_victim_lets_inherit),
    ("ticket_take", send_to_one_who_takes),
    ("ticket_drop", send_to_one_who_drops),
    ("ticket_ring", ring_one_in_an_event_loop),
    ("ticket_bell", be_in_an_event_loop),
];

fn socket_of(descriptor: BorrowedFd<'_>) -> UnixStream {
    UnixStream::from(descriptor.try_clone_to_owned().expect("a descriptor"))
}

fn pair() -> (Pipe<u64>, Ticket<Pipe<u64>>) {
    ChannelOptions::new().pair().expect("a pipe")
}

/// What the victim does.
pub(crate) fn victim(scene: &str, parent: &mut Parent, _stage_name: &str, die_at: usize) {
    parent.expect("go");
    let socket = socket_of(parent.socket());
    match scene {
        "ticket_send" => {
            arm(die_at);
            let (pipe, ticket) = pair();
            ticket.send(&socket).expect("a socket");
            drop(pipe);
        }
        "ticket_inherit" => {
            arm(die_at);
            let (mut pipe, ticket) = pair();
            let mut command = Command::new("true");
            ticket.inherit(command.stdin(Stdio::null()), "pipe").expect("a command");
            command.status().expect("a child");
            assert!(matches!(pipe.recv(), Err(RecvError::Disconnected)));
        }
        taking_or_dropping => {
            parent.say("ready");
            let ticket = Ticket::<Pipe<u64>>::receive(&socket).expect("a ticket");
            arm(die_at);
            match taking_or_dropping {
                "ticket_take" | "ticket_ring" => ticket.take().expect("the end").send(7).expect("room"),
                "ticket_bell" => assert!(matches!(next(&mut ticket.take().expect("the end")), Ok(7))),
                _ => drop(ticket),
            }
        }
    }
}

/// What an event loop gets from the pipe.
fn next(pipe: &mut Pipe<u64>) -> Result<u64, RecvError> {
    let readiness = pipe.readiness().expect("a descriptor");
    loop {
        match pipe.try_recv() {
            Err(RecvError::Empty) => assert!(is_readable(&readiness, BOUND), "nothing in {BOUND:?}"),
            other => return other,
        }
    }
}

/// The other side of somebody who is dead, or has closed its end, learns of it, whatever it gets before.
#[track_caller]
fn is_left_alone(mut pipe: Pipe<u64>) {
    let start = Instant::now();
    let mut received = pipe.recv_timeout(BOUND);
    if matches!(received, Ok(7)) {
        received = pipe.recv_timeout(BOUND);
    }
    assert!(matches!(received, Err(RecvError::Disconnected)), "{received:?}");
    assert!(start.elapsed() < prompt(), "{:?}", start.elapsed());
}

/// The victim makes a pipe and sends the ticket.
fn get_what_the_victim_sends(_other: &Name, victim: &mut Child, _stage: &Stage) {
    victim.tell("go");
    // One who dies before has sent nothing.
    if let Ok(ticket) = Ticket::<Pipe<u64>>::receive(&socket_of(victim.socket())) {
        is_left_alone(ticket.take().expect("the end"));
    }
}

/// The victim makes a pipe, and lets a child inherit the ticket, which does not take it.
fn get_what_the_victim_lets_inherit(_other: &Name, victim: &mut Child, _stage: &Stage) {
    victim.tell("go");
}

/// The victim takes the end, and sends something.
fn send_to_one_who_takes(_other: &Name, victim: &mut Child, _stage: &Stage) {
    let (pipe, ticket) = pair();
    victim.tell("go");
    victim.expect("ready");
    ticket.send(&socket_of(victim.socket())).expect("a socket");
    is_left_alone(pipe);
}

/// The victim drops the ticket.
fn send_to_one_who_drops(other: &Name, victim: &mut Child, stage: &Stage) {
    send_to_one_who_takes(other, victim, stage);
}

/// The victim takes the end, and sends something to one who waits for a descriptor.
fn ring_one_in_an_event_loop(_other: &Name, victim: &mut Child, _stage: &Stage) {
    let (mut pipe, ticket) = pair();
    let readiness = pipe.readiness().expect("a descriptor");
    until("nothing to be told", || {
        assert!(matches!(pipe.try_recv(), Err(RecvError::Empty)));
        !is_readable(&readiness, Duration::ZERO)
    });
    victim.tell("go");
    victim.expect("ready");
    ticket.send(&socket_of(victim.socket())).expect("a socket");
    let start = Instant::now();
    let ended = iter::from_fn(|| next(&mut pipe).ok()).collect::<Vec<_>>();
    assert!([7].starts_with(&ended), "{ended:?}");
    assert!(matches!(next(&mut pipe), Err(RecvError::Disconnected)));
    assert!(start.elapsed() < prompt(), "{:?}", start.elapsed());
}

/// The victim takes the end, and waits for a descriptor.
fn be_in_an_event_loop(_other: &Name, victim: &mut Child, _stage: &Stage) {
    let (mut pipe, ticket) = pair();
    victim.tell("go");
    victim.expect("ready");
    ticket.send(&socket_of(victim.socket())).expect("a socket");
    // To one who is dead, or is there in time.
    let sent = pipe.send(7);
    assert!(matches!(sent, Ok(()) | Err(SendError::Disconnected(7))), "{sent:?}");
    is_left_alone(pipe);
}
