//! The sweep through the operations of channels for bytes.

use std::time::Duration;

use shmkit::shim::crash::arm;
use shmkit::{BytePipe, ByteReceiver, ByteSender, ChannelOptions, Endpoint, OpenError, RecvError, Region, SendError};

use crate::common::{BOUND, Child, Name, Parent, Stage, until};
use crate::{Scene, has_died};

pub(crate) const SCENES: &[(&str, Scene)] = &[
    ("bytes_send", sent_by_the_victim),
    ("bytes_receive", received_by_the_victim),
    ("bytes_in_place", sent_by_the_victim),
    ("bytes_duplex", at_the_other_end),
];

/// The lengths of the frames, for a channel of 256 bytes: single records, some of them behind a PAD, and one that is longer than the channel.
const LENS: [usize; 6] = [5, 50, 56, 56, 20, 400];

fn frame(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i + len) as u8).collect()
}

fn options() -> ChannelOptions {
    let mut options = ChannelOptions::new();
    options.capacity(256).successors(true);
    options
}

/// What the victim does.
pub(crate) fn victim(scene: &str, parent: &mut Parent, stage_name: &str, die_at: usize) {
    let region = Region::open(stage_name).expect("the stage");
    parent.expect("go");
    arm(die_at);
    match scene {
        "bytes_send" => {
            let mut tx = ByteSender::open_in(&region, "bytes").expect("an end");
            LENS.iter().for_each(|len| tx.send(&frame(*len)).expect("a receiver"));
        }
        "bytes_in_place" => {
            let mut tx = ByteSender::open_in(&region, "bytes").expect("an end");
            for len in &LENS[..5] {
                let mut room = tx.reserve(*len).expect("a receiver");
                room.copy_from_slice(&frame(*len));
                room.commit().expect("our own");
            }
        }
        "bytes_receive" => {
            let mut rx = ByteReceiver::open_in(&region, "bytes").expect("an end");
            LENS.iter().for_each(|len| assert_eq!(rx.recv().expect("a frame"), frame(*len)));
        }
        "bytes_duplex" => {
            let mut pipe = BytePipe::open_in(&region, "bytes").expect("an end");
            pipe.send(&frame(7)).expect("a receiver");
            assert_eq!(pipe.recv().expect("a frame"), frame(9));
            pipe.close();
        }
        unknown => panic!("no scene {unknown:?}"),
    }
}

/// The end of the victim, which is dead; `None` if it had closed it before.
fn succeed<E: std::fmt::Debug>(claim: impl Fn() -> Result<E, OpenError>) -> Option<E> {
    let mut claimed = Err(OpenError::Taken);
    until("the end of a dead", || {
        claimed = claim();
        !matches!(claimed, Err(OpenError::Taken))
    });
    match claimed {
        Err(OpenError::Closed) => None,
        claimed => Some(claimed.expect("an end")),
    }
}

/// The victim sends: frames arrive whole, up to one of them, then it is gone. A successor of it, if there is one to be, goes on.
fn sent_by_the_victim(_other: &Name, victim: &mut Child, stage: &Stage) {
    let mut rx: ByteReceiver = options().create_in(&stage.region, "bytes").expect("room");
    victim.tell("go");
    let mut count = 0;
    let ended = loop {
        // One that dies before it has an end is never there, so nobody is told.
        let is_over = has_died(victim);
        match rx.recv_timeout(Duration::from_millis(2)) {
            Ok(found) => {
                assert_eq!(found, frame(LENS[count]));
                count += 1;
            }
            Err(RecvError::TimedOut) if !is_over => {}
            Err(error) => break error,
        }
    };
    assert!(matches!(ended, RecvError::Disconnected | RecvError::TimedOut), "{ended:?}");
    if let Some(mut tx) = succeed(|| ByteSender::open_in(&stage.region, "bytes")) {
        for len in LENS {
            tx.send_timeout(&frame(len.min(56)), BOUND).expect("a receiver");
            let found = rx.recv_timeout(BOUND).expect("a frame");
            assert_eq!(found, frame(len.min(56)));
        }
    }
}

/// The victim receives: each frame goes to it or to its successor, or to nobody if it died in the midst of one that came in parts.
fn received_by_the_victim(_other: &Name, victim: &mut Child, stage: &Stage) {
    let mut tx: ByteSender = options().create_in(&stage.region, "bytes").expect("room");
    victim.tell("go");
    let mut sent = 0;
    for len in LENS {
        let result = loop {
            match tx.send_timeout(&frame(len), Duration::from_millis(20)) {
                Err(SendError::TimedOut(())) if !has_died(victim) => {}
                result => break result,
            }
        };
        match result {
            Ok(()) => sent += 1,
            Err(SendError::Disconnected(()) | SendError::TimedOut(())) => break,
            Err(error) => panic!("{error:?}"),
        }
    }
    until("the victim's end", || has_died(victim));
    if let Some(mut rx) = succeed(|| ByteReceiver::open_in(&stage.region, "bytes")) {
        let found: Vec<_> = std::iter::from_fn(|| rx.try_recv().ok()).collect();
        let expected: Vec<_> = LENS[..sent].iter().map(|len| frame(*len)).collect();
        assert!(expected.ends_with(&found) || expected[..sent.min(5)].ends_with(&found), "{found:?}");
        tx.send_timeout(&frame(3), BOUND).expect("a receiver");
        assert_eq!(rx.recv_timeout(BOUND).expect("a frame"), frame(3));
    }
}

/// The victim has an end of a duplex pipe.
fn at_the_other_end(_other: &Name, victim: &mut Child, stage: &Stage) {
    let mut pipe: BytePipe = options().create_in(&stage.region, "bytes").expect("room");
    pipe.send(&frame(9)).expect("room");
    victim.tell("go");
    until("the victim's end", || has_died(victim));
    until("the news of it", || !stage.pids().contains(&victim.pid()));
    let found: Vec<_> = std::iter::from_fn(|| pipe.try_recv().ok()).collect();
    assert!([frame(7)].starts_with(&found), "{found:?}");
    if let Some(mut successor) = succeed(|| BytePipe::open_in(&stage.region, "bytes")) {
        pipe.send(&frame(11)).expect("a receiver");
        assert!([frame(9), frame(11)].contains(&successor.recv_timeout(BOUND).expect("a frame")));
        successor.send(&frame(12)).expect("a receiver");
        assert_eq!(pipe.recv_timeout(BOUND).expect("a frame"), frame(12));
    }
}
