//! Our processes that are killed while others wait for what they do: one that is joined, and a worker of a pool.

use std::io;
use std::time::{Duration, Instant};

use shmkit::process::{JoinError, Pool, TaskError};

use super::{other, park_for_ever};
use crate::figure::SUBJECT;
use crate::killed::{Outcome, Row, When};
use crate::shared::{SharedBox, SharedLayout};
use crate::signal::Signal;

const BEGINS_WITHIN: Duration = Duration::from_secs(20);

/// What a task tells: 1 when it has begun.
#[repr(transparent)]
struct Begun(Signal);

// SAFETY: transparent around an atomic, for which zero is a value.
unsafe impl SharedLayout for Begun {}

/// The rows of them, with nobody waiting for longer than `bound`.
///
/// # Errors
/// Those of starting and killing processes, and what nobody expects.
pub(super) fn killed(bound: Duration) -> io::Result<Vec<Row>> {
    let row = |what: &str, outcome| Row { whose: SUBJECT, what: what.into(), when: When::Working, outcome };
    let joined = joined(bound)?;
    let [task, next] = task(bound)?;
    Ok(vec![row("a process that is joined", joined), row("Pool, its task", task), row("Pool, the next task", next)])
}

fn joined(bound: Duration) -> io::Result<Outcome> {
    let mut process = shmkit::process::spawn(park_for_ever, ()).map_err(other)?;
    let begun = Instant::now();
    process.kill()?;
    match process.join_timeout(bound) {
        Err(JoinError::TimedOut { .. }) => Err(other("join of a killed process hangs")),
        Err(error) => Ok(Outcome::Told(begun.elapsed(), error.to_string())),
        Ok(()) => Err(other("a killed process has answered")),
    }
}

/// Kills the only worker of a pool in a task: what becomes of that, and of another one that waits for its turn.
fn task(bound: Duration) -> io::Result<[Outcome; 2]> {
    let pool = Pool::new(1).map_err(other)?;
    let begun = SharedBox::<Begun>::create()?;
    let task = pool.named("endless").submit(begin, begun.address());
    let deadline = Instant::now() + BEGINS_WITHIN;
    while begun.0.value() == 0 {
        let left = deadline.checked_duration_since(Instant::now()).ok_or_else(|| other("a task does not begin"))?;
        begun.0.wait_while(0, left);
    }
    let next = pool.submit(negate, true);
    let &[worker] = &pool.pids()[..] else { return Err(other("a pool of one worker has another number")) };
    let killed = Instant::now();
    // SAFETY: no memory is involved.
    if unsafe { libc::kill(worker as libc::pid_t, libc::SIGKILL) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let task = match task.get_timeout(bound) {
        Err(error @ TaskError::WorkerDied { .. }) => Outcome::Told(killed.elapsed(), error.to_string()),
        Err(error) => return Err(other(error)),
        Ok(()) => return Err(other("the task of a killed worker has ended")),
    };
    match next.get_timeout(bound) {
        Ok(false) => Ok([task, Outcome::Recovered(killed.elapsed())]),
        Ok(true) => Err(other("a task has a wrong value")),
        Err(error) => Err(other(error)),
    }
}

fn begin(address: String) {
    let begun = SharedBox::<Begun>::attach(&address).expect("the parent keeps it");
    begun.0.set(1);
    park_for_ever(());
}

fn negate(is: bool) -> bool {
    !is
}
