//! The receiving end of a typed channel.

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
use crate::error::{OpenError, RecvError};
use crate::readiness::Readiness;
use crate::ring::{self, Place, Ring, Shared};

/// How many cells ahead the line to be read is asked for. More would take lines away from the sender that it is about to write: between CPUs with
/// a cache of their own each, 3 made a stream take 1.3 times as long.
const AHEAD: usize = 1;

/// After how many messages that are received together the sender gets their room. More would keep it waiting.
const GIVE_ROOM: usize = 64;

/// The receiving end of a channel for messages of type `T`.
///
/// It belongs to the process that has opened it, and is used by one thread at a time. Dropping it closes it: the sender learns that nobody will
/// receive any more.
///
/// When the sender is gone, what it has sent can still be received; after that, `recv` and its variants fail with
/// [`RecvError::Disconnected`].
///
/// # Examples
///
/// ```
/// use shmkit_channel::{ChannelOptions, Receiver, RecvError, Sender};
///
/// let (mut sender, mut receiver): (Sender<u64>, Receiver<u64>) = ChannelOptions::new().both()?;
/// sender.send_slice(&[7, 8])?;
/// drop(sender);
/// assert_eq!(receiver.recv()?, 7);
/// assert_eq!(receiver.recv()?, 8);
/// assert!(matches!(receiver.recv(), Err(RecvError::Disconnected)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Receiver<T: Pod + Described> {
    end: End<Ring<T>>,
    /// Where the next message is.
    place: Place,
    capacity: u64,
    /// How many messages of the cell are known to have been sent.
    sent: usize,
}

impl<T: Pod + Described> Half for Receiver<T> {
    type Ring = Ring<T>;

    const SIDE: Side = Side::Receiver;

