//! Ours whose victim dies while it changes a value in place, or makes one, or waits behind somebody who does.

use std::cell::Cell;
use std::io;
use std::sync::{Arc, mpsc};
use std::thread;

use shmkit::process::{SharedMap, SharedVec};
use shmkit::{Mutex, OnceLock, Region};

use super::{other, park_for_ever};
use crate::killed::{Doomed, Ended};
use crate::ours::{InRegion, address_of, attach};
use crate::team::Place;

const NAME: &str = "object";
const KEY: u64 = 7;

/// Something of ours that lies in a region, and that one process at a time changes.
pub(super) trait Changed: Sized + 'static {
    /// Makes it under [`NAME`].
    fn create(region: &Region) -> io::Result<Self>;

    fn open(region: &Region) -> io::Result<Self>;

    /// Changes it, and does `inside` in the middle of that.
    fn change(&self, inside: &dyn Fn()) -> io::Result<()>;
}

/// The same with its region.
pub(super) struct Within<T: Changed>(T, Region);

impl<T: Changed> Place for Within<T> {
    fn create(_: usize) -> io::Result<Self> {
        let region = Region::anonymous(1 << 16).map_err(other)?;
        T::create(&region).map(|object| Within(object, region))
    }

    fn address(&self) -> String {
        address_of(&self.1)
    }

    fn attach(address: &str) -> io::Result<Self> {
        let region = attach(address)?;
        T::open(&region).map(|object| Within(object, region))
    }
}

impl<T: Changed> Doomed for Within<T> {
    fn fall(&self, here: &dyn Fn()) -> io::Result<()> {
        self.0.change(&|| {
            here();
            park_for_ever(());
        })
    }

    fn go_on(&self) -> io::Result<Ended> {
        self.0.change(&|| {})?;
        Ok(Ended::GoesOn)
    }
}

impl Changed for SharedMap<u64, u64> {
    fn create(region: &Region) -> io::Result<Self> {
        let map = SharedMap::create_in(region, NAME, 16).map_err(other)?;
        map.insert(&KEY, 0).map_err(other)?;
        Ok(map)
    }

    fn open(region: &Region) -> io::Result<Self> {
        SharedMap::open_in(region, NAME).map_err(other)
    }

    fn change(&self, inside: &dyn Fn()) -> io::Result<()> {
        let found = self.update(&KEY, |value| {
            inside();
            *value += 1;
        });
        found.map_err(other)?.ok_or_else(|| other("the key is gone"))
    }
}

impl Changed for SharedVec<u64> {
    fn create(region: &Region) -> io::Result<Self> {
        let vec = SharedVec::create_in(region, NAME, 16).map_err(other)?;
        vec.push(0).map_err(other)?;
        Ok(vec)
    }

    fn open(region: &Region) -> io::Result<Self> {
        SharedVec::open_in(region, NAME).map_err(other)
    }

    fn change(&self, inside: &dyn Fn()) -> io::Result<()> {
        let changed = self.update(0, |value| {
            inside();
            *value += 1;
        });
        changed.map_err(other)
    }
}

/// A value that its maker dies with.
pub(super) struct Made(InRegion<OnceLock<u64>>);

impl Place for Made {
    fn create(_: usize) -> io::Result<Self> {
        InRegion::create(1, OnceLock::new).map(Made)
    }

    fn address(&self) -> String {
        self.0.address()
    }

    fn attach(address: &str) -> io::Result<Self> {
        InRegion::attach(address).map(Made)
    }
}

impl Doomed for Made {
    fn fall(&self, here: &dyn Fn()) -> io::Result<()> {
        let made = self.0[0].get_or_init(|| {
            here();
            park_for_ever(());
            0
        });
        made.map(drop).map_err(other)
    }

    fn go_on(&self) -> io::Result<Ended> {
        match self.0[0].get_or_init(|| KEY).map_err(other)? {
            &KEY => Ok(Ended::GoesOn),
            _ => Err(other("a value of a dead")),
        }
    }
}

/// A lock that a thread of the survivor has; the victim is in front of those who wait for it.
pub(super) struct Behind {
    lock: Arc<InRegion<Mutex<u64>>>,
    /// Dropped when the thread shall give it up.
    hold: Cell<Option<mpsc::Sender<()>>>,
}

impl Behind {
    fn of(lock: InRegion<Mutex<u64>>) -> Self {
        Behind { lock: Arc::new(lock), hold: Cell::new(None) }
    }

    fn pass(&self) -> io::Result<()> {
        self.lock[0].lock().map(drop).map_err(other)
    }
}

impl Place for Behind {
    fn create(_: usize) -> io::Result<Self> {
        InRegion::create(1, || Mutex::new(0)).map(Behind::of)
    }

    fn address(&self) -> String {
        self.lock.address()
    }

    fn attach(address: &str) -> io::Result<Self> {
        InRegion::attach(address).map(Behind::of)
    }
}

impl Doomed for Behind {
    fn prepare(&self) -> io::Result<()> {
        let lock = Arc::clone(&self.lock);
        let (hold, held) = mpsc::channel();
        let (tell, told) = mpsc::channel();
        thread::spawn(move || {
            let guard = lock[0].lock().inspect(|_| {
                tell.send(()).ok();
            });
            // Ends with an error, when the other side is dropped.
            held.recv().ok();
            drop(guard);
        });
        self.hold.set(Some(hold));
        told.recv().map_err(other)
    }

    fn fall(&self, here: &dyn Fn()) -> io::Result<()> {
        here();
        self.pass()
    }

    fn go_on(&self) -> io::Result<Ended> {
        // Is gone in a moment, while this thread is on its way to sleep.
        drop(self.hold.take());
        self.pass()?;
        Ok(Ended::GoesOn)
    }
}
