//! How one process gets its end of a duplex channel, which is the sender of one ring and the receiver of another.
//!
//! The two are claimed one after the other, the sender first, so it decides who of several gets the end. A process that is killed in between
//! has the sender of one ring, and the receiver of the other is as if somebody were yet to come. So each end knows the other ring of its
//! channel as well: where nobody has come yet, it asks whether somebody has come there, and died. See `End::is_other_gone_at`.

use bytemuck::Pod;
#[cfg(not(ipc_loom))]
use shmkit_core::identity::Token;
use shmkit_core::{Described, crash_point};

#[cfg(not(ipc_loom))]
use crate::end::Head;
#[cfg(not(ipc_loom))]
use crate::ends::Side;
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

/// The same for an end that is reserved under `token`.
#[cfg(not(ipc_loom))]
pub(crate) fn claim_reserved<T: Pod + Described>(
    out: Shared<T>,
    into: Shared<T>,
    token: Token,
) -> Result<(Sender<T>, Receiver<T>), OpenError> {
    let sending = out.ends().claim_reserved(Side::Sender, token)?;
    let sender = Sender::of_claim(out.clone(), sending, Some(into.clone()))?;
    crash_point!("pipe.claim_reserved.between");
    let receiving = into.ends().claim_reserved(Side::Receiver, token).map_err(OpenError::from);
    match receiving.and_then(|receiving| Receiver::of_claim(into, receiving, Some(out))) {
        Ok(receiver) => Ok((sender, receiver)),
        Err(error) => {
            sender.unclaim();
            Err(error)
        }
    }
}
