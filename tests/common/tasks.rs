//! What the pools of several tests do.

use shmkit::process::Pool;

/// A pool of two workers.
pub(crate) fn pool() -> Pool {
    Pool::new(2).expect("a pool")
}

pub(crate) fn square(number: u64) -> u64 {
    number * number
}

/// Panics at 7, and returns any other number.
pub(crate) fn fail_on_seven(number: u64) -> u64 {
    assert_ne!(number, 7, "I do not like it");
    number
}
