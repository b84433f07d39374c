//! What can go wrong with channels.

use core::fmt;

use shmkit_core::Error;

use crate::ends::{Ended, NotClaimed};

/// Why there is no end to use.
#[derive(Debug)]
#[non_exhaustive]
pub enum OpenError {
    /// A process that is alive has this end. Or one that is dead had it, and whoever made the channel did not allow
    /// [successors](crate::ChannelOptions::successors).
    Taken,
    /// This end has been closed.
    Closed,
    /// There is no [`Ticket`](crate::Ticket) where one was looked for.
    NoTicket {
        /// What was found, or not.
        what: &'static str,
    },
    /// There is no such channel, or it cannot be reached; or one that was to be made cannot be.
    Failed(Error),
}

/// Why a message was not sent. It comes back, so that nothing is lost.
///
/// Where several were to be sent, it is how many of them have been.
#[non_exhaustive]
pub enum SendError<T> {
    /// There is no room for it.
    Full(T),
    /// There was still no room for it when the time was over.
    TimedOut(T),
    /// Nobody will receive it: the other end was closed, or its process is dead. Or this end was closed.
    Disconnected(T),
    /// It is a frame that is too long for the channel to take it in one piece, or at once, as it was to be.
    TooLong(T),
    /// The calling process cannot use this end: it is a forked child of the one that has it ([`Error::Forked`]), or cannot wait
    /// (for example [`Error::TooManyParticipants`]), or somebody has scribbled over the channel ([`Error::Corrupted`]).
    Failed {
        /// What was to be sent.
        message: T,
        /// What is wrong.
        error: Error,
    },
}

/// Why no message was received.
#[derive(Debug)]
#[non_exhaustive]
pub enum RecvError {
    /// There is none at present.
    Empty,
    /// There was still none when the time was over.
    TimedOut,
    /// There is none, and none will come: the other end was closed, or its process is dead. Or this end was closed.
    Disconnected,
    /// The next frame is longer than the buffer that it was to be received into. It stays where it is.
    TooSmall {
        /// How long it is.
        needed: usize,
    },
    /// As for [`SendError::Failed`].
    Failed(Error),
}

impl<T> SendError<T> {
    /// What was to be sent.
    pub fn into_message(self) -> T {
        match self {
            Self::Full(message) | Self::TimedOut(message) | Self::Disconnected(message) | Self::TooLong(message) => {
                message
            }
            Self::Failed { message, .. } => message,
        }
    }

    pub(crate) fn ended(message: T, ended: Ended) -> Self {
        match ended {
            Ended::TimedOut => Self::TimedOut(message),
            Ended::Gone => Self::Disconnected(message),
            Ended::Failed(error) => Self::Failed { message, error },
        }
    }
}

impl From<Ended> for RecvError {
    fn from(ended: Ended) -> Self {
        match ended {
            Ended::TimedOut => Self::TimedOut,
            Ended::Gone => Self::Disconnected,
            Ended::Failed(error) => Self::Failed(error),
        }
    }
}

impl From<Error> for RecvError {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl From<Error> for OpenError {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl From<NotClaimed> for OpenError {
    fn from(cause: NotClaimed) -> Self {
        match cause {
            NotClaimed::Taken => Self::Taken,
            NotClaimed::Closed => Self::Closed,
            NotClaimed::OtherEnd => Self::NoTicket { what: "it is for the other end of the channel" },
            NotClaimed::Failed(error) => Self::Failed(error),
        }
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Taken => f.write_str("another process has this end of the channel, or had it when it died"),
            Self::Closed => f.write_str("this end of the channel has been closed"),
            Self::NoTicket { what } => write!(f, "there is no ticket for this end of a channel: {what}"),
            Self::Failed(error) => write!(f, "the channel cannot be made or opened: {error}"),
        }
    }
}

impl<T> fmt::Debug for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(_) => f.write_str("Full(..)"),
            Self::TimedOut(_) => f.write_str("TimedOut(..)"),
            Self::Disconnected(_) => f.write_str("Disconnected(..)"),
            Self::TooLong(_) => f.write_str("TooLong(..)"),
            Self::Failed { error, .. } => f.debug_struct("Failed").field("error", error).finish_non_exhaustive(),
        }
    }
}

impl<T> fmt::Display for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(_) => f.write_str("the channel is full"),
            Self::TimedOut(_) => f.write_str("the channel was still full when the time was over"),
            Self::Disconnected(_) => f.write_str("nobody is there who would receive it"),
            Self::TooLong(_) => {
                f.write_str("the channel is too small for it: send it in parts, or make the channel larger")
            }
            Self::Failed { error, .. } => write!(f, "the channel cannot be used: {error}"),
        }
    }
}

impl fmt::Display for RecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the channel is empty"),
            Self::TimedOut => f.write_str("the channel was still empty when the time was over"),
            Self::Disconnected => f.write_str("the channel is empty, and nobody is there who would send"),
            Self::TooSmall { needed } => write!(f, "the next frame needs a buffer of {needed} bytes"),
            Self::Failed(error) => write!(f, "the channel cannot be used: {error}"),
        }
    }
}

impl std::error::Error for OpenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Failed(error) => Some(error),
            _ => None,
        }
    }
}

impl<T> std::error::Error for SendError<T> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Failed { error, .. } => Some(error),
            _ => None,
        }
    }
}

impl std::error::Error for RecvError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Failed(error) => Some(error),
            _ => None,
        }
    }
}
