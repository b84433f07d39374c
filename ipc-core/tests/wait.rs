//! The waiting layer between the threads of one process, in a region and outside of any.

#![cfg(not(ipc_loom))]

use core::sync::atomic::Ordering::{Acquire, Release};
use core::sync::atomic::{AtomicU32, AtomicU64};
use core::time::Duration;
use std::thread;
use std::time::Instant;

use shmkit_core::identity::Token;
use shmkit_core::raw_lock::{NotHeld, RawLock};
use shmkit_core::wait::{Glance, Site, Woken, wake_all, wake_one};
use shmkit_core::{Deadline, Region};

const LONG: Duration = Duration::from_secs(20);

/// Lets as many threads as there are numbers wait until `word` has come to 3, and sees it through.
fn count_to_three(word: &AtomicU32) {
    let waiter = || {
        let site = Site::of(word).expect("a token");
        site.wait_for(word, Deadline::after(LONG), || (word.load(Acquire) == 3).then_some("three"))
    };
    thread::scope(|scope| {
        let waiters = [scope.spawn(waiter), scope.spawn(waiter)];
        for _ in 0..3 {
            word.fetch_add(1, Release);
            wake_all(word);
        }
        waiters.into_iter().for_each(|waiter| assert_eq!(waiter.join().expect("no panic"), Some("three")));
    });
}

#[test]
fn those_who_wait_for_a_condition_get_what_it_gives() {
    let region = Region::anonymous(4096).expect("a region");
    count_to_three(&region.insert("word", AtomicU32::new(0)).expect("room"));
}

#[test]
fn on_the_stack_and_in_a_box_too() {
    count_to_three(&AtomicU32::new(0));
    count_to_three(&Box::new(AtomicU32::new(0)));
}

#[test]
fn a_condition_that_holds_is_not_waited_for_even_after_the_deadline() {
    let word = AtomicU32::new(0);
    let site = Site::of(&word).expect("a token");
    let past = Deadline::after(Duration::ZERO);

    assert_eq!(site.wait_for(&word, past, || Some(1)), Some(1));
    assert_eq!(site.wait_for(&word, past, || None::<u32>), None);
}

#[test]
fn a_wait_ends_at_its_deadline_in_a_region_and_outside() {
    let region = Region::anonymous(4096).expect("a region");
    let inside = region.insert("word", AtomicU64::new(5)).expect("room");
    let outside = Box::new(AtomicU64::new(5));

    for word in [&*inside, &*outside] {
        let start = Instant::now();
        let site = Site::of(word).expect("a token");
        let deadline = Deadline::after(Duration::from_millis(20));
        assert_eq!(site.wait_for(word, deadline, || None::<()>), None);
        assert!(start.elapsed() >= Duration::from_millis(20));
    }
}

#[test]
fn a_word_that_is_not_the_expected_one_is_not_waited_on() {
    let word = AtomicU32::new(1);
    let site = Site::of(&word).expect("a token");

    assert_eq!(site.wait(&word, 0, site.epoch(), Deadline::after(LONG)), Woken::Maybe);
}

#[test]
fn everybody_is_alive_outside_of_any_region() {
    let word = AtomicU64::new(0);
    let site = Site::of(&word).expect("a token");
    let nobody = Token::from_word(1 << 63).expect("an identity");

    assert!(site.is_own());
    assert!(site.is_alive(site.token()) && site.is_alive(nobody));

    let region = Region::anonymous(4096).expect("a region");
    let word = region.insert("word", AtomicU64::new(0)).expect("room");
    let site = Site::of(&*word).expect("a token");
    assert!(site.is_alive(site.token()) && !site.is_alive(nobody));
}

#[test]
fn numbers_below_2_to_the_28th_are_no_tokens() {
    assert_eq!(Token::from_word((1 << 28) - 1), None);
    assert!(Token::from_word(1 << 28).is_some());
}

#[test]
fn a_lock_outside_of_any_region_wakes_those_who_wait_and_is_never_taken_over() {
    let lock = Box::new(RawLock::new());
    let held = lock.lock(None).expect("a free lock");

    thread::scope(|scope| {
        let waiter = scope.spawn(|| lock.lock(Deadline::after(LONG)).map(|held| lock.unlock(held)));
        assert!(lock.try_lock().expect("a token").is_none());
        lock.unlock(held);
        waiter.join().expect("no panic").expect("the lock");
    });

    // Forgotten for good: nobody can be found dead here.
    let _ = lock.lock(None).expect("a free lock");
    assert!(matches!(lock.lock(Deadline::after(Duration::from_millis(20))), Err(NotHeld::TimedOut)));
}

#[test]
fn waking_a_word_that_nobody_waits_on_does_nothing() {
    wake_one(&AtomicU32::new(0));
    wake_all(&AtomicU64::new(0));
}

/// Whether somebody who was never there is alive where `primitive` lies: so it is outside any region.
fn is_outside(primitive: &AtomicU64) -> bool {
    let nobody = Token::from_word(1 << 40).expect("an identity");
    Glance::of(primitive).expect("a participant").is_alive(nobody)
}

#[test]
fn a_glance_knows_each_of_many_regions_also_after_some_have_gone_and_others_come() {
    let some = |count: usize| {
        let region = || Region::anonymous(4096).expect("a region");
        (0..count).map(|_| region().insert("word", AtomicU64::new(0)).expect("room")).collect::<Vec<_>>()
    };
    let outside = AtomicU64::new(0);
    let mut words = some(20);
    let before = words.iter().any(|word| is_outside(word));
    let kept = words.split_off(13);
    drop(words);
    let others = some(10);

    assert!(!before && is_outside(&outside));
    assert!(!kept.iter().chain(&others).any(|word| is_outside(word)));
}
