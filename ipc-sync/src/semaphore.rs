//! A counting semaphore.
//!
//! # Shared layout
//!
//! ```text
//!  31        30     29                               0
//! +---------+------+----------------------------------+
//! | WAITING | MANY | value: permits that are there    |   state: u32
//! +---------+------+----------------------------------+
//! | bound: u32, the most that the value may be        |
//! +---------------------------------------------------+
//! | changes: u32, what those sleep on who want many   |
//! +---------------------------------------------------+
//! ```
//!
//! Those who wait for one permit sleep on `state`, those who wait for several on `changes`: a wake-up for one of the first must not be
//! spent on one of the others, to whom a single permit is of no use.
//!
//! # States
//!
//! | state | `acquire` | `acquire_many(n)` | `release_many(k)` | death of anybody |
//! |---|---|---|---|---|
//! | value above 0 | takes 1; with WAITING if it has slept, and wakes one more if permits are left | takes n, or as below | adds k | - |
//! | value 0, or below n | sets WAITING, sleeps on `state` | sets MANY, sleeps on `changes` | adds k | all sleepers wake and look |
//! | WAITING | as above | as above | and clears it, wakes k on `state` | the same |
//! | MANY | as above | as above | and clears it, raises `changes`, wakes all on it | the same |
//!
//! WAITING must be set while anybody sleeps on `state` who has not been woken, except while one who was woken has not acted yet: it
//! takes a permit, or finds none, and either way leaves WAITING set. Until then further releases find no flag and wake nobody. So
//! one who takes after having slept wakes the next if it leaves permits behind, who does the same; and so does one who waits for other things,
//! too, and leaves without taking any. MANY is set whenever anybody
//! sleeps on `changes` who has not been woken, since a release wakes all of these. Both may be set when nobody sleeps.
//!
//! The flags in the place of a count of waiters, which the dead would leave raised, are those of the futex mutex (U. Drepper, "Futexes Are
//! Tricky", the third mutex).
//!
//! One who is stopped (SIGSTOP) between its wake-up and its effect is alive, and keeps it. Others who sleep then get on when it does, or
//! by the safety net, within a second.
//!
//! # A kill at each point
//!
//! * before an exchange that takes or adds: nothing has happened; after it: permits were taken, and are lost, or were added;
//! * between an exchange of `release` and its wake-ups, or between the take of one who has slept and the wake-up that it owes: the
//!   death wakes all;
//! * asleep, or woken and not yet back: the same.
//!
//! # Garbage
//!
//! Any state is a number of permits and two flags; a flag too few can cost a sleeper its wake-up, so whoever writes at random can keep others
//! waiting. A bound above [`MAX`](Semaphore::MAX) is `MAX`. A value above the bound can be taken from and not be added to.

mod until;

use core::fmt;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use core::time::Duration;
use std::time::Instant;

use shmkit_core::shim::{AtomicU32, futex};
use shmkit_core::spin::spin;
use shmkit_core::wait::{Site, Woken, take_part, wake_all, wake_one};
use shmkit_core::{Deadline, Described, Error, Fingerprint, Retries, ShmSafe, const_fn, crash_point};

use crate::error::WaitError;
pub use until::UntilAvailable;

/// Somebody who wants one permit may be asleep.
const WAITING: u32 = 1 << 31;

/// Somebody who wants several permits may be asleep.
const MANY: u32 = 1 << 30;

/// The permits.
const VALUE: u32 = MANY - 1;

/// Version of the layout above.
const LAYOUT: u32 = 1;

