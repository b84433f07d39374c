//! Pipes: typed channels, both ways or one way, by name.
//!
//! # Shared layout
//!
//! ```text
//! one way:   | Ring<T> | cells |
//! both ways: | Ring<T> forth | Ring<T> back | cells forth | cells back |
//! ```
//!
//! `forth` is the ring that the creator sends into. The creator has its end of both from the beginning; whoever comes later claims one after the
//! other, see `duplex`.

use core::fmt;
use core::mem::offset_of;
use core::time::Duration;

use bytemuck::Pod;
use shmkit_core::{Described, Error, Fingerprint, Region, ShmSafe, Tailed, TypeName, crash_point};

use crate::duplex;
use crate::endpoint::sealed::{Role, Sealed};
use crate::endpoint::{ChannelOptions, Endpoint};
use crate::ends::{Claim, Side};
use crate::error::{OpenError, RecvError, SendError};
use crate::receiver::Receiver;
use crate::ring::{Ring, Shared};
use crate::sender::Sender;

/// How many messages fit in if nothing else is said.
const DEFAULT_CAPACITY: u64 = 64;

/// Version of the layout above.
const LAYOUT: u32 = 1;

/// What lies at the beginning of a duplex channel.
#[repr(C)]
#[derive(Debug)]
struct Duplex<T> {
    forth: Ring<T>,
    back: Ring<T>,
}

// SAFETY: `repr(C)`, and the fingerprint covers name, version, size and both fields.
unsafe impl<T: Described> Described for Duplex<T> {
    const FINGERPRINT: Fingerprint = Fingerprint::new("Duplex", LAYOUT, size_of::<Self>(), align_of::<Self>())
        .field("forth", offset_of!(Self, forth), Ring::<T>::FINGERPRINT)
        .field("back", offset_of!(Self, back), Ring::<T>::FINGERPRINT);

    fn type_name(f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Duplex<{}>", TypeName::<T>::new())
    }
}

// SAFETY: two of what is safe, without padding.
unsafe impl<T: Described + 'static> ShmSafe for Duplex<T> {}

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

impl<T: Pod + Described> Endpoint for Pipe<T> {
    type Peer = Self;
}

impl<T: Pod + Described> Sealed for Pipe<T> {
    fn size(capacity: u64) -> Option<usize> {
        Ring::<T>::bytes(or_default(capacity))?.checked_mul(2)?.checked_add(size_of::<Duplex<T>>())
    }

    fn insert(region: &Region, name: &str, capacity: u64, successors: bool) -> Result<Self, OpenError> {
        let capacity = or_default(capacity);
        let bytes = Ring::<T>::bytes(capacity).and_then(|bytes| bytes.checked_mul(2));
        let bytes = bytes.ok_or(Error::NoSpace { bytes: u64::MAX })?;
        let (out, into) = (Claim::of_creator(Side::Sender)?, Claim::of_creator(Side::Receiver)?);
        let ring = |claim| Ring::new(capacity, successors, Some(claim));
        let duplex = Duplex::<T> { forth: ring(&out), back: ring(&into) };
        let (forth, back) = rings(&region.insert_tailed(name, duplex, bytes)?)?;
        let sender = Sender::of_creator(forth.clone(), out, Some(back.clone()))?;
        Ok(Self { sender, receiver: Receiver::of_creator(back, into, Some(forth))? })
    }

    fn claim(region: &Region, name: &str, role: Role) -> Result<Self, OpenError> {
        let (forth, back) = rings(&region.get_tailed::<Duplex<T>>(name)?)?;
        let (out, into) = match role {
            Role::First => (forth, back),
            Role::Second => (back, forth),
        };
        let (sender, receiver) = duplex::claim(out, into)?;
        Ok(Self { sender, receiver })
    }
}

/// The ring forth and the ring back.
fn rings<T: Pod + Described>(duplex: &Tailed<Duplex<T>>) -> Result<(Shared<T>, Shared<T>), Error> {
    let half = duplex.len() / 2;
    // Both are to begin and end at a line.
    if half % 64 != 0 || half * 2 != duplex.len() {
        return Err(Error::Corrupted { what: "size of a pipe", found: duplex.len() as u64 });
    }
    Ok((duplex.part(|duplex| &duplex.forth, 0, half), duplex.part(|duplex| &duplex.back, half, half)))
}

/// Implements an end of a channel for one way, which is a ring by itself.
macro_rules! one_way {
    ($end:ident, $peer:ident) => {
        impl<T: Pod + Described> Endpoint for $end<T> {
            type Peer = $peer<T>;
        }

        impl<T: Pod + Described> Sealed for $end<T> {
            fn size(capacity: u64) -> Option<usize> {
                Ring::<T>::bytes(or_default(capacity))?.checked_add(size_of::<Ring<T>>())
            }

            fn insert(region: &Region, name: &str, capacity: u64, successors: bool) -> Result<Self, OpenError> {
                let capacity = or_default(capacity);
                let bytes = Ring::<T>::bytes(capacity).ok_or(Error::NoSpace { bytes: u64::MAX })?;
                let claim = Claim::of_creator(Side::$end)?;
                let ring = region.insert_tailed(name, Ring::new(capacity, successors, Some(&claim)), bytes)?;
                Self::of_creator(ring, claim, None)
            }

            fn claim(region: &Region, name: &str, _role: Role) -> Result<Self, OpenError> {
                Self::claim(region.get_tailed(name)?, None)
            }
        }
    };
}

one_way!(Sender, Receiver);
one_way!(Receiver, Sender);
