//! Regions in memory that the user has mapped: plain files through memmap2, segments of the crate `shared_memory`.

mod common;

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use common::{Child, Name, Parent, fork, now_ns, prompt, roles};
use memmap2::MmapRaw;
use shmkit::{Error, LockError, Mutex, Region, RegionOptions};

#[cfg(not(feature = "shared_memory"))]
roles!(owner, racer, maker);
#[cfg(feature = "shared_memory")]
use segments::segment_owner;
#[cfg(feature = "shared_memory")]
roles!(owner, racer, maker, segment_owner);

/// Bytes of a file.
const SIZE: u64 = 1 << 16;

/// A file on a disk, removed when dropped.
struct Plain(String);

impl Plain {
    fn new() -> Self {
        let plain = Self(format!("{}/{}", env!("CARGO_TARGET_TMPDIR"), &*Name::new()));
        File::create_new(&plain.0).and_then(|file| file.set_len(SIZE)).expect("a new file");
        plain
    }

    fn open(path: &str) -> File {
        File::options().read(true).write(true).open(path).expect("the file")
    }

    /// The region in it, of which `keep` is kept as long.
    fn region_with(path: &str, keep: impl Send + Sync + 'static) -> Result<Region, Error> {
        let file = Self::open(path);
        let map = MmapRaw::map_raw(&file).expect("a mapping");
        // SAFETY: a shared mapping of the whole file, kept by the region; nobody cuts the file or has references into it.
        unsafe { RegionOptions::new().participants(16).from_raw(map.as_mut_ptr(), map.len(), &file, (map, keep)) }
    }

