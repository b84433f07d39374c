//! An event: something that is set or not, and can be waited for.
//!
//! It carries no data and counts nothing: sets that nobody has waited for are one. To hand out a number of things, take a
//! semaphore; to wait for a condition on data, take a mutex and look again after each wait.
//!
//! # Shared layout
//!
//! ```text
//!  63                                          3        2           1       0
//! +----------------------------------------------+------------+---------+-----+
//! | generation                                   | AUTO_RESET | WAITING | SET |
//! +----------------------------------------------+------------+---------+-----+
//! ```
//!
//! The generation is raised by each `set` that changes unset to set. So a waiter that was released finds that out later, too, when the
//! event has been reset: it compares all 61 bits with those it found when it came. A sleeper's futex compares the low half of the
//! word: the three bits and the low 29 of the generation.
//!
//! # States
//!
//! | word | `set` | `reset` | `wait`, manual reset | `wait`, auto reset |
//! |---|---|---|---|---|
//! | unset | CAS -> set, next generation | - | CAS -> WAITING, sleep | CAS -> WAITING, sleep |
//! | unset, WAITING | CAS -> set, next generation, without WAITING; wake all (auto reset: one) | - | sleep | sleep |
//! | set | CAS to the same word | fetch_and -> unset | go on | CAS -> unset, with WAITING if it has slept |
//!
//! WAITING must be set while anybody sleeps who has not been woken; it may be set when nobody does. One set wakes one sleeper of an
//! auto-reset event, and takes WAITING away from the others: so whoever has slept sets it again, whether it takes the set, goes
//! back to sleep or leaves at its deadline. Only one who leaves without having been woken need not. One who waits for other things,
//! too, may leave a set that it was woken for to others: then it wakes the next one.
//!
//! A `set` of what is set already still is a read-modify-write: whoever resets afterwards, or takes the set, sees what was written
//! before both.
//!
//! # A kill at each point
//!
//! * in `set`, before the exchange: nothing has happened; between it and the wake-up: the death wakes all, and they see the word;
//! * in `reset`: there is only one instruction;
//! * while sleeping, or woken and not yet back: a set that it did not take is still there, and its death wakes the others, who look for
//!   themselves;
//! * after it has taken the set of an auto-reset event: the set is gone, as any message whose reader is killed. Nothing tells that
//!   apart from a waiter that was killed a little later.
//!
//! # Garbage
//!
//! Any value is an event in one of the states above.

mod until;

use core::fmt;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use core::time::Duration;
use std::time::Instant;

use shmkit_core::shim::AtomicU64;
use shmkit_core::spin::spin;
use shmkit_core::wait::{Site, Woken, take_part, wake_all, wake_one};
use shmkit_core::{Deadline, Described, Error, Fingerprint, Retries, ShmSafe, const_fn, crash_point};

use crate::error::WaitError;
pub use until::UntilSet;

/// It is set.
const SET: u64 = 1;
/// Somebody may be asleep.
const WAITING: u64 = 2;
/// A wait takes the set. Written at creation.
const AUTO_RESET: u64 = 4;
/// The lowest bit of the generation.
const GENERATION: u64 = 8;

/// Version of the layout above.
const LAYOUT: u32 = 1;

const fn generation_of(word: u64) -> u64 {
    word / GENERATION
}

/// Something that is set or not, and that threads and processes wait for.
///
/// A **manual-reset** event ([`new`](Self::new)) stays set until somebody resets it: one [`set`](Self::set) releases all who wait, also if
/// [`reset`](Self::reset) follows at once. An **auto-reset** event ([`auto_reset`](Self::auto_reset)) releases exactly one waiter per set,
/// and is unset again: a binary semaphore. A set of what is set already is merged with the one before.
///
/// Whatever was written before a `set` is visible to those that it releases, and to whoever takes the set back by `reset`.
///
/// An event has no owner, so a death changes nothing: whoever waits goes on waiting. A set that was taken by a process killed right
/// afterwards is gone.
///
/// # Examples
///
/// ```
/// use shmkit_core::Region;
/// use shmkit_sync::Event;
///
/// let region = Region::anonymous(4096)?;
/// let green = region.insert("green", Event::new())?;
///
/// std::thread::scope(|scope| {
///     let cars = [0, 1].map(|_| scope.spawn(|| green.wait()));
///     green.set();
///     cars.into_iter().try_for_each(|car| car.join().expect("no panic"))
/// })?;
/// assert!(green.is_set());
/// green.reset();
/// assert!(!green.try_wait());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[repr(transparent)]
pub struct Event {
    word: AtomicU64,
}

