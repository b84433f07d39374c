//! A process that was started by this one, and the value of its function.

use core::fmt;
use core::marker::PhantomData;
use core::ops::Deref;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use serde::de::DeserializeOwned;
use shmkit_core::Error;
use shmkit_core::transfer::Parcel;
use shmkit_core::wait::{Armed, FutexWord, Source};

use super::bootstrap::Outcome;
use super::child::Child;
use super::codec;
use super::error::JoinError;

/// A process that runs a function of this program, which returns an `R`.
///
/// It dereferences to a [`Child`], which is what can be done with any process: `pid`, `is_alive`, `terminate`, `kill`, `exit_status`.
///
/// Dropping it does nothing to the process: it lives on, is reaped when it has ended, and its value is lost. When this process ends, those that are not
/// daemons live on as well. Whoever does not want that, joins them before.
///
/// # Examples
///
/// ```
/// use shmkit_process::{JoinError, spawn};
///
/// fn divide((a, b): (u32, u32)) -> u32 {
///     a / b
/// }
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     shmkit_process::init();
///     let (good, bad) = (spawn(divide, (6, 3))?, spawn(divide, (6, 0))?);
///     assert_eq!(good.join()?, 2);
///     match bad.join() {
///         Err(JoinError::Panicked { message, .. }) => assert_eq!(message, "attempt to divide by zero"),
///         joined => panic!("{joined:?}"),
///     }
///     Ok(())
/// }
/// ```
pub struct Process<R> {
    child: Child,
    /// What the answer comes over; `None` if it has been taken.
    socket: Option<OwnedFd>,
    _value: PhantomData<fn() -> R>,
}

impl<R: DeserializeOwned> Process<R> {
    /// Waits until the process has ended, and returns what its function has returned.
    ///
    /// # Blocking
    ///
    /// Until then. Signals do not end it.
    ///
    /// # Errors
    ///
    /// [`JoinError::Panicked`], with what the panic said; [`JoinError::Ended`], with the signal or the code, if it has ended before its function
    /// returned; [`JoinError::Value`]; and those of [`Child::wait`].
    pub fn join(mut self) -> Result<R, JoinError> {
        self.child.wait()?;
        self.take()
    }

    /// Waits until the process has ended, for `timeout` at most, and returns what its function has returned. The value is returned once.
    ///
    /// # Errors
    ///
    /// [`JoinError::TimedOut`]: then it can be called again; [`JoinError::Taken`]; and those of [`join`](Self::join).
    pub fn join_timeout(&mut self, timeout: Duration) -> Result<R, JoinError> {
        self.child.wait_timeout(timeout)?;
        self.take()
    }

    /// The answer of a process that has ended.
    fn take(&mut self) -> Result<R, JoinError> {
        let name = || self.child.name().to_owned();
        let status = self.child.wait()?;
        let Some(socket) = self.socket.take() else {
            return Err(JoinError::Taken { name: name() });
        };
        let parcel = match Parcel::try_receive(socket.as_fd()) {
            Ok(parcel) => Some(parcel),
            Err(error) if has_no_answer(&error) => None,
            Err(error) => return Err(JoinError::Io { name: name(), error }),
        };
        match parcel.map(Outcome::of_parcel) {
            Some(Outcome::Value(Parcel { bytes, files })) if status.success() => {
                codec::unpack(&bytes, files).map_err(|what| JoinError::Value { name: name(), what })
            }
            Some(Outcome::Panicked(message)) if status.code().is_some() => {
                Err(JoinError::Panicked { name: name(), message })
            }
            Some(Outcome::Failed(what)) if status.code().is_some() => Err(JoinError::Value { name: name(), what }),
            // Also if it was killed after it had answered, before it had come to its end: a value counts if all went well.
            _ => Err(JoinError::Ended { name: name(), status }),
        }
    }
}

/// Whether a socket says that nothing was sent: nobody has the other end any more, or had taken what came there (then it is reset), or
/// somebody still has it who has inherited it by a fork.
fn has_no_answer(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionReset, UnexpectedEof, WouldBlock};
    matches!(error.kind(), WouldBlock | UnexpectedEof | ConnectionReset)
}

impl<R> Process<R> {
    pub(crate) fn new(child: Child, socket: OwnedFd) -> Self {
        Self { child, socket: Some(socket), _value: PhantomData }
    }
}

impl<R> Deref for Process<R> {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.child
    }
}

impl<R> AsFd for Process<R> {
    /// A descriptor that can be read from (`poll`) when it has ended.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.child.as_fd()
    }
}

/// Ready when it has ended.
impl<R> Source for Process<R> {
    fn word(&self) -> &dyn FutexWord {
        self.child.word()
    }

    fn is_ready(&mut self) -> bool {
        self.child.is_ready()
    }

    fn arm(&mut self) -> Result<Armed, Error> {
        self.child.arm()
    }

    fn disarm(&mut self, may_be_woken: bool) {
        self.child.disarm(may_be_woken);
    }
}

impl<R> fmt::Debug for Process<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process").field("pid", &self.pid()).field("name", &self.name()).finish_non_exhaustive()
    }
}
