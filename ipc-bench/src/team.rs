//! Cases of several processes that do something together: hand over to one another, read side by side, meet.
//!
//! Each candidate has a team of its own: child processes that sleep between rounds. In a round all
//! members do the same number of turns; each reads the clock before its first and after its last.

use std::any::Any;
use std::cell::RefCell;
use std::io;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::Duration;

use hdrhistogram::Histogram;
use shmkit::spin::{self, Spinning};

use crate::cases::named;
use crate::child::{Child, Orders};
use crate::clock::monotonic_ns;
use crate::distance::Distance;
use crate::figure::{Comparison, Distribution, Figure, Figures, SUBJECT};
use crate::pin::Pair;
use crate::shared::{SharedBox, SharedLayout};
use crate::signal::Signal;
use crate::solo::Settings;
use crate::stats::{self, Candidate, Series};

/// The role of the children.
pub const MEMBER: &str = "team-member";
/// The most members of a team.
pub const MOST: usize = 16;

/// Against hanging: whoever has not finished its turns by then never will.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);
/// How many rounds a sample takes, about.
const ROUNDS: f64 = 8.0;
/// The most turns of a round in which each is timed by itself.
const SINGLE_TURNS: usize = 1 << 14;
/// Such rounds take this part of the time that a sample takes, besides that.
const SHARE_OF_SINGLE_TURNS: u32 = 4;

/// What a team needs to find each other.
pub trait Place: Sized + 'static {
    /// Makes what `members` members use.
    ///
    /// # Errors
    /// Those of getting shared memory; `Unsupported` if this machine does not have the candidate, which then
    /// does not take part.
    fn create(members: usize) -> io::Result<Self>;

    /// Returns where children of this process find it, as long as `self` lives.
    fn address(&self) -> String;

    /// Attaches to what lies at `address` of the parent.
    ///
    /// # Errors
    /// Those of mapping the memory.
    fn attach(address: &str) -> io::Result<Self>;
}

/// What the members of a team do.
pub trait Play: Place {
    /// Whether a single turn of the first member tells something by its time: how long it had to wait for others.
    const IS_LATENCY: bool = false;

    /// Does what is to be done before each round and does not count.
    ///
    /// # Panics
    /// If that is not possible.
    fn prepare(&self, _: Seat) {}

    /// Does `turns` turns in the place of `seat`.
    ///
    /// # Panics
    /// If the candidate reports an error that no measured case can cause.
    fn play(&self, seat: Seat, turns: u64);

    /// Does the same, and calls `done` after each turn: for the first member, while the others [`play`](Self::play).
    ///
    /// # Panics
    /// As [`play`](Self::play).
    fn play_singly(&self, seat: Seat, turns: u64, done: &mut dyn FnMut()) {
        for _ in 0..turns {
            self.play(seat, 1);
            done();
        }
    }
}

/// Who a member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seat {
    /// Counted from 0.
    pub member: usize,
    /// How many members there are.
    pub members: usize,
    /// The first two CPUs of the team: for a candidate that has to do it all in one process.
    pub cpus: [usize; 2],
}

/// A candidate.
pub struct Entry {
    /// Its name in results.
    pub name: &'static str,
    spinning: Spinning,
    pub(crate) is_latency: bool,
    create: fn(usize) -> io::Result<Stage>,
    play: fn(&Orders) -> io::Result<()>,
}

struct Stage {
    address: String,
    // Keeps the memory for those who come by its address.
    _kept: Box<dyn Any>,
}

impl Entry {
    /// Makes `P` take part.
    pub const fn of<P: Play>(name: &'static str) -> Self {
        Entry { name, spinning: Spinning::Adaptive, is_latency: P::IS_LATENCY, create: Stage::of::<P>, play: play::<P> }
    }

