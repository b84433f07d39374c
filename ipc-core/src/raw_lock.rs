//! A lock that outlives its owner: one exchange to take it, and one plain store to give it up.
//!
//! A dead owner is known by its token, and its lock taken over. Those who wait sleep at a word of their own, which whoever gives
//! up may look at without a fence.
//!
//! # Shared layout
//!
//! ```text
//!           63                                       1        0
//!          +------------------------------------------+--------+
//! owner    | token of the owner                                |   0: free
//!          +------------------------------------------+--------+
//! sleepers | how often one of them was woken          | ASLEEP |
//!          +------------------------------------------+--------+
//! ```
//!
//! # States
//!
//! | owner | `lock` | `unlock` by the owner | confirmed death of the owner |
//! |---|---|---|---|
//! | `0` | CAS -> mine | - | - |
//! | `T` | look for a while, then sleep | store -> `0`, look at the sleepers | the next locker: CAS -> mine |
//!
//! | sleepers | about to sleep | `unlock` |
//! |---|---|---|
//! | `n` | -> `n` ASLEEP, look, settle, look, sleep | - |
//! | `n` ASLEEP | look, settle, look, sleep | -> `n + 1`, wake one |
//!
//! # Nobody sleeps on
//!
//! While anybody sleeps beside a lock that nobody has, there is one who will see to it: ASLEEP is set, and whoever unlocks finds it; or it has been
//! taken out, and one of the sleepers is awake for that. It sets ASLEEP again before it looks, for the others. Then it either has the
//! lock, and will unlock it; or sleeps, with ASLEEP as it left it; or leaves at its deadline, and wakes the next one in its place. (One who has
//! not been woken owes that to nobody.)
//!
//! Whoever unlocks looks at ASLEEP by a plain load, which may come before its store is seen: a fence would cost as much as all the rest. A sleeper makes
//! up for that by time. Until its mark has [settled](settling) it only [naps](nap), and looks again; `docs/MEMORY_MODEL.md` has the argument, in "A store
//! without a fence". It has to settle once for each number: while that stays the same, ASLEEP stays set, and everybody sees it. In models
//! there is a fence.
//!
//! The number makes a sleep return at once that was decided on before the lock was given up. Without it, ASLEEP could have been taken out and
//! set again meanwhile, by one who has left since.
//!
//! # A kill at each point
//!
//! * before the CAS of `lock`: nothing has happened; after it: a dead owner, taken over by the next locker;
//! * with ASLEEP set, while sleeping, or woken and not yet back: the wake-up it has swallowed is made good by the epoch of deaths, which wakes
//!   all;
//! * between the store of `unlock` and its wake-up: the same; the lock is free;
//! * after a take-over: again a dead owner.
//!
//! # Garbage
//!
//! Any owner is `0`, a token of a participant, or a token of nobody, that is of a dead owner. Any sleepers are a number and ASLEEP: one too much costs
//! a wake-up of nobody; one too few can cost a sleeper its wake-up, and it goes on with the next one, or with the safety net's look at deaths. A
//! hostile peer can keep others out or let them in together; it cannot make them do anything else.

use core::fmt;
use core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};
use core::sync::atomic::compiler_fence;

use crate::deadline::Deadline;
use crate::described::{Described, Fingerprint, ShmSafe};
use crate::error::Error;
use crate::identity::{self, Token};
use crate::retries::Retries;
use crate::shim::{AtomicU64, fence, store_load_barrier};
use crate::spin::spin_briefly;
use crate::wait::{Glance, Site, Woken, nap, settling, wake_one};
use crate::{const_fn, crash_point};

/// Somebody may be asleep.
const ASLEEP: u64 = 1;

/// What raises the number beside it by one.
const NUMBER: u64 = 2;

/// How often a locker looks before it sleeps: a lock is held for a short time, or for a long one.
const LOOKS: u32 = 100;

/// The lock. Zeroes are an unlocked one.
#[repr(C)]
#[derive(Debug)]
pub struct RawLock {
    /// The token of the owner, or 0. 0 -> token by the owner; token -> 0 by the same; the token of a dead -> another one by the next owner.
    owner: AtomicU64,
    /// Those who wait sleep on its low half. Written by those who are about to sleep, and by those who wake them.
    sleepers: AtomicU64,
}

