//! Which candidates are limits: what the processor and the kernel permit, and nobody would use by itself.
//!
//! All others that are not ours are peers.

use crate::baton::{CACHE_LINE, FUTEX, FUTEX_WAITV};
use crate::cases::{array, create, once_lock, open, snapshot};
use crate::floor::{Floor, PRIVATE_LINES, TWO_RMWS};
use crate::lock::LockUnderTest;
use crate::memcpy;
use crate::record;

/// Their names in results.
pub const LIMITS: &[&str] = &[
    Floor::NAME,
    TWO_RMWS,
    PRIVATE_LINES,
    CACHE_LINE,
    record::LINE,
    FUTEX,
    FUTEX_WAITV,
    memcpy::MEMCPY,
    memcpy::TWO_SLOTS,
    array::MEMCPY,
    array::ATOMIC,
    create::BARE,
    open::BARE,
    snapshot::COPY,
    once_lock::LOAD,
];

/// Whether the candidate of that name is a limit.
pub fn is_limit(name: &str) -> bool {
    LIMITS.contains(&name)
}
