//! Child processes: the running binary, executed again with a role in its environment.
//!
//! Never a bare fork, so the parent may have any number of threads. A child does not outlive its
//! parent: dropping [`Child`] kills and reaps it, and the kernel kills it when the parent's thread
//! that started it ends, however that happens (Ctrl-C and SIGKILL included). The exception is a
//! [`Janitor`](crate::janitor::Janitor), which ends by itself when its parent has ended.

use std::collections::HashMap;
use std::env;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{self, Command, Stdio};
use std::time::{Duration, Instant};

use crate::clock;
use crate::pin;
use crate::signal::Signal;

/// The variable with the role of a child.
pub(crate) const ROLE: &str = "SHMKIT_BENCH_ROLE";
/// The parent to die with; a child without it is a janitor.
pub(crate) const PARENT: &str = "SHMKIT_BENCH_PARENT";
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
    /// Binds its life to the parent's, unless it is a janitor, and pins it if there is an argument `cpu`, to
    /// one or several separated by commas.
    ///
    /// # Errors
    /// Those of `prctl` and of pinning; `BrokenPipe` if the parent is gone already.
    pub fn receive() -> io::Result<Option<Self>> {
        let Ok(role) = env::var(ROLE) else {
            return Ok(None);
        };
        if let Ok(parent) = env::var(PARENT) {
            die_with(&parent)?;
        }
        let pairs = env::args().skip(1);
        let arguments =
            pairs.filter_map(|pair| pair.split_once('=').map(|(key, value)| (key.into(), value.into()))).collect();
        let orders = Orders { role, arguments };
        if let Some(list) = orders.arguments.get("cpu") {
            let cpus: Result<Vec<_>, _> = list.split(',').map(str::parse).collect();
            // Pinned until the process ends.
            std::mem::forget(pin::pin_to_any(&cpus.map_err(|_| orders.unfit("cpu"))?)?);
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

fn die_with(parent: &str) -> io::Result<()> {
    // SAFETY: PR_SET_PDEATHSIG takes one number and touches no memory.
    if unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // A parent that died before the call above sends no signal any more.
    if parent == std::os::unix::process::parent_id().to_string() {
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
        Self::start_with_input(role, arguments, Stdio::null())
    }

    /// The same with `input` as its standard input.
    ///
    /// # Errors
    /// Those of starting a process.
    pub fn start_with_input(
        role: &'static str,
        arguments: &[(&str, String)],
        input: impl Into<Stdio>,
    ) -> io::Result<Self> {
        let mut command = command(role, arguments);
        let process = command.env(PARENT, process::id().to_string()).stdin(input).spawn()?;
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
        self.signal(libc::SIGKILL)
    }

    /// Sends a signal, and returns the [`clock::monotonic_ns`] of just before.
    ///
    /// # Errors
    /// Those of `kill`; `BrokenPipe` if it has ended by itself.
    pub fn signal(&mut self, signal: libc::c_int) -> io::Result<u64> {
        self.check_alive()?;
        let pid = self.process.id() as libc::pid_t;
        let before = clock::monotonic_ns();
        // SAFETY: `kill` touches no memory.
        match unsafe { libc::kill(pid, signal) } {
            0 => Ok(before),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Looks whether it has ended by itself.
    ///
    /// # Errors
    /// `BrokenPipe` if so.
    pub fn check_alive(&mut self) -> io::Result<()> {
        match self.process.try_wait()? {
            Some(status) => Err(self.ended_too_early(status)),
            None => Ok(()),
        }
    }

    /// Waits until it has ended well.
    ///
    /// # Errors
    /// `BrokenPipe` if it ends otherwise, `TimedOut` at the deadline.
    pub fn finish(mut self, deadline: Instant) -> io::Result<()> {
        loop {
            match self.process.try_wait()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => return Err(self.ended_too_early(status)),
                None if Instant::now() >= deadline => {
                    return Err(io::Error::new(io::ErrorKind::TimedOut, format!("child {:?} goes on", self.role)));
                }
                None => std::thread::sleep(LOOK_EVERY / 20),
            }
        }
    }

    /// Waits until the process has ended and is gone from the table.
    ///
    /// # Errors
    /// Those of `waitpid`.
    pub fn reap(mut self) -> io::Result<()> {
        self.wait()
    }

    /// Waits until the process has ended, however.
    ///
    /// # Errors
    /// Those of `waitpid`.
    pub fn wait(&mut self) -> io::Result<()> {
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

/// This binary again, as a process that is nobody's child yet.
pub(crate) fn command(role: &str, arguments: &[(&str, String)]) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command
        .arg0("shmkit-bench-child")
        .args(arguments.iter().map(|(key, value)| format!("{key}={value}")))
        .env(ROLE, role)
        .stdout(Stdio::null());
    #[cfg(feature = "peers")]
    command.env("TMPDIR", tempfile::env::temp_dir());
    command
}
