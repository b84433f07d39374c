//! Something that is done once, by one of several processes, whoever of them dies.
//!
//! It cannot say what was done, nor undo it; for a value, take [`OnceLock`](crate::OnceLock). What a process has of its own, such as an open
//! file, wants a `std::sync::Once` in each process.
//!
//! # Shared layout
//!
//! ```text
//!  63                                       1         0
//! +------------------------------------------+---------+
//! | 0: incomplete, 2: complete,              | WAITING |
//! | or the token of the process that runs it |         |
//! +------------------------------------------+---------+
//! ```
//!
//! # States
//!
//! | word | `call_once` | `wait` | the function returns | it panics | death of the caller |
//! |---|---|---|---|---|---|
//! | `0` | CAS -> mine, runs | CAS -> `1`, sleeps | - | - | - |
//! | `1` (`0` with WAITING) | CAS -> mine with WAITING, runs | sleeps | - | - | - |
//! | `T` | CAS -> `T` with WAITING, sleeps | the same | swap -> `2` | swap -> `0` | the next caller: CAS -> mine, runs |
//! | `T` with WAITING | sleeps | sleeps | swap -> `2`, wake all | swap -> `0`, wake all | the same, with WAITING |
//! | `2` | returns | returns | - | - | - |
//!
//! Whoever sleeps does so on a word with WAITING; no change that it must see leaves that bit as it is, except that a dead caller is
//! replaced, of which the death itself tells. So it does not matter that the kernel compares the low half only. Every wake-up wakes all, so
//! none can be swallowed.
//!
//! The token is that of a process. To the other threads of that process it is somebody else's like any other.
//!
//! # A kill at each point
//!
//! * before the CAS: nothing has happened; from there to the swap: a dead caller, and the next one runs its own function;
//! * between the swap and its wake-up: the death wakes all;
//! * asleep, or woken and not yet back: nothing to undo.
//!
//! # Garbage
//!
//! Any other value below 2^28 is `Corrupted`. A token of nobody is that of a dead caller.

use core::fmt;
use core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use core::time::Duration;
use std::time::Instant;

use shmkit_core::identity::{FLAG, Token};
use shmkit_core::shim::AtomicU64;
use shmkit_core::spin::spin;
use shmkit_core::wait::{Site, Woken, wake_all};
use shmkit_core::{Deadline, Described, Error, Fingerprint, ShmSafe, const_fn, crash_point};

use crate::error::WaitError;

const INCOMPLETE: u64 = 0;
const COMPLETE: u64 = 2;

/// Somebody may be asleep.
const WAITING: u64 = FLAG;

/// Version of the layout above.
const LAYOUT: u32 = 1;

/// Runs one function of several, once, for all processes.
///
/// If the process that runs it is killed, or the function panics, then it has not been done, and the next caller runs its own; one that waits
/// for it learns of the death at once. What the dead one has changed is there as it left it: a function that does several things
/// begins by looking at what is done already.
///
/// # Examples
///
/// ```
/// use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
/// use shmkit_core::Region;
/// use shmkit_sync::Once;
///
/// let region = Region::anonymous(4096)?;
/// let tables = region.insert("tables", [const { AtomicU64::new(0) }; 100])?;
/// let filled = region.insert("filled", Once::new())?;
///
/// filled.call_once(|| tables.iter().enumerate().for_each(|(n, square)| square.store((n * n) as u64, Relaxed)))?;
/// assert_eq!(tables[7].load(Relaxed), 49);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[repr(transparent)]
pub struct Once {
    word: AtomicU64,
}

#[cfg(not(ipc_loom))]
const _: () = assert!(size_of::<Once>() == 8 && align_of::<Once>() == 8);

// SAFETY: name and layout version are all that the layout depends on.
unsafe impl Described for Once {
    const FINGERPRINT: Fingerprint = Fingerprint::new("Once", LAYOUT, size_of::<Self>(), align_of::<Self>());

    fn type_name(f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Once")
    }
}

// SAFETY: one atomic word, which is checked when it is read.
unsafe impl ShmSafe for Once {}

impl Once {
    const_fn! {
        /// One that has not been done.
        pub fn new() -> Self {
            Self { word: AtomicU64::new(INCOMPLETE) }
        }
    }

