//! The halves of a channel, and how one process gets both: the sender of one ring and the receiver of another.
//!
//! # Shared layout
//!
//! ```text
//! one way:   | ring | its bytes |
//! both ways: | ring forth | ring back | bytes forth | bytes back |
//! ```
//!
//! `forth` is the ring that the creator sends into. The creator has its halves from the beginning. Whoever comes later claims one after the other, the
//! sender first, so it decides who of several gets the end. A process that is killed in between has the sender of one ring, and the receiver
//! of the other is as if somebody were yet to come. So each end knows the other ring of its channel as well: where nobody has come yet,
//! it asks whether somebody has come there, and died. See `End::is_other_gone_at`.

#[cfg(not(ipc_loom))]
use core::fmt;
#[cfg(not(ipc_loom))]
use core::mem::offset_of;
use std::sync::Arc;

#[cfg(not(ipc_loom))]
use shmkit_core::identity::Token;
#[cfg(not(ipc_loom))]
use shmkit_core::{Described, Error, Fingerprint, Region, ShmSafe, TypeName};
use shmkit_core::{Tailed, crash_point};

use crate::bell::Bell;
use crate::end::{End, Head};
#[cfg(not(ipc_loom))]
use crate::endpoint::sealed::{OnTicket, Role};
use crate::ends::{Claim, Side};
use crate::error::OpenError;

/// A sender or a receiver of some kind.
pub(crate) trait Half: Sized {
    /// What its channel begins with.
    type Ring: Head;

    /// Which end it is.
    const SIDE: Side;

    /// Finds its place in the ring; if there is none, it undoes the claim.
    fn at(end: End<Self::Ring>) -> Result<Self, OpenError>;

    /// Undoes the claim, as if it had never been made. Nothing has been sent or received.
    fn unclaim(self);

    /// Gives it the bell of its channel.
    fn carry(&mut self, bell: &Arc<Bell>);

    /// Sets the length above which it receives no frames, if it receives any.
    #[cfg(not(ipc_loom))]
    fn set_longest(&mut self, _longest: usize) {}

    /// Claims it. `sibling`: the other ring of a duplex channel.
    fn take(ring: Tailed<Self::Ring>, sibling: Option<Tailed<Self::Ring>>) -> Result<Self, OpenError> {
        Self::at(End::claim(ring, Self::SIDE, sibling)?)
    }

    /// That of one who has it by `claim`.
    fn hold(ring: Tailed<Self::Ring>, claim: Claim, sibling: Option<Tailed<Self::Ring>>) -> Result<Self, OpenError> {
        Self::at(End::of_claim(ring, claim, sibling)?)
    }
}

/// Claims the halves that send to `out` and receive from `into`: both or none.
pub(crate) fn take<S: Half, R: Half<Ring = S::Ring>>(
    out: Tailed<S::Ring>,
    into: Tailed<S::Ring>,
) -> Result<(S, R), OpenError> {
    let sender = S::take(out.clone(), Some(into.clone()))?;
    crash_point!("duplex.take.between");
    with_receiver(sender, R::take(into, Some(out)))
}

/// The sender and the receiver, or neither.
fn with_receiver<S: Half, R: Half>(sender: S, receiver: Result<R, OpenError>) -> Result<(S, R), OpenError> {
    match receiver {
        Ok(receiver) => Ok((sender, receiver)),
        Err(error) => {
            sender.unclaim();
            Err(error)
        }
    }
}

/// What lies at the beginning of a duplex channel.
#[cfg(not(ipc_loom))]
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Duplex<R> {
    /// From the first end to the second.
    forth: R,
    /// From the second end to the first.
    back: R,
}

/// Version of the layout above.
#[cfg(not(ipc_loom))]
const LAYOUT: u32 = 1;

// SAFETY: `repr(C)`, and the fingerprint covers name, version, size and both fields.
#[cfg(not(ipc_loom))]
unsafe impl<R: Described> Described for Duplex<R> {
    const FINGERPRINT: Fingerprint = Fingerprint::new("Duplex", LAYOUT, size_of::<Self>(), align_of::<Self>())
        .field("forth", offset_of!(Self, forth), R::FINGERPRINT)
        .field("back", offset_of!(Self, back), R::FINGERPRINT);

    fn type_name(f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Duplex<{}>", TypeName::<R>::new())
    }
}

// SAFETY: two of what is safe, without padding: the size of a ring is a multiple of its alignment.
#[cfg(not(ipc_loom))]
unsafe impl<R: ShmSafe> ShmSafe for Duplex<R> {}

/// How a process gets one half of a channel for one way.
#[cfg(not(ipc_loom))]
pub(crate) mod one_way {
    use super::*;

    /// Puts a channel into a region. `ring` makes one of `bytes` bytes, given the claim of its creator.
    pub(crate) fn insert<H: Half>(
        region: &Region,
        name: &str,
        bytes: usize,
        ring: impl FnOnce(&Claim) -> H::Ring,
    ) -> Result<H, OpenError> {
        let claim = Claim::of_creator(H::SIDE)?;
        let ring = region.insert_tailed(name, ring(&claim), bytes)?;
        H::hold(ring, claim, None)
    }

