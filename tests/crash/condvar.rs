//! The condvar: a waiter that dies, and one who notifies. The survivors are threads of the sweep itself.

use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::Duration;

use shmkit::shim::crash::arm;
use shmkit::{Condvar, LockError, MutexGuard, Shm};

use crate::common::{BOUND, Child, Name, Parent, Stage, thread_id, until, until_in_futex};
use crate::{Scene, until_sleeps_or_dies};

pub(crate) const SCENES: &[(&str, Scene)] = &[("condvar_wait", among_waiters), ("condvar_notify", before_waiters)];

/// Where on the board the waiting threads of the sweep write their ids.
const THREADS: usize = 60;

fn lock(stage: &Stage) -> MutexGuard<'_, [u64; 16]> {
    stage.mutex.lock().or_else(LockError::into_guard).expect("the mutex")
}

/// Waits until the first number is not 0 any more, and passes the news on.
fn wait(stage: &Stage, changed: &Condvar, bound: Duration) {
    let mut guard = lock(stage);
    loop {
        match changed.wait_timeout_while(guard, bound, |numbers| numbers[0] == 0) {
            Ok((guard, result)) => {
                assert!(!result.timed_out(), "nobody tells");
                drop(guard);
                return changed.notify_one();
            }
            // The mutex of the dead: they were only waiting.
            Err(LockError::Poisoned { guard: held, .. }) => {
                guard = held.0;
                stage.mutex.clear_poison();
            }
            Err(error) => panic!("{error}"),
        }
    }
}

fn asleep(stage: &Stage, thread: usize, changed: &Condvar) {
    stage.board[THREADS + thread].store(thread_id().into(), Relaxed);
    wait(stage, changed, BOUND);
}

fn until_asleep(stage: &Stage, thread: usize) {
    let id = &stage.board[THREADS + thread];
    until("a thread that waits", || id.load(Relaxed) != 0);
    until_in_futex(std::process::id(), id.load(Relaxed) as u32);
}

fn among_waiters(_other: &Name, victim: &mut Child, stage: &Stage) {
    let changed = stage.region.insert("changed", Condvar::new()).expect("room");
    victim.tell("go");
    until_sleeps_or_dies(victim);
    thread::scope(|scope| {
        scope.spawn(|| asleep(stage, 0, &changed));
        until_asleep(stage, 0);
        lock(stage)[0] = 1;
        changed.notify_one();
    });
}

fn before_waiters(_other: &Name, victim: &mut Child, stage: &Stage) {
    let changed = stage.region.insert("changed", Condvar::new()).expect("room");
    thread::scope(|scope| {
        for thread in 0..2 {
            scope.spawn({
                let changed = &changed;
                move || asleep(stage, thread, changed)
            });
            until_asleep(stage, thread);
        }
        victim.tell("go");
    });
}

/// What the victim does.
pub(crate) fn victim(scene: &str, parent: &mut Parent, stage_name: &str, die_at: usize) {
    let stage = Stage::open(stage_name);
    parent.expect("go");
    let changed: Shm<Condvar> = stage.region.get("changed").expect("the condvar");
    if scene == "condvar_wait" {
        arm(die_at);
        // Without a deadline, so that the sweep can tell when it sleeps.
        wait(&stage, &changed, Duration::MAX);
    } else {
        lock(&stage)[0] = 1;
        arm(die_at);
        changed.notify_all();
    }
}