    /// Runs `f` unless it has been done; when this returns `Ok`, it has been done, and everything that was written there is seen.
    ///
    /// # Blocking
    ///
    /// While somebody alive is doing it; for ever if that is the calling thread, in `f` itself. A stopped process (SIGSTOP) is alive,
    /// and so is one whose thread ended inside of `f` without a panic.
    ///
    /// # Crash safety
    ///
    /// Any process may be killed at any instruction. If the one that runs its function is, the next caller, or one that is waiting, runs its own.
    ///
    /// # Errors
    ///
    /// [`WaitError::Failed`], and `f` has not run; except with [`Error::Forked`], in a child that `f` has forked and that has returned from
    /// `f`, too: its parent is still doing it.
    ///
    /// # Panics
    ///
    /// If `f` does; it has not been done then.
    #[inline]
    pub fn call_once(&self, f: impl FnOnce()) -> Result<(), WaitError> {
        self.call_until(None, f)
    }

    /// [`call_once`](Self::call_once), waiting for at most `timeout` for somebody else who does it. `f` itself may take longer.
    ///
    /// # Errors
    ///
    /// [`WaitError::TimedOut`], also inside of `f`; otherwise as for [`call_once`](Self::call_once).
    #[inline]
    pub fn call_once_timeout(&self, timeout: Duration, f: impl FnOnce()) -> Result<(), WaitError> {
        self.call_until(Some(timeout), f)
    }

    /// [`call_once`](Self::call_once), waiting until `deadline` at the latest for somebody else who does it.
    ///
    /// # Errors
    ///
    /// As for [`call_once_timeout`](Self::call_once_timeout).
    #[inline]
    pub fn call_once_deadline(&self, deadline: Instant, f: impl FnOnce()) -> Result<(), WaitError> {
        self.call_until(Some(deadline.saturating_duration_since(Instant::now())), f)
    }

    /// Whether it has been done; everything that was written there is seen then.
    #[inline]
    pub fn is_completed(&self) -> bool {
        // Acquire pairs with the Release in `Running::complete`.
        self.word.load(Acquire) == COMPLETE
    }

    /// Waits until somebody else has done it.
    ///
    /// # Blocking
    ///
    /// Until then, also while nobody is doing it. If the one who does it dies, until another one has done it.
    ///
    /// # Crash safety
    ///
    /// A process killed in here leaves nothing behind.
    ///
    /// # Errors
    ///
    /// [`WaitError::Failed`].
    #[inline]
    pub fn wait(&self) -> Result<(), WaitError> {
        if self.is_completed() { Ok(()) } else { self.wait_until(None) }
    }

    /// [`wait`](Self::wait)s for at most `timeout`.
    ///
    /// # Errors
    ///
    /// [`WaitError::TimedOut`]; [`WaitError::Failed`].
    #[inline]
    pub fn wait_timeout(&self, timeout: Duration) -> Result<(), WaitError> {
        if self.is_completed() { Ok(()) } else { self.wait_until(Deadline::after(timeout)) }
    }

    /// [`wait`](Self::wait)s until `deadline` at the latest.
    ///
    /// # Errors
    ///
    /// As for [`wait_timeout`](Self::wait_timeout).
    #[inline]
    pub fn wait_deadline(&self, deadline: Instant) -> Result<(), WaitError> {
        if self.is_completed() { Ok(()) } else { self.wait_until(Deadline::at(deadline)) }
    }

    #[inline]
    fn call_until(&self, timeout: Option<Duration>, f: impl FnOnce()) -> Result<(), WaitError> {
        if self.is_completed() {
            return Ok(());
        }
        let Some(running) = self.begin(timeout.and_then(Deadline::after))? else {
            return Ok(());
        };
        f();
        running.complete()
    }

