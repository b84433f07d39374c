//! Regions in whose directory or header something wrong stands: what is read there is refused.

#![cfg(not(ipc_loom))]

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::atomic::AtomicU64;

use shmkit_core::{Error, Region, RegionOptions};

/// Where the words of the header lie, in bytes.
const SIZE: u64 = 16;
const PARTICIPANTS: u64 = 24;

/// The words of a record in the directory, in bytes from its beginning. The name follows behind the last.
const NEXT: u64 = 0;
const OBJECT: u64 = 8;
const OBJECT_SIZE: u64 = 16;
const COUNT: u64 = 24;
const LENS: u64 = 40;
const NAME: u64 = 48;

/// A region whose bytes can be reached past everybody.
struct Target {
    region: Region,
    file: File,
}

impl Target {
    fn new() -> Self {
        let region = RegionOptions::new().participants(2).anonymous(4096).expect("a region");
        let file = File::from(region.as_fd().try_clone_to_owned().expect("a descriptor"));
        Self { region, file }
    }

    fn bytes(&self) -> Vec<u8> {
        let len = self.file.metadata().expect("its size").len();
        let mut bytes = vec![0; len as usize];
        self.file.read_exact_at(&mut bytes, 0).expect("its bytes");
        bytes
    }

    /// Where the record of an object begins.
    fn record(&self, name: &str) -> u64 {
        let is_it = |window: &[u8]| window == name.as_bytes();
        self.bytes().windows(name.len()).position(is_it).expect("its name") as u64 - NAME
    }

    fn read(&self, at: u64) -> u64 {
        let mut bytes = [0; 8];
        self.file.read_exact_at(&mut bytes, at).expect("a word");
        u64::from_le_bytes(bytes)
    }

    fn write(&self, at: u64, value: u64) {
        self.file.write_all_at(&value.to_le_bytes(), at).expect("a write");
    }
}

/// A memory file of these bytes whose size nobody can change.
fn sealed(bytes: &[u8]) -> OwnedFd {
    // SAFETY: no pointers but to a literal; the descriptor is nobody else's.
    let file = unsafe {
        let number = libc::memfd_create(c"shmkit-test".as_ptr(), libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING);
        assert!(number >= 0, "a memory file");
        File::from_raw_fd(number)
    };
    file.write_all_at(bytes, 0).expect("memory");
    let seals = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
    // SAFETY: no pointers.
    assert_eq!(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) }, 0);
    file.into()
}

fn is_corrupted<T>(result: &Result<T, Error>) -> bool {
    matches!(result, Err(Error::Corrupted { .. }))
}

#[test]
fn a_record_that_does_not_end_within_the_log_is_refused() {
    let target = Target::new();
    target.region.insert("target", AtomicU64::new(1)).expect("room");
    let record = target.record("target");
    let (next, whole) = (target.read(record + NEXT), target.bytes().len() as u64);
    for garbage in [0, 1, record, record + 40, next + 8, whole, 2 * whole, u64::MAX - 7] {
        target.write(record + NEXT, garbage);
        // An object behind the region would be within such a record.
        target.write(record + OBJECT, (whole + 64).min(garbage.saturating_sub(64)) / 64 * 64);
        assert!(is_corrupted(&target.region.get::<AtomicU64>("target")), "{garbage:#x}");
        assert!(is_corrupted(&target.region.objects()), "{garbage:#x}");
    }
}

#[test]
fn an_object_that_does_not_lie_within_its_record_is_refused() {
    let target = Target::new();
    target.region.insert("target", AtomicU64::new(1)).expect("room");
    let record = target.record("target");
    let object = target.read(record + OBJECT);
    for garbage in [0, record, record + NAME, object + 1, object + 8, object + 64, u64::MAX - 7] {
        target.write(record + OBJECT, garbage);
        assert!(is_corrupted(&target.region.get::<AtomicU64>("target")), "{garbage:#x}");
    }
    target.write(record + OBJECT, object);
    for garbage in [0, 1, 7, 9, 64, u64::MAX, u64::MAX - object] {
        target.write(record + OBJECT_SIZE, garbage);
        assert!(is_corrupted(&target.region.get::<AtomicU64>("target")), "{garbage:#x}");
    }
}

#[test]
fn names_that_do_not_fit_into_their_record_are_refused() {
    let target = Target::new();
    target.region.insert("target", AtomicU64::new(1)).expect("room");
    let record = target.record("target");
    let lens = target.read(record + LENS);
    for garbage in [255, 256, 1000 << 32, 2000 << 32, u64::from(u32::MAX), u64::MAX] {
        target.write(record + LENS, garbage);
        assert!(is_corrupted(&target.region.get::<AtomicU64>("target")), "{garbage:#x}");
    }
    target.write(record + LENS, lens);
    target.region.get::<AtomicU64>("target").expect("as it was");
}

#[test]
fn an_array_that_has_not_as_many_bytes_as_its_elements_is_refused() {
    let target = Target::new();
    target.region.insert_array::<u32>("target", 10).expect("room");
    let record = target.record("target");
    for len in [0, 9, 11, 1000, usize::MAX / 4, usize::MAX] {
        target.write(record + COUNT, len as u64);
        assert!(is_corrupted(&target.region.get_array::<u32>("target", len)), "{len}");
    }
    target.write(record + COUNT, 10);
    assert_eq!(target.region.get_array::<u32>("target", 10).expect("as it was").len(), 10);
}

#[test]
fn a_header_that_promises_more_than_there_is_is_refused() {
    let bytes = Target::new().bytes();
    let with = |at: u64, value: &[u8]| {
        let mut changed = bytes.clone();
        changed[at as usize..][..value.len()].copy_from_slice(value);
        // Nobody takes part.
        changed[384..512].fill(0);
        Region::from_fd(sealed(&changed))
    };
    for garbage in [0, 128, 4096, 4097, u32::MAX] {
        assert!(is_corrupted(&with(PARTICIPANTS, &garbage.to_le_bytes())), "{garbage}");
    }
    let whole = bytes.len() as u64;
    for garbage in [0, whole - 1, whole + 1, u64::MAX] {
        assert!(matches!(with(SIZE, &garbage.to_le_bytes()), Err(Error::WrongSize { .. })), "{garbage}");
    }
}
