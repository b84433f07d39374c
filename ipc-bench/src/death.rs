//! Cases of a process that is killed while others wait for what it has: from SIGKILL until the last
//! of them knows.
//!
//! One kill: a new victim takes what it is to die with, and says so in shared memory; all peers, other
//! processes, begin to wait for it, and are seen asleep; the controller reads the clock, kills, and
//! sleeps; each peer reads the clock as soon as it knows. Then the controller mends what is left.
//! Peers are on two CPUs in turns, the last one on that of the controller, the victim on the other; keepers
//! are pinned with their processes. Whoever is woken on the CPU of the victim shares it with the victim, which has
//! yet to end.

use std::io;
use std::rc::Rc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crate::cases::named;
use crate::child::{Child, Orders};
use crate::clock::monotonic_ns;
use crate::figure::{Comparison, Distribution, Figure, Figures, Statistic};
use crate::pin::{self, Pair};
use crate::proc;
use crate::shared::{SharedBox, SharedLayout};
use crate::signal::Signal;
use crate::stats::{self, Candidate, Plan, Series};
use crate::team::Place;

/// The role of those who wait.
pub const PEER: &str = "death-peer";
/// The role of those who die.
pub const VICTIM: &str = "death-victim";

/// The most processes that wait.
pub const MOST: usize = 64;

const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// Something that a process can die with, and others learn of.
pub trait Mortal: Place {
    /// Takes what the others are going to wait for; it is never given back.
    fn hold(&self);

    /// Waits until the death of the holder is known, calls `stamp` at once, and gives back what there
    /// may be to give back, but mends nothing.
    ///
    /// # Errors
    /// When the wait ends otherwise.
    fn learn(&self, stamp: impl FnOnce()) -> io::Result<()>;

    /// Makes all as it was, when everybody knows.
    ///
    /// # Errors
    /// When that cannot be done.
    fn mend(&self) -> io::Result<()>;

    /// Returns how many waits were rescued by a periodic re-check, in all processes so far; 0 where there is
    /// no such net.
    fn rescues(&self) -> u64 {
        0
    }
}

/// A candidate, with a number of peers.
pub struct Entry {
    /// Its name in results.
    pub name: &'static str,
    peers: usize,
    beside_the_victim: bool,
    create: fn(usize) -> io::Result<Stage>,
    wait: fn(&Orders) -> io::Result<()>,
    fall: fn(&Orders) -> io::Result<()>,
}

struct Stage {
    address: String,
    mend: Box<dyn Fn() -> io::Result<()>>,
    rescues: Box<dyn Fn() -> u64>,
}

impl Entry {
    /// Makes `M` take part with `peers` processes that wait.
    pub const fn of<M: Mortal>(name: &'static str, peers: usize) -> Self {
        assert!(peers <= MOST, "a desk for each");
        Entry { name, peers, beside_the_victim: false, create: Stage::of::<M>, wait: wait::<M>, fall: fall::<M> }
    }

    /// The same with all peers on the CPU of the victim, which they keep from its end, and it them.
    pub const fn beside_the_victim(self) -> Self {
        Entry { beside_the_victim: true, ..self }
    }
}

impl Stage {
    fn of<M: Mortal>(peers: usize) -> io::Result<Self> {
        let place = Rc::new(M::create(peers)?);
        let same = Rc::clone(&place);
        Ok(Stage {
            address: place.address(),
            mend: Box::new(move || place.mend()),
            rescues: Box::new(move || same.rescues()),
        })
    }
}

/// A case of a death.
pub struct Death {
    /// The name of the case, and of its group of criterion benches.
    pub name: &'static str,
    /// Who is killed.
    pub what: &'static str,
    /// The candidates.
    pub entries: &'static [Entry],
    /// What is compared of the 99th percentiles.
    pub rows: &'static [Comparison],
}

/// One kill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mourning {
    /// From just before `kill` until the last peer knew.
    pub nanoseconds: u64,
    /// Waits of the peers that a periodic re-check rescued.
    pub rescues: u64,
}

impl Death {
    /// Kills one victim of each candidate in each round.
    ///
    /// # Errors
    /// Those of starting processes, or of one that ends or does not answer.
    pub fn run(&self, plan: &Plan) -> io::Result<Figures> {
        let mut scenes = Vec::new();
        for entry in self.entries {
            scenes.push((entry.name, Scene::start(self, entry)?));
        }
        let candidates = scenes.iter_mut().map(|(name, scene)| Candidate::new(name, || scene.kill()));
        let kills = stats::interleave(plan, candidates.collect())?;
        let microseconds: Vec<_> = kills.iter().map(|all| all.map(|kill| kill.nanoseconds as f64 / 1e3)).collect();
        let time = |what: &str, percent: f64, rows: &[Comparison]| {
            let name = format!("{} killed, {what}", self.what);
            Figure::of_rounds(name, "us", microseconds.clone(), rows).with(Statistic::Percentile(percent))
        };
        let listed: Vec<_> = self.rows.iter().map(|row| Comparison { target: None, ..*row }).collect();
        let rescues = kills.iter().map(|all| all.map(|kill| kill.rescues as f64)).collect();
        let judged = self.rows.iter().filter(|row| row.target.is_some());
        let none: Vec<_> = judged.map(|row| Comparison::alone_at_most(0.0).of(row.ours)).collect();
        let rescues = Figure::of_rounds(format!("{} killed, rescues", self.what), "", rescues, none);
        let all = |series: &Series<Mourning>| {
            Distribution::of(series.name, series.rounds.iter().map(|kill| kill.nanoseconds))
        };
        let figures = vec![
            time("p99", 99.0, self.rows).with_distributions(kills.iter().map(all).collect()),
            time("median", 50.0, &listed),
            time("longest", 100.0, &[]),
            rescues.with(Statistic::Sum),
        ];
        let conditions = format!(
            "{} kills of each; until the last peer knows; {}, peers and their keepers in turns, the last one and the controller \
             on the first, the victim on the second; the peers were seen asleep before each kill",
            kills.first().map_or(0, |series| series.rounds.len()),
            Pair::choose()?.describe(),
        );
        Ok(Figures { figures, conditions })
    }

