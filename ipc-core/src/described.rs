//! Which types may live in a shared region, and how two processes agree on what they are.
//!
//! Two programs that map the same region may have been built months apart. Nothing in the mapping says
//! what its bytes mean, so every object in the directory carries the [`Fingerprint`] of its type, and an
//! opener that asks for another type gets an error that names both ([`TypeName`]).
//!
//! ```text
//! Fingerprint::new   "type"      name  layout version  size  align
//!             .field "field"     name  offset  fingerprint of the field's type      (once per field)
//!         .parameter "parameter" fingerprint of the argument                        (once per parameter)
//!          .constant "constant"  value                                              (once per parameter)
//! ```
//!
//! The hash is FNV-1a with 64 bits, by Fowler, Noll and Vo. Each part is preceded by its length, so that
//! no two sequences of parts are the same bytes.

use core::fmt;
use core::marker::PhantomData;
use core::sync::atomic::{AtomicI8, AtomicI16, AtomicI32, AtomicI64, AtomicU8, AtomicU16, AtomicU32, AtomicU64};

#[cfg(feature = "derive")]
pub use shmkit_derive::{Described, ShmSafe};

const FNV_OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

/// A hash of the declared name, layout version, size, alignment, fields and parameters of a type.
///
/// It is the same in every build of the same declarations for the same target, because all of it
/// is declared in the source. [`core::any::type_name`] and `TypeId` have no part in it: both may change
/// with the compiler.
///
/// It tells types apart that differ by mistake. It cannot tell apart
/// - structs of the same name, fields and layout in different modules or crates;
/// - a struct from its next release, if the meaning changed but no name or type did: raise the layout
///   version then;
/// - a type from another one that a hostile process passes off as it.
///
/// # Examples
///
/// ```
/// use shmkit_core::{Described, Fingerprint};
///
/// let point = |version| {
///     Fingerprint::new("Point", version, 8, 4)
///         .field("x", 0, u32::FINGERPRINT)
///         .field("y", 4, u32::FINGERPRINT)
/// };
/// assert_eq!(point(1), point(1));
/// assert_ne!(point(1), point(2));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(u64);

impl Fingerprint {
    /// Begins the fingerprint of the type called `name`.
    ///
    /// Raise `layout_version` when the meaning of the bytes changes but no name, size or offset does.
    pub const fn new(name: &str, layout_version: u32, size: usize, align: usize) -> Self {
        Self(FNV_OFFSET_BASIS)
            .text("type")
            .text(name)
            .number(layout_version as u128)
            .number(size as u128)
            .number(align as u128)
    }

    /// Adds the field called `name`, which lies `offset` bytes into the type.
    #[must_use]
    pub const fn field(self, name: &str, offset: usize, ty: Fingerprint) -> Self {
        self.text("field").text(name).number(offset as u128).number(ty.0 as u128)
    }

    /// Adds the type that a generic parameter stands for.
    #[must_use]
    pub const fn parameter(self, of: Fingerprint) -> Self {
        self.text("parameter").number(of.0 as u128)
    }

    /// Adds the value that a const parameter stands for, cast with `as u128`.
    #[must_use]
    pub const fn constant(self, value: u128) -> Self {
        self.text("constant").number(value)
    }

    /// Returns the hash, to be stored beside the object.
    pub const fn value(self) -> u64 {
        self.0
    }

    const fn text(self, text: &str) -> Self {
        self.part(text.as_bytes())
    }

    const fn number(self, number: u128) -> Self {
        self.part(&number.to_le_bytes())
    }

    const fn part(self, bytes: &[u8]) -> Self {
        self.raw(&(bytes.len() as u64).to_le_bytes()).raw(bytes)
    }

