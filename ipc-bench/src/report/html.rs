//! The report as one page, which loads nothing.

use std::io;
use std::iter;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::chart::{self, Chart, Scale, Series, plain};
use super::curve::CURVES;
use super::line::{Kind, Line, Rival, Verdict};
use super::table::number;
use super::{Latencies, Report, killed};

const STYLE: &str = include_str!("page.css");
/// How many points a curve of percentiles has for each further nine.
const POINTS_PER_NINE: i32 = 12;

/// Writes the page.
///
/// # Errors
/// Those of writing.
pub fn write(report: &Report, mut to: impl io::Write) -> io::Result<()> {
    to.write_all(page(report)?.into_string().as_bytes())
}

fn page(report: &Report) -> io::Result<Markup> {
    let latencies = figures(report.latencies.iter().map(latency_figure))?;
    let curves = figures(CURVES.iter().filter_map(|curve| curve.chart(&report.lines)).map(curve_figure))?;
    Ok(html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { "shmkit: limits and peers" }
                style { (PreEscaped(STYLE)) (PreEscaped(chart::style())) }
            }
            body {
                header {
                    h1 { "shmkit beside its limits and its peers" }
                    (summary(report))
                    nav aria-label="Sections" {
                        a href="#machine" { "Machine" }
                        a href="#cases" { "Cases" }
                        @if !latencies.is_empty() { a href="#latencies" { "Latencies" } }
                        @if !curves.is_empty() { a href="#curves" { "Curves" } }
                        @if !report.killed.is_empty() { a href="#killed" { "Killed peers" } }
                    }
                }
                main {
                    section #machine {
                        h2 { "Machine and conditions" }
                        dl { @for (name, value) in report.machine.described() { dt { (name) } dd { (value) } } }
                    }
                    section #cases {
                        h2 { "Cases" }
                        p {
                            "In each round ours, the limits and the peers take turns. A value is the median over the rounds. The "
                            strong { "cost ratio" } " is what ours costs by what the other costs, the median of the ratios within each \
                            round: lower is better, below 1 ours is cheaper, for times as for rates. Where a figure is a percentile, its \
                            ratio is that of the percentiles. The spread is the interquartile range of these ratios (to the first that \
                            ours is compared with), by their median."
                        }
                        @for group in groups(&report.lines) { (group_section(report, group)) }
                    }
                    @if !latencies.is_empty() {
                        section #latencies {
                            h2 { "Single latencies" }
                            p {
                                "Each turn timed by itself, in rounds of their own between those of the medians; a time includes one reading \
                                of the clock. Of kills: from just before SIGKILL until the last waiter knew. Cases whose turn takes some \
                                nanoseconds have none: reading the clock takes longer than the turn."
                            }
                            div.figures { @for figure in &latencies { (figure) } }
                        }
                    }
                    @if !curves.is_empty() {
                        section #curves { h2 { "Curves" } div.figures { @for figure in &curves { (figure) } } }
                    }
                    @if !report.killed.is_empty() { (killed_section(report)) }
                }
            }
        }
    })
}

/// The lines of which something is missed, with what.
fn missed(report: &Report) -> Markup {
    let is_missed = |verdict| verdict == Some(Verdict::Missed);
    let alone = |line: &Line| {
        line.target
            .filter(|_| is_missed(line.verdict()))
            .map(|target| format!("{}, not {target}", with_unit(line.ours, line.unit)))
    };
    let beside = |line: &Line, rival: &Rival| {
        let at_most = rival.at_most.filter(|_| is_missed(line.verdict_on(rival)))?;
        Some(format!("{} of {}, not ≤ {at_most:.2}", number(rival.ratio?), rival.name))
    };
    let of = |line: &Line| -> Vec<String> {
        alone(line).into_iter().chain(line.rivals.iter().filter_map(|rival| beside(line, rival))).collect()
    };
    let all: Vec<_> = report.lines.iter().map(|line| (line, of(line))).filter(|(_, what)| !what.is_empty()).collect();
    html! {
        @if !all.is_empty() {
            details {
                summary { "What is missed" }
                ul { @for (line, what) in &all { li { a href={ "#" (line.name) } { (line.title) } ": " (what.join("; ")) } } }
            }
        }
    }
}

fn summary(report: &Report) -> Markup {
    let count = |wanted| report.lines.iter().flat_map(Line::verdicts).filter(|&verdict| verdict == wanted).count();
    html! {
        @if report.machine.quick {
            p.warning { "A quick run: it shows that all works. Its figures mean nothing." }
        }
        @for wrong in &report.wrong {
            p.warning { "Wrong: " strong { (wrong.case) } ": " (wrong.why) }
        }
        ul.counts {
            li { strong { (report.lines.len()) } " figures of ours" }
            li { strong.met { (count(Verdict::Met)) } " targets met" }
            li { strong.missed { (count(Verdict::Missed)) } " missed" }
            @if count(Verdict::TooFewRounds) > 0 {
                li { strong { (count(Verdict::TooFewRounds)) } " not judged: too few rounds" }
            }
        }
        (missed(report))
    }
}

