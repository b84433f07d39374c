//! Who takes part in a region and who is dead: across exec, threads, full tables, users and PID namespaces.

mod common;

use std::sync::atomic::AtomicU64;
use std::thread;

use shmkit::{Error, LockError, Region, RegionOptions};

use common::{
    Child, Name, Net, Parent, Party, Stage, become_nobody, fork, is_root, limit, mappings, party, roles, threads,
    unshare_pids, until,
};

roles!(
    party,
    twice,
    without_threads,
    keeperless,
    nobody,
    creator,
    inner_party,
    inner_party_with_a_high_pid,
    nobody_opens
);

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
    other.fall_asleep("pass");
    let start = owner.kill();

    assert_eq!(other.soon(start), "poisoned OwnerDied");
}

#[test]
fn a_waiter_that_closes_all_descriptors_gets_the_lock_of_a_dead_owner() {
    let stage = Stage::create();
    let [mut owner, mut other] = Party::join_many(Net::Off, &stage);
    assert_eq!(owner.ask("lock"), "ok");
    assert_eq!(other.ask("close-files"), "closed");
    other.fall_asleep("pass");

    let start = owner.kill();

    assert_eq!(other.soon(start), "poisoned OwnerDied");
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

/// One who plays `role` has no keeper and takes part all the same: its death is found, and so is that of another one by it.
fn has_no_keeper_and_takes_part(role: &str, stage: &Stage) {
    let mut poor = Party::join_as(role, Net::Off, stage);
    let mut rich = Party::join(stage);
    let has_keeper = |pid| stage.region.participants().iter().any(|other| other.pid == pid && other.has_keeper);
    assert!(!has_keeper(poor.pid()));

    assert_eq!(poor.ask("lock"), "ok");
    rich.fall_asleep("lock");
    let start = poor.kill();
    assert_eq!(rich.soon(start), "poisoned OwnerDied");
    let mut poor = Party::join_as(role, Net::Off, stage);
    poor.tell("pass");
    let start = rich.kill();

    assert_eq!(poor.soon(start), "poisoned OwnerDied");
}

#[test]
fn a_process_whose_keeper_cannot_be_started_takes_part_all_the_same() {
    let stage = Stage::create_with(RegionOptions::new().mode(0o666));

    has_no_keeper_and_takes_part("without_threads", &stage);
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
    has_no_keeper_and_takes_part("keeperless", &Stage::create());
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
    waiter.fall_asleep("lock");

    let start = owner.kill();

    assert_eq!(waiter.soon(start), "poisoned OwnerDied");
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
    root.fall_asleep("lock");

    let start = nobody.kill();
    assert_eq!(root.soon(start), "poisoned OwnerDied");
    let mut nobody = Party::join_as("nobody", Net::Off, &stage);
    nobody.fall_asleep("pass");
    let start = root.kill();

    assert_eq!(nobody.soon(start), "poisoned OwnerDied");
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
    outer.fall_asleep("pass");

    let start = inner.kill();

    assert_eq!(outer.soon(start), "poisoned OwnerDied");
}

#[test]
#[ignore = "needs root"]
fn an_owner_killed_outside_is_found_dead_from_an_inner_pid_namespace() {
    let stage = Stage::create();
    let mut outer = Party::join(&stage);
    let mut inner = Party::join_as("inner_party", Net::Off, &stage);
    assert_eq!(outer.ask("lock"), "ok");
    inner.tell("pass");
    until("a waiter", || stage.has_sleeper());

    let start = outer.kill();

    assert_eq!(inner.soon(start), "poisoned OwnerDied");
}

#[test]
#[ignore = "needs root"]
fn an_owner_killed_in_one_pid_namespace_is_found_dead_from_another() {
    let stage = Stage::create();
    let mut one = Party::join_as("inner_party", Net::Off, &stage);
    let mut other = Party::join_as("inner_party", Net::Off, &stage);
    assert_eq!(one.ask("lock"), "ok");
    other.tell("pass");
    until("a waiter", || stage.has_sleeper());
    assert!(!other.has_said(), "the other process of the same number is alive");

    let start = one.kill();

    assert_eq!(other.soon(start), "poisoned OwnerDied");
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
