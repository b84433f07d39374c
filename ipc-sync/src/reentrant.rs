//! A mutex that its owner can lock again.
//!
//! Its guards give shared access only, since there may be several; what it protects changes through atomics or cells of its own. Prefer a
//! [`Mutex`](crate::Mutex) where no function that locks is called by one that has locked.
//!
//! # Shared layout
//!
//! ```text
//! | lock: u64, twice (see `RawLock`) | owner: u64 | depth: u32 | poison: u32 | value: T |
//! ```
//!
//! # States
//!
//! `T` is the token of a process; `tag` is made of the owning thread's id and `T`, see below.
//!
//! | lock | owner | depth | `lock` by the owner | `lock` by others | drop of a guard | death of the owner |
//! |---|---|---|---|---|---|---|
//! | `0` | `0` | any | - | lock -> `T`, depth = 1, owner = tag | - | - |
//! | `T` | a stale one, `0` | any | a moment within `lock` and the last drop; nobody's hold is told by it | wait | - | the next locker takes over |
//! | `T` | tag | `n` | depth = `n + 1` | wait | depth = `n - 1`; at 0: owner = 0, then lock -> `0` | the next locker takes over, depth = 1, owner = its tag |
//!
//! The states of `poison` are those of the [`Mutex`](crate::Mutex).
//!
//! # Who the owner is
//!
//! A thread has the lock if `owner` is its id combined with the token that is in the lock, and that token is alive and of its own process.
//! Only the holder writes `owner`, and a thread looks at it without having the lock, so it must never take a stale one for its own:
//!
//! * **Of a thread that has released the lock** there is none: `owner` becomes 0 before the lock is free. After that somebody else may
//!   have the lock already, whose note would be lost, and who would then wait for itself. Without the note becoming 0, the next owner's
//!   sibling could see its own old note beside the token of its process, and enter.
//! * **Of a dead one**, that nobody has replaced yet: ids are 64 random bits of one thread, so no living thread has this one. An id of
//!   the kernel's would do harm here: a thread of the process that takes over could have the number of the dead.
//! * **Of the thread itself**, from a guard that it forgot before its process left the region and came back: the hold is that of
//!   a dead owner, although the thread lives. While its old token is in the lock, that is not alive; once somebody has taken over, another
//!   token is there, and the combination is another one, also if that is a sibling of the same process that has not written its note yet.
//! * **Of the parent**, in a forked child: its thread draws an id of its own.
//!
//! # A kill at each point
//!
//! * before the exchange of `lock`: nothing has happened; from there to that of the unlocking: a dead owner, whatever `owner` and `depth` say.
//!   Whoever takes over writes both anew;
//! * while waiting: as for [`RawLock`].
//!
//! # Garbage
//!
//! `lock` and `poison`: as for the [`Mutex`](crate::Mutex). Any `owner` that is not the caller's is somebody else's; without the right one,
//! the owner waits for itself, until its deadline. A `depth` of 0 or `u32::MAX` under a lock that is held is `Corrupted` when it is
//! locked again; any other wrong one lets the lock go too early or never.

use core::fmt;
use core::marker::PhantomData;
use core::num::NonZeroU64;
use core::ops::Deref;
use core::sync::atomic::Ordering::Relaxed;
use core::time::Duration;
use std::time::Instant;

use shmkit_core::identity::{self, Token, thread_id};
use shmkit_core::raw_lock::{Held, NotHeld, RawLock};
use shmkit_core::shim::{AtomicU32, AtomicU64};
use shmkit_core::wait::Site;
use shmkit_core::{Deadline, Described, Error, Fingerprint, ShmSafe, const_fn, crash_point};

use crate::error::{LockError, LockResult};
use crate::value::Value;
use shmkit_core::poison::PoisonWord;

const NOBODY: u64 = 0;

/// Version of the layout above.
const LAYOUT: u32 = 2;

