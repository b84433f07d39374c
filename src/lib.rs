//! shmkit: shared-memory IPC primitives that survive `kill -9`.

pub use shmkit_core::*;
pub use shmkit_sync::*;

/// The crate behind the bound on what a [`Mutex`] can hold.
pub use bytemuck;
