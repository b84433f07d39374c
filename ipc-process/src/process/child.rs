//! A process that was started by this one, whatever its function returns.

use core::fmt;
use core::sync::atomic::Ordering::{Acquire, Release};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use shmkit_core::identity::{self, Token};
use shmkit_core::shim::AtomicU32;
use shmkit_core::wait::{Armed, FutexWord, Source, wake_all};
use shmkit_core::{Error, crash_point};

use super::error::JoinError;
use super::exit::ExitStatus;
use super::nursery::Nursery;
use super::sys::{self, Reaped};

/// A process that was started by this one. Clones denote the same process.
///
/// It is reaped when it has ended, whether or not anybody waits for it. Dropping this does nothing to it.
///
/// A [`Process`](super::Process) dereferences to this. It is a [`Source`]: [`wait_any`](shmkit_core::wait_any) waits for its end, and for other things besides. For
/// event loops, [`AsFd`] is a descriptor that can be read from when it has ended.
///
/// In a forked child of the process that has started it, it can be neither waited for nor signalled: [`JoinError::Forked`].
#[derive(Clone)]
pub struct Child {
    shared: Arc<Shared>,
}

/// A child, as the nursery and its handles know it.
pub(crate) struct Shared {
    pid: u32,
    name: String,
    is_daemon: bool,
    process: OwnedFd,
    /// The process that has started it.
    owner: Token,
    /// How it has ended; whoever reaps it writes it.
    ended: Mutex<Option<Ended>>,
    /// 1 when `ended` is set, for those who wait for several things.
    word: AtomicU32,
}

/// How a child has ended, as far as that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    With(ExitStatus),
    Lost,
}

impl Shared {
    pub(crate) fn new(pid: u32, name: String, is_daemon: bool, process: OwnedFd, owner: Token) -> Self {
        Self { pid, name, is_daemon, process, owner, ended: Mutex::new(None), word: AtomicU32::new(0) }
    }

    /// How it has ended, if it has; then it is reaped.
    pub(crate) fn look(&self) -> io::Result<Option<Ended>> {
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        if ended.is_none() {
            *ended = match sys::reap(self.process.as_fd())? {
                Reaped::Alive => return Ok(None),
                Reaped::Ended(status) => Some(Ended::With(status)),
                Reaped::Lost => Some(Ended::Lost),
            };
            crash_point!("process.look.after_reap");
            // Release pairs with the Acquire in `is_ready`.
            self.word.store(1, Release);
            wake_all(&self.word);
        }
        Ok(*ended)
    }
}

impl AsFd for Shared {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.process.as_fd()
    }
}

/// The processes that this one has started and that have not ended, in that order.
pub fn active_children() -> Vec<Child> {
    let children = Nursery::existing().map_or(Vec::new(), |nursery| nursery.children());
    children.into_iter().map(|shared| Child { shared }).filter(Child::is_alive).collect()
}

impl Child {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Its process id. When it has ended, that may be another process's.
    pub fn pid(&self) -> u32 {
        self.shared.pid
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Whether it ends with this process.
    pub fn is_daemon(&self) -> bool {
        self.shared.is_daemon
    }

    /// Whether it has not ended.
    pub fn is_alive(&self) -> bool {
        if identity::is_own(self.shared.owner) {
            return self.shared.look().is_ok_and(|ended| ended.is_none());
        }
        // It is not a child of this process: reaping it is not ours.
        !sys::wait(self.as_fd(), Some(Duration::ZERO)).unwrap_or(true)
    }

    /// How it has ended; `None` if it has not.
    ///
    /// # Errors
    ///
    /// [`JoinError::Lost`], [`JoinError::Forked`], [`JoinError::Io`].
    pub fn exit_status(&self) -> Result<Option<ExitStatus>, JoinError> {
        if !identity::is_own(self.shared.owner) {
            return Err(JoinError::Forked { name: self.name().to_owned() });
        }
        match self.shared.look() {
            Ok(None) => Ok(None),
            Ok(Some(Ended::With(status))) => Ok(Some(status)),
            Ok(Some(Ended::Lost)) => Err(JoinError::Lost { name: self.name().to_owned() }),
            Err(error) => Err(self.failed(error)),
        }
    }

    /// Waits until it has ended, and says how.
    ///
    /// # Blocking
    ///
    /// Until then. Signals do not end it.
    ///
    /// # Errors
    ///
    /// As for [`exit_status`](Self::exit_status).
    pub fn wait(&self) -> Result<ExitStatus, JoinError> {
        self.wait_until(None)
    }

    /// Waits until it has ended, for `timeout` at most, and says how.
    ///
    /// # Errors
    ///
    /// [`JoinError::TimedOut`], and those of [`exit_status`](Self::exit_status).
    pub fn wait_timeout(&self, timeout: Duration) -> Result<ExitStatus, JoinError> {
        self.wait_until(Some(timeout))
    }

    fn wait_until(&self, timeout: Option<Duration>) -> Result<ExitStatus, JoinError> {
        if !identity::is_own(self.shared.owner) {
            return Err(JoinError::Forked { name: self.name().to_owned() });
        }
        let has_ended = sys::wait(self.as_fd(), timeout).map_err(|error| self.failed(error))?;
        let status = if has_ended { self.exit_status()? } else { None };
        status.ok_or_else(|| JoinError::TimedOut { name: self.name().to_owned() })
    }

    /// Asks it to end (SIGTERM). Unless it has arranged for something else, this ends it at once. Does nothing if it has ended.
    ///
    /// # Errors
    ///
    /// If it may not be signalled, such as one that has become another user's; in a forked child of the process that has started it.
    pub fn terminate(&self) -> io::Result<()> {
        self.signal(libc::SIGTERM)
    }

    /// Kills it (SIGKILL). Does nothing if it has ended.
    ///
    /// # Errors
    ///
    /// As for [`terminate`](Self::terminate).
    pub fn kill(&self) -> io::Result<()> {
        self.signal(libc::SIGKILL)
    }

    fn signal(&self, signal: i32) -> io::Result<()> {
        if !identity::is_own(self.shared.owner) {
            return Err(io::Error::other(JoinError::Forked { name: self.name().to_owned() }));
        }
        sys::signal(self.as_fd(), signal)
    }

    fn failed(&self, error: io::Error) -> JoinError {
        JoinError::Io { name: self.name().to_owned(), error }
    }
}

impl AsFd for Child {
    /// A descriptor that can be read from (`poll`) when it has ended.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.as_fd()
    }
}

/// Ready when it has ended.
impl Source for Child {
    fn word(&self) -> &dyn FutexWord {
        &self.shared.word
    }

    fn is_ready(&mut self) -> bool {
        // Acquire pairs with the Release in `look`.
        self.shared.word.load(Acquire) != 0
    }

    /// The nursery changes the word when the process has ended.
    fn arm(&mut self) -> Result<Armed, Error> {
        if identity::is_own(self.shared.owner) { Ok(Armed::at(0)) } else { Err(Error::Forked) }
    }

    // All are woken, so no wake-up is for others.
    fn disarm(&mut self, _may_be_woken: bool) {}
}

impl fmt::Debug for Child {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Child")
            .field("pid", &self.pid())
            .field("name", &self.name())
            .field("is_daemon", &self.is_daemon())
            .finish_non_exhaustive()
    }
}
