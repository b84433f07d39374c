//! Waiting for whichever of several comes first.

use std::io;

use shmkit::spin::Spinning;
use shmkit::{Event, wait_any};

use crate::baton::{Bare, Baton, CACHE_LINE, CacheLine, FUTEX, FUTEX_WAITV, Futex, FutexWaitv, Pairs};
use crate::figure::{ALWAYS, Comparison, SUBJECT};
use crate::ours::InRegion;
use crate::peers::polled::{POLL, Polled};
use crate::team::{Cpus, Entry, Game, Measure, Place};

const CONDITIONS: &str = "each waits for two auto-reset events, one that nobody sets and, behind that, one of its own, and sets the \
                          other's; futex_waitv, with a deadline in a second, and poll have two of their kind as well";

/// Two processes that hand over to one another asleep.
pub const HANDOVER_ASLEEP: Game = Game {
    name: "wait_any/handover/sleep",
    what: "wait_any, there and back on one CPU",
    conditions: CONDITIONS,
    members: 2,
    cpus: Cpus::One,
    measure: Measure::Whole,
    entries: &[
        Entry::of::<Pairs<Bare<FutexWaitv>>>(FUTEX_WAITV),
        Entry::of::<Pairs<Bare<Futex>>>(FUTEX),
        Entry::of::<Pairs<Polled>>(POLL),
        Entry::of::<Pairs<Ours>>(SUBJECT),
    ],
    rows: &[Comparison::listed(FUTEX_WAITV), Comparison::listed(FUTEX), Comparison::listed(POLL)],
};

/// Two processes that hand over to one another awake.
pub const HANDOVER_AWAKE: Game = Game {
    name: "wait_any/handover/spin",
    what: "wait_any, there and back on two CPUs",
    conditions: CONDITIONS,
    members: 2,
    cpus: Cpus::Two,
    measure: Measure::Whole,
    entries: &[
        Entry::of::<Pairs<Bare<CacheLine>>>(CACHE_LINE),
        Entry::of::<Pairs<Polled>>(POLL),
        Entry::of::<Pairs<Ours>>(SUBJECT),
        Entry::of::<Pairs<Ours>>(ALWAYS).with(Spinning::Always),
    ],
    rows: &[Comparison::listed(CACHE_LINE), Comparison::listed(CACHE_LINE).of(ALWAYS), Comparison::listed(POLL)],
};

/// An auto-reset event for each member, and the last one for nobody.
struct Ours {
    events: InRegion<Event>,
    nobody: usize,
}

impl Place for Ours {
    fn create(members: usize) -> io::Result<Self> {
        let events = InRegion::create(members + 1, Event::auto_reset)?;
        Ok(Ours { events, nobody: members })
    }

    fn address(&self) -> String {
        self.events.address()
    }

    fn attach(address: &str) -> io::Result<Self> {
        let events = InRegion::attach(address)?;
        let nobody = events.count() - 1;
        Ok(Ours { events, nobody })
    }
}

impl Baton for Ours {
    #[inline]
    fn give(&self, to: usize) {
        self.events[to].set();
    }

    #[inline]
    fn take(&self, own: usize) {
        let (quiet, own) = (&self.events[self.nobody], &self.events[own]);
        while !own.try_wait() {
            let ready = wait_any(&mut [&mut quiet.until_set(), &mut own.until_set()], None).expect("a set in the end");
            assert_eq!(ready, Some(1), "nobody sets the other one");
        }
    }
}
