//! Pools: what everybody does with them.

#![cfg(feature = "process")]

mod common;

use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use shmkit::process::{Pool, PoolError, PoolOptions, SpawnError, Submitter, TaskError};
use shmkit::{Queue, QueueOptions};

use common::gate::{Gate, gate, open, pass, until_come};
use common::tasks::{fail_on_seven, pool, square};
use common::{BOUND, prompt, until};

shmkit::process::enable_test_support!();

#[test]
fn a_map_returns_values_in_the_order_of_its_items() {
    let pool = pool();
    for chunk in [0, 1, 7, 20_000] {
        let squares = pool.chunked(chunk).map(square, 0..10_000).expect("values");
        assert!(squares.into_iter().eq((0..10_000).map(square)), "chunks of {chunk}");
    }
}

#[test]
fn a_map_of_nothing_is_nothing() {
    let pool = pool();
    assert_eq!(pool.map(square, []), Ok(vec![]));
    assert_eq!(pool.imap(square, []).count(), 0);
    assert_eq!(pool.imap_unordered(square, []).count(), 0);
    let pending = pool.map_async(square, []);
    assert!(pending.is_done());
    assert_eq!(pending.progress(), (0, 0));
}

#[test]
fn arguments_and_values_are_of_any_type() {
    type Args = (String, Vec<u32>, Option<bool>);
    fn turn((text, numbers, maybe): Args) -> (Option<bool>, Vec<u32>, String) {
        (maybe, numbers.into_iter().rev().collect(), text)
    }
    let pool = pool();
    let args: Args = ("hello".into(), (0..100).collect(), Some(true));
    let (maybe, numbers, text) = pool.apply(turn, args.clone()).expect("a value");
    assert_eq!((text, maybe), (args.0, args.2));
    assert!(numbers.into_iter().eq((0..100).rev()));
    assert_eq!(pool.apply(|()| (), ()), Ok(()));
}

#[test]
fn values_can_be_asked_for_again() {
    let pool = pool();
    let (one, many) = (pool.submit(square, 3), pool.map_async(square, 1..4));
    assert_eq!((one.get(), one.get_timeout(Duration::ZERO)), (Ok(9), Ok(9)));
    assert_eq!((many.get(), many.get()), (Ok(vec![1, 4, 9]), Ok(vec![1, 4, 9])));
}

#[test]
fn a_panic_is_an_error_with_its_message_and_the_name_of_the_task_and_the_worker_lives_on() {
    let pool = Pool::new(1).expect("a pool");
    let pid = pool.apply(|()| std::process::id(), ()).expect("a value");

    let error = pool.apply(fail_on_seven, 7).expect_err("a panic");
    let TaskError::Panicked { task, message } = &error else { panic!("{error}") };
    assert!(message.contains("I do not like it"), "{message}");
    assert!(task.contains("fn(u64) -> u64") && task.contains(file!()), "{task}");
    assert!(error.to_string().contains("I do not like it"), "{error}");

    let named = pool.named("picky").apply(fail_on_seven, 7);
    assert!(matches!(named, Err(TaskError::Panicked { task, .. }) if task == "picky"));
    assert_eq!(pool.apply(|()| std::process::id(), ()), Ok(pid));
}

#[test]
fn a_panic_in_a_map_is_that_of_one_task() {
    let pool = pool();
    for chunk in [1, 4, 100] {
        let pending = pool.chunked(chunk).map_async(fail_on_seven, 0..20);
        let each = pending.get_each().expect("not a thread of the pool");
        for (item, value) in each.into_iter().enumerate() {
            match value {
                Ok(value) => assert_eq!(value, item as u64),
                Err(TaskError::Panicked { .. }) => assert_eq!(item, 7),
                Err(error) => panic!("{error}"),
            }
        }
        assert!(matches!(pending.get(), Err(TaskError::Panicked { .. })));
    }
}

#[test]
fn a_panic_that_says_no_text_is_an_error() {
    let pool = pool();
    let error = pool.apply::<(), ()>(|()| std::panic::panic_any(7), ());
    assert!(matches!(error, Err(TaskError::Panicked { .. })), "{error:?}");
}

#[test]
fn an_iterator_takes_chunks_of_any_size() {
    let pool = pool();
    for chunk in [1 << 62, usize::MAX] {
        assert!(pool.chunked(chunk).imap(square, 0..100).eq((0..100).map(|number| Ok(square(number)))));
    }
}

#[test]
fn items_that_fail_leave_the_pool_as_it_was() {
    let pool = pool();
    let items = || (0..100).inspect(|item| assert_ne!(*item, 50, "no more items"));
    let panicked = thread::scope(|scope| scope.spawn(|| pool.map(square, items())).join());
    assert!(panicked.is_err());
    assert_eq!(pool.map(square, 0..3), Ok(vec![0, 1, 4]));
}

