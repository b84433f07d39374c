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
pub use model::{disturb, expire, wait, wake};

#[cfg(ipc_loom)]
mod model {
    //! A futex for models: sleepers in a list, a deadline that passes when the model says so.
    //!
    //! As in the kernel, a sleeper is on the queue of each of its words, and a wake-up takes it off one of them only. Until it
    //! runs and leaves the others, a wake-up on those can be spent on it, too.

    use super::{FutexWord, Woken};
    use crate::deadline::Deadline;
    use loom::sync::Mutex;
    use loom::thread::{self, Thread};

    struct Sleeper {
        thread: Thread,
        /// The words on whose queues it still is.
        queues: Vec<usize>,
        timed: bool,
        /// A wake-up was spent on it.
        woken: bool,
        /// It runs, or will, for whatever reason.
        ended: bool,
        timed_out: bool,
    }

    impl Sleeper {
        fn end(&mut self) {
            if !self.ended {
                self.ended = true;
                self.thread.unpark();
            }
        }
    }

    #[derive(Default)]
    struct Futexes {
        /// In the order in which they went to sleep; `None`: running again.
        sleepers: Vec<Option<Sleeper>>,
        expired: bool,
    }

    loom::lazy_static! {
        static ref FUTEXES: Mutex<Futexes> = Mutex::new(Futexes::default());
    }

    /// Sleeps while every word has its expected value.
    pub fn wait(words: &[(&dyn FutexWord, u32)], deadline: Option<Deadline>) -> Woken {
        let mut futexes = FUTEXES.lock().unwrap();
        if words.iter().any(|(word, expected)| word.value() != *expected) {
            return Woken::Maybe;
        }
        if futexes.expired && deadline.is_some() {
            return Woken::TimedOut;
        }
        let me = futexes.sleepers.len();
        futexes.sleepers.push(Some(Sleeper {
            thread: thread::current(),
            queues: words.iter().map(|(word, _)| word.address() as usize).collect(),
            timed: deadline.is_some(),
            woken: false,
            ended: false,
            timed_out: false,
        }));
        loop {
            drop(futexes);
            thread::park();
            futexes = FUTEXES.lock().unwrap();
            if let Some(ended) = futexes.sleepers[me].take_if(|sleeper| sleeper.ended) {
                return if ended.timed_out && !ended.woken { Woken::TimedOut } else { Woken::Maybe };
            }
        }
    }

    /// Wakes at most `count` sleepers on `word`; says how many.
    pub fn wake(word: &dyn FutexWord, count: u32) -> u32 {
        let address = word.address() as usize;
        let mut futexes = FUTEXES.lock().unwrap();
        let mut woken = 0;
        let queue = futexes.sleepers.iter_mut().flatten().filter(|sleeper| sleeper.queues.contains(&address));
        for sleeper in queue.take(count as usize) {
            sleeper.queues.retain(|queue| *queue != address);
            sleeper.woken = true;
            sleeper.end();
            woken += 1;
        }
        woken
    }

    /// Lets all deadlines pass, also of those who wait later.
    pub fn expire() {
        let mut futexes = FUTEXES.lock().unwrap();
        futexes.expired = true;
        for sleeper in futexes.sleepers.iter_mut().flatten().filter(|sleeper| sleeper.timed && !sleeper.ended) {
            sleeper.timed_out = true;
            sleeper.end();
        }
    }

    /// Lets every sleeper return for no reason, as signals do.
    pub fn disturb() {
        FUTEXES.lock().unwrap().sleepers.iter_mut().flatten().for_each(Sleeper::end);
    }
}
