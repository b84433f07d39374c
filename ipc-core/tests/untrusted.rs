//! Regions whose peers are not trusted, within one process: what is refused, and what scribbling on the directory comes to.

#![cfg(not(ipc_loom))]

use core::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use shmkit_core::{Error, Region, RegionOptions, UntrustedRegion};

/// Where the fields of a region lie: see `layout.rs` and `directory.rs`.
const LOCK: u64 = 128;
const END: u64 = 144;
const TOKENS: u64 = 384;
const RECORD: u64 = 48;

fn region() -> UntrustedRegion {
    RegionOptions::new().participants(8).anonymous_untrusted(1 << 16).expect("a region")
}

fn file(region: &UntrustedRegion) -> File {
    File::from(region.as_fd().try_clone_to_owned().expect("a descriptor"))
}

fn descriptor(region: &UntrustedRegion) -> OwnedFd {
    region.as_fd().try_clone_to_owned().expect("a descriptor")
}

fn word(file: &File, at: u64) -> u64 {
    let mut bytes = [0; 8];
    file.read_exact_at(&mut bytes, at).expect("a word");
    u64::from_le_bytes(bytes)
}

/// A handle is of the same type wherever it lies, and so could lead to all that is not to be had there.
#[test]
fn a_handle_leads_to_no_region_on_other_terms() {
    let region = region();
    let word = region.insert("word", AtomicU64::new(1)).expect("room");
    let trusted = word.region();
    assert!(matches!(trusted, Err(Error::OtherTrust { trusted: false })), "{trusted:?}");

    let region = Region::anonymous(4096).expect("a region");
    let word = region.insert("word", AtomicU64::new(1)).expect("room");
    assert!(word.region().expect("the region").get::<AtomicU64>("word").is_ok());
}

/// Scribbles, as a peer would.
fn set(file: &File, at: u64, word: u64) {
    file.write_all_at(&word.to_le_bytes(), at).expect("a word");
}

/// Where the first record of a region of 8 participants is.
fn first_record() -> u64 {
    (TOKENS + 8 * 8).next_multiple_of(64) + 8 * 64
}

#[test]
fn what_is_inserted_is_found_by_those_who_open_it_through_a_descriptor() {
    let region = region();
    region.insert("one", AtomicU64::new(1)).expect("room");
    region.insert_array::<u32>("many", 100).expect("room").fill(7);

    let again = UntrustedRegion::from_fd(descriptor(&region)).expect("the region");

    assert_eq!(again.get::<AtomicU64>("one").expect("it").load(Relaxed), 1);
    assert_eq!(again.get_array::<u32>("many", 100).expect("it").to_vec(), [7; 100]);
    assert_eq!(again.objects().expect("sound").len(), 2);
    assert!(matches!(again.get::<AtomicU32>("one"), Err(Error::WrongType { .. })));
}

#[test]
fn a_region_is_trusted_or_not_but_not_both_in_one_process() {
    let untrusted = region();
    let trusted = Region::anonymous(4096).expect("a region");

    let as_trusted = Region::from_fd(descriptor(&untrusted));
    let as_untrusted = UntrustedRegion::from_fd(trusted.as_fd().try_clone_to_owned().expect("a descriptor"));

    assert!(matches!(as_trusted, Err(Error::OtherTrust { trusted: false })), "{as_trusted:?}");
    assert!(matches!(as_untrusted, Err(Error::OtherTrust { trusted: true })), "{as_untrusted:?}");
    let descriptor = descriptor(&untrusted);
    drop(untrusted);
    Region::from_fd(descriptor).expect("nobody has it open any more");
}

#[test]
fn nobody_looks_after_an_untrusted_region() {
    let region = RegionOptions::new().keeper(true).anonymous_untrusted(4096).expect("a region");

    assert_eq!(region.participants().iter().map(|one| one.has_keeper).collect::<Vec<_>>(), [false]);
}

#[test]
fn a_file_that_could_be_cut_is_refused() {
    let name = format!("/dev/shm/shmkit-test-untrusted-{}", std::process::id());
    let file = File::options().read(true).write(true).create_new(true).open(&name).expect("a file");
    std::fs::remove_file(&name).expect("its name");
    file.set_len(1 << 16).expect("a size");

    let (pipe, _write) = std::io::pipe().expect("a pipe");

    for refused in [UntrustedRegion::from_fd(file.into()), UntrustedRegion::from_fd(pipe.into())] {
        assert!(matches!(refused, Err(Error::NotSealed)), "{refused:?}");
    }
}

#[test]
fn an_object_that_moves_into_another_one_is_refused() {
    let region = region();
    let file = file(&region);
    region.insert("victim", [const { AtomicU64::new(0) }; 8]).expect("room");
    let second = word(&file, END);
    region.insert("other", [const { AtomicU32::new(0) }; 16]).expect("room");
    let victim = word(&file, first_record() + 8);

    // The record of the second object is moved to before the end of the first object, where it would be read.
    let inside = victim + 16;
    for at in (0..RECORD + 32).step_by(8) {
        set(&file, inside + at, word(&file, second + at));
    }
    set(&file, first_record(), inside);
    set(&file, first_record() + 16, 0);

    let moved = region.get::<[AtomicU32; 16]>("other");
    assert!(matches!(moved, Err(Error::Corrupted { .. })), "{moved:?}");
}

