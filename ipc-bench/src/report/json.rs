//! The report for programs.
//!
//! Both ratios are what ours costs by what the other costs: lower is better, for times as for rates.

use std::collections::BTreeMap;
use std::io;

use serde::Serialize;

use super::line::slug;
use super::{Line, Report};
use crate::machine::Machine;

#[derive(Serialize)]
struct Document<'a> {
    machine: &'a Machine,
    cases: Vec<Case<'a>>,
}

#[derive(Serialize)]
struct Case<'a> {
    name: &'a str,
    unit: &'a str,
    better: &'static str,
    shmkit: Option<f64>,
    limit: Option<f64>,
    peers: BTreeMap<String, f64>,
    vs_limit: Option<f64>,
    vs_best_peer: Option<f64>,
    spread: Option<f64>,
}

impl<'a> Case<'a> {
    fn of(line: &'a Line) -> Self {
        let limit = line.limit();
        Case {
            name: &line.name,
            unit: line.unit,
            better: if line.is_rate { "higher" } else { "lower" },
            shmkit: line.ours,
            limit: limit.and_then(|limit| limit.value),
            peers: line.peers().filter_map(|peer| Some((slug(peer.name), peer.value?))).collect(),
            vs_limit: limit.and_then(|limit| limit.ratio),
            vs_best_peer: line.best_peer().and_then(|peer| peer.ratio),
            spread: line.spread,
        }
    }
}

/// Writes the report: `{"machine": {...}, "cases": [{"name", "unit", "better", "shmkit", "limit", "peers": {...},
/// "vs_limit", "vs_best_peer", "spread"}]}`; what there is not is `null`.
///
/// # Errors
/// Those of writing.
pub fn write(report: &Report, to: impl io::Write) -> io::Result<()> {
    let cases = report.lines.iter().map(Case::of).collect();
    Ok(serde_json::to_writer_pretty(to, &Document { machine: &report.machine, cases })?)
}
