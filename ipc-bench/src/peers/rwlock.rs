//! Locks for readers and writers: glibc's, process-shared; and std's, which several processes can only
//! read-lock, since it sleeps on futexes of its process.
//!
//! glibc's is used as its manual says: `pthread_rwlock_init` with `PTHREAD_PROCESS_SHARED`, then `pthread_rwlock_rdlock`, or
//! `pthread_rwlock_wrlock`, and `pthread_rwlock_unlock`. There is no robust one.
//! std's as its documentation says: `read` or `write`, and the guard is dropped.

use std::cell::UnsafeCell;
use std::hint::black_box;
use std::io;
use std::mem::MaybeUninit;
use std::sync::RwLock;

use super::{check, insist};
use crate::shared::{Line, SharedBox, SharedLayout};
use crate::team::{Place, Play, Seat};

/// The name of glibc's in results.
pub const PTHREAD: &str = "pthread rwlock";
/// The name of std's in results.
pub const STD: &str = "std";

/// A lock that can be kept on either side.
pub trait TwoSided: Place {
    /// Locks for reading, and never unlocks.
    ///
    /// # Errors
    /// Those of the lock.
    fn keep_reading(&self) -> io::Result<()>;

    /// Locks for writing, and never unlocks.
    ///
    /// # Errors
    /// Those of the lock.
    fn keep_writing(&self) -> io::Result<()>;
}

#[repr(C)]
struct Cell {
    lock: UnsafeCell<libc::pthread_rwlock_t>,
    value: UnsafeCell<u64>,
}

// SAFETY: a lock is made for any number of threads and, process-shared, of processes; the value is only reached
// under it.
unsafe impl Sync for Cell {}
// SAFETY: the layout is that of the one libc of the machine; glibc's zeroed lock is a valid one, and
// `create` makes it anew before anyone else learns where it is.
unsafe impl SharedLayout for Line<Cell> {}

/// A process-shared pthread rwlock.
pub struct Pthread(SharedBox<Line<Cell>>);

impl Pthread {
    /// Locks for reading, reads, and unlocks.
    #[inline(always)]
    pub fn read(&self) {
        let cell = &self.0.0;
        // SAFETY: made by `create`, and alive as the mapping is.
        insist(unsafe { libc::pthread_rwlock_rdlock(cell.lock.get()) });
        // SAFETY: locked for reading, so nobody writes.
        black_box(unsafe { &*cell.value.get() });
        // SAFETY: as above, and locked by this thread.
        insist(unsafe { libc::pthread_rwlock_unlock(cell.lock.get()) });
    }

    /// Locks for writing, counts, and unlocks.
    #[inline(always)]
    pub fn write(&self) {
        let cell = &self.0.0;
        // SAFETY: made by `create`, and alive as the mapping is.
        insist(unsafe { libc::pthread_rwlock_wrlock(cell.lock.get()) });
        // SAFETY: locked for writing, so nobody else reads or writes.
        unsafe { *cell.value.get() += 1 };
        // SAFETY: as above, and locked by this thread.
        insist(unsafe { libc::pthread_rwlock_unlock(cell.lock.get()) });
    }
}

impl Place for Pthread {
    fn create(_: usize) -> io::Result<Self> {
        let cell = SharedBox::<Line<Cell>>::create()?;
        let mut attributes = MaybeUninit::uninit();
        // SAFETY: `attributes` is initialised before all else uses it and destroyed once, at the end; the
        // lock is aligned, in live memory, and known to nobody else yet.
        let codes = unsafe {
            [
                libc::pthread_rwlockattr_init(attributes.as_mut_ptr()),
                libc::pthread_rwlockattr_setpshared(attributes.as_mut_ptr(), libc::PTHREAD_PROCESS_SHARED),
                libc::pthread_rwlock_init(cell.0.lock.get(), attributes.as_ptr()),
                libc::pthread_rwlockattr_destroy(attributes.as_mut_ptr()),
            ]
        };
        codes.into_iter().try_for_each(check)?;
        Ok(Pthread(cell))
    }

    fn address(&self) -> String {
        self.0.address()
    }

    fn attach(address: &str) -> io::Result<Self> {
        SharedBox::attach(address).map(Pthread)
    }
}

impl Play for Pthread {
    fn play(&self, _: Seat, turns: u64) {
        for _ in 0..turns {
            self.read();
        }
    }
}

impl TwoSided for Pthread {
    fn keep_reading(&self) -> io::Result<()> {
        // SAFETY: made by `create`, and alive as the mapping is.
        check(unsafe { libc::pthread_rwlock_rdlock(self.0.0.lock.get()) })
    }

    fn keep_writing(&self) -> io::Result<()> {
        // SAFETY: as above.
        check(unsafe { libc::pthread_rwlock_wrlock(self.0.0.lock.get()) })
    }
}

/// std's lock; made by `create` before anyone else learns where it is.
#[repr(transparent)]
struct StdCell(UnsafeCell<MaybeUninit<RwLock<u64>>>);

// SAFETY: after `create` it is only reached by `&`, and std's lock is `Sync`.
unsafe impl Sync for StdCell {}
// SAFETY: any bytes are a value; processes of one binary agree on the layout, which has no pointers on Linux.
unsafe impl SharedLayout for Line<StdCell> {}

/// std's lock, in shared memory.
pub struct Std(SharedBox<Line<StdCell>>);

impl Place for Std {
    fn create(_: usize) -> io::Result<Self> {
        let cell = SharedBox::<Line<StdCell>>::create()?;
        // SAFETY: aligned, in live memory, and known to nobody else yet.
        unsafe { cell.0.0.get().write(MaybeUninit::new(RwLock::new(0))) };
        Ok(Std(cell))
    }

    fn address(&self) -> String {
        self.0.address()
    }

    fn attach(address: &str) -> io::Result<Self> {
        SharedBox::attach(address).map(Std)
    }
}

impl Play for Std {
    fn play(&self, _: Seat, turns: u64) {
        // SAFETY: aligned, alive as the mapping is, initialised by `create`, and never reached by `&mut` since.
        let lock = unsafe { (*self.0.0.0.get()).assume_init_ref() };
        for _ in 0..turns {
            read_std(lock);
        }
    }
}

/// Locks for reading, reads, and unlocks.
#[inline(always)]
pub fn read_std(lock: &RwLock<u64>) {
    let guard = lock.read().expect("nobody panics while writing");
    black_box(&*guard);
}

/// Locks for writing, counts, and unlocks.
#[inline(always)]
pub fn write_std(lock: &RwLock<u64>) {
    *lock.write().expect("nobody panics while writing") += 1;
}
