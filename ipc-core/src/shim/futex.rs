//! Waiting on words and waking those who wait.

use core::fmt;

use super::{AtomicU32, AtomicU64};

/// A word that a futex can wait on: all of an `AtomicU32`, the low half of an `AtomicU64`.
///
/// Sealed: the kernel reads the four bytes at [`address`](Self::address), so an implementation decides about memory safety.
pub trait FutexWord: fmt::Debug + sealed::Sealed {
    /// Where the four bytes are.
    fn address(&self) -> *const u32;
    /// What the four bytes are now.
    fn value(&self) -> u32;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::AtomicU32 {}
    impl Sealed for super::AtomicU64 {}
}

impl FutexWord for AtomicU32 {
    fn address(&self) -> *const u32 {
        core::ptr::from_ref(self).cast()
    }
    fn value(&self) -> u32 {
        self.load(core::sync::atomic::Ordering::Relaxed)
    }
}

impl FutexWord for AtomicU64 {
    // Little-endian only (checked in `lib.rs`): the low half comes first.
    fn address(&self) -> *const u32 {
        core::ptr::from_ref(self).cast()
    }
    fn value(&self) -> u32 {
        self.load(core::sync::atomic::Ordering::Relaxed) as u32
    }
}

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// A wake-up, a changed word, a signal, or nothing at all: look at the condition again.
    Maybe,
    /// The deadline passed, and no wake-up was consumed.
    TimedOut,
}

#[cfg(not(ipc_loom))]
pub use crate::sys::futex::{wait, wake};
#[cfg(ipc_loom)]
pub use model::{expire, wait, wake};

#[cfg(ipc_loom)]
mod model {
    //! A futex for models: sleepers in a list, a deadline that passes when the model says so.

    use super::{FutexWord, Woken};
    use crate::deadline::Deadline;
    use loom::sync::{Condvar, Mutex};

    struct Sleeper {
        addresses: Vec<usize>,
        timed: bool,
        ended: Option<Woken>,
    }

    struct Futexes {
        sleepers: Mutex<Vec<Sleeper>>,
        changed: Condvar,
    }

    loom::lazy_static! {
        static ref FUTEXES: Futexes = Futexes { sleepers: Mutex::new(Vec::new()), changed: Condvar::new() };
    }

    /// Sleeps while every word has its expected value.
    pub fn wait(words: &[(&dyn FutexWord, u32)], deadline: Option<Deadline>) -> Woken {
        let mut sleepers = FUTEXES.sleepers.lock().unwrap();
        if words.iter().any(|(word, expected)| word.value() != *expected) {
            return Woken::Maybe;
        }
        let me = sleepers.len();
        sleepers.push(Sleeper {
            addresses: words.iter().map(|(word, _)| word.address() as usize).collect(),
            timed: deadline.is_some(),
            ended: None,
        });
        loop {
            if let Some(ended) = sleepers[me].ended {
                return ended;
            }
            sleepers = FUTEXES.changed.wait(sleepers).unwrap();
        }
    }

    /// Wakes at most `count` sleepers on `word`.
    pub fn wake(word: &dyn FutexWord, count: u32) {
        let address = word.address() as usize;
        end(count, Woken::Maybe, |sleeper| sleeper.addresses.contains(&address));
    }

    /// Lets the deadline of every sleeper that has one pass.
    pub fn expire() {
        end(u32::MAX, Woken::TimedOut, |sleeper| sleeper.timed);
    }

    fn end(count: u32, how: Woken, which: impl Fn(&Sleeper) -> bool) {
        let mut sleepers = FUTEXES.sleepers.lock().unwrap();
        sleepers
            .iter_mut()
            .filter(|sleeper| sleeper.ended.is_none() && which(sleeper))
            .take(count as usize)
            .for_each(|sleeper| sleeper.ended = Some(how));
        FUTEXES.changed.notify_all();
    }
}
