//! A readers-writer lock that outlives its owners, whose readers do not meet.
//!
//! A lock that counts its readers makes them all write one word, and the cache line with that word goes from one CPU to the next with each
//! of them. Here a reader writes its token into a **cell**, and each participant of the region begins to look for a free one in a cache line
//! of its own. A writer takes the **turn**, shuts the **gate**, and looks at all cells. The idea is that of the big-reader locks of Linux
//! (`brlock`) and of BRAVO (D. Dice, A. Kogan, "BRAVO: Biased Locking for Reader-Writer Locks", 2019); the cells hold tokens, so that
//! the dead are told from the living.
//!
//! What it cannot do: hold more than 128 readers at a time (the next one waits until one leaves); give each of more than 16 participants
//! a line of its own (participant 16 begins at the line of participant 0); make a reader a writer; be locked twice by a thread that
//! then waits for itself.
//!
//! # Shared layout
//!
//! ```text
//!    0: | turn: u64, twice (see `RawLock`) | poison: u32 | gate: u32 | downgraded: u64 | left: u32 | asymmetric: u32 | up to 64 |
//!   64: | 16 lines of 8 cells: u64, each 0 or the token of a process one of whose threads reads, or IDLE with a token           |
//! 1088: | value: T, padded to lines of 64 bytes                                                                                |
//! ```
//!
//! # States
//!
//! | `gate` | `read` | `write` | its owner dies |
//! |---|---|---|---|
//! | OPEN (0) | cell: 0 -> token, gate again: in | with the turn: -> CLOSING | readers: their cells are forgotten |
//! | BIASED (4): OPEN, and handles come in by plain stores | the same | with the turn: -> OPEN, barrier, -> CLOSING | the same |
//! | CLOSING (1): who has the turn looks at the cells | cell -> 0 again, waits for the turn | all cells 0: -> WRITING, in; else -> WAITING | who takes the turn over: -> OPEN |
//! | WAITING (2): the same, asleep | the same, and wakes it | the same | the same |
//! | WRITING (3): a writer is in | waits for the turn | waits for the turn | who takes the turn over: poison, -> OPEN |
//!
//! Going out, a writer opens the gate and gives the turn up. A reader stores 0 into its cell and wakes whoever waits for that, if the gate
//! says WAITING. A reader that finds the gate shut waits for the turn, and with it enters its token into a cell and gives the turn up at
//! once: writers and late readers compete for it as those do who lock a mutex, where one who comes back at once may be before one who was woken. While it has the turn the gate stays open, and
//! readers that come then pass it by. Only if all cells are taken by the living, it shuts the gate until one of them is free.
//!
//! A reader that was a writer has a cell of its own, `downgraded`: it was 0 when the writer came in, and only a writer that is in takes
//! it. So a downgrade neither waits nor fails.
//!
//! Whoever has the turn and finds the gate shut follows somebody who died with the turn, whatever the turn says.
//!
//! # Two that pass each other
//!
//! A reader that comes writes its cell and then looks at the gate; a writer shuts the gate and then looks at the cells. Both are
//! sequentially consistent, so one of them sees the other.
//!
//! A reader that leaves does the same, its cell first and then the gate, but by a plain store, which costs nothing, where an exchange
//! would cost as much as coming in. A processor may look at the gate before that store has left its store buffer. So of a reader and a writer
//! that is about to sleep, both may miss each other: the reader sees no WAITING and wakes nobody, the writer sees the cell taken.
//! Therefore a writer that has stored WAITING only naps, for some milliseconds at most, until a look that comes 200 microseconds later or more,
//! and then sleeps until it is woken. By then it sees the cell of every reader that it could have missed:
//!
//! * the reader's look at the gate came before WAITING was there to be seen, or it would have told;
//! * in the program the store comes before the look, so by then it was in the store buffer, or about to be;
//! * a store buffer drains by itself. It holds some dozens of stores, each of which takes some nanoseconds, and a fraction of a microsecond
//!   if other CPUs want the same line. This goes on whatever the thread does: an interrupt, a switch of threads, a stop or a kill either
//!   finds the look not completed, and it is done again later, or leaves the store to drain.
//!
//! Readers that leave later find WAITING and wake. So nobody's leaving is missed, and no bound on the sleep is part of the argument but the
//! 200 microseconds. Should a machine hold a store back for longer, the safety net of the waiting layer ends the sleep after a second.
//!
//! In models, which know no time, the reader that leaves has a fence between the two instead.
//!
//! # Handles
//!
//! The exchange by which a reader comes in has two jobs. It takes a cell that others may want, and it is a fence before the look at the gate. In an **asymmetric** lock, a
//! [handle](RwLockReader) does the first once for all: it **keeps** a cell, which holds its token with IDLE while it does not read, so that coming
//! in and going out are plain stores of this one writer. The second is left to the writers, as in BRAVO: while nobody has the turn, the gate is **BIASED**, and a handle that finds
//! it so is in. A writer with the turn makes it OPEN, and then calls `membarrier`, which returns when each thread of the machine has gone through a fence. So, of each handle, a
//! fence lies somewhere in what it does:
//!
//! * behind its store into the cell: then the writer's look finds the handle reading;
//! * before that: then its look at the gate comes behind the fence, too, and does not find it BIASED. It makes the store good by an exchange, and looks again, as readers do who have no handle.
//!
//! That call takes some milliseconds. Meanwhile all readers come and go, handles in the other way. Then the writer shuts the gate, and all is as in any lock; when it opens the gate, that is BIASED again.
//! What a writer has begun of this and died, the next one does anew; until then the gate stays OPEN, or until somebody else with the turn opens it. A reader that waits for the turn looks at the gate every few
//! milliseconds, since a writer that comes back at once would have the next turn before one who has just been woken. Whoever has the turn and shuts no writer out, such as a reader that comes late, leaves the bias as it is.
//!
//! This is the asymmetric fence of folly and of WG21's P1202.
//!
//! Every second cell can be kept, so readers without a handle always have 64. The kept cells of the dead are taken by later handles, and by readers
//! that find no other cell.
//!
//! # A kill at each point
//!
//! * a reader, with its token in a cell: the cell is that of a dead, and the next writer forgets it, or a reader that finds all
//!   others taken enters there;
//! * a reader, after it has stored 0 and before it has woken a writer: its death wakes all;
//! * a handle: while it reads, as any reader; otherwise its cell says IDLE, which no writer waits for;
//! * a reader or a writer with the turn, in CLOSING or WAITING: the data are whole. The next one with the turn opens the gate;
//! * a writer in WRITING: the next one with the turn poisons the lock and opens the gate, in this order; if it dies before both are done,
//!   the next one does so again;
//! * a writer that has opened the gate: the data are whole, and there is no poison;
//! * a downgrade, before the gate is open: a writer in WRITING, and the cell of a dead reader; after it: a dead reader.
//!
//! # Two threads, one token
//!
//! Threads of a process write the same token. That a writer cannot tell them apart does no harm: a cell that was left by one and taken by
//! the other was taken with the gate shut after the writer's look, and so is left again, or it was taken with the turn. Only the one whose
//! exchange has taken the cell leaves it, and a token is taken out by others only when it is proven that none of its threads lives.
//!
//! # Garbage
//!
//! A gate of any other value is taken for WRITING: poison. A cell with the token of somebody alive is a reader who does not leave
//! before that dies: a writer waits, or times out. With IDLE it is nobody who reads, and a cell less until that process dies. Any other value in a
//! cell is that of a dead. An `asymmetric` that is not 0 lets handles keep cells, and one that has become 0 lets a writer in beside a handle that reads. The poison is
//! [`Corrupted`](shmkit_core::Error::Corrupted) until it is cleared.

