//! Events and semaphores among several things that are waited for, in one process.

#![cfg(not(ipc_loom))]

use core::sync::atomic::AtomicU32;
use core::time::Duration;
use std::thread;
use std::time::Instant;

use shmkit_core::wait::{Armed, FutexWord, Source};
use shmkit_core::{Deadline, Error, Region, wait_any};
use shmkit_sync::{Event, Semaphore};

const LONG: Duration = Duration::from_secs(20);

fn soon() -> Option<Deadline> {
    Deadline::after(Duration::from_millis(10))
}

#[test]
fn a_set_event_and_a_permit_are_ready_and_nothing_is_taken() {
    let (manual, auto, permits) = (Event::new(), Event::auto_reset(), Semaphore::new(0).expect("a bound"));
    let ready = || {
        let mut sources: [&mut dyn Source; 3] =
            [&mut manual.until_set(), &mut auto.until_set(), &mut permits.until_available(1)];
        wait_any(&mut sources, soon()).expect("tokens")
    };

    assert_eq!(ready(), None);
    permits.release().expect("room");
    assert_eq!(ready(), Some(2));
    auto.set();
    assert_eq!(ready(), Some(1));
    manual.set();
    assert_eq!(ready(), Some(0));
    assert!(manual.is_set() && auto.try_wait() && permits.try_acquire());
}

#[test]
fn a_set_that_is_reset_at_once_is_noticed_by_one_who_has_come_before() {
    let event = Event::new();
    let mut before = event.until_set();

    event.set();
    event.reset();

    assert_eq!(wait_any(&mut [&mut before], soon()).expect("a token"), Some(0));
    assert_eq!(wait_any(&mut [&mut event.until_set()], soon()).expect("a token"), None);
}

#[test]
fn several_permits_are_ready_when_there_are_as_many() {
    let permits = Semaphore::new(2).expect("a bound");
    assert_eq!(wait_any(&mut [&mut permits.until_available(3)], soon()).expect("a token"), None);

    thread::scope(|scope| {
        let waiter = scope.spawn(|| wait_any(&mut [&mut permits.until_available(3)], Deadline::after(LONG)));
        permits.release().expect("room");
        assert_eq!(waiter.join().expect("no panic").expect("a token"), Some(0));
    });
    assert!(permits.try_acquire_many(3));
}

/// Once, does one thing to the semaphore when it is armed, and another when it is asked after that, which is before the thread sleeps.
struct Meddler<'a> {
    permits: &'a Semaphore,
    /// At first all are asked without being armed.
    is_armed: bool,
    deeds: Vec<fn(&Semaphore)>,
    word: AtomicU32,
}

impl<'a> Meddler<'a> {
    /// The last of the `deeds` is done first.
    fn new(permits: &'a Semaphore, deeds: Vec<fn(&Semaphore)>) -> Self {
        Self { permits, is_armed: false, deeds, word: AtomicU32::new(0) }
    }

    fn act(&mut self) {
        if let Some(deed) = self.deeds.pop() {
            deed(self.permits);
        }
    }
}

impl Source for Meddler<'_> {
    fn word(&self) -> &dyn FutexWord {
        &self.word
    }

    fn is_ready(&mut self) -> bool {
        if self.is_armed {
            self.act();
        }
        false
    }

    fn arm(&mut self) -> Result<Armed, Error> {
        self.is_armed = true;
        self.act();
        Ok(Armed::at(0))
    }

    fn disarm(&mut self, _may_be_woken: bool) {}
}

#[test]
fn a_permit_that_is_away_for_a_moment_is_not_slept_beside() {
    let permits = Semaphore::new(0).expect("a bound");
    let give: fn(&Semaphore) = |permits| permits.release().expect("room");
    let take: fn(&Semaphore) = |permits| assert!(permits.try_acquire());
    // There when the semaphore is armed, gone when it is asked, and there again.
    let (mut before, mut after) = (Meddler::new(&permits, vec![give]), Meddler::new(&permits, vec![give, take]));
    let start = Instant::now();

    let mut sources: [&mut dyn Source; 3] = [&mut before, &mut permits.until_available(1), &mut after];
    let ready = wait_any(&mut sources, Deadline::after(LONG)).expect("tokens");

    assert_eq!(ready, Some(1));
    // At the deadline it would be found in any case.
    assert!(start.elapsed() < LONG / 2, "asleep beside a permit");
}

/// Threads that wait for all and take one thing, beside threads that wait for one and take it, as long as there is something to be had.
#[test]
fn as_many_are_released_as_there_are_sets_and_permits_whoever_waits_for_how_many() {
    const ROUNDS: u32 = 2_000;
    let region = Region::anonymous(4096).expect("a region");
    let permits = region.insert("permits", Semaphore::new(0).expect("a bound")).expect("room");
    let tokens = region.insert("tokens", Event::auto_reset()).expect("room");
    let answers = Semaphore::new(0).expect("a bound");
    let over = Event::new();

    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let mut sources: [&mut dyn Source; 3] =
                        [&mut over.until_set(), &mut tokens.until_set(), &mut permits.until_available(1)];
                    let taken = match wait_any(&mut sources, Deadline::after(LONG)).expect("tokens") {
                        Some(1) => tokens.try_wait(),
                        Some(2) => permits.try_acquire(),
                        _ => break,
                    };
                    if taken {
                        answers.release().expect("room");
                    }
                }
            });
            for of_event in [true, false] {
                let (permits, tokens, answers, over) = (&permits, &tokens, &answers, &over);
                scope.spawn(move || {
                    while !over.is_set() {
                        let wait = Duration::from_millis(100);
                        let taken = if of_event { tokens.wait_timeout(wait) } else { permits.acquire_timeout(wait) };
                        if taken.is_ok() {
                            answers.release().expect("room");
                        }
                    }
                });
            }
        }
        for _ in 0..ROUNDS {
            tokens.set();
            permits.release_many(2).expect("room");
            answers.acquire_many_timeout(3, LONG).expect("three that were released");
        }
        over.set();
    });
    assert_eq!((permits.available(), answers.available(), tokens.is_set()), (0, 0, false));
    assert_eq!(region.rescues(), 0);
}