    /// Waits until it has been done (`None`), or makes it the caller's to do.
    #[cold]
    pub(crate) fn begin(&self, deadline: Option<Deadline>) -> Result<Option<Running<'_>>, WaitError> {
        let mut site = Site::of(self)?;
        let mut is_over = false;
        loop {
            if !site.is_own() {
                site = Site::of(self)?;
            }
            // Before everything that a death may change.
            let epoch = site.epoch();
            let word = self.look()?;
            if word == COMPLETE {
                return Ok(None);
            }
            if deadline.is_some() {
                // The time may be too short for a wait to look.
                site.look();
            }
            let runner = Token::from_word(word);
            if !runner.is_some_and(|runner| site.is_alive(runner)) {
                // WAITING stays as it is: those who sleep have set it, and only an end of the function clears it.
                let mine = site.token().word() | (word & WAITING);
                // Acquire pairs with the Release of a function that has panicked; what a dead caller wrote is visible since its
                // death was confirmed. Release pairs with the Acquire in `look`: whoever finds our token finds it among the participants.
                if self.word.compare_exchange(word, mine, AcqRel, Relaxed).is_ok() {
                    crash_point!("once.after_claim");
                    return Ok(Some(Running { once: self, token: site.token() }));
                }
                continue;
            }
            if is_over {
                return Err(WaitError::TimedOut);
            }
            is_over = self.sleep(word, &site, epoch, deadline);
        }
    }

    #[cold]
    fn wait_until(&self, deadline: Option<Deadline>) -> Result<(), WaitError> {
        let mut site = Site::of(self)?;
        let mut is_over = false;
        loop {
            if !site.is_own() {
                site = Site::of(self)?;
            }
            // Nobody's death ends this wait: whoever comes after the dead does.
            let epoch = site.epoch();
            let word = self.look()?;
            if word == COMPLETE {
                return Ok(());
            }
            if is_over {
                return Err(WaitError::TimedOut);
            }
            is_over = self.sleep(word, &site, epoch, deadline);
        }
    }

    /// Sleeps until `word` is another one; says whether the time is over.
    fn sleep(&self, word: u64, site: &Site, epoch: shmkit_core::wait::Epoch, deadline: Option<Deadline>) -> bool {
        if word & WAITING == 0 {
            let changed = || (self.word.load(Relaxed) != word).then_some(());
            // Relaxed: it only has to be there when the word is exchanged for the next state.
            if spin(changed).is_some() || self.word.compare_exchange(word, word | WAITING, Relaxed, Relaxed).is_err() {
                return deadline.is_some_and(Deadline::has_passed);
            }
            crash_point!("once.after_waiting");
        }
        let woken = site.wait(&self.word, (word | WAITING) as u32, epoch, deadline);
        crash_point!("once.after_wait");
        woken == Woken::TimedOut || deadline.is_some_and(Deadline::has_passed)
    }

    /// The word, if it is one.
    fn look(&self) -> Result<u64, WaitError> {
        // Acquire pairs with the Release in `complete`, and with that in `begin`: a caller that is in the word is among the participants.
        let word = self.word.load(Acquire);
        if word & !WAITING == INCOMPLETE || word == COMPLETE || Token::from_word(word).is_some() {
            return Ok(word);
        }
        Err(WaitError::Failed(Error::Corrupted { what: "state of a once", found: word }))
    }
}

/// The duty to do it. Dropped, it has not been done, and is the next one's.
pub(crate) struct Running<'a> {
    once: &'a Once,
    token: Token,
}

impl Running<'_> {
    /// Whether it is this process that is to do it, and not its parent.
    pub(crate) fn is_own(&self) -> bool {
        shmkit_core::identity::is_own(self.token)
    }

    /// It has been done.
    pub(crate) fn complete(self) -> Result<(), WaitError> {
        let this = core::mem::ManuallyDrop::new(self);
        if !this.is_own() {
            return Err(WaitError::Failed(Error::Forked));
        }
        crash_point!("once.complete.before_swap");
        this.end(COMPLETE);
        Ok(())
    }

    fn end(&self, state: u64) {
        // Release pairs with the Acquire in `is_completed` and `look`, and after a panic with that of the next caller in `begin`.
        if self.once.word.swap(state, Release) & WAITING != 0 {
            crash_point!("once.before_wake");
            wake_all(&self.once.word);
            crash_point!("once.after_wake");
        }
    }
}

impl Drop for Running<'_> {
    #[cold]
    fn drop(&mut self) {
        if self.is_own() {
            crash_point!("once.give_up.before_swap");
            self.end(INCOMPLETE);
        }
    }
}

impl Default for Once {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Once {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Once").field("is_completed", &self.is_completed()).finish_non_exhaustive()
    }
}
