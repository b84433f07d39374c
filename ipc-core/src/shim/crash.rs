//! Crash points: named instructions at which a test can end the process (or, in a model, the thread).
//!
//! With neither `--cfg ipc_crash` nor `--cfg ipc_loom` a crash point is nothing at all. With `ipc_crash` a process that has called
//! `arm(n)` sends itself SIGKILL at the n-th crash point that it passes; `disarm()` tells which ones it has passed, so that a
//! sweep knows what it has visited. After `interrupt(n, signal)` it is another signal, which comes at the n-th crash point of that thread.

/// Marks an instruction at which a kill must be survived: `crash_point!("mutex.lock.after_cas")`.
#[doc(hidden)]
#[macro_export]
macro_rules! crash_point {
    ($name:literal) => {
        #[cfg(any(ipc_crash, ipc_loom))]
        $crate::shim::crash::point($name);
    };
}

#[cfg(all(ipc_crash, not(ipc_loom)))]
mod process {
    use std::sync::{Mutex, MutexGuard, PoisonError};
    use std::thread::{self, ThreadId};

    #[derive(Debug)]
    struct Plan {
        armed: bool,
        /// Whose crash points count; `None`: everybody's.
        of: Option<ThreadId>,
        at: usize,
        signal: libc::c_int,
        passed: Vec<&'static str>,
    }

    static PLAN: Mutex<Plan> =
        Mutex::new(Plan { armed: false, of: None, at: 0, signal: libc::SIGKILL, passed: Vec::new() });

    fn plan() -> MutexGuard<'static, Plan> {
        PLAN.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From here on, the process ends itself at the `die_at`-th crash point that any of its threads passes (from 1; 0: never).
    pub fn arm(die_at: usize) {
        *plan() = Plan { armed: true, of: None, at: die_at, signal: libc::SIGKILL, passed: Vec::new() };
    }

    /// From here on, the handler of `signal` runs at the `at`-th crash point that the calling thread passes (from 1; 0: never).
    pub fn interrupt(at: usize, signal: libc::c_int) {
        *plan() = Plan { armed: true, of: Some(thread::current().id()), at, signal, passed: Vec::new() };
    }

    /// From here on, crash points are nothing again; returns the names of those that were passed.
    pub fn disarm() -> Vec<&'static str> {
        let mut plan = plan();
        plan.armed = false;
        std::mem::take(&mut plan.passed)
    }

    /// Passes the crash point `name`; does not return if it is the one to die at.
    pub fn point(name: &'static str) {
        let mut plan = plan();
        if plan.armed && plan.of.is_none_or(|of| of == thread::current().id()) {
            plan.passed.push(name);
            if plan.passed.len() != plan.at {
                return;
            }
            if plan.signal == libc::SIGKILL {
                crate::sys::process::kill_self();
            }
            let signal = plan.signal;
            // The handler may pass others.
            drop(plan);
            crate::sys::process::interrupt_self(signal);
        }
    }
}
#[cfg(all(ipc_crash, not(ipc_loom)))]
pub use process::{arm, disarm, interrupt, point};

#[cfg(ipc_loom)]
mod model {
    use core::cell::Cell;

    loom::thread_local! {
        /// How many crash points this thread still passes; negative: it lives for ever.
        static LEFT: Cell<i64> = Cell::new(-1);
    }

    /// What a thread unwinds with when it dies at a crash point, with its name.
    struct Died(&'static str);

    /// Runs `life` in the current model thread and ends it at the crash point number `at` (from 1); returns its name if it died.
    /// Guards that are dropped on the way out do nothing: the process that they belong to is not there any more.
    pub fn run_and_die_at(at: i64, life: impl FnOnce()) -> Option<&'static str> {
        LEFT.with(|left| left.set(at));
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(life));
        LEFT.with(|left| left.set(-1));
        match ended {
            Ok(()) => None,
            Err(cause) => match cause.downcast::<Died>() {
                Ok(died) => Some(died.0),
                Err(cause) => std::panic::resume_unwind(cause),
            },
        }
    }

    /// Passes the crash point `name`; unwinds if it is the one to die at.
    pub fn point(name: &'static str) {
        let left = LEFT.with(|left| {
            let now = left.get();
            if now > 0 {
                left.set(now - 1);
            }
            now
        });
        if left == 1 {
            crate::shim::model::forget_actor();
            std::panic::resume_unwind(Box::new(Died(name)));
        }
    }
}
#[cfg(ipc_loom)]
pub use model::{point, run_and_die_at};
