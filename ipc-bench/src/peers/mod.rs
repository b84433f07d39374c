//! The peers besides locks: what glibc and the kernel have for several processes, what std has for several
//! threads, and, with the feature `peers`, what others have for either.

pub mod barrier;
#[cfg(feature = "peers")]
pub mod boost;
pub mod condvar;
#[cfg(feature = "peers")]
pub mod crossbeam;
pub mod descriptors;
pub mod eventfd;
#[cfg(feature = "peers")]
pub mod iceoryx2;
#[cfg(feature = "peers")]
pub mod ipmpsc;
#[cfg(feature = "peers")]
pub mod parking_lot;
pub mod polled;
#[cfg(feature = "peers")]
pub mod pools;
#[cfg(feature = "peers")]
pub mod procspawn;
#[cfg(feature = "peers")]
pub mod python;
#[cfg(feature = "peers")]
pub mod raw_sync;
#[cfg(feature = "peers")]
pub mod rtrb;
pub mod rwlock;
pub mod sem;
#[cfg(feature = "peers")]
pub mod servo;
#[cfg(feature = "peers")]
pub mod shared_memory;
#[cfg(feature = "peers")]
pub mod shmem_ipc;
#[cfg(feature = "peers")]
pub mod temporary;
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
