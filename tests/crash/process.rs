//! The sweep through the starting and joining of processes.

use shmkit::process::ProcessOptions;
use shmkit::shim::crash::arm;
use shmkit::{Pipe, RecvError, Ticket};

use crate::Scene;
use crate::common::{BOUND, Child, Name, Parent, Stage};
use crate::ticket::{pair, socket_of};

pub(crate) const SCENES: &[(&str, Scene)] = &[("process_join", give_an_end_away), ("process_daemon", give_an_end_away)];

/// Starts a process with an end of a pipe, and joins it.
pub(crate) fn victim(scene: &str, parent: &mut Parent, _stage_name: &str, die_at: usize) {
    parent.expect("go");
    parent.say("ready");
    let ticket = Ticket::<Pipe<u64>>::receive(&socket_of(parent.socket())).expect("a ticket");
    arm(die_at);
    let process = ProcessOptions::new().daemon(scene == "process_daemon").spawn(say_seven, ticket).expect("a process");
    process.join().expect("the end, and room");
}

fn say_seven(ticket: Ticket<Pipe<u64>>) {
    ticket.take().expect("the end").send(7).expect("room");
}

/// The victim gets an end, and gives it to a process that it starts: whoever has it in the end, ends.
fn give_an_end_away(_other: &Name, victim: &mut Child, _stage: &Stage) {
    let (mut pipe, ticket) = pair();
    victim.tell("go");
    victim.expect("ready");
    ticket.send(&socket_of(victim.socket())).expect("a socket");
    let mut received = pipe.recv_timeout(BOUND);
    if matches!(received, Ok(7)) {
        received = pipe.recv_timeout(BOUND);
    }
    assert!(matches!(received, Err(RecvError::Disconnected)), "{received:?}");
}
