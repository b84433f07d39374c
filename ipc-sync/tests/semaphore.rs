//! The `Semaphore` between the threads of one process.

#![cfg(not(ipc_loom))]

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::thread;
use std::time::{Duration, Instant};

use shmkit_core::Region;
use shmkit_sync::{Semaphore, SemaphoreError, UntrustedSemaphore, WaitError};

const MOMENT: Duration = Duration::from_millis(20);

fn semaphore(value: u32) -> Semaphore {
    Semaphore::new(value).expect("a value within the bound")
}

#[test]
fn the_value_goes_down_to_0_and_there_a_try_fails_and_leaves_0() {
    let semaphore = semaphore(2);

    assert_eq!(semaphore.available(), 2);
    semaphore.acquire().expect("a permit");
    assert_eq!(semaphore.available(), 1);
    assert!(semaphore.try_acquire());
    assert_eq!(semaphore.available(), 0);
    assert!(!semaphore.try_acquire());
    assert_eq!(semaphore.available(), 0);
}

#[test]
fn a_static_semaphore_can_be_made_by_a_constant() {
    static SEMAPHORE: Semaphore = match Semaphore::bounded(1, 2) {
        Ok(semaphore) => semaphore,
        Err(_) => panic!("1 is not above 2"),
    };

    assert!(SEMAPHORE.try_acquire());
}

#[test]
fn a_value_above_the_bound_and_an_impossible_bound_are_refused() {
    let above = |permits, bound| Some(SemaphoreError::AboveBound { permits, bound });
    let invalid = |asked| Some(SemaphoreError::InvalidBound { asked, max: Semaphore::MAX });

    assert_eq!(Semaphore::bounded(3, 2).err(), above(3, 2));
    assert_eq!(Semaphore::new(Semaphore::MAX + 1).err(), above(u64::from(Semaphore::MAX) + 1, Semaphore::MAX));
    assert_eq!(Semaphore::bounded(0, 0).err(), invalid(0));
    assert_eq!(Semaphore::bounded(0, Semaphore::MAX + 1).err(), invalid(Semaphore::MAX + 1));
    assert_eq!(semaphore(Semaphore::MAX).available(), Semaphore::MAX);
}

#[test]
fn a_release_beyond_the_bound_is_an_error_and_changes_nothing() {
    let semaphore = Semaphore::bounded(1, 2).expect("1 is not above 2");

    assert_eq!(semaphore.release_many(2), Err(SemaphoreError::AboveBound { permits: 3, bound: 2 }));
    assert_eq!(semaphore.available(), 1);
    semaphore.release().expect("room for one");
    assert_eq!(semaphore.release(), Err(SemaphoreError::AboveBound { permits: 3, bound: 2 }));
    assert_eq!(semaphore.available(), 2);
}

#[test]
fn a_release_at_the_maximum_is_an_error_and_changes_nothing() {
    let semaphore = semaphore(Semaphore::MAX);

    assert!(semaphore.release().is_err());
    assert!(semaphore.release_many(u32::MAX).is_err());
    assert_eq!(semaphore.available(), Semaphore::MAX);
    semaphore.release_many(0).expect("nothing to add");
}

#[test]
fn many_are_taken_all_or_none() {
    let semaphore = semaphore(3);

    assert!(!semaphore.try_acquire_many(4));
    assert_eq!(semaphore.available(), 3);
    assert!(matches!(semaphore.acquire_many_timeout(4, MOMENT), Err(WaitError::TimedOut)));
    assert_eq!(semaphore.available(), 3);
    semaphore.acquire_many(2).expect("two of three");
    assert_eq!(semaphore.available(), 1);
    semaphore.acquire_many(0).expect("nothing to take");
    assert!(!semaphore.try_acquire_many(u32::MAX));
    assert!(matches!(semaphore.acquire_many_timeout(u32::MAX, MOMENT), Err(WaitError::TimedOut)));
    assert!(semaphore.try_acquire());
}

#[test]
fn a_timed_acquire_gets_what_is_there_at_once_and_fails_after_its_timeout_and_not_before() {
    let semaphore = semaphore(4);
    let past = Instant::now().checked_sub(MOMENT).expect("the clock is older than that");

    semaphore.acquire_timeout(Duration::ZERO).expect("a permit");
    semaphore.acquire_deadline(past).expect("a permit");
    semaphore.acquire_many_timeout(1, Duration::MAX).expect("a permit");
    semaphore.acquire_many_deadline(1, past).expect("a permit");
    let start = Instant::now();
    assert!(matches!(semaphore.acquire_timeout(MOMENT), Err(WaitError::TimedOut)));
    assert!(matches!(semaphore.acquire_many_timeout(2, MOMENT), Err(WaitError::TimedOut)));
    assert!(start.elapsed() >= 2 * MOMENT);
    assert!(matches!(semaphore.acquire_deadline(past), Err(WaitError::TimedOut)));
    assert!(matches!(semaphore.acquire_many_deadline(2, past), Err(WaitError::TimedOut)));
}

