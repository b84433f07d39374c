//! glibc's process-shared semaphore.
//!
//! Used as its manual says: `sem_init` with `pshared`, in memory that all share, then `sem_wait`, again when a signal has interrupted it, and
//! `sem_post`; with a deadline `sem_timedwait`, which counts by the clock of the day.

use std::cell::UnsafeCell;
use std::io;
use std::time::Duration;

use crate::baton::Baton;
use crate::cases::stopped::Stopping;
use crate::clock::realtime_after;
use crate::shared::{Line, SharedBox, SharedLayout};
use crate::team::{MOST, Place};

/// The name in results.
pub const NAME: &str = "sem_t";

#[repr(transparent)]
struct Semaphore(UnsafeCell<libc::sem_t>);

// SAFETY: a semaphore is made for any number of threads and, process-shared, of processes.
unsafe impl Sync for Semaphore {}
// SAFETY: the layout is that of the one libc of the machine; glibc's zeroed semaphore is one without
// permits, and `create` makes it anew before anyone else learns where it is.
unsafe impl SharedLayout for [Line<Semaphore>; MOST] {}

/// Semaphores, each on a line of its own.
pub struct Semaphores(SharedBox<[Line<Semaphore>; MOST]>);

impl Semaphores {
    /// Makes them with `value` permits each.
    ///
    /// # Errors
    /// Those of getting shared memory and of `sem_init`.
    pub fn with(value: u32) -> io::Result<Self> {
        let semaphores = SharedBox::<[Line<Semaphore>; MOST]>::create()?;
        for semaphore in semaphores.iter() {
            // SAFETY: in live memory and known to nobody else yet.
            if unsafe { libc::sem_init(semaphore.0.0.get(), 1, value) } != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(Semaphores(semaphores))
    }

    /// Adds a permit.
    #[inline]
    pub fn post(&self, index: usize) {
        // SAFETY: made by `with`, and alive as the mapping is.
        let result = unsafe { libc::sem_post(self.0[index].0.0.get()) };
        assert_eq!(result, 0, "as many posts as waits");
    }

    /// Takes a permit.
    #[inline]
    pub fn wait(&self, index: usize) {
        // SAFETY: as in `post`. It fails only when a signal has interrupted it.
        while unsafe { libc::sem_wait(self.0[index].0.0.get()) } != 0 {}
    }
}

impl Place for Semaphores {
    fn create(_: usize) -> io::Result<Self> {
        Self::with(0)
    }

    fn address(&self) -> String {
        self.0.address()
    }

    fn attach(address: &str) -> io::Result<Self> {
        SharedBox::attach(address).map(Semaphores)
    }
}

impl Baton for Semaphores {
    #[inline]
    fn give(&self, to: usize) {
        self.post(to);
    }

    #[inline]
    fn take(&self, own: usize) {
        self.wait(own);
    }
}

/// One semaphore with one permit, used as a lock.
pub struct OnePermit(Semaphores);

impl Place for OnePermit {
    fn create(_: usize) -> io::Result<Self> {
        Semaphores::with(1).map(OnePermit)
    }

    fn address(&self) -> String {
        self.0.address()
    }

    fn attach(address: &str) -> io::Result<Self> {
        Semaphores::attach(address).map(OnePermit)
    }
}

impl Stopping for OnePermit {
    fn section(&self, inside: &mut dyn FnMut()) {
        self.0.wait(0);
        inside();
        self.0.post(0);
    }

    fn try_for(&self, at_most: Duration) -> io::Result<bool> {
        let semaphore = self.0.0[0].0.0.get();
        // SAFETY: made by `with`, and alive as the mapping is; the deadline lives for the call.
        let result = unsafe {
            match at_most {
                Duration::ZERO => libc::sem_trywait(semaphore),
                _ => libc::sem_timedwait(semaphore, &realtime_after(at_most)),
            }
        };
        if result == 0 {
            self.0.post(0);
            return Ok(true);
        }
        match io::Error::last_os_error() {
            error if [Some(libc::EAGAIN), Some(libc::ETIMEDOUT)].contains(&error.raw_os_error()) => Ok(false),
            error => Err(error),
        }
    }
}
