//! Handles that read by a plain store.

use core::fmt;
use core::time::Duration;
use std::time::Instant;

use bytemuck::Pod;
use shmkit_core::{Deadline, Error, const_fn};

use super::algorithm::Reading;
use super::kept::Kept;
use super::{RwLock, RwLockReadGuard};
use crate::error::LockResult;

/// A handle by which one thread at a time reads the value of an [asymmetric](RwLock::asymmetric) [`RwLock`], at less cost than by the lock itself.
///
/// It keeps one of the lock's 128 cells for as long as it lives, and reading stores into that cell instead of exchanging it: two plain stores for
/// coming in and going out. Half of the cells can be kept by handles, in all processes together.
///
/// A handle without a cell reads as the lock itself does: if the lock is not asymmetric, or if there were 64 handles when it was made; so does every handle in a forked
/// child of its process. [`is_cheap`](Self::is_cheap) tells.
///
/// A handle that is forgotten keeps its cell as long as its process has the region open.
///
/// # Examples
///
/// ```
/// use shmkit_core::Region;
/// use shmkit_sync::RwLock;
///
/// let region = Region::anonymous(4096)?;
/// let prices = region.insert("prices", RwLock::new([100u32, 250]).asymmetric())?;
///
/// std::thread::scope(|scope| {
///     for _ in 0..2 {
///         scope.spawn(|| {
///             let mut prices = prices.reader().expect("a thread of a participant");
///             for _ in 0..1000 {
///                 let prices = prices.read().expect("nobody dies while writing");
///                 assert!(prices[0] < prices[1]);
///             }
///         });
///     }
///     *prices.write().expect("nobody dies while writing") = [120, 300];
/// });
/// # Ok::<(), shmkit_core::Error>(())
/// ```
pub struct RwLockReader<'a, T: Pod> {
    lock: &'a RwLock<T>,
    kept: Option<Kept<'a>>,
}

impl<T: Pod> RwLock<T> {
    const_fn! {
        /// The same lock, for those who read much more often than they write: [handles](Self::reader) read it by plain stores, and
        /// writers make up for that.
        ///
        /// Each writer, before it comes in, waits until every CPU has gone through a fence (the system call `membarrier`), which takes some ten milliseconds.
        /// Readers go on meanwhile, and nobody is interrupted. So this is for what is written some times in a second at most, and read in tight loops with little
        /// else to do: beside ten nanoseconds of other work, an exchange costs no more than a store. What was measured is in `docs/PERFORMANCE.md`. Where reads can
        /// be copies, a [`Snapshot`](shmkit_core::Snapshot) is faster, and its writers are, too.
        ///
        /// [`try_write`](Self::try_write) takes that time, too, and neither the time-outs of writers nor a signal cut it short: one that is killed in it dies when it is over. Writing fails with
        /// [`Error::NoBarrier`] where the kernel does not make the barrier: where a filter (seccomp) keeps `membarrier` away, or with CPUs that run without a clock (`nohz_full`). Reading does not need it.
        ///
        /// ```
        /// use shmkit_sync::RwLock;
        ///
        /// static LIMITS: RwLock<[u32; 2]> = RwLock::new([10, 20]).asymmetric();
        ///
        /// let mut limits = LIMITS.reader()?;
        /// assert_eq!(*limits.read().map_err(|error| error.to_string())?, [10, 20]);
        /// # Ok::<(), Box<dyn std::error::Error>>(())
        /// ```
        pub fn asymmetric(self) -> Self {
            Self { core: self.core.asymmetric(), value: self.value }
        }
    }

    /// A handle by which a thread reads; the cheaper way to do so if the lock is [asymmetric](Self::asymmetric).
    ///
    /// Never blocks.
    ///
    /// # Crash safety
    ///
    /// Any process may be killed at any instruction. The cells of the dead are taken by later handles, and by readers that find no other.
    ///
    /// # Errors
    ///
    /// Only in a process that cannot take part in the region: those of [`Site::of`](shmkit_core::wait::Site::of).
    pub fn reader(&self) -> Result<RwLockReader<'_, T>, Error> {
        Ok(RwLockReader { lock: self, kept: self.core.keep()? })
    }
}

