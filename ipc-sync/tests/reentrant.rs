//! The `ReentrantMutex` between the threads of one process.

#![cfg(not(ipc_loom))]

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};

use shmkit_core::{Error, Region};
use shmkit_sync::{LockError, Poison, ReentrantMutex};

const SHORT: Duration = Duration::from_millis(20);

/// Adds one, not atomically, with as many guards as there are levels.
fn add(counter: &ReentrantMutex<AtomicU64>, levels: u32) {
    let counted = counter.lock().expect("a sound mutex");
    if levels > 1 {
        add(counter, levels - 1);
    } else {
        counted.store(counted.load(Relaxed) + 1, Relaxed);
    }
}

fn count(counter: &ReentrantMutex<AtomicU64>) {
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..2000).for_each(|_| add(counter, 3)));
        }
    });
    assert_eq!(counter.lock().expect("a sound mutex").load(Relaxed), 8000);
}

#[test]
fn threads_that_lock_three_times_count_exactly_in_a_region_and_outside() {
    static COUNTER: ReentrantMutex<AtomicU64> = ReentrantMutex::new(AtomicU64::new(0));
    let region = Region::anonymous(4096).expect("a region");

    count(&region.insert("counter", ReentrantMutex::new(AtomicU64::new(0))).expect("room"));
    count(&ReentrantMutex::default());
    count(&COUNTER);
}

/// What another thread gets now, and after a moment.
fn is_free_for_others(mutex: &ReentrantMutex<AtomicU64>) -> bool {
    thread::scope(|scope| {
        let other = scope.spawn(|| match (mutex.try_lock().map(drop), mutex.lock_timeout(SHORT).map(drop)) {
            (Ok(()), Ok(())) => true,
            (Err(LockError::WouldBlock), Err(LockError::TimedOut)) => false,
            other => panic!("{other:?}"),
        });
        other.join().expect("no panic")
    })
}

#[test]
fn as_many_guards_must_go_as_have_come_in_whatever_order() {
    let mutex = ReentrantMutex::new(AtomicU64::new(0));
    let first = mutex.lock().expect("free");
    let second = mutex.try_lock().expect("its own");
    let third = mutex.lock_timeout(Duration::ZERO).expect("its own");
    let fourth = mutex.lock_deadline(Instant::now()).expect("its own");

    for guard in [first, third, fourth, second] {
        assert!(!is_free_for_others(&mutex));
        drop(guard);
    }

    assert!(is_free_for_others(&mutex));
}

#[test]
fn a_held_mutex_is_refused_after_the_timeout_and_not_before() {
    let mutex = ReentrantMutex::new(AtomicU64::new(0));
    let _guard = mutex.lock_timeout(Duration::MAX).expect("free");

    thread::scope(|scope| {
        scope.spawn(|| {
            let start = Instant::now();
            assert!(matches!(mutex.lock_deadline(Instant::now() + SHORT), Err(LockError::TimedOut)));
            assert!(start.elapsed() >= SHORT);
        });
    });
}

#[test]
fn outside_of_any_region_it_protects_what_only_one_thread_at_a_time_may_use() {
    let mutex = ReentrantMutex::new(RefCell::new(vec![1]));
    let guard = mutex.lock().expect("free");

    mutex.lock().expect("its own").borrow_mut().push(2);

    assert_eq!(guard.borrow().as_slice(), [1, 2]);
}

#[test]
fn a_panic_with_a_guard_poisons_for_all_who_lock_until_that_is_cleared() {
    let mutex = ReentrantMutex::new(AtomicU64::new(0));
    let outer = mutex.lock().expect("free");
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _inner = mutex.lock();
        std::panic::resume_unwind(Box::new(()));
    }));
    assert!(panicked.is_err() && mutex.is_poisoned());

    let again = mutex.lock().expect_err("poison");
    assert!(matches!(again, LockError::Poisoned { cause: Poison::Panicked, .. }));
    drop(again);
    drop(outer);
    assert!(matches!(mutex.try_lock(), Err(LockError::Poisoned { cause: Poison::Panicked, .. })));
    mutex.clear_poison();
    assert!(is_free_for_others(&mutex));
}

/// Its four words: the two of the lock, the owner, and depth and poison together.
fn words(mutex: &ReentrantMutex<AtomicU64>) -> &[AtomicU64; 4] {
    // SAFETY: a reentrant mutex begins with these; the last one is two atomics of four bytes, which no other thread uses meanwhile.
    unsafe { &*std::ptr::from_ref(mutex).cast() }
}

#[test]
fn a_depth_that_cannot_be_is_corrupted_and_does_not_wrap() {
    let mutex = ReentrantMutex::new(AtomicU64::new(0));
    let guard = mutex.lock().expect("free");

    for depth in [0, u64::from(u32::MAX)] {
        words(&mutex)[3].store(depth, Relaxed);
        let error = mutex.lock().expect_err("corrupted");
        assert!(matches!(error, LockError::Failed(Error::Corrupted { found, .. }) if found == depth));
        assert!(mutex.try_lock().is_err() && mutex.lock_timeout(SHORT).is_err());
    }
    words(&mutex)[3].store(1, Relaxed);
    drop(guard);
    assert!(is_free_for_others(&mutex));
}

#[test]
fn whatever_the_words_are_every_call_returns() {
    let region = Region::anonymous(4096).expect("a region");
    let garbage = [1, 2, 3, (1 << 28) - 1, 1 << 28, u64::MAX, u64::MAX - 1, 1 << 63, 0x1234_5678_9abc_def1];
    for (at, what) in garbage.iter().enumerate() {
        let mutex = region.insert(&format!("mutex {at}"), ReentrantMutex::new(AtomicU64::new(0))).expect("room");
        // An owner of a lock that is free, or that somebody has, is nobody to those who come.
        words(&mutex)[2].store(*what, Relaxed);
        drop(mutex.lock().expect("free"));
        assert!(is_free_for_others(&mutex), "{what:#x}");
        // The owner that is overwritten waits for itself.
        let guard = mutex.lock().expect("free");
        words(&mutex)[2].store(*what, Relaxed);
        assert!(matches!(mutex.lock_timeout(Duration::ZERO), Err(LockError::TimedOut)));
        drop(guard);
        // Everything at once.
        words(&mutex).iter().for_each(|word| word.store(*what, Relaxed));
        _ = mutex.try_lock().map(drop);
        _ = mutex.lock_timeout(Duration::from_millis(1)).map(drop);
        mutex.clear_poison();
        drop(mutex.lock_timeout(SHORT));
        assert!(!mutex.is_poisoned() || mutex.lock_timeout(SHORT).is_err());
    }
}

#[test]
fn a_guard_shows_the_value_and_a_mutex_whether_it_is_poisoned() {
    let mutex = ReentrantMutex::from(4711u64);

    assert_eq!(format!("{:?}", mutex.lock().expect("free")), "4711");
    assert_eq!(mutex.lock().expect("free").to_string(), "4711");
    assert_eq!(format!("{mutex:?}"), "ReentrantMutex { poisoned: false, .. }");
}
