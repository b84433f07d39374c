//! Byte channels against a `VecDeque` of frames.

use core::time::Duration;
use std::collections::VecDeque;

use arbitrary::{Arbitrary, Unstructured};
use shmkit::{ByteReceiver, ByteSender, ChannelOptions, Endpoint, RecvError, RecvValueError, SendError};

use crate::seen::{Kind, Seen, kind};
use crate::stage::with_stage;

const NOW: Duration = Duration::ZERO;

#[derive(Arbitrary, Debug)]
enum Act {
    Send(u16, u8),
    SendInTime(u16, u8),
    Reserve(u16, u16, u8),
    Abandon(u8),
    SendValue(u64, u8),
    Receive,
    ReceiveInto(u16),
    ReceiveInTime,
    ReceiveValue,
    Peek(bool),
    Poll,
    Close(bool),
}

/// A channel, and what should be in it.
struct Way {
    tx: ByteSender,
    rx: ByteReceiver,
    model: VecDeque<Vec<u8>>,
    is_sender_closed: bool,
    is_receiver_closed: bool,
}

pub(crate) fn run(data: &[u8], seen: &mut Seen) {
    let _ = play(&mut Unstructured::new(data), seen);
}

fn play(input: &mut Unstructured<'_>, seen: &mut Seen) -> arbitrary::Result<()> {
    let capacity = u64::from(u16::arbitrary(input)?) % 2000;
    with_stage(|stage| {
        let mut options = ChannelOptions::new();
        // 0 would stand for the default, which is too much for here.
        let tx: ByteSender = options.capacity(capacity + 1).create_in(stage.region(), "frames").expect("room");
        let rx = ByteReceiver::open_in(stage.region(), "frames").expect("the other end");
        assert!(tx.capacity() > capacity && tx.capacity() == rx.capacity());
        let mut way = Way { tx, rx, model: VecDeque::new(), is_sender_closed: false, is_receiver_closed: false };
        for _ in 0..150 {
            if input.is_empty() {
                break;
            }
            way.act(&Act::arbitrary(input)?, seen);
        }
        Ok(())
    })
}

fn frame(len: usize, value: u8) -> Vec<u8> {
    (0..len).map(|at| value.wrapping_add(at as u8)).collect()
}

/// What a value of that type is on its way: numbers in groups of seven bits, then the bytes.
fn encoded(number: u64, bytes: &[u8]) -> Vec<u8> {
    let mut encoded = Vec::new();
    for mut rest in [number, bytes.len() as u64] {
        while rest > 127 {
            encoded.push(rest as u8 | 128);
            rest >>= 7;
        }
        encoded.push(rest as u8);
    }
    encoded.extend(bytes);
    encoded
}

/// The number that bytes begin with, also one that could be shorter, and what follows.
fn decoded(bytes: &[u8]) -> (u64, &[u8]) {
    let len = bytes.iter().position(|byte| byte & 128 == 0).map_or(bytes.len(), |last| last + 1);
    let (number, rest) = bytes.split_at(len);
    (number.iter().rev().fold(0, |sum, byte| sum << 7 | u64::from(byte & 127)), rest)
}

