//! The `RwLock` between real processes, of which those die who read, write or wait for it.
//!
//! Most scenes are played without the safety net, where a lost wake-up is a hang, and with it, where it is a rescue.

mod common;

use std::time::Duration;

use common::rwlock::{CELLS, create, open, rw_party};
use common::{Child, Net, Parent, Party, Random, Stage, now_ns, prompt, roles, until, with_and_without_the_net};
use shmkit::{LockError, RwLockWriteGuard};

roles!(rw_party, worker);

/// Lets each of the parties ask for the lock and fall asleep, one after the other.
fn queue_up(parties: &mut [Party], orders: &[&str]) {
    for (party, order) in parties.iter_mut().zip(orders) {
        party.fall_asleep(order);
    }
}

/// Each of the survivors had the lock soon after `start`, and without the safety net.
#[track_caller]
fn all_get_on(stage: &Stage, start: u64, survivors: &mut [Party], expected: &str) {
    for survivor in survivors {
        assert_eq!(survivor.soon(start), expected);
    }
    assert_eq!(stage.region.rescues(), 0);
}

const MIXED: [&str; 4] = ["visit-read", "visit-write", "visit-read", "visit-write"];

#[test]
fn waiting_readers_and_writers_get_on_when_the_writer_is_killed_and_find_the_poison() {
    with_and_without_the_net(|net| {
        let (stage, lock) = create();
        let [owner, waiters @ ..] = &mut Party::join_many_as::<5>("rw_party", net, &stage);
        owner.ask("write");
        queue_up(waiters, &MIXED);

        let start = owner.kill();

        all_get_on(&stage, start, waiters, "poisoned OwnerDied");
        assert!(lock.is_poisoned());
        lock.clear_poison();
        assert!(lock.try_write().is_ok());
    });
}

#[test]
fn a_waiting_writer_gets_on_when_the_readers_are_killed_and_nothing_is_poisoned() {
    with_and_without_the_net(|net| {
        let (stage, lock) = create();
        let [one, other, waiters @ ..] = &mut Party::join_many_as::<6>("rw_party", net, &stage);
        one.ask("read");
        other.ask("read");
        queue_up(waiters, &["visit-write", "visit-read", "visit-write", "visit-read"]);
        one.kill();
        one.reap();
        until("the news of the first death", || !stage.pids().contains(&one.pid()));
        assert!(!waiters.iter().any(|waiter| waiter.has_said()), "one reader is left");

        let start = other.kill();

        all_get_on(&stage, start, waiters, "ok");
        assert!(!lock.is_poisoned());
        assert!(lock.try_write().is_ok());
    });
}

#[test]
fn readers_get_in_when_the_writer_that_waits_for_another_reader_is_killed() {
    with_and_without_the_net(|net| {
        let (stage, lock) = create();
        let [reader, writer, late @ ..] = &mut Party::join_many_as::<4>("rw_party", net, &stage);
        reader.ask("read");
        writer.fall_asleep("write");
        queue_up(late, &["visit-read", "visit-read"]);

        let start = writer.kill();

        all_get_on(&stage, start, late, "ok");
        assert_eq!(reader.ask("unlock"), "unlocked");
        assert!(lock.try_write().is_ok());
    });
}

#[test]
fn survivors_get_on_when_owners_waiters_and_watchers_are_killed_at_one_blow() {
    with_and_without_the_net(|net| {
        for held in ["read", "write"] {
            let (stage, lock) = create();
            let [watcher, owner, writer, reader, survivors @ ..] =
                &mut Party::join_many_as::<8>("rw_party", net, &stage);
            owner.ask(held);
            writer.fall_asleep("write");
            reader.fall_asleep("read");
            queue_up(survivors, &MIXED);

            let start = now_ns();
            [&*watcher, owner, writer, reader].iter().for_each(|party| party.signal(libc::SIGKILL));

            for survivor in &mut *survivors {
                let reply = survivor.reply();
                assert!(reply.text == "ok" || reply.text == "poisoned OwnerDied", "{reply:?}");
                assert!(reply.since(start) < prompt(), "{reply:?}");
            }
            assert_eq!(stage.region.rescues(), 0);
            // One of the dead may have come in behind all survivors, and its death not be proven yet.
            assert!(lock.write_timeout(Duration::from_secs(20)).or_else(LockError::into_guard).is_ok());
        }
    });
}

