//! An owner that is stopped (SIGSTOP) with the lock: what those see who want it. It is alive, so nobody may get what it has.
//!
//! In each round a process takes the lock and is stopped, all its threads. Another one tries the lock, waits for it with a
//! time-out, and then without; it is seen asleep in that before the owner is continued. The first stop lasts longer than
//! a sleeper waits before it looks again for deaths that nobody has told it of.

use std::io;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};

use crate::cases::named;
use crate::child::{Child, Orders};
use crate::clock::monotonic_ns;
use crate::figure::{Comparison, Distribution, Figure, Figures, SUBJECT, Statistic};
use crate::lock::{LockUnderTest, TimedLock};
use crate::ours::Ours;
#[cfg(feature = "peers")]
use crate::peers::raw_sync;
use crate::peers::sem;
use crate::pin::Pair;
use crate::proc;
use crate::pthread::{Plain, Robust};
use crate::shared::{SharedBox, SharedLayout};
use crate::signal::Signal;
use crate::stats::{self, Candidate, Plan, Series};
use crate::team::Place;

/// The role of those who are stopped.
pub const OWNER: &str = "stopped-owner";
/// The role of those who want the lock meanwhile.
pub const WAITER: &str = "stopped-waiter";

/// Those who want the lock wait for so long.
const TIMEOUT: Duration = Duration::from_millis(10);
/// How long the first stop is, at least: more than a second, after which sleepers look again.
const LONGEST: Duration = Duration::from_millis(1200);
/// How many tries are timed together.
const TRIES: u32 = 1000;
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// A lock whose owner can be stopped.
pub trait Stopping: Place {
    /// Locks, calls `inside`, and unlocks.
    fn section(&self, inside: &mut dyn FnMut());

    /// Locks if that is possible within that time, and unlocks; returns whether it was.
    ///
    /// # Errors
    /// What says neither.
    fn try_for(&self, at_most: Duration) -> io::Result<bool>;
}

/// A candidate.
pub struct Entry {
    name: &'static str,
    create: fn() -> io::Result<Stage>,
    own: fn(&Orders) -> io::Result<()>,
    wait: fn(&Orders) -> io::Result<()>,
}

struct Stage {
    address: String,
    // Keeps the memory for those who come by its address.
    _kept: Box<dyn std::any::Any>,
}

impl Entry {
    const fn of<S: Stopping>(name: &'static str) -> Self {
        Entry { name, create: Stage::of::<S>, own: own::<S>, wait: wait::<S> }
    }
}

impl Stage {
    fn of<S: Stopping>() -> io::Result<Self> {
        let place = S::create(2)?;
        Ok(Stage { address: place.address(), _kept: Box::new(place) })
    }
}

/// The candidates.
pub const ENTRIES: &[Entry] = &[
    Entry::of::<Lock<Ours>>(SUBJECT),
    Entry::of::<Lock<Plain>>(Plain::NAME),
    Entry::of::<Lock<Robust>>(Robust::NAME),
    Entry::of::<sem::OnePermit>(sem::NAME),
    #[cfg(feature = "peers")]
    Entry::of::<raw_sync::Owned>(raw_sync::NAME),
];

struct Lock<L>(L);

impl<L: TimedLock> Place for Lock<L> {
    fn create(_: usize) -> io::Result<Self> {
        L::create().map(Lock)
    }

    fn address(&self) -> String {
        self.0.address()
    }

    fn attach(address: &str) -> io::Result<Self> {
        L::attach(address).map(Lock)
    }
}

impl<L: TimedLock> Stopping for Lock<L> {
    fn section(&self, inside: &mut dyn FnMut()) {
        let mut guard = self.0.lock();
        *guard += 1;
        inside();
    }

    fn try_for(&self, at_most: Duration) -> io::Result<bool> {
        Ok(self.0.try_for(at_most)?.is_some())
    }
}

/// What one stop showed.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Stop {
    /// A try, in nanoseconds.
    try_ns: f64,
    /// How much longer than asked for a wait with a time-out took, in nanoseconds.
    late_ns: u64,
    /// From just before SIGCONT until the waiter had the lock, in nanoseconds.
    resumed_ns: u64,
    /// How often somebody got the lock while its owner was stopped.
    robbed: u64,
}

/// Stops one owner of each candidate in each round.
///
/// # Errors
/// Those of starting processes, or of one that ends or does not answer; `InvalidInput` for too few rounds.
pub fn run(plan: &Plan) -> io::Result<Figures> {
    stats::check_rounds(plan.rounds)?;
    let pair = Pair::choose()?;
    let mut scenes = Vec::new();
    for entry in ENTRIES {
        scenes.push((entry.name, Scene::start(entry, &pair)?));
    }
    let candidates = scenes.iter_mut().map(|(name, scene)| Candidate::new(name, || scene.stop()));
    let stops = stats::interleave(plan, candidates.collect())?;
    let figure = |what: &str, unit, number: fn(&Stop) -> f64| {
        let all = stops.iter().map(|series| series.map(number)).collect();
        Figure::of_rounds(format!("mutex, owner stopped, {what}"), unit, all, [])
    };
    let distributions = |number: fn(&Stop) -> u64| {
        let of = |series: &Series<Stop>| Distribution::of(series.name, series.rounds.iter().map(number));
        stops.iter().map(of).collect::<Vec<_>>()
    };
    let mut robbed = figure("robbed", "", |stop| stop.robbed as f64).with(Statistic::Sum);
    robbed.rows = vec![Comparison::alone_at_most(0.0)];
    let figures = vec![
        figure("late time-out", "us", |stop| stop.late_ns as f64 / 1e3)
            .with_distributions(distributions(|s| s.late_ns)),
        figure("from SIGCONT to the lock", "us", |stop| stop.resumed_ns as f64 / 1e3)
            .with_distributions(distributions(|s| s.resumed_ns)),
        figure("try", "ns", |stop| stop.try_ns),
        robbed,
    ];
    let conditions = format!(
        "{}, waiter and controller on the first, owner on the second; the owner's process is stopped as a whole; tries: mean of {TRIES}; \
         late: what a wait of {TIMEOUT:?} takes beyond that; then a wait without a time-out, seen asleep before SIGCONT; \
         the first stop lasts {LONGEST:?}; robbed: how often somebody had the lock of the stopped owner; \
         locks of threads are not here, as a stop stops all of a process",
        pair.describe()
    );
    Ok(Figures { figures, conditions })
}

