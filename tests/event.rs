//! The `Event` between real processes: its everyday behaviour, and the deaths of those who wait for it or set it.

mod common;

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use shmkit::{Event, Region, Shm, WaitError};

use common::{
    Net, Parent, Party, Random, Stage, answer, fork, now_ns, prompt, queue_up, roles, signal, until,
    with_and_without_the_net,
};

roles!(waiter);

/// A stage with an event of each kind.
struct Crossing {
    stage: Stage,
    manual: Shm<Event>,
    auto: Shm<Event>,
}

impl Crossing {
    fn create() -> Self {
        let stage = Stage::create();
        let manual = stage.region.insert("manual", Event::new()).expect("room");
        let auto = stage.region.insert("auto", Event::auto_reset()).expect("room");
        Self { stage, manual, auto }
    }

    fn waiters<const N: usize>(&self, net: Net) -> [Party; N] {
        Party::join_many_as("waiter", net, &self.stage)
    }
}

/// Does with the events what it is told.
fn waiter(parent: &mut Parent) {
    let name = parent.argument(0).to_owned();
    let region = Region::open(&name).expect("the region");
    let board = Stage::open(&name).board;
    let events = ["manual", "auto"].map(|name| region.get::<Event>(name).expect("an event"));
    answer(parent, now_ns(), "here");
    loop {
        let order = parent.hear();
        let mut words = order.split(' ');
        let verb = words.next().unwrap_or_default();
        let event = &events[usize::from(words.next() == Some("auto"))];
        let number: u64 = words.next().map_or(0, |word| word.parse().expect("a number"));
        let start = now_ns();
        let said = match verb {
            "wait" => outcome(event.wait()),
            "timed" => outcome(event.wait_timeout(Duration::from_millis(number))),
            // Waits, and says what is on the board then.
            "read" => format!("{} {}", outcome(event.wait()), board[0].load(Relaxed)),
            "write" => {
                board[0].store(number, Relaxed);
                event.set();
                "set".to_owned()
            }
            "set" => {
                event.set();
                "set".to_owned()
            }
            "flash" => {
                event.set();
                event.reset();
                "flashed".to_owned()
            }
            // Sets, which wakes a sleeper, and kills it before it has run, if both are on the same CPU.
            "set-and-kill" => {
                event.set();
                signal(number as u32, libc::SIGKILL);
                "killed".to_owned()
            }
            "fork-and-wait" => {
                let child = fork(|| assert!(event.wait_timeout(common::BOUND).is_ok()));
                format!("{}", child.reap())
            }
            "idle" | "busy" => {
                common::stay_on_cpu_0(verb == "idle");
                verb.to_owned()
            }
            "interrupts" => {
                common::interrupt_on(libc::SIGUSR1);
                "ready".to_owned()
            }
            other => panic!("no order {other:?}"),
        };
        answer(parent, start, &said);
    }
}

fn outcome(waited: Result<(), WaitError>) -> String {
    waited.map_or_else(|error| format!("{error:?}"), |()| "ok".to_owned())
}

/// Each of the waiters was released soon after `start`.
#[track_caller]
fn all_are_released(waiters: &mut [Party], start: u64) {
    for waiter in waiters {
        assert_eq!(waiter.soon(start), "ok");
    }
}

// Everyday behaviour.

#[test]
fn a_new_event_is_unset_and_a_wait_without_patience_fails_at_once() {
    let crossing = Crossing::create();
    let [mut waiter] = crossing.waiters(Net::Off);

    for kind in ["manual", "auto"] {
        waiter.tell(format_args!("timed {kind} 0"));
        let reply = waiter.reply();
        assert_eq!(reply.text, "TimedOut");
        assert!(reply.took < prompt(), "{reply:?}");
    }
}

#[test]
fn one_set_releases_all_who_wait_and_those_who_come_later() {
    let crossing = Crossing::create();
    let [mut setter, mut late] = crossing.waiters(Net::Off);
    let mut waiters: [Party; 4] = crossing.waiters(Net::Off);
    queue_up("wait manual", &mut waiters);

    let start = now_ns();
    setter.ask("set manual");

    all_are_released(&mut waiters, start);
    assert_eq!(setter.ask("set manual"), "set");
    assert_eq!(late.ask("wait manual"), "ok");
    assert_eq!(late.ask("timed manual 0"), "ok");
    crossing.manual.reset();
    crossing.manual.reset();
    assert_eq!(late.ask("timed manual 1"), "TimedOut");
    assert_eq!(crossing.manual.generation(), 1);
}

