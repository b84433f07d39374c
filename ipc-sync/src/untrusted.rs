//! What can be had of the primitives in a region whose peers are not trusted.
//!
//! These are the same objects: who trusts its peers may have them under their other names. Only what waits without a bound is missing. A lock is not
//! among them, since it gives out a reference to what it protects.

use core::fmt;
use core::time::Duration;
use std::time::Instant;

use shmkit_core::{Described, Fingerprint, HostileSafe, ShmSafe};

use crate::error::WaitError;
use crate::event::Event;
use crate::semaphore::{Semaphore, SemaphoreError};

/// A [`Semaphore`] among peers that are not trusted.
///
/// A hostile peer can take, add and forge permits as it likes, and keep a word from being changed; it can do nothing else.
///
/// # Examples
///
/// ```
/// use shmkit_core::UntrustedRegion;
/// use shmkit_sync::{Semaphore, UntrustedSemaphore};
/// use std::time::Duration;
///
/// let region = UntrustedRegion::anonymous(4096)?;
/// let seats = region.insert("seats", UntrustedSemaphore::from(Semaphore::bounded(1, 1)?))?;
/// seats.acquire_timeout(Duration::from_millis(10))?;
/// assert!(!seats.try_acquire());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// There is no wait without a bound, and a `Semaphore`, which has one, is not to be had:
///
/// ```compile_fail,E0599
/// # use shmkit_core::UntrustedRegion;
/// # use shmkit_sync::UntrustedSemaphore;
/// # let region = UntrustedRegion::anonymous(4096)?;
/// region.get::<UntrustedSemaphore>("seats")?.acquire()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// ```compile_fail,E0277
/// # use shmkit_core::UntrustedRegion;
/// # use shmkit_sync::Semaphore;
/// # let region = UntrustedRegion::anonymous(4096)?;
/// region.get::<Semaphore>("seats")?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[repr(transparent)]
pub struct UntrustedSemaphore(Semaphore);

/// An [`Event`] among peers that are not trusted.
///
/// A hostile peer can set and reset it as it likes, and release nobody or all.
///
/// # Examples
///
/// ```
/// use shmkit_core::UntrustedRegion;
/// use shmkit_sync::{Event, UntrustedEvent, WaitError};
/// use std::time::Duration;
///
/// let region = UntrustedRegion::anonymous(4096)?;
/// let green = region.insert("green", UntrustedEvent::from(Event::new()))?;
/// assert!(matches!(green.wait_timeout(Duration::from_millis(1)), Err(WaitError::TimedOut)));
/// green.set();
/// green.wait_timeout(Duration::from_millis(1))?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// There is no wait without a bound, and there are no locks, nor what is made of them:
///
/// ```compile_fail,E0599
/// # use shmkit_core::UntrustedRegion;
/// # use shmkit_sync::UntrustedEvent;
/// # let region = UntrustedRegion::anonymous(4096)?;
/// region.get::<UntrustedEvent>("green")?.wait()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// ```compile_fail,E0277
/// # use shmkit_core::UntrustedRegion;
/// # use shmkit_sync::Mutex;
/// # let region = UntrustedRegion::anonymous(4096)?;
/// region.get::<Mutex<u64>>("tickets")?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// ```compile_fail,E0277
/// # use shmkit_core::UntrustedRegion;
/// # use shmkit_sync::RwLock;
/// # let region = UntrustedRegion::anonymous(4096)?;
/// region.get::<RwLock<u64>>("tickets")?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// ```compile_fail,E0277
/// # use shmkit_core::UntrustedRegion;
/// # use shmkit_sync::OnceLock;
/// # let region = UntrustedRegion::anonymous(4096)?;
/// region.insert("settings", OnceLock::<u64>::new())?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[repr(transparent)]
pub struct UntrustedEvent(Event);

