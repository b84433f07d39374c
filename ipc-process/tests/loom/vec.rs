//! Vectors: no element torn, lost or seen before it is there, whoever dies wherever. Who looks is a thread that was started, as with maps.

use shmkit_core::shim::explore::{end, explore, explore_deaths, keeper, processes, spawn};
use shmkit_process::SharedVec;
use std::sync::{Arc, Mutex};

type Vec = SharedVec<[u64; 2]>;

fn number(value: [u64; 2]) -> u64 {
    assert_eq!(value[0], value[1], "torn");
    value[0]
}

fn get(vec: &Vec, index: usize) -> Option<u64> {
    vec.get(index).expect("a sound vector").map(number)
}

fn add(vec: &Vec, more: u64) {
    vec.update(0, |old| *old = [number(*old) + more; 2]).expect("an element");
}

#[test]
fn two_who_push_get_a_place_each() {
    explore(2, || {
        let (_, [first, second]) = processes();
        let vec = Vec::model(2);
        let place = Arc::new(Mutex::new(0));
        let thread = spawn(&second, {
            let (vec, place) = (vec.clone(), Arc::clone(&place));
            move || *place.lock().unwrap() = vec.push([2; 2]).expect("room")
        });
        first.act();
        let mine = vec.push([1; 2]).expect("room");
        thread.join().unwrap();
        let theirs = *place.lock().unwrap();
        assert_eq!((get(&vec, mine), get(&vec, theirs), mine + theirs), (Some(1), Some(2), 1));
    });
}

#[test]
fn of_two_updates_none_is_lost_and_who_looks_sees_none_torn() {
    explore(2, || {
        let (_, [first, second, reader]) = processes();
        let vec = Vec::model(1);
        first.act();
        vec.push([0; 2]).expect("room");
        let writer = spawn(&second, {
            let vec = vec.clone();
            move || add(&vec, 1)
        });
        let reader = spawn(&reader, {
            let vec = vec.clone();
            move || assert!(matches!(get(&vec, 0), Some(0..=2)))
        });
        add(&vec, 1);
        writer.join().unwrap();
        reader.join().unwrap();
        assert_eq!(get(&vec, 0), Some(2));
    });
}

/// The second change fills the copy that the reader began with.
#[test]
fn who_looks_beside_changes_sees_whole_elements_in_order() {
    explore(2, || {
        let (_, [reader, writer]) = processes();
        let vec = Vec::model(1);
        writer.act();
        vec.push([0; 2]).expect("room");
        let thread = spawn(&reader, {
            let vec = vec.clone();
            move || {
                let seen = [get(&vec, 0), get(&vec, 0)];
                assert!(seen[0].is_some() && seen.is_sorted(), "{seen:?}");
            }
        });
        (1..=2).for_each(|number| vec.set(0, [number; 2]).expect("an element"));
        thread.join().unwrap();
    });
}

/// Another element comes to the place of one that has gone, while somebody looks at it.
#[test]
fn who_looks_beside_a_pop_and_a_push_sees_one_of_both_or_none() {
    explore(2, || {
        let (_, [reader, writer]) = processes();
        let vec = Vec::model(1);
        writer.act();
        vec.push([1; 2]).expect("room");
        let thread = spawn(&reader, {
            let vec = vec.clone();
            move || assert!(matches!(get(&vec, 0), None | Some(1 | 2)))
        });
        assert_eq!(vec.pop().expect("a turn").map(number), Some(1));
        vec.push([2; 2]).expect("room");
        thread.join().unwrap();
        assert_eq!(get(&vec, 0), Some(2));
    });
}

/// What is changed is still there, or the change is what is popped.
#[test]
fn a_change_beside_a_pop_is_refused_or_popped() {
    explore(2, || {
        let (_, [changer, popper]) = processes();
        let vec = Vec::model(1);
        changer.act();
        vec.push([1; 2]).expect("room");
        let popped = Arc::new(Mutex::new(None));
        let thread = spawn(&popper, {
            let (vec, popped) = (vec.clone(), Arc::clone(&popped));
            move || *popped.lock().unwrap() = vec.pop().expect("a turn").map(number)
        });
        let is_changed = vec.set(0, [2; 2]).is_ok();
        thread.join().unwrap();
        let popped = *popped.lock().unwrap();
        assert_eq!(popped, Some(if is_changed { 2 } else { 1 }));
        assert!(vec.is_empty().unwrap());
    });
}

