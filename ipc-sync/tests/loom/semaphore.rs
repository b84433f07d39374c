//! The semaphore: nobody sleeps on while there are permits.
//!
//! Where somebody dies, the one who has seen the end of it looks for deaths; a keeper would be one thread too many.

use std::sync::Arc;
use std::time::Duration;

use loom::cell::UnsafeCell;
use shmkit_core::shim::explore::{end, explore, explore_deaths, processes, spawn, spawn_mortal_with, spawn_with};
use shmkit_core::shim::futex;
use shmkit_sync::Semaphore;

fn semaphore(value: u32) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(value).unwrap())
}

/// Something that only the holder of the one permit may use.
struct Seat(UnsafeCell<u32>);

// SAFETY: whoever uses it has the one permit; that this holds is what the model checks.
unsafe impl Sync for Seat {}
// SAFETY: as above.
unsafe impl Send for Seat {}

#[test]
fn one_permit_excludes_and_shows_what_was_done_with_it() {
    explore(2, || {
        let (_region, [one, two, three]) = processes();
        let shared = Arc::new((Semaphore::new(1).unwrap(), Seat(UnsafeCell::new(0))));
        let visit = |(semaphore, seat): &(Semaphore, Seat)| {
            semaphore.acquire().unwrap();
            // SAFETY: the permit is held; loom fails the model if somebody else is here.
            seat.0.with_mut(|visits| unsafe { *visits += 1 });
            semaphore.release().unwrap();
        };
        let threads = [two, three].map(|process| {
            let shared = Arc::clone(&shared);
            spawn(&process, move || visit(&shared))
        });
        one.act();
        visit(&shared);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        // SAFETY: nobody else is here any more.
        shared.1.0.with(|visits| assert_eq!(unsafe { *visits }, 3));
        assert_eq!(shared.0.available(), 1);
    });
}

#[test]
fn as_many_releases_as_sleepers_wake_them_all() {
    explore(2, || {
        let (_region, [one, two, three]) = processes();
        let semaphore = semaphore(0);
        let threads =
            [two, three].map(|process| spawn_with(&process, &semaphore, |semaphore| semaphore.acquire().unwrap()));
        one.act();
        semaphore.release().unwrap();
        semaphore.release().unwrap();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(semaphore.available(), 0);
    });
}

#[test]
fn one_release_of_two_wakes_two_also_beside_wake_ups_for_no_reason() {
    explore(2, || {
        let (_region, [one, two, three]) = processes();
        let semaphore = semaphore(0);
        let threads =
            [two, three].map(|process| spawn_with(&process, &semaphore, |semaphore| semaphore.acquire().unwrap()));
        one.act();
        futex::disturb();
        semaphore.release_many(2).unwrap();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(semaphore.available(), 0);
    });
}

#[test]
fn one_that_tries_takes_no_wake_up_from_those_who_sleep() {
    explore(3, || {
        let (_region, [releaser, sleeper, trier]) = processes();
        let semaphore = semaphore(0);
        let sleeper = spawn_with(&sleeper, &semaphore, |semaphore| semaphore.acquire().unwrap());
        let trier = spawn_with(&trier, &semaphore, |semaphore| {
            if semaphore.try_acquire() {
                semaphore.release().unwrap();
            }
        });
        releaser.act();
        semaphore.release().unwrap();
        sleeper.join().unwrap();
        trier.join().unwrap();
        assert_eq!(semaphore.available(), 0);
    });
}

#[test]
fn one_that_wants_two_sleeps_beside_one_that_wants_one_and_neither_is_forgotten() {
    explore(2, || {
        let (_region, [releaser, single, double]) = processes();
        let semaphore = semaphore(0);
        let single = spawn_with(&single, &semaphore, |semaphore| semaphore.acquire().unwrap());
        let double = spawn_with(&double, &semaphore, |semaphore| semaphore.acquire_many(2).unwrap());
        releaser.act();
        (0..3).for_each(|_| semaphore.release().unwrap());
        single.join().unwrap();
        double.join().unwrap();
        assert_eq!(semaphore.available(), 0);
    });
}

#[test]
fn two_that_want_two_get_them_from_releases_one_by_one() {
    explore(2, || {
        let (_region, [releaser, one, other]) = processes();
        let semaphore = semaphore(1);
        let threads = [one, other]
            .map(|process| spawn_with(&process, &semaphore, |semaphore| semaphore.acquire_many(2).unwrap()));
        releaser.act();
        (0..3).for_each(|_| semaphore.release().unwrap());
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(semaphore.available(), 0);
    });
}

/// One who leaves at its deadline may have been woken; the one who sleeps behind it must not miss that.
#[test]
fn one_that_times_out_swallows_no_wake_up() {
    explore(2, || {
        let (_region, [owner, timed, patient]) = processes();
        let semaphore = semaphore(1);
        owner.act();
        semaphore.acquire().unwrap();
        let timed = spawn_with(&timed, &semaphore, |semaphore| {
            if semaphore.acquire_timeout(Duration::ZERO).is_ok() {
                semaphore.release().unwrap();
            }
        });
        let patient = spawn_with(&patient, &semaphore, |semaphore| {
            semaphore.acquire().unwrap();
            semaphore.release().unwrap();
        });
        semaphore.release().unwrap();
        semaphore.acquire().unwrap();
        semaphore.release().unwrap();
        futex::expire();
        timed.join().unwrap();
        patient.join().unwrap();
        assert_eq!(semaphore.available(), 1);
    });
}

