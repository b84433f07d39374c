//! `docs/LAYOUT.md` is what the sources say, and what was written down once does not change.
//!
//! The document is made of the sources themselves: this reads the structs that lie in shared memory, lays them out as `repr(C)` says, holds the result
//! against what the compiler has found (sizes, and the assertions beside the structs), and compares the text. After a change:
//!
//! ```sh
//! SHMKIT_WRITE_LAYOUT=1 cargo test -p shmkit --test layout
//! ```
//!
//! which refuses to write down another layout under a version that is there already: raise the version first.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use shmkit::{Barrier, Condvar, Event, Mutex, Once, OnceLock, Permits, ReentrantMutex, RwLock, Semaphore, Snapshot};
use syn::{Attribute, BinOp, Expr, Fields, GenericArgument, Item, ItemStruct, Lit, Meta, PathArguments, Type};

/// Where shared structs are defined, from the bottom up.
const FOLDERS: [&str; 4] = ["ipc-core/src", "ipc-sync/src", "ipc-channel/src", "ipc-process/src"];

/// What is `repr(C)` and not in a region: it is the kernel's, or a view of what is.
const NOT_SHARED: [&str; 3] = ["ipc-core/src/sys/", "ipc-core/src/cells.rs", "ipc-core/src/identity.rs"];

/// Begins what is made of the sources.
const MARK: &str = "<!-- From here on, made by tests/layout.rs. -->\n";

/// Begins what is only added to.
const FROZEN: &str = "## Layouts so far\n";

#[derive(Clone, Copy, Debug, PartialEq)]
struct Extent {
    size: u64,
    align: u64,
}

/// A struct as the source has it.
struct Source {
    item: ItemStruct,
    file: String,
}

struct Field {
    name: String,
    offset: u64,
    size: u64,
    ty: String,
    meaning: String,
}

struct Layout {
    name: String,
    file: String,
    version: Option<u64>,
    extent: Extent,
    meaning: String,
    fields: Vec<Field>,
}

struct Sources {
    structs: Vec<Source>,
    /// By file and name.
    constants: BTreeMap<(String, String), Expr>,
    text: BTreeMap<String, String>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Whether it is there in models only.
fn is_for_models(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        Meta::List(list) if list.path.is_ident("cfg") => list.tokens.to_string() == "ipc_loom",
        _ => false,
    })
}

fn repr(attributes: &[Attribute]) -> Option<String> {
    let lists = attributes.iter().filter_map(|attribute| attribute.meta.require_list().ok());
    lists.into_iter().find(|list| list.path.is_ident("repr")).map(|list| list.tokens.to_string())
}

impl Sources {
    fn read() -> Self {
        let mut sources = Self { structs: Vec::new(), constants: BTreeMap::new(), text: BTreeMap::new() };
        for path in FOLDERS.iter().flat_map(|folder| files(&root().join(folder))) {
            let file = path.strip_prefix(root()).expect("below").to_string_lossy().into_owned();
            let text = fs::read_to_string(&path).expect("a source");
            for item in syn::parse_file(&text).expect("Rust").items {
                match item {
                    Item::Const(constant) => {
                        sources.constants.insert((file.clone(), constant.ident.to_string()), *constant.expr);
                    }
                    Item::Struct(item) if repr(&item.attrs).is_some() && !is_for_models(&item.attrs) => {
                        sources.structs.push(Source { item, file: file.clone() });
                    }
                    _ => {}
                }
            }
            sources.text.insert(file, text);
        }
        sources.structs.retain(|source| !NOT_SHARED.iter().any(|prefix| source.file.starts_with(prefix)));
        sources
    }

    /// The constant of this name: of this file, else of the file `layout.rs` beside it, else of any.
    fn constant(&self, file: &str, name: &str) -> Option<u64> {
        let beside = format!("{}/layout.rs", file.rsplit_once('/').expect("a folder").0);
        let own = [file, beside.as_str()].into_iter().find_map(|file| {
            self.constants.get(&(file.to_owned(), name.to_owned())).map(|expr| self.number(file, expr))
        });
        own.or_else(|| {
            let mut others = self.constants.iter().filter(|((_, other), _)| other == name && name != "LAYOUT");
            others.next().map(|((file, _), expr)| self.number(file, expr))
        })
    }

