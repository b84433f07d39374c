//! Objects with bytes behind them: what is not theirs cannot be reached.

#![cfg(not(ipc_loom))]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::AtomicU64;

use shmkit_core::{Region, Tailed};

fn object(len: usize) -> Tailed<AtomicU64> {
    let region = Region::anonymous(4096).expect("a region");
    let object = region.insert_tailed("object", AtomicU64::new(0), len).expect("room");
    region.insert("behind", AtomicU64::new(0)).expect("room");
    object
}

fn panics(act: impl FnOnce()) -> bool {
    catch_unwind(AssertUnwindSafe(act)).is_err()
}

#[test]
fn all_bytes_can_be_copied_and_none_behind_them() {
    let object = object(40);
    object.store(0, &[7; 40]);
    let mut bytes = [0; 40];
    object.load(0, &mut bytes);
    assert_eq!(bytes, [7; 40]);
    object.store(40, &[]);

    for (at, len) in [(0, 41), (1, 40), (39, 2), (40, 1), (41, 0), (usize::MAX, 1), (usize::MAX, 0)] {
        assert!(panics(|| object.store(at, &vec![1; len])), "store {len} at {at}");
        assert!(panics(|| object.load(at, &mut vec![1; len])), "load {len} at {at}");
    }
}

#[test]
fn words_are_those_within_and_at_multiples_of_eight() {
    let object = object(44);
    assert_eq!(object.words(0, 5).len(), 5);
    assert_eq!(object.words(40, 0).len(), 0);
    object.word(32);
    for at in [1, 33, 40, 48, usize::MAX - 7] {
        assert!(panics(|| _ = object.word(at)), "{at}");
    }
    for (at, count) in [(0, 6), (8, 5), (40, 1), (48, 0), (4, 1), (0, usize::MAX)] {
        assert!(panics(|| _ = object.words(at, count)), "{count} at {at}");
    }
}

#[test]
fn a_part_ends_within_the_whole() {
    let object = object(40);
    assert_eq!(object.part(|head| head, 8, 32).len(), 32);
    for (at, len) in [(8, 33), (4, 8), (48, 0), (usize::MAX - 7, 16)] {
        assert!(panics(|| drop(object.part(|head| head, at, len))), "{len} at {at}");
    }
}
