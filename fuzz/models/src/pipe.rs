//! Pipes against two `VecDeque`s.

use core::time::Duration;
use std::collections::VecDeque;

use arbitrary::{Arbitrary, Unstructured};
use shmkit::{ChannelOptions, Deadline, Endpoint, OpenError, Pipe, Receiver, RecvError, SendError, Sender, wait_any};

use crate::seen::{Kind, Seen, kind};
use crate::stage::with_stage;
use crate::values::Value;

const NOW: Duration = Duration::ZERO;

#[derive(Arbitrary, Debug)]
enum Act {
    Send(u8),
    SendInTime(u8),
    SendSome(u8, u8),
    Receive,
    ReceiveInTime,
    ReceiveSome(u8),
    Poll,
    WaitAny,
    Open,
    Close(bool),
}

/// One direction.
struct Way<T: Value> {
    tx: Sender<T>,
    rx: Receiver<T>,
    model: VecDeque<T>,
    capacity: usize,
    is_sender_closed: bool,
    is_receiver_closed: bool,
}

pub(crate) fn run(data: &[u8], seen: &mut Seen) {
    let mut input = Unstructured::new(data);
    let _ = match u8::arbitrary(&mut input).unwrap_or(0) % 6 {
        0 => play::<u8>(&mut input, seen),
        1 => play::<u64>(&mut input, seen),
        2 => play::<[u8; 3]>(&mut input, seen),
        3 => play::<[u8; 0]>(&mut input, seen),
        4 => play::<[u8; 56]>(&mut input, seen),
        _ => play::<[u64; 20]>(&mut input, seen),
    };
}

fn play<T: Value>(input: &mut Unstructured<'_>, seen: &mut Seen) -> arbitrary::Result<()> {
    let capacity = u64::from(u8::arbitrary(input)?) % 40 + 1;
    with_stage(|stage| {
        let mut options = ChannelOptions::new();
        let first: Pipe<T> = options.capacity(capacity).create_in(stage.region(), "pipe").expect("room");
        let second = Pipe::<T>::open_in(stage.region(), "pipe").expect("the other end");
        let ((forth_tx, back_rx), (back_tx, forth_rx)) = (first.split(), second.split());
        let mut ways = [(forth_tx, forth_rx), (back_tx, back_rx)].map(|(tx, rx)| Way {
            capacity: tx.capacity() as usize,
            tx,
            rx,
            model: VecDeque::new(),
            is_sender_closed: false,
            is_receiver_closed: false,
        });
        assert!(ways.iter().all(|way| way.capacity as u64 == capacity));
        for _ in 0..150 {
            if input.is_empty() {
                break;
            }
            let act = Act::arbitrary(input)?;
            if let Act::Open = act {
                let again = Pipe::<T>::open_in(stage.region(), "pipe").map(drop);
                assert!(matches!(again, Err(OpenError::Taken | OpenError::Closed)), "{again:?}");
                seen.note("open", kind(&again));
                continue;
            }
            ways[usize::from(bool::arbitrary(input)?)].act(&act, seen);
        }
        Ok(())
    })
}

impl<T: Value> Way<T> {
    fn act(&mut self, act: &Act, seen: &mut Seen) {
        match *act {
            Act::Send(value) => {
                let sent = self.tx.try_send(T::of(value));
                self.check_sent(&sent, T::of(value), seen);
            }
            Act::SendInTime(value) => {
                let sent = self.tx.send_timeout(T::of(value), NOW);
                self.check_sent(&sent, T::of(value), seen);
            }
            Act::SendSome(count, value) => {
                let messages: Vec<T> = (0..count % 64).map(|at| T::of(value.wrapping_add(at))).collect();
                let sent = self.tx.try_send_slice(&messages);
                seen.note("send some", kind(&sent));
                match sent {
                    Ok(sent) => {
                        assert!(!self.is_disconnected() || messages.is_empty());
                        assert_eq!(sent, messages.len().min(self.room()));
                        self.model.extend(&messages[..sent]);
                    }
                    Err(SendError::Full(())) => assert!(self.room() == 0 && !self.is_disconnected()),
                    Err(error) => assert!(matches!(error, SendError::Disconnected(())) && self.is_disconnected()),
                }
            }
            Act::Receive => {
                let received = self.rx.try_recv();
                self.check_received(&received, seen);
            }
            Act::ReceiveInTime => {
                let received = self.rx.recv_timeout(NOW);
                self.check_received(&received, seen);
            }
            Act::ReceiveSome(count) => {
                let mut messages = vec![T::zeroed(); usize::from(count % 64)];
                let received = self.rx.try_recv_slice(&mut messages);
                seen.note("receive some", kind(&received));
                match received {
                    Ok(count) => {
                        assert_eq!(
                            count,
                            if self.is_receiver_closed { 0 } else { self.model.len().min(messages.len()) }
                        );
                        assert!(self.model.drain(..count).eq(messages[..count].iter().copied()));
                    }
                    Err(RecvError::Empty) => assert!(self.model.is_empty() && !self.is_sender_closed),
                    Err(error) => self.check_end(&error),
                }
            }
            Act::Poll => {
                let ready = self.rx.poll(NOW);
                seen.note("poll", ready.kind());
                match ready {
                    Ok(ready) => assert_eq!(ready, !self.model.is_empty()),
                    Err(error) => self.check_end(&error),
                }
            }
            Act::WaitAny => {
                let first = wait_any(&mut [&mut self.rx, &mut self.tx], Deadline::after(NOW)).expect("two sources");
                let may_receive = !self.model.is_empty() || self.is_sender_closed || self.is_receiver_closed;
                let may_send = self.room() > 0 || self.is_disconnected();
                assert_eq!(first, if may_receive { Some(0) } else { may_send.then_some(1) });
                seen.note("wait any", if may_receive { "receiver" } else { "sender" });
            }
            Act::Close(sender) => {
                if sender {
                    self.tx.close();
                    self.is_sender_closed = true;
                } else {
                    self.rx.close();
                    self.is_receiver_closed = true;
                }
                assert!(self.tx.is_closed() && self.rx.is_closed());
                seen.note("close", sender.kind());
            }
            Act::Open => {}
        }
    }

    fn room(&self) -> usize {
        self.capacity - self.model.len()
    }

    fn is_disconnected(&self) -> bool {
        self.is_sender_closed || self.is_receiver_closed
    }

    fn check_sent(&mut self, sent: &Result<(), SendError<T>>, message: T, seen: &mut Seen) {
        seen.note("send", kind(sent));
        match sent {
            Ok(()) => {
                assert!(self.room() > 0 && !self.is_disconnected());
                self.model.push_back(message);
            }
            Err(SendError::Full(back) | SendError::TimedOut(back)) => {
                assert!(self.room() == 0 && !self.is_disconnected() && *back == message);
            }
            Err(SendError::Disconnected(back)) => assert!(self.is_disconnected() && *back == message),
            Err(error) => panic!("{error:?}"),
        }
    }

    fn check_received(&mut self, received: &Result<T, RecvError>, seen: &mut Seen) {
        seen.note("receive", kind(received));
        match received {
            Ok(message) => assert_eq!(Some(*message), self.model.pop_front()),
            Err(RecvError::Empty | RecvError::TimedOut) => {
                assert!(self.model.is_empty() && !self.is_sender_closed && !self.is_receiver_closed);
            }
            Err(error) => self.check_end(error),
        }
    }

    fn check_end(&self, error: &RecvError) {
        assert!(matches!(error, RecvError::Disconnected), "{error:?}");
        assert!(self.is_receiver_closed || self.is_sender_closed && self.model.is_empty());
    }
}
