//! The `Barrier` between the threads of one process.

#![cfg(not(ipc_loom))]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::thread;
use std::time::{Duration, Instant};

use shmkit_core::Region;
use shmkit_sync::{Barrier, BarrierError};

/// Long enough for anything that is not a hang.
const BOUND: Duration = Duration::from_secs(20);

/// All words of a barrier.
fn words(barrier: &Barrier) -> &[AtomicU64] {
    let count = size_of::<Barrier>() / 8;
    // SAFETY: a barrier is nothing but atomics, 8-aligned; the test is alone with it.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(barrier).cast(), count) }
}

fn until(what: &str, mut has_come: impl FnMut() -> bool) {
    let end = Instant::now() + BOUND;
    while !has_come() {
        assert!(Instant::now() < end, "waited in vain for: {what}");
        thread::yield_now();
    }
}

#[test]
fn parties_run_in_lockstep_round_after_round_and_each_round_has_one_leader() {
    const PARTIES: usize = 4;
    const ROUNDS: u32 = 2_000;
    let region = Region::anonymous(8192).expect("a region");
    let inside = region.insert("barrier", Barrier::new(PARTIES as u32).expect("four")).expect("room");
    let outside = Box::new(Barrier::new(PARTIES as u32).expect("four"));

    for barrier in [&*inside, &*outside] {
        let rounds = [(); PARTIES].map(|()| AtomicU32::new(0));
        let leaders = AtomicU32::new(0);
        thread::scope(|scope| {
            for me in 0..PARTIES {
                let (rounds, leaders) = (&rounds, &leaders);
                scope.spawn(move || {
                    let mut party = barrier.join().expect("a seat");
                    for round in 1..=ROUNDS {
                        rounds[me].store(round, Relaxed);
                        let led = party.wait_timeout(BOUND).expect("a sound barrier").is_leader();
                        leaders.fetch_add(led.into(), Relaxed);
                        for other in rounds {
                            let other = other.load(Relaxed);
                            assert!(other == round || other == round + 1, "{other} in round {round}");
                        }
                    }
                    // The first to leave must not be the one that somebody still waits for.
                    party.wait_timeout(BOUND).expect("a sound barrier");
                });
            }
        });
        assert_eq!(leaders.load(Relaxed), ROUNDS);
        assert!(!barrier.is_broken());
        assert_eq!(barrier.waiting(), 0);
    }
}

#[test]
fn a_barrier_for_nobody_or_for_too_many_is_refused() {
    for parties in [0, Barrier::MAX_PARTIES + 1, u32::MAX] {
        let refused = Barrier::new(parties).expect_err("refused");
        assert!(matches!(refused, BarrierError::InvalidParties { asked } if asked == parties));
        assert!(refused.to_string().contains("1 to 64"), "{refused}");
    }
    assert_eq!(Barrier::new(Barrier::MAX_PARTIES).expect("64").parties(), 64);
}

#[test]
fn the_only_party_never_waits_and_always_leads() {
    let barrier = Barrier::new(1).expect("one");
    let mut party = barrier.join().expect("a seat");

    for _ in 0..3 {
        assert!(party.wait().expect("sound").is_leader());
        assert!(party.wait_timeout(Duration::ZERO).expect("sound").is_leader());
        assert!(party.wait_timeout(Duration::MAX).expect("sound").is_leader());
        assert!(party.wait_deadline(Instant::now()).expect("sound").is_leader());
    }
}

#[test]
fn there_are_as_many_seats_as_parties_and_one_given_up_is_free() {
    let barrier = Barrier::new(64).expect("64");
    let mut parties: Vec<_> = (0..64).map(|_| barrier.join().expect("a seat")).collect();

    assert!(matches!(barrier.join(), Err(BarrierError::Full)));
    parties.pop();
    let _new = barrier.join().expect("a seat");
    assert!(matches!(barrier.join(), Err(BarrierError::Full)));
    assert!(!barrier.is_broken());
}

#[test]
fn a_time_out_breaks_the_barrier_for_all_until_it_is_reset() {
    let barrier = Barrier::new(3).expect("three");
    let timeout = Duration::from_millis(50);

    thread::scope(|scope| {
        let waiting = scope.spawn(|| barrier.join().expect("a seat").wait());
        until("one who waits", || barrier.waiting() == 1);
        let start = Instant::now();
        let mut hasty = barrier.join().expect("a seat");
        assert!(matches!(hasty.wait_timeout(timeout), Err(BarrierError::TimedOut)));
        assert!(start.elapsed() >= timeout);
        assert!(matches!(waiting.join().expect("no panic"), Err(BarrierError::Broken)));
        assert!(barrier.is_broken());
        assert_eq!(barrier.waiting(), 0);
        assert!(matches!(hasty.wait(), Err(BarrierError::Broken)));
        let mut late = barrier.join().expect("a seat, also at a broken barrier");
        assert!(matches!(late.wait(), Err(BarrierError::Broken)));
        barrier.reset().expect("a repair");
        assert!(!barrier.is_broken());

        let third = scope.spawn(|| barrier.join().expect("a seat").wait().is_ok());
        let second = scope.spawn(move || late.wait().is_ok());
        hasty.wait().expect("a sound barrier");
        assert!(second.join().expect("no panic") && third.join().expect("no panic"));
    });
}

