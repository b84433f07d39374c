//! How a process has ended.

use core::fmt;

/// How a process has ended: by itself, with a code, or by a signal.
///
/// It is displayed as a number: the code, or the number of the signal with a minus before it.
///
/// # Examples
///
/// ```
/// use shmkit_process::{JoinError, ProcessOptions};
///
/// fn fail(_: ()) {
///     std::process::exit(3)
/// }
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     shmkit_process::init();
///     let process = ProcessOptions::new().name("failing").spawn(fail, ())?;
///     match process.join() {
///         Err(JoinError::Ended { status, .. }) => assert_eq!(status.code(), Some(3)),
///         joined => panic!("{joined:?}"),
///     }
///     let process = ProcessOptions::new().spawn(std::thread::sleep, std::time::Duration::from_secs(60))?;
///     process.kill()?;
///     assert_eq!(process.wait()?.to_string(), "-9");
///     Ok(())
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ExitStatus(Cause);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Cause {
    Code(i32),
    Signal(i32),
}

impl ExitStatus {
    pub(crate) fn of_code(code: i32) -> Self {
        Self(Cause::Code(code))
    }

    pub(crate) fn of_signal(signal: i32) -> Self {
        Self(Cause::Signal(signal))
    }

    /// Whether it has ended by itself with code 0.
    pub fn success(&self) -> bool {
        self.code() == Some(0)
    }

    /// The code that it has ended with by itself: 0 to 255.
    pub fn code(&self) -> Option<i32> {
        match self.0 {
            Cause::Code(code) => Some(code),
            Cause::Signal(_) => None,
        }
    }

    /// The signal that has ended it.
    pub fn signal(&self) -> Option<i32> {
        match self.0 {
            Cause::Code(_) => None,
            Cause::Signal(signal) => Some(signal),
        }
    }
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Cause::Code(code) => write!(f, "{code}"),
            Cause::Signal(signal) => write!(f, "-{signal}"),
        }
    }
}
