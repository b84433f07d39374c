//! The sending end of a channel for bytes.

use core::fmt;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use core::time::Duration;
use std::io::IoSlice;
use std::sync::Arc;
use std::time::Instant;

use shmkit_core::wait::{self, Armed, FutexWord};
use shmkit_core::{Deadline, Error, crash_point};

use super::ring::{ByteRing, Extent, FIRST, LAST, PAD, Place, Record, SharedBytes, WORD, find_tail, stride};
use crate::bell::Bell;
use crate::duplex::Half;
use crate::end::End;
use crate::ends::{Ended, Side};
use crate::error::{OpenError, SendError};

/// The sending end of a channel for frames: messages of bytes, each of any length.
///
/// It belongs to the process that has opened it, and is used by one thread at a time. Dropping it closes it: the receiver gets what has been
/// sent, and then learns that there will be no more.
///
/// A frame arrives whole or not at all. One that is longer than [a quarter](Self::longest_in_place) of the channel goes in parts, so
/// it may be longer than the channel; it is there for the receiver when its last part is. When its sender is killed before
/// that, or runs out of time, the receiver drops what there is of it.
///
/// All of `send` and its variants fail at once when the receiver is gone. What was sent before, and not received, is lost then, unless
/// somebody [succeeds](crate::ChannelOptions::successors) to the receiver; the successor gets whole frames only.
///
/// # Examples
///
/// ```
/// use shmkit_channel::{ByteReceiver, ByteSender, ChannelOptions};
///
/// let (mut tx, mut rx): (ByteSender, ByteReceiver) = ChannelOptions::new().capacity(4096).both()?;
/// tx.send(b"hello")?;
/// tx.send(b"")?;
///
/// let mut buffer = [0; 100];
/// assert_eq!(rx.recv_into(&mut buffer)?, 5);
/// assert_eq!(&buffer[..5], b"hello");
/// assert_eq!(rx.recv()?, b"");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct ByteSender {
    pub(super) end: End<ByteRing>,
    pub(super) extent: Extent,
    /// Where the next record goes. The header there is 0.
    pub(super) place: Place,
    /// Up to where the receiver had received at the last look.
    received: u64,
}

/// Where a record goes: at the sender's place, or at the beginning of the ring, behind a PAD.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    place: Place,
    is_padded: bool,
    /// How many bytes must be free for it, from the sender's place on: the PAD, the record and the header behind it.
    pub(super) need: usize,
}

impl Slot {
    /// Where its payload lies.
    pub(super) fn payload(self) -> usize {
        self.place.at + WORD
    }
}

/// For how long to wait for room.
#[derive(Clone, Copy, Debug)]
pub(super) enum Patience {
    None,
    Until(Option<Deadline>),
}

impl Half for ByteSender {
    type Ring = ByteRing;

    const SIDE: Side = Side::Sender;

