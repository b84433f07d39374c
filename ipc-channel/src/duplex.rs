//! How one process gets its end of a duplex channel, which is the sender of one ring and the receiver of another.
//!
//! The two are claimed one after the other, the sender first, so it decides who of several gets the end. A process that is killed in between
//! has the sender of one ring, and the receiver of the other is as if somebody were yet to come. So each end knows the other ring of its
//! channel as well: where nobody has come yet, it asks whether somebody has come there, and died. See `End::is_other_gone_at`.

use bytemuck::Pod;
use shmkit_core::{Described, crash_point};

use crate::error::OpenError;
use crate::receiver::Receiver;
use crate::ring::Shared;
use crate::sender::Sender;

/// Claims the end that sends to `out` and receives from `into`: both or none.
pub(crate) fn claim<T: Pod + Described>(
    out: Shared<T>,
    into: Shared<T>,
) -> Result<(Sender<T>, Receiver<T>), OpenError> {
    let sender = Sender::claim(out.clone(), Some(into.clone()))?;
    crash_point!("pipe.claim.between");
    match Receiver::claim(into, Some(out)) {
        Ok(receiver) => Ok((sender, receiver)),
        Err(error) => {
            sender.unclaim();
            Err(error)
        }
    }
}
