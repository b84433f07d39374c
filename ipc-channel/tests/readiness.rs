//! The readiness of receivers within one process.

#![cfg(not(ipc_loom))]

use std::os::fd::AsFd;
use std::thread;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use shmkit_channel::{ByteSender, ChannelOptions, Pipe, Readiness, RecvError, Sender};
use shmkit_core::{Deadline, wait_any};

/// Longer than anything here takes.
const BOUND: u16 = 20_000;

/// Whether it is readable, or becomes so in time.
fn is_readable(readiness: &Readiness, milliseconds: u16) -> bool {
    let mut files = [PollFd::new(readiness.as_fd(), PollFlags::POLLIN)];
    poll(&mut files, PollTimeout::from(milliseconds)).expect("one descriptor") == 1
}

#[test]
fn it_is_readable_while_there_is_something_and_not_when_that_was_taken() {
    let (mut tx, mut rx) = ChannelOptions::new().both::<Sender<u64>>().expect("a channel");
    let readiness = rx.readiness().expect("a descriptor");
    for number in 0..100 {
        tx.send(number).expect("room");
        assert!(is_readable(&readiness, BOUND));
        assert_eq!(rx.try_recv().expect("a message"), number);
        while is_readable(&readiness, 0) {
            assert!(matches!(rx.try_recv(), Err(RecvError::Empty)));
        }
    }
}

#[test]
fn it_is_readable_for_good_when_the_sender_is_closed() {
    let (mut tx, mut rx) = ChannelOptions::new().both::<Sender<u64>>().expect("a channel");
    let readiness = rx.readiness().expect("a descriptor");
    assert!(matches!(rx.try_recv(), Err(RecvError::Empty)));

    tx.close();

    assert!(is_readable(&readiness, BOUND));
    assert!(matches!(rx.try_recv(), Err(RecvError::Disconnected)));
    assert!(is_readable(&readiness, 20));
}

#[test]
fn slices_are_awaited_like_single_messages() {
    let (mut tx, mut rx) = ChannelOptions::new().capacity(10).both::<Sender<u64>>().expect("a channel");
    let readiness = rx.readiness().expect("a descriptor");
    let sender = thread::spawn(move || tx.send_slice(&(0..10_000).collect::<Vec<_>>()));
    let (mut received, mut part) = (Vec::new(), [0; 7]);
    while received.len() < 10_000 {
        match rx.try_recv_slice(&mut part) {
            Ok(count) => received.extend_from_slice(&part[..count]),
            Err(RecvError::Empty) => assert!(is_readable(&readiness, BOUND)),
            Err(error) => panic!("{error}"),
        }
    }
    sender.join().expect("no panic").expect("a receiver");
    assert!(received.into_iter().eq(0..10_000));
}

#[test]
fn it_outlives_the_receiver_and_is_the_same_for_all_who_ask() {
    let (_tx, mut rx) = ChannelOptions::new().both::<Sender<u64>>().expect("a channel");
    let readiness = rx.readiness().expect("a descriptor");
    let again = rx.readiness().expect("the same");
    drop(rx);
    assert!(is_readable(&readiness, BOUND) && is_readable(&again, BOUND));
}

#[test]
fn each_way_of_a_pipe_has_its_own() {
    let (mut first, mut second) = ChannelOptions::new().both::<Pipe<u64>>().expect("a pipe");
    let [to_first, to_second] = [&mut first, &mut second].map(|pipe| pipe.readiness().expect("a descriptor"));

    first.send(1).expect("room");

    assert!(is_readable(&to_second, BOUND));
    assert!(matches!(first.try_recv(), Err(RecvError::Empty)));
    assert!(!is_readable(&to_first, 20));
}

#[test]
fn one_who_waits_for_any_of_several_waits_beside_it() {
    let (mut tx, mut rx) = ChannelOptions::new().both::<Sender<u64>>().expect("a channel");
    let readiness = rx.readiness().expect("a descriptor");
    assert!(matches!(rx.try_recv(), Err(RecvError::Empty)));
    thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            let deadline = Deadline::after(Duration::from_millis(u64::from(BOUND)));
            let ready = wait_any(&mut [&mut rx], deadline).expect("a token");
            (ready, rx.try_recv().expect("a message"))
        });
        tx.send(7).expect("room");
        assert_eq!(waiter.join().expect("no panic"), (Some(0), 7));
    });
    assert!(matches!(rx.try_recv(), Err(RecvError::Empty)));
    tx.send(8).expect("room");
    assert!(is_readable(&readiness, BOUND));
}

#[test]
fn frames_are_awaited_also_those_that_are_longer_than_the_channel() {
    let (mut tx, mut rx) = ChannelOptions::new().capacity(1024).both::<ByteSender>().expect("a channel");
    let readiness = rx.readiness().expect("a descriptor");
    let frames: Vec<Vec<u8>> = [0, 1, 100, 5000, 250, 0, 3000].map(|len| vec![len as u8; len]).to_vec();
    let to_send = frames.clone();
    let sender = thread::spawn(move || to_send.iter().try_for_each(|frame| tx.send(frame)));
    let mut received = Vec::new();
    loop {
        match rx.try_recv() {
            Ok(frame) => received.push(frame),
            Err(RecvError::Empty) => assert!(is_readable(&readiness, BOUND)),
            Err(RecvError::Disconnected) => break,
            Err(error) => panic!("{error}"),
        }
    }

    sender.join().expect("no panic").expect("a receiver");
    assert_eq!(received, frames);
    assert!(is_readable(&readiness, 20));
}
