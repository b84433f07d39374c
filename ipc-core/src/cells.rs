//! Cells: plain values that several processes read and write at once.
//!
//! # Layout
//!
//! That of a slice: elements follow one another without gaps, each at a multiple of its size.
//!
//! # What a reader may see
//!
//! | elements | an access to one | a bulk copy |
//! |---|---|---|
//! | 1, 2, 4 or 8 bytes, aligned to their size | one atomic access | each element as somebody wrote it |
//! | all others | a copy, which may be torn | may be torn |
//!
//! Where elements are aligned to less than their size, as a pair of `u32` is, the address decides, which never changes. Elements of a
//! `SharedArray` are aligned to their size if that is 1, 2, 4 or 8.
//!
//! A process that dies in an access to an atomic element has written it or not. One that dies in a bulk copy has written any part
//! of the elements; in one that may be torn, any part of the element.

use core::cell::UnsafeCell;
use core::fmt;
use core::iter::FusedIterator;
use core::ops::{Bound, Range, RangeBounds};
use core::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering::Relaxed};

use bytemuck::Pod;

use crate::copy;

/// A slice of plain values that are read and written through `&`, by any number of threads and processes at once.
///
/// It is what a [`SharedArray`](crate::SharedArray) and an [`Array`](crate::Array) dereference to. There are no references to the
/// elements: they are copied in and out.
///
/// Elements of 1, 2, 4 and 8 bytes, integers and floats above all, are never torn: whoever reads one gets a value that somebody
/// wrote, also by a bulk copy. Larger ones can be torn, that is, a mixture of two writes, unless readers and writers agree on a
/// lock. Copies of several elements are not atomic as a whole, whatever the elements are.
///
/// # Ordering
///
/// All methods without an `Ordering` access each element as with [`Relaxed`], bulk copies in any order. To hand data from one
/// process to another, write them, then say so by a store with `Release` to an element or another atomic, which the reader
/// loads with `Acquire`; or use a lock. Those with an `Ordering` mean by it what the atomics of std do.
///
/// # Errors
///
/// [`get`](Self::get) and [`slice`](Self::slice) return `None` out of range, as their models in std do. What would otherwise be
/// lost without notice, a write above all, is an error that names index and length.
///
/// # Crash safety
///
/// A process that is killed in a bulk copy has written some of the elements.
///
/// # Examples
///
/// ```
/// use shmkit_core::Region;
/// use std::sync::atomic::Ordering::Relaxed;
///
/// let region = Region::anonymous(4096)?;
/// let samples = region.insert_array::<f64>("samples", 100)?;
///
/// samples.set(3, 1.5)?;
/// assert_eq!(samples.get(3), Some(1.5));
/// assert_eq!(samples.get(100), None);
///
/// let some = samples.slice(10..13).ok_or("the array is shorter")?;
/// some.copy_from_slice(&[1.0, 2.0, 3.0])?;
/// assert_eq!(some.iter().sum::<f64>(), 6.0);
///
/// let hits = region.insert_array::<u64>("hits", 8)?;
/// assert_eq!(hits.fetch_add(7, 1, Relaxed)?, 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[repr(transparent)]
pub struct Cells<T>([UnsafeCell<T>]);

// SAFETY: values go in and out by copies, which are atomic or opaque to the compiler (see `copy`).
unsafe impl<T: Send> Sync for Cells<T> {}

/// An index beyond the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OutOfRange {
    /// What was asked for.
    pub index: usize,
    /// How many elements there are.
    pub len: usize,
}

/// A slice that is not as long as the cells that it is copied to or from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LengthMismatch {
    /// How many elements the cells are.
    pub cells: usize,
    /// How many elements the slice has.
    pub slice: usize,
}

/// The elements of [`Cells`], by value, each read when it is asked for.
#[derive(Clone)]
pub struct Iter<'a, T> {
    cells: &'a Cells<T>,
    range: Range<usize>,
}

