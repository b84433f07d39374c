//! Criterion benches of `array/...`: the cases of the report, one group each; copies have one for each length.

mod common;

use std::time::Duration;

use criterion::{Criterion, Throughput};
use shmkit_bench::cases;
use shmkit_bench::cases::array::{SIZES, Way};
use shmkit_bench::pin::{Pair, pin_to};

fn main() {
    cases::run_role_if_child();
    let mut criterion = Criterion::default().configure_from_args();
    common::bench(&mut criterion, "array/");
    for way in Way::BOTH {
        for (label, size) in SIZES {
            copy(&mut criterion, way, label, size);
        }
    }
    criterion.final_summary();
}

fn copy(criterion: &mut Criterion, way: Way, label: &str, size: usize) {
    // Before the thread is pinned: keepers stay.
    let candidates = way.candidates(size).expect("a region and shared memory");
    let _pinned = pin_to(Pair::choose().expect("an allowed CPU").first).expect("pinning to an allowed CPU");
    let mut group = criterion.benchmark_group(format!("array/copy/{}/{}", way.name(), label.replace(' ', "")));
    group.throughput(Throughput::Bytes(size as u64)).measurement_time(Duration::from_secs(2));
    for candidate in &candidates {
        group.bench_function(candidate.name, |bencher| bencher.iter_custom(|turns| candidate.time(turns)));
    }
    group.finish();
}
