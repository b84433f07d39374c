//! What maps do, seen by one process.

#![cfg(not(ipc_loom))]

use std::collections::{BTreeMap, BTreeSet};
use std::thread;

use shmkit_core::{Error, Region};
use shmkit_process::{Key, MapError, MapOptions, SharedMap};

fn map<K: Key + ?Sized, V: bytemuck::Pod + shmkit_core::Described>(capacity: u64) -> SharedMap<K, V> {
    MapOptions::new().capacity(capacity).anonymous().expect("a map")
}

fn entries<K: Key<Owned: Ord> + ?Sized>(map: &SharedMap<K, u64>) -> BTreeMap<K::Owned, u64> {
    let entries: Vec<_> = map.iter().collect::<Result<_, _>>().expect("entries");
    let sorted: BTreeMap<_, _> = entries.into_iter().collect();
    assert_eq!(sorted.len(), map.len().expect("a sound map"));
    sorted
}

/// Numbers that look random and are the same in each run.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

#[test]
fn keys_of_one_length_can_be_as_long_as_they_like() -> Result<(), MapError> {
    type Long = [[u64; 512]; 512];
    let key = |number| -> Box<Long> { vec![[number; 512]; 512].into_boxed_slice().try_into().expect("as many") };
    let map = map::<Long, u64>(2);
    map.insert(&key(1), 10)?;
    assert_eq!((map.get(&key(1))?, map.get(&key(2))?), (Some(10), None));
    assert_eq!(map.longest_key(), size_of::<Long>());
    // What is said of other keys makes no difference.
    let map: SharedMap<u64, u64> = MapOptions::new().longest_key(u64::MAX).anonymous()?;
    assert_eq!((map.insert(&1, 10)?, map.longest_key()), (None, 8));
    Ok(())
}

#[test]
fn a_key_has_the_value_that_it_was_last_given() -> Result<(), MapError> {
    let map = map::<u64, u64>(10);

    assert_eq!(map.get(&1)?, None);
    assert_eq!(map.insert(&1, 10)?, None);
    assert_eq!(map.insert(&1, 11)?, Some(10));
    assert_eq!(map.get(&1)?, Some(11));
    assert_eq!(map.update(&1, |value| std::mem::replace(value, 12))?, Some(11));
    assert_eq!(map.remove(&1)?, Some(12));
    assert_eq!(map.remove(&1)?, None);
    assert_eq!(map.update(&1, |_| unreachable!("no value"))?, None::<()>);
    assert!(!map.contains_key(&1)?);
    Ok(())
}

#[test]
fn what_is_full_says_so_and_stays_as_it_is() -> Result<(), MapError> {
    let map = map::<u64, u64>(100);
    for key in 0..100 {
        map.insert(&key, key)?;
    }

    let refused = map.insert(&100, 0).expect_err("no room");
    assert!(matches!(&refused, MapError::Full { capacity: 100, .. }), "{refused:?}");
    assert_eq!(
        refused.to_string(),
        "the map \"map\" has 100 entries, which is all it has room for: remove some, or make it larger"
    );
    assert!(matches!(map.update_or_insert(&100, 0, |_| ()), Err(MapError::Full { .. })));
    assert_eq!(entries(&map), (0..100).map(|key| (key, key)).collect());
    assert_eq!(map.insert(&99, 0)?, Some(99));
    Ok(())
}

#[test]
fn there_is_room_for_as_many_whatever_came_and_went_before() -> Result<(), MapError> {
    let map = map::<u64, u64>(7);
    for round in 0..1000 {
        for key in 0..7 {
            assert_eq!(map.insert(&(round * 7 + key), round)?, None);
        }
        assert!(matches!(map.insert(&u64::MAX, 0), Err(MapError::Full { .. })));
        for key in 0..7 {
            assert_eq!(map.remove(&(round * 7 + key))?, Some(round));
        }
    }
    assert!(map.is_empty()?);
    Ok(())
}

#[test]
fn keys_of_one_bucket_come_and_go_from_anywhere_in_its_chain() -> Result<(), MapError> {
    for removed in 0..5_u64 {
        let map = map::<u64, u64>(5);
        // With so few buckets, some keys share one.
        for key in 0..5 {
            map.insert(&key, key)?;
        }
        map.remove(&removed)?;
        map.insert(&77, 77)?;
        let expected = (0..5).filter(|key| *key != removed).chain([77]).map(|key| (key, key)).collect();
        assert_eq!(entries(&map), expected);
    }
    Ok(())
}

