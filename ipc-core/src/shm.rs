//! A handle to an object in a region.

use core::fmt;
use core::ops::Deref;
use core::ptr::NonNull;
use std::sync::Arc;

use crate::attachment::Attachment;
use crate::described::ShmSafe;
use crate::error::Result;
use crate::region::Region;

/// An object in a shared region: a pointer that keeps the mapping alive.
///
/// Clones are cheap and denote the same object. Dropping the last handle unmaps the region; the object stays in it.
///
/// # Examples
///
/// ```
/// use shmkit_core::{Region, Shm};
/// use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
///
/// let visitors: Shm<AtomicU64> = Region::anonymous(4096)?.insert("visitors", AtomicU64::new(0))?;
/// // The region is still mapped, since there is the handle.
/// visitors.fetch_add(1, Relaxed);
/// assert_eq!(visitors.region()?.get::<AtomicU64>("visitors")?.load(Relaxed), 1);
/// # Ok::<(), shmkit_core::Error>(())
/// ```
pub struct Shm<T: ShmSafe> {
    attachment: Arc<Attachment>,
    object: NonNull<T>,
}

// SAFETY: gives out `&T` only, and `ShmSafe` types are `Sync`, between processes as well as between threads.
unsafe impl<T: ShmSafe> Send for Shm<T> {}
// SAFETY: as above.
unsafe impl<T: ShmSafe> Sync for Shm<T> {}

impl<T: ShmSafe> Shm<T> {
    /// # Safety
    ///
    /// `object` points to a valid `T` in the region of `attachment` that stays one as long as the region is mapped.
    pub(crate) unsafe fn new(attachment: Arc<Attachment>, object: NonNull<T>) -> Self {
        Self { attachment, object }
    }

    /// The region that it lies in.
    ///
    /// # Errors
    ///
    /// [`Error::OtherTrust`](crate::Error::OtherTrust) if that is an [`UntrustedRegion`](crate::UntrustedRegion): a [`Region`] would have in it what is not to be had there.
    pub fn region(&self) -> Result<Region> {
        Region::of_handle(&self.attachment)
    }

    /// A handle to a part of the object, such as a field. It cannot be sent to other processes as a value; that to the whole can.
    ///
    /// # Examples
    ///
    /// ```
    /// use shmkit_core::{Region, Shm};
    /// use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
    ///
    /// let region = Region::anonymous(4096)?;
    /// let pair = region.insert("pair", [AtomicU64::new(1), AtomicU64::new(2)])?;
    /// let second: Shm<AtomicU64> = pair.map(|pair| &pair[1]);
    /// assert_eq!(second.load(Relaxed), 2);
    /// # Ok::<(), shmkit_core::Error>(())
    /// ```
    pub fn map<U: ShmSafe>(&self, part: impl FnOnce(&T) -> &U) -> Shm<U> {
        // What `part` returns lives as long as the object does, since it does so for every lifetime.
        Shm { attachment: Arc::clone(&self.attachment), object: NonNull::from(part(self)) }
    }
}

impl<T: ShmSafe> Deref for Shm<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: valid by the contract of `new`, and mapped as long as `attachment` lives.
        unsafe { self.object.as_ref() }
    }
}

impl<T: ShmSafe> Clone for Shm<T> {
    fn clone(&self) -> Self {
        Self { attachment: Arc::clone(&self.attachment), object: self.object }
    }
}

impl<T: ShmSafe + fmt::Debug> fmt::Debug for Shm<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}
