//! The receiving end of a channel for bytes.

use core::fmt;
use core::sync::atomic::Ordering::{Relaxed, Release};
use core::time::Duration;
use std::sync::Arc;
use std::time::Instant;

use shmkit_core::wait::{Armed, FutexWord, Source};
use shmkit_core::{Deadline, Error, crash_point};

use super::ring::{ByteRing, Extent, FIRST, LAST, PAD, Place, Record, SharedBytes, WORD, stride};
use crate::bell::Bell;
use crate::duplex::Half;
use crate::end::End;
use crate::ends::{Ended, Side};
use crate::error::{OpenError, RecvError};
#[cfg(not(ipc_loom))]
use crate::readiness::Readiness;

/// The receiving end of a channel for frames: messages of bytes, each of any length.
///
/// It belongs to the process that has opened it, and is used by one thread at a time. Dropping it closes it: the sender learns that nobody will
/// receive any more.
///
/// When the sender is gone, the frames that it has sent can still be received; after that, `recv` and its variants fail with
/// [`RecvError::Disconnected`]. A frame that it did not come to the end of is not one of them.
///
/// A frame that is longer than [a quarter](super::ByteSender::longest_in_place) of the channel comes in parts. Each part that is there
/// is fetched by the next call of whatever kind, and kept until the frame is whole: so the sender can go on. If the receiver is killed
/// meanwhile, the frame is lost for its successor, too, who begins with the next one.
///
/// # Examples
///
/// ```
/// use shmkit_channel::{ByteReceiver, ByteSender, ChannelOptions, RecvError};
///
/// let (mut tx, mut rx): (ByteSender, ByteReceiver) = ChannelOptions::new().both()?;
/// tx.send(b"hello")?;
/// let mut buffer = [0; 3];
/// assert!(matches!(rx.recv_into(&mut buffer), Err(RecvError::TooSmall { .. })));
/// assert_eq!(rx.recv()?, b"hello");
/// assert!(matches!(rx.try_recv(), Err(RecvError::Empty)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct ByteReceiver {
    pub(super) end: End<ByteRing>,
    extent: Extent,
    /// Where the next record is.
    place: Place,
    /// A frame of several records, of which the first have been taken out of the ring.
    long: Option<Long>,
    /// The longest frame to be received, in bytes.
    longest: usize,
}

/// A frame of several records.
#[derive(Debug)]
struct Long {
    len: usize,
    /// How many bytes of it have come.
    done: usize,
    /// These bytes, unless they are in the buffer of who receives.
    bytes: Vec<u8>,
}

/// Where a whole frame is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Found {
    /// In the record at the receiver's place.
    InPlace(usize),
    /// Among the private things of the receiver.
    Kept(usize),
    /// In the buffer of who receives, and nowhere else.
    Fetched(usize),
}

impl Found {
    /// The length of the frame.
    pub(super) fn len(self) -> usize {
        let (Self::InPlace(len) | Self::Kept(len) | Self::Fetched(len)) = self;
        len
    }
}

/// For how long to wait for a frame.
#[derive(Clone, Copy, Debug)]
pub(super) enum Patience {
    None,
    Until(Option<Deadline>),
}

impl Patience {
    pub(super) fn timeout(timeout: Duration) -> Self {
        Self::Until(Deadline::after(timeout))
    }
}

impl Half for ByteReceiver {
    type Ring = ByteRing;

    const SIDE: Side = Side::Receiver;

