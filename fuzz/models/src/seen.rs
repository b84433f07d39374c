//! What a run has come to.

use std::collections::BTreeSet;

use shmkit::process::{MapError, VecError};
use shmkit::{Error, LockError, OpenError, RecvError, SendError, WaitError};

/// Which operations have come to which results, in one run or several.
///
/// The seeds are chosen by it, and the replay sees by it that they still reach what they were chosen for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen(BTreeSet<(&'static str, &'static str)>);

impl Seen {
    pub(crate) fn note(&mut self, operation: &'static str, result: &'static str) {
        self.0.insert((operation, result));
    }

    /// The operations and results, in order.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, &'static str)> + '_ {
        self.0.iter().copied()
    }

    /// Adds what another run has come to; says whether there was anything new.
    pub fn merge(&mut self, other: &Seen) -> bool {
        let before = self.0.len();
        self.0.extend(&other.0);
        self.0.len() > before
    }
}

/// What kind of result it is.
pub(crate) trait Kind {
    fn kind(&self) -> &'static str;
}

impl<T: Kind, E: Kind> Kind for Result<T, E> {
    fn kind(&self) -> &'static str {
        match self {
            Ok(value) => value.kind(),
            Err(error) => error.kind(),
        }
    }
}

impl Kind for () {
    fn kind(&self) -> &'static str {
        "done"
    }
}

impl Kind for bool {
    fn kind(&self) -> &'static str {
        if *self { "yes" } else { "no" }
    }
}

impl Kind for Error {
    fn kind(&self) -> &'static str {
        match self {
            Self::InvalidName { .. } => "invalid name",
            Self::InvalidParticipants { .. } => "invalid participants",
            Self::AlreadyExists => "already exists",
            Self::NotFound => "not found",
            Self::NotARegion { .. } => "not a region",
            Self::Version { .. } => "version",
            Self::WrongSize { .. } => "wrong size",
            Self::NotSealed => "not sealed",
            Self::NoSpace { .. } => "no space",
            Self::TooManyParticipants { .. } => "too many participants",
            Self::NoSuchObject { .. } => "no such object",
            Self::ObjectExists { .. } => "object exists",
            Self::WrongType { .. } => "wrong type",
            Self::WrongLength { .. } => "wrong length",
            Self::Corrupted { .. } => "corrupted",
            Self::Busy => "busy",
            _ => "another error",
        }
    }
}

impl<G> Kind for LockError<G> {
    fn kind(&self) -> &'static str {
        match self {
            Self::Poisoned { .. } => "poisoned",
            Self::WouldBlock => "would block",
            Self::TimedOut => "timed out",
            Self::Failed(error) => error.kind(),
            _ => "another error",
        }
    }
}

impl Kind for WaitError {
    fn kind(&self) -> &'static str {
        match self {
            Self::WouldBlock => "would block",
            Self::TimedOut => "timed out",
            Self::Failed(error) => error.kind(),
            _ => "another error",
        }
    }
}

impl Kind for OpenError {
    fn kind(&self) -> &'static str {
        match self {
            Self::Taken => "taken",
            Self::Closed => "closed",
            Self::Failed(error) => error.kind(),
            _ => "another error",
        }
    }
}

impl Kind for MapError {
    fn kind(&self) -> &'static str {
        match self {
            Self::Full { .. } => "full",
            Self::KeyTooLong { .. } => "key too long",
            Self::Failed(error) => error.kind(),
            _ => "another error",
        }
    }
}

impl Kind for VecError {
    fn kind(&self) -> &'static str {
        match self {
            Self::Full { .. } => "full",
            Self::OutOfRange { .. } => "out of range",
            Self::Failed(error) => error.kind(),
            _ => "another error",
        }
    }
}

impl<T> Kind for SendError<T> {
    fn kind(&self) -> &'static str {
        match self {
            Self::Full(_) => "full",
            Self::TimedOut(_) => "timed out",
            Self::Disconnected(_) => "disconnected",
            Self::TooLong(_) => "too long",
            Self::Failed { error, .. } => error.kind(),
            _ => "another error",
        }
    }
}

impl Kind for RecvError {
    fn kind(&self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::TimedOut => "timed out",
            Self::Disconnected => "disconnected",
            Self::TooSmall { .. } => "too small",
            Self::Failed(error) => error.kind(),
            _ => "another error",
        }
    }
}

/// The kind of a result whose value does not matter.
pub(crate) fn kind<T, E: Kind>(result: &Result<T, E>) -> &'static str {
    match result {
        Ok(_) => "done",
        Err(error) => error.kind(),
    }
}
