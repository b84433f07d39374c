//! Criterion benches of `region/...`: the cases of the report, one group for each size. Attaching for the first time is one of the
//! ways to open.

#[path = "common/timed.rs"]
mod timed;

use criterion::Criterion;
use shmkit_bench::cases::{create, open};

/// No larger regions are made: the kernel clears each.
const MOST: usize = 16 << 20;
/// How many regions are made or opened per sample.
const TURNS: u32 = 50;

fn main() {
    shmkit_bench::cases::run_role_if_child();
    let mut criterion = Criterion::default().configure_from_args();
    creating(&mut criterion);
    opening(&mut criterion);
    criterion.final_summary();
}

fn creating(criterion: &mut Criterion) {
    let scene = create::Scene::prepare().expect("a janitor");
    for (label, size) in create::SIZES.into_iter().filter(|&(_, size)| size <= MOST && scene.has_room_for(size)) {
        timed::bench(criterion, &name(create::NAME, label), scene.candidates(size, TURNS));
    }
}

fn opening(criterion: &mut Criterion) {
    let scene = open::Scene::prepare().expect("regions");
    let further = format!("{}/further", open::NAME);
    for (index, (label, _)) in open::SIZES.into_iter().enumerate() {
        timed::bench(criterion, &name(&further, label), scene.opening(index, TURNS));
    }
    let _held = scene.hold().expect("regions that are there");
    let again = (0..open::SIZES.len()).map(|index| scene.again(index, TURNS)).collect();
    timed::bench(criterion, &format!("{}/again", open::NAME), again);
    timed::bench(criterion, &format!("{}/first", open::NAME), scene.coming());
}

fn name(case: &str, label: &str) -> String {
    format!("{case}/{}", label.replace(' ', "_"))
}
