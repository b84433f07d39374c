//! The sweep through the operations of a `Barrier`.

use shmkit::shim::crash::arm;
use shmkit::{Barrier, BarrierError, BarrierWaitResult, Region, Shm};

use crate::common::{BOUND, Child, Name, Parent, Stage, until};
use crate::{Scene, has_died, until_sleeps, until_sleeps_or_dies};

pub(crate) const SCENES: &[(&str, Scene)] = &[
    ("barrier_first", arrive_first),
    ("barrier_last", arrive_last),
    ("barrier_abort", abort_before_a_sleeper),
    ("barrier_reset", reset_after_a_death),
];

/// What the victim does.
pub(crate) fn victim(scene: &str, parent: &mut Parent, stage_name: &str, die_at: usize) {
    let region = Region::open(stage_name).expect("the stage");
    parent.expect("go");
    let barrier = region.get::<Barrier>("barrier").expect("the barrier");
    arm(die_at);
    match scene {
        "barrier_first" | "barrier_last" => _ = barrier.join().expect("a seat").wait().expect("a round"),
        "barrier_abort" => barrier.abort(),
        "barrier_reset" => barrier.reset().expect("a repair"),
        unknown => panic!("no scene {unknown:?}"),
    }
}

/// A process that has a seat and waits when it is told to.
pub(crate) fn barrier_party(parent: &mut Parent) {
    let region = Region::open(parent.argument(0)).expect("the stage");
    let barrier = region.get::<Barrier>("barrier").expect("the barrier");
    let mut party = barrier.join().expect("a seat");
    parent.say("here");
    loop {
        parent.expect("wait");
        parent.say(outcome(party.wait()));
    }
}

fn outcome(waited: Result<BarrierWaitResult, BarrierError>) -> &'static str {
    match waited {
        Ok(_) => "ok",
        Err(BarrierError::Broken) => "broken",
        Err(other) => panic!("{other}"),
    }
}

fn scene(stage: &Stage) -> (Shm<Barrier>, Child) {
    let barrier = stage.region.insert("barrier", Barrier::new(2).expect("two")).expect("room");
    (barrier, party(stage))
}

fn party(stage: &Stage) -> Child {
    let mut party = Child::spawn("barrier_party", &[stage.name()]);
    party.expect("here");
    party
}

/// Whatever has happened, a reset makes a sound barrier of it, at which somebody else can take the victim's seat.
fn mend(stage: &Stage, barrier: &Barrier, victim: &Child, partner: &mut Child) {
    until("the end of the victim", || has_died(victim));
    until("the victim's leaving the table", || !stage.pids().contains(&victim.pid()));
    barrier.reset().expect("a repair");
    assert!(!barrier.is_broken());
    let mut new = barrier.join().expect("the seat of the victim");
    partner.tell("wait");
    new.wait_timeout(BOUND).expect("a round");
    partner.expect("ok");
}

/// The victim comes before the other party.
fn arrive_first(_other: &Name, victim: &mut Child, stage: &Stage) {
    let (barrier, mut partner) = scene(stage);
    victim.tell("go");
    until_sleeps_or_dies(victim);
    partner.tell("wait");
    // One that has completed the round and dies then has not broken that.
    let said = partner.hear();
    assert!(said == "ok" || said == "broken", "{said}");
    mend(stage, &barrier, victim, &mut partner);
}

/// The victim comes after the other party.
fn arrive_last(_other: &Name, victim: &mut Child, stage: &Stage) {
    let (barrier, mut partner) = scene(stage);
    partner.tell("wait");
    until_sleeps(&partner);
    victim.tell("go");
    let said = partner.hear();
    assert!(said == "ok" || said == "broken", "{said}");
    mend(stage, &barrier, victim, &mut partner);
}

/// The victim breaks the barrier at which another party waits.
fn abort_before_a_sleeper(_other: &Name, victim: &mut Child, stage: &Stage) {
    let (barrier, mut partner) = scene(stage);
    partner.tell("wait");
    until_sleeps(&partner);
    victim.tell("go");
    partner.expect("broken");
    mend(stage, &barrier, victim, &mut partner);
}

/// The victim repairs a barrier that has a dead party, and one that waits.
fn reset_after_a_death(_other: &Name, victim: &mut Child, stage: &Stage) {
    let (barrier, mut partner) = scene(stage);
    let mut dead = party(stage);
    dead.kill();
    dead.reap();
    until("the news of the death", || !stage.pids().contains(&dead.pid()));
    partner.tell("wait");
    partner.expect("broken");
    victim.tell("go");
    mend(stage, &barrier, victim, &mut partner);
}
