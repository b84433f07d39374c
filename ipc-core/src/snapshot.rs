//! A cell for values of any size that are never torn.
//!
//! Two copies and a sequence number: the idea of the sequence lock (Linux, `seqcount_latch_t`), with word-wise atomic copies as in
//! H.-J. Boehm, "Can Seqlocks Get Along With Programming Language Memory Models?" (2012), and a robust lock among the writers.
//! A reader changes nothing in the cell, and so can neither hold a writer up nor leave anything behind.
//!
//! # Shared layout
//!
//! ```text
//! | lock: u64, twice (see `RawLock`) | version: u64 | reserved: u64 | copy 0: T, zeroes up to 8 bytes | copy 1: the same |
//! ```
//!
//! # States
//!
//! `v` is the version. Copy `v & 1` is the value, the other one belongs to whoever holds the lock.
//!
//! | lock | other copy | `read` | `write` |
//! |---|---|---|---|
//! | free | anything | copy `v & 1`; right if the version still is `v` afterwards, else once more | locks, fills the other copy, stores `v + 1`, unlocks |
//! | held | being filled | the same | waits for the lock |
//! | held by a dead | anything, maybe half filled | the same | takes the lock over and fills the other copy anew |
//!
//! # What a death leaves
//!
//! * before `v + 1` is stored: the old value, whole, and a half-filled copy that nobody reads;
//! * after it: the new value, whole;
//! * in both cases perhaps the lock of a dead owner, which goes to the next writer. There is no poison: nothing is ever half-changed.
//!
//! A reader that dies leaves nothing.
//!
//! # Garbage
//!
//! Every version is one: its lowest bit chooses the copy. `T` is `Pod`, so any bytes are a value of it. A peer that changes the version
//! all the time can keep readers busy, as one that writes all the time can; [`try_read`](Snapshot::try_read) is bounded.

use core::fmt;
use core::mem::MaybeUninit;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use bytemuck::Pod;

use crate::described::{Described, Fingerprint, ShmSafe};
use crate::error::{Error, Result};
use crate::raw_lock::{Held, NotHeld, RawLock};
use crate::shim::{AtomicU64, fence, spin_loop};
use crate::{const_fn, crash_point};

/// Version of the layout above.
const LAYOUT: u32 = 3;

/// A value of any size that several processes read and write, and that no reader ever sees half-written.
///
/// Reading takes no lock and writes nothing: about the time of a plain copy. Writers take turns under a lock that outlives its owner. A
/// process killed in the middle of a write leaves the old value, one killed after it the new one.
///
/// It is meant for values that are read more often than written: settings, positions, statistics that belong together. Of numbers of
/// up to 8 bytes, an atomic does the same for less; where readers must keep writers out, take a mutex.
///
/// # Examples
///
/// ```
/// use bytemuck::{Pod, Zeroable};
/// use shmkit_core::{Described, Region, Snapshot};
///
/// #[repr(C)]
/// #[derive(Clone, Copy, Pod, Zeroable)]
/// # #[derive(Debug, PartialEq)]
/// struct Position {
///     x: f64,
///     y: f64,
///     z: f64,
/// }
/// # // SAFETY: `repr(C)`; with the derive macro of the facade, this is `#[derive(Described)]`.
/// # unsafe impl Described for Position {
/// #     const FINGERPRINT: shmkit_core::Fingerprint = shmkit_core::Fingerprint::new("Position", 1, 24, 8);
/// #     fn type_name(f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
/// #         f.write_str("Position")
/// #     }
/// # }
///
/// let region = Region::anonymous(4096)?;
/// let position = region.insert("position", Snapshot::new(Position { x: 0.0, y: 0.0, z: 0.0 }))?;
///
/// position.write(Position { x: 1.0, y: 2.0, z: 3.0 })?;
/// position.update(|position| position.z += 1.0)?;
/// assert_eq!(position.read(), Position { x: 1.0, y: 2.0, z: 4.0 });
/// assert_eq!(position.version(), 2);
/// # Ok::<(), shmkit_core::Error>(())
/// ```
#[repr(C)]
pub struct Snapshot<T> {
    /// Held by whoever writes.
    lock: RawLock,
    /// How often the value was written, modulo 2^64. Changed under the lock, by one.
    version: AtomicU64,
    reserved: AtomicU64,
    /// Copy `version & 1` is the value.
    copies: [Copied<T>; 2],
}

