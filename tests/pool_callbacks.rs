//! Pools: what calls back when something is done.

#![cfg(feature = "process")]

mod common;

use std::sync::{Arc, mpsc};
use std::thread;

use shmkit::process::{Submitter, TaskError};

use common::gate::{gate, open, pass, until_come};
use common::tasks::{fail_on_seven, pool, square};
use common::{BOUND, until};

shmkit::process::enable_test_support!();

#[test]
fn callbacks_get_values_and_errors_and_may_submit_but_not_wait() {
    let pool = pool();
    let (tell, told) = mpsc::channel();
    let tell_of = |what: &'static str| {
        let tell = tell.clone();
        move |value| tell.send((what, value)).expect("a listener")
    };
    pool.submit(square, 5).on_done(tell_of("value"));
    assert_eq!(told.recv_timeout(BOUND).expect("a call"), ("value", Ok(25)));
    pool.submit(fail_on_seven, 7).on_done(tell_of("panic"));
    assert!(matches!(told.recv_timeout(BOUND).expect("a call"), ("panic", Err(TaskError::Panicked { .. }))));

    // A panic in one of them disturbs nobody. None of these tasks is done before somebody waits for it.
    let early = gate();
    pool.submit(pass, early.clone()).on_done(|_| panic!("a callback that panics"));
    open(&early);
    let (late, gate, submitter, chain) = (gate(), gate(), Submitter::clone(&pool), tell_of("chain"));
    let (waiting, answer) = mpsc::channel();
    let blocked = pool.submit(pass, gate.clone());
    pool.submit(pass, late.clone()).on_done(move |_| {
        waiting.send(blocked.get()).expect("a listener");
        submitter.submit(square, 4).on_done(chain);
    });
    open(&late);
    assert!(matches!(answer.recv_timeout(BOUND).expect("a call"), Err(TaskError::WouldBlock { .. })));
    assert_eq!(told.recv_timeout(BOUND).expect("a call"), ("chain", Ok(16)));
    open(&gate);

    // One that comes late is called at once, here.
    let done = pool.submit(square, 6);
    done.get().expect("a value");
    let here = thread::current().id();
    let (tell, told) = mpsc::channel();
    done.on_done(move |value| tell.send((value, thread::current().id() == here)).expect("a listener"));
    assert_eq!(told.try_recv(), Ok((Ok(36), true)));
}

#[test]
fn progress_is_told_after_each_chunk() {
    let pool = pool();
    let (tell, told) = mpsc::channel();
    let gate = gate();
    let pending = pool.chunked(5).map_async(pass, vec![gate.clone(); 20]);
    let pending = pending.on_progress(move |done, all| tell.send((done, all)).expect("a listener"));
    open(&gate);
    pending.get().expect("values");
    let told: Vec<_> = told.iter().take(4).collect();
    assert_eq!(told, [(5, 20), (10, 20), (15, 20), (20, 20)]);
    assert_eq!(pending.progress(), (20, 20));
}

#[test]
fn one_who_is_told_of_progress_may_end_the_pool() {
    let pool = Arc::new(pool());
    let (gate, tell) = (gate(), mpsc::channel());
    let (tell, told) = tell;
    let ender = Arc::clone(&pool);
    let pending = pool.chunked(1).map_async(pass, vec![gate.clone(); 20]).on_progress(move |done, all| {
        ender.terminate();
        tell.send((done, all)).expect("a listener");
    });
    open(&gate);
    pending.get_timeout(BOUND).expect_err("a pool that was ended");
    // What was given up meanwhile is told of, too.
    until("the last one", || told.try_recv() == Ok((20, 20)));
    pool.join();
}

#[test]
fn a_callback_that_ends_the_thread_of_the_pool_breaks_the_pool() {
    /// What a panic says, and then panics by itself.
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("one panic after the other");
        }
    }
    let pool = pool();
    let gate = gate();
    let before = pool.submit(pass, gate.clone());
    until_come(&gate, 1);
    pool.submit(square, 2).on_done(|_| std::panic::panic_any(Bomb));
    let ended = before.get_timeout(BOUND);
    assert!(matches!(ended, Err(TaskError::Broken { .. })), "{ended:?}");
    assert!(matches!(pool.submit(square, 2).get_timeout(BOUND), Err(TaskError::Broken { .. })));
}
