//! The crate shared_memory: named memory, and nothing else.
//!
//! Used as its documentation says: `ShmemConf` with a size and a name of the system's, `create` in the process that owns it; the
//! owner removes the name when it is dropped; `open` by that name in all others. A name that a killed owner leaves stays until it is removed by hand.
//! Else nobody is held up by a death, since nobody waits in it for anybody: so among the killed it has a row that says so, and nobody is killed.

use std::io;

use shared_memory::{Shmem, ShmemConf};

/// The name in results.
pub const NAME: &str = "shared_memory";

/// Makes memory of that name and size, and removes it.
///
/// # Errors
/// Those of making it.
pub fn create(name: &str, size: usize) -> io::Result<()> {
    ShmemConf::new().os_id(name).size(size).create().map(drop).map_err(io::Error::other)
}

/// Opens memory of that name, whoever made it.
///
/// # Errors
/// Those of opening it.
pub fn open(name: &str) -> io::Result<Shmem> {
    ShmemConf::new().os_id(name).open().map_err(io::Error::other)
}
