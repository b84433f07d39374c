//! Readiness: a descriptor that tells an event loop when a receiver has something to do.
//!
//! The descriptor is a [bell](crate::bell). A futex cannot be waited for together with descriptors, and the dead ring no bells.
//!
//! # With a bell that was carried
//!
//! The sender of a channel without a name has the bell, too. A receiver that has found nothing clears it and leaves word that it is to be rung, in the word that it
//! otherwise sleeps on; see [`Ends::arm_bell`](crate::ends::Ends::arm_bell). Deaths are the keeper's business, which hears of all of them
//! and rings. So there is no thread, and none is woken in between.
//!
//! The owner keeps to this: it has left word, or the bell is rung, or is about to be by somebody whose death would ring it. A blocking call uses the same
//! word, so after one the owner rings by itself; the event loop then finds nothing, which leaves word again.
//!
//! # With a watcher
//!
//! Otherwise (ends by name, and processes without a keeper) each receiver that was asked for its readiness has a thread, the watcher, which waits as
//! any receiver does, for messages and for the end of the other side, and rings. It costs the sender nothing that a sleeping receiver
//! would not cost, either.
//!
//! As long as there is a watcher, it is the only one of its process who sleeps at the end in shared memory: an owner that wants to wait there, too, waits
//! for the bell instead. So `asleep` still has one master.
//!
//! # States of the desk, where the two meet
//!
//! | state | the owner finds nothing | the watcher | the owner closes |
//! |---|---|---|---|
//! | IDLE | clears the bell, CAS -> ARMED, wakes | sleeps until it is something else | -> OVER, wakes |
//! | ARMED | clears the bell | waits; then CAS -> IDLE, rings | -> OVER, gets it out of its wait |
//! | OVER | asks by itself what is wrong | has ended | - |
//!
//! The owner clears the bell before it looks at the state, and the watcher rings after it has changed it. So a ring may come late, and is
//! for nothing then; but after the owner has found nothing, the state is ARMED, and there is no ring that it has cleared which the watcher
//! does not repeat. What comes between the owner's look at the channel and ARMED is found by the watcher, whose first act is to look.
//!
//! None of this is in shared memory. A killed process takes owner and watcher along; a forked child has neither.

use core::fmt;
use core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use std::io;
use std::sync::Arc;

use shmkit_core::Deadline;
use shmkit_core::shim::{AtomicU32, AtomicU64, futex};
use shmkit_core::wait::{Armed, FutexWord, wake_all};

use crate::bell::Bell;

/// The owner does not want to know: the last ring has not been answered.
const IDLE: u32 = 0;
/// The owner has found nothing, and is to be told of what comes.
const ARMED: u32 = 1;
/// There is no watcher any more: the end is closed, or cannot be waited at.
const OVER: u32 = 2;

/// Where the owner of an end and its watcher meet. Private to their process.
#[derive(Debug)]
pub(crate) struct Desk {
    state: AtomicU32,
    /// The number of the message that the owner has not found. Written by the owner, before ARMED; an older one is a reason to ring for
    /// nothing.
    wanted: AtomicU64,
    bell: Arc<Bell>,
}

