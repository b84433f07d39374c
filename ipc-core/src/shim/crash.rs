//! Crash points: named instructions at which a test can end the process (or, in a model, the thread).
//!
//! With neither `--cfg ipc_crash` nor `--cfg ipc_loom` a crash point is nothing at all. With `ipc_crash` the environment
//! variable `SHMKIT_CRASH_AT=n` makes the process send itself SIGKILL at the n-th crash point it passes, and
//! `SHMKIT_CRASH_TRACE=1` makes it name each one on standard error, so that a sweep knows which ones it has visited.

/// Marks an instruction at which a kill must be survived: `crash_point!("mutex.lock.after_cas")`.
#[macro_export]
macro_rules! crash_point {
    ($name:literal) => {
        #[cfg(any(ipc_crash, ipc_loom))]
        $crate::shim::crash::point($name);
    };
}

#[cfg(all(ipc_crash, not(ipc_loom)))]
mod process {
    use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
    use std::io::Write;

    /// Zero until armed; then the number of the point at which to die (`u64::MAX`: never, only trace).
    static DIE_AT: AtomicU64 = AtomicU64::new(0);
    static PASSED: AtomicU64 = AtomicU64::new(0);

    /// Counts from here on; reads the environment. Points passed before are ignored.
    pub fn arm() {
        let at = std::env::var("SHMKIT_CRASH_AT").ok().and_then(|at| at.parse().ok());
        PASSED.store(0, Relaxed);
        DIE_AT.store(at.unwrap_or(u64::MAX), Relaxed);
    }

    /// Stops counting: later points are not crash points any more.
    pub fn disarm() {
        DIE_AT.store(0, Relaxed);
    }

    /// Passes the crash point `name`; does not return if it is the one to die at.
    pub fn point(name: &str) {
        let at = DIE_AT.load(Relaxed);
        if at == 0 {
            return;
        }
        let passed = PASSED.fetch_add(1, Relaxed) + 1;
        if std::env::var_os("SHMKIT_CRASH_TRACE").is_some() {
            // A closed standard error is no reason to die somewhere else than asked.
            let _ = writeln!(std::io::stderr(), "crash point {name}");
        }
        if passed == at {
            crate::sys::process::kill_self();
        }
    }
}
#[cfg(all(ipc_crash, not(ipc_loom)))]
pub use process::{arm, disarm, point};

#[cfg(ipc_loom)]
mod model {
    use core::cell::Cell;

    loom::thread_local! {
        /// How many crash points this thread still passes; negative: it lives for ever.
        static LEFT: Cell<i64> = Cell::new(-1);
    }

    /// What a thread unwinds with when it dies at a crash point.
    pub struct Died;

    /// Runs `life` in the current model thread and ends it, without running any clean-up of the algorithms, at the crash point
    /// number `at` (from 1); says whether it died.
    pub fn run_and_die_at(at: i64, life: impl FnOnce()) -> bool {
        LEFT.with(|left| left.set(at));
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(life));
        LEFT.with(|left| left.set(-1));
        match ended {
            Ok(()) => false,
            Err(cause) if cause.is::<Died>() => true,
            Err(cause) => std::panic::resume_unwind(cause),
        }
    }

    /// Passes the crash point `_name`; unwinds if it is the one to die at.
    pub fn point(_name: &str) {
        let left = LEFT.with(|left| {
            let now = left.get();
            if now > 0 {
                left.set(now - 1);
            }
            now
        });
        if left == 1 {
            std::panic::resume_unwind(Box::new(Died));
        }
    }
}
#[cfg(ipc_loom)]
pub use model::{Died, point, run_and_die_at};
