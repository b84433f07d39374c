//! Starting a process that does nothing, and waiting for its end.
//!
//! All candidates start this very program. The measure is the standard library's `Command`: nobody can do with less than a process that is
//! started and ends.

use std::io;
use std::process::Command;
use std::time::Instant;

use crate::child::ROLE;
use crate::figure::{Comparison, Distribution, Figure, Figures, SUBJECT};
#[cfg(feature = "peers")]
use crate::peers::temporary;
use crate::stats::{self, Candidate, Plan};

/// The role of a process that ends at once.
pub const NOTHING: &str = "nothing";

const COMMAND: &str = "std Command";
#[cfg(feature = "peers")]
const PROCSPAWN: &str = "procspawn";

const ROWS: &[Comparison] = &[
    Comparison::at_most(COMMAND, 1.3),
    #[cfg(feature = "peers")]
    Comparison::listed(PROCSPAWN),
];

/// The name of the case.
pub const NAME: &str = "process/spawn";

/// How to run the case.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The rounds; each takes one sample of everything.
    pub plan: Plan,
    /// How many processes a sample starts, one after the other.
    pub turns: u32,
}

/// Measures all candidates in turn.
///
/// # Errors
/// Those of starting processes and of waiting for them; `InvalidInput` for too few rounds.
pub fn run(settings: &Settings) -> io::Result<Figures> {
    stats::check_rounds(settings.plan.rounds)?;
    let turns = settings.turns.max(1);
    let all = stats::interleave(&settings.plan, candidates(turns)?)?;
    let conditions =
        format!("this program started by a process with one other thread, not pinned; {turns} turns per sample");
    let distributions = all.iter().map(|series| Distribution::of(series.name, series.rounds.iter().flatten().copied()));
    let distributions = distributions.collect();
    let means = all.iter().map(|series| series.map(|times| mean(times))).collect();
    let figure = Figure::of_rounds("process, spawn and join of an empty function", "us", means, ROWS);
    Ok(Figures { figures: vec![figure.with_distributions(distributions)], conditions })
}

/// All candidates, which start `turns` processes per sample, one after the other, and say how many nanoseconds each takes.
///
/// # Errors
/// Those of what they need.
pub fn candidates(turns: u32) -> io::Result<Vec<Candidate<'static, Vec<u64>>>> {
    #[cfg(feature = "peers")]
    temporary::claim()?;
    Ok(vec![
        candidate(COMMAND, turns, || Command::new("/proc/self/exe").env(ROLE, NOTHING).status().map(drop)),
        candidate(SUBJECT, turns, || {
            let process = shmkit::process::spawn(|_: ()| (), ()).map_err(io::Error::other)?;
            process.join().map_err(io::Error::other)
        }),
        #[cfg(feature = "peers")]
        candidate(PROCSPAWN, turns, || procspawn::spawn((), |()| ()).join().map_err(io::Error::other)),
    ])
}

/// The mean of so many nanoseconds, in microseconds.
pub fn mean(times: &[u64]) -> f64 {
    times.iter().sum::<u64>() as f64 / 1e3 / times.len() as f64
}

fn candidate(
    name: &'static str,
    turns: u32,
    turn: impl Fn() -> io::Result<()> + 'static,
) -> Candidate<'static, Vec<u64>> {
    let timed = move || {
        let begin = Instant::now();
        turn()?;
        Ok(begin.elapsed().as_nanos() as u64)
    };
    Candidate::new(name, move || (0..turns).map(|_| timed()).collect())
}
