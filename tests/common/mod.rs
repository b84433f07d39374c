//! What the cross-process tests have in common.
//!
//! A test starts children: the test binary again, whose test `child` plays a role that the parent names. Parent and child talk in lines
//! over a socket, which is the child's standard input. Every wait has a bound; whatever a test has started or named is gone when it
//! ends, also when it fails.

#![allow(dead_code, unused_imports, unused_macros, reason = "every test file uses its own part of this")]

pub(crate) mod barrier;
mod example;
pub(crate) mod gate;
mod party;
mod process;
pub(crate) mod rwlock;
mod stage;
mod sys;
mod talker;
#[cfg(feature = "process")]
pub(crate) mod tasks;

use std::thread;
use std::time::{Duration, Instant};

pub(crate) use example::{example, last_line, run_example};
pub(crate) use party::{
    ForkedParty, Party, Reply, answer, forking_party, obey, party, queue_up, with_and_without_the_net,
};
pub(crate) use process::{Child, Net, Parent, play};
pub(crate) use stage::{Name, Stage};
pub(crate) use sys::*;
pub(crate) use talker::{PIPE, Talker, talker};

/// How long any wait may take before it fails its test. It is there against hanging and says nothing about speed.
pub(crate) const BOUND: Duration = Duration::from_secs(20);

/// How soon the news of a death or a release must have had its effect, on a busy machine and with any fallback. It is shorter than the
/// safety net's second, so nothing that meets it was saved by the net.
pub(crate) fn prompt() -> Duration {
    Duration::from_millis(500)
}

/// Waits for an event; its absence fails the test.
#[track_caller]
pub(crate) fn until(what: &str, mut has_come: impl FnMut() -> bool) {
    let end = Instant::now() + BOUND;
    while !has_come() {
        assert!(Instant::now() < end, "waited {BOUND:?} in vain for: {what}");
        thread::sleep(Duration::from_micros(100));
    }
}

/// Defines the test `child`, which plays the role that a parent process asks for. Run by a person, it does nothing.
macro_rules! roles {
    ($($role:ident),* $(,)?) => {
        #[test]
        fn child() {
            $crate::common::play(&[$((stringify!($role), $role)),*]);
        }
    };
}
pub(crate) use roles;

/// Random numbers that a printed seed brings back (xorshift, by G. Marsaglia).
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// From a seed of the clock's, which is printed if the test fails.
    pub(crate) fn new() -> Self {
        let seed = now_ns() | 1;
        println!("seed: {seed}");
        Self(seed)
    }

    /// The next number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }

    /// Spins for a random time below `longest`: a kill must be able to fall anywhere, so nothing can be waited for.
    pub(crate) fn pause(&mut self, longest: Duration) {
        let end = Instant::now() + Duration::from_nanos(self.below(longest.as_nanos() as u64));
        while Instant::now() < end {
            std::hint::spin_loop();
        }
    }
}
