//! The two ends of a one-way channel: who has them, who sleeps at them, and who is gone.
//!
//! Every channel of this crate is a ring whose words lie elsewhere, and one of these. It knows nothing of messages.
//!
//! # Shared layout
//!
//! ```text
//!           0          8            16       24                64
//!          +----------+------------+--------+-----------------+
//!          | sender   | receiver   | rules  | unused          |
//!          +----------+------------+--------+-----------------+
//!
//!           63                             1     0
//!          +-----------------------------+--------+
//! an end:  | token of its owner          | ASLEEP |     or ABSENT (0), CLOSED (2)
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
//! | `T` | taken | fetch_or -> `T` ASLEEP, look, sleep | - | CAS -> CLOSED | gone |
//! | `T` ASLEEP | taken | look, sleep | CAS -> `T`, wake | CAS -> CLOSED | gone |
//! | CLOSED | closed, for ever | - | - | - | - |
//! | a dead `T` | CAS -> mine, if the rules allow successors; else gone | - | - | - | - |
//!
//! ASLEEP must be set while the owner sleeps and has not been told; it may be set when it does not sleep. Only the owner sets it and
//! only the other side clears it, except that an owner which leaves its wait clears its own.
//!
//! Whoever makes a channel has its first end from the beginning: the word is written before anybody else can see it. So there is no moment
//! at which the maker could die and leave a channel that somebody seems yet to come to. A claim that is undone, because the rest of the
//! channel cannot be used, is a change that the other side is told of, like a close: it may have seen somebody there, and gone to sleep.
//!
//! # Telling without a fence
//!
//! Whoever has changed the ring looks whether the other side is asleep, by a plain load: a fence for each message would cost as much as
//! everything else together. So the load may come before the change is seen, and miss an ASLEEP that was set meanwhile. The sleeper
//! makes up for that by time: until a [settling] has passed since it has set ASLEEP anew, it sleeps no longer than that, and looks again
//! afterwards. `docs/MEMORY_MODEL.md` has the argument, in "A store without a fence". In models there is a fence.
//!
//! # A kill at each point
//!
//! * in a claim: before the exchange nothing has happened; after it, the end belongs to a dead;
//! * in a wait, asleep or not: the end belongs to a dead; ASLEEP means nothing in it, and costs the other side one wake-up of nobody;
//! * between a change of the ring and the look, or the exchange and the wake-up: the death wakes all, and they see the ring;
//! * in a close, between the exchange and the wake-up: the same.
//!
//! # Garbage
//!
//! A word that is none of the above is `Corrupted`, and so is an end that is not its owner's any more. Whatever ASLEEP says, a wait sees
//! the ring after each wake-up.

use core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, SeqCst};
use core::sync::atomic::compiler_fence;

use shmkit_core::identity::{self, FLAG, Token};
use shmkit_core::shim::{AtomicU64, store_load_barrier};
use shmkit_core::spin::spin;
use shmkit_core::wait::{Armed, Site, settling, wake_all};
use shmkit_core::{Deadline, Described, Error, Fingerprint, ShmSafe, crash_point};

/// Nobody has had it yet.
const ABSENT: u64 = 0;
/// Its owner has closed it.
const CLOSED: u64 = 2;
/// Its owner may be asleep.
const ASLEEP: u64 = FLAG;

/// A rule: the end of a dead owner can be claimed anew.
const SUCCESSORS: u64 = 1;

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
    _unused: [AtomicU64; 5],
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
}

impl Claim {
    /// Whether the calling process made the claim; not so in a forked child of the one that did.
    #[inline]
    pub(crate) fn is_own(&self) -> bool {
        identity::current().is_some_and(|current| current.is_same_process(self.token))
    }

    /// That of one who is about to make a channel with [`Ends::new`], and has this end from the beginning.
    pub(crate) fn of_creator(side: Side) -> Result<Self, Error> {
        // It need not lie in the region: with a token, a process takes part in all that it has open, also in a child that was just forked.
        let token = Site::of(&side)?.token();
        Ok(Self { side, token, before: ABSENT })
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
    Failed(Error),
}

/// Why a wait ended without what was waited for.
#[derive(Debug)]
pub(crate) enum Ended {
    TimedOut,
    /// The other end was closed, or its owner is dead.
    Gone,
    Failed(Error),
}

impl From<Error> for Ended {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl Ends {
    /// Two ends that nobody has but the `creator`, if there is one. `successors`: that of a dead can be claimed anew.
    pub(crate) fn new(successors: bool, creator: Option<&Claim>) -> Self {
        let end = |side| creator.filter(|claim| claim.side == side).map_or(ABSENT, |claim| claim.token.word());
        Self {
            sender: AtomicU64::new(end(Side::Sender)),
            receiver: AtomicU64::new(end(Side::Receiver)),
            rules: AtomicU64::new(if successors { SUCCESSORS } else { 0 }),
            _unused: [(); 5].map(|()| AtomicU64::new(0)),
        }
    }

