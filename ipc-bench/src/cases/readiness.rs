//! Readiness: receivers in an event loop.

use shmkit::Pipe;

use crate::baton::{Bare, FUTEX, FUTEX_WAITV, Futex, FutexWaitv, Pairs};
use crate::channels::BothWays;
use crate::figure::{Comparison, SUBJECT};
use crate::message::{Cast, Frame, Note, RoundTrip, Typed};
use crate::peers::descriptors::{Pipes, Sockets};
use crate::peers::eventfd::Counters;
use crate::peers::polled::{EVENTFD, EventLoop, PIPE, SOCKET};
use crate::ready::{Ready, Ticketed};
use crate::team::{Cpus, Entry, Game, Measure};

/// How many messages there is room for each way.
const ROOM: usize = 1024;

const CONDITIONS: &str = "a message of 48 bytes, and the same back; epoll, by levels, waits before each read; ours is found empty first, and \
                          the sender rings, or, where the pipe is opened by name, a thread of the receiver; eventfd and the futex calls \
                          only hand over whose turn it is, and futex_waitv waits for a further word, with a deadline in a second";

/// The name of ours that is opened by name, in results.
const BY_NAME: &str = "shmkit, by name";

/// One message there and back on one CPU.
pub const ROUND_TRIP_ASLEEP: Game = Game {
    name: "readiness/rtt/sleep",
    what: "readiness, 48 bytes there and back on one CPU",
    conditions: CONDITIONS,
    members: 2,
    cpus: Cpus::One,
    measure: Measure::Whole,
    entries: ENTRIES,
    rows: ROWS,
};

/// The same on two CPUs.
pub const ROUND_TRIP_APART: Game = Game {
    name: "readiness/rtt/apart",
    what: "readiness, 48 bytes there and back on two CPUs",
    conditions: CONDITIONS,
    members: 2,
    cpus: Cpus::Two,
    measure: Measure::Whole,
    entries: ENTRIES,
    rows: ROWS,
};

const ENTRIES: &[Entry] = &[
    Entry::of::<Pairs<Bare<FutexWaitv>>>(FUTEX_WAITV),
    Entry::of::<Pairs<Bare<Futex>>>(FUTEX),
    Entry::of::<Pairs<EventLoop<Counters>>>(EVENTFD),
    Entry::of::<Cast<RoundTrip, Typed<Note>, BothWays<Ready<Ticketed<Note>>, ROOM>>>(SUBJECT),
    Entry::of::<Cast<RoundTrip, Typed<Note>, BothWays<Ready<Pipe<Note>>, ROOM>>>(BY_NAME),
    Entry::of::<Cast<RoundTrip, Frame<48>, EventLoop<Pipes>>>(PIPE),
    Entry::of::<Cast<RoundTrip, Frame<48>, EventLoop<Sockets>>>(SOCKET),
];

const ROWS: &[Comparison] = &[
    Comparison::listed(FUTEX_WAITV),
    Comparison::listed(FUTEX),
    Comparison::listed(BY_NAME),
    Comparison::listed(EVENTFD),
    Comparison::listed(PIPE),
    Comparison::listed(SOCKET),
];
