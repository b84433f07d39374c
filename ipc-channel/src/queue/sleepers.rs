//! Those who sleep until somebody of the other side has done something: one word.
//!
//! ```text
//!  31                                     1     0
//! +----------------------------------------+--------+
//! | how often ASLEEP has been taken out    | ASLEEP |
//! +----------------------------------------+--------+
//! ```
//!
//! | word | about to sleep | told of a change | death of anybody |
//! |---|---|---|---|
//! | `n` | -> `n` ASLEEP, look, sleep | - | - |
//! | `n` ASLEEP | look, sleep | -> `n + 1`, wake one | all sleepers wake and look |
//!
//! Whoever closes the queue raises `n` in either case, and wakes all.
//!
//! ASLEEP must be set while anybody sleeps who has not been woken, except while one who was woken has not acted yet. That one sets it
//! again before it looks; if it finds more than it takes, or leaves with nothing although there is something, it [tells](Sleepers::tell) the
//! next one. So a change wakes one, however many sleep, and several changes wake several, one by one.
//!
//! The number makes a sleep that was decided on before a change return at once.
//!
//! # Order
//!
//! Whoever has made a change looks at ASLEEP; whoever has set ASLEEP looks for changes. One of them must see the other, so there is a full
//! fence between the two steps on either side. Changes are made under a lock, and on x86_64 the exchange that gives it up is
//! one already, in the hardware: it costs nothing there. On aarch64 that exchange only has Release, and does not keep the look behind it from
//! coming before the change is seen; there, and in models, there is a fence.
//!
//! # A kill at each point
//!
//! Whatever a death swallows, a wake-up that was not sent or one that was not acted on, is made good by the death itself, which wakes all.
//!
//! # Garbage
//!
//! An ASLEEP too much costs a wake-up of nobody, one too few can cost a sleeper its wake-up; it goes on with the next one, or with the safety
//! net's look at deaths. Nothing else depends on the word.

use core::sync::atomic::Ordering::{AcqRel, Relaxed, Release, SeqCst};
#[cfg(all(target_arch = "x86_64", not(ipc_loom)))]
use core::sync::atomic::compiler_fence;

use shmkit_core::crash_point;
use shmkit_core::shim::{AtomicU32, fence};
use shmkit_core::wait::{wake_all, wake_one};

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

    /// The word to sleep on.
    pub(super) fn word(&self) -> &AtomicU32 {
        &self.0
    }

    /// Sets ASLEEP; returns what the word must be for a sleep. Look for changes after that.
    pub(super) fn mark(&self) -> u32 {
        // Acquire pairs with the Release in `wake`: the change is seen.
        let word = self.0.fetch_or(ASLEEP, AcqRel) | ASLEEP;
        // Pairs with the one in `tell`.
        fence(SeqCst);
        word
    }

    /// Wakes one, if anybody is asleep. To be called after a change, and after the lock has been given up under which it was made.
    #[inline]
    pub(super) fn tell(&self) {
        after_unlock();
        let word = self.0.load(Relaxed);
        if word & ASLEEP != 0 {
            self.wake(word);
        }
    }

    /// Wakes all, whatever the word says: those who sleep may be waiting for one who was woken before.
    #[cold]
    pub(super) fn tell_all(&self) {
        // Release pairs with the Acquire in `mark`.
        self.0.fetch_add(2, Release);
        crash_point!("queue.close.before_wake");
        wake_all(&self.0);
    }

    #[cold]
    fn wake(&self, word: u32) {
        crash_point!("queue.tell.before_cas");
        let told = (word & !ASLEEP).wrapping_add(2);
        // A failure means that another one has told them since, or that they have come after the change.
        if self.0.compare_exchange(word, told, Release, Relaxed).is_ok() {
            crash_point!("queue.tell.before_wake");
            wake_one(&self.0);
            crash_point!("queue.tell.after_wake");
        }
    }
}

/// A full fence, for those who have just given up a lock.
#[inline]
fn after_unlock() {
    #[cfg(all(target_arch = "x86_64", not(ipc_loom)))]
    compiler_fence(SeqCst);
    #[cfg(not(all(target_arch = "x86_64", not(ipc_loom))))]
    fence(SeqCst);
}
