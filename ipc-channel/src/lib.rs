//! Message passing between processes that survives `kill -9`: part of shmkit.
//!
//! * [`Pipe`]: messages of one type, both ways between two processes; [`Sender`] and [`Receiver`]: its halves, also for one way alone;
//! * [`BytePipe`]: frames, messages of any length, in the same way; [`ByteSender`] and [`ByteReceiver`]: its halves. They also write and read
//!   in place ([`Reservation`], [`Peek`]), and become streams ([`PipeStream`], [`PipeWriter`], [`PipeReader`]);
//! * [`Queue`]: messages of one type, from any number of producers to any number of consumers.
//!
//! With the feature `serde`, the ends for bytes send and receive values of any type that serde knows.
//!
//! An end of a pipe belongs to one process at a time. When that process is killed, the other side gets the messages that were sent, and
//! then [`Disconnected`](RecvError::Disconnected), at once. A queue belongs to nobody, and goes on whoever dies.
//!
//! Among peers that are not trusted, the same channels are to be had as [`UntrustedEnd`]s and [`UntrustedQueue`]s, which copy and wait with a bound.
//!
//! # Several at once
//!
//! Ends are [`Source`](shmkit_core::wait::Source)s: [`wait_any`](shmkit_core::wait_any) waits for whichever of them comes first, and for events, semaphores and
//! the deaths of processes besides.
//!
//! ```
//! use shmkit_channel::{ChannelOptions, Receiver, RecvError, Sender};
//! use shmkit_core::wait_any;
//! use shmkit_sync::Event;
//!
//! let (mut red, mut from_red): (Sender<u32>, Receiver<u32>) = ChannelOptions::new().both()?;
//! let (green, mut from_green): (Sender<u32>, Receiver<u32>) = ChannelOptions::new().both()?;
//! let stop = Event::new();
//!
//! red.send(7)?;
//! // What comes first in the slice, is told first: here, that all is to end.
//! let mut next = || match wait_any(&mut [&mut stop.until_set(), &mut from_red, &mut from_green], None)? {
//!     Some(1) => Ok(Some(from_red.try_recv())),
//!     Some(2) => Ok(Some(from_green.try_recv())),
//!     _ => Ok::<_, shmkit_core::Error>(None),
//! };
//! assert!(matches!(next()?, Some(Ok(7))));
//! drop(green);
//! assert!(matches!(next()?, Some(Err(RecvError::Disconnected))));
//! stop.set();
//! assert!(next()?.is_none());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![cfg_attr(ipc_loom, allow(dead_code, reason = "models leave out what meets the kernel"))]

mod bell;
mod bytes;
mod duplex;
mod end;
#[cfg(not(ipc_loom))]
mod endpoint;
mod ends;
mod error;
#[cfg(ipc_loom)]
pub mod model;
#[cfg(not(ipc_loom))]
mod pipe;
mod queue;
mod readiness;
mod receiver;
mod ring;
mod sender;
#[cfg(not(ipc_loom))]
mod ticket;
#[cfg(not(ipc_loom))]
mod untrusted;

#[cfg(not(ipc_loom))]
pub use bytes::{BytePipe, Peek, PipeReader, PipeStream, PipeWriter, Reservation};
pub use bytes::{ByteReceiver, ByteSender, Frames};
#[cfg(all(feature = "serde", not(ipc_loom)))]
pub use bytes::{CodecError, RecvValueError, SendValueError};
#[cfg(not(ipc_loom))]
pub use endpoint::{ChannelOptions, Endpoint};
pub use error::{OpenError, RecvError, SendError};
#[cfg(not(ipc_loom))]
pub use pipe::Pipe;
#[cfg(not(ipc_loom))]
pub use queue::QueueOptions;
pub use queue::{Queue, QueueIter};
pub use readiness::Readiness;
pub use receiver::{Incoming, Receiver};
pub use sender::Sender;
#[cfg(not(ipc_loom))]
pub use ticket::Ticket;
#[cfg(not(ipc_loom))]
pub use untrusted::{UntrustedEnd, UntrustedQueue};