impl<T> Cells<T> {
    /// How many elements there are.
    #[inline]
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The elements of `range`; `None` if it ends beyond the last one, or before it begins.
    pub fn slice(&self, range: impl RangeBounds<usize>) -> Option<&Self> {
        let start = match range.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(before) => before.checked_add(1)?,
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(last) => last.checked_add(1)?,
            Bound::Excluded(end) => *end,
            Bound::Unbounded => self.len(),
        };
        self.0.get(start..end).map(Self::from_cells)
    }

    /// Where the first element lies, to be passed to C or the kernel. Whoever reads or writes there is on their own: other
    /// processes do so at the same time.
    #[inline]
    pub const fn as_ptr(&self) -> *mut T {
        UnsafeCell::raw_get(self.0.as_ptr())
    }

    /// Wraps cells.
    #[inline]
    pub(crate) const fn from_cells(cells: &[UnsafeCell<T>]) -> &Self {
        // SAFETY: `repr(transparent)`, so pointers to both are the same.
        unsafe { &*(core::ptr::from_ref(cells) as *const Self) }
    }

    /// Where the element at `index` lies.
    #[inline]
    pub(crate) fn at(&self, index: usize) -> Result<*mut T, OutOfRange> {
        self.0.get(index).map(UnsafeCell::get).ok_or(OutOfRange { index, len: self.len() })
    }
}

impl<T: Pod> Cells<T> {
    /// Views private memory as cells.
    ///
    /// # Examples
    ///
    /// ```
    /// let mut numbers = [1u16, 2, 3];
    /// let cells = shmkit_core::Cells::from_mut(&mut numbers);
    /// cells.set(0, 7)?;
    /// assert_eq!(numbers, [7, 2, 3]);
    /// # Ok::<(), shmkit_core::OutOfRange>(())
    /// ```
    pub fn from_mut(values: &mut [T]) -> &Self {
        // SAFETY: cells have the layout of their values, and the exclusive borrow lasts as long as the cells do.
        Self::from_cells(unsafe { &*(core::ptr::from_mut(values) as *const [UnsafeCell<T>]) })
    }

    /// The element at `index`; `None` if there is none.
    #[inline]
    pub fn get(&self, index: usize) -> Option<T> {
        // SAFETY: the place of an element.
        self.at(index).ok().map(|place| unsafe { read(place) })
    }

    /// Writes the element at `index`.
    ///
    /// # Errors
    ///
    /// [`OutOfRange`].
    #[inline]
    pub fn set(&self, index: usize, value: T) -> Result<(), OutOfRange> {
        let place = self.at(index)?;
        // SAFETY: the place of an element.
        unsafe { write(place, value) };
        Ok(())
    }

    /// Writes all elements.
    ///
    /// # Errors
    ///
    /// [`LengthMismatch`]; then nothing is written.
    pub fn copy_from_slice(&self, values: &[T]) -> Result<(), LengthMismatch> {
        self.check_len(values.len())?;
        // SAFETY: both are this long; the cells are reached by atomics and by `copy` only, and nobody has a reference into them.
        unsafe { copy::store(values.as_ptr().cast(), self.as_ptr().cast(), size_of_val(values), unit::<T>()) };
        Ok(())
    }

    /// Reads all elements.
    ///
    /// # Errors
    ///
    /// [`LengthMismatch`]; then nothing is read.
    pub fn copy_to_slice(&self, values: &mut [T]) -> Result<(), LengthMismatch> {
        self.check_len(values.len())?;
        // SAFETY: as in `copy_from_slice`; the slice is borrowed exclusively.
        unsafe { copy::load(self.as_ptr().cast(), values.as_mut_ptr().cast(), size_of_val(values), unit::<T>()) };
        Ok(())
    }

    /// Writes `value` to all elements.
    pub fn fill(&self, value: T) {
        if size_of::<T>() == 0 {
            return;
        }
        // Whole pages of it, and few of them small: a store for each element would take many times as long.
        let mut page = [0u64; 512];
        let room = size_of_val(&page);
        let per_page = room.checked_div(size_of::<T>()).unwrap_or(0);
        if per_page < 2 || self.len() < per_page / 16 {
            // SAFETY: the place of an element.
            self.0.iter().for_each(|cell| unsafe { write(cell.get(), value) });
            return;
        }
        let values = bytemuck::cast_slice_mut::<u64, u8>(&mut page);
        for place in values.chunks_exact_mut(size_of::<T>()) {
            place.copy_from_slice(bytemuck::bytes_of(&value));
        }
        for cells in self.0.chunks(per_page) {
            let place = UnsafeCell::raw_get(cells.as_ptr()).cast();
            // SAFETY: at most `per_page` elements, which are on the page; otherwise as in `copy_from_slice`.
            unsafe { copy::store(values.as_ptr(), place, size_of_val(cells), unit::<T>()) };
        }
    }

