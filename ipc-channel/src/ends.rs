//! The two ends of a one-way channel: who has them, who sleeps at them, and who is gone.
//!
//! Every channel of this crate is a ring whose words lie elsewhere, and one of these. It knows nothing of messages.
//!
//! # Shared layout
//!
//! ```text
//!           0          8            16       24          40           56       64
//!          +----------+------------+--------+-----------+------------+--------+
//!          | sender   | receiver   | rules  | asleep, 2 | settled, 2 | unused |
//!          +----------+------------+--------+-----------+------------+--------+
//!
//!           63                             1     0
//!          +-----------------------------+--------+
//! an end:  | token of its owner          | SLEEPY |     or ABSENT (0), CLOSED (2)
//!          +-----------------------------+--------+
//! ```
//!
//! All of it changes rarely, so both sides look at it for each message and find it in their caches. What changes with each message has
//! lines of its own.
//!
//! # States of an end
//!
//! | word | claim | the owner waits | the other side tells | the owner closes | its death |
//! |---|---|---|---|---|---|
//! | ABSENT | CAS -> mine | - | - | - | - |
//! | `T` | taken | fetch_or -> `T` SLEEPY, then as below | - | CAS -> CLOSED | gone |
//! | `T` SLEEPY | taken | asleep = 1, look, sleep on asleep | fence; if asleep: asleep = 0, wake | CAS -> CLOSED | gone |
//! | CLOSED | closed, for ever | - | - | - | - |
//! | a dead `T` | CAS -> mine, if the rules allow successors; else gone | - | - | - | - |
//!
//! An end can be reserved for a process that is yet to come: then `T` is the token of a
//! [placeholder](shmkit_core::Placeholder), which dies when nobody is left who could come. Who comes exchanges it for its own.
//!
//! SLEEPY must be set while the owner sleeps. It stays set afterwards: an owner that has slept once is likely to do so again. It clears it when
//! it has found what it waited for without sleeping, many times in a row. `asleep` must be 1 while the owner sleeps and has not been
//! told; it may be 1 when it does not sleep. Only the owner sets it; both sides clear it. It is 2 while the owner waits in an event loop for its
//! [bell](crate::bell), which whoever clears it rings then, instead of waking.
//!
//! Whoever makes a channel has its first end from the beginning: the word is written before anybody else can see it. So there is no moment
//! at which the maker could die and leave a channel that somebody seems yet to come to. A claim that is undone, because the rest of the
//! channel cannot be used, is a change that the other side is told of, like a close: it may have seen somebody there, and gone to sleep.
//!
//! How one waits and is told is in `waiting`.
//!
//! # A kill at each point
//!
//! * in a claim: before the exchange nothing has happened; after it, the end belongs to a dead;
//! * in a wait, asleep or not: the end belongs to a dead; that it is SLEEPY or asleep means nothing, and costs the other side a fence and one
//!   wake-up of nobody;
//! * between a change of the ring and the look, or the exchange of `asleep` and the wake-up or the ring: the death wakes all, and their keepers ring
//!   all bells, and they see the ring;
//! * in a close, between the exchange and the wake-up: the same.
//!
//! # Garbage
//!
//! A word that is none of the above is `Corrupted`, and so is an end that is not its owner's any more. Whatever
//! `asleep` says, a wait sees the ring after each wake-up; whatever `settled` says, it counts for a settling from now on at most.

mod waiting;

use core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, SeqCst};

use shmkit_core::identity::{self, FLAG, Token};
use shmkit_core::shim::{AtomicU32, AtomicU64};
use shmkit_core::wait::Site;
use shmkit_core::{Described, Error, Fingerprint, Retries, ShmSafe, crash_point};

pub(crate) use self::waiting::Ended;
#[cfg(not(ipc_loom))]
use crate::endpoint::sealed::OnTicket;

/// Nobody has had it yet.
const ABSENT: u64 = 0;
/// Its owner has closed it.
const CLOSED: u64 = 2;
/// Its owner sleeps at times: whoever tells it must not miss that it does.
const SLEEPY: u64 = FLAG;

