//! What models have in the place of regions and names.

use std::sync::Arc;

use bytemuck::Pod;
use shmkit_core::{Described, Tailed};

use crate::bell::Bell;
use crate::bytes::{ByteReceiver, ByteRing, ByteSender, SharedBytes};
use crate::duplex::{self, Half};
use crate::error::{OpenError, RecvError};
use crate::readiness::Readiness;
use crate::receiver::Receiver;
use crate::ring::{Ring, Shared};
use crate::sender::Sender;

/// Claims the end of a pipe that sends to `out` and receives from `into`.
#[allow(clippy::missing_errors_doc, reason = "for models")]
pub fn pipe_end<T: Pod + Described>(
    out: &Channel<T>,
    into: &Channel<T>,
) -> Result<(Sender<T>, Receiver<T>), OpenError> {
    duplex::take(out.0.clone(), into.0.clone())
}

/// A typed channel, one way.
#[derive(Clone, Debug)]
pub struct Channel<T: Pod + Described>(Shared<T>);

impl<T: Pod + Described> Channel<T> {
    /// A channel whose ends nobody has.
    pub fn new(capacity: u64, successors: bool) -> Self {
        let bytes = Ring::<T>::bytes(capacity).expect("a small one");
        Self(Tailed::new(Ring::new(capacity, successors, None), bytes))
    }

    /// Claims the sending end for the process that the calling thread acts for.
    #[allow(clippy::missing_errors_doc, reason = "for models")]
    pub fn sender(&self) -> Result<Sender<T>, OpenError> {
        Sender::take(self.0.clone(), None)
    }

    /// Claims the receiving end.
    #[allow(clippy::missing_errors_doc, reason = "for models")]
    pub fn receiver(&self) -> Result<Receiver<T>, OpenError> {
        Receiver::take(self.0.clone(), None)
    }
}

/// The bell of a channel, as it comes with a ticket.
#[derive(Clone, Debug)]
pub struct Carried(Arc<Bell>);

impl Carried {
    /// A new one.
    #[allow(clippy::new_without_default, reason = "for models")]
    pub fn new() -> Self {
        Self(Arc::new(Bell::new().expect("a word")))
    }

    /// Gives it to the sender.
    pub fn carry<T: Pod + Described>(&self, sender: &mut Sender<T>) {
        Half::carry(sender, &self.0);
    }

    /// The readiness of a receiver that has it.
    #[allow(clippy::missing_errors_doc, reason = "for models")]
    pub fn readiness<T: Pod + Described>(&self, receiver: &mut Receiver<T>) -> Result<Readiness, RecvError> {
        receiver.readiness_by_bell(&self.0)
    }
}

/// A channel for bytes, one way.
#[derive(Clone, Debug)]
pub struct ByteChannel(SharedBytes);

impl ByteChannel {
    /// A channel of `size` bytes whose ends nobody has.
    pub fn new(size: usize, successors: bool) -> Self {
        Self(Tailed::new(ByteRing::new(size as u64, successors, None), size))
    }

    /// Claims the sending end for the process that the calling thread acts for.
    #[allow(clippy::missing_errors_doc, reason = "for models")]
    pub fn sender(&self) -> Result<ByteSender, OpenError> {
        ByteSender::take(self.0.clone(), None)
    }

    /// Claims the receiving end.
    #[allow(clippy::missing_errors_doc, reason = "for models")]
    pub fn receiver(&self) -> Result<ByteReceiver, OpenError> {
        ByteReceiver::take(self.0.clone(), None)
    }
}
