//! From SIGKILL of a lock's owner to the lock in the hands of a process that slept for it.
//!
//! One kill: a new victim fills its private memory, locks, and says so in shared memory; the waiter,
//! another process, calls `lock` and is seen asleep; the controller reads the clock, kills, and
//! sleeps; the waiter reads the clock as soon as `lock` returns, and repairs the lock. Waiter and
//! controller share one CPU, the victim has the other, so the death and the wake-up can overlap, and
//! the waiter's CPU is idle. Our keepers are pinned with their processes, for they start after the
//! pin: the waiter's, which watches the victim, shares the idle CPU with the waiter, so both locks
//! wake across the two CPUs once; the victim's dies on the victim's CPU. The controller takes part in
//! the region, too, but its keeper watches the waiter and is not woken by the kill.

use std::io;
use std::ptr;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crate::child::{Child, Orders};
use crate::clock::monotonic_ns;
use crate::figure::{Comparison, Distribution, Figure, Figures, Statistic};
use crate::lock::{LockUnderTest, RobustLock};
use crate::ours::Ours;
use crate::pin::{self, Pair};
use crate::proc;
use crate::pthread::Robust;
use crate::shared::{SharedBox, SharedLayout};
use crate::signal::Signal;
use crate::stats::{self, Candidate, Plan, Series};

/// The role of the process that waits for the lock.
pub const WAITER: &str = "kill-waiter";
/// The role of the processes that die with the lock.
pub const VICTIM: &str = "kill-victim";

const ANSWER_WITHIN: Duration = Duration::from_secs(20);
/// Memory that must be left besides the victim's.
const HEADROOM: u64 = 256 << 20;
/// How much of its memory a victim touches in a second at least, in bytes.
const SLOWEST: usize = 64 << 20;
const SMALLEST_PAGE: usize = 4096;

/// How to run the case.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How large the victims are, in the names of the figures.
    pub label: &'static str,
    /// One kill per lock and round.
    pub plan: Plan,
    /// The private memory that a victim touches, in bytes.
    pub memory: usize,
    /// Whether victims ask for huge pages, which are touched and torn down much faster.
    pub huge_pages: bool,
}

/// A size of victims, and the case of it.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// The name of the case.
    pub case: &'static str,
    /// How large the victims are, in the names of the figures.
    pub label: &'static str,
    /// The private memory that a victim touches, in bytes.
    pub memory: usize,
}

impl Size {
    /// Whether one kill takes so long that there cannot be many.
    pub fn is_large(&self) -> bool {
        self.memory >= 256 << 20
    }

    /// How to run it, but for the plan. Only large victims use huge pages, if at all: in little memory, it is left
    /// to chance whether one fits in.
    pub fn settings(&self, huge_pages: bool) -> Settings {
        let plan = Plan { case: self.case.into(), rounds: 0, budget: Duration::MAX, verbose: false };
        Settings { label: self.label, plan, memory: self.memory, huge_pages: huge_pages && self.is_large() }
    }
}

/// All sizes.
pub const SIZES: &[Size] = &[
    Size { case: "mutex/kill/1MiB", label: "1 MiB", memory: 1 << 20 },
    Size { case: "mutex/kill/32MiB", label: "32 MiB", memory: 32 << 20 },
    Size { case: "mutex/kill/256MiB", label: "256 MiB", memory: 256 << 20 },
    Size { case: "mutex/kill/2GiB", label: "2 GiB", memory: 2 << 30 },
    Size { case: "mutex/kill/4GiB", label: "4 GiB", memory: 4 << 30 },
];

/// One kill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Takeover {
    /// From just before `kill` to just after the waiter's `lock`.
    pub nanoseconds: u64,
    /// Waits of the waiter that a periodic re-check rescued in this kill; `None` if the lock has none.
    pub rescues: Option<u64>,
}

/// What controller, waiter and victims share besides the lock.
#[repr(C)]
struct Board {
    /// 1 once the waiter has attached.
    ready: Signal,
    /// The kill that the waiter shall wait for; written by the controller.
    request: Signal,
    /// The kill whose `lock` the waiter is about to call.
    entering: Signal,
    /// The kill after which the waiter has locked, repaired and unlocked.
    done: Signal,
    /// The kill whose victim holds the lock.
    held: Signal,
    /// When the waiter's `lock` returned.
    locked_at: AtomicU64,
    /// 1 if that `lock` said that the owner had died.
    owner_died: AtomicU64,
    /// All rescues of the waiter so far, plus 1; 0 if its lock has none.
    rescues: AtomicU64,
    /// How much of the last victim's memory was in huge pages.
    huge_bytes: AtomicU64,
}

// SAFETY: repr(C) of atomics, for which zero is a value.
unsafe impl SharedLayout for Board {}

/// A lock that takes part in this case.
pub struct Contender {
    name: &'static str,
    waiting: &'static str,
    start: fn(&Settings) -> io::Result<Scene>,
    wait: fn(&Orders) -> io::Result<()>,
    fall: fn(&Orders) -> io::Result<()>,
}