/// How often an end changes hands at most while somebody looks whether its owner is dead.
const MOST_OWNERS: u32 = 8;

/// A rule: the end of a dead owner can be claimed anew.
const SUCCESSORS: u64 = 1;

/// How often an end may change while it is being claimed. Each time, somebody else has claimed it, died, or been told of something.
const ATTEMPTS: u32 = 100;

/// Version of the layout above.
const LAYOUT: u32 = 1;

/// The ends of a channel, in shared memory.
#[repr(C, align(64))]
#[derive(Debug)]
pub(crate) struct Ends {
    /// Who sends: see the module for who writes it when.
    sender: AtomicU64,
    /// Who receives: as above.
    receiver: AtomicU64,
    /// SUCCESSORS or 0. Written at creation. Other bits mean nothing.
    rules: AtomicU64,
    /// What the sender and the receiver sleep on while it is 1; 2: they have bells to be rung. Set by the owner of the end before it looks at the ring the last time, cleared by
    /// it afterwards, or by the other side, which wakes it.
    asleep: [AtomicU64; 2],
    /// From when on the sender's and the receiver's SLEEPY is surely seen by everybody: nanoseconds on the monotonic clock. Written by the owner
    /// after it has set SLEEPY. A successor that finds SLEEPY cleared by its claim writes it anew.
    settled: [AtomicU64; 2],
    _unused: AtomicU64,
}

#[cfg(not(ipc_loom))]
const _: () = assert!(size_of::<Ends>() == 64 && align_of::<Ends>() == 64);

// SAFETY: name, layout version, size and alignment are all that the layout of these words depends on.
unsafe impl Described for Ends {
    const FINGERPRINT: Fingerprint = Fingerprint::new("Ends", LAYOUT, size_of::<Self>(), align_of::<Self>());

    fn type_name(f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Ends")
    }
}

// SAFETY: nothing but atomics, without padding; every value is survived.
unsafe impl ShmSafe for Ends {}

/// Which end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Sender,
    Receiver,
}

impl Side {
    #[inline]
    pub(crate) fn other(self) -> Self {
        match self {
            Self::Sender => Self::Receiver,
            Self::Receiver => Self::Sender,
        }
    }
}

/// An end that was claimed. Private to its owner; copies of it in forked children are worth nothing.
#[derive(Debug)]
pub(crate) struct Claim {
    side: Side,
    token: Token,
    /// What was in the word before.
    before: u64,
    /// How often in a row its owner has found what it waited for without sleeping.
    luck: AtomicU32,
}

impl Claim {
    /// The same claim, for another thread of its process.
    pub(crate) fn of_watcher(&self) -> Self {
        Self { luck: AtomicU32::new(0), ..*self }
    }

    /// Whether the calling process made the claim; not so in a forked child of the one that did.
    #[inline]
    pub(crate) fn is_own(&self) -> bool {
        identity::is_own(self.token)
    }

    /// That of one who is about to make a channel with [`Ends::new`], and has this end from the beginning.
    pub(crate) fn of_creator(side: Side) -> Result<Self, Error> {
        // It need not lie in the region: with a token, a process takes part in all that it has open, also in a child that was just forked.
        let token = Site::of(&side)?.token();
        Ok(Self { side, token, before: ABSENT, luck: AtomicU32::new(0) })
    }

    /// Which end.
    pub(crate) fn side(&self) -> Side {
        self.side
    }
}

/// Why an end was not claimed.
#[derive(Debug)]
pub(crate) enum NotClaimed {
    /// Somebody who is alive has it; or somebody who is dead, and there are to be no successors.
    Taken,
    /// Its owner has closed it.
    Closed,
    /// What was reserved is the other end.
    OtherEnd,
    Failed(Error),
}

impl Ends {
    /// What [`other`](Self::other) never says.
    pub(crate) const NOTHING: u64 = SLEEPY;

