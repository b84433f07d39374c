//! A word in shared memory that one process sets and others sleep on: the strings of the harness.
//!
//! Nothing measured goes through it, except the controller's own sleep while a figure is taken.

use std::ptr;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::time::Duration;

/// A shared word with a futex; zero at first.
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct Signal(AtomicU32);

impl Signal {
    /// Returns the value; everything before its [`set`](Self::set) is visible.
    pub fn value(&self) -> u32 {
        // Acquire pairs with the Release of `set`.
        self.0.load(Acquire)
    }

    /// Sets the value and wakes all who sleep on it.
    pub fn set(&self, value: u32) {
        // Release pairs with the Acquire of `value`.
        self.0.store(value, Release);
        // SAFETY: the word is live for the call; FUTEX_WAKE takes no pointer besides.
        unsafe { libc::syscall(libc::SYS_futex, self.0.as_ptr(), libc::FUTEX_WAKE, i32::MAX) };
    }

    /// Sleeps until the value is other than `seen`, but no longer than `at_most`; returns it.
    ///
    /// # Blocking
    /// Returns early on any signal or stray wake-up: the caller looks at the value and comes back.
    pub fn wait_while(&self, seen: u32, at_most: Duration) -> u32 {
        let timeout = libc::timespec {
            tv_sec: at_most.as_secs() as libc::time_t,
            tv_nsec: at_most.subsec_nanos() as libc::c_long,
        };
        if self.value() == seen {
            // SAFETY: the word and the timeout are live for the call; the unused last two
            // arguments are null and zero.
            unsafe {
                libc::syscall(libc::SYS_futex, self.0.as_ptr(), libc::FUTEX_WAIT, seen, &timeout, ptr::null::<u32>(), 0)
            };
        }
        self.value()
    }

    /// Sleeps until the value is other than `seen`, for ever if need be; returns it.
    ///
    /// # Blocking
    /// For child processes, which end with their parent.
    pub fn wait_for_change(&self, seen: u32) -> u32 {
        loop {
            let value = self.wait_while(seen, Duration::from_secs(1));
            if value != seen {
                return value;
            }
        }
    }
}
