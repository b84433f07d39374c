//! Named regions whose file somebody cuts: an error where it can be found out, else a death of SIGBUS, which is one like any other for those who
//! have other regions in common with the dead.

mod common;

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use shmkit::{Error, LockError, Mutex, Region, RegionOptions, SharedArray};

use common::{Child, Name, Net, Parent, Party, Stage, now_ns, party, prompt, roles, until};

roles!(party, finder, toucher, sealed_toucher, sealed_heir);

/// Touches what was cut off, when it is told so.
fn touch(parent: &mut Parent, name: &str) {
    let region = Region::open(name).expect("the region");
    let array = region.get_array::<u64>("array", 1 << 14).expect("the array");
    parent.say("here");
    parent.expect("cut");
    array.set((1 << 14) - 1, 7).expect("in range");
    parent.say("alive");
}

/// A region with an array that goes beyond its first pages.
fn region(name: &str) -> (Region, SharedArray<u64>) {
    let region = RegionOptions::new().create(name, 1 << 18).expect("a region");
    let array = region.insert_array("array", 1 << 14).expect("room");
    (region, array)
}

fn cut(name: &Name, len: u64) {
    File::options().write(true).open(name.path()).expect("its file").set_len(len).expect("to be cut");
}

// Looks for things in the region of that name, before and after it is cut, and leaves it.
fn finder(parent: &mut Parent) {
    let region = Region::open(parent.argument(0)).expect("the region");
    region.get_array::<u64>("array", 1 << 14).expect("the array");
    parent.say("here");
    parent.expect("cut");
    let is_told = |error: Option<Error>| matches!(error, Some(Error::WrongSize { found: 4096, .. }));
    assert!(is_told(region.get_array::<u64>("array", 1 << 14).err()));
    assert!(is_told(region.insert("more", AtomicU64::new(0)).err()));
    assert!(is_told(region.objects().err()));
    assert!(is_told(Region::open(parent.argument(0)).and_then(|same| same.get::<AtomicU64>("more")).err()));
    drop(region);
    assert!(is_told(Region::open(parent.argument(0)).err()));
    parent.say("left");
}

#[test]
fn one_who_looks_for_an_object_in_a_region_that_was_cut_gets_an_error_and_can_leave() {
    let name = Name::new();
    drop(region(&name));
    let mut finder = Child::spawn("finder", &[&name]);
    finder.expect("here");

    cut(&name, 4096);
    finder.tell("cut");

    finder.expect("left");
    finder.finish();
}

// Holds the mutex of the stage and touches an array in another region, which has been cut.
fn toucher(parent: &mut Parent) {
    let stage = Stage::open(parent.argument(0));
    let _guard = stage.mutex.lock().or_else(LockError::into_guard).expect("the lock");
    let name = parent.argument(1).to_owned();
    touch(parent, &name);
}

#[test]
fn one_who_touches_what_was_cut_off_dies_of_it_as_of_any_signal() {
    let stage = Stage::create();
    let name = Name::new();
    drop(region(&name));
    let mut toucher = Child::spawn("toucher", &[stage.name(), &name]);
    toucher.expect("here");
    let mut heir = Party::join_as("party", Net::On, &stage);
    heir.fall_asleep("lock");

    let start = now_ns();
    cut(&name, 0);
    // Its keeper may have looked there first.
    toucher.try_tell("cut");

    let reply = heir.reply();
    assert_eq!(reply.text, "poisoned OwnerDied");
    // The kernel tells of a death no further than to the first region that was cut: from there on, the others have to look.
    println!("the news took {:?}", reply.since(start));
    assert_eq!(toucher.reap().signal(), Some(libc::SIGBUS));
    until("the dead to be gone from the other region", || !stage.pids().contains(&toucher.pid()));
}

// The same with a mutex in an anonymous region.
fn sealed_toucher(parent: &mut Parent) {
    let name = parent.argument(0).to_owned();
    let other = Region::open(parent.argument(1)).expect("a region");
    let sealed = Region::from_fd(Parent::file()).expect("the region");
    let mutex = sealed.get::<Mutex<u64>>("mutex").expect("the mutex");
    let _guard = mutex.lock().or_else(LockError::into_guard).expect("the lock");
    touch(parent, &name);
    drop(other);
}

// Waits for that mutex.
fn sealed_heir(parent: &mut Parent) {
    let sealed = Region::from_fd(Parent::file()).expect("the region");
    let mutex = sealed.get::<Mutex<u64>>("mutex").expect("the mutex");
    parent.say("here");
    parent.expect("lock");
    let poisoned = mutex.lock().is_err();
    parent.say(format!("{poisoned} {}", now_ns()));
}

#[test]
fn one_who_dies_of_a_region_that_was_cut_is_missed_at_once_in_those_that_cannot_be_cut() {
    let [name, other] = [Name::new(), Name::new()];
    drop([region(&name), region(&other)]);
    let sealed = Region::anonymous(4096).expect("a region");
    sealed.insert("mutex", Mutex::new(0u64)).expect("room");
    let file = || sealed.as_fd().try_clone_to_owned().expect("a descriptor");
    let mut toucher = Child::spawn_with_file(file(), "sealed_toucher", &[&name, &other]);
    toucher.expect("here");
    let mut heir = Child::spawn_with_file(file(), "sealed_heir", &[]);
    heir.expect("here");
    heir.tell("lock");
    heir.until_asleep();

    let start = now_ns();
    cut(&name, 0);
    toucher.try_tell("cut");

    let answer = heir.hear();
    let (poisoned, at) = answer.split_once(' ').expect("two parts");
    assert_eq!(poisoned, "true");
    let took = Duration::from_nanos(at.parse::<u64>().expect("a time").saturating_sub(start));
    assert!(took < prompt(), "the news took {took:?}");
    assert_eq!(toucher.reap().signal(), Some(libc::SIGBUS));
}