    /// Two ends that nobody has but the `creator`, if there is one. `successors`: that of a dead can be claimed anew.
    pub(crate) fn new(successors: bool, creator: Option<&Claim>) -> Self {
        let end = |side| creator.filter(|claim| claim.side == side).map_or(ABSENT, |claim| claim.token.word());
        Self {
            sender: AtomicU64::new(end(Side::Sender)),
            receiver: AtomicU64::new(end(Side::Receiver)),
            rules: AtomicU64::new(if successors { SUCCESSORS } else { 0 }),
            asleep: [(); 2].map(|()| AtomicU64::new(0)),
            settled: [(); 2].map(|()| AtomicU64::new(0)),
            _unused: AtomicU64::new(0),
        }
    }

    /// Makes an end that of the calling process.
    pub(crate) fn claim(&self, side: Side) -> Result<Claim, NotClaimed> {
        let site = Site::of(self).map_err(NotClaimed::Failed)?;
        let token = site.token();
        let end = self.end(side);
        // Acquire, here and below, pairs with the Release in the exchange: an owner that is found is among the participants.
        let mut before = end.load(Acquire);
        for _ in 0..ATTEMPTS {
            match before {
                ABSENT => {}
                CLOSED => return Err(NotClaimed::Closed),
                _ => match Token::from_word(before) {
                    None => return Err(NotClaimed::Failed(garbage(before))),
                    Some(owner) if !self.is_vacant(owner, &site) => return Err(NotClaimed::Taken),
                    Some(_) => {}
                },
            }
            // Release: see above. What a dead owner wrote is visible since its death was confirmed.
            match end.compare_exchange(before, token.word(), AcqRel, Acquire) {
                Ok(_) => {
                    crash_point!("ends.claim.after_cas");
                    return Ok(Claim { side, token, before, luck: AtomicU32::new(0) });
                }
                // Another one was faster; or the other side has told the dead owner, which was asleep, of something.
                Err(now) => before = now,
            }
        }
        Err(NotClaimed::Failed(garbage(before)))
    }

    /// Whether the end of `owner` can be claimed by another.
    fn is_vacant(&self, owner: Token, site: &Site) -> bool {
        if self.rules.load(Relaxed) & SUCCESSORS == 0 {
            return false;
        }
        if site.is_alive(owner) {
            // Whoever has reaped a process and starts another in its place would find the end taken until the news is there.
            site.look_now();
        }
        !site.is_alive(owner)
    }

    /// Makes an end that is reserved under `token` that of the calling process.
    #[cfg(not(ipc_loom))]
    pub(crate) fn claim_reserved(&self, side: Side, token: Token) -> Result<Claim, NotClaimed> {
        let site = Site::of(self).map_err(NotClaimed::Failed)?;
        self.is_reserved(side, token)?;
        // Release: see `claim`.
        match self.end(side).compare_exchange(token.word(), site.token().word(), AcqRel, Relaxed) {
            Ok(_) => {
                crash_point!("ends.claim_reserved.after_cas");
                Ok(Claim { side, token: site.token(), before: token.word(), luck: AtomicU32::new(0) })
            }
            Err(_) => Err(NotClaimed::Taken),
        }
    }

    /// Does something with an end that is, or is to be, reserved under `token`.
    #[cfg(not(ipc_loom))]
    pub(crate) fn on_ticket(&self, side: Side, token: Token, act: OnTicket) -> Result<(), NotClaimed> {
        match act {
            OnTicket::Reserve => self.reserve(side, token),
            OnTicket::Check => self.is_reserved(side, token),
            OnTicket::Close => {
                self.close_reserved(side, token);
                Ok(())
            }
        }
    }

    /// Keeps an end that nobody has for whoever is to claim it under `token`.
    fn reserve(&self, side: Side, token: Token) -> Result<(), NotClaimed> {
        // Release, as in `claim`.
        match self.end(side).compare_exchange(ABSENT, token.word(), AcqRel, Relaxed) {
            Ok(_) => Ok(()),
            Err(_) => Err(NotClaimed::Taken),
        }
    }

