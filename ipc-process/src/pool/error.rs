//! What can go wrong with pools and their tasks.

use core::fmt;

use shmkit_channel::OpenError;
use shmkit_core::Error;

use crate::process::SpawnError;

/// Why there is no pool.
#[derive(Debug)]
#[non_exhaustive]
pub enum PoolError {
    /// A pool cannot have so many workers.
    Workers {
        /// What was asked for.
        asked: usize,
        /// The most that is possible.
        max: usize,
    },
    /// The initializer cannot be used.
    Initializer {
        /// Its name.
        task: String,
        /// Why not.
        what: String,
    },
    /// A worker could not be started.
    Spawn(SpawnError),
    /// There is no memory to share, or no more descriptors or threads.
    Failed(Error),
}

/// Why a task has no value. Each names the task: as [`Submitter::named`](super::Submitter::named) has called it, or by the types of the function and the place where it was submitted.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TaskError {
    /// It has panicked. Its worker lives on.
    Panicked {
        /// The task.
        task: String,
        /// What the panic said.
        message: String,
    },
    /// Its worker has died while it had the task: by a signal, or because the task has ended the process. The task may have been run to any
    /// point.
    WorkerDied {
        /// The task.
        task: String,
        /// The worker.
        pid: u32,
        /// The signal that has ended it.
        signal: Option<i32>,
        /// The code that it has ended with by itself.
        code: Option<i32>,
    },
    /// Its arguments cannot be serialised, or not be read by the worker; or the function is not part of the main program.
    Args {
        /// The task.
        task: String,
        /// What is wrong.
        what: String,
    },
    /// It has returned a value, which cannot be serialised, or not be read. A value cannot bring files along, such as a region's.
    Value {
        /// The task.
        task: String,
        /// What is wrong.
        what: String,
    },
    /// It was not done in time. It goes on.
    TimedOut {
        /// The task.
        task: String,
    },
    /// The pool was closed before the task was submitted.
    Closed {
        /// The task.
        task: String,
    },
    /// The pool was terminated, or dropped, before the task was done.
    Terminated {
        /// The task.
        task: String,
    },
    /// The pool cannot work any more.
    Broken {
        /// The task.
        task: String,
        /// Why not: what the initializer said when it panicked, for example.
        what: String,
    },
    /// It was asked for by a callback or a hook, which runs in a thread that no task would be done without.
    WouldBlock {
        /// The task.
        task: String,
    },
}

impl From<SpawnError> for PoolError {
    fn from(error: SpawnError) -> Self {
        Self::Spawn(error)
    }
}

impl From<Error> for PoolError {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl From<std::io::Error> for PoolError {
    fn from(error: std::io::Error) -> Self {
        Self::Failed(error.into())
    }
}

impl From<OpenError> for PoolError {
    fn from(error: OpenError) -> Self {
        Self::Failed(match error {
            OpenError::Failed(error) => error,
            // What was made just now, for this process.
            other => Error::Io(std::io::Error::other(other.to_string())),
        })
    }
}

impl fmt::Display for PoolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Workers { asked, max } => write!(f, "a pool has 1 to {max} workers, not {asked}"),
            Self::Initializer { task, what } => write!(f, "the initializer {task} cannot be used: {what}"),
            Self::Spawn(error) => write!(f, "no worker of the pool could be started: {error}"),
            Self::Failed(error) => write!(f, "the pool could not be made: {error}"),
        }
    }
}

impl fmt::Display for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Panicked { task, message } => write!(f, "task {task} has panicked: {message}"),
            Self::WorkerDied { task, pid, signal: Some(signal), .. } => {
                write!(f, "task {task}: its worker, process {pid}, was ended by signal {signal}")
            }
            Self::WorkerDied { task, pid, code: Some(code), .. } => {
                write!(f, "task {task}: its worker, process {pid}, has exited with code {code}")
            }
            Self::WorkerDied { task, pid, .. } => write!(f, "task {task}: its worker, process {pid}, has ended"),
            Self::Args { task, what } => write!(f, "task {task} cannot be run: {what}"),
            Self::Value { task, what } => write!(f, "the value of task {task} has not come: {what}"),
            Self::TimedOut { task } => write!(f, "task {task} is not done yet: wait longer"),
            Self::Closed { task } => write!(f, "task {task} was not taken: the pool is closed"),
            Self::Terminated { task } => write!(f, "task {task} was not done: the pool was terminated"),
            Self::Broken { task, what } => write!(f, "task {task} was not done: the pool cannot work: {what}"),
            Self::WouldBlock { task } => {
                write!(f, "task {task} is not done yet, and a callback of its pool must not wait for it")
            }
        }
    }
}

impl std::error::Error for PoolError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Spawn(error) => Some(error),
            Self::Failed(error) => Some(error),
            _ => None,
        }
    }
}

impl std::error::Error for TaskError {}
