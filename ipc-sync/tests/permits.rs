//! The `Permits` between the threads of one process.

#![cfg(not(ipc_loom))]

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::thread;
use std::time::{Duration, Instant};

use shmkit_core::{Error, Region};
use shmkit_sync::{Permits, PermitsError, WaitError};

const MOMENT: Duration = Duration::from_millis(20);

fn permits(count: u32) -> Permits {
    Permits::new(count).expect("1 to 64")
}

#[test]
fn there_are_1_to_64() {
    for count in [0, 65, u32::MAX] {
        assert_eq!(Permits::new(count).err(), Some(PermitsError::InvalidCount { asked: count, max: 64 }));
    }
    for count in [1, 2, 63, 64] {
        assert_eq!(permits(count).count(), count);
        assert_eq!(permits(count).available(), count);
    }
    assert!(Permits::new(65).expect_err("too many").to_string().contains("choose 1 to 64"));
}

#[test]
fn each_can_be_had_once_and_has_a_number_of_its_own() {
    let permits = permits(64);

    let held: Vec<_> = (0..64).map(|_| permits.acquire().expect("a permit")).collect();

    let mut numbers: Vec<_> = held.iter().map(|permit| permit.index()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..64).collect::<Vec<_>>());
    assert!(held.iter().all(|permit| !permit.after_death()));
    assert_eq!(permits.available(), 0);
    assert!(matches!(permits.try_acquire(), Err(WaitError::WouldBlock)));
    drop(held);
    assert_eq!(permits.available(), 64);
    assert!(permits.try_acquire().is_ok());
}

#[test]
fn a_static_one_can_be_made_by_a_constant() {
    static PERMITS: Permits = match Permits::new(1) {
        Ok(permits) => permits,
        Err(_) => panic!("1 is possible"),
    };

    assert!(PERMITS.try_acquire().is_ok());
}

#[test]
fn a_timed_acquire_gets_a_free_one_at_once_and_fails_after_its_timeout_and_not_before() {
    let permits = permits(1);
    let past = Instant::now().checked_sub(MOMENT).expect("the clock is older than that");
    drop(permits.acquire_timeout(Duration::ZERO).expect("a free one"));
    drop(permits.acquire_timeout(Duration::MAX).expect("a free one"));
    let _held = permits.acquire_deadline(past).expect("a free one");

    let start = Instant::now();
    assert!(matches!(permits.acquire_timeout(MOMENT), Err(WaitError::TimedOut)));
    assert!(start.elapsed() >= MOMENT);
    assert!(matches!(permits.acquire_deadline(past), Err(WaitError::TimedOut)));
    assert!(matches!(permits.acquire_timeout(Duration::ZERO), Err(WaitError::TimedOut)));
}

#[test]
fn a_sleeper_gets_the_permit_that_another_thread_drops() {
    let permits = permits(1);
    let held = permits.acquire().expect("a free one");

    thread::scope(|scope| {
        let sleeper = scope.spawn(|| permits.acquire_timeout(Duration::MAX).map(drop).is_ok());
        while gate(&permits).load(Relaxed) & 1 == 0 {
            thread::yield_now();
        }
        // A permit may be dropped by another thread than that which acquired it.
        scope.spawn(move || drop(held));
        assert!(sleeper.join().expect("no panic"));
    });

    assert_eq!(permits.available(), 1);
}

#[test]
fn one_that_is_forgotten_is_held_for_good() {
    let permits = permits(2);
    std::mem::forget(permits.acquire().expect("a free one"));

    let other = permits.acquire().expect("a free one");

    assert!(matches!(permits.acquire_timeout(MOMENT), Err(WaitError::TimedOut)));
    drop(other);
    assert_eq!(permits.available(), 1);
}

/// Never two threads have the same permit.
fn crowd(permits: &Permits) {
    let holders: [AtomicU32; 64] = std::array::from_fn(|_| AtomicU32::new(0));

    thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                for _ in 0..2_000 {
                    let permit = permits.acquire().expect("a permit");
                    let holders = &holders[permit.index() as usize];
                    assert_eq!(holders.fetch_add(1, Relaxed), 0);
                    holders.fetch_sub(1, Relaxed);
                }
            });
        }
    });

    assert_eq!(permits.available(), permits.count());
}

