//! `membarrier`: a fence that one thread has all others make.

use std::io;

/// The number in `linux/membarrier.h`.
const GLOBAL: libc::c_int = 1;

/// Returns when each thread of the machine has gone through a full fence since the call; so does the caller, at the beginning and at the end.
///
/// It waits for a grace period of the kernel's RCU, which takes some ticks of its clock, and interrupts nobody.
pub(crate) fn barrier() -> io::Result<()> {
    // SAFETY: no memory is involved.
    let done = unsafe { libc::syscall(libc::SYS_membarrier, GLOBAL, 0, 0) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
