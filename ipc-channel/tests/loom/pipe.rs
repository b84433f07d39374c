//! Typed channels: what is sent arrives, nobody sleeps beside something to do, and deaths and closes are noticed.

use core::time::Duration;
use std::sync::Arc;

use shmkit_channel::model::Channel;
use shmkit_channel::{Receiver, RecvError, SendError, Sender};
use shmkit_core::shim::explore::{explore, spawn};
use shmkit_core::shim::futex;
use shmkit_core::shim::model::{Attachment, Process};

/// Deadlines pass when a model says so, and count as passed for whoever asks the clock.
const TIMED: Duration = Duration::ZERO;

/// Two words, so that one can be seen without the other. A cell has three of them.
pub(crate) type Message = [u64; 2];

pub(crate) fn message(number: u64) -> Message {
    [number, number]
}

pub(crate) fn processes<const N: usize>() -> (Arc<Attachment>, [Process; N]) {
    let region = Attachment::new(N);
    let processes = core::array::from_fn(|i| Process::join(&region, i as u64 + 1));
    (region, processes)
}

pub(crate) fn sender(channel: &Channel<Message>) -> Sender<Message> {
    channel.sender().expect("an end")
}

pub(crate) fn receiver(channel: &Channel<Message>) -> Receiver<Message> {
    channel.receiver().expect("an end")
}

/// Receives until nobody sends any more; says what.
pub(crate) fn receive_all(rx: &mut Receiver<Message>) -> Vec<u64> {
    let mut numbers = Vec::new();
    loop {
        match rx.recv() {
            Ok([one, other]) => {
                assert_eq!(one, other, "torn");
                numbers.push(one);
            }
            Err(error) => {
                assert!(matches!(error, RecvError::Disconnected), "{error:?}");
                return numbers;
            }
        }
    }
}

/// So many messages through a ring that is full at each of them, or now and then.
fn stream(capacity: u64, count: u64, meanwhile: impl FnOnce()) {
    let (_, [sending, receiving]) = processes();
    let channel = Channel::new(capacity, false);
    let thread = spawn(&sending, {
        let channel = channel.clone();
        move || {
            let mut tx = sender(&channel);
            (0..count).for_each(|number| tx.send(message(number)).expect("room"));
        }
    });
    receiving.act();
    let mut rx = receiver(&channel);
    meanwhile();
    assert!(receive_all(&mut rx).into_iter().eq(0..count));
    thread.join().unwrap();
}

#[test]
fn messages_arrive_whole_and_in_order_also_when_the_ring_is_full() {
    explore(2, || stream(1, 3, || ()));
}

#[test]
fn messages_arrive_whole_and_in_order_over_the_ends_of_cells() {
    explore(2, || stream(2, 4, || ()));
}

#[test]
fn wake_ups_for_no_reason_change_nothing() {
    explore(2, || stream(1, 2, futex::disturb));
}

#[test]
fn slices_arrive_whole_and_in_order() {
    explore(2, || {
        let (_, [sending, receiving]) = processes();
        let channel = Channel::new(4, false);
        let thread = spawn(&sending, {
            let channel = channel.clone();
            move || sender(&channel).send_slice(&[0, 1, 2, 3, 4].map(message)).expect("room")
        });
        receiving.act();
        let mut rx = receiver(&channel);
        let (mut part, mut received) = ([message(0); 4], Vec::new());
        while let Ok(count) = rx.recv_slice(&mut part) {
            received.extend_from_slice(&part[..count]);
        }
        assert!(received.into_iter().eq((0..5).map(message)));
        thread.join().unwrap();
    });
}

#[test]
fn looks_without_patience_find_what_there_is() {
    explore(3, || {
        let (_, [sending, receiving]) = processes();
        let channel = Channel::new(1, false);
        receiving.act();
        let mut rx = receiver(&channel);
        let thread = spawn(&sending, {
            let channel = channel.clone();
            move || {
                let mut tx = sender(&channel);
                tx.send(message(1)).expect("room");
                while tx.try_send(message(2)).is_err() {
                    loom::thread::yield_now();
                }
            }
        });
        let mut received = Vec::new();
        loop {
            match rx.try_recv() {
                Ok([one, other]) => received.push((one, other)),
                Err(RecvError::Empty) => loom::thread::yield_now(),
                Err(error) => {
                    assert!(matches!(error, RecvError::Disconnected), "{error:?}");
                    break;
                }
            }
        }
        assert_eq!(received, [(1, 1), (2, 2)]);
        thread.join().unwrap();
    });
}

/// One whose time is over leaves its wait; what is sent meanwhile is there for the next.
#[test]
fn a_receiver_that_times_out_misses_nothing() {
    explore(3, || {
        let (_, [sending, receiving]) = processes();
        let channel = Channel::new(2, false);
        let thread = spawn(&receiving, {
            let channel = channel.clone();
            move || {
                let mut rx = receiver(&channel);
                let mut next = 0;
                match rx.recv_timeout(TIMED) {
                    Ok(received) => {
                        assert_eq!(received, message(0));
                        next = 1;
                    }
                    Err(error) => assert!(matches!(error, RecvError::TimedOut), "{error:?}"),
                }
                assert!(receive_all(&mut rx).into_iter().eq(next..2));
            }
        });
        sending.act();
        let mut tx = sender(&channel);
        tx.send(message(0)).expect("room");
        futex::expire();
        tx.send(message(1)).expect("room");
        drop(tx);
        thread.join().unwrap();
    });
}

#[test]
fn a_sender_that_times_out_sends_nothing_and_the_next_time_it_does() {
    explore(2, || {
        let (_, [sending, receiving]) = processes();
        let channel = Channel::new(1, false);
        let thread = spawn(&sending, {
            let channel = channel.clone();
            move || {
                let mut tx = sender(&channel);
                tx.send(message(0)).expect("room");
                if let Err(error) = tx.send_timeout(message(1), TIMED) {
                    assert!(matches!(error, SendError::TimedOut(_)), "{error:?}");
                    tx.send(message(1)).expect("room");
                }
            }
        });
        receiving.act();
        let mut rx = receiver(&channel);
        futex::expire();
        assert!(receive_all(&mut rx).into_iter().eq(0..2));
        thread.join().unwrap();
    });
}

#[test]
fn a_receiver_that_closes_ends_the_wait_of_the_sender() {
    explore(3, || {
        let (_, [sending, receiving]) = processes();
        let channel = Channel::new(1, false);
        let thread = spawn(&sending, {
            let channel = channel.clone();
            move || {
                let mut tx = sender(&channel);
                let ended = (0..3).find_map(|number| tx.send(message(number)).err());
                assert!(matches!(ended, Some(SendError::Disconnected(_))), "{ended:?}");
            }
        });
        receiving.act();
        receiver(&channel).close();
        thread.join().unwrap();
    });
}