impl Contender {
    /// Makes `L` take part.
    pub const fn of<L: RobustLock>() -> Self {
        Contender { name: L::NAME, waiting: L::WAITING, start: Scene::of::<L>, wait: wait::<L>, fall: fall::<L> }
    }
}

/// The locks that take part.
pub const CONTENDERS: &[Contender] = &[Contender::of::<Ours>(), Contender::of::<Robust>()];

/// Kills the owner of each contender in turn, once per round.
///
/// # Errors
/// Those of starting processes, or of one that ends or does not answer; `OutOfMemory` if there is
/// no room for a victim.
pub fn run(settings: &Settings) -> io::Result<Figures> {
    let pair = Pair::choose()?;
    let mut scenes = Vec::new();
    for contender in CONTENDERS {
        scenes.push((contender, (contender.start)(settings)?));
    }
    let candidates =
        scenes.iter_mut().map(|(contender, scene)| Candidate::new(contender.name, || scene.kill())).collect();
    let kills = stats::interleave(&settings.plan, candidates)?;
    let waiting: Vec<String> =
        CONTENDERS.iter().map(|contender| format!("{} {}", contender.name, contender.waiting)).collect();
    let huge = scenes.iter().map(|(_, scene)| scene.board.huge_bytes.load(Relaxed)).min().unwrap_or(0);
    let conditions = format!(
        "{} kills per lock; victims with {} MiB of touched private memory, {} MiB of it in huge pages; \
         {}, waiter (and its keeper) and controller on the first, victim (and its keeper) on the second, \
         the controller's keeper on any, asleep; \
         the waiter was seen asleep before each kill; {}",
        kills.first().map_or(0, |series| series.rounds.len()),
        settings.memory >> 20,
        huge >> 20,
        pair.describe(),
        waiting.join(", ")
    );
    let microseconds: Vec<_> = kills.iter().map(|all| all.map(|kill| kill.nanoseconds as f64 / 1e3)).collect();
    let time = |what: &str, percent: f64, rows: &[Comparison]| {
        let name = format!("owner killed, {}, {what}", settings.label);
        Figure::of_rounds(name, "us", microseconds.clone(), rows).with(Statistic::Percentile(percent))
    };
    let has_net = |all: &&Series<Takeover>| all.rounds.iter().any(|kill| kill.rescues.is_some());
    let rescues = kills.iter().filter(has_net).map(|all| all.map(|kill| kill.rescues.unwrap_or(0) as f64));
    let rescues = Figure::of_rounds(
        format!("owner killed, {}, rescues", settings.label),
        "",
        rescues.collect(),
        [Comparison::alone_at_most(0.0)],
    );
    let within = [Comparison::at_most(Robust::NAME, 4.0)];
    let all =
        |series: &Series<Takeover>| Distribution::of(series.name, series.rounds.iter().map(|kill| kill.nanoseconds));
    let figures = vec![
        time("median", 50.0, &within).with_distributions(kills.iter().map(all).collect()),
        time("p99", 99.0, &within),
        time("longest", 100.0, &[]),
        rescues.with(Statistic::Sum),
    ];
    Ok(Figures { figures, conditions })
}

/// A lock with a waiter that is asleep between kills.
pub struct Scene {
    board: SharedBox<Board>,
    waiter: Child,
    name: &'static str,
    address: String,
    pair: Pair,
    memory: usize,
    huge_pages: bool,
    number: u32,
    // Keeps the lock's memory for those who come by its address.
    _lock: Box<dyn Kept>,
}

trait Kept {}
impl<T> Kept for T {}

impl Scene {
    /// Starts the waiter for `L`; for benches that count kills by themselves.
    ///
    /// # Errors
    /// Those of starting the process; `OutOfMemory` if there is no room for a victim.
    pub fn of<L: RobustLock>(settings: &Settings) -> io::Result<Self> {
        check_memory(settings.memory)?;
        let pair = Pair::choose()?;
        let board = SharedBox::<Board>::create()?;
        let lock = L::create()?;
        let address = lock.address();
        let arguments = [
            ("lock", L::NAME.to_string()),
            ("address", address.clone()),
            ("board", board.address()),
            ("cpu", pair.first.to_string()),
        ];
        let mut waiter = Child::start(WAITER, &arguments)?;
        // Before any victim comes: then the waiter's keeper is the one that watches the victims.
        waiter.await_signal(&board.ready, 1, ANSWER_WITHIN)?;
        Ok(Scene {
            board,
            waiter,
            name: L::NAME,
            address,
            pair,
            memory: settings.memory,
            huge_pages: settings.huge_pages,
            number: 0,
            _lock: Box::new(lock),
        })
    }

