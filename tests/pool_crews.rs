//! A pool of so many workers that several threads look after them. It is alone in its process: its threads are told by their names.

mod common;

use std::fs;
use std::process;
use std::time::{Duration, Instant};

use shmkit::process::Pool;

use common::gate::{gate, pass, until_come};
use common::{BOUND, threads_named, until, until_in_futex};

shmkit::process::enable_test_support!();

/// Waits until the threads that look after workers sleep, and have not been awake for a while: whoever has just heard something looks once more
/// soon after.
#[track_caller]
fn until_crews_have_nothing_to_do() {
    let pid = process::id();
    let crews = threads_named(pid, "shmkit-crew");
    assert!(crews.len() > 1, "{crews:?}");
    let sleeps = || -> Vec<String> {
        let of = |crew: &u32| fs::read_to_string(format!("/proc/{pid}/task/{crew}/status")).expect("a living thread");
        let count = |status: String| status.lines().filter(|line| line.contains("ctxt_switches")).collect();
        crews.iter().map(of).map(count).collect()
    };
    let mut before = Vec::new();
    let mut since = Instant::now();
    until("crews that sleep for long", || {
        crews.iter().for_each(|crew| until_in_futex(pid, *crew));
        let now = sleeps();
        if now != before {
            before = now;
            since = Instant::now();
        }
        since.elapsed() > Duration::from_millis(100)
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