#[cfg(not(ipc_loom))]
const _: () = {
    assert!(size_of::<Snapshot<[u8; 3]>>() == 48 && align_of::<Snapshot<[u8; 3]>>() == 8);
    assert!(size_of::<Snapshot<[u64; 8]>>() == 160 && align_of::<Snapshot<u128>>() == align_of::<u128>());
    assert!(core::mem::offset_of!(Snapshot<u64>, version) == 16);
    assert!(core::mem::offset_of!(Snapshot<u64>, copies) == 32);
};

// SAFETY: the copies are reached by atomic accesses only, and what is made of them belongs to whoever has read it.
unsafe impl<T: Send> Send for Snapshot<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Snapshot<T> {}

// SAFETY: name, layout version and the type of the value are all that the layout depends on.
unsafe impl<T: Pod + Described> Described for Snapshot<T> {
    const FINGERPRINT: Fingerprint =
        Fingerprint::new("Snapshot", LAYOUT, size_of::<Self>(), align_of::<Self>()).parameter(T::FINGERPRINT);

    fn type_name(f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Snapshot<")?;
        T::type_name(f)?;
        f.write_str(">")
    }
}

// SAFETY: `repr(C)`, no pointers, no drop glue; all accesses are atomic, and any bytes of the copies are a value. The bytes behind a
// value whose size is no multiple of 8 are zeroes from the beginning and never written.
unsafe impl<T: Pod + Described + Send> ShmSafe for Snapshot<T> {}

impl<T: Pod> Snapshot<T> {
    const_fn! {
        /// A cell with `value` in it, at version 0.
        pub fn new(value: T) -> Self {
            const { assert!(align_of::<T>() <= 32, "the value of a `Snapshot` is aligned to at most 32 bytes") }
            Self { lock: RawLock::new(), version: AtomicU64::new(0), reserved: AtomicU64::new(0), copies: [Copied::new(value), Copied::new(value)] }
        }
    }

    /// Copies the value out: what some write has written, as a whole.
    ///
    /// # Blocking
    ///
    /// Never: no writer, alive, stopped or dead, is waited for. The copy is made again if a whole write has come to its end during it,
    /// so at most once more than there are writes meanwhile. Beside a writer that never pauses, a value of some kilobytes can take
    /// long to read; [`try_read`](Self::try_read) leaves it to you how often to try.
    ///
    /// # Crash safety
    ///
    /// A reader changes nothing. A writer killed at any instruction leaves a value that can be read.
    #[inline]
    pub fn read(&self) -> T {
        loop {
            if let Some(value) = self.try_read() {
                return value;
            }
            spin_loop();
        }
    }

    /// Copies the value out, unless a write came to its end meanwhile; one attempt of [`read`](Self::read).
    #[inline]
    pub fn try_read(&self) -> Option<T> {
        // Acquire pairs with the Release in `publish`: the copy is at least as new as the version.
        let version = self.version.load(Acquire);
        let value = self.copy(version).load();
        // Acquire pairs with the Release fence in `fill`: if any word above was written by the write after the next, then the version
        // of the next one is seen below.
        fence(Acquire);
        (self.version.load(Relaxed) == version).then_some(value)
    }

