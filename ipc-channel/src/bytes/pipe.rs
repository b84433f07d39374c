//! Channels for bytes, both ways or one way, by name.
//!
//! # Shared layout
//!
//! ```text
//! one way:   | ByteRing | bytes |
//! both ways: | ByteRing forth | ByteRing back | bytes forth | bytes back |
//! ```
//!
//! As for [`Pipe`](crate::Pipe).

use core::fmt;
use core::mem::offset_of;
use core::time::Duration;

use shmkit_core::{Described, Error, Fingerprint, Region, ShmSafe, crash_point};

use super::receiver::ByteReceiver;
use super::ring::ByteRing;
use super::sender::ByteSender;
use super::stream::PipeStream;
use crate::endpoint::sealed::{Role, Sealed};
use crate::endpoint::{ChannelOptions, Endpoint};
use crate::error::{OpenError, RecvError, SendError};

/// How many bytes fit in if nothing else is said.
const DEFAULT_CAPACITY: u64 = 64 << 10;

/// Version of the layout above.
const LAYOUT: u32 = 1;

/// What lies at the beginning of a duplex channel.
#[repr(C)]
#[derive(Debug)]
struct ByteDuplex {
    forth: ByteRing,
    back: ByteRing,
}

// SAFETY: `repr(C)`, and the fingerprint covers name, version, size and both fields.
unsafe impl Described for ByteDuplex {
    const FINGERPRINT: Fingerprint = Fingerprint::new("ByteDuplex", LAYOUT, size_of::<Self>(), align_of::<Self>())
        .field("forth", offset_of!(Self, forth), ByteRing::FINGERPRINT)
        .field("back", offset_of!(Self, back), ByteRing::FINGERPRINT);

    fn type_name(f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ByteDuplex")
    }
}

// SAFETY: two of what is safe, without padding.
unsafe impl ShmSafe for ByteDuplex {}

/// An end of a duplex channel for frames: each of two processes sends messages of bytes, of any length, to the other and receives such from it.
///
/// What is sent arrives whole, once, and in order, unless the receiver is gone. When the other end is closed, or its process killed,
/// what it has sent can still be received, and then [`RecvError::Disconnected`] tells so, at once.
///
/// An end belongs to the process that has opened it: a forked child gets an error ([`Error::Forked`]). The two halves can be
/// [split](Self::split) for two threads. For one way alone there are [`ByteSender`] and [`ByteReceiver`] by themselves; for bytes without
/// frames there is [`PipeStream`].
///
/// # Examples
///
/// ```
/// use shmkit_channel::{BytePipe, Endpoint};
///
/// # let name = format!("shmkit-doc-byte-pipe-{}", std::process::id());
/// let mut client = BytePipe::create(&name, 4096)?;
///
/// // In another process:
/// let mut server = BytePipe::open(&name)?;
/// # client.send(b"any length")?;
/// let question = server.recv()?;
/// server.send(format!("{} bytes", question.len()).as_bytes())?;
///
/// // Back in the first:
/// assert_eq!(client.recv()?, b"10 bytes");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct BytePipe {
    sender: ByteSender,
    receiver: ByteReceiver,
}

impl BytePipe {
    /// Makes a pipe with room for `capacity` bytes each way, which another process can [open](Endpoint::open) by `name`.
    ///
    /// # Errors
    ///
    /// As for [`ChannelOptions::create`], which has more to choose from.
    pub fn create(name: &str, capacity: u64) -> Result<Self, OpenError> {
        ChannelOptions::new().capacity(capacity).create(name)
    }

    /// See [`ByteSender::send`].
    #[allow(clippy::missing_errors_doc, reason = "said there")]
    #[inline]
    pub fn send(&mut self, frame: &[u8]) -> Result<(), SendError<()>> {
        self.sender.send(frame)
    }

    /// See [`ByteSender::send_timeout`].
    #[allow(clippy::missing_errors_doc, reason = "said there")]
    pub fn send_timeout(&mut self, frame: &[u8], timeout: Duration) -> Result<(), SendError<()>> {
        self.sender.send_timeout(frame, timeout)
    }

    /// See [`ByteSender::try_send`].
    #[allow(clippy::missing_errors_doc, reason = "said there")]
    #[inline]
    pub fn try_send(&mut self, frame: &[u8]) -> Result<(), SendError<()>> {
        self.sender.try_send(frame)
    }

    /// See [`ByteReceiver::recv`].
    #[allow(clippy::missing_errors_doc, reason = "said there")]
    pub fn recv(&mut self) -> Result<Vec<u8>, RecvError> {
        self.receiver.recv()
    }

    /// See [`ByteReceiver::recv_timeout`].
    #[allow(clippy::missing_errors_doc, reason = "said there")]
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Vec<u8>, RecvError> {
        self.receiver.recv_timeout(timeout)
    }

