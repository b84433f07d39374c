//! Proof that a participant can never store into the region again.
//!
//! News of a death is not proof: the kernel sends it while sibling threads of the dead may still be storing. Either of these is:
//!
//! * the process is of our own PID namespace, and none of its threads has an address space any more (a fraction of a
//!   millisecond after the kill, however large the process was);
//! * the kernel's lock on its entry is free, which comes after the address space was torn down (milliseconds for gigabytes), and
//!   also when the process has called `exec`.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::mapped::Mapped;
use crate::sys::process;

/// The PID namespace of this process; 0: not to be told. Renewed whenever a token is drawn, so also after a fork.
static OWN_NAMESPACE: AtomicU64 = AtomicU64::new(0);

/// Finds out about this process what proofs need.
pub(crate) fn prepare() {
    OWN_NAMESPACE.store(process::pid_namespace(), Relaxed);
}

/// The PID namespace of this process; 0 if it cannot be told.
pub(crate) fn own_namespace() -> u64 {
    OWN_NAMESPACE.load(Relaxed)
}

/// Whether the participant in entry `index` is proven dead.
pub(crate) fn is_dead(mapped: &Mapped, index: usize) -> bool {
    let here = own_namespace();
    let has_no_memory = mapped
        .participants()
        .card(index)
        .is_some_and(|card| here != 0 && card.pid_namespace == here && process::has_no_memory(card.pid));
    has_no_memory || mapped.is_unclaimed(index)
}

/// [`is_dead`], asked again for about half a millisecond: the time that the kernel takes to end the threads of a process.
pub(crate) fn is_dead_soon(mapped: &Mapped, index: usize) -> bool {
    const STEP: Duration = Duration::from_micros(15);
    (0..24).any(|attempt| {
        if attempt > 0 {
            std::thread::sleep(STEP);
        }
        is_dead(mapped, index)
    })
}
