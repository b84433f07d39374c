//! Barriers: glibc's, process-shared, and std's.
//!
//! glibc's is used as its manual says: `pthread_barrier_init` with `PTHREAD_PROCESS_SHARED` for so many, and `pthread_barrier_wait` by each, one of whom gets
//! another code. std's as its documentation says: `Barrier::new` for so many threads, which share it, and `wait` by each.

use std::cell::UnsafeCell;
use std::io;
use std::mem::MaybeUninit;
use std::sync::Barrier;

use super::check;
use super::threads::Threaded;
use crate::shared::{SharedBox, SharedLayout};
use crate::team::{Place, Play, Seat};

/// The name of glibc's in results.
pub const PTHREAD: &str = "pthread barrier";
/// The name of std's in results.
pub const STD: &str = "std, threads";

#[repr(transparent)]
struct Cell(UnsafeCell<libc::pthread_barrier_t>);

// SAFETY: a barrier is made for any number of threads and, process-shared, of processes.
unsafe impl Sync for Cell {}
// SAFETY: the layout is that of the one libc of the machine; a barrier is bytes to all but the library, and
// `create` makes it before anyone else learns where it is.
unsafe impl SharedLayout for Cell {}

/// A process-shared pthread barrier.
pub struct Pthread(SharedBox<Cell>);

impl Place for Pthread {
    fn create(members: usize) -> io::Result<Self> {
        let cell = SharedBox::<Cell>::create()?;
        let mut attributes = MaybeUninit::uninit();
        // SAFETY: `attributes` is initialised before all else uses it and destroyed once, at the end; the
        // barrier is aligned, in live memory, and known to nobody else yet.
        let codes = unsafe {
            [
                libc::pthread_barrierattr_init(attributes.as_mut_ptr()),
                libc::pthread_barrierattr_setpshared(attributes.as_mut_ptr(), libc::PTHREAD_PROCESS_SHARED),
                libc::pthread_barrier_init(cell.0.get(), attributes.as_ptr(), members as libc::c_uint),
                libc::pthread_barrierattr_destroy(attributes.as_mut_ptr()),
            ]
        };
        codes.into_iter().try_for_each(check)?;
        Ok(Pthread(cell))
    }

    fn address(&self) -> String {
        self.0.address()
    }

    fn attach(address: &str) -> io::Result<Self> {
        SharedBox::attach(address).map(Pthread)
    }
}

impl Play for Pthread {
    const IS_LATENCY: bool = true;

    fn play(&self, _: Seat, turns: u64) {
        for _ in 0..turns {
            // SAFETY: made by `create`, and alive as the mapping is.
            let code = unsafe { libc::pthread_barrier_wait(self.0.0.get()) };
            assert!(code == 0 || code == libc::PTHREAD_BARRIER_SERIAL_THREAD, "pthread_barrier_wait: {code}");
        }
    }
}

/// std's barrier, for two.
pub struct Std(Barrier);

impl Threaded for Std {
    const IS_LATENCY: bool = true;

    fn create() -> Self {
        Std(Barrier::new(2))
    }

    fn play(&self, _: Seat, turns: u64) {
        for _ in 0..turns {
            self.0.wait();
        }
    }
}
