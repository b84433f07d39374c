//! The `SharedMap` between real processes: sums are exact, whoever is killed wherever.

#![cfg(feature = "process")]

mod common;

use std::time::{Duration, Instant};

use shmkit::process::{MapError, SharedMap};

use common::{
    Net, Parent, Party, Random, Stage, answer, now_ns, prompt, roles, until, until_stopped, with_and_without_the_net,
};

roles!(party);

/// A value that shows whether it is torn.
type Value = [u64; 5];
type Map = SharedMap<u64, Value>;

/// Does with the map of the stage what it is told, and answers.
fn party(parent: &mut Parent) {
    let stage = Stage::open(parent.argument(0));
    answer(parent, now_ns(), "here");
    let map = Map::open_in(&stage.region, "map").expect("the map");
    loop {
        let order = parent.hear();
        let mut words = order.split(' ');
        let verb = words.next().unwrap_or_default();
        let mut number = || words.next().map_or(0, |word| word.parse::<u64>().expect("a number"));
        let start = now_ns();
        let text = match verb {
            // So many times, adds to one of so many keys.
            "add" => {
                let (keys, count) = (number(), number());
                (0..count).for_each(|i| add(&map, i % keys));
                "ok".to_owned()
            }
            // Lets keys of its own come and go until it is killed: between 0 and so many at a time.
            "churn" => {
                let (own, count) = (number(), number());
                churn(&map, own, count)
            }
            // Changes a key, and says so in the middle of it; ends when the parent says something.
            "stay" => {
                let done = map.update(&number(), |value| {
                    answer(parent, start, "within");
                    parent.hear();
                    *value = [value[0] + 1; 5];
                });
                format!("{done:?}")
            }
            "update" => format!("{:?}", map.update(&number(), |value| *value = [value[0] + 10; 5])),
            other => panic!("no order {other:?}"),
        };
        answer(parent, start, &text);
    }
}

fn add(map: &Map, key: u64) {
    map.update_or_insert(&key, [0; 5], |value| *value = [whole(*value) + 1; 5]).expect("room");
}

fn churn(map: &Map, own: u64, count: u64) -> ! {
    loop {
        for key in own..own + count {
            // What its predecessor has left may be there.
            let old = map.insert(&key, [key; 5]).expect("room").map(whole);
            assert!(old.is_none_or(|old| old == key));
        }
        for key in own..own + count {
            assert_eq!(map.remove(&key).expect("a turn").map(whole), Some(key));
        }
    }
}

fn whole(value: Value) -> u64 {
    assert_eq!(value, [value[0]; 5], "torn");
    value[0]
}

/// A stage with a map.
fn stage(capacity: u64) -> (Stage, Map) {
    let stage = Stage::create();
    let map = Map::create_in(&stage.region, "map", capacity).expect("room");
    (stage, map)
}

#[test]
fn sums_of_many_processes_are_exact() {
    for (capacity, keys) in [(1, 1), (8, 8), (100, 8)] {
        let (stage, map) = stage(capacity);
        let mut parties: [Party; 4] = Party::join_many(Net::Off, &stage);
        parties.iter_mut().for_each(|party| party.tell(format!("add {keys} 4000")));
        while parties.iter().any(|party| !party.has_said()) {
            for entry in &map {
                whole(entry.expect("an entry").1);
            }
        }
        parties.iter_mut().for_each(|party| assert_eq!(party.reply().text, "ok"));
        let sums: Vec<u64> = (0..keys).map(|key| whole(map.get(&key).expect("a look").expect("the key"))).collect();
        assert_eq!(sums, vec![4 * 4000 / keys; keys as usize]);
        assert_eq!(stage.region.rescues(), 0);
    }
}

