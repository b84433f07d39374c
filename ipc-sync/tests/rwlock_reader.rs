//! Handles that read an `RwLock` by plain stores, between the threads of one process.

#![cfg(not(ipc_loom))]

use std::mem::forget;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use shmkit_core::Region;
use shmkit_sync::{LockError, Poison, RwLock, RwLockReader, RwLockWriteGuard};

/// How many cells there are, how many of them handles can keep, and how many lie in a line.
const CELLS: usize = 128;
const HANDLES: usize = 64;
const LINE: usize = 8;

/// What is at which place in a lock, in words of 8 bytes. The upper half of the second one says whether there can be handles.
const ASYMMETRIC: usize = 4;
const FIRST_CELL: usize = 8;

fn word<T>(lock: &RwLock<T>, index: usize) -> &AtomicU64 {
    assert!((index + 1) * 8 <= size_of::<RwLock<T>>());
    // SAFETY: within the lock, aligned, and an atomic of this size, or two of half of it, lie there.
    unsafe { &*std::ptr::from_ref(lock).cast::<AtomicU64>().add(index) }
}

/// The cells that are not free, by their numbers.
fn taken<T>(lock: &RwLock<T>) -> Vec<(usize, u64)> {
    let cells = (0..CELLS).map(|cell| (cell, word(lock, FIRST_CELL + cell).load(SeqCst)));
    cells.filter(|(_, word)| *word != 0).collect()
}

fn handle<T: bytemuck::Pod>(lock: &RwLock<T>) -> RwLockReader<'_, T> {
    lock.reader().expect("a thread of a participant")
}

fn is_in<T: bytemuck::Pod>(handle: &mut RwLockReader<'_, T>) -> bool {
    handle.try_read().is_ok()
}

fn here_and_in_a_region<T: shmkit_core::ShmSafe>(new: impl Fn() -> T, scene: impl Fn(&T)) {
    scene(&new());
    let region = Region::anonymous(1 << 14).expect("a region");
    scene(&region.insert("lock", new()).expect("room"));
}

#[test]
fn writers_count_exactly_and_handles_see_nothing_half_written() {
    here_and_in_a_region(
        || RwLock::new([0u64; 2]).asymmetric(),
        |lock| {
            thread::scope(|scope| {
                for _ in 0..2 {
                    scope.spawn(|| {
                        for _ in 0..10 {
                            lock.write().expect("a sound lock").iter_mut().for_each(|number| *number += 1);
                        }
                    });
                }
                for _ in 0..2 {
                    scope.spawn(|| {
                        let mut handle = handle(lock);
                        assert!(handle.is_cheap());
                        for _ in 0..20_000 {
                            let guard = handle.read().expect("a sound lock");
                            assert_eq!(guard[0], guard[1]);
                        }
                    });
                }
                scope.spawn(|| {
                    for _ in 0..10_000 {
                        let guard = lock.read().expect("a sound lock");
                        assert_eq!(guard[0], guard[1]);
                    }
                });
            });
            assert_eq!(*lock.read().expect("a sound lock"), [20; 2]);
            assert_eq!(taken(lock), [], "nobody is left");
        },
    );
}

#[test]
fn a_handle_keeps_its_cell_and_says_there_whether_it_reads() {
    let lock = RwLock::new(7u64).asymmetric();
    let mut handle = handle(&lock);
    let [(cell, idle)] = taken(&lock)[..] else { panic!("one cell") };
    assert_eq!(idle & 1, 1);

    let guard = handle.read().expect("a free lock");
    assert_eq!(taken(&lock), [(cell, idle - 1)]);
    assert_eq!(*guard, 7);
    assert!(matches!(lock.try_write(), Err(LockError::WouldBlock)));
    assert!(matches!(lock.write_timeout(Duration::from_millis(5)), Err(LockError::TimedOut)));
    drop(guard);

    assert_eq!(taken(&lock), [(cell, idle)]);
    assert!(lock.try_write().is_ok());
    drop(handle);
    assert_eq!(taken(&lock), []);
}

