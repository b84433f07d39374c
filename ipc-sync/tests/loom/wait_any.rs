//! Events and semaphores among several things: one who waits for all and takes nothing keeps nothing from others.

#![allow(clippy::arc_with_non_send_sync, reason = "what the threads share unguarded is what loom watches")]

use std::sync::Arc;

use shmkit_core::shim::explore::{end, explore, explore_deaths, keeper, spawn, spawn_mortal};
use shmkit_core::shim::futex;
use shmkit_core::shim::model::{Attachment, Process};
use shmkit_core::{Deadline, wait_any};
use shmkit_sync::{Event, Semaphore};

fn processes<const N: usize>() -> (Arc<Attachment>, [Process; N]) {
    let region = Attachment::new(N);
    let processes = core::array::from_fn(|i| Process::join(&region, i as u64 + 1));
    (region, processes)
}

/// What is set, what is released, and what ends the program.
struct Things {
    stop: Event,
    event: Event,
    permits: Semaphore,
}

impl Things {
    fn new() -> Arc<Self> {
        Arc::new(Self { stop: Event::new(), event: Event::auto_reset(), permits: Semaphore::new(0).expect("a bound") })
    }

    /// Waits for whatever comes, and takes nothing.
    fn wait(&self) -> usize {
        let mut sources: [&mut dyn shmkit_core::wait::Source; 3] =
            [&mut self.stop.until_set(), &mut self.event.until_set(), &mut self.permits.until_available(1)];
        wait_any(&mut sources, None).unwrap().expect("no deadline")
    }
}

#[test]
fn whoever_waits_for_all_gets_all_of_them() {
    explore(3, || {
        let (_, [setter, waiter]) = processes();
        let things = Things::new();
        let thread = spawn(&waiter, {
            let things = Arc::clone(&things);
            move || {
                let mut got = [false; 3];
                while got != [false, true, true] {
                    let ready = things.wait();
                    got[ready] = if ready == 1 { things.event.try_wait() } else { things.permits.try_acquire() };
                    assert!(got[ready], "nobody else takes");
                }
            }
        });
        setter.act();
        things.event.set();
        things.permits.release().unwrap();
        thread.join().unwrap();
    });
}

/// The one who waits for all may be woken in the place of the other.
#[test]
fn a_set_that_one_leaves_goes_to_one_who_waits_for_it_alone() {
    explore(3, || {
        let (_, [setter, leaver, patient]) = processes();
        let things = Things::new();
        let threads = [
            spawn(&leaver, {
                let things = Arc::clone(&things);
                move || assert!(things.wait() < 2)
            }),
            spawn(&patient, {
                let things = Arc::clone(&things);
                move || things.event.wait().unwrap()
            }),
        ];
        setter.act();
        things.event.set();
        things.stop.set();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

/// A third one is faster, so whoever was woken for the first set finds none; the second is for the one who waits for it alone.
#[test]
fn a_set_that_a_third_takes_leaves_the_next_one_for_those_who_wait() {
    explore(2, || {
        let (_, [setter, leaver, patient]) = processes();
        let things = Things::new();
        let threads = [
            spawn(&leaver, {
                let things = Arc::clone(&things);
                move || assert!(things.wait() < 2)
            }),
            spawn(&patient, {
                let things = Arc::clone(&things);
                move || things.event.wait().unwrap()
            }),
        ];
        setter.act();
        things.event.set();
        things.event.try_wait();
        things.stop.set();
        things.event.set();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn a_permit_that_one_leaves_goes_to_one_who_waits_for_it_alone() {
    explore(3, || {
        let (_, [setter, leaver, patient]) = processes();
        let things = Things::new();
        let threads = [
            spawn(&leaver, {
                let things = Arc::clone(&things);
                move || assert_ne!(things.wait(), 1)
            }),
            spawn(&patient, {
                let things = Arc::clone(&things);
                move || things.permits.acquire().unwrap()
            }),
        ];
        setter.act();
        things.permits.release().unwrap();
        things.stop.set();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn one_who_leaves_at_its_deadline_swallows_neither_set_nor_permit() {
    for of_event in [true, false] {
        explore(3, move || {
            let (_, [setter, hasty, patient]) = processes();
            let things = Things::new();
            let threads = [
                spawn(&hasty, {
                    let things = Arc::clone(&things);
                    move || {
                        let (mut set, mut permit) = (things.event.until_set(), things.permits.until_available(1));
                        wait_any(&mut [&mut set, &mut permit], Deadline::after(core::time::Duration::ZERO)).unwrap();
                    }
                }),
                spawn(&patient, {
                    let things = Arc::clone(&things);
                    move || if of_event { things.event.wait().unwrap() } else { things.permits.acquire().unwrap() }
                }),
            ];
            setter.act();
            if of_event {
                things.event.set();
            } else {
                things.permits.release().unwrap();
            }
            futex::expire();
            threads.into_iter().for_each(|thread| thread.join().unwrap());
        });
    }
}

/// They are there for a moment, when the one who wants them is about to sleep.
#[test]
fn several_permits_are_waited_for_also_if_others_took_them() {
    explore(3, || {
        let (_, [setter, waiter]) = processes();
        let things = Things::new();
        let thread = spawn(&waiter, {
            let things = Arc::clone(&things);
            move || {
                let mut sources: [&mut dyn shmkit_core::wait::Source; 2] =
                    [&mut things.stop.until_set(), &mut things.permits.until_available(2)];
                assert_eq!(wait_any(&mut sources, None).unwrap(), Some(1));
            }
        });
        setter.act();
        things.permits.release_many(2).unwrap();
        assert!(things.permits.try_acquire_many(2), "the other takes nothing");
        things.permits.release_many(2).unwrap();
        thread.join().unwrap();
    });
}

#[test]
fn a_set_that_is_reset_at_once_is_not_missed() {
    explore(3, || {
        let (_, [setter, waiter]) = processes();
        let things = Things::new();
        waiter.act();
        let mut before = things.stop.until_set();
        let thread = spawn(&setter, {
            let things = Arc::clone(&things);
            move || {
                things.stop.set();
                things.stop.reset();
            }
        });
        assert_eq!(wait_any(&mut [&mut things.event.until_set(), &mut before], None).unwrap(), Some(1));
        thread.join().unwrap();
    });
}

#[test]
fn one_who_waits_for_all_and_dies_anywhere_takes_nothing_along() {
    let points = [
        "event.arm.after_waiting",
        "wait_any.after_arm",
        "wait_any.after_sleep",
        "wait_any.before_disarm",
        "event.disarm.after_waiting",
        "event.disarm.after_wake",
    ];
    explore_deaths(1, &points, |at| {
        let (region, [survivor, victim, setter]) = processes();
        let things = Things::new();
        let keeper = keeper(&survivor);
        let (mortal, place) = spawn_mortal(&victim, at, {
            let things = Arc::clone(&things);
            move || {
                let mut sources: [&mut dyn shmkit_core::wait::Source; 2] =
                    [&mut things.stop.until_set(), &mut things.event.until_set()];
                wait_any(&mut sources, None).unwrap();
            }
        });
        let thread = spawn(&survivor, {
            let things = Arc::clone(&things);
            move || things.event.wait().unwrap()
        });
        setter.act();
        things.event.set();
        things.stop.set();
        mortal.join().unwrap();
        thread.join().unwrap();
        end(&region, [keeper]);
        *place.lock().unwrap()
    });
}
