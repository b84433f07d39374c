//! The `Permits` between real processes: those of the dead come back, each once.

mod common;

use std::sync::atomic::Ordering::{AcqRel, Relaxed};
use std::time::Duration;

use shmkit::{Permit, Permits, Shm, WaitError};

use common::{
    Child, Net, Parent, Party, Random, Stage, answer, exec_sleep, exit_now, fork, interrupt_on, now_ns, prompt,
    queue_up, roles, signal, sleep_for_ever, stay_on_cpu_0, until, until_stopped, with_and_without_the_net,
};

roles!(party, singer);

/// Does with the permits of the stage what it is told, and answers.
fn party(parent: &mut Parent) {
    let stage = Stage::open(parent.argument(0));
    answer(parent, now_ns(), "here");
    let permits = stage.region.get::<Permits>("permits").expect("the permits");
    let mut held = Vec::new();
    loop {
        let order = parent.hear();
        let (verb, number) = order.split_once(' ').unwrap_or((&order, "0"));
        let number: u32 = number.parse().expect("a number");
        let start = now_ns();
        let text = match verb {
            "acquire" => outcome(permits.acquire(), &mut held),
            "try" => outcome(permits.try_acquire(), &mut held),
            "timed" => outcome(permits.acquire_timeout(Duration::from_millis(number.into())), &mut held),
            "drop" => {
                held.pop();
                "dropped".to_owned()
            }
            "forget" => {
                held.drain(..).for_each(std::mem::forget);
                "forgotten".to_owned()
            }
            // The child drops what its parent holds, and takes one of its own.
            "fork" => {
                let child = fork(|| {
                    held.clear();
                    drop(permits.acquire().expect("a permit"));
                });
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
            // Wakes a sleeper by the first drop, and kills it before it has run, if both are on the same CPU.
            "drop-two-and-kill" => {
                held.truncate(held.len() - 2);
                signal(number, libc::SIGKILL);
                "killed".to_owned()
            }
            "exit" => exit_now(0),
            "exec" => exec_sleep(),
            other => panic!("no order {other:?}"),
        };
        answer(parent, start, &text);
    }
}

fn outcome<'a>(result: Result<Permit<'a>, WaitError>, held: &mut Vec<Permit<'a>>) -> String {
    match result {
        Ok(permit) => {
            let text = if permit.after_death() { "after death" } else { "ok" };
            held.push(permit);
            text.to_owned()
        }
        Err(error) => format!("{error:?}"),
    }
}

/// A stage with permits.
fn stage(count: u32) -> (Stage, Shm<Permits>) {
    let stage = Stage::create();
    let permits = stage.region.insert("permits", Permits::new(count).expect("1 to 64")).expect("room");
    (stage, permits)
}

/// Each of the waiters got a permit soon after `start`; says how many of these came back from the dead.
#[track_caller]
fn all_get_on(start: u64, waiters: &mut [Party]) -> usize {
    let replies: Vec<_> = waiters.iter_mut().map(Party::reply).collect();
    for reply in &replies {
        assert!(["ok", "after death"].contains(&&*reply.text), "{reply:?}");
        assert!(reply.since(start) < prompt(), "{reply:?}");
    }
    replies.iter().filter(|reply| reply.text == "after death").count()
}

// Everyday behaviour.

#[test]
fn as_many_can_be_had_as_there_are_and_then_a_try_fails_at_once() {
    let (stage, permits) = stage(2);
    let [mut one, mut other] = Party::join_many(Net::Off, &stage);

    assert_eq!(one.ask("acquire"), "ok");
    assert_eq!(permits.available(), 1);
    assert_eq!(other.ask("acquire"), "ok");
    assert_eq!(permits.available(), 0);
    one.tell("try");
    let reply = one.reply();
    assert_eq!(reply.text, "WouldBlock");
    assert!(reply.took < prompt(), "{reply:?}");
    assert_eq!(other.ask("drop"), "dropped");
    assert_eq!(one.ask("try"), "ok");
}

#[test]
fn one_drop_wakes_exactly_one_and_two_wake_two() {
    let (stage, permits) = stage(2);
    let [owner, waiters @ ..] = &mut Party::join_many::<4>(Net::Off, &stage);
    assert_eq!([owner.ask("acquire"), owner.ask("acquire")], ["ok", "ok"]);
    queue_up("acquire", waiters);

    assert_eq!(owner.ask("drop"), "dropped");
    until("one who got on", || waiters.iter().any(|waiter| waiter.has_said()));
    let first = waiters.iter().position(|waiter| waiter.has_said()).expect("the one found");
    waiters.swap(0, first);
    let [first, others @ ..] = waiters;
    assert_eq!(first.reply().text, "ok");
    others.iter().for_each(|other| {
        other.until_asleep();
        assert!(!other.has_said());
    });
    assert_eq!(permits.available(), 0);
    let start = now_ns();
    assert_eq!(first.ask("drop"), "dropped");
    assert_eq!(owner.ask("drop"), "dropped");
    assert_eq!(all_get_on(start, others), 0);
}

