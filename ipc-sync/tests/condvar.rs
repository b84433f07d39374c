//! The `Condvar` between the threads of one process.

#![cfg(not(ipc_loom))]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};

use shmkit_core::Region;
use shmkit_sync::{Condvar, LockError, Mutex, Poison};

const LONG: Duration = Duration::from_secs(20);

/// Hands numbers from one thread to another, one at a time.
fn hand_over(slot: &Mutex<u64>, changed: &Condvar) {
    thread::scope(|scope| {
        scope.spawn(|| {
            for number in 1..=1000 {
                let slot = slot.lock().expect("a sound mutex");
                let mut slot = changed.wait_while(slot, |slot| *slot != 0).expect("a sound mutex");
                *slot = number;
                drop(slot);
                changed.notify_one();
            }
        });
        for number in 1..=1000 {
            let guard = slot.lock().expect("a sound mutex");
            let (mut guard, outcome) = changed.wait_timeout_while(guard, LONG, |slot| *slot == 0).expect("sound");
            assert!(!outcome.timed_out());
            assert_eq!(*guard, number);
            *guard = 0;
            drop(guard);
            changed.notify_one();
        }
    });
}

#[test]
fn numbers_go_from_hand_to_hand_in_a_region() {
    let region = Region::anonymous(4096).expect("a region");
    let slot = region.insert("slot", Mutex::new(0u64)).expect("room");
    let changed = region.insert("changed", Condvar::new()).expect("room");

    hand_over(&slot, &changed);
}

#[test]
fn numbers_go_from_hand_to_hand_outside_of_any_region_and_across_its_border() {
    static SLOT: Mutex<u64> = Mutex::new(0);
    static CHANGED: Condvar = Condvar::new();
    let region = Region::anonymous(4096).expect("a region");
    let slot = region.insert("slot", Mutex::new(0u64)).expect("room");
    let changed = region.insert("changed", Condvar::new()).expect("room");

    hand_over(&SLOT, &CHANGED);
    hand_over(&slot, &Condvar::new());
    hand_over(&Box::new(Mutex::new(0u64)), &changed);
}

#[test]
fn a_notification_that_nobody_waits_for_is_not_remembered() {
    let (mutex, condvar) = (Mutex::new(0u64), Condvar::new());
    let timeout = Duration::from_millis(20);
    for _ in 0..3 {
        condvar.notify_one();
        condvar.notify_all();
        let start = Instant::now();

        let guard = mutex.lock().expect("a free mutex");
        let (_guard, outcome) = condvar.wait_timeout(guard, timeout).expect("a sound mutex");

        // There are no wake-ups for no reason here: nobody dies and no signal comes.
        assert!(outcome.timed_out() && start.elapsed() >= timeout);
    }
}

#[test]
fn a_wait_gives_the_mutex_up_and_has_it_again_afterwards_also_when_the_time_is_over() {
    let (mutex, condvar) = (Mutex::new(0u64), Condvar::new());
    let guard = mutex.lock().expect("a free mutex");

    thread::scope(|scope| {
        let other = scope.spawn(|| {
            *mutex.lock_timeout(LONG).expect("given up in between") += 1;
            condvar.notify_one();
        });
        let waited = condvar.wait_timeout_while(guard, LONG, |count| *count == 0).expect("a sound mutex");
        assert!(!waited.1.timed_out());
        let (guard, outcome) = condvar.wait_timeout(waited.0, Duration::ZERO).expect("a sound mutex");

        assert!(outcome.timed_out() && *guard == 1);
        assert!(matches!(mutex.try_lock(), Err(LockError::WouldBlock)));
        drop(guard);
        other.join().expect("no panic");
    });
}

#[test]
fn one_deadline_bounds_all_waits_of_a_condition_however_often_it_is_notified() {
    let (mutex, condvar, over) = (Mutex::new(0u64), Condvar::new(), AtomicU32::new(0));
    let timeout = Duration::from_millis(50);

    thread::scope(|scope| {
        scope.spawn(|| {
            while over.load(Relaxed) == 0 {
                condvar.notify_all();
            }
        });
        let start = Instant::now();
        let guard = mutex.lock().expect("a free mutex");
        let (guard, outcome) = condvar.wait_timeout_while(guard, timeout, |_| true).expect("a sound mutex");
        over.store(1, Relaxed);

        assert!(outcome.timed_out());
        assert!(start.elapsed() >= timeout && start.elapsed() < LONG);
        drop(guard);
    });
}

#[test]
fn a_condition_that_does_not_hold_is_not_waited_for_even_after_the_deadline() {
    let (mutex, condvar) = (Mutex::new(1u64), Condvar::new());
    let past = Instant::now().checked_sub(Duration::from_millis(1)).expect("the clock is older than that");
    let guard = mutex.lock().expect("a free mutex");

    let (guard, outcome) = condvar.wait_deadline_while(guard, past, |number| *number == 0).expect("a sound mutex");
    assert!(!outcome.timed_out());
    let (guard, outcome) = condvar.wait_deadline_while(guard, past, |number| *number == 1).expect("a sound mutex");
    assert!(outcome.timed_out());
    let (_guard, outcome) = condvar.wait_deadline(guard, past).expect("a sound mutex");
    assert!(outcome.timed_out());
}

