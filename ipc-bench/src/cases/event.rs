//! Events.

use std::io;

use shmkit::Event;
use shmkit::spin::Spinning;

use crate::baton::{Bare, Baton, CACHE_LINE, CacheLine, FUTEX, FUTEX_WAITV, Futex, FutexWaitv, Pairs};
use crate::figure::{ALWAYS, Comparison, SUBJECT};
use crate::floor::{self, TWO_RMWS};
use crate::ours::InRegion;
use crate::peers::eventfd::{self, Counters};
#[cfg(feature = "peers")]
use crate::peers::raw_sync;
use crate::peers::sem::{self, Semaphores};
use crate::solo::{Solo, Turns};
use crate::team::{Cpus, Entry, Game, Measure, Place};

/// Set and reset.
pub const SET_RESET: Solo = Solo {
    name: "event/set_reset",
    what: "event, set+reset, nobody waits",
    conditions: "a manual-reset event; all in shared memory",
    candidates: set_reset,
    rows: &[
        Comparison::at_most(TWO_RMWS, 1.2),
        #[cfg(feature = "peers")]
        Comparison::listed(raw_sync::NAME),
    ],
};

/// Two processes that hand over to one another asleep.
pub const HANDOVER_ASLEEP: Game = Game {
    name: "event/handover/sleep",
    what: "event, there and back on one CPU",
    conditions: "each waits for an auto-reset event of its own and sets the other's; so do the peers with a word, and \
                 futex_waitv with a further word and a deadline in a second",
    members: 2,
    cpus: Cpus::One,
    measure: Measure::Whole,
    entries: &[
        Entry::of::<Pairs<Bare<FutexWaitv>>>(FUTEX_WAITV),
        Entry::of::<Pairs<Bare<Futex>>>(FUTEX),
        Entry::of::<Pairs<Semaphores>>(sem::NAME),
        Entry::of::<Pairs<Counters>>(eventfd::NAME),
        Entry::of::<Pairs<Ours>>(SUBJECT),
        #[cfg(feature = "peers")]
        Entry::of::<Pairs<raw_sync::Events>>(raw_sync::NAME),
    ],
    rows: &[
        Comparison::at_most(FUTEX_WAITV, 1.15),
        Comparison::listed(FUTEX),
        Comparison::listed(sem::NAME),
        Comparison::listed(eventfd::NAME),
        #[cfg(feature = "peers")]
        Comparison::listed(raw_sync::NAME),
    ],
};

/// Two processes that hand over to one another awake.
pub const HANDOVER_AWAKE: Game = Game {
    name: "event/handover/spin",
    what: "event, there and back on two CPUs",
    conditions: "each waits for an auto-reset event of its own and sets the other's; the cache line holds whose turn \
                 it is",
    members: 2,
    cpus: Cpus::Two,
    measure: Measure::Whole,
    entries: &[
        Entry::of::<Pairs<Bare<CacheLine>>>(CACHE_LINE),
        Entry::of::<Pairs<Semaphores>>(sem::NAME),
        Entry::of::<Pairs<Ours>>(SUBJECT),
        Entry::of::<Pairs<Ours>>(ALWAYS).with(Spinning::Always),
        #[cfg(feature = "peers")]
        Entry::of::<Pairs<raw_sync::Events>>(raw_sync::NAME),
    ],
    rows: &[
        Comparison::at_most(CACHE_LINE, 2.0),
        Comparison::at_most(CACHE_LINE, 2.0).of(ALWAYS),
        Comparison::listed(sem::NAME),
        #[cfg(feature = "peers")]
        Comparison::listed(raw_sync::NAME),
    ],
};

fn set_reset() -> io::Result<Vec<Turns>> {
    let ours = InRegion::create(1, Event::new)?;
    Ok(Vec::from([
        floor::two_rmws()?,
        Turns::new(SUBJECT, move || {
            let event = &ours[0];
            event.set();
            event.reset();
        }),
        #[cfg(feature = "peers")]
        raw_sync::set_reset()?,
    ]))
}

/// An auto-reset event for each member.
pub(super) struct Ours(InRegion<Event>);

impl Place for Ours {
    fn create(members: usize) -> io::Result<Self> {
        InRegion::create(members, Event::auto_reset).map(Ours)
    }

    fn address(&self) -> String {
        self.0.address()
    }

    fn attach(address: &str) -> io::Result<Self> {
        InRegion::attach(address).map(Ours)
    }
}

impl Baton for Ours {
    #[inline]
    fn give(&self, to: usize) {
        self.0[to].set();
    }

    #[inline]
    fn take(&self, own: usize) {
        self.0[own].wait().expect("a set in the end");
    }
}
