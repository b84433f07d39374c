//! Events: nobody is forgotten, one set of an auto-reset event releases one, and what came before it is visible.

#![allow(clippy::arc_with_non_send_sync, reason = "what the threads share unguarded is what loom watches")]

use core::sync::atomic::Ordering::Relaxed;
use std::sync::Arc;

use loom::cell::UnsafeCell;
use loom::thread;
use shmkit_core::shim::explore::{end, explore, explore_deaths, keeper, processes, spawn, spawn_mortal};
use shmkit_core::shim::{AtomicU64, futex};
use shmkit_sync::{Event, WaitError};

/// Deadlines pass when a model says so, and count as passed for whoever asks the clock.
const TIMED: core::time::Duration = core::time::Duration::ZERO;

/// An event, and something that is written before it is set.
struct Signal {
    event: Event,
    note: AtomicU64,
}

impl Signal {
    fn new(event: Event) -> Arc<Self> {
        Arc::new(Self { event, note: AtomicU64::new(0) })
    }

    fn send(&self) {
        self.note.store(1, Relaxed);
        self.event.set();
    }

    fn receive(&self) {
        self.event.wait().unwrap();
        assert_eq!(self.note.load(Relaxed), 1);
    }

    /// The word of the event.
    fn word(&self) -> u64 {
        // SAFETY: an event is this one atomic word.
        unsafe { &*core::ptr::from_ref(&self.event).cast::<AtomicU64>() }.load(Relaxed)
    }
}

/// Also one who only asks, and does not wait.
#[test]
fn whoever_finds_it_set_or_a_set_counted_sees_what_came_before() {
    let looks: [fn(&Event) -> bool; 2] = [Event::is_set, |event| event.generation() == 1];
    for look in looks {
        explore(3, move || {
            let (_, [setter, other]) = processes();
            let signal = Signal::new(Event::new());
            let thread = spawn(&other, {
                let signal = Arc::clone(&signal);
                move || assert!(!look(&signal.event) || signal.note.load(Relaxed) == 1)
            });
            setter.act();
            signal.send();
            thread.join().unwrap();
        });
    }
}

