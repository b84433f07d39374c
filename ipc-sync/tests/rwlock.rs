//! The `RwLock` between the threads of one process.

#![cfg(not(ipc_loom))]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
use std::thread;
use std::time::{Duration, Instant};

use shmkit_core::{Region, Shm};
use shmkit_sync::{LockError, Poison, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// How many readers there is room for.
const CELLS: usize = 128;

/// What is at which place in a lock, in words of 8 bytes.
const TURN: usize = 0;
const DOWNGRADED: usize = 3;
const FIRST_CELL: usize = 8;

fn word<T>(lock: &RwLock<T>, index: usize) -> &AtomicU64 {
    assert!((index + 1) * 8 <= size_of::<RwLock<T>>());
    // SAFETY: within the lock, aligned, and an atomic of this size lies there.
    unsafe { &*std::ptr::from_ref(lock).cast::<AtomicU64>().add(index) }
}

/// The words that are half as long: the poison, the gate, the count of those who have left.
fn half_word<T>(lock: &RwLock<T>, offset: usize) -> &AtomicU32 {
    assert!([POISON, GATE, LEFT].contains(&offset));
    // SAFETY: within the lock, aligned, and an atomic of this size lies there.
    unsafe { &*std::ptr::from_ref(lock).cast::<AtomicU32>().add(offset / 4) }
}

const POISON: usize = 16;
const GATE: usize = 20;
const LEFT: usize = 32;

fn in_region<T>(scene: impl Fn(&Region) -> T) -> T {
    scene(&Region::anonymous(1 << 14).expect("a region"))
}

/// Adds to both numbers from some threads, while others look whether they are ever different.
fn count(lock: &RwLock<[u64; 2]>) {
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..5_000 {
                    lock.write().expect("a sound lock").iter_mut().for_each(|number| *number += 1);
                }
            });
            scope.spawn(|| {
                for _ in 0..20_000 {
                    let guard = lock.read().expect("a sound lock");
                    assert_eq!(guard[0], guard[1]);
                }
            });
        }
    });
    assert_eq!(*lock.read().expect("a sound lock"), [15_000; 2]);
}

#[test]
fn writers_count_exactly_and_readers_see_nothing_half_written() {
    count(&RwLock::new([0; 2]));
    in_region(|region| count(&region.insert("lock", RwLock::new([0; 2])).expect("room")));
}

#[test]
fn readers_read_together_and_keep_writers_out() {
    let lock = RwLock::new(7u64);
    let one = lock.read().expect("a free lock");

    thread::scope(|scope| {
        scope.spawn(|| assert_eq!(*lock.read().expect("a lock that is read"), 7));
        scope.spawn(|| assert!(lock.try_read().is_ok()));
    });
    thread::scope(|scope| {
        scope.spawn(|| assert!(matches!(lock.try_write(), Err(LockError::WouldBlock))));
        scope.spawn(|| assert!(matches!(lock.write_timeout(Duration::from_millis(20)), Err(LockError::TimedOut))));
    });
    assert!(lock.try_read().is_ok());

    drop(one);
    assert!(lock.try_write().is_ok());
}

#[test]
fn a_writer_keeps_everybody_out() {
    let lock = RwLock::new(7u64);
    let guard = lock.write().expect("a free lock");
    let timeout = Duration::from_millis(20);

    thread::scope(|scope| {
        scope.spawn(|| assert!(matches!(lock.try_read(), Err(LockError::WouldBlock))));
        scope.spawn(|| assert!(matches!(lock.try_write(), Err(LockError::WouldBlock))));
        for by_reading in [true, false] {
            let lock = &lock;
            scope.spawn(move || {
                let start = Instant::now();
                let timed_out = if by_reading {
                    matches!(lock.read_timeout(timeout), Err(LockError::TimedOut))
                } else {
                    matches!(lock.write_timeout(timeout), Err(LockError::TimedOut))
                };
                assert!(timed_out && start.elapsed() >= timeout);
            });
        }
    });

    drop(guard);
    assert!(lock.try_read().is_ok());
}

