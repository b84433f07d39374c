//! A value that is written once, by one of several processes, and read by all.
//!
//! It cannot be changed or taken out; for values that change, take a [`Snapshot`](shmkit_core::Snapshot) or a [`Mutex`](crate::Mutex).
//!
//! # Shared layout
//!
//! ```text
//! | once: u64 (see `Once`) | reserved: u64 | value: T |
//! ```
//!
//! # States
//!
//! Those of [`Once`], with the value:
//!
//! | once | value | `get` | `get_or_init`, `set` |
//! |---|---|---|---|
//! | incomplete | anything | nothing | become the one that runs it: make a value, write it, complete |
//! | being run | being written | nothing | wait |
//! | run by a dead | anything, maybe half written | nothing | take over, make a value, write all of it, complete |
//! | complete | the value, for ever | it | it |
//!
//! # A kill at each point
//!
//! Before the state is complete: whatever has been written is not given to anybody and is written over. After that: the value, whole.
//!
//! # Garbage
//!
//! `T` is `Pod`: any bytes are a value of it. A state that is none is `Corrupted`.

use core::fmt;
use core::mem::MaybeUninit;
use core::time::Duration;
use std::time::Instant;

use bytemuck::Pod;
use shmkit_core::shim::AtomicU64;
use shmkit_core::{Deadline, Described, Error, Fingerprint, ShmSafe, const_fn, crash_point};

use crate::error::WaitError;
use crate::once::Once;
use crate::value::Value;

/// Version of the layout above.
const LAYOUT: u32 = 1;

/// A value that one of several processes writes, once, and that all then read through `&T`, at the cost of reading one word before.
///
/// If the process that makes the value is killed before it is there, or the function panics, the next one makes it.
///
/// # Examples
///
/// ```
/// use shmkit_core::Region;
/// use shmkit_sync::OnceLock;
///
/// let region = Region::anonymous(4096)?;
/// let seed = region.insert("seed", OnceLock::<u64>::new())?;
///
/// assert_eq!(seed.get(), None);
/// // Every process does this; all get the same value.
/// let value: &u64 = seed.get_or_init(|| 4711)?;
/// assert_eq!(*value, 4711);
/// assert!(seed.set(1).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[repr(C)]
pub struct OnceLock<T> {
    /// Complete when the value is there.
    once: Once,
    reserved: AtomicU64,
    /// Written by the one who runs `once`; read by all when that is complete.
    value: Value<MaybeUninit<T>>,
}

#[cfg(not(ipc_loom))]
const _: () = {
    assert!(size_of::<OnceLock<u64>>() == 24 && align_of::<OnceLock<u64>>() == 8);
    assert!(core::mem::offset_of!(OnceLock<u32>, value) == 16 && core::mem::offset_of!(OnceLock<u128>, value) == 16);
};

// SAFETY: one thread of one process writes the value, before anybody reads it; `Pod` values belong to no thread.
unsafe impl<T: Send> Send for OnceLock<T> {}
// SAFETY: as above; all threads may then have `&T`.
unsafe impl<T: Send + Sync> Sync for OnceLock<T> {}

// SAFETY: name, layout version and the type of the value are all that the layout depends on.
unsafe impl<T: Pod + Described> Described for OnceLock<T> {
    const FINGERPRINT: Fingerprint =
        Fingerprint::new("OnceLock", LAYOUT, size_of::<Self>(), align_of::<Self>()).parameter(T::FINGERPRINT);

    fn type_name(f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OnceLock<")?;
        T::type_name(f)?;
        f.write_str(">")
    }
}

// SAFETY: `repr(C)`, no pointers, no drop glue; the value is `Pod`, written before it is published and never again.
unsafe impl<T: Pod + Described + Send + Sync> ShmSafe for OnceLock<T> {}

/// Why [`OnceLock::set`] has set nothing. It gives the value back.
#[derive(Debug)]
#[non_exhaustive]
pub enum SetError<T> {
    /// There is a value already.
    AlreadySet {
        /// The one that was to be set.
        value: T,
    },
    /// Somebody else was about to set one, and could not be waited for.
    NotSet {
        /// The one that was to be set.
        value: T,
        /// Why not.
        cause: WaitError,
    },
}

impl<T> SetError<T> {
    /// The value that was to be set.
    pub fn into_value(self) -> T {
        match self {
            Self::AlreadySet { value } | Self::NotSet { value, .. } => value,
        }
    }
}

impl<T> fmt::Display for SetError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AlreadySet { .. } => f.write_str("there is a value already: get it instead"),
            Self::NotSet { cause, .. } => write!(f, "the value was not set: {cause}"),
        }
    }
}

impl<T: fmt::Debug> std::error::Error for SetError<T> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::AlreadySet { .. } => None,
            Self::NotSet { cause, .. } => Some(cause),
        }
    }
}

