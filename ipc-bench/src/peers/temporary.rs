//! A folder of this process among the temporary files, which a janitor removes.
//!
//! procspawn and servo's ipc-channel find each other by a socket in a new folder with a random name, which whoever is killed leaves.

use std::env;
use std::fs;
use std::io;
use std::slice;
use std::sync::{Mutex, PoisonError};

use crate::janitor::{self, Janitor};

/// Lives as long as this process does.
static CLAIMED: Mutex<Option<Janitor>> = Mutex::new(None);

/// Lets everything temporary that this process makes from now on, and the children that it starts, go into a folder of its own.
///
/// # Errors
/// Those of making the folder and of starting the janitor.
pub fn claim() -> io::Result<()> {
    let mut claimed = CLAIMED.lock().unwrap_or_else(PoisonError::into_inner);
    if claimed.is_none() {
        let name = janitor::own_name("files");
        *claimed = Some(Janitor::start(slice::from_ref(&name))?);
        let folder = env::temp_dir().join(name);
        fs::create_dir_all(&folder)?;
        tempfile::env::override_temp_dir(&folder)
            .map_err(|other| io::Error::other(format!("temporary files go to {} already", other.display())))?;
    }
    Ok(())
}
