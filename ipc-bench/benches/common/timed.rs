//! Candidates of the report that measure by themselves, as criterion benches.

use std::time::Duration;

use criterion::{Criterion, SamplingMode};
use shmkit_bench::stats::Candidate;

/// Benches candidates that say how many microseconds one turn takes; each sample is as long as it is, whatever criterion asks for.
pub(crate) fn bench(criterion: &mut Criterion, name: &str, candidates: Vec<Candidate<'_, f64>>) {
    let mut group = criterion.benchmark_group(name);
    group.sample_size(15).sampling_mode(SamplingMode::Flat);
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    for mut candidate in candidates {
        group.bench_function(candidate.name(), |bencher| {
            bencher.iter_custom(|turns| {
                let microseconds = candidate.sample().expect("a sample of a case of the report");
                Duration::from_secs_f64(microseconds * turns as f64 / 1e6)
            });
        });
    }
    group.finish();
}