#[test]
fn a_thread_with_the_lock_gets_it_for_writing_neither_by_try_nor_by_a_timed_call() {
    let lock = RwLock::new(0u64);
    let reading = lock.read().expect("a free lock");
    assert!(matches!(lock.try_write(), Err(LockError::WouldBlock)));
    assert!(matches!(lock.write_timeout(Duration::from_millis(10)), Err(LockError::TimedOut)));
    assert!(lock.try_read().is_ok());
    drop(reading);

    let _writing = lock.write().expect("a free lock");
    assert!(matches!(lock.try_write(), Err(LockError::WouldBlock)));
    assert!(matches!(lock.read_timeout(Duration::from_millis(10)), Err(LockError::TimedOut)));
}

#[test]
fn a_deadline_in_the_past_gets_a_free_lock_and_no_taken_one() {
    let lock = RwLock::new(0u64);
    let past = Instant::now().checked_sub(Duration::from_millis(1)).expect("the clock is older than that");

    let reading = lock.read_deadline(past).expect("a free lock");
    assert!(lock.read_deadline(past).is_ok());
    assert!(matches!(lock.write_deadline(past), Err(LockError::TimedOut)));
    assert!(matches!(lock.write_deadline(Instant::now() + Duration::from_millis(20)), Err(LockError::TimedOut)));
    drop(reading);
    let _writing = lock.write_deadline(past).expect("a free lock");
    assert!(matches!(lock.read_deadline(past), Err(LockError::TimedOut)));
    assert!(matches!(lock.read_timeout(Duration::ZERO), Err(LockError::TimedOut)));
    assert!(matches!(lock.write_timeout(Duration::ZERO), Err(LockError::TimedOut)));
}

#[test]
fn a_timeout_beyond_all_clocks_is_none() {
    let lock = RwLock::new(0u64);

    drop(lock.write_timeout(Duration::MAX).expect("a free lock"));
    assert!(lock.read_timeout(Duration::MAX).is_ok());
}

#[test]
fn one_who_timed_out_leaves_the_lock_as_it_was() {
    let lock = RwLock::new(0u64);
    let reading = lock.read().expect("a free lock");

    assert!(matches!(lock.write_timeout(Duration::from_millis(5)), Err(LockError::TimedOut)));

    assert!(lock.try_read().is_ok(), "readers come in again");
    drop(reading);
    assert!(lock.try_write().is_ok());
    assert!(!lock.is_poisoned());
}

#[test]
fn a_writer_gets_its_turn_among_readers_that_never_leave_the_lock_free() {
    let lock = RwLock::new(0u64);
    let done = AtomicBool::new(false);
    let readers = AtomicU32::new(0);

    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut last = lock.read().expect("a sound lock");
                readers.fetch_add(1, SeqCst);
                while !done.load(Relaxed) {
                    // The next guard before the last one goes, unless that would wait for a writer.
                    if let Ok(next) = lock.try_read() {
                        last = next;
                    } else {
                        drop(last);
                        last = lock.read().expect("a sound lock");
                    }
                }
            });
        }
        while readers.load(SeqCst) < 2 {
            thread::yield_now();
        }
        for _ in 0..20 {
            *lock.write_timeout(Duration::from_secs(20)).expect("a turn") += 1;
        }
        done.store(true, Relaxed);
    });
}

#[test]
fn a_reader_gets_its_turn_among_writers_that_never_pause() {
    let lock = RwLock::new(0u64);
    let done = AtomicBool::new(false);

    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Relaxed) {
                    *lock.write().expect("a sound lock") += 1;
                }
            });
        }
        for _ in 0..100 {
            let read = lock.read_timeout(Duration::from_secs(20)).is_ok();
            assert!(read);
        }
        done.store(true, Relaxed);
    });
}

