//! A line of results: one of ours in one figure, with all that it is compared with.

use std::fmt::{self, Display, Formatter};

use serde::{Deserialize, Serialize};

use crate::figure::{Comparison, Figure, Figures, SUBJECT, Target};
use crate::limits::is_limit;
use crate::stats::{self, MIN_ROUNDS, Series};

/// One of ours in one figure.
#[derive(Debug, Clone)]
pub struct Line {
    /// Its name for programs: that of the case, of the figure if the case has several, and of the one of ours if
    /// it is not the usual one.
    pub name: String,
    /// What was measured, for people.
    pub title: String,
    /// The unit of all values.
    pub unit: &'static str,
    /// Whether more is better.
    pub is_rate: bool,
    /// Our value.
    pub ours: Option<f64>,
    /// How many samples that rests on.
    pub rounds: usize,
    /// The interquartile range, relative to the median: of the ratios of the rounds to the first of [`rivals`](Self::rivals),
    /// or of our samples where there is none.
    pub spread: Option<f64>,
    /// What our value must reach by itself.
    pub target: Option<Target>,
    /// The limits, those with a target first, and then the peers.
    pub rivals: Vec<Rival>,
    /// The number of the conditions, counted from 1.
    pub conditions: usize,
}

/// A candidate that is not ours.
#[derive(Debug, Clone)]
pub struct Rival {
    /// Its name.
    pub name: &'static str,
    /// Its value; `None` if this machine does not have it.
    pub value: Option<f64>,
    /// What ours costs, by what this costs: lower is better.
    pub ratio: Option<f64>,
    /// What that may be at most.
    pub at_most: Option<f64>,
    /// What it is.
    pub kind: Kind,
}

/// What a line is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// What the processor and the kernel permit.
    Limit,
    /// What others have.
    Peer,
    /// Another one of ours.
    Ours,
}

impl Kind {
    fn of(name: &str) -> Self {
        match name {
            _ if is_limit(name) => Kind::Limit,
            _ if is_ours(name) => Kind::Ours,
            _ => Kind::Peer,
        }
    }
}

/// Whether a figure reaches what it must.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It does.
    Met,
    /// It does not.
    Missed,
    /// That many rounds tell nothing.
    TooFewRounds,
}

impl Display for Verdict {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Verdict::Met => "met",
            Verdict::Missed => "MISSED",
            Verdict::TooFewRounds => "too few rounds",
        })
    }
}

impl Line {
    /// The lines of all figures of the case of that name.
    pub fn all_of(case: &str, result: &Figures, conditions: usize) -> Vec<Line> {
        let mut lines = Vec::new();
        let names = names(case, &result.figures);
        for (name, figure) in names.iter().zip(&result.figures) {
            for ours in figure.all.iter().filter(|series| is_ours(series.name)) {
                lines.push(Line::of(name, figure, ours, conditions));
            }
        }
        lines
    }

    fn of(name: &str, figure: &Figure, ours: &Series<f64>, conditions: usize) -> Line {
        let variant = ours.name.strip_prefix(SUBJECT).unwrap_or_default().trim_start_matches([',', ' ']);
        let is_usual = variant.is_empty();
        let rows = || figure.rows.iter().filter(|row| row.ours == ours.name);
        let rivals = rivals(figure, ours, rows());
        let first = rivals.iter().find_map(|rival| series_of(figure, rival.name));
        let samples = match first {
            Some(theirs) => ours.rounds.iter().zip(&theirs.rounds).map(|(ours, theirs)| ours / theirs).collect(),
            None => ours.rounds.clone(),
        };
        Line {
            name: if is_usual { name.into() } else { format!("{name}/{}", slug(variant)) },
            title: if is_usual { figure.name.clone() } else { format!("{}: {}", figure.name, ours.name) },
            unit: figure.unit,
            is_rate: figure.is_rate(),
            ours: figure.statistic.of(&ours.rounds),
            rounds: ours.rounds.len(),
            spread: spread(&samples),
            target: rows().find(|row| row.peer.is_none()).and_then(|row| row.target),
            rivals,
            conditions,
        }
    }

    /// The limit that counts: the first one.
    pub fn limit(&self) -> Option<&Rival> {
        self.rivals.iter().find(|rival| rival.kind == Kind::Limit && rival.value.is_some())
    }

