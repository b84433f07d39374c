//! The `RwLock` between real processes: its everyday behaviour, and the deaths of those who read, write or wait for it.

mod common;

use std::time::{Duration, Instant};

use common::{
    Child, Net, Parent, Party, Random, Stage, fork, now_ns, prompt, roles, signal, signal_thread, until, until_stopped,
};
use shmkit::{LockError, LockResult, Region, RwLock, RwLockReadGuard, RwLockWriteGuard, Shm};

roles!(rw_party, worker, forker, reopener);

/// Numbers that are all the same whenever nobody writes.
type Numbers = [u64; 16];
type Lock = RwLock<Numbers>;

/// How many readers there is room for.
const CELLS: usize = 128;

fn create() -> (Stage, Shm<Lock>) {
    let stage = Stage::create();
    let lock = stage.region.insert("rwlock", RwLock::new([0; 16])).expect("room");
    (stage, lock)
}

fn join<const N: usize>(net: Net, stage: &Stage) -> [Party; N] {
    std::array::from_fn(|_| Party::join_as("rw_party", net, stage))
}

fn open(name: &str) -> Shm<Lock> {
    Region::open(name).and_then(|region| region.get("rwlock")).expect("the lock")
}

enum Guard<'a> {
    Read(RwLockReadGuard<'a, Numbers>),
    Write(RwLockWriteGuard<'a, Numbers>),
}

fn outcome<'a, G>(locked: LockResult<G>, guards: &mut Vec<Guard<'a>>, wrap: fn(G) -> Guard<'a>) -> String {
    match locked {
        Ok(guard) => {
            guards.push(wrap(guard));
            "ok".to_owned()
        }
        Err(LockError::Poisoned { guard, cause }) => {
            guards.push(wrap(guard));
            format!("poisoned {cause:?}")
        }
        Err(other) => format!("{other:?}"),
    }
}

/// Joins the stage in its first argument and does with its lock what it is told.
fn rw_party(parent: &mut Parent) {
    let lock = open(parent.argument(0));
    let answer = |parent: &mut Parent, start: u64, text: &str| {
        let at = now_ns();
        parent.say(format_args!("{at} {} {text}", at - start));
    };
    answer(parent, now_ns(), "here");
    let mut guards: Vec<Guard<'_>> = Vec::new();
    loop {
        let order = parent.hear();
        let (verb, number) = order.split_once(' ').unwrap_or((&order, "0"));
        let number: u64 = number.parse().expect("a number");
        let time = Duration::from_millis(number);
        let start = now_ns();
        let text = match verb {
            "read" => outcome(lock.read(), &mut guards, Guard::Read),
            "write" => outcome(lock.write(), &mut guards, Guard::Write),
            "try-read" => outcome(lock.try_read(), &mut guards, Guard::Read),
            "try-write" => outcome(lock.try_write(), &mut guards, Guard::Write),
            "timed-read" => outcome(lock.read_timeout(time), &mut guards, Guard::Read),
            "timed-write" => outcome(lock.write_timeout(time), &mut guards, Guard::Write),
            "deadline-read" => outcome(lock.read_deadline(Instant::now() + time), &mut guards, Guard::Read),
            "deadline-write" => outcome(lock.write_deadline(Instant::now() + time), &mut guards, Guard::Write),
            // These leave again at once, and answer with when they were in.
            "visit-read" | "visit-write" => {
                let text = if verb == "visit-read" {
                    outcome(lock.read(), &mut guards, Guard::Read)
                } else {
                    outcome(lock.write(), &mut guards, Guard::Write)
                };
                let at = now_ns();
                guards.clear();
                parent.say(format_args!("{at} {} {text}", at - start));
                continue;
            }
            "unlock" => {
                guards.clear();
                "unlocked".to_owned()
            }
            "unlock-and-kill" => {
                guards.clear();
                signal(number as u32, libc::SIGKILL);
                "killed".to_owned()
            }
            "downgrade" => {
                let Some(Guard::Write(guard)) = guards.pop() else { panic!("no writer") };
                guards.push(Guard::Read(RwLockWriteGuard::downgrade(guard)));
                "downgraded".to_owned()
            }
            "set" => {
                let Some(Guard::Write(guard)) = guards.last_mut() else { panic!("no writer") };
                **guard = [number; 16];
                "set".to_owned()
            }
            "get" => match guards.last().expect("a guard") {
                Guard::Read(guard) => guard[0].to_string(),
                Guard::Write(guard) => guard[0].to_string(),
            },
            // Never without a guard, unless a writer comes.
            "stream" => {
                answer(parent, start, "streaming");
                let mut last = lock.read().expect("a sound lock");
                loop {
                    last = if let Ok(next) = lock.try_read() {
                        next
                    } else {
                        drop(last);
                        lock.read().expect("a sound lock")
                    };
                }
            }
            "count" => {
                for _ in 0..number {
                    lock.write().expect("a sound lock").iter_mut().for_each(|each| *each += 1);
                }
                "counted".to_owned()
            }
            "watch" => {
                for _ in 0..number {
                    let guard = lock.read().expect("a sound lock");
                    assert!(guard.iter().all(|each| *each == guard[0]), "half-written: {:?}", *guard);
                }
                "watched".to_owned()
            }
            "panic" => {
                let held = guards.pop();
                let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                    let _held = held;
                    std::panic::resume_unwind(Box::new(()));
                }));
                assert!(panicked.is_err());
                "panicked".to_owned()
            }
            "poisoned" => lock.is_poisoned().to_string(),
            "clear" => {
                lock.clear_poison();
                "cleared".to_owned()
            }
            "interrupts" => {
                common::interrupt_on(libc::SIGUSR1);
                "ready".to_owned()
            }
            "idle" => {
                common::stay_on_cpu_0(true);
                "idle".to_owned()
            }
            "busy" => {
                common::stay_on_cpu_0(false);
                "busy".to_owned()
            }
            other => panic!("no order {other:?}"),
        };
        answer(parent, start, &text);
    }
}

