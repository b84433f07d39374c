//! What can go wrong with a map.

use core::fmt;

use shmkit_core::Error;

/// Why an operation on a [`SharedMap`](crate::SharedMap) was not done. It has changed nothing then.
#[derive(Debug)]
#[non_exhaustive]
pub enum MapError {
    /// There is no room for another key.
    Full {
        /// What the map is called.
        map: String,
        /// How many it has.
        capacity: usize,
    },
    /// The key is longer than keys of this map can be.
    KeyTooLong {
        /// What the map is called.
        map: String,
        /// The length of the key, in bytes.
        len: usize,
        /// The length of the longest key that the map was made for, in bytes.
        longest: usize,
    },
    /// The map cannot be opened or made; or the calling process cannot change it, being a forked child that cannot take part
    /// ([`Error::TooManyParticipants`]) or one that was forked in the middle ([`Error::Forked`]); or somebody has scribbled over it
    /// ([`Error::Corrupted`]).
    Failed(Error),
}

impl fmt::Display for MapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full { map, capacity } => {
                write!(
                    f,
                    "the map {map:?} has {capacity} entries, which is all it has room for: remove some, or make it larger"
                )
            }
            Self::KeyTooLong { map, len, longest } => {
                write!(f, "a key of {len} bytes is too long for the map {map:?}, which was made for {longest}")
            }
            Self::Failed(error) => write!(f, "the map failed: {error}"),
        }
    }
}

impl std::error::Error for MapError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Failed(error) => Some(error),
            _ => None,
        }
    }
}

impl From<Error> for MapError {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}
