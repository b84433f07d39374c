//! Deaths that several processes wait for without knowing it: of the owner of a mutex, of a party to a
//! barrier, of a writer.
//!
//! Nobody clears the poison before all know, so each peer is told by its own `lock` or `read`. The measure is one waiter on a
//! robust pthread mutex, since nothing else of glibc tells anybody of a death.

use std::io;

use shmkit::{Barrier, BarrierError, LockError, Mutex, RwLock};

use crate::death::{Death, Entry, Mortal};
use crate::figure::Comparison;
use crate::lock::{LockUnderTest, RobustLock, SharedLock};
use crate::ours::InRegion;
use crate::pthread::Robust;
use crate::team::Place;

const ONE: &str = "shmkit, 1 peer";
const FOUR: &str = "shmkit, 4 peers";
const SIXTEEN: &str = "shmkit, 16 peers";

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
    Death { name: "mutex/death", what: "owner of a mutex", entries: &entries::<Owned>(), rows: ROWS };

/// A party to a barrier.
pub const BARRIER: Death =
    Death { name: "barrier/death", what: "party to a barrier", entries: &entries::<Joined>(), rows: ROWS };

/// A writer, while others wait to read.
pub const RWLOCK: Death = Death { name: "rwlock/death", what: "writer", entries: &entries::<Written>(), rows: ROWS };

const fn entries<M: Mortal>() -> [Entry; 5] {
    [
        Entry::of::<Robustly>(Robust::NAME, 1),
        Entry::of::<Robustly>(BESIDE, 1).beside_the_victim(),
        Entry::of::<M>(ONE, 1),
        Entry::of::<M>(FOUR, 4),
        Entry::of::<M>(SIXTEEN, 16),
    ]
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

struct Owned(InRegion<Mutex<u64>>);

impl Place for Owned {
    fn create(_: usize) -> io::Result<Self> {
        InRegion::create(1, || Mutex::new(0)).map(Owned)
    }

    fn address(&self) -> String {
        self.0.address()
    }

    fn attach(address: &str) -> io::Result<Self> {
        InRegion::attach(address).map(Owned)
    }
}

impl Mortal for Owned {
    fn hold(&self) {
        std::mem::forget(self.0[0].lock().expect("nobody else wants it yet"));
    }

    fn learn(&self, stamp: impl FnOnce()) -> io::Result<()> {
        let locked = self.0[0].lock();
        stamp();
        match locked {
            Err(LockError::Poisoned { .. }) => Ok(()),
            Ok(_) => Err(other("nobody has died")),
            Err(error) => Err(other(error)),
        }
    }

    fn mend(&self) -> io::Result<()> {
        let _locked = self.0[0].lock();
        self.0[0].clear_poison();
        Ok(())
    }

    fn rescues(&self) -> u64 {
        self.0.rescues()
    }
}

struct Written(InRegion<RwLock<u64>>);

impl Place for Written {
    fn create(_: usize) -> io::Result<Self> {
        InRegion::create(1, || RwLock::new(0)).map(Written)
    }

    fn address(&self) -> String {
        self.0.address()
    }

    fn attach(address: &str) -> io::Result<Self> {
        InRegion::attach(address).map(Written)
    }
}

impl Mortal for Written {
    fn hold(&self) {
        std::mem::forget(self.0[0].write().expect("nobody else wants it yet"));
    }

    fn learn(&self, stamp: impl FnOnce()) -> io::Result<()> {
        let locked = self.0[0].read();
        stamp();
        match locked {
            Err(LockError::Poisoned { .. }) => Ok(()),
            Ok(_) => Err(other("nobody has died")),
            Err(error) => Err(other(error)),
        }
    }

    fn mend(&self) -> io::Result<()> {
        let _locked = self.0[0].write();
        self.0[0].clear_poison();
        Ok(())
    }

    fn rescues(&self) -> u64 {
        self.0.rescues()
    }
}

struct Joined(InRegion<Barrier>);

impl Place for Joined {
    fn create(peers: usize) -> io::Result<Self> {
        InRegion::create(1, || Barrier::new(peers as u32 + 1).expect("so few parties")).map(Joined)
    }

    fn address(&self) -> String {
        self.0.address()
    }

    fn attach(address: &str) -> io::Result<Self> {
        InRegion::attach(address).map(Joined)
    }
}

impl Mortal for Joined {
    fn hold(&self) {
        std::mem::forget(self.0[0].join().expect("a seat"));
    }

    fn learn(&self, stamp: impl FnOnce()) -> io::Result<()> {
        let mut party = self.0[0].join().map_err(other)?;
        let round = party.wait();
        stamp();
        match round {
            Err(BarrierError::Broken) => Ok(()),
            Ok(_) => Err(other("nobody has died")),
            Err(error) => Err(other(error)),
        }
    }

    fn mend(&self) -> io::Result<()> {
        self.0[0].reset().map_err(other)
    }

    fn rescues(&self) -> u64 {
        self.0.rescues()
    }
}
