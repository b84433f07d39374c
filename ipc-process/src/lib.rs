//! Processes, pools of them, and maps and vectors that they share: part of shmkit.
//!
//! # Processes
//!
//! [`spawn`] runs a function of this program in a new process, which runs the program's file again: nothing is forked, so the program may have any
//! number of threads. [`init`] at the top of `main` is what makes that possible; in tests it is [`enable_test_support!`]. Arguments and value go
//! through serde, together with the files of what cannot be written down: regions, objects in them, queues, [tickets](shmkit_channel::Ticket) for ends
//! of channels, and what is [`Passed`](shmkit_core::transfer::Passed).
//!
//! ```
//! use shmkit_core::{Region, Shm};
//! use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
//!
//! fn add((sum, numbers): (Shm<AtomicU64>, Vec<u64>)) {
//!     numbers.iter().for_each(|number| drop(sum.fetch_add(*number, Relaxed)));
//! }
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     shmkit_process::init();
//!     let sum = Region::anonymous(4096)?.insert("sum", AtomicU64::new(0))?;
//!     let one = shmkit_process::spawn(add, (sum.clone(), vec![1, 2, 3]))?;
//!     let other = shmkit_process::spawn(add, (sum.clone(), vec![4, 5]))?;
//!     one.join()?;
//!     other.join()?;
//!     assert_eq!(sum.load(Relaxed), 15);
//!     Ok(())
//! }
//! ```
//!
//! # Pools
//!
//! A [`Pool`] has worker processes that run such functions, one task after the other, which is much faster than a process for each where tasks are
//! small. Tasks are submitted one by one or as a map, and waited for or called back. A task that panics is an error; a worker that is killed costs what
//! it was just running, and is replaced.
//!
//! ```
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     shmkit_process::init();
//!     let pool = shmkit_process::Pool::new(2)?;
//!     let lengths = pool.map(|word: String| word.len(), ["one", "three"].map(str::to_owned))?;
//!     assert_eq!(lengths, [3, 5]);
//!     Ok(())
//! }
//! ```
//!
//! # The thread that reaps
//!
//! With its first child a process starts one thread, which blocks all signals, has a stack of 64 KiB, and sleeps until a child of this library ends. It
//! reaps them, so that none stays in the process table whether or not anybody waits for it, and never waits for children of others. It also starts
//! [daemons](ProcessOptions::daemon), which therefore begin with the priority and on the CPUs of the thread that had started the first child. A
//! child that starts none itself has no such thread, and takes part in no region unless it is given one.

#![cfg_attr(ipc_loom, allow(dead_code, reason = "models leave out what meets the kernel"))]

mod map;
mod pool;
#[cfg(not(ipc_loom))]
mod process;
mod vec;
mod words;

/// What models look into.
#[cfg(ipc_loom)]
pub mod model {
    pub use crate::pool::{Board, Id, Job};
}

#[cfg(not(ipc_loom))]
pub use map::MapOptions;
pub use map::{Key, MapError, MapIter, SharedMap};
#[cfg(not(ipc_loom))]
pub use pool::*;
#[cfg(not(ipc_loom))]
pub use process::*;
#[cfg(not(ipc_loom))]
pub use vec::VecOptions;
pub use vec::{SharedVec, VecError, VecIter};
