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
//! it has found what it waited for without sleeping, [many times](LUCKY) in a row. `asleep` must be 1 while the owner sleeps and has not been
//! told; it may be 1 when it does not sleep. Only the owner sets it; both sides clear it.
//!
//! Whoever makes a channel has its first end from the beginning: the word is written before anybody else can see it. So there is no moment
//! at which the maker could die and leave a channel that somebody seems yet to come to. A claim that is undone, because the rest of the
//! channel cannot be used, is a change that the other side is told of, like a close: it may have seen somebody there, and gone to sleep.
//!
//! # Telling without a fence
//!
//! Whoever has changed the ring looks whether the other side is asleep. For that look not to come before the change is seen, it would
//! take a fence, which for each message would cost as much as everything else together. So the first look, whether the other side is SLEEPY, is
//! a plain load; only if it is comes the fence, and the look at `asleep`. Two who stream or pass messages to and fro, and look so often that they do
//! not sleep, pay for no fence; those who sleep pay for one beside a system call.
//!
//! The plain load may miss a SLEEPY that was set meanwhile. The owner makes up for that by time: until it is [`settled`](Ends::settled), which is a [settling] after
//! it has set SLEEPY, it sleeps no longer than that, and looks again afterwards. `docs/MEMORY_MODEL.md` has the argument, in "A store without
//! a fence". In models there is a fence. Without the flag that stays, each sleep would have to settle, and the short timer of that
//! costs several times what the sleep does (11 of 15 us in a virtual machine).
//!
//! # A kill at each point
//!
//! * in a claim: before the exchange nothing has happened; after it, the end belongs to a dead;
//! * in a wait, asleep or not: the end belongs to a dead; that it is SLEEPY or asleep means nothing, and costs the other side a fence and one
//!   wake-up of nobody;
//! * between a change of the ring and the look, or the exchange of `asleep` and the wake-up: the death wakes all, and they see the ring;
//! * in a close, between the exchange and the wake-up: the same.
//!
//! # Garbage
//!
//! A word that is none of the above is `Corrupted`, and so is an end that is not its owner's any more. Whatever
//! `asleep` says, a wait sees the ring after each wake-up; whatever `settled` says, it counts for a settling from now on at most.

use core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, SeqCst};
use core::sync::atomic::compiler_fence;

use shmkit_core::identity::{self, FLAG, Token};
use shmkit_core::shim::{AtomicU32, AtomicU64, fence, store_load_barrier};
use shmkit_core::spin::spin;
use shmkit_core::wait::{Armed, Site, settling, wake_all};
use shmkit_core::{Deadline, Described, Error, Fingerprint, ShmSafe, crash_point};

#[cfg(not(ipc_loom))]
use crate::endpoint::sealed::Reservation;

/// Nobody has had it yet.
const ABSENT: u64 = 0;
/// Its owner has closed it.
const CLOSED: u64 = 2;
/// Its owner sleeps at times: whoever tells it must not miss that it does.
const SLEEPY: u64 = FLAG;

/// How often in a row an owner must have found what it waits for without sleeping, to be SLEEPY no longer.
const LUCKY: u32 = 16;