// Everyday behaviour.

#[test]
fn readers_of_different_processes_read_together_and_a_writer_is_alone() {
    let (stage, _lock) = create();
    let [mut one, mut other, mut writer] = join(Net::Off, &stage);

    assert_eq!(one.ask("read"), "ok");
    assert_eq!(other.ask("read"), "ok");
    assert_eq!(writer.ask("try-write"), "WouldBlock");
    one.ask("unlock");
    assert_eq!(writer.ask("try-write"), "WouldBlock");
    other.ask("unlock");
    assert_eq!(writer.ask("try-write"), "ok");
    assert_eq!(one.ask("try-read"), "WouldBlock");
    assert_eq!(one.ask("try-write"), "WouldBlock");
    writer.ask("unlock");
    assert_eq!(one.ask("try-read"), "ok");
}

#[test]
fn tries_fail_at_once() {
    let (stage, _lock) = create();
    let [mut owner, mut other] = join(Net::Off, &stage);
    owner.ask("write");

    for order in ["try-read", "try-write"] {
        other.tell(order);
        let reply = other.reply();
        assert_eq!(reply.text, "WouldBlock");
        assert!(reply.took < prompt(), "{reply:?}");
    }
}

#[test]
fn timed_calls_fail_after_their_time_and_not_before() {
    let (stage, _lock) = create();
    let [mut owner, mut other] = join(Net::Off, &stage);

    for (held, asked) in [("write", "read"), ("write", "write"), ("read", "write")] {
        owner.ask(held);
        for kind in ["timed", "deadline"] {
            let time = Duration::from_millis(60);
            other.tell(format_args!("{kind}-{asked} {}", time.as_millis()));
            let reply = other.reply();
            assert_eq!(reply.text, "TimedOut", "{kind} {asked} beside {held}");
            assert!(reply.took >= time && reply.took < time + prompt(), "{reply:?}");
        }
        owner.ask("unlock");
        assert_eq!(other.ask(&format!("timed-{asked} 0")), "ok", "nothing is left of those whose time was over");
        other.ask("unlock");
    }
}

#[test]
fn timed_calls_succeed_when_the_lock_is_given_back_in_time() {
    let (stage, _lock) = create();
    let [mut owner, mut other] = join(Net::Off, &stage);

    for (held, asked) in [("write", "read"), ("write", "write"), ("read", "write")] {
        owner.ask(held);
        other.tell(format_args!("timed-{asked} 15000"));
        other.until_asleep();
        let start = now_ns();
        owner.ask("unlock");
        let reply = other.reply();
        assert_eq!(reply.text, "ok");
        assert!(reply.since(start) < prompt(), "{reply:?}");
        other.ask("unlock");
    }
}

