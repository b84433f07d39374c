//! A mutex that outlives its owner.
//!
//! # Shared layout
//!
//! ```text
//! | lock: u64, twice (see `RawLock`) | poison: u32 | reserved: u32, three times | value: T |
//! ```
//!
//! The poison is set by a locker that finds its predecessor dead, and by a guard that is dropped by a panic; it is written by the holder of the
//! lock only, except for `clear_poison`, and read by the next holder. See `poison.rs` for its values.
//!
//! A locker that takes over from the dead and is killed before it has set it is itself a dead owner to the next one.

use core::fmt;
use core::marker::PhantomData;
use core::mem::ManuallyDrop;
use core::ops::{Deref, DerefMut};
use core::time::Duration;
use std::time::Instant;

use bytemuck::Pod;
use shmkit_core::raw_lock::{Held, NotHeld, RawLock};
#[cfg(not(ipc_loom))]
use shmkit_core::shim::AtomicU32;
use shmkit_core::{Deadline, Described, Fingerprint, ShmSafe, const_fn, crash_point};

use crate::error::{LockError, LockResult};
use crate::value::Value;
use shmkit_core::poison::PoisonWord;

/// Version of the layout above.
const LAYOUT: u32 = 3;

/// Mutual exclusion between processes, and between threads, with the data that it protects.
///
/// An uncontended lock is one atomic exchange, and an unlock a plain store. The lock of an owner that was killed goes to the next one who
/// asks, or to one of those who are waiting, within a fraction of a millisecond; it comes inside
/// [`LockError::Poisoned`], as after a panic, until somebody calls [`clear_poison`](Self::clear_poison).
///
/// A guard that is forgotten keeps the mutex locked as long as its process has the region open.
///
/// # Examples
///
/// ```
/// use shmkit_core::Region;
/// use shmkit_sync::{LockError, Mutex};
///
/// let region = Region::anonymous(4096)?;
/// let tickets = region.insert("tickets", Mutex::new(20u32))?;
///
/// match tickets.lock() {
///     Ok(mut left) => *left -= 1,
///     Err(LockError::Poisoned { guard, cause }) => {
///         println!("{cause:?}: {} tickets are left", *guard);
///         tickets.clear_poison();
///     }
///     Err(error) => return Err(error.to_string().into()),
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[repr(C)]
pub struct Mutex<T> {
    /// Held by whoever has the guard.
    lock: RawLock,
    /// What an earlier holder has left. Written by whoever holds the lock, or clears it.
    poison: PoisonWord,
    #[cfg(not(ipc_loom))]
    reserved: [AtomicU32; 3],
    /// Read and written by whoever holds the lock.
    value: Value<T>,
}

#[cfg(not(ipc_loom))]
const _: () = {
    assert!(size_of::<Mutex<u32>>() == 40 && align_of::<Mutex<u32>>() == 8);
    assert!(core::mem::offset_of!(Mutex<u32>, poison) == 16);
    assert!(core::mem::offset_of!(Mutex<u32>, value) == 32);
};

// SAFETY: the lock admits one thread of one process at a time to the value, and `Pod` values belong to no thread.
unsafe impl<T: Send> Send for Mutex<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Mutex<T> {}

// SAFETY: name, layout version and the type of the value are all that the layout depends on.
unsafe impl<T: Pod + Described> Described for Mutex<T> {
    const FINGERPRINT: Fingerprint =
        Fingerprint::new("Mutex", LAYOUT, size_of::<Self>(), align_of::<Self>()).parameter(T::FINGERPRINT);

    fn type_name(f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mutex<")?;
        T::type_name(f)?;
        f.write_str(">")
    }
}

// SAFETY: `repr(C)`, no pointers, no drop glue; the value is `Pod` and reached under the lock only.
unsafe impl<T: Pod + Described + Send> ShmSafe for Mutex<T> {}

/// The right to use the value of a [`Mutex`]; given back when dropped.
///
/// It belongs to the thread that locked. In a forked child of that process, dropping it unlocks nothing.
#[must_use = "if unused the mutex is unlocked again at once"]
pub struct MutexGuard<'a, T: Pod> {
    mutex: &'a Mutex<T>,
    held: Held,
    was_panicking: bool,
    /// Guards stay in their thread.
    _not_send: PhantomData<*const ()>,
}

// SAFETY: gives out `&T` only.
unsafe impl<T: Pod + Sync> Sync for MutexGuard<'_, T> {}

impl<T: Pod> Mutex<T> {
    const_fn! {
        /// An unlocked mutex.
        pub fn new(value: T) -> Self {
            const { assert!(align_of::<T>() <= 32, "the value of a `Mutex` is aligned to at most 32 bytes") }
            Self {
                lock: RawLock::new(),
                poison: PoisonWord::new(),
                #[cfg(not(ipc_loom))]
                reserved: [const { AtomicU32::new(0) }; 3],
                value: Value::new(value),
            }
        }
    }

