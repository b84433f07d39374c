//! Process-shared synchronisation primitives that survive `kill -9`: part of shmkit.
//!
//! * [`Mutex`]: mutual exclusion that outlives its owner;
//! * [`ReentrantMutex`]: the same, for a thread that locks again what it has locked;
//! * [`Condvar`]: waiting until something is true of the data under a mutex;
//! * [`Once`], [`OnceLock`]: something done once, a value made once, also if the one who was at it dies;
//! * [`Permits`]: up to 64 permits, which come back when their holder dies;
//! * [`Semaphore`]: a count of permits that belong to nobody;
//! * [`Event`]: set or not, and waited for; reset by hand, or by the one waiter that it releases;
//! * [`Barrier`]: a fixed number of parties wait for one another, and learn at once if one will not come.
//! * [`RwLock`]: many readers or one writer; readers of different processes do not slow each other down;
//! * [`UntrustedSemaphore`], [`UntrustedEvent`]: those that can be had in an [`UntrustedRegion`](shmkit_core::UntrustedRegion).
//!
//! All are plain structs that are put into a region (`region.insert("tickets", Mutex::new(20u32))`) and used through `&self` by
//! any number of processes. Outside of any region, on the stack, in a `Box` or in a `static`, they work between the threads of one
//! process, like those of `std::sync`: panics poison, but there is no death that could be told, and a guard that is forgotten there is
//! held for good.

mod barrier;
mod condvar;
mod error;
mod event;
mod mutex;
mod once;
mod once_lock;
mod permits;
mod reentrant;
mod rwlock;
mod semaphore;
mod untrusted;
mod value;

pub use barrier::{Barrier, BarrierError, BarrierWaitResult, Party};
pub use condvar::{Condvar, WaitTimeoutResult};
pub use error::{LockError, LockResult, WaitError};
pub use event::{Event, UntilSet};
pub use mutex::{Mutex, MutexGuard};
pub use once::Once;
pub use once_lock::{InitError, OnceLock, SetError};
pub use permits::{Permit, Permits, PermitsError};
pub use reentrant::{ReentrantMutex, ReentrantMutexGuard};
pub use rwlock::{RwLock, RwLockReadGuard, RwLockReader, RwLockWriteGuard};
pub use semaphore::{Semaphore, SemaphoreError, UntilAvailable};
pub use shmkit_core::poison::Poison;
pub use untrusted::{UntrustedEvent, UntrustedSemaphore};