#![cfg_attr(ipc_loom, allow(clippy::modulo_one, clippy::identity_op, reason = "a line has one cell in models"))]

mod algorithm;
mod hints;
mod kept;
mod layout;
mod reader;

use core::cell::UnsafeCell;
use core::fmt;
use core::marker::PhantomData;
use core::mem::MaybeUninit;
use core::ops::{Deref, DerefMut};
use core::time::Duration;
use std::time::Instant;

use bytemuck::Pod;
use shmkit_core::identity::{self, Token};
use shmkit_core::raw_lock::NotHeld;
use shmkit_core::{Deadline, Described, Fingerprint, ShmSafe, const_fn};

use self::algorithm::{Reading, Writing};
use self::kept::Kept;
use self::layout::{Core, LAYOUT};
pub use self::reader::RwLockReader;
use crate::error::{LockError, LockResult};

/// Many readers or one writer, between processes, and between threads, with the data that they read or write.
///
/// Readers of different processes do not slow each other down: each of the first 16 participants of a region writes a cache line of its
/// own when it reads. An uncontended `read` is one atomic exchange, and its end a plain store. That takes memory, 1088 bytes per lock
/// beside the value, and makes writing dearer, as a writer looks at all of it. With as many writers as readers, a
/// [`Mutex`](crate::Mutex) is the better choice.
///
/// A writer that waits keeps new readers out, and is not starved by them; nor are readers by writers. A killed reader is forgotten. The
/// lock of a writer that was killed goes on, and comes inside [`LockError::Poisoned`], also to readers, until
/// somebody calls [`clear_poison`](Self::clear_poison); the same after a panic of a writer. A killed or panicking reader poisons nothing.
///
/// [`asymmetric`](Self::asymmetric) makes a lock with cheaper reads and dearer writes, for threads that read by a [handle](RwLockReader).
///
/// A guard that is forgotten keeps the lock as long as its process has the region open: for readers it keeps out writers only.
///
/// There is room for 128 readers at a time; the next one waits until one of them leaves. Threads of one process share its line, so
/// they do meet there. Outside any region each thread has a line of its own, up to 16.
///
/// # Examples
///
/// ```
/// use shmkit_core::Region;
/// use shmkit_sync::RwLock;
///
/// let region = Region::anonymous(4096)?;
/// let prices = region.insert("prices", RwLock::new([100u32, 250]))?;
///
/// let sum: u32 = prices.read().map_err(|error| error.to_string())?.iter().sum();
/// assert_eq!(sum, 350);
/// prices.write().map_err(|error| error.to_string())?[1] = 300;
/// # assert_eq!(prices.read().map_err(|error| error.to_string())?[1], 300);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[repr(C)]
pub struct RwLock<T> {
    /// Who is in, and who wants in.
    core: Core,
    /// Written by the writer, read by readers.
    value: Value<T>,
}

