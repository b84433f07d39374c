//! Maps and vectors that somebody scribbles over: whatever stands in them, a call returns, with a value or an error, and touches nothing else.

#![cfg(not(ipc_loom))]

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use shmkit_core::{Error, Region};
use shmkit_process::{MapError, MapOptions, SharedMap, SharedVec, VecError};

/// The size of a slot of a map of `str` to `u64`, keys up to 16 bytes: 5 words, the length, the key, two values; and of an element.
const SLOT: u64 = 128;
const ELEMENT: u64 = 40;
/// Where the first of them is.
const SLOTS: u64 = 128;
const ELEMENTS: u64 = 256;

/// A region with an object called `target`, whose words can be reached past everybody.
struct Target {
    region: Region,
    file: File,
    /// Where it begins, and how many words it has.
    at: u64,
    words: u64,
}

impl Target {
    fn new(make: impl FnOnce(&Region)) -> Self {
        let region = Region::anonymous(1 << 16).expect("a region");
        make(&region);
        let file = File::from(region.as_fd().try_clone_to_owned().expect("a descriptor"));
        let mut bytes = vec![0; region.size()];
        file.read_exact_at(&mut bytes, 0).expect("its bytes");
        let name = bytes.windows(6).position(|window| window == b"target").expect("the name in the directory");
        let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        // Offset and size stand before the name.
        let (at, words) = (word(name - 40), word(name - 32) / 8);
        // A guard behind it, which nobody may touch.
        region.insert_array::<u64>("guard", 8).expect("room");
        Self { region, file, at, words }
    }

    fn write(&self, word: u64, value: u64) {
        self.file.write_all_at(&value.to_le_bytes(), self.at + word * 8).expect("a write");
    }

    fn read(&self, word: u64) -> u64 {
        let mut bytes = [0; 8];
        self.file.read_exact_at(&mut bytes, self.at + word * 8).expect("a word");
        u64::from_le_bytes(bytes)
    }

    fn assert_guard(&self) {
        assert_eq!(self.region.get_array::<u64>("guard", 8).expect("the guard").to_vec(), [0; 8]);
    }
}

/// Numbers that look random and are the same in each run.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }

    /// Words that are likely to be taken for something.
    fn word(&mut self) -> u64 {
        let mut half = || match self.below(5) {
            0 => 0,
            1..=3 => self.below(8),
            _ => self.below(1 << 32) | self.below(2) << 31,
        };
        half() << 32 | half()
    }
}

fn map() -> (Target, SharedMap<str, u64>) {
    let target = Target::new(|region| {
        MapOptions::new().capacity(5).longest_key(16).create_in::<str, u64>(region, "target").expect("room");
    });
    let map = SharedMap::open_in(&target.region, "target").expect("the map");
    (target, map)
}

fn vec() -> (Target, SharedVec<u64>) {
    let target = Target::new(|region| drop(SharedVec::<u64>::create_in(region, "target", 5).expect("room")));
    let vec = SharedVec::open_in(&target.region, "target").expect("the vector");
    (target, vec)
}