#[cfg(not(ipc_loom))]
const _: () = assert!(size_of::<Event>() == 8 && align_of::<Event>() == 8);

// SAFETY: name, layout version, size and alignment are all that the layout of this one word depends on.
unsafe impl Described for Event {
    const FINGERPRINT: Fingerprint = Fingerprint::new("Event", LAYOUT, size_of::<Self>(), align_of::<Self>());

    fn type_name(f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Event")
    }
}

// SAFETY: one atomic word, of which every value is valid.
unsafe impl ShmSafe for Event {}

impl Event {
    const_fn! {
        /// An event that is unset, and once set stays so until it is [`reset`](Self::reset).
        pub fn new() -> Self {
            Self { word: AtomicU64::new(0) }
        }
    }

    const_fn! {
        /// An event that is unset, and unset again as soon as one waiter has got it.
        pub fn auto_reset() -> Self {
            Self { word: AtomicU64::new(AUTO_RESET) }
        }
    }

    /// Sets the event: releases all who wait, or one if it is an auto-reset event. Nothing changes if it is set already.
    ///
    /// # Crash safety
    ///
    /// The process may be killed at any point: the event is set or it is not, and if it is, those who wait go on.
    #[inline]
    pub fn set(&self) {
        let mut word = self.word.load(Relaxed);
        let mut retries = Retries::new();
        loop {
            if word & (SET | WAITING) == WAITING {
                take_part(self);
            }
            let new = if word & SET == 0 { ((word | SET) & !WAITING).wrapping_add(GENERATION) } else { word };
            // Release pairs with the Acquire in `take` and `reset`. All that change the word exchange it, so it pairs with that of
            // those who find a later word, too. So does that of a set which changes nothing: see the module.
            match self.word.compare_exchange_weak(word, new, Release, Relaxed) {
                Ok(_) => break,
                Err(_) if retries.again().is_none() => {
                    // Somebody scribbles. It is set all the same, for a moment.
                    word = self.word.swap(new, Release) | WAITING;
                    break;
                }
                Err(now) => word = now,
            }
        }
        if word & (SET | WAITING) == WAITING {
            self.wake(word);
        }
    }

    /// Takes back a set, if there is one. Those who were waiting when it came are released all the same.
    #[inline]
    pub fn reset(&self) {
        // Acquire pairs with the Release in `set`: one who resets and then looks for work sees the work of each set that it took back.
        self.word.fetch_and(!SET, Acquire);
    }

    /// Whether the event is set. May be outdated when it returns.
    #[inline]
    pub fn is_set(&self) -> bool {
        // Acquire pairs with the Release in `set`.
        self.word.load(Acquire) & SET != 0
    }

    /// Whether each set releases one waiter only.
    pub fn is_auto_reset(&self) -> bool {
        self.word.load(Relaxed) & AUTO_RESET != 0
    }

    /// How often the event went from unset to set.
    ///
    /// One who is released and then asks may learn a later number than that of the set which released it.
    #[inline]
    pub fn generation(&self) -> u64 {
        generation_of(self.word.load(Acquire))
    }

    /// Waits until the event is set, and takes the set if it is an auto-reset event.
    ///
    /// # Blocking
    ///
    /// Until somebody sets it, if it is not set: first looking for some microseconds (see [`spin`](shmkit_core::spin)), then
    /// asleep. Nobody's death ends the wait.
    ///
    /// # Crash safety
    ///
    /// The process may be killed at any point. A set that it had already taken is gone; any other reaches the next.
    ///
    /// # Errors
    ///
    /// [`WaitError::Failed`].
    #[inline]
    pub fn wait(&self) -> Result<(), WaitError> {
        match self.take(0, &mut Retries::new()) {
            Ok(()) => Ok(()),
            Err(found) => self.wait_unset(found, None),
        }
    }

