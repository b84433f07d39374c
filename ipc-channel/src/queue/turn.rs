//! The turn of one side: its lock, held for a while.

use shmkit_core::raw_lock::{Held, NotHeld, RawLock};
use shmkit_core::{Deadline, Error};

use crate::ends::Ended;

/// The lock is held until this is dropped.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    lock: &'a RawLock,
    held: Held,
}

impl<'a> Turn<'a> {
    /// Waits for it until `deadline`. The end is [`Ended::TimedOut`] or [`Ended::Failed`].
    #[inline]
    pub(super) fn take(lock: &'a RawLock, deadline: Option<Deadline>) -> Result<Self, Ended> {
        let held = lock.lock(deadline).map_err(|error| match error {
            NotHeld::TimedOut => Ended::TimedOut,
            NotHeld::Failed(error) => Ended::Failed(error),
        })?;
        Ok(Self { lock, held })
    }

    /// `None` if somebody has it, alive or dead, or this process cannot have it before it has asked further.
    #[inline]
    pub(super) fn take_at_once(lock: &'a RawLock) -> Option<Self> {
        lock.lock_if_free().map(|held| Self { lock, held })
    }

    /// The previous owner has died with it.
    pub(super) fn is_after_death(&self) -> bool {
        self.held.after_death
    }

    /// To be asked next before each store that needs the turn. Fails in a child that was forked meanwhile: the turn is its parent's.
    #[inline]
    pub(super) fn check(&self) -> Result<(), Error> {
        if self.held.is_own() { Ok(()) } else { Err(Error::Forked) }
    }
}

impl Drop for Turn<'_> {
    #[inline]
    fn drop(&mut self) {
        self.lock.unlock(self.held);
    }
}
