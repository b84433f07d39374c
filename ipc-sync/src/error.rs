//! What locking can come to.

use core::fmt;

use shmkit_core::Error;
use shmkit_core::poison::Poison;

/// A guard, or why there is none, or why to be careful with it.
pub type LockResult<G> = Result<G, LockError<G>>;

/// Why [`lock`](crate::Mutex::lock) and its relatives did not simply give a guard.
///
/// # Examples
///
/// ```
/// use shmkit_sync::{LockError, Mutex};
///
/// let mutex = Mutex::new(1u64);
/// let held = mutex.lock().map_err(|error| error.to_string())?;
/// match mutex.try_lock() {
///     Ok(guard) => println!("{guard}"),
///     Err(LockError::Poisoned { guard, cause }) => println!("{guard}, but look at it first: {cause:?}"),
///     Err(LockError::WouldBlock) => println!("somebody else is at it"),
///     Err(error) => return Err(error.to_string().into()),
/// }
/// # drop(held);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[non_exhaustive]
pub enum LockError<G> {
    /// The lock is held by the caller now, but an earlier holder died or panicked with it, and nobody has called
    /// [`clear_poison`](crate::Mutex::clear_poison) since.
    Poisoned {
        /// The lock: look at the data, mend it, clear the poison.
        guard: G,
        /// What happened to the earlier holder.
        cause: Poison,
    },
    /// Somebody else holds the lock.
    WouldBlock,
    /// Somebody else still held the lock when the time was over.
    TimedOut,
    /// No lock could be taken or waited for: [`Error::Corrupted`] if the primitive holds a value that it never writes;
    /// [`Error::Forked`] for the guard of the parent in a forked child, which is to lock for itself; any other
    /// error if this process, a forked child, could not take part in the region (for example
    /// [`Error::TooManyParticipants`]).
    Failed(Error),
}

impl<G> LockError<G> {
    /// The guard of a poisoned lock; any other error stays one.
    ///
    /// # Errors
    ///
    /// The error itself if it carries no guard.
    pub fn into_guard(self) -> Result<G, Self> {
        match self {
            Self::Poisoned { guard, .. } => Ok(guard),
            other => Err(other),
        }
    }

    /// The same error with what `change` makes of its guard.
    pub(crate) fn map<H>(self, change: impl FnOnce(G) -> H) -> LockError<H> {
        match self {
            Self::Poisoned { guard, cause } => LockError::Poisoned { guard: change(guard), cause },
            Self::WouldBlock => LockError::WouldBlock,
            Self::TimedOut => LockError::TimedOut,
            Self::Failed(error) => LockError::Failed(error),
        }
    }
}

impl<G> fmt::Debug for LockError<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Poisoned { cause, .. } => f.debug_struct("Poisoned").field("cause", cause).finish_non_exhaustive(),
            Self::WouldBlock => f.write_str("WouldBlock"),
            Self::TimedOut => f.write_str("TimedOut"),
            Self::Failed(error) => f.debug_tuple("Failed").field(error).finish(),
        }
    }
}

impl<G> fmt::Display for LockError<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Poisoned { cause: Poison::Panicked, .. } => {
                f.write_str("poisoned lock: a thread panicked while it held it; check the data, then clear the poison")
            }
            Self::Poisoned { .. } => {
                f.write_str("poisoned lock: a process died while it held it; check the data, then clear the poison")
            }
            Self::WouldBlock => f.write_str("the lock is held by somebody else"),
            Self::TimedOut => f.write_str("the lock was still held by somebody else when the time was over"),
            Self::Failed(error) => write!(f, "the lock cannot be used: {error}"),
        }
    }
}

impl<G> std::error::Error for LockError<G> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Failed(error) => Some(error),
            _ => None,
        }
    }
}

/// Why a wait ended without that which was waited for.
#[derive(Debug)]
#[non_exhaustive]
pub enum WaitError {
    /// It could not be had at once.
    WouldBlock,
    /// It could still not be had when the time was over.
    TimedOut,
    /// This process, a forked child, could not take part in the region (for example [`Error::TooManyParticipants`]), so it
    /// can neither hold anything nor wait; or [`Error::Corrupted`]: the primitive holds a value that it never writes; or
    /// [`Error::Forked`].
    Failed(Error),
}

impl fmt::Display for WaitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WouldBlock => f.write_str("not to be had at once"),
            Self::TimedOut => f.write_str("still not to be had when the time was over"),
            Self::Failed(error) => write!(f, "cannot be waited for: {error}"),
        }
    }
}

impl std::error::Error for WaitError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Failed(error) => Some(error),
            _ => None,
        }
    }
}

impl From<Error> for WaitError {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// What a rare path has returned, taken apart and put together again: returned as it is, it would have the usual result go through the memory that it is
/// returned in.
#[inline]
#[expect(clippy::needless_question_mark, reason = "this is what the function is for")]
pub(crate) fn taken_apart<T, E>(rare: Result<T, E>) -> Result<T, E> {
    Ok(rare?)
}
