//! Processes that clean up after this one, whatever ends it, SIGKILL included.
//!
//! What has a name is of this process by that name: [`own_name`]. A name that is somebody else's is not touched, and what
//! lies under one of ours is removed without a look: who was killed while making something may have left anything there.

use std::env;
use std::ffi::CString;
use std::fmt::Display;
use std::fs;
use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::process::{self, Child, Stdio};

use crate::child::{self, Orders};

/// The role of the process that removes names.
pub const JANITOR: &str = "janitor";

/// Returns the name for a thing of this process in `/dev/shm`, or of its folder among the temporary files.
pub fn own_name(what: impl Display) -> String {
    format!("{}{what}", prefix_of(process::id()))
}

fn prefix_of(pid: u32) -> String {
    format!("shmkit-bench-{pid}-")
}

/// A process that lives until it finds that nobody holds the other end of its standard input any more, and cleans up
/// then.
#[derive(Debug)]
pub struct Janitor(Child);

impl Janitor {
    /// Starts the janitor for `names`, each an [`own_name`].
    ///
    /// # Errors
    /// Those of starting a process.
    pub fn start(names: &[String]) -> io::Result<Self> {
        Self::start_as(JANITOR, names)
    }

    /// Starts this binary again in another `role`, which does the same for `names`, which hold no comma.
    ///
    /// # Errors
    /// Those of starting a process.
    pub fn start_as(role: &str, names: &[String]) -> io::Result<Self> {
        let mut command = child::command(role, &[("names", names.join(",")), ("of", process::id().to_string())]);
        // A group of its own: Ctrl-C is not for it.
        let process = command.env_remove(child::PARENT).process_group(0).stdin(Stdio::piped()).spawn()?;
        Ok(Janitor(process))
    }
}

impl Drop for Janitor {
    fn drop(&mut self) {
        // Closes its standard input and waits for its end.
        let _ = self.0.wait();
    }
}

/// Waits as a janitor for the end of the process that it is of.
///
/// # Errors
/// Those of reading.
pub fn await_end() -> io::Result<()> {
    io::stdin().read_to_end(&mut Vec::new()).map(drop)
}

/// Waits as a janitor with these orders, and removes what has the names that they give: shared memory, whatever it holds, and
/// folders among the temporary files, with all that is in them.
///
/// # Errors
/// Unfit orders, or those of waiting.
pub fn clean_as_told(orders: &Orders) -> io::Result<()> {
    await_end()?;
    let prefix = prefix_of(orders.number("of")?);
    for name in orders.text("names")?.split(',').filter(|name| name.starts_with(&prefix)) {
        // What was never made is no failure.
        let _ = unlink(name);
        let _ = fs::remove_dir_all(env::temp_dir().join(name));
    }
    Ok(())
}

fn unlink(name: &str) -> io::Result<()> {
    let name = CString::new(format!("/{name}"))?;
    // SAFETY: the name is a C string.
    match unsafe { libc::shm_unlink(name.as_ptr()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
