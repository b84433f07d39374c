//! The one place where the algorithms meet their atomics, their futex and their clock.
//!
//! In an ordinary build these are the types of `core` and the system calls of `sys`. With `--cfg ipc_loom` they are
//! loom's, and a model of the futex and of death takes the place of the kernel, so that the models run the code that ships.

pub mod asymmetric;
pub mod crash;
#[cfg(ipc_loom)]
pub mod explore;
pub mod futex;
#[cfg(ipc_loom)]
pub mod model;

#[cfg(not(ipc_loom))]
pub use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, fence};
#[cfg(ipc_loom)]
pub use loom::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, fence};

/// One step of a spin loop.
#[inline]
pub fn spin_loop() {
    #[cfg(not(ipc_loom))]
    core::hint::spin_loop();
    #[cfg(ipc_loom)]
    loom::thread::yield_now();
}

/// Sleeps for about as long as `threads` that were just woken may need to run, but no longer than a millisecond. To models that is nothing: they let
/// anybody run at any time.
pub(crate) fn let_run(threads: u32) {
    #[cfg(not(ipc_loom))]
    if threads > 0 {
        std::thread::sleep(core::time::Duration::from_micros(20) * threads.min(50));
    }
    #[cfg(ipc_loom)]
    let _ = threads;
}

/// The barrier between a store and a later load of another word, where both sides do so: each stores its own word and then
/// looks at the other's, and one of them must see the other.
///
/// Both stores are to be read-modify-writes with `SeqCst`, and both loads `SeqCst`, which suffices. Models take them for `AcqRel`
/// and `Acquire`, which do not; there, this is the fence that makes up for it.
#[inline]
pub fn store_load_barrier() {
    #[cfg(ipc_loom)]
    fence(core::sync::atomic::Ordering::SeqCst);
}

/// A `const fn`, except in models, whose atomics cannot be made by one.
#[doc(hidden)]
#[macro_export]
macro_rules! const_fn {
    ($(#[$meta:meta])* $vis:vis fn $($rest:tt)*) => {
        #[cfg(not(ipc_loom))]
        $(#[$meta])* $vis const fn $($rest)*
        #[cfg(ipc_loom)]
        $(#[$meta])* $vis fn $($rest)*
    };
}
