//! What is done once, by whom, and who sees it. The cell is loom's: it fails the model if two are at it, or if somebody reads what it
//! does not see for sure.

use core::time::Duration;
use std::sync::Arc;

use loom::cell::UnsafeCell;
use loom::thread;
use shmkit_core::shim::explore::{end, explore, explore_deaths, keeper, processes, spawn, spawn_mortal};
use shmkit_core::shim::futex;
use shmkit_core::shim::model::{Attachment, Process};
use shmkit_sync::{InitError, Once, OnceLock, WaitError};

/// What is done once: each doing adds one to both numbers.
struct Work {
    once: Once,
    done: UnsafeCell<[u32; 2]>,
}

// SAFETY: `done` is written by the one who runs `once` and read when that is complete; that this holds is what the models check.
unsafe impl Sync for Work {}
// SAFETY: as above.
unsafe impl Send for Work {}

impl Work {
    fn new() -> Arc<Self> {
        Arc::new(Self { once: Once::new(), done: UnsafeCell::new([0; 2]) })
    }

    fn work(&self) {
        for half in 0..2 {
            // SAFETY: one at a time; loom fails the model otherwise.
            self.done.with_mut(|done| unsafe { (*done)[half] += 1 });
        }
    }

    /// How often it was done. It has been.
    fn done(&self) -> [u32; 2] {
        // SAFETY: nobody writes any more; loom fails the model otherwise.
        self.done.with(|done| unsafe { *done })
    }

    /// Does it, unless it has been done; says whether it was this one.
    fn call(&self) -> bool {
        let mut ran = false;
        self.once
            .call_once(|| {
                ran = true;
                self.work();
            })
            .unwrap();
        ran
    }
}

/// Whoever finds the token of a newcomer in there must find it among the participants, or would do it a second time meanwhile.
#[test]
fn one_who_has_just_come_and_is_at_it_is_not_taken_for_dead() {
    explore(3, || {
        let region = Attachment::new(2);
        let work = Work::new();
        let resident = Process::join(&region, 1);
        let coming = thread::spawn({
            let (region, work) = (Arc::clone(&region), Arc::clone(&work));
            move || {
                let newcomer = Process::join(&region, 2);
                newcomer.act();
                work.call()
            }
        });
        resident.act();
        let did = work.call();
        assert!(did != coming.join().unwrap());
        assert_eq!(work.done(), [1; 2]);
    });
}