    /// Makes an end that of the calling process.
    pub(crate) fn claim(&self, side: Side) -> Result<Claim, NotClaimed> {
        let site = Site::of(self).map_err(NotClaimed::Failed)?;
        let token = site.token();
        let end = self.end(side);
        // Acquire, here and below, pairs with the Release in the exchange: an owner that is found is among the participants.
        let mut before = end.load(Acquire);
        loop {
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
                    return Ok(Claim { side, token, before });
                }
                // Another one was faster; or the other side has told the dead owner, which was asleep, of something.
                Err(now) => before = now,
            }
        }
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

    /// Undoes a claim, as if it had never been made, and tells the other side. Does nothing in a forked child.
    pub(crate) fn unclaim(&self, claim: &Claim) {
        // A failure means that somebody has scribbled there. The orders are those of `close`.
        let undo = || self.end(claim.side).compare_exchange(claim.token.word(), claim.before, SeqCst, Relaxed);
        if claim.is_own() && undo().is_ok() {
            crash_point!("ends.unclaim.after_cas");
            self.tell(claim);
        }
    }

    /// Tells the other side of a change, if it is asleep. The change must have been made before, with Release.
    #[inline]
    pub(crate) fn tell(&self, claim: &Claim) {
        // See the module for what this may miss, and why that does no harm. It is for the processor only to miss it, not for the compiler.
        compiler_fence(SeqCst);
        store_load_barrier();
        let word = self.end(claim.side.other()).load(Relaxed);
        if word & ASLEEP != 0 {
            self.wake(claim.side.other(), word);
        }
    }

    #[cold]
    fn wake(&self, side: Side, word: u64) {
        let end = self.end(side);
        crash_point!("ends.tell.before_cas");
        // A failure means that it has come back by itself, or that the end has changed hands.
        if end.compare_exchange(word, word & !ASLEEP, Relaxed, Relaxed).is_ok() {
            crash_point!("ends.tell.before_wake");
            wake_all(end);
            crash_point!("ends.tell.after_wake");
        }
    }

    /// Waits until `look` finds something, or the other side is gone (which `is_gone` says) and `look` finds nothing after that either.
    ///
    /// `look` is asked once and then after each change that was [told](Self::tell) of.
    #[cold]
    pub(crate) fn wait<R>(
        &self,
        claim: &Claim,
        deadline: Option<Deadline>,
        mut look: impl FnMut() -> Option<R>,
        is_gone: impl Fn(&Site) -> Result<bool, Error>,
    ) -> Result<R, Ended> {
        // All deadlines of models have passed; there, they count only after a sleep.
        let mut is_over = !cfg!(ipc_loom) && deadline.is_some_and(Deadline::has_passed);
        // One without patience wants an answer at once.
        if !is_over {
            if let Some(found) = spin(&mut look) {
                return Ok(found);
            }
        }
        let site = Site::of(self)?;
        let end = self.end(claim.side);
        let mut settled = None;
        loop {
            if !claim.is_own() {
                return Err(Ended::Failed(Error::Forked));
            }
            let epoch = site.epoch();
            if self.fall_asleep(claim)? {
                settled = settling();
            }
            // Before the look, which is the last one if it is settled. Whatever ends a sleep before that time makes it no shorter.
            let unsettled = settled.filter(|settled| !settled.has_passed());
            if let Some(ended) = Self::look_around(&site, is_over, &mut look, &is_gone) {
                self.wake_up(claim);
                return ended;
            }
            crash_point!("ends.wait.before_sleep");
            let until = match (unsettled, deadline) {
                (Some(unsettled), Some(deadline)) => Some(unsettled.min(deadline)),
                (some, None) | (None, some) => some,
            };
            site.wait(end, (claim.token.word() | ASLEEP) as u32, epoch, until);
            // Then one last look.
            is_over = deadline.is_some_and(Deadline::has_passed);
            crash_point!("ends.wait.after_sleep");
        }
    }

