//! The ring of a channel for bytes, one way: 64 bytes, so that records of 16 and 24 bytes soon come to its end. A frame of up to 16 bytes is one
//! record.

use std::sync::{Arc, Mutex};

use loom::thread;
use shmkit_channel::model::ByteChannel;
use shmkit_channel::{ByteReceiver, ByteSender, OpenError, RecvError, SendError};
use shmkit_core::shim::explore::{end, explore, explore_deaths, keeper, spawn, spawn_mortal};
use shmkit_core::shim::futex;
use shmkit_core::shim::model::{Attachment, Process};

const SIZE: usize = 64;

fn channel(successors: bool) -> ByteChannel {
    ByteChannel::new(SIZE, successors)
}

/// A frame of bytes that look like a header, and like no other frame.
fn frame(len: usize) -> Vec<u8> {
    let like_a_header = 7 << 32 | len as u64;
    like_a_header.to_le_bytes().into_iter().cycle().take(len).collect()
}

fn send_all(tx: &mut ByteSender, lens: &[usize]) {
    lens.iter().for_each(|len| tx.send(&frame(*len)).expect("a receiver"));
}

#[track_caller]
fn receive_all(rx: &mut ByteReceiver, lens: &[usize]) {
    lens.iter().for_each(|len| assert_eq!(rx.recv().expect("a frame"), frame(*len)));
}

/// Sends `lens` while the other side receives them, after `before` has gone through.
fn go_through(preemptions: usize, before: &'static [usize], lens: &'static [usize]) {
    explore(preemptions, move || {
        let region = Attachment::new(2);
        let channel = channel(false);
        let [sender, receiver] = [1, 2].map(|number| Process::join(&region, number));
        sender.act();
        let mut tx = channel.sender().expect("an end");
        receiver.act();
        let mut rx = channel.receiver().expect("an end");
        for len in before {
            sender.act();
            send_all(&mut tx, &[*len]);
            receiver.act();
            receive_all(&mut rx, &[*len]);
        }
        let thread = spawn(&sender, move || send_all(&mut tx, lens));
        receive_all(&mut rx, lens);
        assert!(matches!(rx.recv(), Err(RecvError::Disconnected)));
        thread.join().unwrap();
        end(&region, []);
    });
}

#[test]
fn frames_arrive_whole_and_what_lies_behind_them_is_not_taken_for_one() {
    // What was there in the first round looks like headers, and some of it lies behind the next ones.
    go_through(3, &[16, 15], &[8, 0]);
}

/// The ring has room for two of them, so the sender has to wait beside a receiver that it has not told of anything.
#[test]
fn frames_that_are_sent_quietly_are_told_before_a_wait_and_by_the_last_of_them() {
    explore(2, || {
        let region = Attachment::new(2);
        let channel = channel(false);
        let [sender, receiver] = [1, 2].map(|number| Process::join(&region, number));
        sender.act();
        let mut tx = channel.sender().expect("an end");
        receiver.act();
        let mut rx = channel.receiver().expect("an end");
        // It is not dropped before all has been received: that would tell, too.
        let kept = Arc::new(Mutex::new(None));
        let of_thread = Arc::clone(&kept);
        let thread = spawn(&sender, move || {
            (0..3).for_each(|_| tx.send_quietly(&frame(16)).expect("a receiver"));
            tx.tell();
            *of_thread.lock().unwrap() = Some(tx);
        });
        receive_all(&mut rx, &[16, 16, 16]);
        thread.join().unwrap();
        drop(kept.lock().unwrap().take());
        end(&region, []);
    });
}

#[test]
fn frames_go_round_the_end_of_the_ring_behind_a_pad() {
    go_through(3, &[16, 15], &[14, 8]);
}

#[test]
fn a_full_ring_makes_its_sender_wait() {
    go_through(2, &[], &[8, 16, 15]);
}

#[test]
fn a_frame_in_parts_arrives_whole() {
    go_through(3, &[], &[24]);
}

