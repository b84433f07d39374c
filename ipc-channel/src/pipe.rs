//! Pipes: typed channels, both ways or one way, by name.
//! What lies where is said in `duplex` and `ring`.

use core::time::Duration;

use bytemuck::Pod;
#[cfg(doc)]
use shmkit_core::Error;
use shmkit_core::{Described, crash_point};

use crate::duplex::{duplex_endpoint, one_way_endpoint, receiving_source};
use crate::endpoint::ChannelOptions;
#[cfg(doc)]
use crate::endpoint::Endpoint;
use crate::ends::Claim;
use crate::error::{OpenError, RecvError, SendError};
use crate::readiness::Readiness;
use crate::receiver::Receiver;
use crate::ring::Ring;
use crate::sender::Sender;

/// How many messages fit in if nothing else is said.
const DEFAULT_CAPACITY: u64 = 64;

/// An end of a duplex channel for messages of type `T`: each of two processes sends to the other and receives from it.
///
/// A message is any plain value. What is sent arrives whole, once, and in order, unless the receiver is gone. When the other end is
/// closed, or its process killed, what it has sent can still be received, and then [`RecvError::Disconnected`] tells so, at once.
///
/// An end belongs to the process that has opened it: a forked child gets an error ([`Error::Forked`]). The two halves can be
/// [split](Self::split) for two threads. For one way alone there are [`Sender`] and [`Receiver`] by themselves.
///
/// # Examples
///
/// ```
/// use shmkit_channel::{Endpoint, Pipe};
///
/// # let name = format!("shmkit-doc-pipe-{}", std::process::id());
/// let mut client = Pipe::<[u32; 2]>::create(&name, 16)?;
///
/// // In another process:
/// let mut server = Pipe::<[u32; 2]>::open(&name)?;
/// # client.send([2, 3])?;
/// let [a, b] = server.recv()?;
/// server.send([a + b, a * b])?;
///
/// // Back in the first:
/// # let name = ();
/// assert_eq!(client.recv()?, [5, 6]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Pipe<T: Pod + Described> {
    sender: Sender<T>,
    receiver: Receiver<T>,
}

impl<T: Pod + Described> Pipe<T> {
    /// Makes a pipe with room for `capacity` messages each way, which another process can [open](Endpoint::open) by `name`.
    ///
    /// # Errors
    ///
    /// As for [`ChannelOptions::create`], which has more to choose from.
    pub fn create(name: &str, capacity: u64) -> Result<Self, OpenError> {
        ChannelOptions::new().capacity(capacity).create(name)
    }

    /// See [`Sender::send`].
    #[allow(clippy::missing_errors_doc, reason = "said there")]
    #[inline]
    pub fn send(&mut self, message: T) -> Result<(), SendError<T>> {
        self.sender.send(message)
    }

    /// See [`Sender::send_timeout`].
    #[allow(clippy::missing_errors_doc, reason = "said there")]
    pub fn send_timeout(&mut self, message: T, timeout: Duration) -> Result<(), SendError<T>> {
        self.sender.send_timeout(message, timeout)
    }

    /// See [`Sender::try_send`].
    #[allow(clippy::missing_errors_doc, reason = "said there")]
    #[inline]
    pub fn try_send(&mut self, message: T) -> Result<(), SendError<T>> {
        self.sender.try_send(message)
    }

    /// See [`Receiver::recv`].
    #[allow(clippy::missing_errors_doc, reason = "said there")]
    #[inline]
    pub fn recv(&mut self) -> Result<T, RecvError> {
        self.receiver.recv()
    }

    /// See [`Receiver::recv_timeout`].
    #[allow(clippy::missing_errors_doc, reason = "said there")]
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<T, RecvError> {
        self.receiver.recv_timeout(timeout)
    }

    /// See [`Receiver::try_recv`].
    #[allow(clippy::missing_errors_doc, reason = "said there")]
    #[inline]
    pub fn try_recv(&mut self) -> Result<T, RecvError> {
        self.receiver.try_recv()
    }

    /// See [`Receiver::poll`].
    #[allow(clippy::missing_errors_doc, reason = "said there")]
    pub fn poll(&mut self, timeout: Duration) -> Result<bool, RecvError> {
        self.receiver.poll(timeout)
    }

    /// See [`Receiver::readiness`].
    #[allow(clippy::missing_errors_doc, reason = "said there")]
    pub fn readiness(&mut self) -> Result<Readiness, RecvError> {
        self.receiver.readiness()
    }

    /// The half that sends, with all that it can do.
    pub fn sender(&mut self) -> &mut Sender<T> {
        &mut self.sender
    }

    /// The half that receives, with all that it can do.
    pub fn receiver(&mut self) -> &mut Receiver<T> {
        &mut self.receiver
    }

    /// Takes the pipe apart, for two threads. Each half closes its own way when it is dropped.
    pub fn split(self) -> (Sender<T>, Receiver<T>) {
        (self.sender, self.receiver)
    }

    /// Whether this end was closed, or nobody is at the other one. May be outdated when it returns, if it says no.
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed() && self.receiver.is_closed()
    }

    /// Closes this end. What has been sent can still be received there, what has come and was not received is lost. Does nothing if it is
    /// closed already.
    pub fn close(&mut self) {
        self.sender.close();
        crash_point!("pipe.close.between");
        self.receiver.close();
    }
}

fn or_default(capacity: u64) -> u64 {
    if capacity == 0 { DEFAULT_CAPACITY } else { capacity }
}

/// The size of the cells for so many messages; `None` if that is more than there can be.
fn bytes<T: Pod + Described>(capacity: u64) -> Option<usize> {
    Ring::<T>::bytes(or_default(capacity))
}

fn ring<T: Pod + Described>(capacity: u64, _bytes: usize, successors: bool, creator: &Claim) -> Ring<T> {
    Ring::new(or_default(capacity), successors, Some(creator))
}

duplex_endpoint!([T: Pod + Described] Pipe<T>, Sender<T>, Receiver<T>, bytes::<T>, ring::<T>);
one_way_endpoint!([T: Pod + Described] Sender<T>, Receiver<T>, bytes::<T>, ring::<T>);
one_way_endpoint!([T: Pod + Described] Receiver<T>, Sender<T>, bytes::<T>, ring::<T>);
receiving_source!([T: Pod + Described] Pipe<T>, receiver);