    const fn raw(self, bytes: &[u8]) -> Self {
        let mut hash = self.0;
        let mut i = 0;
        while i < bytes.len() {
            hash = (hash ^ bytes[i] as u64).wrapping_mul(FNV_PRIME);
            i += 1;
        }
        Self(hash)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#018x}", self.0)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

/// A type with a declared, stable name and layout.
///
/// Derive it for plain data, such as the `T` of `Mutex<T>`. `#[derive(ShmSafe)]` includes it.
///
/// # Safety
///
/// - The layout is fixed by the declaration: a primitive, or `#[repr(C)]` or `#[repr(transparent)]`.
/// - `FINGERPRINT` is made of the type's own name, layout version, size and alignment, of every field
///   and of every parameter. Types with equal fingerprints can stand in for one another byte by byte.
/// - It is the same in every process and every build, so nothing in it comes from addresses,
///   [`core::any::type_name`] or `TypeId`.
///
/// # Examples
///
/// ```
/// use core::fmt;
/// use core::mem::offset_of;
/// use shmkit_core::{Described, Fingerprint, TypeName};
///
/// #[repr(C)]
/// struct Sample {
///     at: u64,
///     volts: f64,
/// }
///
/// // SAFETY: `repr(C)`, and the fingerprint covers the name, the size and both fields.
/// unsafe impl Described for Sample {
///     const FINGERPRINT: Fingerprint =
///         Fingerprint::new("Sample", 1, size_of::<Self>(), align_of::<Self>())
///             .field("at", offset_of!(Self, at), u64::FINGERPRINT)
///             .field("volts", offset_of!(Self, volts), f64::FINGERPRINT);
///
///     fn type_name(f: &mut fmt::Formatter<'_>) -> fmt::Result {
///         f.write_str("Sample")
///     }
/// }
///
/// assert_eq!(TypeName::<[Sample; 3]>::new().to_string(), "[Sample; 3]");
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no declared layout that another process could check",
    label = "not `Described`",
    note = "for a struct of your own: `#[derive(Described)]` with `#[repr(C)]`",
    note = "use `u64` for `usize`, `u8` for `bool`, `u32` for `char`, `[T; N]` for `Vec<T>` and `String`; pointers and references mean nothing in another process"
)]
pub unsafe trait Described: Sized {
    /// What two processes compare before they trust that they mean the same type.
    const FINGERPRINT: Fingerprint;

    /// Writes the name that error messages show, such as `Mutex<u32>`.
    ///
    /// # Errors
    ///
    /// Those of the formatter.
    fn type_name(f: &mut fmt::Formatter<'_>) -> fmt::Result;
}

/// A type that may live in a shared region and be reached through `&` from several processes at once.
///
/// The primitives of this library are such types, and so are atomics with a fixed size, arrays of
/// `ShmSafe` types, and structs that derive it.
///
/// It and `bytemuck::Pod` do not imply one another:
///
/// | type | `Pod` | `ShmSafe` | because |
/// |---|---|---|---|
/// | `u32` | yes | no | another process may write it while this one reads it through `&`: a data race |
/// | `AtomicU32` | no | yes | a copy of it would not be the same atomic |
/// | `Mutex<u32>` | no | yes | the plain value inside is reached by one process at a time |
/// | `bool`, `char` | no | no | not every bit pattern is a value |
/// | `usize` | yes | no | its size is not the same in every process; neither is that of `AtomicUsize` |
/// | `&T`, `*const T`, `Vec<T>` | no | no | an address means nothing in another process |
///
/// So values that are copied in and out, and the `T` of `Mutex<T>`, are `Pod` and [`Described`]; what
/// holds them in the region is `ShmSafe`.
///
/// # Safety
///
/// - The layout is fixed, as for [`Described`], with no padding, whose bytes would carry leftovers of
///   one process into another.
/// - No pointer, reference or handle that has a meaning in one process only.
/// - No drop glue: the value is never dropped, since whoever would drop it may be killed.
/// - Every access through `&self` is free of data races with the same access in other processes: all
///   that changes is atomic, or guarded by something that is.
/// - Any bytes are tolerated. Another process can write what it likes, so unsafe code must not rely on
///   a value that it has not checked.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot live in a shared region by itself",
    label = "not `ShmSafe`",
    note = "wrap plain data in `Mutex<T>`, or use an atomic such as `AtomicU32`",
    note = "for a struct of your own: `#[derive(ShmSafe)]` with `#[repr(C)]`",
    note = "pointers, references, `usize`, `bool`, `char` and types with `Drop` are not allowed"
)]
pub unsafe trait ShmSafe: Described + Send + Sync + 'static {}

/// Displays the declared name of `T`.
///
/// # Examples
///
/// ```
/// use shmkit_core::TypeName;
///
/// assert_eq!(TypeName::<[u32; 4]>::new().to_string(), "[u32; 4]");
/// ```
pub struct TypeName<T>(PhantomData<fn() -> T>);

impl<T> TypeName<T> {
    /// Names `T`.
    pub const fn new() -> Self {
        Self(PhantomData)
    }
}

impl<T> Clone for TypeName<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for TypeName<T> {}

impl<T> Default for TypeName<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Described> fmt::Display for TypeName<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        T::type_name(f)
    }
}

impl<T: Described> fmt::Debug for TypeName<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        T::type_name(f)
    }
}

