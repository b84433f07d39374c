//! Structs and options that the macros refuse.

use quote::quote;

use super::{contains, refusals};
use crate::expand::{Promise, expand};

#[test]
fn enums_and_unions_are_refused() {
    assert_eq!(
        refusals(
            Promise::ShmSafe,
            quote!(
                #[repr(C)]
                enum State {
                    Idle,
                }
            )
        ),
        [
            "`ShmSafe` is for structs, `State` is an enum: another process can write a number that is no variant; store it as an integer and check it when it is read"
        ]
    );
    assert_eq!(
        refusals(Promise::Described, quote!(#[repr(C)] union Bits { a: u32 })),
        [
            "`Described` is for structs, `Bits` is a union: nothing tells another process which field is meant; store the bytes in an array"
        ]
    );
}

#[test]
fn a_missing_repr_is_refused() {
    let message = ["the compiler may lay out `Row` differently in every build: add `#[repr(C)]`"];

    assert_eq!(
        refusals(
            Promise::ShmSafe,
            quote!(
                struct Row(AtomicU32);
            )
        ),
        message
    );
    assert_eq!(
        refusals(
            Promise::Described,
            quote!(
                #[repr(align(8))]
                struct Row(u64);
            )
        ),
        message
    );
}

#[test]
fn packed_atomics_are_refused() {
    assert_eq!(
        refusals(
            Promise::ShmSafe,
            quote!(
                #[repr(C, packed)]
                struct Row(AtomicU8, AtomicU32);
            )
        ),
        [
            "the atomics in a packed `Row` would be misaligned: remove `packed` and order the fields from the largest to the smallest"
        ]
    );
}

#[test]
fn lifetime_parameters_are_refused() {
    assert_eq!(
        refusals(
            Promise::Described,
            quote!(
                #[repr(C)]
                struct View<'a> {
                    of: Ref<'a>,
                }
            )
        ),
        ["`View` borrows for `'a`, but no borrow reaches into another process: remove the lifetime parameter"]
    );
}

#[test]
fn every_fault_is_reported_at_once() {
    let messages = refusals(
        Promise::ShmSafe,
        quote!(
            struct Row<'a> {
                a: usize,
                b: &'a str,
                #[shm(version = 2)]
                c: AtomicU32,
            }
        ),
    );

    assert_eq!(messages.len(), 5, "{messages:?}");
}

#[test]
fn wrong_options_are_refused() {
    assert_eq!(
        refusals(
            Promise::ShmSafe,
            quote!(
                #[repr(C)]
                #[shm(name = "x")]
                struct Row;
            )
        ),
        ["unknown option: `shm` takes `version = 2` and `crate = \"path\"`"]
    );
    assert_eq!(
        refusals(
            Promise::ShmSafe,
            quote!(
                #[repr(C)]
                #[shm(version = 2, version = 3)]
                struct Row;
            )
        ),
        ["this option is given twice"]
    );
    assert_eq!(
        refusals(
            Promise::ShmSafe,
            quote!(
                #[repr(C)]
                #[shm(version = "2")]
                struct Row;
            )
        ),
        ["expected integer literal"]
    );
    assert_eq!(
        refusals(
            Promise::ShmSafe,
            quote!(
                #[repr(C)]
                struct Row {
                    #[shm(version = 2)]
                    a: AtomicU32,
                }
            )
        ),
        ["`#[shm(...)]` belongs on the struct, fields have no options"]
    );
}

#[test]
fn a_refusal_becomes_a_compile_error() {
    let code = expand(
        Promise::ShmSafe,
        quote!(
            struct Row;
        ),
    )
    .to_string();

    assert!(contains(&code, quote!(::core::compile_error!)));
    assert!(!code.contains("impl"));
}