    /// Waits as a child with these orders.
    ///
    /// # Errors
    /// Unfit orders, or those of attaching and waiting.
    pub fn wait_as_told(&self, orders: &Orders) -> io::Result<()> {
        (self.entry(orders)?.wait)(orders)
    }

    /// Takes what the others wait for as a child with these orders, and waits for its end.
    ///
    /// # Errors
    /// Unfit orders, or those of attaching.
    pub fn fall_as_told(&self, orders: &Orders) -> io::Result<()> {
        (self.entry(orders)?.fall)(orders)
    }

    fn entry(&self, orders: &Orders) -> io::Result<&Entry> {
        named(self.entries, orders, "entry", |entry| entry.name)
    }
}

/// What controller, peers and victims share besides the candidate.
#[repr(C)]
struct Board {
    /// The kill that the peers shall wait for; written by the controller.
    request: Signal,
    /// The kill whose victim has what it is to die with.
    held: Signal,
    desks: [Desk; MOST],
}

/// Written by one peer only.
#[repr(C, align(128))]
struct Desk {
    /// The kill that the peer is about to wait for.
    entering: Signal,
    /// The kill that it has learned of.
    done: Signal,
    /// When it knew.
    known_at: AtomicU64,
}

// SAFETY: repr(C) of atomics, for which zero is a value.
unsafe impl SharedLayout for Board {}

/// A candidate with its peers, which are asleep between kills.
pub struct Scene {
    peers: Vec<Child>,
    board: SharedBox<Board>,
    stage: Stage,
    case: &'static str,
    entry: &'static str,
    pair: Pair,
    number: u32,
}

impl Scene {
    /// Starts the peers.
    ///
    /// # Errors
    /// Those of starting the processes.
    pub fn start(case: &Death, entry: &Entry) -> io::Result<Self> {
        let pair = Pair::choose()?;
        let stage = (entry.create)(entry.peers)?;
        let board = SharedBox::create()?;
        let mut scene = Scene { peers: Vec::new(), board, stage, case: case.name, entry: entry.name, pair, number: 0 };
        for desk in 0..entry.peers {
            let is_second = entry.beside_the_victim || (entry.peers - 1 - desk) % 2 == 1;
            let cpu = if is_second { scene.pair.second } else { scene.pair.first };
            let peer = scene.child(PEER, cpu, [("desk", desk.to_string())])?;
            scene.peers.push(peer);
        }
        Ok(scene)
    }

    fn child<const N: usize>(
        &self,
        role: &'static str,
        cpu: usize,
        further: [(&'static str, String); N],
    ) -> io::Result<Child> {
        let mut arguments = vec![
            ("case", self.case.to_string()),
            ("entry", self.entry.to_string()),
            ("address", self.stage.address.clone()),
            ("board", self.board.address()),
            ("cpu", cpu.to_string()),
        ];
        arguments.extend(further);
        Child::start(role, &arguments)
    }

    /// Kills one victim that all peers wait for.
    ///
    /// # Errors
    /// When a process ends or does not answer, or a peer knows before the kill.
    pub fn kill(&mut self) -> io::Result<Mourning> {
        let _pinned = pin::pin_to(self.pair.first)?;
        self.number += 1;
        let number = self.number;
        let mut victim = self.child(VICTIM, self.pair.second, [("number", number.to_string())])?;
        victim.await_signal(&self.board.held, number, ANSWER_WITHIN)?;
        let rescued_before = (self.stage.rescues)();
        self.board.request.set(number);
        for (peer, desk) in self.peers.iter_mut().zip(&self.board.desks) {
            peer.await_signal(&desk.entering, number, ANSWER_WITHIN)?;
            proc::wait_until_asleep(peer.pid(), ANSWER_WITHIN)?;
        }
        let killed_at = victim.kill()?;
        let mut last = 0;
        for (peer, desk) in self.peers.iter_mut().zip(&self.board.desks) {
            peer.await_signal(&desk.done, number, ANSWER_WITHIN)?;
            let known_at = desk.known_at.load(Relaxed);
            if known_at < killed_at {
                return Err(io::Error::other(format!("{}: a peer knew before the kill", self.entry)));
            }
            last = last.max(known_at - killed_at);
        }
        victim.reap()?;
        (self.stage.mend)()?;
        Ok(Mourning { nanoseconds: last, rescues: (self.stage.rescues)() - rescued_before })
    }
}

fn wait<M: Mortal>(orders: &Orders) -> io::Result<()> {
    let place = M::attach(orders.text("address")?)?;
    let board = SharedBox::<Board>::attach(orders.text("board")?)?;
    let desk = &board.desks[orders.number::<usize>("desk")?];
    let mut number = 0;
    loop {
        number = board.request.wait_for_change(number);
        desk.entering.set(number);
        place.learn(|| desk.known_at.store(monotonic_ns(), Relaxed))?;
        desk.done.set(number);
    }
}

fn fall<M: Mortal>(orders: &Orders) -> io::Result<()> {
    let place = M::attach(orders.text("address")?)?;
    let board = SharedBox::<Board>::attach(orders.text("board")?)?;
    place.hold();
    board.held.set(orders.number("number")?);
    loop {
        // SAFETY: `pause` takes nothing and touches no memory.
        unsafe { libc::pause() };
    }
}
