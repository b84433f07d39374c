//! Criterion benches of `process/...`: the cases of the report, one group each.

#[path = "common/timed.rs"]
mod timed;

use criterion::Criterion;
use shmkit_bench::cases::spawn;

fn main() {
    shmkit_bench::cases::run_role_if_child();
    let mut criterion = Criterion::default().configure_from_args();
    timed::bench(&mut criterion, spawn::NAME, spawn::candidates(5).expect("what they need"));
    criterion.final_summary();
}
