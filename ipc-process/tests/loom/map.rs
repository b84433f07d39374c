//! Maps: one entry per key, no value torn or lost, no slot lost, whoever dies wherever.
//!
//! Who looks is always a thread that was started, and who changes is the one that has started it, or was started before it. loom asks what may come before a store by the last
//! access to the word, which is the writer's own where that has looked first; what may come before a load, it finds.

use shmkit_core::shim::explore::{end, explore, explore_deaths, keeper, processes, spawn, spawn_mortal};
use shmkit_core::shim::model::{Attachment, Process};
use shmkit_process::{MapError, SharedMap};
use std::sync::{Arc, Mutex};

type Map = SharedMap<u64, [u64; 2]>;

/// A map with room for `N` keys, and as many keys, all of bucket 0, and one of bucket 1 if there is one.
fn map<const N: usize>() -> (Map, [u64; N], u64) {
    let map = Map::model(N as u64);
    let mut of_first = (0..).filter(|key| map.bucket(key) == 0);
    let keys = std::array::from_fn(|_| of_first.next().expect("some"));
    let other = (0..).find(|key| map.bucket(key) == 1 % N as u32).expect("some");
    (map, keys, other)
}

/// A value that shows whether it is torn.
fn value(number: u64) -> [u64; 2] {
    [number; 2]
}

fn number(value: [u64; 2]) -> u64 {
    assert_eq!(value[0], value[1], "torn");
    value[0]
}

fn get(map: &Map, key: u64) -> Option<u64> {
    map.get(&key).expect("a sound map").map(number)
}

fn insert(map: &Map, key: u64, to: u64) -> Option<u64> {
    map.insert(&key, value(to)).expect("room").map(number)
}

/// Inserts a key that is not there.
fn put(map: &Map, key: u64, to: u64) {
    assert_eq!(insert(map, key, to), None);
}

/// Removes a key that is there.
fn take(map: &Map, key: u64) {
    assert!(map.remove(&key).expect("a turn").is_some());
}

/// Whether one who died, at `died` or not at all, had done what it was to do; `steps` are those behind the one that matters.
fn has_done_it(died: Option<&'static str>, steps: &[&'static str]) -> bool {
    died.is_none_or(|at| steps.contains(&at) || at.starts_with("lock.unlock.") || at.starts_with("lock.wake."))
}

fn add(map: &Map, key: u64, more: u64) {
    map.update_or_insert(&key, value(0), |old| *old = value(number(*old) + more)).expect("room");
}

#[test]
fn of_two_who_insert_the_same_key_the_second_replaces_the_value_of_the_first() {
    explore(2, || {
        let (_, [first, second]) = processes();
        let (map, [key, _], _) = map::<2>();
        let old = Arc::new(Mutex::new(None));
        let thread = spawn(&second, {
            let (map, old) = (map.clone(), Arc::clone(&old));
            move || *old.lock().unwrap() = insert(&map, key, 2)
        });
        first.act();
        let mine = insert(&map, key, 1);
        thread.join().unwrap();
        let theirs = *old.lock().unwrap();
        let last = get(&map, key).expect("the key");
        assert!((mine, theirs, last) == (None, Some(1), 2) || (mine, theirs, last) == (Some(2), None, 1));
        assert_eq!(map.len().unwrap(), 1);
    });
}

#[test]
fn of_two_updates_none_is_lost_and_who_looks_sees_none_torn() {
    explore(2, || {
        let (_, [first, second, reader]) = processes();
        let (map, [key], _) = map::<1>();
        let writer = spawn(&second, {
            let map = map.clone();
            move || add(&map, key, 1)
        });
        let reader = spawn(&reader, {
            let map = map.clone();
            move || assert!(matches!(get(&map, key), None | Some(1 | 2)))
        });
        first.act();
        add(&map, key, 1);
        writer.join().unwrap();
        reader.join().unwrap();
        assert_eq!(get(&map, key), Some(2));
    });
}

/// The second write fills the copy that the reader began with.
#[test]
fn who_looks_beside_writes_sees_whole_values_in_order() {
    explore(2, || {
        let (_, [reader, writer]) = processes();
        let (map, [key], _) = map::<1>();
        writer.act();
        put(&map, key, 0);
        let thread = spawn(&reader, {
            let map = map.clone();
            move || {
                let seen = [get(&map, key), get(&map, key)];
                assert!(seen[0].is_some() && seen.is_sorted(), "{seen:?}");
            }
        });
        (1..=2).for_each(|number| assert_eq!(insert(&map, key, number), Some(number - 1)));
        thread.join().unwrap();
        assert_eq!(get(&map, key), Some(2));
    });
}