impl Way {
    fn act(&mut self, act: &Act, seen: &mut Seen) {
        match *act {
            Act::Send(len, value) => {
                let frame = frame(usize::from(len) % 1500, value);
                let sent = self.tx.try_send(&frame);
                seen.note("send", kind(&sent));
                self.check_sent(&sent, frame);
            }
            Act::SendInTime(len, value) => {
                // Longer ones go in parts, and would be given up in the middle.
                let frame = frame(usize::from(len) % (self.tx.longest_in_place() + 1), value);
                let sent = self.tx.send_timeout(&frame, NOW);
                seen.note("send in time", kind(&sent));
                self.check_sent(&sent, frame);
            }
            Act::Reserve(len, used, value) => {
                let len = usize::from(len) % 600;
                let bytes = frame(usize::from(used) % (len + 1), value);
                let sent = match self.tx.try_reserve(len) {
                    Ok(mut room) => {
                        assert_eq!(room.len(), len);
                        room[..bytes.len()].copy_from_slice(&bytes);
                        room.commit_len(bytes.len())
                    }
                    Err(error) => Err(error),
                };
                seen.note("reserve", kind(&sent));
                if sent.is_ok() {
                    self.model.push_back(bytes);
                } else {
                    self.check_refused(&sent, len);
                }
            }
            Act::Abandon(len) => {
                if let Ok(mut room) = self.tx.try_reserve(len.into()) {
                    room.fill(0xee);
                    seen.note("abandon", "done");
                }
            }
            Act::SendValue(number, len) => {
                let value = (number, frame(usize::from(len) % 30, 1));
                // It would wait for room otherwise.
                if self.has_room(120) && !self.is_disconnected() {
                    self.tx.send_value(&value).expect("room");
                    self.model.push_back(encoded(number, &value.1));
                    seen.note("send value", "done");
                }
            }
            Act::Receive => {
                let received = self.rx.try_recv();
                self.check_received(received, "receive", seen);
            }
            Act::ReceiveInTime => {
                let received = self.rx.recv_timeout(NOW);
                self.check_received(received, "receive in time", seen);
            }
            Act::ReceiveInto(len) => {
                let mut buffer = vec![0xaa; usize::from(len) % 1500];
                let received = self.rx.try_recv_into(&mut buffer);
                if let (Err(RecvError::TooSmall { needed }), Some(first)) = (&received, self.model.front()) {
                    assert!(*needed == first.len() && *needed > buffer.len());
                    assert_eq!(self.rx.try_peek().ok().as_deref(), Some(first.as_slice()), "it stays");
                    return seen.note("receive into", "too small");
                }
                let received = received.map(|len| {
                    assert!(buffer[len..].iter().all(|byte| *byte == 0xaa), "behind the frame");
                    buffer[..len].to_vec()
                });
                self.check_received(received, "receive into", seen);
            }
            Act::ReceiveValue => match self.rx.try_recv_value::<(u64, Vec<u8>)>() {
                Ok((number, bytes)) => {
                    let first = self.model.pop_front().expect("something was sent");
                    let (found, rest) = decoded(&first);
                    let (len, rest) = decoded(rest);
                    assert!(found == number && len == bytes.len() as u64 && rest.starts_with(&bytes), "{first:?}");
                    seen.note("receive value", "done");
                }
                Err(RecvValueError::Decode(_)) => {
                    // It is gone all the same.
                    assert!(self.model.pop_front().is_some());
                    seen.note("receive value", "codec");
                }
                Err(RecvValueError::Recv(error)) => self.check_nothing(&error, "receive value", seen),
                Err(error) => panic!("{error:?}"),
            },
            Act::Peek(release) => match self.rx.try_peek() {
                Ok(peek) => {
                    assert_eq!(Some(&*peek), self.model.front().map(Vec::as_slice));
                    if release {
                        peek.release().expect("it is ours");
                        self.model.pop_front();
                    }
                    seen.note("peek", release.kind());
                }
                Err(error) => self.check_nothing(&error, "peek", seen),
            },
            Act::Poll => match self.rx.poll(NOW) {
                Ok(ready) => {
                    assert_eq!(ready, !self.model.is_empty());
                    seen.note("poll", ready.kind());
                }
                Err(error) => self.check_nothing(&error, "poll", seen),
            },
            Act::Close(sender) => {
                if sender {
                    self.tx.close();
                    self.is_sender_closed = true;
                } else {
                    self.rx.close();
                    self.is_receiver_closed = true;
                }
                seen.note("close", sender.kind());
            }
        }
    }

    fn is_disconnected(&self) -> bool {
        self.is_sender_closed || self.is_receiver_closed
    }

    /// Whether a frame that long surely fits in: each costs its header and its length, rounded up, and the end of the ring may be too short for
    /// one record.
    fn has_room(&self, len: usize) -> bool {
        let cost = |len: usize| (len / self.tx.longest_in_place() + 2) * 24 + len;
        let used: usize = self.model.iter().map(|frame| cost(frame.len())).sum();
        used + cost(len) + 2 * self.tx.longest_in_place() <= self.tx.capacity() as usize
    }

    fn check_sent(&mut self, sent: &Result<(), SendError<()>>, frame: Vec<u8>) {
        if sent.is_ok() {
            // The parts of a long one that comes first may have been fetched already.
            let is_fetched = |(at, frame): &(usize, &Vec<u8>)| *at == 0 && frame.len() > self.tx.longest_in_place();
            let kept = self.model.iter().enumerate().filter(|frame| !is_fetched(frame));
            let used: usize = kept.map(|(_, frame)| frame.len() + 8).sum();
            assert!(used + frame.len() + 8 < self.tx.capacity() as usize, "more than fits in");
            self.model.push_back(frame);
        } else {
            self.check_refused(sent, frame.len());
        }
    }

    fn check_refused(&self, sent: &Result<(), SendError<()>>, len: usize) {
        match sent {
            Err(SendError::Full(()) | SendError::TimedOut(())) => {
                assert!(!self.is_disconnected() && !self.has_room(len), "{len}: {sent:?}");
            }
            Err(SendError::TooLong(())) => assert!(len > self.tx.longest_in_place()),
            Err(SendError::Disconnected(())) => assert!(self.is_disconnected()),
            sent => panic!("{sent:?}"),
        }
    }

    fn check_received(&mut self, received: Result<Vec<u8>, RecvError>, operation: &'static str, seen: &mut Seen) {
        match received {
            Ok(frame) => {
                assert_eq!(Some(frame), self.model.pop_front());
                seen.note(operation, "done");
            }
            Err(error) => self.check_nothing(&error, operation, seen),
        }
    }

    fn check_nothing(&self, error: &RecvError, operation: &'static str, seen: &mut Seen) {
        seen.note(operation, error.kind());
        match error {
            RecvError::Empty | RecvError::TimedOut => assert!(self.model.is_empty() && !self.is_disconnected()),
            RecvError::Disconnected => {
                assert!(self.is_receiver_closed || self.is_sender_closed && self.model.is_empty());
            }
            error => panic!("{error:?}"),
        }
    }
}
