//! Types of fields that the macros refuse.

use quote::{format_ident, quote};

use super::{accepted, refusal_of_field};
use crate::expand::Promise;

#[test]
fn sizes_that_depend_on_the_process_are_refused() {
    let usize_message = "`usize` does not have the same size in every process: use";
    let isize_message = "`isize` does not have the same size in every process: use";

    assert_eq!(refusal_of_field(Promise::ShmSafe, quote!(usize)), format!("{usize_message} `AtomicU64`"));
    assert_eq!(refusal_of_field(Promise::Described, quote!(core::primitive::usize)), format!("{usize_message} `u64`"));
    assert_eq!(refusal_of_field(Promise::ShmSafe, quote!(isize)), format!("{isize_message} `AtomicI64`"));
    assert_eq!(refusal_of_field(Promise::Described, quote!([(isize); 2])), format!("{isize_message} `i64`"));
    assert_eq!(
        refusal_of_field(Promise::Described, quote!(AtomicUsize)),
        "`AtomicUsize` does not have the same size in every process: use `AtomicU64`"
    );
    assert_eq!(
        refusal_of_field(Promise::ShmSafe, quote!(std::sync::atomic::AtomicIsize)),
        "`AtomicIsize` does not have the same size in every process: use `AtomicI64`"
    );
}

#[test]
fn types_with_bytes_that_are_no_value_are_refused() {
    let bool_message = "another process can write a 2, which is no `bool`: use";
    let char_message = "another process can write a number that is no `char`: use";

    assert_eq!(
        refusal_of_field(Promise::ShmSafe, quote!(bool)),
        format!("{bool_message} `AtomicU8` and compare it with 0")
    );
    assert_eq!(
        refusal_of_field(Promise::Described, quote!(bool)),
        format!("{bool_message} `u8` and compare it with 0")
    );
    assert_eq!(
        refusal_of_field(Promise::ShmSafe, quote!(AtomicBool)),
        format!("{bool_message} `AtomicU8` and compare it with 0")
    );
    assert_eq!(
        refusal_of_field(Promise::ShmSafe, quote!(char)),
        format!("{char_message} `AtomicU32` and `char::from_u32`")
    );
    assert_eq!(
        refusal_of_field(Promise::Described, quote!(char)),
        format!("{char_message} `u32` and `char::from_u32`")
    );
}

