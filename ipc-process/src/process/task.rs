//! Functions that keep state.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::SpawnError;
use super::handle::Process;
use super::options::ProcessOptions;

/// Something to be done by another process, with what it needs: for those who do not want to write a function with many arguments.
///
/// # Examples
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use shmkit_process::{Task, spawn_task};
///
/// #[derive(Serialize, Deserialize)]
/// struct Power {
///     base: u64,
///     exponent: u32,
/// }
///
/// impl Task for Power {
///     type Output = u64;
///
///     fn run(self) -> u64 {
///         self.base.pow(self.exponent)
///     }
/// }
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     shmkit_process::init();
///     let process = spawn_task(Power { base: 3, exponent: 4 })?;
///     assert_eq!(process.join()?, 81);
///     Ok(())
/// }
/// ```
pub trait Task: Serialize + DeserializeOwned {
    /// What comes of it.
    type Output: Serialize + DeserializeOwned;

    /// Does it.
    fn run(self) -> Self::Output;
}

/// Runs `task` in a new process; see [`spawn`](super::spawn).
///
/// # Errors
///
/// As for [`spawn`](super::spawn).
pub fn spawn_task<T: Task>(task: T) -> Result<Process<T::Output>, SpawnError> {
    ProcessOptions::new().spawn_task(task)
}
