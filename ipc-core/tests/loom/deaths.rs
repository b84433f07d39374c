//! The lock among those who die.

use core::sync::atomic::Ordering::{Acquire, Release};
use std::sync::{Arc, Mutex};

use loom::thread;
use shmkit_core::crash_point;
use shmkit_core::identity::{FLAG, Token};
use shmkit_core::shim::AtomicU64;
use shmkit_core::shim::model::{Attachment, Process};
use shmkit_core::wait::{Site, wake_all};

use shmkit_core::shim::explore::{end, explore, explore_deaths, keeper, spawn_mortal};

use crate::support::{Office, abandon, held_at, owner_dies};

fn locker(office: &Arc<Office>) -> impl FnOnce() + 'static {
    let office = Arc::clone(office);
    move || {
        office.visit();
    }
}

#[test]
fn the_lock_of_one_who_dies_anywhere_goes_to_the_other() {
    let points = [
        "lock.after_cas",
        "lock.after_take",
        "lock.after_mark",
        "lock.after_wait",
        "lock.unlock.before_store",
        "lock.unlock.after_store",
        "lock.wake.before_number",
        "lock.wake.before_wake",
        "lock.wake.after_wake",
    ];
    explore_deaths(3, &points, |at| {
        let region = Attachment::new(2);
        let office = Office::new();
        let [survivor, victim] = [1, 2].map(|number| Process::join(&region, number));
        let keeper = keeper(&survivor);
        let (thread, place) = spawn_mortal(&victim, at, locker(&office));
        survivor.act();
        let first = office.visit();
        thread.join().unwrap();
        let second = office.visit();
        end(&region, [keeper]);
        let died = *place.lock().unwrap();
        assert_eq!(first || second, died.is_some_and(held_at));
        died
    });
}

/// The owner unlocks and wakes one of two, who dies with the wake-up.
#[test]
fn the_wake_up_of_a_waiter_who_dies_reaches_the_other() {
    let points = ["lock.after_mark", "lock.after_wait", "lock.after_take", "lock.wake.before_wake"];
    explore_deaths(1, &points, |at| {
        let region = Attachment::new(3);
        let office = Office::new();
        let [survivor, victim, owner] = [1, 2, 3].map(|number| Process::join(&region, number));
        owner.act();
        let held = office.lock();
        let keeper = keeper(&survivor);
        let (waiter, place) = spawn_mortal(&victim, at, locker(&office));
        let unlocker = thread::spawn({
            let office = Arc::clone(&office);
            move || {
                owner.act();
                office.sell(held);
            }
        });
        survivor.act();
        let after_death = office.visit();
        [unlocker, waiter].into_iter().for_each(|thread| thread.join().unwrap());
        end(&region, [keeper]);
        let died = *place.lock().unwrap();
        assert!(!after_death || died.is_some_and(held_at));
        died
    });
}

/// The ring: survivor -> watcher -> owner. The owner dies, and the watcher at any point of telling it.
#[test]
fn the_watcher_of_a_dead_owner_may_die_too() {
    let points = [
        "keeper.before_watch",
        "keeper.before_wait",
        "keeper.after_wait",
        "participants.bury.after_mark",
        "participants.bury.after_epoch",
        "participants.bury.after_wake",
    ];
    explore_deaths(1, &points, |at| {
        let region = Attachment::new(3);
        let office = Office::new();
        let [survivor, watcher, owner] = [1, 2, 3].map(|number| Process::join(&region, number));
        abandon(&office, &owner);
        let keeper = keeper(&survivor);
        let (watching, place) = spawn_mortal(&watcher, at, {
            let watcher = watcher.clone();
            move || watcher.keep()
        });
        let dying = owner_dies(&owner);
        survivor.act();
        assert!(office.visit());
        end(&region, [keeper, watching, dying]);
        *place.lock().unwrap()
    });
}

/// The same for one who looks by itself, as a process without a keeper does.
#[test]
fn a_burial_that_was_interrupted_is_completed() {
    let points = ["participants.bury.after_mark", "participants.bury.after_epoch", "participants.bury.after_wake"];
    explore_deaths(2, &points, |at| {
        let region = Attachment::new(3);
        let office = Office::new();
        let [survivor, owner, digger] = [1, 2, 3].map(|number| Process::join(&region, number));
        abandon(&office, &owner);
        owner.die();
        let keeper = keeper(&survivor);
        let (digging, place) = spawn_mortal(&digger, at, {
            let digger = digger.clone();
            move || {
                digger.sweep();
            }
        });
        survivor.act();
        assert!(office.visit());
        end(&region, [keeper, digging]);
        *place.lock().unwrap()
    });
}

/// Both see that the owner is dead; one of them gets the lock, the other one waits for that one.
#[test]
fn two_who_take_over_exclude_each_other() {
    explore(2, || {
        let region = Attachment::new(3);
        let office = Office::new();
        let [survivor, owner, other] = [1, 2, 3].map(|number| Process::join(&region, number));
        abandon(&office, &owner);
        let keeper = keeper(&survivor);
        let dying = owner_dies(&owner);
        let after_death = Arc::new(Mutex::new(false));
        let waiter = thread::spawn({
            let (office, after_death) = (Arc::clone(&office), Arc::clone(&after_death));
            move || {
                other.act();
                *after_death.lock().unwrap() = office.visit();
            }
        });
        survivor.act();
        let mine = office.visit();
        waiter.join().unwrap();
        end(&region, [keeper, dying]);
        assert!(mine != *after_death.lock().unwrap(), "exactly one has taken over");
    });
}

/// A gate that is shut by the victim, as somebody's own primitive: it opens, or its owner dies before, in between or after.
#[test]
fn who_waits_for_a_condition_learns_of_a_change_and_of_a_death() {
    explore_deaths(2, &["gate.open.before_store", "gate.open.before_wake", "gate.open.after_wake"], |at| {
        let region = Attachment::new(2);
        let [survivor, victim] = [1, 2].map(|number| Process::join(&region, number));
        let gate = Arc::new(AtomicU64::new(victim.token().word() | FLAG));
        let keeper = keeper(&survivor);
        let (thread, place) = spawn_mortal(&victim, at, {
            let gate = Arc::clone(&gate);
            move || {
                crash_point!("gate.open.before_store");
                gate.store(0, Release);
                crash_point!("gate.open.before_wake");
                wake_all(&*gate);
                crash_point!("gate.open.after_wake");
            }
        });
        survivor.act();
        let site = Site::of(&*gate).unwrap();
        let found = site.wait_for(&*gate, None, || {
            let word = gate.load(Acquire);
            Token::from_word(word).is_none_or(|owner| !site.is_alive(owner)).then_some(word)
        });
        thread.join().unwrap();
        end(&region, [keeper]);
        let died = *place.lock().unwrap();
        assert!(found == Some(0) || died.is_some(), "{found:?}");
        died
    });
}