    /// Returns whether this machine has it.
    ///
    /// # Errors
    /// Those of making it.
    pub fn is_here(&self, members: usize) -> io::Result<bool> {
        match (self.create)(members) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The same with another way of waiting, for ours.
    pub const fn with(self, spinning: Spinning) -> Self {
        Entry { spinning, ..self }
    }
}

impl Stage {
    fn of<P: Play>(members: usize) -> io::Result<Self> {
        let place = P::create(members)?;
        Ok(Stage { address: place.address(), _kept: Box::new(place) })
    }
}

/// Where the members run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cpus {
    /// All on one.
    One,
    /// In turns on two.
    Two,
    /// Wherever the kernel puts them on two.
    Either,
}

impl Cpus {
    fn of(self, pair: &Pair, member: usize) -> Vec<usize> {
        match self {
            Cpus::One => vec![pair.first],
            Cpus::Two => vec![[pair.first, pair.second][member % 2]],
            Cpus::Either => vec![pair.first, pair.second],
        }
    }

    fn describe(self, pair: &Pair, members: usize) -> String {
        match self {
            Cpus::One => format!("{members} processes pinned to CPU {}", pair.first),
            Cpus::Two => format!("{members} processes pinned to {}, in turns", pair.describe()),
            Cpus::Either => format!("{members} processes on {}, wherever the kernel puts them", pair.describe()),
        }
    }
}

/// What the figure of a case is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// The time from the first to begin to the last to end, by the turns of one member.
    Whole,
    /// That time by the messages of a turn, which are so many.
    PerMessage(u64),
    /// So many bytes a turn by that time.
    Bytes(u64),
    /// The turns of each member in a second of its own.
    EachRate,
}

/// A case of several processes.
pub struct Game {
    /// The name of the case, and of its group of criterion benches.
    pub name: &'static str,
    /// What one turn is.
    pub what: &'static str,
    /// The conditions besides those that all such cases have in common.
    pub conditions: &'static str,
    /// How many processes.
    pub members: usize,
    /// Where they run.
    pub cpus: Cpus,
    /// What is measured.
    pub measure: Measure,
    /// The candidates.
    pub entries: &'static [Entry],
    /// What is compared.
    pub rows: &'static [Comparison],
}

impl Game {
    /// Measures all candidates in turn.
    ///
    /// # Errors
    /// Those of starting the processes, or of a process that ends or does not answer; `InvalidInput`
    /// for too few rounds.
    pub fn run(&self, settings: &Settings) -> io::Result<Figures> {
        stats::check_rounds(settings.plan.rounds)?;
        let pair = Pair::choose()?;
        if self.cpus == Cpus::Two && pair.first == pair.second {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "it needs two CPUs, and may use only one"));
        }
        let mut teams = Vec::new();
        let mut absent = String::new();
        for entry in self.entries {
            if entry.is_here(self.members)? {
                let mut team = Team::start(self, entry)?;
                team.sample(settings.sample)?;
                teams.push((entry.name, team));
            } else {
                absent.push_str(&format!("; {} is not on this machine", entry.name));
            }
        }
        let distance = RefCell::new(Distance::default());
        let candidates = teams.iter_mut().map(|(name, team)| {
            Candidate::new(name, || {
                if *name == SUBJECT && pair.first != pair.second && self.cpus != Cpus::One {
                    distance.borrow_mut().measure(&pair)?;
                }
                let sample = team.sample(settings.sample)?;
                team.time_single_turns(settings.sample / SHARE_OF_SINGLE_TURNS)?;
                Ok(sample)
            })
        });
        let rounds = stats::interleave(&settings.plan, candidates.collect())?;
        let distributions = teams.into_iter().filter_map(|(name, team)| {
            let histogram = team.latencies?;
            Some(Distribution { name, histogram })
        });
        let distributions = distributions.collect();
        let mut figures = match self.measure {
            Measure::Whole => vec![self.figure("ns", &rounds, Sample::cost)],
            Measure::PerMessage(count) => vec![self.figure("ns", &rounds, |sample| sample.cost() / count as f64)],
            Measure::Bytes(count) => vec![self.figure("MB/s", &rounds, |sample| count as f64 * 1e3 / sample.cost())],
            Measure::EachRate => (0..self.members)
                .map(|member| {
                    let rate = |sample: &Sample| sample.turns as f64 * 1e3 / sample.each[member];
                    let all = rounds.iter().map(|series| series.map(rate)).collect();
                    Figure::of_rounds(format!("{}, process {}", self.what, member + 1), "M/s", all, self.rows)
                })
                .collect(),
        };
        if let Some(first) = figures.first_mut() {
            first.distributions = distributions;
        }
        let conditions = format!(
            "{}{}; about {:?} per sample; {}{absent}",
            self.cpus.describe(&pair, self.members),
            distance.borrow().describe(),
            settings.sample,
            self.conditions
        );
        Ok(Figures { figures, conditions })
    }

    fn figure(&self, unit: &'static str, rounds: &[Series<Sample>], number: impl Fn(&Sample) -> f64) -> Figure {
        let all = rounds.iter().map(|series| series.map(&number));
        Figure::of_rounds(self.what, unit, all.collect::<Vec<_>>(), self.rows)
    }

    /// Plays as a child with these orders.
    ///
    /// # Errors
    /// Unfit orders, or those of attaching.
    pub fn play_as_told(&self, orders: &Orders) -> io::Result<()> {
        let entry = named(self.entries, orders, "entry", |entry| entry.name)?;
        spin::set_spinning(entry.spinning);
        (entry.play)(orders)
    }
}

