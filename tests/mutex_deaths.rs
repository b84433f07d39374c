//! The `Mutex` between real processes, of which those die who hold it or wait for it.
//!
//! Most scenes are played without the safety net, where a lost wake-up is a hang, and with it, where it is a rescue.

mod common;

use std::sync::atomic::Ordering::{AcqRel, Relaxed};
use std::sync::atomic::compiler_fence;
use std::time::{Duration, Instant};

use shmkit::LockError;

use common::{
    Child, Net, Parent, Party, Random, Stage, now_ns, party, prompt, queue_up, roles, until, until_keepers_settled,
    until_stopped, with_and_without_the_net,
};

roles!(party, bookkeeper);

/// Each of the survivors had the lock soon after `start`, after a death, and without the safety net.
#[track_caller]
fn all_get_on(stage: &Stage, start: u64, survivors: &mut [Party]) {
    for survivor in survivors {
        assert_eq!(survivor.soon(start), "poisoned OwnerDied");
    }
    assert_eq!(stage.region.rescues(), 0);
    assert_eq!(stage.lock_word().load(Relaxed), 0, "the lock is free at the end");
}

#[test]
fn three_waiters_get_on_when_the_owner_is_killed() {
    with_and_without_the_net(|net| {
        let stage = Stage::create();
        let [owner, waiters @ ..] = &mut Party::join_many::<4>(net, &stage);
        owner.ask("lock");
        queue_up("pass", waiters);

        let start = owner.kill();

        all_get_on(&stage, start, waiters);
    });
}

#[test]
fn waiters_get_on_when_owner_first_waiter_and_watcher_of_the_owner_are_killed_at_one_blow() {
    with_and_without_the_net(|net| {
        for _ in 0..10 {
            let stage = Stage::create();
            // In the order of the table: each one watches the next.
            let [watcher, owner, others @ ..] = &mut Party::join_many::<6>(net, &stage);
            owner.ask("lock");
            queue_up("pass", others);
            let [first, survivors @ ..] = others;

            let start = now_ns();
            [&*watcher, owner, first].iter().for_each(|party| party.signal(libc::SIGKILL));

            all_get_on(&stage, start, survivors);
        }
    });
}

#[test]
fn waiters_get_on_when_all_but_they_are_killed_at_one_blow() {
    with_and_without_the_net(|net| {
        let stage = Stage::create();
        let parties = &mut Party::join_many::<8>(net, &stage);
        let (dead, survivors) = parties.split_at_mut(6);
        dead[5].ask("lock");
        queue_up("pass", &mut dead[..5]);
        queue_up("pass", survivors);

        let start = now_ns();
        dead.iter().for_each(|party| party.signal(libc::SIGKILL));

        all_get_on(&stage, start, survivors);
    });
}

#[test]
fn waiters_get_on_when_the_owner_that_was_handed_the_lock_is_killed() {
    with_and_without_the_net(|net| {
        let stage = Stage::create();
        let [first, second, waiters @ ..] = &mut Party::join_many::<4>(net, &stage);
        first.ask("lock");
        second.fall_asleep("lock");
        queue_up("pass", waiters);
        first.ask("unlock");
        assert_eq!(second.reply().text, "ok");

        let start = second.kill();

        for waiter in waiters {
            let reply = waiter.reply();
            // One that looked by itself in that moment, as it does where the kernel cannot wait for several words, may have had the
            // lock before the one that was woken.
            let was_before = reply.text == "ok" && reply.at < start;
            assert!(was_before || reply.text == "poisoned OwnerDied", "{reply:?}");
            assert!(reply.since(start) < prompt(), "{reply:?}");
        }
        assert_eq!(stage.region.rescues(), 0);
    });
}

#[test]
fn waiters_get_on_when_one_heir_after_the_other_is_killed() {
    with_and_without_the_net(|net| {
        let stage = Stage::create();
        let mut owner = Party::join_as("party", net, &stage);
        let mut heirs = Vec::from(Party::join_many::<4>(net, &stage));
        let mut waiters: [Party; 2] = Party::join_many(net, &stage);
        owner.ask("lock");
        for heir in &mut heirs {
            heir.fall_asleep("lock");
        }
        queue_up("pass", &mut waiters);
        let start = owner.kill();

        while !heirs.is_empty() {
            let mut next = None;
            until("an heir with the lock", || {
                next = heirs.iter().position(|heir| heir.has_said());
                next.is_some()
            });
            let mut heir = heirs.remove(next.expect("the one found"));
            assert_eq!(heir.reply().text, "poisoned OwnerDied");
            heir.kill();
        }
        waiters.iter_mut().for_each(|waiter| assert_eq!(waiter.reply().text, "poisoned OwnerDied"));

        assert!(Duration::from_nanos(now_ns() - start) < 4 * prompt());
        assert_eq!(stage.region.rescues(), 0);
    });
}

#[test]
fn the_next_waiter_gets_on_when_the_one_that_was_woken_is_killed_before_it_ran() {
    with_and_without_the_net(|net| {
        let stage = Stage::create();
        let [mut owner, mut next] = Party::join_many(net, &stage);
        owner.ask("busy");

        for _ in 0..8 {
            let mut woken = Party::join_as("party", net, &stage);
            woken.ask("idle");
            owner.ask("lock");
            woken.fall_asleep("pass");
            next.fall_asleep("pass");

            let start = now_ns();
            owner.ask(&format!("unlock-and-kill {}", woken.pid()));
            let reply = next.reply();

            assert!(reply.since(start) < prompt(), "{reply:?}");
            assert_eq!(stage.region.rescues(), 0);
            // It is poisoned if the woken one was not as late as planned.
            stage.mutex.clear_poison();
        }
    });
}

