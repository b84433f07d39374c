//! Waiting for any of several things: nothing that comes is missed, whatever else comes, and nobody's death.

use core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use std::sync::Arc;

use shmkit_core::identity::Token;
use shmkit_core::shim::explore::{end, explore, keeper, spawn};
use shmkit_core::shim::futex;
use shmkit_core::shim::model::{Attachment, Process};
use shmkit_core::shim::{AtomicU32, AtomicU64};
use shmkit_core::wait::{Armed, FutexWord, Site, Source, wake_all};
use shmkit_core::{Deadline, Error, wait_any};

const RAISED: u32 = 1;
const WAITING: u32 = 2;

/// A flag, and a note that is written before it is raised. Whoever raises it wakes only if somebody waits.
#[derive(Default)]
struct Flag {
    word: AtomicU32,
    note: AtomicU64,
}

impl Flag {
    fn raise(&self) {
        self.note.store(1, Relaxed);
        if self.word.swap(RAISED, AcqRel) & WAITING != 0 {
            wake_all(&self.word);
        }
    }
}

struct Raised<'a>(&'a Flag);

impl Source for Raised<'_> {
    fn word(&self) -> &dyn FutexWord {
        &self.0.word
    }

    fn is_ready(&mut self) -> bool {
        self.0.word.load(Acquire) & RAISED != 0
    }

    fn arm(&mut self) -> Result<Armed, Error> {
        Ok(Armed::at(self.0.word.fetch_or(WAITING, AcqRel) | WAITING))
    }

    fn disarm(&mut self, _may_be_woken: bool) {}
}

/// Ready when a process is dead. Its word never changes.
struct Death<'a> {
    word: &'a AtomicU32,
    of: Token,
}

impl Source for Death<'_> {
    fn word(&self) -> &dyn FutexWord {
        self.word
    }

    fn is_ready(&mut self) -> bool {
        !Site::of(self.word).unwrap().is_alive(self.of)
    }

    fn arm(&mut self) -> Result<Armed, Error> {
        Ok(Armed::at(0))
    }

    fn disarm(&mut self, _may_be_woken: bool) {}
}

fn flags<const N: usize>() -> [Arc<Flag>; N] {
    std::array::from_fn(|_| Arc::default())
}

#[test]
fn whichever_is_raised_first_ends_the_wait_and_what_came_before_it_is_seen() {
    explore(3, || {
        let region = Attachment::new(3);
        let [waiter, setters @ ..] = [1, 2, 3].map(|number| Process::join(&region, number));
        let flags = flags::<2>();
        let threads = [0, 1].map(|index| {
            let flag = Arc::clone(&flags[index]);
            spawn(&setters[index], move || flag.raise())
        });
        waiter.act();
        let first = wait_any(&mut [&mut Raised(&flags[0]), &mut Raised(&flags[1])], None).unwrap().unwrap();
        assert_eq!(flags[first].note.load(Relaxed), 1);
        assert_eq!(wait_any(&mut [&mut Raised(&flags[1 - first])], None).unwrap(), Some(0));
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn wake_ups_for_no_reason_end_no_wait() {
    explore(3, || {
        let region = Attachment::new(2);
        let [waiter, setter] = [1, 2].map(|number| Process::join(&region, number));
        let flags = flags::<2>();
        let thread = spawn(&waiter, {
            let flags = flags.clone();
            move || {
                let ready = wait_any(&mut [&mut Raised(&flags[0]), &mut Raised(&flags[1])], None).unwrap();
                assert_eq!((ready, flags[1].note.load(Relaxed)), (Some(1), 1));
            }
        });
        setter.act();
        futex::disturb();
        flags[1].raise();
        thread.join().unwrap();
    });
}

#[test]
fn a_wait_that_times_out_has_looked_once_more() {
    explore(3, || {
        let region = Attachment::new(2);
        let [waiter, setter] = [1, 2].map(|number| Process::join(&region, number));
        let [flag, never] = flags::<2>();
        let thread = spawn(&waiter, {
            let flag = Arc::clone(&flag);
            move || {
                let deadline = Deadline::after(core::time::Duration::ZERO);
                let ready = wait_any(&mut [&mut Raised(&never), &mut Raised(&flag)], deadline).unwrap();
                // It was raised before the time was over.
                assert_eq!(ready, Some(1));
            }
        });
        setter.act();
        flag.raise();
        futex::expire();
        thread.join().unwrap();
    });
}

#[test]
fn the_death_of_a_process_ends_the_wait_also_beside_what_never_comes() {
    explore(2, || {
        let region = Attachment::new(2);
        let [waiter, victim] = [1, 2].map(|number| Process::join(&region, number));
        let keeper = keeper(&waiter);
        let [never] = flags::<1>();
        let word = AtomicU32::new(0);
        let dying = loom::thread::spawn({
            let victim = victim.clone();
            move || victim.die()
        });
        waiter.act();
        let mut death = Death { word: &word, of: victim.token() };
        assert_eq!(wait_any(&mut [&mut Raised(&never), &mut death], None).unwrap(), Some(1));
        dying.join().unwrap();
        end(&region, [keeper]);
    });
}