macro_rules! described {
    ($($ty:ident)*) => {$(
        // SAFETY: its layout is the same in every build for the target, and it has no fields.
        unsafe impl Described for $ty {
            const FINGERPRINT: Fingerprint =
                Fingerprint::new(stringify!($ty), 1, size_of::<$ty>(), align_of::<$ty>());

            fn type_name(f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(stringify!($ty))
            }
        }
    )*};
}

macro_rules! atomic {
    ($($ty:ident)*) => {$(
        described!($ty);

        // SAFETY: lock-free, so an access is one instruction that other processes see whole or not at
        // all; every bit pattern is a value; no address, padding or drop glue.
        unsafe impl ShmSafe for $ty {}
    )*};
}

described!(u8 u16 u32 u64 i8 i16 i32 i64 f32 f64);
atomic!(AtomicU8 AtomicU16 AtomicU32 AtomicU64 AtomicI8 AtomicI16 AtomicI32 AtomicI64);

// SAFETY: elements follow one another without gaps; their type and number are in the fingerprint.
unsafe impl<T: Described, const N: usize> Described for [T; N] {
    const FINGERPRINT: Fingerprint = Fingerprint::new("array", 1, size_of::<Self>(), align_of::<Self>())
        .parameter(T::FINGERPRINT)
        .constant(N as u128);

    fn type_name(f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}; {N}]", TypeName::<T>::new())
    }
}

// SAFETY: each element keeps the promise, and an array adds no bytes to them.
unsafe impl<T: ShmSafe, const N: usize> ShmSafe for [T; N] {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_fnv_1a() {
        let hash = |text: &str| Fingerprint(FNV_OFFSET_BASIS).raw(text.as_bytes()).value();

        assert_eq!(hash(""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(hash("a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(hash("foobar"), 0x8594_4171_f739_67e8);
    }

    // A region written by one release is opened by the next: these numbers never change.
    #[test]
    fn fingerprints_are_the_same_in_every_release() {
        assert_eq!(u32::FINGERPRINT.value(), 0x9890_fa34_f1d8_7a29);
        assert_eq!(AtomicU64::FINGERPRINT.value(), 0x4ffd_5dde_caeb_ce17);
        assert_eq!(<[f64; 3]>::FINGERPRINT.value(), 0xc8b3_284c_f52c_96fa);
    }

    #[test]
    fn every_part_changes_the_fingerprint() {
        let field = u8::FINGERPRINT;
        let base = Fingerprint::new("Point", 1, 8, 4);
        let all = [
            base,
            Fingerprint::new("Paint", 1, 8, 4),
            Fingerprint::new("Point", 2, 8, 4),
            Fingerprint::new("Point", 1, 4, 4),
            Fingerprint::new("Point", 1, 8, 8),
            base.field("x", 0, field),
            base.field("y", 0, field),
            base.field("x", 1, field),
            base.field("x", 0, i8::FINGERPRINT),
            base.parameter(field),
            base.constant(field.value().into()),
            base.parameter(i8::FINGERPRINT),
            base.constant(1),
        ];

        let different: std::collections::HashSet<_> = all.into_iter().collect();

        assert_eq!(different.len(), all.len());
    }

    #[test]
    fn parts_cannot_be_shifted_into_one_another() {
        let start = Fingerprint(FNV_OFFSET_BASIS);

        assert_ne!(start.text("ab").text("c"), start.text("a").text("bc"));
        assert_ne!(start.text("").text("a"), start.text("a").text(""));
    }

    #[test]
    fn order_of_fields_matters() {
        let base = Fingerprint::new("Point", 1, 2, 1);
        let ty = u8::FINGERPRINT;

        assert_ne!(base.field("x", 0, ty).field("y", 1, ty), base.field("y", 1, ty).field("x", 0, ty));
    }

    #[test]
    fn empty_arrays_of_different_types_differ() {
        assert_ne!(<[u32; 0]>::FINGERPRINT, <[f32; 0]>::FINGERPRINT);
    }

    #[test]
    fn arrays_of_empty_arrays_differ_by_their_length() {
        assert_ne!(<[[u8; 0]; 1]>::FINGERPRINT, <[[u8; 0]; 2]>::FINGERPRINT);
    }

    #[test]
    fn names_are_written_as_in_the_source() {
        assert_eq!(TypeName::<[[AtomicU32; 2]; 3]>::new().to_string(), "[[AtomicU32; 2]; 3]");
    }

    #[test]
    fn a_fingerprint_is_shown_with_all_its_digits() {
        let fingerprint = Fingerprint(0xab);

        assert_eq!(fingerprint.to_string(), "0x00000000000000ab");
        assert_eq!(format!("{fingerprint:?}"), "Fingerprint(0x00000000000000ab)");
    }
}
