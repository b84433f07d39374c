//! The first attachment of a process to a region that many take part in.
//!
//! Each of them is a process with a keeper of its own. The name is removed by a janitor, as in [`open`](super::open).

use std::io;
use std::time::Instant;

use shmkit::RegionOptions;

use super::open::Newcomer;
use crate::figure::{Figure, Figures};
use crate::janitor::{self, Janitor};
use crate::pin::Pair;
use crate::progress;
use crate::stats::{self, Candidate, Plan};

/// How many take part when one comes.
pub const PARTICIPANTS: [usize; 4] = [1, 10, 100, 1000];

const SIZE: usize = 64 << 10;
/// Slots besides those for the participants that are there.
const SPARE: usize = 24;
/// How many are started at once: one by one, a thousand would take most of a minute.
const AT_ONCE: usize = 64;

/// How to run the case.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The rounds; each takes one sample.
    pub plan: Plan,
    /// No more participants than that.
    pub most: usize,
}

/// Lets one process after the other attach, while so many others are there.
///
/// # Errors
/// Those of making the region and of starting processes; `InvalidInput` for too few rounds.
pub fn run(settings: &Settings) -> io::Result<Figures> {
    stats::check_rounds(settings.plan.rounds)?;
    let name = janitor::own_name("attach");
    let _janitor = Janitor::start(std::slice::from_ref(&name))?;
    let pair = Pair::choose()?;
    let capacity = settings.most + SPARE;
    let mut options = RegionOptions::new();
    let region = options.participants(capacity as u32).create(&name, SIZE).map_err(io::Error::other)?;
    let mut figures = Vec::new();
    // This process is the first.
    let mut others = Crowd(Vec::new());
    let begun = Instant::now();
    for count in PARTICIPANTS.into_iter().filter(|&count| count <= settings.most) {
        let left = || settings.plan.budget.saturating_sub(begun.elapsed());
        while others.0.len() + 1 < count && !left().is_zero() {
            let first = others.0.len();
            for index in first..(first + AT_ONCE).min(count - 1) {
                // In turns on both: none of them does anything once it is there.
                others.0.push(Newcomer::launch(&name, 0, [pair.first, pair.second][index % 2])?);
            }
            others.0[first..].iter_mut().try_for_each(Newcomer::await_arrival)?;
            progress::step("starting participant", others.0.len() + 1, count);
        }
        if left().is_zero() {
            progress::note(&format!("{}: out of time before {count} participants", settings.plan.case));
            break;
        }
        let sample = || Ok(Newcomer::start(&name, 0, pair.second)?.time().as_secs_f64() * 1e6);
        let all =
            stats::interleave(&Plan { budget: left(), ..settings.plan.clone() }, vec![Candidate::new("", sample)])?;
        let times = all.into_iter().flat_map(|series| series.rounds).collect();
        let what = if count == 1 { "participant" } else { "participants" };
        figures.push(Figure::alone(format!("first attachment of a process, {count} {what}"), "us", times, []));
    }
    drop(others);
    drop(region);
    let conditions = format!(
        "Region::open of a region of 64 KiB with room for {capacity} participants, the only call in a new process, pinned to CPU {}; \
         all participants are processes that sleep",
        pair.second
    );
    Ok(Figures { figures, conditions })
}

/// Those who take part besides this process.
struct Crowd(Vec<Newcomer>);

impl Drop for Crowd {
    fn drop(&mut self) {
        // All at once: each that ends while others are there is noticed by all of them, which takes them longer than to end.
        for other in &mut self.0 {
            other.kill();
        }
        let all = self.0.len();
        for ended in 1..=all {
            self.0.pop();
            progress::step("ending participant", ended, all);
        }
    }
}
