//! Models of this crate's algorithms; see `docs/TESTING.md`.

#![cfg(ipc_loom)]

mod pool;
