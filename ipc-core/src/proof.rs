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
use crate::participants::OWNER_DIED;
use crate::sys::{memory, process};

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
///
/// `/proc` is asked about those whose keeper's death the kernel has told of, and otherwise only where the claim cannot be looked at: this
/// is what regular looks at the living cost.
pub(crate) fn is_dead(mapped: &Mapped, index: usize) -> bool {
    by_claim(mapped, index).unwrap_or_else(|| is_told_dead(mapped, index) && is_memoryless(mapped, index))
}

/// [`is_dead`] without a look at `/proc` where there is a claim to be looked at: for keepers that are not the first to tell of this death.
///
/// A look at `/proc` takes the CPU from the dying process and from whoever does tell, and makes entries that the kernel has to take apart when the
/// parent waits for its child.
pub(crate) fn is_released(mapped: &Mapped, index: usize) -> bool {
    by_claim(mapped, index).unwrap_or(false)
}

/// What can be said without asking `/proc` about somebody who has a claim; `None`: it is not given up, which proves nothing yet.
fn by_claim(mapped: &Mapped, index: usize) -> Option<bool> {
    match mapped.is_unclaimed(index) {
        Some(true) => Some(true),
        // What hostile peers say of a process, such as its number, is no proof of anything, and to follow it can take long.
        _ if !mapped.is_trusted() => Some(false),
        Some(false) => None,
        None => Some(is_memoryless(mapped, index)),
    }
}

/// [`is_dead`], asked again for about half a millisecond if the kernel has told of the death: the time that it takes to end
/// the threads of a process.
pub(crate) fn is_dead_soon(mapped: &Mapped, index: usize) -> bool {
    const STEP: Duration = Duration::from_micros(15);
    const STEPS: u32 = 24;
    for _ in 0..STEPS {
        if is_dead(mapped, index) {
            return true;
        }
        if !is_told_dead(mapped, index) {
            return false;
        }
        std::thread::sleep(STEP);
    }
    false
}

/// Whether the participant in entry `index` is alive by the table, but dead by the kernel's news.
fn is_told_dead(mapped: &Mapped, index: usize) -> bool {
    mapped.participants().card(index).is_some_and(|card| card.liveness & OWNER_DIED != 0)
}

fn is_memoryless(mapped: &Mapped, index: usize) -> bool {
    let here = own_namespace();
    mapped
        .participants()
        .card(index)
        .is_some_and(|card| here != 0 && card.pid_namespace == here && memory::has_no_memory(card.pid))
}
