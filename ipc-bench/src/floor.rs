//! The floor: the two atomic operations of a lock whose unlock asks by an exchange whether anybody waits, and the one of a lock that does without.
//!
//! [`two_rmws`] are these operations alone, and [`PrivateLines`] one of them and a store. As a lock, [`Floor`]: lock is one CAS 0 -> token, unlock one swap to 0, both inlined. It waits by
//! spinning and tells nobody of anything: it is a yardstick, not a lock to use.

use std::cell::UnsafeCell;
use std::hint::{self, black_box};
use std::io;
use std::ops::{Deref, DerefMut};
use std::process;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU32, AtomicU64};

use crate::lock::LockUnderTest;
use crate::shared::{Line, SharedBox, SharedLayout};
use crate::solo::Turns;
use crate::team::{Place, Play, Seat};

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
        // Release pairs with the Acquire of `lock`. A swap, by which an unlock can learn of sleepers.
        self.cell.word.swap(UNLOCKED, Release);
    }
}

/// The name of [`two_rmws`] in results.
pub const TWO_RMWS: &str = "two RMWs";

// SAFETY: repr(C) of one atomic, for which zero is a value.
unsafe impl SharedLayout for Line<AtomicU32> {}

/// An addition and a subtraction in shared memory, each of which learns what was there before: less could not
/// tell whether there is something to take, or somebody to wake.
///
/// # Errors
/// Those of [`SharedBox::create`].
pub fn two_rmws() -> io::Result<Turns> {
    let word = SharedBox::<Line<AtomicU32>>::create()?;
    Ok(Turns::new(TWO_RMWS, move || {
        let before = word.0.fetch_add(1, Acquire);
        let after = word.0.fetch_sub(1, Release);
        assert!(before == 0 && after == 1, "a word of its own");
    }))
}

/// The name of [`PrivateLines`] in results.
pub const PRIVATE_LINES: &str = "a CAS and a store";

/// A line for each of two processes, which takes and gives back its own by one CAS and one store: the
/// least that lets another one know.
pub struct PrivateLines(SharedBox<[Line<AtomicU64>; 2]>);

// SAFETY: repr(C) of atomics, for which zero is a value.
unsafe impl SharedLayout for [Line<AtomicU64>; 2] {}

impl PrivateLines {
    /// Takes and gives back the line of `member`.
    ///
    /// # Panics
    /// If somebody else has taken it.
    #[inline(always)]
    pub fn take_and_give(&self, member: usize) {
        let line = &self.0[member].0;
        // Acquire pairs with the Release below.
        let taken = line.compare_exchange(0, 1, Acquire, Relaxed);
        assert!(taken.is_ok(), "a line of its own");
        // As under a lock: the compiler must assume that something is read in between.
        black_box(line);
        line.store(0, Release);
    }
}

impl Place for PrivateLines {
    fn create(_: usize) -> io::Result<Self> {
        SharedBox::create().map(PrivateLines)
    }

    fn address(&self) -> String {
        self.0.address()
    }

    fn attach(address: &str) -> io::Result<Self> {
        SharedBox::attach(address).map(PrivateLines)
    }
}

impl Play for PrivateLines {
    fn play(&self, seat: Seat, turns: u64) {
        for _ in 0..turns {
            self.take_and_give(seat.member);
        }
    }
}
