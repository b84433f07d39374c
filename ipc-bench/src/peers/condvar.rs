//! Condition variables: glibc's, process-shared, and std's. For each member a flag under a mutex, and a
//! condition variable for those who wait for the flag.
//!
//! glibc's is used as its manual says: both are made with `PTHREAD_PROCESS_SHARED`, and `pthread_cond_wait` stands in a loop that looks at the flag, which is
//! set under the mutex before `pthread_cond_signal`. std's as its documentation says, in the same way, by `wait_while` and `notify_one`.

use std::cell::UnsafeCell;
use std::io;
use std::mem::MaybeUninit;
use std::sync::{Condvar, Mutex, PoisonError};

use super::threads::Threaded;
use super::{check, insist};
use crate::baton::Baton;
use crate::shared::{Line, SharedBox, SharedLayout};
use crate::team::{MOST, Place, Seat};

/// The name of glibc's in results.
pub const PTHREAD: &str = "pthread condvar";
/// The name of std's in results.
pub const STD: &str = "std, threads";

#[repr(C)]
struct Flag {
    mutex: UnsafeCell<libc::pthread_mutex_t>,
    raised: UnsafeCell<libc::pthread_cond_t>,
    is_up: UnsafeCell<u32>,
}

// SAFETY: both are made for any number of threads and, process-shared, of processes; the flag is reached
// only under the mutex.
unsafe impl Sync for Flag {}
// SAFETY: the layout is that of the one libc of the machine; both are valid when zeroed, and `create`
// makes them anew before anyone else learns where they are.
unsafe impl SharedLayout for [Line<Flag>; MOST] {}

/// Process-shared condition variables.
pub struct Pthread(SharedBox<[Line<Flag>; MOST]>);

impl Place for Pthread {
    fn create(_: usize) -> io::Result<Self> {
        let flags = SharedBox::<[Line<Flag>; MOST]>::create()?;
        for Line(flag) in flags.iter() {
            let (mut of_mutex, mut of_condvar) = (MaybeUninit::uninit(), MaybeUninit::uninit());
            // SAFETY: the attributes are initialised before all else uses them and destroyed once, at the
            // end; mutex and condition variable are aligned, in live memory, and known to nobody else yet.
            let codes = unsafe {
                [
                    libc::pthread_mutexattr_init(of_mutex.as_mut_ptr()),
                    libc::pthread_mutexattr_setpshared(of_mutex.as_mut_ptr(), libc::PTHREAD_PROCESS_SHARED),
                    libc::pthread_mutex_init(flag.mutex.get(), of_mutex.as_ptr()),
                    libc::pthread_mutexattr_destroy(of_mutex.as_mut_ptr()),
                    libc::pthread_condattr_init(of_condvar.as_mut_ptr()),
                    libc::pthread_condattr_setpshared(of_condvar.as_mut_ptr(), libc::PTHREAD_PROCESS_SHARED),
                    libc::pthread_cond_init(flag.raised.get(), of_condvar.as_ptr()),
                    libc::pthread_condattr_destroy(of_condvar.as_mut_ptr()),
                ]
            };
            codes.into_iter().try_for_each(check)?;
        }
        Ok(Pthread(flags))
    }

    fn address(&self) -> String {
        self.0.address()
    }

    fn attach(address: &str) -> io::Result<Self> {
        SharedBox::attach(address).map(Pthread)
    }
}

impl Baton for Pthread {
    fn give(&self, to: usize) {
        let flag = &self.0[to].0;
        // SAFETY: made by `create`, alive as the mapping is; the flag is written under the mutex.
        unsafe {
            insist(libc::pthread_mutex_lock(flag.mutex.get()));
            *flag.is_up.get() = 1;
            insist(libc::pthread_mutex_unlock(flag.mutex.get()));
            insist(libc::pthread_cond_signal(flag.raised.get()));
        }
    }

    fn take(&self, own: usize) {
        let flag = &self.0[own].0;
        // SAFETY: as in `give`.
        unsafe {
            insist(libc::pthread_mutex_lock(flag.mutex.get()));
            while *flag.is_up.get() == 0 {
                insist(libc::pthread_cond_wait(flag.raised.get(), flag.mutex.get()));
            }
            *flag.is_up.get() = 0;
            insist(libc::pthread_mutex_unlock(flag.mutex.get()));
        }
    }
}

/// std's condition variables.
pub struct Std(Vec<Line<(Mutex<u32>, Condvar)>>);

impl Threaded for Std {
    const IS_LATENCY: bool = true;

    fn create() -> Self {
        Std((0..MOST).map(|_| Line::default()).collect())
    }

    fn play(&self, seat: Seat, turns: u64) {
        let member = seat.member;
        let (own, partner) = (&self.0[member].0, &self.0[member ^ 1].0);
        let give = || {
            *partner.0.lock().unwrap_or_else(PoisonError::into_inner) = 1;
            partner.1.notify_one();
        };
        for _ in 0..turns {
            if member % 2 == 0 {
                give();
            }
            let flag = own.0.lock().unwrap_or_else(PoisonError::into_inner);
            *own.1.wait_while(flag, |flag| *flag == 0).unwrap_or_else(PoisonError::into_inner) = 0;
            if member % 2 == 1 {
                give();
            }
        }
    }
}
