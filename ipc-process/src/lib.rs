//! Processes, pools of them, and maps and vectors that they share: part of shmkit.

#![cfg_attr(ipc_loom, allow(dead_code, reason = "models leave out what meets the kernel"))]

mod map;
mod pool;
mod process;
mod vec;
mod words;

#[cfg(not(ipc_loom))]
pub use map::MapOptions;
pub use map::{Key, MapError, MapIter, SharedMap};
