//! Models of the channels: every order in which a few operations can meet, and every place to die at.
//!
//! As in the models of the core, no wait has a deadline unless the model says so, and the safety net is off: whoever sleeps for
//! ever ends the model as a deadlock.

#![cfg(ipc_loom)]

mod pipe;
mod pipe_deaths;
mod queue;
mod wait_any;