/// What controller, owner and waiter share besides the lock.
#[repr(C)]
struct Board {
    /// The round in which the owner shall lock; written by the controller.
    request: Signal,
    /// The round in which it has.
    held: Signal,
    /// The round in which the waiter shall want the lock; written by the controller.
    want: Signal,
    /// The round in which it is about to wait without a time-out.
    waits: Signal,
    /// The round in which the owner shall unlock; written by the controller.
    release: Signal,
    /// The round in which the waiter has had the lock.
    done: Signal,
    try_ns: AtomicU64,
    late_ns: AtomicU64,
    robbed: AtomicU64,
    /// When the waiter had the lock.
    had_at: AtomicU64,
}

// SAFETY: repr(C) of atomics, for which zero is a value.
unsafe impl SharedLayout for Board {}

/// A candidate with its two processes.
struct Scene {
    owner: Child,
    waiter: Child,
    board: SharedBox<Board>,
    round: u32,
    _stage: Stage,
}

impl Scene {
    fn start(entry: &Entry, pair: &Pair) -> io::Result<Self> {
        let stage = (entry.create)()?;
        let board = SharedBox::<Board>::create()?;
        let start = |role, cpu: usize| {
            let arguments = [
                ("entry", entry.name.to_string()),
                ("address", stage.address.clone()),
                ("board", board.address()),
                ("cpu", cpu.to_string()),
            ];
            Child::start(role, &arguments)
        };
        let (owner, waiter) = (start(OWNER, pair.second)?, start(WAITER, pair.first)?);
        Ok(Scene { owner, waiter, board, round: 0, _stage: stage })
    }

    fn stop(&mut self) -> io::Result<Stop> {
        self.round += 1;
        let (round, board) = (self.round, &*self.board);
        board.request.set(round);
        self.owner.await_signal(&board.held, round, ANSWER_WITHIN)?;
        self.owner.signal(libc::SIGSTOP)?;
        proc::wait_until_stopped(self.owner.pid(), ANSWER_WITHIN)?;
        let begun = Instant::now();
        board.want.set(round);
        self.waiter.await_signal(&board.waits, round, ANSWER_WITHIN)?;
        proc::wait_until_asleep(self.waiter.pid(), ANSWER_WITHIN)?;
        if round == 1 {
            thread::sleep(LONGEST.saturating_sub(begun.elapsed()));
        }
        board.release.set(round);
        let too_early = board.done.value() == round;
        let continued_at = self.owner.signal(libc::SIGCONT)?;
        self.waiter.await_signal(&board.done, round, ANSWER_WITHIN)?;
        Ok(Stop {
            try_ns: board.try_ns.load(Relaxed) as f64 / f64::from(TRIES),
            late_ns: board.late_ns.load(Relaxed),
            resumed_ns: board.had_at.load(Relaxed).saturating_sub(continued_at),
            robbed: board.robbed.load(Relaxed) + u64::from(too_early),
        })
    }
}

/// Owns the lock, round by round, as a child with these orders.
///
/// # Errors
/// Unfit orders, or those of attaching.
pub fn own_as_told(orders: &Orders) -> io::Result<()> {
    (named(ENTRIES, orders, "entry", |entry| entry.name)?.own)(orders)
}

/// Wants the lock, round by round, as a child with these orders.
///
/// # Errors
/// Unfit orders, or those of attaching and trying.
pub fn wait_as_told(orders: &Orders) -> io::Result<()> {
    (named(ENTRIES, orders, "entry", |entry| entry.name)?.wait)(orders)
}

fn own<S: Stopping>(orders: &Orders) -> io::Result<()> {
    let place = S::attach(orders.text("address")?)?;
    let board = SharedBox::<Board>::attach(orders.text("board")?)?;
    let mut round = 0;
    loop {
        round = board.request.wait_for_change(round);
        place.section(&mut || {
            board.held.set(round);
            board.release.wait_for_change(round - 1);
        });
    }
}

fn wait<S: Stopping>(orders: &Orders) -> io::Result<()> {
    let place = S::attach(orders.text("address")?)?;
    let board = SharedBox::<Board>::attach(orders.text("board")?)?;
    let mut round = 0;
    loop {
        round = board.want.wait_for_change(round);
        let begun = Instant::now();
        let mut robbed = 0;
        for _ in 0..TRIES {
            robbed += u64::from(place.try_for(Duration::ZERO)?);
        }
        board.try_ns.store(begun.elapsed().as_nanos() as u64, Relaxed);
        let begun = Instant::now();
        robbed += u64::from(place.try_for(TIMEOUT)?);
        let late = begun.elapsed().saturating_sub(TIMEOUT);
        board.late_ns.store(late.as_nanos() as u64, Relaxed);
        board.robbed.store(robbed, Relaxed);
        board.waits.set(round);
        place.section(&mut || board.had_at.store(monotonic_ns(), Relaxed));
        board.done.set(round);
    }
}