    fn number(&self, file: &str, expr: &Expr) -> u64 {
        match expr {
            Expr::Lit(literal) => match &literal.lit {
                Lit::Int(number) => number.base10_parse().expect("a number"),
                _ => panic!("{file}: not a number"),
            },
            Expr::Path(path) => {
                let name = path.path.segments.last().expect("a name").ident.to_string();
                self.constant(file, &name).unwrap_or_else(|| panic!("{file}: no constant {name}"))
            }
            Expr::Binary(both) => {
                let (left, right) = (self.number(file, &both.left), self.number(file, &both.right));
                match both.op {
                    BinOp::Add(_) => left + right,
                    BinOp::Sub(_) => left - right,
                    BinOp::Mul(_) => left * right,
                    BinOp::Div(_) => left / right,
                    BinOp::Shl(_) => left << right,
                    _ => panic!("{file}: another operator"),
                }
            }
            // Outside of models.
            Expr::If(choice) => match &choice.else_branch {
                Some((_, other)) => self.number(file, other),
                None => panic!("{file}: no else"),
            },
            Expr::Block(block) => match block.block.stmts.last() {
                Some(syn::Stmt::Expr(expr, _)) => self.number(file, expr),
                _ => panic!("{file}: no value"),
            },
            Expr::Paren(inner) => self.number(file, &inner.expr),
            Expr::Group(inner) => self.number(file, &inner.expr),
            Expr::Cast(cast) => self.number(file, &cast.expr),
            Expr::Call(call) => self.size_in(file, &quote(&call.func)),
            _ => panic!("{file}: {} is no number that can be told", quote(expr)),
        }
    }

    /// The value of `size_of::<X>`.
    fn size_in(&self, file: &str, call: &str) -> u64 {
        let name = call.strip_prefix("size_of::<").and_then(|rest| rest.strip_suffix('>'));
        let name = name.unwrap_or_else(|| panic!("{file}: {call} is no number that can be told"));
        self.extent(file, &syn::parse_str(name).expect("a type")).size
    }

    fn find(&self, file: &str, name: &str) -> Option<&Source> {
        let is_private = |source: &Source| matches!(source.item.vis, syn::Visibility::Inherited);
        let is_it = |source: &&Source| source.item.ident == name && !is_private(source);
        let crate_of = |file: &str| file.split('/').next().map(str::to_owned);
        let own = self.structs.iter().find(|source| source.file == file && source.item.ident == name);
        let near = || self.structs.iter().filter(is_it).find(|source| crate_of(&source.file) == crate_of(file));
        own.or_else(near).or_else(|| self.structs.iter().find(is_it))
    }

    /// How large a type is; a type parameter is one word.
    fn extent(&self, file: &str, ty: &Type) -> Extent {
        let scalar = |size| Extent { size, align: size };
        match ty {
            Type::Array(array) => {
                let element = self.extent(file, &array.elem);
                let count = match &array.len {
                    // The length of an array that is a parameter, like its type.
                    Expr::Path(path) if path.path.is_ident("N") => 1,
                    len => self.number(file, len),
                };
                Extent { size: element.size * count, align: element.align }
            }
            Type::Path(path) => {
                let last = path.path.segments.last().expect("a name");
                match last.ident.to_string().as_str() {
                    "AtomicU8" | "u8" => scalar(1),
                    "AtomicU16" | "u16" => scalar(2),
                    "AtomicU32" | "u32" => scalar(4),
                    "AtomicU64" | "u64" | "T" | "K" | "V" | "R" => scalar(8),
                    "PhantomData" => Extent { size: 0, align: 1 },
                    "UnsafeCell" | "MaybeUninit" => match &last.arguments {
                        PathArguments::AngleBracketed(arguments) => match arguments.args.first() {
                            Some(GenericArgument::Type(inner)) => self.extent(file, inner),
                            _ => panic!("{file}: a cell of nothing"),
                        },
                        _ => panic!("{file}: a cell of nothing"),
                    },
                    name => {
                        let source = self.find(file, name);
                        self.layout(source.unwrap_or_else(|| panic!("{file}: what is {name}?"))).extent
                    }
                }
            }
            _ => panic!("{file}: {} may not be shared", quote(ty)),
        }
    }

