//! The `Queue` between real processes: its everyday behaviour.

mod common;

use std::time::Duration;

use shmkit::{Queue, RecvError, SendError};

use common::{
    Net, Parent, Party, Stage, answer, fork, interrupt_on, now_ns, prompt, queue_up, roles, signal_thread, until,
    until_stopped,
};

roles!(party);

/// Does with the queue of the stage what it is told, and answers.
fn party(parent: &mut Parent) {
    let stage = Stage::open(parent.argument(0));
    answer(parent, now_ns(), "here");
    let queue = Queue::<[u64; 2]>::open_in(&stage.region, "queue").expect("the queue");
    loop {
        let order = parent.hear();
        let mut words = order.split(' ');
        let verb = words.next().unwrap_or_default();
        let mut number = || words.next().map_or(0, |word| word.parse().expect("a number"));
        let start = now_ns();
        let text = match verb {
            "send" => sent(queue.send([number(), number()])),
            "try-send" => sent(queue.try_send([0, 0])),
            "timed-send" => sent(queue.send_timeout([0, 0], Duration::from_millis(number()))),
            // Sends so many messages with its own number.
            "stream" => {
                let (who, count) = (number(), number());
                (0..count).for_each(|number| queue.send([who, number]).expect("room"));
                "ok".to_owned()
            }
            "recv" => received(queue.recv()),
            "try-recv" => received(queue.try_recv()),
            "timed-recv" => received(queue.recv_timeout(Duration::from_millis(number()))),
            // Receives all until the end; says how many of each sender, whose numbers must rise.
            "drain" => {
                let mut next = [0; 4];
                let mut counts = [0; 4];
                for [who, number] in &queue {
                    assert!(number >= next[who as usize], "{who}: {number} behind {next:?}");
                    next[who as usize] = number + 1;
                    counts[who as usize] += 1;
                }
                counts.map(|count: u64| count.to_string()).join(" ")
            }
            "close" => queue.close().map_or_else(|error| format!("{error:?}"), |()| "ok".to_owned()),
            "fork" => {
                let child = fork(|| {
                    assert_eq!(queue.recv().expect("a message"), [1, 2]);
                    queue.send([3, 4]).expect("room");
                });
                child.reap().to_string()
            }
            "interrupts" => {
                interrupt_on(libc::SIGUSR1);
                "ready".to_owned()
            }
            other => panic!("no order {other:?}"),
        };
        answer(parent, start, &text);
    }
}

fn sent(result: Result<(), SendError<[u64; 2]>>) -> String {
    result.map_or_else(|error| format!("{error:?}"), |()| "ok".to_owned())
}

fn received(result: Result<[u64; 2], RecvError>) -> String {
    result.map_or_else(|error| format!("{error:?}"), |[who, number]| format!("{who} {number}"))
}

/// A stage with a queue.
fn stage(capacity: u64) -> (Stage, Queue<[u64; 2]>) {
    let stage = Stage::create();
    let queue = Queue::create_in(&stage.region, "queue", capacity).expect("room");
    (stage, queue)
}

#[test]
fn each_message_is_received_once_and_those_of_one_producer_in_order_and_nobody_is_starved() {
    const EACH: u64 = 20_000;
    let (stage, queue) = stage(16);
    let mut producers: [Party; 4] = Party::join_many(Net::Off, &stage);
    let mut consumers: [Party; 4] = Party::join_many(Net::Off, &stage);
    consumers.iter_mut().for_each(|consumer| consumer.tell("drain"));
    for (who, producer) in producers.iter_mut().enumerate() {
        producer.tell(format_args!("stream {who} {EACH}"));
    }

    producers.iter_mut().for_each(|producer| assert_eq!(producer.reply().text, "ok"));
    queue.close().expect("a turn");

    let mut sums = [0; 4];
    for consumer in &mut consumers {
        let reply = consumer.reply().text;
        let counts: Vec<u64> = reply.split(' ').map(|count| count.parse().expect("a number")).collect();
        assert!(counts.iter().sum::<u64>() > 0, "one got nothing");
        sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
    }
    assert_eq!(sums, [EACH; 4]);
    assert_eq!(stage.region.rescues(), 0);
}

#[test]
fn a_try_fails_at_once_and_a_timed_operation_after_its_timeout_and_not_before() {
    let (stage, queue) = stage(1);
    let [mut party] = Party::join_many(Net::Off, &stage);
    let fails = |party: &mut Party, what: &str, with: &str| {
        party.tell(format_args!("try-{what}"));
        let reply = party.reply();
        assert!(reply.took < prompt() && reply.text != "ok", "{reply:?}");
        for timeout in [1, 50, 300] {
            party.tell(format_args!("timed-{what} {timeout}"));
            let (reply, timeout) = (party.reply(), Duration::from_millis(timeout));
            assert_eq!(reply.text, with);
            assert!(reply.took >= timeout && reply.took < timeout + prompt(), "{reply:?}");
        }
    };

    fails(&mut party, "recv", "TimedOut");
    assert_eq!(party.ask("send 1 2"), "ok");
    fails(&mut party, "send", "TimedOut(..)");

    party.tell("timed-send 15000");
    party.until_asleep();
    let start = now_ns();
    assert_eq!(queue.recv().expect("a message"), [1, 2]);
    assert_eq!(party.soon(start), "ok");
}

