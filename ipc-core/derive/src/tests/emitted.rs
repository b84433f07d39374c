//! What the macros emit for structs that they accept.

use quote::quote;

use super::{accepted, contains};
use crate::expand::Promise;

#[test]
fn shm_safe_emits_both_impls() {
    let code = accepted(
        Promise::ShmSafe,
        quote!(
            #[repr(C)]
            struct Counters {
                hits: AtomicU64,
            }
        ),
    );

    assert!(contains(&code, quote!(unsafe impl ::shmkit::Described for Counters)));
    assert!(contains(
        &code,
        quote!(
            unsafe impl ::shmkit::ShmSafe for Counters {}
        )
    ));
}

#[test]
fn described_emits_no_shm_safe() {
    let code = accepted(
        Promise::Described,
        quote!(
            #[repr(C)]
            struct Point {
                x: u32,
            }
        ),
    );

    assert!(contains(&code, quote!(::shmkit::Described for Point)));
    assert!(!code.contains("ShmSafe"));
}

#[test]
fn transparent_tuple_and_unit_structs_are_accepted() {
    accepted(
        Promise::ShmSafe,
        quote!(
            #[repr(transparent)]
            struct Id(AtomicU64);
        ),
    );
    accepted(
        Promise::ShmSafe,
        quote!(
            #[repr(C)]
            struct Nothing;
        ),
    );
    accepted(
        Promise::ShmSafe,
        quote!(
            #[repr(C, align(64))]
            struct Line(AtomicU64, [AtomicU8; 56]);
        ),
    );
}

#[test]
fn packed_plain_data_is_accepted() {
    accepted(
        Promise::Described,
        quote!(
            #[repr(C, packed(2))]
            struct Wire {
                a: u16,
                b: u64,
            }
        ),
    );
}

#[test]
fn fields_are_fingerprinted_by_name_and_tuple_fields_by_number() {
    let named = accepted(
        Promise::Described,
        quote!(
            #[repr(C)]
            struct P {
                r#type: u32,
            }
        ),
    );
    let tuple = accepted(
        Promise::Described,
        quote!(
            #[repr(C)]
            struct P(u32);
        ),
    );

    assert!(contains(&named, quote!(.field("type", ::core::mem::offset_of!(Self, r#type), __fingerprint::<u32>()))));
    assert!(contains(&tuple, quote!(.field("0", ::core::mem::offset_of!(Self, 0), __fingerprint::<u32>()))));
}

#[test]
fn parameters_are_bounded_fingerprinted_and_named() {
    let code = accepted(
        Promise::ShmSafe,
        quote!(
            #[repr(C)]
            struct Slots<T: Pod, const N: usize> {
                slots: [Mutex<T>; N],
                n: AtomicU32,
            }
        ),
    );

    assert!(contains(&code, quote!(where T: ::shmkit::Described + 'static, [Mutex<T>; N]: ::shmkit::ShmSafe)));
    assert!(!contains(&code, quote!(AtomicU32: ::shmkit::ShmSafe)));
    assert!(contains(&code, quote!(.parameter(<T as ::shmkit::Described>::FINGERPRINT).constant(N as u128))));
    assert!(contains(
        &code,
        quote! {
            f.write_str("Slots")?;
            f.write_str("<")?;
            <T as ::shmkit::Described>::type_name(f)?;
            f.write_str(", ")?;
            ::core::write!(f, "{}", N)?;
            f.write_str(">")
        }
    ));
}

#[test]
fn parameters_without_types_are_checked_at_the_definition() {
    let plain = accepted(
        Promise::Described,
        quote!(
            #[repr(C)]
            struct P(u32);
        ),
    );
    let generic = accepted(
        Promise::Described,
        quote!(
            #[repr(C)]
            struct P<const N: usize>([u32; N]);
        ),
    );

    assert!(contains(&plain, quote!(const _: ::shmkit::Fingerprint)));
    assert!(!contains(&generic, quote!(const _: ::shmkit::Fingerprint)));
}

#[test]
fn options_set_crate_and_version() {
    let code = accepted(
        Promise::ShmSafe,
        quote!(
            #[repr(C)]
            #[shm(crate = "shmkit_core", version = 2)]
            struct P(AtomicU32);
        ),
    );

    assert!(contains(&code, quote!(unsafe impl shmkit_core::ShmSafe)));
    assert!(code.contains("\"P\" , 2u32 ,"));
}

#[test]
fn types_that_only_look_like_std_are_left_to_the_compiler() {
    accepted(
        Promise::ShmSafe,
        quote!(
            #[repr(C)]
            struct Scene {
                a: Arc,
                b: shapes::Box<Corner>,
                c: Vec<3>,
            }
        ),
    );
}
