//! A lock that outlives its owner: one word, two atomic operations.
//!
//! The algorithm is that of the futex mutex of Rust's standard library (U. Drepper, "Futexes Are Tricky", the third mutex),
//! with the owner's token in the word, so that a dead owner is known and its lock taken over.
//!
//! # Shared layout
//!
//! ```text
//!  63                                       1         0
//! +------------------------------------------+---------+
//! | token of the owner                       | WAITING |   0: free
//! +------------------------------------------+---------+
//! ```
//!
//! # States
//!
//! | word | `lock` | `unlock` by the owner | confirmed death of the owner |
//! |---|---|---|---|
//! | `0` | CAS -> mine; with WAITING if it has slept | - | - |
//! | `T` | CAS -> `T` with WAITING, sleep | swap -> `0` | the next locker: CAS -> mine with WAITING |
//! | `T` with WAITING | sleep | swap -> `0`, wake one | the next locker: CAS -> mine with WAITING |
//!
//! WAITING must be set while anybody sleeps who has not been woken; it may be set when nobody does.
//!
//! # A kill at each point
//!
//! * before the CAS of `lock`: nothing has happened; after it: a dead owner, taken over by the next locker;
//! * while sleeping, or woken and not yet back: the wake-up it has swallowed is made good by the epoch of deaths, which wakes
//!   all;
//! * between the swap of `unlock` and its wake-up: the same;
//! * after a take-over: again a dead owner.
//!
//! # Garbage
//!
//! Any value is `0`, a token of a participant, or a token of nobody, that is of a dead owner. A hostile peer can keep others
//! out or let them in together; it cannot make them do anything else.

use core::fmt;
use core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use crate::deadline::Deadline;
use crate::described::{Described, Fingerprint, ShmSafe};
use crate::error::Error;
use crate::identity::{self, FLAG, Token};
use crate::retries::Retries;
use crate::shim::AtomicU64;
use crate::spin::spin_briefly;
use crate::wait::{Site, Woken, wake_one};
use crate::{const_fn, crash_point};

/// Somebody may be asleep.
const WAITING: u64 = FLAG;

/// How often a locker looks before it sleeps: a lock is held for a short time, or for a long one.
const LOOKS: u32 = 100;

/// The lock. Zeroes are an unlocked one.
#[repr(transparent)]
#[derive(Debug)]
pub struct RawLock {
    word: AtomicU64,
}

/// Version of the layout above.
const LAYOUT: u32 = 1;

// SAFETY: name and layout version are all that the layout depends on.
unsafe impl Described for RawLock {
    const FINGERPRINT: Fingerprint = Fingerprint::new("RawLock", LAYOUT, size_of::<Self>(), align_of::<Self>());

    fn type_name(f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RawLock")
    }
}

// SAFETY: an atomic.
unsafe impl ShmSafe for RawLock {}

/// A lock that is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "the lock stays held"]
pub struct Held {
    /// Under which token.
    pub token: Token,
    /// The previous owner died with it: what it protects may be half-changed.
    pub after_death: bool,
}

impl Held {
    /// Whether the calling process took the lock; not so in a forked child of the one that did.
    #[inline]
    pub fn is_own(self) -> bool {
        identity::current().is_some_and(|current| current.is_same_process(self.token))
    }
}

/// Why a lock was not taken.
#[derive(Debug)]
pub enum NotHeld {
    /// Somebody else, or the calling thread itself, has it, and the deadline has passed.
    TimedOut,
    /// This process cannot take part, see [`Site::of`].
    Failed(Error),
}

impl RawLock {
    const_fn! {
        /// An unlocked lock.
        pub fn new() -> Self {
            Self { word: AtomicU64::new(0) }
        }
    }

    /// The lock that `word` is, for tables that are made of words. 0 is an unlocked one.
    #[inline]
    pub fn of(word: &AtomicU64) -> &Self {
        // SAFETY: a lock is nothing but its word (`repr(transparent)`), of which every value is one.
        unsafe { &*core::ptr::from_ref(word).cast::<Self>() }
    }

    /// Takes the lock, waiting for it until `deadline`.
    ///
    /// # Blocking
    ///
    /// While another thread holds the lock and its process is alive; for ever, or until the deadline, if the calling thread
    /// holds it.
    ///
    /// # Crash safety
    ///
    /// The process may be killed at any point; the lock is then free, or its owner known to be dead.
    #[inline]
    pub fn lock(&self, deadline: Option<Deadline>) -> Result<Held, NotHeld> {
        match self.lock_free() {
            Some(held) => Ok(held),
            None => self.lock_contended(deadline),
        }
    }

    /// Takes the lock if it is free or its owner is dead; `None` if it is held.
    #[inline]
    pub fn try_lock(&self) -> Result<Option<Held>, Error> {
        match self.lock_free() {
            Some(held) => Ok(Some(held)),
            None => self.try_lock_contended(),
        }
    }

    /// Gives the lock up. In a process that did not take it (a forked child of the owner) this does nothing.
    #[inline]
    pub fn unlock(&self, held: Held) {
        if !held.is_own() {
            return;
        }
        crash_point!("lock.unlock.before_swap");
        // Release pairs with the Acquire of the next locker.
        if self.word.swap(0, Release) & WAITING != 0 {
            self.wake();
        }
    }

