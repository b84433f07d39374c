//! Typed arrays in shared memory: named ones of any length, and those inside structs.

use core::cell::UnsafeCell;
use core::fmt;
use core::ops::Deref;
use core::ptr::NonNull;
use std::sync::Arc;

use bytemuck::Pod;

use crate::attachment::Attachment;
use crate::cells::{Cells, Iter};
use crate::described::{Described, Fingerprint, ShmSafe, TypeName};
use crate::directory::{self, Object, Plan};
use crate::error::{Error, Result};
use crate::region::{MAX_ALIGN, Region};

/// An array of plain values in a shared region: a pointer that keeps the mapping alive.
///
/// What can be done with the elements is said at [`Cells`], which it dereferences to. It is made by
/// [`Region::insert_array`] and found by [`Region::get_array`].
///
/// Clones are cheap and denote the same array. Dropping the last handle unmaps the region; the array stays in it.
///
/// # Examples
///
/// ```
/// use shmkit_core::{Region, SharedArray};
/// use std::sync::atomic::Ordering::Relaxed;
///
/// let hits: SharedArray<u64> = Region::anonymous(4096)?.insert_array("hits", 8)?;
/// hits.fetch_add(3, 1, Relaxed)?;
/// assert_eq!(hits.to_vec(), [0, 0, 0, 1, 0, 0, 0, 0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct SharedArray<T> {
    attachment: Arc<Attachment>,
    first: NonNull<UnsafeCell<T>>,
    len: usize,
}

// SAFETY: gives out `&Cells<T>` only, which is `Sync`, between processes as well as between threads.
unsafe impl<T: Send> Send for SharedArray<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for SharedArray<T> {}

/// An array of a fixed length, to be a field of a struct in a shared region.
///
/// What can be done with the elements is said at [`Cells`], which it dereferences to. An array by itself is better put into a region
/// with [`Region::insert_array`], which fixes its length when it runs.
///
/// # Examples
///
/// ```
/// # #[cfg(feature = "derive")] {
/// use shmkit_core::{Array, Region, ShmSafe};
/// use std::sync::atomic::AtomicU64;
///
/// #[repr(C)]
/// #[derive(ShmSafe)]
/// # #[shm(crate = "shmkit_core")]
/// struct Sensor {
///     reads: AtomicU64,
///     volts: Array<f32, 16>,
/// }
///
/// let region = Region::anonymous(4096)?;
/// let sensor = region.insert("sensor", Sensor { reads: AtomicU64::new(0), volts: Array::new([0.0; 16]) })?;
/// sensor.volts.set(2, 3.3)?;
/// assert_eq!(sensor.volts.get(2), Some(3.3));
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[repr(transparent)]
pub struct Array<T, const N: usize>([UnsafeCell<T>; N]);

// SAFETY: as `Cells`, which is all that it gives out.
unsafe impl<T: Send, const N: usize> Sync for Array<T, N> {}

// SAFETY: elements follow one another without gaps; their type and number are in the fingerprint.
unsafe impl<T: Pod + Described, const N: usize> Described for Array<T, N> {
    const FINGERPRINT: Fingerprint = Fingerprint::new("Array", 1, size_of::<Self>(), align_of::<Self>())
        .parameter(T::FINGERPRINT)
        .constant(N as u128);

    fn type_name(f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Array<{}, {N}>", TypeName::<T>::new())
    }
}

// SAFETY: `Pod` elements have no padding, no pointers and no drop glue, and any bytes are values; they are copied in and out by
// atomics, or by a copy that is opaque to the compiler.
unsafe impl<T: Pod + Described + Send, const N: usize> ShmSafe for Array<T, N> {}

impl<T: Pod, const N: usize> Array<T, N> {
    /// An array of these values.
    pub const fn new(values: [T; N]) -> Self {
        // SAFETY: cells have the layout of their values, which are `Copy`.
        unsafe { core::ptr::from_ref(&values).cast::<Self>().read() }
    }
}

impl<T: Pod, const N: usize> From<[T; N]> for Array<T, N> {
    fn from(values: [T; N]) -> Self {
        Self::new(values)
    }
}

impl<T: Pod, const N: usize> Default for Array<T, N> {
    /// An array of zeroes.
    fn default() -> Self {
        Self::new([T::zeroed(); N])
    }
}

impl<T, const N: usize> Deref for Array<T, N> {
    type Target = Cells<T>;

    #[inline]
    fn deref(&self) -> &Cells<T> {
        Cells::from_cells(&self.0)
    }
}

#[cfg(feature = "serde")]
impl<T> SharedArray<T> {
    pub(crate) fn region(&self) -> Result<Region> {
        Region::of_handle(&self.attachment)
    }

    /// Where its first element is.
    pub(crate) fn address(&self) -> usize {
        self.first.addr().get()
    }
}

impl<T> Deref for SharedArray<T> {
    type Target = Cells<T>;

    #[inline]
    fn deref(&self) -> &Cells<T> {
        // SAFETY: checked when the handle was made, and mapped as long as `attachment` lives.
        Cells::from_cells(unsafe { core::slice::from_raw_parts(self.first.as_ptr(), self.len) })
    }
}

impl<T> Clone for SharedArray<T> {
    fn clone(&self) -> Self {
        Self { attachment: Arc::clone(&self.attachment), first: self.first, len: self.len }
    }
}