/// The value, on lines of its own: whoever waits for a writer does not slow it down.
#[repr(C, align(64))]
struct Value<T>(UnsafeCell<T>);

impl<T: Pod> Value<T> {
    const fn new(value: T) -> Self {
        // What lies behind the value is zero, too.
        let mut line = MaybeUninit::<Self>::zeroed();
        // SAFETY: the value lies at the beginning of the line, which is at least as large and as much aligned; then all of it is
        // initialised.
        unsafe {
            line.as_mut_ptr().cast::<T>().write(value);
            line.assume_init()
        }
    }
}

#[cfg(not(ipc_loom))]
const _: () = {
    assert!(size_of::<RwLock<u32>>() == 1152 && align_of::<RwLock<u32>>() == 64);
    assert!(core::mem::offset_of!(RwLock<u32>, core) == 0);
    assert!(core::mem::offset_of!(RwLock<u32>, value) == 1088);
};

// SAFETY: the lock admits one writer or only readers to the value, and `Pod` values belong to no thread.
unsafe impl<T: Send> Send for RwLock<T> {}
// SAFETY: as above; several threads may have a `&T` at the same time.
unsafe impl<T: Send + Sync> Sync for RwLock<T> {}

// SAFETY: name, layout version and the type of the value are all that the layout depends on.
unsafe impl<T: Pod + Described> Described for RwLock<T> {
    const FINGERPRINT: Fingerprint =
        Fingerprint::new("RwLock", LAYOUT, size_of::<Self>(), align_of::<Self>()).parameter(T::FINGERPRINT);

