//! A limited number of permits, each of which has a holder.
//!
//! # Shared layout
//!
//! ```text
//! | count: u32 | gate: u32 | slots: 64 x u64 |
//!
//! a slot                                              the gate
//!  63                                      1    0      31                     1         0
//! +-----------------------------------------+----+    +------------------------+---------+
//! | token of the holder; 0: free            | 0  |    | generation             | WAITING |
//! +-----------------------------------------+----+    +------------------------+---------+
//! ```
//!
//! Slots from `count` on are not used. How many permits are held is not written anywhere: it is the number of slots with a token of
//! somebody alive. So a death leaves no count that would have to be put right.
//!
//! # States of a slot
//!
//! | slot | `acquire` | drop of the permit | confirmed death of the holder |
//! |---|---|---|---|
//! | `0` | CAS -> mine | - | - |
//! | `T` | looks at the next | CAS -> `0`, then looks at the gate | the next to find no free one: CAS -> mine |
//!
//! # States of the gate
//!
//! | gate | one about to sleep | drop of a permit |
//! |---|---|---|
//! | without WAITING | sets it, looks at all slots once more, sleeps on the gate | nothing |
//! | WAITING | looks at all slots once more, sleeps on the gate | clears it and raises the generation, wakes one |
//!
//! The one who drops changes a slot and then looks at the gate; the one who is about to sleep changes the gate and then looks at the
//! slots. One of them sees the other. The generation makes sure that a gate that was opened and marked again in between is another
//! value, with which nobody falls asleep.
//!
//! Between a wake-up and its effect, WAITING is not set, and further permits that are dropped wake nobody. So whoever takes a permit
//! after having slept has set WAITING again, and then looks whether another slot is free, for the next sleeper. One who is stopped
//! (SIGSTOP) before that is alive, and keeps its wake-up. Others who sleep then get on when it does, or by the safety net, within a second.
//!
//! # A kill at each point
//!
//! * before the CAS of `acquire`: nothing has happened; after it: a dead holder, whose slot goes to the next who finds no free one;
//! * the same during a take-over: a slot goes from one dead holder to one other, and is never counted twice;
//! * between the CAS of a drop and its wake-up, asleep, or woken and not yet back: the death wakes all.
//!
//! # Garbage
//!
//! Any slot is free, held by a participant, or held by nobody, that is by a dead; any gate is one. A count above 64 is taken for 64, and
//! with 0 nothing can be had: `Corrupted`.

use core::fmt;
use core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, SeqCst};
use core::time::Duration;
use std::time::Instant;

use shmkit_core::identity::{self, Token};
use shmkit_core::shim::{AtomicU32, AtomicU64, store_load_barrier};
use shmkit_core::spin::spin;
use shmkit_core::wait::{Glance, Site, Woken, wake_one};
use shmkit_core::{Deadline, Described, Error, Fingerprint, ShmSafe, const_fn, crash_point};

use crate::error::{WaitError, taken_apart};

/// How many slots there are.
const SLOTS: usize = if cfg!(ipc_loom) { 4 } else { 64 };

/// A slot that nobody holds.
const FREE: u64 = 0;

/// In the gate: somebody may be asleep.
const WAITING: u32 = 1;

/// Version of the layout above.
const LAYOUT: u32 = 1;

#[cfg(not(ipc_loom))]
mod last {
    use core::cell::Cell;

    std::thread_local! {
        /// The slot that this thread had last, in whichever `Permits`: others will rather not be looking there.
        static LAST: Cell<Option<u32>> = const { Cell::new(None) };
    }

    #[inline]
    pub(super) fn get() -> Option<u32> {
        LAST.get()
    }

    #[inline]
    pub(super) fn set(index: u32) {
        LAST.set(Some(index));
    }
}

/// In a model nobody remembers anything, and all begin with the same slot.
#[cfg(ipc_loom)]
mod last {
    pub(super) fn get() -> Option<u32> {
        None
    }

    pub(super) fn set(_index: u32) {}
}

