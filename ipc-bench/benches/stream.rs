//! Criterion benches of `stream/...`: the cases of the report, one group each.

mod common;

use criterion::Criterion;

fn main() {
    shmkit_bench::cases::run_role_if_child();
    let mut criterion = Criterion::default().configure_from_args();
    common::bench(&mut criterion, "stream/");
    criterion.final_summary();
}
