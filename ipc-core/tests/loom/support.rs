//! What the models share.

use std::sync::Arc;

use loom::cell::UnsafeCell;
use loom::thread::{self, JoinHandle};
use shmkit_core::Deadline;
use shmkit_core::raw_lock::{Held, NotHeld, RawLock};
use shmkit_core::shim::model::Process;

/// A lock and what it protects: two numbers that are equal whenever the lock is free.
#[derive(Debug)]
pub(crate) struct Office {
    lock: RawLock,
    sold: UnsafeCell<[u32; 2]>,
}

// SAFETY: `sold` is reached under the lock only; that this holds is what the models check.
unsafe impl Sync for Office {}
// SAFETY: as above.
unsafe impl Send for Office {}

impl Office {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { lock: RawLock::new(), sold: UnsafeCell::new([0; 2]) })
    }

    /// Locks without a deadline, looks at the numbers and mends them.
    pub(crate) fn lock(&self) -> Held {
        match self.lock.lock(None) {
            Ok(held) => self.enter(held),
            Err(error) => panic!("not locked: {error:?}"),
        }
    }

    /// Locks with a deadline that is over as soon as the model says so, and for a locker who has been woken.
    pub(crate) fn lock_timed(&self) -> Option<Held> {
        match self.lock.lock(Some(Deadline::after(std::time::Duration::ZERO).unwrap())) {
            Ok(held) => Some(self.enter(held)),
            Err(NotHeld::TimedOut) => None,
            Err(error) => panic!("not locked: {error:?}"),
        }
    }

    fn enter(&self, held: Held) -> Held {
        self.sold.with_mut(|sold| {
            // SAFETY: the lock is held; loom fails the model if somebody else is here.
            let sold = unsafe { &mut *sold };
            assert!(sold[0] == sold[1] || held.after_death, "half-changed, but nobody died");
            sold[1] = sold[0];
        });
        held
    }

    /// Sells one and unlocks.
    pub(crate) fn sell(&self, held: Held) {
        for half in 0..2 {
            // SAFETY: as in `enter`.
            self.sold.with_mut(|sold| unsafe { (*sold)[half] += 1 });
        }
        self.lock.unlock(held);
    }

    /// Locks, sells one, unlocks; says whether the previous owner had died.
    pub(crate) fn visit(&self) -> bool {
        let held = self.lock();
        self.sell(held);
        held.after_death
    }

    /// Like [`visit`](Self::visit), if the lock can be had at once.
    pub(crate) fn try_visit(&self) {
        if let Some(held) = self.lock.try_lock().unwrap() {
            let held = self.enter(held);
            self.sell(held);
        }
    }

    /// Changes only one of the numbers, as somebody does who dies then.
    pub(crate) fn sell_half(&self) {
        // SAFETY: as in `enter`.
        self.sold.with_mut(|sold| unsafe { (*sold)[0] += 1 });
    }

    /// How many were sold. Nobody else is here any more.
    pub(crate) fn sold(&self) -> u32 {
        // SAFETY: as in `enter`.
        self.sold.with(|sold| unsafe { (*sold)[0] })
    }
}

/// Whether one who died at `point` of `RawLock` held it.
pub(crate) fn held_at(point: &str) -> bool {
    matches!(point, "lock.after_cas" | "lock.after_take" | "lock.unlock.before_store")
}

/// Starts a thread that dies at once for `process`, with `office` locked.
pub(crate) fn owner_dies(process: &Process) -> JoinHandle<()> {
    let process = process.clone();
    thread::spawn(move || process.die())
}

/// Locks `office` for `process`, half-changes it, and leaves it so.
pub(crate) fn abandon(office: &Office, process: &Process) {
    process.act();
    let _ = office.lock();
    office.sell_half();
}
