//! Ours, and what their victims and survivors do.

use std::io;
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::thread;

use shmkit::{
    Barrier, BarrierError, Condvar, Event, LockError, Mutex, Permits, ReentrantMutex, RwLock, Semaphore, ShmSafe,
};

use super::other;
use crate::killed::{Doomed, Ended};
use crate::ours::InRegion;
use crate::team::Place;

/// One of our primitives, with something to hold.
pub(super) struct Ours<T: Held>(InRegion<T>);

/// What a process can hold.
pub(super) trait Held: ShmSafe + Sized + 'static {
    fn new() -> Self;

    /// Takes what is never given back.
    fn hold(&self) -> io::Result<()>;

    /// Waits for it, and mends what may be broken.
    fn recover(&self) -> io::Result<Ended>;
}

impl<T: Held> Place for Ours<T> {
    fn create(_: usize) -> io::Result<Self> {
        InRegion::create(1, T::new).map(Ours)
    }

    fn address(&self) -> String {
        self.0.address()
    }

    fn attach(address: &str) -> io::Result<Self> {
        InRegion::attach(address).map(Ours)
    }
}

impl<T: Held> Doomed for Ours<T> {
    fn fall(&self, here: &dyn Fn()) -> io::Result<()> {
        self.0[0].hold()?;
        here();
        Ok(())
    }

    fn go_on(&self) -> io::Result<Ended> {
        self.0[0].recover()
    }
}

/// What a lock gives whose owner was killed with it.
fn taken_over<G>(locked: Result<G, LockError<G>>, clear_poison: impl FnOnce()) -> io::Result<Ended> {
    match locked {
        Err(LockError::Poisoned { guard: _guard, .. }) => {
            clear_poison();
            Ok(Ended::GoesOn)
        }
        Ok(_) => Err(other("nobody has died")),
        Err(error) => Err(other(error)),
    }
}

impl Held for Mutex<u64> {
    fn new() -> Self {
        Mutex::new(0)
    }

    fn hold(&self) -> io::Result<()> {
        std::mem::forget(self.lock().map_err(other)?);
        Ok(())
    }

    fn recover(&self) -> io::Result<Ended> {
        taken_over(self.lock(), || self.clear_poison())
    }
}

impl Held for RwLock<u64> {
    fn new() -> Self {
        RwLock::new(0)
    }

    fn hold(&self) -> io::Result<()> {
        std::mem::forget(self.write().map_err(other)?);
        Ok(())
    }

    fn recover(&self) -> io::Result<Ended> {
        taken_over(self.write(), || self.clear_poison())
    }
}

impl Held for ReentrantMutex<AtomicU64> {
    fn new() -> Self {
        ReentrantMutex::new(AtomicU64::new(0))
    }

    fn hold(&self) -> io::Result<()> {
        std::mem::forget(self.lock().map_err(other)?);
        Ok(())
    }

    fn recover(&self) -> io::Result<Ended> {
        taken_over(self.lock(), || self.clear_poison())
    }
}

/// A lock that the victim reads under.
#[repr(transparent)]
#[derive(ShmSafe)]
pub(super) struct Read(RwLock<u64>);

impl Held for Read {
    fn new() -> Self {
        Read(RwLock::new(0))
    }

    fn hold(&self) -> io::Result<()> {
        std::mem::forget(self.0.read().map_err(other)?);
        Ok(())
    }

    fn recover(&self) -> io::Result<Ended> {
        // Who reads has changed nothing, so nothing is poisoned.
        drop(self.0.write().map_err(other)?);
        Ok(Ended::GoesOn)
    }
}

/// A lock that the victim reads under by a handle.
#[repr(transparent)]
#[derive(ShmSafe)]
pub(super) struct ReadByHandle(RwLock<u64>);

impl Held for ReadByHandle {
    fn new() -> Self {
        ReadByHandle(RwLock::new(0).asymmetric())
    }

    fn hold(&self) -> io::Result<()> {
        let mut handle = self.0.reader().map_err(other)?;
        if !handle.is_cheap() {
            return Err(other("a handle without a cell"));
        }
        std::mem::forget(handle.read().map_err(other)?);
        std::mem::forget(handle);
        Ok(())
    }

    fn recover(&self) -> io::Result<Ended> {
        drop(self.0.write().map_err(other)?);
        Ok(Ended::GoesOn)
    }
}

impl Held for Permits {
    fn new() -> Self {
        Permits::new(1).expect("so few")
    }