impl Desk {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { state: AtomicU32::new(IDLE), wanted: AtomicU64::new(0), bell: Arc::new(Bell::new()?) })
    }

    /// What is rung.
    pub(crate) fn bell(&self) -> &Arc<Bell> {
        &self.bell
    }

    /// The owner has found that the message of this number has not come.
    pub(crate) fn want(&self, number: u64) {
        self.wanted.store(number, Relaxed);
    }

    /// The owner wants to be told; says whether there is a watcher.
    pub(crate) fn arm(&self) -> bool {
        if self.is_over() {
            return false;
        }
        self.bell.clear();
        // Release pairs with the Acquire of the watcher, which then looks for what is wanted.
        match self.state.compare_exchange(IDLE, ARMED, AcqRel, Acquire) {
            Ok(_) => wake_all(&self.state),
            Err(ARMED) => {}
            Err(_) => {
                self.bell.ring();
                return false;
            }
        }
        true
    }

    /// Whether there is no watcher any more.
    pub(crate) fn is_over(&self) -> bool {
        self.state.load(Acquire) == OVER
    }

    /// What the owner sleeps on until there is a ring, among other things, and while it is what.
    pub(crate) fn word(&self) -> &dyn FutexWord {
        &self.state
    }

    /// See [`word`](Self::word).
    pub(crate) fn armed(&self) -> Armed {
        Armed::at(ARMED)
    }

    /// The owner waits for a ring, or for no reason.
    pub(crate) fn sleep(&self, deadline: Option<Deadline>) {
        futex::wait(&[(&self.state, ARMED)], deadline);
    }

    /// The watcher tells the owner, if that wants to know.
    pub(crate) fn tell(&self) {
        if self.state.compare_exchange(ARMED, IDLE, AcqRel, Acquire).is_ok() {
            wake_all(&self.state);
            self.bell.ring();
        }
    }

    /// Ends the watch. The bell stays rung.
    pub(crate) fn end(&self) {
        // AcqRel, as all changes: who sees a later change of the end's word by the same thread sees this.
        self.state.swap(OVER, AcqRel);
        wake_all(&self.state);
        self.bell.ring();
    }

    /// What the watcher does: `wait` until it is over. That is to return when `is_off` says so, or there may be something for the owner, given
    /// the number of the message that it wants; `false` if it cannot be waited.
    pub(crate) fn watch(&self, wait: impl Fn(&dyn Fn() -> bool, &dyn Fn() -> u64) -> bool) {
        loop {
            // Acquire pairs with the Release in `arm`.
            match self.state.load(Acquire) {
                IDLE => {
                    futex::wait(&[(&self.state, IDLE)], None);
                }
                ARMED if wait(&|| self.state.load(Acquire) != ARMED, &|| self.wanted.load(Relaxed)) => self.tell(),
                ARMED => self.end(),
                _ => return,
            }
        }
    }
}

/// A descriptor that is readable when a receiver may have something to do: for `epoll`, `poll`, mio, or tokio's `AsyncFd`.
///
/// It is readable from when a message comes, or the other side is gone, until a call finds nothing
/// ([`RecvError::Empty`](crate::RecvError::Empty)), which makes it unreadable until there is something again. So it is used as a
/// non-blocking socket is, whether the event loop looks at levels or at edges: when it is readable, `try_recv` until
/// that says `Empty`, then wait again. Nothing else has to be done with it; it must not be read or written.
///
/// It may be readable for nothing. When the other side is gone, or this end is closed, it stays readable.
///
/// Made by [`Receiver::readiness`](crate::Receiver::readiness). It can outlive the receiver, and tells nothing in a forked child.
#[derive(Clone)]
pub struct Readiness(Arc<Bell>);

impl Readiness {
    pub(crate) fn of(bell: &Arc<Bell>) -> Self {
        Self(Arc::clone(bell))
    }

    /// Waits until it is readable, as an event loop does.
    #[cfg(ipc_loom)]
    pub fn wait(&self) {
        self.0.wait();
    }

    /// The same for one that is carried: a keeper rings it, too, if somebody has died since `epoch`.
    #[cfg(ipc_loom)]
    pub fn wait_or_death(&self, site: &shmkit_core::wait::Site, epoch: shmkit_core::wait::Epoch) {
        self.0.wait_or_death(site, epoch);
    }
}

impl fmt::Debug for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Readiness").field(&self.0).finish()
    }
}

#[cfg(not(ipc_loom))]
pub(crate) use real::start;

#[cfg(not(ipc_loom))]
mod real {
    use std::io;
    use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
    use std::thread::{self, JoinHandle};

    use nix::sys::signal::{SigSet, SigmaskHow};
    use shmkit_core::spin::{Spinning, set_spinning};

    use super::Readiness;

    /// What a watcher needs of its stack, with much to spare.
    const STACK: usize = 128 * 1024;

    impl AsFd for Readiness {
        fn as_fd(&self) -> BorrowedFd<'_> {
            self.0.as_fd()
        }
    }

    impl AsRawFd for Readiness {
        fn as_raw_fd(&self) -> RawFd {
            self.as_fd().as_raw_fd()
        }
    }

    /// Starts a watcher, in which no handler of a signal runs.
    pub(crate) fn start(life: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
        let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK);
        let watcher = thread::Builder::new().name("shmkit-ready".to_owned()).stack_size(STACK).spawn(|| {
            // Its owner has something else to do, or it would wait by itself.
            set_spinning(Spinning::Never);
            life();
        });
        if let Ok(before) = before {
            // Restoring a mask that was in force a moment ago cannot fail.
            let _ = before.thread_set_mask();
        }
        watcher
    }
}
