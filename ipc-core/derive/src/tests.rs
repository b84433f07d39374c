//! What the macros emit and refuse, on token streams.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};

use crate::expand::{Promise, expand, implement};

/// Returns the messages that deriving for `input` fails with.
fn refusals(promise: Promise, input: TokenStream) -> Vec<String> {
    let input = syn::parse2(input).unwrap();
    match implement(promise, &input) {
        Ok(_) => Vec::new(),
        Err(errors) => errors.into_iter().map(|e| e.to_string()).collect(),
    }
}

fn accepted(promise: Promise, input: TokenStream) -> String {
    let input = syn::parse2(input).unwrap();
    let output = implement(promise, &input).unwrap();
    let file: syn::File = syn::parse2(output.clone()).unwrap();
    assert!(!file.items.is_empty());
    output.to_string()
}

fn contains(code: &str, part: TokenStream) -> bool {
    code.contains(&part.to_string())
}

/// Returns the one message for a struct with one field of type `ty`.
fn refusal_of_field(promise: Promise, ty: TokenStream) -> String {
    let messages = refusals(promise, quote!(#[repr(C)] struct Row { field: #ty }));
    assert_eq!(messages.len(), 1, "{messages:?}");
    messages.into_iter().next().unwrap()
}

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