#[test]
fn one_of_those_who_want_many_times_out_and_the_other_does_not_miss_its_wake_up() {
    explore(2, || {
        let (_region, [releaser, timed, patient]) = processes();
        let semaphore = semaphore(1);
        releaser.act();
        let timed = spawn_with(&timed, &semaphore, |semaphore| {
            if semaphore.acquire_many_timeout(2, Duration::ZERO).is_ok() {
                semaphore.release_many(2).unwrap();
            }
        });
        let patient = spawn_with(&patient, &semaphore, |semaphore| semaphore.acquire_many(2).unwrap());
        semaphore.release().unwrap();
        futex::expire();
        timed.join().unwrap();
        patient.join().unwrap();
        assert_eq!(semaphore.available(), 0);
    });
}

/// Whether one who died at `point` took permits along.
fn held_at(point: &str) -> bool {
    matches!(point, "semaphore.acquire.after_cas" | "semaphore.acquire.after_take" | "semaphore.try_acquire.after_cas")
}

/// The victim and the survivor want `n` permits each, where there are only as many. What the victim takes along is added once more.
fn acquirer_dies(n: u32, points: &[&'static str]) {
    explore_deaths(1, points, move |at| {
        let (region, [releaser, victim, survivor]) = processes();
        let semaphore = semaphore(0);
        let (victim, place) =
            spawn_mortal_with(&victim, at, &semaphore, move |semaphore| semaphore.acquire_many(n).unwrap());
        let survivor = spawn_with(&survivor, &semaphore, move |semaphore| {
            semaphore.acquire_many(n).unwrap();
            semaphore.release_many(n).unwrap();
        });
        releaser.act();
        semaphore.release_many(n).unwrap();
        victim.join().unwrap();
        releaser.sweep();
        let place = *place.lock().unwrap();
        if place.is_none_or(held_at) {
            semaphore.release_many(n).unwrap();
        }
        survivor.join().unwrap();
        assert_eq!(semaphore.available(), n);
        end(&region, []);
        place
    });
}

#[test]
fn one_that_dies_anywhere_loses_what_it_held_and_nothing_else() {
    let points = [
        "semaphore.acquire.after_cas",
        "semaphore.acquire.after_waiting",
        "semaphore.acquire.after_wait",
        "semaphore.acquire.after_take",
    ];
    acquirer_dies(1, &points);
}

#[test]
fn one_that_wants_many_and_dies_anywhere_loses_what_it_held_and_nothing_else() {
    let points =
        ["semaphore.acquire_many.after_many", "semaphore.acquire_many.after_wait", "semaphore.try_acquire.after_cas"];
    acquirer_dies(2, &points);
}

#[test]
fn one_that_dies_anywhere_in_a_release_leaves_nobody_asleep_beside_permits() {
    let points = [
        "semaphore.release.before_cas",
        "semaphore.release.before_wake",
        "semaphore.release.before_change",
        "semaphore.release.after_change",
        "semaphore.release.after_wake",
    ];
    explore_deaths(1, &points, |at| {
        let (region, [parent, single, double, victim]) = processes();
        let semaphore = semaphore(0);
        let (victim, place) =
            spawn_mortal_with(&victim, at, &semaphore, |semaphore| semaphore.release_many(3).unwrap());
        let single = spawn_with(&single, &semaphore, |semaphore| semaphore.acquire().unwrap());
        let double = spawn_with(&double, &semaphore, |semaphore| semaphore.acquire_many(2).unwrap());
        parent.act();
        victim.join().unwrap();
        parent.sweep();
        let place = *place.lock().unwrap();
        if place == Some("semaphore.release.before_cas") {
            semaphore.release_many(3).unwrap();
        }
        single.join().unwrap();
        double.join().unwrap();
        assert_eq!(semaphore.available(), 0);
        end(&region, []);
        place
    });
}

/// The second release may find no flag: then the one that is woken by the first owes a wake-up to the other sleeper.
#[test]
fn the_wake_up_that_a_woken_one_owed_when_it_died_is_made_good() {
    let points = ["semaphore.acquire.after_take", "semaphore.acquire.after_passing_on"];
    explore_deaths(1, &points, |at| {
        let (region, [releaser, victim, survivor]) = processes();
        let semaphore = semaphore(0);
        let (thread, place) = spawn_mortal_with(&victim, at, &semaphore, |semaphore| semaphore.acquire().unwrap());
        let survivor = spawn_with(&survivor, &semaphore, |semaphore| semaphore.acquire().unwrap());
        releaser.act();
        semaphore.release().unwrap();
        semaphore.release().unwrap();
        thread.join().unwrap();
        releaser.sweep();
        survivor.join().unwrap();
        end(&region, []);
        *place.lock().unwrap()
    });
}
