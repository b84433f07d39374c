//! The `SharedVec` between real processes: no element is torn or lost, whoever is killed wherever.

#![cfg(feature = "process")]

mod common;

use std::time::Duration;

use shmkit::process::{SharedVec, VecOptions, spawn};

use common::{Net, Parent, Party, Random, Stage, answer, now_ns, roles, until, with_and_without_the_net};

roles!(party);
shmkit::process::enable_test_support!();

/// An element that shows whether it is torn.
type Element = [u64; 5];
type Vector = SharedVec<Element>;

/// Does with the vector of the stage what it is told, and answers.
fn party(parent: &mut Parent) {
    let stage = Stage::open(parent.argument(0));
    answer(parent, now_ns(), "here");
    let vec = Vector::open_in(&stage.region, "vec").expect("the vector");
    loop {
        let order = parent.hear();
        let mut words = order.split(' ');
        let verb = words.next().unwrap_or_default();
        let mut number = || words.next().map_or(0, |word| word.parse::<u64>().expect("a number"));
        let start = now_ns();
        let text = match verb {
            // Pushes so many elements with its own number, three at a time.
            "push" => {
                let (own, count) = (number(), number());
                (0..count / 3).for_each(|i| assert!(vec.extend_from_slice(&[[own << 32 | i; 5]; 3]).is_ok()));
                "ok".to_owned()
            }
            // Pushes and pops until it is killed.
            "churn" => loop {
                vec.push([1; 5]).expect("room");
                vec.pop().expect("a turn").map(whole);
            },
            // Adds to the first element until it is killed, or so often.
            "add" => {
                let count = number();
                (0..count).for_each(|_| vec.update(0, |value| *value = [whole(*value) + 1; 5]).expect("an element"));
                "ok".to_owned()
            }
            // Changes the last element, and says so in the middle of it; ends when the parent says something.
            "stay" => {
                let done = vec.update(number() as usize, |value| {
                    answer(parent, start, "within");
                    parent.hear();
                    *value = [0; 5];
                });
                format!("{done:?}")
            }
            "pop" => format!("{:?}", vec.pop()),
            other => panic!("no order {other:?}"),
        };
        answer(parent, start, &text);
    }
}

fn whole(value: Element) -> u64 {
    assert_eq!(value, [value[0]; 5], "torn");
    value[0]
}

/// A stage with a vector.
fn stage(capacity: u64) -> (Stage, Vector) {
    let stage = Stage::create();
    let vec = Vector::create_in(&stage.region, "vec", capacity).expect("room");
    (stage, vec)
}

#[test]
fn what_many_processes_push_is_there_once_and_together() {
    let (stage, vec) = stage(396);
    let mut parties: [Party; 4] = Party::join_many(Net::Off, &stage);
    for (own, party) in parties.iter_mut().enumerate() {
        party.tell(format!("push {own} 99"));
    }
    parties.iter_mut().for_each(|party| assert_eq!(party.reply().text, "ok"));

    let elements: Vec<u64> = vec.iter().map(|element| whole(element.expect("an element"))).collect();
    assert_eq!(elements.len(), 396);
    let mut next = [0; 4];
    for three in elements.chunks(3) {
        let own = (three[0] >> 32) as usize;
        assert_eq!(three, [(own as u64) << 32 | next[own]; 3]);
        next[own] += 1;
    }
    assert_eq!(next, [33; 4]);
}

#[test]
fn those_who_are_killed_have_pushed_all_three_or_none() {
    let (stage, vec) = stage(396);
    let mut random = Random::new();
    for own in 0..12 {
        let mut victim = Party::join(&stage);
        let before = vec.len().expect("a sound vector");
        victim.tell(format!("push {own} 30"));
        until("its first", || vec.len().expect("a sound vector") > before);
        random.pause(Duration::from_micros(5));
        victim.kill();
        victim.reap();
        assert_eq!(vec.len().expect("a sound vector") % 3, 0);
    }
    let elements: Vec<u64> = vec.iter().map(|element| whole(element.expect("an element"))).collect();
    assert!(elements.chunks(3).all(|three| three == [three[0]; 3]), "{elements:?}");
    assert_eq!(vec.push([9; 5]).expect("room"), elements.len());
}

#[test]
fn sums_stay_exact_but_for_the_change_that_the_dead_was_at() {
    let (stage, vec) = stage(20);
    vec.push([0; 5]).expect("room");
    let mut random = Random::new();
    let [mut survivor, mut churning] = Party::join_many(Net::Off, &stage);
    survivor.tell("add 30000");
    for _ in 0..15 {
        churning.tell("churn");
        random.pause(Duration::from_micros(200));
        let seen = vec.get(0).expect("a look").map(whole);
        assert!(seen.is_some());
        churning.kill();
        churning.reap();
        churning = Party::join(&stage);
    }
    assert_eq!(survivor.reply().text, "ok");
    assert_eq!(vec.get(0).expect("a look").map(whole), Some(30_000));
    let len = vec.len().expect("a sound vector");
    // One for each who was killed between its push and its pop.
    assert!(len <= 16, "{len}");
}

#[test]
fn one_who_is_killed_in_a_change_leaves_the_old_element_and_its_turn() {
    with_and_without_the_net(|net| {
        let (stage, vec) = stage(4);
        vec.push([7; 5]).expect("room");
        let [mut victim, mut next] = Party::join_many(net, &stage);
        assert_eq!(victim.ask("stay 0"), "within");
        next.fall_asleep("pop");
        assert_eq!(vec.get(0).expect("a look"), Some([7; 5]));

        let start = victim.kill();

        assert_eq!(next.soon(start), "Ok(Some([7, 7, 7, 7, 7]))");
        assert!(vec.is_empty().expect("a sound vector"));
        victim.reap();
        assert_eq!(stage.region.rescues(), 0);
    });
}

#[test]
fn a_vector_is_an_argument_and_a_value() {
    let push = |vec: Vector| vec.push([2; 5]).map(|_| vec).expect("room");
    let vec: Vector = VecOptions::new().capacity(2).anonymous().expect("a vector");
    vec.push([1; 5]).expect("room");

    let back = spawn(push, vec.clone()).expect("a process").join().expect("a vector");

    assert_eq!(vec.iter().map(|element| whole(element.expect("an element"))).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(back.get(1).expect("a look"), Some([2; 5]));
}