#[test]
fn any_sequence_of_changes_is_that_of_a_plain_map() -> Result<(), MapError> {
    for (capacity, keys) in [(1, 3), (4, 6), (16, 20), (64, 65), (300, 200)] {
        let mut random = Random(capacity);
        let mut model = BTreeMap::new();
        let map = map::<u64, u64>(capacity);
        for step in 0..20_000 {
            let key = random.below(keys);
            let has_room = model.len() < capacity as usize || model.contains_key(&key);
            match random.below(9) {
                0..3 if has_room => assert_eq!(map.insert(&key, step)?, model.insert(key, step)),
                0..3 => assert!(matches!(map.insert(&key, step), Err(MapError::Full { .. }))),
                3..6 => assert_eq!(map.remove(&key)?, model.remove(&key)),
                6 => {
                    let expected = model.get_mut(&key).map(|value| {
                        *value += 1;
                        *value
                    });
                    let done = map.update(&key, |value| {
                        *value += 1;
                        *value
                    })?;
                    assert_eq!(done, expected);
                }
                7 if has_room => {
                    *model.entry(key).or_insert(5) += 1;
                    map.update_or_insert(&key, 5, |value| *value += 1)?;
                }
                _ => assert_eq!(map.get(&key)?, model.get(&key).copied()),
            }
            if step % 1000 == 0 {
                assert_eq!(entries(&map), model);
            }
            if step % 7000 == 6999 {
                map.clear()?;
                model.clear();
            }
        }
        assert_eq!(entries(&map), model);
    }
    Ok(())
}

#[test]
fn keys_may_be_bytes_and_text_of_any_length_up_to_the_longest() -> Result<(), MapError> {
    // As many buckets as there are keys: some share one.
    let options = MapOptions::new().capacity(13).longest_key(12).clone();
    let bytes = options.anonymous::<[u8], u64>()?;
    for len in 0..=12 {
        bytes.insert(&vec![0; len], len as u64)?;
    }
    assert_eq!(bytes.len()?, 13);
    assert_eq!(bytes.get(&[0; 7])?, Some(7));
    assert_eq!(bytes.get(&[0; 13])?, None);
    assert_eq!(bytes.remove(&[0; 13])?, None);
    assert!(!bytes.contains_key(&[0; 13])?);
    assert_eq!(bytes.update(&[0; 13], |_| ())?, None);
    let refused = bytes.insert(&[0; 13], 0).expect_err("too long");
    assert_eq!(refused.to_string(), "a key of 13 bytes is too long for the map \"map\", which was made for 12");

    let text = options.anonymous::<str, u64>()?;
    let words = ["", "a", "löffel", "twelve bytes", "twelve byteſ"];
    for (number, word) in words.iter().enumerate().take(4) {
        text.insert(word, number as u64)?;
    }
    assert!(matches!(text.insert(words[4], 0), Err(MapError::KeyTooLong { len: 13, longest: 12, .. })));
    let keys: BTreeSet<String> = text.iter().map(|entry| entry.map(|(key, _)| key)).collect::<Result<_, _>>()?;
    assert_eq!(keys, words[..4].iter().map(ToString::to_string).collect());
    Ok(())
}

#[test]
fn keys_and_values_of_any_size_come_back_as_they_were() -> Result<(), MapError> {
    let long = map::<[u8; 300], [u16; 501]>(20);
    for key in 0..20 {
        long.insert(&[key; 300], [u16::from(key); 501])?;
    }
    for entry in &long {
        let (key, value) = entry?;
        assert_eq!(value, [u16::from(key[0]); 501]);
        assert_eq!(long.get(&key)?, Some(value));
    }
    let odd = map::<[u8; 3], [u8; 9]>(20);
    odd.insert(&[1, 2, 3], [7; 9])?;
    odd.update(&[1, 2, 3], |value| value[8] = 8)?;
    assert_eq!(odd.get(&[1, 2, 3])?, Some([7, 7, 7, 7, 7, 7, 7, 7, 8]));
    let nothing = map::<[u32; 0], [u32; 0]>(2);
    assert_eq!(nothing.insert(&[], [])?, None);
    assert_eq!(nothing.insert(&[], [])?, Some([]));
    Ok(())
}

