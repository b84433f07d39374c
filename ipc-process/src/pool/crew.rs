//! The crew: the workers that one thread of the parent looks after.
//!
//! The thread starts them, takes their results, posts what waits for that, runs callbacks and hooks, and puts a new worker in the place of one
//! that has ended. It waits for all of this with one [`wait_any`]; a pool with more workers than that takes has several threads.
//!
//! A worker is dead when it has been reaped: from then on nothing comes from it any more. What it has sent is taken first, and then what it had
//! is given up or posted again.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use shmkit_channel::{ByteReceiver, ChannelOptions, RecvError};
use shmkit_core::transfer::{self, Passed};
use shmkit_core::wait::Source;
use shmkit_core::{Deadline, Region, wait_any};
use shmkit_sync::Event;

use super::batch::{Cause, note_that_this_is_a_thread_of_a_pool};
use super::error::PoolError;
use super::frame::{What, text};
use super::office::{Office, Workers};
use super::worker::{Contract, Initializer, LOOK, RESULTS, work};
use crate::process::{Process, ProcessOptions};

/// How many workers a thread looks after: each is two things to wait for, and the bell is another one.
pub(super) const CREW: usize = 31;

/// The size of the channel that results come over. Longer ones go in parts.
const CHANNEL: u64 = 256 << 10;

/// What the directory of a region takes for a channel, at most, and the channel besides its ring.
const OVERHEAD: usize = 8 << 10;

/// How many results of one worker are taken before others have their turn.
const TURN: usize = 256;

/// So many workers in a row that end before they have begun mean that none will; or, if they are killed, that there is no hurry to start others.
const FALSE_STARTS: u32 = 10;

/// How long after a worker could not be started that is tried again, and how often, if there is none at all; or, if all are killed before they have begun,
/// how often in each place.
const PAUSE: Duration = Duration::from_millis(100);
const ATTEMPTS: u32 = 50;

/// What all threads of a pool have in common, and those who submit to it.
pub(super) struct Firm {
    pub(super) office: Office,
    pub(super) terms: Terms,
    /// One for each thread, which looks around when it is rung.
    pub(super) bells: Vec<Event>,
    /// Who works at present: the process ids, by number.
    staff: Mutex<BTreeMap<u64, u32>>,
    hired: AtomicU64,
}

/// How workers are started.
pub(super) struct Terms {
    pub(super) name: String,
    pub(super) workers: usize,
    pub(super) region: Region,
    pub(super) key: u64,
    pub(super) initializer: Option<Arc<Initializer>>,
    pub(super) max_tasks: u64,
}

impl Firm {
    pub(super) fn new(office: Office, terms: Terms) -> Self {
        let bells = (0..terms.workers.div_ceil(CREW)).map(|_| Event::auto_reset()).collect();
        Self { office, terms, bells, staff: Mutex::default(), hired: AtomicU64::new(0) }
    }

    pub(super) fn ring(&self) {
        self.bells.iter().for_each(Event::set);
    }

    pub(super) fn staff(&self) -> MutexGuard<'_, BTreeMap<u64, u32>> {
        self.staff.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a worker.
    fn hire(&self) -> Result<Worker, PoolError> {
        let terms = &self.terms;
        let number = self.hired.fetch_add(1, Relaxed) + 1;
        let channel = Region::anonymous(CHANNEL as usize + OVERHEAD)?;
        let results = ChannelOptions::new().capacity(CHANNEL).create_in::<ByteReceiver>(&channel, RESULTS)?;
        let (deliveries, theirs) = transfer::sockets()?;
        let contract = Contract {
            pool: terms.region.clone(),
            results: channel,
            deliveries: Passed(theirs),
            number,
            key: terms.key,
            initializer: terms.initializer.as_deref().map(Initializer::try_clone).transpose()?,
            max_tasks: terms.max_tasks,
        };
        let name = format!("{}-worker-{number}", terms.name);
        let process = ProcessOptions::new().name(name).daemon(true).spawn(work, contract)?;
        self.staff().insert(number, process.pid());
        Ok(Worker { number, process, results, deliveries, has_begun: false, is_silent: false })
    }
}

