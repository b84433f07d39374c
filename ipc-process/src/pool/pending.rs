//! Handles of tasks that were submitted.

use core::fmt;
use core::marker::PhantomData;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;

use super::batch::Batch;
use super::error::TaskError;

/// A task that was submitted by [`Submitter::submit`](super::Submitter::submit), and returns an `R`.
///
/// To drop it does not call the task off: it is run, and its value is lost.
pub struct Pending<R> {
    batch: Arc<Batch>,
    _value: PhantomData<fn() -> R>,
}

/// Tasks that were submitted by [`Submitter::map_async`](super::Submitter::map_async), and return an `R` each.
///
/// To drop it does not call the tasks off.
///
/// # Examples
///
/// ```
/// use shmkit_process::{Pool, TaskError};
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     shmkit_process::init();
///     let pool = Pool::new(2)?;
///     let quotients = pool.map_async(|n: u32| 12 / n, [3, 0, 4]);
///     let each = quotients.get_each()?;
///     assert_eq!(each[0], Ok(4));
///     assert!(matches!(each[1], Err(TaskError::Panicked { .. })));
///     assert_eq!(quotients.progress(), (3, 3));
///     Ok(())
/// }
/// ```
pub struct PendingMap<R> {
    batch: Arc<Batch>,
    _values: PhantomData<fn() -> R>,
}

/// Waits for the end of a batch.
fn wait(batch: &Batch, timeout: Option<Duration>) -> Result<(), TaskError> {
    // What cannot be reckoned with is for ever.
    let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    batch.wait(deadline).map_err(|waited| waited.error(&batch.task))
}

fn value<R: DeserializeOwned>(batch: &Batch) -> Result<R, TaskError> {
    let nothing = || TaskError::Value { task: batch.task.to_string(), what: "there is none".to_owned() };
    batch.values().pop().ok_or_else(nothing)?
}

impl<R: DeserializeOwned> Pending<R> {
    pub(super) fn new(batch: Arc<Batch>) -> Self {
        Self { batch, _value: PhantomData }
    }

    /// Waits until the task is done, and returns its value. It can be asked for again.
    ///
    /// # Blocking
    ///
    /// Until then.
    ///
    /// # Errors
    ///
    /// [`TaskError`], all but `TimedOut`.
    pub fn get(&self) -> Result<R, TaskError> {
        wait(&self.batch, None)?;
        value(&self.batch)
    }

    /// Waits until the task is done, for `timeout` at most, and returns its value.
    ///
    /// # Errors
    ///
    /// [`TaskError::TimedOut`], and those of [`get`](Self::get).
    pub fn get_timeout(&self, timeout: Duration) -> Result<R, TaskError> {
        wait(&self.batch, Some(timeout))?;
        value(&self.batch)
    }

    /// Calls `callback` with what [`get`](Self::get) would return, when the task is done: in a thread of the pool, or right now in this one, if it is
    /// done already.
    ///
    /// As long as the callback runs, no results are taken. So it should be short; and it must not wait for tasks, which is an error. A panic in
    /// it ends nothing but itself.
    pub fn on_done(self, callback: impl FnOnce(Result<R, TaskError>) + Send + 'static) {
        self.batch.set_callback(Box::new(|batch| callback(value(batch))));
    }
}

impl<R> Pending<R> {
    /// Whether the task is done, with or without a value.
    pub fn is_done(&self) -> bool {
        self.batch.is_over()
    }
}

impl<R: DeserializeOwned> PendingMap<R> {
    pub(super) fn new(batch: Arc<Batch>) -> Self {
        Self { batch, _values: PhantomData }
    }

    /// Waits until all tasks are done, and returns their values, in the order of the items. They can be asked for again.
    ///
    /// # Blocking
    ///
    /// Until then.
    ///
    /// # Errors
    ///
    /// [`TaskError`], all but `TimedOut`, of the first task that has no value.
    pub fn get(&self) -> Result<Vec<R>, TaskError> {
        wait(&self.batch, None)?;
        self.batch.values().into_iter().collect()
    }

    /// Waits until all tasks are done, for `timeout` at most, and returns their values, in the order of the items.
    ///
    /// # Errors
    ///
    /// [`TaskError::TimedOut`], and those of [`get`](Self::get).
    pub fn get_timeout(&self, timeout: Duration) -> Result<Vec<R>, TaskError> {
        wait(&self.batch, Some(timeout))?;
        self.batch.values().into_iter().collect()
    }

    /// Waits until all tasks are done, and returns for each its value, or why there is none.
    ///
    /// # Errors
    ///
    /// [`TaskError::WouldBlock`].
    pub fn get_each(&self) -> Result<Vec<Result<R, TaskError>>, TaskError> {
        wait(&self.batch, None)?;
        Ok(self.batch.values())
    }

    /// Calls `callback` with what [`get`](Self::get) would return, when all are done; as [`Pending::on_done`].
    pub fn on_done(self, callback: impl FnOnce(Result<Vec<R>, TaskError>) + Send + 'static) {
        self.batch.set_callback(Box::new(|batch| callback(batch.values().into_iter().collect())));
    }
}

impl<R> PendingMap<R> {
    /// Whether all tasks are done, with or without a value.
    pub fn is_done(&self) -> bool {
        self.batch.is_over()
    }

    /// How many tasks are done, and how many there are.
    pub fn progress(&self) -> (usize, usize) {
        self.batch.progress()
    }

    /// Calls `hook` with [that](Self::progress) after each chunk from now on: in a thread of the pool, with what is said of
    /// [callbacks](Pending::on_done).
    #[must_use]
    pub fn on_progress(self, hook: impl FnMut(usize, usize) + Send + 'static) -> Self {
        self.batch.set_hook(Box::new(hook));
        self
    }
}

impl<R> fmt::Debug for Pending<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pending").field("task", &self.batch.task.to_string()).field("is_done", &self.is_done()).finish()
    }
}

impl<R> fmt::Debug for PendingMap<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingMap")
            .field("task", &self.batch.task.to_string())
            .field("progress", &self.progress())
            .finish()
    }
}
