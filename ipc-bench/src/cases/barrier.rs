//! Barriers.

use std::io;

use shmkit::Barrier;

use crate::baton::{Bare, CACHE_LINE, CacheLine, FUTEX_WAITV, FutexWaitv, Pairs};
use crate::figure::{Comparison, SUBJECT};
use crate::ours::InRegion;
use crate::peers::barrier::{PTHREAD, Pthread, STD, Std};
use crate::peers::threads::Threads;
use crate::team::{Cpus, Entry, Game, Measure, Place, Play, Seat};

const CONDITIONS: &str = "the bare way is there and back, since each has to learn of the other; std between two \
                          threads";

/// Rounds of two processes on two CPUs.
pub const ROUND_AWAKE: Game = Game {
    name: "barrier/round/spin",
    what: "barrier, round of 2 on two CPUs",
    conditions: CONDITIONS,
    members: 2,
    cpus: Cpus::Two,
    measure: Measure::Whole,
    entries: &[
        Entry::of::<Pairs<Bare<CacheLine>>>(CACHE_LINE),
        Entry::of::<Ours>(SUBJECT),
        Entry::of::<Pthread>(PTHREAD),
        Entry::of::<Threads<Std>>(STD),
    ],
    rows: &[Comparison::listed(CACHE_LINE), Comparison::listed(PTHREAD), Comparison::listed(STD)],
};

/// Rounds of two processes on one CPU.
pub const ROUND_ASLEEP: Game = Game {
    name: "barrier/round/sleep",
    what: "barrier, round of 2 on one CPU",
    conditions: CONDITIONS,
    members: 2,
    cpus: Cpus::One,
    measure: Measure::Whole,
    entries: &[
        Entry::of::<Pairs<Bare<FutexWaitv>>>(FUTEX_WAITV),
        Entry::of::<Ours>(SUBJECT),
        Entry::of::<Pthread>(PTHREAD),
        Entry::of::<Threads<Std>>(STD),
    ],
    rows: &[Comparison::listed(FUTEX_WAITV), Comparison::listed(PTHREAD), Comparison::listed(STD)],
};

struct Ours(InRegion<Barrier>);

impl Place for Ours {
    fn create(members: usize) -> io::Result<Self> {
        InRegion::create(1, || Barrier::new(members as u32).expect("so few parties")).map(Ours)
    }

    fn address(&self) -> String {
        self.0.address()
    }

    fn attach(address: &str) -> io::Result<Self> {
        InRegion::attach(address).map(Ours)
    }
}

impl Play for Ours {
    const IS_LATENCY: bool = true;

    fn play(&self, _: Seat, turns: u64) {
        let mut party = self.0[0].join().expect("a seat");
        for _ in 0..turns {
            party.wait().expect("nobody dies");
        }
    }

    fn play_singly(&self, _: Seat, turns: u64, done: &mut dyn FnMut()) {
        // Joined once: that is no part of a round.
        let mut party = self.0[0].join().expect("a seat");
        for _ in 0..turns {
            party.wait().expect("nobody dies");
            done();
        }
    }
}