/// A worker, as its parent knows it.
pub(super) struct Worker {
    number: u64,
    process: Process<()>,
    results: ByteReceiver,
    deliveries: OwnedFd,
    has_begun: bool,
    /// Nothing more will come over its channel.
    is_silent: bool,
}

/// See the module.
pub(super) struct Crew {
    firm: Arc<Firm>,
    /// Which one.
    index: usize,
    workers: Vec<Worker>,
    /// When to look again for results that were sent quietly.
    look: Option<Instant>,
    false_starts: u32,
    attempts: u32,
    /// When to try again to start a worker.
    retry: Option<Instant>,
}

impl Crew {
    /// The crew of this index, with all of its workers.
    pub(super) fn hire(firm: &Arc<Firm>, index: usize) -> Result<Self, PoolError> {
        let mut crew = Self {
            firm: Arc::clone(firm),
            index,
            workers: Vec::new(),
            look: None,
            false_starts: 0,
            attempts: 0,
            retry: None,
        };
        while crew.workers.len() < crew.size() {
            crew.workers.push(firm.hire()?);
        }
        Ok(crew)
    }

    fn size(&self) -> usize {
        (self.firm.terms.workers - self.index * CREW).min(CREW)
    }

    /// The life of the thread. A panic in it would be a bug of ours, and must leave nobody waiting nevertheless.
    pub(super) fn live(self) {
        let firm = Arc::clone(&self.firm);
        if catch_unwind(AssertUnwindSafe(|| self.run())).is_err() {
            firm.office.end(&Cause::Broken("the thread that looks after its workers has panicked".into()));
            firm.ring();
        }
    }

    fn run(mut self) {
        note_that_this_is_a_thread_of_a_pool();
        loop {
            // Whoever rings has made its change before.
            self.firm.bells[self.index].try_wait();
            let now = Instant::now();
            if self.hear() {
                self.look = Some(Instant::now() + LOOK);
            } else if self.look.is_some_and(|look| now >= look) {
                self.look = None;
            }
            self.bury();
            match self.firm.office.workers() {
                Workers::Wanted => self.fill_up(),
                Workers::MayGo => {}
                Workers::Killed => self.kill(),
            }
            if self.workers.is_empty() && self.firm.office.workers() != Workers::Wanted {
                return;
            }
            self.sleep();
        }
    }

    /// Takes what the workers have sent; says whether there was anything.
    fn hear(&mut self) -> bool {
        let Self { firm, workers, false_starts, .. } = self;
        let mut has_heard = false;
        for worker in workers.iter_mut() {
            let had_begun = worker.has_begun;
            has_heard |= worker.hear(firm, TURN);
            if worker.has_begun && !had_begun {
                *false_starts = 0;
            }
        }
        has_heard
    }

    /// Looks after the jobs of those who have ended.
    fn bury(&mut self) {
        let mut index = 0;
        while let Some(worker) = self.workers.get_mut(index) {
            if !worker.process.is_ready() {
                index += 1;
                continue;
            }
            while worker.hear(&self.firm, TURN) {}
            let worker = self.workers.swap_remove(index);
            self.firm.staff().remove(&worker.number);
            let cause = worker.cause();
            self.firm.office.bury(worker.number, &cause);
            if !worker.has_begun {
                self.note_false_start(&cause);
            }
        }
    }

    /// A worker has ended before it had begun. One that was killed was not to blame, unless it happens to all of them for some time.
    fn note_false_start(&mut self, cause: &Cause) {
        self.false_starts += 1;
        if self.false_starts < FALSE_STARTS {
            return;
        }
        let was_killed = matches!(cause, Cause::WorkerDied { signal: Some(libc::SIGKILL | libc::SIGTERM), .. });
        if was_killed && self.false_starts < ATTEMPTS * self.size() as u32 {
            self.retry = Some(Instant::now() + PAUSE);
        } else {
            let what = format!("its workers end before they have begun; {}", cause.error(&"the last one"));
            self.firm.office.end(&Cause::Broken(what.into()));
            self.firm.ring();
        }
    }