    /// All elements.
    pub fn to_vec(&self) -> Vec<T> {
        let mut values = Vec::<T>::with_capacity(self.len());
        // SAFETY: there is room for them; the copy fills it, and any bytes are values of a `Pod` type.
        unsafe {
            copy::load(self.as_ptr().cast(), values.as_mut_ptr().cast(), size_of_val(&self.0), unit::<T>());
            values.set_len(self.len());
        }
        values
    }

    /// Goes through the elements, by value.
    pub fn iter(&self) -> Iter<'_, T> {
        Iter { cells: self, range: 0..self.len() }
    }

    fn check_len(&self, slice: usize) -> Result<(), LengthMismatch> {
        if slice == self.len() { Ok(()) } else { Err(LengthMismatch { cells: self.len(), slice }) }
    }
}

/// The unit that a copy of such elements must not tear.
const fn unit<T>() -> usize {
    match size_of::<T>() {
        size @ (2 | 4 | 8) => size,
        _ => 1,
    }
}

/// Whether one access can reach the element.
#[inline]
fn is_one_access<T>(place: *const T) -> bool {
    let size = size_of::<T>();
    matches!(size, 1 | 2 | 4 | 8) && (align_of::<T>() >= size || place.addr() % size == 0)
}

/// Runs `$one` with the atomic type of this size, if one access can reach the element at `$place`, otherwise `$copied`.
macro_rules! by_size {
    ($place:ident, |$atomic:ident| $one:expr, $copied:expr) => {{
        macro_rules! one {
            ($ty:ty) => {{
                let $atomic = &*$place.cast::<$ty>();
                $one
            }};
        }
        match size_of::<T>() {
            1 => one!(AtomicU8),
            2 if is_one_access($place) => one!(AtomicU16),
            4 if is_one_access($place) => one!(AtomicU32),
            8 if is_one_access($place) => one!(AtomicU64),
            _ => $copied,
        }
    }};
}

/// Reads an element.
///
/// # Safety
///
/// `place` is that of an element of cells that are mapped.
#[inline]
unsafe fn read<T: Pod>(place: *const T) -> T {
    // SAFETY: mapped, as large as the atomic and aligned for it, and never reached but by atomics of this size and by `copy`; a
    // `Pod` value is any bytes, and the atomic has as many.
    unsafe {
        by_size!(place, |atomic| core::mem::transmute_copy(&atomic.load(Relaxed)), {
            let mut value = T::zeroed();
            copy::load(place.cast(), (&raw mut value).cast(), size_of::<T>(), unit::<T>());
            value
        })
    }
}

/// Writes an element.
///
/// # Safety
///
/// As for [`read`].
#[inline]
unsafe fn write<T: Pod>(place: *mut T, value: T) {
    // SAFETY: as in `read`.
    unsafe {
        by_size!(
            place,
            |atomic| atomic.store(core::mem::transmute_copy(&value), Relaxed),
            copy::store((&raw const value).cast(), place.cast(), size_of::<T>(), unit::<T>())
        )
    }
}

impl<T: Pod + fmt::Debug> fmt::Debug for Cells<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self).finish()
    }
}

impl<'a, T: Pod> IntoIterator for &'a Cells<T> {
    type Item = T;
    type IntoIter = Iter<'a, T>;

    fn into_iter(self) -> Iter<'a, T> {
        self.iter()
    }
}

impl<T: Pod> Iterator for Iter<'_, T> {
    type Item = T;

    #[inline]
    fn next(&mut self) -> Option<T> {
        self.range.next().and_then(|index| self.cells.get(index))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.range.size_hint()
    }

    fn nth(&mut self, n: usize) -> Option<T> {
        self.range.nth(n).and_then(|index| self.cells.get(index))
    }
}

impl<T: Pod> DoubleEndedIterator for Iter<'_, T> {
    #[inline]
    fn next_back(&mut self) -> Option<T> {
        self.range.next_back().and_then(|index| self.cells.get(index))
    }
}

impl<T: Pod> ExactSizeIterator for Iter<'_, T> {}
impl<T: Pod> FusedIterator for Iter<'_, T> {}

impl<T> fmt::Debug for Iter<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Iter").field("range", &self.range).finish_non_exhaustive()
    }
}

impl fmt::Display for OutOfRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "there is no element {}: the length is {}", self.index, self.len)
    }
}

impl fmt::Display for LengthMismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cells, slice } = self;
        write!(f, "a slice of {slice} elements cannot be copied to or from {cells}: take a part, of equal length")
    }
}

impl std::error::Error for OutOfRange {}
impl std::error::Error for LengthMismatch {}
