//! Processes that run a function of the same program.