/// Each change adds 1, so the sum lies between what has been done for sure and one more for each who was killed.
#[test]
fn of_those_who_are_killed_anywhere_each_loses_at_most_the_change_it_was_at() {
    const KILLS: u64 = 20;
    let (stage, map) = stage(4);
    let mut random = Random::new();
    let mut survivor = Party::join(&stage);
    survivor.tell("add 4 40000");
    for _ in 0..KILLS {
        let mut victim = Party::join(&stage);
        victim.tell("add 4 1000000");
        let before = whole(map.get(&3).expect("a look").unwrap_or_default());
        until("some of its changes", || whole(map.get(&3).expect("a look").unwrap_or_default()) > before + 5);
        random.pause(Duration::from_micros(200));
        victim.kill();
        victim.reap();
    }
    assert_eq!(survivor.reply().text, "ok");
    let sums: Vec<u64> = (0..4).map(|key| whole(map.get(&key).expect("a look").expect("the key"))).collect();
    assert!(sums.iter().all(|sum| *sum >= 10_000), "{sums:?}");
    // Everybody goes round the keys, so no two differ by more than one for each who has come.
    let (least, most) = (sums.iter().min().expect("some"), sums.iter().max().expect("some"));
    assert!(most - least <= KILLS + 1, "{sums:?}");
    assert_eq!(map.len().expect("a sound map"), 4);
}

/// Two processes with three keys each, one of which is killed again and again, and a map that has room for no more than these.
#[test]
fn keys_of_those_who_are_killed_are_there_or_not_and_their_room_is_not_lost() {
    let (stage, map) = stage(6);
    let mut random = Random::new();
    let mut survivor = Party::join(&stage);
    survivor.tell("churn 100 3");
    for _ in 0..20 {
        let mut victim = Party::join(&stage);
        victim.tell("churn 200 3");
        until("its keys", || map.contains_key(&202).expect("a look"));
        random.pause(Duration::from_micros(200));
        victim.kill();
        victim.reap();
        until("its leaving the table", || stage.region.peer(victim.pid()).is_none());
    }
    assert!(!survivor.has_said());
    survivor.kill();
    survivor.reap();
    until("its leaving the table", || stage.region.peer(survivor.pid()).is_none());
    for entry in &map {
        let (key, value) = entry.expect("an entry");
        assert_eq!(whole(value), key);
    }
    map.clear().expect("a turn");
    (0..6).for_each(|key| assert_eq!(map.insert(&key, [key; 5]).expect("room"), None));
    assert!(matches!(map.insert(&6, [6; 5]), Err(MapError::Full { .. })));
}

#[test]
fn one_who_is_killed_in_a_change_leaves_the_old_value_and_its_turn() {
    with_and_without_the_net(|net| {
        let (stage, map) = stage(4);
        map.insert(&7, [7; 5]).expect("room");
        let [mut victim, mut next] = Party::join_many(net, &stage);
        assert_eq!(victim.ask("stay 7"), "within");
        next.fall_asleep("update 7");
        assert_eq!(map.get(&7).expect("a look"), Some([7; 5]));

        let start = victim.kill();

        assert_eq!(next.soon(start), "Ok(Some(()))");
        assert_eq!(map.get(&7).expect("a look"), Some([17; 5]));
        victim.reap();
        assert_eq!(stage.region.rescues(), 0);
    });
}

#[test]
fn one_who_is_stopped_in_a_change_holds_up_nobody_who_looks() {
    let (stage, map) = stage(1);
    map.insert(&7, [7; 5]).expect("room");
    let mut stopped = Party::join(&stage);
    assert_eq!(stopped.ask("stay 7"), "within");
    stopped.signal(libc::SIGSTOP);
    until_stopped(stopped.pid());

    let start = Instant::now();
    assert_eq!(map.get(&7).expect("a look"), Some([7; 5]));
    assert_eq!((map.len().expect("a look"), map.iter().count()), (1, 1));
    assert!(start.elapsed() < prompt());

    stopped.signal(libc::SIGCONT);
    assert_eq!(stopped.ask("go on"), "Ok(Some(()))");
    assert_eq!(map.get(&7).expect("a look"), Some([8; 5]));
}