/// Waits until a party sleeps that is not to be saved by the short time after which it looks again by itself, once: after that only a
/// wake-up ends its sleep.
#[track_caller]
fn until_in_deep_sleep(party: &Party) {
    party.until_asleep();
    let start = Instant::now();
    until("the end of the first look", || start.elapsed() > Duration::from_millis(10));
    party.until_asleep();
}

#[test]
fn one_who_sleeps_for_long_is_woken_by_a_reader_that_leaves() {
    let (stage, _lock) = create();
    let [mut one, mut other, mut late] = join(Net::Off, &stage);
    one.ask("read");
    other.ask("read");
    late.tell("visit-write");
    until_in_deep_sleep(&late);
    one.ask("unlock");
    until_in_deep_sleep(&late);
    assert!(!late.has_said());

    let start = now_ns();
    other.ask("unlock");
    let reply = late.reply();
    assert!(reply.text == "ok" && reply.since(start) < prompt(), "{reply:?}");

    (0..CELLS).for_each(|_| assert_eq!(one.ask("read"), "ok"));
    late.tell("visit-read");
    until_in_deep_sleep(&late);
    let start = now_ns();
    one.ask("unlock");
    let reply = late.reply();
    assert!(reply.text == "ok" && reply.since(start) < prompt(), "{reply:?}");
    assert_eq!(stage.region.rescues(), 0);
}

#[test]
fn a_writer_whose_time_is_over_lets_the_readers_in_that_it_kept_out() {
    let (stage, _lock) = create();
    let [mut owner, mut hasty, mut reader] = join(Net::Off, &stage);
    owner.ask("read");
    hasty.tell("timed-write 300");
    hasty.until_asleep();
    assert_eq!(reader.ask("try-read"), "WouldBlock");
    reader.tell("read");
    reader.until_asleep();

    let out = hasty.reply();
    let reply = reader.reply();

    assert_eq!(out.text, "TimedOut");
    assert_eq!(reply.text, "ok");
    assert!(reply.since(out.at) < prompt(), "{reply:?}");
}

#[test]
fn a_writer_is_not_starved_by_a_stream_of_readers() {
    let (stage, _lock) = create();
    let [writer, one, other] = &mut join::<3>(Net::Off, &stage);
    for reader in [one, other] {
        assert_eq!(reader.ask("stream"), "streaming");
    }

    for _ in 0..20 {
        writer.tell("visit-write");
        let reply = writer.reply();
        assert_eq!(reply.text, "ok");
        assert!(reply.took < prompt(), "{reply:?}");
    }
}

#[test]
fn what_was_written_is_seen_by_readers_that_come_in_at_a_downgrade() {
    let (stage, lock) = create();
    let [mut writer, mut one, mut other] = join(Net::Off, &stage);
    writer.ask("write");
    for reader in [&mut one, &mut other] {
        reader.tell("read");
        reader.until_asleep();
    }
    writer.ask("set 4711");

    assert_eq!(writer.ask("downgrade"), "downgraded");

    assert_eq!(writer.ask("get"), "4711");
    for reader in [&mut one, &mut other] {
        assert_eq!(reader.reply().text, "ok");
        assert_eq!(reader.ask("get"), "4711");
        assert_eq!(reader.ask("unlock"), "unlocked");
    }
    assert!(matches!(lock.try_write(), Err(LockError::WouldBlock)), "one reads still");
    writer.ask("unlock");
    assert!(lock.try_write().is_ok());
}

#[test]
fn readers_and_writers_of_six_processes_see_nothing_half_written_and_count_exactly() {
    let (stage, lock) = create();
    let mut parties: [Party; 6] = join(Net::Off, &stage);

    for (i, party) in parties.iter_mut().enumerate() {
        party.tell(["watch 30000", "count 3000"][i % 2]);
    }
    for (i, party) in parties.iter_mut().enumerate() {
        assert_eq!(party.reply().text, ["watched", "counted"][i % 2]);
    }

    assert_eq!(lock.read().expect("a sound lock")[0], 9000);
    assert_eq!(stage.region.rescues(), 0);
}