fn threads_read_together(lock: &RwLock<u64>) {
    let inside = AtomicU32::new(0);
    thread::scope(|scope| {
        for _ in 0..40 {
            scope.spawn(|| {
                let _guard = lock.read().expect("a sound lock");
                inside.fetch_add(1, SeqCst);
                while inside.load(SeqCst) < 40 {
                    thread::yield_now();
                }
            });
        }
    });
    assert!(lock.try_write().is_ok());
}

#[test]
fn more_threads_read_at_once_than_there_are_cells_in_a_line() {
    threads_read_together(&RwLock::new(1));
    in_region(|region| threads_read_together(&region.insert("lock", RwLock::new(1)).expect("room")));
}

fn fill(lock: &RwLock<u64>) -> Vec<RwLockReadGuard<'_, u64>> {
    (0..CELLS).map(|_| lock.read().expect("room for a reader")).collect()
}

#[test]
fn the_129th_reader_waits_for_one_to_leave() {
    let lock = RwLock::new(1u64);
    let mut guards = fill(&lock);
    assert!(matches!(lock.try_read(), Err(LockError::WouldBlock)));
    assert!(matches!(lock.read_timeout(Duration::from_millis(10)), Err(LockError::TimedOut)));

    let is_in = AtomicBool::new(false);
    thread::scope(|scope| {
        let late = scope.spawn(|| {
            let guard = lock.read_timeout(Duration::from_secs(20)).expect("a free cell");
            is_in.store(true, SeqCst);
            *guard
        });
        // The gate says that somebody is asleep, or is about to.
        while half_word(&lock, GATE).load(SeqCst) != 2 {
            thread::yield_now();
        }
        assert!(!is_in.load(SeqCst));
        guards.pop();
        assert_eq!(late.join().expect("no panic"), 1);
    });

    guards.pop();
    assert!(lock.try_read().is_ok(), "the gate is open again");
    drop(guards);
    assert!(lock.try_write().is_ok());
}

#[test]
fn a_full_house_empties_for_a_writer() {
    let lock = RwLock::new(1u64);
    let guards = fill(&lock);

    thread::scope(|scope| {
        let writer = scope.spawn(|| *lock.write().expect("a sound lock") += 1);
        while half_word(&lock, GATE).load(SeqCst) != 2 {
            thread::yield_now();
        }
        drop(guards);
        writer.join().expect("no panic");
    });

    assert_eq!(*lock.read().expect("a sound lock"), 2);
}

#[test]
fn a_downgraded_writer_reads_with_others_and_keeps_writers_out() {
    let lock = RwLock::new(1u64);
    let mut writing = lock.write().expect("a free lock");
    *writing = 2;

    let reading = RwLockWriteGuard::downgrade(writing);

    assert_eq!(*reading, 2);
    assert_eq!(*lock.try_read().expect("readers come in"), 2);
    assert!(matches!(lock.try_write(), Err(LockError::WouldBlock)));
    drop(reading);
    let reading = RwLockWriteGuard::downgrade(lock.write().expect("a free lock"));
    drop(reading);
    assert!(lock.try_write().is_ok());
}

#[test]
fn a_downgrade_lets_no_writer_in_between_also_one_that_waits() {
    let lock = RwLock::new(0u64);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..2_000 {
                    let mut writing = lock.write().expect("a sound lock");
                    *writing += 1;
                    let mine = *writing;
                    let reading = RwLockWriteGuard::downgrade(writing);
                    assert_eq!(*reading, mine);
                }
            });
        }
    });
    assert_eq!(*lock.read().expect("a sound lock"), 6_000);
}

