//! Who takes part in a region and who is dead: across fork, exec, threads, full tables, users and PID namespaces.

mod common;

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::thread;
use std::time::Duration;

use shmkit::{Error, LockError, Region, RegionOptions};

use common::{
    Child, Name, Net, Parent, Party, Stage, become_nobody, fork, forking_party, is_root, limit, mappings, now_ns, obey,
    party, prompt, roles, sleep_for_ever, threads, unshare_pids, until, until_in_futex,
};

roles!(
    party,
    forking_party,
    heir_of_a_region,
    forker_in_a_storm,
    forker_while_opening,
    guard_dropper,
    twice,
    late_forker,
    crowd,
    without_threads,
    keeperless,
    nobody,
    creator,
    inner_party,
    inner_party_with_a_high_pid,
    nobody_opens,
);

// Fork.

#[test]
fn a_forked_child_is_a_participant_of_its_own() {
    let stage = Stage::create();
    let (mut parent, mut child) = Party::join_and_fork(&stage);

    assert_eq!(child.ask("lock"), "ok");
    assert!(stage.pids().contains(&parent.pid()) && stage.pids().contains(&child.pid), "{:?}", stage.pids());
    assert_eq!(parent.ask("try"), "WouldBlock");
    assert_eq!(child.ask("unlock"), "unlocked");
    assert_eq!(parent.ask("lock"), "ok");
    assert_eq!(child.ask("try"), "WouldBlock");
}

#[test]
fn a_parent_gets_the_lock_of_its_killed_forked_child() {
    let stage = Stage::create();
    let (mut parent, mut child) = Party::join_and_fork(&stage);
    assert_eq!(child.ask("lock"), "ok");
    parent.tell("pass");
    parent.until_asleep();

    let start = now_ns();
    assert!(common::signal(child.pid, libc::SIGKILL));

    got_soon(&mut parent, start);
}

#[test]
fn a_forked_child_gets_the_lock_of_its_killed_parent() {
    let stage = Stage::create();
    let (mut parent, mut child) = Party::join_and_fork(&stage);
    assert_eq!(parent.ask("lock"), "ok");
    child.tell("pass");
    until_in_futex(child.pid, child.pid);

    let start = parent.kill();
    let reply = child.reply();

    assert_eq!(reply.text, "poisoned OwnerDied");
    assert!(reply.since(start) < prompt(), "{reply:?}");
}

#[test]
fn a_third_process_gets_the_lock_when_parent_and_forked_child_are_killed() {
    let stage = Stage::create();
    let mut other = Party::join(&stage);
    let (parent, mut child) = Party::join_and_fork(&stage);
    assert_eq!(child.ask("lock"), "ok");
    other.tell("pass");
    other.until_asleep();

    let start = parent.kill();
    assert!(common::signal(child.pid, libc::SIGKILL));

    got_soon(&mut other, start);
}

// Locks, forks, and lets the child drop its copy of the guard.
fn guard_dropper(parent: &mut Parent) {
    let stage = Stage::open(parent.argument(0));
    let guard = stage.mutex.lock().expect("a free mutex");
    let mut guard = Some(guard);
    let child = fork(|| {
        drop(guard.take());
        assert!(matches!(stage.mutex.try_lock(), Err(LockError::WouldBlock)));
        // Again as a process that has a token of its own.
        assert!(matches!(stage.mutex.lock_timeout(Duration::from_millis(20)), Err(LockError::TimedOut)));
    });
    assert_eq!(child.reap(), 0);
    parent.say("dropped");
    obey(parent, &stage);
}

#[test]
fn a_guard_dropped_in_a_forked_child_unlocks_nothing() {
    let stage = Stage::create();
    let mut other = Party::join(&stage);
    let mut owner = Child::spawn("guard_dropper", &[stage.name()]);

    owner.expect("dropped");

    assert_eq!(other.ask("try"), "WouldBlock");
    assert_eq!(other.ask("timed 50"), "TimedOut");
}

