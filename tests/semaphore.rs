//! The `Semaphore` between real processes, of which some die.

mod common;

use std::fmt::Debug;
use std::time::Duration;

use shmkit::{Semaphore, Shm};

use common::{
    Net, Parent, Party, Random, Stage, answer, fork, interrupt_on, now_ns, prompt, queue_up, roles, signal,
    stay_on_cpu_0, until, until_stopped, with_and_without_the_net,
};

roles!(party);

/// Does with the semaphore of the stage what it is told, and answers.
fn party(parent: &mut Parent) {
    let stage = Stage::open(parent.argument(0));
    answer(parent, now_ns(), "here");
    let semaphore = stage.region.get::<Semaphore>("semaphore").expect("the semaphore");
    loop {
        let order = parent.hear();
        let (verb, number) = order.split_once(' ').unwrap_or((&order, "1"));
        let number: u32 = number.parse().expect("a number");
        let start = now_ns();
        let text = match verb {
            "acquire" => outcome(semaphore.acquire()),
            "many" => outcome(semaphore.acquire_many(number)),
            "try" => semaphore.try_acquire().to_string(),
            "timed" => outcome(semaphore.acquire_timeout(Duration::from_millis(number.into()))),
            "release" => outcome(semaphore.release_many(number)),
            "fork" => {
                let child = fork(|| semaphore.acquire().expect("a permit"));
                format!("{:?}", child.reap())
            }
            "interrupts" => {
                interrupt_on(libc::SIGUSR1);
                "ready".to_owned()
            }
            "idle" | "busy" => {
                stay_on_cpu_0(verb == "idle");
                verb.to_owned()
            }
            // Wakes a sleeper by the first release, and kills it before it has run, if both are on the same CPU.
            "release-two-and-kill" => {
                semaphore.release().expect("room");
                semaphore.release().expect("room");
                signal(number, libc::SIGKILL);
                "killed".to_owned()
            }
            other => panic!("no order {other:?}"),
        };
        answer(parent, start, &text);
    }
}

fn outcome(result: Result<(), impl Debug>) -> String {
    result.map_or_else(|error| format!("{error:?}"), |()| "ok".to_owned())
}

/// A stage with a semaphore.
fn stage(value: u32) -> (Stage, Shm<Semaphore>) {
    let stage = Stage::create();
    let semaphore = Semaphore::bounded(value, 3).expect("not more than 3");
    let semaphore = stage.region.insert("semaphore", semaphore).expect("room");
    (stage, semaphore)
}

/// The one of them that has an answer; nobody else has.
#[track_caller]
fn the_one_who_got_on(waiters: &mut [Party], start: u64) -> usize {
    until("one who got on", || waiters.iter().any(|waiter| waiter.has_said()));
    let index = waiters.iter().position(|waiter| waiter.has_said()).expect("the one found");
    assert_eq!(waiters[index].soon(start), "ok");
    for other in waiters.iter_mut().enumerate().filter_map(|(i, other)| (i != index).then_some(other)) {
        other.until_asleep();
        assert!(!other.has_said());
    }
    index
}

// Everyday behaviour.

#[test]
fn the_value_goes_down_to_0_and_there_a_try_fails_at_once_and_leaves_0() {
    let (stage, semaphore) = stage(2);
    let [mut one, mut other] = Party::join_many(Net::Off, &stage);

    assert_eq!(one.ask("acquire"), "ok");
    assert_eq!(semaphore.available(), 1);
    assert_eq!(other.ask("acquire"), "ok");
    assert_eq!(semaphore.available(), 0);
    one.tell("try");
    let reply = one.reply();
    assert_eq!(reply.text, "false");
    assert!(reply.took < prompt(), "{reply:?}");
    assert_eq!(semaphore.available(), 0);
}

#[test]
fn a_process_that_has_acquired_nothing_may_release() {
    let (stage, _semaphore) = stage(0);
    let [mut waiter, mut releaser] = Party::join_many(Net::Off, &stage);
    waiter.fall_asleep("acquire");

    assert_eq!(releaser.ask("release"), "ok");

    assert_eq!(waiter.reply().text, "ok");
}

