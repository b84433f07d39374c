//! The `Queue` between processes that are killed: nothing is duplicated, nothing is lost but what the dead had received, nobody sleeps on.

mod common;

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use shmkit::{Queue, Region, SharedArray};

use common::{
    Child, Name, Net, Parent, Party, Random, Stage, answer, now_ns, roles, signal, stay_on_cpu_0, until,
    with_and_without_the_net,
};

roles!(party, producer, consumer);

/// Does with the queue of the stage what it is told, and answers.
fn party(parent: &mut Parent) {
    let stage = Stage::open(parent.argument(0));
    answer(parent, now_ns(), "here");
    let queue = Queue::<u64>::open_in(&stage.region, "queue").expect("the queue");
    loop {
        let order = parent.hear();
        let (verb, number) = order.split_once(' ').unwrap_or((&order, "1"));
        let number: u64 = number.parse().expect("a number");
        let start = now_ns();
        let text = match verb {
            "send" => format!("{:?}", queue.send(number)),
            "recv" => format!("{:?}", queue.recv()),
            "idle" | "busy" => {
                stay_on_cpu_0(verb == "idle");
                verb.to_owned()
            }
            // Wakes a sleeper by the first message, and kills it before it has run, if both are on the same CPU.
            "send-two-and-kill" => {
                queue.send(1).expect("room");
                queue.send(2).expect("room");
                signal(number as u32, libc::SIGKILL);
                "killed".to_owned()
            }
            other => panic!("no order {other:?}"),
        };
        answer(parent, start, &text);
    }
}

fn stage(capacity: u64) -> (Stage, Queue<u64>) {
    let stage = Stage::create();
    let queue = Queue::create_in(&stage.region, "queue", capacity).expect("room");
    (stage, queue)
}

#[test]
fn a_consumer_killed_just_after_it_was_woken_takes_no_wake_up_along() {
    with_and_without_the_net(|net| {
        let (stage, queue) = stage(4);
        let [mut next, mut producer] = Party::join_many(net, &stage);
        assert_eq!(producer.ask("busy"), "busy");

        for _ in 0..8 {
            let mut woken = Party::join_as("party", net, &stage);
            assert_eq!(woken.ask("idle"), "idle");
            woken.fall_asleep("recv");
            next.fall_asleep("recv");

            let start = now_ns();
            producer.ask(&format!("send-two-and-kill {}", woken.pid()));

            assert!(next.soon(start).starts_with("Ok"));
            assert_eq!(stage.region.rescues(), 0);
            woken.reap();
            // Two were sent, of which the dead may have taken one.
            let _ = queue.try_recv();
        }
    });
}

#[test]
fn of_two_producers_that_wait_for_room_one_is_killed_and_the_other_gets_it() {
    let (stage, queue) = stage(1);
    queue.send(1).expect("room");
    let [mut victim, mut other] = Party::join_many(Net::Off, &stage);
    victim.fall_asleep("send 2");
    other.fall_asleep("send 3");

    victim.kill();
    victim.reap();
    let start = now_ns();
    assert_eq!(queue.recv().expect("a message"), 1);

    assert_eq!(other.soon(start), "Ok(())");
    assert_eq!(queue.recv().expect("a message"), 3);
    assert!(queue.is_empty());
}

#[test]
fn the_death_of_the_last_producer_is_not_the_end() {
    let (stage, _queue) = stage(1);
    let [mut consumer, mut producer] = Party::join_many(Net::Off, &stage);
    assert_eq!(producer.ask("send 1"), "Ok(())");
    producer.kill();
    producer.reap();
    assert_eq!(consumer.ask("recv"), "Ok(1)");
    consumer.fall_asleep("recv");
    until("the dead one's leaving the table", || !stage.pids().contains(&producer.pid()));
    consumer.until_asleep();
    assert!(!consumer.has_said());

    let [mut successor] = Party::join_many(Net::Off, &stage);
    let start = now_ns();
    assert_eq!(successor.ask("send 2"), "Ok(())");
    assert_eq!(consumer.soon(start), "Ok(2)");
}

// Kills at random, and what must be true of every message afterwards.

/// How many processes there are at most that send, or that receive, one after the other.
const MANY: usize = 64;

/// How many messages one of them sends at most.
const MOST: usize = 20_000;

/// What all of them share.
struct World {
    region: Region,
    queue: Queue<[u64; 3]>,
    /// How often each message has been received, by those who have lived on.
    seen: SharedArray<u32>,
    /// How many messages each producer has surely sent.
    sent: SharedArray<u64>,
    /// The number + 1 of the message that each consumer is just receiving.
    desks: SharedArray<u64>,
    /// 1 from when producers are to end.
    over: SharedArray<u64>,
}