/// A number of permits that processes take and give back.
///
/// A permit belongs to nobody: any process may release what another one has acquired, or what nobody has. So the permits that a process
/// had when it was killed are **lost**, as with a POSIX semaphore; where they must come back, take [`Permits`](crate::Permits). What
/// cannot happen is that a death wedges the semaphore itself, or that somebody sleeps on while there are permits.
///
/// There is no queue. Whoever comes at the right moment takes a permit before those who have slept longer, and one who wants several at
/// once can be overtaken for ever by those who want fewer.
///
/// Acquiring and releasing without contention are one atomic exchange each.
///
/// # Examples
///
/// ```
/// use shmkit_core::Region;
/// use shmkit_sync::Semaphore;
///
/// let region = Region::anonymous(4096)?;
/// let seats = region.insert("seats", Semaphore::bounded(2, 2)?)?;
///
/// seats.acquire()?;
/// seats.acquire()?;
/// assert!(!seats.try_acquire());
/// seats.release()?;
/// assert_eq!(seats.available(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[repr(C)]
pub struct Semaphore {
    /// The flags and the value, at most `bound` or what it began with. Written by whoever takes, adds or is about to sleep.
    state: AtomicU32,
    /// The most that a release may make of the value: 1 to `MAX`. Never changed.
    bound: AtomicU32,
    /// Raised, modulo 2^32, by a release that has cleared MANY, before it wakes.
    changes: AtomicU32,
}

#[cfg(not(ipc_loom))]
const _: () = {
    assert!(size_of::<Semaphore>() == 12 && align_of::<Semaphore>() == 4);
    assert!(core::mem::offset_of!(Semaphore, bound) == 4);
    assert!(core::mem::offset_of!(Semaphore, changes) == 8);
};

// SAFETY: `repr(C)`; name, layout version, size and alignment are all that the layout depends on.
unsafe impl Described for Semaphore {
    const FINGERPRINT: Fingerprint = Fingerprint::new("Semaphore", LAYOUT, size_of::<Self>(), align_of::<Self>());

    fn type_name(f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Semaphore")
    }
}

// SAFETY: `repr(C)`, nothing but atomics, of which any bytes are values.
unsafe impl ShmSafe for Semaphore {}

impl Semaphore {
    /// The most permits that a semaphore can have.
    pub const MAX: u32 = VALUE;

    const_fn! {
        /// A semaphore with `value` permits, which can become [`MAX`](Self::MAX).
        ///
        /// # Errors
        ///
        /// [`SemaphoreError::AboveBound`] if `value` is more than that.
        pub fn new(value: u32) -> Result<Self, SemaphoreError> {
            Self::bounded(value, Self::MAX)
        }
    }

    const_fn! {
        /// A semaphore with `value` permits, which can become `bound`.
        ///
        /// # Errors
        ///
        /// [`SemaphoreError::InvalidBound`] for a bound of 0, with which there could never be a permit, or above [`MAX`](Self::MAX);
        /// [`SemaphoreError::AboveBound`] if `value` is.
        pub fn bounded(value: u32, bound: u32) -> Result<Self, SemaphoreError> {
            if bound == 0 || bound > Self::MAX {
                return Err(SemaphoreError::InvalidBound { asked: bound, max: Self::MAX });
            }
            if value > bound {
                return Err(SemaphoreError::AboveBound { permits: value as u64, bound });
            }
            Ok(Self { state: AtomicU32::new(value), bound: AtomicU32::new(bound), changes: AtomicU32::new(0) })
        }
    }

    /// Takes a permit.
    ///
    /// # Blocking
    ///
    /// While there is none: first looking for some microseconds where that pays (see [`spin`](mod@shmkit_core::spin)), then asleep.
    ///
    /// # Crash safety
    ///
    /// The process may be killed at any point. A permit that it has taken is lost then, and nothing else.
    ///
    /// # Errors
    ///
    /// [`WaitError::Failed`], only where there is no permit.
    #[inline]
    pub fn acquire(&self) -> Result<(), WaitError> {
        self.acquire_many(1)
    }

    /// Takes a permit if there is one; says whether it did.
    #[inline]
    #[must_use = "there may have been no permit"]
    pub fn try_acquire(&self) -> bool {
        self.try_acquire_many(1)
    }

