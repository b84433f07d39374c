//! The sending end of a typed channel.

use core::fmt;
use core::slice;
use core::sync::atomic::Ordering::{Acquire, Release};
use core::time::Duration;
use std::sync::Arc;
use std::time::Instant;

use bytemuck::Pod;
use shmkit_core::wait::{Armed, FutexWord, Source};
use shmkit_core::{Deadline, Described, Error, crash_point};

use crate::bell::Bell;
use crate::duplex::Half;
use crate::end::End;
use crate::ends::{Ended, Side};
use crate::error::{OpenError, SendError};
use crate::ring::{self, Place, Ring, Shared};

/// How many cells ahead the line to be written is taken away from the receiver's CPU: stores would wait for one after the other.
const AHEAD: usize = 8;

/// The sending end of a channel for messages of type `T`.
///
/// It belongs to the process that has opened it, and is used by one thread at a time. Dropping it closes it: the receiver gets what has been sent, and
/// then learns that there will be no more.
///
/// All of `send` and its variants fail at once when the receiver is gone, with the message. What was sent before, and not received,
/// is lost then, unless somebody [succeeds](crate::ChannelOptions::successors) to the receiver.
///
/// # Examples
///
/// ```
/// use shmkit_channel::{ChannelOptions, Receiver, SendError, Sender};
///
/// let (mut sender, receiver): (Sender<u64>, Receiver<u64>) = ChannelOptions::new().capacity(1).both()?;
/// sender.send(7)?;
/// assert!(matches!(sender.try_send(8), Err(SendError::Full(8))));
/// drop(receiver);
/// assert!(matches!(sender.send(9), Err(SendError::Disconnected(9))));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Sender<T: Pod + Described> {
    end: End<Ring<T>>,
    /// Where the next message goes.
    place: Place,
    capacity: u64,
    /// Up to the message of which number there surely is room.
    limit: u64,
}

impl<T: Pod + Described> Half for Sender<T> {
    type Ring = Ring<T>;

    const SIDE: Side = Side::Sender;

    fn at(end: End<Ring<T>>) -> Result<Self, OpenError> {
        match find_place(end.channel()) {
            Ok((place, capacity)) => Ok(Self { end, limit: place.number(), place, capacity }),
            Err(error) => {
                end.unclaim();
                Err(error.into())
            }
        }
    }

    fn unclaim(self) {
        self.end.unclaim();
    }

    fn carry(&mut self, bell: &Arc<Bell>) {
        self.end.carry(bell);
    }
}

impl<T: Pod + Described> Sender<T> {
    /// Sends a message.
    ///
    /// # Blocking
    ///
    /// While the channel is full and somebody is there, or yet to come, who can receive.
    ///
    /// # Crash safety
    ///
    /// The process may be killed at any point: the message was sent whole or not at all.
    ///
    /// # Errors
    ///
    /// [`SendError::Disconnected`]; [`SendError::Failed`].
    #[inline]
    pub fn send(&mut self, message: T) -> Result<(), SendError<T>> {
        if !self.can_put() {
            return self.send_when_ready(message, None);
        }
        self.put_one(&message);
        Ok(())
    }

    /// Sends a message, waiting for room for at most `timeout`.
    ///
    /// # Blocking
    ///
    /// As [`send`](Self::send), but not longer than `timeout` (monotonic clock).
    ///
    /// # Errors
    ///
    /// [`SendError::TimedOut`], and those of [`send`](Self::send).
    pub fn send_timeout(&mut self, message: T, timeout: Duration) -> Result<(), SendError<T>> {
        if !self.can_put() {
            return self.send_when_ready(message, Deadline::after(timeout));
        }
        self.put_one(&message);
        Ok(())
    }

    /// Sends a message, waiting for room until `deadline` at the latest.
    ///
    /// # Errors
    ///
    /// As for [`send_timeout`](Self::send_timeout).
    pub fn send_deadline(&mut self, message: T, deadline: Instant) -> Result<(), SendError<T>> {
        self.send_timeout(message, deadline.saturating_duration_since(Instant::now()))
    }

