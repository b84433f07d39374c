//! The derive macros of `shmkit`: `ShmSafe` and `Described`.
//!
//! Use them through `shmkit`, or through `shmkit-core` with its feature `derive`; both export them
//! beside the traits of the same names.
//!
//! Both promise what the traits demand only where the macro or the compiler has checked it:
//!
//! | checked | by |
//! |---|---|
//! | a struct, `#[repr(C)]` or `#[repr(transparent)]`, without lifetime parameters | the macro |
//! | no field of a type that is known to be wrong, such as `usize` or `Vec<T>` | the macro, by name |
//! | every field implements the same trait | trait bounds |
//! | no drop glue, no padding | constants evaluated with `FINGERPRINT` |
//!
//! The macro sees names, not types, so its own list of refused types only makes for better messages: an
//! alias of `usize` passes it, and fails at the trait bound.
//!
//! What they cannot see is an attribute macro below the derive that changes the struct afterwards. Put
//! the derive last.

use proc_macro::TokenStream;

mod expand;
mod fields;
mod options;
#[cfg(test)]
mod tests;

use expand::{Promise, expand};

/// Derives `ShmSafe` and `Described` for a struct that lives in a shared region and is reached through
/// `&` from several processes at once.
///
/// Every field must be `ShmSafe`: an atomic, a primitive such as `Mutex<T>`, an array of those, or another
/// struct that derives it. Plain data goes into a `Mutex<T>`.
///
/// The struct needs `#[repr(C)]` or `#[repr(transparent)]` and must not have lifetime parameters, padding
/// or drop glue. Space that alignment would leave open is declared: `_reserved: [AtomicU8; 4]`.
///
/// Type parameters get the bound `Described + 'static`, and each field that mentions one gets the bound
/// `ShmSafe`; so `struct Slot<T> { value: Mutex<T> }` is `ShmSafe` whenever `Mutex<T>` is. Generic structs
/// are checked for padding and drop glue where their `FINGERPRINT` is first used.
///
/// # Options
///
/// `#[shm(version = 2)]` is the layout version, 1 if absent. Raise it when the meaning of a field changes
/// but not its name or type.
///
/// `#[shm(crate = "shmkit_core")]` is the path to the crate of the traits, `::shmkit` if absent.
#[proc_macro_derive(ShmSafe, attributes(shm))]
pub fn derive_shm_safe(input: TokenStream) -> TokenStream {
    expand(Promise::ShmSafe, input.into()).into()
}

/// Derives `Described` for a struct of plain data, such as the `T` of `Mutex<T>`.
///
/// It does not make the struct `ShmSafe`: two processes could not reach its fields through `&` without a
/// data race. Together with `bytemuck::Pod` it makes the struct a value that a `Mutex<T>` can hold.
/// `#[derive(ShmSafe)]` includes it, so a struct derives one of the two.
///
/// Every field must be `Described`: an integer or float with a fixed size, an array of those, or another
/// struct that derives it.
///
/// The struct needs `#[repr(C)]` or `#[repr(transparent)]` and must not have lifetime parameters, padding
/// or drop glue. Space that alignment would leave open is declared: `_reserved: [u8; 4]`.
///
/// Type parameters, and fields that mention one, get the bound `Described`. Generic structs are checked
/// for padding and drop glue where their `FINGERPRINT` is first used.
///
/// # Options
///
/// `#[shm(version = 2)]` is the layout version, 1 if absent. Raise it when the meaning of a field changes
/// but not its name or type.
///
/// `#[shm(crate = "shmkit_core")]` is the path to the crate of the trait, `::shmkit` if absent.
#[proc_macro_derive(Described, attributes(shm))]
pub fn derive_described(input: TokenStream) -> TokenStream {
    expand(Promise::Described, input.into()).into()
}