#[test]
fn a_panic_of_a_writer_poisons_for_all_and_one_of_a_reader_does_not() {
    let lock = RwLock::new(1u64);
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _guard = lock.read();
        std::panic::resume_unwind(Box::new(()));
    }));
    assert!(panicked.is_err() && !lock.is_poisoned());
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        *lock.write().expect("a free lock") = 2;
        let _guard = lock.write();
        std::panic::resume_unwind(Box::new(()));
    }));
    assert!(panicked.is_err());

    assert!(lock.is_poisoned());
    let error = lock.read().expect_err("poison");
    assert!(matches!(error, LockError::Poisoned { cause: Poison::Panicked, .. }));
    assert_eq!(*error.into_guard().expect("the guard inside"), 2);
    assert!(matches!(lock.try_read(), Err(LockError::Poisoned { .. })));
    assert!(matches!(lock.try_write(), Err(LockError::Poisoned { .. })));
    drop(lock.write().expect_err("poison"));
    lock.clear_poison();
    assert!(!lock.is_poisoned());
    assert!(lock.write().is_ok());
}

#[test]
fn a_downgrade_by_a_panic_poisons_and_a_guard_taken_and_dropped_while_unwinding_does_not() {
    struct Downgrader<'a>(Option<RwLockWriteGuard<'a, u64>>);
    impl Drop for Downgrader<'_> {
        fn drop(&mut self) {
            drop(self.0.take().map(RwLockWriteGuard::downgrade));
        }
    }
    struct Adder<'a>(&'a RwLock<u64>);
    impl Drop for Adder<'_> {
        fn drop(&mut self) {
            *self.0.write().expect("a free lock") += 1;
        }
    }
    let lock = RwLock::new(0u64);

    let _ = catch_unwind(AssertUnwindSafe(|| {
        let _adder = Adder(&lock);
        std::panic::resume_unwind(Box::new(()));
    }));
    assert_eq!(*lock.read().expect("no poison"), 1);
    let _ = catch_unwind(AssertUnwindSafe(|| {
        let _downgrader = Downgrader(lock.write().ok());
        std::panic::resume_unwind(Box::new(()));
    }));
    assert!(lock.is_poisoned());
    assert!(lock.try_write().is_err_and(|error| error.into_guard().is_ok()), "and is free");
}

#[test]
fn a_guard_shows_the_value_and_a_lock_whether_it_is_poisoned() {
    let lock = RwLock::from(4711u64);

    assert_eq!(format!("{:?}", lock.read().expect("a free lock")), "4711");
    assert_eq!(format!("{:?}", lock.write().expect("a free lock")), "4711");
    assert_eq!(lock.read().expect("a free lock").to_string(), "4711");
    assert_eq!(lock.write().expect("a free lock").to_string(), "4711");
    assert_eq!(format!("{lock:?}"), "RwLock { poisoned: false, .. }");
}

#[test]
fn outside_of_any_region_a_forgotten_guard_keeps_writers_out_for_good() {
    let lock = Box::new(RwLock::new(1u64));
    std::mem::forget(lock.read().expect("a free lock"));

    assert!(matches!(lock.try_write(), Err(LockError::WouldBlock)));
    assert!(matches!(lock.write_timeout(Duration::from_millis(20)), Err(LockError::TimedOut)));
    assert!(lock.read().is_ok());
}

// Any bytes.

const GARBAGE: [u64; 9] = [1, 2, 3, 7, (1 << 28) - 1, 1 << 28, 0x1234_5678_9abc_def1, u64::MAX - 1, u64::MAX];

/// Does everything, and leaves the lock free if that was possible.
fn exercise(lock: &RwLock<u64>) {
    let soon = Duration::from_millis(2);
    drop(lock.try_read());
    drop(lock.try_write());
    drop(lock.read_timeout(soon));
    drop(lock.write_timeout(soon));
    drop(lock.read_timeout(soon).or_else(LockError::into_guard));
    if let Ok(guard) = lock.write_timeout(soon).or_else(LockError::into_guard) {
        drop(RwLockWriteGuard::downgrade(guard));
    }
    lock.clear_poison();
    let _ = lock.is_poisoned();
    let _ = format!("{lock:?}");
}

fn new_in(region: &Region) -> Shm<RwLock<u64>> {
    region.insert("lock", RwLock::new(7)).expect("room")
}

