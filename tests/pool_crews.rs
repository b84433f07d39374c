//! A pool of so many workers that several threads look after them. It is alone in its process: its threads are told by their names.

mod common;

use std::process;
use std::time::Instant;

use shmkit::process::Pool;

use common::gate::{gate, pass, until_come};
use common::{BOUND, is_in_futex, threads_named, until};

shmkit::process::enable_test_support!();

/// Waits until the threads that look after workers sleep, and are found asleep for a while: whoever has just heard something looks once more
/// soon after.
#[track_caller]
fn until_crews_have_nothing_to_do() {
    const TIMES: u32 = 5;
    let pid = process::id();
    let crews = threads_named(pid, "shmkit-crew");
    assert!(crews.len() > 1, "{crews:?}");
    let mut times = 0;
    until("crews that sleep for long", || {
        times = if crews.iter().all(|crew| is_in_futex(pid, *crew)) { times + 1 } else { 0 };
        times >= TIMES
    });
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
