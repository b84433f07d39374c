//! The `Mutex` between the threads of one process.

#![cfg(not(ipc_loom))]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::{Duration, Instant};

use shmkit_core::Region;
use shmkit_sync::{LockError, Mutex, Poison};

#[test]
fn threads_count_exactly_outside_of_any_region() {
    let mutex = Mutex::new(0u64);

    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..10_000).for_each(|_| *mutex.lock().expect("a sound mutex") += 1));
        }
    });

    assert_eq!(*mutex.lock().expect("a sound mutex"), 40_000);
}

#[test]
fn threads_count_exactly_in_a_region() {
    let region = Region::anonymous(100).expect("a region");
    let mutex = region.insert("mutex", Mutex::new(0u64)).expect("room");

    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..10_000).for_each(|_| *mutex.lock().expect("a sound mutex") += 1));
        }
    });

    assert_eq!(*mutex.lock().expect("a sound mutex"), 40_000);
}

#[test]
fn a_held_mutex_is_refused_at_once_or_after_the_timeout_outside_of_any_region() {
    let mutex = Mutex::new(0u64);
    let guard = mutex.lock().expect("a free mutex");
    let timeout = Duration::from_millis(50);

    thread::scope(|scope| {
        scope.spawn(|| {
            assert!(matches!(mutex.try_lock(), Err(LockError::WouldBlock)));
            let start = Instant::now();
            assert!(matches!(mutex.lock_timeout(timeout), Err(LockError::TimedOut)));
            assert!(start.elapsed() >= timeout);
        });
    });

    drop(guard);
    assert!(mutex.try_lock().is_ok());
}

#[test]
fn a_thread_that_holds_the_mutex_gets_it_neither_by_try_nor_by_a_timed_lock() {
    let mutex = Mutex::new(0u64);
    let _guard = mutex.lock().expect("a free mutex");

    assert!(matches!(mutex.try_lock(), Err(LockError::WouldBlock)));
    assert!(matches!(mutex.lock_timeout(Duration::from_millis(10)), Err(LockError::TimedOut)));
}

#[test]
fn a_deadline_in_the_past_gets_a_free_mutex_and_no_held_one() {
    let mutex = Mutex::new(0u64);
    let past = Instant::now().checked_sub(Duration::from_millis(1)).expect("the clock is older than that");

    let guard = mutex.lock_deadline(past).expect("a free mutex");
    assert!(matches!(mutex.lock_deadline(past), Err(LockError::TimedOut)));
    assert!(matches!(mutex.lock_deadline(Instant::now() + Duration::from_millis(20)), Err(LockError::TimedOut)));
    assert!(matches!(mutex.lock_timeout(Duration::ZERO), Err(LockError::TimedOut)));
    drop(guard);
}

#[test]
fn a_timeout_beyond_all_clocks_is_none() {
    let mutex = Mutex::new(0u64);

    assert!(mutex.lock_timeout(Duration::MAX).is_ok());
}

#[test]
fn a_panic_with_the_guard_poisons_and_one_before_it_does_not() {
    let mutex = Mutex::new(1u64);
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        *mutex.lock().expect("a free mutex") = 2;
        let _guard = mutex.lock();
        std::panic::resume_unwind(Box::new(()));
    }));
    assert!(panicked.is_err());

    assert!(mutex.is_poisoned());
    let error = mutex.lock().expect_err("poison");
    assert!(matches!(error, LockError::Poisoned { cause: Poison::Panicked, .. }));
    assert_eq!(*error.into_guard().expect("the guard inside"), 2);
    mutex.clear_poison();
    assert!(!mutex.is_poisoned());
    assert!(mutex.lock().is_ok());
}

#[test]
fn a_guard_taken_and_dropped_while_unwinding_does_not_poison() {
    struct Unlocker<'a>(&'a Mutex<u64>);
    impl Drop for Unlocker<'_> {
        fn drop(&mut self) {
            *self.0.lock().expect("a free mutex") += 1;
        }
    }
    let mutex = Mutex::new(0u64);

    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _unlocker = Unlocker(&mutex);
        std::panic::resume_unwind(Box::new(()));
    }));

    assert!(panicked.is_err());
    assert_eq!(*mutex.lock().expect("no poison"), 1);
}

#[test]
fn errors_say_what_happened_and_what_to_do() {
    let mutex = Mutex::new(0u64);
    let guard = mutex.lock().expect("a free mutex");

    assert_eq!(mutex.try_lock().expect_err("held").to_string(), "the lock is held by somebody else");
    assert!(mutex.lock_timeout(Duration::ZERO).expect_err("held").to_string().contains("time was over"));
    assert!(mutex.try_lock().expect_err("held").into_guard().is_err());
    drop(guard);
}

#[test]
fn a_guard_shows_the_value_and_a_mutex_whether_it_is_poisoned() {
    let mutex = Mutex::from(4711u64);

    assert_eq!(format!("{:?}", mutex.lock().expect("a free mutex")), "4711");
    assert_eq!(mutex.lock().expect("a free mutex").to_string(), "4711");
    assert_eq!(format!("{mutex:?}"), "Mutex { poisoned: false, .. }");
}

#[test]
fn outside_of_any_region_a_forgotten_guard_keeps_the_mutex_locked_for_good() {
    let mutex = Box::new(Mutex::new(1u64));
    std::mem::forget(mutex.lock().expect("a free mutex"));

    assert!(matches!(mutex.try_lock(), Err(LockError::WouldBlock)));
    assert!(matches!(mutex.lock_timeout(Duration::from_millis(20)), Err(LockError::TimedOut)));
}

#[test]
fn outside_of_any_region_waiters_are_woken_and_panics_poison() {
    static MUTEX: Mutex<[u64; 2]> = Mutex::new([0; 2]);
    let guard = MUTEX.lock().expect("a free mutex");

    thread::scope(|scope| {
        let waiter = scope.spawn(|| MUTEX.lock().map(|mut numbers| numbers[1] = numbers[0] + 1).is_ok());
        let mut guard = guard;
        guard[0] = 41;
        drop(guard);
        assert!(waiter.join().expect("no panic"));
        let panicking = scope.spawn(|| {
            let _guard = MUTEX.lock();
            std::panic::resume_unwind(Box::new(()));
        });
        assert!(panicking.join().is_err());
    });

    let poisoned = MUTEX.lock().expect_err("poison").into_guard().expect("the guard inside");
    assert_eq!(*poisoned, [41, 42]);
}