/// Mutual exclusion between threads, of any processes, in which the thread that has the lock can lock again.
///
/// `n` locks take as many guards to be dropped. What happens when owners are killed or panic is the same as for the
/// [`Mutex`](crate::Mutex).
///
/// In a region, `T` is [`ShmSafe`]: atomics, arrays and structs of them, [`Array`](shmkit_core::Array). While the lock is held, relaxed accesses to
/// them are enough. Plain values would be of no use, since a guard gives `&T`: nobody could change them. Outside of any region, `T` is any
/// type, such as a `RefCell`.
///
/// A guard that is forgotten keeps the mutex locked as long as its process has the region open.
///
/// # Examples
///
/// ```
/// use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
/// use shmkit_core::Region;
/// use shmkit_sync::{LockResult, ReentrantMutex};
///
/// type Account = ReentrantMutex<AtomicU64>;
///
/// fn deposit(account: &Account, amount: u64) {
///     let balance = account.lock().expect("nobody dies here");
///     balance.store(balance.load(Relaxed) + amount, Relaxed);
/// }
///
/// fn deposit_twice(account: &Account, amount: u64) {
///     // Nobody sees the balance in between.
///     let _guard = account.lock().expect("nobody dies here");
///     deposit(account, amount);
///     deposit(account, amount);
/// }
///
/// let region = Region::anonymous(4096)?;
/// let account = region.insert("account", ReentrantMutex::new(AtomicU64::new(0)))?;
/// deposit_twice(&account, 50);
/// assert_eq!(account.lock().expect("nobody dies here").load(Relaxed), 100);
/// # Ok::<(), shmkit_core::Error>(())
/// ```
#[repr(C)]
pub struct ReentrantMutex<T> {
    /// Held by the process of the thread that has it.
    lock: RawLock,
    /// The tag of the thread that has the lock, or `NOBODY`. Written by whoever has the lock.
    owner: AtomicU64,
    /// How many guards there are. Used by whoever has the lock.
    depth: AtomicU32,
    /// What an earlier holder has left. Written by whoever has the lock, or clears it.
    poison: PoisonWord,
    /// What those who have the lock share.
    value: Value<T>,
}

#[cfg(not(ipc_loom))]
const _: () = {
    assert!(size_of::<ReentrantMutex<u64>>() == 40 && align_of::<ReentrantMutex<u64>>() == 8);
    assert!(core::mem::offset_of!(ReentrantMutex<u64>, owner) == 16);
    assert!(core::mem::offset_of!(ReentrantMutex<u64>, depth) == 24);
    assert!(core::mem::offset_of!(ReentrantMutex<u64>, poison) == 28);
    assert!(core::mem::offset_of!(ReentrantMutex<u64>, value) == 32);
};

// SAFETY: one thread at a time reaches the value, so it need not be `Sync`, as in a mutex.
unsafe impl<T: Send> Sync for ReentrantMutex<T> {}

// SAFETY: name, layout version and the type of the value are all that the layout depends on.
unsafe impl<T: Described> Described for ReentrantMutex<T> {
    const FINGERPRINT: Fingerprint =
        Fingerprint::new("ReentrantMutex", LAYOUT, size_of::<Self>(), align_of::<Self>()).parameter(T::FINGERPRINT);

    fn type_name(f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReentrantMutex<")?;
        T::type_name(f)?;
        f.write_str(">")
    }
}

// SAFETY: `repr(C)`, no pointers, no drop glue, as in `T`; the value is `ShmSafe` by itself.
unsafe impl<T: ShmSafe> ShmSafe for ReentrantMutex<T> {}

/// The right to look at the value of a [`ReentrantMutex`]; given back when dropped.
///
/// It belongs to the thread that locked. In a forked child of that process, dropping it unlocks nothing.
#[must_use = "if unused the mutex is unlocked again at once"]
pub struct ReentrantMutexGuard<'a, T> {
    mutex: &'a ReentrantMutex<T>,
    held: Held,
    was_panicking: bool,
    /// Guards stay in their thread.
    _not_send: PhantomData<*const ()>,
}

// SAFETY: gives out `&T` only.
unsafe impl<T: Sync> Sync for ReentrantMutexGuard<'_, T> {}

