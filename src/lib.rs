//! Shared-memory IPC primitives that survive `kill -9`.
//!
//! Programs that split their work over processes share state. With shmkit they do so in a [`Region`]: memory that every process
//! maps, with named, typed objects in it. A process may be killed at any instruction, whatever it is doing to an object: the
//! others go on, and learn of it at once.
//!
//! ```
//! use shmkit::{LockError, Mutex, Region, RegionOptions};
//!
//! # let name = format!("shmkit-doc-{}", std::process::id());
//! # let name = name.as_str();
//! // One process creates the region and puts a mutex into it ...
//! let office = RegionOptions::new().unlink_on_drop(true).create(name, 4096)?;
//! office.insert("tickets", Mutex::new(20u32))?;
//!
//! // ... and any other opens it.
//! let tickets = Region::open(name)?.get::<Mutex<u32>>("tickets")?;
//! match tickets.lock() {
//!     Ok(mut left) => *left -= 1,
//!     // Somebody was killed while holding the lock. It is ours now: look at the data, mend them, go on.
//!     Err(LockError::Poisoned { guard, .. }) => {
//!         println!("{} tickets are left", *guard);
//!         tickets.clear_poison();
//!     }
//!     Err(error) => return Err(error.to_string().into()),
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What is here
//!
//! | | |
//! |---|---|
//! | [`Region`], [`RegionOptions`] | shared memory, named, anonymous, or mapped by you, with a directory of objects |
//! | [`Shm`] | a handle to an object, which keeps the mapping alive |
//! | [`SharedArray`], [`Array`] | plain values that all read and write at once; see [`Cells`] |
//! | [`Mutex`] | mutual exclusion that outlives its owner |
//! | [`ReentrantMutex`] | the same, for a thread that locks again what it has locked |
//! | [`Permits`] | up to 64 permits, which come back when their holder dies |
//! | [`Semaphore`] | a count of permits that belong to nobody |
//! | [`Event`] | set or not, and waited for; reset by hand, or by the one waiter that it releases |
//! | [`Barrier`] | parties that wait for one another, round after round, and learn at once if one is dead |
//! | [`Condvar`] | waiting until something is true of the data under a mutex |
//! | [`Once`], [`OnceLock`] | something done once, a value made once, also if the one who is at it dies |
//! | [`RwLock`], [`RwLockReader`] | many readers or one writer; readers of different processes do not slow each other down |
//! | [`Pipe`], [`Sender`], [`Receiver`] | messages of one type between two processes, both ways or one way; see [`Endpoint`] and [`ChannelOptions`] |
//! | [`Queue`] | bounded; many producers, many consumers; each message once |
//! | [`Snapshot`] | a value of any size that is never torn, whoever dies while writing it |
//! | [`process::SharedMap`], [`process::SharedVec`] | a hash map and a vector of fixed capacity, with the default feature `process`; a kill leaves the old value or the new one |
//! | [`Ticket`] | the other end of a channel without a name, on its way to another process |
//! | [`Readiness`] | a descriptor that tells an event loop when a receiver has something to do |
//! | [`wait_any`], [`Peer`] | waiting for whichever of many things comes first, in any regions: messages, room, events, permits, and the deaths of processes |
//! | [`BytePipe`], [`ByteSender`], [`ByteReceiver`] | frames of bytes, of any length; in place: [`Reservation`], [`Peek`] |
//! | [`PipeStream`], [`PipeWriter`], [`PipeReader`] | the same as streams: `std::io::Read` and `Write` |
//! | [`UntrustedRegion`], [`HostileSafe`] | memory shared with peers who may write what they like, and what can be had there: atomics, arrays, [`UntrustedSemaphore`], [`UntrustedEvent`], [`UntrustedEnd`], [`UntrustedQueue`] |
//! | [`process`] | functions of your program in new processes, with regions, queues and tickets as arguments, and in [pools](process::Pool) of them (feature `process`, on unless switched off) |
//! | [`transfer`] | values on their way to other processes, with the files that belong to them |
//! | [`ShmSafe`], [`Described`] | what may lie in a region; see [`own_types`] |
//! | [`wait`], [`spin`], [`identity`], [`raw_lock`], [`poison`] | for primitives of your own, covered by semantic versioning; see [`wait`] and the example `latch` |
//!
//! # Features
//!
//! | feature | default | what it adds |
//! |---|---|---|
//! | `process` | yes | [`process`]: processes, pools, shared maps and vectors; brings `serde` along |
//! | `serde` | with `process` | values of any type that serde knows through the ends of byte pipes; regions, their objects, queues, tickets and open files as arguments and values of processes |
//! | `shared_memory` | no | regions in segments of the crate `shared_memory` |
//!
//! # What is guaranteed
//!
//! * A process killed with SIGKILL at any instruction wedges nobody: whoever waits for something it held, or for a wake-up it
//!   owed, goes on within about a millisecond, without polling.
//! * Nobody takes over from a process that could still store into the region.
//! * A stopped process (SIGSTOP) is alive: it keeps what it holds.
//! * What is read from a region is checked before it is used.
//! * In an [`UntrustedRegion`] each call stays memory-safe and ends within its bound, whatever peers write.
//!
//! # What is not
//!
//! * Named regions trust everybody whom the permissions of the file let write to it.
//! * Data that a dead owner left half-changed are yours to mend: that is what the poison tells.
//! * A region lives in `/dev/shm` until its name is unlinked, also when all its users are dead.

pub mod own_types;

pub use shmkit_channel::*;
pub use shmkit_core::*;
#[cfg(feature = "process")]
pub use shmkit_process as process;
pub use shmkit_sync::*;

/// The crate behind the bound on what a [`Mutex`] can hold. Who takes its derive macros from here writes `#[bytemuck(crate = "shmkit::bytemuck")]` below them.
pub use bytemuck;