#[test]
fn one_place_is_not_had_as_two_types() {
    let region = region();
    let file = file(&region);
    region.insert("object", [const { AtomicU64::new(0) }; 8]).expect("room");
    let kept = region.get::<[AtomicU64; 8]>("object").expect("it");
    let other = Region::anonymous(1 << 12).expect("a region");
    other.insert("object", [const { AtomicU8::new(0) }; 64]).expect("room");
    let other = File::from(other.as_fd().try_clone_to_owned().expect("a descriptor"));
    // In a region of 128 participants.
    let fingerprint = word(&other, TOKENS + 128 * 8 + 128 * 64 + 32);

    set(&file, first_record() + 32, fingerprint);

    let again = region.get::<[AtomicU8; 64]>("object");
    assert!(matches!(again, Err(Error::Corrupted { what: "directory: objects that overlap", .. })), "{again:?}");
    assert_eq!(kept[0].load(Relaxed), 0);
}

#[test]
fn nothing_is_inserted_where_something_was_given_out() {
    let region = region();
    let file = file(&region);
    region.insert_array::<u64>("array", 100).expect("room").fill(7);
    let array = region.get_array::<u64>("array", 100).expect("it");

    // The log is said to end before it began, or in the midst of the array.
    for end in [first_record(), word(&file, first_record() + 8) + 64] {
        set(&file, END, end);
        let inserted = region.insert("new", [const { AtomicU64::new(0) }; 100]);
        assert!(matches!(inserted, Err(Error::Corrupted { .. })), "{inserted:?}");
    }
    assert_eq!(array.to_vec(), [7; 100]);
}

#[test]
fn a_directory_that_leads_back_or_never_ends_is_corrupted() {
    let region = region();
    let file = file(&region);
    region.insert("object", AtomicU64::new(0)).expect("room");
    let record = first_record();

    for next in [record, record - 8, 0, u64::MAX, record + RECORD, 1 << 31] {
        set(&file, record, next);
        assert!(matches!(region.objects(), Err(Error::Corrupted { .. })), "{next}");
    }
    // As many records as there is room for, all without a name.
    let large = RegionOptions::new().participants(8).anonymous_untrusted(2 << 20).expect("a region");
    let file = self::file(&large);
    let end = record + (large.size() as u64) / RECORD * RECORD;
    for at in (record..end).step_by(RECORD as usize) {
        set(&file, at, at + RECORD);
        set(&file, at + 8, at + RECORD);
    }
    set(&file, END, end);
    assert!(matches!(large.objects(), Err(Error::Corrupted { what: "number of objects", .. })));
}

#[test]
fn an_insertion_ends_though_a_living_one_keeps_the_directory_locked() {
    let region = region();
    let file = file(&region);
    set(&file, LOCK, word(&file, TOKENS));
    let start = Instant::now();

    let inserted = region.insert("object", AtomicU64::new(0));

    assert!(matches!(inserted, Err(Error::Busy)), "{inserted:?}");
    assert!(start.elapsed() < Duration::from_secs(10));
    region.objects().expect("to look needs no lock");
}

/// Locks `len` bytes of a file from `start` on, which need not exist, for whoever has the file open as this.
fn lock_bytes(file: &File, start: i64, len: i64) {
    let (kind, whence) = (libc::F_WRLCK as libc::c_short, libc::SEEK_SET as libc::c_short);
    let lock = libc::flock { l_type: kind, l_whence: whence, l_start: start, l_len: len, l_pid: 0 };
    // SAFETY: `lock` is one to be read.
    let locked = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const lock) };
    assert_eq!(locked, 0, "{}", std::io::Error::last_os_error());
}

#[test]
fn the_search_for_an_entry_ends_although_hostile_locks_make_each_attempt_take_long() {
    const CLAIMS: i64 = (1 << 62) + 1;
    let region = RegionOptions::new().participants(4096).anonymous_untrusted(1).expect("a region");
    let (file, descriptor) = (file(&region), descriptor(&region));
    drop(region);
    // All entries, and much that the kernel looks at before it comes to them.
    lock_bytes(&file, CLAIMS, 4096);
    (1..6000).for_each(|index| lock_bytes(&file, CLAIMS - 2 * index, 1));

    let opened = UntrustedRegion::from_fd(descriptor);

    // Somebody who had looked at all entries would know that there is none.
    assert!(matches!(opened, Err(Error::Busy)), "{opened:?}");
}

#[test]
fn tokens_of_nobody_are_cleared_away_by_those_who_wait() {
    let region = region();
    let file = file(&region);
    (1..8).for_each(|index| set(&file, TOKENS + 8 * index, (index << 40) | (1 << 30)));
    let gate = region.insert("gate", AtomicU64::new(0)).expect("room");

    let site = shmkit_core::wait::Site::of(&*gate).expect("the region");
    let deadline = shmkit_core::Deadline::after(Duration::from_millis(50));
    let waited = site.wait_for(&*gate, deadline, || None::<()>);

    assert_eq!(waited, None);
    assert_eq!((1..8).map(|index| word(&file, TOKENS + 8 * index)).collect::<Vec<_>>(), [0; 7]);
}
