//! What must be reached, and whether it holds in each of several reports.
//!
//! A report writes a row for each figure that has a target; the targets are those of the cases, and stand nowhere else.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Report;
use super::line::{Line, Rival, Verdict};
use super::table::{number, with_unit};
use crate::machine::Machine;
use crate::stats::{self, MIN_ROUNDS};

/// In so many reports a target must hold.
const REPORTS: usize = 3;

/// The figures of a report that have a target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Document {
    machine: Place,
    targets: Vec<Row>,
}

/// What several reports must have in common.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Place {
    cpu: String,
    cpus: usize,
    kernel: String,
    rustc: String,
    glibc: String,
    quick: bool,
}

impl Place {
    fn of(machine: &Machine) -> Self {
        Place {
            cpu: machine.cpu.clone(),
            cpus: machine.cpus,
            kernel: machine.kernel.clone(),
            rustc: machine.rustc.into(),
            glibc: machine.glibc.clone(),
            quick: machine.quick,
        }
    }
}

/// A figure with a target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Row {
    /// The name of the case, which reproduces it with `--only`.
    case: String,
    /// The name of the line.
    name: String,
    title: String,
    unit: String,
    ours: Option<f64>,
    /// What it is compared with; `None` if it counts by itself.
    against: Option<String>,
    theirs: Option<f64>,
    /// What ours costs by what the other costs.
    ratio: Option<f64>,
    target: String,
    verdict: Option<Verdict>,
}

impl Row {
    fn all_of<'a>(case: &'a str, line: &'a Line) -> impl Iterator<Item = Row> + 'a {
        let alone = line.target.map(|target| Row {
            target: target.to_string(),
            verdict: line.verdict(),
            ..Row::begun(case, line)
        });
        let beside = |rival: &Rival| {
            Some(Row {
                against: Some(rival.name.into()),
                theirs: rival.value,
                ratio: rival.ratio,
                target: format!("<= {:.2}", rival.at_most?),
                verdict: line.verdict_on(rival),
                ..Row::begun(case, line)
            })
        };
        alone.into_iter().chain(line.rivals.iter().filter_map(beside))
    }

    fn begun(case: &str, line: &Line) -> Row {
        Row {
            case: case.into(),
            name: line.name.clone(),
            title: line.title.clone(),
            unit: line.unit.into(),
            ours: line.ours,
            against: None,
            theirs: None,
            ratio: None,
            target: String::new(),
            verdict: None,
        }
    }

    fn is_same_figure(&self, other: &Row) -> bool {
        (&self.name, &self.against, &self.target) == (&other.name, &other.against, &other.target)
    }
}

/// Writes the figures that have a target: what [`check`] reads.
///
/// # Errors
/// Those of writing.
pub fn write(report: &Report, to: impl io::Write) -> io::Result<()> {
    let case = |line: &Line| &*report.conditions[line.conditions - 1].case;
    let targets = report.lines.iter().flat_map(|line| Row::all_of(case(line), line)).collect();
    Ok(serde_json::to_writer_pretty(to, &Document { machine: Place::of(&report.machine), targets })?)
}

/// What several reports have shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// A table in Markdown: each figure that has a target, and whether it holds in all reports that have it.
    pub table: String,
    /// Whether all hold in all, and there are enough reports.
    pub all_hold: bool,
}

/// Reads what reports of one machine have written with [`write()`], and compares them.
///
/// # Errors
/// Those of reading; `InvalidData` for other files, quick runs, and reports of different machines.
pub fn check(files: &[PathBuf]) -> io::Result<Checked> {
    let reports = files.iter().map(|file| read(file)).collect::<io::Result<Vec<_>>>()?;
    compare(&reports)
}

fn read(path: &Path) -> io::Result<Document> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    let document: Document = serde_json::from_reader(BufReader::new(File::open(path).map_err(named)?))
        .map_err(|error| named(error.into()))?;
    if document.machine.quick {
        return Err(named(invalid("a quick run, whose figures mean nothing")));
    }
    Ok(document)
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn compare(reports: &[Document]) -> io::Result<Checked> {
    let [first, others @ ..] = reports else { return Err(invalid("no report")) };
    if others.iter().any(|other| other.machine != first.machine) {
        return Err(invalid("reports of different machines, kernels, compilers or C libraries"));
    }
    let place = &first.machine;
    let mut table = format!(
        "{}, {} CPUs, Linux {}, {}, glibc {}; reports: {}.\n\n\
         | figure | ours | compared with | theirs | cost ratios | target | holds | `--only` |\n|---|---|---|---|---|---|---|---|\n",
        place.cpu,
        place.cpus,
        place.kernel,
        place.rustc,
        place.glibc,
        reports.len()
    );
    let mut figures: Vec<&Row> = Vec::new();
    for row in reports.iter().flat_map(|report| &report.targets) {
        if figures.iter().all(|figure| !figure.is_same_figure(row)) {
            figures.push(row);
        }
    }
    // Those of a case stand together, although a later report may have more of them.
    let cases: Vec<&String> = figures.iter().map(|figure| &figure.case).collect();
    let place_of = |figure: &&Row| cases.iter().position(|&case| *case == figure.case);
    figures.sort_by_key(place_of);
    let mut all_hold = true;
    for figure in figures {
        let rows: Vec<&Row> =
            reports.iter().filter_map(|report| report.targets.iter().find(|row| row.is_same_figure(figure))).collect();
        let verdict = Judgement::on(&rows);
        all_hold &= verdict == Judgement::Holds(rows.len());
        let row = cells(figure, &rows, &verdict).map(|cell| cell.replace('|', "\\|"));
        writeln!(table, "| {} |", row.join(" | ")).expect("a string takes all");
    }
    Ok(Checked { table, all_hold })
}