/// The owner sleeps, or is about to.
const ASLEEP: u32 = 1;

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
    /// What the sender and the receiver sleep on while it is 1. Set by the owner of the end before it looks at the ring the last time, cleared by
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
        identity::current().is_some_and(|current| current.is_same_process(self.token))
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
                    return Ok(Claim { side, token, before, luck: AtomicU32::new(0) });
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

    /// Does something with the reservation of an end under `token`.
    #[cfg(not(ipc_loom))]
    pub(crate) fn reservation(&self, side: Side, token: Token, act: Reservation) -> Result<(), NotClaimed> {
        match act {
            Reservation::Make => self.reserve(side, token),
            Reservation::Check => self.is_reserved(side, token),
            Reservation::Close => {
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
        let is_sleepy = || self.end(claim.side.other()).load(Relaxed) & SLEEPY != 0;
        // In models, a second look behind a fence stands for the time that the other side takes to settle.
        let looks_again = || {
            store_load_barrier();
            is_sleepy()
        };
        if is_sleepy() || cfg!(ipc_loom) && looks_again() {
            self.tell_sleepy(claim.side.other());
        }
    }

    #[cold]
    fn tell_sleepy(&self, side: Side) {
        // SeqCst pairs with the exchange in `fall_asleep`: either this sees that it is asleep, or its look sees the change.
        fence(SeqCst);
        let asleep = self.asleep(side);
        if asleep.load(Relaxed) == 0 {
            return;
        }
        crash_point!("ends.tell.before_swap");
        // Otherwise it has come back by itself.
        if asleep.swap(0, Relaxed) != 0 {
            crash_point!("ends.tell.before_wake");
            wake_all(asleep);
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
                self.count_luck(claim);
                return Ok(found);
            }
        }
        claim.luck.store(0, Relaxed);
        let site = Site::of(self)?;
        loop {
            if !claim.is_own() {
                return Err(Ended::Failed(Error::Forked));
            }
            let epoch = site.epoch();
            // Before the look, which is the last one if it is settled.
            let unsettled = self.fall_asleep(claim)?;
            if let Some(ended) = Self::look_around(&site, is_over, &mut look, &is_gone) {
                self.wake_up(claim);
                return ended;
            }
            crash_point!("ends.wait.before_sleep");
            let until = match (unsettled, deadline) {
                (Some(unsettled), Some(deadline)) => Some(unsettled.min(deadline)),
                (some, None) | (None, some) => some,
            };
            site.wait(self.asleep(claim.side), ASLEEP, epoch, until);
            // Then one last look.
            is_over = deadline.is_some_and(Deadline::has_passed);
            crash_point!("ends.wait.after_sleep");
        }
    }

    /// How a wait ends now, if it does; surely so if its time is over.
    pub(crate) fn look_around<R>(
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
        self.asleep(claim.side)
    }

    /// Gets an end ready to sleep, as [`wait`](Self::wait) does.
    pub(crate) fn arm(&self, claim: &Claim) -> Result<Armed, Error> {
        if !claim.is_own() {
            return Err(Error::Forked);
        }
        let unsettled = self.fall_asleep(claim)?;
        crash_point!("ends.arm.after_asleep");
        Ok(Armed::at(ASLEEP).unsettled(unsettled.is_some()))
    }

    /// Ends that. Does nothing in a forked child.
    pub(crate) fn disarm(&self, claim: &Claim) {
        if claim.is_own() {
            self.wake_up(claim);
        }
    }

    /// Sets `asleep`, and SLEEPY if it is not set; says how long that is to settle, if it has not done so.
    fn fall_asleep(&self, claim: &Claim) -> Result<Option<Deadline>, Error> {
        let end = self.end(claim.side);
        let settled = &self.settled[claim.side as usize];
        let word = end.load(Relaxed);
        let unsettled = if word == claim.token.word() | SLEEPY {
            settling().map(|longest| longest.min(Deadline::from_nanos(settled.load(Relaxed))))
        } else {
            // SeqCst: the look at the ring that follows must not come before it. An end that is closed, or another's, stays as it is.
            let own = claim.token.word();
            match end.compare_exchange(own, own | SLEEPY, SeqCst, Relaxed) {
                Err(now) if now != own | SLEEPY => return Err(garbage(now)),
                _ => {}
            }
            crash_point!("ends.wait.after_sleepy");
            settling().inspect(|until| settled.store(until.as_nanos(), Relaxed))
        };
        // SeqCst pairs with the fence in `tell_sleepy`.
        self.asleep(claim.side).swap(u64::from(ASLEEP), SeqCst);
        store_load_barrier();
        Ok(unsettled.filter(|until| !until.has_passed()))
    }

    /// Clears `asleep`. What it was set for has been seen.
    fn wake_up(&self, claim: &Claim) {
        self.asleep(claim.side).store(0, Relaxed);
    }

    /// Counts a wait that needed no sleep. After many in a row, the other side need not be so careful any more.
    fn count_luck(&self, claim: &Claim) {
        let luck = claim.luck.load(Relaxed) + 1;
        claim.luck.store(luck % LUCKY, Relaxed);
        if luck == LUCKY {
            let sleepy = claim.token.word() | SLEEPY;
            let _ = self.end(claim.side).compare_exchange(sleepy, claim.token.word(), Relaxed, Relaxed);
        }
    }

    /// Gets another thread of this process out of its wait, or keeps it from beginning one, if it finds by its `look` that it is to end: that
    /// sees what the calling thread has stored before.
    pub(crate) fn interrupt(&self, claim: &Claim) {
        let asleep = self.asleep(claim.side);
        // Whoever goes to sleep exchanges the word, too: before this, then it does not sleep on what is there now; or after it, then its Acquire
        // pairs with the Release in this.
        asleep.swap(0, SeqCst);
        wake_all(asleep);
    }

    /// Whether an end was closed, or its owner is dead. What was done there before is visible then.
    pub(crate) fn is_gone(&self, side: Side, site: &Site) -> Result<bool, Error> {
        // Acquire pairs with the Release in `claim`, so that an owner is among the participants, and with that in `close`.
        let word = self.end(side).load(Acquire);
        match word & !SLEEPY {
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
        self.end(side).load(Relaxed) & !SLEEPY == ABSENT
    }

    /// The other end, without its SLEEPY.
    #[inline]
    pub(crate) fn other(&self, claim: &Claim) -> u64 {
        self.end(claim.side.other()).load(Relaxed) & !SLEEPY
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
        while word & !SLEEPY == claim.token.word() {
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

    fn asleep(&self, side: Side) -> &AtomicU64 {
        &self.asleep[side as usize]
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

#[cfg(all(test, not(ipc_loom)))]
mod tests {
    use core::sync::atomic::{AtomicBool, AtomicUsize};
    use core::time::Duration;
    use std::thread;
    use std::time::Instant;

    use shmkit_core::spin::{Spinning, set_spinning};

    use super::*;

    #[test]
    fn a_sleeper_that_was_woken_early_looks_again_when_all_is_settled() {
        set_spinning(Spinning::Never);
        // Each has to settle once only.
        let all: Vec<_> = (0..300).map(|_| Ends::new(false, None)).collect();
        let bell = AtomicUsize::new(0);
        let (ringing, over) = (AtomicBool::new(false), AtomicBool::new(false));
        thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Relaxed) {
                    if ringing.load(Relaxed) {
                        wake_all(all[bell.load(Relaxed)].asleep(Side::Receiver));
                    }
                }
            });
            // Nobody wakes it after its second look, and what it waits for is there a little later, but not for long.
            let there = Duration::from_micros(100)..Duration::from_secs(1);
            let failed = all.iter().enumerate().find_map(|(number, ends)| {
                let claim = ends.claim(Side::Receiver).expect("an end that nobody has");
                bell.store(number, Relaxed);
                ringing.store(true, Relaxed);
                let (begin, mut looks) = (Instant::now(), 0);
                let look = || {
                    looks += 1;
                    ringing.store(looks < 2, Relaxed);
                    (looks > 1 && there.contains(&begin.elapsed())).then_some(())
                };
                ends.wait(&claim, Deadline::after(Duration::from_secs(2)), look, |_| Ok(false)).err()
            });
            over.store(true, Relaxed);
            assert!(failed.is_none(), "{failed:?}");
        });
    }
}