    fn type_name(f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RwLock<")?;
        T::type_name(f)?;
        f.write_str(">")
    }
}

// SAFETY: `repr(C)`, no pointers, no drop glue; the value is `Pod` and reached under the lock only.
unsafe impl<T: Pod + Described + Send + Sync> ShmSafe for RwLock<T> {}

/// The right to read the value of an [`RwLock`]; given back when dropped.
///
/// It belongs to the thread that locked. In a forked child of that process, dropping it unlocks nothing.
#[must_use = "if unused the lock is given back at once"]
pub struct RwLockReadGuard<'a, T: Pod> {
    lock: &'a RwLock<T>,
    reading: Reading<'a>,
    /// Guards stay in their thread.
    _not_send: PhantomData<*const ()>,
}

/// The right to read and write the value of an [`RwLock`]; given back when dropped.
///
/// It belongs to the thread that locked. In a forked child of that process, dropping it unlocks nothing.
#[must_use = "if unused the lock is given back at once"]
pub struct RwLockWriteGuard<'a, T: Pod> {
    lock: &'a RwLock<T>,
    token: Token,
    was_panicking: bool,
    /// Guards stay in their thread.
    _not_send: PhantomData<*const ()>,
}

// SAFETY: gives out `&T` only.
unsafe impl<T: Pod + Sync> Sync for RwLockReadGuard<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Pod + Sync> Sync for RwLockWriteGuard<'_, T> {}

impl<T: Pod> RwLock<T> {
    const_fn! {
        /// A lock that nobody has.
        pub fn new(value: T) -> Self {
            Self { core: Core::new(), value: Value::new(value) }
        }
    }