#[test]
fn a_frame_that_is_longer_than_the_ring_arrives_whole() {
    go_through(2, &[], &[72]);
}

#[test]
fn a_frame_that_its_sender_gives_up_in_the_middle_is_dropped_and_the_next_one_arrives() {
    explore(2, || {
        let region = Attachment::new(2);
        let channel = channel(false);
        let [sender, receiver] = [1, 2].map(|number| Process::join(&region, number));
        receiver.act();
        let mut rx = channel.receiver().expect("an end");
        let given_up = Arc::new(Mutex::new(false));
        let thread = spawn(&sender, {
            let (channel, given_up) = (channel.clone(), Arc::clone(&given_up));
            move || {
                let mut tx = channel.sender().expect("an end");
                match tx.send_timeout(&frame(48), core::time::Duration::ZERO) {
                    Ok(()) => {}
                    Err(error) => {
                        assert!(matches!(error, SendError::TimedOut(())));
                        *given_up.lock().unwrap() = true;
                    }
                }
                send_all(&mut tx, &[8]);
            }
        });
        futex::expire();
        let mut found = Vec::new();
        while let Ok(frame) = rx.recv() {
            found.push(frame.len());
        }
        thread.join().unwrap();
        let expected: &[usize] = if *given_up.lock().unwrap() { &[8] } else { &[48, 8] };
        assert_eq!(found, expected);
        end(&region, []);
    });
}

/// A frame in parts, of the one who dies.
const LONG: usize = 24;

#[test]
fn a_sender_that_dies_anywhere_has_sent_whole_frames_and_then_nobody_is_there() {
    let points =
        ["bytes.send.after_copy", "bytes.send.after_clear", "bytes.send.after_header", "bytes.send.between_parts"];
    explore_deaths(1, &points, |at| {
        let (region, [survivor, victim]) = processes();
        let channel = channel(false);
        let keeper = keeper(&survivor);
        survivor.act();
        let mut rx = channel.receiver().expect("an end");
        victim.act();
        let mut tx = channel.sender().expect("an end");
        let (thread, place) = spawn_mortal(&victim, at, move || send_all(&mut tx, &[8, LONG]));
        survivor.act();
        let mut found = Vec::new();
        let ended = loop {
            match rx.recv() {
                Ok(frame) => found.push(frame),
                Err(error) => break error,
            }
        };
        assert!(matches!(ended, RecvError::Disconnected), "{ended:?}");
        let all = [frame(8), frame(LONG)];
        assert!(all.starts_with(&found), "{found:?}");
        thread.join().unwrap();
        end(&region, [keeper]);
        let died = *place.lock().unwrap();
        assert!(died.is_some() || found.len() == all.len());
        died
    });
}

#[test]
fn a_successor_of_a_sender_that_died_anywhere_goes_on_behind_its_last_whole_frame() {
    let points = ["bytes.send.after_clear", "bytes.send.before_pad", "bytes.send.between_parts"];
    explore_deaths(1, &points, |at| {
        let (region, [survivor, victim, successor]) = processes();
        let channel = channel(true);
        let keeper = keeper(&survivor);
        survivor.act();
        let mut rx = channel.receiver().expect("an end");
        victim.act();
        let mut tx = channel.sender().expect("an end");
        // So that the next ones go over the end.
        send_all(&mut tx, &[13]);
        survivor.act();
        receive_all(&mut rx, &[13]);
        let (thread, place) = spawn_mortal(&victim, at, move || {
            send_all(&mut tx, &[16, LONG]);
        });
        survivor.act();
        let mut found = Vec::new();
        while let Ok(frame) = rx.recv() {
            found.push(frame.len());
        }
        thread.join().unwrap();
        let died = *place.lock().unwrap();
        assert!([16, LONG].starts_with(&found), "{found:?}");
        successor.act();
        if let Some(mut tx) = succeed(|| channel.sender()) {
            send_all(&mut tx, &[12, 0]);
            survivor.act();
            receive_all(&mut rx, &[12, 0]);
        }
        end(&region, [keeper]);
        died
    });
}