/// What controller and members share besides the candidate.
#[repr(C)]
struct Board {
    /// The round to play; written by the controller.
    round: Signal,
    /// How many turns a round has; written before `round`.
    turns: AtomicU64,
    /// 1 if the first member shall time each turn by itself; written before `round`.
    singly: AtomicU64,
    /// How long each turn took then, in nanoseconds; written by the first member.
    times: [AtomicU64; SINGLE_TURNS],
    desks: [Desk; MOST],
}

/// Written by one member only.
#[repr(C, align(128))]
struct Desk {
    /// The last round that this member was ready for.
    ready: Signal,
    /// The last round that this member has ended.
    done: Signal,
    /// When it began that.
    begin_ns: AtomicU64,
    /// When it ended that.
    end_ns: AtomicU64,
}

// SAFETY: repr(C) of atomics, for which zero is a value.
unsafe impl SharedLayout for Board {}

/// What some rounds of a team showed.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// The turns of each member.
    turns: u64,
    /// From the first beginning to the last end in each round, in nanoseconds.
    whole: f64,
    /// The time that each member took for its turns, in nanoseconds.
    each: Vec<f64>,
}

impl Sample {
    /// The time that all need for one turn of each, in nanoseconds.
    pub fn cost(&self) -> f64 {
        self.whole / self.turns as f64
    }
}

/// The processes of one candidate, asleep between rounds.
pub struct Team {
    members: Vec<Child>,
    board: SharedBox<Board>,
    round: u32,
    /// How many turns the next round has.
    turns: u64,
    /// Of single turns, so far; `None` where these tell nothing.
    latencies: Option<Histogram<u64>>,
    _stage: Stage,
}

impl Team {
    /// Starts the members.
    ///
    /// # Errors
    /// Those of starting the processes.
    pub fn start(game: &Game, entry: &Entry) -> io::Result<Self> {
        let pair = Pair::choose()?;
        let board = SharedBox::<Board>::create()?;
        let stage = (entry.create)(game.members)?;
        let list = |cpus: &[usize]| cpus.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
        let start = |member: usize| {
            let arguments = [
                ("case", game.name.to_string()),
                ("entry", entry.name.to_string()),
                ("address", stage.address.clone()),
                ("board", board.address()),
                ("member", member.to_string()),
                ("members", game.members.to_string()),
                ("first", list(&game.cpus.of(&pair, 0)[..1])),
                ("second", list(&game.cpus.of(&pair, 1)[..1])),
                ("cpu", list(&game.cpus.of(&pair, member))),
            ];
            Child::start(MEMBER, &arguments)
        };
        let members = (0..game.members).map(start).collect::<io::Result<_>>()?;
        let latencies = entry.is_latency.then(Distribution::empty);
        Ok(Team { members, board, round: 0, turns: 1, latencies, _stage: stage })
    }