/// Up to 64 permits; those of a process that dies **come back**.
///
/// Like a semaphore whose permits have holders: at most [`count`](Self::count) are held at any time, by whichever threads of whichever
/// processes. When a process is killed, its permits go to those who wait or ask next, each exactly once; the one who gets such a permit
/// [can tell](Permit::after_death).
///
/// The permits are numbered, and no two holders have the same [number](Permit::index): it can stand for one of several connections,
/// buffers or devices.
///
/// There is no queue. Whoever comes at the right moment takes a permit before those who have slept longer.
///
/// Acquiring and dropping a permit without contention are one atomic exchange each, as long as the slot that the thread had last is
/// free; else it looks for another one.
///
/// # Examples
///
/// ```
/// use shmkit_core::Region;
/// use shmkit_sync::{Permits, WaitError};
///
/// let region = Region::anonymous(4096)?;
/// let booths = region.insert("booths", Permits::new(2)?)?;
///
/// let mine = booths.acquire()?;
/// let yours = booths.acquire()?;
/// assert_ne!(mine.index(), yours.index());
/// assert!(matches!(booths.try_acquire(), Err(WaitError::WouldBlock)));
/// drop(yours);
/// assert_eq!(booths.available(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[repr(C)]
pub struct Permits {
    /// How many slots are in use: 1 to 64. Never changed.
    count: AtomicU32,
    /// What those sleep on who wait; see the table of its states.
    gate: AtomicU32,
    /// The holders. Written by who takes, by the holder when it gives back, and by who takes over from a dead one.
    slots: [AtomicU64; SLOTS],
}

#[cfg(not(ipc_loom))]
const _: () = {
    assert!(size_of::<Permits>() == 520 && align_of::<Permits>() == 8);
    assert!(core::mem::offset_of!(Permits, gate) == 4);
    assert!(core::mem::offset_of!(Permits, slots) == 8);
};

// SAFETY: `repr(C)`; name, layout version, size and alignment are all that the layout depends on.
unsafe impl Described for Permits {
    const FINGERPRINT: Fingerprint = Fingerprint::new("Permits", LAYOUT, size_of::<Self>(), align_of::<Self>());

    fn type_name(f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Permits")
    }
}

// SAFETY: `repr(C)`, nothing but atomics, of which any bytes are values.
unsafe impl ShmSafe for Permits {}

/// One of the [`Permits`]; given back when dropped.
///
/// It belongs to the process that acquired it, and can be passed between its threads. In a forked child of that process, dropping it
/// gives nothing back. One that is forgotten (`mem::forget`) is held as long as the process has the region open.
#[derive(Debug)]
#[must_use = "if unused the permit is given back at once"]
pub struct Permit<'a> {
    permits: &'a Permits,
    index: u32,
    token: Token,
    after_death: bool,
}

impl Permits {
    /// The most permits that there can be.
    pub const MAX: u32 = SLOTS as u32;

    const_fn! {
        /// `count` permits, all free.
        ///
        /// # Errors
        ///
        /// [`PermitsError::InvalidCount`] for 0 and for more than [`MAX`](Self::MAX).
        pub fn new(count: u32) -> Result<Self, PermitsError> {
            if count == 0 || count > Self::MAX {
                return Err(PermitsError::InvalidCount { asked: count, max: Self::MAX });
            }
            Ok(Self { count: AtomicU32::new(count), gate: AtomicU32::new(0), slots: free_slots() })
        }
    }

