//! Those who sleep until somebody has done something: one word.
//!
//! ```text
//!  31                                     1     0
//! +----------------------------------------+--------+
//! | how often they have been told          | ASLEEP |
//! +----------------------------------------+--------+
//! ```
//!
//! | word | about to sleep | told of `k` changes | all are told | death of anybody |
//! |---|---|---|---|---|
//! | `n` | -> `n` ASLEEP, look, settle, look, sleep | - | -> `n + 1`, wake all | - |
//! | `n` ASLEEP | look, settle, look, sleep | -> `n + 1` ASLEEP, wake `k`; if there were fewer: -> `n + 2`, wake all | -> `n + 1` ASLEEP, wake all | all wake and look |
//!
//! ASLEEP must be set while anybody sleeps who is not just being woken; it may be set when nobody does. It is taken out only by one who has told
//! and found fewer asleep than there are changes, and who then wakes those who have come in between. So as long as anybody sleeps, every change
//! wakes one, and one who is woken owes nobody anything, unless it [leaves](Sleepers::tell) without having looked at what it was woken for.
//!
//! The number makes a sleep that was decided on before a change return at once.
//!
//! # Order
//!
//! Whoever has made a change looks at ASLEEP, by a plain load; whoever has set ASLEEP looks for changes. The first of these looks may come
//! before the change is seen, since there is no fence: it would cost as much as everything else together. The sleeper makes up for that by
//! time: until its mark has [settled](settling) it only [naps](nap), and looks again. `docs/MEMORY_MODEL.md` has the argument, in "A store without
//! a fence". In models there is a fence. It has to settle once for each number: while that stays the same, everybody sees the same ASLEEP.
//!
//! # A kill at each point
//!
//! Whatever a death swallows, a wake-up that was not sent or one that was not acted on, is made good by the death itself, which wakes all.
//!
//! # Garbage
//!
//! An ASLEEP too much costs a wake-up of nobody. One too few can cost a sleeper its wake-up; it goes on with the next one, or with the safety
//! net's look at deaths. Nothing else depends on the word.

use core::sync::atomic::Ordering::{AcqRel, Relaxed, SeqCst};
use core::sync::atomic::compiler_fence;

use shmkit_core::shim::{AtomicU32, fence, futex, store_load_barrier};
use shmkit_core::wait::{Site, nap, settling, wake_all};
use shmkit_core::{Deadline, Error, Retries, crash_point, identity};

use crate::ends::Ended;

/// Somebody may be asleep.
const ASLEEP: u32 = 1;

/// The word. See the module for who writes it when.
#[repr(transparent)]
#[derive(Debug)]
pub(super) struct Sleepers(AtomicU32);

impl Sleepers {
    pub(super) fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// Sets ASLEEP; returns what the word must be for a sleep. Look for changes after that.
    fn mark(&self) -> Result<u32, Error> {
        let mut word = self.0.load(Relaxed);
        let mut retries = Retries::new();
        // Acquire pairs with the Release in `wake`: the change is seen.
        while let Err(found) = self.0.compare_exchange(word, word | ASLEEP, AcqRel, Relaxed) {
            retries.again().ok_or(Error::Corrupted { what: "sleepers of a queue", found: found.into() })?;
            word = found;
        }
        fence(SeqCst);
        Ok(word | ASLEEP)
    }

    /// Wakes as many as there are changes, if anybody is asleep. The changes must have been made before, with Release.
    #[inline]
    pub(super) fn tell(&self, changes: u32) {
        compiler_fence(SeqCst);
        store_load_barrier();
        if self.0.load(Relaxed) & ASLEEP != 0 {
            self.wake(changes);
        }
    }

    #[cold]
    fn wake(&self, changes: u32) {
        crash_point!("queue.tell.before_change");
        // Release pairs with the Acquire in `mark`.
        let told = self.0.fetch_add(2, AcqRel).wrapping_add(2);
        crash_point!("queue.tell.before_wake");
        if futex::wake(&self.0, changes) < changes && told & ASLEEP != 0 {
            crash_point!("queue.tell.before_clear");
            // A failure means that another one has told them since, who goes on from here.
            let cleared = (told & !ASLEEP).wrapping_add(2);
            if self.0.compare_exchange(told, cleared, AcqRel, Relaxed).is_ok() {
                crash_point!("queue.tell.after_clear");
                wake_all(&self.0);
            }
        }
        crash_point!("queue.tell.after_wake");
    }

