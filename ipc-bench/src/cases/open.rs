//! Opening a region by its name: again in a process that has it open, and for the first time.
//!
//! Three ways: `again` only finds the attachment that the process has already; `further` maps the
//! region and takes part in it, in a process whose keeper runs for another region; `first` also draws
//! the token and starts the keeper, in a new process for each sample.
//!
//! The names are removed by a janitor, a process that outlives this one, whatever ends it.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};

use shmkit::Region;

use crate::child::{Child, Orders};
use crate::figure::{Comparison, Figure, Figures, SUBJECT};
use crate::janitor::{self, Janitor};
#[cfg(feature = "peers")]
use crate::peers::shared_memory;
use crate::pin;
use crate::shared::{SharedBox, SharedLayout};
use crate::signal::Signal;
use crate::stats::{self, Candidate, Plan, Series};

/// The role of the processes that attach for the first time.
pub const NEWCOMER: &str = "open-newcomer";

/// The measured sizes, named for the series; the last is compared to the first.
pub const SIZES: [(&str, usize); 4] =
    [("64 KiB", 64 << 10), ("1 MiB", 1 << 20), ("64 MiB", 64 << 20), ("1 GiB", 1 << 30)];

/// The number of idle threads in a process that attaches for the first time, named for the series.
pub const CROWDS: [(&str, usize); 2] = [("one thread", 0), ("32 idle threads besides", 32)];

/// The name of the case.
pub const NAME: &str = "region/open";
/// The name of the bare calls in results.
pub const BARE: &str = "shm_open, fstat, mmap";

const ROWS: &[Comparison] = &[
    Comparison::listed(BARE),
    #[cfg(feature = "peers")]
    Comparison::listed(shared_memory::NAME),
];

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
    let scene = Scene::prepare()?;
    let mut further = Vec::new();
    for (index, (label, _)) in SIZES.into_iter().enumerate() {
        let all = stats::interleave(&settings.plan, scene.opening(index, turns))?;
        further.push(Figure::of_rounds(format!("open, further, {label}"), "us", all, ROWS));
    }
    let held = scene.hold()?;
    let again = (0..SIZES.len()).map(|index| scene.again(index, turns)).collect();
    let again = stats::interleave(&settings.plan, again)?;
    let first = stats::interleave(&settings.plan, scene.coming())?;
    drop(held);
    let conditions = format!(
        "Region::open of regions in /dev/shm with room for 128 participants, without the drop; {turns} calls per sample \
         in a thread pinned to CPU {}; again: the process has the region open; further: it has another one open; \
         first: the only call in a new process, pinned to CPU {}, of the region of {}, which the controller has open",
        scene.pair.first, scene.pair.second, SIZES[0].0
    );
    let mut figures = by_label("again", &again, &[Comparison::alone_at_most(100.0)]);
    if let [smallest, .., largest] = &*again {
        let name = format!("open, again, {} / {}", largest.name, smallest.name);
        let ratios = largest.rounds.iter().zip(&smallest.rounds).map(|(largest, smallest)| largest / smallest);
        figures.push(Figure::alone(name, "x", ratios.collect(), [Comparison::alone_at_most(1.2)]));
    }
    figures.append(&mut further);
    figures.append(&mut by_label("first", &first, &[]));
    Ok(Figures { figures, conditions })
}

/// Regions of all sizes. The calling thread is pinned as long as it lives.
pub struct Scene {
    names: [String; SIZES.len()],
    pair: pin::Pair,
    // Dropped before the janitor is.
    _pinned: pin::Pinned,
    _other: Region,
    _janitor: Janitor,
}

impl Scene {
    /// Makes the regions and starts a keeper, and pins the calling thread.
    ///
    /// # Errors
    /// Those of making regions and of starting processes.
    pub fn prepare() -> io::Result<Self> {
        let names = SIZES.map(|(label, _)| janitor::own_name(label.replace(' ', "-")));
        let janitor = Janitor::start(&names)?;
        // Before the thread is pinned: its keeper serves later cases, too.
        let other = Region::anonymous(1).map_err(io::Error::other)?;
        let pair = pin::Pair::choose()?;
        let pinned = pin::pin_to(pair.first)?;
        for (name, (_, size)) in names.iter().zip(SIZES) {
            Region::create(name, size).map_err(io::Error::other)?;
        }
        Ok(Scene { names, pair, _pinned: pinned, _other: other, _janitor: janitor })
    }