    fn at(end: End<Ring<T>>) -> Result<Self, OpenError> {
        match find_place(end.channel()) {
            // Those that are done with have been sent; whether more have, the first look tells.
            Ok((place, capacity)) => Ok(Self { end, place, capacity, sent: place.done }),
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

impl<T: Pod + Described> Receiver<T> {
    /// Receives a message.
    ///
    /// # Blocking
    ///
    /// While there is none, and somebody is there, or yet to come, who can send.
    ///
    /// # Crash safety
    ///
    /// The process may be killed at any point: the message was received or not. If it was not, a successor gets it.
    ///
    /// # Errors
    ///
    /// [`RecvError::Disconnected`]; [`RecvError::Failed`].
    #[inline]
    pub fn recv(&mut self) -> Result<T, RecvError> {
        if !self.can_take() {
            return self.recv_when_ready(None);
        }
        Ok(self.take_one())
    }

    /// Receives a message, waiting for it for at most `timeout`.
    ///
    /// # Blocking
    ///
    /// As [`recv`](Self::recv), but not longer than `timeout` (monotonic clock).
    ///
    /// # Errors
    ///
    /// [`RecvError::TimedOut`], and those of [`recv`](Self::recv).
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<T, RecvError> {
        if !self.can_take() {
            return self.recv_when_ready(Deadline::after(timeout));
        }
        Ok(self.take_one())
    }

    /// Receives a message, waiting for it until `deadline` at the latest.
    ///
    /// # Errors
    ///
    /// As for [`recv_timeout`](Self::recv_timeout).
    pub fn recv_deadline(&mut self, deadline: Instant) -> Result<T, RecvError> {
        self.recv_timeout(deadline.saturating_duration_since(Instant::now()))
    }

    /// Receives a message if there is one.
    ///
    /// # Errors
    ///
    /// [`RecvError::Empty`], and those of [`recv`](Self::recv).
    #[inline]
    pub fn try_recv(&mut self) -> Result<T, RecvError> {
        if !self.can_take() {
            return self.recv_if_ready();
        }
        Ok(self.take_one())
    }

    /// Receives as many messages as there are and fit into `messages`, at least one; says how many.
    ///
    /// # Blocking
    ///
    /// As [`recv`](Self::recv), until there is one; not at all if `messages` is empty.
    ///
    /// # Errors
    ///
    /// Those of [`recv`](Self::recv).
    pub fn recv_slice(&mut self, messages: &mut [T]) -> Result<usize, RecvError> {
        if !messages.is_empty() && !self.can_take() {
            self.get_ready(None)?;
        }
        self.take_some(messages)
    }

    /// Receives as many messages as there are and fit into `messages`, without waiting for any; says how many.
    ///
    /// # Errors
    ///
    /// [`RecvError::Empty`], and those of [`recv`](Self::recv).
    pub fn try_recv_slice(&mut self, messages: &mut [T]) -> Result<usize, RecvError> {
        if !messages.is_empty() && !self.can_take() {
            self.be_ready()?;
        }
        self.take_some(messages)
    }

    /// Waits until there is a message, for at most `timeout`; says whether there is one. It stays where it is.
    ///
    /// # Blocking
    ///
    /// As [`recv`](Self::recv), but not longer than `timeout`; with none not at all.
    ///
    /// # Errors
    ///
    /// Those of [`recv`](Self::recv).
    pub fn poll(&mut self, timeout: Duration) -> Result<bool, RecvError> {
        if self.is_ready()? {
            return Ok(true);
        }
        match self.wait_for_message(Deadline::after(timeout)) {
            Ok(()) => Ok(true),
            Err(Ended::TimedOut) => Ok(false),
            Err(ended) => Err(ended.into()),
        }
    }

    /// Receives until nobody is there who would send, or this end cannot be used any more.
    pub fn iter(&mut self) -> Incoming<'_, T> {
        Incoming { receiver: self }
    }

    /// A descriptor that tells an event loop when there may be a message, or the sender is gone; see [`Readiness`] for how it is used.
    ///
    /// An end that was handed over by a [`Ticket`](crate::Ticket), or whose other end was, has the descriptor already, and so has the sender, which
    /// writes to it. For others, opened by name, the first call starts a thread, which sleeps with a small stack until there is something to tell, and
    /// ends with this receiver; so it is, too, in a process that [has no keeper](shmkit_core::RegionOptions::keeper). The blocking calls still work, and are a little slower
    /// then.
    ///
    /// With the thread, each message that ends a sleep goes through it: there and back took 21 µs instead of 5 between two processes on one CPU, and 50 instead of 42 on two. Messages
    /// that come while there are others to be received cost nothing more. Where many wake-ups are to be expected, hand the end over by a ticket.
    ///
    /// # Errors
    ///
    /// [`RecvError::Disconnected`] if this end was closed; [`RecvError::Failed`] without a thread or a descriptor to be had.
    ///
    /// # Examples
    ///
    /// ```
    /// use shmkit_channel::{ChannelOptions, RecvError, Sender};
    /// use std::os::fd::AsFd;
    ///
    /// let (mut sender, mut receiver) = ChannelOptions::new().both::<Sender<u64>>()?;
    /// let readiness = receiver.readiness()?;
    /// // To be given to an event loop, which tells when it is readable:
    /// let descriptor = readiness.as_fd();
    /// # sender.send(7)?;
    /// // Then, until it is empty:
    /// loop {
    ///     match receiver.try_recv() {
    ///         Ok(number) => assert_eq!(number, 7),
    ///         Err(RecvError::Empty) => break,
    ///         Err(error) => return Err(error.into()),
    ///     }
    /// }
    /// # let _ = descriptor;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg(not(ipc_loom))]
    pub fn readiness(&mut self) -> Result<Readiness, RecvError> {
        Ok(self.end.readiness(self.place.number(), has_come)?)
    }

    /// The same, and what the thread does, for models.
    #[cfg(ipc_loom)]
    #[allow(clippy::missing_errors_doc, reason = "for models")]
    pub fn readiness(&mut self) -> Result<(Readiness, crate::end::Life), RecvError> {
        Ok(self.end.readiness(self.place.number(), has_come)?)
    }

    /// The same without a thread, by a bell that the sender has, too.
    #[cfg(ipc_loom)]
    pub(crate) fn readiness_by_bell(&mut self, bell: &Arc<Bell>) -> Result<Readiness, RecvError> {
        Ok(self.end.readiness_by_bell(Arc::clone(bell), self.place.number(), has_come)?)
    }

    /// How many messages fit into the channel.
    pub fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Whether this end was closed, or nobody will send any more. What has been sent can still be received. May be outdated when it
    /// returns, if it says no.
    pub fn is_closed(&self) -> bool {
        self.end.check().is_err() || self.end.is_other_gone_now().unwrap_or(true)
    }

    /// Closes this end. What has not been received is lost. Does nothing if it is closed already.
    pub fn close(&mut self) {
        self.end.close();
    }

    /// Whether a message can be taken, as far as that can be told at once.
    #[inline]
    fn can_take(&mut self) -> bool {
        if !self.end.is_usable() {
            return false;
        }
        if self.place.done == self.sent {
            match self.place.count(self.end.channel()) {
                Ok(sent) => self.sent = sent,
                Err(_) => return false,
            }
        }
        self.place.done < self.sent
    }

    /// Whether a message can be taken.
    fn is_ready(&mut self) -> Result<bool, Ended> {
        self.end.check()?;
        if self.place.done == self.sent {
            self.sent = self.place.sent(self.end.channel())?;
        }
        Ok(self.place.done < self.sent)
    }

    /// Receives a message, waiting for it until `deadline`.
    #[cold]
    #[inline(never)]
    fn recv_when_ready(&mut self, deadline: Option<Deadline>) -> Result<T, RecvError> {
        self.get_ready(deadline)?;
        Ok(self.take_one())
    }

    /// Receives a message if there is one.
    #[cold]
    #[inline(never)]
    fn recv_if_ready(&mut self) -> Result<T, RecvError> {
        self.be_ready()?;
        Ok(self.take_one())
    }

    /// Waits until a message can be taken, until `deadline`.
    fn get_ready(&mut self, deadline: Option<Deadline>) -> Result<(), RecvError> {
        if !self.is_ready()? {
            self.wait_for_message(deadline)?;
        }
        Ok(())
    }

    /// Fails unless a message can be taken.
    fn be_ready(&mut self) -> Result<(), RecvError> {
        if !self.is_ready()? {
            self.look_behind_the_last()?;
        }
        Ok(())
    }

    /// Looks once more, if nobody is there who would send: what was sent before that may have been missed by the look before.
    #[cold]
    fn look_behind_the_last(&mut self) -> Result<(), RecvError> {
        if !self.end.is_other_gone_at_leisure()? {
            self.end.go_without(self.place.number())?;
            return Err(RecvError::Empty);
        }
        if self.is_ready()? { Ok(()) } else { Err(RecvError::Disconnected) }
    }

    /// Takes a message, which is there.
    #[inline]
    fn take_one(&mut self) -> T {
        let mut message = T::zeroed();
        self.take(slice::from_mut(&mut message));
        self.give_room();
        message
    }

    /// Takes messages, which are there and in one cell. Until [room is given](Self::give_room), they are not received.
    #[inline]
    fn take(&mut self, messages: &mut [T]) {
        let ring = self.end.channel();
        self.place.load(ring, messages);
        crash_point!("pipe.recv.after_copy");
        if self.place.advance(ring, messages.len()) {
            self.sent = 0;
        }
    }

    /// Gives the room of what has been taken to the sender.
    #[inline]
    fn give_room(&self) {
        // Release pairs with the Acquire of the sender, which then may write over the messages.
        self.end.channel().received.store(self.place.number(), Release);
        crash_point!("pipe.recv.after_received");
        self.end.tell(Self::SIDE);
    }

    /// Takes as many messages as there are and fit in.
    fn take_some(&mut self, messages: &mut [T]) -> Result<usize, RecvError> {
        let mut taken = 0;
        let mut given = 0;
        while taken < messages.len() {
            if !self.can_take() {
                if taken == 0 {
                    self.is_ready()?;
                }
                // What is wrong later will still be so at the next call.
                break;
            }
            let count = (self.sent - self.place.done).min(messages.len() - taken);
            self.take(&mut messages[taken..taken + count]);
            let ring = self.end.channel();
            ring.prefetch(self.place.ahead(ring, AHEAD));
            taken += count;
            if taken - given >= GIVE_ROOM {
                given = taken;
                self.give_room();
            }
        }
        if given < taken {
            self.give_room();
        }
        Ok(taken)
    }

    #[cold]
    fn wait_for_message(&mut self, deadline: Option<Deadline>) -> Result<(), Ended> {
        self.end.expect(self.place.number());
        let (ring, place) = (self.end.channel(), self.place);
        let look = || place.sent(ring).map(|sent| (sent > place.done).then_some(sent)).transpose();
        self.sent = self.end.wait(deadline, look)??;
        Ok(())
    }
}

/// Whether the message of this number has come, or there is garbage, which is for the owner to find.
fn has_come<T: Pod + Described>(ring: &Shared<T>, number: u64) -> bool {
    let place = ring::place(ring, number);
    place.sent(ring).map_or(true, |sent| sent > place.done)
}

/// Where the next message is, and the capacity.
fn find_place<T: Pod + Described>(ring: &Shared<T>) -> Result<(Place, u64), Error> {
    // First: it says that there is a cell at all.
    let capacity = ring::capacity(ring)?;
    // Acquire: if a predecessor died, this is the last that it has stored.
    let received = ring.received.load(Acquire);
    Ok((ring::place(ring, received), capacity))
}

/// The messages of a [`Receiver`], as they come.
#[derive(Debug)]
pub struct Incoming<'a, T: Pod + Described> {
    receiver: &'a mut Receiver<T>,
}

impl<T: Pod + Described> Iterator for Incoming<'_, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.receiver.recv().ok()
    }
}

impl<'a, T: Pod + Described> IntoIterator for &'a mut Receiver<T> {
    type Item = T;
    type IntoIter = Incoming<'a, T>;

    fn into_iter(self) -> Incoming<'a, T> {
        self.iter()
    }
}

/// Ready when there is a message, or nobody will send any more.
impl<T: Pod + Described> Source for Receiver<T> {
    fn word(&self) -> &dyn FutexWord {
        self.end.word()
    }

    fn is_ready(&mut self) -> bool {
        // Also if the sender is gone and has left nothing: that is news. What is wrong, the receiving tells.
        !matches!(Self::is_ready(self), Ok(false)) || self.end.is_other_gone().unwrap_or(true)
    }

    fn arm(&mut self) -> Result<Armed, Error> {
        self.end.expect(self.place.number());
        self.end.arm()
    }

    fn disarm(&mut self, _may_be_woken: bool) {
        self.end.disarm();
    }
}

impl<T: Pod + Described> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver")
            .field("capacity", &self.capacity)
            .field("received", &self.place.number())
            .finish_non_exhaustive()
    }
}
