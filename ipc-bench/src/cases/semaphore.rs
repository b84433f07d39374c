//! Semaphores, and permits, which know who has them.

use std::io;

use shmkit::spin::Spinning;
use shmkit::{Permits, Semaphore};

use crate::baton::{Bare, Baton, CACHE_LINE, CacheLine, FUTEX, FUTEX_WAITV, Futex, FutexWaitv, Pairs};
use crate::figure::{ALWAYS, Comparison, NEVER, SUBJECT};
use crate::floor::{self, TWO_RMWS};
use crate::ours::InRegion;
#[cfg(feature = "peers")]
use crate::peers::boost;
use crate::peers::eventfd::{self, Counters};
use crate::peers::sem::{self, Semaphores};
use crate::solo::{Solo, Turns};
use crate::team::{Cpus, Entry, Game, Measure, Place};

const NOBODY_WAITS: &str = "there is always a permit; all in shared memory";

/// Acquire and release.
pub const UNCONTENDED: Solo = Solo {
    name: "semaphore/uncontended",
    what: "semaphore, acquire+release, uncontended",
    conditions: NOBODY_WAITS,
    candidates: uncontended,
    rows: &[
        Comparison::at_most(TWO_RMWS, 1.2),
        Comparison::at_most(sem::NAME, 1.0),
        #[cfg(feature = "peers")]
        Comparison::listed(boost::SEMAPHORE),
    ],
};

/// The same with permits.
pub const PERMITS: Solo = Solo {
    name: "permits/uncontended",
    what: "permits, acquire+release, uncontended",
    conditions: NOBODY_WAITS,
    candidates: permits,
    rows: &[Comparison::listed(TWO_RMWS), Comparison::listed(sem::NAME)],
};

/// Two processes that hand over to one another asleep.
pub const HANDOVER_ASLEEP: Game = Game {
    name: "semaphore/handover/sleep",
    what: "semaphore, there and back on one CPU",
    conditions: "each waits for a semaphore of its own and releases the other's; so do the peers with a word, and \
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
    ],
    rows: &[
        Comparison::at_most(FUTEX_WAITV, 1.15),
        Comparison::listed(FUTEX),
        Comparison::listed(sem::NAME),
        Comparison::listed(eventfd::NAME),
    ],
};

/// Two processes that hand over to one another awake.
pub const HANDOVER_AWAKE: Game = Game {
    name: "semaphore/handover/spin",
    what: "semaphore, there and back on two CPUs",
    conditions: "each waits for a semaphore of its own and releases the other's; the cache line holds whose turn it is",
    members: 2,
    cpus: Cpus::Two,
    measure: Measure::Whole,
    entries: &[
        Entry::of::<Pairs<Bare<CacheLine>>>(CACHE_LINE),
        Entry::of::<Pairs<Semaphores>>(sem::NAME),
        Entry::of::<Pairs<Ours>>(SUBJECT),
        Entry::of::<Pairs<Ours>>(ALWAYS).with(Spinning::Always),
    ],
    rows: &[
        Comparison::at_most(CACHE_LINE, 2.0),
        Comparison::at_most(CACHE_LINE, 2.0).of(ALWAYS),
        Comparison::listed(sem::NAME),
    ],
};

/// More processes than CPUs that hand over to one another in pairs.
pub const CROWD: Game = Game {
    name: "semaphore/crowd",
    what: "semaphore, there and back, 4 pairs",
    conditions: "each waits for a semaphore of its own and releases its partner's; until all have done their turns",
    members: 8,
    cpus: Cpus::Either,
    measure: Measure::Whole,
    entries: &[
        Entry::of::<Pairs<Ours>>(SUBJECT),
        Entry::of::<Pairs<Ours>>(NEVER).with(Spinning::Never),
        Entry::of::<Pairs<Ours>>(ALWAYS).with(Spinning::Always),
        Entry::of::<Pairs<Semaphores>>(sem::NAME),
    ],
    rows: &[Comparison::at_most(NEVER, 1.2), Comparison::listed(NEVER).of(ALWAYS), Comparison::listed(sem::NAME)],
};

fn uncontended() -> io::Result<Vec<Turns>> {
    let ours = InRegion::create(1, semaphore(1))?;
    let peer = Semaphores::with(1)?;
    let candidates = [
        floor::two_rmws()?,
        Turns::new(SUBJECT, move || {
            let semaphore = &ours[0];
            semaphore.acquire().expect("a permit");
            semaphore.release().expect("room for it");
        }),
        Turns::new(sem::NAME, move || {
            peer.wait(0);
            peer.post(0);
        }),
    ];
    let candidates = candidates.into_iter();
    #[cfg(feature = "peers")]
    let candidates = candidates.chain(boost::turns(boost::SEMAPHORE)?);
    Ok(candidates.collect())
}

fn permits() -> io::Result<Vec<Turns>> {
    let ours = InRegion::create(1, || Permits::new(4).expect("so few"))?;
    let peer = Semaphores::with(4)?;
    Ok(vec![
        floor::two_rmws()?,
        Turns::new(SUBJECT, move || {
            drop(ours[0].acquire().expect("a permit"));
        }),
        Turns::new(sem::NAME, move || {
            peer.wait(0);
            peer.post(0);
        }),
    ])
}

fn semaphore(value: u32) -> impl Fn() -> Semaphore {
    move || Semaphore::new(value).expect("so few permits")
}

/// A semaphore for each member.
struct Ours(InRegion<Semaphore>);

impl Place for Ours {
    fn create(members: usize) -> io::Result<Self> {
        InRegion::create(members, semaphore(0)).map(Ours)
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
        self.0[to].release().expect("one permit at most");
    }

    #[inline]
    fn take(&self, own: usize) {
        self.0[own].acquire().expect("a permit in the end");
    }
}