/// Why [`OnceLock::get_or_try_init`] gave no value.
#[derive(Debug)]
#[non_exhaustive]
pub enum InitError<E> {
    /// The function that was to make it failed.
    Init(E),
    /// Somebody else was about to make one, and could not be waited for.
    Wait(WaitError),
}

impl<E: fmt::Display> fmt::Display for InitError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Init(error) => write!(f, "the value could not be made: {error}"),
            Self::Wait(error) => write!(f, "the value of somebody else: {error}"),
        }
    }
}

impl<E: std::error::Error + 'static> std::error::Error for InitError<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Init(error) => Some(error),
            Self::Wait(error) => Some(error),
        }
    }
}

/// No error at all, for functions that make a value in any case.
enum Never {}

impl<T: Pod> OnceLock<T> {
    const_fn! {
        /// A cell without a value.
        pub fn new() -> Self {
            const { assert!(align_of::<T>() <= 16, "the value of a `OnceLock` is aligned to at most 16 bytes") }
            // Zeroes, or the bytes of this process's stack would be copied into the region.
            Self { once: Once::new(), reserved: AtomicU64::new(0), value: Value::new(MaybeUninit::zeroed()) }
        }
    }

    /// The value, if there is one. It stays the same from then on.
    #[inline]
    pub fn get(&self) -> Option<&T> {
        if self.once.is_completed() { Some(self.value()) } else { None }
    }

    /// The value; if there is none, the one that `f` makes.
    ///
    /// # Blocking
    ///
    /// While somebody alive is making it; for ever if that is the calling thread, in `f` itself.
    ///
    /// # Crash safety
    ///
    /// Any process may be killed at any instruction. If the one that makes the value is, the next caller, or one that is waiting, makes it.
    ///
    /// # Errors
    ///
    /// [`WaitError::Failed`]; with [`Error::Forked`] in a child that `f` has forked and that has returned from `f`, too: its parent is still
    /// to write the value.
    ///
    /// # Panics
    ///
    /// If `f` does; there is no value then.
    #[inline]
    pub fn get_or_init(&self, f: impl FnOnce() -> T) -> Result<&T, WaitError> {
        self.init_until(None, || Ok(f())).map_err(certain)
    }

    /// [`get_or_init`](Self::get_or_init), waiting for at most `timeout` for somebody else who makes it. `f` itself may take longer.
    ///
    /// # Errors
    ///
    /// [`WaitError::TimedOut`], also inside of `f`; otherwise as for [`get_or_init`](Self::get_or_init).
    #[inline]
    pub fn get_or_init_timeout(&self, timeout: Duration, f: impl FnOnce() -> T) -> Result<&T, WaitError> {
        self.init_until(Some(timeout), || Ok(f())).map_err(certain)
    }

    /// [`get_or_init`](Self::get_or_init), waiting until `deadline` at the latest for somebody else who makes it.
    ///
    /// # Errors
    ///
    /// As for [`get_or_init_timeout`](Self::get_or_init_timeout).
    #[inline]
    pub fn get_or_init_deadline(&self, deadline: Instant, f: impl FnOnce() -> T) -> Result<&T, WaitError> {
        self.init_until(Some(until(deadline)), || Ok(f())).map_err(certain)
    }

    /// The value; if there is none, the one that `f` makes, if it does. If `f` fails, the next caller tries.
    ///
    /// # Blocking
    ///
    /// As [`get_or_init`](Self::get_or_init).
    ///
    /// # Errors
    ///
    /// [`InitError::Init`] with what `f` returned; [`InitError::Wait`] with an error of [`get_or_init`](Self::get_or_init).
    #[inline]
    pub fn get_or_try_init<E>(&self, f: impl FnOnce() -> Result<T, E>) -> Result<&T, InitError<E>> {
        self.init_until(None, f)
    }

    /// [`get_or_try_init`](Self::get_or_try_init), waiting for at most `timeout` for somebody else who makes it.
    ///
    /// # Errors
    ///
    /// As for [`get_or_try_init`](Self::get_or_try_init), and [`WaitError::TimedOut`] in [`InitError::Wait`].
    #[inline]
    pub fn get_or_try_init_timeout<E>(
        &self,
        timeout: Duration,
        f: impl FnOnce() -> Result<T, E>,
    ) -> Result<&T, InitError<E>> {
        self.init_until(Some(timeout), f)
    }

    /// [`get_or_try_init`](Self::get_or_try_init), waiting until `deadline` at the latest for somebody else who makes it.
    ///
    /// # Errors
    ///
    /// As for [`get_or_try_init_timeout`](Self::get_or_try_init_timeout).
    #[inline]
    pub fn get_or_try_init_deadline<E>(
        &self,
        deadline: Instant,
        f: impl FnOnce() -> Result<T, E>,
    ) -> Result<&T, InitError<E>> {
        self.init_until(Some(until(deadline)), f)
    }