/// The first words of the names, each once, in their order.
fn groups(lines: &[Line]) -> Vec<&str> {
    let mut groups = Vec::new();
    for line in lines {
        let group = group_of(&line.name);
        if !groups.contains(&group) {
            groups.push(group);
        }
    }
    groups
}

fn group_of(name: &str) -> &str {
    name.split(['/', '-']).next().unwrap_or(name)
}

fn group_section(report: &Report, group: &str) -> Markup {
    let conditions = || (1..).zip(&report.conditions).filter(|(_, conditions)| group_of(&conditions.case) == group);
    html! {
        h3 { (group) }
        div.scroll tabindex="0" role="region" aria-label={ "Cases of " (group) } {
            table.cases {
                thead { tr {
                    th scope="col" { "Case" }
                    th scope="col" { "Ours" }
                    th scope="col" { "Compared with" }
                    th.number scope="col" { "Value" }
                    th.number scope="col" { "Cost ratio" }
                    th scope="col" { "Target" }
                } }
                @for line in report.lines.iter().filter(|line| group_of(&line.name) == group) { (line_rows(line)) }
            }
        }
        ol.conditions {
            @for (number, conditions) in conditions() {
                li value=(number) { code { (conditions.case) } ": " (conditions.text) }
            }
        }
    }
}

fn line_rows(line: &Line) -> Markup {
    let rivals: Vec<Option<&Rival>> =
        if line.rivals.is_empty() { vec![None] } else { line.rivals.iter().map(Some).collect() };
    html! {
        tbody {
            @for (index, rival) in rivals.iter().enumerate() {
                tr {
                    @if index == 0 {
                        th id=(line.name) scope="rowgroup" rowspan=(rivals.len()) {
                            (line.title) " " small { "[" (line.conditions) "]" } br; code { (line.name) }
                        }
                        td rowspan=(rivals.len()) {
                            strong { (with_unit(line.ours, line.unit)) }
                            @if let Some(spread) = line.spread {
                                small { (format!("spread {:.1} %, rounds: {}", spread * 100.0, line.rounds)) }
                            }
                            @if let (Some(target), Some(verdict)) = (line.target, line.verdict()) {
                                small { (target) " " (badge(verdict)) }
                            }
                        }
                    }
                    @match rival {
                        None => { td colspan="4" {} }
                        Some(rival) => (rival_cells(line, rival)),
                    }
                }
            }
        }
    }
}

fn rival_cells(line: &Line, rival: &Rival) -> Markup {
    html! {
        td {
            (rival.name) " "
            @match rival.kind {
                Kind::Limit => small.tag { "limit" },
                Kind::Ours => small.tag { "ours" },
                Kind::Peer => {}
            }
        }
        @match rival.value {
            None => td.number colspan="2" { "not on this machine" },
            Some(value) => {
                td.number { (with_unit(Some(value), line.unit)) }
                td.number {
                    @if let Some(ratio) = rival.ratio { (bar(ratio)) span.ratio { (number(ratio)) } }
                }
            }
        }
        td {
            @if let Some(at_most) = rival.at_most { (format!("≤ {at_most:.2} ")) }
            @if let Some(verdict) = line.verdict_on(rival) { (badge(verdict)) }
        }
    }
}

/// A bar from the middle, which stands for 1: to the left if ours is cheaper; its ends are an eighth and eight times.
fn bar(ratio: f64) -> Markup {
    let part = (ratio.log2() / 3.0).clamp(-1.0, 1.0) * 50.0;
    let side = if part < 0.0 { "cheaper" } else { "dearer" };
    let left = 50.0 + part.min(0.0);
    html! {
        span.bar aria-hidden="true" {
            span class=(side) style=(format!("left:{left:.1}%;width:{:.1}%", part.abs())) {}
        }
    }
}

/// A unit in the letters of the page.
fn letters(unit: &str) -> &str {
    if unit == "us" { "µs" } else { unit }
}

/// A value with its unit.
fn with_unit(value: Option<f64>, unit: &str) -> String {
    super::table::with_unit(value, letters(unit))
}

fn badge(verdict: Verdict) -> Markup {
    let (class, text) = match verdict {
        Verdict::Met => ("badge met", "met"),
        Verdict::Missed => ("badge missed", "missed"),
        Verdict::TooFewRounds => ("badge", "too few rounds"),
    };
    html! { span class=(class) { (text) } }
}

/// A chart, and the same as a table.
struct Drawn {
    chart: Chart,
    has_marks: bool,
    table: Markup,
}

fn figures(all: impl Iterator<Item = Drawn>) -> io::Result<Vec<Markup>> {
    let drawn = |drawn: Drawn| {
        let svg = drawn.chart.svg(drawn.has_marks).map_err(|error| io::Error::other(error.to_string()))?;
        Ok(html! {
            figure {
                figcaption { (drawn.chart.title) }
                ul.legend {
                    @for (index, series) in drawn.chart.all.iter().enumerate() {
                        li { span.swatch style=(format!("background:var({})", chart::color_name(index))) {} (series.name) }
                    }
                }
                // What it shows is in the table.
                div.chart role="img" aria-label=(format!("Chart: {}; its numbers are in the table below", drawn.chart.title)) {
                    (PreEscaped(svg))
                }
                (drawn.table)
            }
        })
    };
    all.map(drawn).collect()
}