#[test]
fn an_iterator_goes_on_behind_an_item_that_has_failed() {
    let pool = pool();
    for chunk in [1, 3] {
        let items = (0..100u64).inspect(|item| assert_ne!(*item, 50, "a bad item"));
        let mut squares = pool.chunked(chunk).imap(square, items);
        let mut values = Vec::new();
        let mut panics = 0;
        loop {
            // What fails is the taking of items, which is ahead of the values.
            match std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| squares.next())) {
                Ok(Some(value)) => values.push(value.expect("a value")),
                Ok(None) => break,
                Err(_) => panics += 1,
            }
        }
        assert_eq!(panics, 1);
        assert!(values.into_iter().eq((0..100).filter(|item| *item != 50).map(square)), "chunks of {chunk}");
    }
}

#[test]
fn an_iterator_takes_no_more_than_it_needs_and_is_in_order() {
    let pool = pool();
    let mut taken = 0;
    let items = std::iter::repeat_with(|| {
        taken += 1;
        taken - 1
    });
    let values: Vec<u64> = pool.imap(square, items).take(1000).map(|value| value.expect("a value")).collect();
    assert!(values.into_iter().eq((0..1000).map(square)));
    assert!(taken < 2000, "{taken} items for 1000 values");
}

#[test]
fn an_unordered_iterator_does_not_wait_for_the_first() {
    let pool = pool();
    let (slow, quick) = (gate(), gate());
    open(&quick);
    let mut values = pool.imap_unordered(|(gate, number)| (pass(gate), number).1, [(slow.clone(), 1), (quick, 2)]);
    assert_eq!(values.next(), Some(Ok(2)));
    open(&slow);
    assert_eq!(values.next(), Some(Ok(1)));
    assert_eq!(values.next(), None);

    let mut squares: Vec<u64> = pool.imap_unordered(square, 0..5000).map(|value| value.expect("a value")).collect();
    squares.sort_unstable();
    assert!(squares.into_iter().eq((0..5000).map(square)));
}

#[test]
fn time_runs_out_for_the_one_who_waits_and_not_for_the_task() {
    let pool = pool();
    let gate = gate();
    let pending = pool.submit(pass, gate.clone());
    let all = pool.map_async(pass, [gate.clone()]);
    assert!(matches!(pending.get_timeout(Duration::ZERO), Err(TaskError::TimedOut { .. })));
    assert!(matches!(all.get_timeout(Duration::from_millis(20)), Err(TaskError::TimedOut { .. })));
    assert!(!pending.is_done() && !all.is_done());
    open(&gate);
    assert!(pending.get_timeout(BOUND).is_ok() && all.get_timeout(BOUND).is_ok());
    assert!(pending.is_done() && all.is_done());
}

#[test]
fn arguments_and_values_may_be_longer_than_all_that_is_shared() {
    // Texts travel as they are.
    fn turn(text: String) -> String {
        text.to_uppercase()
    }
    let pool = pool();
    let text: String = ('a'..='z').cycle().take(64 << 20).collect();
    let turned = pool.apply(turn, text.clone()).expect("a value");
    assert!(turned == text.to_uppercase());
}

#[test]
fn arguments_that_fill_the_shared_memory_wait_and_none_is_mixed_up() {
    let pool = pool();
    let args = |number: usize| vec![number as u8; 30_000 + number * 17 % 5000];
    let sums = pool
        .chunked(1)
        .map(|bytes: Vec<u8>| (bytes[0], bytes.len(), bytes.iter().all(|b| *b == bytes[0])), (0..500).map(args));
    for (number, (first, len, is_whole)) in sums.expect("values").into_iter().enumerate() {
        assert_eq!((first, len, is_whole), (number as u8, args(number).len(), true));
    }
}

#[test]
fn handles_go_with_arguments_and_not_with_values() {
    fn work((jobs, done): (Queue<u64>, Queue<u64>)) {
        jobs.iter().for_each(|job| done.send(2 * job).expect("room"));
    }
    let pool = pool();
    let queue = || QueueOptions::new().capacity(100).anonymous::<u64>().expect("a queue");
    let (jobs, done) = (queue(), queue());
    let workers: Vec<_> = (0..2).map(|_| pool.submit(work, (jobs.clone(), done.clone()))).collect();
    jobs.send_slice(&(0..100).collect::<Vec<_>>()).expect("room");
    jobs.close().expect("a turn");
    workers.iter().for_each(|worker| worker.get().expect("a value"));
    done.close().expect("a turn");
    assert_eq!(done.iter().sum::<u64>(), 9900);

    let refused = pool.apply(|queue: Queue<u64>| queue, queue());
    assert!(matches!(&refused, Err(TaskError::Value { what, .. }) if what.contains("file")), "{refused:?}");
}

