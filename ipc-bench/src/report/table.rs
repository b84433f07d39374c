//! The report on the terminal.

use std::fmt::{self, Display, Formatter};

use super::line::{Kind, Line};
use super::{Report, killed};

/// Below that, a ratio or a value is shown with more digits.
const FEW: f64 = 0.1;

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.machine.quick {
            writeln!(f, "a quick run: it shows that all works, its figures mean nothing\n")?;
        }
        for (name, value) in self.machine.described() {
            writeln!(f, "{name:>20}  {value}")?;
        }
        if !self.lines.is_empty() {
            let head = ["case", "ours", "compared with", "", "cost ratio", "target", "", "conditions"];
            let rows = self.lines.iter().flat_map(rows).collect();
            writeln!(f, "\ncost ratio: what ours costs by what the other costs; lower is better\n")?;
            write_columns(f, head, rows)?;
        }
        if !self.latencies.is_empty() {
            writeln!(f, "\nsingle latencies in us\n")?;
            let head = ["case", "candidate", "p50", "p90", "p99", "p99.9", "max", "of"];
            write_columns(f, head, self.latencies.iter().flat_map(latency_rows).collect())?;
        }
        if !self.killed.is_empty() {
            writeln!(f, "\nkilled peers: what becomes of the others when one is killed\n")?;
            write_columns(f, killed::HEAD, self.killed.iter().map(|row| killed::cells(row, "us")).collect())?;
        }
        if !self.conditions.is_empty() {
            writeln!(f, "\nconditions:")?;
        }
        for (number, conditions) in (1..).zip(&self.conditions) {
            writeln!(f, "  [{number}] {}", conditions.text)?;
        }
        for wrong in &self.wrong {
            writeln!(f, "\nWRONG: {}: {}", wrong.case, wrong.why)?;
        }
        Ok(())
    }
}

/// A row for each that the line is compared with; one if there is none.
fn rows(line: &Line) -> Vec<[String; 8]> {
    let verdict = |verdict: Option<super::line::Verdict>| verdict.map_or(String::new(), |verdict| verdict.to_string());
    let alone = [
        line.title.clone(),
        with_unit(line.ours, line.unit),
        String::new(),
        String::new(),
        String::new(),
        line.target.map_or(String::new(), |target| target.to_string()),
        verdict(line.verdict()),
        format!("[{}]", line.conditions),
    ];
    let compared = line.rivals.iter().map(|rival| {
        [
            line.title.clone(),
            with_unit(line.ours, line.unit),
            rival.name.to_string(),
            rival.value.map_or_else(|| "not on this machine".into(), |value| with_unit(Some(value), line.unit)),
            rival.ratio.map_or(String::new(), number),
            rival.at_most.map_or(String::new(), |at_most| format!("<= {at_most:.2}")),
            match rival.kind {
                Kind::Limit if rival.at_most.is_none() => "(limit)".into(),
                _ => verdict(line.verdict_on(rival)),
            },
            format!("[{}]", line.conditions),
        ]
    });
    let mut rows: Vec<_> = compared.collect();
    if rows.is_empty() || line.target.is_some() {
        rows.insert(0, alone);
    }
    rows
}

fn latency_rows(latencies: &super::Latencies) -> impl Iterator<Item = [String; 8]> {
    latencies.all.iter().map(|distribution| {
        let histogram = &distribution.histogram;
        let at = |percent| number(histogram.value_at_percentile(percent) as f64 / 1e3);
        let max = number(histogram.max() as f64 / 1e3);
        let candidate = distribution.name.to_string();
        [latencies.title.clone(), candidate, at(50.0), at(90.0), at(99.0), at(99.9), max, histogram.len().to_string()]
    })
}

/// A number with some three digits that count.
pub(super) fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= FEW || size == 0.0 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

/// The same with its unit.
pub(super) fn with_unit(value: Option<f64>, unit: &str) -> String {
    value.map_or_else(|| "-".into(), |value| format!("{} {unit}", number(value)).trim_end().to_string())
}

fn write_columns<const N: usize>(f: &mut Formatter<'_>, head: [&str; N], rows: Vec<[String; N]>) -> fmt::Result {
    let lines: Vec<[String; N]> = std::iter::once(head.map(String::from)).chain(rows).collect();
    let widths: [usize; N] =
        std::array::from_fn(|column| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0));
    for line in &lines {
        let cells = line.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        writeln!(f, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits_that_count() {
        assert_eq!([1234.5, 12.34, 1.234, 0.0, 0.0123].map(number), ["1234", "12.3", "1.23", "0.00", "0.0123"]);
        assert_eq!(with_unit(Some(2.0), ""), "2.00");
    }
}