    /// Sends a message if there is room for it.
    ///
    /// # Errors
    ///
    /// [`SendError::Full`], and those of [`send`](Self::send).
    #[inline]
    pub fn try_send(&mut self, message: T) -> Result<(), SendError<T>> {
        if !self.can_put() {
            return self.send_if_ready(message);
        }
        self.put_one(&message);
        Ok(())
    }

    /// Sends messages, one after the other, publishing several at once.
    ///
    /// # Blocking
    ///
    /// As [`send`](Self::send), until all have been sent.
    ///
    /// # Crash safety
    ///
    /// A process that is killed in this has sent some of them, from the first on.
    ///
    /// # Errors
    ///
    /// Those of [`send`](Self::send), with the number of messages that have been sent.
    pub fn send_slice(&mut self, messages: &[T]) -> Result<(), SendError<usize>> {
        let mut sent = 0;
        while sent < messages.len() {
            sent += match self.send_some(&messages[sent..]) {
                Ok(0) => {
                    self.wait_for_room(None).map_or_else(|ended| Err(SendError::ended(sent, ended)), |()| Ok(0))?
                }
                Ok(more) => more,
                Err(ended) => return Err(SendError::ended(sent, ended)),
            };
        }
        Ok(())
    }

    /// Sends as many of the messages as there is room for, from the first on; says how many.
    ///
    /// # Errors
    ///
    /// [`SendError::Full`] if there is no room for any; those of [`send`](Self::send). No message has been sent then: what goes wrong
    /// later shows at the next call.
    pub fn try_send_slice(&mut self, messages: &[T]) -> Result<usize, SendError<()>> {
        match self.send_some(messages) {
            Ok(0) if !messages.is_empty() => match self.end.is_other_gone_at_leisure() {
                Ok(false) => Err(SendError::Full(())),
                Ok(true) => Err(SendError::Disconnected(())),
                Err(error) => Err(SendError::Failed { message: (), error }),
            },
            Ok(sent) => Ok(sent),
            Err(ended) => Err(SendError::ended((), ended)),
        }
    }

    /// How many messages fit into the channel.
    pub fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Whether this end was closed, or nobody will receive any more. May be outdated when it returns, if it says no.
    pub fn is_closed(&self) -> bool {
        self.end.check().is_err() || self.end.is_other_gone_now().unwrap_or(true)
    }

    /// Closes this end. What has been sent can still be received. Does nothing if it is closed already.
    pub fn close(&mut self) {
        self.end.close();
    }

    /// Whether a message can be put, as far as that can be told at once: everything is as it was, and there is room left.
    #[inline]
    fn can_put(&self) -> bool {
        self.end.is_usable() && self.end.is_other_as_seen(Self::SIDE) && self.room() > 0
    }

    /// Whether a message can be put.
    fn is_ready(&mut self) -> Result<bool, Ended> {
        self.end.check()?;
        if self.end.is_other_gone()? {
            return Err(Ended::Gone);
        }
        if self.room() == 0 {
            self.limit = self.look_for_room()?;
        }
        Ok(self.room() > 0)
    }

    /// For how many messages there surely is room.
    #[inline]
    fn room(&self) -> u64 {
        self.limit.wrapping_sub(self.place.number())
    }

    /// Up to the message of which number there is room.
    #[inline]
    fn look_for_room(&self) -> Result<u64, Error> {
        let ring = self.end.channel();
        // Acquire pairs with the Release of the receiver: it has copied what is to be written over.
        let received = ring.received.load(Acquire);
        let waiting = self.place.number().wrapping_sub(received);
        if waiting <= self.capacity { Ok(received.wrapping_add(self.capacity)) } else { Err(garbage(received)) }
    }

    /// Puts messages: one or more, no more than there is room for, and than are left in the cell.
    #[inline]
    fn put(&mut self, messages: &[T]) {
        let ring = self.end.channel();
        self.place.store(ring, messages);
        crash_point!("pipe.send.after_copy");
        // Release pairs with the Acquire of the receiver, which then finds the messages.
        let count = self.place.done + messages.len();
        self.place.header(ring).store(self.place.header_with(count), Release);
        crash_point!("pipe.send.after_header");
        self.place.advance(ring, messages.len());
    }