    fn region(path: &str) -> Region {
        Self::region_with(path, ()).expect("a region")
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Locks and keeps the lock.
fn owner(parent: &mut Parent) {
    let region = Plain::region(parent.argument(0));
    let mutex = region.get::<Mutex<u64>>("mutex").expect("the mutex");
    let mut guard = mutex.lock().expect("a free mutex");
    *guard = 7;
    parent.say("locked");
    common::sleep_for_ever()
}

#[test]
fn the_lock_of_a_dead_owner_in_a_plain_file_goes_to_the_next() {
    let plain = Plain::new();
    let region = Plain::region(&plain.0);
    let mutex = region.insert("mutex", Mutex::new(0u64)).expect("room");
    let mut owner = Child::spawn("owner", &[&plain.0]);
    owner.expect("locked");
    assert!(matches!(mutex.try_lock(), Err(LockError::WouldBlock)));

    let start = owner.kill();
    let locked = mutex.lock();

    assert!(now_ns() - start < prompt().as_nanos() as u64);
    assert!(matches!(locked, Err(LockError::Poisoned { guard, .. }) if *guard == 7));
    assert_eq!(region.rescues(), 0);
}

/// Makes or opens the region together with others.
fn racer(parent: &mut Parent) {
    parent.say("ready");
    parent.expect("go");
    let region = Plain::region(parent.argument(0));
    region.get_or_insert_with("count", || AtomicU64::new(0)).expect("the count").fetch_add(1, Relaxed);
    parent.say(region.id());
    parent.expect("end");
}

#[test]
fn all_who_make_a_region_in_one_file_at_once_get_the_same_one() {
    for _ in 0..10 {
        let plain = Plain::new();
        let mut racers: [Child; 4] = std::array::from_fn(|_| Child::spawn("racer", &[&plain.0]));
        racers.iter_mut().for_each(|racer| racer.expect("ready"));
        racers.iter_mut().for_each(|racer| racer.tell("go"));

        let ids: Vec<_> = racers.iter_mut().map(Child::hear).collect();

        let region = Plain::region(&plain.0);
        assert!(ids.iter().all(|id| *id == region.id().to_string()), "{ids:?}");
        assert_eq!(region.get::<AtomicU64>("count").expect("the count").load(Relaxed), 4);
        racers.iter_mut().for_each(|racer| racer.tell("end"));
    }
}

/// Makes the region and says so.
fn maker(parent: &mut Parent) {
    let region = Plain::region(parent.argument(0));
    region.insert("made", AtomicU64::new(5)).expect("room");
    parent.say("made");
}

#[test]
fn what_is_in_a_file_outlives_all_its_users() {
    let plain = Plain::new();
    let mut maker = Child::spawn("maker", &[&plain.0]);
    maker.expect("made");
    maker.finish();

    let made = Plain::region(&plain.0).get::<AtomicU64>("made").expect("what was made");

    assert_eq!(made.load(Relaxed), 5);
}

#[test]
fn a_file_with_something_else_in_it_is_refused_and_stays_as_it_is() {
    let plain = Plain::new();
    Plain::open(&plain.0).write_all_at(b"somebody's text", 0).expect("written");

    let refused = Plain::region_with(&plain.0, ());

    assert!(matches!(refused, Err(Error::NotARegion { .. })), "{refused:?}");
    assert!(fs::read(&plain.0).expect("the file").starts_with(b"somebody's text\0"));
}

#[test]
fn a_file_of_data_that_begin_with_zeroes_is_refused_and_stays_as_it_is() {
    let plain = Plain::new();
    Plain::open(&plain.0).write_all_at(b"data", 8).expect("written");

    let refused = Plain::region_with(&plain.0, ());

    assert!(matches!(refused, Err(Error::NotARegion { .. })), "{refused:?}");
    assert!(fs::read(&plain.0).expect("the file").starts_with(b"\0\0\0\0\0\0\0\0data\0"));
}

#[test]
fn what_keeps_refused_memory_alive_is_dropped_with_nothing_locked() {
    let plain = Plain::new();
    Plain::open(&plain.0).write_all_at(b"somebody's text", 0).expect("written");
    let other = Region::anonymous(4096).expect("a region");

    // Its last handle: to drop it takes the lock that a region is opened with.
    let refused = Plain::region_with(&plain.0, other);

    assert!(matches!(refused, Err(Error::NotARegion { .. })), "{refused:?}");
}

#[test]
fn a_region_is_refused_with_another_length_than_it_has() {
    let plain = Plain::new();
    drop(Plain::region(&plain.0));
    Plain::open(&plain.0).set_len(2 * SIZE).expect("a longer file");

    let refused = Plain::region_with(&plain.0, ());

    assert!(matches!(refused, Err(Error::WrongSize { expected: SIZE, found }) if found == 2 * SIZE), "{refused:?}");
}

#[test]
fn memory_beyond_the_end_of_the_file_and_too_little_memory_are_refused() {
    let plain = Plain::new();
    let file = Plain::open(&plain.0);
    let map = Arc::new(MmapRaw::map_raw(&file).expect("a mapping"));
    file.set_len(SIZE / 2).expect("a shorter file");
    let region = |len| {
        // SAFETY: mapped as long as `map` lives; the test is that what is not there is not touched.
        unsafe { RegionOptions::new().from_raw(map.as_mut_ptr(), len, &file, Arc::clone(&map)) }
    };

    let too_long = region(SIZE as usize);
    let too_little = region(4096);

    assert!(matches!(too_long, Err(Error::WrongSize { expected: SIZE, .. })), "{too_long:?}");
    assert!(matches!(too_little, Err(Error::WrongSize { found: 4096, .. })), "{too_little:?}");
    assert_eq!(Arc::strong_count(&map), 1);
}

#[test]
fn memory_that_does_not_begin_on_a_page_is_refused() {
    let plain = Plain::new();
    let file = Plain::open(&plain.0);
    let map = MmapRaw::map_raw(&file).expect("a mapping");

    // SAFETY: never touched.
    let refused = unsafe { Region::from_raw(map.as_mut_ptr().add(8), map.len() - 8, &file, ()) };

    assert!(matches!(refused, Err(Error::NotARegion { .. })), "{refused:?}");
}

#[test]
fn what_keeps_the_memory_alive_is_dropped_with_the_last_handle() {
    let plain = Plain::new();
    let kept = Arc::new(());

    let region = Plain::region_with(&plain.0, Arc::clone(&kept)).expect("a region");
    let count = region.insert("count", AtomicU64::new(1)).expect("room");
    drop(region);

    assert_eq!(Arc::strong_count(&kept), 2);
    assert_eq!(count.load(Relaxed), 1);
    drop(count);
    assert_eq!(Arc::strong_count(&kept), 1);
}

#[test]
fn a_region_that_is_open_already_is_the_same_one() {
    let plain = Plain::new();
    let region = Plain::region(&plain.0);
    let kept = Arc::new(());

    let again = Plain::region_with(&plain.0, Arc::clone(&kept)).expect("the region");

    assert_eq!(again.id(), region.id());
    assert_eq!(again.participants().len(), 1);
    assert_eq!(Arc::strong_count(&kept), 1);
}

/// Removes a file when dropped, as a segment does with its name.
struct Remover(String);

impl Drop for Remover {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[test]
fn a_forked_child_does_not_drop_what_its_parent_keeps() {
    let plain = Plain::new();
    let region = Plain::region_with(&plain.0, Remover(plain.0.clone())).expect("a region");

    let mut region = Some(region);
    let child = fork(|| {
        let region = region.take().expect("inherited");
        region.insert("child", AtomicU64::new(1)).expect("room");
        drop(region);
    });
    assert_eq!(child.reap(), 0);

    assert!(fs::exists(&plain.0).expect("a look"));
    drop(region);
    assert!(!fs::exists(&plain.0).expect("a look"));
}

#[cfg(feature = "shared_memory")]
mod segments {
    use super::*;
    use shared_memory::ShmemConf;

    pub(super) fn segment_owner(parent: &mut Parent) {
        let segment = ShmemConf::new().os_id(parent.argument(0)).open().expect("the segment");
        let region = Region::from_shared_memory(segment).expect("its region");
        let mutex = region.get::<Mutex<u64>>("mutex").expect("the mutex");
        std::mem::forget(mutex.lock().expect("a free mutex"));
        parent.say("locked");
        common::sleep_for_ever()
    }

    #[test]
    fn a_region_in_a_segment_is_shared_and_goes_with_its_owner() {
        let name = Name::new();
        let segment = ShmemConf::new().os_id(&*name).size(100_000).create().expect("a segment");
        let region = RegionOptions::new().participants(16).from_shared_memory(segment).expect("a region");
        let mutex = region.insert("mutex", Mutex::new(0u64)).expect("room");
        let mut owner = Child::spawn("segment_owner", &[&name]);
        owner.expect("locked");
        owner.kill();

        assert!(matches!(mutex.lock(), Err(LockError::Poisoned { .. })));
        drop(mutex);
        drop(region);
        assert!(!name.exists());
    }

    #[test]
    fn a_segment_whose_name_is_another_files_by_now_is_refused() {
        let name = Name::new();
        let segment = ShmemConf::new().os_id(&*name).size(100_000).create().expect("a segment");
        fs::remove_file(name.path()).expect("removed");
        File::create_new(name.path()).and_then(|file| file.set_len(100_000)).expect("another file");

        let refused = Region::from_shared_memory(segment);

        assert!(matches!(refused, Err(Error::NotFound)), "{refused:?}");
    }
}