    /// Looks whether an end is reserved under `token`.
    fn is_reserved(&self, side: Side, token: Token) -> Result<(), NotClaimed> {
        let is_that = |word: u64| word == token.word();
        match self.end(side).load(Relaxed) {
            word if is_that(word) => Ok(()),
            CLOSED => Err(NotClaimed::Closed),
            _ if is_that(self.end(side.other()).load(Relaxed)) => Err(NotClaimed::OtherEnd),
            _ => Err(NotClaimed::Taken),
        }
    }

    /// Closes an end for ever that is reserved under `token`. Does nothing if somebody has come meanwhile.
    ///
    /// The other side is told by the placeholder's leaving the region, or its death, which comes next.
    fn close_reserved(&self, side: Side, token: Token) {
        // A failure means that somebody has come. Release, as in `close`.
        let _ = self.end(side).compare_exchange(token.word(), CLOSED, AcqRel, Relaxed);
        crash_point!("ends.close_reserved.after_cas");
    }

    /// Undoes a claim, as if it had never been made, and [tells](Self::tell) the other side. Does nothing in a forked child.
    #[must_use]
    pub(crate) fn unclaim(&self, claim: &Claim) -> bool {
        // A failure means that somebody has scribbled there. The orders are those of `close`.
        let undo = || self.end(claim.side).compare_exchange(claim.token.word(), claim.before, SeqCst, Relaxed);
        if !claim.is_own() || undo().is_err() {
            return false;
        }
        crash_point!("ends.unclaim.after_cas");
        self.tell(claim.side)
    }

    /// Whether an end was closed, or its owner is dead. What was done there before is visible then.
    pub(crate) fn is_gone(&self, side: Side, site: &Site) -> Result<bool, Error> {
        let end = self.end(side);
        // Acquire pairs with the Release in `claim`, so that an owner is among the participants, and with that in `close`.
        let mut word = end.load(Acquire);
        // An end changes hands a few times; one that does so for ever is garbage.
        for _ in 0..MOST_OWNERS {
            match word & !SLEEPY {
                ABSENT => return Ok(false),
                CLOSED => return Ok(true),
                _ => {}
            }
            let Some(owner) = Token::from_word(word) else {
                return Err(garbage(word));
            };
            if site.is_alive(owner) {
                return Ok(false);
            }
            // A placeholder goes as soon as somebody has come in its place: its death means nothing then. Whoever sees that death
            // (Acquire) sees the exchange that came before it.
            let now = end.load(Acquire);
            if now & !SLEEPY == word & !SLEEPY {
                return Ok(true);
            }
            word = now;
        }
        Err(garbage(word))
    }

    /// Whether nobody has had an end yet.
    pub(crate) fn is_absent(&self, side: Side) -> bool {
        self.end(side).load(Relaxed) & !SLEEPY == ABSENT
    }

    /// What the other end is for the owner of this `side`, without its SLEEPY.
    #[inline]
    pub(crate) fn other(&self, side: Side) -> u64 {
        self.end(side.other()).load(Relaxed) & !SLEEPY
    }

    /// Closes an end for ever and [tells](Self::tell) the other side. Does nothing in a forked child.
    #[must_use]
    pub(crate) fn close(&self, claim: &Claim) -> bool {
        if !claim.is_own() {
            return false;
        }
        let end = self.end(claim.side);
        let mut word = end.load(Relaxed);
        let mut retries = Retries::new();
        // Unless somebody has scribbled there, or does so without an end: then it is not ours to close.
        while word & !SLEEPY == claim.token.word() && retries.again().is_some() {
            // Release pairs with the Acquire in `is_other_gone`. SeqCst: the look in `tell` must not come before it.
            match end.compare_exchange(word, CLOSED, SeqCst, Relaxed) {
                Ok(_) => {
                    crash_point!("ends.close.after_cas");
                    return self.tell(claim.side);
                }
                Err(now) => word = now,
            }
        }
        false
    }

    #[inline]
    fn end(&self, side: Side) -> &AtomicU64 {
        match side {
            Side::Sender => &self.sender,
            Side::Receiver => &self.receiver,
        }
    }
}

#[cold]
fn garbage(found: u64) -> Error {
    Error::Corrupted { what: "owner of an end of a channel", found }
}
