//! The directory of a region against a map of names.

use core::sync::atomic::AtomicU32;
use core::sync::atomic::Ordering::Relaxed;
use std::collections::BTreeMap;

use arbitrary::{Arbitrary, Unstructured};
use shmkit::{Error, Mutex, Region};

use crate::seen::{Kind, Seen, kind};
use crate::stage::{SIZE, Stage, with_stage};

#[derive(Arbitrary, Debug)]
enum Act {
    Insert(u32),
    InsertArray(Len),
    Get,
    GetOrInsert(u32),
    GetOtherType,
    GetArray(Len),
    GetArrayOrInsert(Len),
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Len {
    Few(u8),
    Many(u16),
    Any(u64),
}

/// What stands under a name.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Object {
    Number(u32),
    Array(usize),
}

impl Len {
    fn value(self) -> usize {
        match self {
            Self::Few(len) => usize::from(len % 4),
            Self::Many(len) => len.into(),
            Self::Any(len) => len as usize,
        }
    }
}

pub(crate) fn run(data: &[u8], seen: &mut Seen) {
    let _ = play(&mut Unstructured::new(data), seen);
}

fn play(input: &mut Unstructured<'_>, seen: &mut Seen) -> arbitrary::Result<()> {
    with_stage(|stage| {
        let mut model = BTreeMap::new();
        let mut order = Vec::new();
        for _ in 0..100 {
            if input.is_empty() {
                break;
            }
            let name = name(input)?;
            let act = Act::arbitrary(input)?;
            let old = model.get(&name).copied();
            let new = do_it(stage, &name, &act, old, seen);
            if let (None, Some(new)) = (old, new) {
                model.insert(name.clone(), new);
                order.push(name);
            }
        }
        let names: Vec<String> =
            stage.region().objects().expect("whole").into_iter().map(|object| object.name).collect();
        assert_eq!(names, order);
        Ok(())
    })
}

/// One of a few names, or any.
fn name(input: &mut Unstructured<'_>) -> arbitrary::Result<String> {
    Ok(match u8::arbitrary(input)? {
        any @ 0..=9 => format!("{any}"),
        // Close to the longest.
        long @ 10..=19 => "é".repeat(118 + usize::from(long)),
        20 => String::new(),
        _ => <&str>::arbitrary(input)?.to_owned(),
    })
}

fn do_it(stage: &Stage, name: &str, act: &Act, old: Option<Object>, seen: &mut Seen) -> Option<Object> {
    let region = stage.region();
    let room = SIZE - stage.end();
    let number = |number: &u32| Object::Number(*number);
    let (result, size, wanted) = match act {
        Act::Insert(value) => {
            let inserted = region.insert(name, AtomicU32::new(*value)).map(|_| number(value));
            return check_inserted(inserted, name, old, 4, room, seen);
        }
        Act::InsertArray(len) => {
            let inserted = region.insert_array::<u16>(name, len.value()).map(|array| Object::Array(array.len()));
            return check_inserted(inserted, name, old, len.value().saturating_mul(2), room, seen);
        }
        Act::Get => (get(region, name), 0, old),
        Act::GetOrInsert(value) => {
            let got = region.get_or_insert_with(name, || AtomicU32::new(*value));
            (got.map(|found| number(&found.load(Relaxed))), 4, old.or(Some(number(value))))
        }
        Act::GetOtherType => {
            let got = region.get::<Mutex<u32>>(name).map(drop);
            seen.note("get another type", kind(&got));
            match got.expect_err("there is none of that type") {
                Error::WrongType { name: found, .. } => assert!(found == name && old.is_some()),
                Error::NoSuchObject { name: asked } => assert!(asked == name && old.is_none()),
                error => panic!("{error:?}"),
            }
            return None;
        }
        Act::GetArray(len) => {
            (region.get_array::<u16>(name, len.value()).map(|array| Object::Array(array.len())), 0, old)
        }
        Act::GetArrayOrInsert(len) => {
            let got = region.get_array_or_insert::<u16>(name, len.value()).map(|array| Object::Array(array.len()));
            (got, len.value().saturating_mul(2), old.or(Some(Object::Array(len.value()))))
        }
    };
    seen.note(label(act), kind(&result));
    match &result {
        Ok(found) => assert_eq!(Some(*found), wanted),
        Err(Error::NoSuchObject { .. }) => assert!(old.is_none() && size == 0),
        Err(Error::WrongType { .. }) => assert!(matches!(
            (act, old),
            (Act::Get | Act::GetOrInsert(_), Some(Object::Array(_)))
                | (Act::GetArray(_) | Act::GetArrayOrInsert(_), Some(Object::Number(_)))
        )),
        Err(Error::WrongLength { found, asked, .. }) => {
            assert!(found != asked && old == Some(Object::Array(*found as usize)));
        }
        Err(error) => check_refused(error, name, size, room),
    }
    result.ok()
}

fn get(region: &Region, name: &str) -> Result<Object, Error> {
    region.get::<AtomicU32>(name).map(|found| Object::Number(found.load(Relaxed)))
}

fn label(act: &Act) -> &'static str {
    match act {
        Act::Get => "get",
        Act::GetOrInsert(_) => "get or insert",
        Act::GetArray(_) => "get array",
        _ => "get array or insert",
    }
}

fn check_inserted(
    result: Result<Object, Error>,
    name: &str,
    old: Option<Object>,
    size: usize,
    room: usize,
    seen: &mut Seen,
) -> Option<Object> {
    seen.note("insert", kind(&result));
    match &result {
        Ok(_) => assert!(old.is_none() && (1..=255).contains(&name.len())),
        Err(Error::ObjectExists { name: found }) => assert!(found == name && old.is_some()),
        Err(error) => check_refused(error, name, size, room),
    }
    result.ok()
}

fn check_refused(error: &Error, name: &str, size: usize, room: usize) {
    match error {
        Error::InvalidName { .. } => assert!(name.is_empty() || name.len() > 255),
        // The record, the name and that of the type, and what is missing to whole lines.
        Error::NoSpace { .. } => assert!(size.saturating_add(48 + name.len() + 32 + 80) > room, "{size} of {room}"),
        error => panic!("{}: {error:?}", error.kind()),
    }
}