impl World {
    fn create(name: &str) -> Self {
        let region = Region::create(name, MANY * MOST * 4 + (1 << 16)).expect("a region");
        Queue::<[u64; 3]>::create_in(&region, "queue", 3).expect("room");
        region.insert_array::<u32>("seen", MANY * MOST).expect("room");
        region.insert_array::<u64>("sent", MANY).expect("room");
        region.insert_array::<u64>("desks", MANY).expect("room");
        region.insert_array::<u64>("over", 1).expect("room");
        Self::of(region)
    }

    fn of(region: Region) -> Self {
        let array = |name, len| region.get_array::<u64>(name, len).expect("an array");
        let (sent, desks, over) = (array("sent", MANY), array("desks", MANY), array("over", 1));
        let queue = Queue::open_in(&region, "queue").expect("the queue");
        let seen = region.get_array("seen", MANY * MOST).expect("an array");
        Self { region, queue, seen, sent, desks, over }
    }
}

fn producer(parent: &mut Parent) {
    let world = World::of(Region::open(parent.argument(0)).expect("the region"));
    let me: usize = parent.argument(1).parse().expect("a number");
    let mut number = 0;
    while world.over.get(0) == Some(0) && number < MOST {
        world.queue.send([me as u64, number as u64, !(number as u64)]).expect("room");
        number += 1;
        world.sent.set(me, number as u64).expect("a place");
    }
    parent.say("done");
}

fn consumer(parent: &mut Parent) {
    let world = World::of(Region::open(parent.argument(0)).expect("the region"));
    let me: usize = parent.argument(1).parse().expect("a number");
    let mut next = [0; MANY];
    while let Ok([who, number, check]) = world.queue.recv_with(|message| {
        let place = message[0] as usize * MOST + message[1] as usize;
        world.desks.set(me, place as u64 + 1).expect("a place");
        *message
    }) {
        assert_eq!(check, !number, "torn");
        assert!(number >= next[who as usize], "out of order");
        next[who as usize] = number + 1;
        world.seen.fetch_add(who as usize * MOST + number as usize, 1, Relaxed).expect("a place");
        world.desks.set(me, 0).expect("a place");
    }
    parent.say("done");
}

#[test]
fn whoever_is_killed_whenever_each_message_is_received_once_or_was_on_the_desk_of_a_dead() {
    const KILLS: usize = 60;
    let name = Name::new();
    let world = World::create(&name);
    let mut random = Random::new();
    let mut counts = [0, 0];
    let mut start = |kind: usize| {
        let role = ["producer", "consumer"][kind];
        let child = Child::spawn_with(Net::Off, role, &[&name, &counts[kind].to_string()]);
        counts[kind] += 1;
        child
    };
    let mut alive: Vec<(usize, Child)> = [0, 0, 0, 1, 1, 1].map(|kind| (kind, start(kind))).into();

    for _ in 0..KILLS {
        random.pause(Duration::from_millis(4));
        let victim = random.below(alive.len() as u64) as usize;
        let (kind, mut child) = alive.swap_remove(victim);
        child.kill();
        child.reap();
        alive.push((kind, start(kind)));
    }
    world.over.set(0, 1).expect("a place");
    for (_, producer) in alive.iter_mut().filter(|(kind, _)| *kind == 0) {
        producer.expect("done");
    }
    world.queue.close().expect("a turn");
    for (_, consumer) in alive.iter_mut().filter(|(kind, _)| *kind == 1) {
        consumer.expect("done");
    }

    let on_desks: Vec<u64> = world.desks.iter().filter(|place| *place != 0).map(|place| place - 1).collect();
    let (mut received, mut lost) = (0, 0);
    for who in 0..MANY {
        let sent = world.sent.get(who).expect("a place") as usize;
        for number in 0..MOST {
            let place = who * MOST + number;
            let seen = world.seen.get(place).expect("a place");
            assert!(seen <= 1, "message {number} of {who} was received {seen} times");
            // Killed after it had sent and before it noted that, a producer has sent one more.
            assert!(seen == 0 || number <= sent, "message {number} of {who} was never sent");
            let is_missing = seen == 0 && number < sent;
            assert!(!is_missing || on_desks.contains(&(place as u64)), "message {number} of {who} is lost");
            received += seen;
            lost += u32::from(is_missing);
        }
    }
    println!("{received} received, {lost} lost");
    assert!(received > 0 && lost as usize <= KILLS);
    assert_eq!(world.region.rescues(), 0);
}
