//! What can be the key of a map.

use core::fmt;

use bytemuck::Pod;
use shmkit_core::{Described, Fingerprint};

/// What can be the key of a [`SharedMap`](crate::SharedMap): any `Pod` type with a declared layout, and `[u8]` and `str` of any length up to what the map was made for.
///
/// Two keys are the same if their bytes are. So with keys that are floats, 0.0 is not -0.0, and a NaN is found again.
///
/// It cannot be implemented for other types.
pub trait Key: sealed::Key {
    /// A key that was copied out of the map.
    type Owned: 'static;

    /// The key made of `bytes`; `None` if they are none.
    #[doc(hidden)]
    fn owned(bytes: &[u8]) -> Option<Self::Owned>;
}

pub(super) mod sealed {
    use super::{Fingerprint, fmt};

    pub trait Key: 'static {
        /// The length of each key in bytes, if all have the same.
        const LEN: Option<usize>;

        const FINGERPRINT: Fingerprint;

        fn type_name(f: &mut fmt::Formatter<'_>) -> fmt::Result;

        fn bytes(&self) -> &[u8];
    }
}

impl<T: Pod + Described> sealed::Key for T {
    const LEN: Option<usize> = Some(size_of::<T>());
    const FINGERPRINT: Fingerprint = <T as Described>::FINGERPRINT;

    fn type_name(f: &mut fmt::Formatter<'_>) -> fmt::Result {
        <T as Described>::type_name(f)
    }

    #[inline]
    fn bytes(&self) -> &[u8] {
        bytemuck::bytes_of(self)
    }
}

impl<T: Pod + Described> Key for T {
    type Owned = T;

    #[inline]
    fn owned(bytes: &[u8]) -> Option<T> {
        bytemuck::try_pod_read_unaligned(bytes).ok()
    }
}

impl sealed::Key for [u8] {
    const LEN: Option<usize> = None;
    const FINGERPRINT: Fingerprint = Fingerprint::new("bytes", 1, 0, 1);

    fn type_name(f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[u8]")
    }

    #[inline]
    fn bytes(&self) -> &[u8] {
        self
    }
}

impl Key for [u8] {
    type Owned = Vec<u8>;

    fn owned(bytes: &[u8]) -> Option<Vec<u8>> {
        Some(bytes.to_owned())
    }
}

impl sealed::Key for str {
    const LEN: Option<usize> = None;
    const FINGERPRINT: Fingerprint = Fingerprint::new("str", 1, 0, 1);

    fn type_name(f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("str")
    }

    #[inline]
    fn bytes(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl Key for str {
    type Owned = String;

    fn owned(bytes: &[u8]) -> Option<String> {
        core::str::from_utf8(bytes).ok().map(str::to_owned)
    }
}