    /// Takes a permit, waiting for at most `timeout`.
    ///
    /// # Blocking
    ///
    /// As [`acquire`](Self::acquire), but not longer than `timeout` (monotonic clock); not at all if there is a permit.
    ///
    /// # Errors
    ///
    /// [`WaitError::TimedOut`]; [`WaitError::Failed`], only where there is no permit.
    #[inline]
    pub fn acquire_timeout(&self, timeout: Duration) -> Result<(), WaitError> {
        self.acquire_many_timeout(1, timeout)
    }

    /// Takes a permit, waiting until `deadline` at the latest.
    ///
    /// # Errors
    ///
    /// As for [`acquire_timeout`](Self::acquire_timeout).
    #[inline]
    pub fn acquire_deadline(&self, deadline: Instant) -> Result<(), WaitError> {
        self.acquire_many_deadline(1, deadline)
    }

    /// Takes `n` permits, all at once or none.
    ///
    /// # Blocking
    ///
    /// While there are fewer; meanwhile it keeps nobody else from taking those that are there, and may be overtaken for ever. For
    /// ever, too, if `n` is above the bound. `n` = 0 never waits.
    ///
    /// # Crash safety
    ///
    /// As [`acquire`](Self::acquire).
    ///
    /// # Errors
    ///
    /// [`WaitError::Failed`], only where there are fewer permits.
    #[inline]
    pub fn acquire_many(&self, n: u32) -> Result<(), WaitError> {
        if self.take_at_first(n) {
            return Ok(());
        }
        self.acquire_contended(n, None)
    }

    /// Takes `n` permits if there are as many; says whether it did.
    #[inline]
    #[must_use = "there may have been too few permits"]
    pub fn try_acquire_many(&self, n: u32) -> bool {
        self.take(n, &mut Retries::new())
    }

    /// Takes `n` permits, all at once or none, waiting for at most `timeout`.
    ///
    /// # Blocking
    ///
    /// As [`acquire_many`](Self::acquire_many), but not longer than `timeout` (monotonic clock); not at all if there are as many.
    ///
    /// # Errors
    ///
    /// [`WaitError::TimedOut`], also if `n` is above the bound; [`WaitError::Failed`], only where there are fewer permits.
    #[inline]
    pub fn acquire_many_timeout(&self, n: u32, timeout: Duration) -> Result<(), WaitError> {
        if self.take_at_first(n) {
            return Ok(());
        }
        self.acquire_contended(n, Deadline::after(timeout))
    }

    /// Takes `n` permits, all at once or none, waiting until `deadline` at the latest.
    ///
    /// # Errors
    ///
    /// As for [`acquire_many_timeout`](Self::acquire_many_timeout).
    #[inline]
    pub fn acquire_many_deadline(&self, n: u32, deadline: Instant) -> Result<(), WaitError> {
        self.acquire_many_timeout(n, deadline.saturating_duration_since(Instant::now()))
    }

    /// Adds a permit, and wakes one of those who wait for one.
    ///
    /// # Crash safety
    ///
    /// The process may be killed at any point: the permit is there or not, and if it is, nobody sleeps on who should have it.
    ///
    /// # Errors
    ///
    /// [`SemaphoreError::AboveBound`] if there are as many as the bound allows; [`SemaphoreError::Corrupted`]. Nothing was changed then.
    #[inline]
    pub fn release(&self) -> Result<(), SemaphoreError> {
        self.release_many(1)
    }