#[test]
fn a_waiter_that_is_killed_asleep_disturbs_nobody() {
    with_and_without_the_net(|net| {
        let stage = Stage::create();
        let [mut owner, mut dead, mut other] = Party::join_many(net, &stage);
        owner.ask("lock");
        dead.fall_asleep("pass");
        other.fall_asleep("pass");
        dead.kill();
        dead.reap();
        until("the news of the death", || !stage.pids().contains(&dead.pid()));
        assert!(!other.has_said());

        let start = now_ns();
        owner.ask("unlock");

        assert_eq!(other.soon(start), "ok");
    });
}

#[test]
fn waiters_get_on_when_the_owner_exits_without_unlocking() {
    with_and_without_the_net(|net| {
        let stage = Stage::create();
        let [owner, waiters @ ..] = &mut Party::join_many::<4>(net, &stage);
        owner.ask("lock");
        owner.ask("forget");
        queue_up("pass", waiters);

        let start = now_ns();
        owner.tell("exit");

        all_get_on(&stage, start, waiters);
        assert_eq!(owner.reap().code(), Some(7));
    });
}

#[test]
fn waiters_get_on_when_the_owner_becomes_another_program() {
    with_and_without_the_net(|net| {
        let stage = Stage::create();
        let [owner, waiters @ ..] = &mut Party::join_many::<4>(net, &stage);
        owner.ask("lock");
        queue_up("pass", waiters);

        let start = now_ns();
        owner.tell("exec");

        all_get_on(&stage, start, waiters);
    });
}

#[test]
fn the_safety_net_saves_a_waiter_whose_watchers_are_stopped_and_says_so() {
    let stage = Stage::create();
    // With the net, and whatever the environment says, with everything else, too. The watcher of the owner does not see its death,
    // and this process, whose keeper would look some time, does not take part.
    let [watcher, owner, waiter] = &mut Party::join_many::<3>(Net::On, &stage);
    let name = stage.leave();
    owner.ask("lock");
    waiter.fall_asleep("pass");
    until_keepers_settled(watcher.pid());
    watcher.signal(libc::SIGSTOP);
    until_stopped(watcher.pid());
    until_keepers_settled(waiter.pid());

    let start = owner.kill();
    let reply = waiter.reply();

    assert_eq!(reply.text, "poisoned OwnerDied");
    assert!(reply.since(start) < Duration::from_secs(1) + prompt(), "{reply:?}");
    assert_eq!(Stage::open(&name).region.rescues(), 1);
}

/// The books of several processes: how many entries there are, and how many each one has made.
const TOTAL: usize = 0;
const FIRST: usize = 1;
const KEEPERS: usize = 4;

fn is_balanced(books: &[u64; 16]) -> bool {
    books[TOTAL] == books[FIRST..FIRST + KEEPERS].iter().sum::<u64>()
}

// Makes entries for ever, and mends the books when a colleague died between the two halves of one.
fn bookkeeper(parent: &mut Parent) {
    let stage = Stage::open(parent.argument(0));
    let me: usize = parent.argument(1).parse().expect("a number");
    parent.say("working");
    loop {
        let mut books = match stage.mutex.lock() {
            Ok(books) => books,
            Err(LockError::Poisoned { guard: mut books, .. }) => {
                books[TOTAL] = books[FIRST..FIRST + KEEPERS].iter().sum();
                stage.mutex.clear_poison();
                stage.board[0].fetch_add(1, Relaxed);
                books
            }
            Err(error) => panic!("{error}"),
        };
        assert!(is_balanced(&books), "half an entry without poison: {books:?}");
        books[TOTAL] += 1;
        compiler_fence(AcqRel);
        for _ in 0..me * 20 {
            std::hint::spin_loop();
        }
        books[FIRST + me] += 1;
        drop(books);
        stage.board[1 + me].fetch_add(1, Relaxed);
    }
}

#[test]
fn books_balance_after_200_kills_at_random_moments() {
    let stage = Stage::create();
    let mut random = Random::new();
    let hire = |who: u64| {
        let mut child = Child::spawn("bookkeeper", &[stage.name(), &who.to_string()]);
        child.expect("working");
        child
    };
    let mut staff: Vec<Child> = (0..KEEPERS as u64).map(hire).collect();
    let made = |who: usize| stage.board[1 + who].load(Relaxed);
    let mut slowest = Duration::ZERO;

    for _ in 0..200 {
        let who = random.below(KEEPERS as u64);
        let before = made(who as usize);
        until("an entry of the victim", || made(who as usize) > before);
        random.pause(Duration::from_micros(500));
        staff[who as usize].kill();
        let killed = Instant::now();
        let others = (0..KEEPERS).filter(|other| *other != who as usize);
        let goals: Vec<_> = others.map(|other| (other, made(other) + 3)).collect();
        until("entries of the others", || goals.iter().all(|(other, goal)| made(*other) >= *goal));
        slowest = slowest.max(killed.elapsed());
        staff[who as usize] = hire(who);
    }
    staff.iter().for_each(|child| child.signal(libc::SIGKILL));
    drop(staff);

    println!("slowest: {slowest:?}, repairs: {}", stage.board[0].load(Relaxed));
    assert!(slowest < 4 * prompt(), "{slowest:?}");
    let mut books = stage.mutex.lock().or_else(LockError::into_guard).expect("the lock of the dead");
    books[TOTAL] = books[FIRST..FIRST + KEEPERS].iter().sum();
    for who in 0..KEEPERS {
        let (entries, told) = (books[FIRST + who], made(who));
        // Each of its deaths may have come between an entry and the note that it was made.
        assert!((told..=told + 201).contains(&entries), "{who}: {entries} entries, {told} told");
    }
    assert_eq!(stage.region.rescues(), 0);
}
