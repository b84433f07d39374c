//! Our own mutex, in an anonymous region.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::process;

use shmkit::{LockError, Mutex, MutexGuard, Poison, Region, Shm};

use crate::figure::SUBJECT;
use crate::lock::{LockUnderTest, RobustLock, SharedLock, Takeover};

const OBJECT: &str = "lock";

/// A [`Mutex`] with the region that it lies in.
///
/// Making or attaching the first one of a process starts the keeper, which inherits the pin of the
/// calling thread.
pub struct Ours {
    region: Region,
    mutex: Shm<Mutex<u64>>,
}

impl LockUnderTest for Ours {
    const NAME: &'static str = SUBJECT;

    type Guard<'a> = MutexGuard<'a, u64>;

    #[inline]
    fn lock(&self) -> MutexGuard<'_, u64> {
        self.mutex.lock().expect("nobody dies or panics while holding it")
    }
}

impl SharedLock for Ours {
    const WAITING: &'static str = "spins briefly, then sleeps";

    fn create() -> io::Result<Self> {
        let region = Region::anonymous(size_of::<Mutex<u64>>() * 16).map_err(io::Error::other)?;
        let mutex = region.insert(OBJECT, Mutex::new(0)).map_err(io::Error::other)?;
        Ok(Ours { region, mutex })
    }

    fn address(&self) -> String {
        format!("/proc/{}/fd/{}", process::id(), self.region.as_fd().as_raw_fd())
    }

    fn attach(address: &str) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(address)?;
        let region = Region::from_fd(file.into()).map_err(io::Error::other)?;
        let mutex = region.get(OBJECT).map_err(io::Error::other)?;
        Ok(Ours { region, mutex })
    }
}

impl RobustLock for Ours {
    fn take_over(&self, stamp: impl FnOnce() -> u64) -> io::Result<Takeover> {
        let locked = self.mutex.lock();
        let stamp = stamp();
        match locked {
            Ok(_guard) => Ok(Takeover { stamp, owner_died: false }),
            Err(LockError::Poisoned { guard: _guard, cause: Poison::OwnerDied }) => {
                self.mutex.clear_poison();
                Ok(Takeover { stamp, owner_died: true })
            }
            Err(error) => Err(io::Error::other(error.to_string())),
        }
    }

    fn rescues(&self) -> Option<u64> {
        Some(u64::from(self.region.rescues()))
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
