//! A condition variable for the [`Mutex`](crate::Mutex).
//!
//! It is for waiting until something becomes true of the data under a mutex. It is no event: a notification that nobody waits for is
//! gone. It cannot tell who notifies or for what, and wakes up for no reason now and then, so ask again, or use the `_while` variants.
//!
//! # Shared layout
//!
//! ```text
//!  31                                       1         0
//! +------------------------------------------+---------+
//! | sequence: notifications so far, mod 2^31 | WAITING |
//! +------------------------------------------+---------+
//! ```
//!
//! The algorithm is that of the futex condition variable of Rust's standard library, with a bit that spares notifiers the call of the kernel
//! as long as nobody has ever waited.
//!
//! # States
//!
//! | word | `wait` | `notify_one` | `notify_all` | death of a waiter or notifier |
//! |---|---|---|---|---|
//! | `n` | with the mutex held -> `n` with WAITING; unlock, sleep on that | nothing | nothing | nothing to undo |
//! | `n` with WAITING | unlock, sleep on that | -> `n + 1` with WAITING, wake one | -> `n + 1`, wake all | all wake, and wait again |
//!
//! WAITING must be set while anybody waits who has not been notified; it may be set when nobody does.
//!
//! **Why a notifier that finds no WAITING has nothing to do.** A waiter sets it while it holds the mutex, after it has found that it has
//! to wait. Whoever makes the condition true holds the mutex while it does that: before the waiter, then the waiter sees that it need not
//! wait; or after the waiter, then it sees WAITING, also if it notifies after it has unlocked. A notifier that has not held the mutex since
//! the waiter did can rely on being heard only if it knows by other means that the wait has begun, for instance because the waiter
//! unlocked the mutex for somebody who told it.
//!
//! **Why no notification comes between unlocking and sleeping.** It changes the word, and the kernel lets nobody sleep on a word
//! that is not the remembered one. A waiter that is kept from going to sleep while exactly a multiple of 2^31 notifications are made would
//! miss them; the same holds for the standard library.
//!
//! **Who leaves on its deadline** has consumed no notification: the kernel says whether a wake-up was spent on it, and one that was
//! woken reports no time-out, whatever the clock says.
//!
//! # A kill at each point
//!
//! * of a waiter with WAITING set and the mutex held: the mutex is that of a dead owner, and the next one finds it poisoned;
//! * of a waiter asleep, or woken and not yet back: the wake-up that it has swallowed is made good by the epoch of deaths, which wakes all;
//! * of a notifier between the change of the word and its wake-up: the same.
//!
//! So a waiter needs no state that others would have to clean up, and a death wakes everybody who waits for no other reason than that.
//!
//! # Garbage
//!
//! Every value is one. A peer that clears WAITING while others sleep lets them miss notifications until the next death or their deadline.

use core::fmt;
use core::sync::atomic::Ordering::Relaxed;
use core::time::Duration;
use std::time::Instant;

use bytemuck::Pod;
use shmkit_core::shim::AtomicU32;
use shmkit_core::spin::spin;
use shmkit_core::wait::{Epoch, Site, Woken, take_part, wake_all, wake_one};
use shmkit_core::{Deadline, Described, Error, Fingerprint, ShmSafe, const_fn, crash_point};

use crate::error::{LockError, LockResult};
use crate::mutex::MutexGuard;

/// Somebody may wait.
const WAITING: u32 = 1;

/// One notification.
const NOTIFICATION: u32 = 2;

/// Version of the layout above.
const LAYOUT: u32 = 1;

