//! Atomic operations on the elements of [`Cells`].

use core::sync::atomic::Ordering;
use core::sync::atomic::{AtomicI8, AtomicI16, AtomicI32, AtomicI64, AtomicU8, AtomicU16, AtomicU32, AtomicU64};

use bytemuck::Pod;

use crate::cells::{Cells, OutOfRange};

/// A number with atomic operations: integers of 1 to 8 bytes, `f32` and `f64`.
///
/// It cannot be implemented for other types: what is possible with each is the processor's to say.
pub trait Element: Pod + sealed::Atomic {}

/// An integer with atomic arithmetic.
///
/// Floats have none: build it from [`compare_exchange`](Cells::compare_exchange), or use a lock.
pub trait Integer: Element + sealed::Arithmetic {}

mod sealed {
    use super::Ordering;

    /// What the methods of `Cells` are made of. A `Cell` has size and alignment of `Self`.
    pub trait Atomic: Sized {
        type Cell;

        fn load(cell: &Self::Cell, order: Ordering) -> Self;
        fn store(cell: &Self::Cell, value: Self, order: Ordering);
        fn swap(cell: &Self::Cell, value: Self, order: Ordering) -> Self;
        fn compare_exchange(
            cell: &Self::Cell,
            current: Self,
            new: Self,
            success: Ordering,
            failure: Ordering,
        ) -> Result<Self, Self>;
    }

    pub trait Arithmetic: Atomic {
        fn fetch_add(cell: &Self::Cell, value: Self, order: Ordering) -> Self;
        fn fetch_sub(cell: &Self::Cell, value: Self, order: Ordering) -> Self;
        fn fetch_and(cell: &Self::Cell, value: Self, order: Ordering) -> Self;
        fn fetch_or(cell: &Self::Cell, value: Self, order: Ordering) -> Self;
        fn fetch_xor(cell: &Self::Cell, value: Self, order: Ordering) -> Self;
        fn fetch_max(cell: &Self::Cell, value: Self, order: Ordering) -> Self;
        fn fetch_min(cell: &Self::Cell, value: Self, order: Ordering) -> Self;
    }
}

/// `$to` and `$from` turn a value into what the atomic holds, and back.
macro_rules! element {
    ($ty:ty, $cell:ty, $to:expr, $from:expr) => {
        const _: () = assert!(size_of::<$ty>() == size_of::<$cell>() && align_of::<$ty>() == align_of::<$cell>());

        impl Element for $ty {}

        impl sealed::Atomic for $ty {
            type Cell = $cell;

            #[inline]
            fn load(cell: &$cell, order: Ordering) -> Self {
                $from(cell.load(order))
            }

            #[inline]
            fn store(cell: &$cell, value: Self, order: Ordering) {
                cell.store($to(value), order);
            }

            #[inline]
            fn swap(cell: &$cell, value: Self, order: Ordering) -> Self {
                $from(cell.swap($to(value), order))
            }

            #[inline]
            fn compare_exchange(
                cell: &$cell,
                current: Self,
                new: Self,
                success: Ordering,
                failure: Ordering,
            ) -> Result<Self, Self> {
                cell.compare_exchange($to(current), $to(new), success, failure).map($from).map_err($from)
            }
        }
    };
}

macro_rules! integer {
    ($($ty:ty, $cell:ty;)*) => {$(
        element!($ty, $cell, core::convert::identity, core::convert::identity);

        impl Integer for $ty {}

        impl sealed::Arithmetic for $ty {
            integer!(@ $cell: fetch_add fetch_sub fetch_and fetch_or fetch_xor fetch_max fetch_min);
        }
    )*};
    (@ $cell:ty: $($operation:ident)*) => {$(
        #[inline]
        fn $operation(cell: &$cell, value: Self, order: Ordering) -> Self {
            cell.$operation(value, order)
        }
    )*};
}

integer! {
    u8, AtomicU8;
    u16, AtomicU16;
    u32, AtomicU32;
    u64, AtomicU64;
    i8, AtomicI8;
    i16, AtomicI16;
    i32, AtomicI32;
    i64, AtomicI64;
}
element!(f32, AtomicU32, f32::to_bits, f32::from_bits);
element!(f64, AtomicU64, f64::to_bits, f64::from_bits);

