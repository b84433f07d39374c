//! Scenes of the crash sweep around a semaphore.

use std::time::Duration;

use shmkit::shim::crash::arm;
use shmkit::{Semaphore, Shm};

use crate::common::{Child, Name, Parent, Stage, until};
use crate::{Scene, has_died, has_stopped, until_sleeps, until_sleeps_or_dies};

/// What the victims do.
pub(crate) const SCENES: &[(&str, Scene)] = &[
    ("semaphore_alone", alone),
    ("semaphore_release", beside_sleepers),
    ("semaphore_acquire", among_sleepers),
    ("semaphore_acquire_many", among_sleepers_for_many),
    ("semaphore_pass_on", before_another_sleeper),
];

fn insert(stage: &Stage, value: u32) -> Shm<Semaphore> {
    stage.region.insert("semaphore", Semaphore::new(value).expect("a low value")).expect("room")
}

fn open(stage_name: &str) -> Shm<Semaphore> {
    Stage::open(stage_name).region.get("semaphore").expect("the semaphore")
}

/// Starts a process that waits for `n` permits and then gives them back, asleep.
fn start_waiter(stage: &Stage, n: u32) -> Child {
    let mut waiter = Child::spawn("semaphore_waiter", &[stage.name(), &n.to_string()]);
    waiter.expect("here");
    until_sleeps(&waiter);
    waiter
}

/// Each of the waiters gets what it wants, after the end of the victim. Only what is lost then is replaced.
fn all_get_on(victim: &Child, semaphore: &Semaphore, permits: u32, waiters: &mut [Child]) {
    until("the victim's end", || has_died(victim));
    until("permits for all, or less than there should be", || {
        waiters.iter().all(Child::has_said) || semaphore.available() < permits
    });
    semaphore.release_many(permits).expect("room");
    waiters.iter_mut().for_each(|waiter| waiter.expect("ok"));
}

pub(crate) fn alone(_other: &Name, victim: &mut Child, stage: &Stage) {
    let semaphore = insert(stage, 1);
    victim.tell("go");
    until("the victim's end", || has_died(victim));
    semaphore.release().expect("room");
    semaphore.acquire_timeout(Duration::from_secs(5)).expect("a permit");
}

pub(crate) fn beside_sleepers(_other: &Name, victim: &mut Child, stage: &Stage) {
    let semaphore = insert(stage, 0);
    let mut waiters = [start_waiter(stage, 1), start_waiter(stage, 2)];
    victim.tell("go");
    all_get_on(victim, &semaphore, 3, &mut waiters);
}

pub(crate) fn among_sleepers(_other: &Name, victim: &mut Child, stage: &Stage) {
    let semaphore = insert(stage, 0);
    victim.tell("go");
    until_sleeps_or_dies(victim);
    let waiter = start_waiter(stage, 1);
    semaphore.release().expect("room");
    all_get_on(victim, &semaphore, 1, &mut [waiter]);
}

pub(crate) fn among_sleepers_for_many(_other: &Name, victim: &mut Child, stage: &Stage) {
    let semaphore = insert(stage, 0);
    victim.tell("go");
    until_sleeps_or_dies(victim);
    let waiter = start_waiter(stage, 2);
    semaphore.release_many(2).expect("room");
    all_get_on(victim, &semaphore, 2, &mut [waiter]);
}

/// Two permits come while both are stopped, so the victim leaves one behind and passes a wake-up on.
pub(crate) fn before_another_sleeper(_other: &Name, victim: &mut Child, stage: &Stage) {
    let semaphore = insert(stage, 0);
    victim.tell("go");
    until_sleeps_or_dies(victim);
    let mut waiter = start_waiter(stage, 1);
    [&*victim, &waiter].iter().for_each(|child| child.signal(libc::SIGSTOP));
    until("the victim stopped or dead", || has_died(victim) || has_stopped(victim));
    until("the other stopped", || has_stopped(&waiter));
    semaphore.release().expect("room");
    semaphore.release().expect("room");
    victim.signal(libc::SIGCONT);
    until("the victim's end", || has_died(victim));
    waiter.signal(libc::SIGCONT);
    waiter.expect("ok");
}

/// What the victim does.
pub(crate) fn victim(scene: &str, parent: &mut Parent, stage_name: &str, die_at: usize) {
    parent.expect("go");
    let semaphore = open(stage_name);
    arm(die_at);
    match scene {
        "semaphore_alone" => {
            semaphore.acquire().expect("a permit");
            semaphore.release().expect("room");
            assert!(semaphore.try_acquire());
            semaphore.release().expect("room");
        }
        "semaphore_release" => semaphore.release_many(3).expect("room"),
        "semaphore_acquire" | "semaphore_pass_on" => {
            semaphore.acquire().expect("a permit");
            semaphore.release().expect("room");
        }
        "semaphore_acquire_many" => {
            semaphore.acquire_many(2).expect("permits");
            semaphore.release_many(2).expect("room");
        }
        unknown => panic!("no scene {unknown:?}"),
    }
}

/// The role of one who waits.
pub(crate) fn semaphore_waiter(parent: &mut Parent) {
    let semaphore = open(parent.argument(0));
    let n = parent.argument(1).parse().expect("a number");
    parent.say("here");
    semaphore.acquire_many(n).expect("permits");
    semaphore.release_many(n).expect("room");
    parent.say("ok");
}
