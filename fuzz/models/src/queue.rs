//! Queues against a `VecDeque`.

use core::time::Duration;
use std::collections::VecDeque;

use arbitrary::{Arbitrary, Unstructured};
use shmkit::{Queue, QueueOptions, RecvError, SendError};

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
    ReceiveWith,
    Close,
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
    let capacity = usize::from(u8::arbitrary(input)?) % 40 + 1;
    with_stage(|stage| {
        let mut options = QueueOptions::new();
        let queue = options.capacity(capacity as u64).create_in::<T>(stage.region(), "queue").expect("room");
        let (mut one, mut other) = (queue.clone(), queue);
        let (mut model, mut is_closed) = (VecDeque::new(), false);
        for _ in 0..150 {
            if input.is_empty() {
                break;
            }
            // By turns, since a handle keeps nothing for itself that matters.
            core::mem::swap(&mut one, &mut other);
            act(&Act::arbitrary(input)?, &one, &mut model, &mut is_closed, seen);
            if u8::arbitrary(input)? == 0 {
                one = Queue::open_in(stage.region(), "queue").expect("it is there");
                seen.note("open", "done");
            }
            assert_eq!((one.len(), one.is_empty()), (model.len(), model.is_empty()));
            assert_eq!((other.capacity(), other.is_closed()), (capacity, is_closed));
        }
        Ok(())
    })
}

fn act<T: Value>(act: &Act, queue: &Queue<T>, model: &mut VecDeque<T>, is_closed: &mut bool, seen: &mut Seen) {
    let room = queue.capacity() - model.len();
    match *act {
        Act::Send(value) | Act::SendInTime(value) => {
            let message = T::of(value);
            let in_time = matches!(act, Act::SendInTime(_));
            let sent = if in_time { queue.send_timeout(message, NOW) } else { queue.try_send(message) };
            seen.note("send", kind(&sent));
            match sent {
                Ok(()) => {
                    assert!(room > 0 && !*is_closed);
                    model.push_back(message);
                }
                Err(SendError::Full(back) | SendError::TimedOut(back)) => {
                    assert!(room == 0 && !*is_closed && back == message);
                }
                Err(SendError::Disconnected(back)) => assert!(*is_closed && back == message),
                Err(error) => panic!("{error:?}"),
            }
        }
        Act::SendSome(count, value) => {
            // No more than fit, or it would wait.
            let count = (count as usize).min(room);
            let messages: Vec<T> = (0..count).map(|at| T::of(value.wrapping_add(at as u8))).collect();
            let sent = queue.send_slice(&messages);
            seen.note("send some", kind(&sent));
            assert_eq!(sent.is_ok(), !*is_closed || count == 0, "{sent:?}");
            if sent.is_ok() {
                model.extend(messages);
            }
        }
        Act::Receive | Act::ReceiveInTime => {
            let in_time = matches!(act, Act::ReceiveInTime);
            let received = if in_time { queue.recv_timeout(NOW) } else { queue.try_recv() };
            seen.note("receive", kind(&received));
            match received {
                Ok(message) => assert_eq!(Some(message), model.pop_front()),
                Err(RecvError::Empty | RecvError::TimedOut) => assert!(model.is_empty() && !*is_closed),
                // Those who try are told that there is none, first.
                Err(error) => assert!(matches!(error, RecvError::Disconnected) && *is_closed && model.is_empty()),
            }
        }
        Act::ReceiveSome(count) => {
            let mut messages = vec![T::zeroed(); count.into()];
            if !model.is_empty() || count == 0 {
                let count = queue.recv_slice(&mut messages).expect("there are some");
                assert!(model.drain(..count).eq(messages[..count].iter().copied()));
                assert!(count == messages.len() || model.is_empty());
                seen.note("receive some", "done");
            }
        }
        Act::ReceiveWith => {
            if let Some(first) = model.pop_front() {
                let seen_inside = queue.recv_with(|message| (*message, queue.capacity())).expect("there is one");
                assert_eq!(seen_inside, (first, queue.capacity()));
                seen.note("receive with", "done");
            }
        }
        Act::Close => {
            queue.close().expect("no child");
            *is_closed = true;
            seen.note("close", is_closed.kind());
        }
    }
}