#[test]
fn what_cannot_be_serialised_or_read_is_an_error_and_costs_no_worker() {
    #[derive(Debug)]
    struct Bad;
    impl serde::Serialize for Bad {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("no"))
        }
    }
    impl<'de> serde::Deserialize<'de> for Bad {
        fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
            Err(serde::de::Error::custom(format!("no {}", u8::deserialize(from)?)))
        }
    }
    #[derive(Debug)]
    struct Worse(u8);
    impl serde::Serialize for Worse {
        fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
            to.serialize_u8(self.0)
        }
    }
    impl<'de> serde::Deserialize<'de> for Worse {
        fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
            panic!("a type that panics")
        }
    }
    let pool = Pool::new(1).expect("a pool");
    let pids = pool.pids();
    assert!(matches!(pool.apply(|_: Bad| (), Bad), Err(TaskError::Args { .. })));
    assert!(matches!(pool.apply(|()| Bad, ()), Err(TaskError::Value { .. })));
    assert!(matches!(pool.apply(|_: Worse| (), Worse(1)), Err(TaskError::Panicked { .. })));
    // The value of one task does not spoil those of its neighbours.
    let each = pool.chunked(3).map_async(|n: u8| if n == 1 { Err(Bad) } else { Ok(n) }, 0..3).get_each().expect("all");
    assert!(matches!(each[..], [Ok(Ok(0)), Err(TaskError::Value { .. }), Ok(Ok(2))]), "{each:?}");
    assert_eq!(pool.pids(), pids);
}

/// Takes so long that nobody who looks for the next value does so all the time.
fn square_slowly(number: u64) -> u64 {
    let end = Instant::now() + Duration::from_micros(50);
    while Instant::now() < end {}
    square(number)
}

/// Known to each worker, so that tasks need not be given it: to bring it, the parent would have to be woken.
static GATE: OnceLock<Gate> = OnceLock::new();

#[test]
fn a_value_does_not_wait_for_the_task_that_comes_after_it() {
    let last = gate();
    let mut options = PoolOptions::new();
    options.workers(1).initializer(|gate| GATE.set(gate).expect("once"), last.clone());
    for _ in 0..10 {
        let pool = options.build().expect("a pool");
        let first = gate();
        let before = pool.submit(pass, first.clone());
        // In so short a time that the worker tells of the first only; and then one that takes long.
        let quick: Vec<_> = (0..8).map(|number| pool.submit(square_slowly, number)).collect();
        let come = common::gate::come(&last);
        let long = pool.submit(|()| pass(GATE.get().expect("it was initialised").clone()), ());
        open(&first);
        until_come(&last, come + 1);
        let start = Instant::now();
        for (number, pending) in quick.iter().enumerate() {
            assert_eq!(pending.get_timeout(BOUND), Ok(square(number as u64)));
        }
        assert!(start.elapsed() < prompt(), "{:?}", start.elapsed());
        assert!(before.is_done() && !long.is_done());
    }
}

#[test]
fn no_task_waits_behind_a_long_one_while_a_worker_is_idle() {
    let pool = pool();
    let gate = gate();
    let long = pool.submit(pass, gate.clone());
    until_come(&gate, 1);
    assert!(pool.chunked(1).map(square, 0..1000).is_ok());
    assert!(!long.is_done());
    open(&gate);
    long.get().expect("a value");
}

#[test]
fn no_worker_is_idle_because_of_the_arguments_of_the_others() {
    // Of as many as there is not room for at once in what is shared.
    const TASKS: usize = 6;
    fn pass_with((text, _): (String, u8)) -> usize {
        pass(GATE.get().expect("it was initialised").clone());
        text.len()
    }
    let gate = gate();
    let mut options = PoolOptions::new();
    options.workers(TASKS).initializer(|gate| GATE.set(gate).expect("once"), gate.clone());
    let pool = options.build().expect("a pool");
    let pending = pool.chunked(1).map_async(pass_with, (0..TASKS).map(|n| ("x".repeat(250_000), n as u8)));
    until_come(&gate, TASKS as u64);
    open(&gate);
    assert_eq!(pending.get(), Ok(vec![250_000; TASKS]));
}

#[test]
fn every_worker_is_initialised_first() {
    static GREETING: OnceLock<String> = OnceLock::new();
    let pool = PoolOptions::new()
        .workers(2)
        .initializer(|greeting| GREETING.set(greeting).expect("once"), "hello".to_owned())
        .max_tasks_per_worker(1)
        .build()
        .expect("a pool");
    let greetings = pool.chunked(1).map(|()| (GREETING.get().cloned(), std::process::id()), [(); 8]).expect("values");
    assert!(greetings.iter().all(|(greeting, _)| greeting.as_deref() == Some("hello")));
    let mut pids: Vec<_> = greetings.into_iter().map(|(_, pid)| pid).collect();
    pids.sort_unstable();
    pids.dedup();
    assert_eq!(pids.len(), 8, "each was to do one task");
}

