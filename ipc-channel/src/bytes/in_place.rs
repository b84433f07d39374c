//! Frames where they lie: written into the channel and read out of it without a copy.
//!
//! This gives out references to shared memory, so it is for peers who keep to the rules of this library, as all of [`Region`] is: a sender
//! does not write to what it has published, and nobody else writes where the sender is going to. Whoever opens a channel to a peer that
//! is not trusted gets ends that copy, and have nothing of this.
//!
//! [`Region`]: shmkit_core::Region

use core::fmt;
use core::ops::{Deref, DerefMut};
use core::slice;
use core::time::Duration;

use shmkit_core::Deadline;

use super::receiver::{self, ByteReceiver, Found};
use super::ring::{FIRST, LAST, Record};
use super::sender::{self, ByteSender, Slot};
use crate::error::{RecvError, SendError};

/// Room for a frame that is written in place, made by [`ByteSender::reserve`].
///
/// It dereferences to the bytes. What is in them at first is not defined. [`commit`](Self::commit) sends the frame; to drop the reservation sends nothing.
pub struct Reservation<'a> {
    sender: &'a mut ByteSender,
    slot: Slot,
    len: usize,
}

/// A frame that is read in place, made by [`ByteReceiver::peek`].
///
/// It dereferences to the bytes. [`release`](Self::release) takes the frame out of the channel; to drop the peek leaves it there. A frame that
/// came in parts is not in the channel any more, but kept by the receiver: it is read there.
pub struct Peek<'a> {
    receiver: &'a mut ByteReceiver,
    found: Found,
}

/// Frames written in place.
impl ByteSender {
    /// Reserves room for a frame of `len` bytes, to write it in place.
    ///
    /// # Blocking
    ///
    /// As [`send`](Self::send).
    ///
    /// # Crash safety
    ///
    /// The process may be killed at any point: before [`commit`](Reservation::commit), nothing has been sent.
    ///
    /// # Errors
    ///
    /// [`SendError::TooLong`] if `len` is more than [`longest_in_place`](Self::longest_in_place); those of [`send`](Self::send).
    ///
    /// # Examples
    ///
    /// ```
    /// use shmkit_channel::{ByteReceiver, ByteSender, ChannelOptions};
    ///
    /// let (mut tx, mut rx): (ByteSender, ByteReceiver) = ChannelOptions::new().both()?;
    /// let mut frame = tx.reserve(1000)?;
    /// frame[..3].copy_from_slice(b"abc");
    /// frame.commit_len(3)?;
    ///
    /// let frame = rx.peek()?;
    /// assert_eq!(*frame, *b"abc");
    /// frame.release()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn reserve(&mut self, len: usize) -> Result<Reservation<'_>, SendError<()>> {
        self.reserve_with(len, sender::Patience::Until(None))
    }

    /// Reserves room for a frame of `len` bytes, waiting for it for at most `timeout`.
    ///
    /// # Blocking
    ///
    /// As [`reserve`](Self::reserve), but not longer than `timeout` (monotonic clock).
    ///
    /// # Errors
    ///
    /// [`SendError::TimedOut`], and those of [`reserve`](Self::reserve).
    pub fn reserve_timeout(&mut self, len: usize, timeout: Duration) -> Result<Reservation<'_>, SendError<()>> {
        self.reserve_with(len, sender::Patience::Until(Deadline::after(timeout)))
    }

    /// Reserves room for a frame of `len` bytes, if there is as much.
    ///
    /// # Errors
    ///
    /// [`SendError::Full`], and those of [`reserve`](Self::reserve).
    pub fn try_reserve(&mut self, len: usize) -> Result<Reservation<'_>, SendError<()>> {
        self.reserve_with(len, sender::Patience::None)
    }

    fn reserve_with(&mut self, len: usize, patience: sender::Patience) -> Result<Reservation<'_>, SendError<()>> {
        if len > self.longest_in_place() {
            return Err(SendError::TooLong(()));
        }
        let slot = self.slot(len);
        self.make_ready(slot, patience)?;
        Ok(Reservation { sender: self, slot, len })
    }
}

