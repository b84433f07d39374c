//! The table of figures, and the rows that each case contributes to it.

use std::fmt::{self, Display, Formatter};

use crate::cases::contention::{Contention, Round};
use crate::cases::memory::Memory;
use crate::cases::open::{self, Open};
use crate::figure::{Comparison, Figure, Figures, SUBJECT, Target};
use crate::lock::LockUnderTest;
use crate::pthread::Plain;
use crate::stats::{self, Series};

/// One line of the table.
#[derive(Debug, Clone)]
struct Row {
    case: String,
    ours: Option<f64>,
    unit: &'static str,
    peer: Option<(&'static str, Option<f64>)>,
    ratio: Option<f64>,
    /// None: reported only.
    target: Option<Target>,
    /// Which of the conditions holds for it, counted from 1.
    conditions: usize,
}

impl Row {
    /// The figure that the target speaks of.
    fn judged(&self) -> Option<f64> {
        if self.peer.is_some() { self.ratio } else { self.ours }
    }

    fn cells(&self) -> [String; 7] {
        let value = |number: Option<f64>| number.map(|number| format!("{number:.2} {}", self.unit));
        let dash = || "-".to_string();
        let peer = self.peer.map(|(name, number)| format!("{name} {}", value(number).unwrap_or_else(dash)));
        let judged = self.judged().zip(self.target);
        let verdict = judged.map(|(figure, target)| if target.is_met_by(figure) { "met" } else { "MISSED" });
        [
            self.case.clone(),
            value(self.ours).unwrap_or_else(dash),
            peer.unwrap_or_else(dash),
            self.ratio.map_or_else(dash, |ratio| format!("{ratio:.3}")),
            self.target.map_or_else(dash, |target| target.to_string()),
            verdict.unwrap_or("-").to_string(),
            format!("[{}]", self.conditions),
        ]
    }
}

/// The table, all medians, and the conditions.
#[derive(Debug, Clone, Default)]
pub struct Report {
    rows: Vec<Row>,
    medians: Vec<String>,
    conditions: Vec<String>,
}

impl Report {
    /// Adds the figures of a case.
    pub fn add(&mut self, result: &Figures) {
        self.conditions.push(result.conditions.clone());
        for figure in &result.figures {
            for row in &figure.rows {
                self.compare(figure, row);
            }
            for series in &figure.all {
                let number = figure.statistic.of(&series.rounds).unwrap_or(f64::NAN);
                self.medians.push(format!("{}: {} {number:.2} {}", figure.name, series.name, figure.unit));
            }
        }
    }

    /// Adds the figures of two processes contending.
    pub fn add_contention(&mut self, result: &Contention) {
        self.conditions.push(result.conditions.clone());
        let case = "contended, time per section";
        let rate = |round: &Round| round.sections_per_second / 1e6;
        let cost = |round: &Round| 1e3 / rate(round);
        let all: Vec<_> = result.rounds.iter().map(|series| series.map(cost)).collect();
        self.compare(&Figure::of_rounds(case, "ns", all, []), &Comparison::at_most(Plain::NAME, 1.05));
        let share = |rounds: &Series<Round>| {
            rounds.rounds.iter().map(|round| round.weakest_share * 100.0).fold(f64::INFINITY, f64::min)
        };
        let inexact = |rounds: &Series<Round>| rounds.rounds.iter().filter(|round| !round.exact).count() as f64;
        let ours = result.rounds.iter().find(|series| series.name == SUBJECT);
        self.state("contended, weaker share in any 100 ms", ours.map(share), "%", Target::AtLeast(25.0));
        self.state("contended, rounds with a wrong count", ours.map(inexact), "", Target::AtMost(0.0));
        for series in &result.rounds {
            let rates: Vec<f64> = series.rounds.iter().map(rate).collect();
            let sleeps: Vec<f64> = series.rounds.iter().map(|round| round.sleeps_per_second).collect();
            self.medians.push(format!(
                "contended: {} {:.3} M sections/s, weaker share at least {:.1} %, {} rounds with a wrong count, \
                 {:.0} sleeps per second",
                series.name,
                middle(&rates),
                share(series),
                inexact(series),
                middle(&sleeps)
            ));
        }
    }

