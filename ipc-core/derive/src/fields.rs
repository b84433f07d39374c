//! Field types that are refused by name, and what to use instead.
//!
//! The trait bounds would refuse them as well. This list is here for the words. A name can belong to
//! another type than it seems, so only what a reader would take for the type of std is refused: `Box<T>`
//! is, `Box` and `shapes::Box<T>` are not.

use syn::{Error, GenericArgument, PathArguments, PathSegment, Type, TypePath};

use crate::expand::Promise;

/// Several errors, reported together.
#[derive(Default)]
pub(crate) struct Errors(Option<Error>);

impl Errors {
    pub(crate) fn push(&mut self, error: Error) {
        match &mut self.0 {
            None => self.0 = Some(error),
            Some(all) => all.combine(error),
        }
    }

    pub(crate) fn into_result(self) -> syn::Result<()> {
        self.0.map_or(Ok(()), Err)
    }
}

/// Refuses `ty` if its name alone shows that it has no place in a shared region.
pub(crate) fn check_type(promise: Promise, ty: &Type, errors: &mut Errors) {
    let message = match ty {
        Type::Array(array) => return check_type(promise, &array.elem, errors),
        Type::Paren(inner) => return check_type(promise, &inner.elem, errors),
        Type::Group(inner) => return check_type(promise, &inner.elem, errors),
        Type::Path(path) => refusal_of_path(promise, path),
        Type::Reference(_) => Some(match promise {
            Promise::ShmSafe => {
                "a reference means nothing in another process: store an index or an offset in an `AtomicU64`"
            }
            Promise::Described => {
                "a reference means nothing in another process: store an index or an offset in a `u64`"
            }
        }),
        Type::Ptr(_) => Some(match promise {
            Promise::ShmSafe => {
                "a pointer means nothing in another process: store an index or an offset in an `AtomicU64`"
            }
            Promise::Described => "a pointer means nothing in another process: store an index or an offset in a `u64`",
        }),
        Type::BareFn(_) => Some(match promise {
            Promise::ShmSafe => {
                "a function has another address in every process: store a number that stands for it in an `AtomicU32`"
            }
            Promise::Described => {
                "a function has another address in every process: store a number that stands for it in a `u32`"
            }
        }),
        Type::TraitObject(_) => {
            Some("a trait object points to code and data of one process: name one type with a fixed layout")
        }
        Type::Slice(_) => Some("a slice has no fixed size: use an array `[T; N]`"),
        Type::Tuple(_) => Some("a tuple has no fixed layout: use a struct with `#[repr(C)]`, or fields of their own"),
        _ => None,
    };
    if let Some(message) = message {
        errors.push(Error::new_spanned(ty, message));
    }
}

fn refusal_of_path(promise: Promise, path: &TypePath) -> Option<&'static str> {
    let last = std_or_bare(path)?;
    let name = last.ident.to_string();
    match &last.arguments {
        PathArguments::None => refusal_of_plain(promise, &name),
        PathArguments::AngleBracketed(arguments) => {
            let types = arguments.args.iter().any(|argument| matches!(argument, GenericArgument::Type(_)));
            if types { refusal_of_generic(&name) } else { None }
        }
        PathArguments::Parenthesized(_) => None,
    }
}

/// Returns the last segment of `Name` or `std::...::Name`; of other paths nothing is known.
fn std_or_bare(path: &TypePath) -> Option<&PathSegment> {
    if path.qself.is_some() {
        return None;
    }
    let segments = &path.path.segments;
    let first = segments.first()?;
    let known = segments.len() == 1 || ["std", "core", "alloc"].iter().any(|name| first.ident == name);
    if known { segments.last() } else { None }
}

