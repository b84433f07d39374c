//! The measured cases: each returns raw numbers per round and the conditions they were taken under.

pub mod array;
pub mod asymmetric;
pub mod attach;
pub mod barrier;
pub mod condvar;
pub mod contention;
pub mod create;
pub mod deaths;
pub mod event;
pub mod frames;
pub mod kill;
pub mod killed;
pub mod map;
pub mod memory;
pub mod mutex;
pub mod once;
pub mod once_lock;
pub mod open;
pub mod pipe;
pub mod pool;
pub mod queue;
pub mod readiness;
pub mod reentrant_mutex;
pub mod rwlock;
pub mod semaphore;
pub mod snapshot;
pub mod spawn;
pub mod stopped;
pub mod stream;
pub mod untrusted;
pub mod vec;
pub mod wait_any;

use std::io;
use std::process;

use crate::child::Orders;
use crate::death::{self, Death};
use crate::janitor;
#[cfg(feature = "peers")]
use crate::peers::iceoryx2;
use crate::soak::worker;
use crate::solo::Solo;
use crate::team::{self, Game};

/// The cases of one thread.
pub const SOLOS: &[&Solo] = &[
    &mutex::UNCONTENDED,
    &semaphore::UNCONTENDED,
    &rwlock::READ,
    &rwlock::WRITE,
    &asymmetric::READ,
    &asymmetric::LOOK_UP,
    &event::SET_RESET,
    &semaphore::PERMITS,
    &once::CALL,
    &once_lock::GET,
    &reentrant_mutex::UNCONTENDED,
    &snapshot::READ,
    &snapshot::WRITE,
    &map::GET,
    &map::UPDATE,
    &vec::GET,
    &vec::UPDATE,
    &vec::PUSH_POP,
    &array::LOAD,
    &array::STORE,
    &untrusted::SEMAPHORE,
    &untrusted::EVENT,
];

/// The cases of several processes.
pub const GAMES: &[&Game] = &[
    &rwlock::READ_SIDE_BY_SIDE,
    &event::HANDOVER_ASLEEP,
    &semaphore::HANDOVER_ASLEEP,
    &event::HANDOVER_AWAKE,
    &semaphore::HANDOVER_AWAKE,
    &semaphore::CROWD,
    &mutex::CROWD,
    mutex::PROCESSES[0],
    mutex::PROCESSES[1],
    mutex::PROCESSES[2],
    mutex::PROCESSES[3],
    mutex::PROCESSES[4],
    &wait_any::HANDOVER_ASLEEP,
    &wait_any::HANDOVER_AWAKE,
    &condvar::HANDOVER_ASLEEP,
    &condvar::HANDOVER_AWAKE,
    &barrier::ROUND_ASLEEP,
    &barrier::ROUND_AWAKE,
    &pipe::ROUND_TRIP_AWAKE,
    &pipe::ROUND_TRIP_ASLEEP,
    &stream::ROUND_TRIP_AWAKE,
    &stream::ROUND_TRIP_ASLEEP,
    &readiness::ROUND_TRIP_ASLEEP,
    &readiness::ROUND_TRIP_APART,
    &pipe::STREAM,
    &pipe::STREAM_BATCHES,
    &frames::LARGE,
    &frames::IN_PLACE,
    frames::SIZES[0],
    frames::SIZES[1],
    frames::SIZES[2],
    frames::SIZES[3],
    frames::SIZES[4],
    frames::SIZES[5],
    frames::SIZES[6],
    &queue::ONE_TO_ONE,
    &queue::TWO_TO_TWO,
    &map::SIDE_BY_SIDE,
    &untrusted::ROUND_TRIP_AWAKE,
    &untrusted::ROUND_TRIP_ASLEEP,
    &untrusted::QUEUE,
];

/// The cases of a death.
pub const DEATHS: &[&Death] = &[&deaths::MUTEX, &deaths::BARRIER, &deaths::RWLOCK];

/// Does what a child is for and ends the process, if it is a child; returns at once if not.
///
/// To be called first in `main`, before any thread is started.
pub fn run_role_if_child() {
    shmkit::process::init();
    #[cfg(feature = "peers")]
    procspawn::init();
    let done = match Orders::receive() {
        Ok(None) => return,
        Ok(Some(orders)) => run(&orders),
        Err(error) => Err(error),
    };
    match done {
        Ok(()) => process::exit(0),
        Err(error) => {
            eprintln!("shmkit-bench child: {error}");
            process::exit(1);
        }
    }
}

fn run(orders: &Orders) -> io::Result<()> {
    match orders.role() {
        contention::WORKER => contention::work_as_told(orders),
        kill::WAITER => kill::wait_as_told(orders),
        kill::VICTIM => kill::fall_as_told(orders),
        open::NEWCOMER => open::come_as_told(orders),
        worker::WORKER => worker::work_as_told(orders),
        janitor::JANITOR => janitor::clean_as_told(orders),
        spawn::NOTHING => Ok(()),
        stopped::OWNER => stopped::own_as_told(orders),
        stopped::WAITER => stopped::wait_as_told(orders),
        #[cfg(feature = "peers")]
        iceoryx2::JANITOR => iceoryx2::clean_as_told(orders),
        team::MEMBER => named(GAMES, orders, "case", |case| case.name)?.play_as_told(orders),
        crate::killed::VICTIM => killed_as(orders)?.fall_as_told(orders),
        crate::killed::SURVIVOR => killed_as(orders)?.survive_as_told(orders),
        death::PEER => named(DEATHS, orders, "case", |case| case.name)?.wait_as_told(orders),
        death::VICTIM => named(DEATHS, orders, "case", |case| case.name)?.fall_as_told(orders),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "a role that this binary does not have")),
    }
}

/// Finds the row that a child is for.
fn killed_as(orders: &Orders) -> io::Result<&'static crate::killed::Entry> {
    let message = "no such row";
    let missing = || io::Error::new(io::ErrorKind::InvalidInput, message);
    killed::ENTRIES.get(orders.number::<usize>("entry")?).ok_or_else(missing)
}

/// Finds the one of `all` that the orders of a child name under `key`.
pub(crate) fn named<'a, C>(all: &'a [C], orders: &Orders, key: &str, name: impl Fn(&C) -> &str) -> io::Result<&'a C> {
    let wanted = orders.text(key)?;
    all.iter().find(|one| name(one) == wanted).ok_or_else(|| {
        let message = format!("no {key} {wanted:?} here");
        io::Error::new(io::ErrorKind::InvalidInput, message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn single_turns_are_timed_of_all_candidates_of_a_case_or_of_none() {
        for case in GAMES {
            let timed: Vec<_> = case.entries.iter().filter(|entry| entry.is_latency).map(|entry| entry.name).collect();
            assert!(timed.is_empty() || timed.len() == case.entries.len(), "{}: of {timed:?} only", case.name);
        }
    }
}
