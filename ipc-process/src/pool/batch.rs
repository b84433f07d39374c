//! A batch: what was submitted with one call, and what has come of it.

use core::fmt::{self, Display};
use std::cell::Cell;
use std::collections::VecDeque;
use std::mem;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use shmkit_core::identity::{self, Token};

use super::call::Values;
use super::error::TaskError;
use super::frame::HEAD;

/// What has come of a part, which is a chunk of tasks.
#[derive(Debug)]
pub(super) enum Part {
    /// Nothing yet.
    Pending,
    /// The frame of a worker: the entries begin at [`HEAD`].
    Done(Vec<u8>),
    /// Nothing, and nothing will.
    Failed(Cause),
    /// It was fetched by the one that it is for.
    Fetched,
}

/// What tasks are called. It becomes a text only if there is something to say of them.
#[derive(Clone, Debug)]
pub(super) enum Name {
    Given(Arc<str>),
    /// The types of the function, and where it was submitted.
    Of(&'static str, &'static Location<'static>),
}

impl Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Given(name) => f.write_str(name),
            Self::Of(types, place) => write!(f, "{types} of {place}"),
        }
    }
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
    /// What becomes of tasks in a process that was forked from the one which has the pool.
    pub(super) fn forked() -> Self {
        Self::Broken("this process was forked from the one that has the pool".into())
    }

    pub(super) fn error(&self, task: &dyn Display) -> TaskError {
        let task = task.to_string();
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

/// How the parts of a batch are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// When all are there.
    Together,
    /// One after the other.
    InOrder,
    /// As they come.
    AsTheyCome,
}

/// Called with how many tasks are done, and how many there are.
pub(super) type Hook = Box<dyn FnMut(usize, usize) + Send>;

/// Called when all is done.
pub(super) type Callback = Box<dyn FnOnce(&Batch) + Send>;

/// See the module.
pub(super) struct Batch {
    /// What the tasks are called.
    pub(super) task: Name,
    /// The process that it belongs to.
    owner: Token,
    state: Mutex<State>,
    changed: Condvar,
    /// Locked while it runs.
    hook: Mutex<Option<Hook>>,
}

struct State {
    /// With the number of tasks in each.
    parts: VecDeque<(u32, Part)>,
    /// The number of the first of them: those before have been fetched.
    first: usize,
    /// How many are pending.
    pending: usize,
    tasks: usize,
    done: usize,
    /// No more will be added.
    is_whole: bool,
    wanted: Wanted,
    /// If they are wanted as they come: those that have come and were not fetched.
    come: VecDeque<usize>,
    callback: Option<Callback>,
    /// The thread that runs the hook, and whether there has been progress in it meanwhile.
    hook_runs_in: Option<ThreadId>,
    is_hook_late: bool,
}

impl State {
    fn is_over(&self) -> bool {
        self.is_whole && self.pending == 0
    }
}

/// Why a wait ended without what was waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waited {
    TimedOut,
    /// Nothing would come of it: this thread is the one that has to bring the end about.
    WouldBlock,
    /// Nothing would come of it: whoever brings the end about is in the process that this one was forked from.
    Forked,
}

thread_local! {
    /// Whether this is a thread of a pool.
    static IS_OF_POOL: Cell<bool> = const { Cell::new(false) };
}

/// To be called by each thread of a pool, in which callbacks are run.
pub(super) fn note_that_this_is_a_thread_of_a_pool() {
    IS_OF_POOL.set(true);
}

pub(super) fn is_thread_of_a_pool() -> bool {
    IS_OF_POOL.get()
}

impl Waited {
    /// What a wait that ended so means for the task.
    pub(super) fn error(self, task: &dyn Display) -> TaskError {
        match self {
            Self::Forked => Cause::forked().error(task),
            Self::TimedOut => TaskError::TimedOut { task: task.to_string() },
            Self::WouldBlock => TaskError::WouldBlock { task: task.to_string() },
        }
    }
}

