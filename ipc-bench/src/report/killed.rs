//! How the rows of those whose counterpart was killed are written.

use super::table::number;
use crate::killed::{Outcome, Row};

/// The heads of the columns.
pub(super) const HEAD: [&str; 5] = ["whose", "what", "the victim was", "the others", ""];

/// A row, for the columns of [`HEAD`]; `unit` is how microseconds are called.
pub(super) fn cells(row: &Row, unit: &str) -> [String; 5] {
    let (outcome, more) = match &row.outcome {
        Outcome::Recovered(time) => ("recovered".to_string(), format!("in {} {unit}", microseconds(*time))),
        Outcome::Told(time, what) => ("error".to_string(), format!("in {} {unit}: {what}", microseconds(*time))),
        Outcome::Hangs(bound) => ("hang".to_string(), format!("still waiting after {bound:?}")),
        Outcome::Absent(why) => ("-".to_string(), why.clone()),
    };
    [row.whose.into(), row.what.clone(), row.when.to_string(), outcome, more]
}

/// How a row is marked in the page.
pub(super) fn class(row: &Row) -> &'static str {
    match row.outcome {
        Outcome::Recovered(_) => "met",
        Outcome::Hangs(_) => "missed",
        Outcome::Told(..) | Outcome::Absent(_) => "",
    }
}

fn microseconds(time: std::time::Duration) -> String {
    number(time.as_secs_f64() * 1e6)
}
