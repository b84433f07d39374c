//! Reading a snapshot cell when nobody writes.

use std::hint::black_box;
use std::io;
use std::time::{Duration, Instant};

use shmkit::{Region, Shm, Snapshot};

use crate::pin;
use crate::report::SUBJECT;
use crate::stats::{self, Candidate, Plan, Series};

/// The name of a plain copy in results.
pub const COPY: &str = "plain copy";

/// What is read: 64 bytes.
pub type Value = [u64; 8];

const PROBE: u64 = 100_000;

/// How to run the case.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The rounds; each takes one sample of the cell and of a plain copy.
    pub plan: Plan,
    /// About how long one sample of a plain copy takes; both do the same number of turns.
    pub sample: Duration,
}

/// What the case showed.
#[derive(Debug, Clone)]
pub struct SnapshotRead {
    /// Nanoseconds per read.
    pub rounds: Vec<Series<f64>>,
    /// The conditions.
    pub conditions: String,
}

/// Measures both in turn, on one CPU, in one thread.
///
/// # Errors
/// Those of making the region and of pinning; `InvalidInput` for too few rounds.
pub fn run(settings: &Settings) -> io::Result<SnapshotRead> {
    stats::check_rounds(settings.plan.rounds)?;
    let region = Region::anonymous(4096).map_err(io::Error::other)?;
    let cell = region.insert("cell", Snapshot::new([1; 8])).map_err(io::Error::other)?;
    let cpu = pin::Pair::choose()?.first;
    let _pinned = pin::pin_to(cpu)?;
    let plain: Value = [1; 8];
    time_copy(&plain, PROBE);
    let per_turn = time_copy(&plain, PROBE).as_secs_f64() / PROBE as f64;
    let turns = ((settings.sample.as_secs_f64() / per_turn) as u64).max(1);
    let each = move |time: Duration| Ok(time.as_secs_f64() * 1e9 / turns as f64);
    let candidates = vec![
        Candidate::new(SUBJECT, || each(time_cell(&cell, turns))),
        Candidate::new(COPY, || each(time_copy(&plain, turns))),
    ];
    let rounds = stats::interleave(&settings.plan, candidates)?;
    let conditions = format!(
        "one thread pinned to CPU {cpu}; {turns} turns per sample; 64 bytes in the cache, copied to the stack; nobody writes"
    );
    Ok(SnapshotRead { rounds, conditions })
}

/// Measures `turns` reads of the cell.
#[inline(never)]
pub fn time_cell(cell: &Shm<Snapshot<Value>>, turns: u64) -> Duration {
    let begin = Instant::now();
    for _ in 0..turns {
        black_box(&black_box(&**cell).read());
    }
    begin.elapsed()
}

/// Measures `turns` plain copies: the same loop.
#[inline(never)]
pub fn time_copy(value: &Value, turns: u64) -> Duration {
    let begin = Instant::now();
    for _ in 0..turns {
        let copy = *black_box(value);
        black_box(&copy);
    }
    begin.elapsed()
}