fn cells(figure: &Row, rows: &[&Row], verdict: &Judgement) -> [String; 8] {
    let all = |value: fn(&Row) -> Option<f64>| rows.iter().filter_map(|row| value(row)).collect::<Vec<f64>>();
    let unit = if figure.unit == "us" { "µs" } else { &figure.unit };
    let median = |value: fn(&Row) -> Option<f64>| stats::median(&all(value));
    let ours = match figure.against {
        Some(_) => with_unit(median(|row| row.ours), unit),
        // By itself, it is what is judged.
        None => format!("{} {unit}", all(|row| row.ours).into_iter().map(number).collect::<Vec<_>>().join(", ")),
    };
    [
        figure.title.clone(),
        ours.trim_end().into(),
        figure.against.clone().unwrap_or_default(),
        median(|row| row.theirs).map_or(String::new(), |theirs| with_unit(Some(theirs), unit)),
        all(|row| row.ratio).into_iter().map(|ratio| format!("{ratio:.3}")).collect::<Vec<_>>().join(", "),
        figure.target.clone(),
        verdict.to_string(),
        format!("`{}`", figure.case),
    ]
}

/// Whether a target holds, by all reports that have the figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Judgement {
    /// In all of so many.
    Holds(usize),
    /// In some of so many, of which the last number had too few rounds to tell anything.
    Missed(usize, usize, usize),
    /// In all of these, which are not enough.
    TooFew(usize),
    /// The other is not on this machine.
    Absent,
}

impl Judgement {
    fn on(rows: &[&Row]) -> Self {
        let judged: Vec<Verdict> = rows.iter().filter_map(|row| row.verdict).collect();
        let count = |wanted| judged.iter().filter(|&&verdict| verdict == wanted).count();
        let met = count(Verdict::Met);
        match judged.len() {
            0 => Judgement::Absent,
            all if met < all => Judgement::Missed(met, all, count(Verdict::TooFewRounds)),
            all if all < REPORTS => Judgement::TooFew(all),
            all => Judgement::Holds(all),
        }
    }
}

impl std::fmt::Display for Judgement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Judgement::Holds(all) => write!(f, "{all} of {all}"),
            Judgement::Missed(met, all, 0) => write!(f, "**{met} of {all}**"),
            Judgement::Missed(met, all, unjudged) => {
                write!(f, "**{met} of {all}**, {unjudged} of fewer than {MIN_ROUNDS} rounds, which tell nothing")
            }
            Judgement::TooFew(all) => write!(f, "{all} of {all}, too few reports"),
            Judgement::Absent => write!(f, "not on this machine"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(verdicts: &[Option<Verdict>]) -> Document {
        let machine = Place {
            cpu: "a CPU".into(),
            cpus: 2,
            kernel: "6".into(),
            rustc: "rustc 1".into(),
            glibc: "2".into(),
            quick: false,
        };
        let row = |(index, &verdict): (usize, &Option<Verdict>)| Row {
            case: format!("case/{index}"),
            name: format!("case/{index}"),
            title: format!("thing {index}"),
            unit: "us".into(),
            ours: Some(2.0),
            against: Some("a peer | another".into()),
            theirs: verdict.map(|_| 4.0),
            ratio: verdict.map(|_| 0.5),
            target: "<= 1.00".into(),
            verdict,
        };
        Document { machine, targets: verdicts.iter().enumerate().map(row).collect() }
    }

    fn holds(reports: &[Document]) -> Vec<String> {
        let checked = compare(reports).unwrap();
        let rows = checked.table.lines().filter(|line| line.contains("thing"));
        rows.map(|row| row.split(" | ").nth(6).unwrap().into()).collect()
    }

    #[test]
    fn target_holds_only_if_it_does_in_three_reports() {
        let (met, missed) = (Some(Verdict::Met), Some(Verdict::Missed));
        let three = [report(&[met, met, None]), report(&[met, missed, None]), report(&[met, met, None])];
        assert_eq!(holds(&three), ["3 of 3", "**2 of 3**", "not on this machine"]);
        assert!(!compare(&three).unwrap().all_hold);
        assert_eq!(holds(&three[..1]), ["1 of 1, too few reports", "1 of 1, too few reports", "not on this machine"]);
        let good = [report(&[met]), report(&[met]), report(&[met])];
        assert!(compare(&good).unwrap().all_hold);
    }

    #[test]
    fn verdict_says_how_many_reports_had_too_few_rounds() {
        let (met, few) = (Some(Verdict::Met), Some(Verdict::TooFewRounds));
        let reports = [report(&[met, few]), report(&[few, few]), report(&[met, few])];
        let why = "fewer than 15 rounds, which tell nothing";
        assert_eq!(holds(&reports), [format!("**2 of 3**, 1 of {why}"), format!("**0 of 3**, 3 of {why}")]);
        assert!(!compare(&reports).unwrap().all_hold);
    }

    #[test]
    fn figures_that_only_some_reports_have_are_judged_by_these() {
        let met = Some(Verdict::Met);
        let reports = [report(&[met]), report(&[met, met]), report(&[met, met])];
        assert_eq!(holds(&reports), ["3 of 3", "2 of 2, too few reports"]);
    }

    #[test]
    fn row_says_all_that_is_needed_to_judge_it() {
        let table = compare(&[report(&[Some(Verdict::Met)])]).unwrap().table;
        let row = "| thing 0 | 2.00 µs | a peer \\| another | 4.00 µs | 0.500 | <= 1.00 | 1 of 1, too few reports | `case/0` |";
        assert_eq!(table.lines().last(), Some(row));
    }

    #[test]
    fn reports_of_different_machines_are_not_compared() {
        let mut other = report(&[]);
        other.machine.kernel = "7".into();
        assert_eq!(compare(&[report(&[]), other]).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