    /// Takes a permit.
    ///
    /// # Blocking
    ///
    /// While all are held by processes that are alive: first looking for some microseconds where that pays (see
    /// [`spin`](mod@shmkit_core::spin)), then asleep. A stopped process (SIGSTOP) is alive.
    ///
    /// # Crash safety
    ///
    /// Any process may be killed at any point. What it held comes back, each permit once.
    ///
    /// # Errors
    ///
    /// [`WaitError::Failed`].
    #[inline]
    pub fn acquire(&self) -> Result<Permit<'_>, WaitError> {
        match self.take_last() {
            Some(permit) => Ok(permit),
            None => taken_apart(self.acquire_contended(None)),
        }
    }

    /// Takes a permit if one is free or its holder is dead.
    ///
    /// # Errors
    ///
    /// [`WaitError::WouldBlock`] if all are held; [`WaitError::Failed`].
    #[inline]
    pub fn try_acquire(&self) -> Result<Permit<'_>, WaitError> {
        match self.take_last() {
            Some(permit) => Ok(permit),
            None => taken_apart(self.try_acquire_contended()),
        }
    }

    /// Takes a permit, waiting for at most `timeout`.
    ///
    /// # Blocking
    ///
    /// As [`acquire`](Self::acquire), but not longer than `timeout` (monotonic clock); not at all if one is free.
    ///
    /// # Errors
    ///
    /// [`WaitError::TimedOut`]; [`WaitError::Failed`].
    #[inline]
    pub fn acquire_timeout(&self, timeout: Duration) -> Result<Permit<'_>, WaitError> {
        match self.take_last() {
            Some(permit) => Ok(permit),
            None => taken_apart(self.acquire_contended(Deadline::after(timeout))),
        }
    }

    /// Takes a permit, waiting until `deadline` at the latest.
    ///
    /// # Errors
    ///
    /// As for [`acquire_timeout`](Self::acquire_timeout).
    #[inline]
    pub fn acquire_deadline(&self, deadline: Instant) -> Result<Permit<'_>, WaitError> {
        self.acquire_timeout(deadline.saturating_duration_since(Instant::now()))
    }

    /// How many permits there are, held or not.
    #[inline]
    pub fn count(&self) -> u32 {
        self.count.load(Relaxed).min(Self::MAX)
    }

    /// How many permits nobody alive holds. May be outdated when it returns.
    pub fn available(&self) -> u32 {
        let glance = Glance::of(self).ok();
        let is_held = |slot: &AtomicU64| {
            // Acquire pairs with the Release in `take`: the holder is among the participants.
            let holder = Token::from_word(slot.load(Acquire));
            // Without it there is no telling who is dead.
            holder.is_some_and(|holder| glance.as_ref().is_none_or(|glance| glance.is_alive(holder)))
        };
        self.in_use().iter().filter(|slot| !is_held(slot)).count() as u32
    }

    /// The slots that are in use.
    #[inline]
    fn in_use(&self) -> &[AtomicU64] {
        &self.slots[..self.count() as usize]
    }

    /// Takes the slot that the calling thread had last, if it is free.
    #[inline]
    fn take_last(&self) -> Option<Permit<'_>> {
        let token = identity::current()?;
        let index = last::get()?;
        // One that is not in use is as little the right one as one that is held.
        self.take(self.in_use().get(index as usize)?, index, FREE, token)
    }

    /// Takes any slot that is free.
    fn take_free(&self) -> Option<Permit<'_>> {
        self.slots_from_start(identity::current()?).find_map(|(index, slot)| {
            if slot.load(Relaxed) != FREE {
                return None;
            }
            // Anew each time: a signal handler may have forked.
            self.take(slot, index, FREE, identity::current()?)
        })
    }

    /// Takes any slot that is free, or whose holder is dead by the word of `is_alive`.
    fn take_any(&self, token: Token, is_alive: impl Fn(Token) -> bool) -> Option<Permit<'_>> {
        self.slots_from_start(token).find_map(|(index, slot)| {
            // SeqCst: one who is about to sleep has marked the gate before. It also is the Acquire that pairs with the Release in `take`:
            // a holder that is seen here is among the participants.
            let word = slot.load(SeqCst);
            // It is no more if a signal handler has forked.
            if Token::from_word(word).is_some_and(&is_alive) || !identity::is_own(token) {
                return None;
            }
            self.take(slot, index, word, token)
        })
    }

    /// All slots in use, from where the calling thread is least likely to meet others.
    fn slots_from_start(&self, token: Token) -> impl Iterator<Item = (u32, &AtomicU64)> {
        let slots = self.in_use();
        // The random part of a token; any number would do.
        let start = last::get().unwrap_or((token.word() >> 32) as u32) as usize % slots.len().max(1);
        let (before, after) = slots.split_at(start);
        (start as u32..).zip(after).chain((0..).zip(before))
    }

    /// Takes a slot that is free, or whose holder is proven dead, if it still is `word`.
    #[inline]
    fn take<'a>(&'a self, slot: &'a AtomicU64, index: u32, word: u64, token: Token) -> Option<Permit<'a>> {
        // Acquire pairs with the Release in `drop`; what a dead holder wrote is visible since its death was confirmed. Release pairs with
        // the Acquire in `take_any`: whoever finds our token here finds it among the participants, too, and does not take us for dead.
        slot.compare_exchange(word, token.word(), AcqRel, Relaxed).ok()?;
        crash_point!("permits.acquire.after_cas");
        last::set(index);
        Some(Permit { permits: self, index, token, after_death: Token::from_word(word).is_some() })
    }

    #[cold]
    fn try_acquire_contended(&self) -> Result<Permit<'_>, WaitError> {
        if let Some(permit) = self.take_free() {
            return Ok(permit);
        }
        let glance = Glance::of(self)?;
        self.check()?;
        self.take_any(glance.token(), |holder| glance.is_alive(holder)).ok_or(WaitError::WouldBlock)
    }

    #[cold]
    fn acquire_contended(&self, deadline: Option<Deadline>) -> Result<Permit<'_>, WaitError> {
        if let Some(permit) = self.take_free().or_else(|| spin(|| self.take_free())) {
            return Ok(permit);
        }
        let mut site = Site::of(self)?;
        self.check()?;
        // A forked child, and a process that has used nothing of this library so far, have a token only now.
        if let Some(permit) = self.take_free() {
            return Ok(permit);
        }
        let mut has_slept = false;
        let mut is_over = false;
        loop {
            if !site.is_own() {
                site = Site::of(self)?;
            }
            // Before everything that a death may change.
            let epoch = site.epoch();
            let gate = self.mark_gate();
            crash_point!("permits.acquire.after_waiting");
            // Between the gate and the slots; the other side is in `drop`.
            store_load_barrier();
            if let Some(permit) = self.take_any(site.token(), |holder| site.is_alive(holder)) {
                if has_slept {
                    // This thread may have been woken for one permit, while others were dropped that woke nobody.
                    self.pass_on();
                }
                return Ok(permit);
            }
            if is_over {
                return Err(WaitError::TimedOut);
            }
            let woken = site.wait(&self.gate, gate, epoch, deadline);
            crash_point!("permits.acquire.after_wait");
            has_slept = true;
            // One that has been woken looks once more, with the gate marked: the wake-up may have been meant for others.
            is_over = woken == Woken::TimedOut || deadline.is_some_and(Deadline::has_passed);
        }
    }

    /// Nothing can be waited for that can never come.
    fn check(&self) -> Result<(), WaitError> {
        match self.count.load(Relaxed) {
            0 => Err(WaitError::Failed(Error::Corrupted { what: "number of permits", found: 0 })),
            _ => Ok(()),
        }
    }

    /// Sees to it that WAITING is set; returns the gate.
    fn mark_gate(&self) -> u32 {
        // SeqCst: if whoever drops a permit has not seen WAITING yet, its slot is seen to be free after this; with less, both could look
        // at what was there before. That holds for the load, too, which sees the mark of another.
        let gate = self.gate.load(SeqCst);
        if gate & WAITING != 0 { gate } else { self.gate.fetch_or(WAITING, SeqCst) | WAITING }
    }

    /// Wakes one who sleeps if there is a free slot for it.
    fn pass_on(&self) {
        // SeqCst as in `take_any`.
        if self.in_use().iter().any(|slot| slot.load(SeqCst) == FREE) {
            crash_point!("permits.acquire.before_passing_on");
            self.wake();
        }
    }

    /// Wakes one who sleeps. There is a free slot.
    #[cold]
    fn wake(&self) {
        crash_point!("permits.wake.before_gate");
        let mut gate = self.gate.load(Relaxed);
        loop {
            if gate & WAITING == 0 {
                // Somebody else has cleared it since, and the one that it wakes looks at all slots.
                return;
            }
            // Clears WAITING, which carries into the generation. Release: in a release sequence with all marks before it.
            match self.gate.compare_exchange(gate, gate.wrapping_add(WAITING), AcqRel, Relaxed) {
                Ok(_) => break,
                Err(now) => gate = now,
            }
        }
        crash_point!("permits.wake.before_wake");
        wake_one(&self.gate);
        crash_point!("permits.wake.after_wake");
    }
}

