//! glibc's process-shared mutex in shared memory: plain, robust, and recursive.
//!
//! Used as its manual says: `pthread_mutex_init` with `PTHREAD_PROCESS_SHARED`, then lock and unlock. Whoever gets a robust one with `EOWNERDEAD` mends the
//! value, calls `pthread_mutex_consistent`, and goes on.

use std::cell::UnsafeCell;
use std::io;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use crate::clock::realtime_after;
use crate::lock::{LockUnderTest, RobustLock, SharedLock, Takeover, TimedLock};
use crate::shared::{SharedBox, SharedLayout};

/// The mutex and the value in shared memory.
#[repr(C, align(64))]
struct Cell {
    mutex: UnsafeCell<libc::pthread_mutex_t>,
    value: UnsafeCell<u64>,
}

// SAFETY: `value` is reached only under `mutex`, which is made for any number of threads.
unsafe impl Sync for Cell {}
// SAFETY: repr(C); the mutex is process-shared, and its layout is that of the one libc of the
// machine; glibc's zeroed mutex is a valid one, and `create` makes it anew before anyone else
// learns where it is.
unsafe impl SharedLayout for Cell {}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    Robust,
    Recursive,
}

impl Cell {
    fn create(kind: Kind) -> io::Result<SharedBox<Self>> {
        let cell = SharedBox::<Self>::create()?;
        let mut attributes = MaybeUninit::uninit();
        // SAFETY: `attributes` is initialised before all else uses it and destroyed once, at the
        // end; the mutex is aligned, in live memory, and known to nobody else yet.
        let results = unsafe {
            [
                libc::pthread_mutexattr_init(attributes.as_mut_ptr()),
                libc::pthread_mutexattr_setpshared(attributes.as_mut_ptr(), libc::PTHREAD_PROCESS_SHARED),
                match kind {
                    Kind::Plain => 0,
                    Kind::Robust => {
                        libc::pthread_mutexattr_setrobust(attributes.as_mut_ptr(), libc::PTHREAD_MUTEX_ROBUST)
                    }
                    Kind::Recursive => {
                        libc::pthread_mutexattr_settype(attributes.as_mut_ptr(), libc::PTHREAD_MUTEX_RECURSIVE)
                    }
                },
                libc::pthread_mutex_init(cell.mutex.get(), attributes.as_ptr()),
                libc::pthread_mutexattr_destroy(attributes.as_mut_ptr()),
            ]
        };
        match results.into_iter().find(|&code| code != 0) {
            None => Ok(cell),
            Some(code) => Err(io::Error::from_raw_os_error(code)),
        }
    }

    /// Calls `pthread_mutex_lock` and returns its code.
    #[inline]
    fn lock(&self) -> libc::c_int {
        // SAFETY: the mutex was initialised by `create` and lives as long as the mapping.
        unsafe { libc::pthread_mutex_lock(self.mutex.get()) }
    }

    /// Locks within that time, at once if it is zero; `None` if somebody else has it until then.
    fn try_for(&self, at_most: Duration) -> io::Result<Option<PthreadGuard<'_>>> {
        // SAFETY: the mutex was initialised by `create` and lives as long as the mapping; the deadline lives for the call.
        let code = unsafe {
            match at_most {
                Duration::ZERO => libc::pthread_mutex_trylock(self.mutex.get()),
                _ => libc::pthread_mutex_timedlock(self.mutex.get(), &realtime_after(at_most)),
            }
        };
        match code {
            0 => Ok(Some(PthreadGuard::of_held(self))),
            libc::EBUSY | libc::ETIMEDOUT => Ok(None),
            code => Err(io::Error::from_raw_os_error(code)),
        }
    }

    /// Declares the value sound again after `EOWNERDEAD`.
    fn make_consistent(&self) -> io::Result<()> {
        // SAFETY: the mutex was initialised by `create`; for one that is not robust or not held in
        // that state the call is an error, not a fault.
        match unsafe { libc::pthread_mutex_consistent(self.mutex.get()) } {
            0 => Ok(()),
            code => Err(io::Error::from_raw_os_error(code)),
        }
    }
}

/// Holds a pthread mutex.
#[must_use = "unlocked when dropped"]
pub struct PthreadGuard<'a> {
    cell: &'a Cell,
    // The owner is a thread.
    _not_send: PhantomData<*const ()>,
}

impl<'a> PthreadGuard<'a> {
    /// Wraps the lock that this thread has just taken.
    #[inline]
    fn of_held(cell: &'a Cell) -> Self {
        PthreadGuard { cell, _not_send: PhantomData }
    }
}

impl Deref for PthreadGuard<'_> {
    type Target = u64;

    #[inline]
    fn deref(&self) -> &u64 {
        // SAFETY: aligned, alive as the cell is, and the mutex is held.
        unsafe { &*self.cell.value.get() }
    }
}

