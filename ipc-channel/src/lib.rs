//! Message passing between processes that survives `kill -9`: part of shmkit.
//!
//! * [`Pipe`]: messages of one type, both ways between two processes; [`Sender`] and [`Receiver`]: its halves, also for one way alone.
//! * [`BytePipe`]: frames, messages of any length, in the same way; [`ByteSender`] and [`ByteReceiver`]: its halves. They also write and read
//!   in place ([`Reservation`], [`Peek`]), and become streams ([`PipeStream`], [`PipeWriter`], [`PipeReader`]).
//!
//! With the feature `serde`, the ends for bytes send and receive values of any type that serde knows.
//!
//! An end of a pipe belongs to one process at a time. When that process is killed, the other side gets the messages that were sent, and
//! then [`Disconnected`](RecvError::Disconnected), at once.

#![cfg_attr(ipc_loom, allow(dead_code, reason = "models leave out what meets the kernel"))]

mod bytes;
mod end;
#[cfg(not(ipc_loom))]
mod endpoint;
mod ends;
mod error;
#[cfg(ipc_loom)]
pub mod model;
#[cfg(not(ipc_loom))]
mod pipe;
mod receiver;
mod ring;
mod sender;

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
pub use receiver::{Iter, Receiver};
pub use sender::Sender;
