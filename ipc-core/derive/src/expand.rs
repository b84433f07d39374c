//! From the definition of a struct to its impls.

use proc_macro2::{Ident, Span, TokenStream, TokenTree};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::ext::IdentExt;
use syn::{Data, DeriveInput, Error, Fields, GenericParam, Generics, Member, Path, Result, Type, parse_quote};

use crate::fields::{Errors, check_type};
use crate::options::{Options, check_field_attributes, check_repr};

/// Which trait is derived.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Promise {
    /// Both traits.
    ShmSafe,
    /// `Described` alone.
    Described,
}

impl Promise {
    fn name(self) -> &'static str {
        match self {
            Self::ShmSafe => "ShmSafe",
            Self::Described => "Described",
        }
    }

    fn ident(self) -> Ident {
        format_ident!("{}", self.name())
    }
}

/// Expands to the impls, or to `compile_error!` once per fault.
pub(crate) fn expand(promise: Promise, input: TokenStream) -> TokenStream {
    syn::parse2(input).and_then(|input| implement(promise, &input)).unwrap_or_else(Error::into_compile_error)
}

/// Returns the impls, or one error that combines all faults.
pub(crate) fn implement(promise: Promise, input: &DeriveInput) -> Result<TokenStream> {
    let fields = fields_of(promise, input)?;
    check(promise, input, fields)?;
    let options = Options::read(&input.attrs)?;

    let krate = &options.krate;
    let name = &input.ident;
    let generics = bounded(promise, &input.generics, fields, krate);
    let (impl_generics, ty_generics, where_clause) = generics.split_for_impl();
    let fingerprint = fingerprint(promise, input, fields, &options);
    let type_name = type_name(input, krate);

    let shm_safe = (promise == Promise::ShmSafe).then(|| {
        quote! {
            #[automatically_derived]
            unsafe impl #impl_generics #krate::ShmSafe for #name #ty_generics #where_clause {}
        }
    });
    // An associated constant is evaluated where it is used. Without parameters it can be used here.
    let evaluated = (!has_arguments(&input.generics)).then(|| {
        quote_spanned! {located(name.span())=>
            const _: #krate::Fingerprint = <#name as #krate::Described>::FINGERPRINT;
        }
    });

    Ok(quote! {
        #[automatically_derived]
        unsafe impl #impl_generics #krate::Described for #name #ty_generics #where_clause {
            const FINGERPRINT: #krate::Fingerprint = #fingerprint;

            fn type_name(f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                #type_name
            }
        }
        #shm_safe
        #evaluated
    })
}

fn fields_of(promise: Promise, input: &DeriveInput) -> Result<&Fields> {
    let name = &input.ident;
    match &input.data {
        Data::Struct(data) => Ok(&data.fields),
        Data::Enum(_) => Err(Error::new(
            name.span(),
            format!(
                "`{}` is for structs, `{name}` is an enum: another process can write a number that is no variant; store it as an integer and check it when it is read",
                promise.name()
            ),
        )),
        Data::Union(_) => Err(Error::new(
            name.span(),
            format!(
                "`{}` is for structs, `{name}` is a union: nothing tells another process which field is meant; store the bytes in an array",
                promise.name()
            ),
        )),
    }
}

fn check(promise: Promise, input: &DeriveInput, fields: &Fields) -> Result<()> {
    let mut errors = Errors::default();
    check_repr(promise, input, &mut errors);
    for lifetime in input.generics.lifetimes() {
        errors.push(Error::new_spanned(
            lifetime,
            format!(
                "`{}` borrows for `{}`, but no borrow reaches into another process: remove the lifetime parameter",
                input.ident, lifetime.lifetime
            ),
        ));
    }
    for field in fields {
        check_field_attributes(&field.attrs, &mut errors);
        check_type(promise, &field.ty, &mut errors);
    }
    errors.into_result()
}