    fn at(end: End<ByteRing>) -> Result<Self, OpenError> {
        match Self::find(end.channel()) {
            Ok((extent, place, received)) => Ok(Self { end, extent, place, received }),
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

impl ByteSender {
    fn find(ring: &SharedBytes) -> Result<(Extent, Place, u64), Error> {
        let extent = Extent::of(ring)?;
        let place = find_tail(ring, &extent)?;
        // Acquire as in `look_for_room`. If somebody receives meanwhile, it is beyond what the search began with.
        let received = ring.received.load(Acquire);
        if place.position.wrapping_sub(received) > extent.size as u64 {
            return Err(Error::Corrupted { what: "position of the receiver", found: received });
        }
        Ok((extent, place, received))
    }

    /// Sends a frame.
    ///
    /// # Blocking
    ///
    /// While there is no room for it, or for the next part of it, and somebody is there, or yet to come, who can receive.
    ///
    /// # Crash safety
    ///
    /// The process may be killed at any point: the frame was sent whole or not at all.
    ///
    /// # Errors
    ///
    /// [`SendError::Disconnected`]; [`SendError::Failed`].
    #[inline]
    pub fn send(&mut self, frame: &[u8]) -> Result<(), SendError<()>> {
        self.send_frame(frame, Patience::Until(None))
    }

    /// Sends a frame, waiting for room for at most `timeout`. One that goes in parts must have found room for all of them by then; else the
    /// receiver drops what was sent of it.
    ///
    /// # Blocking
    ///
    /// As [`send`](Self::send), but not longer than `timeout` (monotonic clock).
    ///
    /// # Errors
    ///
    /// [`SendError::TimedOut`], and those of [`send`](Self::send).
    pub fn send_timeout(&mut self, frame: &[u8], timeout: Duration) -> Result<(), SendError<()>> {
        self.send_frame(frame, Patience::Until(Deadline::after(timeout)))
    }

    /// Sends a frame, waiting for room until `deadline` at the latest.
    ///
    /// # Errors
    ///
    /// As for [`send_timeout`](Self::send_timeout).
    pub fn send_deadline(&mut self, frame: &[u8], deadline: Instant) -> Result<(), SendError<()>> {
        self.send_timeout(frame, deadline.saturating_duration_since(Instant::now()))
    }

    /// Sends a frame if there is room for all of it.
    ///
    /// # Errors
    ///
    /// [`SendError::Full`]; [`SendError::TooLong`] if it is longer than half of the channel; those of [`send`](Self::send).
    /// Nothing has been sent then.
    #[inline]
    pub fn try_send(&mut self, frame: &[u8]) -> Result<(), SendError<()>> {
        self.send_frame(frame, Patience::None)
    }

    /// Sends a frame and leaves it to a later [`tell`](Self::tell), or `send`, to wake a receiver that sleeps. One that is awake sees the frame at
    /// once, and the frame is as good as any other: it is received also if this process is killed before it has told anybody.
    ///
    /// For many small frames in a row, each of which would wake the receiver.
    ///
    /// # Blocking
    ///
    /// As [`send`](Self::send). Whoever has to wait for room tells first.
    ///
    /// # Errors
    ///
    /// Those of [`send`](Self::send).
    ///
    /// # Examples
    ///
    /// ```
    /// use shmkit_channel::{ByteReceiver, ByteSender, ChannelOptions};
    ///
    /// let (mut tx, mut rx): (ByteSender, ByteReceiver) = ChannelOptions::new().both()?;
    /// for word in ["one", "two", "three"] {
    ///     tx.send_quietly(word.as_bytes())?;
    /// }
    /// tx.tell();
    /// assert_eq!(rx.recv()?, b"one");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn send_quietly(&mut self, frame: &[u8]) -> Result<(), SendError<()>> {
        if frame.len() <= self.extent.longest {
            let slot = self.slot(frame.len());
            if self.is_ready(slot.need).map_err(|ended| SendError::ended((), ended))? {
                self.end.channel().store(slot.payload(), frame);
                self.publish_quietly(slot, Record { len: frame.len(), kind: FIRST | LAST });
                return Ok(());
            }
        }
        self.send(frame)
    }

    /// Wakes a receiver that sleeps beside frames that were sent [quietly](Self::send_quietly). Does nothing in a forked child.
    pub fn tell(&self) {
        if self.end.check().is_ok() {
            self.end.tell(Self::SIDE);
        }
    }

    /// Sends a frame that is the bytes of several slices, one after the other.
    ///
    /// # Blocking
    ///
    /// As [`send`](Self::send).
    ///
    /// # Errors
    ///
    /// Those of [`send`](Self::send).
    ///
    /// # Panics
    ///
    /// If all of them together are longer than `usize` can say.
    pub fn send_vectored(&mut self, slices: &[IoSlice<'_>]) -> Result<(), SendError<()>> {
        let len = slices.iter().try_fold(0, |sum: usize, slice| sum.checked_add(slice.len()));
        let len = len.expect("a frame of less than 2^64 bytes");
        let mut source = Source { slice: &[], rest: slices };
        if len > self.extent.longest {
            return self.send_parts(source, len, None).map_err(|ended| SendError::ended((), ended));
        }
        let slot = self.slot(len);
        self.make_ready(slot, Patience::Until(None))?;
        source.store(self.end.channel(), slot.payload(), len);
        self.publish(slot, Record { len, kind: FIRST | LAST });
        Ok(())
    }

    /// The size of the channel in bytes. A frame takes eight more than it is long, and what is missing to a multiple of eight.
    pub fn capacity(&self) -> u64 {
        self.extent.size as u64
    }

    /// The longest frame that goes in one piece, and so the longest that can be written in place: a quarter of the channel.
    pub fn longest_in_place(&self) -> usize {
        self.extent.longest
    }

    /// Whether this end was closed, or nobody will receive any more. May be outdated when it returns, if it says no.
    pub fn is_closed(&self) -> bool {
        self.end.check().is_err() || self.end.is_other_gone_now().unwrap_or(true)
    }

    /// Closes this end. What has been sent can still be received. Does nothing if it is closed already.
    pub fn close(&mut self) {
        self.end.close();
    }

    #[inline]
    fn send_frame(&mut self, frame: &[u8], patience: Patience) -> Result<(), SendError<()>> {
        if frame.len() > self.extent.longest {
            return self.send_long(frame, patience);
        }
        let slot = self.slot(frame.len());
        self.make_ready(slot, patience)?;
        self.end.channel().store(slot.payload(), frame);
        self.publish(slot, Record { len: frame.len(), kind: FIRST | LAST });
        Ok(())
    }

    /// Where a record of this length goes.
    #[inline]
    pub(super) fn slot(&self, len: usize) -> Slot {
        let (stride, left) = (stride(len), self.place.left(&self.extent));
        if stride <= left {
            Slot { place: self.place, is_padded: false, need: stride + WORD }
        } else {
            Slot { place: self.place.plus(&self.extent, left), is_padded: true, need: left + stride + WORD }
        }
    }

    /// Sees to it that there is room for a record.
    #[inline]
    pub(super) fn make_ready(&mut self, slot: Slot, patience: Patience) -> Result<(), SendError<()>> {
        match self.is_ready(slot.need) {
            Ok(true) => Ok(()),
            Ok(false) => self.wait_or_refuse(slot.need, patience),
            Err(ended) => Err(SendError::ended((), ended)),
        }
    }

    #[cold]
    fn wait_or_refuse(&mut self, need: usize, patience: Patience) -> Result<(), SendError<()>> {
        match patience {
            Patience::Until(deadline) => {
                self.wait_for_room(need, deadline).map_err(|ended| SendError::ended((), ended))
            }
            Patience::None => match self.end.is_other_gone_at_leisure() {
                Ok(false) => Err(SendError::Full(())),
                Ok(true) => Err(SendError::Disconnected(())),
                Err(error) => Err(SendError::Failed { message: (), error }),
            },
        }
    }

    /// Whether so many bytes are free.
    #[inline]
    pub(super) fn is_ready(&mut self, need: usize) -> Result<bool, Ended> {
        self.end.check()?;
        if self.end.is_other_gone()? {
            return Err(Ended::Gone);
        }
        if self.room() < need {
            self.received = self.look_for_room()?;
        }
        Ok(self.room() >= need)
    }

    /// How many bytes were free at the last look.
    #[inline]
    pub(super) fn room(&self) -> usize {
        self.extent.size - self.place.position.wrapping_sub(self.received) as usize
    }

    /// Up to where the receiver has received.
    fn look_for_room(&self) -> Result<u64, Error> {
        // Acquire pairs with the Release of the receiver: it has copied what is to be written over.
        let received = self.end.channel().received.load(Acquire);
        let used = self.place.position.wrapping_sub(received);
        if used <= self.place.position.wrapping_sub(self.received) && used % WORD as u64 == 0 {
            Ok(received)
        } else {
            Err(Error::Corrupted { what: "position of the receiver", found: received })
        }
    }

    #[cold]
    pub(super) fn wait_for_room(&mut self, need: usize, deadline: Option<Deadline>) -> Result<(), Ended> {
        let look = || match self.look_for_room() {
            Ok(received) => {
                let used = self.place.position.wrapping_sub(received) as usize;
                (self.extent.size - used >= need).then_some(Ok(received))
            }
            Err(error) => Some(Err(error)),
        };
        // The receiver may be asleep beside what was sent quietly, and would never make room.
        self.end.tell(Self::SIDE);
        self.received = self.end.wait(deadline, look)??;
        Ok(())
    }

    /// Publishes a record whose payload is there, with room for it.
    #[inline]
    pub(super) fn publish(&mut self, slot: Slot, record: Record) {
        self.publish_quietly(slot, record);
        self.end.tell(Self::SIDE);
    }

    /// The same, and tells nobody.
    #[inline]
    fn publish_quietly(&mut self, slot: Slot, record: Record) {
        let ring = self.end.channel();
        crash_point!("bytes.send.after_copy");
        let next = slot.place.plus(&self.extent, stride(record.len));
        // It comes before the record by the Release below: nothing that lay there is taken for a header.
        next.header(ring).store(0, Relaxed);
        crash_point!("bytes.send.after_clear");
        let header = slot.place.header_of(record);
        if slot.is_padded {
            slot.place.header(ring).store(header, Relaxed);
            crash_point!("bytes.send.before_pad");
            let pad = Record { len: self.place.left(&self.extent) - WORD, kind: PAD };
            // Release as below.
            self.place.header(ring).store(self.place.header_of(pad), Release);
        } else {
            // Release pairs with the Acquire of the receiver, which then finds the payload, and 0 behind it.
            slot.place.header(ring).store(header, Release);
        }
        crash_point!("bytes.send.after_header");
        self.place = next;
    }

    #[cold]
    fn send_long(&mut self, frame: &[u8], patience: Patience) -> Result<(), SendError<()>> {
        if let Patience::None = patience {
            if frame.len() > self.extent.size / 2 {
                self.end.check().map_err(|ended| SendError::ended((), ended))?;
                return Err(SendError::TooLong(()));
            }
            let slot = Slot { need: self.need_of_parts(frame.len()), ..self.slot(0) };
            self.make_ready(slot, patience)?;
        }
        let source = Source { slice: frame, rest: &[] };
        let deadline = match patience {
            Patience::None => None,
            Patience::Until(deadline) => deadline,
        };
        self.send_parts(source, frame.len(), deadline).map_err(|ended| SendError::ended((), ended))
    }

    /// Sends a frame in parts.
    #[cold]
    fn send_parts(&mut self, mut source: Source<'_>, len: usize, deadline: Option<Deadline>) -> Result<(), Ended> {
        let mut parts = Parts::new(len);
        while let Some(part) = parts.next(self.place, &self.extent) {
            let slot = self.slot(part.len);
            if !self.is_ready(slot.need)? {
                // A receiver that makes room again and again does not lift the deadline. The first look is the one of the wait.
                if part.kind & FIRST == 0 && deadline.is_some_and(Deadline::has_passed) {
                    return Err(Ended::TimedOut);
                }
                self.wait_for_room(slot.need, deadline)?;
            }
            let ring = self.end.channel();
            let lead = if part.kind & FIRST == 0 { 0 } else { WORD };
            if lead > 0 {
                // Ordered by the header.
                ring.word(slot.payload()).store(len as u64, Relaxed);
            }
            source.store(ring, slot.payload() + lead, part.len - lead);
            self.publish(slot, part);
            crash_point!("bytes.send.between_parts");
        }
        Ok(())
    }

    /// How many bytes must be free for all parts of a frame, which is no longer than half of the ring.
    fn need_of_parts(&self, len: usize) -> usize {
        let (mut parts, mut place, mut need) = (Parts::new(len), self.place, WORD);
        while let Some(part) = parts.next(place, &self.extent) {
            let (stride, left) = (stride(part.len), place.left(&self.extent));
            if stride > left {
                need += left;
                place = place.plus(&self.extent, left);
            }
            need += stride;
            place = place.plus(&self.extent, stride);
        }
        need
    }
}

/// What a long frame is cut into.
struct Parts {
    left: usize,
    is_first: bool,
}

impl Parts {
    fn new(len: usize) -> Self {
        Self { left: len, is_first: true }
    }

    /// The next part, if it is sent from this place on.
    fn next(&mut self, place: Place, extent: &Extent) -> Option<Record> {
        if self.left == 0 && !self.is_first {
            return None;
        }
        let lead = if self.is_first { WORD } else { 0 };
        let longest = longest_piece(place, extent);
        let len = longest.min(self.left.saturating_add(lead));
        self.left -= len - lead;
        let first = if self.is_first { FIRST } else { 0 };
        let last = if self.left == 0 { LAST } else { 0 };
        self.is_first = false;
        Some(Record { len, kind: first | last })
    }
}

/// The longest record that is sensible at this place: it may end with the ring, but a small rest there is left to a PAD.
pub(super) fn longest_piece(place: Place, extent: &Extent) -> usize {
    let left = place.left(extent) - WORD;
    if left > extent.longest / 2 { extent.longest.min(left) } else { extent.longest }
}

/// Bytes that lie in several places.
struct Source<'a> {
    slice: &'a [u8],
    rest: &'a [IoSlice<'a>],
}

impl Source<'_> {
    /// Copies the next `len` bytes, which there are, into the ring.
    fn store(&mut self, ring: &SharedBytes, mut at: usize, mut len: usize) {
        while len > 0 {
            if self.slice.is_empty() {
                let Some((next, rest)) = self.rest.split_first() else {
                    return;
                };
                (self.slice, self.rest) = (next, rest);
            }
            let (now, later) = self.slice.split_at(len.min(self.slice.len()));
            ring.store(at, now);
            self.slice = later;
            at += now.len();
            len -= now.len();
        }
    }
}

/// Ready when there is room for any frame that goes in [one piece](ByteSender::longest_in_place), or nobody is there who would receive it.
impl wait::Source for ByteSender {
    fn word(&self) -> &dyn FutexWord {
        self.end.word()
    }

    fn is_ready(&mut self) -> bool {
        // What is wrong, the sending tells.
        let need = self.slot(self.extent.longest).need;
        !matches!(Self::is_ready(self, need), Ok(false))
    }

    fn arm(&mut self) -> Result<Armed, Error> {
        self.end.arm()
    }

    fn disarm(&mut self, _may_be_woken: bool) {
        self.end.disarm();
    }
}

impl fmt::Debug for ByteSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ByteSender")
            .field("capacity", &self.extent.size)
            .field("position", &self.place.position)
            .finish_non_exhaustive()
    }
}
