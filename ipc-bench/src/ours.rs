//! Our own primitives, in an anonymous region.

use std::fs::OpenOptions;
use std::io;
use std::ops::Index;
use std::os::fd::{AsFd, AsRawFd};
use std::process;
use std::time::Duration;

use shmkit::{LockError, Mutex, MutexGuard, Poison, Region, Shm, ShmSafe};

use crate::figure::SUBJECT;
use crate::lock::{LockUnderTest, RobustLock, SharedLock, Takeover, TimedLock};

/// What the directory takes for an object besides the object, about.
const RECORD: usize = 256;

/// Objects with the region that they lie in, each on cache lines of its own.
///
/// Making or attaching the first region of a process starts the keeper, which inherits the pin of the
/// calling thread.
pub struct InRegion<T: ShmSafe> {
    region: Region,
    objects: Vec<Shm<T>>,
}

impl<T: ShmSafe> InRegion<T> {
    /// Makes a region with `count` objects.
    ///
    /// # Errors
    /// Those of making the region.
    pub fn create(count: usize, make: impl Fn() -> T) -> io::Result<Self> {
        let region = Region::anonymous((size_of::<T>() + RECORD) * count).map_err(io::Error::other)?;
        let insert = |index: usize| region.insert(&index.to_string(), make()).map_err(io::Error::other);
        let objects = (0..count).map(insert).collect::<io::Result<_>>()?;
        Ok(InRegion { region, objects })
    }

    /// Returns where children of this process find the region, as long as `self` lives.
    pub fn address(&self) -> String {
        address_of(&self.region)
    }

    /// Attaches to the region at `address` of the parent.
    ///
    /// # Errors
    /// Those of opening the region.
    pub fn attach(address: &str) -> io::Result<Self> {
        let region = attach(address)?;
        let count = region.objects().map_err(io::Error::other)?.len();
        let get = |index: usize| region.get(&index.to_string()).map_err(io::Error::other);
        let objects = (0..count).map(get).collect::<io::Result<_>>()?;
        Ok(InRegion { region, objects })
    }

    /// Returns how many objects there are.
    pub fn count(&self) -> usize {
        self.objects.len()
    }

    /// Returns how many waits of this process were rescued by the safety net, so far.
    pub fn rescues(&self) -> u64 {
        u64::from(self.region.rescues())
    }
}

impl<T: ShmSafe> Index<usize> for InRegion<T> {
    type Output = T;

    #[inline]
    fn index(&self, index: usize) -> &T {
        &self.objects[index]
    }
}

/// Returns where children of this process find an anonymous region, as long as that is open here.
pub(crate) fn address_of(region: &Region) -> String {
    format!("/proc/{}/fd/{}", process::id(), region.as_fd().as_raw_fd())
}

/// Attaches to the anonymous region at `address` of the parent.
///
/// # Errors
/// Those of opening the region.
pub(crate) fn attach(address: &str) -> io::Result<Region> {
    let file = OpenOptions::new().read(true).write(true).open(address)?;
    Region::from_fd(file.into()).map_err(io::Error::other)
}

/// A [`Mutex`] in a region.
pub struct Ours(InRegion<Mutex<u64>>);

impl LockUnderTest for Ours {
    const NAME: &'static str = SUBJECT;

    type Guard<'a> = MutexGuard<'a, u64>;

    #[inline(always)]
    fn lock(&self) -> MutexGuard<'_, u64> {
        self.0[0].lock().expect("nobody dies or panics while holding it")
    }
}

impl SharedLock for Ours {
    const WAITING: &'static str = "spins briefly, then sleeps";

    fn create() -> io::Result<Self> {
        InRegion::create(1, || Mutex::new(0)).map(Ours)
    }

    fn address(&self) -> String {
        self.0.address()
    }

    fn attach(address: &str) -> io::Result<Self> {
        InRegion::attach(address).map(Ours)
    }
}

impl TimedLock for Ours {
    fn try_for(&self, at_most: Duration) -> io::Result<Option<MutexGuard<'_, u64>>> {
        let locked = if at_most.is_zero() { self.0[0].try_lock() } else { self.0[0].lock_timeout(at_most) };
        match locked {
            Ok(guard) => Ok(Some(guard)),
            Err(LockError::WouldBlock | LockError::TimedOut) => Ok(None),
            Err(error) => Err(io::Error::other(error.to_string())),
        }
    }
}

impl RobustLock for Ours {
    fn take_over(&self, stamp: impl FnOnce() -> u64) -> io::Result<Takeover> {
        let locked = self.0[0].lock();
        let stamp = stamp();
        match locked {
            Ok(_guard) => Ok(Takeover { stamp, owner_died: false }),
            Err(LockError::Poisoned { guard: _guard, cause: Poison::OwnerDied }) => {
                self.0[0].clear_poison();
                Ok(Takeover { stamp, owner_died: true })
            }
            Err(error) => Err(io::Error::other(error.to_string())),
        }
    }

    fn rescues(&self) -> Option<u64> {
        Some(self.0.rescues())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn value_is_the_same_through_an_attached_lock() {
        let lock = Ours::create().unwrap();
        *lock.lock() = 7;
        let attached = Ours::attach(&lock.address()).unwrap();
        assert_eq!(*attached.lock(), 7);
    }

    #[test]
    fn lock_of_a_living_owner_is_no_takeover() {
        let lock = Ours::create().unwrap();
        let takeover = lock.take_over(|| 1).unwrap();
        assert_eq!(takeover, Takeover { stamp: 1, owner_died: false });
    }
}