#[test]
fn of_three_callers_one_does_it_and_all_see_it() {
    explore(2, || {
        let (_region, [one, two, three]) = processes();
        let work = Work::new();
        let threads = [two, three].map(|process| {
            let work = Arc::clone(&work);
            spawn(&process, move || {
                work.call();
                assert_eq!(work.done(), [1; 2]);
            })
        });
        one.act();
        work.call();
        assert_eq!(work.done(), [1; 2]);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

/// The token in the word is that of the waiter's own process.
#[test]
fn threads_of_one_process_wait_for_each_other() {
    explore(3, || {
        let (_region, [process]) = processes();
        let work = Work::new();
        let thread = spawn(&process, {
            let work = Arc::clone(&work);
            move || {
                work.call();
                assert_eq!(work.done(), [1; 2]);
            }
        });
        process.act();
        work.call();
        assert_eq!(work.done(), [1; 2]);
        thread.join().unwrap();
    });
}

#[test]
fn one_who_waits_for_others_is_woken_and_sees_it_and_so_does_one_who_looks() {
    explore(3, || {
        let (_region, [waiter, worker]) = processes();
        let work = Work::new();
        let thread = spawn(&worker, {
            let work = Arc::clone(&work);
            move || _ = work.call()
        });
        waiter.act();
        if work.once.is_completed() {
            assert_eq!(work.done(), [1; 2]);
        }
        work.once.wait().unwrap();
        assert_eq!(work.done(), [1; 2]);
        thread.join().unwrap();
    });
}

/// The first one fails, and nobody notices but the next one, which begins anew; a third one waits for whoever succeeds.
#[test]
fn after_a_failure_the_next_one_does_it_and_those_who_wait_are_woken() {
    explore(2, || {
        let (_region, [one, two, three]) = processes();
        let (work, value) = (Work::new(), Arc::new(OnceLock::<u32>::new()));
        let failing = spawn(&one, {
            let (work, value) = (Arc::clone(&work), Arc::clone(&value));
            move || {
                let made = value.get_or_try_init(|| {
                    work.work();
                    Err("failed")
                });
                assert!(matches!(made, Ok(7) | Err(InitError::Init("failed"))));
            }
        });
        let waiting = spawn(&three, {
            let (work, value) = (Arc::clone(&work), Arc::clone(&value));
            move || {
                assert_eq!(*value.wait().unwrap(), 7);
                work.done();
            }
        });
        two.act();
        let made = value.get_or_init(|| {
            work.work();
            7
        });
        assert_eq!(*made.unwrap(), 7);
        [failing, waiting].into_iter().for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn one_who_leaves_at_its_deadline_takes_nobodys_wake_up_along() {
    explore(2, || {
        let (_region, [worker, timed, patient]) = processes();
        let work = Work::new();
        let threads = [
            spawn(&timed, {
                let work = Arc::clone(&work);
                move || match work.once.wait_timeout(Duration::ZERO) {
                    Ok(()) => assert_eq!(work.done(), [1; 2]),
                    Err(error) => assert!(matches!(error, WaitError::TimedOut)),
                }
            }),
            spawn(&patient, {
                let work = Arc::clone(&work);
                move || {
                    work.once.wait().unwrap();
                    assert_eq!(work.done(), [1; 2]);
                }
            }),
        ];
        worker.act();
        work.call();
        futex::expire();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

/// Whether one who died at `point` had not done it, but kept others from it.
fn left_undone(point: &str) -> bool {
    matches!(point, "once.after_claim" | "once.complete.before_swap")
}

#[test]
fn what_one_who_dies_anywhere_has_not_done_the_other_does() {
    let points = [
        "once.after_claim",
        "once.after_waiting",
        "once.after_wait",
        "once.complete.before_swap",
        "once.before_wake",
        "once.after_wake",
    ];
    explore_deaths(2, &points, |at| {
        let (region, [survivor, victim]) = processes();
        let work = Work::new();
        let keeper = keeper(&survivor);
        let (thread, place) = spawn_mortal(&victim, at, {
            let work = Arc::clone(&work);
            move || _ = work.call()
        });
        survivor.act();
        let mine = work.call();
        thread.join().unwrap();
        let died = *place.lock().unwrap();
        assert!(mine || !died.is_some_and(left_undone), "{died:?}");
        let [first, second] = work.done();
        assert!(first == second && (1..=1 + u32::from(died.is_some_and(left_undone))).contains(&first));
        end(&region, [keeper]);
        died
    });
}

/// One fails with somebody waiting, and dies anywhere; the one who waits comes to do it.
#[test]
fn one_who_fails_and_dies_leaves_it_to_the_one_who_waits() {
    let points = ["once.give_up.before_swap", "once.before_wake", "once.after_wake"];
    explore_deaths(2, &points, |at| {
        let (region, [survivor, victim]) = processes();
        let value = Arc::new(OnceLock::<u32>::new());
        let keeper = keeper(&survivor);
        let (thread, place) = spawn_mortal(&victim, at, {
            let value = Arc::clone(&value);
            move || _ = value.get_or_try_init(|| Err(()))
        });
        survivor.act();
        assert_eq!(*value.get_or_init(|| 7).unwrap(), 7);
        thread.join().unwrap();
        end(&region, [keeper]);
        *place.lock().unwrap()
    });
}

/// One waits that somebody else does it. Two may: one of them dies anywhere.
#[test]
fn one_who_waits_for_others_sees_the_one_who_comes_after_a_death() {
    explore_deaths(1, &["once.after_claim", "once.after_waiting", "once.complete.before_swap"], |at| {
        let (region, [survivor, victim, other]) = processes();
        let work = Work::new();
        let keeper = keeper(&survivor);
        let (thread, place) = spawn_mortal(&victim, at, {
            let work = Arc::clone(&work);
            move || _ = work.call()
        });
        let waiting = spawn(&other, {
            let work = Arc::clone(&work);
            move || {
                work.once.wait().unwrap();
                work.done();
            }
        });
        survivor.act();
        work.call();
        [thread, waiting].into_iter().for_each(|thread| thread.join().unwrap());
        end(&region, [keeper]);
        *place.lock().unwrap()
    });
}

/// A value that is there is written before, and the reader sees that it is. The value itself is none of loom's; the cell stands for it.
#[test]
fn a_value_that_is_there_is_seen() {
    explore(3, || {
        let (_region, [reader, writer]) = processes();
        let (work, value) = (Work::new(), Arc::new(OnceLock::<u32>::new()));
        let thread = spawn(&writer, {
            let (work, value) = (Arc::clone(&work), Arc::clone(&value));
            move || {
                value
                    .get_or_init(|| {
                        work.work();
                        7
                    })
                    .unwrap();
            }
        });
        reader.act();
        if let Some(value) = value.get() {
            assert_eq!((*value, work.done()), (7, [1; 2]));
        }
        let set = value.set(8).is_ok();
        assert_eq!(value.get(), Some(if set { &8 } else { &7 }));
        thread.join().unwrap();
    });
}
