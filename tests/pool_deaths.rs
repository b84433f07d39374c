//! Pools whose workers, or owners, die.

#![cfg(feature = "process")]

mod common;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::mem;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{OnceLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use shmkit::process::{Pool, PoolOptions, ProcessOptions, TaskError, active_children, spawn};
use shmkit::transfer::Passed;
use shmkit::{Region, Shm};

use common::gate::{Gate, come, gate, open, pass};
use common::tasks::square;
use common::{
    BOUND, Random, descriptors, fork, fork_in_two, limit_for_now, prompt, signal, threads, until, until_stopped,
};

shmkit::process::enable_test_support!();

fn pool_of_one() -> Pool {
    Pool::new(1).expect("a pool")
}

fn len(text: String) -> usize {
    text.len()
}

fn kill(pid: u32) {
    assert!(signal(pid, libc::SIGKILL));
}

/// Ends its worker if it is a seven.
fn die_on_seven(number: u32) -> u32 {
    if number == 7 {
        kill(std::process::id());
    }
    number
}

/// Stops at the gate, and says first who it is.
fn tell_and_pass((Passed(mut line), gate): (Passed<UnixStream>, Gate)) -> u32 {
    line.write_all(&std::process::id().to_ne_bytes()).expect("a listener");
    pass(gate)
}

/// A task that stops at a gate, and the process that has it.
fn at_gate(pool: &Pool, gate: &Gate) -> (shmkit::process::Pending<u32>, u32) {
    let (mut here, there) = UnixStream::pair().expect("sockets");
    here.set_read_timeout(Some(BOUND)).expect("a timeout above zero");
    let pending = pool.submit(tell_and_pass, (Passed(there), gate.clone()));
    let mut pid = [0; 4];
    here.read_exact(&mut pid).expect("a worker that says who it is");
    (pending, u32::from_ne_bytes(pid))
}

#[test]
fn a_worker_that_is_killed_costs_its_task_and_nothing_else() {
    let pool = Pool::new(2).expect("a pool");
    let gate = gate();
    let (lost, victim) = at_gate(&pool, &gate);
    let (kept, other) = at_gate(&pool, &gate);
    let queued = pool.chunked(1).map_async(square, 0..1000);

    kill(victim);

    let error = lost.get_timeout(BOUND).expect_err("its worker is dead");
    let TaskError::WorkerDied { pid, signal, code, task } = &error else { panic!("{error}") };
    assert_eq!((*pid, *signal, *code), (victim, Some(libc::SIGKILL), None));
    assert!(task.contains("tests/pool_deaths.rs"), "{task}");
    assert!(error.to_string().contains("signal 9"), "{error}");
    // The other worker is still at the gate: it is the new one that does these.
    assert!(queued.get_timeout(BOUND).expect("values").into_iter().eq((0..1000).map(square)));
    assert!(!kept.is_done());
    open(&gate);
    assert_eq!(kept.get_timeout(BOUND), Ok(other));
    assert_eq!(pool.pids().len(), 2);
    assert!(!pool.pids().contains(&victim));
}

#[test]
fn a_task_that_ends_its_worker_is_an_error_with_the_code() {
    let pool = Pool::new(1).expect("a pool");
    let ended = pool.apply::<i32, ()>(|code| std::process::exit(code), 3);
    assert!(matches!(ended, Err(TaskError::WorkerDied { code: Some(3), signal: None, .. })), "{ended:?}");
    assert_eq!(pool.apply(square, 3), Ok(9));
}

#[test]
fn a_chunk_is_lost_with_its_worker_and_no_other_one() {
    let pool = Pool::new(2).expect("a pool");
    let each = pool.chunked(5).map_async(die_on_seven, 0..100).get_each().expect("all");
    for (item, value) in each.into_iter().enumerate() {
        match value {
            Ok(value) => assert!(value == item as u32 && !(5..10).contains(&item), "{item}"),
            Err(TaskError::WorkerDied { signal, .. }) => {
                assert!((5..10).contains(&item) && signal == Some(libc::SIGKILL), "{item}");
            }
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn tasks_are_run_again_as_often_as_was_allowed() {
    /// Lets its worker die the first two times.
    fn third_time(gate: Gate) -> u64 {
        if gate[0].fetch_add(1, SeqCst) < 2 {
            kill(std::process::id());
        }
        come(&gate)
    }
    let pool = Pool::new(2).expect("a pool");
    assert_eq!(pool.retrying(2).apply(third_time, gate()), Ok(3));
    let tried = gate();
    assert!(matches!(pool.retrying(1).apply(third_time, tried.clone()), Err(TaskError::WorkerDied { .. })));
    assert_eq!(come(&tried), 2);

    let pool = PoolOptions::new().workers(2).retries(2).build().expect("a pool");
    assert_eq!(pool.apply(third_time, gate()), Ok(3));
}

#[test]
fn a_worker_that_is_killed_with_nothing_to_do_costs_nothing() {
    let pool = Pool::new(2).expect("a pool");
    assert!(pool.chunked(1).map(square, 0..100).is_ok());
    let before = pool.pids();
    before.iter().for_each(|pid| kill(*pid));
    assert!(pool.chunked(1).map(square, 0..1000).expect("values").into_iter().eq((0..1000).map(square)));
    until("new workers", || pool.pids().len() == 2 && pool.pids().iter().all(|pid| !before.contains(pid)));
}

#[test]
fn what_a_worker_has_sent_counts_also_if_its_end_is_noticed_first() {
    let pool = PoolOptions::new().workers(2).max_tasks_per_worker(1).build().expect("a pool");
    let mut tasks = [gate(), gate()].map(|gate| (at_gate(&pool, &gate), gate));
    // In the order in which they are listened to.
    let pids = pool.pids();
    tasks.sort_by_key(|((_, pid), _)| pids.iter().position(|other| other == pid));
    let [((first, pid), gate_of_first), ((second, _), gate_of_second)] = tasks;
    let (begin, has_begun) = mpsc::channel();
    let (go_on, may_go_on) = mpsc::channel::<()>();
    second.on_done(move |_| {
        begin.send(()).expect("the test");
        may_go_on.recv().expect("the test");
    });
    open(&gate_of_second);
    has_begun.recv_timeout(BOUND).expect("a callback");

    // The thread of the pool is in the callback: it has listened to the first worker, and looks for deaths next.
    open(&gate_of_first);
    until("the end of the first worker", || active_children().iter().all(|child| child.pid() != pid));
    go_on.send(()).expect("a callback");

    assert_eq!(first.get_timeout(BOUND), Ok(pid));
}

#[test]
fn a_worker_that_is_stopped_delays_its_own_task_only_and_can_be_killed() {
    let pool = Pool::new(2).expect("a pool");
    let gate = gate();
    let (lost, victim) = at_gate(&pool, &gate);
    assert!(signal(victim, libc::SIGSTOP));
    until_stopped(victim);

    assert!(pool.chunked(1).map(square, 0..1000).is_ok());

    assert!(!lost.is_done());
    kill(victim);
    assert!(matches!(lost.get_timeout(BOUND), Err(TaskError::WorkerDied { pid, .. }) if pid == victim));
    let (stopped, victim) = at_gate(&pool, &gate);
    assert!(signal(victim, libc::SIGSTOP));
    until_stopped(victim);
    pool.terminate();
    pool.join();
    assert!(matches!(stopped.get(), Err(TaskError::Terminated { .. })));
}

#[test]
fn a_long_argument_and_a_long_value_are_lost_with_their_worker_and_come_with_the_next() {
    /// Ends its worker if it is the first.
    fn once((gate, text): (Gate, String)) -> String {
        if gate[0].fetch_add(1, SeqCst) == 0 {
            kill(std::process::id());
        }
        text
    }
    let pool = Pool::new(1).expect("a pool");
    let text = "long ".repeat(2 << 20);
    let again = pool.retrying(1).apply(once, (gate(), text.clone())).expect("a value");
    assert!(again == text);
}

/// How often each task was run.
static RUNS: OnceLock<Shm<[AtomicU32; TASKS]>> = OnceLock::new();

const TASKS: usize = 10_000;

/// Notes that it was run, and takes a while.
fn count(number: u32) -> u32 {
    RUNS.get().expect("it was initialised")[number as usize].fetch_add(1, SeqCst);
    work();
    number
}

fn work() {
    let end = Instant::now() + Duration::from_micros(30);
    while Instant::now() < end {}
}

fn square_slowly(number: u64) -> u64 {
    work();
    square(number)
}

/// Every task is run once, or is an error and was run once at most. That is told by all that the pool promises at once.
#[test]
fn of_10000_tasks_whose_workers_are_killed_at_random_none_is_lost_or_run_twice() {
    let region = Region::anonymous(TASKS * 4 + 4096).expect("a region");
    let runs = region.insert("runs", [const { AtomicU32::new(0) }; TASKS]).expect("room");
    let pool = PoolOptions::new()
        .workers(3)
        .initializer(|runs| RUNS.set(runs).expect("once"), runs.clone())
        .build()
        .expect("a pool");
    let pending = pool.chunked(1).map_async(count, 0..TASKS as u32);
    let mut random = Random::new();
    let mut killed = 0;
    let end = Instant::now() + BOUND * 2;
    while !pending.is_done() {
        assert!(Instant::now() < end, "{:?} of the tasks are done", pending.progress());
        let pids = pool.pids();
        if let Some(pid) = pids.get(random.below(3) as usize) {
            // It may have ended meanwhile.
            killed += u32::from(signal(*pid, libc::SIGKILL));
        }
        random.pause(Duration::from_millis(4));
    }
    let mut lost = BTreeMap::new();
    for (number, value) in pending.get_each().expect("all").into_iter().enumerate() {
        let runs = runs[number].load(SeqCst);
        match value {
            Ok(value) => assert_eq!((value, runs), (number as u32, 1)),
            Err(TaskError::WorkerDied { pid, .. }) => {
                assert!(runs <= 1, "task {number} was run {runs} times");
                assert_eq!(lost.insert(pid, number), None, "two tasks are lost with one worker");
            }
            Err(error) => panic!("{error}"),
        }
    }
    println!("{killed} kills, {} tasks lost", lost.len());
    assert!(lost.len() <= killed as usize && killed >= 10);
    pool.close();
    pool.join();
}

#[test]
fn with_retries_all_of_10000_tasks_have_values_whoever_is_killed() {
    let pool = PoolOptions::new().workers(2).retries(100).build().expect("a pool");
    let pending = pool.chunked(10).map_async(square_slowly, 0..TASKS as u64);
    let mut random = Random::new();
    let end = Instant::now() + BOUND * 2;
    while !pending.is_done() {
        assert!(Instant::now() < end, "{:?} of the tasks are done", pending.progress());
        pool.pids().first().map(|pid| signal(*pid, libc::SIGKILL));
        random.pause(Duration::from_millis(8));
    }
    assert!(pending.get().expect("values").into_iter().eq((0..TASKS as u64).map(square)));
}

#[test]
fn workers_end_with_the_owner_of_their_pool_that_is_killed() {
    /// Has a pool, of which one worker is busy and one is not.
    fn own(Passed(line): Passed<UnixStream>) {
        let pool = Pool::new(2).expect("a pool");
        let _busy = pool.submit(hold, Passed(line));
        thread::sleep(Duration::from_secs(600));
    }
    fn hold(Passed(mut line): Passed<UnixStream>) {
        line.write_all(&[1]).expect("a listener");
        thread::sleep(Duration::from_secs(600));
    }
    let (mut here, there) = UnixStream::pair().expect("sockets");
    here.set_read_timeout(Some(BOUND)).expect("a timeout above zero");
    let owner = ProcessOptions::new().name("owner").spawn(own, Passed(there)).expect("a process");
    here.read_exact(&mut [0; 1]).expect("a busy worker");

    owner.kill().expect("a process to kill");

    // The end of file comes when nobody has the other side any more.
    assert_eq!(here.read(&mut [0; 1]).expect("an end of file"), 0);
}

#[test]
fn workers_that_end_before_they_begin_break_the_pool() {
    let start = Instant::now();
    let pool = PoolOptions::new().workers(2).initializer(|code| std::process::exit(code), 4).build().expect("a pool");
    let error = pool.apply(square, 1).expect_err("no worker");
    assert!(matches!(&error, TaskError::Broken { what, .. } if what.contains("code 4")), "{error}");
    assert!(start.elapsed() < BOUND);
}

#[test]
fn workers_that_are_all_killed_before_they_begin_break_the_pool_in_the_end() {
    let pool = PoolOptions::new().workers(1).initializer(|()| kill(std::process::id()), ()).build().expect("a pool");
    let error = pool.submit(square, 1).get_timeout(3 * BOUND).expect_err("no worker");
    assert!(matches!(&error, TaskError::Broken { what, .. } if what.contains("signal 9")), "{error}");
}

#[test]
fn a_forked_child_can_do_nothing_with_the_pool_of_its_parent_and_ends_none_of_it() {
    fn fork_with_a_pool(_: ()) -> bool {
        let pool = Pool::new(1).expect("a pool");
        let pids = pool.apply(|()| std::process::id(), ());
        let gate = gate();
        let (pending, mut values) = (pool.submit(pass, gate.clone()), pool.imap(pass, [gate.clone()]));
        let child = fork(|| {
            assert!(matches!(pool.apply(square, 1), Err(TaskError::Broken { .. })));
            assert!(matches!(pending.get(), Err(TaskError::Broken { .. })));
            assert!(matches!(values.next(), Some(Err(TaskError::Broken { .. }))));
            assert!(values.next().is_none());
            pool.terminate();
            pool.join();
        });
        let status = child.reap();
        open(&gate);
        status == 0 && pool.apply(|()| std::process::id(), ()) == pids
    }
    assert!(spawn(fork_with_a_pool, ()).expect("a process").join().expect("a value"));
}

/// What a thread is known by may be that of a thread of the parent, which is not there any more.
#[test]
fn a_forked_child_that_drops_the_pool_of_its_parent_keeps_its_own_threads() {
    fn fork_with_a_pool(_: ()) -> i32 {
        let pool = RefCell::new(Some(Pool::new(1).expect("a pool")));
        let child = fork(|| {
            let (tell, told) = mpsc::channel();
            let thread = thread::spawn(move || told.recv());
            drop(pool.take());
            tell.send(7).expect("a thread that listens");
            assert_eq!(thread.join().expect("no panic"), Ok(7));
        });
        child.reap()
    }
    assert_eq!(spawn(fork_with_a_pool, ()).expect("a process").join().expect("a value"), 0);
}

#[test]
fn a_task_that_forks_is_done_once_and_its_child_takes_no_other_tasks() {
    /// Returns in the child, too, or panics there.
    fn fork_in_a_task(panics: bool) -> i32 {
        fork_in_two().map_or_else(|| if panics { panic!("in the child") } else { -1 }, |child| child.reap())
    }
    let pool = pool_of_one();
    let pending = pool.chunked(4).map_async(fork_in_a_task, [false, true, false, false]);
    assert_eq!(pending.get_timeout(BOUND), Ok(vec![0, 101 << 8, 0, 0]));
    let values = pool.chunked(1).map_async(square, 0..500).get_timeout(BOUND).expect("values");
    assert!(values.into_iter().eq((0..500).map(square)));
}

/// Opens files until there are no more descriptors.
fn use_up_descriptors(_: ()) {
    limit_for_now(libc::RLIMIT_NOFILE, 100);
    while let Ok(file) = File::open("/dev/null") {
        mem::forget(file);
    }
}

/// Arguments that travel in a file.
fn long_text() -> String {
    "text".repeat(100_000)
}

#[test]
fn long_arguments_that_wait_for_a_worker_take_no_descriptors() {
    fn have_many_wait(_: ()) {
        limit_for_now(libc::RLIMIT_NOFILE, 100);
        let pool = pool_of_one();
        let gate = gate();
        let busy = pool.submit(pass, gate.clone());
        until("one at the gate", || come(&gate) == 1);
        let waiting = pool.chunked(1).map_async(len, (0..150).map(|_| long_text()));
        open(&gate);
        assert!(busy.get().is_ok());
        assert_eq!(waiting.get(), Ok(vec![400_000; 150]));

        use_up_descriptors(());
        // Nobody else would make room.
        let error = pool.submit(len, long_text()).get_timeout(BOUND).expect_err("no file");
        assert!(matches!(error, TaskError::Args { .. }), "{error}");
        assert_eq!(pool.apply(len, "short".to_owned()), Ok(5));
    }
    spawn(have_many_wait, ()).expect("a process").join().expect("no panic");
}

#[test]
fn a_worker_without_a_descriptor_for_arguments_ends_and_the_next_one_has_them() {
    let pool = pool_of_one();
    assert_eq!(pool.apply(use_up_descriptors, ()), Ok(()));
    let error = pool.submit(len, long_text()).get_timeout(BOUND).expect_err("no arguments");
    assert!(matches!(error, TaskError::WorkerDied { code: Some(101), .. }), "{error}");
    assert_eq!(pool.apply(use_up_descriptors, ()), Ok(()));
    assert_eq!(pool.retrying(1).submit(len, long_text()).get_timeout(BOUND), Ok(400_000));
}

#[test]
fn pools_leave_no_process_no_descriptor_and_no_thread() {
    /// What this process has.
    fn inventory() -> [usize; 3] {
        [descriptors(), threads(), active_children().len()]
    }
    fn have_pools(_: ()) {
        let have_a_pool = |end: fn(&Pool)| {
            let pool = Pool::new(2).expect("a pool");
            assert!(pool.chunked(1).map(square, 0..100).is_ok());
            // Its arguments go with files, and so does what never gets to a worker.
            let gates: Vec<_> = (0..10).map(|_| gate()).collect();
            let _lost = gates.iter().map(|gate| pool.submit(pass, gate.clone())).collect::<Vec<_>>();
            until("two at the gates", || gates.iter().map(come).sum::<u64>() == 2);
            pool.pids().first().map(|pid| signal(*pid, libc::SIGKILL));
            end(&pool);
        };
        // What the library starts once, such as the thread that reaps, is there from then on.
        have_a_pool(|_| {});
        // Something of that one may still be on its way out; whatever each of several leaves behind is more.
        let before = inventory();
        (0..3).for_each(|_| have_a_pool(Pool::terminate));
        (0..3).for_each(|_| have_a_pool(|_| {}));
        until("an end of what belongs to pools", || inventory().iter().zip(before).all(|(now, before)| *now <= before));
    }
    spawn(have_pools, ()).expect("a process").join().expect("nothing that is left");
}

/// The file of the pool's own region: the only large one that this process has.
fn file_of_the_pool() -> File {
    let files = fs::read_dir("/proc/self/fd").expect("its descriptors").map(|entry| entry.expect("an entry").path());
    let is_large = |file: &File| file.metadata().is_ok_and(|about| about.len() > 1 << 20);
    let is_memory =
        |path: &PathBuf| fs::read_link(path).is_ok_and(|link| link.to_string_lossy().starts_with("/memfd:"));
    let opened = files.filter(is_memory).filter_map(|path| File::options().read(true).write(true).open(path).ok());
    let mut large = opened.filter(is_large);
    let file = large.next().expect("the region of the pool");
    assert!(large.next().is_none());
    file
}

#[test]
fn a_pool_whose_queue_was_scribbled_over_ends_in_errors() {
    fn scribble(seed: u64) -> (usize, usize) {
        let pool = Pool::new(2).expect("a pool");
        assert!(pool.chunked(1).map(square, 0..100).is_ok());
        let garbage: Vec<u8> = (0..200_000u64).map(|at| ((at * seed) >> 13) as u8).collect();
        // Nothing but cells of the queue lies there.
        file_of_the_pool().write_all_at(&garbage, 50_000).expect("memory");
        let tasks: Vec<_> = (0..1000).map(|number| pool.submit(square, number)).collect();
        let ends: Vec<_> = (0..).zip(&tasks).map(|(number, task)| (number, task.get_timeout(BOUND))).collect();
        let done = ends.iter().filter(|(number, value)| *value == Ok(square(*number))).count();
        let broken = ends.iter().filter(|(_, value)| matches!(value, Err(TaskError::Broken { .. }))).count();
        // What lay there has been written over as far as the tasks went. Who has nothing to do looks at what comes next.
        let last = (0..1000).map(|number| pool.apply(square, number)).find(Result::is_err);
        assert!(matches!(last, Some(Err(TaskError::Broken { .. }))), "{last:?}");
        (done, broken)
    }
    for seed in [0x9e37_79b9, 0x1234_5677, 3] {
        let (done, broken) = spawn(scribble, seed).expect("a process").join().expect("errors, and no more");
        assert_eq!(done + broken, 1000);
    }
}

#[test]
fn news_of_a_death_is_prompt() {
    let pool = Pool::new(1).expect("a pool");
    let gate = gate();
    let (lost, victim) = at_gate(&pool, &gate);
    let start = Instant::now();
    kill(victim);
    assert!(lost.get_timeout(BOUND).is_err());
    assert!(start.elapsed() < prompt(), "{:?}", start.elapsed());
}