#[test]
fn one_release_wakes_exactly_one() {
    let (stage, semaphore) = stage(0);
    let mut waiters = Vec::from(Party::join_many::<3>(Net::Off, &stage));
    queue_up("acquire", &mut waiters);

    while !waiters.is_empty() {
        let start = now_ns();
        semaphore.release().expect("room");
        let index = the_one_who_got_on(&mut waiters, start);
        waiters.remove(index);
        assert_eq!(semaphore.available(), 0);
    }
}

#[test]
fn a_release_of_two_and_two_of_one_wake_two() {
    let (stage, semaphore) = stage(0);
    let mut parties: [Party; 2] = Party::join_many(Net::Off, &stage);

    for round in 0..50 {
        queue_up("acquire", &mut parties);
        let start = now_ns();
        if round % 2 == 0 {
            semaphore.release_many(2).expect("room");
        } else {
            semaphore.release().expect("room");
            semaphore.release().expect("room");
        }
        for party in &mut parties {
            assert_eq!(party.soon(start), "ok");
        }
    }
}

#[test]
fn a_release_beyond_the_bound_is_an_error_and_changes_nothing() {
    let (stage, semaphore) = stage(2);
    let mut party = Party::join(&stage);

    assert_eq!(party.ask("release 2"), "AboveBound { permits: 4, bound: 3 }");
    assert_eq!(semaphore.available(), 2);
    assert_eq!(party.ask("release"), "ok");
    assert_eq!(party.ask("release"), "AboveBound { permits: 4, bound: 3 }");
    assert_eq!(semaphore.available(), 3);
}

#[test]
fn many_are_had_when_enough_were_released_one_by_one_and_one_is_had_meanwhile() {
    let (stage, semaphore) = stage(0);
    let [mut many, mut one] = Party::join_many(Net::Off, &stage);
    many.fall_asleep("many 2");
    one.fall_asleep("acquire");

    semaphore.release().expect("room");
    assert_eq!(one.reply().text, "ok");
    semaphore.release().expect("room");
    many.until_asleep();
    assert_eq!(semaphore.available(), 1);
    let start = now_ns();
    semaphore.release().expect("room");

    assert_eq!(many.soon(start), "ok");
    assert_eq!(semaphore.available(), 0);
}

#[test]
fn a_timed_acquire_fails_after_its_timeout_and_not_before_or_succeeds_when_released_in_time() {
    let (stage, semaphore) = stage(0);
    let mut party = Party::join(&stage);

    for timeout in [Duration::from_millis(1), Duration::from_millis(50), Duration::from_millis(300)] {
        party.tell(format_args!("timed {}", timeout.as_millis()));
        let reply = party.reply();
        assert_eq!(reply.text, "TimedOut");
        assert!(reply.took >= timeout && reply.took < timeout + prompt(), "{reply:?}");
    }
    party.fall_asleep("timed 15000");
    let start = now_ns();
    semaphore.release().expect("room");
    assert_eq!(party.soon(start), "ok");
    semaphore.release().expect("room");
    assert_eq!(party.ask("timed 0"), "ok");
}

#[test]
fn releases_at_the_very_deadline_of_one_waiter_reach_the_other() {
    let (stage, semaphore) = stage(0);
    let [mut patient, mut hasty] = Party::join_many(Net::Off, &stage);
    let mut random = Random::new();

    for _ in 0..100 {
        hasty.tell("timed 5");
        patient.tell("acquire");
        random.pause(Duration::from_millis(7));
        semaphore.release().expect("room");
        let start = now_ns();
        if hasty.reply().text == "ok" {
            semaphore.release().expect("room");
        }

        assert_eq!(patient.soon(start), "ok");
    }
}

