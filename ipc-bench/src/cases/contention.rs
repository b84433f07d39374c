//! Two processes that want one lock all the time, with some work of their own in between.
//!
//! Each section adds one to the protected value, so the value tells whether sections ever
//! overlapped. Workers count their sections in shared memory; the controller reads both counts
//! every few milliseconds, and from these come the throughput and the share of the weaker process
//! in every window of 100 ms, wherever it begins.
//!
//! A worker that other programs keep from its CPU loses its share whatever the lock does. The kernel
//! tells for how long that was; such a round is repeated.

use std::hint::black_box;
use std::io;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::thread;
use std::time::{Duration, Instant};

use crate::child::{Child, Orders};
use crate::clock::monotonic_ns;
use crate::figure::{Comparison, Figure, Figures, Statistic};
use crate::lock::{LockUnderTest, SharedLock};
use crate::ours::Ours;
use crate::pin::{self, Pair};
use crate::proc;
use crate::pthread::Plain;
use crate::shared::{SharedBox, SharedLayout};
use crate::signal::Signal;
use crate::stats::{self, Candidate, Plan};

/// The role of the children.
pub const WORKER: &str = "contention-worker";
/// The window in which each process must get its share.
pub const WINDOW: Duration = Duration::from_millis(100);

const LOOK_EVERY: Duration = Duration::from_millis(10);
const ANSWER_WITHIN: Duration = Duration::from_secs(20);
/// The part of a round for which a worker may be kept from its CPU.
const DISTURBED: f64 = 0.02;
const PROBE: u64 = 100_000;

/// How to run the case.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The rounds; in each, all locks take their turn.
    pub plan: Plan,
    /// How long the two processes contend for one lock in one round.
    pub duration: Duration,
    /// The work between two sections of a process, about.
    pub work: Duration,
    /// How often a disturbed round is repeated at most.
    pub repeats: u32,
}

/// One lock in one round.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Round {
    /// Sections of both processes in a second.
    pub sections_per_second: f64,
    /// The share of the weaker process in the window where it was weakest, at most 0.5.
    pub weakest_share: f64,
    /// Whether the protected value is the number of sections.
    pub exact: bool,
    /// How often the two processes went to sleep in a second.
    pub sleeps_per_second: f64,
    /// The part of the round for which one of the workers was kept from its CPU.
    pub disturbed: f64,
}

impl Round {
    /// Whether other programs had too large a part in it.
    pub fn is_disturbed(&self) -> bool {
        self.disturbed > DISTURBED
    }
}

/// What controller and workers share besides the lock.
#[repr(C)]
struct Board {
    /// The round to work in; written by the controller.
    round: Signal,
    /// Whether to stop, on a line that is only read while a round runs.
    stop: Stop,
    workers: [Desk; 2],
}

#[repr(C, align(128))]
struct Stop(AtomicU32);

/// Written by one worker only, except the counts' readers.
#[repr(C, align(128))]
struct Desk {
    /// All sections so far.
    sections: AtomicU64,
    /// Voluntary context switches in the last round.
    sleeps: AtomicU64,
    /// The last round that this worker was ready for.
    ready: Signal,
    /// The last round that this worker has ended.
    done: Signal,
}

// SAFETY: repr(C) of atomics, for which zero is a value.
unsafe impl SharedLayout for Board {}

/// A lock that takes part in this case.
pub struct Contender {
    name: &'static str,
    waiting: &'static str,
    start: fn(&Settings, &Pair, u64) -> io::Result<Arena>,
    work: fn(&Orders) -> io::Result<()>,
}

impl Contender {
    /// Makes `L` take part.
    pub const fn of<L: SharedLock>() -> Self {
        Contender { name: L::NAME, waiting: L::WAITING, start: Arena::start::<L>, work: work::<L> }
    }
}

/// The locks that take part.
pub const CONTENDERS: &[Contender] = &[Contender::of::<Ours>(), Contender::of::<Plain>()];