    /// All peers that this machine has.
    pub fn peers(&self) -> impl Iterator<Item = &Rival> {
        self.rivals.iter().filter(|rival| rival.kind == Kind::Peer && rival.value.is_some())
    }

    /// The peer beside which ours costs most.
    pub fn best_peer(&self) -> Option<&Rival> {
        let cost = |rival: &&Rival| rival.ratio.unwrap_or(f64::NEG_INFINITY);
        self.peers().max_by(|one, other| cost(one).total_cmp(&cost(other)))
    }

    /// Whether our value reaches what it must by itself.
    pub fn verdict(&self) -> Option<Verdict> {
        let (value, target) = self.ours.zip(self.target)?;
        // A single sample is nothing that varies.
        let enough = self.rounds == 1 || self.rounds >= MIN_ROUNDS;
        Some(judge(enough, target.is_met_by(value)))
    }

    /// Whether the ratio to `rival` is as it must be.
    pub fn verdict_on(&self, rival: &Rival) -> Option<Verdict> {
        let (ratio, at_most) = rival.ratio.zip(rival.at_most)?;
        Some(judge(self.rounds >= MIN_ROUNDS, ratio <= at_most))
    }

    /// All that is judged.
    pub fn verdicts(&self) -> impl Iterator<Item = Verdict> {
        self.verdict().into_iter().chain(self.rivals.iter().filter_map(|rival| self.verdict_on(rival)))
    }
}

fn judge(enough: bool, met: bool) -> Verdict {
    match (enough, met) {
        (false, _) => Verdict::TooFewRounds,
        (true, true) => Verdict::Met,
        (true, false) => Verdict::Missed,
    }
}

/// Whether a candidate is ours, in whatever way it is used.
pub(super) fn is_ours(name: &str) -> bool {
    name.starts_with(SUBJECT)
}

fn series_of<'a>(figure: &'a Figure, name: &str) -> Option<&'a Series<f64>> {
    figure.all.iter().find(|series| series.name == name)
}

/// All that are not ours: those that `rows` name, in their order, then the others.
fn rivals<'a>(figure: &Figure, ours: &Series<f64>, rows: impl Iterator<Item = &'a Comparison>) -> Vec<Rival> {
    let rival = |name: &'static str, target: Option<Target>| {
        let theirs = series_of(figure, name);
        let ratio = |theirs: &Series<f64>| match figure.is_rate() {
            true => figure.statistic.ratio(&theirs.rounds, &ours.rounds),
            false => figure.statistic.ratio(&ours.rounds, &theirs.rounds),
        };
        Rival {
            name,
            value: theirs.and_then(|theirs| figure.statistic.of(&theirs.rounds)),
            // None of nothing.
            ratio: theirs.and_then(ratio).filter(|ratio| ratio.is_finite()),
            at_most: target.map(|target| match target {
                Target::AtMost(limit) => limit,
                // Of rates, ours by theirs; costs are the other way round.
                Target::AtLeast(limit) => 1.0 / limit,
            }),
            kind: Kind::of(name),
        }
    };
    let mut rivals: Vec<Rival> = Vec::new();
    for row in rows {
        rivals.extend(row.peer.map(|peer| rival(peer, row.target)));
    }
    for series in figure.all.iter().filter(|series| !is_ours(series.name)) {
        if rivals.iter().all(|rival| rival.name != series.name) {
            rivals.push(rival(series.name, None));
        }
    }
    rivals.sort_by_key(|rival| rival.kind);
    rivals
}

fn spread(samples: &[f64]) -> Option<f64> {
    let quartile = |percent| stats::percentile(samples, percent);
    let median = stats::median(samples).filter(|&median| median > 0.0)?;
    Some((quartile(75.0)? - quartile(25.0)?) / median)
}

/// A name for each figure: that of the case if there is only one, else with what tells it from the others.
fn names(case: &str, figures: &[Figure]) -> Vec<String> {
    let [first, others @ ..] = figures else { return Vec::new() };
    if others.is_empty() {
        return vec![case.into()];
    }
    let same =
        |other: &Figure| first.name.bytes().zip(other.name.bytes()).take_while(|(one, other)| one == other).count();
    let common = others.iter().map(same).min().unwrap_or(0);
    let common = first.name.as_bytes()[..common].iter().rposition(|&byte| byte == b',').map_or(0, |comma| comma + 1);
    figures.iter().map(|figure| format!("{case}/{}", slug(&figure.name[common..]))).collect()
}