impl Batch {
    /// A batch without parts.
    pub(super) fn new(task: Name, wanted: Wanted, owner: Token) -> Arc<Self> {
        let state = State {
            parts: VecDeque::new(),
            first: 0,
            pending: 0,
            tasks: 0,
            done: 0,
            is_whole: false,
            wanted,
            come: VecDeque::new(),
            callback: None,
            hook_runs_in: None,
            is_hook_late: false,
        };
        Arc::new(Self { task, owner, state: Mutex::new(state), changed: Condvar::new(), hook: Mutex::new(None) })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in here is left half-changed by a panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a part of `count` tasks; returns its number.
    pub(super) fn add(&self, count: u32) -> usize {
        let mut state = self.lock();
        state.parts.push_back((count, Part::Pending));
        state.pending += 1;
        state.tasks += count as usize;
        state.first + state.parts.len() - 1
    }

    /// No more parts will be added.
    pub(super) fn seal(&self) {
        let mut state = self.lock();
        state.is_whole = true;
        self.tell(state, false);
    }

    /// Says what has come of a part.
    pub(super) fn finish(&self, number: usize, outcome: Part) {
        let mut state = self.lock();
        let part = number.checked_sub(state.first).and_then(|index| state.parts.get_mut(index));
        let Some((count, part @ Part::Pending)) = part else {
            return;
        };
        *part = outcome;
        state.done += *count as usize;
        state.pending -= 1;
        if state.wanted == Wanted::AsTheyCome {
            state.come.push_back(number);
        }
        self.tell(state, true);
    }

    /// Tells those who wait of a change. What they have given along is run with nothing locked: it may ask for anything.
    fn tell(&self, mut state: MutexGuard<'_, State>, is_progress: bool) {
        let (done, tasks, is_over) = (state.done, state.tasks, state.is_over());
        if is_over || state.wanted != Wanted::Together {
            self.changed.notify_all();
        }
        let callback = if is_over { state.callback.take() } else { None };
        let is_in_hook = state.hook_runs_in.is_some_and(|thread| thread == thread::current().id());
        state.is_hook_late |= is_in_hook && is_progress;
        drop(state);
        if is_progress && !is_in_hook {
            self.call_hook(done, tasks);
        }
        if let Some(callback) = callback {
            // A panic has said so on standard error.
            let _ = catch_unwind(AssertUnwindSafe(|| callback(self)));
        }
    }

    /// Tells the hook how far it is, and once more if the hook itself has brought about more than that: by ending the pool, for example.
    fn call_hook(&self, mut done: usize, mut tasks: usize) {
        let mut hook = self.hook.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(call) = hook.as_mut() {
            self.lock().hook_runs_in = Some(thread::current().id());
            let called = catch_unwind(AssertUnwindSafe(|| call(done, tasks)));
            let mut state = self.lock();
            state.hook_runs_in = None;
            let is_late = mem::take(&mut state.is_hook_late);
            (done, tasks) = (state.done, state.tasks);
            drop(state);
            if called.is_err() {
                // It has said so on standard error, and is not asked again.
                *hook = None;
            } else if !is_late {
                return;
            }
        }
    }

    /// Calls `hook` after each part from now on.
    pub(super) fn set_hook(&self, hook: Hook) {
        *self.hook.lock().unwrap_or_else(PoisonError::into_inner) = Some(hook);
    }

    /// Calls `callback` when all is done, or now.
    pub(super) fn set_callback(&self, callback: Callback) {
        let mut state = self.lock();
        state.callback = Some(callback);
        self.tell(state, false);
    }

    /// How many tasks are done, and how many there are.
    pub(super) fn progress(&self) -> (usize, usize) {
        let state = self.lock();
        (state.done, state.tasks)
    }

    pub(super) fn is_over(&self) -> bool {
        self.lock().is_over()
    }

    /// Waits until all is done.
    pub(super) fn wait(&self, deadline: Option<Instant>) -> Result<(), Waited> {
        self.wait_until(deadline, |state| state.is_over().then_some(()))
    }

    /// Waits until a part can be fetched, and fetches it. `None` if none is left.
    pub(super) fn fetch(&self) -> Result<Option<(u32, Part)>, Waited> {
        self.wait_until(None, |state| {
            if state.parts.is_empty() {
                return Some(None);
            }
            let number = if state.wanted == Wanted::AsTheyCome { state.come.pop_front()? } else { state.first };
            let (count, part) = &mut state.parts[number - state.first];
            if matches!(part, Part::Pending) {
                return None;
            }
            let fetched = (*count, mem::replace(part, Part::Fetched));
            while matches!(state.parts.front(), Some((_, Part::Fetched))) {
                state.parts.pop_front();
                state.first += 1;
            }
            Some(Some(fetched))
        })
    }

    fn wait_until<R>(
        &self,
        deadline: Option<Instant>,
        mut look: impl FnMut(&mut State) -> Option<R>,
    ) -> Result<R, Waited> {
        let mut state = self.lock();
        loop {
            if let Some(found) = look(&mut state) {
                return Ok(found);
            }
            if is_thread_of_a_pool() {
                return Err(Waited::WouldBlock);
            }
            if !identity::is_own(self.owner) {
                return Err(Waited::Forked);
            }
            state = match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(Duration::ZERO) => return Err(Waited::TimedOut),
                Some(left) => self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0,
            };
        }
    }

    /// The value of each task, or why there is none.
    pub(super) fn values<R: DeserializeOwned>(&self) -> Vec<Result<R, TaskError>> {
        let state = self.lock();
        state.parts.iter().flat_map(|(count, part)| self.values_of(*count, part)).collect()
    }

    /// The same of one part.
    pub(super) fn values_of<R: DeserializeOwned>(&self, count: u32, part: &Part) -> Vec<Result<R, TaskError>> {
        let count = 0..count;
        match part {
            Part::Done(frame) => {
                let mut values = Values::new(&self.task, frame.get(HEAD..).unwrap_or_default());
                count.map(|_| values.next()).collect()
            }
            Part::Failed(cause) => count.map(|_| Err(cause.error(&self.task))).collect(),
            // They are asked for when all is done, and not after they were fetched.
            Part::Pending | Part::Fetched => Vec::new(),
        }
    }
}