#[test]
fn a_gate_of_any_value_is_survived_and_one_that_is_not_open_poisons_or_opens() {
    for value in [1, 2, 3, 5, 77, u32::MAX] {
        in_region(|region| {
            let lock = new_in(region);
            half_word(&lock, GATE).store(value, Relaxed);
            exercise(&lock);
            half_word(&lock, GATE).store(value, Relaxed);
            assert_eq!(lock.read().is_err(), value > 2, "{value}");
            assert_eq!(half_word(&lock, GATE).load(Relaxed), 0);
            lock.clear_poison();
            assert!(lock.try_write().is_ok() && lock.try_read().is_ok());
        });
    }
}

#[test]
fn cells_and_turns_with_tokens_of_nobody_are_those_of_dead() {
    for value in GARBAGE {
        for index in [TURN, DOWNGRADED, FIRST_CELL, FIRST_CELL + 1, FIRST_CELL + CELLS - 1] {
            in_region(|region| {
                let lock = new_in(region);
                word(&lock, index).store(value, Relaxed);
                exercise(&lock);
                assert!(lock.try_write().is_ok() && lock.try_read().is_ok(), "{value:#x} at {index}");
            });
        }
        in_region(|region| {
            let lock = new_in(region);
            (FIRST_CELL..FIRST_CELL + CELLS).for_each(|index| word(&lock, index).store(value, Relaxed));
            assert!(lock.try_read().is_ok(), "{value:#x} everywhere");
            assert!(lock.try_write().is_ok(), "{value:#x} everywhere");
        });
    }
}

#[test]
fn all_words_full_of_any_bytes_end_no_call_badly() {
    for value in GARBAGE {
        let scene = |lock: &RwLock<u64>| {
            (0..FIRST_CELL + CELLS).for_each(|index| word(lock, index).store(value, Relaxed));
            exercise(lock);
            exercise(lock);
        };
        in_region(|region| scene(&new_in(region)));
        scene(&RwLock::new(7));
    }
}

#[test]
fn cells_with_the_token_of_somebody_alive_keep_writers_out_until_their_time_is_over() {
    in_region(|region| {
        let lock = new_in(region);
        let guard = lock.read().expect("a free lock");
        let token = (FIRST_CELL..FIRST_CELL + CELLS)
            .map(|index| word(&lock, index).load(Relaxed))
            .find(|word| *word != 0)
            .expect("the token of this process");
        (FIRST_CELL..FIRST_CELL + CELLS).for_each(|index| word(&lock, index).store(token, Relaxed));
        drop(guard);
        exercise(&lock);
        assert!(matches!(lock.try_write(), Err(LockError::WouldBlock)));
        assert!(matches!(lock.write_timeout(Duration::from_millis(10)), Err(LockError::TimedOut)));
    });
}

#[test]
fn a_poison_of_any_other_value_is_corrupted_until_it_is_cleared() {
    let lock = RwLock::new(1u64);
    half_word(&lock, POISON).store(0xdead_beef, Relaxed);

    assert!(lock.read().is_err_and(|error| error.to_string().contains("poison")));
    assert!(matches!(lock.try_write(), Err(LockError::Failed(_))));
    assert!(matches!(lock.read_timeout(Duration::ZERO), Err(LockError::Failed(_))));
    lock.clear_poison();
    assert!(lock.read().is_ok() && lock.write().is_ok());
}

#[test]
fn a_count_of_those_who_left_of_any_value_is_fine() {
    let lock = RwLock::new(1u64);
    half_word(&lock, LEFT).store(u32::MAX, Relaxed);
    let guard = lock.read().expect("a free lock");

    thread::scope(|scope| {
        let writer = scope.spawn(|| *lock.write().expect("a sound lock") = 2);
        while half_word(&lock, GATE).load(SeqCst) != 2 {
            thread::yield_now();
        }
        drop(guard);
        writer.join().expect("no panic");
    });

    assert_eq!(half_word(&lock, LEFT).load(Relaxed), 0);
}
