//! The lock among the living.

use std::sync::Arc;

use loom::thread;
use shmkit_core::shim::futex;
use shmkit_core::shim::model::{Attachment, Process};

use shmkit_core::shim::explore::explore;

use crate::support::Office;

/// As many lockers as `visits` has entries, each locking so often.
fn lockers<const N: usize>(visits: [u32; N], meanwhile: impl FnOnce()) {
    let region = Attachment::new(N);
    let office = Office::new();
    let processes: [Process; N] = std::array::from_fn(|i| Process::join(&region, i as u64 + 1));
    let threads: Vec<_> = (1..N)
        .map(|i| {
            let (office, process) = (Arc::clone(&office), processes[i].clone());
            thread::spawn(move || {
                process.act();
                (0..visits[i]).for_each(|_| assert!(!office.visit()));
            })
        })
        .collect();
    processes[0].act();
    (0..visits[0]).for_each(|_| assert!(!office.visit()));
    meanwhile();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(office.sold(), visits.iter().sum());
}

#[test]
fn two_lockers_exclude_each_other_and_see_each_others_writes() {
    explore(3, || lockers([2, 2], || ()));
}

#[test]
fn three_lockers_exclude_each_other_and_none_is_forgotten() {
    explore(3, || lockers([1, 1, 1], || ()));
}

#[test]
fn wake_ups_for_no_reason_change_nothing() {
    explore(3, || lockers([1, 1, 1], futex::disturb));
}

#[test]
fn try_lock_takes_no_wake_up_from_those_who_sleep() {
    explore(3, || {
        let region = Attachment::new(3);
        let office = Office::new();
        let [owner, waiter, trier] = [1, 2, 3].map(|number| Process::join(&region, number));
        let sleeper = {
            let office = Arc::clone(&office);
            thread::spawn(move || {
                waiter.act();
                office.visit();
            })
        };
        let tries = {
            let office = Arc::clone(&office);
            thread::spawn(move || {
                trier.act();
                office.try_visit();
            })
        };
        owner.act();
        office.visit();
        office.visit();
        sleeper.join().unwrap();
        tries.join().unwrap();
    });
}

/// One who leaves at its deadline may have been woken; the one who sleeps behind it must not miss that.
#[test]
fn a_locker_that_times_out_swallows_no_wake_up() {
    explore(3, || {
        let region = Attachment::new(3);
        let office = Office::new();
        let [owner, timed, patient] = [1, 2, 3].map(|number| Process::join(&region, number));
        owner.act();
        let held = office.lock();
        let threads = [
            thread::spawn({
                let office = Arc::clone(&office);
                move || {
                    timed.act();
                    if let Some(held) = office.lock_timed() {
                        office.sell(held);
                    }
                }
            }),
            thread::spawn({
                let office = Arc::clone(&office);
                move || {
                    patient.act();
                    office.visit();
                }
            }),
        ];
        office.sell(held);
        office.visit();
        futex::expire();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}