/// What one who dies has pushed by halves is not seen by one who looks while another one pushes.
#[test]
fn one_who_dies_while_pushing_has_pushed_all_or_nothing() {
    let points = ["lock.after_cas", "vec.push.after_value", "vec.push.after_len", "lock.unlock.before_store"];
    explore_deaths(1, &points, |at| {
        let (region, [survivor, victim]) = processes();
        let keeper = keeper(&survivor);
        let vec = Vec::model(3);
        survivor.act();
        let thread = spawn(&survivor, {
            let vec = vec.clone();
            move || {
                let seen = [1, 0].map(|index| get(&vec, index));
                assert!(matches!(seen, [None, None | Some(1)] | [Some(2), Some(1)]), "{seen:?}");
                vec.push([3; 2]).expect("room");
            }
        });
        let died = victim.live_until(at, || assert!(vec.extend_from_slice(&[[1; 2], [2; 2]]).is_ok()));
        survivor.act();
        thread.join().unwrap();
        let elements: std::vec::Vec<u64> = vec.iter().map(|element| number(element.unwrap())).collect();
        let behind = ["vec.push.after_len", "lock.unlock.before_store", "lock.unlock.after_store"];
        let has_pushed = died.is_none_or(|at| behind.contains(&at) || at.starts_with("lock.wake."));
        assert!(
            if has_pushed { elements == [1, 2, 3] || elements == [3, 1, 2] } else { elements == [3] },
            "{elements:?}"
        );
        end(&region, [keeper]);
        died
    });
}

#[test]
fn one_who_dies_while_changing_or_popping_has_done_it_or_not() {
    let points = [
        "vec.set.before_value",
        "vec.set.after_value",
        "vec.set.after_version",
        "vec.pop.after_disturb",
        "vec.pop.after_len",
    ];
    explore_deaths(1, &points, |at| {
        let (region, [survivor, victim]) = processes();
        let keeper = keeper(&survivor);
        let vec = Vec::model(2);
        survivor.act();
        vec.extend_from_slice(&[[1; 2], [2; 2]]).expect("room");
        let thread = spawn(&survivor, {
            let vec = vec.clone();
            move || {
                assert!(matches!(get(&vec, 0), Some(1 | 11)));
                add(&vec, 100);
            }
        });
        let died = victim.live_until(at, || {
            add(&vec, 10);
            assert_eq!(vec.pop().expect("a turn").map(number), Some(2));
        });
        survivor.act();
        thread.join().unwrap();
        // The same name may be that of a lock on the way in or out of either.
        let (sum, len) = (get(&vec, 0).expect("it stays"), vec.len().unwrap());
        let expected = match died {
            Some("vec.set.before_value" | "vec.set.after_value") => [(101, 2)].as_slice(),
            Some("vec.set.after_version") => &[(111, 2)],
            Some("vec.pop.after_len" | "vec.pop.after_disturb") | None => &[(111, 1)],
            Some(_) => &[(101, 2), (111, 2), (111, 1)],
        };
        assert!(expected.contains(&(sum, len)), "{sum}, {len}, {died:?}");
        assert_eq!(vec.pop().expect("a turn").map(number), Some(if len == 2 { 2 } else { 111 }));
        end(&region, [keeper]);
        died
    });
}

/// The one who dies has popped, and another element comes to the place while somebody looks at it.
#[test]
fn behind_one_who_died_popping_nobody_sees_a_torn_element() {
    explore_deaths(1, &["vec.pop.after_len", "vec.pop.after_disturb"], |at| {
        let (region, [survivor, victim, reader]) = processes();
        let vec = Vec::model(1);
        survivor.act();
        vec.push([1; 2]).expect("room");
        let thread = spawn(&reader, {
            let vec = vec.clone();
            move || assert!(matches!(get(&vec, 0), None | Some(1 | 2)))
        });
        let died = victim.live_until(at, || assert_eq!(vec.pop().expect("a turn").map(number), Some(1)));
        survivor.act();
        survivor.sweep();
        if vec.is_empty().expect("a sound vector") {
            vec.push([2; 2]).expect("room");
        }
        thread.join().unwrap();
        end(&region, []);
        died
    });
}

/// One who changes an element may look at it, and at others. Those who pop others must not make it wait for its own change.
#[test]
fn who_looks_within_a_change_does_not_wait_for_itself() {
    explore(2, || {
        let (_, [changer, popper]) = processes();
        let vec = Vec::model(3);
        popper.act();
        vec.extend_from_slice(&[[1; 2], [2; 2], [3; 2]]).expect("room");
        let thread = spawn(&changer, {
            let vec = vec.clone();
            move || assert_eq!(vec.update(0, |_| get(&vec, 0)).expect("an element"), Some(1))
        });
        (2..=3).rev().for_each(|last| assert_eq!(vec.pop().expect("a turn").map(number), Some(last)));
        thread.join().unwrap();
    });
}
