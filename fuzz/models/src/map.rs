//! Maps against a `BTreeMap`.

use std::collections::BTreeMap;

use arbitrary::{Arbitrary, Unstructured};
use shmkit::process::{Key, MapError, MapOptions, SharedMap};

use crate::seen::{Kind, Seen};
use crate::stage::with_stage;

#[derive(Arbitrary, Debug)]
enum Act {
    Insert(u32),
    Get,
    Contains,
    Update(u32),
    UpdateOrInsert(u32, u32),
    Remove,
    Iterate,
    Clear,
}

pub(crate) fn run(data: &[u8], seen: &mut Seen) {
    let mut input = Unstructured::new(data);
    let _ = match u8::arbitrary(&mut input).unwrap_or(0) % 3 {
        0 => play(&mut input, seen, |input| Ok(u64::from(u8::arbitrary(input)? % 20)), |key| key),
        1 => play(&mut input, seen, text, String::as_str),
        _ => play(&mut input, seen, |input| Ok(text(input)?.into_bytes()), Vec::as_slice),
    };
}

/// One of a few short keys, or a long one.
fn text(input: &mut Unstructured<'_>) -> arbitrary::Result<String> {
    let number = u8::arbitrary(input)?;
    Ok(if number < 240 { format!("{}", number % 20) } else { "ä".repeat(usize::from(number - 240)) })
}

fn play<O: Ord + Clone + core::fmt::Debug, K: Key + ?Sized>(
    input: &mut Unstructured<'_>,
    seen: &mut Seen,
    key: impl Fn(&mut Unstructured<'_>) -> arbitrary::Result<O>,
    as_key: impl Fn(&O) -> &K,
) -> arbitrary::Result<()>
where
    K::Owned: Into<O>,
{
    let capacity = u64::from(u8::arbitrary(input)?) % 24 + 1;
    let longest = u64::from(u8::arbitrary(input)?) % 24;
    with_stage(|stage| {
        let mut options = MapOptions::new();
        let options = options.capacity(capacity).longest_key(longest);
        let map: SharedMap<K, u32> = options.create_in(stage.region(), "map").expect("room");
        let mut model = BTreeMap::new();
        for _ in 0..150 {
            if input.is_empty() {
                break;
            }
            let owned = key(input)?;
            act(&Act::arbitrary(input)?, &map, as_key(&owned), &owned, &mut model, seen);
            assert_eq!(map.len().expect("whole"), model.len());
        }
        let again: SharedMap<K, u32> = SharedMap::open_in(stage.region(), "map").expect("it is there");
        assert_eq!(again.capacity() as u64, capacity);
        assert!(model.iter().all(|(key, value)| again.get(as_key(key)).expect("whole") == Some(*value)));
        Ok(())
    })
}

fn act<O: Ord + Clone + core::fmt::Debug, K: Key + ?Sized>(
    act: &Act,
    map: &SharedMap<K, u32>,
    key: &K,
    owned: &O,
    model: &mut BTreeMap<O, u32>,
    seen: &mut Seen,
) where
    K::Owned: Into<O>,
{
    let old = model.get(owned).copied();
    let refused = |error: MapError, seen: &mut Seen| {
        seen.note("refused", error.kind());
        match error {
            MapError::Full { capacity, .. } => assert!(old.is_none() && model.len() == capacity),
            MapError::KeyTooLong { len, longest, .. } => assert!(len > longest && old.is_none()),
            error => panic!("{error:?}"),
        }
    };
    match *act {
        Act::Insert(value) => match map.insert(key, value) {
            Ok(replaced) => {
                assert_eq!(replaced, old);
                seen.note("insert", old.is_some().kind());
                model.insert(owned.clone(), value);
            }
            Err(error) => refused(error, seen),
        },
        Act::Get => {
            assert_eq!(map.get(key).expect("whole"), old);
            seen.note("get", old.is_some().kind());
        }
        Act::Contains => assert_eq!(map.contains_key(key).expect("whole"), old.is_some()),
        Act::Update(value) => {
            let updated = map.update(key, |now| core::mem::replace(now, value)).expect("whole");
            assert_eq!(updated, old);
            seen.note("update", old.is_some().kind());
            if old.is_some() {
                model.insert(owned.clone(), value);
            }
        }
        Act::UpdateOrInsert(missing, value) => {
            match map.update_or_insert(key, missing, |now| core::mem::replace(now, value)) {
                Ok(before) => {
                    assert_eq!(before, old.unwrap_or(missing));
                    seen.note("update or insert", old.is_some().kind());
                    model.insert(owned.clone(), value);
                }
                Err(error) => refused(error, seen),
            }
        }
        Act::Remove => {
            assert_eq!(map.remove(key).expect("whole"), old);
            seen.note("remove", old.is_some().kind());
            model.remove(owned);
        }
        Act::Iterate => {
            let entries = map.iter().map(|entry| entry.map(|(key, value)| (key.into(), value)));
            let entries: BTreeMap<O, u32> = entries.collect::<Result<_, _>>().expect("whole");
            assert_eq!(entries, *model);
            seen.note("iterate", model.is_empty().kind());
        }
        Act::Clear => {
            map.clear().expect("whole");
            model.clear();
            seen.note("clear", "done");
        }
    }
}
