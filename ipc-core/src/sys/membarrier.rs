//! `membarrier`: a fence that one thread has others make.

use std::io;

// The numbers of `linux/membarrier.h`.
const GLOBAL_EXPEDITED: libc::c_int = 1 << 1;
const REGISTER_GLOBAL_EXPEDITED: libc::c_int = 1 << 2;

/// Has each thread of a [registered](register) process that is running just now go through a full fence before this returns; one that is not
/// running does so when it is switched to. The caller goes through one at the beginning and one at the end.
pub(crate) fn barrier() -> io::Result<()> {
    call(GLOBAL_EXPEDITED)
}

/// Lets this process be asked for fences by any other, until it ends or calls `exec`.
pub(crate) fn register() -> io::Result<()> {
    call(REGISTER_GLOBAL_EXPEDITED)
}

fn call(command: libc::c_int) -> io::Result<()> {
    // SAFETY: no memory is involved.
    let done = unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