    /// Replaces the value.
    ///
    /// # Blocking
    ///
    /// While another thread or process is writing; never because of readers. A stopped writer is alive.
    ///
    /// # Crash safety
    ///
    /// A process killed in here has either written all of the value or nothing.
    ///
    /// # Errors
    ///
    /// Only in a forked child: one that could not attach to a region it inherited, such as [`Error::TooManyParticipants`], and [`Error::Forked`] in one that
    /// a signal handler has forked in here. Nothing was written then.
    #[inline]
    pub fn write(&self, value: T) -> Result<()> {
        Turn::take(self)?.publish(&value)
    }

    /// Changes the value by `change`, which gets a copy of it; no write of others comes in between.
    ///
    /// # Blocking
    ///
    /// As [`write`](Self::write). Others that want to write wait while `change` runs. Writing to the same cell in there blocks for
    /// ever; reading it is fine and gives the old value.
    ///
    /// # Crash safety
    ///
    /// As [`write`](Self::write).
    ///
    /// # Errors
    ///
    /// Those of [`write`](Self::write); [`Error::Forked`] also in a child that `change` has forked, in which nothing was written: the turn is
    /// its parent's.
    ///
    /// # Panics
    ///
    /// If `change` does; nothing was written then.
    pub fn update<R>(&self, change: impl FnOnce(&mut T) -> R) -> Result<R> {
        let turn = Turn::take(self)?;
        // Relaxed, here and in the copy: the lock orders it after the last write.
        let mut value = self.copy(self.version.load(Relaxed)).load();
        let result = change(&mut value);
        turn.publish(&value)?;
        Ok(result)
    }

    /// How often the value has been written. If it has not changed, neither has the value.
    #[inline]
    pub fn version(&self) -> u64 {
        // Acquire pairs with the Release in `publish`: whoever reads after this reads that version or a later one.
        self.version.load(Acquire)
    }

    /// The copy that is the value at `version`.
    #[inline]
    fn copy(&self, version: u64) -> &Copied<T> {
        &self.copies[(version & 1) as usize]
    }
}

/// The right to write; given back when dropped, also by a panic.
struct Turn<'a, T: Pod> {
    cell: &'a Snapshot<T>,
    held: Held,
}

impl<'a, T: Pod> Turn<'a, T> {
    #[inline]
    fn take(cell: &'a Snapshot<T>) -> Result<Self> {
        match cell.lock.lock(None) {
            // Whatever a dead writer has done, the value is whole.
            Ok(held) => Ok(Self { cell, held }),
            Err(NotHeld::Failed(error)) => Err(error),
            Err(NotHeld::TimedOut) => Err(Error::Busy),
        }
    }

    #[inline]
    fn publish(&self, value: &T) -> Result<()> {
        if !self.held.is_own() {
            return Err(Error::Forked);
        }
        // Nobody else changes it: the lock is held.
        let version = self.cell.version.load(Relaxed);
        let next = version.wrapping_add(1);
        // Release pairs with the Acquire fence in `try_read`: whoever sees a word that is stored below sees `version`, too, and so knows
        // that the copy it reads, which was the value of the version before, is not that any more.
        fence(Release);
        crash_point!("snapshot.write.before_words");
        self.cell.copy(next).store(value);
        crash_point!("snapshot.write.before_publish");
        // Release pairs with the Acquire in `try_read`: whoever sees the version sees the words.
        self.cell.version.store(next, Release);
        crash_point!("snapshot.write.after_publish");
        Ok(())
    }
}

impl<T: Pod> Drop for Turn<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.cell.lock.unlock(self.held);
    }
}

/// One of the copies, which may be written and read at the same time: whole words by atomics of 8 bytes, and the bytes behind the last
/// whole word one by one.
#[cfg(not(ipc_loom))]
#[repr(C, align(8))]
struct Copied<T>(core::cell::UnsafeCell<MaybeUninit<T>>);