/// Makes a type that has the layout and the fingerprint of another one.
macro_rules! stands_for {
    ($untrusted:ident, $trusted:ident) => {
        // SAFETY: `repr(transparent)`, so what is said of the other type is true of this one, too: they can stand in for one another.
        unsafe impl Described for $untrusted {
            const FINGERPRINT: Fingerprint = $trusted::FINGERPRINT;

            fn type_name(f: &mut fmt::Formatter<'_>) -> fmt::Result {
                $trusted::type_name(f)
            }
        }

        // SAFETY: as above.
        unsafe impl ShmSafe for $untrusted {}

        impl From<$trusted> for $untrusted {
            fn from(trusted: $trusted) -> Self {
                Self(trusted)
            }
        }

        impl fmt::Debug for $untrusted {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    };
}

stands_for!(UntrustedSemaphore, Semaphore);
stands_for!(UntrustedEvent, Event);

// SAFETY: three atomic words, of which any bytes are values; each look at one decides for itself; loops that try an exchange again count, and
// waits end with their time.
unsafe impl HostileSafe for UntrustedSemaphore {}

// SAFETY: one atomic word, and the same.
unsafe impl HostileSafe for UntrustedEvent {}

impl UntrustedSemaphore {
    /// See [`Semaphore::try_acquire`].
    #[inline]
    #[must_use = "there may have been no permit"]
    pub fn try_acquire(&self) -> bool {
        self.0.try_acquire()
    }

    /// See [`Semaphore::acquire_timeout`].
    ///
    /// # Errors
    ///
    /// As there; [`WaitError::Failed`] also if somebody scribbles on it.
    #[inline]
    pub fn acquire_timeout(&self, timeout: Duration) -> Result<(), WaitError> {
        self.0.acquire_timeout(timeout)
    }

    /// See [`Semaphore::acquire_deadline`].
    ///
    /// # Errors
    ///
    /// As for [`acquire_timeout`](Self::acquire_timeout).
    #[inline]
    pub fn acquire_deadline(&self, deadline: Instant) -> Result<(), WaitError> {
        self.0.acquire_deadline(deadline)
    }

    /// See [`Semaphore::try_acquire_many`].
    #[inline]
    #[must_use = "there may have been too few permits"]
    pub fn try_acquire_many(&self, n: u32) -> bool {
        self.0.try_acquire_many(n)
    }

    /// See [`Semaphore::acquire_many_timeout`].
    ///
    /// # Errors
    ///
    /// As for [`acquire_timeout`](Self::acquire_timeout).
    #[inline]
    pub fn acquire_many_timeout(&self, n: u32, timeout: Duration) -> Result<(), WaitError> {
        self.0.acquire_many_timeout(n, timeout)
    }

    /// See [`Semaphore::acquire_many_deadline`].
    ///
    /// # Errors
    ///
    /// As for [`acquire_timeout`](Self::acquire_timeout).
    #[inline]
    pub fn acquire_many_deadline(&self, n: u32, deadline: Instant) -> Result<(), WaitError> {
        self.0.acquire_many_deadline(n, deadline)
    }

    /// See [`Semaphore::release`].
    ///
    /// # Errors
    ///
    /// As there.
    #[inline]
    pub fn release(&self) -> Result<(), SemaphoreError> {
        self.0.release()
    }

    /// See [`Semaphore::release_many`].
    ///
    /// # Errors
    ///
    /// As there.
    #[inline]
    pub fn release_many(&self, n: u32) -> Result<(), SemaphoreError> {
        self.0.release_many(n)
    }

    /// See [`Semaphore::available`].
    #[inline]
    pub fn available(&self) -> u32 {
        self.0.available()
    }
}

impl UntrustedEvent {
    /// See [`Event::set`].
    #[inline]
    pub fn set(&self) {
        self.0.set();
    }

    /// See [`Event::reset`].
    #[inline]
    pub fn reset(&self) {
        self.0.reset();
    }

    /// See [`Event::is_set`].
    #[inline]
    pub fn is_set(&self) -> bool {
        self.0.is_set()
    }

    /// See [`Event::try_wait`].
    #[inline]
    pub fn try_wait(&self) -> bool {
        self.0.try_wait()
    }

    /// See [`Event::wait_timeout`].
    ///
    /// # Errors
    ///
    /// As there; [`WaitError::Failed`] also if somebody scribbles on it.
    #[inline]
    pub fn wait_timeout(&self, timeout: Duration) -> Result<(), WaitError> {
        self.0.wait_timeout(timeout)
    }

    /// See [`Event::wait_deadline`].
    ///
    /// # Errors
    ///
    /// As for [`wait_timeout`](Self::wait_timeout).
    #[inline]
    pub fn wait_deadline(&self, deadline: Instant) -> Result<(), WaitError> {
        self.0.wait_deadline(deadline)
    }
}
