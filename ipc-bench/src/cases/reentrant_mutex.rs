//! Mutexes that their owner can lock again.

use std::hint::black_box;
use std::io;
use std::sync::atomic::AtomicU64;

use shmkit::ReentrantMutex;

use crate::figure::{Comparison, SUBJECT};
use crate::floor::Floor;
use crate::lock::LockUnderTest;
use crate::ours::InRegion;
use crate::pthread::Recursive;
use crate::solo::{Solo, Turns};

/// Lock and unlock.
pub const UNCONTENDED: Solo = Solo {
    name: "reentrant_mutex/uncontended",
    what: "reentrant mutex, lock+unlock, uncontended",
    conditions: "the owner does not lock again; the section is empty; all in shared memory",
    candidates: uncontended,
    rows: &[Comparison::listed(Floor::NAME), Comparison::listed(Recursive::NAME)],
};

fn uncontended() -> io::Result<Vec<Turns>> {
    let floor = Floor::create()?;
    let ours = InRegion::create(1, || ReentrantMutex::new(AtomicU64::new(0)))?;
    let peer = Recursive::create()?;
    Ok(vec![
        Turns::new(Floor::NAME, move || {
            black_box(&mut *floor.lock());
        }),
        Turns::new(SUBJECT, move || {
            black_box(&*ours[0].lock().expect("nobody dies while holding it"));
        }),
        Turns::new(Recursive::NAME, move || {
            black_box(&mut *peer.lock());
        }),
    ])
}