    /// Makes a victim, kills it, and times the takeover.
    ///
    /// # Errors
    /// When a process ends or does not answer, or when the lock did not say that its owner died.
    pub fn kill(&mut self) -> io::Result<Takeover> {
        self.number += 1;
        let number = self.number;
        let _pinned = pin::pin_to(self.pair.first)?;
        let rescued_before = self.board.rescues.load(Relaxed);
        let mut victim = self.start_victim()?;
        victim.await_signal(&self.board.held, number, ANSWER_WITHIN + self.time_to_touch())?;
        self.board.request.set(number);
        self.waiter.await_signal(&self.board.entering, number, ANSWER_WITHIN)?;
        proc::wait_until_asleep(self.waiter.pid(), ANSWER_WITHIN)?;
        let killed_at = victim.kill()?;
        self.waiter.await_signal(&self.board.done, number, ANSWER_WITHIN)?;
        victim.reap()?;
        // All of these were written before `done` was set.
        if self.board.owner_died.load(Relaxed) != 1 {
            let message = format!("{} did not say that its owner had died", self.name);
            return Err(io::Error::other(message));
        }
        let locked_at = self.board.locked_at.load(Relaxed);
        let nanoseconds = locked_at.checked_sub(killed_at).ok_or_else(|| {
            io::Error::other(format!("{} was locked by the waiter before its owner was killed", self.name))
        })?;
        let rescues = self.board.rescues.load(Relaxed).checked_sub(rescued_before.max(1));
        Ok(Takeover { nanoseconds, rescues })
    }

    /// The time that a victim may need for its memory on a busy machine.
    fn time_to_touch(&self) -> Duration {
        Duration::from_secs((self.memory / SLOWEST) as u64)
    }

    fn start_victim(&self) -> io::Result<Child> {
        let arguments = [
            ("lock", self.name.to_string()),
            ("address", self.address.clone()),
            ("board", self.board.address()),
            ("cpu", self.pair.second.to_string()),
            ("number", self.number.to_string()),
            ("memory", self.memory.to_string()),
            ("huge", self.huge_pages.to_string()),
        ];
        Child::start(VICTIM, &arguments)
    }
}

fn check_memory(memory: usize) -> io::Result<()> {
    let (needed, available) = (memory as u64 + HEADROOM, proc::memory_available()?);
    if needed <= available {
        return Ok(());
    }
    let message = format!("a victim needs {} MiB, and {} MiB are available", needed >> 20, available >> 20);
    Err(io::Error::new(io::ErrorKind::OutOfMemory, message))
}

/// Waits as a child with these orders.
///
/// # Errors
/// Unfit orders, or those of attaching and locking.
pub fn wait_as_told(orders: &Orders) -> io::Result<()> {
    (super::named(CONTENDERS, orders, "lock", |contender| contender.name)?.wait)(orders)
}

fn wait<L: RobustLock>(orders: &Orders) -> io::Result<()> {
    let lock = L::attach(orders.text("address")?)?;
    let board = SharedBox::<Board>::attach(orders.text("board")?)?;
    board.ready.set(1);
    let mut number = 0;
    loop {
        number = board.request.wait_for_change(number);
        board.entering.set(number);
        let takeover = lock.take_over(monotonic_ns)?;
        board.locked_at.store(takeover.stamp, Relaxed);
        board.owner_died.store(takeover.owner_died.into(), Relaxed);
        board.rescues.store(lock.rescues().map_or(0, |rescues| rescues + 1), Relaxed);
        board.done.set(number);
    }
}

/// Takes the lock as a child with these orders, and waits for its end.
///
/// # Errors
/// Unfit orders, or those of getting memory and of attaching.
pub fn fall_as_told(orders: &Orders) -> io::Result<()> {
    (super::named(CONTENDERS, orders, "lock", |contender| contender.name)?.fall)(orders)
}

fn fall<L: RobustLock>(orders: &Orders) -> io::Result<()> {
    let lock = L::attach(orders.text("address")?)?;
    let board = SharedBox::<Board>::attach(orders.text("board")?)?;
    let number = orders.number("number")?;
    touch_for_ever(orders.number("memory")?, orders.number("huge")?)?;
    board.huge_bytes.store(proc::own_huge_pages()?, Relaxed);
    let _held = lock.lock();
    board.held.set(number);
    loop {
        // SAFETY: `pause` takes nothing and touches no memory.
        unsafe { libc::pause() };
    }
}

/// Maps private memory and writes to all of its pages; it goes with the process.
fn touch_for_ever(bytes: usize, huge_pages: bool) -> io::Result<()> {
    // SAFETY: a new mapping at an address of the kernel's choice touches nothing that exists.
    let start = unsafe {
        libc::mmap(
            ptr::null_mut(),
            bytes,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    if start == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    let advice = if huge_pages { libc::MADV_HUGEPAGE } else { libc::MADV_NOHUGEPAGE };
    // SAFETY: exactly the mapping from above. A kernel without huge pages refuses, which is no
    // failure: the conditions state what the victim got.
    unsafe { libc::madvise(start, bytes, advice) };
    for offset in (0..bytes).step_by(SMALLEST_PAGE) {
        // SAFETY: within the mapping from above, which nobody else knows of.
        unsafe { start.cast::<u8>().add(offset).write_volatile(1) };
    }
    Ok(())
}