    /// Wakes all, whatever the word says.
    #[cold]
    pub(super) fn tell_all(&self) {
        // Release pairs with the Acquire in `mark`.
        self.0.fetch_add(2, AcqRel);
        crash_point!("queue.tell_all.before_wake");
        wake_all(&self.0);
        crash_point!("queue.tell_all.after_wake");
    }

    /// Attempts again after every change that they are told of, and after every death, until that gives something. `home` is what the word
    /// is part of.
    ///
    /// What comes along is to be [told](Awake::has_acted) when that has had its effect.
    pub(super) fn wait<R, H>(
        &self,
        home: &H,
        deadline: Option<Deadline>,
        mut attempt: impl FnMut(&Site) -> Result<Option<R>, Ended>,
    ) -> Result<(R, Awake<'_>), Ended> {
        let mut site = Site::of(home)?;
        let mut awake = Awake { sleepers: Some(self), owes: false };
        let mut settles = None;
        let mut is_over = false;
        loop {
            if !site.is_own() {
                // A signal handler has forked.
                site = Site::of(home)?;
            }
            // Before everything that a death may change.
            let epoch = site.epoch();
            let marked = self.mark()?;
            crash_point!("queue.wait.after_mark");
            if settles.is_none_or(|(number, _)| number != marked) {
                settles = Some((marked, settling()));
            }
            // Before the look, which is the last one if it is settled. Whatever ends a sleep before that time makes it no shorter.
            let unsettled = settles.and_then(|(_, settled)| settled).filter(|settled| !settled.has_passed());
            if let Some(done) = attempt(&site)? {
                return Ok((done, awake));
            }
            // What it was woken for is not there any more.
            awake.owes = false;
            if is_over {
                return Err(Ended::TimedOut);
            }
            let woken = site.wait(&self.0, marked, epoch, nap(unsettled, deadline));
            awake.owes = woken == futex::Woken::Maybe;
            is_over = deadline.is_some_and(Deadline::has_passed);
            crash_point!("queue.wait.after_sleep");
        }
    }
}

/// Somebody who may have been woken. If nothing comes of it, because of an error or a panic, the next one is woken.
#[derive(Debug)]
pub(super) struct Awake<'a> {
    sleepers: Option<&'a Sleepers>,
    owes: bool,
}

impl Awake<'_> {
    /// One who has not slept.
    pub(super) const NOBODY: Self = Self { sleepers: None, owes: false };

    /// What it was woken for has been done.
    pub(super) fn has_acted(mut self) {
        self.owes = false;
    }
}

impl Drop for Awake<'_> {
    fn drop(&mut self) {
        // In models, what the dead had is dropped, too.
        if let (true, Some(sleepers), Some(_)) = (self.owes, self.sleepers, identity::current()) {
            sleepers.wake(1);
            crash_point!("queue.wait.after_passing_on");
        }
    }
}

#[cfg(all(test, not(ipc_loom)))]
mod tests {
    use core::sync::atomic::AtomicBool;
    use core::sync::atomic::Ordering::{Acquire, Release};
    use core::time::Duration;
    use std::thread;
    use std::time::Instant;

    use super::*;

    const LONG: Duration = Duration::from_secs(2);

    /// Waits for the third look; somebody disturbs the sleep once. Returns when the looks were.
    fn looks_of_one_who_is_disturbed() -> Vec<Instant> {
        let (sleepers, is_there, mut looks) = (Sleepers::new(), AtomicBool::new(false), Vec::new());
        thread::scope(|scope| {
            scope.spawn(|| {
                is_there.store(true, Release);
                while futex::wake(&sleepers.0, 1) == 0 {}
            });
            while !is_there.load(Acquire) {
                thread::yield_now();
            }
            let look = |_: &Site| {
                looks.push(Instant::now());
                Ok((looks.len() == 3).then_some(()))
            };
            sleepers.wait(&sleepers, Deadline::after(LONG), look).expect("three looks").1.has_acted();
        });
        looks
    }

    /// Whoever tells without a fence may have overlooked the mark for so long.
    #[test]
    fn a_sleep_that_is_disturbed_before_the_mark_has_settled_does_not_settle_it() {
        let mut was_early = false;
        while !was_early {
            let looks = looks_of_one_who_is_disturbed();
            // One that was disturbed later may have settled by then, and sleep on.
            was_early = looks[1] - looks[0] < Duration::from_micros(150);
            let looks_again = looks[2] - looks[1] < LONG / 2;
            assert!(!was_early || looks_again, "no look after the time in which the mark settles");
        }
    }
}