// Creates the region that is to go with it, forks, and lets the child drop its copy of the handles.
fn heir_of_a_region(parent: &mut Parent) {
    let region = RegionOptions::new().unlink_on_drop(true).create(parent.argument(0), 1 << 12).expect("a region");
    let mut handle = Some(region.clone());
    let mut region = Some(region);
    let quiet = fork(|| {
        region.take();
        handle.take();
    });
    assert_eq!(quiet.reap(), 0);
    let participant = fork(|| {
        let region = region.take();
        region.as_ref().expect("inherited").insert("from the child", AtomicU64::new(1)).expect("room");
        handle.take();
    });
    assert_eq!(participant.reap(), 0);
    parent.say("reaped");
    parent.expect("drop");
    drop(handle);
    drop(region);
    parent.say("dropped");
}

#[test]
fn only_the_creator_unlinks_on_drop_and_a_forked_child_detaches_nobody_else() {
    let name = Name::new();
    let mut creator = Child::spawn("heir_of_a_region", &[&name]);

    creator.expect("reaped");
    let region = Region::open(&name).expect("still there");
    let pids: Vec<_> = region.participants().iter().map(|participant| participant.pid).collect();
    assert_eq!(pids, [creator.pid(), std::process::id()]);
    creator.tell("drop");
    creator.expect("dropped");

    assert!(!name.exists());
}

// Forks again and again while other threads open, close, create and drop regions.
fn forker_in_a_storm(parent: &mut Parent) {
    let stage = Stage::open(parent.argument(0));
    let storm = [1, 2].map(|index| parent.argument(index).to_owned());
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for name in &storm {
            scope.spawn(|| {
                while !done.load(Relaxed) {
                    drop(Region::open(name).expect("a region of the storm"));
                }
            });
        }
        scope.spawn(|| {
            while !done.load(Relaxed) {
                let region = RegionOptions::new().participants(2).anonymous(1).expect("a region");
                region.insert("object", AtomicU64::new(0)).expect("room");
            }
        });
        for _ in 0..200 {
            let child = fork(|| {
                let mut guard = stage.mutex.lock_timeout(common::BOUND).expect("the mutex");
                guard[0] += 1;
            });
            assert_eq!(child.reap(), 0);
        }
        done.store(true, Relaxed);
    });
    parent.say("survived");
}

#[test]
fn a_child_forked_while_other_threads_open_and_close_regions_can_lock() {
    let stage = Stage::create();
    let storm = [Name::new(), Name::new()];
    let _regions = storm.each_ref().map(|name| Region::create(name, 1).expect("a region"));
    let mut forker = Child::spawn("forker_in_a_storm", &[stage.name(), &storm[0], &storm[1]]);

    forker.expect("survived");

    assert_eq!(stage.mutex.lock().expect("a sound mutex")[0], 200);
}

// Forks children that stay, while another thread opens and closes a region.
fn forker_while_opening(parent: &mut Parent) {
    let name = parent.argument(0).to_owned();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Relaxed) {
                drop(Region::open(&name).expect("the region"));
            }
        });
        let children: Vec<_> = (0..100).map(|_| fork(|| sleep_for_ever())).collect();
        done.store(true, Relaxed);
        parent.say("forked");
        parent.expect("end");
        drop(children);
    });
}

#[test]
fn a_child_forked_while_another_thread_opens_a_region_does_not_keep_its_name_locked() {
    let name = Name::new();
    let _region = Region::create(&name, 1).expect("a region");
    let mut forker = Child::spawn("forker_while_opening", &[&name]);
    forker.expect("forked");

    Region::unlink(&name).expect("nobody opens it");

    assert!(!name.exists());
    forker.tell("end");
}

// Has no region when it forks; then both have the same one.
fn late_forker(parent: &mut Parent) {
    drop(Stage::open(parent.argument(0)));
    let name = parent.argument(0).to_owned();
    let child = fork(|| {
        let stage = Stage::open(&name);
        stage.mutex.lock().expect("the mutex")[0] += 1;
        assert!(stage.pids().contains(&std::process::id()));
    });
    assert_eq!(child.reap(), 0);
    parent.say("reaped");
    let stage = Stage::open(&name);
    obey(parent, &stage);
}