impl<T: Pod> RwLockReader<'_, T> {
    /// Locks for reading, as [`RwLock::read`] does.
    ///
    /// # Blocking
    ///
    /// As there. A handle that is cheap has a place of its own, but while somebody else waits for a free one, it waits, too.
    ///
    /// # Crash safety
    ///
    /// Any process may be killed at any instruction.
    ///
    /// # Errors
    ///
    /// [`Poisoned`](crate::LockError::Poisoned), which holds the lock; [`Failed`](crate::LockError::Failed).
    #[inline]
    pub fn read(&mut self) -> LockResult<RwLockReadGuard<'_, T>> {
        match self.read_fast() {
            Some(reading) => self.lock.read_guard(reading),
            None => self.read_until(None),
        }
    }

    /// Locks for reading if that is possible at once, as [`RwLock::try_read`] does.
    ///
    /// # Errors
    ///
    /// [`WouldBlock`](crate::LockError::WouldBlock) if a writer has the lock, waits for it or just tries to get it, or if a reader waits for a free place; otherwise as for [`read`](Self::read).
    #[inline]
    pub fn try_read(&mut self) -> LockResult<RwLockReadGuard<'_, T>> {
        match self.read_fast() {
            Some(reading) => self.lock.read_guard(reading),
            None => self.lock.try_read_by(self.kept.as_ref()),
        }
    }

    /// Locks for reading, waiting for at most `timeout`, as [`RwLock::read_timeout`] does.
    ///
    /// # Blocking
    ///
    /// As [`read`](Self::read), but not longer than `timeout` (monotonic clock).
    ///
    /// # Errors
    ///
    /// [`TimedOut`](crate::LockError::TimedOut); otherwise as for [`read`](Self::read).
    #[inline]
    pub fn read_timeout(&mut self, timeout: Duration) -> LockResult<RwLockReadGuard<'_, T>> {
        match self.read_fast() {
            Some(reading) => self.lock.read_guard(reading),
            None => self.read_until(Deadline::after(timeout)),
        }
    }

    /// Locks for reading, waiting until `deadline` at the latest, as [`RwLock::read_deadline`] does.
    ///
    /// # Errors
    ///
    /// As for [`read_timeout`](Self::read_timeout).
    #[inline]
    pub fn read_deadline(&mut self, deadline: Instant) -> LockResult<RwLockReadGuard<'_, T>> {
        match self.read_fast() {
            Some(reading) => self.lock.read_guard(reading),
            None => self.read_until(Deadline::at(deadline)),
        }
    }

    /// Whether reading costs two plain stores: the handle keeps a cell. If not, it costs what it costs by the lock itself.
    pub fn is_cheap(&self) -> bool {
        self.kept.as_ref().is_some_and(Kept::is_own)
    }
}

impl<'a, T: Pod> RwLockReader<'a, T> {
    /// Comes in by the cell of this handle.
    #[inline]
    fn read_fast(&self) -> Option<Reading<'a>> {
        self.kept.as_ref().and_then(|kept| self.lock.core.read_kept(kept))
    }

    /// Locks without a cell, or while the gate is not biased.
    #[inline(never)]
    fn read_until(&mut self, deadline: Option<Deadline>) -> LockResult<RwLockReadGuard<'_, T>> {
        let core = &self.lock.core;
        match self.kept.as_ref().map_or_else(|| core.read_fast(), |kept| core.read_unbiased(kept)) {
            Some(reading) => self.lock.read_guard(reading),
            None => self.lock.read_until(self.kept.as_ref(), deadline),
        }
    }
}

impl<T: Pod> Drop for RwLockReader<'_, T> {
    fn drop(&mut self) {
        if let Some(kept) = &self.kept {
            self.lock.core.give_back(kept);
        }
    }
}

impl<T: Pod> fmt::Debug for RwLockReader<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RwLockReader").field("lock", self.lock).field("is_cheap", &self.is_cheap()).finish()
    }
}
