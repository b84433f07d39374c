//! The sweep through the operations of a `Queue`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use shmkit::shim::crash::arm;
use shmkit::{Queue, RecvError, Region};

use crate::common::{Child, Name, Parent, Stage, until};
use crate::{Scene, has_died, until_sleeps, until_sleeps_or_dies};

pub(crate) const SCENES: &[(&str, Scene)] = &[
    ("queue_create", create),
    ("queue_send", send_for_a_sleeper),
    ("queue_send_many", send_several_for_nobody),
    ("queue_send_behind", send_behind_a_dead),
    ("queue_recv", receive_for_a_sleeper),
    ("queue_wait", wait_beside_a_sleeper),
    ("queue_panic", panic_beside_a_sleeper),
    ("queue_close", close_for_sleepers),
];

/// What the victim does.
pub(crate) fn victim(scene: &str, parent: &mut Parent, stage_name: &str, die_at: usize) {
    let region = Region::open(stage_name).expect("the stage");
    parent.expect("go");
    if scene == "queue_create" {
        arm(die_at);
        return drop(Queue::<u64>::create_in(&region, "queue", 2).expect("room"));
    }
    let queue = Queue::<u64>::open_in(&region, "queue").expect("the queue");
    arm(die_at);
    match scene {
        "queue_send" | "queue_send_behind" => queue.send(1).expect("room"),
        "queue_send_many" => queue.send_slice(&[1, 2, 3]).expect("room"),
        "queue_recv" => assert_eq!(queue.recv().expect("a message"), 1),
        "queue_wait" => drop(queue.recv().expect("a message")),
        "queue_panic" => {
            let panicking = || queue.recv_with(|_| std::panic::resume_unwind(Box::new(())));
            assert!(catch_unwind(AssertUnwindSafe(panicking)).is_err());
        }
        "queue_close" => queue.close().expect("a turn"),
        unknown => panic!("no scene {unknown:?}"),
    }
}

/// A process that sends or receives, and may be told where to die.
pub(crate) fn queue_party(parent: &mut Parent) {
    let region = Region::open(parent.argument(0)).expect("the stage");
    let queue = Queue::<u64>::open_in(&region, "queue").expect("the queue");
    parent.say("here");
    loop {
        let order = parent.hear();
        let said = match order.as_str() {
            "recv" => format!("{:?}", queue.recv()),
            "send" => format!("{:?}", queue.send(7)),
            // Between the store that sends and the one that notes it.
            "die in send" => {
                arm(3);
                format!("{:?}", queue.send(5))
            }
            other => panic!("no order {other:?}"),
        };
        parent.say(said);
    }
}

fn party(stage: &Stage) -> Child {
    let mut party = Child::spawn("queue_party", &[stage.name()]);
    party.expect("here");
    party
}

fn queue(stage: &Stage) -> Queue<u64> {
    Queue::create_in(&stage.region, "queue", 2).expect("room")
}

/// The victim makes a queue; somebody else makes it if the victim does not come to it.
fn create(_other: &Name, victim: &mut Child, stage: &Stage) {
    victim.tell("go");
    until("the victim's end", || has_died(victim));
    let queue = Queue::<u64>::open_in(&stage.region, "queue").unwrap_or_else(|_| queue(stage));
    queue.send(1).expect("room");
    assert_eq!(queue.recv().expect("a message"), 1);
}

/// The victim sends what another process waits for. If it does not come to it, somebody else does.
fn send_for_a_sleeper(_other: &Name, victim: &mut Child, stage: &Stage) {
    let queue = queue(stage);
    let mut sleeper = party(stage);
    sleeper.tell("recv");
    until_sleeps(&sleeper);
    victim.tell("go");
    until("the victim's end, or what it sent", || sleeper.has_said() || has_died(victim));
    queue.send(2).expect("room");
    let received = sleeper.hear();
    assert!(received == "Ok(1)" || received == "Ok(2)", "{received}");
    until("the victim's end", || has_died(victim));
    // The other one, and nothing else.
    let rest: Vec<u64> = std::iter::from_fn(|| queue.try_recv().ok()).collect();
    assert!(
        rest.is_empty() || (rest == [2] && received == "Ok(1)") || (rest == [1] && received == "Ok(2)"),
        "{rest:?}"
    );
}