#[test]
fn a_change_that_panics_changes_nothing_and_leaves_the_turn_to_others() -> Result<(), MapError> {
    let map = map::<u64, u64>(1);
    map.insert(&1, 1)?;
    let panicking = std::panic::AssertUnwindSafe(|| {
        map.update(&1, |value| {
            *value = 2;
            std::panic::resume_unwind(Box::new(()));
        })
    });
    assert!(std::panic::catch_unwind(panicking).is_err());
    assert_eq!(map.get(&1)?, Some(1));
    assert_eq!(map.insert(&1, 3)?, Some(1));
    Ok(())
}

#[test]
fn who_looks_within_a_change_sees_the_old_value() -> Result<(), MapError> {
    let map = map::<u64, u64>(1);
    map.insert(&1, 1)?;
    let seen = map.update(&1, |value| {
        *value = 2;
        map.get(&1).map(|seen| (seen, map.len().ok()))
    })?;
    assert_eq!(seen.expect("the key")?, (Some(1), Some(1)));
    Ok(())
}

#[test]
fn sums_of_many_threads_are_exact_also_in_one_bucket() -> Result<(), MapError> {
    for capacity in [1, 3, 100] {
        let map = map::<u64, [u64; 3]>(capacity);
        let keys = capacity.min(5);
        thread::scope(|scope| {
            for thread in 0..4 {
                let map = map.clone();
                scope.spawn(move || {
                    let mut random = Random(thread);
                    for _ in 0..5000 {
                        let key = random.below(keys);
                        let seen = map.get(&key).expect("a look");
                        assert!(seen.is_none_or(|seen| seen == [seen[0]; 3]), "torn: {seen:?}");
                        map.update_or_insert(&key, [0; 3], |value| value.iter_mut().for_each(|part| *part += 1))
                            .expect("room");
                    }
                });
            }
        });
        let sum: u64 = map.iter().map(|entry| entry.expect("an entry").1[0]).sum();
        assert_eq!(sum, 4 * 5000);
    }
    Ok(())
}

/// Each of them has one key at a time, so there is always room, though the last free place may move while one looks for it.
#[test]
fn as_many_threads_as_there_are_places_never_find_a_full_map() {
    let map = map::<u64, u64>(4);
    thread::scope(|scope| {
        for thread in 0..4_u64 {
            let map = map.clone();
            scope.spawn(move || {
                for round in 0..5000 {
                    let key = thread + 4 * round;
                    assert_eq!(map.insert(&key, thread).expect("room"), None);
                    assert_eq!(map.get(&key).expect("a look"), Some(thread));
                    assert_eq!(map.remove(&key).expect("a turn"), Some(thread));
                }
            });
        }
    });
    assert!(map.is_empty().expect("a sound map"));
}

#[test]
fn maps_lie_in_regions_beside_other_things_and_know_their_types() -> Result<(), MapError> {
    let region = Region::anonymous(1 << 16)?;
    let ages = SharedMap::<str, u8>::create_in(&region, "ages", 10)?;
    ages.insert("eve", 33)?;

    let opened = SharedMap::<str, u8>::open_in(&region, "ages")?;
    assert_eq!((opened.get("eve")?, opened.capacity(), opened.longest_key()), (Some(33), 10, 32));
    let wrong = SharedMap::<[u8], u8>::open_in(&region, "ages").expect_err("other keys");
    assert!(matches!(&wrong, MapError::Failed(Error::WrongType { .. })), "{wrong}");
    assert!(wrong.to_string().contains("SharedMap<str, u8>") && wrong.to_string().contains("SharedMap<[u8], u8>"));
    assert!(SharedMap::<str, u16>::open_in(&region, "ages").is_err());
    assert!(matches!(
        SharedMap::<str, u8>::open_in(&region, "names"),
        Err(MapError::Failed(Error::NoSuchObject { .. }))
    ));
    Ok(())
}

#[test]
fn a_map_that_cannot_be_is_refused() {
    let none = |options: &mut MapOptions| options.anonymous::<[u8], [u64; 8]>().map(|_| ());

    assert!(matches!(none(MapOptions::new().capacity(1 << 30)), Err(MapError::Failed(Error::NoSpace { .. }))));
    assert!(matches!(none(MapOptions::new().capacity(u64::MAX)), Err(MapError::Failed(Error::NoSpace { .. }))));
    assert!(matches!(none(MapOptions::new().longest_key(1 << 21)), Err(MapError::Failed(Error::NoSpace { .. }))));
    assert!(matches!(none(MapOptions::new().longest_key(u64::MAX)), Err(MapError::Failed(Error::NoSpace { .. }))));
}