#[test]
fn one_message_wakes_exactly_one_consumer() {
    let (stage, queue) = stage(4);
    let mut consumers = Vec::from(Party::join_many::<3>(Net::Off, &stage));
    queue_up("recv", &mut consumers);

    while !consumers.is_empty() {
        let start = now_ns();
        queue.send([7, 8]).expect("room");
        until("one who got on", || consumers.iter().any(|consumer| consumer.has_said()));
        let index = consumers.iter().position(|consumer| consumer.has_said()).expect("the one found");
        assert_eq!(consumers.remove(index).soon(start), "7 8");
        consumers.iter_mut().for_each(|other| other.until_asleep());
        assert!(!consumers.iter().any(|other| other.has_said()));
    }
    assert_eq!(stage.region.rescues(), 0);
}

#[test]
fn several_messages_that_are_sent_at_once_wake_as_many_consumers() {
    let (stage, queue) = stage(4);
    let mut consumers = Vec::from(Party::join_many::<3>(Net::Off, &stage));

    for _ in 0..50 {
        queue_up("recv", &mut consumers);
        let start = now_ns();
        queue.send_slice(&[[1, 1]; 3]).expect("room");
        consumers.iter_mut().for_each(|consumer| assert_eq!(consumer.soon(start), "1 1"));
    }
    assert_eq!(stage.region.rescues(), 0);
}

#[test]
fn a_free_place_wakes_exactly_one_producer() {
    let (stage, queue) = stage(1);
    queue.send([0, 0]).expect("room");
    let mut producers = Vec::from(Party::join_many::<3>(Net::Off, &stage));
    queue_up("send 1 1", &mut producers);

    while !producers.is_empty() {
        let start = now_ns();
        queue.recv().expect("a message");
        until("one who got on", || producers.iter().any(|producer| producer.has_said()));
        let index = producers.iter().position(|producer| producer.has_said()).expect("the one found");
        assert_eq!(producers.remove(index).soon(start), "ok");
        producers.iter_mut().for_each(|other| other.until_asleep());
        assert!(!producers.iter().any(|other| other.has_said()));
    }
    assert_eq!(stage.region.rescues(), 0);
}

#[test]
fn a_close_ends_all_who_wait_and_what_was_sent_is_received_before_the_end() {
    let (full_stage, full) = stage(1);
    let (empty_stage, empty) = stage(1);
    full.send([1, 2]).expect("room");
    let mut producers = Party::join_many::<2>(Net::Off, &full_stage);
    let mut consumers = Party::join_many::<2>(Net::Off, &empty_stage);
    let [mut late] = Party::join_many(Net::Off, &full_stage);
    queue_up("send 3 4", &mut producers);
    queue_up("recv", &mut consumers);

    let start = now_ns();
    full.close().expect("a turn");
    empty.close().expect("a turn");

    producers.iter_mut().for_each(|producer| assert_eq!(producer.soon(start), "Disconnected(..)"));
    consumers.iter_mut().for_each(|consumer| assert_eq!(consumer.soon(start), "Disconnected"));
    assert_eq!(late.ask("recv"), "1 2");
    assert_eq!(late.ask("recv"), "Disconnected");
    assert_eq!(late.ask("send 5 6"), "Disconnected(..)");
    assert_eq!(late.ask("close"), "ok");
}

#[test]
fn a_forked_child_uses_what_it_inherits() {
    let (stage, queue) = stage(1);
    let [mut party] = Party::join_many(Net::Off, &stage);
    party.tell("fork");

    queue.send([1, 2]).expect("room");

    assert_eq!(party.reply().text, "0");
    assert_eq!(queue.recv().expect("a message"), [3, 4]);
}

#[test]
fn signals_neither_surface_nor_cut_a_wait_short() {
    let (stage, queue) = stage(1);
    let [mut party] = Party::join_many(Net::Off, &stage);
    party.ask("interrupts");

    party.tell("timed-recv 300");
    until("the end of the timed wait", || {
        signal_thread(party.pid(), party.thread(), libc::SIGUSR1);
        party.has_said()
    });
    let reply = party.reply();
    assert_eq!(reply.text, "TimedOut");
    assert!(reply.took >= Duration::from_millis(300), "{reply:?}");

    party.tell("recv");
    party.until_asleep();
    signal_thread(party.pid(), party.thread(), libc::SIGUSR1);
    queue.send([5, 6]).expect("room");
    assert_eq!(party.reply().text, "5 6");
}

#[test]
fn a_message_reaches_the_consumer_behind_one_that_is_stopped() {
    let (stage, queue) = stage(2);
    let [mut stopped, mut other] = Party::join_many(Net::On, &stage);
    stopped.fall_asleep("recv");
    other.fall_asleep("recv");
    stopped.signal(libc::SIGSTOP);
    until_stopped(stopped.pid());

    let start = now_ns();
    queue.send([1, 1]).expect("room");

    assert_eq!(other.soon(start), "1 1");
    stopped.signal(libc::SIGCONT);
    stopped.until_asleep();
    queue.send([2, 2]).expect("room");
    assert_eq!(stopped.reply().text, "2 2");
}