impl DerefMut for PthreadGuard<'_> {
    #[inline]
    fn deref_mut(&mut self) -> &mut u64 {
        // SAFETY: aligned, alive as the cell is; `&mut self` of the only guard excludes all others.
        unsafe { &mut *self.cell.value.get() }
    }
}

impl Drop for PthreadGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: the mutex is initialised, alive, and held by this thread, as the guard shows.
        let code = unsafe { libc::pthread_mutex_unlock(self.cell.mutex.get()) };
        debug_assert_eq!(code, 0, "pthread_mutex_unlock by the owner");
    }
}

#[cold]
fn refuse(code: libc::c_int) -> ! {
    panic!("pthread_mutex_lock: {}", io::Error::from_raw_os_error(code));
}

/// A process-shared pthread mutex, not robust.
pub struct Plain(SharedBox<Cell>);

impl LockUnderTest for Plain {
    const NAME: &'static str = "pthread";

    type Guard<'a> = PthreadGuard<'a>;

    #[inline(always)]
    fn lock(&self) -> PthreadGuard<'_> {
        match self.0.lock() {
            0 => PthreadGuard::of_held(&self.0),
            code => refuse(code),
        }
    }
}

impl SharedLock for Plain {
    const WAITING: &'static str = "sleeps at once";

    fn create() -> io::Result<Self> {
        Cell::create(Kind::Plain).map(Plain)
    }

    fn address(&self) -> String {
        self.0.address()
    }

    fn attach(address: &str) -> io::Result<Self> {
        SharedBox::attach(address).map(Plain)
    }
}

impl TimedLock for Plain {
    fn try_for(&self, at_most: Duration) -> io::Result<Option<PthreadGuard<'_>>> {
        self.0.try_for(at_most)
    }
}

/// A process-shared pthread mutex that its owner can lock again.
pub struct Recursive(SharedBox<Cell>);

impl Recursive {
    /// Makes a new one that protects zero.
    ///
    /// # Errors
    /// Those of getting shared memory.
    pub fn create() -> io::Result<Self> {
        Cell::create(Kind::Recursive).map(Recursive)
    }
}

impl LockUnderTest for Recursive {
    const NAME: &'static str = "recursive pthread";

    type Guard<'a> = PthreadGuard<'a>;

    #[inline(always)]
    fn lock(&self) -> PthreadGuard<'_> {
        match self.0.lock() {
            0 => PthreadGuard::of_held(&self.0),
            code => refuse(code),
        }
    }
}

/// A process-shared pthread mutex, robust.
pub struct Robust(SharedBox<Cell>);

impl LockUnderTest for Robust {
    const NAME: &'static str = "robust-pthread";

    type Guard<'a> = PthreadGuard<'a>;

    #[inline(always)]
    fn lock(&self) -> PthreadGuard<'_> {
        match self.0.lock() {
            0 => PthreadGuard::of_held(&self.0),
            libc::EOWNERDEAD => {
                let guard = PthreadGuard::of_held(&self.0);
                self.0.make_consistent().expect("a robust mutex whose owner died");
                guard
            }
            code => refuse(code),
        }
    }
}

impl SharedLock for Robust {
    const WAITING: &'static str = "sleeps at once";

    fn create() -> io::Result<Self> {
        Cell::create(Kind::Robust).map(Robust)
    }

    fn address(&self) -> String {
        self.0.address()
    }

    fn attach(address: &str) -> io::Result<Self> {
        SharedBox::attach(address).map(Robust)
    }
}

impl TimedLock for Robust {
    fn try_for(&self, at_most: Duration) -> io::Result<Option<PthreadGuard<'_>>> {
        self.0.try_for(at_most)
    }
}

impl RobustLock for Robust {
    fn take_over(&self, stamp: impl FnOnce() -> u64) -> io::Result<Takeover> {
        let code = self.0.lock();
        let stamp = stamp();
        if code != 0 && code != libc::EOWNERDEAD {
            return Err(io::Error::from_raw_os_error(code));
        }
        let _guard = PthreadGuard::of_held(&self.0);
        let owner_died = code == libc::EOWNERDEAD;
        if owner_died {
            self.0.make_consistent()?;
        }
        Ok(Takeover { stamp, owner_died })
    }

    fn rescues(&self) -> Option<u64> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn robust_lock_of_an_ended_thread_is_taken_over_once() {
        let lock = Robust::create().unwrap();
        thread::scope(|scope| {
            scope.spawn(|| std::mem::forget(lock.lock()));
        });
        let first = lock.take_over(|| 1).unwrap();
        let second = lock.take_over(|| 2).unwrap();
        assert_eq!(first, Takeover { stamp: 1, owner_died: true });
        assert_eq!(second, Takeover { stamp: 2, owner_died: false });
    }

    #[test]
    fn value_is_the_same_through_an_attached_lock() {
        let lock = Plain::create().unwrap();
        *lock.lock() = 7;
        let attached = Plain::attach(&lock.address()).unwrap();
        assert_eq!(*attached.lock(), 7);
    }
}
