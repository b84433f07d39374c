//! A batch: what was submitted with one call, and what has come of it.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};
use std::time::Instant;

use super::error::TaskError;

/// What has come of a part, which is a chunk of tasks.
#[derive(Debug)]
pub(super) enum Part {
    /// Nothing yet.
    Pending,
    /// The frame of a worker: the entries begin at [`super::frame::HEAD`].
    Done(Vec<u8>),
    /// Nothing, and nothing will.
    Failed(Cause),
    /// It was fetched by the one that it is for.
    Fetched,
}

/// Why nothing comes of a part.
#[derive(Clone, Debug)]
pub(super) enum Cause {
    WorkerDied { pid: u32, signal: Option<i32>, code: Option<i32> },
    Args(String),
    Closed,
    Terminated,
    Broken(Arc<str>),
}

impl Cause {
    pub(super) fn error(&self, task: &str) -> TaskError {
        let task = task.to_owned();
        match self {
            Self::WorkerDied { pid, signal, code } => {
                TaskError::WorkerDied { task, pid: *pid, signal: *signal, code: *code }
            }
            Self::Args(what) => TaskError::Args { task, what: what.clone() },
            Self::Closed => TaskError::Closed { task },
            Self::Terminated => TaskError::Terminated { task },
            Self::Broken(what) => TaskError::Broken { task, what: what.to_string() },
        }
    }
}

/// Called with how many tasks are done, and how many there are.
pub(super) type Hook = Box<dyn FnMut(usize, usize) + Send>;

/// Called when all is done.
pub(super) type Callback = Box<dyn FnOnce(&Batch) + Send>;

/// See the module.
pub(super) struct Batch {
    /// What the tasks are called.
    pub(super) task: String,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    /// With the number of tasks in each.
    parts: Vec<(u32, Part)>,
    /// The part at index 0 was the so manieth.
    first: usize,
    /// How many are pending.
    pending: usize,
    tasks: usize,
    done: usize,
    /// Somebody wants the parts one by one: those that have come, in the order in which they came.
    stream: Option<VecDeque<usize>>,
    hook: Option<Hook>,
    callback: Option<Callback>,
}

impl Batch {
    /// A batch without parts.
    pub(super) fn new(task: String, is_stream: bool) -> Arc<Self> {
        let state = State {
            parts: Vec::new(),
            first: 0,
            pending: 0,
            tasks: 0,
            done: 0,
            stream: is_stream.then(VecDeque::new),
            hook: None,
            callback: None,
        };
        Arc::new(Self { task, state: Mutex::new(state), changed: Condvar::new() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in here is left half-changed by a panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a part of `count` tasks; returns its number.
    pub(super) fn add(&self, count: u32) -> usize {
        let mut state = self.lock();
        state.parts.push((count, Part::Pending));
        state.pending += 1;
        state.tasks += count as usize;
        state.first + state.parts.len() - 1
    }

    /// Says what has come of a part.
    pub(super) fn finish(&self, number: usize, outcome: Part) {
        let mut state = self.lock();
        let Some(index) = number.checked_sub(state.first) else {
            return;
        };
        let Some((count, part @ Part::Pending)) = state.parts.get_mut(index) else {
            return;
        };
        *part = outcome;
        state.done += *count as usize;
        state.pending -= 1;
        if let Some(stream) = &mut state.stream {
            stream.push_back(number);
        }
        let is_over = state.pending == 0;
        if is_over || state.stream.is_some() {
            self.changed.notify_all();
        }
        let (done, tasks) = (state.done, state.tasks);
        let hook = state.hook.take();
        let callback = if is_over { state.callback.take() } else { None };
        drop(state);
        // With nothing locked: they may ask for anything.
        if let Some(mut hook) = hook {
            if run_foreign(|| hook(done, tasks)) && !is_over {
                self.lock().hook = Some(hook);
            }
        }
        if let Some(callback) = callback {
            run_foreign(|| callback(self));
        }
    }
}
