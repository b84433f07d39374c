//! The directory of a region: races for names, wrong types, a full region, and garbage in any word.

mod common;

use std::collections::HashSet;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use shmkit::{Error, Mutex, Region, RegionOptions, ShmSafe};

use common::{Child, Name, Net, Parent, Stage, roles};

roles!(inserter, scribbled);

// Inserts and looks up the same names as the others at the same time.
fn inserter(parent: &mut Parent) {
    let region = Region::open(parent.argument(0)).expect("the region");
    let me: u64 = parent.argument(1).parse().expect("a number");
    parent.say("ready");
    parent.expect("go");
    let mut won = 0;
    let mut sum = 0;
    for index in 0..50 {
        let shared = format!("shared {index}");
        sum += region.get_or_insert_with(&shared, || AtomicU64::new(me << 32 | index)).expect("room").load(Relaxed);
        won += u32::from(region.insert(&format!("raced {index}"), AtomicU64::new(me)).is_ok());
        region.insert(&format!("own {me} {index}"), AtomicU64::new(me)).expect("room");
    }
    parent.say(format_args!("{won} {sum}"));
}

#[test]
fn of_those_who_insert_a_name_at_once_one_wins_and_all_see_its_value() {
    let name = Name::new();
    let region = Region::create(&name, 1 << 18).expect("a region");
    let mut children: Vec<_> = (1..=8).map(|index| Child::spawn("inserter", &[&name, &index.to_string()])).collect();
    children.iter_mut().for_each(|child| child.expect("ready"));

    children.iter_mut().for_each(|child| child.tell("go"));
    let told: Vec<_> = children.iter_mut().map(Child::hear).collect();

    let told: Vec<_> = told.iter().map(|line| line.split_once(' ').expect("two parts")).collect();
    assert_eq!(told.iter().map(|(won, _)| won.parse::<u32>().expect("a number")).sum::<u32>(), 50);
    assert_eq!(told.iter().map(|(_, sum)| sum).collect::<HashSet<_>>().len(), 1, "all see the same values");
    let objects = region.objects().expect("a sound directory");
    assert_eq!(objects.len(), 50 + 50 + 8 * 50);
    assert_eq!(objects.iter().map(|object| &object.name).collect::<HashSet<_>>().len(), objects.len());
}

#[test]
fn a_wrong_type_is_an_error_that_names_both() {
    let name = Name::new();
    let region = Region::create(&name, 1).expect("a region");
    region.insert("tickets", Mutex::new(20u64)).expect("room");

    let error = region.get::<Mutex<u32>>("tickets").expect_err("another type").to_string();
    let again = region.get_or_insert_with("tickets", || Mutex::new([0f64; 2])).expect_err("another type").to_string();

    assert!(error.contains("\"tickets\"") && error.contains("Mutex<u64>") && error.contains("Mutex<u32>"), "{error}");
    assert!(again.contains("Mutex<u64>") && again.contains("Mutex<[f64; 2]>"), "{again}");
}

#[test]
fn a_full_region_refuses_an_object_and_is_not_changed() {
    let name = Name::new();
    let region = RegionOptions::new().participants(PARTICIPANTS).create(&name, 1).expect("a region");
    // The head of the directory and all from its beginning on; keepers may write in between.
    let directory = || {
        let bytes = fs::read(name.path()).expect("the file");
        [&bytes[128..192], &bytes[DATA as usize..]].concat()
    };
    let insert = |index: u64| region.insert(&format!("object {index}"), [const { AtomicU64::new(3) }; 16]);
    let refused = (0..).find_map(|index| insert(index).err()).expect("an end");
    let before = region.objects().expect("a sound directory");
    let bytes = directory();

    assert!(matches!(refused, Error::NoSpace { .. }), "{refused:?}");
    assert!(matches!(insert(1000), Err(Error::NoSpace { .. })));
    assert_eq!(region.objects().expect("a sound directory"), before);
    assert!(directory() == bytes);
    assert_eq!(
        region.get::<[AtomicU64; 16]>("object 0").expect("the first").each_ref().map(|x| x.load(Relaxed)),
        [3; 16]
    );
}