/// Atomic operations on one element. They take an [`Ordering`] as those of [`core::sync::atomic`] do, because what is handed
/// over by an element, and what is only counted, is the caller's to say.
impl<T: Element> Cells<T> {
    /// Reads the element at `index`.
    ///
    /// # Errors
    ///
    /// [`OutOfRange`].
    ///
    /// # Panics
    ///
    /// If `order` is `Release` or `AcqRel`, as in std.
    #[inline]
    pub fn load(&self, index: usize, order: Ordering) -> Result<T, OutOfRange> {
        Ok(T::load(self.atomic(index)?, order))
    }

    /// Writes the element at `index`.
    ///
    /// # Errors
    ///
    /// [`OutOfRange`].
    ///
    /// # Panics
    ///
    /// If `order` is `Acquire` or `AcqRel`, as in std.
    #[inline]
    pub fn store(&self, index: usize, value: T, order: Ordering) -> Result<(), OutOfRange> {
        T::store(self.atomic(index)?, value, order);
        Ok(())
    }

    /// Writes the element at `index` and returns what it was.
    ///
    /// # Errors
    ///
    /// [`OutOfRange`].
    #[inline]
    pub fn swap(&self, index: usize, value: T, order: Ordering) -> Result<T, OutOfRange> {
        Ok(T::swap(self.atomic(index)?, value, order))
    }

    /// Writes `new` to the element at `index` if it is `current`. Returns what it was: inside `Ok` if it has been written,
    /// inside `Err` if not.
    ///
    /// Floats are compared by their bits: 0.0 is not -0.0, and a NaN is equal to itself.
    ///
    /// # Errors
    ///
    /// [`OutOfRange`].
    ///
    /// # Panics
    ///
    /// If `failure` is `Release` or `AcqRel`, as in std.
    ///
    /// # Examples
    ///
    /// A sum of floats:
    ///
    /// ```
    /// use shmkit_core::{Cells, OutOfRange};
    /// use std::sync::atomic::Ordering::Relaxed;
    ///
    /// fn add(cells: &Cells<f64>, index: usize, value: f64) -> Result<(), OutOfRange> {
    ///     let mut sum = cells.load(index, Relaxed)?;
    ///     while let Err(other) = cells.compare_exchange(index, sum, sum + value, Relaxed, Relaxed)? {
    ///         sum = other;
    ///     }
    ///     Ok(())
    /// }
    ///
    /// let mut sums = [1.0, 2.0];
    /// add(Cells::from_mut(&mut sums), 1, 0.5)?;
    /// assert_eq!(sums, [1.0, 2.5]);
    /// # Ok::<(), OutOfRange>(())
    /// ```
    #[inline]
    pub fn compare_exchange(
        &self,
        index: usize,
        current: T,
        new: T,
        success: Ordering,
        failure: Ordering,
    ) -> Result<Result<T, T>, OutOfRange> {
        Ok(T::compare_exchange(self.atomic(index)?, current, new, success, failure))
    }

    #[inline]
    fn atomic(&self, index: usize) -> Result<&T::Cell, OutOfRange> {
        let place = self.at(index)?;
        // SAFETY: in bounds, and alive with `self`; the atomic has size and alignment of the element (asserted with each), and
        // elements of this size are reached by atomics of this size and by `copy` only.
        Ok(unsafe { &*place.cast::<T::Cell>() })
    }
}

macro_rules! arithmetic {
    ($($operation:ident: $what:literal;)*) => {
        /// Atomic arithmetic on one element. Sums and differences wrap around, as those of [`core::sync::atomic`] do.
        impl<T: Integer> Cells<T> {$(
            #[doc = $what]
            ///
            /// # Errors
            ///
            /// [`OutOfRange`].
            #[inline]
            pub fn $operation(&self, index: usize, value: T, order: Ordering) -> Result<T, OutOfRange> {
                Ok(T::$operation(self.atomic(index)?, value, order))
            }
        )*}
    };
}

arithmetic! {
    fetch_add: "Adds to the element at `index` and returns what it was.";
    fetch_sub: "Subtracts from the element at `index` and returns what it was.";
    fetch_and: "Keeps those bits of the element at `index` that `value` has, too, and returns what it was.";
    fetch_or: "Sets the bits of `value` in the element at `index` and returns what it was.";
    fetch_xor: "Flips the bits of `value` in the element at `index` and returns what it was.";
    fetch_max: "Raises the element at `index` to `value` if it is smaller, and returns what it was.";
    fetch_min: "Lowers the element at `index` to `value` if it is larger, and returns what it was.";
}