/// Measures all contenders in turn, each with two processes on two CPUs.
///
/// # Errors
/// Those of starting the processes, or of a process that ends or does not answer; `InvalidInput`
/// for too few rounds or for rounds too short to hold a window; `InvalidData` if a count was wrong.
pub fn run(settings: &Settings) -> io::Result<Figures> {
    stats::check_rounds(settings.plan.rounds)?;
    if settings.duration < WINDOW + 2 * LOOK_EVERY {
        let message = format!("a round of {:?} holds no window of {WINDOW:?}", settings.duration);
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    let pair = Pair::choose()?;
    let steps = steps_of(settings.work, pair.first)?;
    let mut arenas = Vec::new();
    for contender in CONTENDERS {
        arenas.push((contender, (contender.start)(settings, &pair, steps)?));
    }
    let candidates =
        arenas.iter_mut().map(|(contender, arena)| Candidate::new(contender.name, || arena.round())).collect();
    let rounds = stats::interleave(&settings.plan, candidates)?;
    let disturbed = rounds.iter().flat_map(|series| &series.rounds).filter(|round| round.is_disturbed()).count();
    let waiting: Vec<String> =
        CONTENDERS.iter().map(|contender| format!("{} {}", contender.name, contender.waiting)).collect();
    let conditions = format!(
        "2 processes pinned to {}; the section adds 1; {:?} ({steps} dependent steps) of work outside; \
         {:?} per round and lock, repeated at most {} times when a worker was kept from its CPU for more than {:.0} % of it \
         ({disturbed} rounds were disturbed all the same); {}",
        pair.describe(),
        settings.work,
        settings.duration,
        settings.repeats,
        DISTURBED * 100.0,
        waiting.join(", ")
    );
    for series in &rounds {
        let inexact = series.rounds.iter().filter(|round| !round.exact).count();
        if inexact > 0 {
            let message = format!("{}: sections overlapped in {inexact} rounds", series.name);
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
    }
    let each = |number: fn(&Round) -> f64| rounds.iter().map(|series| series.map(number)).collect::<Vec<_>>();
    let figures = vec![
        Figure::of_rounds(
            "contended, time per section",
            "ns",
            each(|round| 1e9 / round.sections_per_second),
            [Comparison::at_most(Plain::NAME, 1.05)],
        ),
        Figure::of_rounds(
            "contended, weaker share in any 100 ms",
            "%",
            each(|round| round.weakest_share * 100.0),
            [Comparison::alone_at_least(25.0)],
        )
        .with(Statistic::Percentile(0.0)),
        Figure::of_rounds("contended, sleeps", "a second", each(|round| round.sleeps_per_second), []),
    ];
    Ok(Figures { figures, conditions })
}

/// Two workers of one lock, asleep between rounds.
pub struct Arena {
    board: SharedBox<Board>,
    workers: [Child; 2],
    read_value: Box<dyn Fn() -> u64>,
    duration: Duration,
    repeats: u32,
    round: u32,
}

impl Arena {
    /// Starts the workers for `L`; for benches that drive rounds by themselves.
    ///
    /// # Errors
    /// Those of starting the processes.
    pub fn of<L: SharedLock>(settings: &Settings) -> io::Result<Self> {
        let pair = Pair::choose()?;
        let steps = steps_of(settings.work, pair.first)?;
        Self::start::<L>(settings, &pair, steps)
    }

    fn start<L: SharedLock>(settings: &Settings, pair: &Pair, steps: u64) -> io::Result<Self> {
        let board = SharedBox::<Board>::create()?;
        let lock = L::create()?;
        let worker = |desk: usize, cpu: usize| {
            let arguments = [
                ("lock", L::NAME.to_string()),
                ("address", lock.address()),
                ("board", board.address()),
                ("desk", desk.to_string()),
                ("cpu", cpu.to_string()),
                ("steps", steps.to_string()),
            ];
            Child::start(WORKER, &arguments)
        };
        let workers = [worker(0, pair.first)?, worker(1, pair.second)?];
        let read_value = Box::new(move || *lock.lock());
        Ok(Arena { board, workers, read_value, duration: settings.duration, repeats: settings.repeats, round: 0 })
    }

    /// Lets both contend for the set duration, undisturbed if that can be had.
    ///
    /// # Errors
    /// When a worker ends or does not answer.
    pub fn round(&mut self) -> io::Result<Round> {
        let mut round = self.attempt()?;
        for _ in 0..self.repeats {
            if !round.is_disturbed() || !round.exact {
                break;
            }
            round = self.attempt()?;
        }
        Ok(round)
    }

    fn attempt(&mut self) -> io::Result<Round> {
        self.round += 1;
        self.board.stop.0.store(0, Relaxed);
        self.board.round.set(self.round);
        for (worker, desk) in self.workers.iter_mut().zip(&self.board.workers) {
            worker.await_signal(&desk.ready, self.round, ANSWER_WITHIN)?;
        }
        let without_cpu = self.without_cpu()?;
        let looks = self.watch();
        let after = self.without_cpu()?;
        self.board.stop.0.store(1, Relaxed);
        for (worker, desk) in self.workers.iter_mut().zip(&self.board.workers) {
            worker.await_signal(&desk.done, self.round, ANSWER_WITHIN)?;
        }
        let without_cpu = [0, 1].map(|desk| after[desk].saturating_sub(without_cpu[desk]));
        let counts = self.counts();
        let sleeps: u64 = self.board.workers.iter().map(|desk| desk.sleeps.load(Relaxed)).sum();
        Ok(Round {
            sections_per_second: rate(&looks),
            weakest_share: weakest_share(&looks, WINDOW.as_nanos() as u64),
            exact: (self.read_value)() == counts.iter().sum::<u64>(),
            sleeps_per_second: sleeps as f64 / self.duration.as_secs_f64(),
            disturbed: without_cpu[0].max(without_cpu[1]).as_secs_f64() / self.duration.as_secs_f64(),
        })
    }

    fn without_cpu(&self) -> io::Result<[Duration; 2]> {
        let [first, second] = &self.workers;
        Ok([proc::time_without_cpu(first.pid())?, proc::time_without_cpu(second.pid())?])
    }

    fn watch(&self) -> Vec<Look> {
        let begin = Instant::now();
        let mut looks = vec![self.look()];
        while begin.elapsed() < self.duration {
            thread::sleep(LOOK_EVERY.min(self.duration - begin.elapsed().min(self.duration)));
            looks.push(self.look());
        }
        looks
    }

    fn look(&self) -> Look {
        Look { at_ns: monotonic_ns(), counts: self.counts() }
    }

    fn counts(&self) -> [u64; 2] {
        [0, 1].map(|desk| self.board.workers[desk].sections.load(Relaxed))
    }
}

/// Both counts at one moment.
#[derive(Debug, Clone, Copy)]
struct Look {
    at_ns: u64,
    counts: [u64; 2],
}

fn rate(looks: &[Look]) -> f64 {
    let (first, last) = (looks[0], looks[looks.len() - 1]);
    let sections = last.counts.iter().sum::<u64>() - first.counts.iter().sum::<u64>();
    sections as f64 * 1e9 / (last.at_ns - first.at_ns) as f64
}

/// Returns the weaker side's smallest share in any window of `window` ns that begins at a look and
/// ends at the first look after it; 0 if a window saw no section at all.
fn weakest_share(looks: &[Look], window: u64) -> f64 {
    let mut weakest: f64 = 0.5;
    for (index, from) in looks.iter().enumerate() {
        let Some(to) = looks[index..].iter().find(|to| to.at_ns - from.at_ns >= window) else {
            break;
        };
        let gains = [0, 1].map(|side| (to.counts[side] - from.counts[side]) as f64);
        let total = gains[0] + gains[1];
        let share = if total > 0.0 { gains[0].min(gains[1]) / total } else { 0.0 };
        weakest = weakest.min(share);
    }
    weakest
}

/// Finds the number of steps that take `work` on `cpu`.
fn steps_of(work: Duration, cpu: usize) -> io::Result<u64> {
    let _pinned = pin::pin_to(cpu)?;
    let probe = || {
        let begin = Instant::now();
        black_box(dependent_steps(black_box(1), PROBE));
        begin.elapsed()
    };
    let best = (0..stats::MIN_ROUNDS).map(|_| probe()).min().unwrap_or_default();
    Ok((work.as_secs_f64() / (best.as_secs_f64() / PROBE as f64)).round() as u64)
}

/// Work that the processor cannot do ahead: each step needs the one before, and the shift keeps the
/// compiler from folding several multiplications into one.
#[inline(never)]
pub(super) fn dependent_steps(mut state: u64, steps: u64) -> u64 {
    for _ in 0..steps {
        state = (state ^ (state >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    }
    state
}

/// Works as a child with these orders.
///
/// # Errors
/// Unfit orders, or those of attaching.
pub fn work_as_told(orders: &Orders) -> io::Result<()> {
    (super::named(CONTENDERS, orders, "lock", |contender| contender.name)?.work)(orders)
}

fn work<L: SharedLock>(orders: &Orders) -> io::Result<()> {
    let lock = L::attach(orders.text("address")?)?;
    let board = SharedBox::<Board>::attach(orders.text("board")?)?;
    let own: usize = orders.number("desk")?;
    let steps: u64 = orders.number("steps")?;
    let (desk, other) = (&board.workers[own], &board.workers[1 - own]);
    let mut sections = 0;
    let mut state = 1;
    let mut round = 0;
    loop {
        round = board.round.wait_for_change(round);
        let switches = voluntary_switches()?;
        desk.ready.set(round);
        while other.ready.value() != round {
            thread::yield_now();
        }
        while board.stop.0.load(Relaxed) == 0 {
            *lock.lock() += 1;
            sections += 1;
            desk.sections.store(sections, Relaxed);
            state = black_box(dependent_steps(state, steps));
        }
        desk.sleeps.store(voluntary_switches()? - switches, Relaxed);
        desk.done.set(round);
    }
}

fn voluntary_switches() -> io::Result<u64> {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::uninit();
    // SAFETY: `usage` is writable and large enough; the kernel fills it when it returns 0.
    let usage = unsafe {
        if libc::getrusage(libc::RUSAGE_THREAD, usage.as_mut_ptr()) != 0 {
            return Err(io::Error::last_os_error());
        }
        usage.assume_init()
    };
    Ok(usage.ru_nvcsw as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(at_ns: u64, first: u64, second: u64) -> Look {
        Look { at_ns, counts: [first, second] }
    }

    #[test]
    fn share_is_taken_from_the_window_where_one_side_starved() {
        let looks = [look(0, 0, 0), look(50, 50, 50), look(100, 60, 140), look(150, 110, 190)];
        // 0..100: 60 of 200; 50..150: 60 of 200.
        assert_eq!(weakest_share(&looks, 100), 0.3);
    }

    #[test]
    fn window_without_any_section_is_a_share_of_zero() {
        let looks = [look(0, 5, 5), look(100, 5, 5)];
        assert_eq!(weakest_share(&looks, 100), 0.0);
    }

    #[test]
    fn rate_counts_both_sides_between_first_and_last_look() {
        let looks = [look(0, 10, 10), look(500_000_000, 15, 15), look(1_000_000_000, 20, 25)];
        assert_eq!(rate(&looks), 25.0);
    }
}
