//! The crate parking_lot: its mutex and rwlock, between the threads of a process.
//!
//! Used as its documentation says: in place of std's, by `lock` and `read`, which cannot fail since nothing is poisoned. Its
//! locks are a byte or a word in private memory, and whoever waits sleeps in a table of the process, so they
//! cannot be shared with another process at all.

use std::hint::black_box;

use parking_lot::{Mutex, RwLock};

use crate::shared::Line;
use crate::solo::Turns;

/// The name in results.
pub const NAME: &str = "parking_lot";

/// Lock and unlock.
pub fn mutex() -> Turns {
    let mutex = Line(Mutex::new(0u64));
    Turns::new(NAME, move || {
        let mut guard = mutex.0.lock();
        black_box(&mut *guard);
    })
}

/// Read and unlock.
pub fn read() -> Turns {
    let lock = Line(RwLock::new(0u64));
    Turns::new(NAME, move || {
        black_box(&*lock.0.read());
    })
}