impl<'a, T: Pod> IntoIterator for &'a SharedArray<T> {
    type Item = T;
    type IntoIter = Iter<'a, T>;

    fn into_iter(self) -> Iter<'a, T> {
        self.iter()
    }
}

impl<'a, T: Pod, const N: usize> IntoIterator for &'a Array<T, N> {
    type Item = T;
    type IntoIter = Iter<'a, T>;

    fn into_iter(self) -> Iter<'a, T> {
        self.iter()
    }
}

impl<T: Pod + fmt::Debug> fmt::Debug for SharedArray<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

impl<T: Pod + fmt::Debug, const N: usize> fmt::Debug for Array<T, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

/// Arrays.
impl Region {
    /// Puts an array of `len` elements into the region under `name`. All are zero. An array may be empty.
    ///
    /// # Blocking
    ///
    /// While another process is inserting something.
    ///
    /// # Crash safety
    ///
    /// The array is there as a whole or not at all.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidName`]; [`Error::ObjectExists`]; [`Error::NoSpace`] if the region is too full, or no region could be large
    /// enough; [`Error::Corrupted`].
    ///
    /// # Examples
    ///
    /// ```
    /// use shmkit_core::{Error, Region};
    ///
    /// let region = Region::anonymous(4096)?;
    /// let numbers = region.insert_array::<u32>("numbers", 10)?;
    /// numbers.copy_from_slice(&[7; 10])?;
    ///
    /// // In any other process that has it open:
    /// assert_eq!(region.get_array::<u32>("numbers", 10)?.to_vec(), [7; 10]);
    /// assert!(matches!(region.get_array::<u32>("numbers", 11), Err(Error::WrongLength { found: 10, asked: 11, .. })));
    /// assert!(matches!(region.get_array::<f32>("numbers", 10), Err(Error::WrongType { .. })));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn insert_array<T: Pod + Described + Send>(&self, name: &str, len: usize) -> Result<SharedArray<T>> {
        const { assert!(align_of::<T>() <= MAX_ALIGN, "objects in a region are aligned to at most 4096 bytes") }
        directory::check_name(name)?;
        let size = len.checked_mul(size_of::<T>()).ok_or(Error::NoSpace { bytes: u64::MAX })?;
        let plan = Plan {
            name,
            type_name: type_name::<T>(len),
            fingerprint: fingerprint::<T>(),
            count: len as u64,
            size,
            align: align_of::<T>(),
        };
        let object = directory::insert(self.mapped(), &plan, |place| {
            // Not all of a region is zero: one who was killed while inserting may have written here.
            // SAFETY: the directory gives out `size` bytes of the region that nobody else uses before the object is published.
            unsafe { place.write_bytes(0, size) }
        })?;
        Ok(self.array(&object, len))
    }

    /// The array called `name`, if it has `len` elements.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchObject`]; [`Error::WrongType`], which names both types; [`Error::WrongLength`], which names both lengths;
    /// [`Error::Corrupted`].
    pub fn get_array<T: Pod + Described + Send>(&self, name: &str, len: usize) -> Result<SharedArray<T>> {
        const { assert!(align_of::<T>() <= MAX_ALIGN, "objects in a region are aligned to at most 4096 bytes") }
        let object =
            directory::find(self.mapped(), name)?.ok_or_else(|| Error::NoSuchObject { name: name.to_owned() })?;
        if object.fingerprint != fingerprint::<T>() {
            return Err(Error::WrongType { name: object.name, found: object.type_name, asked: type_name::<T>(len) });
        }
        if object.count != len as u64 {
            return Err(Error::WrongLength { name: object.name, found: object.count, asked: len as u64 });
        }
        if Some(object.size) != len.checked_mul(size_of::<T>()) {
            return Err(Error::Corrupted { what: "size of an array", found: object.size as u64 });
        }
        if object.offset % align_of::<T>() != 0 {
            return Err(Error::Corrupted { what: "offset of an object", found: object.offset as u64 });
        }
        Ok(self.array(&object, len))
    }

    /// The array called `name`; if there is none, one of `len` zeroes is made. All who do this at once get the same one.
    ///
    /// # Blocking
    ///
    /// As [`insert_array`](Self::insert_array); not at all if the array is there.
    ///
    /// # Errors
    ///
    /// Those of [`get_array`](Self::get_array) and [`insert_array`](Self::insert_array), except that it is missing or exists.
    pub fn get_array_or_insert<T: Pod + Described + Send>(&self, name: &str, len: usize) -> Result<SharedArray<T>> {
        match self.get_array(name, len) {
            Err(Error::NoSuchObject { .. }) => {}
            got => return got,
        }
        match self.insert_array(name, len) {
            Err(Error::ObjectExists { .. }) => self.get_array(name, len),
            inserted => inserted,
        }
    }

    /// A handle to `object`, whose type, size and alignment are those of `len` elements.
    fn array<T>(&self, object: &Object, len: usize) -> SharedArray<T> {
        SharedArray { attachment: Arc::clone(self.attachment()), first: self.mapped().at(object.offset).cast(), len }
    }
}

/// Tells arrays from single objects of any type. The length is apart from it, for an error of its own.
fn fingerprint<T: Described>() -> u64 {
    const { Fingerprint::new("SharedArray", 1, size_of::<T>(), align_of::<T>()).parameter(T::FINGERPRINT) }.value()
}

fn type_name<T: Described>(len: usize) -> String {
    format!("[{}; {len}]", TypeName::<T>::new())
}
