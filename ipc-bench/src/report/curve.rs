//! Curves over sizes, processes and participants: which cases are their points.

use super::Line;
use super::chart::{Chart, Scale, Series, plain};

/// A curve: lines of the report over a quantity.
#[derive(Debug, Clone, Copy)]
pub struct Curve {
    /// What is shown.
    pub title: &'static str,
    /// What it is shown over.
    pub over: Over,
    /// The names of the lines, and where they stand.
    pub points: &'static [(u64, &'static str)],
}

/// What a curve is shown over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// A size in bytes.
    Bytes(&'static str),
    /// A number of something.
    Count(&'static str),
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// All curves.
pub const CURVES: &[Curve] = &[
    Curve {
        title: "Frames: bytes a second over the size of a frame",
        over: Over::Bytes("size of a frame"),
        points: &[
            (8, "frames/size/8B"),
            (64, "frames/size/64B"),
            (512, "frames/size/512B"),
            (4 * KIB, "frames/size/4KiB"),
            (32 * KIB, "frames/size/32KiB"),
            (64 * KIB, "frames/64KiB"),
            (256 * KIB, "frames/size/256KiB"),
            (MIB, "frames/size/1MiB"),
        ],
    },
    Curve { title: "Array: copy in, over the length", over: Over::Bytes("length"), points: ARRAY_IN },
    Curve { title: "Array: copy out, over the length", over: Over::Bytes("length"), points: ARRAY_OUT },
    Curve {
        title: "Mutex: a section, over the processes that want it",
        over: Over::Count("processes"),
        points: &[
            (1, "mutex/processes/1"),
            (2, "mutex/processes/2"),
            (4, "mutex/processes/4"),
            (8, "mutex/processes/8"),
            (16, "mutex/processes/16"),
        ],
    },
    Curve {
        title: "Owner of a mutex killed: until the last waiter knows, median, over the waiters",
        over: Over::Count("waiters"),
        points: &[
            (1, "mutex/death/median/1_peer"),
            (4, "mutex/death/median/4_peers"),
            (16, "mutex/death/median/16_peers"),
            (64, "mutex/death/median/64_peers"),
        ],
    },
    Curve {
        title: "Owner of a mutex killed: median, over the memory of the victim",
        over: Over::Bytes("memory of the victim"),
        points: &[
            (MIB, "mutex/kill/1MiB/median"),
            (32 * MIB, "mutex/kill/32MiB/median"),
            (256 * MIB, "mutex/kill/256MiB/median"),
            (2 * GIB, "mutex/kill/2GiB/median"),
            (4 * GIB, "mutex/kill/4GiB/median"),
        ],
    },
    Curve {
        title: "First attachment of a process, over the participants that are there",
        over: Over::Count("participants"),
        points: &[
            (1, "region/attach/1_participant"),
            (10, "region/attach/10_participants"),
            (100, "region/attach/100_participants"),
            (1000, "region/attach/1000_participants"),
        ],
    },
    Curve { title: "Making a region, over its size", over: Over::Bytes("size of the region"), points: CREATE },
];

const ARRAY_IN: &[(u64, &str)] = &[
    (64, "array/copy/copy_in_64_b"),
    (512, "array/copy/copy_in_512_b"),
    (4 * KIB, "array/copy/copy_in_4_kib"),
    (16 * KIB, "array/copy/copy_in_16_kib"),
    (64 * KIB, "array/copy/copy_in_64_kib"),
    (256 * KIB, "array/copy/copy_in_256_kib"),
    (MIB, "array/copy/copy_in_1_mib"),
    (4 * MIB, "array/copy/copy_in_4_mib"),
    (16 * MIB, "array/copy/copy_in_16_mib"),
    (64 * MIB, "array/copy/copy_in_64_mib"),
];

const ARRAY_OUT: &[(u64, &str)] = &[
    (64, "array/copy/copy_out_64_b"),
    (512, "array/copy/copy_out_512_b"),
    (4 * KIB, "array/copy/copy_out_4_kib"),
    (16 * KIB, "array/copy/copy_out_16_kib"),
    (64 * KIB, "array/copy/copy_out_64_kib"),
    (256 * KIB, "array/copy/copy_out_256_kib"),
    (MIB, "array/copy/copy_out_1_mib"),
    (4 * MIB, "array/copy/copy_out_4_mib"),
    (16 * MIB, "array/copy/copy_out_16_mib"),
    (64 * MIB, "array/copy/copy_out_64_mib"),
];

const CREATE: &[(u64, &str)] = &[
    (4 * KIB, "region/create/4_kib"),
    (64 * KIB, "region/create/64_kib"),
    (MIB, "region/create/1_mib"),
    (16 * MIB, "region/create/16_mib"),
    (256 * MIB, "region/create/256_mib"),
    (GIB, "region/create/1_gib"),
    (4 * GIB, "region/create/4_gib"),
];

impl Curve {
    /// The chart of what `lines` have of it; `None` if that is no curve.
    pub(super) fn chart(&self, lines: &[Line]) -> Option<Chart> {
        let points: Vec<_> = self
            .points
            .iter()
            .filter_map(|(x, name)| Some((*x as f64, lines.iter().find(|line| line.name == *name)?)))
            .collect();
        let [(_, first), _, ..] = points.as_slice() else { return None };
        let mut all = vec![Series { name: "shmkit", points: of(&points, |line| line.ours) }];
        // Of all points: a rival may take part in some of them.
        for rival in points.iter().flat_map(|(_, line)| &line.rivals) {
            if all.iter().all(|series| series.name != rival.name) {
                let value = |line: &Line| line.rivals.iter().find(|other| other.name == rival.name)?.value;
                all.push(Series { name: rival.name, points: of(&points, value) });
            }
        }
        all.retain(|series| !series.points.is_empty());
        let (over, x_label): (_, fn(f64) -> String) = match self.over {
            Over::Bytes(over) => (over, bytes),
            Over::Count(over) => (over, count),
        };
        Some(Chart {
            title: self.title.into(),
            x: Scale { name: over.into(), label: x_label, ticks: points.iter().map(|(x, _)| *x).collect() },
            y: Scale { name: first.unit.into(), label: plain, ticks: Vec::new() },
            all,
        })
    }
}

fn of(points: &[(f64, &Line)], value: impl Fn(&Line) -> Option<f64>) -> Vec<(f64, f64)> {
    points.iter().filter_map(|(x, line)| Some((*x, value(line).filter(|&value| value > 0.0)?))).collect()
}

fn count(value: f64) -> String {
    format!("{value:.0}")
}

fn bytes(value: f64) -> String {
    let units = [(GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")];
    let (size, unit) = units.into_iter().find(|(size, _)| value >= *size as f64).unwrap_or((1, "B"));
    format!("{:.0} {unit}", value / size as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_written_with_the_largest_unit_that_fits() {
        assert_eq!([8.0, 4096.0, (64 << 20) as f64].map(bytes), ["8 B", "4 KiB", "64 MiB"]);
    }
}