    pub(crate) fn claim<H: Half>(region: &Region, name: &str) -> Result<H, OpenError> {
        H::take(region.get_tailed(name)?, None)
    }

    pub(crate) fn claim_reserved<H: Half>(region: &Region, name: &str, token: Token) -> Result<H, OpenError> {
        let ring = region.get_tailed::<H::Ring>(name)?;
        let claim = ring.ends().claim_reserved(H::SIDE, token)?;
        H::hold(ring, claim, None)
    }

    pub(crate) fn on_ticket<H: Half>(
        region: &Region,
        name: &str,
        token: Token,
        act: OnTicket,
    ) -> Result<(), OpenError> {
        Ok(region.get_tailed::<H::Ring>(name)?.ends().on_ticket(H::SIDE, token, act)?)
    }
}

/// How a process gets both halves of a duplex channel.
#[cfg(not(ipc_loom))]
pub(crate) mod both_ways {
    use super::*;

    /// Puts a channel into a region. `ring` makes one of `bytes` bytes, given the claim of its creator.
    pub(crate) fn insert<S: Half, R: Half<Ring = S::Ring>>(
        region: &Region,
        name: &str,
        bytes: usize,
        ring: impl Fn(&Claim) -> S::Ring,
    ) -> Result<(S, R), OpenError> {
        let both = bytes.checked_mul(2).ok_or(Error::NoSpace { bytes: u64::MAX })?;
        let (out, into) = (Claim::of_creator(Side::Sender)?, Claim::of_creator(Side::Receiver)?);
        let duplex = Duplex { forth: ring(&out), back: ring(&into) };
        let (forth, back) = rings(&region.insert_tailed(name, duplex, both)?)?;
        let sender = S::hold(forth.clone(), out, Some(back.clone()))?;
        Ok((sender, R::hold(back, into, Some(forth))?))
    }

    pub(crate) fn claim<S: Half, R: Half<Ring = S::Ring>>(
        region: &Region,
        name: &str,
        role: Role,
    ) -> Result<(S, R), OpenError> {
        let (forth, back) = rings(&region.get_tailed(name)?)?;
        match role {
            Role::First => take(forth, back),
            Role::Second => take(back, forth),
        }
    }

    pub(crate) fn claim_reserved<S: Half, R: Half<Ring = S::Ring>>(
        region: &Region,
        name: &str,
        token: Token,
    ) -> Result<(S, R), OpenError> {
        let (into, out) = rings::<S::Ring>(&region.get_tailed(name)?)?;
        let sending = out.ends().claim_reserved(Side::Sender, token)?;
        let sender = S::hold(out.clone(), sending, Some(into.clone()))?;
        crash_point!("duplex.claim_reserved.between");
        let receiving = into.ends().claim_reserved(Side::Receiver, token).map_err(OpenError::from);
        with_receiver(sender, receiving.and_then(|receiving| R::hold(into, receiving, Some(out))))
    }

    pub(crate) fn on_ticket<R: Head>(
        region: &Region,
        name: &str,
        token: Token,
        act: OnTicket,
    ) -> Result<(), OpenError> {
        let (into, out) = rings::<R>(&region.get_tailed(name)?)?;
        out.ends().on_ticket(Side::Sender, token, act)?;
        crash_point!("duplex.on_ticket.between");
        Ok(into.ends().on_ticket(Side::Receiver, token, act)?)
    }

    /// The ring forth and the ring back.
    fn rings<R: Head>(duplex: &Tailed<Duplex<R>>) -> Result<(Tailed<R>, Tailed<R>), Error> {
        let half = duplex.len() / 2;
        // Both are to begin and end at a line.
        if half % 64 != 0 || half * 2 != duplex.len() {
            return Err(Error::Corrupted { what: "size of a pipe", found: duplex.len() as u64 });
        }
        Ok((duplex.part(|duplex| &duplex.forth, 0, half), duplex.part(|duplex| &duplex.back, half, half)))
    }
}