#[cfg(not(ipc_loom))]
impl<T: Pod> Copied<T> {
    const fn new(value: T) -> Self {
        // What lies behind the value is zero, too.
        let mut copy = MaybeUninit::<Self>::zeroed();
        // SAFETY: the value lies at the beginning of the copy, which is at least as large and as much aligned; no bytes of a
        // `MaybeUninit` are invalid.
        unsafe {
            copy.as_mut_ptr().cast::<T>().write(value);
            copy.assume_init()
        }
    }

    #[inline]
    fn word(&self, index: usize) -> &AtomicU64 {
        debug_assert!(index < Self::WORDS);
        // SAFETY: within the value, whose first byte is aligned to 8; alive as `self`; in a cell, and nobody accesses these bytes
        // but by this atomic.
        unsafe { &*self.0.get().cast::<AtomicU64>().add(index) }
    }

    #[inline]
    fn byte(&self, offset: usize) -> &core::sync::atomic::AtomicU8 {
        debug_assert!((Self::WORDS * 8..size_of::<T>()).contains(&offset));
        // SAFETY: within the value, behind its last whole word; otherwise as for `word`.
        unsafe { &*self.0.get().cast::<core::sync::atomic::AtomicU8>().add(offset) }
    }
}

/// The same in a model, for values of whole words.
#[cfg(ipc_loom)]
struct Copied<T>(Vec<AtomicU64>, core::marker::PhantomData<T>);

#[cfg(ipc_loom)]
impl<T: Pod> Copied<T> {
    fn new(value: T) -> Self {
        assert_eq!(size_of::<T>() % 8, 0);
        let words = bytemuck::bytes_of(&value).chunks_exact(8).map(|word| u64::from_ne_bytes(word.try_into().unwrap()));
        Self(words.map(AtomicU64::new).collect(), core::marker::PhantomData)
    }

    fn word(&self, index: usize) -> &AtomicU64 {
        &self.0[index]
    }

    fn byte(&self, _offset: usize) -> &loom::sync::atomic::AtomicU8 {
        unreachable!("values of whole words")
    }
}

impl<T: Pod> Copied<T> {
    /// How many whole words there are in a value.
    const WORDS: usize = size_of::<T>() / 8;

    /// Copies it out. Torn, if somebody stores meanwhile.
    #[inline(always)]
    fn load(&self) -> T {
        let mut value = MaybeUninit::<T>::uninit();
        let words = value.as_mut_ptr().cast::<u64>();
        for index in 0..Self::WORDS {
            // SAFETY: within `value`; unaligned is fine.
            unsafe { words.add(index).write_unaligned(self.word(index).load(Relaxed)) };
        }
        for offset in Self::WORDS * 8..size_of::<T>() {
            // SAFETY: within `value`.
            unsafe { words.cast::<u8>().add(offset).write(self.byte(offset).load(Relaxed)) };
        }
        // SAFETY: all of its bytes have been written, and any bytes are a value of a `Pod` type.
        unsafe { value.assume_init() }
    }

    /// Copies `value` in. The lock is held, and this is not the copy that is the value.
    #[inline(always)]
    fn store(&self, value: &T) {
        let words = core::ptr::from_ref(value).cast::<u64>();
        for index in 0..Self::WORDS {
            // SAFETY: within `value`, whose bytes are all initialised; unaligned is fine.
            self.word(index).store(unsafe { words.add(index).read_unaligned() }, Relaxed);
            crash_point!("snapshot.write.after_word");
        }
        for offset in Self::WORDS * 8..size_of::<T>() {
            // SAFETY: as above.
            self.byte(offset).store(unsafe { words.cast::<u8>().add(offset).read() }, Relaxed);
        }
    }
}

impl<T: Pod> From<T> for Snapshot<T> {
    fn from(value: T) -> Self {
        Self::new(value)
    }
}

impl<T: Pod + Default> Default for Snapshot<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T: Pod + fmt::Debug> fmt::Debug for Snapshot<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot").field("version", &self.version()).field("value", &self.try_read()).finish()
    }
}