#[test]
fn interrupting_signals_neither_surface_nor_cut_a_wait() {
    let (stage, semaphore) = stage(0);
    let mut party = Party::join(&stage);
    party.ask("interrupts");

    party.tell("timed 300");
    party.interrupt_until_it_answers();
    let reply = party.reply();
    assert_eq!(reply.text, "TimedOut");
    let asked = Duration::from_millis(300);
    assert!(reply.took >= asked && reply.took < asked + prompt(), "{reply:?}");
    party.tell("acquire");
    party.interrupt_asleep(100);
    semaphore.release().expect("room");
    assert_eq!(party.reply().text, "ok");
}

#[test]
fn a_forked_child_waits_and_acquires_like_any_process() {
    let (stage, semaphore) = stage(0);
    let mut party = Party::join(&stage);

    party.tell("fork");
    until("the child among those who take part", || stage.pids().len() == 3);
    semaphore.release().expect("room");

    assert_eq!(party.reply().text, "0");
    assert_eq!(semaphore.available(), 0);
}

// Deaths and stops.

#[test]
fn permits_of_a_killed_holder_are_lost_and_no_others() {
    let (stage, semaphore) = stage(3);
    let [mut holder, mut other] = Party::join_many(Net::Off, &stage);
    assert_eq!(holder.ask("many 2"), "ok");

    holder.kill();
    holder.reap();

    assert_eq!(semaphore.available(), 1);
    assert_eq!(other.ask("acquire"), "ok");
    assert_eq!(other.ask("timed 50"), "TimedOut");
    assert_eq!(other.ask("release 3"), "ok");
}

#[test]
fn sleepers_that_are_killed_disturb_nobody_and_take_no_permit_along() {
    with_and_without_the_net(|net| {
        let (stage, semaphore) = stage(0);
        let mut parties = Vec::from(Party::join_many::<5>(net, &stage));
        queue_up("acquire", &mut parties[..4]);
        queue_up("many 2", &mut parties[4..]);
        // The first, the last, and one in between.
        for dead in [4, 2, 0] {
            parties[dead].kill();
            parties.remove(dead).reap();
        }
        until("the news of the deaths", || stage.pids().len() == 3);

        for _ in 0..2 {
            let start = now_ns();
            semaphore.release().expect("room");
            let index = the_one_who_got_on(&mut parties, start);
            parties.remove(index);
        }
        assert_eq!(semaphore.available(), 0);
        assert_eq!(stage.region.rescues(), 0);
    });
}

#[test]
fn the_next_sleeper_gets_on_when_the_one_that_was_woken_and_owes_it_a_wake_up_is_killed_before_it_ran() {
    with_and_without_the_net(|net| {
        let (stage, semaphore) = stage(0);
        let [mut releaser, mut next] = Party::join_many(net, &stage);
        releaser.ask("busy");

        for _ in 0..8 {
            let mut woken = Party::join_as("party", net, &stage);
            woken.ask("idle");
            woken.fall_asleep("acquire");
            next.fall_asleep("acquire");

            let start = now_ns();
            releaser.ask(&format!("release-two-and-kill {}", woken.pid()));

            assert_eq!(next.soon(start), "ok");
            assert_eq!(stage.region.rescues(), 0);
            // Two were released, of which the dead may have taken one.
            woken.reap();
            let _ = semaphore.try_acquire();
        }
    });
}

#[test]
fn a_release_reaches_the_sleeper_behind_one_that_is_stopped() {
    let (stage, semaphore) = stage(0);
    let [mut stopped, mut other] = Party::join_many(Net::On, &stage);
    stopped.fall_asleep("acquire");
    other.fall_asleep("acquire");
    stopped.signal(libc::SIGSTOP);
    until_stopped(stopped.pid());

    let start = now_ns();
    semaphore.release().expect("room");
    let reply = other.reply();

    assert_eq!(reply.text, "ok");
    assert!(reply.since(start) < prompt(), "{reply:?}");
    stopped.signal(libc::SIGCONT);
    stopped.until_asleep();
    semaphore.release().expect("room");
    assert_eq!(stopped.reply().text, "ok");
}
