//! The permits: never more holders than permits, nobody sleeps on while one is free, and those of the dead come back once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use loom::cell::UnsafeCell;
use loom::thread;
use shmkit_core::shim::explore::{end, explore, explore_deaths, keeper, processes, spawn, spawn_mortal};
use shmkit_core::shim::futex;
use shmkit_core::shim::model::{Attachment, Process};
use shmkit_sync::{Permit, Permits};

/// Permits, and something for each that only its holder may use.
struct Booths<const N: usize> {
    permits: Permits,
    visits: [UnsafeCell<u32>; N],
}

// SAFETY: whoever uses one of the cells has its permit; that nobody else has is what the models check.
unsafe impl<const N: usize> Sync for Booths<N> {}
// SAFETY: as above.
unsafe impl<const N: usize> Send for Booths<N> {}

impl<const N: usize> Booths<N> {
    fn new() -> Arc<Self> {
        let permits = Permits::new(N as u32).unwrap();
        Arc::new(Self { permits, visits: std::array::from_fn(|_| UnsafeCell::new(0)) })
    }

    fn enter(&self) -> Permit<'_> {
        let permit = self.permits.acquire().unwrap();
        self.sing(&permit);
        permit
    }

    fn sing(&self, permit: &Permit<'_>) {
        // SAFETY: the permit is held; loom fails the model if somebody else is here.
        self.visits[permit.index() as usize].with_mut(|visits| unsafe { *visits += 1 });
    }

    /// How often all were visited. Nobody is there any more.
    fn visits(&self) -> u32 {
        // SAFETY: as above.
        self.visits.iter().map(|visits| visits.with(|visits| unsafe { *visits })).sum()
    }
}

/// As many visitors as `visits` has entries, each visiting so often.
fn visitors<const VISITORS: usize, const N: usize>(visits: [u32; VISITORS], meanwhile: impl FnOnce()) {
    let (_region, processes) = processes::<VISITORS>();
    let booths = Booths::<N>::new();
    let threads: Vec<_> = (1..VISITORS)
        .map(|i| {
            let booths = Arc::clone(&booths);
            spawn(&processes[i], move || (0..visits[i]).for_each(|_| drop(booths.enter())))
        })
        .collect();
    processes[0].act();
    (0..visits[0]).for_each(|_| drop(booths.enter()));
    meanwhile();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(booths.visits(), visits.iter().sum());
}

#[test]
fn one_permit_excludes_and_shows_what_was_done_with_it() {
    explore(2, || visitors::<2, 1>([2, 2], || ()));
}

/// Whoever finds the token of a newcomer in a slot must find it among the participants, or would take its permit.
#[test]
fn one_who_has_just_come_and_holds_a_permit_is_not_taken_for_dead() {
    explore(3, || {
        let region = Attachment::new(2);
        let booths = Booths::<1>::new();
        let resident = Process::join(&region, 1);
        let coming = thread::spawn({
            let (region, booths) = (Arc::clone(&region), Arc::clone(&booths));
            move || {
                Process::join(&region, 2).act();
                assert!(!booths.enter().after_death());
            }
        });
        resident.act();
        assert!(!booths.enter().after_death());
        coming.join().unwrap();
        assert_eq!(booths.visits(), 2);
    });
}

#[test]
fn three_take_turns_with_one_permit_and_none_is_forgotten() {
    explore(2, || visitors::<3, 1>([1, 1, 1], || ()));
}

#[test]
fn wake_ups_for_no_reason_change_nothing() {
    explore(2, || visitors::<3, 1>([1, 1, 1], futex::disturb));
}

#[test]
fn three_share_two_permits() {
    explore(2, || visitors::<3, 2>([1, 1, 1], || ()));
}

/// Both permits are dropped before the first sleeper runs: the second drop finds no flag.
#[test]
fn two_permits_that_are_dropped_one_after_the_other_wake_two() {
    explore(2, || {
        let (_region, [owner, one, other]) = processes();
        let booths = Booths::<2>::new();
        owner.act();
        let held = [booths.enter(), booths.enter()];
        let threads = [one, other].map(|process| {
            let booths = Arc::clone(&booths);
            // It keeps what it gets.
            spawn(&process, move || std::mem::forget(booths.enter()))
        });
        drop(held);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(booths.permits.available(), 0);
    });
}

#[test]
fn one_that_tries_takes_no_wake_up_from_those_who_sleep() {
    explore(2, || {
        let (_region, [owner, sleeper, trier]) = processes();
        let booths = Booths::<1>::new();
        owner.act();
        let held = booths.enter();
        let of_sleeper = Arc::clone(&booths);
        let sleeper = spawn(&sleeper, move || drop(of_sleeper.enter()));
        let of_trier = Arc::clone(&booths);
        let trier = spawn(&trier, move || {
            if let Ok(permit) = of_trier.permits.try_acquire() {
                of_trier.sing(&permit);
            }
        });
        drop(held);
        sleeper.join().unwrap();
        trier.join().unwrap();
        assert_eq!(booths.permits.available(), 1);
    });
}

