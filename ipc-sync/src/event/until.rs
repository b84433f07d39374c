//! Waiting for an event among other things.

use core::sync::atomic::Ordering::{Acquire, Relaxed};

use shmkit_core::wait::{Armed, FutexWord, Source, wake_one};
use shmkit_core::{Error, Retries, crash_point};

use super::{AUTO_RESET, Event, SET, WAITING, generation_of};

/// An [`Event`] as one of several things that [`wait_any`](shmkit_core::wait_any) waits for. Made by [`Event::until_set`].
#[derive(Debug)]
pub struct UntilSet<'a> {
    event: &'a Event,
    /// The generation that it had when this was made.
    found: u64,
}

impl Event {
    /// The event as something to [wait for among others](shmkit_core::wait_any).
    ///
    /// With manual reset it is ready when the event is set, or has been set since the call: also one that was reset at once is noticed. With automatic
    /// reset it is ready while the event is set, and whoever wants the set takes it by [`try_wait`](Self::try_wait).
    ///
    /// # Examples
    ///
    /// ```
    /// use shmkit_core::{Deadline, wait_any};
    /// use shmkit_sync::{Event, Semaphore};
    /// use std::time::Duration;
    ///
    /// let (stop, jobs) = (Event::new(), Semaphore::new(3)?);
    /// let mut done = 0;
    /// loop {
    ///     match wait_any(&mut [&mut stop.until_set(), &mut jobs.until_available(1)], None)? {
    ///         Some(0) => break,
    ///         _ if jobs.try_acquire() => done += 1,
    ///         _ => {} // Another one was faster.
    ///     }
    ///     if done == 3 {
    ///         stop.set();
    ///     }
    /// }
    /// assert_eq!(jobs.available(), 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn until_set(&self) -> UntilSet<'_> {
        UntilSet { event: self, found: generation_of(self.word.load(Relaxed)) }
    }
}

impl Source for UntilSet<'_> {
    fn word(&self) -> &dyn FutexWord {
        &self.event.word
    }

    fn is_ready(&mut self) -> bool {
        // Acquire pairs with the Release in `set`.
        let word = self.event.word.load(Acquire);
        word & SET != 0 || word & AUTO_RESET == 0 && generation_of(word) != self.found
    }

    fn arm(&mut self) -> Result<Armed, Error> {
        let mut word = self.event.word.load(Relaxed);
        let mut retries = Retries::new();
        while word & (SET | WAITING) == 0 {
            match self.event.word.compare_exchange_weak(word, word | WAITING, Relaxed, Relaxed) {
                Ok(_) => {
                    crash_point!("event.arm.after_waiting");
                    word |= WAITING;
                }
                Err(now) => {
                    retries.again().ok_or(Error::Corrupted { what: "event", found: now })?;
                    word = now;
                }
            }
        }
        Ok(Armed::at(word as u32))
    }

    fn disarm(&mut self, may_be_woken: bool) {
        if !may_be_woken || !self.event.is_auto_reset() {
            // All were woken, or others still are to be.
            return;
        }
        // The set that took WAITING away from the others may have woken this thread alone.
        let word = self.event.word.fetch_or(WAITING, Relaxed);
        crash_point!("event.disarm.after_waiting");
        if word & SET != 0 {
            // Nobody has taken that set yet, and the thread need not.
            wake_one(&self.event.word);
            crash_point!("event.disarm.after_wake");
        }
    }
}
