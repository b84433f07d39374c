//! Reading and writing under a lock for readers and writers.

use std::hint::black_box;
use std::io;
use std::sync::RwLock as StdRwLock;

use shmkit::RwLock;

use crate::figure::{Comparison, SUBJECT};
use crate::floor::{PRIVATE_LINES, PrivateLines, TWO_RMWS, two_rmws};
use crate::ours::InRegion;
use crate::peers::rwlock::{self, PTHREAD, Pthread, STD};
#[cfg(feature = "peers")]
use crate::peers::{boost, parking_lot, raw_sync};
use crate::shared::Line;
use crate::solo::{Solo, Turns};
use crate::team::{Cpus, Entry, Game, Measure, Place, Play, Seat};

/// The name of ours where each process reads under a lock of its own.
const APART: &str = "shmkit, a lock for each";
/// The name of ours where the lock is asymmetric, and each process reads by a handle.
const BY_HANDLES: &str = "shmkit, by handles";

/// Read and unlock.
pub const READ: Solo = Solo {
    name: "rwlock/read",
    what: "rwlock, read+unlock, uncontended",
    conditions: "std in private memory, all others in shared memory",
    candidates: read,
    rows: &[
        Comparison::at_most(STD, 0.6),
        Comparison::listed(PTHREAD),
        Comparison::listed(PRIVATE_LINES),
        Comparison::listed(TWO_RMWS),
        #[cfg(feature = "peers")]
        Comparison::listed(raw_sync::NAME),
        #[cfg(feature = "peers")]
        Comparison::listed(parking_lot::NAME),
        #[cfg(feature = "peers")]
        Comparison::listed(boost::SHARABLE),
    ],
};

/// Write and unlock.
pub const WRITE: Solo = Solo {
    name: "rwlock/write",
    what: "rwlock, write+unlock, uncontended",
    conditions: "std in private memory, all others in shared memory",
    candidates: write,
    rows: &[Comparison::listed(STD), Comparison::listed(PTHREAD), Comparison::listed(TWO_RMWS)],
};

/// Two processes that read at the same time.
pub const READ_SIDE_BY_SIDE: Game = Game {
    name: "rwlock/read/two_cpus",
    what: "rwlock, reads side by side",
    conditions: "read+unlock again and again; a CAS and a store is what the control does to a line of each process; \
                 std in shared memory, where nobody writes",
    members: 2,
    cpus: Cpus::Two,
    measure: Measure::EachRate,
    entries: &[
        Entry::of::<PrivateLines>(PRIVATE_LINES),
        Entry::of::<Ours>(SUBJECT),
        Entry::of::<Apart>(APART),
        Entry::of::<ByHandles>(BY_HANDLES),
        Entry::of::<rwlock::Std>(STD),
        Entry::of::<Pthread>(PTHREAD),
        #[cfg(feature = "peers")]
        Entry::of::<raw_sync::ReadLock>(raw_sync::NAME),
    ],
    rows: &[
        Comparison::at_least(PRIVATE_LINES, 0.95),
        Comparison::listed(APART),
        Comparison::listed(BY_HANDLES),
        Comparison::listed(STD),
        Comparison::listed(PTHREAD),
        #[cfg(feature = "peers")]
        Comparison::listed(raw_sync::NAME),
    ],
};

fn read() -> io::Result<Vec<Turns>> {
    let ours = Ours::create(1)?;
    let private = Line(StdRwLock::new(0));
    let pthread = Pthread::create(1)?;
    let line = PrivateLines::create(1)?;
    #[cfg(feature = "peers")]
    let peer = raw_sync::ReadLock::create(1)?;
    let candidates = [
        two_rmws()?,
        Turns::new(SUBJECT, move || ours.read(0)),
        Turns::new(STD, move || rwlock::read_std(&private.0)),
        Turns::new(PTHREAD, move || pthread.read()),
        Turns::new(PRIVATE_LINES, move || line.take_and_give(0)),
        #[cfg(feature = "peers")]
        Turns::new(raw_sync::NAME, move || peer.read()),
        #[cfg(feature = "peers")]
        parking_lot::read(),
    ];
    let candidates = candidates.into_iter();
    #[cfg(feature = "peers")]
    let candidates = candidates.chain(boost::turns(boost::SHARABLE)?);
    Ok(candidates.collect())
}

fn write() -> io::Result<Vec<Turns>> {
    let ours = Ours::create(1)?;
    let private = Line(StdRwLock::new(0));
    let pthread = Pthread::create(1)?;
    let candidates = [
        two_rmws()?,
        Turns::new(SUBJECT, move || ours.write()),
        Turns::new(STD, move || rwlock::write_std(&private.0)),
        Turns::new(PTHREAD, move || pthread.write()),
    ];
    Ok(candidates.into())
}

/// As many locks as members, who all use the first one.
struct Ours(InRegion<RwLock<u64>>);

impl Ours {
    #[inline(always)]
    fn read(&self, lock: usize) {
        let guard = self.0[lock].read().expect("nobody dies while writing");
        black_box(&*guard);
    }

    #[inline(always)]
    fn write(&self) {
        let mut guard = self.0[0].write().expect("nobody dies while writing");
        *guard += 1;
    }
}

impl Place for Ours {
    fn create(members: usize) -> io::Result<Self> {
        InRegion::create(members, || RwLock::new(0)).map(Ours)
    }

    fn address(&self) -> String {
        self.0.address()
    }

    fn attach(address: &str) -> io::Result<Self> {
        InRegion::attach(address).map(Ours)
    }
}

impl Play for Ours {
    fn play(&self, _: Seat, turns: u64) {
        for _ in 0..turns {
            self.read(0);
        }
    }
}

/// The same, each with its own.
struct Apart(Ours);

impl Place for Apart {
    fn create(members: usize) -> io::Result<Self> {
        Ours::create(members).map(Apart)
    }

    fn address(&self) -> String {
        self.0.address()
    }

    fn attach(address: &str) -> io::Result<Self> {
        Ours::attach(address).map(Apart)
    }
}

impl Play for Apart {
    fn play(&self, seat: Seat, turns: u64) {
        for _ in 0..turns {
            self.0.read(seat.member);
        }
    }
}

/// One lock, read by handles.
struct ByHandles(InRegion<RwLock<u64>>);

impl Place for ByHandles {
    fn create(_: usize) -> io::Result<Self> {
        InRegion::create(1, || RwLock::new(0).asymmetric()).map(ByHandles)
    }

    fn address(&self) -> String {
        self.0.address()
    }

    fn attach(address: &str) -> io::Result<Self> {
        InRegion::attach(address).map(ByHandles)
    }
}

impl Play for ByHandles {
    fn play(&self, _: Seat, turns: u64) {
        let mut handle = self.0[0].reader().expect("a member takes part");
        for _ in 0..turns {
            let guard = handle.read().expect("nobody dies while writing");
            black_box(&*guard);
        }
    }
}
