//! The region that most tests play in.

use std::fs;
use std::ops::Deref;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use shmkit::{Mutex, Region, RegionOptions, Shm};

/// A name for a region that nobody else uses; removed when dropped.
#[derive(Debug)]
pub(crate) struct Name(String);

impl Name {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        Self(format!("shmkit-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Relaxed)))
    }

    /// Where it is in the file system.
    pub(crate) fn path(&self) -> String {
        format!("/dev/shm/{}", self.0)
    }

    /// Whether there is something of this name.
    pub(crate) fn exists(&self) -> bool {
        fs::symlink_metadata(self.path()).is_ok()
    }
}

impl Deref for Name {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        // Most tests leave nothing to remove.
        let _ = fs::remove_file(self.path());
        let _ = fs::remove_dir(self.path());
    }
}

/// A region with a mutex and a board of numbers that all may read and write.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) region: Region,
    pub(crate) mutex: Shm<Mutex<[u64; 16]>>,
    pub(crate) board: Shm<[AtomicU64; 64]>,
    name: Option<Name>,
}

impl Stage {
    pub(crate) fn create() -> Self {
        Self::create_with(RegionOptions::new().participants(16))
    }

    pub(crate) fn create_with(options: &RegionOptions) -> Self {
        let name = Name::new();
        let region = options.create(&name, 1 << 16).expect("a region");
        Self::create_in(region, name)
    }

    /// Adds a mutex and a board to the region called `name`.
    pub(crate) fn create_in(region: Region, name: Name) -> Self {
        let mutex = region.insert("mutex", Mutex::new([0; 16])).expect("a mutex");
        let board = region.insert("board", std::array::from_fn(|_| AtomicU64::new(0))).expect("a board");
        Self { region, mutex, board, name: Some(name) }
    }

    pub(crate) fn open(name: &str) -> Self {
        let region = Region::open(name).expect("the region of the stage");
        let mutex = region.get("mutex").expect("its mutex");
        let board = region.get("board").expect("its board");
        Self { region, mutex, board, name: None }
    }

    /// Closes the region and keeps its name.
    pub(crate) fn leave(self) -> Name {
        self.name.expect("the one who created the stage")
    }

    pub(crate) fn name(&self) -> &Name {
        self.name.as_ref().expect("the one who created the stage")
    }

    /// The word of the mutex that holds the owner's token.
    pub(crate) fn lock_word(&self) -> &AtomicU64 {
        // SAFETY: a mutex begins with this atomic word.
        unsafe { &*std::ptr::from_ref(&*self.mutex).cast() }
    }

    /// Whether somebody sleeps until it has the mutex.
    pub(crate) fn has_sleeper(&self) -> bool {
        // SAFETY: this atomic word is the second one of the mutex.
        let sleepers: &AtomicU64 = unsafe { &*std::ptr::from_ref(&*self.mutex).cast::<AtomicU64>().add(1) };
        sleepers.load(Relaxed) & 1 != 0
    }

    /// The word of the mutex that says whether it is poisoned.
    pub(crate) fn poison_word(&self) -> &AtomicU32 {
        // SAFETY: this atomic word follows those of the lock, 16 bytes into the mutex.
        unsafe { &*std::ptr::from_ref(&*self.mutex).cast::<AtomicU32>().add(4) }
    }

    /// The process ids of those who take part, in the order of the table.
    pub(crate) fn pids(&self) -> Vec<u32> {
        self.region.participants().iter().map(|participant| participant.pid).collect()
    }
}