    /// Starts workers in the place of those who have ended.
    fn fill_up(&mut self) {
        if self.retry.is_some_and(|retry| Instant::now() < retry) {
            return;
        }
        self.retry = None;
        while self.workers.len() < self.size() {
            match self.firm.hire() {
                Ok(worker) => {
                    self.attempts = 0;
                    self.workers.push(worker);
                }
                Err(error) => {
                    self.attempts += 1;
                    if self.workers.is_empty() && self.attempts > ATTEMPTS {
                        self.firm.office.end(&Cause::Broken(error.to_string().into()));
                        self.firm.ring();
                    }
                    self.retry = Some(Instant::now() + PAUSE);
                    return;
                }
            }
        }
    }

    fn kill(&self) {
        for worker in &self.workers {
            // One that has ended cannot be killed; no other one can be meant.
            let _ = worker.process.kill();
        }
    }

    /// Waits until there is something to do.
    fn sleep(&mut self) {
        let until = [self.look, self.retry].into_iter().flatten().min();
        let deadline = until.and_then(|until| Deadline::after(until.saturating_duration_since(Instant::now())));
        let mut bell = self.firm.bells[self.index].until_set();
        let mut sources: Vec<&mut dyn Source> = vec![&mut bell];
        for worker in &mut self.workers {
            sources.push(&mut worker.process);
            if !worker.is_silent {
                sources.push(&mut worker.results);
            }
        }
        if wait_any(&mut sources, deadline).is_err() {
            // A region that cannot be waited in: it was scribbled over. Those who die of it are seen nevertheless.
            thread::sleep(LOOK);
        }
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        if thread::panicking() {
            // In code of users: what is dropped here can panic, too. Nobody would take results any more.
            self.firm.office.end(&Cause::Broken("a callback has ended the thread that takes the results".into()));
            self.firm.ring();
        }
        // If not all could be started.
        self.kill();
    }
}

impl Worker {
    /// Takes up to `most` frames that it has sent; says whether there were any.
    fn hear(&mut self, firm: &Firm, most: usize) -> bool {
        for heard in 0..most {
            if self.is_silent {
                return heard > 0;
            }
            match self.results.try_recv() {
                Ok(frame) => {
                    if self.listen(firm, frame).is_none() {
                        // What it says makes no sense. What it does then does not matter any more.
                        let _ = self.process.kill();
                    }
                }
                Err(RecvError::Empty) => return heard > 0,
                Err(RecvError::Disconnected) => self.is_silent = true,
                Err(_) => {
                    self.is_silent = true;
                    // As above.
                    let _ = self.process.kill();
                }
            }
        }
        true
    }

    /// Does what a frame says. `None` if it makes no sense.
    fn listen(&mut self, firm: &Firm, frame: Vec<u8>) -> Option<()> {
        match What::of(&frame)? {
            What::Ready => self.has_begun = true,
            What::Done(id) => firm.office.done(id, frame).then_some(())?,
            What::Wanted(id) => firm.office.parcel(id)?.send(self.deliveries.as_fd()).ok()?,
            What::Failed => {
                firm.office.end(&Cause::Broken(text(&frame).into()));
                firm.ring();
            }
            What::Damaged => {
                firm.office.end(&Cause::Broken(format!("a worker has found this: {}", text(&frame)).into()));
                firm.ring();
            }
        }
        Some(())
    }

    /// What its end means for what it had.
    fn cause(&self) -> Cause {
        let pid = self.process.pid();
        match self.process.exit_status() {
            Ok(Some(status)) => Cause::WorkerDied { pid, signal: status.signal(), code: status.code() },
            Ok(None) | Err(_) => Cause::WorkerDied { pid, signal: None, code: None },
        }
    }
}