#[test]
fn never_two_threads_have_the_same_permit_in_a_region_and_outside() {
    let region = Region::anonymous(8192).expect("a region");

    crowd(&region.insert("three", permits(3)).expect("room"));
    crowd(&region.insert("one", permits(1)).expect("room"));
    crowd(&permits(5));
}

#[test]
fn a_thread_that_comes_back_gets_the_permit_that_it_had() {
    let permits = permits(8);
    let first = permits.acquire().expect("a free one").index();

    assert_eq!(permits.acquire().expect("a free one").index(), first);
}

#[test]
fn a_thread_that_had_one_of_many_finds_one_of_few() {
    let (many, one) = (permits(64), permits(1));
    let held: Vec<_> = (0..64).map(|_| many.acquire().expect("a free one")).collect();

    assert_eq!(one.acquire().expect("a free one").index(), 0);
    drop(held);
}

fn gate(permits: &Permits) -> &AtomicU32 {
    // SAFETY: the second word of the permits is this atomic.
    unsafe { &*std::ptr::from_ref(permits).cast::<AtomicU32>().add(1) }
}

/// The two words in front, and the slots.
fn words(permits: &Permits) -> (&[AtomicU32; 2], &[AtomicU64; 64]) {
    let start = std::ptr::from_ref(permits).cast::<u8>();
    // SAFETY: permits are two atomic words and 64 atomic slots behind them.
    unsafe { (&*start.cast(), &*start.add(8).cast()) }
}

#[test]
fn a_count_that_makes_no_sense_is_64_or_an_error() {
    let permits = permits(1);
    let [count, _] = words(&permits).0;

    count.store(u32::MAX, Relaxed);
    assert_eq!((permits.count(), permits.available()), (64, 64));
    drop(permits.acquire().expect("a free one"));
    count.store(0, Relaxed);
    assert_eq!((permits.count(), permits.available()), (0, 0));
    let corrupted = |result| matches!(result, Err(WaitError::Failed(Error::Corrupted { found: 0, .. })));
    assert!(corrupted(permits.acquire().map(drop)));
    assert!(corrupted(permits.try_acquire().map(drop)));
    assert!(corrupted(permits.acquire_timeout(Duration::MAX).map(drop)));
}

#[test]
fn any_words_lead_to_a_permit_an_error_or_a_timeout() {
    let region = Region::anonymous(4096).expect("a region");
    let permits = region.insert("permits", permits(3)).expect("room");
    let ([count, gate], slots) = words(&permits);
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    let special = [0, 1, 2, (1 << 28) - 1, 1 << 28, 1 << 63, u64::MAX, u64::MAX - 1];

    for _ in 0..2_000 {
        let mut word = || if next() % 2 == 0 { next() } else { special[next() as usize % 8] };
        count.store(word() as u32, Relaxed);
        gate.store(word() as u32, Relaxed);
        slots.iter().for_each(|slot| slot.store(word(), Relaxed));
        assert!(permits.available() <= 64);
        let one = permits.try_acquire();
        let other = permits.acquire_timeout(Duration::from_micros(100));
        // In a region, whoever is nobody is dead, and what the dead held can be had.
        let (one, other) = match (&one, &other) {
            (Ok(one), Ok(other)) => (one.index(), other.index()),
            (Ok(one), Err(WaitError::TimedOut)) if count.load(Relaxed) == 1 => (one.index(), 64),
            (Err(WaitError::Failed(_)), Err(WaitError::Failed(_))) if count.load(Relaxed) == 0 => continue,
            odd => panic!("{odd:?}"),
        };
        assert_ne!(one, other);
    }
}

#[test]
fn a_slot_that_was_overwritten_under_its_holder_is_not_given_back() {
    let region = Region::anonymous(4096).expect("a region");
    let permits = region.insert("permits", permits(1)).expect("room");
    let (_, slots) = words(&permits);

    let held = permits.acquire().expect("a free one");
    slots[0].store(u64::MAX, Relaxed);
    let robbed = permits.acquire().expect("that of nobody");
    assert!(robbed.after_death());
    drop(robbed);
    drop(held);

    assert_eq!(permits.available(), 1);
}

#[test]
fn debug_shows_how_many_are_free() {
    let permits = permits(2);
    let held = permits.acquire().expect("a free one");

    assert_eq!(format!("{permits:?}"), "Permits { available: 1, count: 2 }");
    assert!(format!("{held:?}").contains("after_death: false"));
}
