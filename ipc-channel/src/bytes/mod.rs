//! Channels for bytes: frames of any length, in place where both sides trust each other, and streams.

#[cfg(not(ipc_loom))]
mod in_place;
#[cfg(not(ipc_loom))]
mod pipe;
mod receiver;
mod ring;
mod sender;
#[cfg(not(ipc_loom))]
mod stream;
#[cfg(all(feature = "serde", not(ipc_loom)))]
mod values;

#[cfg(not(ipc_loom))]
pub use in_place::{Peek, Reservation};
#[cfg(not(ipc_loom))]
pub use pipe::BytePipe;
pub use receiver::{ByteReceiver, Frames};
#[cfg(ipc_loom)]
pub(crate) use ring::{ByteRing, SharedBytes};
pub use sender::ByteSender;
#[cfg(not(ipc_loom))]
pub use stream::{PipeReader, PipeStream, PipeWriter};
#[cfg(all(feature = "serde", not(ipc_loom)))]
pub use values::{CodecError, RecvValueError, SendValueError};
