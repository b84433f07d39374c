//! What the macros emit and refuse, on token streams.

mod emitted;
mod fields;
mod structs;

use proc_macro2::TokenStream;
use quote::quote;

use crate::expand::{Promise, implement};

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
