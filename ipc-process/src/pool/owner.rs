//! The pool in the hands of its owner.

use core::fmt;
use core::mem;
use core::ops::Deref;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use super::batch::{Cause, is_thread_of_a_pool};
use super::error::PoolError;
use super::options::PoolOptions;
use super::submitter::Submitter;

/// Worker processes that run functions of this program.
///
/// Tasks are submitted by the methods of [`Submitter`], to which a pool dereferences: [`apply`](Submitter::apply), [`submit`](Submitter::submit),
/// [`map`](Submitter::map), [`map_async`](Submitter::map_async), [`imap`](Submitter::imap) and [`imap_unordered`](Submitter::imap_unordered).
///
/// To drop a pool [terminates](Self::terminate) it. Whoever wants what was submitted to be done, gets the values, or [closes](Self::close) it and
/// [joins](Self::join).
///
/// # What a death means
///
/// A task that panics is an error for whoever wants its value; its worker goes on. A worker that is killed costs what it was just running: those tasks, one
/// or a [chunk](Submitter::chunked), end in [`TaskError::WorkerDied`](super::TaskError::WorkerDied), or are run again if
/// [that is allowed](Submitter::retrying). Another worker takes its place. All other tasks are run once, and none waits for that. A task that ends
/// its process does the same as a kill; a child that a task has forked, and that comes to the end of the task, ends there.
///
/// A worker that is stopped (SIGSTOP) is alive, and keeps the task that it has. If it is stopped in the very moment in which it takes one, the others take
/// none until it goes on, as with any [`Queue`](shmkit_channel::Queue). Workers are daemons: they end with the process that has the
/// pool, and may have no children, so a task cannot make a pool.
///
/// # Threads
///
/// A pool has one thread for every 31 workers in the process that has made it. It blocks all signals, takes the results, runs
/// [callbacks](super::Pending::on_done) and [hooks](super::PendingMap::on_progress), and starts workers. It sleeps unless there is something to do.
///
/// # Examples
///
/// ```
/// use shmkit_process::Pool;
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     shmkit_process::init();
///     let pool = Pool::new(2)?;
///     let squares = pool.map(|n: u64| n * n, 0..1000)?;
///     assert_eq!(squares[999], 998_001);
///     pool.close();
///     pool.join();
///     Ok(())
/// }
/// ```
pub struct Pool {
    pub(super) submitter: Submitter,
    pub(super) threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Pool {
    /// A pool of so many workers; [`PoolOptions`] has more to choose from, and a default for this.
    ///
    /// # Errors
    ///
    /// As for [`PoolOptions::build`].
    pub fn new(workers: usize) -> Result<Self, PoolError> {
        PoolOptions::new().workers(workers).build()
    }

    pub(super) fn threads(&self) -> MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes no more tasks: those that are submitted from now on end in [`TaskError::Closed`](super::TaskError::Closed). What was submitted before
    /// is done, and then the workers end.
    pub fn close(&self) {
        if self.submitter.is_own() {
            self.submitter.firm().office.close();
            self.submitter.firm().ring();
        }
    }

    /// Waits until the workers have ended, after [`close`](Self::close) or [`terminate`](Self::terminate).
    ///
    /// # Blocking
    ///
    /// Until then, which is for ever if nobody closes or terminates it. Not at all in callbacks, and in forked children.
    pub fn join(&self) {
        if self.submitter.is_own() && !is_thread_of_a_pool() {
            for thread in self.threads().drain(..) {
                // A panic in there was reported by itself.
                let _ = thread.join();
            }
        }
    }

    /// Kills the workers. Tasks that are not done end in [`TaskError::Terminated`](super::TaskError::Terminated).
    ///
    /// # Blocking
    ///
    /// Never: [`join`](Self::join) waits until they have ended.
    pub fn terminate(&self) {
        if self.submitter.is_own() {
            self.submitter.firm().office.end(&Cause::Terminated);
            self.submitter.firm().ring();
        }
    }
}

impl Deref for Pool {
    type Target = Submitter;

    fn deref(&self) -> &Submitter {
        &self.submitter
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.terminate();
        self.join();
        if !self.submitter.is_own() {
            // The threads are the parent's. To let go of one that is not here may let go of another one: that which lies where it lay.
            let threads = self.threads.get_mut().unwrap_or_else(PoisonError::into_inner);
            threads.drain(..).for_each(mem::forget);
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("workers", &self.workers()).field("pids", &self.pids()).finish_non_exhaustive()
    }
}
