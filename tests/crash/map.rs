//! The sweep through the operations of a `SharedMap` and a `SharedVec`.

use shmkit::Region;
use shmkit::process::{MapError, SharedMap, SharedVec};
use shmkit::shim::crash::arm;

use crate::common::{Child, Name, Parent, Stage, until};
use crate::{Scene, has_died};

type Map = SharedMap<u64, [u64; 4]>;
type Vec = SharedVec<[u64; 4]>;

pub(crate) const SCENES: &[(&str, Scene)] = &[
    ("map_insert", map_beside_readers),
    ("map_update", map_beside_readers),
    ("map_remove_last", map_beside_readers),
    ("map_remove_first", map_beside_readers),
    ("map_mend", map_behind_a_dead),
    ("vec_push", vec_beside_readers),
    ("vec_set", vec_beside_readers),
    ("vec_pop", vec_beside_readers),
];

/// How many keys the map has room for.
const ROOM: usize = 4;

/// What is there before, and what the victim writes.
const OLD: [u64; 4] = [1; 4];
const NEW: [u64; 4] = [2; 4];

/// Three keys that share a bucket.
fn keys(map: &Map) -> [u64; 3] {
    let mut of_first = (0..).filter(|key| map.bucket(key) == 0);
    core::array::from_fn(|_| of_first.next().expect("some"))
}

/// What the victim does.
pub(crate) fn victim(scene: &str, parent: &mut Parent, stage_name: &str, die_at: usize) {
    let region = Region::open(stage_name).expect("the stage");
    parent.expect("go");
    if scene.starts_with("vec") {
        let vec = Vec::open_in(&region, "vec").expect("the vector");
        arm(die_at);
        return match scene {
            "vec_push" => drop(vec.extend_from_slice(&[NEW; 2]).expect("room")),
            "vec_set" => vec.update(1, |element| *element = NEW).expect("an element"),
            "vec_pop" => assert_eq!(vec.pop().expect("a turn"), Some(OLD)),
            unknown => panic!("no scene {unknown:?}"),
        };
    }
    let map = Map::open_in(&region, "map").expect("the map");
    let [first, second, third] = keys(&map);
    arm(die_at);
    match scene {
        "map_insert" | "map_mend" => assert_eq!(map.insert(&third, NEW).expect("room"), None),
        "map_update" => assert_eq!(map.update(&first, |value| *value = NEW).expect("a turn"), Some(())),
        // The last one of the chain was the first to come.
        "map_remove_last" => assert_eq!(map.remove(&first).expect("a turn"), Some(OLD)),
        "map_remove_first" => assert_eq!(map.remove(&second).expect("a turn"), Some(OLD)),
        unknown => panic!("no scene {unknown:?}"),
    }
}

/// A process that dies between taking a slot and filling it.
pub(crate) fn map_party(parent: &mut Parent) {
    let region = Region::open(parent.argument(0)).expect("the stage");
    let map = Map::open_in(&region, "map").expect("the map");
    arm(3);
    let inserted = map.insert(&keys(&map)[2], NEW);
    unreachable!("{inserted:?}");
}

fn map(stage: &Stage) -> (Map, [u64; 3]) {
    let map = Map::create_in(&stage.region, "map", ROOM as u64).expect("room");
    let keys = keys(&map);
    keys[..2].iter().for_each(|key| assert_eq!(map.insert(key, OLD).expect("room"), None));
    (map, keys)
}

/// The victim changes one of the keys; others look, then change all of them, and find as much room as there was.
fn map_beside_readers(_other: &Name, victim: &mut Child, stage: &Stage) {
    let (map, keys) = map(stage);
    victim.tell("go");
    until("the victim's end", || {
        for key in &keys {
            let seen = map.get(key).expect("a look");
            assert!(seen.is_none_or(|seen| seen == OLD || seen == NEW), "torn: {seen:?}");
        }
        has_died(victim)
    });
    afterwards(&map, keys);
}

/// The same, with a slot that a dead has taken.
fn map_behind_a_dead(_other: &Name, victim: &mut Child, stage: &Stage) {
    let (map, keys) = map(stage);
    let mut dead = Child::spawn("map_party", &[stage.name()]);
    dead.reap();
    assert_eq!(map.get(&keys[2]).expect("a look"), None);
    victim.tell("go");
    until("the victim's end", || has_died(victim));
    afterwards(&map, keys);
}

fn afterwards(map: &Map, keys: [u64; 3]) {
    let before = map.len().expect("a sound map");
    assert!((1..=3).contains(&before));
    // One that is full for as long as the death is not known.
    for key in (1000..).take(ROOM - before) {
        until("room", || map.insert(&key, OLD).is_ok());
    }
    assert!(matches!(map.insert(&2000, OLD), Err(MapError::Full { .. })));
    for key in (1000..).take(ROOM - before) {
        assert_eq!(map.remove(&key).expect("a turn"), Some(OLD));
    }
    for key in keys {
        let seen = map.get(&key).expect("a look");
        assert_eq!(map.update_or_insert(&key, OLD, |value| value[0]).expect("room"), seen.map_or(1, |seen| seen[0]));
    }
    assert_eq!(map.len().expect("a sound map"), 3);
    map.clear().expect("a turn");
    assert!(map.is_empty().expect("a sound map"));
}

/// The victim changes the vector; others look, then change it.
fn vec_beside_readers(_other: &Name, victim: &mut Child, stage: &Stage) {
    let vec = Vec::create_in(&stage.region, "vec", 4).expect("room");
    vec.extend_from_slice(&[OLD; 2]).expect("room");
    victim.tell("go");
    until("the victim's end", || {
        for element in &vec {
            let element = element.expect("a look");
            assert!(element == OLD || element == NEW, "torn: {element:?}");
        }
        has_died(victim)
    });
    let elements: std::vec::Vec<u64> = vec.iter().map(|element| element.expect("a look")[0]).collect();
    assert!([&[1, 1][..], &[1, 1, 2, 2], &[1, 2], &[1]].contains(&&elements[..]), "{elements:?}");
    vec.set(0, NEW).expect("a turn");
    while vec.pop().expect("a turn").is_some() {}
    assert_eq!(vec.extend_from_slice(&[OLD; 4]).expect("room"), 0);
    assert_eq!(vec.len().expect("a sound vector"), 4);
}
