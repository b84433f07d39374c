//! Queues: many send and many receive.

use shmkit::spin::Spinning;

use crate::channels::Shared;
use crate::figure::{ALWAYS, Comparison, SUBJECT};
use crate::message::{Cast, Stream, Typed};
#[cfg(feature = "peers")]
use crate::peers::crossbeam::{self, Channel};
#[cfg(feature = "peers")]
use crate::peers::python;
#[cfg(feature = "peers")]
use crate::peers::threads::Threads;
use crate::team::{Cpus, Entry, Game, Measure};

/// How many messages a queue has room for.
const ROOM: usize = 1024;

const CONDITIONS: &str = "u64, room for 1024; crossbeam-channel between threads of one process; producers in turns on \
                          the CPUs, and so the consumers";

const ENTRIES: &[Entry] = &[
    #[cfg(feature = "peers")]
    Entry::of::<Threads<Cast<Stream, Typed<u64>, Channel<u64, ROOM>>>>(crossbeam::NAME),
    Entry::of::<Cast<Stream, Typed<u64>, Shared<ROOM>>>(SUBJECT),
    Entry::of::<Cast<Stream, Typed<u64>, Shared<ROOM>>>(ALWAYS).with(Spinning::Always),
    #[cfg(feature = "peers")]
    Entry::of::<python::Queue<ROOM>>(python::NAME),
];

const ROWS: &[Comparison] = &[
    #[cfg(feature = "peers")]
    Comparison::at_most(crossbeam::NAME, 1.05),
    #[cfg(feature = "peers")]
    Comparison::at_most(crossbeam::NAME, 1.05).of(ALWAYS),
    #[cfg(feature = "peers")]
    Comparison::listed(python::NAME),
];

/// One producer and one consumer.
pub const ONE_TO_ONE: Game = Game {
    name: "queue/1+1",
    what: "queue, a message, 1 + 1",
    conditions: CONDITIONS,
    members: 2,
    cpus: Cpus::Two,
    measure: Measure::Whole,
    entries: ENTRIES,
    rows: ROWS,
};

/// Two of each.
pub const TWO_TO_TWO: Game = Game {
    name: "queue/2+2",
    what: "queue, a message, 2 + 2",
    conditions: CONDITIONS,
    members: 4,
    cpus: Cpus::Two,
    measure: Measure::PerMessage(2),
    entries: ENTRIES,
    rows: ROWS,
};
