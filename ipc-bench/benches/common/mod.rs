//! The cases of the report as criterion benches: one group per case, named like it.
//!
//! Criterion shows the course of one candidate over time, and all of a group in one plot
//! (`target/criterion/report/index.html`); ratios come from the report, whose rounds are interleaved.

use std::time::Duration;

use criterion::{Criterion, SamplingMode, Throughput};
use shmkit_bench::cases::{DEATHS, GAMES, SOLOS};
use shmkit_bench::death::{Death, Scene};
use shmkit_bench::pin::{Pair, pin_to};
use shmkit_bench::solo::Solo;
use shmkit_bench::team::{Game, Measure, Team};

/// The length of a sample of a team.
const SAMPLE: Duration = Duration::from_millis(20);
/// The most kills of one sample: making a victim takes a hundred times as long as what is timed.
const KILLS_PER_SAMPLE: u64 = 10;

/// Benches all cases whose names begin with `prefix`.
pub(crate) fn bench(criterion: &mut Criterion, prefix: &str) {
    for case in SOLOS.iter().filter(|case| case.name.starts_with(prefix)) {
        solo(criterion, case);
    }
    for case in GAMES.iter().filter(|case| case.name.starts_with(prefix)) {
        game(criterion, case);
    }
    for case in DEATHS.iter().filter(|case| case.name.starts_with(prefix)) {
        death(criterion, case);
    }
}

fn solo(criterion: &mut Criterion, case: &Solo) {
    // Before the thread is pinned: keepers stay.
    let candidates = (case.candidates)().expect("a region and shared memory");
    let cpu = Pair::choose().expect("an allowed CPU").first;
    let _pinned = pin_to(cpu).expect("pinning to an allowed CPU");
    let mut group = criterion.benchmark_group(case.name);
    group.measurement_time(Duration::from_secs(2));
    for candidate in &candidates {
        group.bench_function(candidate.name, |bencher| bencher.iter_custom(|turns| candidate.time(turns)));
    }
    group.finish();
}

/// Each sample is as long as it is, whatever criterion asks for.
fn game(criterion: &mut Criterion, case: &Game) {
    let mut group = criterion.benchmark_group(case.name);
    group.sample_size(15).sampling_mode(SamplingMode::Flat);
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    match case.measure {
        Measure::Bytes(count) => drop(group.throughput(Throughput::Bytes(count))),
        Measure::PerMessage(count) => drop(group.throughput(Throughput::Elements(count))),
        Measure::Whole | Measure::EachRate => {}
    }
    for entry in case.entries {
        if !entry.is_here(case.members).expect("shared memory") {
            eprintln!("{}/{}: not on this machine", case.name, entry.name);
            continue;
        }
        group.bench_function(entry.name, |bencher| {
            let mut team = Team::start(case, entry).expect("the members of a team");
            bencher.iter_custom(|turns| {
                let sample = team.sample(SAMPLE).expect("some rounds of the team");
                Duration::from_nanos((sample.cost() * turns as f64) as u64)
            });
        });
    }
    group.finish();
}

/// Of the kills that criterion asks for in a sample, the first few stand for all.
fn death(criterion: &mut Criterion, case: &Death) {
    let mut group = criterion.benchmark_group(case.name);
    group.sample_size(15).sampling_mode(SamplingMode::Flat);
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_millis(50));
    for entry in case.entries {
        group.bench_function(entry.name, |bencher| {
            let mut scene = Scene::start(case, entry).expect("the peers");
            bencher.iter_custom(|kills| {
                let real = kills.clamp(1, KILLS_PER_SAMPLE);
                let times = (0..real).map(|_| scene.kill().expect("all peers to learn of it").nanoseconds);
                let total = Duration::from_nanos(times.sum());
                total.mul_f64(kills as f64 / real as f64)
            });
        });
    }
    group.finish();
}
