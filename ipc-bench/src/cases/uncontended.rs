//! Lock and unlock when nobody else wants the lock.

use std::hint::black_box;
use std::io;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::floor::Floor;
use crate::lock::{LockUnderTest, SharedLock};
use crate::ours::Ours;
use crate::pin;
use crate::pthread::{Plain, Robust};
use crate::stats::{self, Candidate, Plan, Series};

const PROBE: u64 = 100_000;

/// A line of its own, as the locks in shared memory have.
#[repr(align(64))]
struct Line<T>(T);

/// How to run the case.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The rounds; each takes one sample of every lock.
    pub plan: Plan,
    /// About how long one sample of the floor takes; all locks do the same number of turns.
    pub sample: Duration,
}

/// What the case showed.
#[derive(Debug, Clone)]
pub struct Uncontended {
    /// Nanoseconds per lock and unlock.
    pub rounds: Vec<Series<f64>>,
    /// The conditions.
    pub conditions: String,
}

/// Measures all locks in turn, on one CPU, in one thread.
///
/// # Errors
/// Those of making the locks and of pinning; `InvalidInput` for too few rounds.
pub fn run(settings: &Settings) -> io::Result<Uncontended> {
    stats::check_rounds(settings.plan.rounds)?;
    // Before the thread is pinned: its keeper serves later cases, too.
    let ours = Ours::create()?;
    let cpu = pin::Pair::choose()?.first;
    let _pinned = pin::pin_to(cpu)?;
    let floor = Floor::create()?;
    let private = Line(Mutex::new(0));
    let plain = Plain::create()?;
    let robust = Robust::create()?;
    time(&floor, PROBE);
    let per_turn = time(&floor, PROBE).as_secs_f64() / PROBE as f64;
    let turns = ((settings.sample.as_secs_f64() / per_turn) as u64).max(1);
    let candidates = vec![
        candidate(&ours, turns),
        candidate(&floor, turns),
        candidate(&private.0, turns),
        candidate(&plain, turns),
        candidate(&robust, turns),
    ];
    let rounds = stats::interleave(&settings.plan, candidates)?;
    let conditions = format!(
        "one thread pinned to CPU {cpu}; {turns} turns per sample; the section is empty; \
         shmkit, floor and pthread in shared memory, std in private memory"
    );
    Ok(Uncontended { rounds, conditions })
}

fn candidate<L: LockUnderTest>(lock: &L, turns: u64) -> Candidate<'_, f64> {
    let sample = move || Ok(time(lock, turns).as_secs_f64() * 1e9 / turns as f64);
    Candidate::new(L::NAME, sample)
}

/// Measures `turns` turns of lock and unlock: the same loop for every lock.
///
/// The compiler must assume that the value is read and written in each turn.
#[inline(never)]
pub fn time<L: LockUnderTest>(lock: &L, turns: u64) -> Duration {
    let begin = Instant::now();
    for _ in 0..turns {
        let mut guard = lock.lock();
        black_box(&mut *guard);
    }
    begin.elapsed()
}
