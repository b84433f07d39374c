//! Models of the map and the vector: every order in which a few operations can meet, and every place to die at.
//!
//! As in the models of the core, whoever sleeps for ever ends the model as a deadlock.

#![cfg(ipc_loom)]

mod map;
mod pool;
mod vec;
