//! What can go wrong with processes.

use core::fmt;
use std::io;

use super::exit::ExitStatus;

/// Why a process could not be started.
#[derive(Debug)]
#[non_exhaustive]
pub enum SpawnError {
    /// [`init`](super::init) was not called in this process.
    NotInitialised {
        /// The process that was to be started.
        name: String,
    },
    /// The calling process is a daemon.
    Daemon {
        /// The process that was to be started.
        name: String,
    },
    /// The function is not part of the main program, but of a shared library.
    NotInProgram {
        /// The process that was to be started.
        name: String,
        /// The types of the function.
        function: &'static str,
    },
    /// The arguments cannot be serialised.
    Args {
        /// The process that was to be started.
        name: String,
        /// Why not.
        what: String,
    },
    /// The operating system said no.
    Io {
        /// The process that was to be started.
        name: String,
        /// What it said.
        error: io::Error,
    },
}

impl fmt::Display for SpawnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotInitialised { name } => write!(
                f,
                "process {name:?} cannot be started: call shmkit::process::init() at the top of main (in tests, write shmkit::process::enable_test_support!())"
            ),
            Self::Daemon { name } => {
                write!(f, "process {name:?} cannot be started: this process is a daemon, which may have no children")
            }
            Self::NotInProgram { name, function } => write!(
                f,
                "process {name:?} cannot be started: its function {function} is in a shared library; it has to be in the main program"
            ),
            Self::Args { name, what } => {
                write!(f, "process {name:?} cannot be started: its arguments cannot be serialised: {what}")
            }
            Self::Io { name, error } => {
                write!(f, "process {name:?} cannot be started: the operating system said no: {error}")
            }
        }
    }
}

impl std::error::Error for SpawnError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { error, .. } => Some(error),
            _ => None,
        }
    }
}

/// Why there is no value of a process.
#[derive(Debug)]
#[non_exhaustive]
pub enum JoinError {
    /// It did not end in time.
    TimedOut {
        /// The process.
        name: String,
    },
    /// Its function has panicked.
    Panicked {
        /// The process.
        name: String,
        /// What the panic said.
        message: String,
    },
    /// It has ended before its function returned: it was killed, or has called `exit`.
    Ended {
        /// The process.
        name: String,
        /// How it has ended.
        status: ExitStatus,
    },
    /// Its function has returned, but the value has not come: it cannot be serialised, or not be read.
    Value {
        /// The process.
        name: String,
        /// What is wrong with it.
        what: String,
    },
    /// The value has been taken by an earlier call.
    Taken {
        /// The process.
        name: String,
    },
    /// Somebody else in this process has waited for it, such as by waiting for any child, or SIGCHLD is ignored: how it has ended is not known.
    Lost {
        /// The process.
        name: String,
    },
    /// The calling process is a forked child of the one that has started it.
    Forked {
        /// The process.
        name: String,
    },
    /// The operating system said no.
    Io {
        /// The process.
        name: String,
        /// What it said.
        error: io::Error,
    },
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut { name } => write!(f, "process {name:?} has not ended yet: wait longer, or terminate it"),
            Self::Panicked { name, message } => write!(f, "process {name:?} has panicked: {message}"),
            Self::Ended { name, status } => match (status.code(), status.signal()) {
                (_, Some(signal)) => write!(f, "process {name:?} was ended by signal {signal}"),
                (code, None) => write!(
                    f,
                    "process {name:?} has exited with code {} before its function returned",
                    code.unwrap_or_default()
                ),
            },
            Self::Value { name, what } => write!(f, "the value of process {name:?} has not come: {what}"),
            Self::Taken { name } => write!(f, "the value of process {name:?} has been taken already: join it once"),
            Self::Lost { name } => write!(
                f,
                "how process {name:?} has ended is not known: something else here waits for any child, or ignores SIGCHLD"
            ),
            Self::Forked { name } => {
                write!(
                    f,
                    "process {name:?} was started by the parent of this forked process, and is the parent's to wait for and to signal"
                )
            }
            Self::Io { name, error } => {
                write!(f, "waiting for process {name:?}: the operating system said no: {error}")
            }
        }
    }
}

impl std::error::Error for JoinError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { error, .. } => Some(error),
            _ => None,
        }
    }
}
