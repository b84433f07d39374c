//! Channels for bytes, both ways or one way, by name.
//! What lies where is said in `duplex` and `ring`.

use core::time::Duration;

#[cfg(doc)]
use shmkit_core::Error;
use shmkit_core::crash_point;

use super::receiver::ByteReceiver;
use super::ring::ByteRing;
use super::sender::ByteSender;
use super::stream::PipeStream;
use crate::duplex::{duplex_endpoint, one_way_endpoint, receiving_source};
use crate::endpoint::ChannelOptions;
#[cfg(doc)]
use crate::endpoint::Endpoint;
use crate::ends::Claim;
use crate::error::{OpenError, RecvError, SendError};
use crate::readiness::Readiness;

/// How many bytes fit in if nothing else is said.
const DEFAULT_CAPACITY: u64 = 64 << 10;

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

    /// See [`ByteReceiver::readiness`].
    #[allow(clippy::missing_errors_doc, reason = "said there")]
    pub fn readiness(&mut self) -> Result<Readiness, RecvError> {
        self.receiver.readiness()
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

fn ring(_capacity: u64, size: usize, successors: bool, creator: &Claim) -> ByteRing {
    ByteRing::new(size as u64, successors, Some(creator))
}

duplex_endpoint!([] BytePipe, ByteSender, ByteReceiver, size, ring);
one_way_endpoint!([] ByteSender, ByteReceiver, size, ring);
one_way_endpoint!([] ByteReceiver, ByteSender, size, ring);
receiving_source!([] BytePipe, receiver);
