//! Waiting for permits among other things.

use core::sync::atomic::Ordering::{Acquire, Relaxed};

use shmkit_core::wait::{Armed, FutexWord, Source, wake_one};
use shmkit_core::{Error, Retries, crash_point};

use super::{MANY, Semaphore, VALUE, WAITING};

/// Permits as one of several things that [`wait_any`](shmkit_core::wait_any) waits for. Made by [`Semaphore::until_available`].
#[derive(Debug)]
pub struct UntilAvailable<'a> {
    semaphore: &'a Semaphore,
    n: u32,
}

impl Semaphore {
    /// `n` permits as something to [wait for among others](shmkit_core::wait_any): ready when there are as many. Whoever wants them takes them by
    /// [`try_acquire_many`](Self::try_acquire_many).
    pub fn until_available(&self, n: u32) -> UntilAvailable<'_> {
        UntilAvailable { semaphore: self, n }
    }
}

impl UntilAvailable<'_> {
    /// The flag that asks for a wake-up.
    fn flag(&self) -> u32 {
        if self.n == 1 { WAITING } else { MANY }
    }
}

impl Source for UntilAvailable<'_> {
    fn word(&self) -> &dyn FutexWord {
        if self.n == 1 { &self.semaphore.state } else { &self.semaphore.changes }
    }

    fn is_ready(&mut self) -> bool {
        self.semaphore.available() >= self.n
    }

    fn arm(&mut self) -> Result<Armed, Error> {
        // As in `wait_for_many`: before the flag, and Acquire pairs with the Release in `wake`.
        let changes = self.semaphore.changes.load(Acquire);
        let mut state = self.semaphore.state.load(Relaxed);
        let mut retries = Retries::new();
        // With a permit there, nobody has to be asked: see below.
        while state & self.flag() == 0 && (self.n != 1 || state & VALUE == 0) {
            match self.semaphore.state.compare_exchange_weak(state, state | self.flag(), Relaxed, Relaxed) {
                Ok(_) => {
                    crash_point!("semaphore.arm.after_flag");
                    state |= self.flag();
                }
                Err(now) => {
                    retries.again().ok_or(Error::Corrupted { what: "semaphore", found: u64::from(now) })?;
                    state = now;
                }
            }
        }
        // Never asleep beside a permit: one that was there a moment ago, and is again, wakes nobody. Nor without the flag.
        Ok(Armed::at(if self.n == 1 { state & !VALUE | WAITING } else { changes }))
    }

    fn disarm(&mut self, may_be_woken: bool) {
        if !may_be_woken || self.n != 1 {
            // All who want many were woken.
            return;
        }
        // The release that cleared WAITING may have woken this thread in the place of another.
        let state = self.semaphore.state.fetch_or(WAITING, Relaxed);
        crash_point!("semaphore.disarm.after_waiting");
        if state & VALUE > 0 {
            // Released while no flag was set, and the thread need not take it.
            wake_one(&self.semaphore.state);
            crash_point!("semaphore.disarm.after_wake");
        }
    }
}
