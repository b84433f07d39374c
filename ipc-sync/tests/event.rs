//! The `Event` between the threads of one process.

#![cfg(not(ipc_loom))]

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};

use shmkit_core::Region;
use shmkit_sync::{Event, WaitError};

/// Long enough for anything that is not a hang.
const BOUND: Duration = Duration::from_secs(20);

fn word(event: &Event) -> &AtomicU64 {
    // SAFETY: an event is one atomic word.
    unsafe { &*std::ptr::from_ref(event).cast() }
}

/// Waits until somebody asks to be woken.
fn until_waiting(event: &Event) {
    let end = Instant::now() + BOUND;
    while word(event).load(Relaxed) & 2 == 0 {
        assert!(Instant::now() < end, "nobody sleeps");
        thread::yield_now();
    }
}

#[test]
fn a_new_event_is_unset_and_waiting_for_it_ends_at_once_or_after_the_timeout() {
    for event in [Event::new(), Event::auto_reset()] {
        assert!(!event.is_set() && !event.try_wait());
        assert!(matches!(event.wait_timeout(Duration::ZERO), Err(WaitError::TimedOut)));
        let start = Instant::now();
        let timeout = Duration::from_millis(50);
        assert!(matches!(event.wait_timeout(timeout), Err(WaitError::TimedOut)));
        assert!(start.elapsed() >= timeout);
        assert!(matches!(event.wait_deadline(start), Err(WaitError::TimedOut)));
        assert_eq!(event.generation(), 0);
    }
}

#[test]
fn a_manual_reset_event_stays_set_until_it_is_reset() {
    let event = Event::default();
    assert!(!event.is_auto_reset());

    event.set();
    event.set();
    for _ in 0..3 {
        assert!(event.is_set() && event.try_wait());
        event.wait().expect("set");
        event.wait_timeout(Duration::ZERO).expect("set");
        event.wait_timeout(Duration::MAX).expect("set");
        event.wait_deadline(Instant::now()).expect("set");
    }
    event.reset();
    event.reset();

    assert!(!event.is_set());
    assert!(matches!(event.wait_timeout(Duration::ZERO), Err(WaitError::TimedOut)));
    event.set();
    assert_eq!(event.generation(), 2);
}

#[test]
fn each_set_of_an_auto_reset_event_is_taken_once_and_two_in_a_row_are_one() {
    let event = Event::auto_reset();
    assert!(event.is_auto_reset());

    event.set();
    event.set();
    event.wait_timeout(Duration::ZERO).expect("set");
    assert!(!event.is_set() && !event.try_wait());

    event.set();
    event.reset();
    assert!(!event.try_wait());
    event.set();
    event.wait().expect("set");
    assert_eq!(event.generation(), 3);
}

#[test]
fn one_set_releases_all_who_wait_for_a_manual_reset_event_also_if_a_reset_follows() {
    let region = Region::anonymous(4096).expect("a region");
    let event = region.insert("event", Event::new()).expect("room");
    let outside = Box::new(Event::new());

    for event in [&*event, &*outside] {
        thread::scope(|scope| {
            let waiters = [0; 4].map(|_| scope.spawn(|| event.wait_timeout(BOUND)));
            until_waiting(event);
            event.set();
            event.reset();
            while !waiters.iter().all(thread::ScopedJoinHandle::is_finished) {
                // Those who were not there yet are released by a later set.
                if word(event).load(Relaxed) & 2 != 0 {
                    event.set();
                    event.reset();
                }
                thread::yield_now();
            }
            waiters.into_iter().for_each(|waiter| waiter.join().expect("no panic").expect("released"));
        });
        assert!(!event.is_set());
    }
}

#[test]
fn each_set_of_an_auto_reset_event_releases_exactly_one() {
    const WAITERS: u64 = 4;
    let region = Region::anonymous(4096).expect("a region");
    let event = region.insert("event", Event::auto_reset()).expect("room");
    let outside = Box::new(Event::auto_reset());

    for event in [&*event, &*outside] {
        let released = AtomicU64::new(0);
        thread::scope(|scope| {
            for _ in 0..WAITERS {
                scope.spawn(|| {
                    event.wait_timeout(BOUND).expect("a set for each");
                    released.fetch_add(1, Relaxed);
                });
            }
            for sets in 1..=WAITERS {
                event.set();
                let end = Instant::now() + BOUND;
                while released.load(Relaxed) < sets {
                    assert!(Instant::now() < end, "set {sets} has released nobody");
                    thread::yield_now();
                }
                assert_eq!(released.load(Relaxed), sets);
            }
        });
        assert!(!event.is_set());
    }
}

#[test]
fn two_threads_that_hand_an_event_each_way_run_in_lockstep() {
    let (ping, pong) = (Event::auto_reset(), Event::auto_reset());
    let count = AtomicU64::new(0);

    thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..10_000 {
                ping.wait_timeout(BOUND).expect("a ping");
                assert_eq!(count.fetch_add(1, Relaxed), 2 * round);
                pong.set();
            }
        });
        for round in 0..10_000 {
            ping.set();
            pong.wait_timeout(BOUND).expect("a pong");
            assert_eq!(count.fetch_add(1, Relaxed), 2 * round + 1);
        }
    });
}

#[test]
fn any_word_is_an_event() {
    let region = Region::anonymous(4096).expect("a region");
    let inside = region.insert("event", Event::new()).expect("room");
    let outside = Event::new();

    for event in [&*inside, &outside] {
        for bits in [0, 1, 2, 3, 4, 5, 6, 7, u64::MAX, u64::MAX - 1, u64::MAX - 7, 1 << 63, 0x1234_5678_9abc_def2] {
            let scribble = || word(event).store(bits, Relaxed);
            scribble();
            assert_eq!(event.wait_timeout(Duration::from_millis(5)).is_ok(), bits & 1 == 1, "{bits:#x}");
            scribble();
            assert_eq!(event.try_wait(), bits & 1 == 1);
            scribble();
            event.set();
            assert!(event.is_set(), "{bits:#x}");
            assert_eq!(event.is_auto_reset(), bits & 4 == 4);
            assert!(event.try_wait());
            scribble();
            event.reset();
            assert!(!event.is_set(), "{bits:#x}");
            assert!(format!("{event:?}").contains("set: false"));
        }
    }
}
