//! The sweep through the operations of an `Event`.

use shmkit::shim::crash::arm;
use shmkit::{Event, Region};

use crate::common::{Child, Name, Parent, Stage, fork, until};
use crate::{Scene, has_died, until_sleeps, until_sleeps_or_dies};

pub(crate) const SCENES: &[(&str, Scene)] = &[
    ("event_set", set_for_a_sleeper),
    ("event_set_forked", set_in_a_child_for_a_sleeper),
    ("event_wait", wait_beside_a_sleeper),
];

/// What the victim does.
pub(crate) fn victim(scene: &str, parent: &mut Parent, stage_name: &str, die_at: usize) {
    let region = Region::open(stage_name).expect("the stage");
    parent.expect("go");
    let event = region.get::<Event>("event").expect("the event");
    arm(die_at);
    match scene {
        "event_set" => event.set(),
        "event_set_forked" => {
            let status = fork(|| event.set()).reap();
            // Its own death would wake everybody.
            parent.say("done");
            parent.expect("end");
            match status {
                0 => {}
                // What its child dies of, the victim dies of, too, so that the sweep goes on.
                libc::SIGKILL => crate::die(),
                status => panic!("the child failed by itself: {status}"),
            }
        }
        "event_wait" => event.wait().expect("a set"),
        unknown => panic!("no scene {unknown:?}"),
    }
}

/// A process that waits for the event.
pub(crate) fn event_waiter(parent: &mut Parent) {
    let region = Region::open(parent.argument(0)).expect("the stage");
    let event = region.get::<Event>("event").expect("the event");
    parent.say("here");
    parent.expect("wait");
    event.wait().expect("a set");
    parent.say("released");
}

fn waiter(stage: &Stage) -> Child {
    let mut waiter = Child::spawn("event_waiter", &[stage.name()]);
    waiter.expect("here");
    waiter
}

/// The victim sets the event that another process waits for.
fn set_for_a_sleeper(_other: &Name, victim: &mut Child, stage: &Stage) {
    stage.region.insert("event", Event::new()).expect("room");
    let mut waiter = waiter(stage);
    waiter.tell("wait");
    until_sleeps(&waiter);
    victim.tell("go");
    waiter.expect("released");
}

/// A child that the victim has just forked, and that nobody knows yet, sets the event that another process waits for.
fn set_in_a_child_for_a_sleeper(_other: &Name, victim: &mut Child, stage: &Stage) {
    let event = stage.region.insert("event", Event::new()).expect("room");
    let mut waiter = waiter(stage);
    waiter.tell("wait");
    until_sleeps(&waiter);
    victim.tell("go");
    victim.expect("done");
    if !event.is_set() {
        event.set();
    }
    waiter.expect("released");
    victim.tell("end");
}

/// The victim waits for the event that another process waits for, too. A set that it has taken along is made good by another.
fn wait_beside_a_sleeper(_other: &Name, victim: &mut Child, stage: &Stage) {
    let event = stage.region.insert("event", Event::auto_reset()).expect("room");
    let mut waiter = waiter(stage);
    victim.tell("go");
    until_sleeps_or_dies(victim);
    waiter.tell("wait");
    until_sleeps(&waiter);
    event.set();
    until("one of them released", || waiter.has_said() || has_died(victim));
    // One for the other, if that has not had it yet. While the first is not taken, this is none.
    event.set();
    waiter.expect("released");
    until("the victim released", || has_died(victim));
}
