//! The kernel's eventfd: a counter that is written to and read, each by a system call. The children inherit the
//! descriptors.
//!
//! Used as its manual says for handing over: a blocking descriptor, to which one is written, and whose read waits and takes
//! all there is.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{FromRawFd, OwnedFd};

use super::descriptors::Inherited;
use crate::baton::Baton;
use crate::team::Place;

/// The name in results.
pub const NAME: &str = "eventfd";

/// A counter for each member.
pub struct Counters {
    inherited: Inherited,
    files: Vec<File>,
}

impl Counters {
    fn with(inherited: Inherited) -> io::Result<Self> {
        let files = inherited.all()?;
        Ok(Counters { inherited, files })
    }

    /// The descriptors, in the order of the members.
    pub(super) fn files(&self) -> &[File] {
        &self.files
    }
}

impl Place for Counters {
    fn create(members: usize) -> io::Result<Self> {
        let all: io::Result<Vec<OwnedFd>> = (0..members).map(|_| counter()).collect();
        Self::with(Inherited::new(all?)?)
    }

    fn address(&self) -> String {
        self.inherited.address()
    }

    fn attach(address: &str) -> io::Result<Self> {
        Self::with(Inherited::attach(address)?)
    }
}

fn counter() -> io::Result<OwnedFd> {
    // SAFETY: takes two numbers and touches no memory.
    let descriptor = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just made, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

impl Baton for Counters {
    fn give(&self, to: usize) {
        (&self.files[to]).write_all(&1u64.to_ne_bytes()).expect("a counter of its own");
    }

    fn take(&self, own: usize) {
        (&self.files[own]).read_exact(&mut [0; 8]).expect("a counter of its own");
    }
}