    /// Adds the figures of opening a region.
    pub fn add_open(&mut self, result: &Open) {
        self.conditions.push(result.conditions.clone());
        for series in &result.again {
            let case = format!("open, again, {}", series.name);
            self.state(&case, stats::median(&series.rounds), "us", Target::AtMost(100.0));
        }
        let [(smallest, _), .., (largest, _)] = open::SIZES;
        let rounds = |label| stats::numbers_of(&result.again, label, |us| *us).unwrap_or_default();
        let ratio = stats::ratio_per_round(&rounds(largest), &rounds(smallest));
        self.state(&format!("open, again, {largest} / {smallest}"), ratio, "x", Target::AtMost(1.2));
        for series in &result.further {
            self.state(&format!("open, further region, {}", series.name), stats::median(&series.rounds), "us", None);
        }
        for series in &result.first {
            self.state(&format!("open, first, {}", series.name), stats::median(&series.rounds), "us", None);
        }
        for (way, all) in [("again", &result.again), ("further", &result.further), ("first", &result.first)] {
            for series in all {
                let worst = stats::percentile(&series.rounds, 100.0).unwrap_or(f64::NAN);
                let median = middle(&series.rounds);
                self.medians.push(format!("open, {way}: {} {median:.1} us, slowest round {worst:.1} us", series.name));
            }
        }
    }

    /// Adds the figures of memory.
    pub fn add_memory(&mut self, result: &Memory) {
        self.conditions.push(result.conditions.clone());
        for region in &result.regions {
            let limit = 8.0 * 1024.0 + 128.0 * region.slots as f64;
            let case = format!("memory, region with {} slots", region.slots);
            self.state(&case, Some(region.bytes as f64), "B", Target::AtMost(limit));
        }
        let kibibytes = |bytes: u64| Some(bytes as f64 / 1024.0);
        self.state("memory, keeper's stack", kibibytes(result.stack), "KiB", Target::AtMost(64.0));
        self.state("memory, of that resident", kibibytes(result.stack_resident), "KiB", None);
        self.state("memory, guard of that stack", kibibytes(result.guard), "KiB", None);
    }

    fn compare(&mut self, figure: &Figure, row: &Comparison) {
        let samples = |name: &str| figure.all.iter().find(|series| series.name == name).map(|series| &*series.rounds);
        let number = |samples: Option<&[f64]>| samples.and_then(|samples| figure.statistic.of(samples));
        let (ours, theirs) = (samples(row.ours), row.peer.and_then(samples));
        let case = if row.ours == SUBJECT { figure.name.clone() } else { format!("{}: {}", figure.name, row.ours) };
        self.rows.push(Row {
            case,
            ours: number(ours),
            unit: figure.unit,
            peer: row.peer.map(|peer| (peer, number(theirs))),
            ratio: ours.zip(theirs).and_then(|(ours, theirs)| figure.statistic.ratio(ours, theirs)),
            target: row.target,
            conditions: self.conditions.len(),
        });
    }

    /// Adds a row whose target, if there is one, speaks of our figure alone.
    fn state(&mut self, case: &str, ours: Option<f64>, unit: &'static str, target: impl Into<Option<Target>>) {
        let target = target.into();
        let conditions = self.conditions.len();
        self.rows.push(Row { case: case.into(), ours, unit, peer: None, ratio: None, target, conditions });
    }
}

fn middle(values: &[f64]) -> f64 {
    stats::median(values).unwrap_or(f64::NAN)
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let head = ["case", "ours", "floor/peer", "ratio", "target", "verdict", "conditions"].map(String::from);
        let lines: Vec<[String; 7]> = std::iter::once(head).chain(self.rows.iter().map(Row::cells)).collect();
        let widths: [usize; 7] =
            std::array::from_fn(|column| lines.iter().map(|line| line[column].len()).max().unwrap_or(0));
        for line in &lines {
            let cells = line.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
            writeln!(f, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
        }
        writeln!(f, "\nall candidates (medians over the rounds, unless named otherwise):")?;
        for line in &self.medians {
            writeln!(f, "  {line}")?;
        }
        writeln!(f, "\nconditions:")?;
        for (index, text) in self.conditions.iter().enumerate() {
            writeln!(f, "  [{}] {text}", index + 1)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(ours: Option<f64>, ratio: Option<f64>, target: Target) -> Row {
        let peer = Some(("peer", Some(2.0)));
        Row { case: "case".into(), ours, unit: "ns", peer, ratio, target: Some(target), conditions: 1 }
    }

    #[test]
    fn ratio_is_what_a_row_with_a_peer_is_judged_by() {
        assert_eq!(row(Some(9.0), Some(1.1), Target::AtMost(1.15)).cells()[5], "met");
        assert_eq!(row(Some(0.1), Some(1.2), Target::AtMost(1.15)).cells()[5], "MISSED");
    }

    #[test]
    fn row_without_our_figure_has_no_verdict() {
        let cells = row(None, None, Target::AtLeast(1.0)).cells();
        assert_eq!(cells, ["case", "-", "peer 2.00 ns", "-", ">= 1.00", "-", "[1]"]);
    }
}