    /// Locks for reading, together with others that read.
    ///
    /// # Blocking
    ///
    /// While a writer that is alive has the lock or waits for it: first spinning for some microseconds, then asleep. So a thread that
    /// reads already and reads again blocks for ever if a writer has come in between, as with `std::sync::RwLock`; one that writes blocks
    /// in any case. A stopped writer (SIGSTOP) is alive. The 129th reader waits until one of the others leaves.
    ///
    /// # Crash safety
    ///
    /// Any process may be killed at any instruction.
    ///
    /// # Errors
    ///
    /// [`LockError::Poisoned`], which holds the lock; [`LockError::Failed`].
    #[inline]
    pub fn read(&self) -> LockResult<RwLockReadGuard<'_, T>> {
        match self.core.read_fast() {
            Some(reading) => self.read_guard(reading),
            None => self.read_until(None, None),
        }
    }

    /// Locks for reading if that is possible at once.
    ///
    /// # Errors
    ///
    /// [`LockError::WouldBlock`] if a writer has the lock, waits for it or just tries to get it, or if there are 128 readers; otherwise as for
    /// [`read`](Self::read).
    #[inline]
    pub fn try_read(&self) -> LockResult<RwLockReadGuard<'_, T>> {
        match self.core.read_fast() {
            Some(reading) => self.read_guard(reading),
            None => self.try_read_by(None),
        }
    }

    /// Locks for reading, waiting for at most `timeout`.
    ///
    /// # Blocking
    ///
    /// As [`read`](Self::read), but not longer than `timeout` (monotonic clock).
    ///
    /// # Errors
    ///
    /// [`LockError::TimedOut`]; otherwise as for [`read`](Self::read).
    #[inline]
    pub fn read_timeout(&self, timeout: Duration) -> LockResult<RwLockReadGuard<'_, T>> {
        match self.core.read_fast() {
            Some(reading) => self.read_guard(reading),
            None => self.read_until(None, Deadline::after(timeout)),
        }
    }

    /// Locks for reading, waiting until `deadline` at the latest.
    ///
    /// # Errors
    ///
    /// As for [`read_timeout`](Self::read_timeout).
    #[inline]
    pub fn read_deadline(&self, deadline: Instant) -> LockResult<RwLockReadGuard<'_, T>> {
        match self.core.read_fast() {
            Some(reading) => self.read_guard(reading),
            None => self.read_until(None, Deadline::at(deadline)),
        }
    }

    /// Locks for writing, alone.
    ///
    /// # Blocking
    ///
    /// While anybody alive has the lock: first spinning for some microseconds, then asleep. New readers wait meanwhile. A thread that has
    /// the lock already blocks for ever. Stopped owners (SIGSTOP) are alive: one stopped reader keeps all writers waiting, and
    /// those keep new readers waiting.
    ///
    /// # Crash safety
    ///
    /// Any process may be killed at any instruction.
    ///
    /// # Errors
    ///
    /// [`LockError::Poisoned`], which holds the lock; [`LockError::Failed`].
    #[inline]
    pub fn write(&self) -> LockResult<RwLockWriteGuard<'_, T>> {
        self.write_until(None)
    }

    /// Locks for writing if that is possible at once.
    ///
    /// # Errors
    ///
    /// [`LockError::WouldBlock`] if anybody has the lock, waits for it or just tries to get it; otherwise as for [`write`](Self::write).
    #[inline]
    pub fn try_write(&self) -> LockResult<RwLockWriteGuard<'_, T>> {
        match self.core.try_write() {
            Ok(Some(writing)) => self.write_guard(writing),
            Ok(None) => Err(LockError::WouldBlock),
            Err(error) => Err(LockError::Failed(error)),
        }
    }

    /// Locks for writing, waiting for at most `timeout`.
    ///
    /// # Blocking
    ///
    /// As [`write`](Self::write), but not longer than `timeout` (monotonic clock). New readers wait meanwhile, and go on when the
    /// time is over.
    ///
    /// # Errors
    ///
    /// [`LockError::TimedOut`]; otherwise as for [`write`](Self::write).
    #[inline]
    pub fn write_timeout(&self, timeout: Duration) -> LockResult<RwLockWriteGuard<'_, T>> {
        self.write_until(Deadline::after(timeout))
    }

    /// Locks for writing, waiting until `deadline` at the latest.
    ///
    /// # Errors
    ///
    /// As for [`write_timeout`](Self::write_timeout).
    #[inline]
    pub fn write_deadline(&self, deadline: Instant) -> LockResult<RwLockWriteGuard<'_, T>> {
        self.write_until(Deadline::at(deadline))
    }

    /// Whether a writer died or panicked, and nobody has cleared that. May be outdated when it returns, unless the caller has the
    /// lock.
    #[inline]
    pub fn is_poisoned(&self) -> bool {
        self.core.poison.is_set()
    }

    /// Declares the data sound again. Call it with the lock held, after looking at them; to mend them takes a lock for writing.
    pub fn clear_poison(&self) {
        self.core.poison.clear();
    }

    #[cold]
    fn try_read_by<'a>(&'a self, kept: Option<&Kept<'a>>) -> LockResult<RwLockReadGuard<'a, T>> {
        match self.core.try_read_slow(kept) {
            Ok(Some(reading)) => self.read_guard(reading),
            Ok(None) => Err(LockError::WouldBlock),
            Err(error) => Err(LockError::Failed(error)),
        }
    }

    #[cold]
    fn read_until<'a>(
        &'a self,
        kept: Option<&Kept<'a>>,
        deadline: Option<Deadline>,
    ) -> LockResult<RwLockReadGuard<'a, T>> {
        match self.core.read_slow(kept, deadline) {
            Ok(reading) => self.read_guard(reading),
            Err(error) => Err(not_held(error)),
        }
    }

    #[inline]
    fn write_until(&self, deadline: Option<Deadline>) -> LockResult<RwLockWriteGuard<'_, T>> {
        match self.core.write(deadline) {
            Ok(writing) => self.write_guard(writing),
            Err(error) => Err(not_held(error)),
        }
    }

    #[inline]
    fn read_guard<'a>(&'a self, reading: Reading<'a>) -> LockResult<RwLockReadGuard<'a, T>> {
        let guard = RwLockReadGuard { lock: self, reading, _not_send: PhantomData };
        if self.core.poison.is_set() { Err(self.poisoned(guard)) } else { Ok(guard) }
    }

    #[inline]
    fn write_guard(&self, writing: Writing) -> LockResult<RwLockWriteGuard<'_, T>> {
        let was_panicking = std::thread::panicking();
        let guard = RwLockWriteGuard { lock: self, token: writing.token, was_panicking, _not_send: PhantomData };
        if writing.after_death || self.core.poison.is_set() { Err(self.poisoned(guard)) } else { Ok(guard) }
    }

    #[cold]
    fn poisoned<G>(&self, guard: G) -> LockError<G> {
        match self.core.poison.cause() {
            Ok(cause) => LockError::Poisoned { guard, cause },
            Err(error) => LockError::Failed(error),
        }
    }
}