/// A name of lower-case letters, digits and dots, with a line below in place of all else.
pub(super) fn slug(text: &str) -> String {
    let is_kept = |character: char| character.is_ascii_alphanumeric() || character == '.';
    let words = text.split(|character| !is_kept(character)).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join("_").to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figure::{ALWAYS, NEVER};

    const PEER: &str = "a (peer)";

    fn series(name: &'static str, rounds: &[f64]) -> Series<f64> {
        Series { name, rounds: rounds.repeat(5) }
    }

    fn lines(unit: &'static str, rows: &[Comparison]) -> Vec<Line> {
        let all = vec![
            series(crate::floor::TWO_RMWS, &[1.0, 2.0, 2.0]),
            series(SUBJECT, &[2.0, 3.0, 4.0]),
            series(ALWAYS, &[1.0, 1.0, 1.0]),
            series(PEER, &[4.0, 4.0, 4.0]),
        ];
        let figures = vec![Figure::of_rounds("a thing", unit, all, rows)];
        Line::all_of("thing/done", &Figures { figures, conditions: String::new() }, 1)
    }

    #[test]
    fn ratios_are_medians_of_costs_by_costs_for_times_and_the_other_way_round_for_rates() {
        let ratio = |unit| lines(unit, &[])[0].limit().unwrap().ratio;
        assert_eq!(ratio("ns"), Some(2.0));
        assert_eq!(ratio("M/s"), Some(0.5));
    }

    #[test]
    fn each_of_ours_is_a_line_with_all_that_is_not_ours() {
        let lines = lines("ns", &[]);
        assert_eq!(
            lines.iter().map(|line| &*line.name).collect::<Vec<_>>(),
            ["thing/done", "thing/done/always_looking"]
        );
        assert_eq!(lines[0].peers().map(|peer| peer.name).collect::<Vec<_>>(), [PEER]);
        assert_eq!(lines[1].title, "a thing: shmkit, always looking");
    }

    #[test]
    fn target_of_a_rate_is_judged_as_a_cost() {
        let lines = lines("M/s", &[Comparison::at_least(PEER, 0.5), Comparison::at_least(PEER, 0.2).of(ALWAYS)]);
        let verdict = |line: &Line| line.verdict_on(line.best_peer().unwrap());
        assert_eq!(lines[0].best_peer().unwrap().at_most, Some(2.0));
        assert_eq!((verdict(&lines[0]), verdict(&lines[1])), (Some(Verdict::Met), Some(Verdict::Met)));
    }

    #[test]
    fn peer_that_this_machine_does_not_have_has_a_row_and_no_verdict() {
        let lines = lines("ns", &[Comparison::at_most("elsewhere", 1.0)]);
        let absent = lines[0].rivals.iter().find(|rival| rival.name == "elsewhere").unwrap();
        assert_eq!((absent.value, lines[0].verdict_on(absent)), (None, None));
        assert_eq!(lines[0].best_peer().unwrap().name, PEER);
    }

    #[test]
    fn few_rounds_are_not_judged() {
        let mut line = lines("ns", &[Comparison::at_most(PEER, 1.0)]).swap_remove(0);
        line.rounds = MIN_ROUNDS - 1;
        assert_eq!(line.verdicts().collect::<Vec<_>>(), [Verdict::TooFewRounds]);
    }

    #[test]
    fn figures_are_named_by_what_tells_them_apart() {
        let figure = |name: &str| Figure::alone(name, "us", vec![1.0], []);
        let names = names("kill", &[figure("owner killed, 1 MiB, median"), figure("owner killed, 1 MiB, p99")]);
        assert_eq!(names, ["kill/median", "kill/p99"]);
        assert_eq!(slug("ipc-channel (servo)"), "ipc_channel_servo");
    }

    #[test]
    fn ours_that_another_of_ours_is_measured_by_is_a_rival_of_that_only() {
        let lines = lines("ns", &[Comparison::at_most(ALWAYS, 3.5), Comparison::listed(NEVER).of(ALWAYS)]);
        let rivals = |line: &Line| line.rivals.iter().map(|rival| rival.name).collect::<Vec<_>>();
        assert_eq!(rivals(&lines[0]), [crate::floor::TWO_RMWS, PEER, ALWAYS]);
        assert_eq!(rivals(&lines[1]), [crate::floor::TWO_RMWS, PEER, NEVER]);
    }
}