/// Implements [`Endpoint`](crate::Endpoint) for an end for one way: its type and that of its peer, how large a channel for so much is, and how
/// its ring is made.
#[cfg(not(ipc_loom))]
macro_rules! one_way_endpoint {
    ([$($parameter:tt)*] $end:ty, $peer:ty, $bytes:expr, $ring:expr) => {
        impl<$($parameter)*> $crate::Endpoint for $end {
            type Peer = $peer;
        }

        impl<$($parameter)*> $crate::endpoint::sealed::Sealed for $end {
            const WAYS: usize = 1;

            fn carry(&mut self, bells: &[std::sync::Arc<$crate::bell::Bell>], _role: $crate::endpoint::sealed::Role) {
                bells.iter().for_each(|bell| $crate::duplex::Half::carry(self, bell));
            }

            fn set_longest(&mut self, longest: usize) {
                $crate::duplex::Half::set_longest(self, longest);
            }

            fn size(capacity: u64) -> Option<usize> {
                $bytes(capacity)?.checked_add(size_of::<<Self as $crate::duplex::Half>::Ring>())
            }

            fn insert(region: &shmkit_core::Region, name: &str, capacity: u64, successors: bool) -> Result<Self, $crate::OpenError> {
                let bytes = $bytes(capacity).ok_or(shmkit_core::Error::NoSpace { bytes: capacity })?;
                $crate::duplex::one_way::insert(region, name, bytes, |claim| $ring(capacity, bytes, successors, claim))
            }

            fn claim(region: &shmkit_core::Region, name: &str, _role: $crate::endpoint::sealed::Role) -> Result<Self, $crate::OpenError> {
                $crate::duplex::one_way::claim(region, name)
            }

            fn claim_reserved(region: &shmkit_core::Region, name: &str, token: shmkit_core::identity::Token) -> Result<Self, $crate::OpenError> {
                $crate::duplex::one_way::claim_reserved(region, name, token)
            }

            fn on_ticket(region: &shmkit_core::Region, name: &str, token: shmkit_core::identity::Token, act: $crate::endpoint::sealed::OnTicket) -> Result<(), $crate::OpenError> {
                $crate::duplex::one_way::on_ticket::<Self>(region, name, token, act)
            }
        }
    };
}

/// The same for one for both ways, with the types of its halves.
#[cfg(not(ipc_loom))]
macro_rules! duplex_endpoint {
    ([$($parameter:tt)*] $end:ty, $sender:ty, $receiver:ty, $bytes:expr, $ring:expr) => {
        impl<$($parameter)*> $crate::Endpoint for $end {
            type Peer = Self;
        }

        impl<$($parameter)*> $crate::endpoint::sealed::Sealed for $end {
            const WAYS: usize = 2;

            fn carry(&mut self, bells: &[std::sync::Arc<$crate::bell::Bell>], role: $crate::endpoint::sealed::Role) {
                if let [forth, back] = bells {
                    let is_first = role == $crate::endpoint::sealed::Role::First;
                    let (out, into) = if is_first { (forth, back) } else { (back, forth) };
                    $crate::duplex::Half::carry(&mut self.sender, out);
                    $crate::duplex::Half::carry(&mut self.receiver, into);
                }
            }

            fn set_longest(&mut self, longest: usize) {
                $crate::duplex::Half::set_longest(&mut self.receiver, longest);
            }

            fn size(capacity: u64) -> Option<usize> {
                let head = size_of::<$crate::duplex::Duplex<<$sender as $crate::duplex::Half>::Ring>>();
                $bytes(capacity)?.checked_mul(2)?.checked_add(head)
            }

            fn insert(region: &shmkit_core::Region, name: &str, capacity: u64, successors: bool) -> Result<Self, $crate::OpenError> {
                let bytes = $bytes(capacity).ok_or(shmkit_core::Error::NoSpace { bytes: capacity })?;
                let ring = |claim: &_| $ring(capacity, bytes, successors, claim);
                let (sender, receiver) = $crate::duplex::both_ways::insert(region, name, bytes, ring)?;
                Ok(Self { sender, receiver })
            }

            fn claim(region: &shmkit_core::Region, name: &str, role: $crate::endpoint::sealed::Role) -> Result<Self, $crate::OpenError> {
                let (sender, receiver) = $crate::duplex::both_ways::claim(region, name, role)?;
                Ok(Self { sender, receiver })
            }

            fn claim_reserved(region: &shmkit_core::Region, name: &str, token: shmkit_core::identity::Token) -> Result<Self, $crate::OpenError> {
                let (sender, receiver) = $crate::duplex::both_ways::claim_reserved(region, name, token)?;
                Ok(Self { sender, receiver })
            }

            fn on_ticket(region: &shmkit_core::Region, name: &str, token: shmkit_core::identity::Token, act: $crate::endpoint::sealed::OnTicket) -> Result<(), $crate::OpenError> {
                type Ring<H> = <H as $crate::duplex::Half>::Ring;
                $crate::duplex::both_ways::on_ticket::<Ring<$sender>>(region, name, token, act)
            }
        }
    };
}

/// Implements [`Source`](shmkit_core::wait::Source) for what stands for its field that receives.
#[cfg(not(ipc_loom))]
macro_rules! receiving_source {
    ([$($parameter:tt)*] $end:ty, $receiver:ident) => {
        /// What is waited for is something to receive, as with its half that receives.
        impl<$($parameter)*> shmkit_core::wait::Source for $end {
            fn word(&self) -> &dyn shmkit_core::wait::FutexWord {
                self.$receiver.word()
            }

            fn is_ready(&mut self) -> bool {
                shmkit_core::wait::Source::is_ready(&mut self.$receiver)
            }

            fn arm(&mut self) -> Result<shmkit_core::wait::Armed, shmkit_core::Error> {
                self.$receiver.arm()
            }

            fn disarm(&mut self, may_be_woken: bool) {
                self.$receiver.disarm(may_be_woken);
            }
        }
    };
}

#[cfg(not(ipc_loom))]
pub(crate) use {duplex_endpoint, one_way_endpoint, receiving_source};