#[test]
fn a_timed_acquire_fails_after_its_timeout_and_not_before_or_succeeds_when_one_is_dropped_in_time() {
    let (stage, permits) = stage(1);
    let mut party = Party::join(&stage);
    let held = permits.acquire().expect("a free one");

    for timeout in [Duration::from_millis(1), Duration::from_millis(50), Duration::from_millis(300)] {
        party.tell(format_args!("timed {}", timeout.as_millis()));
        let reply = party.reply();
        assert_eq!(reply.text, "TimedOut");
        assert!(reply.took >= timeout && reply.took < timeout + prompt(), "{reply:?}");
    }
    party.fall_asleep("timed 15000");
    let start = now_ns();
    drop(held);
    assert_eq!(all_get_on(start, std::slice::from_mut(&mut party)), 0);
    party.ask("drop");
    assert_eq!(party.ask("timed 0"), "ok");
}

#[test]
fn drops_at_the_very_deadline_of_one_waiter_reach_the_other() {
    let (stage, permits) = stage(1);
    let [mut patient, mut hasty] = Party::join_many(Net::Off, &stage);
    let mut random = Random::new();

    for _ in 0..100 {
        let held = permits.acquire().expect("a permit");
        hasty.tell("timed 5");
        patient.tell("acquire");
        random.pause(Duration::from_millis(7));
        drop(held);
        let start = now_ns();
        hasty.reply();
        hasty.ask("drop");
        assert_eq!(all_get_on(start, std::slice::from_mut(&mut patient)), 0);
        patient.ask("drop");
    }
}

#[test]
fn interrupting_signals_neither_surface_nor_cut_a_wait() {
    let (stage, permits) = stage(1);
    let mut party = Party::join(&stage);
    let held = permits.acquire().expect("a free one");
    party.ask("interrupts");

    party.tell("timed 300");
    party.interrupt_until_it_answers();
    let reply = party.reply();
    assert_eq!(reply.text, "TimedOut");
    let asked = Duration::from_millis(300);
    assert!(reply.took >= asked && reply.took < asked + prompt(), "{reply:?}");
    party.tell("acquire");
    party.interrupt_asleep(100);
    drop(held);
    assert_eq!(party.reply().text, "ok");
}

#[test]
fn a_stopped_holder_is_alive() {
    let (stage, _permits) = stage(1);
    let [mut holder, mut other] = Party::join_many(Net::Same, &stage);
    assert_eq!(holder.ask("acquire"), "ok");

    holder.signal(libc::SIGSTOP);
    until_stopped(holder.pid());
    assert_eq!(other.ask("try"), "WouldBlock");
    assert_eq!(other.ask("timed 1500"), "TimedOut");
    other.fall_asleep("acquire");
    holder.signal(libc::SIGCONT);
    assert_eq!(holder.ask("drop"), "dropped");

    assert_eq!(other.reply().text, "ok");
}

#[test]
fn a_forked_child_gives_nothing_back_that_its_parent_holds() {
    let (stage, permits) = stage(2);
    let mut parent = Party::join(&stage);
    assert_eq!(parent.ask("acquire"), "ok");

    assert_eq!(parent.ask("fork"), "0");

    until("the child's leaving", || permits.available() == 1);
    assert_eq!(parent.ask("drop"), "dropped");
    assert_eq!(permits.available(), 2);
}

// Deaths.

#[test]
fn the_permits_of_a_killed_holder_go_to_those_who_wait_each_once() {
    with_and_without_the_net(|net| {
        let (stage, permits) = stage(3);
        let [holder, waiters @ ..] = &mut Party::join_many::<5>(net, &stage);
        (0..3).for_each(|_| assert_eq!(holder.ask("acquire"), "ok"));
        queue_up("acquire", waiters);
        let [first, second, third, last] = waiters;

        let start = holder.kill();

        // Any three of them.
        let mut parties = [first, second, third, last];
        until("three who got on", || parties.iter().filter(|party| party.has_said()).count() == 3);
        parties.sort_by_key(|party| !party.has_said());
        for party in &mut parties[..3] {
            let reply = party.reply();
            assert_eq!(reply.text, "after death");
            assert!(reply.since(start) < prompt(), "{reply:?}");
        }
        parties[3].until_asleep();
        assert!(!parties[3].has_said());
        assert_eq!(parties[0].ask("drop"), "dropped");
        assert_eq!(parties[3].reply().text, "ok");
        assert_eq!(permits.available(), 0);
        assert_eq!(stage.region.rescues(), 0);
    });
}