    fn layout(&self, source: &Source) -> Layout {
        let Source { item, file } = source;
        let mut extent = Extent { size: 0, align: 1 };
        let mut fields = Vec::new();
        let all: Vec<_> = match &item.fields {
            Fields::Named(named) => named.named.iter().collect(),
            Fields::Unnamed(unnamed) => unnamed.unnamed.iter().collect(),
            Fields::Unit => Vec::new(),
        };
        for (number, field) in all.into_iter().filter(|field| !is_for_models(&field.attrs)).enumerate() {
            let own = self.extent(file, &field.ty);
            let offset = extent.size.next_multiple_of(own.align);
            extent = Extent { size: offset + own.size, align: extent.align.max(own.align) };
            let name = field.ident.as_ref().map_or_else(|| number.to_string(), ToString::to_string);
            let is_unused = name.starts_with('_') || name.contains("reserved") || name == "spare";
            let meaning = match is_unused {
                true if own.size > 0 => "unused, zero".to_owned(),
                true => "takes no room".to_owned(),
                false => meaning(&field.attrs),
            };
            fields.push(Field { name, offset, size: own.size, ty: quote(&field.ty), meaning });
        }
        if let Some(align) = repr(&item.attrs).and_then(|repr| repr.split("align").nth(1).map(str::to_owned)) {
            let align: String = align.chars().filter(char::is_ascii_digit).collect();
            extent.align = extent.align.max(align.parse().expect("an alignment"));
        }
        extent.size = extent.size.next_multiple_of(extent.align);
        Layout {
            name: item.ident.to_string(),
            version: self.constant(file, "LAYOUT").or_else(|| {
                let is_of_region = file.starts_with("ipc-core");
                is_of_region.then(|| self.constant(file, "VERSION")).flatten()
            }),
            file: file.clone(),
            extent,
            meaning: meaning(&item.attrs),
            fields,
        }
    }

    fn layouts(&self) -> Vec<Layout> {
        self.structs.iter().map(|source| self.layout(source)).collect()
    }
}

/// The source text of it, without the spaces between tokens.
fn quote(tokens: &impl quote::ToTokens) -> String {
    tokens.to_token_stream().to_string().replace(' ', "").replace(';', "; ")
}

/// The first sentence of a doc comment, without links.
fn meaning(attributes: &[Attribute]) -> String {
    let raw: Vec<String> = attributes
        .iter()
        .filter_map(|attribute| match &attribute.meta {
            Meta::NameValue(pair) if pair.path.is_ident("doc") => match &pair.value {
                Expr::Lit(literal) => match &literal.lit {
                    Lit::Str(text) => Some(text.value().trim().to_owned()),
                    _ => None,
                },
                _ => None,
            },
            _ => None,
        })
        .take_while(|line| !line.is_empty())
        .collect();
    let text = raw.join(" ");
    let sentence = text.split_once(". ").map_or(text.as_str(), |(first, _)| first).trim_end_matches('.');
    without_links(sentence)
}

/// `[x](y)` becomes `x`.
fn without_links(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, link)) = rest.split_once('[') {
        plain += before;
        let Some((shown, behind)) = link.split_once(']') else {
            return plain + "[" + link;
        };
        plain += shown;
        rest = match behind.strip_prefix('(').and_then(|target| target.split_once(')')) {
            Some((_, behind)) => behind,
            None => behind,
        };
    }
    plain + rest
}

