//! The `RwLock` between real processes: its everyday behaviour.

mod common;

use std::time::{Duration, Instant};

use common::rwlock::{CELLS, create, open, rw_party};
use common::{Child, Net, Parent, Party, fork, now_ns, prompt, roles, until, until_stopped};
use shmkit::{LockError, RwLockWriteGuard};

roles!(rw_party, forker, reopener);

#[test]
fn readers_of_different_processes_read_together_and_a_writer_is_alone() {
    let (stage, _lock) = create();
    let [mut one, mut other, mut writer] = Party::join_many_as("rw_party", Net::Off, &stage);

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
    let [mut owner, mut other] = Party::join_many_as("rw_party", Net::Off, &stage);
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
    let [mut owner, mut other] = Party::join_many_as("rw_party", Net::Off, &stage);

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
    let [mut owner, mut other] = Party::join_many_as("rw_party", Net::Off, &stage);

    for (held, asked) in [("write", "read"), ("write", "write"), ("read", "write")] {
        owner.ask(held);
        other.tell(format_args!("timed-{asked} 15000"));
        other.until_asleep();
        let start = now_ns();
        owner.ask("unlock");
        assert_eq!(other.soon(start), "ok");
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
    let [mut one, mut other, mut late] = Party::join_many_as("rw_party", Net::Off, &stage);
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
    let [mut owner, mut hasty, mut reader] = Party::join_many_as("rw_party", Net::Off, &stage);
    owner.ask("read");
    hasty.fall_asleep("timed-write 300");
    assert_eq!(reader.ask("try-read"), "WouldBlock");
    reader.fall_asleep("read");

    let out = hasty.reply();
    let reply = reader.reply();

    assert_eq!(out.text, "TimedOut");
    assert_eq!(reply.text, "ok");
    assert!(reply.since(out.at) < prompt(), "{reply:?}");
}

#[test]
fn a_writer_is_not_starved_by_a_stream_of_readers() {
    let (stage, _lock) = create();
    let [writer, one, other] = &mut Party::join_many_as::<3>("rw_party", Net::Off, &stage);
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
    let [mut writer, mut one, mut other] = Party::join_many_as("rw_party", Net::Off, &stage);
    writer.ask("write");
    for reader in [&mut one, &mut other] {
        reader.fall_asleep("read");
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
    let mut parties: [Party; 6] = Party::join_many_as("rw_party", Net::Off, &stage);

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
    let [mut careless, mut one, mut other] = Party::join_many_as("rw_party", Net::Off, &stage);
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
    let [mut owner, mut other] = Party::join_many_as("rw_party", Net::Off, &stage);
    other.ask("interrupts");

    for (held, asked) in [("write", "timed-read 300"), ("read", "timed-write 300")] {
        owner.ask(held);
        other.tell(asked);
        let signals = other.interrupt_until_it_answers();
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
    let [mut owner, mut other] = Party::join_many_as("rw_party", Net::Same, &stage);

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
