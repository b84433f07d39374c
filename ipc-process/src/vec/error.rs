//! What can go wrong with a vector.

use core::fmt;

use shmkit_core::Error;

/// Why an operation on a [`SharedVec`](crate::SharedVec) was not done. It has changed nothing then.
#[derive(Debug)]
#[non_exhaustive]
pub enum VecError {
    /// There is no room for all that was to be put in.
    Full {
        /// What the vector is called.
        vec: String,
        /// How many elements it has room for.
        capacity: usize,
    },
    /// There is no such element.
    OutOfRange {
        /// What the vector is called.
        vec: String,
        /// Which was asked for.
        index: usize,
    },
    /// The vector cannot be opened or made; or the calling process cannot change it, being a forked child that cannot take part
    /// ([`Error::TooManyParticipants`]) or one that was forked in the middle ([`Error::Forked`]); or somebody has scribbled over it
    /// ([`Error::Corrupted`]).
    Failed(Error),
}

impl fmt::Display for VecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full { vec, capacity } => {
                write!(f, "the vector {vec:?} has room for {capacity} elements, which is not enough: make it larger")
            }
            Self::OutOfRange { vec, index } => write!(f, "the vector {vec:?} has no element {index}"),
            Self::Failed(error) => write!(f, "the vector failed: {error}"),
        }
    }
}

impl std::error::Error for VecError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Failed(error) => Some(error),
            _ => None,
        }
    }
}

impl From<Error> for VecError {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}
