//! The mutex that its owner can lock again. What its lock does is modelled in the core; here it is about who takes itself for the owner.

use std::sync::Arc;

use loom::cell::UnsafeCell;
use shmkit_core::shim::crash::run_and_die_at;
use shmkit_core::shim::explore::{end, explore, explore_deaths, follow, keeper, processes, spawn, spawn_mortal};
use shmkit_sync::{LockError, Poison, ReentrantMutex, ReentrantMutexGuard};

type Numbers = Arc<ReentrantMutex<UnsafeCell<[u32; 2]>>>;
type Guard<'a> = ReentrantMutexGuard<'a, UnsafeCell<[u32; 2]>>;

fn numbers() -> Numbers {
    Arc::new(ReentrantMutex::new(UnsafeCell::new([0; 2])))
}

/// Locks; says whether the lock was poisoned.
fn lock(numbers: &Numbers) -> (Guard<'_>, bool) {
    match numbers.lock() {
        Ok(guard) => (guard, false),
        Err(LockError::Poisoned { guard, cause: Poison::OwnerDied }) => (guard, true),
        Err(error) => panic!("{error}"),
    }
}

fn change(guard: &Guard<'_>, change: impl Fn(&mut [u32; 2])) {
    // SAFETY: the lock is held; loom fails the model if somebody else is here.
    guard.with_mut(|numbers| change(unsafe { &mut *numbers }));
}

/// Locks twice and adds to one half under each guard; says whether the lock was poisoned.
fn add(numbers: &Numbers) -> bool {
    let (outer, poisoned) = lock(numbers);
    change(&outer, |numbers| {
        assert!(numbers[0] == numbers[1] || poisoned, "half-changed and sound");
        numbers[1] = numbers[0];
        numbers[0] += 1;
    });
    if poisoned {
        numbers.clear_poison();
    }
    let (inner, _) = lock(numbers);
    drop(outer);
    change(&inner, |numbers| numbers[1] += 1);
    poisoned
}

fn sum(numbers: &Numbers) -> u32 {
    let (guard, _) = lock(numbers);
    // SAFETY: the lock is held.
    guard.with(|numbers| unsafe { (*numbers)[0] })
}

#[test]
fn processes_that_lock_twice_exclude_each_other() {
    explore(3, || {
        let (_region, [one, two]) = processes();
        let numbers = numbers();
        let thread = spawn(&two, {
            let numbers = Arc::clone(&numbers);
            move || _ = add(&numbers)
        });
        one.act();
        add(&numbers);
        thread.join().unwrap();
        assert_eq!(sum(&numbers), 2);
    });
}

#[test]
fn threads_of_one_process_that_lock_twice_exclude_each_other() {
    explore(3, || {
        let (_region, [process]) = processes();
        let numbers = numbers();
        let thread = spawn(&process, {
            let numbers = Arc::clone(&numbers);
            move || (0..2).for_each(|_| _ = add(&numbers))
        });
        process.act();
        add(&numbers);
        thread.join().unwrap();
        assert_eq!(sum(&numbers), 3);
    });
}

/// A thread's old note stands beside the token of its process, which a sibling has put there.
#[test]
fn a_guard_forgotten_before_the_process_left_and_came_back_lets_its_thread_in_no_more() {
    explore(3, || {
        let (_region, [process]) = processes();
        let numbers = numbers();
        process.act();
        let (guard, _) = lock(&numbers);
        core::mem::forget(guard);
        let later = process.leave();
        let process = process.rejoin(later);
        let thread = spawn(&process, {
            let numbers = Arc::clone(&numbers);
            move || _ = add(&numbers)
        });
        process.act();
        add(&numbers);
        thread.join().unwrap();
        assert_eq!(sum(&numbers), 2);
        assert!(!numbers.is_poisoned());
    });
}

/// The same at the very moment when the sibling has the lock and has not written its own note.
#[test]
fn a_forgotten_guards_note_lets_nobody_in_while_a_sibling_takes_over() {
    follow(|| {
        let (_region, [process]) = processes();
        let numbers = numbers();
        process.act();
        core::mem::forget(lock(&numbers).0);
        let later = process.leave();
        let process = process.rejoin(later);
        let thread = spawn(&process, {
            let numbers = Arc::clone(&numbers);
            // Its third crash point is `reentrant.lock.before_owner`. It stays there, and its process lives.
            move || {
                let place = run_and_die_at(3, || drop(lock(&numbers)));
                assert_eq!(place, Some("reentrant.lock.before_owner"));
            }
        });
        thread.join().unwrap();
        process.act();
        assert!(matches!(numbers.try_lock(), Err(LockError::WouldBlock)));
    });
}

#[test]
fn the_lock_of_one_who_dies_anywhere_goes_to_the_other_whatever_the_notes_say() {
    let points = [
        "lock.after_cas",
        "reentrant.lock.before_owner",
        "reentrant.lock.after_owner",
        "reentrant.lock_again.after_depth",
        "reentrant.unlock.after_owner",
        "lock.unlock.before_store",
    ];
    explore_deaths(1, &points, |at| {
        let (region, [survivor, victim]) = processes();
        let numbers = numbers();
        let keeper = keeper(&survivor);
        let (thread, place) = spawn_mortal(&victim, at, {
            let numbers = Arc::clone(&numbers);
            move || _ = add(&numbers)
        });
        survivor.act();
        let first = add(&numbers);
        thread.join().unwrap();
        let second = add(&numbers);
        let died = *place.lock().unwrap();
        assert!(!first && !second || died.is_some());
        assert!(!numbers.is_poisoned() && numbers.try_lock().is_ok());
        end(&region, [keeper]);
        died
    });
}

/// The first to take over dies, too, before it has said so.
#[test]
fn whoever_locks_after_two_deaths_finds_the_poison() {
    let points = ["lock.after_take", "reentrant.lock.before_owner", "reentrant.lock.before_poison"];
    explore_deaths(1, &points, |at| {
        let (region, [owner, survivor, victim]) = processes();
        let numbers = numbers();
        owner.act();
        let (guard, _) = lock(&numbers);
        change(&guard, |numbers| numbers[0] += 1);
        core::mem::forget(guard);
        owner.die();
        let keeper = keeper(&survivor);
        let (thread, place) = spawn_mortal(&victim, at, {
            let numbers = Arc::clone(&numbers);
            // It looks, but mends nothing.
            move || drop(lock(&numbers))
        });
        survivor.act();
        add(&numbers);
        thread.join().unwrap();
        add(&numbers);
        assert!(!numbers.is_poisoned());
        end(&region, [keeper]);
        *place.lock().unwrap()
    });
}
