//! A bell: a descriptor that is readable from when it is rung until it is cleared.
//!
//! It is an `eventfd`, and belongs to one way of a channel. Where both sides of the way have it, because it was made with the channel and travelled with the
//! ticket, the sender rings it for a receiver that [says so](crate::ends::Ends::arm_bell), and the keeper of the receiver's process when anybody has died. Otherwise a
//! [watcher](crate::readiness) of the receiver rings it, and nobody else has it.

#[cfg(ipc_loom)]
pub(crate) use model::Bell;
#[cfg(not(ipc_loom))]
pub(crate) use real::Bell;

#[cfg(not(ipc_loom))]
mod real {
    use std::fs;
    use std::io;
    use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    use nix::sys::eventfd::{EfdFlags, EventFd};
    use shmkit_core::wait;

    /// What the kernel calls an `eventfd`.
    const KIND: &str = "anon_inode:[eventfd]";

    #[derive(Debug)]
    pub struct Bell(EventFd);

    impl Bell {
        pub(crate) fn new() -> io::Result<Self> {
            Ok(Self(EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?))
        }

        /// Whether the descriptor of this number is open, and that of a bell.
        pub(crate) fn is_one(number: RawFd) -> bool {
            fs::read_link(format!("/proc/self/fd/{number}")).is_ok_and(|kind| kind.as_os_str() == KIND)
        }

        /// The bell that somebody else has made; `None` if it is none. One that blocks would keep its owner waiting, and is none.
        pub(crate) fn of_file(file: OwnedFd) -> Option<Self> {
            let is_bell = Self::is_one(file.as_raw_fd()) && !blocks(&file);
            // SAFETY: it is an `eventfd`, as was just seen, and stays one as long as we own it.
            is_bell.then(|| Self(unsafe { EventFd::from_owned_fd(file) }))
        }

        pub(crate) fn ring(&self) {
            // It fails only where it was rung 2^64 times and never cleared, and is readable then.
            let _ = self.0.write(1);
        }

        pub(crate) fn clear(&self) {
            // It fails where it was not rung.
            let _ = self.0.read();
        }
    }

    /// Whether one who reads or writes there waits.
    fn blocks(file: &OwnedFd) -> bool {
        fcntl(file, FcntlArg::F_GETFL).map_or(true, |flags| flags & OFlag::O_NONBLOCK.bits() == 0)
    }

    impl wait::Bell for Bell {
        fn ring(&self) {
            self.ring();
        }
    }

    impl AsFd for Bell {
        fn as_fd(&self) -> BorrowedFd<'_> {
            self.0.as_fd()
        }
    }
}

#[cfg(all(test, not(ipc_loom)))]
mod tests {
    use nix::sys::eventfd::{EfdFlags, EventFd};

    use super::Bell;

    #[test]
    fn a_bell_whose_owner_could_be_kept_waiting_by_it_is_none() {
        let bell = |flags| Bell::of_file(EventFd::from_flags(flags).expect("a descriptor").into());
        assert!(bell(EfdFlags::EFD_NONBLOCK).is_some());
        assert!(bell(EfdFlags::empty()).is_none());
        assert!(Bell::of_file(std::fs::File::open("/dev/null").expect("a device").into()).is_none());
    }
}

#[cfg(ipc_loom)]
mod model {
    //! A bell of models: a word.

    use core::sync::atomic::Ordering::SeqCst;
    use std::io;

    use shmkit_core::shim::{AtomicU32, futex};
    use shmkit_core::wait::{Epoch, Site};

    #[derive(Debug)]
    pub(crate) struct Bell(AtomicU32);

    impl Bell {
        #[allow(clippy::unnecessary_wraps, reason = "the face of the real one")]
        pub(crate) fn new() -> io::Result<Self> {
            Ok(Self(AtomicU32::new(0)))
        }

        pub(crate) fn ring(&self) {
            self.0.swap(1, SeqCst);
            futex::wake(&self.0, u32::MAX);
        }

        pub(crate) fn clear(&self) {
            self.0.swap(0, SeqCst);
        }

        pub(crate) fn wait(&self) {
            while self.0.load(SeqCst) == 0 {
                futex::wait(&[(&self.0, 0)], None);
            }
        }

        /// The same for one that a keeper rings, too, when somebody has died since `epoch`.
        pub(crate) fn wait_or_death(&self, site: &Site, epoch: Epoch) {
            while self.0.load(SeqCst) == 0 && site.epoch() == epoch {
                site.wait(&self.0, 0, epoch, None);
            }
        }
    }
}
