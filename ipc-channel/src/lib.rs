//! Message passing between processes that survives `kill -9`: part of shmkit.
//!
//! * [`Pipe`]: messages of one type, both ways between two processes; [`Sender`] and [`Receiver`]: its halves, also for one way alone;
//! * [`Queue`]: messages of one type, from any number of producers to any number of consumers.
//!
//! An end of a pipe belongs to one process at a time. When that process is killed, the other side gets the messages that were sent, and
//! then [`Disconnected`](RecvError::Disconnected), at once. A queue belongs to nobody, and goes on whoever dies.

#![cfg_attr(ipc_loom, allow(dead_code, reason = "models leave out what meets the kernel"))]

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