fn refusal_of_plain(promise: Promise, name: &str) -> Option<&'static str> {
    use Promise::{Described, ShmSafe};

    Some(match (name, promise) {
        ("usize", ShmSafe) => "`usize` does not have the same size in every process: use `AtomicU64`",
        ("usize", Described) => "`usize` does not have the same size in every process: use `u64`",
        ("isize", ShmSafe) => "`isize` does not have the same size in every process: use `AtomicI64`",
        ("isize", Described) => "`isize` does not have the same size in every process: use `i64`",
        ("bool", ShmSafe) => "another process can write a 2, which is no `bool`: use `AtomicU8` and compare it with 0",
        ("bool", Described) => "another process can write a 2, which is no `bool`: use `u8` and compare it with 0",
        ("char", ShmSafe) => {
            "another process can write a number that is no `char`: use `AtomicU32` and `char::from_u32`"
        }
        ("char", Described) => "another process can write a number that is no `char`: use `u32` and `char::from_u32`",
        ("u128", ShmSafe) => "`u128` does not have the same alignment in every build: use `Mutex<[u64; 2]>`",
        ("u128", Described) => "`u128` does not have the same alignment in every build: use `[u64; 2]`",
        ("i128", ShmSafe) => "`i128` does not have the same alignment in every build: use `Mutex<[u64; 2]>`",
        ("i128", Described) => "`i128` does not have the same alignment in every build: use `[u64; 2]`",
        ("u8", ShmSafe) => "a plain `u8` reached from several processes is a data race: use `AtomicU8` or `Mutex<u8>`",
        ("u16", ShmSafe) => {
            "a plain `u16` reached from several processes is a data race: use `AtomicU16` or `Mutex<u16>`"
        }
        ("u32", ShmSafe) => {
            "a plain `u32` reached from several processes is a data race: use `AtomicU32` or `Mutex<u32>`"
        }
        ("u64", ShmSafe) => {
            "a plain `u64` reached from several processes is a data race: use `AtomicU64` or `Mutex<u64>`"
        }
        ("i8", ShmSafe) => "a plain `i8` reached from several processes is a data race: use `AtomicI8` or `Mutex<i8>`",
        ("i16", ShmSafe) => {
            "a plain `i16` reached from several processes is a data race: use `AtomicI16` or `Mutex<i16>`"
        }
        ("i32", ShmSafe) => {
            "a plain `i32` reached from several processes is a data race: use `AtomicI32` or `Mutex<i32>`"
        }
        ("i64", ShmSafe) => {
            "a plain `i64` reached from several processes is a data race: use `AtomicI64` or `Mutex<i64>`"
        }
        ("f32", ShmSafe) => {
            "a plain `f32` reached from several processes is a data race: use `Mutex<f32>`, or its bits in an `AtomicU32`"
        }
        ("f64", ShmSafe) => {
            "a plain `f64` reached from several processes is a data race: use `Mutex<f64>`, or its bits in an `AtomicU64`"
        }
        ("AtomicUsize", _) => "`AtomicUsize` does not have the same size in every process: use `AtomicU64`",
        ("AtomicIsize", _) => "`AtomicIsize` does not have the same size in every process: use `AtomicI64`",
        ("AtomicBool", _) => "another process can write a 2, which is no `bool`: use `AtomicU8` and compare it with 0",
        ("String", ShmSafe) => {
            "`String` keeps its text in the heap of one process: use `Mutex<[u8; N]>` with a length, or `[AtomicU8; N]`"
        }
        ("String", Described) => "`String` keeps its text in the heap of one process: use `[u8; N]` and a length",
        ("str", _) => "`str` has no fixed size: use an array of bytes and a length",
        _ => return None,
    })
}

fn refusal_of_generic(name: &str) -> Option<&'static str> {
    Some(match name {
        "Box" => "`Box` points into the heap of one process: store the value itself",
        "Vec" => "`Vec` keeps its elements in the heap of one process: use an array `[T; N]` and a length",
        "Rc" => "`Rc` points into the heap of one process: store the value itself",
        "Arc" => "`Arc` points into the heap of one process: store the value itself",
        "Option" => "`Option` has no fixed layout: store the value beside a number that says whether it is there",
        "AtomicPtr" => "a pointer means nothing in another process: store an index or an offset in an `AtomicU64`",
        _ => return None,
    })
}
