//! Deaths that several processes wait for without knowing it: of the owner of a mutex, of a party to a
//! barrier, of a writer.
//!
//! Nobody clears the poison before all know, so each peer is told by its own `lock` or `read`. The measure is one waiter on a
//! robust pthread mutex, since nothing else of glibc tells anybody of a death.

use std::io;

use shmkit::{Barrier, BarrierError, LockError, LockResult, Mutex, RwLock, ShmSafe};

use crate::death::{Death, Entry, Mortal};
use crate::figure::Comparison;
use crate::lock::{LockUnderTest, RobustLock, SharedLock};
use crate::ours::InRegion;
use crate::pthread::Robust;
use crate::team::Place;

const ONE: &str = "shmkit, 1 peer";
const FOUR: &str = "shmkit, 4 peers";
const SIXTEEN: &str = "shmkit, 16 peers";
const SIXTY_FOUR: &str = "shmkit, 64 peers";

/// One waiter as half of several peers are: on the CPU of the victim.
const BESIDE: &str = "robust-pthread beside the victim";

const ROWS: &[Comparison] = &[
    within(ONE),
    within(FOUR),
    within(SIXTEEN),
    Comparison::listed(BESIDE).of(FOUR),
    Comparison::listed(BESIDE).of(SIXTEEN),
];

const fn within(ours: &'static str) -> Comparison {
    Comparison::at_most(Robust::NAME, 4.0).of(ours)
}

/// The owner of a mutex.
pub const MUTEX: Death =
    Death { name: "mutex/death", what: "owner of a mutex", entries: &many_more::<Ours<Mutex<u64>>>(), rows: ROWS };

/// A party to a barrier.
pub const BARRIER: Death =
    Death { name: "barrier/death", what: "party to a barrier", entries: &entries::<Ours<Barrier>>(), rows: ROWS };

/// A writer, while others wait to read.
pub const RWLOCK: Death =
    Death { name: "rwlock/death", what: "writer", entries: &entries::<Ours<RwLock<u64>>>(), rows: ROWS };

const fn entries<M: Mortal>() -> [Entry; 5] {
    [
        Entry::of::<Robustly>(Robust::NAME, 1),
        Entry::of::<Robustly>(BESIDE, 1).beside_the_victim(),
        Entry::of::<M>(ONE, 1),
        Entry::of::<M>(FOUR, 4),
        Entry::of::<M>(SIXTEEN, 16),
    ]
}

/// The same, and with so many peers that most wait for their turn on the CPUs.
const fn many_more<M: Mortal>() -> [Entry; 6] {
    let [robust, beside, one, four, sixteen] = entries::<M>();
    [robust, beside, one, four, sixteen, Entry::of::<M>(SIXTY_FOUR, 64)]
}

fn other(what: impl ToString) -> io::Error {
    io::Error::other(what.to_string())
}

struct Robustly(Robust);

impl Place for Robustly {
    fn create(_: usize) -> io::Result<Self> {
        Robust::create().map(Robustly)
    }

    fn address(&self) -> String {
        self.0.address()
    }

    fn attach(address: &str) -> io::Result<Self> {
        Robust::attach(address).map(Robustly)
    }
}

impl Mortal for Robustly {
    fn hold(&self) {
        std::mem::forget(self.0.lock());
    }

    fn learn(&self, stamp: impl FnOnce()) -> io::Result<()> {
        let takeover = self.0.take_over(|| {
            stamp();
            0
        })?;
        if takeover.owner_died { Ok(()) } else { Err(other("nobody has died")) }
    }

    fn mend(&self) -> io::Result<()> {
        Ok(())
    }
}

/// One of our own primitives, in a region.
struct Ours<T: Held>(InRegion<T>);

/// A primitive that a process can die with, and others learn of.
trait Held: ShmSafe + Sized + 'static {
    fn new(peers: usize) -> Self;

    /// Takes what is never given back.
    fn hold(&self);

    /// Waits, calls `stamp` at once, and says whether it learned of a death.
    fn learn(&self, stamp: impl FnOnce()) -> io::Result<bool>;

    /// Makes all as it was.
    fn mend(&self) -> io::Result<()>;
}

impl<T: Held> Place for Ours<T> {
    fn create(peers: usize) -> io::Result<Self> {
        InRegion::create(1, || T::new(peers)).map(Ours)
    }

    fn address(&self) -> String {
        self.0.address()
    }

    fn attach(address: &str) -> io::Result<Self> {
        InRegion::attach(address).map(Ours)
    }
}

impl<T: Held> Mortal for Ours<T> {
    fn hold(&self) {
        self.0[0].hold();
    }

    fn learn(&self, stamp: impl FnOnce()) -> io::Result<()> {
        if self.0[0].learn(stamp)? { Ok(()) } else { Err(other("nobody has died")) }
    }

    fn mend(&self) -> io::Result<()> {
        self.0[0].mend()
    }

    fn rescues(&self) -> u64 {
        self.0.rescues()
    }
}

/// Whether a lock tells that somebody died with it.
fn is_poisoned<G>(locked: LockResult<G>) -> io::Result<bool> {
    match locked {
        Err(LockError::Poisoned { .. }) => Ok(true),
        Ok(_) => Ok(false),
        Err(error) => Err(other(error)),
    }
}

impl Held for Mutex<u64> {
    fn new(_: usize) -> Self {
        Mutex::new(0)
    }

    fn hold(&self) {
        std::mem::forget(self.lock().expect("nobody else wants it yet"));
    }

    fn learn(&self, stamp: impl FnOnce()) -> io::Result<bool> {
        let locked = self.lock();
        stamp();
        is_poisoned(locked)
    }

    fn mend(&self) -> io::Result<()> {
        let _locked = self.lock();
        self.clear_poison();
        Ok(())
    }
}

impl Held for RwLock<u64> {
    fn new(_: usize) -> Self {
        RwLock::new(0)
    }

    fn hold(&self) {
        std::mem::forget(self.write().expect("nobody else wants it yet"));
    }

    fn learn(&self, stamp: impl FnOnce()) -> io::Result<bool> {
        let locked = self.read();
        stamp();
        is_poisoned(locked)
    }

    fn mend(&self) -> io::Result<()> {
        let _locked = self.write();
        self.clear_poison();
        Ok(())
    }
}

impl Held for Barrier {
    fn new(peers: usize) -> Self {
        Barrier::new(peers as u32 + 1).expect("so few parties")
    }

    fn hold(&self) {
        std::mem::forget(self.join().expect("a seat"));
    }

    fn learn(&self, stamp: impl FnOnce()) -> io::Result<bool> {
        let mut party = self.join().map_err(other)?;
        let round = party.wait();
        stamp();
        match round {
            Err(BarrierError::Broken) => Ok(true),
            Ok(_) => Ok(false),
            Err(error) => Err(other(error)),
        }
    }

    fn mend(&self) -> io::Result<()> {
        self.reset().map_err(other)
    }
}
