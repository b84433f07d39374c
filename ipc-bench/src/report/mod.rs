//! The report: what all cases that were run have shown, on the terminal (its `Display`), for programs ([`json`]) and as a
//! page ([`html`]).

mod chart;
mod curve;
pub mod html;
pub mod json;
mod killed;
pub mod line;
pub mod output;
mod table;
pub mod targets;

use std::io;

pub use curve::CURVES;
pub use line::Line;

use crate::figure::{Distribution, Figures};
use crate::killed::Row;
use crate::machine::Machine;

/// What all cases have shown.
#[derive(Debug, Clone)]
pub struct Report {
    machine: Machine,
    lines: Vec<Line>,
    latencies: Vec<Latencies>,
    killed: Vec<Row>,
    conditions: Vec<Conditions>,
    wrong: Vec<Wrong>,
}

/// The single latencies of all candidates of a figure.
#[derive(Debug, Clone)]
struct Latencies {
    case: String,
    title: String,
    all: Vec<Distribution>,
}

/// The conditions of a case.
#[derive(Debug, Clone)]
struct Conditions {
    case: String,
    text: String,
}

/// A case that has failed.
#[derive(Debug, Clone)]
struct Wrong {
    case: String,
    why: String,
}

impl Report {
    /// An empty one.
    ///
    /// # Errors
    /// Those of looking at the machine.
    pub fn new(quick: bool) -> io::Result<Self> {
        Ok(Report {
            machine: Machine::look(quick)?,
            lines: Vec::new(),
            latencies: Vec::new(),
            killed: Vec::new(),
            conditions: Vec::new(),
            wrong: Vec::new(),
        })
    }

    /// Adds the figures of a case.
    pub fn add(&mut self, case: &str, result: &Figures) {
        self.conditions.push(Conditions { case: case.into(), text: result.conditions.clone() });
        self.lines.append(&mut Line::all_of(case, result, self.conditions.len()));
        for figure in result.figures.iter().filter(|figure| !figure.distributions.is_empty()) {
            self.latencies.push(Latencies {
                case: case.into(),
                title: figure.quantity().into(),
                all: figure.distributions.clone(),
            });
        }
    }

    /// Adds a row to the table of those whose counterpart was killed.
    pub fn add_killed(&mut self, row: Row) {
        self.killed.push(row);
    }

    /// Adds a case that this machine has no room for, or does not have.
    pub fn add_absent(&mut self, case: &str, why: &str) {
        self.conditions.push(Conditions { case: case.into(), text: format!("left out: {why}") });
    }

    /// Adds a case that has failed.
    pub fn add_wrong(&mut self, case: &str, why: &str) {
        self.wrong.push(Wrong { case: case.into(), why: why.into() });
    }

    /// Whether any case has failed.
    pub fn is_wrong(&self) -> bool {
        !self.wrong.is_empty()
    }
}