    /// How a wait ends now, if it does; surely so if its time is over.
    fn look_around<R>(
        site: &Site,
        is_over: bool,
        mut look: impl FnMut() -> Option<R>,
        is_gone: impl Fn(&Site) -> Result<bool, Error>,
    ) -> Option<Result<R, Ended>> {
        if let Some(found) = look() {
            return Some(Ok(found));
        }
        if is_over {
            // One whose waits are too short to be told of deaths must hear of them, too.
            site.look();
        }
        match is_gone(site) {
            Ok(true) => Some(look().ok_or(Ended::Gone)),
            Ok(false) => is_over.then_some(Err(Ended::TimedOut)),
            Err(error) => Some(Err(error.into())),
        }
    }

    /// The word that an end sleeps on.
    pub(crate) fn word(&self, claim: &Claim) -> &AtomicU64 {
        self.end(claim.side)
    }

    /// Gets an end ready to sleep, as [`wait`](Self::wait) does.
    pub(crate) fn arm(&self, claim: &Claim) -> Result<Armed, Error> {
        if !claim.is_own() {
            return Err(Error::Forked);
        }
        let is_anew = self.fall_asleep(claim)?;
        crash_point!("ends.arm.after_asleep");
        Ok(Armed::at((claim.token.word() | ASLEEP) as u32).unsettled(is_anew))
    }

    /// Ends that. Does nothing in a forked child.
    pub(crate) fn disarm(&self, claim: &Claim) {
        if claim.is_own() {
            self.wake_up(claim);
        }
    }

    /// Sets ASLEEP; says whether it was not set.
    fn fall_asleep(&self, claim: &Claim) -> Result<bool, Error> {
        // SeqCst: the look at the ring that follows must not come before it.
        let word = self.end(claim.side).fetch_or(ASLEEP, SeqCst);
        store_load_barrier();
        if word & !ASLEEP == claim.token.word() { Ok(word & ASLEEP == 0) } else { Err(garbage(word)) }
    }

    /// Clears ASLEEP. What it was set for has been seen.
    fn wake_up(&self, claim: &Claim) {
        let asleep = claim.token.word() | ASLEEP;
        let _ = self.end(claim.side).compare_exchange(asleep, claim.token.word(), Relaxed, Relaxed);
    }

    /// Whether an end was closed, or its owner is dead. What was done there before is visible then.
    pub(crate) fn is_gone(&self, side: Side, site: &Site) -> Result<bool, Error> {
        // Acquire pairs with the Release in `claim`, so that an owner is among the participants, and with that in `close`.
        let word = self.end(side).load(Acquire);
        match word & !ASLEEP {
            ABSENT => Ok(false),
            CLOSED => Ok(true),
            _ => match Token::from_word(word) {
                Some(owner) => Ok(!site.is_alive(owner)),
                None => Err(garbage(word)),
            },
        }
    }

    /// Whether nobody has had an end yet.
    pub(crate) fn is_absent(&self, side: Side) -> bool {
        self.end(side).load(Relaxed) & !ASLEEP == ABSENT
    }

    /// The other end, without its ASLEEP.
    #[inline]
    pub(crate) fn other(&self, claim: &Claim) -> u64 {
        self.end(claim.side.other()).load(Relaxed) & !ASLEEP
    }

    /// Whether the other end still is what it was.
    #[inline]
    pub(crate) fn is_other(&self, claim: &Claim, before: u64) -> bool {
        self.other(claim) == before
    }

    /// Closes an end for ever and tells the other side. Does nothing in a forked child.
    pub(crate) fn close(&self, claim: &Claim) {
        if !claim.is_own() {
            return;
        }
        let end = self.end(claim.side);
        let mut word = end.load(Relaxed);
        // Unless somebody has scribbled there: then it is not ours to close.
        while word & !ASLEEP == claim.token.word() {
            // Release pairs with the Acquire in `is_other_gone`. SeqCst: the look in `tell` must not come before it.
            match end.compare_exchange(word, CLOSED, SeqCst, Relaxed) {
                Ok(_) => {
                    crash_point!("ends.close.after_cas");
                    self.tell(claim);
                    return;
                }
                Err(now) => word = now,
            }
        }
    }

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