    /// All that open the region with that index, `turns` times per sample, and say how many microseconds once takes: `further`,
    /// unless it is [held](Self::hold).
    pub fn opening(&self, index: usize, turns: u32) -> Vec<Candidate<'_, f64>> {
        let name = &*self.names[index];
        vec![
            timed(BARE, turns, move || open_bare(name)),
            timed(SUBJECT, turns, move || Region::open(name).map_err(io::Error::other)),
            #[cfg(feature = "peers")]
            timed(shared_memory::NAME, turns, move || shared_memory::open(name)),
        ]
    }

    /// The same of ours alone, named for the size: `again`, if the region is [held](Self::hold).
    pub fn again(&self, index: usize, turns: u32) -> Candidate<'_, f64> {
        let name = &*self.names[index];
        timed(SIZES[index].0, turns, move || Region::open(name).map_err(io::Error::other))
    }

    /// Opens all regions.
    ///
    /// # Errors
    /// Those of opening.
    pub fn hold(&self) -> io::Result<Vec<Region>> {
        self.names.iter().map(|name| Region::open(name).map_err(io::Error::other)).collect()
    }

    /// Processes that attach to the smallest region for the first time, and say how many microseconds that takes.
    pub fn coming(&self) -> Vec<Candidate<'_, f64>> {
        let newcomer = |(label, threads)| {
            let (name, cpu) = (&self.names[0], self.pair.second);
            Candidate::new(label, move || Ok(Newcomer::start(name, threads, cpu)?.time().as_secs_f64() * 1e6))
        };
        CROWDS.into_iter().map(newcomer).collect()
    }
}

/// A figure of each series, in microseconds.
fn by_label(way: &str, all: &[Series<f64>], rows: &[Comparison]) -> Vec<Figure> {
    let figure = |series: &Series<f64>| {
        Figure::alone(format!("open, {way}, {}", series.name), "us", series.rounds.clone(), rows)
    };
    all.iter().map(figure).collect()
}

fn timed<'a, R>(name: &'static str, turns: u32, open: impl Fn() -> io::Result<R> + 'a) -> Candidate<'a, f64> {
    Candidate::new(name, move || {
        let mut total = Duration::ZERO;
        for _ in 0..turns {
            let begin = Instant::now();
            let opened = open();
            total += begin.elapsed();
            opened?;
        }
        Ok(total.as_secs_f64() * 1e6 / f64::from(turns))
    })
}

/// The least that opening by name takes: to find the file, to ask how large it is, and to map it.
fn open_bare(name: &str) -> io::Result<Mapped> {
    let path = CString::new(format!("/{name}"))?;
    // SAFETY: the name is a C string.
    let file = unsafe { libc::shm_open(path.as_ptr(), libc::O_RDWR, 0) };
    if file < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just made, and nobody else has it.
    let file = File::from(unsafe { OwnedFd::from_raw_fd(file) });
    let len = file.metadata()?.len() as usize;
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping at an address of the kernel's choice touches nothing that exists.
    let start = unsafe { libc::mmap(ptr::null_mut(), len, protection, libc::MAP_SHARED, file.as_raw_fd(), 0) };
    if start == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(Mapped { start, len }) }
}

/// Memory that is unmapped when dropped.
struct Mapped {
    start: *mut libc::c_void,
    len: usize,
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: exactly the mapping of `open_bare`, which nobody has looked at.
        unsafe { libc::munmap(self.start, self.len) };
    }
}

/// A process that has attached to a region for the first time, and sleeps since.
pub(super) struct Newcomer {
    board: SharedBox<Board>,
    process: Child,
}

impl Newcomer {
    /// Lets a new process with that many idle threads attach to the region `name`.
    pub(super) fn start(name: &str, threads: usize, cpu: usize) -> io::Result<Self> {
        let mut newcomer = Self::launch(name, threads, cpu)?;
        newcomer.await_arrival()?;
        Ok(newcomer)
    }

    /// Lets it begin with that.
    pub(super) fn launch(name: &str, threads: usize, cpu: usize) -> io::Result<Self> {
        let board = SharedBox::<Board>::create()?;
        let arguments = [
            ("region", name.to_string()),
            ("board", board.address()),
            ("threads", threads.to_string()),
            ("cpu", cpu.to_string()),
        ];
        let process = Child::start(NEWCOMER, &arguments)?;
        Ok(Newcomer { board, process })
    }

    /// Waits until it has attached.
    pub(super) fn await_arrival(&mut self) -> io::Result<()> {
        self.process.await_signal(&self.board.done, 1, ANSWER_WITHIN)
    }

    /// Kills it, and does not wait for its end.
    pub(super) fn kill(&mut self) {
        // Unless it has ended before.
        let _ = self.process.kill();
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
