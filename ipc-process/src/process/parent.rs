//! The process that has started this one.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use super::init::Role;
use super::sys;

/// The process that has started this one, to be told of its death.
///
/// A process that is no [daemon](super::ProcessOptions::daemon) lives on when its parent ends. Whoever does not want that, asks here.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// fn work(_: ()) -> u32 {
///     let parent = shmkit_process::parent().expect("this process was started by another one");
///     let mut done = 0;
///     while done < 3 && parent.is_alive() {
///         done += 1;
///     }
///     done
/// }
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     shmkit_process::init();
///     assert_eq!(shmkit_process::spawn(work, ())?.join()?, 3);
///     Ok(())
/// }
/// ```
#[derive(Debug)]
pub struct Parent {
    pid: u32,
    process: OwnedFd,
}

/// The process that has started this one; `None` if that was not done by this library.
pub fn parent() -> Option<&'static Parent> {
    Role::get().and_then(|role| role.parent.as_ref())
}

/// The process id of the process that has started this one, also if it has ended since; `None` if that was not done by this library.
pub fn parent_id() -> Option<u32> {
    parent().map(Parent::pid)
}

impl Parent {
    pub(crate) fn new(pid: u32, process: OwnedFd) -> Self {
        Self { pid, process }
    }

    /// Its process id. When it has ended, that may be another process's.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether it has not ended.
    pub fn is_alive(&self) -> bool {
        // A descriptor that cannot be looked at is no news.
        !sys::wait(self.process.as_fd(), Some(Duration::ZERO)).unwrap_or(false)
    }

    /// Waits until it has ended.
    ///
    /// # Blocking
    ///
    /// Until then. Signals do not end it.
    ///
    /// # Errors
    ///
    /// Those of `poll`.
    pub fn wait(&self) -> io::Result<()> {
        sys::wait(self.process.as_fd(), None).map(|_| ())
    }

    /// Waits until it has ended, for `timeout` at most; says whether it has.
    ///
    /// # Errors
    ///
    /// As for [`wait`](Self::wait).
    pub fn wait_timeout(&self, timeout: Duration) -> io::Result<bool> {
        sys::wait(self.process.as_fd(), Some(timeout))
    }
}

impl AsFd for Parent {
    /// A descriptor that can be read from (`poll`) when it has ended.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.process.as_fd()
    }
}