#[test]
fn a_handle_outside_while_a_writer_is_in_comes_in_after_it_and_not_before() {
    let lock = RwLock::new(7u64).asymmetric();
    let mut handle = handle(&lock);
    let idle = taken(&lock);
    let mut guard = lock.write().expect("a free lock");
    let time = Duration::from_millis(20);

    assert!(matches!(handle.try_read(), Err(LockError::WouldBlock)));
    let start = Instant::now();
    assert!(matches!(handle.read_timeout(time), Err(LockError::TimedOut)));
    assert!(matches!(handle.read_deadline(start + 2 * time), Err(LockError::TimedOut)));
    assert!(start.elapsed() >= 2 * time);
    assert_eq!(taken(&lock), idle);

    thread::scope(|scope| {
        let late = scope.spawn(|| *handle.read().expect("a sound lock"));
        *guard = 8;
        drop(guard);
        assert_eq!(late.join().expect("no panic"), 8);
    });
    assert_eq!(taken(&lock), idle, "the handle lives on, and its last guard does not");
}

#[test]
fn a_lock_that_is_not_asymmetric_keeps_no_cells() {
    let lock = RwLock::new(7u64);
    let mut handle = handle(&lock);

    assert!(!handle.is_cheap());
    assert_eq!(taken(&lock), []);
    assert_eq!(*handle.read().expect("a free lock"), 7);
    let writing = lock.write().expect("nobody reads");
    assert!(!is_in(&mut handle));
    drop(RwLockWriteGuard::downgrade(writing));
    assert!(is_in(&mut handle));
}

#[test]
fn handles_keep_lines_of_their_own_as_long_as_there_are_any_and_no_more_than_half_of_the_cells() {
    here_and_in_a_region(
        || RwLock::new(7u64).asymmetric(),
        |lock| {
            let mut handles: Vec<_> = (0..CELLS / LINE).map(|_| handle(lock)).collect();
            let lines: Vec<_> = taken(lock).into_iter().map(|(cell, _)| cell / LINE).collect();
            assert_eq!(lines, (0..CELLS / LINE).collect::<Vec<_>>());

            handles.extend((handles.len()..HANDLES).map(|_| handle(lock)));
            assert!(handles.iter().all(RwLockReader::is_cheap));
            let mut one_more = handle(lock);
            assert!(!one_more.is_cheap() && is_in(&mut one_more));
            assert_eq!(taken(lock).len(), HANDLES);

            handles.swap_remove(17);
            assert!(handle(lock).is_cheap());
            assert!(!one_more.is_cheap(), "it is made as it is");
        },
    );
}

#[test]
fn readers_without_a_handle_have_what_handles_leave() {
    let lock = RwLock::new(7u64).asymmetric();
    let mut handles: Vec<_> = (0..HANDLES).map(|_| handle(&lock)).collect();
    let guards: Vec<_> = (HANDLES..CELLS).map(|_| lock.read().expect("room")).collect();

    assert!(matches!(lock.try_read(), Err(LockError::WouldBlock)));
    assert!(handles.iter_mut().all(is_in));

    drop(handles);
    assert!(lock.try_read().is_ok());
    drop(guards);
    assert!(lock.try_write().is_ok());
}

#[test]
fn a_forgotten_guard_ends_with_the_next_one_of_its_handle_or_with_the_handle() {
    let lock = RwLock::new(7u64).asymmetric();
    let mut handle = handle(&lock);
    forget(handle.read().expect("a free lock"));
    assert!(lock.try_write().is_err());
    assert!(is_in(&mut handle));
    assert!(lock.try_write().is_ok());

    forget(handle.read().expect("a free lock"));
    thread::scope(|scope| {
        let writer = scope.spawn(|| *lock.write().expect("a sound lock") = 8);
        drop(handle);
        writer.join().expect("no panic");
    });

    assert_eq!(*lock.read().expect("a sound lock"), 8);
}

