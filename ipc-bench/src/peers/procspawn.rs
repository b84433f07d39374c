//! The crate procspawn: a function in a process of its own, which is the running binary, executed again.
//!
//! Used as its documentation says: `init` first in `main` (see [`run_role_if_child`](crate::cases::run_role_if_child)), then
//! `spawn` with the arguments and a function, and `join` for its result; both go through channels of servo's crate
//! ipc-channel. Its feature for backtraces, which only adds to what it does, is off. The cases
//! of [`spawn`](crate::cases::spawn) and [`pool`](crate::cases::pool) call it; here it is killed.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use super::temporary;
use crate::killed::{Outcome, Row, When};

/// The name in results.
pub const NAME: &str = "procspawn";

/// What who joins a process learns when that is killed, within `bound`.
///
/// # Errors
/// Those of starting the process, or of killing it.
pub fn killed(bound: Duration) -> io::Result<Row> {
    temporary::claim()?;
    let mut process = procspawn::spawn((), |()| {
        loop {
            thread::park();
        }
    });
    let begun = Instant::now();
    // By SIGKILL.
    process.kill().map_err(io::Error::other)?;
    let outcome = match process.join_timeout(bound) {
        Err(error) if error.is_timeout() => Outcome::Hangs(bound),
        Err(error) => Outcome::Told(begun.elapsed(), error.to_string()),
        Ok(()) => return Err(io::Error::other("a killed process has answered")),
    };
    Ok(Row { whose: NAME, what: "a process that is joined".into(), when: When::Working, outcome })
}