    /// Waits until the event is set, for at most `timeout`.
    ///
    /// # Blocking
    ///
    /// As [`wait`](Self::wait), but not longer than `timeout` (monotonic clock).
    ///
    /// # Errors
    ///
    /// [`WaitError::TimedOut`], for an event with manual reset never if it is set when the call begins; [`WaitError::Failed`].
    #[inline]
    pub fn wait_timeout(&self, timeout: Duration) -> Result<(), WaitError> {
        match self.take(0, &mut Retries::new()) {
            Ok(()) => Ok(()),
            Err(found) => self.wait_unset(found, Deadline::after(timeout)),
        }
    }

    /// Waits until the event is set, until `deadline` at the latest.
    ///
    /// # Errors
    ///
    /// As for [`wait_timeout`](Self::wait_timeout).
    #[inline]
    pub fn wait_deadline(&self, deadline: Instant) -> Result<(), WaitError> {
        self.wait_timeout(deadline.saturating_duration_since(Instant::now()))
    }

    /// Whether the event is set; takes the set if it is an auto-reset event.
    #[inline]
    pub fn try_wait(&self) -> bool {
        self.take(0, &mut Retries::new()).is_ok()
    }

    /// Goes through if the event is set; else returns the word. From an auto-reset event it takes the set, and leaves `waiting`.
    #[inline]
    fn take(&self, waiting: u64, retries: &mut Retries) -> Result<(), u64> {
        // Acquire, here and below, pairs with the Release in `set`.
        let mut word = self.word.load(Acquire);
        while word & SET != 0 {
            if word & AUTO_RESET == 0 {
                return Ok(());
            }
            match self.word.compare_exchange_weak(word, word & !SET | waiting, Acquire, Acquire) {
                Ok(_) => {
                    crash_point!("event.wait.after_take");
                    return Ok(());
                }
                // Somebody scribbles.
                Err(now) if retries.again().is_none() => return Err(now),
                Err(now) => word = now,
            }
        }
        Err(word)
    }

    /// Waits for one who has `found` the event unset.
    #[cold]
    fn wait_unset(&self, found: u64, deadline: Option<Deadline>) -> Result<(), WaitError> {
        // The event may be unset again, but have been set since.
        let was_set = |word: u64| word & AUTO_RESET == 0 && generation_of(word) != generation_of(found);
        let look = |waiting, retries: &mut Retries| {
            self.take(waiting, retries).or_else(|word| if was_set(word) { Ok(()) } else { Err(word) })
        };
        let mut retries = Retries::new();
        if spin(|| look(0, &mut retries).ok()).is_some() {
            return Ok(());
        }
        let mut site = Site::of(self)?;
        let mut woken = None;
        loop {
            if !site.is_own() {
                site = Site::of(self)?;
            }
            let epoch = site.epoch();
            // One who has slept may be the one whose wake-up took WAITING away from others.
            let word = match look(if woken.is_some() { WAITING } else { 0 }, &mut retries) {
                Ok(()) => return Ok(()),
                Err(word) => word,
            };
            if woken == Some(Woken::TimedOut) {
                return Err(WaitError::TimedOut);
            }
            if word & WAITING == 0 {
                if self.word.compare_exchange(word, word | WAITING, Relaxed, Relaxed).is_err() {
                    retries.again().ok_or(Error::Corrupted { what: "event", found: word })?;
                    continue;
                }
                crash_point!("event.wait.after_waiting");
            }
            // Only now, with WAITING set again: one who was woken and leaves must not be the last who was.
            if woken.is_some() && deadline.is_some_and(Deadline::has_passed) {
                return Err(WaitError::TimedOut);
            }
            woken = Some(site.wait(&self.word, (word | WAITING) as u32, epoch, deadline));
            crash_point!("event.wait.after_wait");
            retries = Retries::new();
        }
    }

    /// Wakes those who are released by the set of an event that was `before`.
    #[cold]
    fn wake(&self, before: u64) {
        crash_point!("event.set.before_wake");
        if before & AUTO_RESET == 0 {
            wake_all(&self.word);
        } else {
            wake_one(&self.word);
        }
        crash_point!("event.set.after_wake");
    }
}

impl Default for Event {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = self.word.load(Relaxed);
        f.debug_struct("Event")
            .field("set", &(word & SET != 0))
            .field("auto_reset", &(word & AUTO_RESET != 0))
            .field("generation", &generation_of(word))
            .finish()
    }
}
