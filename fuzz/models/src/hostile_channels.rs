//! Channels and queues while somebody writes what they like over them: each call ends, with a value or an error.

use core::time::Duration;
use std::io::{Read, Write};
use std::time::Instant;

use arbitrary::{Arbitrary, Unstructured};
use shmkit::{
    ByteReceiver, ByteSender, ChannelOptions, Deadline, Endpoint, PipeStream, Queue, QueueOptions, Receiver, Region,
    Sender, wait_any,
};

use crate::seen::{Kind, Seen, kind};
use crate::stage::{Scribble, Stage, with_stage, word_of};
use crate::values::Value;

const NOW: Duration = Duration::ZERO;

/// Operations of a queue wait for up to 100 milliseconds for one who stands in its lock. Once is enough.
const PATIENCE: Duration = Duration::from_millis(50);

#[derive(Arbitrary, Debug)]
enum Act<'a> {
    Scribble(Scribble),
    /// Over one of the first words, which all else depends on.
    ScribbleHead(Scribble),
    Fill(u16, &'a [u8]),
    Send(u8, u8),
    Receive(u8, u8),
    /// The end is dropped, and somebody comes for it.
    Reopen(u8),
    /// The same, after the words that say who has it were made good.
    Repair,
    WaitAny,
    Look,
}

pub(crate) fn run(data: &[u8], seen: &mut Seen) {
    let mut input = Unstructured::new(data);
    let _ = match u8::arbitrary(&mut input).unwrap_or(0) % 9 {
        0 => messages::<u64>(&mut input, seen),
        1 => messages::<[u8; 3]>(&mut input, seen),
        2 => messages::<[u64; 20]>(&mut input, seen),
        3 => messages::<[u8; 0]>(&mut input, seen),
        4 => frames(&mut input, seen),
        5 => streams(&mut input, seen),
        6 => queue::<u64>(&mut input, seen),
        7 => queue::<[u8; 3]>(&mut input, seen),
        _ => queue::<[u64; 20]>(&mut input, seen),
    };
}

