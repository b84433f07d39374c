//! A gate that tasks of other processes stop at.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;

use shmkit::{Region, Shm};

use super::until;

/// How many have come, and whether it is open. A handle travels as an argument.
pub(crate) type Gate = Shm<[AtomicU64; 2]>;

pub(crate) fn gate() -> Gate {
    let region = Region::anonymous(4096).expect("a region");
    region.insert("gate", [const { AtomicU64::new(0) }; 2]).expect("room")
}

/// Stops at the gate until it is opened; returns the process id.
pub(crate) fn pass(gate: Gate) -> u32 {
    gate[0].fetch_add(1, SeqCst);
    until("an open gate", || gate[1].load(SeqCst) == 1);
    std::process::id()
}

pub(crate) fn open(gate: &Gate) {
    gate[1].store(1, SeqCst);
}

/// How many have come to it.
pub(crate) fn come(gate: &Gate) -> u64 {
    gate[0].load(SeqCst)
}

/// Waits until so many have come to it.
#[track_caller]
pub(crate) fn until_come(gate: &Gate, count: u64) {
    until("somebody at the gate", || come(gate) >= count);
}