    /// See [`ByteReceiver::try_recv`].
    #[allow(clippy::missing_errors_doc, reason = "said there")]
    pub fn try_recv(&mut self) -> Result<Vec<u8>, RecvError> {
        self.receiver.try_recv()
    }

    /// See [`ByteReceiver::recv_into`].
    #[allow(clippy::missing_errors_doc, reason = "said there")]
    #[inline]
    pub fn recv_into(&mut self, buffer: &mut [u8]) -> Result<usize, RecvError> {
        self.receiver.recv_into(buffer)
    }

    /// See [`ByteReceiver::poll`].
    #[allow(clippy::missing_errors_doc, reason = "said there")]
    pub fn poll(&mut self, timeout: Duration) -> Result<bool, RecvError> {
        self.receiver.poll(timeout)
    }

    /// The half that sends, with all that it can do.
    pub fn sender(&mut self) -> &mut ByteSender {
        &mut self.sender
    }

    /// The half that receives, with all that it can do.
    pub fn receiver(&mut self) -> &mut ByteReceiver {
        &mut self.receiver
    }

    /// Takes the pipe apart, for two threads. Each half closes its own way when it is dropped.
    pub fn split(self) -> (ByteSender, ByteReceiver) {
        (self.sender, self.receiver)
    }

    /// Makes a stream of it, which reads and writes bytes without frames.
    pub fn into_stream(self) -> PipeStream {
        PipeStream::new(self.sender.into_writer(), self.receiver.into_reader())
    }

    /// Whether this end was closed, or nobody is at the other one. May be outdated when it returns, if it says no.
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed() && self.receiver.is_closed()
    }

    /// Closes this end. What has been sent can still be received there, what has come and was not received is lost. Does nothing if it is
    /// closed already.
    pub fn close(&mut self) {
        self.sender.close();
        crash_point!("bytes.close.between");
        self.receiver.close();
    }
}

/// The size of a ring. `capacity` 0 means the default.
fn size(capacity: u64) -> Option<usize> {
    ByteRing::size(if capacity == 0 { DEFAULT_CAPACITY } else { capacity })
}

fn size_or_error(capacity: u64) -> Result<usize, Error> {
    size(capacity).ok_or(Error::NoSpace { bytes: capacity })
}

impl Endpoint for BytePipe {
    type Peer = Self;
}

impl Sealed for BytePipe {
    fn size(capacity: u64) -> Option<usize> {
        Some(size(capacity)? * 2 + size_of::<ByteDuplex>())
    }

    fn insert(region: &Region, name: &str, capacity: u64, successors: bool) -> Result<(), Error> {
        let size = size_or_error(capacity)?;
        let ring = || ByteRing::new(size as u64, successors);
        region.insert_tailed(name, ByteDuplex { forth: ring(), back: ring() }, size * 2).map(|_| ())
    }

    fn claim(region: &Region, name: &str, role: Role) -> Result<Self, OpenError> {
        let duplex = region.get_tailed::<ByteDuplex>(name)?;
        let half = duplex.len() / 2;
        // Both are to begin and end at a word.
        if half % 64 != 0 || half * 2 != duplex.len() {
            return Err(Error::Corrupted { what: "size of a pipe", found: duplex.len() as u64 }.into());
        }
        let forth = duplex.part(|duplex| &duplex.forth, 0, half);
        let back = duplex.part(|duplex| &duplex.back, half, half);
        let (out, into) = match role {
            Role::First => (forth, back),
            Role::Second => (back, forth),
        };
        let sender = ByteSender::claim(out.clone(), Some(into.clone()))?;
        crash_point!("bytes.claim.between");
        match ByteReceiver::claim(into, Some(out)) {
            Ok(receiver) => Ok(Self { sender, receiver }),
            Err(error) => {
                sender.unclaim();
                Err(error)
            }
        }
    }
}

/// Implements an end of a channel for one way, which is a ring by itself.
macro_rules! one_way {
    ($end:ident, $peer:ident) => {
        impl Endpoint for $end {
            type Peer = $peer;
        }

        impl Sealed for $end {
            fn size(capacity: u64) -> Option<usize> {
                Some(size(capacity)? + size_of::<ByteRing>())
            }

            fn insert(region: &Region, name: &str, capacity: u64, successors: bool) -> Result<(), Error> {
                let size = size_or_error(capacity)?;
                region.insert_tailed(name, ByteRing::new(size as u64, successors), size).map(|_| ())
            }

            fn claim(region: &Region, name: &str, _role: Role) -> Result<Self, OpenError> {
                Self::claim(region.get_tailed(name)?, None)
            }
        }
    };
}

one_way!(ByteSender, ByteReceiver);
one_way!(ByteReceiver, ByteSender);