#[cold]
fn not_held<G>(error: NotHeld) -> LockError<G> {
    match error {
        NotHeld::TimedOut => LockError::TimedOut,
        NotHeld::Failed(error) => LockError::Failed(error),
    }
}

impl<'a, T: Pod> RwLockWriteGuard<'a, T> {
    /// Goes on as a reader; no other writer comes in between. Never waits.
    ///
    /// # Crash safety
    ///
    /// A process killed in here was a writer, which poisons, or a reader, which does not.
    ///
    /// # Examples
    ///
    /// ```
    /// use shmkit_sync::{RwLock, RwLockWriteGuard};
    ///
    /// let lock = RwLock::new(1u32);
    /// let mut guard = lock.write().map_err(|error| error.to_string())?;
    /// *guard = 2;
    /// let guard = RwLockWriteGuard::downgrade(guard);
    /// assert_eq!(*guard, 2);
    /// assert!(lock.try_read().is_ok());
    /// assert!(lock.try_write().is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn downgrade(guard: Self) -> RwLockReadGuard<'a, T> {
        let lock = guard.lock;
        guard.note_panic();
        let reading = lock.core.downgrade(guard.token);
        // What it would give back has been given back.
        core::mem::forget(guard);
        RwLockReadGuard { lock, reading, _not_send: PhantomData }
    }

    /// Poisons the lock if this is the end of the guard by a panic.
    #[inline]
    fn note_panic(&self) {
        if !self.was_panicking && std::thread::panicking() && identity::is_own(self.token) {
            self.lock.core.poison.note_panic();
        }
    }
}

impl<T: Pod> Deref for RwLockReadGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the lock is held for reading, so nobody writes; any bytes are a value of a `Pod` type.
        unsafe { &*self.lock.value.0.get() }
    }
}

impl<T: Pod> Deref for RwLockWriteGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the lock is held for writing, so nobody else has a reference or writes; any bytes are a value of a `Pod` type.
        unsafe { &*self.lock.value.0.get() }
    }
}

impl<T: Pod> DerefMut for RwLockWriteGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as in `deref`; the guard is borrowed exclusively.
        unsafe { &mut *self.lock.value.0.get() }
    }
}

impl<T: Pod> Drop for RwLockReadGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.lock.core.unread(&self.reading);
    }
}

impl<T: Pod> Drop for RwLockWriteGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.note_panic();
        self.lock.core.unwrite(self.token);
    }
}

impl<T: Pod> From<T> for RwLock<T> {
    fn from(value: T) -> Self {
        Self::new(value)
    }
}

impl<T: Pod + Default> Default for RwLock<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T> fmt::Debug for RwLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RwLock").field("poisoned", &self.core.poison.is_set()).finish_non_exhaustive()
    }
}

impl<T: Pod + fmt::Debug> fmt::Debug for RwLockReadGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

impl<T: Pod + fmt::Display> fmt::Display for RwLockReadGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&**self, f)
    }
}

impl<T: Pod + fmt::Debug> fmt::Debug for RwLockWriteGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

impl<T: Pod + fmt::Display> fmt::Display for RwLockWriteGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&**self, f)
    }
}
