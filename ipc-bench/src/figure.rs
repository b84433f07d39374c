//! What a case has measured, and what of it is compared with what: the one form that every case gives
//! and the report prints.

use std::fmt::{self, Display, Formatter};

use hdrhistogram::Histogram;

use crate::stats::{self, Series};

/// The name under which our own takes part.
pub const SUBJECT: &str = "shmkit";
/// The same where it always looks for a while before it sleeps.
pub const ALWAYS: &str = "shmkit, always looking";
/// The same where it sleeps at once.
pub const NEVER: &str = "shmkit, never looking";

/// What a figure must reach.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Target {
    /// The ratio to the peer, or the figure where there is no peer, may not be larger.
    AtMost(f64),
    /// The same may not be smaller.
    AtLeast(f64),
}

impl Target {
    /// Whether `figure` is good enough.
    pub fn is_met_by(self, figure: f64) -> bool {
        match self {
            Target::AtMost(limit) => figure <= limit,
            Target::AtLeast(limit) => figure >= limit,
        }
    }
}

impl Display for Target {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Target::AtMost(limit) => write!(f, "<= {limit:.2}"),
            Target::AtLeast(limit) => write!(f, ">= {limit:.2}"),
        }
    }
}

/// A candidate of a case, and another one that is the measure for it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Comparison {
    /// Which of ours.
    pub ours: &'static str,
    /// The peer; `None`: the figure counts by itself.
    pub peer: Option<&'static str>,
    /// `None`: reported only.
    pub target: Option<Target>,
}

impl Comparison {
    /// With a ratio of costs that may not be larger than `limit`.
    pub const fn at_most(peer: &'static str, limit: f64) -> Self {
        Comparison { ours: SUBJECT, peer: Some(peer), target: Some(Target::AtMost(limit)) }
    }

    /// With a ratio of rates that may not be smaller than `limit`.
    pub const fn at_least(peer: &'static str, limit: f64) -> Self {
        Comparison { ours: SUBJECT, peer: Some(peer), target: Some(Target::AtLeast(limit)) }
    }

    /// Without a target.
    pub const fn listed(peer: &'static str) -> Self {
        Comparison { ours: SUBJECT, peer: Some(peer), target: None }
    }

    /// Our figure by itself, which may not be larger than `limit`.
    pub const fn alone_at_most(limit: f64) -> Self {
        Comparison { ours: SUBJECT, peer: None, target: Some(Target::AtMost(limit)) }
    }

    /// Our figure by itself, which may not be smaller than `limit`.
    pub const fn alone_at_least(limit: f64) -> Self {
        Comparison { ours: SUBJECT, peer: None, target: Some(Target::AtLeast(limit)) }
    }

    /// The same for another one of ours.
    pub const fn of(self, ours: &'static str) -> Self {
        Comparison { ours, ..self }
    }
}

/// How many samples become one number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Statistic {
    /// The median; ratios are formed within each round, and the ratio is the median of these.
    Median,
    /// A percentile; the ratio is that of the percentiles. For samples that belong to no round.
    Percentile(f64),
    /// The sum.
    Sum,
}

impl Statistic {
    /// The number that stands for `samples`.
    pub fn of(self, samples: &[f64]) -> Option<f64> {
        match self {
            Statistic::Median => stats::median(samples),
            Statistic::Percentile(percent) => stats::percentile(samples, percent),
            Statistic::Sum => Some(samples.iter().sum()),
        }
    }

    /// The ratio of `ours` to `theirs`.
    pub fn ratio(self, ours: &[f64], theirs: &[f64]) -> Option<f64> {
        match self {
            Statistic::Median => stats::ratio_per_round(ours, theirs),
            Statistic::Percentile(_) | Statistic::Sum => Some(self.of(ours)? / self.of(theirs)?),
        }
    }
}

/// How long the single turns of a candidate took, or the deaths that it was told of.
#[derive(Debug, Clone)]
pub struct Distribution {
    /// The candidate.
    pub name: &'static str,
    /// In nanoseconds.
    pub histogram: Histogram<u64>,
}

impl Distribution {
    /// An empty histogram of three significant digits, for up to an hour.
    pub fn empty() -> Histogram<u64> {
        Histogram::new_with_bounds(1, 3600 * 1_000_000_000, 3).expect("such bounds are possible")
    }

    /// Those of `nanoseconds`.
    pub fn of(name: &'static str, nanoseconds: impl IntoIterator<Item = u64>) -> Self {
        let mut histogram = Self::empty();
        for time in nanoseconds {
            histogram.saturating_record(time);
        }
        Distribution { name, histogram }
    }
}

/// One quantity of all candidates.
#[derive(Debug, Clone)]
pub struct Figure {
    /// What was measured.
    pub name: String,
    /// The unit of the samples.
    pub unit: &'static str,
    /// The samples of each candidate.
    pub all: Vec<Series<f64>>,
    /// What becomes of them.
    pub statistic: Statistic,
    /// The lines of the table.
    pub rows: Vec<Comparison>,
    /// Where the figure is a latency: all single ones, of candidates for which they are known.
    pub distributions: Vec<Distribution>,
}

impl Figure {
    /// A figure whose ratios are medians of ratios within rounds.
    pub fn of_rounds(
        name: impl Into<String>,
        unit: &'static str,
        all: Vec<Series<f64>>,
        rows: impl Into<Vec<Comparison>>,
    ) -> Self {
        let (name, rows) = (name.into(), rows.into());
        Figure { name, unit, all, statistic: Statistic::Median, rows, distributions: Vec::new() }
    }

    /// A figure of ours alone.
    pub fn alone(
        name: impl Into<String>,
        unit: &'static str,
        samples: Vec<f64>,
        rows: impl Into<Vec<Comparison>>,
    ) -> Self {
        Figure::of_rounds(name, unit, vec![Series { name: SUBJECT, rounds: samples }], rows)
    }

    /// The same with another statistic.
    pub fn with(self, statistic: Statistic) -> Self {
        Figure { statistic, ..self }
    }

    /// The same with all single latencies.
    pub fn with_distributions(self, distributions: Vec<Distribution>) -> Self {
        Figure { distributions, ..self }
    }

    /// What was measured, without the percentile that the figure is.
    pub fn quantity(&self) -> &str {
        match self.statistic {
            Statistic::Percentile(_) => self.name.rsplit_once(',').map_or(&*self.name, |(quantity, _)| quantity),
            Statistic::Median | Statistic::Sum => &self.name,
        }
    }

    /// Whether more is better: for all that is a rate or a share.
    pub fn is_rate(&self) -> bool {
        self.unit.ends_with("/s") || self.unit == "%"
    }
}

/// All figures of a case.
#[derive(Debug, Clone)]
pub struct Figures {
    /// In the order of the table.
    pub figures: Vec<Figure>,
    /// The conditions that they were taken under.
    pub conditions: String,
}