/// Somebody was asleep and has gone since. The victim finds that out, while it sends more than there is room for.
fn send_several_for_nobody(_other: &Name, victim: &mut Child, stage: &Stage) {
    let queue = queue(stage);
    assert!(matches!(queue.recv_timeout(Duration::from_millis(1)), Err(RecvError::TimedOut)));
    victim.tell("go");
    until_sleeps_or_dies(victim);
    let mut received = Vec::new();
    until("the victim's end", || {
        received.extend(queue.try_recv());
        has_died(victim)
    });
    received.extend(std::iter::from_fn(|| queue.try_recv().ok()));
    assert!([1, 2, 3].starts_with(&received), "{received:?}");
    queue.send(9).expect("room");
    assert_eq!(queue.recv().expect("a message"), 9);
}

/// The victim takes the lock over from one that has died between its two stores.
fn send_behind_a_dead(_other: &Name, victim: &mut Child, stage: &Stage) {
    let queue = queue(stage);
    let mut dead = party(stage);
    dead.tell("die in send");
    dead.reap();
    assert_eq!(queue.len(), 1);
    victim.tell("go");
    until("the victim's end", || has_died(victim));
    assert_eq!(queue.recv().expect("a message"), 5);
    queue.send(2).expect("room");
    let rest: Vec<u64> = std::iter::from_fn(|| queue.try_recv().ok()).collect();
    assert!(rest == [1, 2] || rest == [2], "{rest:?}");
}

/// The victim receives, and so makes room that another process waits for. If it does not come to it, somebody else does.
fn receive_for_a_sleeper(_other: &Name, victim: &mut Child, stage: &Stage) {
    let queue = queue(stage);
    queue.send_slice(&[1, 2]).expect("room");
    let mut sleeper = party(stage);
    sleeper.tell("send");
    until_sleeps(&sleeper);
    victim.tell("go");
    until("the victim's end", || has_died(victim));
    let first = queue.recv().expect("a message");
    assert!(first == 1 || first == 2);
    sleeper.expect("Ok(())");
    let rest: Vec<u64> = std::iter::from_fn(|| queue.try_recv().ok()).collect();
    assert!(rest == [2, 7] || rest == [7], "{rest:?}");
}

/// The victim waits for a message beside another process. One that it has taken along is made good by another.
fn wait_beside_a_sleeper(_other: &Name, victim: &mut Child, stage: &Stage) {
    let queue = queue(stage);
    let mut sleeper = party(stage);
    victim.tell("go");
    until_sleeps_or_dies(victim);
    sleeper.tell("recv");
    until_sleeps(&sleeper);
    queue.send(1).expect("room");
    until("one of them got on", || sleeper.has_said() || has_died(victim));
    // One for the other, if that has not had it yet.
    queue.send(1).expect("room");
    sleeper.expect("Ok(1)");
    until("the victim's end", || has_died(victim));
}

/// The victim is woken for a message and does not take it. Another process, which sleeps behind it, gets it.
fn panic_beside_a_sleeper(_other: &Name, victim: &mut Child, stage: &Stage) {
    let queue = queue(stage);
    let mut sleeper = party(stage);
    victim.tell("go");
    until_sleeps_or_dies(victim);
    sleeper.tell("recv");
    until_sleeps(&sleeper);
    queue.send(1).expect("room");
    sleeper.expect("Ok(1)");
    // If it did not wake up first, it does now.
    until("the victim's end", || {
        let _ = queue.try_send(2);
        has_died(victim)
    });
}

/// The victim closes the queue that others wait at. If it does not come to it, somebody else does.
fn close_for_sleepers(_other: &Name, victim: &mut Child, stage: &Stage) {
    let queue = queue(stage);
    let mut sleepers = [party(stage), party(stage)];
    for sleeper in &mut sleepers {
        sleeper.tell("recv");
        until_sleeps(sleeper);
    }
    victim.tell("go");
    until("the victim's end", || has_died(victim));
    if !queue.is_closed() {
        queue.close().expect("a turn");
    }
    sleepers.iter_mut().for_each(|sleeper| sleeper.expect("Err(Disconnected)"));
}