#[cfg(not(ipc_loom))]
const _: () = assert!(size_of::<RawLock>() == 16 && align_of::<RawLock>() == 8);

/// Version of the layout above.
const LAYOUT: u32 = 2;

// SAFETY: name and layout version are all that the layout depends on.
unsafe impl Described for RawLock {
    const FINGERPRINT: Fingerprint = Fingerprint::new("RawLock", LAYOUT, size_of::<Self>(), align_of::<Self>());

    fn type_name(f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RawLock")
    }
}

// SAFETY: two atomics.
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
        identity::is_own(self.token)
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
            Self { owner: AtomicU64::new(0), sleepers: AtomicU64::new(0) }
        }
    }

    /// The lock that `words` are, for tables that are made of words. Zeroes are an unlocked one.
    #[inline]
    pub fn of(words: &[AtomicU64; 2]) -> &Self {
        // SAFETY: a lock is nothing but two such words in a row (`repr(C)`), of which every value is one.
        unsafe { &*core::ptr::from_ref(words).cast::<Self>() }
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
    ///
    /// # Errors
    ///
    /// [`NotHeld`].
    #[inline]
    pub fn lock(&self, deadline: Option<Deadline>) -> Result<Held, NotHeld> {
        match self.lock_if_free() {
            Some(held) => Ok(held),
            None => self.lock_contended(deadline),
        }
    }

    /// Takes the lock if it is free or its owner is dead; `None` if it is held.
    ///
    /// # Errors
    ///
    /// Those of [`Site::of`].
    #[inline]
    pub fn try_lock(&self) -> Result<Option<Held>, Error> {
        // An exchange that fails takes as long as one that succeeds, and the cache line away from the owner.
        let is_free = self.owner.load(Relaxed) == 0;
        match is_free.then(|| self.lock_if_free()).flatten() {
            Some(held) => Ok(Some(held)),
            None => self.try_lock_contended(),
        }
    }

    /// Takes the lock if it is free, and asks no further: `None` also if its owner is dead, and in a child that has just been forked. For those who
    /// [`lock`](Self::lock) if nothing comes of it.
    #[inline]
    pub fn lock_if_free(&self) -> Option<Held> {
        let token = identity::current()?;
        // Acquire pairs with the Release in `unlock`. Release pairs with the Acquire in `look`: whoever finds our token here finds
        // it among the participants, too, and does not take us for dead.
        self.owner.compare_exchange(0, token.word(), AcqRel, Relaxed).ok()?;
        crash_point!("lock.after_cas");
        Some(Held { token, after_death: false })
    }

    /// Gives the lock up. In a process that did not take it (a forked child of the owner) this does nothing.
    #[inline]
    pub fn unlock(&self, held: Held) {
        crash_point!("lock.unlock.before_store");
        if !held.is_own() {
            return;
        }
        // Release pairs with the Acquire of the next locker.
        self.owner.store(0, Release);
        crash_point!("lock.unlock.after_store");
        // The processor may still look at the sleepers first; they allow for that. The compiler may not.
        compiler_fence(SeqCst);
        // Models know no time: there, this is a fence on our side.
        store_load_barrier();
        if self.sleepers.load(Relaxed) & ASLEEP != 0 {
            self.wake();
        }
    }

    /// The token in the lock: its owner's, alive or dead; `None` if the lock is free. May be outdated when it returns, unless it is the
    /// caller's.
    #[inline]
    pub fn owner(&self) -> Option<Token> {
        Token::from_word(self.look())
    }

    /// Wakes one of those who sleep, who then sees to the others.
    #[cold]
    fn wake(&self) {
        let mut word = self.sleepers.load(Relaxed);
        let mut retries = Retries::new();
        while word & ASLEEP != 0 && retries.again().is_some() {
            crash_point!("lock.wake.before_number");
            // Release pairs with the Acquire in `mark`: whoever sees the new number sees the lock as it is now.
            match self.sleepers.compare_exchange(word, (word & !ASLEEP).wrapping_add(NUMBER), Release, Relaxed) {
                Ok(_) => {
                    crash_point!("lock.wake.before_wake");
                    wake_one(&self.sleepers);
                    crash_point!("lock.wake.after_wake");
                    return;
                }
                // If somebody else has taken ASLEEP out, whoever sets it again looks at the lock after that.
                Err(found) => word = found,
            }
        }
    }

    /// Sets ASLEEP; returns what the sleepers must be for a sleep. Look at the owner after that.
    fn mark(&self, retries: &mut Retries) -> Result<u64, NotHeld> {
        let mut word = self.sleepers.load(Relaxed);
        // Acquire pairs with the Release in `wake`.
        while let Err(found) = self.sleepers.compare_exchange(word, word | ASLEEP, AcqRel, Relaxed) {
            retries.again().ok_or_else(|| scribbled(found))?;
            word = found;
        }
        fence(SeqCst);
        Ok(word | ASLEEP)
    }

    #[cold]
    fn try_lock_contended(&self) -> Result<Option<Held>, Error> {
        let glance = Glance::of(self)?;
        let word = self.look();
        Ok(match Token::from_word(word) {
            Some(owner) if glance.is_alive(owner) => None,
            _ => self.take(word, glance.token()),
        })
    }

    #[cold]
    fn lock_contended(&self, deadline: Option<Deadline>) -> Result<Held, NotHeld> {
        let looked = spin_briefly(LOOKS, || {
            let owner = self.owner.load(Relaxed);
            // Once somebody sleeps, waiting takes long anyway.
            (owner == 0 || self.sleepers.load(Relaxed) & ASLEEP != 0).then_some(owner)
        });
        if looked == Some(0) {
            if let Some(held) = self.lock_if_free() {
                return Ok(held);
            }
        }
        let mut site = Site::of(self).map_err(NotHeld::Failed)?;
        let mut retries = Retries::new();
        let mut settles: Option<(u64, Option<Deadline>)> = None;
        let mut was_woken = false;
        let mut is_over = false;
        loop {
            if !site.is_own() {
                // A signal handler has forked; a wake-up was the parent's.
                site = Site::of(self).map_err(NotHeld::Failed)?;
                was_woken = false;
            }
            // Before everything that a death may change.
            let epoch = site.epoch();
            let marked = self.mark(&mut retries)?;
            crash_point!("lock.after_mark");
            let is_new = settles.is_none_or(|(number, _)| number != marked);
            // Before the look, which is the last one if it is settled. Whatever ends a sleep before that time makes it no shorter.
            let mut unsettled =
                settles.and_then(|(_, settled)| settled).filter(|settled| !is_new && !settled.has_passed());
            let mut found = self.attempt(&site);
            if is_new && matches!(found, Ok(None)) {
                // Only now: who was woken mostly finds it free.
                unsettled = settling();
                settles = Some((marked, unsettled));
                if unsettled.is_some() {
                    found = self.attempt(&site);
                }
            }
            match found {
                // ASLEEP is set, so the next one is woken when it is given up.
                Ok(Some(held)) => return Ok(held),
                Err(word) if !is_over => {
                    retries.again().ok_or_else(|| scribbled(word))?;
                    is_over = deadline.is_some_and(Deadline::has_passed);
                    continue;
                }
                Ok(None) | Err(_) => {}
            }
            if is_over {
                if was_woken {
                    // ASLEEP may not be settled, and others have relied on this one.
                    self.wake();
                }
                return Err(NotHeld::TimedOut);
            }
            was_woken |= site.wait(&self.sleepers, marked as u32, epoch, nap(unsettled, deadline)) == Woken::Maybe;
            crash_point!("lock.after_wait");
            retries = Retries::new();
            is_over = deadline.is_some_and(Deadline::has_passed);
        }
    }

    /// Takes it if it is free or its owner is dead: `None` if that is alive, and what stood there if somebody has changed it meanwhile.
    fn attempt(&self, site: &Site) -> Result<Option<Held>, u64> {
        let word = self.look();
        if Token::from_word(word).is_some_and(|owner| site.is_alive(owner)) {
            return Ok(None);
        }
        self.take(word, site.token()).map(Some).ok_or(word)
    }

    /// The owner, for those who then ask whether it is alive.
    #[inline]
    fn look(&self) -> u64 {
        // Acquire pairs with the Release in `lock_if_free` and `take`: an owner that is in the lock is among the participants.
        self.owner.load(Acquire)
    }

    /// Takes a lock that is free (`word` without an owner), or whose owner is proven dead.
    fn take(&self, word: u64, token: Token) -> Option<Held> {
        if !identity::is_own(token) {
            // A signal handler has forked since it was asked who this is.
            return None;
        }
        // Acquire pairs with the Release in `unlock`; what a dead owner wrote is visible since its death was confirmed. Release
        // pairs with the Acquire in `look`, as in `lock_if_free`.
        self.owner.compare_exchange(word, token.word(), AcqRel, Relaxed).ok()?;
        crash_point!("lock.after_take");
        Some(Held { token, after_death: Token::from_word(word).is_some() })
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

#[cfg(all(test, not(ipc_loom)))]
mod tests {
    use core::hint;
    use core::sync::atomic::AtomicUsize;
    use core::time::Duration;
    use std::thread;
    use std::time::Instant;

    use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
    use nix::unistd::Pid;

    use super::*;
    use crate::spin::{Spinning, set_spinning};

    /// On a line of its own.
    #[repr(align(64))]
    struct Line(RawLock);

    /// Keeps this thread on a CPU of its own, if there are two: those who share one never see a store late, and wait for each other for a slice of time.
    fn stay_on(index: usize) {
        let allowed = sched_getaffinity(Pid::from_raw(0)).expect("the CPUs");
        let cpus: Vec<_> = (0..CpuSet::count()).filter(|cpu| allowed.is_set(*cpu) == Ok(true)).collect();
        let mut own = CpuSet::new();
        own.set(cpus[index % cpus.len()]).expect("a CPU");
        sched_setaffinity(Pid::from_raw(0), &own).expect("an allowed CPU");
    }

    /// Looks until `word` is greater than `number`: now and then, for ten seconds in which this thread runs.
    fn rises_above(word: &AtomicUsize, number: usize) -> bool {
        let has_risen = || word.load(Acquire) > number;
        let soon = (0..100_000).any(|_| {
            hint::spin_loop();
            has_risen()
        });
        soon || (0..1000).any(|_| {
            thread::sleep(Duration::from_millis(10));
            has_risen()
        })
    }

    /// What models cannot show, since they have a fence there: on a real processor, a store without one is seen late, and the look behind it comes before.
    #[test]
    fn no_wake_up_is_lost_although_an_unlock_has_no_fence() {
        const ROUNDS: usize = 20_000;
        let all: Vec<_> = (0..ROUNDS).map(|_| Line(RawLock::new())).collect();
        let [held, asks, has] = [(); 3].map(|()| AtomicUsize::new(0));
        thread::scope(|scope| {
            scope.spawn(|| {
                stay_on(0);
                // Outside of any region there is no safety net, so a lost wake-up is lost for good.
                set_spinning(Spinning::Never);
                for (number, Line(lock)) in all.iter().enumerate() {
                    assert!(rises_above(&held, number), "the lock is held");
                    asks.store(number + 1, Release);
                    lock.unlock(lock.lock(None).expect("it is given up"));
                    has.store(number + 1, Release);
                }
            });
            let unlocker = scope.spawn(|| {
                stay_on(1);
                all.iter().enumerate().find(|(number, Line(lock))| {
                    let mine = lock.lock(None).expect("a new lock");
                    held.store(number + 1, Release);
                    assert!(rises_above(&asks, *number), "somebody asks for it");
                    // Now a little earlier, now a little later than the other one falls asleep.
                    let (begin, late) = (Instant::now(), Duration::from_nanos(*number as u64 % 3001));
                    while begin.elapsed() < late {
                        hint::black_box(lock.owner());
                    }
                    lock.unlock(mine);
                    !rises_above(&has, *number)
                })
            });
            let overslept = unlocker.join().expect("no panic");
            let overslept = overslept.map(|(number, Line(lock))| {
                lock.wake();
                held.store(ROUNDS, Release);
                number
            });
            assert_eq!(overslept, None, "a wake-up was lost");
        });
    }
}
