//! Opening a region by its name: again in a process that has it open, and for the first time.
//!
//! Three ways: `again` only finds the attachment that the process has already; `further` maps the
//! region and takes part in it, in a process whose keeper runs for another region; `first` also draws
//! the token and starts the keeper, in a new process for each sample.
//!
//! The names are removed by a janitor, a process that outlives this one, whatever ends it.

use std::io::{self, Read};
use std::process;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};

use shmkit::Region;

use crate::child::{Child, Janitor, Orders};
use crate::figure::{Comparison, Figure, Figures};
use crate::pin;
use crate::shared::{SharedBox, SharedLayout};
use crate::signal::Signal;
use crate::stats::{self, Candidate, Plan, Series};

/// The role of the processes that attach for the first time.
pub const NEWCOMER: &str = "open-newcomer";
/// The role of the process that removes the names.
pub const JANITOR: &str = "open-janitor";

/// The measured sizes, named for the series; the last is compared to the first.
pub const SIZES: [(&str, usize); 4] =
    [("64 KiB", 64 << 10), ("1 MiB", 1 << 20), ("64 MiB", 64 << 20), ("1 GiB", 1 << 30)];

/// The number of idle threads in a process that attaches for the first time, named for the series.
pub const CROWDS: [(&str, usize); 2] = [("one thread", 0), ("32 idle threads besides", 32)];

const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// How to run the case.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The rounds; each takes one sample of everything.
    pub plan: Plan,
    /// How many times a sample opens, except for the first time of a process.
    pub turns: u32,
}

/// What controller and newcomer share besides the region.
#[repr(C)]
struct Board {
    /// How long the newcomer's `open` took.
    nanoseconds: AtomicU64,
    /// 1 when that is known.
    done: Signal,
}

// SAFETY: repr(C) of atomics, for which zero is a value.
unsafe impl SharedLayout for Board {}

/// Measures all ways of opening.
///
/// # Errors
/// Those of creating and opening regions and of starting processes; `InvalidInput` for too few
/// rounds.
pub fn run(settings: &Settings) -> io::Result<Figures> {
    stats::check_rounds(settings.plan.rounds)?;
    let turns = settings.turns.max(1);
    let names = SIZES.map(|(label, _)| format!("shmkit-bench-{}-{}", process::id(), label.replace(' ', "-")));
    let _janitor = Janitor::start(JANITOR, &names)?;
    // Before the thread is pinned: its keeper serves later cases, too.
    let _other = Region::anonymous(1).map_err(io::Error::other)?;
    let pair = pin::Pair::choose()?;
    let _pinned = pin::pin_to(pair.first)?;
    for (name, (_, size)) in names.iter().zip(SIZES) {
        Region::create(name, size).map_err(io::Error::other)?;
    }
    let opening = || names.iter().zip(SIZES).map(|(name, (label, _))| candidate(label, name, turns)).collect();
    let further = stats::interleave(&settings.plan, opening())?;
    let held: Result<Vec<Region>, _> = names.iter().map(|name| Region::open(name)).collect();
    let held = held.map_err(io::Error::other)?;
    let again = stats::interleave(&settings.plan, opening())?;
    let newcomers = CROWDS.map(|(label, threads)| {
        let name = &names[0];
        Candidate::new(label, move || Ok(Newcomer::start(name, threads, pair.second)?.time().as_secs_f64() * 1e6))
    });
    let first = stats::interleave(&settings.plan, newcomers.into())?;
    drop(held);
    let conditions = format!(
        "Region::open of regions in /dev/shm with room for 128 participants, without the drop; {turns} calls per sample \
         in a thread pinned to CPU {}; again: the process has the region open; further: it has another one open; \
         first: the only call in a new process, pinned to CPU {}, of the region of {}, which the controller has open",
        pair.first, pair.second, SIZES[0].0
    );
    let mut figures = by_label("again", &again, &[Comparison::alone_at_most(100.0)]);
    if let [smallest, .., largest] = &*again {
        let name = format!("open, again, {} / {}", largest.name, smallest.name);
        let ratios = largest.rounds.iter().zip(&smallest.rounds).map(|(largest, smallest)| largest / smallest);
        figures.push(Figure::alone(name, "x", ratios.collect(), [Comparison::alone_at_most(1.2)]));
    }
    figures.append(&mut by_label("further", &further, &[]));
    figures.append(&mut by_label("first", &first, &[]));
    Ok(Figures { figures, conditions })
}

/// A figure of each series, in microseconds.
fn by_label(way: &str, all: &[Series<f64>], rows: &[Comparison]) -> Vec<Figure> {
    let figure = |series: &Series<f64>| {
        Figure::alone(format!("open, {way}, {}", series.name), "us", series.rounds.clone(), rows)
    };
    all.iter().map(figure).collect()
}

fn candidate<'a>(label: &'static str, name: &'a str, turns: u32) -> Candidate<'a, f64> {
    Candidate::new(label, move || {
        let mut total = Duration::ZERO;
        for _ in 0..turns {
            let begin = Instant::now();
            let region = Region::open(name);
            total += begin.elapsed();
            region.map_err(io::Error::other)?;
        }
        Ok(total.as_secs_f64() * 1e6 / f64::from(turns))
    })
}

/// A process that has attached to a region for the first time, and sleeps since.
pub(super) struct Newcomer {
    board: SharedBox<Board>,
    _process: Child,
}

impl Newcomer {
    /// Lets a new process with that many idle threads attach to the region `name`.
    pub(super) fn start(name: &str, threads: usize, cpu: usize) -> io::Result<Self> {
        let board = SharedBox::<Board>::create()?;
        let arguments = [
            ("region", name.to_string()),
            ("board", board.address()),
            ("threads", threads.to_string()),
            ("cpu", cpu.to_string()),
        ];
        let mut process = Child::start(NEWCOMER, &arguments)?;
        process.await_signal(&board.done, 1, ANSWER_WITHIN)?;
        Ok(Newcomer { board, _process: process })
    }

    /// How long that took.
    pub(super) fn time(&self) -> Duration {
        Duration::from_nanos(self.board.nanoseconds.load(Relaxed))
    }
}

/// Attaches as a child with these orders, and waits for its end.
///
/// # Errors
/// Unfit orders, or those of opening.
pub fn come_as_told(orders: &Orders) -> io::Result<()> {
    let board = SharedBox::<Board>::attach(orders.text("board")?)?;
    let name = orders.text("region")?;
    for _ in 0..orders.number("threads")? {
        thread::spawn(sleep_for_ever);
    }
    let begin = Instant::now();
    let region = Region::open(name);
    let elapsed = begin.elapsed();
    let _region = region.map_err(io::Error::other)?;
    board.nanoseconds.store(elapsed.as_nanos() as u64, Relaxed);
    board.done.set(1);
    sleep_for_ever()
}

fn sleep_for_ever() -> ! {
    loop {
        thread::park();
    }
}

/// Waits as a child for the end of the parent, and removes the names that its orders give.
///
/// # Errors
/// Unfit orders, or those of waiting.
pub fn clean_as_told(orders: &Orders) -> io::Result<()> {
    io::stdin().read_to_end(&mut Vec::new())?;
    for name in orders.text("names")?.split(',') {
        // A name that was never made is no failure.
        let _ = Region::unlink(name);
    }
    Ok(())
}