#[test]
fn a_panic_of_a_writer_poisons_for_every_process_until_that_is_cleared() {
    let (stage, _lock) = create();
    let [mut careless, mut one, mut other] = join(Net::Off, &stage);
    careless.ask("read");
    careless.ask("panic");
    assert_eq!(one.ask("poisoned"), "false");
    careless.ask("write");
    careless.ask("panic");

    assert_eq!(one.ask("poisoned"), "true");
    assert_eq!(one.ask("read"), "poisoned Panicked");
    assert_eq!(other.ask("try-read"), "poisoned Panicked");
    one.ask("unlock");
    other.ask("unlock");
    assert_eq!(other.ask("write"), "poisoned Panicked");
    assert_eq!(other.ask("clear"), "cleared");
    other.ask("unlock");
    assert_eq!(one.ask("read"), "ok");
}

#[test]
fn interrupting_signals_neither_surface_nor_cut_a_wait() {
    let (stage, _lock) = create();
    let [mut owner, mut other] = join(Net::Off, &stage);
    other.ask("interrupts");

    for (held, asked) in [("write", "timed-read 300"), ("read", "timed-write 300")] {
        owner.ask(held);
        other.tell(asked);
        let mut signals = 0;
        until("the end of the timed wait", || {
            signals += u32::from(signal_thread(other.pid(), other.thread(), libc::SIGUSR1));
            other.has_said()
        });
        let reply = other.reply();
        assert!(signals > 50, "only {signals} signals were sent");
        assert_eq!(reply.text, "TimedOut");
        assert!(reply.took >= Duration::from_millis(300), "{reply:?}");
        owner.ask("unlock");
    }
}

// Who is stopped is alive.

#[test]
fn stopped_owners_are_alive() {
    let (stage, _lock) = create();
    let [mut owner, mut other] = join(Net::Same, &stage);

    for (held, asked) in [("write", "read"), ("read", "write")] {
        owner.ask(held);
        owner.signal(libc::SIGSTOP);
        until_stopped(owner.pid());
        assert_eq!(other.ask(&format!("try-{asked}")), "WouldBlock");
        assert_eq!(other.ask(&format!("timed-{asked} 1200")), "TimedOut");
        other.tell(asked);
        other.until_asleep();
        owner.signal(libc::SIGCONT);
        assert_eq!(owner.ask("unlock"), "unlocked");
        assert_eq!(other.reply().text, "ok");
        other.ask("unlock");
    }
}

// Forks.

/// Forks with a guard; its child drops it, and reads and writes under its own name.
fn forker(parent: &mut Parent) {
    let lock = open(parent.argument(0));
    let mut reading = Some(lock.read().expect("a free lock"));
    let child = fork(|| {
        reading = None;
        assert!(matches!(lock.try_write(), Err(LockError::WouldBlock)), "its parent reads");
        drop(lock.read().expect("a lock that is read"));
    });
    parent.say(child.reap());
    parent.expect("write");
    drop(reading);
    let mut writing = Some(lock.write().expect("a free lock"));
    let child = fork(|| {
        writing = None;
        assert!(matches!(lock.try_read(), Err(LockError::WouldBlock)), "its parent writes");
        assert!(matches!(lock.try_write(), Err(LockError::WouldBlock)), "its parent writes");
    });
    parent.say(child.reap());
    parent.expect("downgrade");
    let child = fork(|| {
        let reading = RwLockWriteGuard::downgrade(writing.take().expect("a guard"));
        drop(reading);
        assert!(matches!(lock.try_read(), Err(LockError::WouldBlock)), "its parent writes");
    });
    parent.say(child.reap());
    parent.expect("end");
    drop(writing);
}

#[test]
fn guards_that_a_forked_child_inherits_give_nothing_back() {
    let (stage, lock) = create();
    let mut forker = Child::spawn("forker", &[stage.name()]);

    forker.expect("0");
    assert!(matches!(lock.try_write(), Err(LockError::WouldBlock)), "the parent reads");
    forker.tell("write");
    forker.expect("0");
    assert!(matches!(lock.try_read(), Err(LockError::WouldBlock)), "the parent writes");
    forker.tell("downgrade");
    forker.expect("0");
    assert!(matches!(lock.try_read(), Err(LockError::WouldBlock)), "the parent writes");
    forker.tell("end");
    forker.finish();
    assert!(lock.try_write().is_ok());
}

// Leaves the lock to a guard that it forgets, closes the region, opens it again and goes on.
fn reopener(parent: &mut Parent) {
    let name = parent.argument(0).to_owned();
    let lock = open(&name);
    std::mem::forget(lock.read().expect("a free lock"));
    drop(lock);
    let lock = open(&name);
    parent.say("open again");
    parent.expect("write");
    parent.say(lock.write_timeout(Duration::from_secs(10)).is_ok());
}

