//! Condition variables.

use std::io;
use std::sync::atomic::AtomicU32;

use shmkit::{Condvar, Mutex, ShmSafe};

use crate::baton::{Bare, Baton, CACHE_LINE, CacheLine, FUTEX_WAITV, FutexWaitv, Pairs};
use crate::figure::{Comparison, SUBJECT};
use crate::ours::InRegion;
use crate::peers::condvar::{PTHREAD, Pthread, STD, Std};
use crate::peers::threads::Threads;
use crate::team::{Cpus, Entry, Game, Measure, Place};

const CONDITIONS: &str = "each waits until its own flag is up, under a mutex, and notifies the other after it has \
                          unlocked; std between two threads";

/// Two processes that hand over to one another asleep.
pub const HANDOVER_ASLEEP: Game = Game {
    name: "condvar/handover/sleep",
    what: "condvar, there and back on one CPU",
    conditions: CONDITIONS,
    members: 2,
    cpus: Cpus::One,
    measure: Measure::Whole,
    entries: &[
        Entry::of::<Pairs<Bare<FutexWaitv>>>(FUTEX_WAITV),
        Entry::of::<Pairs<Ours>>(SUBJECT),
        Entry::of::<Pairs<Pthread>>(PTHREAD),
        Entry::of::<Threads<Std>>(STD),
    ],
    rows: &[Comparison::listed(FUTEX_WAITV), Comparison::listed(PTHREAD), Comparison::listed(STD)],
};

/// Two processes that hand over to one another awake.
pub const HANDOVER_AWAKE: Game = Game {
    name: "condvar/handover/spin",
    what: "condvar, there and back on two CPUs",
    conditions: CONDITIONS,
    members: 2,
    cpus: Cpus::Two,
    measure: Measure::Whole,
    entries: &[
        Entry::of::<Pairs<Bare<CacheLine>>>(CACHE_LINE),
        Entry::of::<Pairs<Ours>>(SUBJECT),
        Entry::of::<Pairs<Pthread>>(PTHREAD),
        Entry::of::<Threads<Std>>(STD),
    ],
    rows: &[Comparison::listed(CACHE_LINE), Comparison::listed(PTHREAD), Comparison::listed(STD)],
};

/// The flag of a member.
#[repr(C)]
#[derive(ShmSafe)]
struct Flag {
    is_up: Mutex<u32>,
    raised: Condvar,
    _reserved: AtomicU32,
}

struct Ours(InRegion<Flag>);

impl Place for Ours {
    fn create(members: usize) -> io::Result<Self> {
        InRegion::create(members, || Flag {
            is_up: Mutex::new(0),
            raised: Condvar::new(),
            _reserved: AtomicU32::new(0),
        })
        .map(Ours)
    }

    fn address(&self) -> String {
        self.0.address()
    }

    fn attach(address: &str) -> io::Result<Self> {
        InRegion::attach(address).map(Ours)
    }
}

impl Baton for Ours {
    fn give(&self, to: usize) {
        let flag = &self.0[to];
        *flag.is_up.lock().expect("nobody dies") = 1;
        flag.raised.notify_one();
    }

    fn take(&self, own: usize) {
        let flag = &self.0[own];
        let is_up = flag.is_up.lock().expect("nobody dies");
        *flag.raised.wait_while(is_up, |is_up| *is_up == 0).expect("nobody dies") = 0;
    }
}
