//! Pools of worker processes.

mod board;
mod job;
#[cfg(not(ipc_loom))]
mod spill;

#[cfg(ipc_loom)]
pub use board::Board;
#[cfg(ipc_loom)]
pub use job::{Id, Job};