/// Waiting until something is true of the data under a [`Mutex`](crate::Mutex), and telling those who wait.
///
/// All who wait at the same time should wait with the same mutex. With different ones nothing breaks, but
/// [`notify_one`](Self::notify_one) may wake one who waits for something else; it is not checked, since the note of which mutex it is
/// could be left behind by the dead. The mutex may lie in another region than the condvar, or in none. It is the region of the
/// condvar whose deaths wake those who wait.
///
/// # Examples
///
/// ```
/// use shmkit_core::Region;
/// use shmkit_sync::{Condvar, Mutex};
///
/// let region = Region::anonymous(4096)?;
/// let tickets = region.insert("tickets", Mutex::new(0u32))?;
/// let delivered = region.insert("delivered", Condvar::new())?;
///
/// std::thread::scope(|scope| {
///     // In practice, another process.
///     scope.spawn(|| {
///         *tickets.lock().expect("nobody dies here") = 20;
///         delivered.notify_all();
///     });
///     let left = tickets.lock().expect("nobody dies here");
///     let left = delivered.wait_while(left, |left| *left == 0).expect("nobody dies here");
///     assert_eq!(*left, 20);
/// });
/// # Ok::<(), shmkit_core::Error>(())
/// ```
#[repr(transparent)]
pub struct Condvar {
    /// Changed by notifiers; WAITING is set by waiters, which hold their mutex then.
    word: AtomicU32,
}

#[cfg(not(ipc_loom))]
const _: () = assert!(size_of::<Condvar>() == 4 && align_of::<Condvar>() == 4);

// SAFETY: name and layout version are all that the layout depends on.
unsafe impl Described for Condvar {
    const FINGERPRINT: Fingerprint = Fingerprint::new("Condvar", LAYOUT, size_of::<Self>(), align_of::<Self>());

    fn type_name(f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Condvar")
    }
}

// SAFETY: one atomic word of which every value is one.
unsafe impl ShmSafe for Condvar {}

/// Whether a wait with a time-out ended because the time was over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitTimeoutResult {
    timed_out: bool,
}

impl WaitTimeoutResult {
    /// Whether the time was over. A waiter that got a notification at the last moment says no.
    #[must_use]
    pub fn timed_out(self) -> bool {
        self.timed_out
    }
}

/// What a timed wait gives: the guard, and whether the time was over.
type TimedGuard<'a, T> = (MutexGuard<'a, T>, WaitTimeoutResult);

impl Condvar {
    const_fn! {
        /// A condition variable that nobody waits on.
        pub fn new() -> Self {
            Self { word: AtomicU32::new(0) }
        }
    }

