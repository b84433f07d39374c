//! Charts as SVG, to stand in the page: colours are names there, which the page gives values for light and for dark.
//!
//! Plotters draws with colours that nothing else has ([`INK`], [`GRID`], [`series_color`]); the rules of
//! [`style`] replace them.

use std::error::Error;
use std::fmt::Write;
use std::ops::Range;

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, ValueFormatter};
use plotters::prelude::*;

const SIZE: (u32, u32) = (640, 340);
const INK: RGBColor = RGBColor(1, 1, 254);
const GRID: RGBColor = RGBColor(1, 2, 254);
/// How many colours there are; then they come again, with other marks.
const COLORS: usize = 8;
/// How many marks there are.
const MARKS: usize = 3;
/// How many numbers there is room for from left to right.
const MOST_TICKS: f64 = 7.5;
/// How many numbers there are upwards, if they can be short.
const FEWEST_TICKS: usize = 3;
/// Multiples of powers of ten, the rarest first.
const STEPS: [&[f64]; 3] =
    [&[1.0], &[1.0, 2.0, 5.0], &[1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]];
const FONT: &str = "system-ui, sans-serif";

/// A chart of lines with marks, on two logarithmic scales.
#[derive(Debug, Clone)]
pub(super) struct Chart {
    /// What is shown.
    pub title: String,
    /// The scale from left to right.
    pub x: Scale,
    /// The scale upwards.
    pub y: Scale,
    /// All that is shown, the most important first.
    pub all: Vec<Series>,
}

/// A scale of a chart.
#[derive(Debug, Clone)]
pub(super) struct Scale {
    /// What it is a scale of.
    pub name: String,
    /// How its numbers are written.
    pub label: fn(f64) -> String,
    /// Where numbers are written; at nice ones if there are none here.
    pub ticks: Vec<f64>,
}

/// One line of a chart.
#[derive(Debug, Clone)]
pub(super) struct Series {
    /// Whose.
    pub name: &'static str,
    /// The points, none of them below or at zero, from left to right.
    pub points: Vec<(f64, f64)>,
}

/// A logarithmic scale with numbers where they are wanted.
struct Logarithmic {
    range: Range<f64>,
    ticks: Vec<f64>,
    label: fn(f64) -> String,
}

impl Logarithmic {
    fn of(scale: &Scale, values: impl Iterator<Item = f64>) -> Self {
        let (low, high) =
            values.fold((f64::MAX, f64::MIN_POSITIVE), |(low, high), value| (low.min(value), high.max(value)));
        let margin = (high / low).max(2.0).powf(0.04);
        let range = low / margin..high * margin;
        let ticks = if scale.ticks.is_empty() { nice(&range) } else { thinned(&scale.ticks, &range) };
        Logarithmic { range, ticks, label: scale.label }
    }
}

/// Those of `ticks` that have room beside the one before.
fn thinned(ticks: &[f64], range: &Range<f64>) -> Vec<f64> {
    let room = (range.end / range.start).ln() / MOST_TICKS;
    let mut kept: Vec<f64> = Vec::new();
    for &tick in ticks {
        if kept.last().is_none_or(|last| (tick / last).ln() >= room) {
            kept.push(tick);
        }
    }
    kept
}

/// Powers of ten within `range`, and as many multiples of them as it takes to have some.
fn nice(range: &Range<f64>) -> Vec<f64> {
    let powers = range.start.log10().floor() as i32..=range.end.log10().ceil() as i32;
    let within = |steps: &[f64]| -> Vec<f64> {
        let all = powers.clone().flat_map(|power| steps.iter().map(move |step| step * 10f64.powi(power)));
        all.filter(|value| range.contains(value)).collect()
    };
    let all = STEPS.iter().map(|steps| within(steps));
    all.into_iter().find(|ticks| ticks.len() >= FEWEST_TICKS).unwrap_or_else(|| {
        // A narrow range: where there are no short numbers, others must do.
        let part = |part: f64| range.start * (range.end / range.start).powf(part);
        vec![part(0.2), part(0.8)]
    })
}

/// A number as it stands at a scale: no digits that are zero behind the point.
pub(super) fn plain(value: f64) -> String {
    let digits = (-value.log10().floor()).max(0.0) as usize;
    // One more for those between.
    let text = format!("{value:.*}", digits + 1);
    text.trim_end_matches('0').trim_end_matches('.').into()
}

impl Ranged for Logarithmic {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        let part = (value / self.range.start).ln() / (self.range.end / self.range.start).ln();
        limit.0 + (part * f64::from(limit.1 - limit.0)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        // As many as there is room for; not between those.
        if hint.weight().allow_light_points() { Vec::new() } else { self.ticks.clone() }
    }

    fn range(&self) -> Range<f64> {
        self.range.clone()
    }
}