impl Reservation<'_> {
    /// Sends the frame.
    ///
    /// # Errors
    ///
    /// [`SendError::Failed`] in a forked child of the process that has reserved.
    pub fn commit(self) -> Result<(), SendError<()>> {
        let len = self.len;
        self.commit_len(len)
    }

    /// Sends the first `len` bytes of the frame.
    ///
    /// # Errors
    ///
    /// As for [`commit`](Self::commit).
    ///
    /// # Panics
    ///
    /// If that is more than were reserved.
    pub fn commit_len(self, len: usize) -> Result<(), SendError<()>> {
        assert!(len <= self.len, "{len} of {} bytes", self.len);
        self.sender.end.check().map_err(|ended| SendError::ended((), ended))?;
        self.sender.publish(self.slot, Record { len, kind: FIRST | LAST });
        Ok(())
    }

    fn start(&self) -> *mut u8 {
        // SAFETY: the slot is within the ring.
        unsafe { self.sender.end.channel().as_ptr().add(self.slot.payload()) }
    }
}

impl Deref for Reservation<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: within the ring, which is mapped as long as the sender lives. Nobody else uses these bytes: they are free, and whoever
        // has the sending end alone, which is borrowed, may write to what is free. Any bytes are `u8`s.
        unsafe { slice::from_raw_parts(self.start(), self.len) }
    }
}

impl DerefMut for Reservation<'_> {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above; this reference is borrowed exclusively.
        unsafe { slice::from_raw_parts_mut(self.start(), self.len) }
    }
}

impl fmt::Debug for Reservation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reservation").field("len", &self.len).finish_non_exhaustive()
    }
}

/// Frames read in place.
impl ByteReceiver {
    /// Waits for a frame, to read it in place.
    ///
    /// # Blocking
    ///
    /// As [`recv`](Self::recv).
    ///
    /// # Crash safety
    ///
    /// The process may be killed at any point: before [`release`](Peek::release), the frame was not received.
    ///
    /// # Errors
    ///
    /// Those of [`recv`](Self::recv).
    pub fn peek(&mut self) -> Result<Peek<'_>, RecvError> {
        self.peek_with(receiver::Patience::Until(None))
    }

    /// Waits for a frame for at most `timeout`, to read it in place.
    ///
    /// # Blocking
    ///
    /// As [`peek`](Self::peek), but not longer than `timeout` (monotonic clock).
    ///
    /// # Errors
    ///
    /// [`RecvError::TimedOut`], and those of [`recv`](Self::recv).
    pub fn peek_timeout(&mut self, timeout: Duration) -> Result<Peek<'_>, RecvError> {
        self.peek_with(receiver::Patience::timeout(timeout))
    }

    /// Looks at the next frame in place, if there is one.
    ///
    /// # Errors
    ///
    /// [`RecvError::Empty`], and those of [`recv`](Self::recv).
    pub fn try_peek(&mut self) -> Result<Peek<'_>, RecvError> {
        self.peek_with(receiver::Patience::None)
    }

    fn peek_with(&mut self, patience: receiver::Patience) -> Result<Peek<'_>, RecvError> {
        let found = self.fetch(&mut [], patience)?;
        Ok(Peek { receiver: self, found })
    }
}

impl Peek<'_> {
    /// Takes the frame out of the channel, so that the sender has its room again.
    ///
    /// # Errors
    ///
    /// [`RecvError::Failed`] in a forked child of the process that has peeked.
    pub fn release(self) -> Result<(), RecvError> {
        self.receiver.end.check()?;
        self.receiver.give_up(self.found);
        Ok(())
    }
}

impl Deref for Peek<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self.found {
            Found::InPlace(len) => {
                // SAFETY: a record whose payload of `len` bytes lies within the ring, by the check of its header; the ring is mapped as long as
                // the receiver lives. The sender does not write to it before it has been released, which takes the receiver, which is
                // borrowed. Any bytes are `u8`s.
                unsafe { slice::from_raw_parts(self.receiver.end.channel().as_ptr().add(self.receiver.payload()), len) }
            }
            Found::Kept(_) | Found::Fetched(_) => self.receiver.kept(),
        }
    }
}

impl fmt::Debug for Peek<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peek").field("len", &self.len()).finish_non_exhaustive()
    }
}