    /// Adds `n` permits at once, and wakes as many of those who wait for one, and all who wait for several.
    ///
    /// # Crash safety
    ///
    /// As [`release`](Self::release).
    ///
    /// # Errors
    ///
    /// [`SemaphoreError::AboveBound`] if that is more than the bound allows; [`SemaphoreError::Corrupted`]. Nothing was changed then.
    #[inline]
    pub fn release_many(&self, n: u32) -> Result<(), SemaphoreError> {
        crash_point!("semaphore.release.before_cas");
        let mut state = self.state.load(Relaxed);
        let mut retries = Retries::new();
        loop {
            let permits = u64::from(state & VALUE) + u64::from(n);
            let bound = self.bound.load(Relaxed).min(Self::MAX);
            if permits > u64::from(bound) {
                return Err(SemaphoreError::AboveBound { permits, bound });
            }
            if n == 0 {
                // It must not clear flags: it wakes nobody.
                return Ok(());
            }
            if state & (WAITING | MANY) != 0 {
                take_part(self);
            }
            // Release pairs with the Acquire of those who take.
            match self.state.compare_exchange_weak(state, permits as u32, Release, Relaxed) {
                Ok(_) => break,
                Err(now) if retries.again().is_none() => return Err(SemaphoreError::Corrupted { found: now }),
                Err(now) => state = now,
            }
        }
        if state & (WAITING | MANY) != 0 {
            self.wake(state, n);
        }
        Ok(())
    }

    /// How many permits there are. May be outdated when it returns.
    #[inline]
    pub fn available(&self) -> u32 {
        self.state.load(Relaxed) & VALUE
    }

    /// Takes `n` permits if there are as many, and nobody keeps changing the word; says whether it did.
    #[inline]
    fn take(&self, n: u32, retries: &mut Retries) -> bool {
        let mut state = self.state.load(Relaxed);
        while state & VALUE >= n {
            // Acquire pairs with the Release in `release_many`: of all releases so far, since each exchange goes on from the last.
            match self.state.compare_exchange_weak(state, state - n, Acquire, Relaxed) {
                Ok(_) => {
                    crash_point!("semaphore.try_acquire.after_cas");
                    return true;
                }
                Err(_) if retries.again().is_none() => return false,
                Err(now) => state = now,
            }
        }
        false
    }

    /// One attempt, for those who wait if it fails.
    #[inline]
    fn take_at_first(&self, n: u32) -> bool {
        let state = self.state.load(Relaxed);
        // Acquire as in `try_acquire_many`.
        let taken =
            state & VALUE >= n && self.state.compare_exchange(state, state.wrapping_sub(n), Acquire, Relaxed).is_ok();
        if taken {
            crash_point!("semaphore.acquire.after_cas");
        }
        taken
    }

    /// Wakes those for whom there are `n` more permits, after the flags in `state` have been cleared.
    #[cold]
    fn wake(&self, state: u32, n: u32) {
        crash_point!("semaphore.release.before_wake");
        if state & WAITING != 0 {
            futex::wake(&self.state, n);
        }
        if state & MANY != 0 {
            crash_point!("semaphore.release.before_change");
            // Release pairs with the Acquire in `wait_for_many`: whoever sees the change sees that MANY was cleared.
            self.changes.fetch_add(1, Release);
            crash_point!("semaphore.release.after_change");
            wake_all(&self.changes);
        }
        crash_point!("semaphore.release.after_wake");
    }

    #[cold]
    fn acquire_contended(&self, n: u32, deadline: Option<Deadline>) -> Result<(), WaitError> {
        let mut retries = Retries::new();
        if self.take(n, &mut retries) || spin(|| self.take(n, &mut retries).then_some(())).is_some() {
            return Ok(());
        }
        let site = Site::of(self)?;
        if n == 1 { self.wait_for_one(site, deadline) } else { self.wait_for_many(n, site, deadline) }
    }