    /// Sets the value if there is none.
    ///
    /// # Blocking
    ///
    /// As [`get_or_init`](Self::get_or_init).
    ///
    /// # Errors
    ///
    /// [`SetError`], with the value.
    #[inline]
    pub fn set(&self, value: T) -> Result<(), SetError<T>> {
        self.set_until(None, value)
    }

    /// [`set`](Self::set), waiting for at most `timeout` for somebody else who makes one.
    ///
    /// # Errors
    ///
    /// [`SetError`], with the value.
    #[inline]
    pub fn set_timeout(&self, timeout: Duration, value: T) -> Result<(), SetError<T>> {
        self.set_until(Some(timeout), value)
    }

    /// [`set`](Self::set), waiting until `deadline` at the latest for somebody else who makes one.
    ///
    /// # Errors
    ///
    /// [`SetError`], with the value.
    #[inline]
    pub fn set_deadline(&self, deadline: Instant, value: T) -> Result<(), SetError<T>> {
        self.set_until(Some(until(deadline)), value)
    }

    /// Waits until there is a value.
    ///
    /// # Blocking
    ///
    /// Until then, also while nobody is making one.
    ///
    /// # Crash safety
    ///
    /// A process killed in here leaves nothing behind.
    ///
    /// # Errors
    ///
    /// [`WaitError::Failed`].
    #[inline]
    pub fn wait(&self) -> Result<&T, WaitError> {
        self.once.wait().map(|()| self.value())
    }

    /// [`wait`](Self::wait)s for at most `timeout`.
    ///
    /// # Errors
    ///
    /// [`WaitError::TimedOut`]; [`WaitError::Failed`].
    #[inline]
    pub fn wait_timeout(&self, timeout: Duration) -> Result<&T, WaitError> {
        self.once.wait_timeout(timeout).map(|()| self.value())
    }

    /// [`wait`](Self::wait)s until `deadline` at the latest.
    ///
    /// # Errors
    ///
    /// As for [`wait_timeout`](Self::wait_timeout).
    #[inline]
    pub fn wait_deadline(&self, deadline: Instant) -> Result<&T, WaitError> {
        self.once.wait_deadline(deadline).map(|()| self.value())
    }

    /// The value, once it is complete.
    #[inline]
    fn value(&self) -> &T {
        // SAFETY: the state was seen to be complete: the value was written before, as is seen, too, and nobody writes it any more. Any
        // bytes are a value of a `Pod` type, and they have been initialised, if only with zeroes.
        unsafe { (*self.value.get()).assume_init_ref() }
    }

    #[inline]
    fn init_until<E>(&self, timeout: Option<Duration>, f: impl FnOnce() -> Result<T, E>) -> Result<&T, InitError<E>> {
        if !self.once.is_completed() {
            self.init(timeout.and_then(Deadline::after), f)?;
        }
        Ok(self.value())
    }

    #[cold]
    fn init<E>(&self, deadline: Option<Deadline>, f: impl FnOnce() -> Result<T, E>) -> Result<(), InitError<E>> {
        let Some(running) = self.once.begin(deadline).map_err(InitError::Wait)? else {
            return Ok(());
        };
        let value = f().map_err(InitError::Init)?;
        if !running.is_own() {
            // A forked child: its parent writes the value.
            return Err(InitError::Wait(WaitError::Failed(Error::Forked)));
        }
        crash_point!("once_lock.before_write");
        // SAFETY: within the cell, which is aligned. This thread is the one that runs `once`, so nobody else writes; nobody reads before that
        // is complete.
        unsafe { (*self.value.get()).write(value) };
        crash_point!("once_lock.after_write");
        running.complete().map_err(InitError::Wait)
    }

    #[inline]
    fn set_until(&self, timeout: Option<Duration>, value: T) -> Result<(), SetError<T>> {
        let mut is_mine = false;
        let set = self.init_until(timeout, || {
            is_mine = true;
            Ok(value)
        });
        match set.map_err(certain) {
            Ok(_) if is_mine => Ok(()),
            Ok(_) => Err(SetError::AlreadySet { value }),
            Err(cause) => Err(SetError::NotSet { value, cause }),
        }
    }
}

fn certain(error: InitError<Never>) -> WaitError {
    match error {
        InitError::Init(never) => match never {},
        InitError::Wait(error) => error,
    }
}

fn until(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}

impl<T: Pod> Default for OnceLock<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Pod + fmt::Debug> fmt::Debug for OnceLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnceLock").field("value", &self.get()).finish()
    }
}
