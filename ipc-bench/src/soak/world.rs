//! What lies in the region of the soak.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use shmkit::process::{MapError, SharedMap, SharedVec, VecError};
use shmkit::{
    Array, Barrier, Condvar, Event, Mutex, OnceLock, Permits, Queue, QueueOptions, ReentrantMutex, Region,
    RegionOptions, RwLock, Semaphore, SharedArray, Shm, ShmSafe, Snapshot,
};

use super::lines::{LINES, Log};
use super::stores::{self, Journal, Value};

/// The most workers.
pub const MAX_WORKERS: usize = 32;

/// How many words of bits there are for what each worker has sent.
pub const SEEN: usize = 1 << 14;

/// How many permits there are.
pub const PERMITS: u32 = 3;

/// How many meet at the barrier.
pub const PARTIES: u32 = 2;

/// What is counted per worker. Only the worker itself adds, and the dead's successor goes on.
#[repr(C)]
#[derive(Debug, ShmSafe)]
pub struct Tally {
    /// Acts that came to their end.
    pub acts: AtomicU64,
    /// When the present act began, on the monotonic clock in nanoseconds; 0: none.
    pub since: AtomicU64,
    /// The longest act so far, in nanoseconds.
    pub longest: AtomicU64,
    /// How often something was found that a death had left.
    pub recoveries: AtomicU64,
    /// Which act is the present one.
    pub act: AtomicU32,
    /// What the worker is about to do and to note, as a [`Sum`]; 0: nothing.
    pub intent: AtomicU32,
    /// What was done and noted, by [`Sum`].
    pub sums: Array<u64, SUMS>,
}

/// How many sums there are.
pub const SUMS: usize = 14;

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Sum {
    /// Releases of the semaphore.
    Released = 1,
    /// Acquisitions of the semaphore.
    Acquired,
    /// Sets of the auto-reset event.
    Set,
    /// Waits that a set ended.
    Taken,
    /// Additions to the array.
    Added,
    /// Waits at the barrier that came to their end.
    Passed,
    /// Those of them that were the leader.
    Led,
    /// Messages that were sent into the queue.
    Sent,
    /// Messages that were received from it.
    Received,
    /// Keys that came into the map, of those that belong to nobody.
    Inserted,
    /// Such keys that were taken out of it.
    Removed,
    /// Elements that were pushed.
    Pushed,
    /// Elements that were popped.
    Popped,
}

/// What all tell one another.
#[repr(C)]
#[derive(ShmSafe)]
pub struct Desk {
    /// Not 0: come to an end.
    pub over: AtomicU64,
    /// One for each worker.
    pub tallies: [Tally; MAX_WORKERS],
}

/// Everything that the workers use.
pub struct World {
    /// The region, for objects that are made during the soak.
    pub region: Region,
    /// The common state.
    pub desk: Shm<Desk>,
    /// A total, and what it consists of.
    pub books: Shm<Mutex<[u64; MAX_WORKERS + 1]>>,
    /// Two numbers that are equal whenever the lock is free.
    pub nested: Shm<ReentrantMutex<Array<u64, 2>>>,
    /// Numbers that are all equal whenever nobody writes; the second ones are also read by handles.
    pub plans: [Shm<RwLock<[u64; 8]>>; 2],
    /// What producers release and consumers acquire.
    pub goods: Shm<Semaphore>,
    /// Who may be inside.
    pub permits: Shm<Permits>,
    /// Who is inside, by permit.
    pub inside: Shm<Array<u64, 64>>,
    /// One set, one wait.
    pub bell: Shm<Event>,
    /// Set and reset at random.
    pub gate: Shm<Event>,
    /// How many items there are, were made and were taken.
    pub stock: Shm<Mutex<[u64; 3]>>,
    /// There is an item.
    pub stocked: Shm<Condvar>,
    /// Where two meet.
    pub barrier: Shm<Barrier>,
    /// A value that is never torn.
    pub news: Shm<Snapshot<[u64; 32]>>,
    /// What is known of the pipes.
    pub lines: Shm<[Log; LINES]>,
    /// A queue that everybody sends into and receives from.
    pub queue: Queue<[u64; 3]>,
    /// The last number that each worker was about to send.
    pub queued: SharedArray<u64>,
    /// A bit for each number that was received, by sender.
    pub seen: SharedArray<u64>,
    /// Numbers that everybody adds to.
    pub numbers: SharedArray<u64>,
    /// Entries of each worker, of all, and of nobody.
    pub map: SharedMap<u64, Value>,
    /// Elements of each worker, and of all.
    pub marks: SharedVec<Value>,
    /// Elements that come and go.
    pub pile: SharedVec<Value>,
    /// What each worker makes of them.
    pub journals: Shm<[Journal; MAX_WORKERS]>,
}

