//! Process-shared synchronisation primitives that survive `kill -9`: part of shmkit.
//!
//! * [`Mutex`]: mutual exclusion that outlives its owner;
//! * [`Permits`]: up to 64 permits, which come back when their holder dies;
//! * [`RwLock`]: many readers or one writer; readers of different processes do not slow each other down;
//! * [`Semaphore`]: a count of permits that belong to nobody.
//!
//! All are plain structs that are put into a region (`region.insert("tickets", Mutex::new(20u32))`) and used through `&self` by
//! any number of processes. Outside of any region, on the stack, in a `Box` or in a `static`, they work between the threads of one
//! process, like those of `std::sync`: panics poison, but there is no death that could be told, and a guard that is forgotten there is
//! held for good.

mod error;
mod mutex;
mod permits;
mod poison;
mod rwlock;
mod semaphore;

pub use error::{LockError, LockResult, Poison, WaitError};
pub use mutex::{Mutex, MutexGuard};
pub use permits::{Permit, Permits, PermitsError};
pub use rwlock::{RwLock, RwLockReadGuard, RwLockWriteGuard};
pub use semaphore::{Semaphore, SemaphoreError};