    /// Lets all members play for about `length`.
    ///
    /// That takes several rounds, each as long as those before suggest: how long a turn takes may depend on
    /// whether they wait for one another awake or asleep, and change by a factor of a hundred meanwhile.
    ///
    /// # Errors
    /// When a member ends or does not answer.
    pub fn sample(&mut self, length: Duration) -> io::Result<Sample> {
        let wanted = length.as_nanos() as f64;
        let mut sample = Sample { turns: 0, whole: 0.0, each: vec![0.0; self.members.len()] };
        while sample.whole < wanted {
            let spans = self.round(self.turns, false)?;
            let begin = spans.iter().map(|span| span.begin_ns).min().unwrap_or(0);
            let end = spans.iter().map(|span| span.end_ns).max().unwrap_or(0);
            let whole = (end - begin) as f64;
            sample.turns += self.turns;
            sample.whole += whole;
            for (sum, span) in sample.each.iter_mut().zip(&spans) {
                *sum += (span.end_ns - span.begin_ns) as f64;
            }
            let suggested = self.turns as f64 * wanted / ROUNDS / whole;
            self.turns = (suggested as u64).clamp(1, self.turns * 4);
        }
        Ok(sample)
    }

    /// Lets all members play for about `length` while the first reads the clock after each turn, if that tells
    /// anything.
    ///
    /// # Errors
    /// As for [`sample`](Self::sample).
    fn time_single_turns(&mut self, length: Duration) -> io::Result<()> {
        let Some(mut latencies) = self.latencies.take() else { return Ok(()) };
        let mut left = length.as_nanos() as i128;
        while left > 0 {
            let turns = self.turns.min(SINGLE_TURNS as u64);
            self.round(turns, true)?;
            for time in &self.board.times[..turns as usize] {
                let time = time.load(Relaxed);
                latencies.saturating_record(time);
                left -= i128::from(time);
            }
        }
        self.latencies = Some(latencies);
        Ok(())
    }

    fn round(&mut self, turns: u64, singly: bool) -> io::Result<Vec<Span>> {
        self.round += 1;
        self.board.turns.store(turns, Relaxed);
        self.board.singly.store(singly.into(), Relaxed);
        self.board.round.set(self.round);
        let mut spans = Vec::new();
        for (member, desk) in self.members.iter_mut().zip(&self.board.desks) {
            member.await_signal(&desk.done, self.round, ANSWER_WITHIN)?;
            spans.push(Span { begin_ns: desk.begin_ns.load(Relaxed), end_ns: desk.end_ns.load(Relaxed) });
        }
        Ok(spans)
    }
}

/// When a member has begun and ended a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    begin_ns: u64,
    end_ns: u64,
}

fn play<P: Play>(orders: &Orders) -> io::Result<()> {
    let place = P::attach(orders.text("address")?)?;
    let board = SharedBox::<Board>::attach(orders.text("board")?)?;
    let seat = Seat {
        member: orders.number("member")?,
        members: orders.number("members")?,
        cpus: [orders.number("first")?, orders.number("second")?],
    };
    let desk = &board.desks[seat.member];
    let mut round = 0;
    loop {
        round = board.round.wait_for_change(round);
        let turns = board.turns.load(Relaxed);
        place.prepare(seat);
        desk.ready.set(round);
        while board.desks[..seat.members].iter().any(|desk| desk.ready.value() != round) {
            thread::yield_now();
        }
        let begin = monotonic_ns();
        desk.begin_ns.store(begin, Relaxed);
        if seat.member == 0 && board.singly.load(Relaxed) == 1 {
            let (mut last, mut times) = (begin, board.times.iter());
            place.play_singly(seat, turns, &mut || {
                let now = monotonic_ns();
                times.next().expect("room for each turn").store(now - last, Relaxed);
                last = now;
            });
        } else {
            place.play(seat, turns);
        }
        desk.end_ns.store(monotonic_ns(), Relaxed);
        desk.done.set(round);
    }
}
