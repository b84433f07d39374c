//! Models of the primitives: every order in which a few operations can meet, and every place to die at.
//!
//! As in the models of the core, no wait has a deadline unless the model says so, and the safety net is off: whoever sleeps for
//! ever ends the model as a deadlock.

#![cfg(ipc_loom)]

mod barrier;
mod condvar;
mod event;
mod mutex;
mod once;
mod permits;
mod reentrant;
mod rwlock;
mod rwlock_handles;
mod semaphore;
mod wait_any;
