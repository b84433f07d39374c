//! A function, as a place in the program.
//!
//! The child runs the same program, at another address. So a function is told by its distance from one that both know, the anchor. That holds
//! within the main program only: libraries are loaded wherever there is room.

use core::ffi::{c_int, c_void};
use core::ops::Range;
use std::any::type_name;
use std::sync::OnceLock;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use shmkit_core::transfer::Parcel;

use super::codec;

/// A function and how to call it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Function {
    /// From the anchor to the [`Call`] for its types.
    call: i64,
    /// From the anchor to the function.
    function: i64,
    /// Tells its types.
    fingerprint: u64,
}

/// Calls the function at an address with the arguments in a parcel.
type Call = unsafe fn(usize, u64, &[u8], Parcel) -> Result<Parcel, String>;

impl Function {
    /// `None` if it is not part of the main program.
    pub(crate) fn of<A: DeserializeOwned, R: Serialize>(function: fn(A) -> R) -> Option<Self> {
        let call = call::<A, R> as Call as usize;
        Some(Self { call: place(call)?, function: place(function as usize)?, fingerprint: fingerprint::<A, R>() })
    }

    /// Calls it with what is in `args`, whose files are those of `parcel`.
    ///
    /// # Errors
    ///
    /// If it is not part of this program; if the arguments are not its, or the value cannot be serialised.
    pub(crate) fn call(&self, args: &[u8], parcel: Parcel) -> Result<Parcel, String> {
        let (Some(call), Some(function)) = (address(self.call), address(self.function)) else {
            return Err("the function is not part of this program".to_owned());
        };
        // SAFETY: both come from `of`, in a process that runs the same file, in which they were at the same distance from the anchor: the kernel
        // has started this process from the very file that the other one runs. `of` has put a `Call` there.
        unsafe {
            let call = core::mem::transmute::<*const (), Call>(core::ptr::with_exposed_provenance(call));
            call(function, self.fingerprint, args, parcel)
        }
    }
}

/// Calls the function at `function`.
///
/// # Safety
///
/// There is a `fn(A) -> R`.
unsafe fn call<A: DeserializeOwned, R: Serialize>(
    function: usize,
    expected: u64,
    args: &[u8],
    parcel: Parcel,
) -> Result<Parcel, String> {
    if fingerprint::<A, R>() != expected {
        return Err(format!("the function is for other types than {}", type_name::<fn(A) -> R>()));
    }
    // SAFETY: the caller's obligation.
    let function =
        unsafe { core::mem::transmute::<*const (), fn(A) -> R>(core::ptr::with_exposed_provenance(function)) };
    let args: A =
        codec::unpack(args, parcel.files).map_err(|error| format!("its arguments cannot be read: {error}"))?;
    let value = function(args);
    codec::pack(&value).map_err(|error| format!("it cannot be serialised: {error}"))
}

/// Where in the main program the code at `address` is; `None` if it is not part of it.
pub(crate) fn place(address: usize) -> Option<i64> {
    let anchor = anchor_address();
    (is_text(anchor) && is_text(address)).then(|| address.wrapping_sub(anchor) as i64)
}

/// The address of a [`place`] in this process; `None` if there is no code of the main program.
pub(crate) fn address(place: i64) -> Option<usize> {
    Some(anchor_address().wrapping_add(place as usize)).filter(|address| is_text(*address))
}

/// What the place of all functions is told from.
#[inline(never)]
fn anchor() {
    core::hint::black_box(());
}

fn anchor_address() -> usize {
    anchor as fn() as usize
}

/// Tells the types of functions apart: by their names, and the sizes of their values.
fn fingerprint<A, R>() -> u64 {
    let numbers = [size_of::<A>(), align_of::<A>(), size_of::<R>(), align_of::<R>()];
    let names = type_name::<fn(A) -> R>().bytes();
    // FNV-1a.
    names
        .chain(numbers.iter().flat_map(|number| number.to_le_bytes()))
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// Whether there is code of the main program at `address`.
fn is_text(address: usize) -> bool {
    static TEXT: OnceLock<Vec<Range<usize>>> = OnceLock::new();
    TEXT.get_or_init(text).iter().any(|range| range.contains(&address))
}

/// Where the code of the main program lies.
fn text() -> Vec<Range<usize>> {
    /// Called by the loader for each object; the first one is the main program.
    unsafe extern "C" fn look(info: *mut libc::dl_phdr_info, _size: usize, found: *mut c_void) -> c_int {
        // SAFETY: the loader gives a valid object, with as many headers as it says, and the pointer that it was given, which is that of the
        // vector below, borrowed by nobody else.
        let (info, found) = unsafe { (&*info, &mut *found.cast::<Vec<Range<usize>>>()) };
        // SAFETY: as above.
        let headers = unsafe { core::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into()) };
        let is_code = |header: &&libc::Elf64_Phdr| header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_X != 0;
        found.extend(headers.iter().filter(is_code).map(|header| {
            let start = (info.dlpi_addr as usize).wrapping_add(header.p_vaddr as usize);
            start..start.wrapping_add(header.p_memsz as usize)
        }));
        1
    }
    let mut found = Vec::new();
    // SAFETY: the function takes what the loader gives it, and the vector as it is meant.
    unsafe { libc::dl_iterate_phdr(Some(look), (&raw mut found).cast()) };
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn twice(number: u32) -> u32 {
        2 * number
    }

    #[test]
    fn a_function_is_found_again_and_called() {
        let function = Function::of(twice as fn(u32) -> u32).expect("a function of this program");
        let args = codec::pack(&21_u32).expect("a number");
        let value = function.call(&args.bytes, Parcel::default()).expect("the same types");
        assert_eq!(codec::unpack::<u32>(&value.bytes, value.files), Ok(42));
    }

    #[test]
    fn a_function_of_a_library_is_none_of_the_program() {
        // SAFETY: it is not called.
        let foreign = unsafe { core::mem::transmute::<*const (), fn(u32) -> u32>(libc::getpid as *const ()) };
        assert_eq!(Function::of(foreign), None);
    }

    #[test]
    fn a_function_of_other_types_is_refused() {
        let function = Function::of(twice as fn(u32) -> u32).expect("a function of this program");
        let other = Function { fingerprint: 1, ..function };
        let args = codec::pack(&21_u32).expect("a number");
        assert!(other.call(&args.bytes, Parcel::default()).is_err());
        let nowhere = Function { function: i64::MAX, ..function };
        assert!(nowhere.call(&args.bytes, Parcel::default()).is_err());
    }
}