/// One who leaves at its deadline may have been woken; the one who sleeps behind it must not miss that.
#[test]
fn one_that_times_out_swallows_no_wake_up() {
    explore(2, || {
        let (_region, [owner, timed, patient]) = processes();
        let booths = Booths::<1>::new();
        owner.act();
        let held = booths.enter();
        let of_timed = Arc::clone(&booths);
        let timed = spawn(&timed, move || {
            if let Ok(permit) = of_timed.permits.acquire_timeout(Duration::ZERO) {
                of_timed.sing(&permit);
            }
        });
        let of_patient = Arc::clone(&booths);
        let patient = spawn(&patient, move || drop(of_patient.enter()));
        drop(held);
        drop(booths.enter());
        futex::expire();
        timed.join().unwrap();
        patient.join().unwrap();
    });
}

/// Whether one who died at `point` had a permit.
fn held_at(point: &str) -> bool {
    matches!(point, "permits.acquire.after_cas" | "permits.acquire.before_passing_on" | "permits.release.before_cas")
}

#[test]
fn the_permit_of_one_who_dies_anywhere_comes_back_exactly_once() {
    let points = [
        "permits.acquire.after_cas",
        "permits.acquire.after_waiting",
        "permits.acquire.after_wait",
        "permits.release.before_cas",
        "permits.release.after_cas",
        "permits.wake.before_gate",
        "permits.wake.before_wake",
        "permits.wake.after_wake",
    ];
    explore_deaths(1, &points, |at| {
        let (region, [survivor, victim]) = processes();
        let booths = Booths::<1>::new();
        let keeper = keeper(&survivor);
        let of_victim = Arc::clone(&booths);
        let (thread, place) = spawn_mortal(&victim, at, move || drop(of_victim.enter()));
        survivor.act();
        let mut returned = 0;
        for _ in 0..2 {
            returned += u32::from(booths.enter().after_death());
        }
        thread.join().unwrap();
        let place = *place.lock().unwrap();
        returned += u32::from(booths.enter().after_death());
        assert_eq!(returned, u32::from(place.is_some_and(held_at)));
        assert_eq!(booths.permits.available(), 1);
        end(&region, [keeper]);
        place
    });
}

/// Two wait for the permits of one who has died, and one of them dies, too.
#[test]
fn the_first_heir_may_die_too() {
    let points = ["permits.acquire.after_cas", "permits.acquire.after_waiting", "permits.release.before_cas"];
    explore_deaths(1, &points, |at| {
        let (region, [owner, survivor, victim]) = processes();
        let booths = Booths::<1>::new();
        owner.act();
        std::mem::forget(booths.enter());
        owner.die();
        let keeper = keeper(&survivor);
        let returned = Arc::new(AtomicU32::new(0));
        let (of_victim, count) = (Arc::clone(&booths), Arc::clone(&returned));
        let (thread, place) = spawn_mortal(&victim, at, move || {
            let permit = of_victim.enter();
            count.fetch_add(u32::from(permit.after_death()), Relaxed);
        });
        survivor.act();
        returned.fetch_add(u32::from(booths.enter().after_death()), Relaxed);
        thread.join().unwrap();
        let place = *place.lock().unwrap();
        returned.fetch_add(u32::from(booths.enter().after_death()), Relaxed);
        // The owner's comes back once; that of the victim, if it had one, too. A victim that dies before it can tell takes the news
        // of the owner's along, if it had that permit.
        let most = 1 + u32::from(place.is_some_and(held_at));
        let told = returned.load(Relaxed);
        assert!(told == most || (told == 1 && most == 2), "{told} of {most} came back");
        end(&region, [keeper]);
        place
    });
}

/// Both permits are dropped while two sleep, of whom one dies. The other gets one.
#[test]
fn the_wake_up_that_a_woken_one_owed_when_it_died_is_made_good() {
    let points = ["permits.acquire.after_cas", "permits.acquire.before_passing_on"];
    explore_deaths(1, &points, |at| {
        let (region, [owner, survivor, victim]) = processes();
        let booths = Booths::<2>::new();
        owner.act();
        let held = [booths.enter(), booths.enter()];
        let of_victim = Arc::clone(&booths);
        let (thread, place) = spawn_mortal(&victim, at, move || std::mem::forget(of_victim.enter()));
        let of_survivor = Arc::clone(&booths);
        let survivor = spawn(&survivor, move || std::mem::forget(of_survivor.enter()));
        drop(held);
        thread.join().unwrap();
        // A keeper would be one thread too many.
        owner.sweep();
        survivor.join().unwrap();
        end(&region, []);
        *place.lock().unwrap()
    });
}