impl ValueFormatter<f64> for Logarithmic {
    fn format_ext(&self, value: &f64) -> String {
        (self.label)(*value)
    }
}

impl Chart {
    /// Draws it, with a mark at each point if wanted.
    ///
    /// # Errors
    /// Those of plotters, of which there are none for a string.
    pub(super) fn svg(&self, has_marks: bool) -> Result<String, Box<dyn Error>> {
        let mut svg = String::new();
        let points = || self.all.iter().flat_map(|series| &series.points);
        let x = Logarithmic::of(&self.x, points().map(|point| point.0));
        let y = Logarithmic::of(&self.y, points().map(|point| point.1));
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        let text = |size: u32| (FONT, size).into_font().color(&INK);
        let mut chart = ChartBuilder::on(&root)
            .margin(8)
            .margin_right(32)
            .x_label_area_size(56)
            .y_label_area_size(84)
            .build_cartesian_2d(x, y)?;
        chart
            .configure_mesh()
            .axis_style(INK)
            .bold_line_style(GRID)
            .label_style(text(20))
            .axis_desc_style(text(20))
            .x_desc(&self.x.name)
            .y_desc(&self.y.name)
            .draw()?;
        // The most important last, above all others.
        for (index, series) in self.all.iter().enumerate().rev() {
            let color = series_color(index);
            let width = if index == 0 { 3 } else { 2 };
            chart.draw_series(LineSeries::new(series.points.iter().copied(), color.stroke_width(width)))?;
            for &point in series.points.iter().filter(|_| has_marks || series.points.len() == 1) {
                let area = chart.plotting_area();
                match index % MARKS {
                    0 => area.draw(&Circle::new(point, 4, color.filled()))?,
                    1 => area.draw(&TriangleMarker::new(point, 5, color.filled()))?,
                    _ => area.draw(&Cross::new(point, 4, color.stroke_width(2)))?,
                }
            }
        }
        root.present()?;
        drop(chart);
        drop(root);
        Ok(svg)
    }
}

/// The colour that stands for that of the series with this index.
fn series_color(index: usize) -> RGBColor {
    RGBColor(1, 3, (index % COLORS) as u8)
}

/// The name of that colour in the page.
pub(super) fn color_name(index: usize) -> String {
    format!("--series-{}", index % COLORS)
}

/// The rules that give all colours of charts the values that the page has for them.
pub(super) fn style() -> String {
    let mut rules = String::new();
    let mut rule = |RGBColor(red, green, blue): RGBColor, name: &str| {
        let color = format!("#{red:02X}{green:02X}{blue:02X}");
        // Writing to a string does not fail.
        let _ = writeln!(
            rules,
            ".chart [fill=\"{color}\"]{{fill:var({name})}}.chart [stroke=\"{color}\"]{{stroke:var({name})}}"
        );
    };
    rule(INK, "--ink-2");
    rule(GRID, "--grid");
    for index in 0..COLORS {
        rule(series_color(index), &color_name(index));
    }
    rules
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(points: Vec<(f64, f64)>) -> Chart {
        let scale = |name: &str| Scale { name: name.into(), label: |value| format!("{value:.0}"), ticks: Vec::new() };
        let all = vec![Series { name: "ours", points }];
        Chart { title: "<title>".into(), x: scale("size"), y: scale("ns"), all }
    }

    #[test]
    fn all_colours_of_a_chart_are_those_that_the_page_replaces() {
        let svg = chart(vec![(1.0, 10.0), (100.0, 2000.0)]).svg(true).unwrap();
        let style = style();
        let colors = svg.split('"').filter(|word| word.starts_with('#'));
        let foreign: Vec<_> = colors.filter(|color| !style.contains(*color)).collect();
        assert!(foreign.is_empty(), "{foreign:?}");
        assert!(svg.contains("size"));
    }

    #[test]
    fn single_point_is_drawn_in_a_range_around_it() {
        let svg = chart(vec![(10.0, 50.0)]).svg(true).unwrap();
        assert!(svg.contains("<circle"));
    }

    #[test]
    fn numbers_that_would_overlap_are_left_out() {
        assert_eq!(thinned(&[1.0, 32.0, 64.0, 128.0, 256.0], &(1.0..512.0)), [1.0, 32.0, 128.0]);
    }

    #[test]
    fn nice_numbers_are_few_and_short() {
        assert_eq!([0.05, 0.1, 1.5, 2.0, 500.0].map(plain), ["0.05", "0.1", "1.5", "2", "500"]);
        assert_eq!(nice(&(8.0..60.0)), [10.0, 20.0, 50.0]);
        assert_eq!(nice(&(290.0..420.0)), [300.0, 350.0, 400.0]);
        assert_eq!(nice(&(310.0..320.0)).len(), 2);
        assert_eq!(nice(&(0.5..20_000.0)), [1.0, 10.0, 100.0, 1000.0, 10_000.0]);
    }
}
