//! A pool of so many workers that several threads look after them. It is alone in its process: its threads are told by their names.

#![cfg(feature = "process")]

mod common;

use std::process;
use std::thread;
use std::time::{Duration, Instant};

use shmkit::process::Pool;

use common::gate::{gate, pass, until_come};
use common::{BOUND, is_in_futex, threads_named};

shmkit::process::enable_test_support!();

/// Waits until the threads that look after workers are found asleep for a while: whoever has just heard something looks once more soon after. It need
/// not come to that on a machine that is busy enough; then the test sees less.
fn until_crews_have_nothing_to_do() {
    const TIMES: u32 = 10;
    let pid = process::id();
    let crews = threads_named(pid, "shmkit-crew");
    assert!(crews.len() > 1, "{crews:?}");
    let end = Instant::now() + Duration::from_secs(1);
    let mut times = 0;
    while times < TIMES && Instant::now() < end {
        times = if crews.iter().all(|crew| is_in_futex(pid, *crew)) { times + 1 } else { 0 };
        thread::sleep(Duration::from_micros(100));
    }
}

#[test]
fn more_workers_than_one_thread_looks_after_are_terminated_at_their_tasks() {
    let pool = Pool::new(35).expect("a pool");
    let gate = gate();
    let _pending = pool.chunked(1).map_async(pass, vec![gate.clone(); 35]);
    until_come(&gate, 35);
    until_crews_have_nothing_to_do();

    let start = Instant::now();
    pool.terminate();
    pool.join();

    // Whom nobody kills waits in vain for the gate to open.
    assert!(start.elapsed() < BOUND / 2, "{:?}", start.elapsed());
    assert!(pool.pids().is_empty());
}