fn latency_figure(latencies: &Latencies) -> Drawn {
    let points = |histogram: &hdrhistogram::Histogram<u64>| {
        let steps = iter::successors(Some(0), |step| Some(step + 1));
        let beyond = steps.map(|step| 10f64.powf(f64::from(step) / f64::from(POINTS_PER_NINE)));
        let within = beyond.take_while(|&beyond| beyond <= histogram.len() as f64);
        within.map(|beyond| (beyond, histogram.value_at_quantile(1.0 - 1.0 / beyond).max(1) as f64 / 1e3)).collect()
    };
    let series = |name, points| Series { name, points };
    let mut all: Vec<_> = latencies.all.iter().filter(|one| !one.histogram.is_empty()).collect();
    // Ours first, as everywhere.
    all.sort_by_key(|one| !super::line::is_ours(one.name));
    let most = all.iter().map(|one| one.histogram.len()).max().unwrap_or(1) as f64;
    let ticks = [2.0, 10.0, 100.0, 1e3, 1e4, 1e5, 1e6].into_iter().filter(|&tick| tick <= most);
    let chart = Chart {
        title: latencies.title.clone(),
        x: Scale { name: "percentile".into(), label: percentile, ticks: ticks.collect() },
        y: Scale { name: "µs".into(), label: plain, ticks: Vec::new() },
        all: all.iter().map(|one| series(one.name, points(&one.histogram))).collect(),
    };
    let table = html! {
        div.scroll tabindex="0" role="region" aria-label={ "Percentiles: " (latencies.title) } {
            table {
                thead { tr {
                    th scope="col" { code { (latencies.case) } ", µs" }
                    @for head in ["p50", "p90", "p99", "p99.9", "max", "of"] { th.number scope="col" { (head) } }
                } }
                tbody {
                    @for one in &all {
                        tr {
                            th scope="row" { (one.name) }
                            @for percent in [50.0, 90.0, 99.0, 99.9] {
                                td.number { (number(one.histogram.value_at_percentile(percent) as f64 / 1e3)) }
                            }
                            td.number { (number(one.histogram.max() as f64 / 1e3)) }
                            td.number { (one.histogram.len()) }
                        }
                    }
                }
            }
        }
    };
    Drawn { chart, has_marks: false, table }
}

/// One in `beyond` lies beyond the percentile.
fn percentile(beyond: f64) -> String {
    let digits = (beyond.log10() - 2.0).ceil().max(0.0) as usize;
    format!("{:.digits$} %", 100.0 - 100.0 / beyond)
}

fn curve_figure(mut chart: Chart) -> Drawn {
    chart.y.name = letters(&chart.y.name).into();
    let at = |series: &Series, x: f64| series.points.iter().find(|point| point.0 == x).map(|point| point.1);
    let table = html! {
        details {
            summary { "Numbers, in " (chart.y.name) }
            div.scroll tabindex="0" role="region" aria-label={ "Numbers: " (chart.title) } {
                table {
                    thead { tr {
                        th scope="col" { (chart.x.name) }
                        @for series in &chart.all { th.number scope="col" { (series.name) } }
                    } }
                    tbody {
                        @for &x in &chart.x.ticks {
                            tr {
                                th scope="row" { ((chart.x.label)(x)) }
                                @for series in &chart.all { td.number { (at(series, x).map_or("-".into(), number)) } }
                            }
                        }
                    }
                }
            }
        }
    };
    Drawn { chart, has_marks: true, table }
}

fn killed_section(report: &Report) -> Markup {
    html! {
        section #killed {
            h2 { "Killed peers" }
            p {
                "What becomes of the others when one of them is killed by SIGKILL while it holds, waits, or writes: they go on with what \
                is shared, they are told by an error, or they hang. Times are from just before the kill (or, where the others come \
                later, from when they ask) until they know."
            }
            div.scroll tabindex="0" role="region" aria-label="Killed peers" {
                table {
                    thead { tr { @for head in killed::HEAD { th scope="col" { (head) } } } }
                    tbody {
                        @for row in &report.killed {
                            tr {
                                @let [whose, what, when, outcome, more] = killed::cells(row, "µs");
                                td { (whose) }
                                th scope="row" { (what) }
                                td { (when) }
                                td { span class=(format!("badge {}", killed::class(row))) { (outcome) } }
                                td { (more) }
                            }
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_have_the_digits_that_tell_them_apart() {
        let all = [1.0, 2.0, 10.0, 100.0, 1e3, 1e4].map(percentile);
        assert_eq!(all, ["0 %", "50 %", "90 %", "99 %", "99.9 %", "99.99 %"]);
    }
}