#[test]
fn those_who_wait_are_released_also_if_a_reset_follows_the_set_at_once() {
    let crossing = Crossing::create();
    let [mut setter] = crossing.waiters(Net::Off);
    let mut waiters: [Party; 4] = crossing.waiters(Net::Off);

    for _ in 0..20 {
        queue_up("wait manual", &mut waiters);
        let start = now_ns();
        assert_eq!(setter.ask("flash manual"), "flashed");

        all_are_released(&mut waiters, start);
        assert!(!crossing.manual.is_set());
    }
}

#[test]
fn a_set_of_an_auto_reset_event_releases_exactly_one() {
    let crossing = Crossing::create();
    let [mut setter] = crossing.waiters(Net::Off);
    let mut waiters: [Party; 3] = crossing.waiters(Net::Off);
    queue_up("wait auto", &mut waiters);

    for released in 1..=3 {
        setter.ask("set auto");
        until("a release", || waiters.iter().filter(|waiter| waiter.has_said()).count() >= released);
        for waiter in waiters.iter().filter(|waiter| !waiter.has_said()) {
            waiter.until_asleep();
        }
        assert_eq!(waiters.iter().filter(|waiter| waiter.has_said()).count(), released);
        assert!(!crossing.auto.is_set());
    }
    waiters.iter_mut().for_each(|waiter| assert_eq!(waiter.reply().text, "ok"));
}

#[test]
fn sets_of_an_auto_reset_event_that_nobody_waits_for_are_one() {
    let crossing = Crossing::create();
    let [mut setter, mut waiter] = crossing.waiters(Net::Off);
    setter.ask("set auto");
    setter.ask("set auto");

    assert_eq!(waiter.ask("timed auto 0"), "ok");
    assert_eq!(waiter.ask("timed auto 0"), "TimedOut");
}

#[test]
fn what_was_written_before_a_set_is_seen_by_those_whom_it_releases() {
    let crossing = Crossing::create();
    let [mut setter, mut waiter] = crossing.waiters(Net::Off);

    for number in 1..200 {
        waiter.tell("read auto");
        setter.ask(&format!("write auto {number}"));
        assert_eq!(waiter.reply().text, format!("ok {number}"));
    }
}

#[test]
fn a_timed_wait_fails_after_its_timeout_and_not_before_and_succeeds_in_time() {
    let crossing = Crossing::create();
    let [mut setter, mut waiter] = crossing.waiters(Net::Off);

    for kind in ["manual", "auto"] {
        for timeout in [1, 50, 300] {
            waiter.tell(format_args!("timed {kind} {timeout}"));
            let (reply, timeout) = (waiter.reply(), Duration::from_millis(timeout));
            assert_eq!(reply.text, "TimedOut");
            assert!(reply.took >= timeout && reply.took < timeout + prompt(), "{reply:?}");
        }
        waiter.tell(format_args!("timed {kind} 15000"));
        waiter.until_asleep();
        let start = now_ns();
        setter.ask(&format!("set {kind}"));
        all_are_released(std::slice::from_mut(&mut waiter), start);
    }
}

#[test]
fn sets_at_the_very_deadline_of_one_waiter_reach_the_other() {
    let crossing = Crossing::create();
    let [mut setter, mut patient, mut hasty] = crossing.waiters(Net::Off);
    let mut random = Random::new();

    for _ in 0..100 {
        hasty.tell("timed auto 5");
        patient.tell("wait auto");
        random.pause(Duration::from_millis(7));
        setter.ask("set auto");
        let start = now_ns();
        // Whoever got it leaves the other one waiting, or none.
        if hasty.reply().text == "ok" {
            setter.ask("set auto");
        }
        assert_eq!(patient.soon(start), "ok");
    }
    assert_eq!(crossing.stage.region.rescues(), 0);
}

#[test]
fn interrupting_signals_neither_surface_nor_cut_a_wait_short() {
    let crossing = Crossing::create();
    let [mut waiter] = crossing.waiters(Net::Off);
    waiter.ask("interrupts");

    for kind in ["manual", "auto"] {
        waiter.tell(format_args!("timed {kind} 300"));
        let signals = waiter.interrupt_until_it_answers();
        let (reply, asked) = (waiter.reply(), Duration::from_millis(300));
        assert!(signals > 100, "only {signals} signals were sent");
        assert_eq!(reply.text, "TimedOut");
        assert!(reply.took >= asked && reply.took < asked + prompt(), "{reply:?}");
    }
}