#[test]
fn a_try_gets_the_permit_of_a_holder_that_is_known_to_be_dead() {
    let (stage, permits) = stage(1);
    let [mut holder, mut other] = Party::join_many(Net::Off, &stage);
    assert_eq!(holder.ask("acquire"), "ok");
    holder.kill();
    holder.reap();

    until("the news of the death", || permits.available() == 1);
    assert_eq!(other.ask("try"), "after death");
    assert_eq!(other.ask("try"), "WouldBlock");
}

#[test]
fn waiters_get_on_when_holders_first_waiter_and_watcher_are_killed_at_one_blow() {
    with_and_without_the_net(|net| {
        for _ in 0..10 {
            let (stage, permits) = stage(2);
            // In the order of the table: each one watches the next.
            let [watcher, holder, other, first, survivors @ ..] = &mut Party::join_many::<6>(net, &stage);
            assert_eq!(holder.ask("acquire"), "ok");
            assert_eq!(other.ask("acquire"), "ok");
            first.fall_asleep("acquire");
            queue_up("acquire", survivors);

            let start = now_ns();
            [watcher, holder, other, first].iter().for_each(|party| party.signal(libc::SIGKILL));

            assert_eq!(all_get_on(start, survivors), 2);
            assert_eq!(permits.available(), 0);
            assert_eq!(stage.region.rescues(), 0);
        }
    });
}

#[test]
fn the_next_sleeper_gets_on_when_the_one_that_was_woken_and_owes_it_a_wake_up_is_killed_before_it_ran() {
    with_and_without_the_net(|net| {
        let (stage, permits) = stage(2);
        let [mut holder, mut next] = Party::join_many(net, &stage);
        holder.ask("busy");

        for _ in 0..8 {
            assert_ne!(holder.ask("acquire"), "WouldBlock");
            assert_ne!(holder.ask("acquire"), "WouldBlock");
            let mut woken = Party::join_as("party", net, &stage);
            woken.ask("idle");
            woken.fall_asleep("acquire");
            next.fall_asleep("acquire");

            let start = now_ns();
            holder.ask(&format!("drop-two-and-kill {}", woken.pid()));

            all_get_on(start, std::slice::from_mut(&mut next));
            assert_eq!(stage.region.rescues(), 0);
            assert_eq!(next.ask("drop"), "dropped");
            until("the return of all", || permits.available() == 2);
        }
    });
}

#[test]
fn waiters_get_on_when_the_holder_ends_or_becomes_another_program() {
    for end in ["exit", "exec"] {
        with_and_without_the_net(|net| {
            let (stage, _permits) = stage(1);
            let [mut holder, mut waiter] = Party::join_many(net, &stage);
            assert_eq!(holder.ask("acquire"), "ok");
            assert_eq!(holder.ask("forget"), "forgotten");
            waiter.fall_asleep("acquire");

            let start = now_ns();
            holder.tell(end);

            assert_eq!(all_get_on(start, std::slice::from_mut(&mut waiter)), 1);
        });
    }
}

/// Sings for ever: the place on the board that belongs to its permit is its own as long as it holds that.
fn singer(parent: &mut Parent) {
    let stage = Stage::open(parent.argument(0));
    let permits = stage.region.get::<Permits>("permits").expect("the permits");
    parent.say("here");
    loop {
        let permit = permits.acquire().expect("a permit");
        let place = &stage.board[permit.index() as usize];
        let before = place.swap(u64::from(std::process::id()), AcqRel);
        if before != 0 && !permit.after_death() {
            // Somebody else is here, or was and has not been reported.
            stage.board[63].fetch_add(1, Relaxed);
            sleep_for_ever();
        }
        stage.board[62].fetch_add(1, Relaxed);
        place.store(0, Relaxed);
    }
}

#[test]
fn nobody_shares_a_permit_and_none_is_lost_whenever_holders_are_killed() {
    let (stage, permits) = stage(2);
    let start = || {
        let mut singer = Child::spawn("singer", &[stage.name()]);
        singer.expect("here");
        singer
    };
    let mut singers: Vec<_> = (0..4).map(|_| start()).collect();
    let mut random = Random::new();
    let songs = || stage.board[62].load(Relaxed);

    for _ in 0..40 {
        let before = songs();
        until("songs", || songs() > before + 10);
        random.pause(Duration::from_millis(2));
        let mut dead = singers.swap_remove(random.below(4) as usize);
        dead.kill();
        dead.reap();
        singers.push(start());
    }
    singers.iter().for_each(|singer| _ = singer.kill());
    singers.clear();

    until("the return of all permits", || permits.available() == 2);
    assert_eq!(stage.board[63].load(Relaxed), 0);
    assert_eq!(stage.region.rescues(), 0);
}