fn is_fine<T>(result: Result<T, MapError>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(MapError::Full { .. } | MapError::Failed(Error::Corrupted { .. })) => None,
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn a_map_of_another_size_than_its_numbers_say_is_not_opened() {
    let (target, _map) = map();
    assert_eq!((target.read(0), target.read(1), target.words * 8), (5, 16, SLOTS + 5 * SLOT));
    for (word, values) in [(0, [0, 4, 6, 1 << 30, u64::MAX]), (1, [0, 15 + 8, 80, 1 << 20, u64::MAX])] {
        let sound = target.read(word);
        for value in values {
            target.write(word, value);
            let opened = SharedMap::<str, u64>::open_in(&target.region, "target").map(|map| map.longest_key());
            // A few more or less bytes to a key need no more words.
            assert!(
                matches!(opened, Err(MapError::Failed(Error::Corrupted { .. })) | Ok(0 | 23)),
                "{value}: {opened:?}"
            );
        }
        target.write(word, sound);
    }
}

#[test]
fn a_vector_of_another_size_than_its_capacity_says_is_not_opened() {
    let (target, _vec) = vec();
    assert_eq!((target.read(0), target.words * 8), (5, ELEMENTS + 5 * ELEMENT));
    for value in [0, 4, 6, 1 << 60, u64::MAX] {
        target.write(0, value);
        let opened = SharedVec::<u64>::open_in(&target.region, "target");
        assert!(matches!(opened, Err(VecError::Failed(Error::Corrupted { .. }))), "{value}");
    }
}

#[test]
fn a_vector_that_is_longer_than_its_capacity_is_corrupted_for_all_that_is_done_with_it() {
    const LEN: u64 = 18;
    let (target, vec) = vec();
    vec.extend_from_slice(&[1, 2, 3, 4, 5]).expect("room");
    assert_eq!(target.read(LEN), 5);
    let is_corrupted = |error: Option<VecError>| matches!(error, Some(VecError::Failed(Error::Corrupted { .. })));

    for len in [6, 7, 10, 11, 1 << 32, u64::MAX] {
        target.write(LEN, len);
        let calls = [
            vec.len().err(),
            vec.get(0).err(),
            vec.get(4).err(),
            vec.set(4, 7).err(),
            vec.update(4, |value| *value = 7).err(),
            vec.push(7).err(),
            vec.extend([7, 7]).err(),
            vec.pop().err(),
            vec.iter().next().and_then(Result::err),
        ];
        assert!(calls.into_iter().all(is_corrupted), "{len}");
    }
    target.assert_guard();
}

#[test]
fn a_chain_that_leads_in_a_circle_or_nowhere_is_corrupted() {
    for (next, what) in [(1_u64, "chain"), (6, "link"), (u64::from(u32::MAX), "link")] {
        let (target, map) = map();
        map.insert("key", 1).expect("room");
        for slot in 0..5 {
            let entry = SLOTS / 8 + slot * SLOT / 8 + 4;
            if target.read(entry) != 0 {
                // Its own successor, if that is what `next` is.
                let next = if next == 1 { slot + 1 } else { next };
                target.write(entry, target.read(entry) & 0xffff_ffff | next << 32);
            }
        }
        let found = (0..5).map(|i| map.get(&format!("other{i}"))).find_map(Result::err);
        let found = found.or_else(|| map.len().err()).expect("an error");
        assert!(found.to_string().contains(what), "{found}");
        assert!(map.iter().any(|entry| entry.is_err()));
        target.assert_guard();
    }
}

#[test]
fn a_key_that_is_no_text_or_too_long_is_corrupted() {
    let (target, map) = map();
    map.insert("key", 1).expect("room");
    let slot = (0..5).find(|slot| target.read(SLOTS / 8 + slot * SLOT / 8 + 4) != 0).expect("the key");
    let len = SLOTS / 8 + slot * SLOT / 8 + 5;
    for (word, value) in [(len, 17), (len, u64::MAX), (len + 1, 0x00ff_ffff)] {
        let sound = target.read(word);
        target.write(word, value);
        let entries: Vec<_> = map.iter().collect();
        assert!(matches!(entries[..], [Err(MapError::Failed(Error::Corrupted { .. }))]), "{entries:?}");
        assert_eq!(map.get("key").expect("no such key"), None);
        target.write(word, sound);
    }
    assert_eq!(map.get("key").expect("a look"), Some(1));
}

/// Some of the words are locks; what stands there is nobody's token, so that of a dead.
#[test]
fn whatever_stands_in_a_map_each_call_returns() {
    let start = Instant::now();
    for seed in 0..3000 {
        let mut random = Random(seed);
        let (target, map) = map();
        for key in ["a", "bb", "ccc"] {
            map.insert(key, 1).expect("room");
        }
        for _ in 0..random.below(12) + 1 {
            target.write(4 + random.below(target.words - 4), random.word());
        }
        let keys = ["a", "bb", "ccc", "dddd", "eeeeeeeeeeeeeeee"];
        for _ in 0..10 {
            let key = keys[random.below(5) as usize];
            match random.below(8) {
                0 => drop(is_fine(map.insert(key, 2))),
                1 => drop(is_fine(map.remove(key))),
                2 => drop(is_fine(map.update(key, |value| *value = value.wrapping_add(1)))),
                3 => drop(is_fine(map.update_or_insert(key, 0, |value| *value = value.wrapping_add(1)))),
                4 => drop(is_fine(map.len())),
                5 => assert!(map.iter().filter_map(is_fine).count() <= 25),
                6 => drop(is_fine(map.clear())),
                _ => drop(is_fine(map.get(key))),
            }
        }
        target.assert_guard();
    }
    assert!(start.elapsed() < Duration::from_secs(60));
}

#[test]
fn whatever_stands_in_a_vector_each_call_returns() {
    for seed in 0..3000 {
        let mut random = Random(seed);
        let (target, vec) = vec();
        vec.extend_from_slice(&[1, 2, 3]).expect("room");
        for _ in 0..random.below(6) + 1 {
            target.write(1 + random.below(target.words - 1), random.word());
        }
        let is_fine = |result: Result<(), VecError>| match result {
            Ok(())
            | Err(VecError::Full { .. } | VecError::OutOfRange { .. } | VecError::Failed(Error::Corrupted { .. })) => {}
            Err(other) => panic!("{other}"),
        };
        for _ in 0..10 {
            let index = random.below(7) as usize;
            match random.below(6) {
                0 => is_fine(vec.push(4).map(drop)),
                1 => is_fine(vec.pop().map(drop)),
                2 => is_fine(vec.update(index, |value| *value = value.wrapping_add(1))),
                3 => is_fine(vec.set(index, 7)),
                4 => assert!(vec.iter().count() <= 5),
                _ => is_fine(vec.get(index).map(drop)),
            }
        }
        target.assert_guard();
    }
}