#[test]
fn an_initializer_that_fails_ends_everything_with_what_it_said() {
    let pool = PoolOptions::new()
        .workers(2)
        .initializer(|what: String| panic!("cannot open {what}"), "the door".to_owned())
        .build()
        .expect("workers are started");
    let error = pool.apply(square, 2).expect_err("no worker");
    assert!(matches!(&error, TaskError::Broken { what, .. } if what.contains("cannot open the door")), "{error}");
    let later = pool.map_async(square, 0..100);
    assert!(later.get_each().expect("all").iter().all(|value| matches!(value, Err(TaskError::Broken { .. }))));
    pool.join();
}

#[test]
fn workers_are_replaced_after_so_many_tasks() {
    let pool = PoolOptions::new().workers(1).max_tasks_per_worker(3).build().expect("a pool");
    let pids = pool.chunked(1).map(|()| std::process::id(), [(); 9]).expect("values");
    assert!(pids.chunks(3).all(|three| three.iter().all(|pid| *pid == three[0])), "{pids:?}");
    assert!(pids[0] != pids[3] && pids[3] != pids[6], "{pids:?}");
}

#[test]
fn a_closed_pool_does_what_it_has_and_no_more() {
    let pool = pool();
    let before = pool.chunked(1).map_async(square, 0..6000);
    pool.close();
    assert!(matches!(pool.apply(square, 1), Err(TaskError::Closed { .. })));
    pool.join();
    assert!(before.is_done());
    assert!(before.get().expect("values").into_iter().eq((0..6000).map(square)));
    assert!(pool.pids().is_empty());
    pool.join();
}

#[test]
fn a_pool_with_10000_queued_tasks_is_terminated_at_once() {
    let pool = pool();
    let gate = gate();
    let busy: Vec<_> = (0..2).map(|_| pool.submit(pass, gate.clone())).collect();
    until_come(&gate, 2);
    let queued = pool.chunked(1).map_async(square, 0..10_000);

    let start = Instant::now();
    pool.terminate();
    assert!(start.elapsed() < prompt(), "{:?}", start.elapsed());

    assert!(queued.is_done());
    assert!(queued.get_each().expect("all").iter().all(|value| matches!(value, Err(TaskError::Terminated { .. }))));
    assert!(busy.iter().all(|task| matches!(task.get(), Err(TaskError::Terminated { .. }))));
    assert!(matches!(pool.apply(square, 1), Err(TaskError::Terminated { .. })));
    pool.join();
    assert!(pool.pids().is_empty());
}

#[test]
fn a_pool_that_is_dropped_terminates_and_its_submitters_say_so() {
    let pool = pool();
    let (gate, submitter) = (gate(), Submitter::clone(&pool));
    let pending = pool.submit(pass, gate.clone());
    let pids = pool.pids();
    until_come(&gate, 1);
    drop(pool);
    assert!(matches!(pending.get(), Err(TaskError::Terminated { .. })));
    assert!(matches!(submitter.apply(square, 1), Err(TaskError::Terminated { .. })));
    assert!(pids.iter().all(|pid| common::state(*pid, *pid).is_none()), "nobody is left, not even a zombie");
}

#[test]
fn tasks_may_make_no_pools() {
    fn nest(_: ()) -> String {
        match Pool::new(1) {
            Err(error @ PoolError::Spawn(SpawnError::Daemon { .. })) => error.to_string(),
            other => format!("{other:?}"),
        }
    }
    let said = pool().apply(nest, ()).expect("a value");
    assert!(said.contains("daemon"), "{said}");
}

#[test]
fn a_pool_has_one_worker_at_least_and_not_too_many() {
    for asked in [0, 5000] {
        let refused = Pool::new(asked);
        assert!(matches!(refused, Err(PoolError::Workers { asked: found, .. }) if found == asked), "{refused:?}");
    }
    assert!(PoolOptions::new().build().expect("a pool").workers() >= 1);
}

#[test]
fn more_workers_than_one_thread_looks_after() {
    let pool = Pool::new(35).expect("a pool");
    let gate = gate();
    let pending = pool.chunked(1).map_async(pass, vec![gate.clone(); 35]);
    until_come(&gate, 35);
    open(&gate);
    let mut pids = pending.get().expect("values");
    pids.sort_unstable();
    pids.dedup();
    assert_eq!(pids.len(), 35);
    pool.close();
    pool.join();
}

#[test]
fn many_threads_submit_at_once() {
    let pool = pool();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for number in 0..200 {
                    assert_eq!(pool.apply(square, number), Ok(square(number)));
                }
                assert!(pool.chunked(1).map(square, 0..1000).is_ok());
            });
        }
    });
    until("workers", || pool.pids().len() == 2);
}
