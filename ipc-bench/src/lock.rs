//! What a lock must offer to be measured, and `std::sync::Mutex` measured so.
//!
//! | trait | needed by | ours | floor | std | pthread | robust pthread |
//! |---|---|---|---|---|---|---|
//! | [`LockUnderTest`] | uncontended | yes | yes | yes | yes | yes |
//! | [`SharedLock`] | contention | yes | | | yes | yes |
//! | [`RobustLock`] | kill | yes | | | | yes |
//! | [`TimedLock`] | a stopped owner | yes | | | yes | yes |
//!
//! Each lock protects one `u64`. Every implementation does all that its documented use asks for
//! (poison checks, error codes): none is measured on a path that a careful user could not take.

use std::io;
use std::ops::DerefMut;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

/// A lock around a `u64`.
pub trait LockUnderTest {
    /// The name in results; unique among all locks.
    const NAME: &'static str;

    /// Gives access to the value, and unlocks when dropped.
    type Guard<'a>: DerefMut<Target = u64>
    where
        Self: 'a;

    /// Locks as its users would: always inlined, as what these call is in their code, or a guard that goes through memory is measured
    /// along, of some and not of others.
    ///
    /// # Panics
    /// If the lock reports an error that no measured case can cause.
    fn lock(&self) -> Self::Guard<'_>;
}

/// A lock that several processes use.
pub trait SharedLock: LockUnderTest + Sized + 'static {
    /// How it waits, for the stated conditions.
    const WAITING: &'static str;

    /// Makes a new lock that protects zero.
    ///
    /// # Errors
    /// Those of getting shared memory.
    fn create() -> io::Result<Self>;

    /// Returns where children of this process find the lock, as long as `self` lives.
    fn address(&self) -> String;

    /// Attaches to the lock at `address` of the parent.
    ///
    /// # Errors
    /// Those of mapping the memory.
    fn attach(address: &str) -> io::Result<Self>;
}

/// A lock that can be waited for with a time-out.
pub trait TimedLock: SharedLock {
    /// Locks if that is possible within that time, at once if it is zero; `None` if it is not.
    ///
    /// # Errors
    /// Those of the lock, which say neither.
    fn try_for(&self, at_most: Duration) -> io::Result<Option<Self::Guard<'_>>>;
}

/// A lock that survives the death of its owner.
pub trait RobustLock: SharedLock {
    /// Locks, calls `stamp` at once, then repairs what a dead owner left, and unlocks.
    ///
    /// # Errors
    /// When the lock is lost for good.
    fn take_over(&self, stamp: impl FnOnce() -> u64) -> io::Result<Takeover>;

    /// Returns how many waits of this process were rescued by a periodic re-check, so far; `None`
    /// where the lock has no such net.
    fn rescues(&self) -> Option<u64>;
}

/// What [`RobustLock::take_over`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Takeover {
    /// What `stamp` returned.
    pub stamp: u64,
    /// Whether the lock said that its owner had died.
    pub owner_died: bool,
}

impl LockUnderTest for Mutex<u64> {
    const NAME: &'static str = "std";

    type Guard<'a> = MutexGuard<'a, u64>;

    #[inline(always)]
    fn lock(&self) -> Self::Guard<'_> {
        Mutex::lock(self).expect("nobody panics while holding it")
    }
}