/// The slot of what is removed goes to a key of another bucket, while somebody looks at it.
#[test]
fn what_is_written_where_a_removed_key_was_is_not_taken_for_its_value() {
    explore(2, || {
        let (_, [reader, writer]) = processes();
        let (map, [stays, goes], comes) = map::<2>();
        writer.act();
        put(&map, stays, 1);
        put(&map, goes, 2);
        let thread = spawn(&reader, {
            let map = map.clone();
            move || {
                let seen = get(&map, goes);
                assert!(seen.is_none() || seen == Some(2), "{seen:?}");
            }
        });
        take(&map, goes);
        put(&map, comes, 3);
        thread.join().unwrap();
        assert_eq!([stays, goes, comes].map(|key| get(&map, key)), [Some(1), None, Some(3)]);
    });
}

/// The same with one that is on the way to others, whose slot goes to a key of another bucket.
#[test]
fn who_goes_along_a_chain_from_which_one_is_taken_arrives() {
    explore(2, || {
        let (_, [reader, writer]) = processes();
        let (map, [last, middle, first], comes) = map::<3>();
        writer.act();
        put(&map, last, 1);
        put(&map, middle, 2);
        put(&map, first, 3);
        let thread = spawn(&reader, {
            let map = map.clone();
            move || assert_eq!(get(&map, last), Some(1))
        });
        take(&map, middle);
        put(&map, comes, 7);
        thread.join().unwrap();
        assert_eq!([last, middle, first, comes].map(|key| get(&map, key)), [Some(1), None, Some(3), Some(7)]);
    });
}

#[test]
fn of_two_buckets_that_want_the_last_slot_one_gets_it() {
    explore(2, || {
        let (_, [first, second]) = processes();
        let (map, [there, one], other) = map::<2>();
        first.act();
        put(&map, there, 1);
        let thread = spawn(&second, {
            let map = map.clone();
            move || drop(map.insert(&other, value(3)))
        });
        let is_mine = map.insert(&one, value(2)).is_ok();
        thread.join().unwrap();
        let seen = [there, one, other].map(|key| get(&map, key));
        assert_eq!(seen, if is_mine { [Some(1), Some(2), None] } else { [Some(1), None, Some(3)] });
    });
}

/// There are two places for two keys at all times, though they move.
#[test]
fn who_has_made_room_finds_some_whatever_others_do_meanwhile() {
    explore(2, || {
        let (_, processes) = processes::<2>();
        let (map, _, _) = map::<2>();
        processes[0].act();
        insert(&map, 10, 0);
        insert(&map, 11, 0);
        let threads = [0, 1].map(|i: usize| {
            let (map, mine) = (map.clone(), i as u64);
            spawn(&processes[i], move || {
                assert_eq!(map.remove(&(10 + mine)).unwrap().map(number), Some(0));
                assert_eq!(insert(&map, 20 + mine, 1), None);
            })
        });
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!([20, 21].map(|key| get(&map, key)), [Some(1); 2]);
    });
}

/// Two processes; the one that has filled the map lives, and the other one dies.
fn beside_a_death(
    at: i64,
    fill: impl FnOnce(&Map, [u64; 3], u64),
    life: fn(&Map, [u64; 3], u64),
    survive: fn(&Map, [u64; 3], u64),
    check: impl FnOnce(&Map, [u64; 3], u64, Option<&'static str>),
) -> Option<&'static str> {
    let (region, [survivor, victim]): (Arc<Attachment>, [Process; 2]) = processes();
    let keeper = keeper(&survivor);
    let (map, keys, other) = map::<3>();
    survivor.act();
    fill(&map, keys, other);
    let thread = spawn(&survivor, {
        let map = map.clone();
        move || survive(&map, keys, other)
    });
    let died = victim.live_until(at, || life(&map, keys, other));
    survivor.act();
    thread.join().unwrap();
    // The keeper would hear of it, too; for one who is told that there is no room it may be too late then.
    survivor.sweep();
    check(&map, keys, other, died);
    end(&region, [keeper]);
    died
}

/// Whether the map has room for as many keys as it should have.
fn assert_holds(map: &Map, expected: usize) {
    let found = map.len().unwrap();
    assert_eq!(found, expected);
    for key in 100..100 + (map.capacity() - found) as u64 {
        insert(map, key, key);
    }
    assert!(matches!(map.insert(&200, value(0)), Err(MapError::Full { .. })));
}

#[test]
fn one_who_dies_while_inserting_leaves_a_whole_entry_or_none_and_no_slot_lost() {
    let points = [
        "lock.after_cas",
        "map.insert.after_pending",
        "map.insert.after_take",
        "map.insert.after_fill",
        "map.insert.after_entry",
        "map.insert.after_links",
        "lock.unlock.before_store",
    ];
    explore_deaths(1, &points, |at| {
        beside_a_death(
            at,
            |map, [key, ..], _| put(map, key, 1),
            |map, [_, key, _], _| put(map, key, 2),
            |map, [first, second, _], _| {
                assert_eq!(get(map, first), Some(1));
                assert!(matches!(get(map, second), None | Some(2)));
            },
            |map, [first, second, _], _, died| {
                let is_in = has_done_it(died, &["map.insert.after_links"]);
                assert_eq!([first, second].map(|key| get(map, key)), [Some(1), is_in.then_some(2)]);
                assert_holds(map, 1 + usize::from(is_in));
            },
        )
    });
}

