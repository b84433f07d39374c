//! A barrier between a store and a later load that one side pays for both.
//!
//! Each of two sides stores its own word and then looks at the other's, and one of them must see the other. Here the side that does so often
//! has the [light](light) barrier in between, which costs nothing, and the one that does so seldom the [heavy](heavy) one, a system call that
//! returns when the threads of the other side have gone through a fence, wherever they are. So of a light one's store and look, either the store is seen behind the heavy barrier, or the look
//! sees what was stored before it. Known as asymmetric fences (folly, and WG21's P1202).
//!
//! That is what a grace period of RCU promises of a section of a reader, and so it is in models: the store and the look are a section, for the end of which the
//! heavy barrier waits.

#[cfg(not(ipc_loom))]
use core::sync::atomic::Ordering::SeqCst;
#[cfg(not(ipc_loom))]
use core::sync::atomic::compiler_fence;

use crate::error::Error;
#[cfg(not(ipc_loom))]
use crate::sys::membarrier;

/// Stores, and then looks, with the barrier of those who do not pay in between.
#[inline]
pub fn light<S, L>(store: impl FnOnce() -> S, look: impl FnOnce() -> L) -> (S, L) {
    #[cfg(ipc_loom)]
    return model::section(|| (store(), look()));
    #[cfg(not(ipc_loom))]
    {
        let stored = store();
        // The processor may look first and store later; the heavy barrier of the other side sees to it that this does no harm.
        compiler_fence(SeqCst);
        (stored, look())
    }
}

/// The barrier of those who pay for both sides.
///
/// # Blocking
///
/// For some ticks of the kernel's clock: some milliseconds, or some tens of them.
///
/// # Errors
///
/// [`Error::NoBarrier`] if the kernel does not do it. Then nothing is ordered.
#[cold]
pub fn heavy() -> Result<(), Error> {
    #[cfg(not(ipc_loom))]
    return membarrier::barrier().map_err(Error::NoBarrier);
    #[cfg(ipc_loom)]
    return {
        model::section(|| ());
        Ok(())
    };
}

#[cfg(ipc_loom)]
mod model {
    use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

    loom::lazy_static! {
        static ref SECTION: loom::sync::Mutex<()> = loom::sync::Mutex::new(());
    }

    /// Does `act` while nobody else is in a section, before or after each of theirs. Who dies in one has left it.
    pub(super) fn section<R>(act: impl FnOnce() -> R) -> R {
        let section = SECTION.lock();
        let done = catch_unwind(AssertUnwindSafe(act));
        drop(section);
        done.unwrap_or_else(|death| resume_unwind(death))
    }
}
