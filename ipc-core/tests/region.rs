//! Regions and their directory, within one process.

#![cfg(not(ipc_loom))]

use core::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::thread;

use shmkit_core::{Error, Region, RegionOptions};

#[test]
fn objects_are_found_under_their_names_in_the_order_of_insertion() {
    let region = Region::anonymous(4096).expect("a region");
    region.insert("one", AtomicU64::new(1)).expect("room");
    region.insert("two", [const { AtomicU8::new(2) }; 3]).expect("room");

    let objects = region.objects().expect("a sound directory");

    let told: Vec<_> = objects.iter().map(|o| (o.name.as_str(), o.type_name.as_str(), o.size)).collect();
    assert_eq!(told, [("one", "AtomicU64", 8), ("two", "[AtomicU8; 3]", 3)]);
    assert_eq!(region.get::<AtomicU64>("one").expect("one").load(Relaxed), 1);
    assert_eq!(region.get::<[AtomicU8; 3]>("two").expect("two")[2].load(Relaxed), 2);
}

#[test]
fn an_object_is_inserted_once_and_missing_ones_are_told() {
    let region = Region::anonymous(4096).expect("a region");
    region.insert("object", AtomicU64::new(1)).expect("room");

    assert!(
        matches!(region.insert("object", AtomicU64::new(2)), Err(Error::ObjectExists { name }) if name == "object")
    );
    assert!(matches!(region.get::<AtomicU64>("other"), Err(Error::NoSuchObject { name }) if name == "other"));
    assert_eq!(region.get::<AtomicU64>("object").expect("the first").load(Relaxed), 1);
}

#[test]
fn names_of_objects_have_1_to_255_bytes() {
    let region = Region::anonymous(4096).expect("a region");
    let longest = "x".repeat(255);

    assert!(matches!(region.insert("", AtomicU8::new(0)), Err(Error::InvalidName { .. })));
    assert!(matches!(region.insert(&"x".repeat(256), AtomicU8::new(0)), Err(Error::InvalidName { .. })));
    region.insert(&longest, AtomicU8::new(7)).expect("room");
    region.insert("with / slash, \0 and \u{1f40c}", AtomicU8::new(8)).expect("room");
    assert_eq!(region.get::<AtomicU8>(&longest).expect("the longest").load(Relaxed), 7);
}

#[test]
fn get_or_insert_with_makes_a_value_only_if_there_is_none() {
    let region = Region::anonymous(4096).expect("a region");

    let first = region.get_or_insert_with("object", || AtomicU64::new(1)).expect("room");
    let second = region.get_or_insert_with("object", || -> AtomicU64 { unreachable!("there is one") }).expect("it");

    first.store(5, Relaxed);
    assert_eq!(second.load(Relaxed), 5);
}

#[test]
fn of_threads_that_insert_at_once_one_wins() {
    let region = Region::anonymous(1 << 16).expect("a region");

    let won: usize = thread::scope(|scope| {
        let insert = || (0..50).filter(|i| region.insert(&format!("{i}"), AtomicU32::new(0)).is_ok()).count();
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(insert)).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).sum()
    });

    assert_eq!(won, 50);
    assert_eq!(region.objects().expect("a sound directory").len(), 50);
}

#[test]
fn room_is_at_least_what_was_asked_for() {
    for size in [0, 1, 4095, 4096, 100_000] {
        assert!(Region::anonymous(size).expect("a region").size() >= size);
    }
    assert!(matches!(Region::anonymous(usize::MAX), Err(Error::NoSpace { .. })));
}

#[test]
fn a_new_participant_is_this_process() {
    let region = RegionOptions::new().participants(2).anonymous(1).expect("a region");

    let participants = region.participants();

    assert_eq!(region.capacity(), 2);
    assert_eq!(participants.len(), 1);
    assert_eq!(participants[0].pid, std::process::id());
    assert_eq!(region.rescues(), 0);
}

#[test]
fn an_object_keeps_its_region_mapped() {
    let region = Region::anonymous(4096).expect("a region");
    let object = region.insert("object", AtomicU64::new(3)).expect("room");
    let clone = object.clone();
    drop(region);
    drop(object);

    assert_eq!(clone.fetch_add(1, Relaxed), 3);
}

#[test]
fn more_regions_than_one_keeper_has_seats_for_can_be_open() {
    let regions: Vec<_> =
        (0..130).map(|_| RegionOptions::new().participants(2).anonymous(1).expect("a region")).collect();

    assert!(regions.iter().all(|region| region.participants().len() == 1));
}

#[test]
fn threads_that_open_and_close_one_region_share_one_participation() {
    let name = format!("shmkit-test-core-{}", std::process::id());
    let region = RegionOptions::new().participants(2).unlink_on_drop(true).create(&name, 1).expect("a region");

    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..200 {
                    let again = Region::open(&name).expect("the region");
                    assert_eq!(again.participants().len(), 1);
                }
            });
        }
    });

    drop(region);
    assert!(matches!(Region::open(&name), Err(Error::NotFound)));
}

#[test]
fn threads_that_race_to_be_the_first_and_the_last_to_have_a_region_open_get_it() {
    let name = format!("shmkit-test-core-race-{}", std::process::id());
    drop(RegionOptions::new().participants(2).create(&name, 1).expect("a region"));

    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..100).for_each(|_| drop(Region::open(&name).expect("the region"))));
        }
    });

    Region::unlink(&name).expect("nobody has it open");
}