/// The survivor inserts the same key at the same time.
#[test]
fn beside_one_who_dies_while_inserting_the_same_key_becomes_one_entry() {
    explore_deaths(1, &["map.insert.after_take", "map.insert.after_links"], |at| {
        beside_a_death(
            at,
            |_, _, _| (),
            |map, [key, ..], _| add(map, key, 1),
            |map, [key, ..], _| add(map, key, 10),
            |map, [key, ..], _, died| {
                let has_added = has_done_it(died, &["map.insert.after_links", "map.set.after_entry"]);
                assert_eq!(get(map, key), Some(if has_added { 11 } else { 10 }));
                assert_holds(map, 1);
            },
        )
    });
}

#[test]
fn one_who_dies_while_updating_leaves_the_old_value_or_the_new_one() {
    let points = [
        "lock.after_cas",
        "map.set.before_value",
        "map.set.after_value",
        "map.set.after_entry",
        "lock.unlock.before_store",
    ];
    explore_deaths(1, &points, |at| {
        beside_a_death(
            at,
            |map, [key, ..], _| put(map, key, 1),
            |map, [key, ..], _| add(map, key, 1),
            |map, [key, ..], _| {
                assert!(matches!(get(map, key), Some(1 | 2)));
                add(map, key, 10);
            },
            |map, [key, ..], _, died| {
                let has_added = has_done_it(died, &["map.set.after_entry"]);
                assert_eq!(get(map, key), Some(if has_added { 12 } else { 11 }));
                assert_holds(map, 1);
            },
        )
    });
}

#[test]
fn one_who_dies_while_removing_has_removed_it_or_not_and_loses_no_slot() {
    let points = [
        "map.remove.after_pending",
        "map.remove.after_unlink",
        "map.remove.after_disturb",
        "map.remove.after_free",
        "map.remove.after_links",
        "lock.unlock.before_store",
    ];
    explore_deaths(1, &points, move |at| {
        beside_a_death(
            at,
            |map, keys, _| keys.iter().for_each(|key| put(map, *key, 1)),
            |map, [_, middle, _], _| take(map, middle),
            |map, [last, ..], _| assert_eq!(get(map, last), Some(1)),
            |map, [last, middle, first], other, died| {
                let is_in = !has_done_it(died, &points[1..]);
                assert_eq!([last, middle, first].map(|key| get(map, key)), [Some(1), is_in.then_some(1), Some(1)]);
                // Its slot may be another's by the time that the bucket is mended.
                let others = (!is_in).then_some(5);
                others.into_iter().for_each(|number| put(map, other, number));
                add(map, last, 10);
                assert_eq!([last, other].map(|key| get(map, key)), [Some(11), others]);
                others.into_iter().for_each(|_| take(map, other));
                assert_holds(map, 2 + usize::from(is_in));
            },
        )
    });
}

/// All places but one are taken, and that one is the dead's. It is found by one who belongs to another bucket.
#[test]
fn the_slot_of_one_who_died_is_found_by_those_of_other_buckets() {
    explore_deaths(1, &["map.insert.after_take", "map.insert.after_entry"], |at| {
        beside_a_death(
            at,
            |map, [first, second, _], _| [first, second].iter().for_each(|key| put(map, *key, 1)),
            |map, [.., third], _| put(map, third, 2),
            |_, _, _| (),
            |map, [.., third], other, died| {
                let is_in = has_done_it(died, &["map.insert.after_links"]);
                match map.insert(&other, value(3)) {
                    Ok(old) => assert!(old.is_none() && !is_in),
                    Err(error) => assert!(is_in && matches!(error, MapError::Full { .. }), "{error}"),
                }
                assert_eq!(get(map, third), is_in.then_some(2));
                assert_eq!(map.len().unwrap(), 3);
            },
        )
    });
}

/// The victim mends what one who died before it has left.
#[test]
fn one_who_dies_while_mending_leaves_it_to_the_next() {
    let points = ["map.mend.before_free", "map.mend.after_free", "map.mend.after_links"];
    explore_deaths(1, &points, |at| {
        let (region, [survivor, first, victim]): (Arc<Attachment>, [Process; 3]) = processes();
        let (map, [key, second, _], _) = map::<3>();
        survivor.act();
        insert(&map, key, 1);
        let (thread, _) = spawn_mortal(&first, 4, {
            let map = map.clone();
            move || put(&map, second, 2)
        });
        thread.join().unwrap();
        survivor.sweep();
        let (thread, place) = spawn_mortal(&victim, at, {
            let map = map.clone();
            move || add(&map, key, 1)
        });
        // Started last, since loom tries for those who look where they could have come before, and not the other way round.
        let reader = spawn(&survivor, {
            let map = map.clone();
            move || assert!(matches!(get(&map, key), Some(1 | 2)))
        });
        thread.join().unwrap();
        survivor.sweep();
        reader.join().unwrap();
        assert_eq!(get(&map, second), None);
        assert_holds(&map, 1);
        end(&region, []);
        *place.lock().unwrap()
    });
}