/// Adds the bounds without which a generic struct would not keep the promise.
fn bounded(promise: Promise, generics: &Generics, fields: &Fields, krate: &Path) -> Generics {
    let parameters: Vec<&Ident> = generics.type_params().map(|p| &p.ident).collect();
    let promised = promise.ident();
    let mut bounded = generics.clone();
    if !parameters.is_empty() {
        let clause = bounded.make_where_clause();
        for parameter in &parameters {
            clause.predicates.push(match promise {
                Promise::ShmSafe => parse_quote!(#parameter: #krate::Described + 'static),
                Promise::Described => parse_quote!(#parameter: #krate::Described),
            });
        }
        for field in fields {
            let ty = &field.ty;
            if mentions(ty.to_token_stream(), &parameters) {
                clause.predicates.push(parse_quote!(#ty: #krate::#promised));
            }
        }
    }
    bounded
}

fn mentions(tokens: TokenStream, names: &[&Ident]) -> bool {
    tokens.into_iter().any(|token| match token {
        TokenTree::Ident(ident) => names.contains(&&ident),
        TokenTree::Group(group) => mentions(group.stream(), names),
        TokenTree::Punct(_) | TokenTree::Literal(_) => false,
    })
}

/// The value of `FINGERPRINT`, whose evaluation fails for a struct with drop glue or padding.
fn fingerprint(promise: Promise, input: &DeriveInput, fields: &Fields, options: &Options) -> TokenStream {
    let Options { krate, version } = options;
    let promised = promise.ident();
    let name = input.ident.unraw().to_string();
    let filler = match promise {
        Promise::ShmSafe => "_reserved: [AtomicU8; 4]",
        Promise::Described => "_reserved: [u8; 4]",
    };
    let dropped = format!(
        "`{name}` has drop glue, but nothing in a shared region is ever dropped, since whoever would drop it may be killed: remove `Drop` from it and its fields"
    );
    let padded = format!(
        "`{name}` has padding, whose bytes nobody writes: order the fields from the largest alignment to the smallest and fill the rest with a field such as `{filler}`"
    );

    let types: Vec<&Type> = fields.iter().map(|field| &field.ty).collect();
    let members: Vec<Member> =
        fields.iter().enumerate().map(|(i, field)| field.ident.clone().map_or(i.into(), Member::Named)).collect();
    let names = members.iter().map(|member| match member {
        Member::Named(ident) => ident.unraw().to_string(),
        Member::Unnamed(index) => index.index.to_string(),
    });
    // The bound is on a function so that a field that lacks the trait is one error, at its type.
    let described = types.iter().map(|ty| quote!(__fingerprint::<#ty>()));
    let arguments = input.generics.params.iter().filter_map(|param| match param {
        GenericParam::Type(param) => {
            let ident = &param.ident;
            Some(quote!(.parameter(<#ident as #krate::Described>::FINGERPRINT)))
        }
        GenericParam::Const(param) => {
            let ident = &param.ident;
            Some(quote!(.constant(#ident as u128)))
        }
        GenericParam::Lifetime(_) => None,
    });
    let checks = quote_spanned! {located(input.ident.span())=>
        ::core::assert!(!::core::mem::needs_drop::<Self>(), #dropped);
        ::core::assert!(
            ::core::mem::size_of::<Self>() == 0 #(+ ::core::mem::size_of::<#types>())*,
            #padded
        );
    };

    quote! {{
        const fn __fingerprint<T: #krate::#promised>() -> #krate::Fingerprint {
            <T as #krate::Described>::FINGERPRINT
        }
        #checks
        #krate::Fingerprint::new(
            #name,
            #version,
            ::core::mem::size_of::<Self>(),
            ::core::mem::align_of::<Self>(),
        )
        #(.field(#names, ::core::mem::offset_of!(Self, #members), #described))*
        #(#arguments)*
    }}
}

/// The body of `type_name`: `Name`, or `Name<A, 4>`.
fn type_name(input: &DeriveInput, krate: &Path) -> TokenStream {
    let name = input.ident.unraw().to_string();
    if !has_arguments(&input.generics) {
        return quote!(f.write_str(#name));
    }
    let arguments = input.generics.params.iter().filter_map(|param| match param {
        GenericParam::Type(param) => {
            let ident = &param.ident;
            Some(quote!(<#ident as #krate::Described>::type_name(f)?;))
        }
        GenericParam::Const(param) => {
            let ident = &param.ident;
            Some(quote!(::core::write!(f, "{}", #ident)?;))
        }
        GenericParam::Lifetime(_) => None,
    });
    let separators = std::iter::once("<").chain(std::iter::repeat(", "));
    let parts = separators.zip(arguments).map(|(separator, argument)| quote!(f.write_str(#separator)?; #argument));
    quote! {
        f.write_str(#name)?;
        #(#parts)*
        f.write_str(">")
    }
}

fn has_arguments(generics: &Generics) -> bool {
    generics.type_params().next().is_some() || generics.const_params().next().is_some()
}

/// Points at `span` for errors, but stays code of the macro for hygiene and lints.
fn located(span: Span) -> Span {
    Span::call_site().located_at(span)
}