#[test]
fn a_process_whose_parent_has_left_the_region_takes_part_as_itself() {
    let stage = Stage::create();
    let mut forker = Child::spawn("late_forker", &[stage.name()]);

    forker.expect("reaped");

    assert_eq!(stage.mutex.lock().expect("a sound mutex")[0], 1);
    forker.tell("lock");
    assert!(forker.hear().ends_with(" ok"));
}

// Forks more children than the region has room for.
fn crowd(parent: &mut Parent) {
    let stage = Stage::open(parent.argument(0));
    let capacity = stage.region.capacity();
    // The test and this process take part; so may these.
    let children: Vec<_> = (2..capacity)
        .map(|index| {
            let child = fork(|| {
                drop(stage.mutex.lock().expect("room"));
                stage.board[index].store(1, Release);
                sleep_for_ever();
            });
            until("a child that takes part", || stage.board[index].load(Acquire) == 1);
            child
        })
        .collect();
    let last = fork(|| {
        let full = |error| matches!(error, LockError::Failed(Error::TooManyParticipants { .. }));
        assert!(stage.mutex.lock().is_err_and(full));
        let full = |error| matches!(error, LockError::Failed(Error::TooManyParticipants { .. }));
        assert!(stage.mutex.try_lock().is_err_and(full));
        assert!(matches!(Region::anonymous(1), Err(Error::TooManyParticipants { .. })));
        stage.board[0].store(1, Release);
        until("room", || stage.board[1].load(Acquire) == 1);
        drop(stage.mutex.lock().expect("room at last"));
    });
    until("the one that has no room", || stage.board[0].load(Acquire) == 1);
    drop(children);
    stage.board[1].store(1, Release);
    assert_eq!(last.reap(), 0);
    parent.say("done");
}

#[test]
fn a_forked_child_without_room_in_the_table_is_told_so_until_there_is_room() {
    let stage = Stage::create_with(RegionOptions::new().participants(4));
    let mut crowd = Child::spawn("crowd", &[stage.name()]);

    crowd.expect("done");
}

// Exec, threads, descriptors.

#[test]
fn exec_ends_the_participation() {
    let stage = Stage::create();
    let [mut owner, mut party, mut other] = Party::join_many(Net::Off, &stage);
    assert!(stage.pids().contains(&party.pid()));
    owner.ask("lock");

    party.tell("exec");

    // Not this process, which does not wait for anything, but a participant that does hears of it, whoever else has a keeper.
    other.tell("timed 5000");
    until("the news of the exec", || !stage.pids().contains(&party.pid()));
    assert!(common::signal(party.pid(), 0), "it lives on as something else");
}

#[test]
fn a_thread_that_ends_without_unlocking_leaves_the_mutex_locked() {
    let stage = Stage::create();
    let [mut owner, mut other] = Party::join_many(Net::Off, &stage);

    assert_eq!(owner.ask("thread"), "locked");

    assert_eq!(other.ask("try"), "WouldBlock");
    assert_eq!(other.ask("timed 50"), "TimedOut");
    assert_eq!(owner.ask("try"), "WouldBlock");
    owner.kill();
    assert_eq!(other.ask("lock"), "poisoned OwnerDied");
}

#[test]
fn an_owner_that_closes_all_descriptors_is_alive_until_it_is_dead() {
    let stage = Stage::create();
    let [mut owner, mut other] = Party::join_many(Net::Off, &stage);
    assert_eq!(owner.ask("lock"), "ok");

    assert_eq!(owner.ask("close-files"), "closed");
    assert_eq!(other.ask("timed 300"), "TimedOut");
    assert!(stage.pids().contains(&owner.pid()));
    other.tell("pass");
    other.until_asleep();
    let start = owner.kill();

    got_soon(&mut other, start);
}

