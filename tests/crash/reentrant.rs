//! The reentrant mutex: an owner that dies with one guard, with two, or with its notes half-written.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use shmkit::shim::crash::arm;
use shmkit::{LockError, ReentrantMutex, ReentrantMutexGuard, Shm};

use crate::common::{BOUND, Child, Name, Parent, Stage, until};
use crate::{Scene, has_died};

pub(crate) const SCENES: &[(&str, Scene)] =
    &[("reentrant_lock", beside_another), ("reentrant_take_over", after_dead_owner)];

type Counter = ReentrantMutex<AtomicU64>;

/// Adds one under two guards.
fn add(counter: &Counter) {
    let outer = lock(counter);
    let inner = lock(counter);
    drop(outer);
    inner.store(inner.load(Relaxed) + 1, Relaxed);
}

fn lock(counter: &Counter) -> ReentrantMutexGuard<'_, AtomicU64> {
    let locked = counter.lock_timeout(BOUND).or_else(LockError::into_guard);
    locked.expect("the lock of a dead")
}

fn beside_another(_other: &Name, victim: &mut Child, stage: &Stage) {
    let counter = stage.region.insert("counter", Counter::default()).expect("room");
    compete(&counter, victim);
}

fn after_dead_owner(_other: &Name, victim: &mut Child, stage: &Stage) {
    let counter = stage.region.insert("counter", Counter::default()).expect("room");
    // SAFETY: a reentrant mutex begins with the word of its lock. This token is nobody's.
    let word: &AtomicU64 = unsafe { &*std::ptr::from_ref(&*counter).cast() };
    word.store(0x1234_5678_9abc_def0, Relaxed);
    victim.tell("go");
    until("the victim's end", || has_died(victim));
    compete_once(&counter);
}

fn compete(counter: &Counter, victim: &mut Child) {
    victim.tell("go");
    let mut mine = 0;
    until("the victim's end", || {
        add(counter);
        mine += 1;
        has_died(victim)
    });
    compete_once(counter);
    let counted = lock(counter).load(Relaxed);
    assert!((mine + 1..=mine + 2).contains(&counted), "{counted} after {mine}");
}

/// Adds one and leaves the lock free and sound.
fn compete_once(counter: &Counter) {
    add(counter);
    counter.clear_poison();
    assert!(counter.try_lock().is_ok());
}

/// What the victim does.
pub(crate) fn victim(_scene: &str, parent: &mut Parent, stage_name: &str, die_at: usize) {
    let stage = Stage::open(stage_name);
    parent.expect("go");
    let counter: Shm<Counter> = stage.region.get("counter").expect("the counter");
    arm(die_at);
    add(&counter);
}