#[test]
fn a_handle_can_go_to_another_thread() {
    let lock = RwLock::new(7u64).asymmetric();
    let mut handle = handle(&lock);
    assert!(is_in(&mut handle));

    let mut back = thread::scope(|scope| {
        let other = scope.spawn(move || {
            assert!(is_in(&mut handle));
            handle
        });
        other.join().expect("no panic")
    });

    assert!(is_in(&mut back));
}

#[test]
fn a_panic_of_a_writer_is_seen_by_handles_and_one_with_a_handle_poisons_nothing() {
    let lock = RwLock::new(7u64).asymmetric();
    let mut handle = handle(&lock);
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _guard = handle.read();
        std::panic::resume_unwind(Box::new(()));
    }));
    assert!(panicked.is_err() && !lock.is_poisoned());
    assert!(lock.try_write().is_ok());

    let _ = catch_unwind(AssertUnwindSafe(|| {
        let _guard = lock.write();
        std::panic::resume_unwind(Box::new(()));
    }));

    let error = handle.read().expect_err("poison");
    assert!(matches!(error, LockError::Poisoned { cause: Poison::Panicked, .. }));
    drop(error);
    lock.clear_poison();
    assert!(is_in(&mut handle));
}

#[test]
fn debug_shows_whether_a_handle_is_cheap() {
    let lock = RwLock::new(4711u64).asymmetric();

    let text = format!("{:?}", handle(&lock));

    assert!(text.contains("is_cheap: true") && !text.contains("4711"), "{text}");
}

// Any bytes.

const GARBAGE: [u64; 9] = [1, 2, 3, 7, (1 << 28) - 1, 1 << 28, 0x1234_5678_9abc_def1, u64::MAX - 1, u64::MAX];

#[test]
fn whatever_stands_in_the_cell_of_a_handle_it_reads_on_and_writers_get_in() {
    for value in GARBAGE {
        here_and_in_a_region(
            || RwLock::new(7u64).asymmetric(),
            |lock| {
                let mut handle = handle(lock);
                let [(cell, _)] = taken(lock)[..] else { panic!("one cell") };
                let cell = word(lock, FIRST_CELL + cell);
                cell.store(value, Relaxed);
                assert!(is_in(&mut handle), "{value:#x}");
                assert!(lock.try_write().is_ok(), "{value:#x}");

                let guard = handle.read();
                cell.store(value, Relaxed);
                drop(guard);
                assert!(lock.try_write().is_ok(), "{value:#x}");
            },
        );
    }
}

#[test]
fn a_mark_of_any_value_but_zero_lets_handles_keep_cells() {
    for value in [1u32, 2, 77, u32::MAX] {
        let lock = RwLock::new(7u64);
        word(&lock, ASYMMETRIC).store(u64::from(value) << 32, Relaxed);
        let mut handle = handle(&lock);

        assert!(handle.is_cheap() && is_in(&mut handle));
        let guard = handle.read();
        assert!(lock.try_write().is_err());
        drop(guard);
        assert!(lock.try_write().is_ok());
    }
}

#[test]
fn handles_are_made_and_read_whatever_stands_in_all_words() {
    for value in GARBAGE {
        here_and_in_a_region(
            || RwLock::new(7u64).asymmetric(),
            |lock| {
                (0..FIRST_CELL + CELLS).for_each(|index| word(lock, index).store(value, Relaxed));
                let mut handles: Vec<_> = (0..3).map(|_| handle(lock)).collect();
                for handle in &mut handles {
                    drop(handle.try_read());
                    drop(handle.read_timeout(Duration::from_millis(2)));
                }
                drop(lock.write_timeout(Duration::from_millis(2)));
            },
        );
    }
}