    /// The token in the lock: its owner's, alive or dead; `None` if the lock is free. May be outdated when it returns, unless it is the
    /// caller's.
    #[inline]
    pub fn owner(&self) -> Option<Token> {
        Token::from_word(self.look())
    }

    #[inline]
    fn lock_free(&self) -> Option<Held> {
        let token = identity::current()?;
        // Acquire pairs with the Release in `unlock`. Release pairs with the Acquire in `look`: whoever finds our token here finds
        // it among the participants, too, and does not take us for dead.
        self.word.compare_exchange(0, token.word(), AcqRel, Relaxed).ok()?;
        crash_point!("lock.after_cas");
        Some(Held { token, after_death: false })
    }

    #[cold]
    fn wake(&self) {
        crash_point!("lock.unlock.before_wake");
        wake_one(&self.word);
        crash_point!("lock.unlock.after_wake");
    }

    #[cold]
    fn try_lock_contended(&self) -> Result<Option<Held>, Error> {
        let site = Site::of(self)?;
        site.look();
        let word = self.look();
        Ok(match Token::from_word(word) {
            Some(owner) if site.is_alive(owner) => None,
            // WAITING stays as it is: those who sleep still need a wake-up.
            _ => self.take(word, word & WAITING, &site),
        })
    }

    #[cold]
    fn lock_contended(&self, deadline: Option<Deadline>) -> Result<Held, NotHeld> {
        // Once somebody sleeps, waiting takes long anyway.
        let looked =
            spin_briefly(LOOKS, || Some(self.word.load(Relaxed)).filter(|word| *word == 0 || word & WAITING != 0));
        if looked == Some(0) {
            if let Some(held) = self.lock_free() {
                return Ok(held);
            }
        }
        let mut site = Site::of(self).map_err(NotHeld::Failed)?;
        let mut retries = Retries::new();
        loop {
            if !site.is_own() {
                site = Site::of(self).map_err(NotHeld::Failed)?;
            }
            // Before everything that a death may change.
            let epoch = site.epoch();
            let word = self.look();
            let owner = Token::from_word(word);
            if !owner.is_some_and(|owner| site.is_alive(owner)) {
                // Free, or its owner is dead. Others may sleep: the wake-up that brought us here was meant for one of them too.
                if let Some(held) = self.take(word, WAITING, &site) {
                    return Ok(held);
                }
                retries.again().ok_or_else(|| scribbled(word))?;
                continue;
            }
            if word & WAITING == 0 {
                let marked = self.word.compare_exchange(word, word | WAITING, Relaxed, Relaxed);
                if marked.is_err() {
                    retries.again().ok_or_else(|| scribbled(word))?;
                    continue;
                }
                crash_point!("lock.after_waiting");
            }
            let woken = site.wait(&self.word, (word | WAITING) as u32, epoch, deadline);
            crash_point!("lock.after_wait");
            retries = Retries::new();
            if woken == Woken::TimedOut || deadline.is_some_and(Deadline::has_passed) {
                return self.give_up(woken, &site);
            }
        }
    }

    /// The word, for those who then ask whether its owner is alive.
    #[inline]
    fn look(&self) -> u64 {
        // Acquire pairs with the Release in `lock_free` and `take`: an owner that is in the lock is among the participants.
        self.word.load(Acquire)
    }

    /// Takes a lock that is free (`word` without an owner), or whose owner is proven dead.
    fn take(&self, word: u64, waiting: u64, site: &Site) -> Option<Held> {
        let mine = site.token().word() | waiting;
        // Acquire pairs with the Release in `unlock`; what a dead owner wrote is visible since its death was confirmed. Release
        // pairs with the Acquire in `look`, as in `lock_free`.
        self.word.compare_exchange(word, mine, AcqRel, Relaxed).ok()?;
        crash_point!("lock.after_take");
        Some(Held { token: site.token(), after_death: Token::from_word(word).is_some() })
    }

    /// Leaves at the deadline. A wake-up that may have been meant for this locker is passed on: the next sleeper would be lost
    /// with it.
    fn give_up(&self, woken: Woken, site: &Site) -> Result<Held, NotHeld> {
        // In a child that a signal handler has forked during the wait, the wake-up was its parent's.
        if woken == Woken::Maybe && site.is_own() {
            let mut retries = Retries::new();
            while retries.again().is_some() {
                let word = self.word.load(Relaxed);
                if Token::from_word(word).is_none() {
                    if let Some(held) = self.take(word, WAITING, site) {
                        return Ok(held);
                    }
                } else if word & WAITING != 0
                    || self.word.compare_exchange(word, word | WAITING, Relaxed, Relaxed).is_ok()
                {
                    break;
                }
            }
        }
        Err(NotHeld::TimedOut)
    }
}

/// Somebody changes the word without an end, which no locker does.
fn scribbled(found: u64) -> NotHeld {
    NotHeld::Failed(Error::Corrupted { what: "lock", found })
}

impl Default for RawLock {
    fn default() -> Self {
        Self::new()
    }
}
