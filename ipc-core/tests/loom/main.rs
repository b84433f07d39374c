//! Models of the lock, of deaths and of who tells them: every order in which a few operations can meet.
//!
//! No wait of a model has a deadline unless it says so, and the safety net is off: whoever sleeps for ever because a wake-up
//! was lost or a death untold ends the model as a deadlock.
//!
//! Each model says how many preemptions it allows at most. Those of four threads that die at every point allow one: that takes
//! seconds, two take minutes.

#![cfg(ipc_loom)]

mod by_address;
mod deaths;
mod lock;
mod roster;
mod snapshot;
mod support;
mod wait_any;
