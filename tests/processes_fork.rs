//! Who takes part in a region and who is dead when processes fork.

mod common;

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::thread;
use std::time::Duration;

use shmkit::{Error, LockError, Region, RegionOptions};

use common::{
    Child, Name, Parent, Party, Stage, fork, forking_party, now_ns, obey, party, prompt, roles, sleep_for_ever, until,
    until_in_futex,
};

roles!(
    party,
    forking_party,
    heir_of_a_region,
    forker_in_a_storm,
    forker_while_opening,
    guard_dropper,
    late_forker,
    crowd
);

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
    parent.fall_asleep("pass");

    let start = now_ns();
    assert!(common::signal(child.pid, libc::SIGKILL));

    assert_eq!(parent.soon(start), "poisoned OwnerDied");
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
    other.fall_asleep("pass");

    let start = parent.kill();
    assert!(common::signal(child.pid, libc::SIGKILL));

    assert_eq!(other.soon(start), "poisoned OwnerDied");
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
                    // Without a pause, `wait` for a child was seen to take up to 20 s in the kernel (`shrink_dcache_parent` of its entries in `/proc`, Linux 6.18), in
                    // every fifth run; never with `SHMKIT_DISABLE=proc`.
                    thread::sleep(Duration::from_micros(50));
                }
            });
        }
        scope.spawn(|| {
            while !done.load(Relaxed) {
                let region = RegionOptions::new().participants(2).anonymous(1).expect("a region");
                region.insert("object", AtomicU64::new(0)).expect("room");
                thread::sleep(Duration::from_micros(50));
            }
        });
        for _ in 0..FORKS {
            let child = fork(|| {
                let mut guard = stage.mutex.lock_timeout(common::BOUND).expect("the mutex");
                guard[0] += 1;
            });
            assert_eq!(child.reap(), 0);
            // Each has the whole bound: with others at work on the machine, all of them together need more.
            parent.say("survived");
        }
        done.store(true, Relaxed);
    });
}

/// How many children are forked in the storm.
const FORKS: u64 = 200;

#[test]
fn a_child_forked_while_other_threads_open_and_close_regions_can_lock() {
    let stage = Stage::create();
    let storm = [Name::new(), Name::new()];
    let _regions = storm.each_ref().map(|name| Region::create(name, 1).expect("a region"));
    let mut forker = Child::spawn("forker_in_a_storm", &[stage.name(), &storm[0], &storm[1]]);

    (0..FORKS).for_each(|_| forker.expect("survived"));

    assert_eq!(stage.mutex.lock().expect("a sound mutex")[0], FORKS);
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
