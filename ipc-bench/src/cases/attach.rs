//! The first attachment of a process to a region that many take part in.
//!
//! Each of them is a process with a keeper of its own. The name is removed by a janitor, as in [`open`](super::open).

use std::io;

use shmkit::RegionOptions;

use super::open::Newcomer;
use crate::figure::{Figure, Figures};
use crate::janitor::{self, Janitor};
use crate::pin::Pair;
use crate::stats::{self, Plan};

/// How many take part when one comes.
pub const PARTICIPANTS: [usize; 4] = [1, 10, 100, 1000];

const SIZE: usize = 64 << 10;
/// Slots besides those for the participants that are there.
const SPARE: usize = 24;

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
    let mut others = Vec::new();
    for count in PARTICIPANTS.into_iter().filter(|&count| count <= settings.most) {
        while others.len() + 1 < count {
            // In turns on both: none of them does anything once it is there.
            let cpu = [pair.first, pair.second][others.len() % 2];
            others.push(Newcomer::start(&name, 0, cpu)?);
        }
        let sample = || Ok(Newcomer::start(&name, 0, pair.second)?.time().as_secs_f64() * 1e6);
        let all = stats::interleave(&settings.plan, vec![stats::Candidate::new("", sample)])?;
        let times = all.into_iter().flat_map(|series| series.rounds).collect();
        let what = if count == 1 { "participant" } else { "participants" };
        figures.push(Figure::alone(format!("first attachment of a process, {count} {what}"), "us", times, []));
    }
    drop(region);
    let conditions = format!(
        "Region::open of a region of 64 KiB with room for {capacity} participants, the only call in a new process, pinned to CPU {}; \
         all participants are processes that sleep",
        pair.second
    );
    Ok(Figures { figures, conditions })
}
