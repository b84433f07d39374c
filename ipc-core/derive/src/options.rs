//! What the attributes of a struct say: `#[repr(...)]` and `#[shm(...)]`.

use proc_macro2::Span;
use syn::meta::ParseNestedMeta;
use syn::{Attribute, DeriveInput, Error, LitInt, LitStr, Path, Result, parse_quote, token};

use crate::expand::Promise;
use crate::fields::Errors;

/// The options in `#[shm(...)]`, with their defaults filled in.
pub(crate) struct Options {
    /// Where the traits are found.
    pub(crate) krate: Path,
    /// The layout version.
    pub(crate) version: u32,
}

impl Options {
    pub(crate) fn read(attributes: &[Attribute]) -> Result<Self> {
        let mut krate = None;
        let mut version = None;
        for attribute in attributes.iter().filter(|a| a.path().is_ident("shm")) {
            attribute.parse_nested_meta(|meta| {
                if meta.path.is_ident("crate") {
                    let text: LitStr = meta.value()?.parse()?;
                    set(&mut krate, text.parse()?, &meta)
                } else if meta.path.is_ident("version") {
                    let number: LitInt = meta.value()?.parse()?;
                    set(&mut version, number.base10_parse()?, &meta)
                } else {
                    Err(meta.error("unknown option: `shm` takes `version = 2` and `crate = \"path\"`"))
                }
            })?;
        }
        Ok(Self { krate: krate.unwrap_or_else(|| parse_quote!(::shmkit)), version: version.unwrap_or(1) })
    }
}

fn set<T>(option: &mut Option<T>, value: T, meta: &ParseNestedMeta<'_>) -> Result<()> {
    match option.replace(value) {
        None => Ok(()),
        Some(_) => Err(meta.error("this option is given twice")),
    }
}

/// Refuses a struct whose layout the compiler may choose.
pub(crate) fn check_repr(promise: Promise, input: &DeriveInput, errors: &mut Errors) {
    let mut fixed = false;
    let mut packed: Option<Span> = None;
    for attribute in input.attrs.iter().filter(|a| a.path().is_ident("repr")) {
        let parsed = attribute.parse_nested_meta(|meta| {
            fixed |= meta.path.is_ident("C") || meta.path.is_ident("transparent");
            if meta.path.is_ident("packed") {
                packed = meta.path.get_ident().map(|ident| ident.span());
            }
            if meta.input.peek(token::Paren) {
                let content;
                syn::parenthesized!(content in meta.input);
                content.parse::<LitInt>()?;
            }
            Ok(())
        });
        if let Err(error) = parsed {
            errors.push(error);
        }
    }
    let name = &input.ident;
    if !fixed {
        errors.push(Error::new(
            name.span(),
            format!("the compiler may lay out `{name}` differently in every build: add `#[repr(C)]`"),
        ));
    }
    if let (Promise::ShmSafe, Some(span)) = (promise, packed) {
        errors.push(Error::new(
            span,
            format!(
                "the atomics in a packed `{name}` would be misaligned: remove `packed` and order the fields from the largest to the smallest"
            ),
        ));
    }
}

/// Refuses `#[shm(...)]` on a field, where it would have no effect.
pub(crate) fn check_field_attributes(attributes: &[Attribute], errors: &mut Errors) {
    for attribute in attributes.iter().filter(|a| a.path().is_ident("shm")) {
        errors.push(Error::new_spanned(attribute, "`#[shm(...)]` belongs on the struct, fields have no options"));
    }
}
