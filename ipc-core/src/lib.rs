//! The base of shmkit: shared-memory regions whose users may be killed at any instruction.
//!
//! * [`Region`]: memory that several processes have in common, with a directory of named, typed objects ([`Shm`]);
//! * [`UntrustedRegion`]: the same with peers that may write what they like, and what can be had there ([`HostileSafe`]);
//! * [`Tailed`]: an object with as many bytes behind it as were asked for;
//! * [`SharedArray`], [`Array`]: plain values that many processes read and write at once ([`Cells`]);
//! * [`ShmSafe`] and [`Described`]: what may lie in a region, and how its type is told from others;
//! * [`identity`]: who a process is, in a word that lies in shared memory;
//! * [`wait`]: how to wait for other processes that may die meanwhile, and how their deaths become known;
//! * [`wait_any`]: waiting for whichever of several things comes first; [`Peer`]: another process, whose death can be waited for;
//! * [`raw_lock`]: the lock that all others are built on; [`poison`]: the word beside it;
//! * [`Snapshot`]: values of any size that are never torn.
//!
//! Use it through the facade `shmkit`, unless you build primitives of your own.
//!
//! # The background thread
//!
//! With its first region a process starts one thread, the keeper (a further one for every 60 regions open at once). It blocks
//! all signals, has a stack of 48 KiB, and sleeps unless a participant comes, goes or dies. Its own death is what tells
//! the others, within microseconds, that this process has been killed. If it cannot be started, the process and its peers look
//! for each other's deaths every 10 ms instead.
//!
//! A process that must not have a thread that it did not start opens its regions with
//! [`RegionOptions::keeper(false)`](RegionOptions::keeper). It takes part like any other, at a price: whoever waits in it wakes up every
//! 10 ms and looks, and as long as it is there, another process that takes part looks for its death so often. What a death
//! means, and what is proven before anything is taken over, stays the same.

#![cfg_attr(ipc_loom, allow(dead_code, reason = "models leave out what meets the kernel"))]

#[cfg(not(all(target_os = "linux", target_pointer_width = "64", target_endian = "little")))]
compile_error!("shmkit needs 64-bit little-endian Linux (x86_64, aarch64)");

mod config;
mod deadline;
mod error;
pub mod identity;
mod participants;
pub mod poison;
pub mod raw_lock;
mod retries;
#[doc(hidden)]
pub mod shim;
mod snapshot;
pub mod spin;
mod tailed;
#[cfg(not(ipc_loom))]
pub mod transfer;
pub mod wait;
mod wait_any;

#[cfg(not(ipc_loom))]
mod array;
#[cfg(not(ipc_loom))]
mod attachment;
mod by_address;
mod cells;
mod copy;
mod described;
#[cfg(not(ipc_loom))]
mod directory;
mod element;
mod glance;
#[cfg(not(ipc_loom))]
mod grants;
#[cfg(not(ipc_loom))]
mod keeper;
#[cfg(not(ipc_loom))]
mod layout;
#[cfg(not(ipc_loom))]
mod mapped;
#[cfg(not(ipc_loom))]
mod options;
#[cfg(not(ipc_loom))]
mod own_mapping;
#[cfg(not(ipc_loom))]
mod peer;
#[cfg(not(ipc_loom))]
mod placeholder;
#[cfg(not(ipc_loom))]
mod proof;
#[cfg(not(ipc_loom))]
mod region;
#[cfg(not(ipc_loom))]
mod registry;
#[cfg(not(ipc_loom))]
mod shm;
#[cfg(not(ipc_loom))]
mod sys;
mod untrusted;

#[cfg(not(ipc_loom))]
pub use array::{Array, SharedArray};
pub use cells::{Cells, Iter, LengthMismatch, OutOfRange};
pub use deadline::Deadline;
pub use described::*;
pub use element::{Element, Integer};
pub use error::{Error, Result};
#[cfg(not(ipc_loom))]
pub use options::RegionOptions;
#[cfg(not(ipc_loom))]
pub use peer::Peer;
#[cfg(not(ipc_loom))]
#[doc(hidden)]
pub use placeholder::Placeholder;
#[cfg(not(ipc_loom))]
pub use region::{ObjectInfo, ParticipantInfo, Region};
pub use retries::Retries;
#[cfg(not(ipc_loom))]
pub use shm::Shm;
pub use snapshot::Snapshot;
pub use tailed::Tailed;
pub use untrusted::HostileSafe;
#[cfg(not(ipc_loom))]
pub use untrusted::UntrustedRegion;
pub use wait_any::wait_any;
