//! Processes, pools of them, and maps and vectors that they share: part of shmkit.

#![cfg_attr(ipc_loom, allow(dead_code, reason = "models leave out what meets the kernel"))]

mod map;
mod pool;
#[cfg(not(ipc_loom))]
mod process;
mod vec;

/// What models look into.
#[cfg(ipc_loom)]
pub mod model {
    pub use crate::pool::{Board, Id, Job};
}

#[cfg(not(ipc_loom))]
pub use pool::*;
#[cfg(not(ipc_loom))]
pub use process::*;