#[test]
fn a_waiter_that_closes_all_descriptors_gets_the_lock_of_a_dead_owner() {
    let stage = Stage::create();
    let [mut owner, mut other] = Party::join_many(Net::Off, &stage);
    assert_eq!(owner.ask("lock"), "ok");
    assert_eq!(other.ask("close-files"), "closed");
    other.tell("pass");
    other.until_asleep();

    let start = owner.kill();

    got_soon(&mut other, start);
}

// Opens a region twice and counts what that takes.
fn twice(parent: &mut Parent) {
    let name = parent.argument(0).to_owned();
    let one = Stage::open(&name);
    let (maps, pids) = (mappings(&name), one.pids());
    let other = Stage::open(&name);
    assert_eq!((mappings(&name), other.pids()), (maps, pids));
    assert_eq!(std::ptr::from_ref(one.lock_word()), std::ptr::from_ref(other.lock_word()));
    let guard = one.mutex.lock().expect("a free mutex");
    drop(one.region);
    assert!(matches!(other.mutex.try_lock(), Err(LockError::WouldBlock)));
    drop(guard);
    parent.say("same");
}

#[test]
fn a_region_opened_twice_is_one_mapping_and_one_participant() {
    let stage = Stage::create();
    let mut twice = Child::spawn("twice", &[stage.name()]);

    twice.expect("same");
    twice.finish();

    until("the departure", || stage.pids() == [std::process::id()]);
}

// No keeper.

// Becomes somebody who may not start a thread, and joins.
fn without_threads(parent: &mut Parent) {
    let drop_rights = [|| {}, become_nobody][usize::from(is_root())];
    drop_rights();
    limit(libc::RLIMIT_NPROC, 0);
    assert!(thread::Builder::new().spawn(|| {}).is_err());
    party(parent);
}

#[test]
fn a_process_whose_keeper_cannot_be_started_takes_part_all_the_same() {
    let stage = Stage::create_with(RegionOptions::new().mode(0o666));
    let mut poor = Party::join_as("without_threads", Net::Off, &stage);
    let mut rich = Party::join(&stage);
    let has_keeper = |pid| stage.region.participants().iter().any(|other| other.pid == pid && other.has_keeper);
    assert!(!has_keeper(poor.pid()));

    // Its death is found, and so is that of another one by it.
    assert_eq!(poor.ask("lock"), "ok");
    rich.tell("lock");
    rich.until_asleep();
    let start = poor.kill();
    let reply = rich.reply();
    assert_eq!(reply.text, "poisoned OwnerDied");
    assert!(reply.since(start) < prompt(), "{reply:?}");
    let mut poor = Party::join_as("without_threads", Net::Off, &stage);
    poor.tell("pass");
    let start = rich.kill();

    got_soon(&mut poor, start);
}

// Joins, but wants no thread for that.
fn keeperless(parent: &mut Parent) {
    let before = threads();
    let _region = RegionOptions::new().keeper(false).open(parent.argument(0)).expect("the region");
    assert_eq!(threads(), before);
    party(parent);
}

#[test]
fn a_process_that_wants_no_keeper_has_no_thread_and_takes_part_all_the_same() {
    let stage = Stage::create();
    let mut poor = Party::join_as("keeperless", Net::Off, &stage);
    let mut rich = Party::join(&stage);
    let has_keeper = |pid| stage.region.participants().iter().any(|other| other.pid == pid && other.has_keeper);
    assert!(!has_keeper(poor.pid()));

    // Its death is found, and so is that of another one by it.
    assert_eq!(poor.ask("lock"), "ok");
    rich.tell("lock");
    rich.until_asleep();
    let start = poor.kill();
    let reply = rich.reply();
    assert_eq!(reply.text, "poisoned OwnerDied");
    assert!(reply.since(start) < prompt(), "{reply:?}");
    let mut poor = Party::join_as("keeperless", Net::Off, &stage);
    poor.tell("pass");
    let start = rich.kill();

    got_soon(&mut poor, start);
}