    fn hold(&self) -> io::Result<()> {
        std::mem::forget(self.acquire().map_err(other)?);
        Ok(())
    }

    fn recover(&self) -> io::Result<Ended> {
        drop(self.acquire().map_err(other)?);
        Ok(Ended::GoesOn)
    }
}

impl Held for Semaphore {
    fn new() -> Self {
        Semaphore::new(1).expect("so few")
    }

    fn hold(&self) -> io::Result<()> {
        self.acquire().map_err(other)
    }

    fn recover(&self) -> io::Result<Ended> {
        self.acquire().map_err(other)?;
        Ok(Ended::GoesOn)
    }
}

/// One of our primitives, which one waits for and the other gives: a waiter has died, and the next one must not be
/// forgotten for it.
pub(super) struct Waits<T: Awaited>(InRegion<T>);

/// What a process can wait for.
pub(super) trait Awaited: ShmSafe + Sized + Sync + 'static {
    fn new() -> Self;

    /// Waits until it is given.
    fn take(&self) -> io::Result<()>;

    /// Gives it to one.
    fn give(&self) -> io::Result<()>;
}

impl<T: Awaited> Place for Waits<T> {
    fn create(_: usize) -> io::Result<Self> {
        InRegion::create(1, T::new).map(Waits)
    }

    fn address(&self) -> String {
        self.0.address()
    }

    fn attach(address: &str) -> io::Result<Self> {
        InRegion::attach(address).map(Waits)
    }
}

impl<T: Awaited> Doomed for Waits<T> {
    fn fall(&self, here: &dyn Fn()) -> io::Result<()> {
        here();
        self.0[0].take()
    }

    fn go_on(&self) -> io::Result<Ended> {
        let object = &self.0[0];
        thread::scope(|scope| {
            let taken = scope.spawn(|| object.take());
            object.give()?;
            taken.join().map_err(|_| other("a panic"))?
        })?;
        Ok(Ended::GoesOn)
    }
}

impl Awaited for Semaphore {
    fn new() -> Self {
        Semaphore::new(0).expect("so few")
    }

    fn take(&self) -> io::Result<()> {
        self.acquire().map_err(other)
    }

    fn give(&self) -> io::Result<()> {
        self.release().map_err(other)
    }
}

impl Awaited for Event {
    fn new() -> Self {
        Event::auto_reset()
    }

    fn take(&self) -> io::Result<()> {
        self.wait().map_err(other)
    }

    fn give(&self) -> io::Result<()> {
        self.set();
        Ok(())
    }
}

/// A flag under a mutex, and a condition variable for those who wait until it is up.
#[repr(C)]
#[derive(ShmSafe)]
pub(super) struct Flag {
    is_up: Mutex<u32>,
    raised: Condvar,
    _reserved: AtomicU32,
}

impl Awaited for Flag {
    fn new() -> Self {
        Flag { is_up: Mutex::new(0), raised: Condvar::new(), _reserved: AtomicU32::new(0) }
    }

    fn take(&self) -> io::Result<()> {
        let is_up = self.is_up.lock().map_err(other)?;
        *self.raised.wait_while(is_up, |is_up| *is_up == 0).map_err(other)? = 0;
        Ok(())
    }

    fn give(&self) -> io::Result<()> {
        *self.is_up.lock().map_err(other)? = 1;
        self.raised.notify_one();
        Ok(())
    }
}

/// A barrier for three: victim and survivor wait for one that never comes.
pub(super) struct Parties(InRegion<Barrier>);

impl Place for Parties {
    fn create(_: usize) -> io::Result<Self> {
        InRegion::create(1, || Barrier::new(3).expect("so few")).map(Parties)
    }

    fn address(&self) -> String {
        self.0.address()
    }

    fn attach(address: &str) -> io::Result<Self> {
        InRegion::attach(address).map(Parties)
    }
}

impl Doomed for Parties {
    fn fall(&self, here: &dyn Fn()) -> io::Result<()> {
        let mut party = self.0[0].join().map_err(other)?;
        here();
        party.wait().map(drop).map_err(other)
    }

    fn go_on(&self) -> io::Result<Ended> {
        let mut party = self.0[0].join().map_err(other)?;
        match party.wait() {
            Err(error @ BarrierError::Broken) => Ok(Ended::Told(error.to_string())),
            Err(error) => Err(other(error)),
            Ok(_) => Err(other("a round of two out of three")),
        }
    }
}
