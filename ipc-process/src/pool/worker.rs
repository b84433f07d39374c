//! The worker: takes jobs, does them, and sends what comes of them.
//!
//! # When the parent is told
//!
//! A result is sent at once: from then on it is the parent's, also if the worker dies. To wake the parent for each would cost both of
//! them more than a small task does. So a worker that has told it of a result within the last [`QUIET`] sends what follows
//! [quietly](shmkit_channel::ByteSender::send_quietly), as long as there are more jobs at hand. The parent looks again by itself [`LOOK`] after it has found a result,
//! and again after that as long as it finds any. So what was sent quietly is seen:
//!
//! * the time of a result that is told is taken before it is sent, so the parent finds it no earlier;
//! * the time of one that is sent quietly is taken after it was sent, and is less than `QUIET` later;
//! * the parent's look that follows comes more than `QUIET` later than that in which it found the first one.
//!
//! If the worker is killed meanwhile, the parent hears of that, and looks.

use std::borrow::Cow;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use shmkit_channel::{ByteSender, Endpoint, Queue, RecvError};
use shmkit_core::shim::AtomicU64;
use shmkit_core::transfer::{Parcel, Passed};
use shmkit_core::{Error, Region, Tailed, crash_point};

use super::board::Board;
use super::call;
use super::frame::What;
use super::job::{Id, Job, Place};

/// For how long results are sent quietly after one that was told.
const QUIET: Duration = Duration::from_micros(500);

/// How long after a result the parent looks again. Longer than `QUIET`, by much more than a store takes to be seen.
pub(super) const LOOK: Duration = Duration::from_micros(700);

/// The names of what is in the region of the pool, and in that of a worker's results.
pub(super) const JOBS: &str = "jobs";
pub(super) const NOTES: &str = "notes";
pub(super) const SPILL: &str = "spill";
pub(super) const RESULTS: &str = "results";

/// What a worker is told when it starts.
#[derive(Serialize, Deserialize)]
pub(super) struct Contract {
    pub(super) pool: Region,
    pub(super) results: Region,
    /// Where arguments are delivered.
    pub(super) deliveries: Passed<OwnedFd>,
    pub(super) number: u64,
    pub(super) key: u64,
    pub(super) initializer: Option<Initializer>,
    /// After how many tasks it is to go; 0: never.
    pub(super) max_tasks: u64,
}

/// What each worker does first.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Initializer {
    pub(super) task: String,
    pub(super) function: u64,
    /// The arguments, and the files that go with them.
    pub(super) args: Vec<u8>,
    pub(super) files: Vec<Passed<OwnedFd>>,
}

struct Worker {
    board: Board,
    spill: Tailed<AtomicU64>,
    results: ByteSender,
    deliveries: OwnedFd,
    number: u64,
    frame: Vec<u8>,
    /// The time before the last result that was told.
    told: Option<Instant>,
    /// The time after the last result that was sent.
    sent: Instant,
    is_untold: bool,
}

/// The life of a worker.
pub(super) fn work(contract: Contract) {
    let Contract { pool, results, deliveries, number, key, initializer, max_tasks } = contract;
    let attached = || -> Result<Worker, Box<dyn std::error::Error>> {
        let board = Board::new(Queue::open_in(&pool, JOBS)?, pool.get_tailed(NOTES)?, key);
        Ok(Worker {
            board,
            spill: pool.get_tailed(SPILL)?,
            results: ByteSender::open_in(&results, RESULTS)?,
            deliveries: deliveries.0,
            number,
            frame: Vec::new(),
            told: None,
            sent: Instant::now(),
            is_untold: false,
        })
    };
    let mut worker = attached().unwrap_or_else(|error| panic!("a worker of a pool cannot begin: {error}"));
    if let Some(what) = initializer.and_then(|initializer| initializer.run().err()) {
        return worker.say(What::Failed, &what);
    }
    worker.say(What::Ready, "");
    worker.do_jobs(max_tasks);
}

