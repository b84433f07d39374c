//! The value at the end of a primitive.

use core::cell::UnsafeCell;
use core::mem::MaybeUninit;

/// A value, and zeroes behind it up to a multiple of 8 bytes.
///
/// Without them the primitive would have padding there, and what lay on the stack of the one who inserts it would be seen by all
/// others. The language does not promise that a move keeps them; it is a copy of all bytes wherever it has been looked at.
#[repr(C, align(8))]
pub(crate) struct Value<T>(UnsafeCell<T>);

impl<T> Value<T> {
    pub(crate) const fn new(value: T) -> Self {
        let mut whole = MaybeUninit::<Self>::zeroed();
        // SAFETY: the value lies at the beginning of what is at least as large and as much aligned; then all of it is initialised.
        unsafe {
            whole.as_mut_ptr().cast::<T>().write(value);
            whole.assume_init()
        }
    }

    /// Where the value is.
    #[inline]
    pub(crate) const fn get(&self) -> *mut T {
        self.0.get()
    }
}