impl World {
    /// Makes it, with room for the objects that come up in `seconds`.
    ///
    /// # Errors
    /// Those of making the region.
    pub fn create(seconds: u64) -> shmkit::Result<Self> {
        let room =
            (1 << 20) + size_of::<u64>() * MAX_WORKERS * SEEN + seconds as usize * ONCES_PER_SECOND as usize * 512;
        let region = RegionOptions::new().participants(2 * MAX_WORKERS as u32).anonymous(room)?;
        let tally = || Tally {
            acts: AtomicU64::new(0),
            since: AtomicU64::new(0),
            longest: AtomicU64::new(0),
            recoveries: AtomicU64::new(0),
            act: AtomicU32::new(0),
            intent: AtomicU32::new(0),
            sums: Array::new([0; SUMS]),
        };
        region.insert("desk", Desk { over: AtomicU64::new(0), tallies: std::array::from_fn(|_| tally()) })?;
        region.insert("books", Mutex::new([0u64; MAX_WORKERS + 1]))?;
        region.insert("nested", ReentrantMutex::new(Array::new([0u64; 2])))?;
        region.insert("plan", RwLock::new([0u64; 8]))?;
        region.insert("asymmetric plan", RwLock::new([0u64; 8]).asymmetric())?;
        region.insert("goods", Semaphore::new(0).expect("0 is in range"))?;
        region.insert("permits", Permits::new(PERMITS).expect("the count is in range"))?;
        region.insert("inside", Array::<u64, 64>::new([0; 64]))?;
        region.insert("bell", Event::auto_reset())?;
        region.insert("gate", Event::new())?;
        region.insert("stock", Mutex::new([0u64; 3]))?;
        region.insert("stocked", Condvar::new())?;
        region.insert("barrier", Barrier::new(PARTIES).expect("the number is in range"))?;
        region.insert("news", Snapshot::new([0u64; 32]))?;
        region.insert_array::<u64>("numbers", 16)?;
        region.insert_array::<u64>("queued", MAX_WORKERS)?;
        region.insert_array::<u64>("seen", MAX_WORKERS * SEEN)?;
        QueueOptions::new().capacity(20).create_in::<[u64; 3]>(&region, "queue").map_err(io::Error::other)?;
        let failed = |error: MapError| io::Error::other(error);
        let map = SharedMap::<u64, Value>::create_in(&region, "map", stores::ENTRIES).map_err(failed)?;
        map.insert(&stores::SHARED, [0; MAX_WORKERS + 1]).map_err(failed)?;
        let failed = |error: VecError| io::Error::other(error);
        let marks = SharedVec::create_in(&region, "marks", stores::MARKS).map_err(failed)?;
        stores::make_marks(&marks).map_err(failed)?;
        SharedVec::<Value>::create_in(&region, "pile", stores::PILE).map_err(failed)?;
        region.insert("journals", std::array::from_fn::<_, MAX_WORKERS, _>(|_| Journal::default()))?;
        region.insert("lines", std::array::from_fn::<_, LINES, _>(|_| Log::new()))?;
        Self::of(region)
    }

    /// Opens it through the descriptor that a worker was given.
    ///
    /// # Errors
    /// Those of opening the region.
    pub fn open(file: OwnedFd) -> shmkit::Result<Self> {
        Self::of(Region::from_fd(file)?)
    }

    fn of(region: Region) -> shmkit::Result<Self> {
        Ok(Self {
            desk: region.get("desk")?,
            books: region.get("books")?,
            nested: region.get("nested")?,
            plans: [region.get("plan")?, region.get("asymmetric plan")?],
            goods: region.get("goods")?,
            permits: region.get("permits")?,
            inside: region.get("inside")?,
            bell: region.get("bell")?,
            gate: region.get("gate")?,
            stock: region.get("stock")?,
            stocked: region.get("stocked")?,
            barrier: region.get("barrier")?,
            news: region.get("news")?,
            numbers: region.get_array("numbers", 16)?,
            lines: region.get("lines")?,
            queue: Queue::open_in(&region, "queue").map_err(io::Error::other)?,
            queued: region.get_array("queued", MAX_WORKERS)?,
            seen: region.get_array("seen", MAX_WORKERS * SEEN)?,
            map: SharedMap::open_in(&region, "map").map_err(io::Error::other)?,
            marks: SharedVec::open_in(&region, "marks").map_err(io::Error::other)?,
            pile: SharedVec::open_in(&region, "pile").map_err(io::Error::other)?,
            journals: region.get("journals")?,
            region,
        })
    }

    /// The value that is initialised once in this part of a second, made if it is not there yet.
    ///
    /// # Errors
    /// Those of the directory.
    pub fn once(&self, number: u64) -> shmkit::Result<Shm<OnceLock<u64>>> {
        self.region.get_or_insert_with(&format!("once-{number}"), OnceLock::new)
    }

    /// A sum over all workers.
    pub fn sum(&self, sum: Sum) -> u64 {
        let of_one = |tally: &Tally| tally.sums.load(sum as usize, Relaxed).unwrap_or(0);
        self.desk.tallies.iter().map(of_one).sum()
    }

    /// The sum over all workers of what `word` picks.
    pub fn total(&self, word: impl Fn(&Tally) -> &AtomicU64) -> u64 {
        self.desk.tallies.iter().map(|tally| word(tally).load(Relaxed)).sum()
    }

    /// Whether the soak is over.
    pub fn is_over(&self) -> bool {
        self.desk.over.load(Relaxed) != 0
    }
}

/// How many values are initialised per second.
pub const ONCES_PER_SECOND: u64 = 20;