#[test]
fn plain_numbers_are_refused_for_shm_safe_only() {
    for (ty, atomic) in [
        ("u8", "AtomicU8"),
        ("u16", "AtomicU16"),
        ("u32", "AtomicU32"),
        ("u64", "AtomicU64"),
        ("i8", "AtomicI8"),
        ("i16", "AtomicI16"),
        ("i32", "AtomicI32"),
        ("i64", "AtomicI64"),
    ] {
        let ident = format_ident!("{ty}");
        assert_eq!(
            refusal_of_field(Promise::ShmSafe, quote!(#ident)),
            format!("a plain `{ty}` reached from several processes is a data race: use `{atomic}` or `Mutex<{ty}>`")
        );
        accepted(Promise::Described, quote!(#[repr(C)] struct Row(#ident);));
    }
}

#[test]
fn plain_floats_are_refused_for_shm_safe_only() {
    assert_eq!(
        refusal_of_field(Promise::ShmSafe, quote!([f32; 4])),
        "a plain `f32` reached from several processes is a data race: use `Mutex<f32>`, or its bits in an `AtomicU32`"
    );
    assert_eq!(
        refusal_of_field(Promise::ShmSafe, quote!(f64)),
        "a plain `f64` reached from several processes is a data race: use `Mutex<f64>`, or its bits in an `AtomicU64`"
    );
    accepted(
        Promise::Described,
        quote!(
            #[repr(C)]
            struct Row(f64, [f32; 4]);
        ),
    );
}

#[test]
fn integers_of_128_bits_are_refused() {
    assert_eq!(
        refusal_of_field(Promise::ShmSafe, quote!(u128)),
        "`u128` does not have the same alignment in every build: use `Mutex<[u64; 2]>`"
    );
    assert_eq!(
        refusal_of_field(Promise::Described, quote!(i128)),
        "`i128` does not have the same alignment in every build: use `[u64; 2]`"
    );
}

#[test]
fn addresses_are_refused() {
    assert_eq!(
        refusal_of_field(Promise::ShmSafe, quote!(&'static AtomicU32)),
        "a reference means nothing in another process: store an index or an offset in an `AtomicU64`"
    );
    assert_eq!(
        refusal_of_field(Promise::Described, quote!(&'static mut u8)),
        "a reference means nothing in another process: store an index or an offset in a `u64`"
    );
    assert_eq!(
        refusal_of_field(Promise::ShmSafe, quote!(*mut u8)),
        "a pointer means nothing in another process: store an index or an offset in an `AtomicU64`"
    );
    assert_eq!(
        refusal_of_field(Promise::Described, quote!(*const u8)),
        "a pointer means nothing in another process: store an index or an offset in a `u64`"
    );
    assert_eq!(
        refusal_of_field(Promise::ShmSafe, quote!(AtomicPtr<u8>)),
        "a pointer means nothing in another process: store an index or an offset in an `AtomicU64`"
    );
    assert_eq!(
        refusal_of_field(Promise::ShmSafe, quote!(extern "C" fn(u32) -> u32)),
        "a function has another address in every process: store a number that stands for it in an `AtomicU32`"
    );
    assert_eq!(
        refusal_of_field(Promise::Described, quote!(fn())),
        "a function has another address in every process: store a number that stands for it in a `u32`"
    );
    assert_eq!(
        refusal_of_field(Promise::ShmSafe, quote!(dyn Send)),
        "a trait object points to code and data of one process: name one type with a fixed layout"
    );
}

#[test]
fn owners_of_heap_memory_are_refused() {
    assert_eq!(
        refusal_of_field(Promise::ShmSafe, quote!(Box<AtomicU32>)),
        "`Box` points into the heap of one process: store the value itself"
    );
    assert_eq!(
        refusal_of_field(Promise::Described, quote!(std::vec::Vec<u8>)),
        "`Vec` keeps its elements in the heap of one process: use an array `[T; N]` and a length"
    );
    assert_eq!(
        refusal_of_field(Promise::ShmSafe, quote!(Rc<AtomicU32>)),
        "`Rc` points into the heap of one process: store the value itself"
    );
    assert_eq!(
        refusal_of_field(Promise::ShmSafe, quote!(::std::sync::Arc<AtomicU32>)),
        "`Arc` points into the heap of one process: store the value itself"
    );
    assert_eq!(
        refusal_of_field(Promise::ShmSafe, quote!(String)),
        "`String` keeps its text in the heap of one process: use `Mutex<[u8; N]>` with a length, or `[AtomicU8; N]`"
    );
    assert_eq!(
        refusal_of_field(Promise::Described, quote!(String)),
        "`String` keeps its text in the heap of one process: use `[u8; N]` and a length"
    );
}

#[test]
fn types_without_a_fixed_layout_are_refused() {
    assert_eq!(
        refusal_of_field(Promise::ShmSafe, quote!(Option<AtomicU32>)),
        "`Option` has no fixed layout: store the value beside a number that says whether it is there"
    );
    assert_eq!(
        refusal_of_field(Promise::ShmSafe, quote!((AtomicU32, AtomicU32))),
        "a tuple has no fixed layout: use a struct with `#[repr(C)]`, or fields of their own"
    );
    assert_eq!(refusal_of_field(Promise::Described, quote!([u8])), "a slice has no fixed size: use an array `[T; N]`");
    assert_eq!(
        refusal_of_field(Promise::Described, quote!(str)),
        "`str` has no fixed size: use an array of bytes and a length"
    );
}
