//! Scenes of the crash sweep around permits.

use std::time::Duration;

use shmkit::shim::crash::arm;
use shmkit::{Permits, Shm};

use crate::common::{Child, Name, Parent, Stage, until};
use crate::{Scene, has_died, has_stopped, until_sleeps, until_sleeps_or_dies};

/// What the victims do.
pub(crate) const SCENES: &[(&str, Scene)] = &[
    ("permits_alone", alone),
    ("permits_take_over", after_dead_holder),
    ("permits_wait", among_sleepers),
    ("permits_pass_on", before_another_sleeper),
];

fn insert(stage: &Stage, count: u32) -> Shm<Permits> {
    stage.region.insert("permits", Permits::new(count).expect("1 to 64")).expect("room")
}

fn open(stage_name: &str) -> Shm<Permits> {
    Stage::open(stage_name).region.get("permits").expect("the permits")
}

/// Starts a process that takes a permit, says so, and gives it back when told.
fn start_waiter(stage: &Stage) -> Child {
    let mut waiter = Child::spawn("permits_waiter", &[stage.name()]);
    waiter.expect("here");
    waiter
}

/// All permits can be had, soon.
fn all_are_there(permits: &Permits) {
    let take = |_| permits.acquire_timeout(Duration::from_secs(5)).expect("a permit");
    let held: Vec<_> = (0..permits.count()).map(take).collect();
    assert!(permits.try_acquire().is_err());
    drop(held);
}

pub(crate) fn alone(_other: &Name, victim: &mut Child, stage: &Stage) {
    alone_with(victim, &insert(stage, 1));
}

pub(crate) fn after_dead_holder(_other: &Name, victim: &mut Child, stage: &Stage) {
    let permits = insert(stage, 1);
    let mut holder = start_waiter(stage);
    holder.expect("ok");
    holder.kill();
    holder.reap();
    alone_with(victim, &permits);
}

fn alone_with(victim: &mut Child, permits: &Permits) {
    victim.tell("go");
    until("the victim's end", || has_died(victim));
    all_are_there(permits);
}

pub(crate) fn among_sleepers(_other: &Name, victim: &mut Child, stage: &Stage) {
    let permits = insert(stage, 1);
    let held = permits.acquire().expect("a free one");
    victim.tell("go");
    until_sleeps_or_dies(victim);
    let mut waiter = start_waiter(stage);
    until_sleeps(&waiter);
    drop(held);
    waiter.expect("ok");
    waiter.tell("end");
    waiter.finish();
    until("the victim's end", || has_died(victim));
    all_are_there(&permits);
}

/// Two permits come while both are stopped, so the victim leaves one behind and passes a wake-up on.
pub(crate) fn before_another_sleeper(_other: &Name, victim: &mut Child, stage: &Stage) {
    let permits = insert(stage, 2);
    let held = [permits.acquire().expect("a free one"), permits.acquire().expect("a free one")];
    victim.tell("go");
    until_sleeps_or_dies(victim);
    let mut waiter = start_waiter(stage);
    until_sleeps(&waiter);
    [&*victim, &waiter].iter().for_each(|child| child.signal(libc::SIGSTOP));
    until("the victim stopped or dead", || has_died(victim) || has_stopped(victim));
    until("the other stopped", || has_stopped(&waiter));
    drop(held);
    victim.signal(libc::SIGCONT);
    until("the victim's end", || has_died(victim));
    waiter.signal(libc::SIGCONT);
    waiter.expect("ok");
    waiter.tell("end");
    waiter.finish();
    all_are_there(&permits);
}

/// What the victim does.
pub(crate) fn victim(scene: &str, parent: &mut Parent, stage_name: &str, die_at: usize) {
    parent.expect("go");
    let permits = open(stage_name);
    arm(die_at);
    drop(permits.acquire().expect("a permit"));
    if scene == "permits_alone" {
        drop(permits.try_acquire().expect("a permit"));
    }
}

/// The role of one who waits.
pub(crate) fn permits_waiter(parent: &mut Parent) {
    let permits = open(parent.argument(0));
    parent.say("here");
    let permit = permits.acquire().expect("a permit");
    parent.say("ok");
    parent.expect("end");
    drop(permit);
}