#[test]
fn one_set_releases_all_who_wait() {
    explore(3, || {
        let (_, [setter, waiters @ ..]) = processes::<3>();
        let signal = Signal::new(Event::new());
        let threads = waiters.map(|process| {
            let signal = Arc::clone(&signal);
            spawn(&process, move || signal.receive())
        });
        setter.act();
        signal.send();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn a_waiter_is_released_also_if_a_reset_follows_the_set_at_once() {
    explore(3, || {
        let (_, [setter, waiter]) = processes();
        let signal = Signal::new(Event::new());
        let thread = spawn(&waiter, {
            let signal = Arc::clone(&signal);
            move || signal.receive()
        });
        setter.act();
        // It has come, and found the event unset, before it asks to be woken.
        while signal.word() & 2 == 0 {
            thread::yield_now();
        }
        signal.send();
        signal.event.reset();
        thread.join().unwrap();
    });
}

/// One puts work somewhere and sets; the other resets and looks. Work that is not seen then is announced later.
#[test]
fn whoever_resets_sees_what_came_before_each_set_that_is_taken_back_also_before_a_merged_one() {
    explore(3, || {
        let (_, [setter, other]) = processes();
        let signal = Signal::new(Event::new());
        setter.act();
        signal.event.set();
        let thread = spawn(&other, {
            let signal = Arc::clone(&signal);
            move || {
                signal.event.reset();
                let seen = signal.note.load(Relaxed) == 1;
                if !seen {
                    signal.receive();
                }
            }
        });
        signal.send();
        thread.join().unwrap();
    });
}

#[test]
fn whoever_takes_a_set_sees_what_came_before_those_that_were_merged_with_it() {
    explore(3, || {
        let (_, [setter, taker]) = processes();
        let signal = Signal::new(Event::auto_reset());
        setter.act();
        signal.event.set();
        let thread = spawn(&taker, {
            let signal = Arc::clone(&signal);
            move || {
                signal.event.wait().unwrap();
                let seen = signal.note.load(Relaxed) == 1;
                // If the second set came later, it is another one.
                assert!(seen || signal.event.generation() == 2 || signal.event.wait().is_ok());
            }
        });
        signal.send();
        thread.join().unwrap();
    });
}

/// As a lock: who has taken the set has it alone, and sets again.
fn takers<const N: usize>(meanwhile: impl FnOnce()) {
    let (_, [main, others @ ..]) = processes::<3>();
    let shared = Arc::new((Event::auto_reset(), UnsafeCell::new(0)));
    let visit = |shared: &(Event, UnsafeCell<u32>)| {
        shared.0.wait().unwrap();
        // SAFETY: whoever has taken the set is alone; loom tells if not.
        shared.1.with_mut(|count| unsafe { *count += 1 });
        shared.0.set();
    };
    main.act();
    shared.0.set();
    let threads: Vec<_> = others
        .iter()
        .take(N - 1)
        .map(|process| {
            let shared = Arc::clone(&shared);
            spawn(process, move || visit(&shared))
        })
        .collect();
    visit(&shared);
    meanwhile();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    // SAFETY: nobody else is here any more.
    assert_eq!(shared.1.with(|count| unsafe { *count }), N as u32);
    assert_eq!(shared.0.generation(), N as u64 + 1);
}

#[test]
fn a_set_of_an_auto_reset_event_releases_one_and_none_is_forgotten() {
    explore(3, || takers::<3>(|| ()));
}

#[test]
fn wake_ups_for_no_reason_release_nobody() {
    explore(3, || takers::<2>(futex::disturb));
}

/// One who leaves at its deadline may have been woken: it takes the set, or the next one does.
#[test]
fn a_waiter_that_times_out_swallows_no_set() {
    explore(3, || {
        let (_, [setter, timed, patient]) = processes();
        let signal = Signal::new(Event::auto_reset());
        let threads = [
            spawn(&timed, {
                let signal = Arc::clone(&signal);
                move || match signal.event.wait_timeout(TIMED) {
                    Ok(()) => signal.event.set(),
                    Err(error) => assert!(matches!(error, WaitError::TimedOut)),
                }
            }),
            spawn(&patient, {
                let signal = Arc::clone(&signal);
                move || signal.receive()
            }),
        ];
        setter.act();
        signal.send();
        futex::expire();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

/// The first set is taken at once by a third one, so whoever was woken for it goes back to sleep, or leaves at its deadline.
#[test]
fn a_waiter_that_finds_its_set_taken_does_not_forget_the_others() {
    explore(2, || {
        let (_, [setter, timed, patient]) = processes();
        let signal = Signal::new(Event::auto_reset());
        let threads = [
            spawn(&timed, {
                let signal = Arc::clone(&signal);
                move || {
                    if signal.event.wait_timeout(TIMED).is_ok() {
                        signal.event.set();
                    }
                }
            }),
            spawn(&patient, {
                let signal = Arc::clone(&signal);
                move || signal.receive()
            }),
        ];
        setter.act();
        signal.send();
        signal.event.try_wait();
        futex::expire();
        signal.event.set();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn whoever_sets_and_dies_before_the_wake_up_has_released_all_the_same() {
    explore_deaths(2, &["event.set.before_wake", "event.set.after_wake"], |at| {
        let (region, [survivor, victim]) = processes();
        let signal = Signal::new(Event::new());
        let keeper = keeper(&survivor);
        let (thread, place) = spawn_mortal(&victim, at, {
            let signal = Arc::clone(&signal);
            move || signal.send()
        });
        survivor.act();
        signal.receive();
        thread.join().unwrap();
        end(&region, [keeper]);
        *place.lock().unwrap()
    });
}

/// Victim and survivor wait for one set each; of two that wait, the one that was woken dies.
#[test]
fn a_waiter_that_dies_takes_no_more_than_the_set_that_it_has_taken() {
    const TAKEN: &str = "event.wait.after_take";
    let points = ["event.wait.after_waiting", "event.wait.after_wait", TAKEN, "event.set.before_wake"];
    explore_deaths(1, &points, |at| {
        let (region, [survivor, victim, setter]) = processes();
        let signal = Signal::new(Event::auto_reset());
        let keeper = keeper(&survivor);
        let visit = |signal: &Arc<Signal>| {
            let signal = Arc::clone(signal);
            move || {
                signal.receive();
                signal.event.set();
            }
        };
        let (mortal, place) = spawn_mortal(&victim, at, visit(&signal));
        let thread = spawn(&survivor, visit(&signal));
        setter.act();
        signal.send();
        mortal.join().unwrap();
        let died = *place.lock().unwrap();
        if died == Some(TAKEN) {
            signal.event.set();
        }
        thread.join().unwrap();
        end(&region, [keeper]);
        died
    });
}