// Calls everything on a region while all kinds of words stand in it.
fn scribbled(parent: &mut Parent) {
    let name = parent.argument(0).to_owned();
    let file = File::options().read(true).write(true).open(name_path(&name)).expect("the file");
    let size = file.metadata().expect("its size").len();
    let nasty = [
        0,
        1,
        2,
        7,
        8,
        0x1000,
        size - 8,
        size,
        size + 8,
        size * 2,
        1 << 28,
        1 << 31,
        u64::from(u32::MAX),
        1 << 32,
        1 << 62,
        1 << 63,
        u64::MAX - 7,
        u64::MAX - 1,
        u64::MAX,
        0x5a5a_5a5a_5a5a_5a5a,
        0x0000_0400_0000_00ff,
    ];
    let first: u64 = parent.argument(1).parse().expect("a number");
    let mut image = vec![0; size as usize];
    file.read_exact_at(&mut image, 0).expect("the region");
    let mut calls = 0u64;
    for word in first..first + 8 {
        for value in nasty {
            let region = Region::open(&name).expect("the region");
            file.write_all_at(&value.to_ne_bytes(), word * 8).expect("written");
            let called = catch_unwind(AssertUnwindSafe(|| call_everything(&name, &region)));
            assert!(called.is_ok(), "{value:#x} in word {word}");
            // Whatever was changed is put right, so that the next value stands alone.
            drop(region);
            file.write_all_at(&image, 0).expect("written");
            calls += 1;
        }
    }
    parent.say(calls);
}

fn name_path(name: &str) -> String {
    format!("/dev/shm/{name}")
}

fn call_everything(name: &str, region: &Region) {
    fn use_it<T: ShmSafe>(object: shmkit::Result<shmkit::Shm<T>>, how: impl FnOnce(&T)) {
        drop(object.map(|object| how(&object)));
    }
    drop(region.objects());
    drop((region.participants(), region.rescues(), region.size(), region.capacity(), region.id()));
    use_it(region.get::<Mutex<[u64; 16]>>("mutex"), |mutex| drop(mutex.lock_timeout(Duration::from_millis(1))));
    use_it(region.get::<AtomicU64>("counter"), |counter| _ = counter.fetch_add(1, Relaxed));
    use_it(region.get::<Mutex<u32>>("counter"), |_| panic!("of another type"));
    use_it(region.insert("new", AtomicU64::new(1)), |new| _ = new.fetch_add(1, Relaxed));
    use_it(region.get_or_insert_with("newer", || [const { AtomicU64::new(1) }; 8]), |new| _ = new[7].load(Relaxed));
    drop(Region::open(name));
}

#[test]
fn garbage_in_any_word_ends_in_a_value_or_an_error() {
    // The participant table is longer than what is overwritten, so the directory comes behind it.
    let words: Vec<u64> = (0..64).chain(DATA / 8..DATA / 8 + 24).step_by(8).collect();

    // Two processes at a time, each with a region of its own.
    for pair in words.chunks(2) {
        let mut children: Vec<_> = pair
            .iter()
            .map(|word| {
                let stage = Stage::create_with(RegionOptions::new().participants(PARTICIPANTS));
                stage.region.insert("counter", AtomicU64::new(0)).expect("room");
                let child = Child::spawn_with(Net::Same, "scribbled", &[stage.name(), &word.to_string()]);
                (child, stage)
            })
            .collect();
        children.iter_mut().for_each(|(child, _)| child.expect("168"));
    }
}

/// Where the directory of a region for so many participants begins.
const PARTICIPANTS: u32 = 8;
const DATA: u64 = 384 + 8 * 8 + 8 * 64;