#[test]
fn the_next_one_gets_on_when_the_writer_that_was_woken_is_killed_before_it_ran() {
    with_and_without_the_net(|net| {
        let (stage, lock) = create();
        let [owner, next] = &mut Party::join_many_as::<2>("rw_party", net, &stage);
        owner.ask("busy");

        for held in ["read", "write", "read", "write"] {
            let [mut woken] = Party::join_many_as("rw_party", net, &stage);
            woken.ask("idle");
            owner.ask(held);
            woken.fall_asleep("write");
            next.fall_asleep("visit-read");

            let start = now_ns();
            owner.ask(&format!("unlock-and-kill {}", woken.pid()));
            let reply = next.reply();

            assert!(reply.since(start) < prompt(), "{reply:?}");
            assert_eq!(stage.region.rescues(), 0);
            // It is poisoned if the woken one was not as late as planned.
            lock.clear_poison();
        }
    });
}

#[test]
fn the_129th_reader_gets_the_place_of_one_who_leaves_or_is_killed() {
    with_and_without_the_net(|net| {
        let (stage, lock) = create();
        let [one, other, late] = &mut Party::join_many_as::<3>("rw_party", net, &stage);
        (0..CELLS / 2).for_each(|_| assert_eq!(one.ask("read"), "ok"));
        (0..CELLS / 2).for_each(|_| assert_eq!(other.ask("read"), "ok"));
        assert_eq!(late.ask("try-read"), "WouldBlock");

        late.fall_asleep("visit-read");
        let start = now_ns();
        one.ask("unlock");
        all_get_on(&stage, start, std::slice::from_mut(late), "ok");

        (0..CELLS / 2).for_each(|_| assert_eq!(one.ask("read"), "ok"));
        late.fall_asleep("visit-read");
        let start = other.kill();
        all_get_on(&stage, start, std::slice::from_mut(late), "ok");

        assert!(!lock.is_poisoned());
        assert!(matches!(lock.try_write(), Err(LockError::WouldBlock)));
        one.ask("unlock");
        assert!(lock.try_write().is_ok());
    });
}

#[test]
fn a_writer_killed_after_a_downgrade_is_a_dead_reader() {
    let (stage, lock) = create();
    let [mut writer, mut other] = Party::join_many_as("rw_party", Net::Off, &stage);
    writer.ask("write");
    writer.ask("set 3");
    writer.ask("downgrade");
    other.fall_asleep("write");

    let start = writer.kill();

    assert_eq!(other.soon(start), "ok");
    assert_eq!(other.ask("get"), "3");
    assert!(!lock.is_poisoned());
}

/// Reads and writes for ever, and mends what the dead have left.
fn worker(parent: &mut Parent) {
    let lock = open(parent.argument(0));
    let mut random = Random::new();
    parent.say("working");
    loop {
        if random.below(4) > 0 {
            match lock.read() {
                Ok(numbers) => assert!(numbers.iter().all(|each| *each == numbers[0]), "half-changed and sound"),
                Err(LockError::Poisoned { .. }) => {}
                Err(error) => panic!("{error}"),
            }
            continue;
        }
        let (mut numbers, poisoned) = match lock.write() {
            Ok(numbers) => (numbers, false),
            Err(LockError::Poisoned { guard, .. }) => (guard, true),
            Err(error) => panic!("{error}"),
        };
        assert!(poisoned || numbers.iter().all(|each| *each == numbers[0]), "half-changed and sound");
        let next = numbers[0] + 1;
        for each in numbers.iter_mut() {
            // SAFETY: one of the numbers; volatile, so that a kill can fall in between.
            unsafe { std::ptr::from_mut(each).write_volatile(next) };
        }
        if poisoned {
            lock.clear_poison();
        }
        if random.below(8) == 0 {
            let numbers = RwLockWriteGuard::downgrade(numbers);
            assert!(numbers.iter().all(|each| *each == next), "another writer came between");
        }
    }
}

#[test]
fn readers_and_writers_go_on_through_100_kills_at_random_moments() {
    let (stage, lock) = create();
    let mut random = Random::new();
    let hire = || {
        let mut worker = Child::spawn("worker", &[stage.name()]);
        worker.expect("working");
        worker
    };
    let mut workers: Vec<_> = (0..4).map(|_| hire()).collect();
    let look = || lock.read_timeout(common::BOUND).or_else(LockError::into_guard).expect("a turn")[0];

    for _ in 0..100 {
        random.pause(Duration::from_micros(1500));
        let unlucky = random.below(4) as usize;
        let before = look();
        workers[unlucky].kill();
        workers[unlucky].reap();
        until("a write after the death", || look() > before);
        workers[unlucky] = hire();
    }

    for worker in &mut workers {
        assert!(!worker.has_said());
        worker.kill();
        worker.reap();
    }
    let last = lock.write_timeout(common::BOUND).or_else(LockError::into_guard);
    assert!(last.is_ok());
    assert_eq!(stage.region.rescues(), 0);
}
