//! Criterion benches of `process/...`: the cases of the report, one group each.

#[path = "common/timed.rs"]
mod timed;

use criterion::Criterion;
use shmkit_bench::cases::spawn;
use shmkit_bench::stats::Candidate;

fn main() {
    shmkit_bench::cases::run_role_if_child();
    let mut criterion = Criterion::default().configure_from_args();
    let candidates = spawn::candidates(5).expect("what they need").into_iter();
    let means = candidates.map(|mut one| Candidate::new(one.name(), move || Ok(spawn::mean(&one.sample()?))));
    timed::bench(&mut criterion, spawn::NAME, means.collect());
    criterion.final_summary();
}
