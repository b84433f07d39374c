//! The sweep through a wait for several things.

use shmkit::shim::crash::arm;
use shmkit::wait::Source;
use shmkit::{ChannelOptions, Event, Receiver, Region, Semaphore, Shm, wait_any};

use crate::common::{Child, Name, Parent, Stage, until};
use crate::{Scene, has_died, until_sleeps, until_sleeps_or_dies};

pub(crate) const SCENES: &[(&str, Scene)] = &[
    ("wait_any_event", beside_one_who_wants_the_set),
    ("wait_any_permit", beside_one_who_wants_the_permit),
    ("wait_any_message", until_the_end),
];

/// What the victim does: it takes nothing.
pub(crate) fn victim(scene: &str, parent: &mut Parent, stage_name: &str, die_at: usize) {
    let region = Region::open(stage_name).expect("the stage");
    parent.expect("go");
    let [stop, event] = ["stop", "event"].map(|name| region.get::<Event>(name).expect("an event"));
    let permits = region.get::<Semaphore>("permits").expect("the semaphore");
    if scene == "wait_any_message" {
        let mut receiver: Receiver<u64> =
            ChannelOptions::new().capacity(4).create_in(&region, "channel").expect("room");
        arm(die_at);
        wait_any(&mut [&mut receiver, &mut stop.until_set()], None).expect("an answer");
        return;
    }
    arm(die_at);
    let mut sources: [&mut dyn Source; 3] =
        [&mut stop.until_set(), &mut event.until_set(), &mut permits.until_available(1)];
    wait_any(&mut sources, None).expect("an answer");
}

/// A process that waits for the event, or for a permit, by itself.
pub(crate) fn wait_any_waiter(parent: &mut Parent) {
    let region = Region::open(parent.argument(0)).expect("the stage");
    let (event, permits) = (region.get::<Event>("event").expect("it"), region.get::<Semaphore>("permits").expect("it"));
    parent.say("here");
    if parent.hear() == "wait for the event" {
        event.wait().expect("a set");
    } else {
        permits.acquire().expect("a permit");
    }
    parent.say("released");
}

fn beside_one_who_wants_the_set(_other: &Name, victim: &mut Child, stage: &Stage) {
    beside(victim, stage, "wait for the event", |event, _| event.set());
}

fn beside_one_who_wants_the_permit(_other: &Name, victim: &mut Child, stage: &Stage) {
    beside(victim, stage, "wait for a permit", |_, permits| permits.release().expect("room"));
}

/// The things in the region of the stage.
fn things(stage: &Stage) -> (Shm<Event>, Shm<Event>, Shm<Semaphore>) {
    let stop = stage.region.insert("stop", Event::new()).expect("room");
    let event = stage.region.insert("event", Event::auto_reset()).expect("room");
    (stop, event, stage.region.insert("permits", Semaphore::new(0).expect("a bound")).expect("room"))
}

/// The victim waits for all, and another process, after it, for one thing, which there is to be once.
fn beside(victim: &mut Child, stage: &Stage, order: &str, cause: impl FnOnce(&Event, &Semaphore)) {
    let (stop, event, permits) = things(stage);
    let mut waiter = Child::spawn("wait_any_waiter", &[stage.name()]);
    waiter.expect("here");
    victim.tell("go");
    until_sleeps_or_dies(victim);
    waiter.tell(order);
    until_sleeps(&waiter);
    cause(&event, &permits);
    waiter.expect("released");
    stop.set();
    until("the end of the victim", || has_died(victim));
}

/// The victim waits for a message, too, and none comes.
fn until_the_end(_other: &Name, victim: &mut Child, stage: &Stage) {
    let (stop, ..) = things(stage);
    victim.tell("go");
    until_sleeps_or_dies(victim);
    stop.set();
    until("the end of the victim", || has_died(victim));
}
