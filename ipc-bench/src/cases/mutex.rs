//! Lock and unlock when nobody else wants the lock.

use std::hint::black_box;
use std::io;
use std::sync::Mutex;

use crate::figure::Comparison;
use crate::floor::Floor;
use crate::lock::{LockUnderTest, SharedLock};
use crate::ours::Ours;
use crate::pthread::{Plain, Robust};
use crate::shared::Line;
use crate::solo::{Solo, Turns};

/// Lock and unlock.
pub const UNCONTENDED: Solo = Solo {
    name: "mutex/uncontended",
    what: "lock+unlock, uncontended",
    conditions: "the section is empty; shmkit, floor and pthread in shared memory, std in private memory",
    candidates: uncontended,
    rows: &[
        Comparison::at_most(Floor::NAME, 1.15),
        Comparison::at_most(<Mutex<u64> as LockUnderTest>::NAME, 0.95),
        Comparison::at_most(Robust::NAME, 0.65),
        Comparison::listed(Plain::NAME),
    ],
};

fn uncontended() -> io::Result<Vec<Turns>> {
    let private = Line(Mutex::new(0));
    Ok(vec![
        turns(Floor::create()?),
        turns(Ours::create()?),
        Turns::new(<Mutex<u64> as LockUnderTest>::NAME, move || section(&private.0)),
        turns(Plain::create()?),
        turns(Robust::create()?),
    ])
}

fn turns<L: LockUnderTest + 'static>(lock: L) -> Turns {
    Turns::new(L::NAME, move || section(&lock))
}

/// The compiler must assume that the value is read and written in each turn.
#[inline(always)]
fn section<L: LockUnderTest>(lock: &L) {
    let mut guard = lock.lock();
    black_box(&mut *guard);
}