    /// Puts a message, and tells.
    #[inline]
    fn put_one(&mut self, message: &T) {
        self.put(slice::from_ref(message));
        self.end.tell(Self::SIDE);
    }

    /// Puts as many messages as there is room for, and tells once.
    fn send_some(&mut self, messages: &[T]) -> Result<usize, Ended> {
        let mut sent = 0;
        if !messages.is_empty() && (self.can_put() || self.is_ready()?) {
            // There may be more room than is known of. What is wrong by then will still be so at the next call.
            while sent < messages.len() && (self.room() > 0 || self.is_ready().unwrap_or(false)) {
                let room = usize::try_from(self.room()).unwrap_or(usize::MAX);
                let count = self.place.left::<T>().min(room).min(messages.len() - sent);
                self.put(&messages[sent..sent + count]);
                let ring = self.end.channel();
                ring.prefetch_to_write(self.place.ahead(ring, AHEAD));
                sent += count;
            }
            self.end.tell(Self::SIDE);
        }
        Ok(sent)
    }

    /// Sends a message if there is room for it.
    #[cold]
    #[inline(never)]
    fn send_if_ready(&mut self, message: T) -> Result<(), SendError<T>> {
        match self.is_ready() {
            Ok(true) => {
                self.put_one(&message);
                Ok(())
            }
            Ok(false) => match self.end.is_other_gone_at_leisure() {
                Ok(false) => Err(SendError::Full(message)),
                Ok(true) => Err(SendError::Disconnected(message)),
                Err(error) => Err(SendError::Failed { message, error }),
            },
            Err(ended) => Err(SendError::ended(message, ended)),
        }
    }

    /// Sends a message, waiting for room until `deadline`.
    #[cold]
    #[inline(never)]
    fn send_when_ready(&mut self, message: T, deadline: Option<Deadline>) -> Result<(), SendError<T>> {
        let ready = match self.is_ready() {
            Ok(true) => Ok(()),
            Ok(false) => self.wait_for_room(deadline),
            Err(ended) => Err(ended),
        };
        match ready {
            Ok(()) => {
                self.put_one(&message);
                Ok(())
            }
            Err(ended) => Err(SendError::ended(message, ended)),
        }
    }

    #[cold]
    fn wait_for_room(&mut self, deadline: Option<Deadline>) -> Result<(), Ended> {
        let number = self.place.number();
        let look = || self.look_for_room().map(|limit| (limit != number).then_some(limit)).transpose();
        self.limit = self.end.wait(deadline, look)??;
        Ok(())
    }
}

/// Where the next message goes, and the capacity.
fn find_place<T: Pod + Described>(ring: &Shared<T>) -> Result<(Place, u64), Error> {
    let capacity = ring::capacity(ring)?;
    // Acquire as in `look_for_room`.
    let received = ring.received.load(Acquire);
    let mut place = ring::place(ring, received);
    // Behind the last cell comes the first one, of which the number cannot be right.
    for _ in 0..=capacity {
        let sent = place.sent(ring)?;
        let is_full = sent - place.done == place.left::<T>();
        place.advance(ring, sent - place.done);
        if !is_full {
            break;
        }
    }
    if place.number().wrapping_sub(received) > capacity {
        return Err(garbage(received));
    }
    Ok((place, capacity))
}

#[cold]
fn garbage(received: u64) -> Error {
    Error::Corrupted { what: "number of received messages", found: received }
}

/// Ready when there is room for a message, or nobody will receive any more.
impl<T: Pod + Described> Source for Sender<T> {
    fn word(&self) -> &dyn FutexWord {
        self.end.word()
    }

    fn is_ready(&mut self) -> bool {
        // What is wrong, the sending tells.
        !matches!(Self::is_ready(self), Ok(false))
    }

    fn arm(&mut self) -> Result<Armed, Error> {
        self.end.arm()
    }

    fn disarm(&mut self, _may_be_woken: bool) {
        self.end.disarm();
    }
}

impl<T: Pod + Described> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender")
            .field("capacity", &self.capacity)
            .field("sent", &self.place.number())
            .finish_non_exhaustive()
    }
}
