//! A barrier between a store and a later load that one side pays for both.
//!
//! Each of two sides stores its own word and then looks at the other's, and one of them must see the other. Here the side that does so often
//! has the [light](light) barrier in between, which costs nothing, and the one that does so seldom the [heavy](heavy) one, a system call that makes
//! the threads of the other side go through a fence, wherever they are. Known as asymmetric fences (folly, and WG21's P1202).
//!
//! The light side is ordered only if its process is [registered](register).
//!
//! In models, which have no system calls, both are fences.

use core::sync::atomic::Ordering::SeqCst;
#[cfg(not(ipc_loom))]
use core::sync::atomic::compiler_fence;

use crate::error::Error;
#[cfg(ipc_loom)]
use crate::shim::fence;
#[cfg(not(ipc_loom))]
use crate::sys::membarrier;

/// Lets the light barriers of this process count from now on; `false` if the kernel does not.
///
/// # Blocking
///
/// The first time in a process, for half a microsecond, or for some milliseconds if it has several threads.
#[cold]
pub fn register() -> bool {
    #[cfg(not(ipc_loom))]
    return membarrier::register().is_ok();
    #[cfg(ipc_loom)]
    true
}

/// The barrier of those who do not pay.
#[inline]
pub fn light() {
    // The processor may look first and store later; the heavy barrier of the other side sees to it that this does no harm.
    #[cfg(not(ipc_loom))]
    compiler_fence(SeqCst);
    #[cfg(ipc_loom)]
    fence(SeqCst);
}

/// The barrier of those who pay for both sides.
///
/// # Errors
///
/// [`Error::NoBarrier`] if the kernel does not do it. Then nothing is ordered.
#[cold]
pub fn heavy() -> Result<(), Error> {
    #[cfg(not(ipc_loom))]
    return membarrier::barrier().map_err(Error::NoBarrier);
    #[cfg(ipc_loom)]
    {
        fence(SeqCst);
        Ok(())
    }
}