    fn wait_for_one(&self, mut site: Site, deadline: Option<Deadline>) -> Result<(), WaitError> {
        // What a take leaves set: WAITING, once this thread may have been woken in the place of another.
        let mut leave = 0;
        let mut is_over = false;
        let mut retries = Retries::new();
        loop {
            if !site.is_own() {
                site = Site::of(self)?;
            }
            // Before everything that a death may change.
            let epoch = site.epoch();
            let state = self.state.load(Relaxed);
            if state & VALUE > 0 {
                let left = (state - 1) | leave;
                // Acquire as in `try_acquire_many`.
                if self.state.compare_exchange(state, left, Acquire, Relaxed).is_err() {
                    retries.again().ok_or_else(|| scribbled(state))?;
                    continue;
                }
                crash_point!("semaphore.acquire.after_take");
                if leave != 0 && left & VALUE > 0 {
                    // Released while no flag was set: whoever sleeps does not know of them.
                    wake_one(&self.state);
                    crash_point!("semaphore.acquire.after_passing_on");
                }
                return Ok(());
            }
            if state & WAITING == 0 {
                if self.state.compare_exchange(state, state | WAITING, Relaxed, Relaxed).is_err() {
                    retries.again().ok_or_else(|| scribbled(state))?;
                    continue;
                }
                crash_point!("semaphore.acquire.after_waiting");
            }
            if is_over {
                return Err(WaitError::TimedOut);
            }
            let woken = site.wait(&self.state, state | WAITING, epoch, deadline);
            crash_point!("semaphore.acquire.after_wait");
            retries = Retries::new();
            if woken == Woken::TimedOut {
                return if self.try_acquire() { Ok(()) } else { Err(WaitError::TimedOut) };
            }
            leave = WAITING;
            // With a wake-up that was meant for somebody: it is used once more, or WAITING is set again.
            is_over = deadline.is_some_and(Deadline::has_passed);
        }
    }

    fn wait_for_many(&self, n: u32, mut site: Site, deadline: Option<Deadline>) -> Result<(), WaitError> {
        let mut retries = Retries::new();
        loop {
            if !site.is_own() {
                site = Site::of(self)?;
            }
            // Before everything that a death may change.
            let epoch = site.epoch();
            // Acquire pairs with the Release in `wake`: a release whose change is seen here has cleared MANY before it is looked at
            // below. The change of any other comes after this, and is seen by the wait.
            let changes = self.changes.load(Acquire);
            if self.take(n, &mut retries) {
                return Ok(());
            }
            let state = self.state.load(Relaxed);
            if state & VALUE >= n {
                retries.again().ok_or_else(|| scribbled(state))?;
                continue;
            }
            if state & MANY == 0 {
                if self.state.compare_exchange(state, state | MANY, Relaxed, Relaxed).is_err() {
                    retries.again().ok_or_else(|| scribbled(state))?;
                    continue;
                }
                crash_point!("semaphore.acquire_many.after_many");
            }
            let woken = site.wait(&self.changes, changes, epoch, deadline);
            crash_point!("semaphore.acquire_many.after_wait");
            retries = Retries::new();
            // A wake-up that was consumed need not be passed on: all had one.
            if woken == Woken::TimedOut || deadline.is_some_and(Deadline::has_passed) {
                return if self.try_acquire_many(n) { Ok(()) } else { Err(WaitError::TimedOut) };
            }
        }
    }
}

/// Somebody changes the word without an end, which nobody does who takes and releases.
#[cold]
fn scribbled(found: u32) -> WaitError {
    WaitError::Failed(Error::Corrupted { what: "semaphore", found: u64::from(found) })
}

impl fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Semaphore").field("available", &self.available()).field("bound", &self.bound).finish()
    }
}

/// Why a semaphore was not made, or permits were not added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SemaphoreError {
    /// No semaphore has this bound.
    InvalidBound {
        /// What was asked for.
        asked: u32,
        /// The highest there is; the lowest is 1.
        max: u32,
    },
    /// There would be more permits than the bound allows.
    AboveBound {
        /// How many there would be.
        permits: u64,
        /// The most there may be.
        bound: u32,
    },
    /// The value is changed without an end, by one who does not keep to the rules.
    Corrupted {
        /// What it was at last.
        found: u32,
    },
}

impl fmt::Display for SemaphoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidBound { asked, max } => {
                write!(f, "a semaphore cannot have the bound {asked}: choose 1 to {max}")
            }
            Self::AboveBound { permits, bound } => write!(
                f,
                "the semaphore would have {permits} permits, and its bound is {bound}: release only what was acquired"
            ),
            Self::Corrupted { found } => write!(f, "corrupted semaphore: found {found:#x}"),
        }
    }
}

impl std::error::Error for SemaphoreError {}