#[test]
fn a_timeout_beyond_all_clocks_is_none() {
    let (mutex, condvar) = (Mutex::new(0u64), Condvar::new());

    thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            let guard = mutex.lock().expect("a free mutex");
            condvar.wait_timeout_while(guard, Duration::MAX, |number| *number == 0).map(|_| ()).is_ok()
        });
        *mutex.lock().expect("a free mutex") = 1;
        condvar.notify_one();
        assert!(waiter.join().expect("no panic"));
    });
}

#[test]
fn poison_is_neither_made_by_a_wait_nor_lost_in_it() {
    let (mutex, condvar) = (Mutex::new(0u64), Condvar::new());
    let guard = mutex.lock().expect("a free mutex");
    drop(condvar.wait_timeout(guard, Duration::ZERO).expect("no poison of its own"));
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let guard = mutex.lock().expect("a free mutex");
        let _waited = condvar.wait_timeout_while(guard, LONG, |_| std::panic::resume_unwind(Box::new(())));
    }));
    assert!(panicked.is_err());

    let guard = mutex.lock().expect_err("poison").into_guard().expect("the guard inside");
    let error = condvar.wait_timeout(guard, Duration::ZERO).expect_err("the poison again");
    assert!(matches!(&error, LockError::Poisoned { guard, cause: Poison::Panicked } if guard.1.timed_out()));
    let (guard, _) = error.into_guard().expect("the guard inside");
    mutex.clear_poison();
    drop(condvar.wait_timeout(guard, Duration::ZERO).expect("no poison any more"));
}

/// Dropped while its thread panics, it waits with a guard that was made before that.
#[test]
fn a_guard_waited_with_during_a_panic_poisons_when_it_is_dropped() {
    struct Waiter<'a>(Option<shmkit_sync::MutexGuard<'a, u64>>, &'a Condvar);
    impl Drop for Waiter<'_> {
        fn drop(&mut self) {
            let guard = self.0.take().expect("a guard");
            assert!(self.1.wait_timeout(guard, Duration::ZERO).is_ok());
        }
    }
    let (mutex, condvar) = (Mutex::new(0u64), Condvar::new());

    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _waiter = Waiter(Some(mutex.lock().expect("a free mutex")), &condvar);
        std::panic::resume_unwind(Box::new(()));
    }));

    assert!(panicked.is_err());
    assert!(mutex.is_poisoned());
}

#[test]
fn whatever_the_word_is_waits_end_and_notifications_reach_those_who_wait() {
    let region = Region::anonymous(4096).expect("a region");
    let (mutex, condvar) = (Mutex::new(0u64), region.insert("condvar", Condvar::new()).expect("room"));
    // SAFETY: a condvar is this one atomic word.
    let word: &AtomicU32 = unsafe { &*std::ptr::from_ref(&*condvar).cast() };

    for garbage in [0, 1, 2, 3, u32::MAX, u32::MAX - 1, 1 << 31, 0xdead_beef] {
        word.store(garbage, Relaxed);
        let guard = mutex.lock().expect("a free mutex");
        let (guard, outcome) = condvar.wait_timeout(guard, Duration::from_millis(1)).expect("a sound mutex");
        assert!(outcome.timed_out());
        drop(guard);
        word.store(garbage, Relaxed);
        condvar.notify_one();
        condvar.notify_all();
        thread::scope(|scope| {
            let waiter = scope.spawn(|| {
                let guard = mutex.lock().expect("a free mutex");
                condvar.wait_timeout_while(guard, LONG, |number| *number == 0).expect("sound").1.timed_out()
            });
            *mutex.lock().expect("a free mutex") = 1;
            condvar.notify_one();
            assert!(!waiter.join().expect("no panic"), "{garbage:#x}");
        });
        *mutex.lock().expect("a free mutex") = 0;
    }
}

#[test]
fn one_condvar_serves_waiters_of_different_mutexes() {
    let (one, other, condvar) = (Mutex::new(0u64), Mutex::new(0u64), Condvar::new());

    thread::scope(|scope| {
        let waiters = [&one, &other].map(|mutex| {
            let condvar = &condvar;
            scope.spawn(move || {
                let guard = mutex.lock().expect("a free mutex");
                condvar.wait_timeout_while(guard, LONG, |number| *number == 0).expect("sound").1.timed_out()
            })
        });
        for mutex in [&one, &other] {
            *mutex.lock().expect("a free mutex") = 1;
            condvar.notify_all();
        }
        waiters.into_iter().for_each(|waiter| assert!(!waiter.join().expect("no panic")));
    });
}
