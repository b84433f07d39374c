//! The sweep through what a worker of a pool does, and its owner.

use std::sync::OnceLock;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::SeqCst;

use shmkit::process::{Pool, PoolOptions, TaskError};
use shmkit::shim::crash::{arm, disarm, point};
use shmkit::{Region, Shm};

use crate::common::{Child, Name, Parent, Stage, state, until};
use crate::{Scene, die, has_died};

pub(crate) const SCENES: &[(&str, Scene)] = &[("pool_work", work_for_an_owner), ("pool_post", end_with_the_owner)];

/// Small enough to lie in a job, too large for that, and such as are delivered.
type Args = (u32, Vec<u8>, Option<Region>);

/// How often each task was run.
type Runs = Shm<[AtomicU32; 3]>;

static RUNS: OnceLock<Runs> = OnceLock::new();

fn run((number, _, _): Args) -> u32 {
    RUNS.get().expect("it was initialised")[number as usize].fetch_add(1, SeqCst);
    number
}

fn args() -> [Args; 3] {
    [(0, vec![], None), (1, vec![7; 1000], None), (2, vec![], Some(Region::anonymous(4096).expect("a region")))]
}

/// What the victim does.
pub(crate) fn victim(scene: &str, parent: &mut Parent, stage_name: &str, die_at: usize) {
    let region = Region::open(stage_name).expect("the stage");
    let runs: Runs = region.insert("runs", [const { AtomicU32::new(0) }; 3]).expect("room");
    let pool = PoolOptions::new()
        .workers(1)
        .initializer(|runs| RUNS.set(runs).expect("once"), runs.clone())
        .build()
        .expect("a pool");
    let worker = pool.apply(|()| std::process::id(), ()).expect("a value");
    if scene == "pool_work" {
        parent.expect("go");
        own(&pool, worker, &runs, die_at);
    } else {
        parent.say(worker);
        parent.expect("go");
        arm(die_at);
        for args in args() {
            pool.apply(run, args).expect("a value");
        }
    }
    // What its end does is not what this is about; the worker ends with this process.
    std::mem::forget(pool);
}

/// Has a worker that dies at some point. What it dies of, the victim dies of, too, so that the sweep goes on.
fn own(pool: &Pool, worker: u32, runs: &Runs, die_at: usize) {
    let armed = pool.submit(arm, die_at);
    let tasks = args().map(|args| pool.submit(run, args));
    let values = tasks.each_ref().map(|task| task.get());
    let mut lost = u32::from(matches!(armed.get(), Err(TaskError::WorkerDied { .. })));
    for (number, value) in (0u32..).zip(values) {
        let runs = runs[number as usize].load(SeqCst);
        match value {
            Ok(value) => assert_eq!((value, runs), (number, 1)),
            Err(TaskError::WorkerDied { signal, .. }) => {
                assert!(signal == Some(libc::SIGKILL) && runs <= 1, "{runs} runs");
                lost += 1;
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert!(lost <= 1, "{lost} tasks were lost with one worker");
    let disarmed = |()| (std::process::id(), disarm().into_iter().map(str::to_owned).collect::<Vec<_>>());
    match pool.apply(disarmed, ()) {
        Ok((survivor, passed)) if survivor == worker => {
            assert_eq!(lost, 0);
            // They are told as if they had been passed here.
            arm(0);
            passed.into_iter().for_each(|name| point(name.leak()));
        }
        Ok(_) | Err(TaskError::WorkerDied { .. }) => die(),
        Err(error) => panic!("{error}"),
    }
}

fn work_for_an_owner(_other: &Name, victim: &mut Child, _stage: &Stage) {
    victim.tell("go");
}

/// The owner of the pool dies; its worker ends with it.
fn end_with_the_owner(_other: &Name, victim: &mut Child, _stage: &Stage) {
    let worker: u32 = victim.hear().parse().expect("a process id");
    victim.tell("go");
    until("the end of the victim", || has_died(victim));
    until("the end of its worker", || matches!(state(worker, worker), None | Some('Z' | 'X')));
}
