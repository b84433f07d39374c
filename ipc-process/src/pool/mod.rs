//! Pools of worker processes.
//!
//! The parent posts jobs, workers take them by themselves, and send what comes of them back. From the bottom up:
//!
//! | file | what it is |
//! |---|---|
//! | `job`, `board` | a job as it lies in shared memory; the queue of jobs, and who has taken which. Modelled |
//! | `spill` | where arguments lie that are too large for a job |
//! | `call`, `frame` | functions, arguments and values as they travel; what workers say |
//! | `batch` | what was submitted with one call, and what has come of it |
//! | `office` | what the parent knows of its jobs |
//! | `worker` | the life of a worker |
//! | `crew` | the thread of the parent that looks after workers |
//! | `submitter`, `pending`, `imap`, `options` | the public face |
//!
//! # The way of a task
//!
//! 1. `submit` encodes the arguments, and the office posts a job if a slot is free: one cache line in a queue, with small arguments in it, larger
//!    ones in the spill. What is larger than a quarter of that, or brings files along, stays with the parent; so do arguments that find no
//!    room there, as long as there are not enough jobs for all workers.
//! 2. A worker that has nothing to do takes the job, and notes in the same turn that it has it (see `board.rs`). Nobody assigns jobs, so none waits
//!    behind a long one while any worker is idle. If the arguments are with the parent, the worker asks for them over its channel, and gets them
//!    over its socket.
//! 3. The worker runs the function, catches its panic, and sends value or message as a frame in a channel of its own (see `worker.rs` for when it
//!    wakes the parent).
//! 4. The thread of the crew takes the frame, makes the slot free, posts what waits for one, and tells whoever waits for the task.
//!
//! # A kill at each point
//!
//! | killed | what is left | what follows |
//! |---|---|---|
//! | a worker, before it has taken the job | the job in the queue | another one takes it |
//! | a worker, from then on until its result is sent | a note, and no result | those of its chunk end in `WorkerDied`, or are posted again |
//! | a worker, after its result is sent | the result | it counts; nothing is lost |
//! | a worker, while its arguments are delivered | a note, and no result | as above; what is in the socket goes with it. One that cannot receive them ends by itself |
//! | the parent, anywhere | workers | they are daemons, and end with it |
//!
//! In each case a new worker takes the place of the dead. The locks of the queue are taken over as in any queue.
//!
//! # Garbage
//!
//! The region is for the parent and its workers. If anything in it was scribbled over, the pool is broken, and each task ends in an error that says so:
//! what is no job is recognised by its seal, results of jobs that there are not end the worker that sends them, and all else is checked by
//! those whose it is, the queue and the channels.

mod board;
mod job;

#[cfg(not(ipc_loom))]
mod batch;
#[cfg(not(ipc_loom))]
mod call;
#[cfg(not(ipc_loom))]
mod crew;
#[cfg(not(ipc_loom))]
mod error;
#[cfg(not(ipc_loom))]
mod frame;
#[cfg(not(ipc_loom))]
mod imap;
#[cfg(not(ipc_loom))]
mod office;
#[cfg(not(ipc_loom))]
mod options;
#[cfg(not(ipc_loom))]
mod owner;
#[cfg(not(ipc_loom))]
mod pending;
#[cfg(not(ipc_loom))]
mod spill;
#[cfg(not(ipc_loom))]
mod submitter;
#[cfg(not(ipc_loom))]
mod worker;

#[cfg(ipc_loom)]
pub use board::Board;
#[cfg(ipc_loom)]
pub use job::{Id, Job};

#[cfg(not(ipc_loom))]
pub use error::{PoolError, TaskError};
#[cfg(not(ipc_loom))]
pub use imap::Imap;
#[cfg(not(ipc_loom))]
pub use options::PoolOptions;
#[cfg(not(ipc_loom))]
pub use owner::Pool;
#[cfg(not(ipc_loom))]
pub use pending::{Pending, PendingMap};
#[cfg(not(ipc_loom))]
pub use submitter::Submitter;
