//! The poison of a mutex. What its lock does is modelled in the core.

use std::sync::Arc;

use shmkit_core::shim::explore::{end, explore_deaths, keeper, processes, spawn_mortal};
use shmkit_sync::{LockError, Mutex, Poison};

/// Locks and adds to both halves; says whether the lock was poisoned. Half-changed numbers are mended.
fn add(mutex: &Mutex<[u32; 2]>) -> bool {
    let (mut guard, poisoned) = match mutex.lock() {
        Ok(guard) => (guard, false),
        Err(LockError::Poisoned { guard, cause: Poison::OwnerDied }) => (guard, true),
        Err(error) => panic!("{error}"),
    };
    assert!(guard[0] == guard[1] || poisoned, "half-changed and sound");
    guard[1] = guard[0];
    if poisoned {
        mutex.clear_poison();
    }
    guard[0] += 1;
    guard[1] += 1;
    poisoned
}

#[test]
fn whoever_locks_after_a_death_finds_the_poison_also_if_the_first_to_know_dies() {
    let points = ["mutex.lock.before_poison", "lock.after_take", "lock.after_cas", "lock.unlock.before_store"];
    explore_deaths(1, &points, |at| {
        let (region, [owner, survivor, victim]) = processes();
        let mutex = Arc::new(Mutex::new([0, 0]));
        owner.act();
        let mut guard = mutex.lock().expect("a new mutex");
        guard[0] += 1;
        core::mem::forget(guard);
        owner.die();
        let keeper = keeper(&survivor);
        let (thread, place) = spawn_mortal(&victim, at, {
            let mutex = Arc::clone(&mutex);
            // It looks, but mends nothing.
            move || drop(mutex.lock())
        });
        survivor.act();
        add(&mutex);
        thread.join().unwrap();
        add(&mutex);
        assert!(!mutex.is_poisoned());
        end(&region, [keeper]);
        *place.lock().unwrap()
    });
}