#[test]
fn a_stopped_waiter_is_released_when_it_goes_on() {
    let crossing = Crossing::create();
    let [mut setter, mut waiter] = crossing.waiters(Net::Off);
    waiter.fall_asleep("wait manual");

    waiter.signal(libc::SIGSTOP);
    common::until_stopped(waiter.pid());
    setter.ask("flash manual");
    assert!(!waiter.has_said());
    waiter.signal(libc::SIGCONT);

    assert_eq!(waiter.reply().text, "ok");
}

#[test]
fn a_forked_child_of_a_participant_waits_as_its_parent_does() {
    let crossing = Crossing::create();
    let [mut setter, mut waiter] = crossing.waiters(Net::Off);

    waiter.tell("fork-and-wait auto");
    until("the child among the participants", || crossing.stage.pids().len() == 4);
    setter.ask("set auto");

    assert_eq!(waiter.reply().text, "0");
}

// Deaths.

#[test]
fn what_a_dead_process_has_set_is_set() {
    let crossing = Crossing::create();
    let [mut setter, mut waiter] = crossing.waiters(Net::Off);
    setter.ask("set manual");
    setter.ask("set auto");
    setter.kill();
    setter.reap();

    assert_eq!(waiter.ask("wait manual"), "ok");
    assert_eq!(waiter.ask("wait auto"), "ok");
    assert_eq!(waiter.ask("timed auto 0"), "TimedOut");
}

#[test]
fn a_death_releases_nobody_and_the_next_set_does() {
    with_and_without_the_net(|net| {
        for kind in ["manual", "auto"] {
            let crossing = Crossing::create();
            let [mut setter, mut dead, waiter] = crossing.waiters(net);
            let waiter = &mut [waiter];
            dead.tell(format_args!("wait {kind}"));
            dead.until_asleep();
            queue_up(&format!("wait {kind}"), waiter);

            dead.kill();
            dead.reap();
            until("the news of the death", || !crossing.stage.pids().contains(&dead.pid()));
            waiter[0].until_asleep();
            assert!(!waiter[0].has_said());
            let start = now_ns();
            setter.ask(&format!("set {kind}"));

            all_are_released(waiter, start);
            assert_eq!(crossing.stage.region.rescues(), 0);
        }
    });
}

#[test]
fn the_set_of_a_waiter_that_was_killed_as_it_was_woken_reaches_the_next_or_is_gone_with_it() {
    with_and_without_the_net(|net| {
        let mut reached = 0;
        for _ in 0..20 {
            let crossing = Crossing::create();
            let [mut setter, mut victim, survivor] = crossing.waiters(net);
            let survivor = &mut [survivor];
            setter.ask("busy");
            victim.ask("idle");
            victim.fall_asleep("wait auto");
            queue_up("wait auto", survivor);

            setter.ask(&format!("set-and-kill auto {}", victim.pid()));
            victim.reap();
            let mut start = now_ns();
            // A victim that got as far as taking the set has taken it along.
            until("the set taken", || !crossing.auto.is_set());
            if has_answered(&survivor[0]) {
                reached += 1;
            } else {
                start = now_ns();
                setter.ask("set auto");
            }
            all_are_released(survivor, start);
            assert_eq!(crossing.stage.region.rescues(), 0);
        }
        assert!(reached > 0, "no victim died before it ran");
    });
}

/// Whether it is released: it has said so, or soon will.
fn has_answered(waiter: &Party) -> bool {
    let end = now_ns() + prompt().as_nanos() as u64 / 2;
    while !waiter.has_said() && now_ns() < end {
        std::thread::yield_now();
    }
    waiter.has_said()
}

#[test]
fn all_who_wait_go_on_when_the_one_who_set_is_killed_at_any_moment() {
    let crossing = Crossing::create();
    let mut random = Random::new();
    let mut waiters: [Party; 3] = crossing.waiters(Net::Off);

    for _ in 0..30 {
        let [mut setter] = crossing.waiters(Net::Off);
        queue_up("wait manual", &mut waiters);
        setter.tell("set manual");
        random.pause(Duration::from_micros(100));
        setter.kill();
        setter.reap();
        let start = now_ns();
        // It may have been killed before it did anything.
        crossing.manual.set();

        all_are_released(&mut waiters, start);
        crossing.manual.reset();
    }
    assert_eq!(crossing.stage.region.rescues(), 0);
}