/// Does the acts, of which `use_it` does those that are not scribbles.
fn play(
    stage: &Stage,
    (start, end): (usize, usize),
    input: &mut Unstructured<'_>,
    mut use_it: impl FnMut(&Act<'_>),
) -> arbitrary::Result<()> {
    for _ in 0..100 {
        if input.is_empty() {
            break;
        }
        match Act::arbitrary(input)? {
            Act::Scribble(scribble) => stage.scribble(start, end, &scribble),
            Act::ScribbleHead(scribble) => stage.scribble(start, (start + 320).min(end), &scribble),
            Act::Fill(at, bytes) => {
                let first = (start + usize::from(at) % (end - start)) / 8;
                for (at, word) in (first..end / 8).zip(bytes.chunks_exact(8)) {
                    stage.store(at, word_of(word));
                }
            }
            act => {
                let begun = Instant::now();
                use_it(&act);
                if begun.elapsed() > PATIENCE {
                    break;
                }
            }
        }
    }
    Ok(())
}

/// Puts something into the region, and says which bytes it took, its entry in the directory included.
fn made<R>(stage: &Stage, make: impl FnOnce(&Region) -> R) -> (R, (usize, usize)) {
    let start = stage.end();
    let made = make(stage.region());
    (made, (start, stage.end()))
}

fn messages<T: Value>(input: &mut Unstructured<'_>, seen: &mut Seen) -> arbitrary::Result<()> {
    let mut options = ChannelOptions::new();
    let options = options.capacity(u64::from(u8::arbitrary(input)?) % 40 + 1).successors(bool::arbitrary(input)?);
    with_stage(|stage| {
        let region = stage.region();
        let ((tx, rx), range) = made(stage, |region| {
            let tx: Sender<T> = options.create_in(region, "channel").expect("room");
            (tx, Receiver::<T>::open_in(region, "channel").expect("the other end"))
        });
        let (mut tx, mut rx) = (Some(tx), Some(rx));
        play(stage, range, input, |act| match *act {
            Act::Send(how, value) => {
                let Some(tx) = &mut tx else { return };
                let message = T::of(value);
                match how % 3 {
                    0 => seen.note("send", kind(&tx.try_send(message))),
                    1 => seen.note("send in time", kind(&tx.send_timeout(message, NOW))),
                    _ => seen.note("send some", kind(&tx.try_send_slice(&vec![message; usize::from(how) % 50]))),
                }
            }
            Act::Receive(how, count) => {
                let Some(rx) = &mut rx else { return };
                match how % 4 {
                    0 => seen.note("receive", kind(&rx.try_recv())),
                    1 => seen.note("receive in time", kind(&rx.recv_timeout(NOW))),
                    2 => seen.note("poll", kind(&rx.poll(NOW))),
                    _ => seen.note("receive some", kind(&rx.try_recv_slice(&mut vec![T::zeroed(); count.into()]))),
                }
            }
            Act::Reopen(how) => {
                if how % 2 == 0 {
                    tx = None;
                    let again = if how % 4 == 0 { Sender::open_in } else { Sender::succeed_in };
                    let again = again(region, "channel");
                    seen.note("open sender", kind(&again));
                    tx = again.ok();
                } else {
                    rx = None;
                    let again = if how % 4 == 1 { Receiver::open_in } else { Receiver::succeed_in };
                    let again = again(region, "channel");
                    seen.note("open receiver", kind(&again));
                    rx = again.ok();
                }
            }
            Act::Repair => {
                (tx, rx) = (None, None);
                vacate(stage, range);
                let (sender, receiver) =
                    (Sender::<T>::open_in(region, "channel"), Receiver::<T>::open_in(region, "channel"));
                seen.note("open repaired", kind(&sender));
                (tx, rx) = (sender.ok(), receiver.ok());
            }
            Act::WaitAny => {
                if let (Some(tx), Some(rx)) = (&mut tx, &mut rx) {
                    seen.note("wait any", kind(&wait_any(&mut [rx, tx], Deadline::after(NOW))));
                }
            }
            _ => assert!(!format!("{tx:?} {rx:?}").is_empty()),
        })
    })
}

fn frames(input: &mut Unstructured<'_>, seen: &mut Seen) -> arbitrary::Result<()> {
    let mut options = ChannelOptions::new();
    let options = options.capacity(u64::from(u16::arbitrary(input)?) % 1000 + 1).successors(bool::arbitrary(input)?);
    with_stage(|stage| {
        let region = stage.region();
        let ((tx, rx), range) = made(stage, |region| {
            let tx: ByteSender = options.create_in(region, "frames").expect("room");
            (tx, ByteReceiver::open_in(region, "frames").expect("the other end"))
        });
        let (mut tx, mut rx) = (Some(tx), Some(rx));
        play(stage, range, input, |act| match *act {
            Act::Send(how, len) => {
                let Some(tx) = &mut tx else { return };
                let frame = vec![how; usize::from(len) * (1 + usize::from(how) % 4)];
                match how / 4 % 4 {
                    0 => seen.note("send frame", kind(&tx.try_send(&frame))),
                    1 => seen.note("send frame in time", kind(&tx.send_timeout(&frame, NOW))),
                    _ => {
                        let sent = tx.try_reserve(frame.len()).and_then(|mut room| {
                            room.fill(how);
                            room.commit_len(frame.len() / 2)
                        });
                        seen.note("reserve", kind(&sent));
                    }
                }
            }
            Act::Receive(how, len) => {
                let Some(rx) = &mut rx else { return };
                match how % 6 {
                    0 => seen.note("receive frame", kind(&rx.try_recv())),
                    1 => seen.note("receive frame in time", kind(&rx.recv_timeout(NOW))),
                    2 => seen.note("receive into", kind(&rx.try_recv_into(&mut vec![0; usize::from(len) * 4]))),
                    3 => seen.note("poll frames", kind(&rx.poll(NOW))),
                    4 => seen.note("receive value", rx.try_recv_value::<(u64, Vec<u16>, String)>().is_ok().kind()),
                    _ => {
                        let peeked = rx.try_peek().map(|frame| {
                            let sum = frame.iter().fold(0, |sum, byte| sum ^ byte);
                            (sum, frame.release())
                        });
                        seen.note("peek", kind(&peeked));
                    }
                }
            }
            Act::Reopen(how) => {
                if how % 2 == 0 {
                    tx = None;
                    let again = if how % 4 == 0 { ByteSender::open_in } else { ByteSender::succeed_in };
                    tx = again(region, "frames").ok();
                    seen.note("open frames sender", tx.is_some().kind());
                } else {
                    rx = None;
                    let again = if how % 4 == 1 { ByteReceiver::open_in } else { ByteReceiver::succeed_in };
                    rx = again(region, "frames").ok();
                    seen.note("open frames receiver", rx.is_some().kind());
                }
            }
            Act::Repair => {
                (tx, rx) = (None, None);
                vacate(stage, range);
                (tx, rx) = (ByteSender::open_in(region, "frames").ok(), ByteReceiver::open_in(region, "frames").ok());
                seen.note("open repaired frames", (tx.is_some() && rx.is_some()).kind());
            }
            Act::WaitAny => {
                if let (Some(tx), Some(rx)) = (&mut tx, &mut rx) {
                    seen.note("wait any for frames", kind(&wait_any(&mut [rx, tx], Deadline::after(NOW))));
                }
            }
            _ => assert!(!format!("{tx:?} {rx:?}").is_empty()),
        })
    })
}

fn streams(input: &mut Unstructured<'_>, seen: &mut Seen) -> arbitrary::Result<()> {
    with_stage(|stage| {
        let ((mut one, mut other), range) = made(stage, |region| {
            let mut options = ChannelOptions::new();
            let one: shmkit::BytePipe = options.capacity(500).create_in(region, "streams").expect("room");
            let other = shmkit::BytePipe::open_in(region, "streams").expect("the other end");
            (one.into_stream(), other.into_stream())
        });
        for stream in [&mut one, &mut other] {
            // No time at all would mean without an end.
            stream.writer().set_timeout(Some(Duration::from_nanos(1))).expect("a time");
            stream.reader().set_timeout(Some(Duration::from_nanos(1))).expect("a time");
        }
        let mut pick = move |which: u8, act: &mut dyn FnMut(&mut PipeStream)| {
            act(if which % 2 == 0 { &mut one } else { &mut other });
        };
        play(stage, range, input, |act| match *act {
            Act::Send(how, len) => pick(how, &mut |stream| {
                seen.note("write", stream.write(&vec![how; len.into()]).is_ok().kind());
            }),
            Act::Receive(how, len) => pick(how, &mut |stream| {
                seen.note("read", stream.read(&mut vec![0; len.into()]).is_ok().kind());
            }),
            _ => {}
        })
    })
}

fn queue<T: Value>(input: &mut Unstructured<'_>, seen: &mut Seen) -> arbitrary::Result<()> {
    let capacity = u64::from(u8::arbitrary(input)?) % 40 + 1;
    with_stage(|stage| {
        let (queue, range) =
            made(stage, |region| QueueOptions::new().capacity(capacity).create_in::<T>(region, "queue").expect("room"));
        let mut queue = queue;
        play(stage, range, input, |act| match *act {
            Act::Send(how, value) => {
                let message = T::of(value);
                let sent = if how % 2 == 0 { queue.try_send(message) } else { queue.send_timeout(message, NOW) };
                seen.note("put", kind(&sent));
            }
            Act::Receive(how, _) => {
                let received = if how % 2 == 0 { queue.try_recv() } else { queue.recv_timeout(NOW) };
                seen.note("take", kind(&received));
            }
            Act::Reopen(_) | Act::Repair => {
                let again = Queue::open_in(stage.region(), "queue");
                seen.note("open queue", kind(&again));
                if let Ok(again) = again {
                    queue = again;
                }
            }
            _ => {
                assert!(!format!("{queue:?}").is_empty());
                let _ = (queue.len(), queue.capacity(), queue.is_closed());
            }
        })
    })
}

/// Makes both ends of a channel nobody's: its first two words, behind its entry in the directory.
fn vacate(stage: &Stage, (start, _): (usize, usize)) {
    // The second word of the entry is where it begins.
    let at = stage.word(start / 8 + 1) as usize;
    if at % 8 == 0 && at > start && at < start + 400 {
        stage.store(at / 8, 0);
        stage.store(at / 8 + 1, 0);
    }
}
