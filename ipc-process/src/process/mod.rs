//! Processes that run a function of the same program.
//!
//! | file | what it is |
//! |---|---|
//! | `sys` | what the kernel is asked for |
//! | `exit`, `error` | how a process has ended, and what can go wrong |
//! | `function` | a function, as a place in the program |
//! | `codec`, `bootstrap` | what a process is told when it starts, and what it answers |
//! | `init` | the process as a child: from `init` to its exit |
//! | `once` | what becomes of a function that forks |
//! | `options`, `task` | starting one |
//! | `child`, `handle` | one that was started, with and without the type of its value |
//! | `nursery` | the thread that reaps, and starts daemons |
//! | `parent` | the process that has started this one |
//! | `testing` | children of a test harness |

mod bootstrap;
mod child;
mod codec;
mod error;
mod exit;
pub(crate) mod function;
mod handle;
mod init;
mod nursery;
mod once;
mod options;
mod parent;
mod sys;
mod task;
#[doc(hidden)]
pub mod testing;

pub use child::{Child, active_children};
pub use error::{JoinError, SpawnError};
pub use exit::ExitStatus;
pub use handle::Process;
pub(crate) use init::message;
pub use init::{current_name, init, is_daemon};
pub(crate) use once::only_here;
pub use options::{ProcessOptions, Stdio, spawn};
pub use parent::{Parent, parent, parent_id};
pub(crate) use sys::with_signals_blocked;
pub use task::{Task, spawn_task};