/// FNV-1a over what another process relies on.
fn hash(layout: &Layout, sources: &Sources) -> u64 {
    let mut text = format!("{} {}", layout.extent.size, layout.extent.align);
    for field in &layout.fields {
        let _ = write!(text, " {} {} {} {}", field.name, field.offset, field.size, field.ty);
        for part in field.ty.split(|c: char| !c.is_alphanumeric()).filter(|part| *part != layout.name) {
            if let Some(inner) = sources.find(&layout.file, part) {
                let _ = write!(text, " {:x}", hash(&sources.layout(inner), sources));
            }
        }
    }
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

fn tables(layouts: &[Layout]) -> String {
    let mut text = String::new();
    for layout in layouts {
        let version = layout.version.map_or("that of what it is part of".to_owned(), |version| version.to_string());
        let Extent { size, align } = layout.extent;
        let _ = write!(
            text,
            "\n### {}\n\n{}. `{}`, version: {version}, {size} bytes, aligned to {align}.\n\n",
            layout.name, layout.meaning, layout.file
        );
        text += "| offset | size | field | type | meaning |\n|---|---|---|---|---|\n";
        for Field { name, offset, size, ty, meaning } in &layout.fields {
            // A struct of one field is that field.
            let meaning = if meaning.is_empty() { "all of it" } else { meaning };
            let _ = writeln!(text, "| {offset} | {size} | `{name}` | `{ty}` | {meaning} |");
        }
    }
    text
}

/// The lines of what is only added to: name, file, version, hash.
fn frozen(layouts: &[Layout], sources: &Sources) -> Vec<(String, u64)> {
    let versioned = layouts.iter().filter_map(|layout| layout.version.map(|version| (layout, version)));
    versioned
        .map(|(layout, version)| (format!("{} {} version {version}", layout.file, layout.name), hash(layout, sources)))
        .collect()
}

#[test]
fn the_document_says_what_the_sources_say_and_no_layout_changes_without_its_version() {
    let sources = Sources::read();
    let layouts = sources.layouts();
    let path = root().join("docs/LAYOUT.md");
    let document = fs::read_to_string(&path).expect("docs/LAYOUT.md");
    let (introduction, rest) = document.split_once(MARK).expect("the mark");
    let old = rest.split_once(FROZEN).map_or("", |(_, frozen)| frozen);

    let mut lines: BTreeMap<String, String> = old
        .lines()
        .filter_map(|line| line.strip_prefix("    ")?.split_once(": "))
        .map(|(key, hash)| (key.to_owned(), hash.to_owned()))
        .collect();
    for (key, hash) in frozen(&layouts, &sources) {
        let hash = format!("{hash:016x}");
        let known = lines.entry(key.clone()).or_insert_with(|| hash.clone());
        assert_eq!(*known, hash, "the layout of {key} has changed: it needs another version");
    }

    let mut made = introduction.to_owned() + MARK + &tables(&layouts) + "\n" + FROZEN;
    made += "\nOf each version of each struct, a hash of the names, places and types of its fields. Lines are added, and never changed.\n\n";
    for (key, hash) in lines {
        let _ = writeln!(made, "    {key}: {hash}");
    }
    if std::env::var_os("SHMKIT_WRITE_LAYOUT").is_some() {
        fs::write(&path, &made).expect("the document");
    }
    let written = fs::read_to_string(&path).expect("docs/LAYOUT.md");
    let differences = made.lines().zip(written.lines()).filter(|(made, written)| made != written);
    let shown: Vec<String> = differences.take(20).map(|(made, written)| format!("- {written}\n+ {made}")).collect();
    assert!(made == written, "docs/LAYOUT.md is not what the sources say; see this file.\n{}", shown.join("\n"));
}

#[test]
fn each_field_that_is_used_says_what_it_is() {
    let mut silent = Vec::new();
    for layout in Sources::read().layouts() {
        let is_wrapper = layout.fields.len() == 1;
        let fields = layout.fields.iter().filter(|field| !is_wrapper && field.size > 0 && field.meaning.is_empty());
        silent.extend(fields.map(|field| format!("{}.{}", layout.name, field.name)));
        silent.extend(layout.meaning.is_empty().then_some(layout.name));
    }
    assert!(silent.is_empty(), "{silent:?}");
}

#[test]
fn the_sources_were_understood_as_the_compiler_understands_them() {
    let sources = Sources::read();
    let extent = |name: &str| sources.layout(sources.find("ipc-sync", name).expect("a struct")).extent;
    macro_rules! check {
        ($($name:ident: $ty:ty;)*) => {$(
            let known = Extent { size: size_of::<$ty>() as u64, align: align_of::<$ty>() as u64 };
            assert_eq!(extent(stringify!($name)), known, stringify!($name));
        )*};
    }
    check! {
        Barrier: Barrier;
        Condvar: Condvar;
        Event: Event;
        Mutex: Mutex<u64>;
        Once: Once;
        OnceLock: OnceLock<u64>;
        Permits: Permits;
        ReentrantMutex: ReentrantMutex<u64>;
        RwLock: RwLock<u64>;
        Semaphore: Semaphore;
        Snapshot: Snapshot<u64>;
    }
}

/// `size_of::<X>() == 64` and `offset_of!(X, field) == 8`, which the compiler has checked beside the structs.
#[test]
fn the_sources_were_understood_as_their_assertions_say() {
    let sources = Sources::read();
    let mut checked = 0;
    for layout in sources.layouts() {
        let text: String = sources.text[&layout.file].chars().filter(|c| !c.is_whitespace()).collect();
        for name in [layout.name.clone(), format!("{}<u64>", layout.name)] {
            for (before, found) in [("size_of", layout.extent.size), ("align_of", layout.extent.align)] {
                if let Some(asserted) = value_behind(&text, &format!("{before}::<{name}>()=="), &sources, &layout.file)
                {
                    assert_eq!(asserted, found, "{before} {name}");
                    checked += 1;
                }
            }
            for field in &layout.fields {
                let pattern = format!("offset_of!({name},{})==", field.name);
                if let Some(asserted) = value_behind(&text, &pattern, &sources, &layout.file) {
                    assert_eq!(asserted, field.offset, "{name}.{}", field.name);
                    checked += 1;
                }
            }
        }
    }
    assert!(checked >= 60, "only {checked} assertions were found");
}

fn value_behind(text: &str, pattern: &str, sources: &Sources, file: &str) -> Option<u64> {
    let (_, rest) = text.split_once(pattern)?;
    let value = rest.split(['&', ')', ';']).next()?;
    Some(sources.number(file, &syn::parse_str(value).ok()?))
}