#[test]
fn processes_of_which_none_has_a_keeper_find_each_others_deaths() {
    let name = Name::new();
    let region = RegionOptions::new().keeper(false).create(&name, 1 << 16).expect("a region");
    let stage = Stage::create_in(region, name);
    let mut owner = Party::join_as("keeperless", Net::Off, &stage);
    let mut waiter = Party::join_as("keeperless", Net::Off, &stage);
    assert!(stage.region.participants().iter().all(|participant| !participant.has_keeper));
    assert_eq!(owner.ask("lock"), "ok");
    waiter.tell("lock");
    waiter.until_asleep();

    let start = owner.kill();

    let reply = waiter.reply();
    assert_eq!(reply.text, "poisoned OwnerDied");
    assert!(reply.since(start) < prompt(), "{reply:?}");
}

// A full table.

#[test]
fn a_full_table_refuses_and_has_room_again_after_a_kill_or_a_departure() {
    let stage = Stage::create_with(RegionOptions::new().participants(3));
    let [killed, mut leaving] = Party::join_many(Net::Off, &stage);
    let mut late = Child::spawn("creator", &[stage.name(), "open"]);
    late.expect("TooManyParticipants { capacity: 3 }");

    killed.kill();
    drop(killed);
    let next = Party::join(&stage);
    late.tell("again");
    late.expect("TooManyParticipants { capacity: 3 }");
    leaving.tell("end");
    leaving.reap();
    late.tell("again");

    late.expect("ok");
    drop(next);
}

#[test]
fn dead_entries_are_used_again() {
    let stage = Stage::create_with(RegionOptions::new().participants(4));

    for round in 0..300 {
        let mut party = Party::join(&stage);
        assert_eq!(party.ask("timed 15000"), ["ok", "poisoned OwnerDied"][usize::from(round > 0)]);
        party.kill();
    }

    assert_eq!(stage.region.rescues(), 0);
}

// Opens or creates when told to, and says what came of it.
fn creator(parent: &mut Parent) {
    let (name, how) = (parent.argument(0).to_owned(), parent.argument(1).to_owned());
    loop {
        let region = if how == "open" { Region::open(&name) } else { Region::create(&name, 1) };
        match region {
            Ok(_) => parent.say("ok"),
            Err(error) => parent.say(format_args!("{error:?}")),
        }
        parent.expect("again");
    }
}

// Other users.

// Becomes nobody and joins.
fn nobody(parent: &mut Parent) {
    become_nobody();
    party(parent);
}

#[test]
#[ignore = "needs root"]
fn processes_of_different_users_recover_from_each_others_deaths() {
    let stage = Stage::create_with(RegionOptions::new().mode(0o666));
    let mut root = Party::join(&stage);
    let mut nobody = Party::join_as("nobody", Net::Off, &stage);
    assert_eq!(nobody.ask("lock"), "ok");
    root.tell("lock");
    root.until_asleep();

    let start = nobody.kill();
    let reply = root.reply();
    assert_eq!(reply.text, "poisoned OwnerDied");
    assert!(reply.since(start) < prompt(), "{reply:?}");
    let mut nobody = Party::join_as("nobody", Net::Off, &stage);
    nobody.tell("pass");
    nobody.until_asleep();
    let start = root.kill();

    got_soon(&mut nobody, start);
}

// Becomes nobody, tries to open one region, creates another one and unlinks it.
fn nobody_opens(parent: &mut Parent) {
    become_nobody();
    let refused = Region::open(parent.argument(0)).expect_err("a region of root's");
    let Error::Io(refused) = refused else { panic!("{refused:?}") };
    parent.say(format_args!("Io({:?})", refused.kind()));
    let name = parent.argument(1).to_owned();
    let region = Region::create(&name, 1).expect("everybody may");
    drop(region.insert("object", AtomicU64::new(0)).expect("room"));
    parent.say("created");
    Region::unlink(&name).expect("its own");
    parent.say("unlinked");
}