impl<T> ReentrantMutex<T> {
    const_fn! {
        /// An unlocked mutex.
        pub fn new(value: T) -> Self {
            const { assert!(align_of::<T>() <= 32, "the value of a `ReentrantMutex` is aligned to at most 32 bytes") }
            Self {
                lock: RawLock::new(),
                owner: AtomicU64::new(NOBODY),
                depth: AtomicU32::new(0),
                poison: PoisonWord::new(),
                value: Value::new(value),
            }
        }
    }

    /// Locks, also if the calling thread has locked already.
    ///
    /// # Blocking
    ///
    /// While another thread, of this process or of another one that is alive, holds the lock. A stopped owner (SIGSTOP) is alive.
    ///
    /// # Crash safety
    ///
    /// Any process may be killed at any instruction.
    ///
    /// # Errors
    ///
    /// [`LockError::Poisoned`], which holds the lock, also for a thread that has locked already, until somebody calls
    /// [`clear_poison`](Self::clear_poison); [`LockError::Failed`], among others with
    /// [`Error::Corrupted`] if there are 2^32 - 1 guards already.
    #[inline]
    pub fn lock(&self) -> LockResult<ReentrantMutexGuard<'_, T>> {
        match self.lock_again()? {
            Some(held) => self.guard(held),
            None => self.lock_until(None),
        }
    }

    /// Locks if that is possible at once.
    ///
    /// # Errors
    ///
    /// [`LockError::WouldBlock`] if another thread holds the lock; otherwise as for [`lock`](Self::lock).
    #[inline]
    pub fn try_lock(&self) -> LockResult<ReentrantMutexGuard<'_, T>> {
        match self.lock_now()? {
            Some(held) => self.guard(held),
            None => Err(LockError::WouldBlock),
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
    /// [`LockError::TimedOut`]; otherwise as for [`lock`](Self::lock).
    #[inline]
    pub fn lock_timeout(&self, timeout: Duration) -> LockResult<ReentrantMutexGuard<'_, T>> {
        match self.lock_now()? {
            Some(held) => self.guard(held),
            None => self.lock_until(Deadline::after(timeout)),
        }
    }

    /// Locks, waiting until `deadline` at the latest.
    ///
    /// # Errors
    ///
    /// As for [`lock_timeout`](Self::lock_timeout).
    #[inline]
    pub fn lock_deadline(&self, deadline: Instant) -> LockResult<ReentrantMutexGuard<'_, T>> {
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

    /// Adds a guard if the calling thread has the lock.
    #[inline]
    fn lock_again<G>(&self) -> Result<Option<Held>, LockError<G>> {
        // Relaxed: what the calling thread looks for, only it could have written.
        let owner = self.owner.load(Relaxed);
        if owner == NOBODY {
            return Ok(None);
        }
        match self.token_of_own_hold(owner) {
            Ok(Some(token)) => self.deepen(token).map(Some).map_err(LockError::Failed),
            Ok(None) => Ok(None),
            Err(error) => Err(LockError::Failed(error)),
        }
    }

    /// The token that the calling thread has the lock under, if it has, where `owner` is what is noted.
    #[inline]
    fn token_of_own_hold(&self, owner: u64) -> Result<Option<Token>, Error> {
        let Some(token) = self.lock.owner() else {
            return Ok(None);
        };
        if owner != tag(thread_id()?, token) {
            return Ok(None);
        }
        match identity::current() {
            Some(current) if current == token => Ok(Some(token)),
            Some(current) if current.is_same_process(token) => Ok(self.is_alive(token)?.then_some(token)),
            _ => Ok(None),
        }
    }

    /// Whether the hold under a former token of this process is in force: it may have left another region since, or this one.
    #[cold]
    fn is_alive(&self, token: Token) -> Result<bool, Error> {
        Ok(Site::of(self)?.is_alive(token))
    }

    #[inline]
    fn deepen(&self, token: Token) -> Result<Held, Error> {
        let depth = self.depth.load(Relaxed);
        if depth == 0 || depth == u32::MAX {
            return Err(Error::Corrupted { what: "depth of a reentrant mutex", found: depth.into() });
        }
        self.depth.store(depth + 1, Relaxed);
        crash_point!("reentrant.lock_again.after_depth");
        Ok(Held { token, after_death: false })
    }

    /// Locks without waiting; `None` if another thread has the lock.
    #[inline]
    fn lock_now<G>(&self) -> Result<Option<Held>, LockError<G>> {
        if let Some(held) = self.lock_again()? {
            return Ok(Some(held));
        }
        match self.lock.try_lock() {
            Ok(Some(held)) => self.own(held).map(Some),
            Ok(None) => Ok(None),
            Err(error) => Err(LockError::Failed(error)),
        }
    }

    #[inline]
    fn lock_until(&self, deadline: Option<Deadline>) -> LockResult<ReentrantMutexGuard<'_, T>> {
        match self.lock.lock_if_free() {
            Some(held) => self.guard(self.own(held)?),
            None => self.lock_contended(deadline),
        }
    }

    /// Apart, so that what is usual is small enough to stay in the registers of the caller.
    #[cold]
    #[inline(never)]
    fn lock_contended(&self, deadline: Option<Deadline>) -> LockResult<ReentrantMutexGuard<'_, T>> {
        match self.lock.lock(deadline) {
            Ok(held) => self.guard(self.own(held)?),
            Err(NotHeld::TimedOut) => Err(LockError::TimedOut),
            Err(NotHeld::Failed(error)) => Err(LockError::Failed(error)),
        }
    }

    /// Notes the calling thread, which has just got the lock, as the owner.
    #[inline]
    fn own<G>(&self, held: Held) -> Result<Held, LockError<G>> {
        crash_point!("reentrant.lock.before_owner");
        if !held.is_own() {
            // A child that a signal handler has forked since: the note is to be its parent's.
            return Ok(held);
        }
        // Not before the lock is held: while it is waited for, a signal handler may fork, and the child's thread has another id.
        match thread_id() {
            Ok(me) => {
                self.depth.store(1, Relaxed);
                self.owner.store(tag(me, held.token), Relaxed);
                crash_point!("reentrant.lock.after_owner");
                Ok(held)
            }
            Err(error) => {
                if held.after_death {
                    self.poison.note_death();
                }
                self.lock.unlock(held);
                Err(LockError::Failed(error))
            }
        }
    }

    #[inline]
    fn guard(&self, held: Held) -> LockResult<ReentrantMutexGuard<'_, T>> {
        let guard =
            ReentrantMutexGuard { mutex: self, held, was_panicking: std::thread::panicking(), _not_send: PhantomData };
        if held.after_death || self.poison.is_set() {
            return Err(Self::poisoned(guard));
        }
        Ok(guard)
    }

    #[cold]
    fn poisoned(guard: ReentrantMutexGuard<'_, T>) -> LockError<ReentrantMutexGuard<'_, T>> {
        if guard.held.after_death {
            crash_point!("reentrant.lock.before_poison");
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

/// What is noted as the owner for the thread `me` that has the lock under `token`.
#[inline]
fn tag(me: NonZeroU64, token: Token) -> u64 {
    me.get() ^ token.word()
}

impl<T> Deref for ReentrantMutexGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: nobody ever has anything but a `&T` to it, and only the thread that has the lock, as this one does.
        unsafe { &*self.mutex.value.get() }
    }
}

impl<T> Drop for ReentrantMutexGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        if !self.held.is_own() {
            return;
        }
        let mutex = self.mutex;
        if !self.was_panicking && std::thread::panicking() {
            mutex.poison.note_panic();
        }
        let depth = mutex.depth.load(Relaxed);
        if depth > 1 {
            mutex.depth.store(depth - 1, Relaxed);
            return;
        }
        mutex.owner.store(NOBODY, Relaxed);
        crash_point!("reentrant.unlock.after_owner");
        // Release, in there: whoever has the lock next writes its own note after ours.
        mutex.lock.unlock(self.held);
    }
}

impl<T> From<T> for ReentrantMutex<T> {
    fn from(value: T) -> Self {
        Self::new(value)
    }
}

impl<T: Default> Default for ReentrantMutex<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T> fmt::Debug for ReentrantMutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReentrantMutex").field("poisoned", &self.poison.is_set()).finish_non_exhaustive()
    }
}

impl<T: fmt::Debug> fmt::Debug for ReentrantMutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

impl<T: fmt::Display> fmt::Display for ReentrantMutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&**self, f)
    }
}