#[test]
fn a_forgotten_guard_is_that_of_a_dead_reader_once_its_process_has_left_and_come_back() {
    let (stage, _lock) = create();
    let mut reopener = Child::spawn("reopener", &[stage.name()]);
    reopener.expect("open again");

    reopener.tell("write");

    reopener.expect("true");
}

// Deaths. Each scene is played without the safety net, where a lost wake-up is a hang, and with it, where it is a rescue.

fn with_and_without_the_net(scene: impl Fn(Net)) {
    scene(Net::Off);
    scene(Net::Same);
}

/// Lets each of the parties ask for the lock and fall asleep, one after the other.
fn queue_up(parties: &mut [Party], orders: &[&str]) {
    for (party, order) in parties.iter_mut().zip(orders) {
        party.tell(order);
        party.until_asleep();
    }
}

/// Each of the survivors had the lock soon after `start`, and without the safety net.
#[track_caller]
fn all_get_on(stage: &Stage, start: u64, survivors: &mut [Party], expected: &str) {
    for survivor in survivors {
        let reply = survivor.reply();
        assert_eq!(reply.text, expected);
        assert!(reply.since(start) < prompt(), "after {:?}: {reply:?}", reply.since(start));
    }
    assert_eq!(stage.region.rescues(), 0);
}

const MIXED: [&str; 4] = ["visit-read", "visit-write", "visit-read", "visit-write"];

#[test]
fn waiting_readers_and_writers_get_on_when_the_writer_is_killed_and_find_the_poison() {
    with_and_without_the_net(|net| {
        let (stage, lock) = create();
        let [owner, waiters @ ..] = &mut join::<5>(net, &stage);
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
        let [one, other, waiters @ ..] = &mut join::<6>(net, &stage);
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
        let [reader, writer, late @ ..] = &mut join::<4>(net, &stage);
        reader.ask("read");
        queue_up(std::slice::from_mut(writer), &["write"]);
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
            let [watcher, owner, writer, reader, survivors @ ..] = &mut join::<8>(net, &stage);
            owner.ask(held);
            queue_up(std::slice::from_mut(writer), &["write"]);
            queue_up(std::slice::from_mut(reader), &["read"]);
            queue_up(survivors, &MIXED);

            let start = now_ns();
            [&*watcher, owner, writer, reader].iter().for_each(|party| party.signal(libc::SIGKILL));

            for survivor in &mut *survivors {
                let reply = survivor.reply();
                assert!(reply.text == "ok" || reply.text == "poisoned OwnerDied", "{reply:?}");
                assert!(reply.since(start) < prompt(), "{reply:?}");
            }
            assert_eq!(stage.region.rescues(), 0);
            assert!(lock.try_write().or_else(LockError::into_guard).is_ok());
        }
    });
}

#[test]
fn the_next_one_gets_on_when_the_writer_that_was_woken_is_killed_before_it_ran() {
    with_and_without_the_net(|net| {
        let (stage, lock) = create();
        let [owner, next] = &mut join::<2>(net, &stage);
        owner.ask("busy");

        for held in ["read", "write", "read", "write"] {
            let [mut woken] = join(net, &stage);
            woken.ask("idle");
            owner.ask(held);
            queue_up(std::slice::from_mut(&mut woken), &["write"]);
            queue_up(std::slice::from_mut(next), &["visit-read"]);

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
        let [one, other, late] = &mut join::<3>(net, &stage);
        (0..CELLS / 2).for_each(|_| assert_eq!(one.ask("read"), "ok"));
        (0..CELLS / 2).for_each(|_| assert_eq!(other.ask("read"), "ok"));
        assert_eq!(late.ask("try-read"), "WouldBlock");

        late.tell("visit-read");
        late.until_asleep();
        let start = now_ns();
        one.ask("unlock");
        all_get_on(&stage, start, std::slice::from_mut(late), "ok");

        (0..CELLS / 2).for_each(|_| assert_eq!(one.ask("read"), "ok"));
        late.tell("visit-read");
        late.until_asleep();
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
    let [mut writer, mut other] = join(Net::Off, &stage);
    writer.ask("write");
    writer.ask("set 3");
    writer.ask("downgrade");
    other.tell("write");
    other.until_asleep();

    let start = writer.kill();

    let reply = other.reply();
    assert_eq!(reply.text, "ok");
    assert!(reply.since(start) < prompt(), "{reply:?}");
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