    fn at(end: End<ByteRing>) -> Result<Self, OpenError> {
        match Self::find(end.channel()) {
            Ok((extent, place)) => Ok(Self { end, extent, place, long: None, longest: usize::MAX }),
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

    #[cfg(not(ipc_loom))]
    fn set_longest(&mut self, longest: usize) {
        self.longest = longest;
    }
}

impl ByteReceiver {
    fn find(ring: &SharedBytes) -> Result<(Extent, Place), Error> {
        let extent = Extent::of(ring)?;
        Ok((extent, Place::received(ring, &extent)?))
    }

    /// Receives a frame into memory of its own.
    ///
    /// # Blocking
    ///
    /// While there is none, and somebody is there, or yet to come, who can send.
    ///
    /// # Crash safety
    ///
    /// The process may be killed at any point: the frame was received or not. If it was not, a successor gets it, unless it was one that comes
    /// in parts.
    ///
    /// # Errors
    ///
    /// [`RecvError::Disconnected`]; [`RecvError::Failed`].
    pub fn recv(&mut self) -> Result<Vec<u8>, RecvError> {
        self.recv_vec(Patience::Until(None))
    }

    /// Receives a frame into memory of its own, waiting for it for at most `timeout`.
    ///
    /// # Blocking
    ///
    /// As [`recv`](Self::recv), but not longer than `timeout` (monotonic clock).
    ///
    /// # Errors
    ///
    /// [`RecvError::TimedOut`], and those of [`recv`](Self::recv).
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Vec<u8>, RecvError> {
        self.recv_vec(Patience::timeout(timeout))
    }

    /// Receives a frame into memory of its own, waiting for it until `deadline` at the latest.
    ///
    /// # Errors
    ///
    /// As for [`recv_timeout`](Self::recv_timeout).
    pub fn recv_deadline(&mut self, deadline: Instant) -> Result<Vec<u8>, RecvError> {
        self.recv_timeout(deadline.saturating_duration_since(Instant::now()))
    }

    /// Receives a frame into memory of its own, if there is one.
    ///
    /// # Errors
    ///
    /// [`RecvError::Empty`], and those of [`recv`](Self::recv).
    pub fn try_recv(&mut self) -> Result<Vec<u8>, RecvError> {
        self.recv_vec(Patience::None)
    }

    /// Receives a frame into the beginning of `buffer`; says how long it is.
    ///
    /// # Blocking
    ///
    /// As [`recv`](Self::recv).
    ///
    /// # Errors
    ///
    /// [`RecvError::TooSmall`] if the frame is longer than `buffer`: it stays, for a call with a larger one; those of [`recv`](Self::recv). What
    /// is in `buffer` then means nothing.
    #[inline]
    pub fn recv_into(&mut self, buffer: &mut [u8]) -> Result<usize, RecvError> {
        self.recv_buffer(buffer, Patience::Until(None))
    }

    /// Receives a frame into the beginning of `buffer`, waiting for it for at most `timeout`; says how long it is.
    ///
    /// # Blocking
    ///
    /// As [`recv_into`](Self::recv_into), but not longer than `timeout` (monotonic clock).
    ///
    /// # Errors
    ///
    /// [`RecvError::TimedOut`], and those of [`recv_into`](Self::recv_into).
    pub fn recv_into_timeout(&mut self, buffer: &mut [u8], timeout: Duration) -> Result<usize, RecvError> {
        self.recv_buffer(buffer, Patience::timeout(timeout))
    }

    /// Receives a frame into the beginning of `buffer`, if there is one; says how long it is.
    ///
    /// # Errors
    ///
    /// [`RecvError::Empty`], and those of [`recv_into`](Self::recv_into).
    #[inline]
    pub fn try_recv_into(&mut self, buffer: &mut [u8]) -> Result<usize, RecvError> {
        self.recv_buffer(buffer, Patience::None)
    }

    /// Waits until there is a whole frame, for at most `timeout`; says whether there is one. It stays where it is.
    ///
    /// # Blocking
    ///
    /// As [`recv`](Self::recv), but not longer than `timeout`; with none not at all.
    ///
    /// # Errors
    ///
    /// Those of [`recv`](Self::recv).
    pub fn poll(&mut self, timeout: Duration) -> Result<bool, RecvError> {
        match self.fetch(&mut [], Patience::timeout(timeout)) {
            Ok(_) => Ok(true),
            Err(RecvError::TimedOut) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// A descriptor that tells an event loop when there may be a frame, or the sender is gone: as [`Receiver::readiness`](crate::Receiver::readiness).
    ///
    /// # Errors
    ///
    /// [`RecvError::Disconnected`] if this end was closed; [`RecvError::Failed`] without a thread or a descriptor to be had.
    #[cfg(not(ipc_loom))]
    pub fn readiness(&mut self) -> Result<Readiness, RecvError> {
        let extent = self.extent;
        let has_come = move |ring: &SharedBytes, position| has_come(ring, &extent, position);
        Ok(self.end.readiness(self.place.position, has_come)?)
    }

    /// Receives until nobody is there who would send, or this end cannot be used any more.
    pub fn iter(&mut self) -> Frames<'_> {
        Frames { receiver: self }
    }

    /// The size of the channel in bytes: see [`ByteSender::capacity`](super::ByteSender::capacity).
    pub fn capacity(&self) -> u64 {
        self.extent.size as u64
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

    fn recv_vec(&mut self, patience: Patience) -> Result<Vec<u8>, RecvError> {
        match self.fetch(&mut [], patience)? {
            Found::InPlace(len) => {
                self.check_length(len)?;
                let mut frame = vec![0; len];
                self.end.channel().load(self.payload(), &mut frame);
                self.consume(len);
                Ok(frame)
            }
            Found::Kept(_) | Found::Fetched(_) => Ok(self.long.take().map_or_else(Vec::new, |long| long.bytes)),
        }
    }

    #[inline]
    fn recv_buffer(&mut self, buffer: &mut [u8], patience: Patience) -> Result<usize, RecvError> {
        let found = self.fetch(buffer, patience)?;
        match found {
            Found::InPlace(len) => {
                let frame = buffer.get_mut(..len).ok_or(RecvError::TooSmall { needed: len })?;
                self.end.channel().load(self.payload(), frame);
                self.consume(len);
            }
            Found::Kept(len) => {
                let frame = buffer.get_mut(..len).ok_or(RecvError::TooSmall { needed: len })?;
                frame.copy_from_slice(self.kept());
                self.long = None;
            }
            Found::Fetched(_) => self.long = None,
        }
        Ok(found.len())
    }

    /// Where the payload of the record at the receiver's place lies.
    pub(super) fn payload(&self) -> usize {
        self.place.at + WORD
    }

    /// The frame that is [kept](Found::Kept).
    pub(super) fn kept(&self) -> &[u8] {
        self.long.as_ref().map_or(&[], |long| &long.bytes)
    }

    /// Gives a frame up that was [found](Self::fetch) and not put into a buffer.
    #[cfg(not(ipc_loom))]
    pub(super) fn give_up(&mut self, found: Found) {
        match found {
            Found::InPlace(len) => self.consume(len),
            Found::Kept(_) | Found::Fetched(_) => self.long = None,
        }
    }

    /// Waits until there is a whole frame. Parts of a long one go into `buffer` at once, if it is large enough for all.
    #[inline]
    pub(super) fn fetch(&mut self, buffer: &mut [u8], patience: Patience) -> Result<Found, RecvError> {
        // The usual case: one record.
        self.end.check()?;
        if self.long.is_none() {
            if let Some(Record { len, kind }) = self.place.record(self.end.channel(), &self.extent)? {
                if kind == FIRST | LAST {
                    return Ok(Found::InPlace(len));
                }
            }
        }
        let fetched = self.fetch_slowly(buffer, patience);
        if !matches!(fetched, Ok(Found::Fetched(_))) {
            self.keep(buffer);
        }
        fetched
    }

    #[cold]
    fn fetch_slowly(&mut self, buffer: &mut [u8], patience: Patience) -> Result<Found, RecvError> {
        let mut has_waited = false;
        loop {
            if let Some(found) = self.look(buffer)? {
                return Ok(found);
            }
            match patience {
                Patience::Until(deadline) => {
                    // A sender that sends part after part does not lift the deadline.
                    if has_waited && deadline.is_some_and(Deadline::has_passed) {
                        return Err(RecvError::TimedOut);
                    }
                    self.wait_for_record(deadline)?;
                    has_waited = true;
                }
                Patience::None => {
                    if !self.end.is_other_gone_at_leisure()? {
                        self.end.go_without(self.place.position)?;
                        return Err(RecvError::Empty);
                    }
                    // What was sent before that may have been missed by the look before.
                    return self.look(buffer)?.ok_or(RecvError::Disconnected);
                }
            }
        }
    }

    /// Looks for a whole frame, and takes all other records out of the ring.
    pub(super) fn look(&mut self, buffer: &mut [u8]) -> Result<Option<Found>, Ended> {
        self.end.check()?;
        if let Some(long) = self.long.as_ref().filter(|long| long.done == long.len) {
            return Ok(Some(Found::Kept(long.len)));
        }
        let start = self.place.position;
        while let Some(record) = self.place.record(self.end.channel(), &self.extent)? {
            match record.kind {
                PAD => self.consume(record.len),
                kind if kind == FIRST | LAST => {
                    // The sender has given up the long one that came before it.
                    self.long = None;
                    return Ok(Some(Found::InPlace(record.len)));
                }
                kind => {
                    self.take_part(record, buffer)?;
                    if let (true, Some(long)) = (kind & LAST != 0, &self.long) {
                        let is_kept = long.bytes.len() == long.len;
                        return Ok(Some(if is_kept { Found::Kept(long.len) } else { Found::Fetched(long.len) }));
                    }
                }
            }
            // A sender that is as fast must not keep the caller from looking at the clock.
            if self.place.position.wrapping_sub(start) > self.extent.size as u64 {
                return Ok(None);
            }
        }
        Ok(None)
    }

    /// Takes a part of a long frame.
    fn take_part(&mut self, record: Record, buffer: &mut [u8]) -> Result<(), Error> {
        let ring = self.end.channel();
        let (mut from, mut len) = (self.payload(), record.len);
        if record.kind & FIRST != 0 {
            let whole = ring.word(from).load(Relaxed) as usize;
            self.check_length(whole)?;
            self.long = Some(Long { len: whole, done: 0, bytes: Vec::new() });
            (from, len) = (from + WORD, len - WORD);
        }
        // Without a beginning: the rest of what a predecessor has begun to receive.
        if let Some(long) = &mut self.long {
            let end = long.done.checked_add(len).filter(|end| *end <= long.len);
            let Some(end) = end.filter(|end| (*end == long.len) == (record.kind & LAST != 0)) else {
                return Err(Error::Corrupted { what: "length of a frame", found: long.len as u64 });
            };
            if long.bytes.len() == long.done && (long.done > 0 || long.len > buffer.len()) {
                // No more memory than for what there really is: the length of the whole may be nonsense.
                long.bytes.resize(end, 0);
                ring.load(from, &mut long.bytes[long.done..]);
            } else {
                ring.load(from, &mut buffer[long.done..end]);
            }
            long.done = end;
        }
        self.consume(record.len);
        Ok(())
    }

    #[inline]
    fn check_length(&self, len: usize) -> Result<(), Error> {
        if len <= self.longest {
            return Ok(());
        }
        Err(Error::Corrupted { what: "length of a frame, which is above what was allowed", found: len as u64 })
    }

    /// Keeps what has been put into `buffer` of a frame that is not whole yet.
    fn keep(&mut self, buffer: &[u8]) {
        if let Some(long) = &mut self.long {
            if long.bytes.is_empty() {
                long.bytes.extend_from_slice(&buffer[..long.done]);
            }
        }
    }

    /// Takes a record of this length out of the ring: it has been copied, or is not needed.
    #[inline]
    fn consume(&mut self, len: usize) {
        crash_point!("bytes.recv.after_copy");
        self.place = self.place.plus(&self.extent, stride(len));
        // Release pairs with the Acquire of the sender, which then may write over it.
        self.end.channel().received.store(self.place.position, Release);
        crash_point!("bytes.recv.after_received");
        self.end.tell(Self::SIDE);
    }

    #[cold]
    fn wait_for_record(&mut self, deadline: Option<Deadline>) -> Result<(), Ended> {
        self.end.expect(self.place.position);
        let (ring, place, extent) = (self.end.channel(), self.place, self.extent);
        self.end.wait(deadline, || place.record(ring, &extent).map(|record| record.map(|_| ())).transpose())??;
        Ok(())
    }
}

/// Whether the record at this position has come, or there is garbage, which is for the owner to find.
#[cfg(not(ipc_loom))]
fn has_come(ring: &SharedBytes, extent: &Extent, position: u64) -> bool {
    !matches!(Place::of(position, extent).record(ring, extent), Ok(None))
}

/// Ready when there is a whole frame, or nobody is there who would send one.
impl Source for ByteReceiver {
    fn word(&self) -> &dyn FutexWord {
        self.end.word()
    }

    fn is_ready(&mut self) -> bool {
        // What is wrong, the receiving tells.
        !matches!(self.look(&mut []), Ok(None)) || self.end.is_other_gone().unwrap_or(true)
    }

    fn arm(&mut self) -> Result<Armed, Error> {
        self.end.expect(self.place.position);
        self.end.arm()
    }

    fn disarm(&mut self, _may_be_woken: bool) {
        self.end.disarm();
    }
}

/// The frames of a [`ByteReceiver`], as they come.
#[derive(Debug)]
pub struct Frames<'a> {
    receiver: &'a mut ByteReceiver,
}

impl Iterator for Frames<'_> {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        self.receiver.recv().ok()
    }
}

impl<'a> IntoIterator for &'a mut ByteReceiver {
    type Item = Vec<u8>;
    type IntoIter = Frames<'a>;

    fn into_iter(self) -> Frames<'a> {
        self.iter()
    }
}

impl fmt::Debug for ByteReceiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ByteReceiver")
            .field("capacity", &self.extent.size)
            .field("position", &self.place.position)
            .finish_non_exhaustive()
    }
}
