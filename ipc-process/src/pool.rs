//! Pools of worker processes.
