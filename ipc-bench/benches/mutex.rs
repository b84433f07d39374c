//! Criterion benches of the mutex, by the same case functions as the report.
//!
//! Criterion shows the course of one lock over time; ratios between locks come from the report,
//! whose rounds are interleaved.

mod common;

use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, SamplingMode};
use shmkit_bench::cases;
use shmkit_bench::cases::contention::{self, Arena};
use shmkit_bench::cases::kill::{self, Scene};
use shmkit_bench::lock::{RobustLock, SharedLock};
use shmkit_bench::ours::Ours;
use shmkit_bench::pthread::{Plain, Robust};
use shmkit_bench::stats::Plan;

/// The most kills of one sample: making a victim takes a hundred times as long as what is timed.
const KILLS_PER_SAMPLE: u64 = 10;

fn main() {
    cases::run_role_if_child();
    let mut criterion = Criterion::default().configure_from_args();
    common::bench(&mut criterion, "mutex/");
    bench_contended(&mut criterion);
    bench_kill(&mut criterion);
    criterion.final_summary();
}

fn bench_contended(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("mutex/contended");
    group.sample_size(15).sampling_mode(SamplingMode::Flat);
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    contended::<Ours>(&mut group);
    contended::<Plain>(&mut group);
    group.finish();
}

/// Times a section; each sample is one round of fixed length, whatever criterion asks for.
fn contended<L: SharedLock>(group: &mut BenchmarkGroup<'_, WallTime>) {
    let settings = contention::Settings {
        plan: plan(),
        duration: contention::WINDOW * 2,
        work: Duration::from_nanos(200),
        repeats: 0,
    };
    group.bench_function(L::NAME, |bencher| {
        let mut arena = Arena::of::<L>(&settings).expect("two workers");
        bencher.iter_custom(|sections| {
            let round = arena.round().expect("a round of two workers");
            assert!(round.exact, "sections overlapped");
            Duration::from_secs_f64(sections as f64 / round.sections_per_second)
        });
    });
}

fn bench_kill(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("mutex/kill");
    group.sample_size(15).sampling_mode(SamplingMode::Flat);
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_millis(50));
    kill::<Ours>(&mut group);
    kill::<Robust>(&mut group);
    group.finish();
}

/// Times takeovers; of the kills that criterion asks for in a sample, the first few stand for all.
fn kill<L: RobustLock>(group: &mut BenchmarkGroup<'_, WallTime>) {
    let settings = kill::Settings { label: "1 MiB", plan: plan(), memory: 1 << 20, huge_pages: false };
    group.bench_function(L::NAME, |bencher| {
        let mut scene = Scene::of::<L>(&settings).expect("a waiter");
        bencher.iter_custom(|kills| {
            let real = kills.clamp(1, KILLS_PER_SAMPLE);
            let times = (0..real).map(|_| scene.kill().expect("a takeover").nanoseconds);
            let total = Duration::from_nanos(times.sum());
            total.mul_f64(kills as f64 / real as f64)
        });
    });
}

/// Criterion has its own idea of rounds.
fn plan() -> Plan {
    Plan { case: String::new(), rounds: 0, budget: Duration::MAX, verbose: false }
}
