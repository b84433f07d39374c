//! Child processes: the running binary, executed again with a role in its environment.
//!
//! Never a bare fork, so the parent may have any number of threads. A child does not outlive its
//! parent: dropping [`Child`] kills and reaps it, and the kernel kills it when the parent's thread
//! that started it ends, however that happens (Ctrl-C and SIGKILL included).

use std::collections::HashMap;
use std::env;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{self, Command, Stdio};
use std::time::{Duration, Instant};

use crate::clock;
use crate::pin;
use crate::signal::Signal;

const ROLE: &str = "SHMKIT_BENCH_ROLE";
const PARENT: &str = "SHMKIT_BENCH_PARENT";
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What a child is told: its role and named arguments.
#[derive(Debug)]
pub struct Orders {
    role: String,
    arguments: HashMap<String, String>,
}

impl Orders {
    /// Takes the orders of this process; `None` if it is nobody's child.
    ///
    /// Binds its life to the parent's, and pins it if there is an argument `cpu`.
    ///
    /// # Errors
    /// Those of `prctl` and of pinning; `BrokenPipe` if the parent is gone already.
    pub fn receive() -> io::Result<Option<Self>> {
        let Ok(role) = env::var(ROLE) else {
            return Ok(None);
        };
        die_with_parent()?;
        let pairs = env::args().skip(1);
        let arguments =
            pairs.filter_map(|pair| pair.split_once('=').map(|(key, value)| (key.into(), value.into()))).collect();
        let orders = Orders { role, arguments };
        if orders.arguments.contains_key("cpu") {
            // Pinned until the process ends.
            std::mem::forget(pin::pin_to(orders.number("cpu")?)?);
        }
        Ok(Some(orders))
    }

    /// Returns the role.
    pub fn role(&self) -> &str {
        &self.role
    }

    /// Returns the argument `key`.
    ///
    /// # Errors
    /// `InvalidInput` if it was not given.
    pub fn text(&self, key: &str) -> io::Result<&str> {
        self.arguments.get(key).map(String::as_str).ok_or_else(|| self.unfit(key))
    }

    /// Returns the argument `key` as a number.
    ///
    /// # Errors
    /// `InvalidInput` if it was not given or is none.
    pub fn number<N: std::str::FromStr>(&self, key: &str) -> io::Result<N> {
        self.text(key)?.parse().map_err(|_| self.unfit(key))
    }

    fn unfit(&self, key: &str) -> io::Error {
        let message = format!("role {:?} was started without a usable argument {key:?}", self.role);
        io::Error::new(io::ErrorKind::InvalidInput, message)
    }
}

fn die_with_parent() -> io::Result<()> {
    // SAFETY: PR_SET_PDEATHSIG takes one number and touches no memory.
    if unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // A parent that died before the call above sends no signal any more.
    let expected = env::var(PARENT).unwrap_or_default();
    if expected == std::os::unix::process::parent_id().to_string() {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::BrokenPipe, "the parent of this child is gone"))
}

/// A child process; killed and reaped when dropped.
#[derive(Debug)]
pub struct Child {
    process: process::Child,
    role: &'static str,
}

impl Child {
    /// Starts this binary again in `role`.
    ///
    /// The calling thread must outlive the child: the kernel kills the child with it.
    ///
    /// # Errors
    /// Those of starting a process.
    pub fn start(role: &'static str, arguments: &[(&str, String)]) -> io::Result<Self> {
        let process = Command::new("/proc/self/exe")
            .arg0("shmkit-bench-child")
            .args(arguments.iter().map(|(key, value)| format!("{key}={value}")))
            .env(ROLE, role)
            .env(PARENT, process::id().to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()?;
        Ok(Child { process, role })
    }

    /// Returns the process id.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Sleeps until `signal` has `value`, while this child lives.
    ///
    /// # Errors
    /// `BrokenPipe` if the child ends instead, `TimedOut` after `at_most`.
    pub fn await_signal(&mut self, signal: &Signal, value: u32, at_most: Duration) -> io::Result<()> {
        let deadline = Instant::now() + at_most;
        loop {
            let seen = signal.value();
            if seen == value {
                return Ok(());
            }
            if let Some(status) = self.process.try_wait()? {
                return Err(self.ended_too_early(status));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let message = format!("child {:?} did not answer within {at_most:?}", self.role);
                return Err(io::Error::new(io::ErrorKind::TimedOut, message));
            }
            signal.wait_while(seen, left.min(LOOK_EVERY));
        }
    }

    /// Sends SIGKILL, and returns the [`clock::monotonic_ns`] of just before.
    ///
    /// # Errors
    /// Those of `kill`; `BrokenPipe` if it has ended by itself.
    pub fn kill(&mut self) -> io::Result<u64> {
        if let Some(status) = self.process.try_wait()? {
            return Err(self.ended_too_early(status));
        }
        let pid = self.process.id() as libc::pid_t;
        let before = clock::monotonic_ns();
        // SAFETY: `kill` touches no memory.
        match unsafe { libc::kill(pid, libc::SIGKILL) } {
            0 => Ok(before),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Waits until the process has ended and is gone from the table.
    ///
    /// # Errors
    /// Those of `waitpid`.
    pub fn reap(mut self) -> io::Result<()> {
        self.process.wait().map(drop)
    }

    fn ended_too_early(&self, status: process::ExitStatus) -> io::Error {
        let message = format!("child {:?} ended too early: {status}", self.role);
        io::Error::new(io::ErrorKind::BrokenPipe, message)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Both fail only if the process was reaped already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
