//! Lock and unlock when nobody else wants the lock, and when more processes want it than there are CPUs.

use std::hint::black_box;
use std::io;
use std::sync::Mutex;

use shmkit::spin::Spinning;

use crate::cases::contention::dependent_steps;
use crate::figure::{ALWAYS, Comparison, NEVER, SUBJECT};
use crate::floor::{Floor, PRIVATE_LINES, PrivateLines};
use crate::lock::{LockUnderTest, SharedLock};
use crate::ours::Ours;
#[cfg(feature = "peers")]
use crate::peers::{boost, parking_lot, raw_sync};
use crate::pthread::{Plain, Robust};
use crate::shared::Line;
use crate::solo::{Solo, Turns};
use crate::team::{Cpus, Entry, Game, Measure, Place, Play, Seat};

/// About as many steps as 200 ns hold.
const STEPS: u64 = 120;

/// Lock and unlock.
pub const UNCONTENDED: Solo = Solo {
    name: "mutex/uncontended",
    what: "lock+unlock, uncontended",
    conditions: "the section is empty; the floor is a CAS and a swap; all but std in shared memory",
    candidates: uncontended,
    rows: &[
        Comparison::at_most(PRIVATE_LINES, 1.35),
        Comparison::listed(Floor::NAME),
        Comparison::at_most(<Mutex<u64> as LockUnderTest>::NAME, 0.75),
        Comparison::at_most(Robust::NAME, 0.65),
        Comparison::listed(Plain::NAME),
        #[cfg(feature = "peers")]
        Comparison::listed(raw_sync::NAME),
        #[cfg(feature = "peers")]
        Comparison::listed(parking_lot::NAME),
        #[cfg(feature = "peers")]
        Comparison::listed(boost::MUTEX),
    ],
};

/// One to sixteen processes that want one lock.
pub const PROCESSES: [&Game; 5] = [
    &processes("mutex/processes/1", "mutex, section of one of 1", 1),
    &processes("mutex/processes/2", "mutex, section of one of 2", 2),
    &processes("mutex/processes/4", "mutex, section of one of 4", 4),
    &processes("mutex/processes/8", "mutex, section of one of 8", 8),
    &processes("mutex/processes/16", "mutex, section of one of 16", 16),
];

/// So many processes that want one lock.
const fn processes(name: &'static str, what: &'static str, members: usize) -> Game {
    Game {
        name,
        what,
        conditions: "the section adds 1; 120 dependent steps of work outside; until all have had their turns",
        members,
        cpus: Cpus::Either,
        measure: Measure::PerMessage(members as u64),
        entries: const {
            &[
                Entry::of::<Shared<Ours>>(SUBJECT),
                Entry::of::<Shared<Plain>>(Plain::NAME),
                Entry::of::<Shared<Robust>>(Robust::NAME),
            ]
        },
        rows: const { &[Comparison::listed(Plain::NAME), Comparison::listed(Robust::NAME)] },
    }
}

/// More processes than CPUs that want one lock.
pub const CROWD: Game = Game {
    name: "mutex/crowd",
    what: "mutex, section of each of 8",
    conditions: "the section adds 1; 120 dependent steps of work outside; until all have had their turns",
    members: 8,
    cpus: Cpus::Either,
    measure: Measure::Whole,
    entries: &[
        Entry::of::<Shared<Ours>>(SUBJECT),
        Entry::of::<Shared<Ours>>(NEVER).with(Spinning::Never),
        Entry::of::<Shared<Ours>>(ALWAYS).with(Spinning::Always),
        Entry::of::<Shared<Plain>>(Plain::NAME),
    ],
    rows: &[Comparison::at_most(NEVER, 1.2), Comparison::listed(NEVER).of(ALWAYS), Comparison::listed(Plain::NAME)],
};

fn uncontended() -> io::Result<Vec<Turns>> {
    let private = Line(Mutex::new(0));
    let line = PrivateLines::create(1)?;
    let candidates = [
        turns(Floor::create()?),
        Turns::new(PRIVATE_LINES, move || line.take_and_give(0)),
        turns(Ours::create()?),
        Turns::new(<Mutex<u64> as LockUnderTest>::NAME, move || section(&private.0)),
        turns(Plain::create()?),
        turns(Robust::create()?),
        #[cfg(feature = "peers")]
        raw_sync::mutex()?,
        #[cfg(feature = "peers")]
        parking_lot::mutex(),
    ];
    let candidates = candidates.into_iter();
    #[cfg(feature = "peers")]
    let candidates = candidates.chain(boost::turns(boost::MUTEX)?);
    Ok(candidates.collect())
}

fn turns<L: LockUnderTest + 'static>(lock: L) -> Turns {
    Turns::new(L::NAME, move || section(&lock))
}

/// The compiler must assume that the value is read and written in each turn.
#[inline(always)]
fn section<L: LockUnderTest>(lock: &L) {
    let mut guard = lock.lock();
    black_box(&mut *guard);
}

/// A lock for all members.
struct Shared<L>(L);

impl<L: SharedLock> Place for Shared<L> {
    fn create(_: usize) -> io::Result<Self> {
        L::create().map(Shared)
    }

    fn address(&self) -> String {
        self.0.address()
    }

    fn attach(address: &str) -> io::Result<Self> {
        L::attach(address).map(Shared)
    }
}

impl<L: SharedLock> Play for Shared<L> {
    const IS_LATENCY: bool = true;

    fn play(&self, seat: Seat, turns: u64) {
        let mut state = seat.member as u64;
        for _ in 0..turns {
            *self.0.lock() += 1;
            state = black_box(dependent_steps(state, STEPS));
        }
    }
}