#[test]
fn a_time_out_of_zero_is_none_for_the_last_to_come_and_breaks_the_barrier_otherwise() {
    let barrier = Barrier::new(2).expect("two");

    thread::scope(|scope| {
        let waiting = scope.spawn(|| barrier.join().expect("a seat").wait().is_ok());
        until("one who waits", || barrier.waiting() == 1);
        let mut last = barrier.join().expect("a seat");
        assert!(last.wait_timeout(Duration::ZERO).expect("all are here").is_leader());
        assert!(waiting.join().expect("no panic"));
        assert!(matches!(last.wait_deadline(Instant::now()), Err(BarrierError::TimedOut)));
    });
}

#[test]
fn an_abort_breaks_the_barrier_for_those_who_wait_and_for_late_ones() {
    let barrier = Barrier::new(2).expect("two");

    thread::scope(|scope| {
        let waiting = scope.spawn(|| barrier.join().expect("a seat").wait());
        until("one who waits", || barrier.waiting() == 1);
        barrier.abort();
        barrier.abort();
        assert!(matches!(waiting.join().expect("no panic"), Err(BarrierError::Broken)));
        assert!(matches!(barrier.join().expect("a seat").wait(), Err(BarrierError::Broken)));
    });
}

#[test]
fn a_reset_sends_those_who_wait_away() {
    let barrier = Barrier::new(2).expect("two");

    thread::scope(|scope| {
        let waiting = scope.spawn(|| barrier.join().expect("a seat").wait());
        until("one who waits", || barrier.waiting() == 1);
        barrier.reset().expect("a repair");
        assert!(matches!(waiting.join().expect("no panic"), Err(BarrierError::Broken)));
        assert!(!barrier.is_broken());
        assert_eq!(barrier.waiting(), 0);
    });
}

#[test]
fn a_party_dropped_by_a_panic_breaks_the_barrier_and_one_dropped_otherwise_does_not() {
    let barrier = Barrier::new(2).expect("two");
    drop(barrier.join().expect("a seat"));
    assert!(!barrier.is_broken());

    thread::scope(|scope| {
        let waiting = scope.spawn(|| barrier.join().expect("a seat").wait());
        until("one who waits", || barrier.waiting() == 1);
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            let _party = barrier.join().expect("a seat");
            std::panic::resume_unwind(Box::new(()));
        }));
        assert!(panicked.is_err());
        assert!(matches!(waiting.join().expect("no panic"), Err(BarrierError::Broken)));
    });
    assert!(barrier.is_broken());
}

#[test]
fn any_words_are_a_barrier_or_a_broken_one() {
    let region = Region::anonymous(8192).expect("a region");
    let inside = region.insert("barrier", Barrier::new(3).expect("three")).expect("room");
    let outside = Barrier::new(3).expect("three");
    let timeout = Duration::from_millis(2);

    for barrier in [&*inside, &outside] {
        let all = words(barrier);
        for bits in [0, 1, 2, 3, 4, 5, 7, 1 << 28, 1 << 63, u64::MAX, u64::MAX - 1, u64::MAX - 3, 0x1234_5678_9abc_def1]
        {
            // One word after the other, and then all at once.
            for range in [0..1, 1..2, 8..9, 9..10, 10..11, 0..10, 8..all.len(), 0..all.len()] {
                all.iter().for_each(|word| word.store(0, Relaxed));
                all[1].store(3, Relaxed);
                let mut party = barrier.join().expect("a seat");
                all[range].iter().for_each(|word| word.store(bits, Relaxed));
                let _ = party.wait_timeout(timeout);
                let _ = (barrier.is_broken(), barrier.waiting(), barrier.parties());
                let _ = barrier.join().map(|mut other| _ = other.wait_timeout(timeout));
                assert!(!format!("{barrier:?} {party:?}").is_empty());
                barrier.abort();
                assert!(barrier.is_broken());
                assert!(party.wait().is_err());
                barrier.reset().expect("a repair");
                let _ = party.wait_timeout(timeout);
                drop(party);
                let _ = barrier.join().map(|mut other| _ = other.wait_timeout(timeout));
            }
        }
    }
}

#[test]
fn errors_say_what_happened_and_what_to_do() {
    let barrier = Barrier::new(2).expect("two");
    let mut party = barrier.join().expect("a seat");

    assert!(party.wait_timeout(Duration::ZERO).expect_err("alone").to_string().contains("time was over"));
    assert!(party.wait().expect_err("broken").to_string().contains("reset"));
    let _other = barrier.join().expect("a seat");
    assert_eq!(barrier.join().expect_err("full").to_string(), "all seats of the barrier are taken");
    assert!(format!("{barrier:?}").contains("broken: true"));
}
