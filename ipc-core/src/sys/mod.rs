//! Everything that talks to the kernel, and nothing else.

pub(crate) mod file;
pub(crate) mod futex;
pub(crate) mod map;
pub(crate) mod membarrier;
pub(crate) mod memory;
pub(crate) mod passing;
pub(crate) mod process;
