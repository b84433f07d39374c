//! Queues and processes that fork in the middle of receiving.

mod common;

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Release};

use shmkit::{Error, QueueOptions, RecvError, Region};

use common::{Child, Parent, exit_now, fork_here, has_ended_well, roles, until};

roles!(forker_in_a_note);

/// Forks in a note. The child returns from it when its parent has gone on long since.
fn forker_in_a_note(parent: &mut Parent) {
    let parent_of_all = std::process::id();
    let gone_on = Region::anonymous(4096).expect("a region").insert("gone on", AtomicU64::new(0)).expect("room");
    let queue = QueueOptions::new().capacity(2).anonymous::<u64>().expect("a queue");
    queue.send(0).expect("room");

    let mut child = 0;
    let received = queue.recv_with(|message| {
        child = fork_here();
        if child == 0 {
            until("the parent to go on", || gone_on.load(Acquire) == 1);
        }
        *message
    });

    if std::process::id() != parent_of_all {
        exit_now(if matches!(received, Err(RecvError::Failed(Error::Forked))) { 0 } else { 1 });
    }
    assert_eq!(received.expect("the message"), 0);
    let pass = |message| {
        queue.send(message).expect("room");
        assert_eq!(queue.recv().expect("an open queue that is sound"), message);
    };
    (1..10).for_each(pass);
    gone_on.store(1, Release);
    until("the end of the child", || has_ended_well(child));
    (10..20).for_each(pass);
    parent.say("passed");
}

#[test]
fn a_child_that_is_forked_in_a_note_receives_nothing_for_its_parent() {
    let mut forker = Child::spawn("forker_in_a_note", &[]);

    forker.expect("passed");
}