    /// Unlocks, waits for a notification, and locks again.
    ///
    /// # Blocking
    ///
    /// Until a notification or a death in the region, or for no reason at all; then while somebody alive holds the mutex.
    ///
    /// # Crash safety
    ///
    /// Any process may be killed at any instruction. Every death in the region of the condvar wakes all who wait.
    ///
    /// # Errors
    ///
    /// [`LockError::Poisoned`], with the guard, if the mutex is poisoned when it is locked again.
    ///
    /// [`LockError::Failed`] without a guard, and then the mutex is not locked by the caller: with [`Error::Forked`] in a forked child that
    /// has inherited the guard, whose parent goes on holding the mutex; if the poison of the mutex is garbage; or in a child that a signal
    /// handler forks during the wait and that cannot take part in the region.
    ///
    /// # Examples
    ///
    /// ```
    /// # use shmkit_sync::{Condvar, Mutex};
    /// # let (queue, changed) = (Mutex::new([1u32, 0]), Condvar::new());
    /// let mut guard = queue.lock().expect("sound");
    /// while guard[0] == 0 {
    ///     guard = changed.wait(guard).expect("sound");
    /// }
    /// ```
    pub fn wait<'a, T: Pod>(&self, guard: MutexGuard<'a, T>) -> LockResult<MutexGuard<'a, T>> {
        self.timed(guard, None).map(|(guard, _)| guard).map_err(|error| error.map(|(guard, _)| guard))
    }

    /// [`wait`](Self::wait)s as long as `condition` holds of the data, which is asked before every wait and after the last one.
    ///
    /// The condition may also be that somebody [is alive](Site::is_alive) at the site of this condvar: that death ends the wait.
    ///
    /// # Errors
    ///
    /// Those of [`wait`](Self::wait); a poisoned guard comes back without the condition having been asked again.
    pub fn wait_while<'a, T: Pod>(
        &self,
        guard: MutexGuard<'a, T>,
        condition: impl FnMut(&mut T) -> bool,
    ) -> LockResult<MutexGuard<'a, T>> {
        let waited = self.timed_while(guard, None, condition);
        waited.map(|(guard, _)| guard).map_err(|error| error.map(|(guard, _)| guard))
    }

    /// [`wait`](Self::wait)s for at most `timeout`.
    ///
    /// # Blocking
    ///
    /// As [`wait`](Self::wait), but not longer than `timeout` (monotonic clock) for a notification. However long that takes, the
    /// mutex is locked again: the time-out does not bound that.
    ///
    /// # Errors
    ///
    /// Those of [`wait`](Self::wait).
    pub fn wait_timeout<'a, T: Pod>(
        &self,
        guard: MutexGuard<'a, T>,
        timeout: Duration,
    ) -> LockResult<TimedGuard<'a, T>> {
        self.timed(guard, Deadline::after(timeout))
    }

    /// [`wait`](Self::wait)s until `deadline` at the latest.
    ///
    /// # Errors
    ///
    /// Those of [`wait`](Self::wait).
    pub fn wait_deadline<'a, T: Pod>(
        &self,
        guard: MutexGuard<'a, T>,
        deadline: Instant,
    ) -> LockResult<TimedGuard<'a, T>> {
        self.timed(guard, Deadline::at(deadline))
    }

    /// [`wait_while`](Self::wait_while) for at most `timeout`, all waits together. The time was over only if the condition still
    /// holds.
    ///
    /// # Errors
    ///
    /// Those of [`wait_while`](Self::wait_while).
    pub fn wait_timeout_while<'a, T: Pod>(
        &self,
        guard: MutexGuard<'a, T>,
        timeout: Duration,
        condition: impl FnMut(&mut T) -> bool,
    ) -> LockResult<TimedGuard<'a, T>> {
        self.timed_while(guard, Deadline::after(timeout), condition)
    }

    /// [`wait_while`](Self::wait_while) until `deadline` at the latest. The time was over only if the condition still holds.
    ///
    /// # Errors
    ///
    /// Those of [`wait_while`](Self::wait_while).
    pub fn wait_deadline_while<'a, T: Pod>(
        &self,
        guard: MutexGuard<'a, T>,
        deadline: Instant,
        condition: impl FnMut(&mut T) -> bool,
    ) -> LockResult<TimedGuard<'a, T>> {
        self.timed_while(guard, Deadline::at(deadline), condition)
    }

    /// Wakes at least one of those who wait, if there are any.
    ///
    /// Make the condition true with the mutex held; whether it is still held during the notification does not matter.
    ///
    /// # Crash safety
    ///
    /// A process killed in here has woken somebody, or its death wakes all.
    #[inline]
    pub fn notify_one(&self) {
        if self.word.load(Relaxed) & WAITING != 0 {
            self.notify_waiting();
        }
    }

    /// Wakes all who wait.
    ///
    /// # Crash safety
    ///
    /// As [`notify_one`](Self::notify_one).
    #[inline]
    pub fn notify_all(&self) {
        if self.word.load(Relaxed) & WAITING != 0 {
            self.notify_all_waiting();
        }
    }

    #[cold]
    fn notify_waiting(&self) {
        take_part(self);
        // WAITING stays: there may be more than one. If another notifier has just cleared it, then it wakes all.
        self.word.fetch_add(NOTIFICATION, Relaxed);
        crash_point!("condvar.notify_one.before_wake");
        wake_one(&self.word);
        crash_point!("condvar.notify_one.after_wake");
    }

    #[cold]
    fn notify_all_waiting(&self) {
        take_part(self);
        let mut word = self.word.load(Relaxed);
        // Those who begin to wait after this exchange set WAITING anew.
        while let Err(now) =
            self.word.compare_exchange(word, (word & !WAITING).wrapping_add(NOTIFICATION), Relaxed, Relaxed)
        {
            word = now;
        }
        crash_point!("condvar.notify_all.before_wake");
        wake_all(&self.word);
        crash_point!("condvar.notify_all.after_wake");
    }

    fn timed<'a, T: Pod>(&self, guard: MutexGuard<'a, T>, deadline: Option<Deadline>) -> LockResult<TimedGuard<'a, T>> {
        let site = self.site(&guard)?;
        self.wait_at(&site, site.epoch(), guard, deadline)
    }

    fn timed_while<'a, T: Pod>(
        &self,
        mut guard: MutexGuard<'a, T>,
        deadline: Option<Deadline>,
        mut condition: impl FnMut(&mut T) -> bool,
    ) -> LockResult<TimedGuard<'a, T>> {
        let mut timed_out = false;
        if !condition(&mut guard) {
            return Ok((guard, WaitTimeoutResult { timed_out }));
        }
        let mut site = self.site(&guard)?;
        loop {
            if !site.is_own() {
                site = self.site(&guard)?;
            }
            // Before the condition, which may ask whether somebody is alive.
            let epoch = site.epoch();
            if !condition(&mut guard) {
                return Ok((guard, WaitTimeoutResult { timed_out: false }));
            }
            if timed_out {
                return Ok((guard, WaitTimeoutResult { timed_out }));
            }
            let outcome;
            (guard, outcome) = self.wait_at(&site, epoch, guard, deadline)?;
            // Notifications for others may come so fast that none of the waits comes to its time-out.
            timed_out = outcome.timed_out() || deadline.is_some_and(Deadline::has_passed);
        }
    }

    /// The site to wait at; none for a guard of the parent.
    fn site<T: Pod, G>(&self, guard: &MutexGuard<'_, T>) -> Result<Site, LockError<G>> {
        if guard.is_own() { Site::of(self).map_err(LockError::Failed) } else { Err(LockError::Failed(Error::Forked)) }
    }

    /// All orderings on the word are relaxed: the mutex orders what the notification is about, and whoever has to see a change of the word
    /// has held the mutex after whoever made it, or is told by the kernel.
    fn wait_at<'a, T: Pod>(
        &self,
        site: &Site,
        epoch: Epoch,
        guard: MutexGuard<'a, T>,
        deadline: Option<Deadline>,
    ) -> LockResult<TimedGuard<'a, T>> {
        if !guard.is_own() {
            return Err(LockError::Failed(Error::Forked));
        }
        let seen = self.word.fetch_or(WAITING, Relaxed) | WAITING;
        crash_point!("condvar.wait.after_mark");
        let suspended = guard.suspend();
        crash_point!("condvar.wait.after_unlock");
        let is_notified = || self.word.load(Relaxed) != seen;
        let mut woken = Woken::Maybe;
        if spin(|| is_notified().then_some(())).is_none() {
            // A notification changes the word before it wakes: whoever wakes up otherwise, for a look for deaths or by a signal, sleeps on.
            // A child that a signal handler has forked just now wakes up for no reason.
            while woken == Woken::Maybe && !is_notified() && site.epoch() == epoch && site.is_own() {
                woken = site.wait(&self.word, seen, epoch, deadline);
            }
        }
        crash_point!("condvar.wait.after_wait");
        // The outcome of `wait` says for sure whether a wake-up was consumed; the clock would not.
        let outcome = WaitTimeoutResult { timed_out: woken == Woken::TimedOut };
        match suspended.resume() {
            Ok(guard) => Ok((guard, outcome)),
            Err(error) => Err(error.map(|guard| (guard, outcome))),
        }
    }
}

impl Default for Condvar {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Condvar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Condvar").finish_non_exhaustive()
    }
}
