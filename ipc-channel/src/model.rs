//! What models have in the place of regions and names.

use bytemuck::Pod;
use shmkit_core::{Described, Tailed};

use crate::duplex;
use crate::error::OpenError;
use crate::receiver::Receiver;
use crate::ring::{Ring, Shared};
use crate::sender::Sender;

/// Claims the end of a pipe that sends to `out` and receives from `into`.
#[allow(clippy::missing_errors_doc, reason = "for models")]
pub fn pipe_end<T: Pod + Described>(
    out: &Channel<T>,
    into: &Channel<T>,
) -> Result<(Sender<T>, Receiver<T>), OpenError> {
    duplex::claim(out.0.clone(), into.0.clone())
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
        Sender::claim(self.0.clone(), None)
    }

    /// Claims the receiving end.
    #[allow(clippy::missing_errors_doc, reason = "for models")]
    pub fn receiver(&self) -> Result<Receiver<T>, OpenError> {
        Receiver::claim(self.0.clone(), None)
    }
}