#[test]
fn one_among_untrusted_peers_gives_several_at_once_until_a_deadline() {
    let semaphore = UntrustedSemaphore::from(semaphore(3));
    let past = Instant::now().checked_sub(MOMENT).expect("the clock is older than that");

    semaphore.acquire_many_deadline(2, past).expect("two of three");
    assert!(matches!(semaphore.acquire_many_deadline(2, Instant::now() + MOMENT), Err(WaitError::TimedOut)));
    assert_eq!(semaphore.available(), 1);
}

#[test]
fn an_endless_timeout_ends_with_a_release() {
    let semaphore = semaphore(0);

    thread::scope(|scope| {
        let one = scope.spawn(|| semaphore.acquire_timeout(Duration::MAX).is_ok());
        let many = scope.spawn(|| semaphore.acquire_many_timeout(2, Duration::MAX).is_ok());
        (0..3).for_each(|_| semaphore.release().expect("room"));
        assert!(one.join().expect("no panic") && many.join().expect("no panic"));
    });

    assert_eq!(semaphore.available(), 0);
}

/// Threads take and give back, each as many as it is its number; never more are out than there are.
fn crowd(semaphore: &Semaphore, permits: u32) {
    let out = AtomicU32::new(0);

    thread::scope(|scope| {
        for number in [1, 1, 2, 3] {
            let out = &out;
            scope.spawn(move || {
                for _ in 0..2_000 {
                    semaphore.acquire_many(number).expect("permits");
                    assert!(out.fetch_add(number, Relaxed) + number <= permits);
                    out.fetch_sub(number, Relaxed);
                    semaphore.release_many(number).expect("room");
                }
            });
        }
    });

    assert_eq!(semaphore.available(), permits);
}

#[test]
fn never_more_permits_are_out_than_there_are_in_a_region_and_outside() {
    let region = Region::anonymous(4096).expect("a region");

    crowd(&region.insert("few", semaphore(3)).expect("room"), 3);
    crowd(&semaphore(4), 4);
}

#[test]
fn a_release_of_nothing_leaves_those_who_sleep_to_the_next_release() {
    let semaphore = semaphore(0);

    thread::scope(|scope| {
        let sleeper = scope.spawn(|| semaphore.acquire_timeout(Duration::from_secs(20)).is_ok());
        until_asleep(&semaphore);
        semaphore.release_many(0).expect("nothing to add");
        semaphore.release().expect("room");
        assert!(sleeper.join().expect("no panic"));
    });
}

/// Waits until somebody has said that it is about to sleep.
fn until_asleep(semaphore: &Semaphore) {
    while words(semaphore)[0].load(Relaxed) >> 30 == 0 {
        thread::yield_now();
    }
}

/// State, bound and changes.
fn words(semaphore: &Semaphore) -> &[AtomicU32; 3] {
    // SAFETY: a semaphore is these three atomic words.
    unsafe { &*std::ptr::from_ref(semaphore).cast() }
}

#[test]
fn any_words_lead_to_a_result_or_a_timeout() {
    let region = Region::anonymous(4096).expect("a region");
    let semaphore = region.insert("semaphore", semaphore(0)).expect("room");
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    let special = [0, 1, 1 << 30, 1 << 31, 3 << 30, (1 << 30) - 1, u32::MAX, u32::MAX - 1];

    for round in 0..2_000u64 {
        for word in words(&semaphore) {
            let choice = next();
            word.store(if choice % 2 == 0 { next() as u32 } else { special[choice as usize / 2 % 8] }, Relaxed);
        }
        let n = special[round as usize % 8];
        let soon = Duration::from_micros(100);
        assert!(semaphore.available() <= Semaphore::MAX);
        let taken = semaphore.try_acquire();
        assert!(matches!(semaphore.acquire_timeout(soon), Ok(()) | Err(WaitError::TimedOut)), "{taken}");
        assert!(matches!(semaphore.acquire_many_timeout(n, soon), Ok(()) | Err(WaitError::TimedOut)));
        let before = semaphore.available();
        match semaphore.release_many(n) {
            Ok(()) => assert_eq!(semaphore.available(), before + n),
            Err(SemaphoreError::AboveBound { permits, .. }) => assert_eq!(permits, u64::from(before) + u64::from(n)),
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn errors_say_what_happened_and_debug_shows_the_value() {
    let semaphore = Semaphore::bounded(2, 2).expect("2 is not above 2");

    let full = semaphore.release().expect_err("full").to_string();
    assert!(full.contains("3 permits") && full.contains("bound is 2"), "{full}");
    let none = Semaphore::bounded(0, 0).expect_err("no bound").to_string();
    assert!(none.contains("choose 1 to"), "{none}");
    assert_eq!(format!("{semaphore:?}"), "Semaphore { available: 2, bound: 2 }");
}

/// What it protects is seen by the next, whoever releases.
#[test]
fn what_was_written_before_a_release_is_seen_after_the_acquire() {
    let (ready, value) = (semaphore(0), AtomicU64::new(0));

    thread::scope(|scope| {
        scope.spawn(|| {
            for round in 1..=1_000 {
                value.store(round, Relaxed);
                ready.release().expect("room");
            }
        });
        for round in 1..=1_000 {
            ready.acquire().expect("a permit");
            assert!(value.load(Relaxed) >= round);
        }
    });
}
