//! Cases of one thread: something done again and again while nobody else wants it.

use std::io;
use std::time::{Duration, Instant};

use crate::figure::{Comparison, Figure, Figures};
use crate::pin;
use crate::stats::{self, Candidate, Plan};

const PROBE: u64 = 100_000;

/// A case of one thread.
#[derive(Debug)]
pub struct Solo {
    /// The name of the case, and of its group of criterion benches.
    pub name: &'static str,
    /// What one turn is.
    pub what: &'static str,
    /// The conditions besides those that all such cases have in common.
    pub conditions: &'static str,
    /// Makes all candidates; the first sets the number of turns.
    pub candidates: fn() -> io::Result<Vec<Turns>>,
    /// What is compared.
    pub rows: &'static [Comparison],
}

/// How to run a case.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The rounds; each takes one sample of every candidate.
    pub plan: Plan,
    /// About how long one sample of the first candidate takes; all do the same number of turns.
    pub sample: Duration,
}

/// A candidate: what it does in one turn, with a loop around it.
pub struct Turns {
    /// Its name in results.
    pub name: &'static str,
    time: Box<dyn Fn(u64) -> Duration>,
}

impl Turns {
    /// A candidate that does `turn` in each turn.
    ///
    /// Every `turn` is compiled into a loop of its own; it hides from the compiler what could be
    /// moved out of that.
    pub fn new(name: &'static str, turn: impl Fn() + 'static) -> Self {
        Turns { name, time: Box::new(move |turns| repeat(turns, &turn)) }
    }

    /// A candidate that has a loop of its own, here or in another process, and says how long that took.
    pub fn timed(name: &'static str, time: impl Fn(u64) -> Duration + 'static) -> Self {
        Turns { name, time: Box::new(time) }
    }

    /// Measures `turns` turns.
    pub fn time(&self, turns: u64) -> Duration {
        (self.time)(turns)
    }
}

#[inline(never)]
fn repeat(turns: u64, turn: &impl Fn()) -> Duration {
    let begin = Instant::now();
    for _ in 0..turns {
        turn();
    }
    begin.elapsed()
}

impl Solo {
    /// Measures all candidates in turn, on one CPU, in one thread.
    ///
    /// # Errors
    /// Those of making the candidates and of pinning; `InvalidInput` for too few rounds.
    pub fn run(&self, settings: &Settings) -> io::Result<Figures> {
        stats::check_rounds(settings.plan.rounds)?;
        // Before the thread is pinned: keepers serve later cases, too.
        let candidates = (self.candidates)()?;
        let cpu = pin::Pair::choose()?.first;
        let _pinned = pin::pin_to(cpu)?;
        let first = candidates.first().ok_or(io::ErrorKind::InvalidInput)?;
        first.time(PROBE);
        let per_turn = first.time(PROBE).as_secs_f64() / PROBE as f64;
        let turns = ((settings.sample.as_secs_f64() / per_turn) as u64).max(1);
        let contestants = candidates.iter().map(|candidate| {
            Candidate::new(candidate.name, || Ok(candidate.time(turns).as_secs_f64() * 1e9 / turns as f64))
        });
        let all = stats::interleave(&settings.plan, contestants.collect())?;
        let conditions = format!("one thread pinned to CPU {cpu}; {turns} turns per sample; {}", self.conditions);
        Ok(Figures { figures: vec![Figure::of_rounds(self.what, "ns", all, self.rows)], conditions })
    }
}
