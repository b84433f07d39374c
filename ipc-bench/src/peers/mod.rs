//! The peers besides locks: what glibc has for several processes, what std has for several threads,
//! and, with the feature `peers`, what other crates have.

pub mod barrier;
pub mod condvar;
#[cfg(feature = "peers")]
pub mod raw_sync;
pub mod rwlock;
pub mod sem;
pub mod threads;

use std::io;

/// Turns the code that pthread calls return into a result.
fn check(code: libc::c_int) -> io::Result<()> {
    match code {
        0 => Ok(()),
        code => Err(io::Error::from_raw_os_error(code)),
    }
}

/// Insists that a pthread call has succeeded.
#[inline]
fn insist(code: libc::c_int) {
    if code != 0 {
        refuse(code);
    }
}

#[cold]
fn refuse(code: libc::c_int) -> ! {
    panic!("pthread: {}", io::Error::from_raw_os_error(code));
}