#[test]
#[ignore = "needs root"]
fn another_user_is_refused_by_the_mode_of_the_file_and_can_create_regions_of_its_own() {
    let stage = Stage::create();
    let name = Name::new();

    let mut excluded = Child::spawn("nobody_opens", &[stage.name(), &name]);

    excluded.expect("Io(PermissionDenied)");
    excluded.expect("created");
    excluded.expect("unlinked");
}

// PID namespaces.

// Lives as the first process of a PID namespace of its own.
fn inner_party(parent: &mut Parent) {
    unshare_pids();
    let inner = fork(|| {
        assert_eq!(std::process::id(), 1);
        party(parent);
    });
    inner.reap();
}

// Lives in a PID namespace of its own, under a number that nobody outside has.
fn inner_party_with_a_high_pid(parent: &mut Parent) {
    unshare_pids();
    let first = fork(|| {
        std::fs::write("/proc/sys/kernel/ns_last_pid", "3999999").expect("root");
        let second = fork(|| {
            assert_eq!(std::process::id(), 4_000_000);
            party(parent);
        });
        second.reap();
    });
    first.reap();
}

#[test]
#[ignore = "needs root"]
fn an_owner_killed_in_an_inner_pid_namespace_is_found_dead_from_outside() {
    let stage = Stage::create();
    let mut outer = Party::join(&stage);
    let mut inner = Party::join_as("inner_party", Net::Off, &stage);
    // Outside there is a living process of this number, too.
    assert!(stage.pids().contains(&1) && common::signal(1, 0));
    assert_eq!(inner.ask("lock"), "ok");
    outer.tell("pass");
    outer.until_asleep();

    let start = inner.kill();

    got_soon(&mut outer, start);
}

#[test]
#[ignore = "needs root"]
fn an_owner_killed_outside_is_found_dead_from_an_inner_pid_namespace() {
    let stage = Stage::create();
    let mut outer = Party::join(&stage);
    let mut inner = Party::join_as("inner_party", Net::Off, &stage);
    assert_eq!(outer.ask("lock"), "ok");
    inner.tell("pass");
    until("a waiter", || stage.lock_word().load(Relaxed) & 1 == 1);

    let start = outer.kill();

    got_soon(&mut inner, start);
}

#[test]
#[ignore = "needs root"]
fn an_owner_killed_in_one_pid_namespace_is_found_dead_from_another() {
    let stage = Stage::create();
    let mut one = Party::join_as("inner_party", Net::Off, &stage);
    let mut other = Party::join_as("inner_party", Net::Off, &stage);
    assert_eq!(one.ask("lock"), "ok");
    other.tell("pass");
    until("a waiter", || stage.lock_word().load(Relaxed) & 1 == 1);
    assert!(!other.has_said(), "the other process of the same number is alive");

    let start = one.kill();

    got_soon(&mut other, start);
}

#[test]
#[ignore = "needs root"]
fn an_owner_in_an_inner_pid_namespace_is_alive_though_nobody_outside_has_its_number() {
    let stage = Stage::create();
    let [mut outer, dead] = Party::join_many(Net::Off, &stage);
    let mut inner = Party::join_as("inner_party_with_a_high_pid", Net::Off, &stage);
    assert!(stage.pids().contains(&4_000_000) && !common::signal(4_000_000, 0));
    assert_eq!(inner.ask("lock"), "ok");

    assert_eq!(outer.ask("try"), "WouldBlock");
    assert_eq!(outer.ask("timed 300"), "TimedOut");
    // Another one's death lets everybody look.
    dead.kill();
    assert_eq!(outer.ask("timed 300"), "TimedOut");
    assert_eq!(inner.ask("unlock"), "unlocked");

    assert_eq!(outer.ask("lock"), "ok");
}

/// The party, which was waiting, had the lock soon after its owner was killed, and nobody's safety net had to help.
#[track_caller]
fn got_soon(party: &mut Party, start: u64) {
    let reply = party.reply();
    assert_eq!(reply.text, "poisoned OwnerDied");
    assert!(reply.since(start) < prompt(), "{reply:?}");
}
