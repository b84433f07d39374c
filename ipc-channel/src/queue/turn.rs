//! The turn of one side: its lock, held for a while.

use shmkit_core::Deadline;
use shmkit_core::raw_lock::{Held, NotHeld, RawLock};

use crate::ends::Ended;

/// How long to wait for a turn.
#[derive(Clone, Copy, Debug)]
pub(super) enum Patience {
    /// Not at all.
    None,
    /// As long as it takes, or until then.
    Until(Option<Deadline>),
}

/// The lock is held until this is dropped.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    lock: &'a RawLock,
    held: Held,
}

impl<'a> Turn<'a> {
    /// The end is [`Ended::TimedOut`] if patience is.
    #[inline]
    pub(super) fn take(lock: &'a RawLock, patience: Patience) -> Result<Self, Ended> {
        let held = match patience {
            Patience::None => lock.lock_if_free().ok_or(Ended::TimedOut)?,
            Patience::Until(deadline) => lock.lock(deadline).map_err(|error| match error {
                NotHeld::TimedOut => Ended::TimedOut,
                NotHeld::Failed(error) => Ended::Failed(error),
            })?,
        };
        Ok(Self { lock, held })
    }

    /// The previous owner has died with it.
    pub(super) fn is_after_death(&self) -> bool {
        self.held.after_death
    }

    /// Whether it is that of the calling process; not so in a child that was forked meanwhile.
    #[inline]
    pub(super) fn is_own(&self) -> bool {
        self.held.is_own()
    }
}

impl Drop for Turn<'_> {
    #[inline]
    fn drop(&mut self) {
        self.lock.unlock(self.held);
    }
}
