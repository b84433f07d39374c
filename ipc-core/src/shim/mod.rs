//! The one place where the algorithms meet their atomics, their futex and their clock.
//!
//! In an ordinary build these are the types of `core` and the system calls of `sys`. With `--cfg ipc_loom` they are
//! loom's, and a model of the futex and of death takes the place of the kernel, so that the models run the code that ships.

pub mod crash;
pub mod futex;
#[cfg(ipc_loom)]
pub mod model;

#[cfg(not(ipc_loom))]
pub use core::sync::atomic::{AtomicU32, AtomicU64, fence};
#[cfg(ipc_loom)]
pub use loom::sync::atomic::{AtomicU32, AtomicU64, fence};

/// One step of a spin loop.
#[inline]
pub fn spin_loop() {
    #[cfg(not(ipc_loom))]
    core::hint::spin_loop();
    #[cfg(ipc_loom)]
    loom::thread::yield_now();
}
