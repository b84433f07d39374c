//! How pools are made.

use std::any::type_name;
use std::panic::Location;
use std::slice;
use std::sync::{Arc, Mutex};
use std::thread;

use serde::Serialize;
use serde::de::DeserializeOwned;
use shmkit_channel::QueueOptions;
use shmkit_core::shim::AtomicU64;
use shmkit_core::transfer::Passed;
use shmkit_core::wait::Site;
use shmkit_core::{Error, RegionOptions};

use super::batch::Name;
use super::board::{Board, NOTE};
use super::call::{self, Chunk};
use super::crew::{Crew, Firm, Terms};
use super::error::PoolError;
use super::office::Office;
use super::owner::Pool;
use super::submitter::Submitter;
use super::worker::{Initializer, JOBS, NOTES, SPILL};
use crate::process::with_signals_blocked;

/// The most workers of a pool.
const MOST_WORKERS: usize = 1024;

/// How many jobs are posted at once. What comes above that waits in the parent, and nobody waits for it.
const SLOTS: u64 = 4096;

/// How many bytes of arguments are posted at once, apart from those that lie in their jobs or are delivered.
const SPILL_SIZE: usize = 1 << 20;

/// What the directory of the region takes, at most, and the heads of what is in it.
const OVERHEAD: usize = 16 << 10;

/// How a [`Pool`] is to be made.
///
/// # Examples
///
/// ```
/// use shmkit_process::PoolOptions;
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     shmkit_process::init();
///     let pool = PoolOptions::new()
///         .workers(2)
///         .name("squares")
///         .initializer(|greeting: String| eprintln!("{greeting}"), "hello".to_owned())
///         .max_tasks_per_worker(1000)
///         .retries(1)
///         .build()?;
///     assert_eq!(pool.apply(|n: u32| n * n, 12)?, 144);
///     Ok(())
/// }
/// ```
#[derive(Clone, Debug)]
pub struct PoolOptions {
    workers: Option<usize>,
    name: String,
    initializer: Option<Result<Arc<Initializer>, (String, String)>>,
    max_tasks: u64,
    retries: u32,
}

impl Default for PoolOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl PoolOptions {
    /// As many workers as there are CPUs that this process may use; without an initializer, without an end of workers, without retries.
    pub fn new() -> Self {
        Self { workers: None, name: "pool".to_owned(), initializer: None, max_tasks: 0, retries: 0 }
    }

    /// How many workers: 1 to 1024.
    pub fn workers(&mut self, workers: usize) -> &mut Self {
        self.workers = Some(workers);
        self
    }

    /// What the workers are called: `name-worker-1` and so on.
    pub fn name(&mut self, name: impl Into<String>) -> &mut Self {
        self.name = name.into();
        self
    }

    /// What each worker does first, also one that takes the place of another: to open what the tasks need, for example. If it panics, the pool is broken: all tasks end in
    /// [`TaskError::Broken`](super::TaskError::Broken), with what it said. So it is if it ends its worker again and again: at once if the worker exits, and
    /// after some seconds if it is killed.
    #[track_caller]
    pub fn initializer<A: Serialize + DeserializeOwned>(&mut self, f: fn(A), args: A) -> &mut Self {
        let task = Name::Of(type_name::<fn(A)>(), Location::caller()).to_string();
        let function =
            call::word_of(f).ok_or("the function is in a shared library; it has to be in the main program".to_owned());
        let made = function.and_then(|function| {
            let Chunk { bytes, files } = Chunk::of(slice::from_ref(&args))?;
            let files = files.into_iter().map(Passed).collect();
            Ok(Arc::new(Initializer { task: task.clone(), function, args: bytes, files }))
        });
        self.initializer = Some(made.map_err(|what| (task, what)));
        self
    }

    /// After how many tasks a worker ends and another one takes its place, so that what they leak goes with them. It finishes the chunk that
    /// it has. 0 means never.
    pub fn max_tasks_per_worker(&mut self, tasks: u64) -> &mut Self {
        self.max_tasks = tasks;
        self
    }

    /// How often tasks are run again whose worker dies, unless [something else](Submitter::retrying) is said when they are submitted.
    pub fn retries(&mut self, retries: u32) -> &mut Self {
        self.retries = retries;
        self
    }

    /// Makes the pool, and starts its workers.
    ///
    /// # Blocking
    ///
    /// Until they are started, not until they have begun.
    ///
    /// # Crash safety
    ///
    /// Workers are daemons: a process that is killed leaves none.
    ///
    /// # Errors
    ///
    /// [`PoolError`]. [`PoolError::Spawn`] tells, for example, that [`init`](crate::init) was not called, or that this process is a daemon, such as
    /// a worker of another pool, and may have no children.
    pub fn build(&self) -> Result<Pool, PoolError> {
        let workers = self.workers.unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from));
        if !(1..=MOST_WORKERS).contains(&workers) {
            return Err(PoolError::Workers { asked: workers, max: MOST_WORKERS });
        }
        let initializer = match self.initializer.clone() {
            Some(Err((task, what))) => return Err(PoolError::Initializer { task, what }),
            Some(Ok(initializer)) => Some(initializer),
            None => None,
        };
        // Each may be there twice: a dead one is taken out of the table some time after its heir has come. And there may be children that
        // the user forks, which take part in all that is open.
        let participants = 2 * workers as u32 + 128;
        let notes = SLOTS as usize * NOTE;
        let size = SLOTS as usize * 64 + notes + SPILL_SIZE + OVERHEAD;
        let region = RegionOptions::new().participants(participants).anonymous(size)?;
        let queue = QueueOptions::new().capacity(SLOTS).create_in(&region, JOBS)?;
        let key = random_key()?;
        let board = Board::new(queue, region.insert_tailed(NOTES, AtomicU64::new(0), notes)?, key);
        let office = Office::new(board, region.insert_tailed(SPILL, AtomicU64::new(0), SPILL_SIZE)?, workers);
        let terms = Terms { name: self.name.clone(), workers, region, key, initializer, max_tasks: self.max_tasks };
        let firm = Arc::new(Firm::new(office, terms));
        let submitter = Submitter::new(Arc::clone(&firm), Site::of(&firm.bells[0])?.token(), self.retries);
        let pool = Pool { submitter, threads: Mutex::default() };
        for index in 0..firm.bells.len() {
            let crew = Crew::hire(&firm, index)?;
            // Signals are for the threads of the program.
            let thread = with_signals_blocked(|| {
                thread::Builder::new().name("shmkit-crew".to_owned()).spawn(move || crew.live())
            })?;
            pool.threads().push(thread);
        }
        Ok(pool)
    }
}

/// A number that nobody can guess.
fn random_key() -> Result<u64, Error> {
    let mut bytes = [0; 8];
    // SAFETY: there is room for so many bytes, and nobody else uses them.
    match unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) } {
        8 => Ok(u64::from_ne_bytes(bytes)),
        _ => Err(std::io::Error::last_os_error().into()),
    }
}
