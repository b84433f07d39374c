//! Criterion benches of `pool/...`: the cases of the report, one group each.

#[path = "common/timed.rs"]
mod timed;

use criterion::Criterion;
use shmkit_bench::cases::pool;

fn main() {
    shmkit_bench::cases::run_role_if_child();
    let mut criterion = Criterion::default().configure_from_args();
    for (label, chunk) in pool::CHUNKS {
        let name = format!("{}/{}", pool::MAPS, label.replace(' ', "_"));
        timed::bench(&mut criterion, &name, pool::candidates(chunk).expect("pools"));
    }
    timed::bench(&mut criterion, pool::KILLS, pool::killing().expect("pools"));
    criterion.final_summary();
}
