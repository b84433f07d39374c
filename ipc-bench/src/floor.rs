//! The floor: the two atomic operations that no lock between processes does without.
//!
//! Lock is one CAS 0 -> token, unlock one swap to 0, both inlined. It waits by spinning and tells
//! nobody of anything: it is a yardstick, not a lock to use.

use std::cell::UnsafeCell;
use std::hint;
use std::io;
use std::ops::{Deref, DerefMut};
use std::process;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use crate::lock::LockUnderTest;
use crate::shared::{SharedBox, SharedLayout};

const UNLOCKED: u64 = 0;

/// The word and the value in shared memory.
#[repr(C, align(64))]
struct Cell {
    word: AtomicU64,
    value: UnsafeCell<u64>,
}

// SAFETY: `value` is reached only by whoever changed `word` from 0 to its token.
unsafe impl Sync for Cell {}
// SAFETY: repr(C) of integers, zero is "unlocked" and 0, and `Sync` holds between processes too,
// since atomics do.
unsafe impl SharedLayout for Cell {}

/// One CAS and one swap in shared memory.
pub struct Floor {
    cell: SharedBox<Cell>,
    token: u64,
}

impl Floor {
    /// Makes a new one that protects zero.
    ///
    /// # Errors
    /// Those of [`SharedBox::create`].
    pub fn create() -> io::Result<Self> {
        Ok(Floor { cell: SharedBox::create()?, token: u64::from(process::id()) })
    }
}

impl LockUnderTest for Floor {
    const NAME: &'static str = "floor";

    type Guard<'a> = FloorGuard<'a>;

    #[inline(always)]
    fn lock(&self) -> FloorGuard<'_> {
        let cell: &Cell = &self.cell;
        // Acquire pairs with the Release of the guard's drop.
        if cell.word.compare_exchange(UNLOCKED, self.token, Acquire, Relaxed).is_err() {
            lock_contended(&cell.word, self.token);
        }
        FloorGuard { cell }
    }
}

#[cold]
fn lock_contended(word: &AtomicU64, token: u64) {
    // Acquire pairs with the Release of the guard's drop.
    while word.compare_exchange_weak(UNLOCKED, token, Acquire, Relaxed).is_err() {
        hint::spin_loop();
    }
}

/// Holds a [`Floor`].
#[must_use = "unlocked when dropped"]
pub struct FloorGuard<'a> {
    cell: &'a Cell,
}

impl Deref for FloorGuard<'_> {
    type Target = u64;

    #[inline(always)]
    fn deref(&self) -> &u64 {
        // SAFETY: aligned, alive as the cell is, and the guard is the only way to it.
        unsafe { &*self.cell.value.get() }
    }
}

impl DerefMut for FloorGuard<'_> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut u64 {
        // SAFETY: aligned, alive as the cell is; `&mut self` of the only guard excludes all others.
        unsafe { &mut *self.cell.value.get() }
    }
}

impl Drop for FloorGuard<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        // Release pairs with the Acquire of `lock`. A swap, since a real unlock must learn of sleepers.
        self.cell.word.swap(UNLOCKED, Release);
    }
}