    /// Locks.
    ///
    /// # Blocking
    ///
    /// While somebody alive holds the lock: first spinning for about a microsecond, then asleep. A second `lock` by the thread
    /// that holds it blocks for ever. A stopped owner (SIGSTOP) is alive.
    ///
    /// # Crash safety
    ///
    /// Any process may be killed at any instruction.
    ///
    /// # Errors
    ///
    /// [`LockError::Poisoned`], which holds the lock; [`LockError::Failed`].
    #[inline]
    pub fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
        self.lock_until(None)
    }

    /// Locks if that is possible at once.
    ///
    /// # Errors
    ///
    /// [`LockError::WouldBlock`] if the lock is held, also by the calling thread; otherwise as for [`lock`](Self::lock).
    #[inline]
    pub fn try_lock(&self) -> LockResult<MutexGuard<'_, T>> {
        match self.lock.try_lock() {
            Ok(Some(held)) => self.guard(held),
            Ok(None) => Err(LockError::WouldBlock),
            Err(error) => Err(LockError::Failed(error)),
        }
    }

    /// Locks, waiting for at most `timeout`.
    ///
    /// # Blocking
    ///
    /// As [`lock`](Self::lock), but not longer than `timeout` (monotonic clock).
    ///
    /// # Errors
    ///
    /// [`LockError::TimedOut`], also if the calling thread holds the lock; otherwise as for [`lock`](Self::lock).
    #[inline]
    pub fn lock_timeout(&self, timeout: Duration) -> LockResult<MutexGuard<'_, T>> {
        match self.lock.try_lock() {
            Ok(Some(held)) => self.guard(held),
            Ok(None) => self.lock_until(Deadline::after(timeout)),
            Err(error) => Err(LockError::Failed(error)),
        }
    }

    /// Locks, waiting until `deadline` at the latest.
    ///
    /// # Errors
    ///
    /// As for [`lock_timeout`](Self::lock_timeout).
    #[inline]
    pub fn lock_deadline(&self, deadline: Instant) -> LockResult<MutexGuard<'_, T>> {
        self.lock_timeout(deadline.saturating_duration_since(Instant::now()))
    }

    /// Whether an owner died or panicked, and nobody has cleared that. May be outdated when it returns, unless the caller holds
    /// the lock.
    #[inline]
    pub fn is_poisoned(&self) -> bool {
        self.poison.is_set()
    }

    /// Declares the data sound again. Call it with the lock held, after looking at them.
    pub fn clear_poison(&self) {
        self.poison.clear();
    }

    #[inline]
    fn lock_until(&self, deadline: Option<Deadline>) -> LockResult<MutexGuard<'_, T>> {
        match self.lock.lock_if_free() {
            Some(held) => self.guard(held),
            None => self.lock_contended(deadline),
        }
    }

    /// Apart, so that what is usual is small enough to stay in the registers of the caller.
    #[cold]
    #[inline(never)]
    fn lock_contended(&self, deadline: Option<Deadline>) -> LockResult<MutexGuard<'_, T>> {
        match self.lock.lock(deadline) {
            Ok(held) => self.guard(held),
            Err(NotHeld::TimedOut) => Err(LockError::TimedOut),
            Err(NotHeld::Failed(error)) => Err(LockError::Failed(error)),
        }
    }

    #[inline]
    fn guard(&self, held: Held) -> LockResult<MutexGuard<'_, T>> {
        self.guard_of(held, std::thread::panicking())
    }

    #[inline]
    fn guard_of(&self, held: Held, was_panicking: bool) -> LockResult<MutexGuard<'_, T>> {
        let guard = MutexGuard { mutex: self, held, was_panicking, _not_send: PhantomData };
        if held.after_death || self.poison.is_set() {
            return Err(Self::poisoned(guard));
        }
        Ok(guard)
    }

    #[cold]
    #[inline(never)]
    fn poisoned(guard: MutexGuard<'_, T>) -> LockError<MutexGuard<'_, T>> {
        if guard.held.after_death {
            crash_point!("mutex.lock.before_poison");
            if guard.held.is_own() {
                guard.mutex.poison.note_death();
            }
        }
        match guard.mutex.poison.cause() {
            Ok(cause) => LockError::Poisoned { guard, cause },
            Err(error) => LockError::Failed(error),
        }
    }
}

impl<'a, T: Pod> MutexGuard<'a, T> {
    /// Whether the calling process holds the lock; not so in a forked child.
    pub(crate) fn is_own(&self) -> bool {
        self.held.is_own()
    }

    /// Unlocks and poisons nothing, also while the thread panics: the guard is to come back.
    pub(crate) fn suspend(self) -> Suspended<'a, T> {
        let this = ManuallyDrop::new(self);
        this.mutex.lock.unlock(this.held);
        Suspended { mutex: this.mutex, was_panicking: this.was_panicking }
    }
}

/// What is left of a guard that has unlocked in order to lock again.
pub(crate) struct Suspended<'a, T> {
    mutex: &'a Mutex<T>,
    was_panicking: bool,
}

impl<'a, T: Pod> Suspended<'a, T> {
    /// Locks again, without a deadline. As if there had been one guard all the time, a panic that began after that was made poisons.
    pub(crate) fn resume(self) -> LockResult<MutexGuard<'a, T>> {
        match self.mutex.lock.lock(None) {
            Ok(held) => self.mutex.guard_of(held, self.was_panicking),
            Err(NotHeld::TimedOut) => Err(LockError::TimedOut),
            Err(NotHeld::Failed(error)) => Err(LockError::Failed(error)),
        }
    }
}

impl<T: Pod> Deref for MutexGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the lock is held, so nobody else has a reference or writes; any bytes are a value of a `Pod` type.
        unsafe { &*self.mutex.value.get() }
    }
}

impl<T: Pod> DerefMut for MutexGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as in `deref`; the guard is borrowed exclusively.
        unsafe { &mut *self.mutex.value.get() }
    }
}

impl<T: Pod> Drop for MutexGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        if !self.was_panicking && std::thread::panicking() && self.held.is_own() {
            self.mutex.poison.note_panic();
        }
        self.mutex.lock.unlock(self.held);
    }
}

impl<T: Pod> From<T> for Mutex<T> {
    fn from(value: T) -> Self {
        Self::new(value)
    }
}

impl<T: Pod + Default> Default for Mutex<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mutex").field("poisoned", &self.poison.is_set()).finish_non_exhaustive()
    }
}

impl<T: Pod + fmt::Debug> fmt::Debug for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

impl<T: Pod + fmt::Display> fmt::Display for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&**self, f)
    }
}