impl Initializer {
    /// Another one, for another worker.
    pub(super) fn try_clone(&self) -> io::Result<Self> {
        let files = self.files.iter().map(|Passed(file)| file.try_clone().map(Passed)).collect::<io::Result<_>>()?;
        Ok(Self { task: self.task.clone(), function: self.function, args: self.args.clone(), files })
    }

    fn run(self) -> Result<(), String> {
        let mut entries = Vec::new();
        let files = self.files.into_iter().map(|Passed(file)| file).collect();
        // SAFETY: the parent has made the word.
        let called = unsafe { call::run_word(self.function, &self.args, files, 1, &mut entries) };
        called?;
        call::Values::<()>::new(&self.task, &entries).next().map_err(|error| error.to_string())
    }
}

impl Worker {
    fn do_jobs(&mut self, max_tasks: u64) {
        let mut done = 0;
        while max_tasks == 0 || done < max_tasks {
            if self.is_untold && self.board.is_empty() {
                self.tell();
            }
            match self.board.take(self.number) {
                Ok(job) => {
                    done += u64::from(job.count());
                    if let Err(what) = self.do_job(&job) {
                        return self.say(What::Damaged, &what);
                    }
                }
                Err(RecvError::Failed(error)) => return self.say(What::Damaged, &error.to_string()),
                // It is closed.
                Err(_) => return,
            }
        }
    }

    /// Does a job and sends what has come of it. An error is that of the pool, and not of a task.
    fn do_job(&mut self, job: &Job) -> Result<(), String> {
        let (args, files) = match job.place() {
            Place::Inline => (Cow::Borrowed(job.inline()), Vec::new()),
            Place::Spill(at) => (Cow::Owned(self.spilled(at, job.size())?), Vec::new()),
            Place::Delivered => {
                let Parcel { bytes, files } = self.delivered(job.id());
                (Cow::Owned(bytes), files)
            }
        };
        crash_point!("pool.work.before_run");
        let mut frame = std::mem::take(&mut self.frame);
        What::Done(job.id()).begin(&mut frame);
        // SAFETY: the job is sealed with the key that only the parent and its workers have, so the parent has made the word.
        unsafe { call::run_word(job.function(), &args, files, job.count(), &mut frame)? };
        crash_point!("pool.work.after_run");
        self.send(&frame);
        self.frame = frame;
        Ok(())
    }

    /// Arguments in the spill.
    fn spilled(&self, at: usize, len: usize) -> Result<Vec<u8>, String> {
        if at.checked_add(len).is_none_or(|end| end > self.spill.len()) {
            return Err(Error::Corrupted { what: "place of arguments of a pool", found: at as u64 }.to_string());
        }
        let mut bytes = vec![0; len];
        // Ordered by the taking of the job.
        self.spill.load(at, &mut bytes);
        Ok(bytes)
    }

    /// Arguments that the parent brings.
    ///
    /// # Panics
    ///
    /// If they cannot be received, most likely since tasks have used up the descriptors of this process. What has come of them is lost, so it ends, which is no worse
    /// for the pool than a kill: another worker takes its place, and the job if that may be done again.
    fn delivered(&mut self, id: Id) -> Parcel {
        self.say(What::Wanted(id), "");
        crash_point!("pool.work.after_want");
        Parcel::receive(self.deliveries.as_fd())
            .unwrap_or_else(|error| panic!("a worker of a pool cannot receive the arguments of its task: {error}"))
    }

    /// Sends a result. See the module.
    fn send(&mut self, frame: &[u8]) {
        let before = self.sent;
        // A parent that is gone has no use for it; this process ends with it.
        let _ = self.results.send_quietly(frame);
        crash_point!("pool.work.after_send");
        self.sent = Instant::now();
        if self.told.is_some_and(|told| self.sent < told + QUIET) {
            self.is_untold = true;
        } else {
            self.tell();
            self.told = Some(before);
        }
    }

    fn tell(&mut self) {
        self.results.tell();
        crash_point!("pool.work.after_tell");
        self.is_untold = false;
    }

    /// Sends something else, and tells it.
    fn say(&mut self, what: What, text: &str) {
        what.begin(&mut self.frame);
        self.frame.extend_from_slice(text.as_bytes());
        // As above.
        let _ = self.results.send(&self.frame);
    }
}