/// An array of them cannot be repeated in a model, whose atomics are no constants.
#[cfg(ipc_loom)]
fn free_slots() -> [AtomicU64; SLOTS] {
    core::array::from_fn(|_| AtomicU64::new(FREE))
}

#[cfg(not(ipc_loom))]
const fn free_slots() -> [AtomicU64; SLOTS] {
    [const { AtomicU64::new(FREE) }; SLOTS]
}

impl Permit<'_> {
    /// Which permit it is: a number below [`count`](Permits::count) that no other holder has meanwhile.
    #[inline]
    pub fn index(&self) -> u32 {
        self.index
    }

    /// Whether the holder before died with it. What that was doing under the permit may be half-done.
    #[inline]
    pub fn after_death(&self) -> bool {
        self.after_death
    }

    /// Whether the calling process took the permit; not so in a forked child of the one that did.
    #[inline]
    fn is_own(&self) -> bool {
        identity::is_own(self.token)
    }
}

impl Drop for Permit<'_> {
    #[inline]
    fn drop(&mut self) {
        if !self.is_own() {
            return;
        }
        crash_point!("permits.release.before_cas");
        let Some(slot) = self.permits.slots.get(self.index as usize) else {
            return;
        };
        // Release pairs with the Acquire in `take`. SeqCst, as is the load below: if one who is about to sleep has not seen that the slot
        // is free, its mark is seen below. Fails only on a slot that was overwritten; then there is nothing to give back.
        if slot.compare_exchange(self.token.word(), FREE, SeqCst, Relaxed).is_err() {
            return;
        }
        crash_point!("permits.release.after_cas");
        // Between the slot and the gate; the other side is in `acquire_contended`.
        store_load_barrier();
        if self.permits.gate.load(SeqCst) & WAITING != 0 {
            self.permits.wake();
        }
    }
}

impl fmt::Debug for Permits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permits").field("available", &self.available()).field("count", &self.count()).finish()
    }
}

/// Why permits were not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PermitsError {
    /// There cannot be so many.
    InvalidCount {
        /// What was asked for.
        asked: u32,
        /// The most there can be; the least is 1.
        max: u32,
    },
}

impl fmt::Display for PermitsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidCount { asked, max } => write!(f, "there cannot be {asked} permits: choose 1 to {max}"),
        }
    }
}

impl std::error::Error for PermitsError {}
