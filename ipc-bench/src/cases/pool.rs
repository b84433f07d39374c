//! Many small tasks for a pool of processes, and tasks whose workers are killed.
//!
//! All pools have two workers, which are there before the first sample, and are given the same tasks; whoever has submitted them waits for the values, and
//! looks at them.

use std::io;
use std::time::{Duration, Instant};

use shmkit::process::{Pool, Submitter, TaskError};

use crate::figure::{Comparison, Figure, Figures, SUBJECT};
#[cfg(feature = "peers")]
use crate::peers::pools::{self, LOKY, PROCSPAWN, PYTHON};
use crate::stats::{self, Candidate, Plan};

/// The name of the case of tiny tasks.
pub const MAPS: &str = "pool/map";
/// The name of the case of workers that are killed.
pub const KILLS: &str = "pool/kills";

/// How many tasks make a chunk, 0 for as many as by default; named for the series.
pub const CHUNKS: [(&str, usize); 2] = [("default chunks", 0), ("chunks of one", 1)];

/// How many tasks a sample has.
const TASKS: u64 = 10_000;

const WORKERS: usize = 2;

/// After how many tasks a worker is killed.
const KILL_AFTER: usize = 100;

/// How long a task takes whose worker may be killed.
const WORK: Duration = Duration::from_micros(100);

/// The same without kills.
const SPARED: &str = "shmkit, nobody is killed";

/// Our figure by itself.
const OURS: Comparison = Comparison { ours: SUBJECT, peer: None, target: None };

const DEFAULT_ROWS: &[Comparison] = &[
    OURS,
    #[cfg(feature = "peers")]
    Comparison::at_most(PYTHON, 0.5),
    #[cfg(feature = "peers")]
    Comparison::at_most(PROCSPAWN, 1.0),
    #[cfg(feature = "peers")]
    Comparison::listed(LOKY),
];

const SINGLE_ROWS: &[Comparison] = &[
    OURS,
    #[cfg(feature = "peers")]
    Comparison::at_most(PYTHON, 0.05),
    #[cfg(feature = "peers")]
    Comparison::at_most(PROCSPAWN, 1.0),
    #[cfg(feature = "peers")]
    Comparison::listed(LOKY),
];

const KILL_ROWS: &[Comparison] = &[Comparison::at_most(SPARED, 2.0)];

/// A tiny task.
pub(crate) fn square(number: u64) -> u64 {
    number * number
}

/// One that takes a while.
fn work(number: u64) -> u64 {
    let end = Instant::now() + WORK;
    while Instant::now() < end {}
    square(number)
}

/// Measures maps of tiny tasks, in chunks as they are by default, and one by one.
///
/// # Errors
/// Those of making pools; `InvalidData` for wrong values; `InvalidInput` for too few rounds.
pub fn maps(plan: &Plan) -> io::Result<Figures> {
    stats::check_rounds(plan.rounds)?;
    let mut figures = Vec::new();
    for ((name, chunk), rows) in CHUNKS.into_iter().zip([DEFAULT_ROWS, SINGLE_ROWS]) {
        let all = stats::interleave(plan, candidates(chunk)?)?;
        figures.push(Figure::of_rounds(format!("pool, map of {TASKS} tiny tasks, {name}"), "us", all, rows));
    }
    let conditions = format!("{WORKERS} workers, not pinned; they are there before the first sample");
    Ok(Figures { figures, conditions })
}

/// All pools, which map tiny tasks in chunks of that size, and say how many microseconds that takes.
///
/// # Errors
/// Those of making pools.
pub fn candidates(chunk: usize) -> io::Result<Vec<Candidate<'static, f64>>> {
    #[cfg(feature = "peers")]
    let peers = pools::all(WORKERS, TASKS, chunk)?;
    #[cfg(not(feature = "peers"))]
    let peers = [];
    Ok(peers.into_iter().chain([ours(chunk)?]).collect())
}

fn ours(chunk: usize) -> io::Result<Candidate<'static, f64>> {
    let pool = warm_pool()?;
    Ok(Candidate::new(SUBJECT, move || {
        timed(|| {
            let squares = pool.chunked(chunk).map(square, 0..TASKS).map_err(io::Error::other)?;
            check(squares.into_iter().eq((0..TASKS).map(square)))
        })
    }))
}

/// Measures tasks whose workers are killed now and then.
///
/// # Errors
/// Those of making pools; `InvalidData` if a task is not accounted for; `InvalidInput` for too few rounds.
pub fn kills(plan: &Plan) -> io::Result<Figures> {
    stats::check_rounds(plan.rounds)?;
    let all = stats::interleave(plan, killing()?)?;
    let name = format!("pool, {TASKS} tasks, a worker is killed after each {KILL_AFTER}");
    let conditions =
        format!("{WORKERS} workers, not pinned; tasks of {WORK:?}, one by one; each is done, or lost with its worker");
    Ok(Figures { figures: vec![Figure::of_rounds(name, "us", all, KILL_ROWS)], conditions })
}

/// Tasks with and without kills, which say how many microseconds they take.
///
/// # Errors
/// Those of making pools.
pub fn killing() -> io::Result<Vec<Candidate<'static, f64>>> {
    let (spared, killed) = (warm_pool()?, warm_pool()?);
    Ok(vec![
        Candidate::new(SPARED, move || timed(|| check(lost(&spared, false)? == 0))),
        Candidate::new(SUBJECT, move || timed(|| check(lost(&killed, true)? <= TASKS as usize / KILL_AFTER))),
    ])
}

/// Runs the tasks; says how many have been lost with their workers. All others have the right values.
fn lost(pool: &Pool, kills: bool) -> io::Result<usize> {
    let submitter = Submitter::clone(pool);
    let pending = pool.chunked(1).map_async(work, 0..TASKS).on_progress(move |done, _| {
        if kills && done % KILL_AFTER == 0 {
            if let Some(pid) = submitter.pids().first() {
                kill(*pid);
            }
        }
    });
    let mut lost = 0;
    for (number, value) in (0..).zip(pending.get_each().map_err(io::Error::other)?) {
        match value {
            Ok(value) => check(value == square(number))?,
            Err(TaskError::WorkerDied { .. }) => lost += 1,
            Err(error) => return Err(io::Error::other(error)),
        }
    }
    Ok(lost)
}

/// Kills a worker, which may have been killed before and not be replaced yet.
fn kill(pid: u32) {
    // SAFETY: no memory is involved.
    unsafe { libc::kill(pid as libc::pid_t, libc::SIGKILL) };
}

/// A pool whose workers have come.
fn warm_pool() -> io::Result<Pool> {
    let pool = Pool::new(WORKERS).map_err(io::Error::other)?;
    pool.chunked(1).map(work, 0..100).map_err(io::Error::other)?;
    Ok(pool)
}

/// How many microseconds it takes.
pub(crate) fn timed(act: impl FnOnce() -> io::Result<()>) -> io::Result<f64> {
    let begin = Instant::now();
    act()?;
    Ok(begin.elapsed().as_secs_f64() * 1e6)
}

/// Refuses values that are not those of the tasks.
pub(crate) fn check(is_right: bool) -> io::Result<()> {
    if is_right { Ok(()) } else { Err(io::Error::new(io::ErrorKind::InvalidData, "a task has a wrong value, or none")) }
}
