//! A pool beside the region: its workers are killed and stopped as well, and every task is accounted for.
//!
//! A thread has batch after batch of tasks done. Each task counts that it was run, in memory of its own. Of each batch, all tasks with a value were run
//! once, and all others were lost with a worker that was killed, and run once at most.

use std::collections::BTreeSet;
use std::io;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use shmkit::process::{Pool, PoolOptions, Submitter, TaskError};
use shmkit::{Region, Shm};

use super::Random;

/// How many tasks a batch has.
const BATCH: usize = 300;

const WORKERS: usize = 2;

/// The most tasks in a chunk, and the most bytes of arguments.
const CHUNK: u64 = 5;
const BYTES: u64 = 3000;

/// How long a batch may take, whoever is killed or stopped meanwhile.
const STALL: Duration = Duration::from_secs(10);

/// How often each task of the batch was run.
type Runs = Shm<[AtomicU32; BATCH]>;

static RUNS: OnceLock<Runs> = OnceLock::new();

fn task((number, bytes): (usize, Vec<u8>)) -> (usize, Vec<u8>) {
    if let Some(run) = RUNS.get().and_then(|runs| runs.get(number)) {
        run.fetch_add(1, AcqRel);
    }
    (number, bytes)
}

/// A pool at work.
pub struct Work {
    submitter: Submitter,
    is_over: Arc<AtomicBool>,
    /// How many tasks there were in batches that are done.
    tasks: Arc<AtomicU64>,
    thread: JoinHandle<Result<(), String>>,
}

impl Work {
    /// Makes a pool, and begins.
    ///
    /// # Errors
    /// Those of making it.
    pub fn begin(seed: u64) -> io::Result<Self> {
        let region = Region::anonymous(size_of::<[AtomicU32; BATCH]>() + 4096).map_err(io::Error::other)?;
        let runs = region.insert("runs", [const { AtomicU32::new(0) }; BATCH]).map_err(io::Error::other)?;
        let mut options = PoolOptions::new();
        options.workers(WORKERS).name("soak").initializer(|runs| drop(RUNS.set(runs)), runs.clone());
        let pool = options.build().map_err(io::Error::other)?;
        let (submitter, is_over, tasks) = (Submitter::clone(&pool), Arc::default(), Arc::default());
        let (over, done): (Arc<AtomicBool>, Arc<AtomicU64>) = (Arc::clone(&is_over), Arc::clone(&tasks));
        let thread = thread::spawn(move || {
            let mut random = Random::new(seed);
            while !over.load(Acquire) {
                batch(&pool, &runs, &mut random)?;
                done.fetch_add(BATCH as u64, Relaxed);
            }
            pool.close();
            pool.join();
            Ok(())
        });
        Ok(Self { submitter, is_over, tasks, thread })
    }

    /// Kills one of its workers.
    pub fn kill(&self, random: &mut Random) {
        self.signal(random, libc::SIGKILL);
    }

    /// Stops one of its workers for a while.
    pub fn stop(&self, random: &mut Random, time: Duration) {
        if let Some(pid) = self.signal(random, libc::SIGSTOP) {
            thread::sleep(time);
            signal(pid, libc::SIGCONT);
        }
    }

    fn signal(&self, random: &mut Random, number: i32) -> Option<u32> {
        let pids = self.submitter.pids();
        let pid = pids.get(random.below(WORKERS as u64) as usize).copied()?;
        signal(pid, number);
        Some(pid)
    }

    /// How many tasks there were so far.
    pub fn tasks(&self) -> u64 {
        self.tasks.load(Relaxed)
    }

    /// Ends it; says how many tasks there were.
    ///
    /// # Errors
    /// A violation, in words.
    pub fn end(self) -> io::Result<u64> {
        self.is_over.store(true, Release);
        let ended = self.thread.join().unwrap_or_else(|_| Err("a panic".to_owned()));
        ended.map_err(|what| io::Error::other(format!("the pool: {what}")))?;
        Ok(self.tasks.load(Relaxed))
    }

    /// Whether it goes on; it ends by itself of a violation.
    pub fn is_at_work(&self) -> bool {
        !self.thread.is_finished()
    }
}

/// It may have ended: then it is not reaped, or was just now.
fn signal(pid: u32, number: i32) {
    // SAFETY: no memory is involved.
    unsafe { libc::kill(pid as libc::pid_t, number) };
}

/// Has a batch done, and looks at it.
fn batch(pool: &Pool, runs: &Runs, random: &mut Random) -> Result<(), String> {
    runs.iter().for_each(|run| run.store(0, Relaxed));
    let args: Vec<_> = (0..BATCH).map(|number| (number, vec![number as u8; random.below(BYTES) as usize])).collect();
    let chunk = 1 + random.below(CHUNK) as usize;
    let pending = pool.chunked(chunk).map_async(task, args.clone());
    // Any other error is that of one of them; all are looked at below.
    if let Err(TaskError::TimedOut { .. }) = pending.get_timeout(STALL) {
        return Err(format!("stalled with {:?} tasks done", pending.progress()));
    }
    let mut chunks_of_the_dead = BTreeSet::new();
    let mut dead = BTreeSet::new();
    for (number, value) in pending.get_each().map_err(|error| error.to_string())?.into_iter().enumerate() {
        let runs = runs[number].load(Acquire);
        match value {
            Ok(value) if value == args[number] && runs == 1 => {}
            Ok(_) => return Err(format!("task {number} has another value, or was run {runs} times")),
            Err(TaskError::WorkerDied { pid, .. }) if runs <= 1 => {
                dead.insert(pid);
                chunks_of_the_dead.insert(number / chunk);
            }
            Err(error) => return Err(format!("{error}; it was run {runs} times")),
        }
    }
    if chunks_of_the_dead.len() == dead.len() {
        Ok(())
    } else {
        Err(format!("{} chunks were lost with {} workers", chunks_of_the_dead.len(), dead.len()))
    }
}