#[test]
fn a_successor_of_a_sender_finds_the_end_of_what_that_has_sent() {
    explore_deaths(1, &["bytes.send.after_clear", "bytes.send.before_pad", "bytes.send.after_header"], |at| {
        let (region, [survivor, victim, successor]) = processes();
        let channel = channel(true);
        let keeper = keeper(&survivor);
        survivor.act();
        let mut rx = channel.receiver().expect("an end");
        victim.act();
        let mut tx = channel.sender().expect("an end");
        // So that the next one is behind a PAD.
        send_all(&mut tx, &[13, 12]);
        survivor.act();
        receive_all(&mut rx, &[13, 12]);
        let (thread, place) = spawn_mortal(&victim, at, move || send_all(&mut tx, &[16]));
        thread.join().unwrap();
        successor.act();
        let tx = succeed(|| channel.sender()).map(|mut tx| send_all(&mut tx, &[7]));
        survivor.act();
        let mut found: Vec<_> = core::iter::from_fn(|| rx.try_recv().ok()).map(|frame| frame.len()).collect();
        assert!(tx.is_none() || found.pop() == Some(7), "{found:?}");
        end(&region, [keeper]);
        let died = *place.lock().unwrap();
        let before = ["bytes.send.after_copy", "bytes.send.after_clear", "bytes.send.before_pad"];
        let was_sent = died.is_none_or(|died| !before.contains(&died));
        assert_eq!(found, [16][..usize::from(was_sent)]);
        died
    });
}

#[test]
fn a_receiver_that_dies_anywhere_leaves_each_frame_to_its_successor_or_has_received_it() {
    let points = ["bytes.recv.after_copy", "bytes.recv.after_received"];
    explore_deaths(1, &points, |at| {
        let (region, [survivor, victim, successor]) = processes();
        let channel = channel(true);
        let keeper = keeper(&survivor);
        survivor.act();
        let mut tx = channel.sender().expect("an end");
        victim.act();
        let mut rx = channel.receiver().expect("an end");
        let received = Arc::new(Mutex::new(0));
        survivor.act();
        send_all(&mut tx, &[16, 8]);
        let (thread, place) = spawn_mortal(&victim, at, {
            let received = Arc::clone(&received);
            move || {
                for len in [16, 8] {
                    receive_all(&mut rx, &[len]);
                    *received.lock().unwrap() += 1;
                }
            }
        });
        // Waits for room, or for the news.
        survivor.act();
        let sent = tx.send(&frame(14)).is_ok();
        thread.join().unwrap();
        let died = *place.lock().unwrap();
        successor.act();
        if let Some(mut rx) = succeed(|| channel.receiver()) {
            // One that was taken out of the ring may not have been told to anybody.
            let received = *received.lock().unwrap() + usize::from(died != Some("bytes.recv.after_copy"));
            receive_all(&mut rx, &[16, 8][received..]);
            receive_all(&mut rx, &[14][..usize::from(sent)]);
            assert!(matches!(rx.try_recv(), Err(RecvError::Empty)));
        }
        end(&region, [keeper]);
        died
    });
}

/// Takes the end of one who has died, once that is known; `None` if that one had closed it before.
fn succeed<E: core::fmt::Debug>(claim: impl Fn() -> Result<E, OpenError>) -> Option<E> {
    loop {
        match claim() {
            Err(OpenError::Taken) => thread::yield_now(),
            Err(OpenError::Closed) => return None,
            claimed => return Some(claimed.expect("the end of a dead")),
        }
    }
}

fn processes<const N: usize>() -> (Arc<Attachment>, [Process; N]) {
    let region = Attachment::new(N);
    let processes = core::array::from_fn(|i| Process::join(&region, i as u64 + 1));
    (region, processes)
}
