//! Streams: bytes without frames between two.

use shmkit::PipeStream;

use crate::baton::{Bare, CACHE_LINE, CacheLine, FUTEX, FUTEX_WAITV, Futex, FutexWaitv, Pairs};
use crate::channels::BothWays;
use crate::figure::{Comparison, SUBJECT};
use crate::message::{Cast, Frame, Note, RoundTrip, Typed};
use crate::peers::descriptors::{PIPE, Pipes, SOCKET, Sockets};
use crate::record::{LINE, Records};
use crate::team::{Cpus, Entry, Game, Measure};

/// How many bytes there is room for each way.
const ROOM: usize = 64 << 10;

/// Some bytes there and back between two that look for them.
pub const ROUND_TRIP_AWAKE: Game = Game {
    name: "stream/rtt/spin",
    what: "stream, 48 bytes there and back on two CPUs",
    conditions: "48 bytes written by write_all and read by read_exact, and the same back; the bare cache line carries \
                 only whose turn it is, and with the message there is a line for each way; the peers sleep",
    members: 2,
    cpus: Cpus::Two,
    measure: Measure::Whole,
    entries: &[
        Entry::of::<Pairs<Bare<CacheLine>>>(CACHE_LINE),
        Entry::of::<Cast<RoundTrip, Typed<Note>, Records>>(LINE),
        Entry::of::<Cast<RoundTrip, Frame<48>, BothWays<PipeStream, ROOM>>>(SUBJECT),
        Entry::of::<Cast<RoundTrip, Frame<48>, Pipes>>(PIPE),
        Entry::of::<Cast<RoundTrip, Frame<48>, Sockets>>(SOCKET),
    ],
    rows: &[
        Comparison::listed(CACHE_LINE),
        Comparison::listed(LINE),
        Comparison::listed(PIPE),
        Comparison::listed(SOCKET),
    ],
};

/// The same between two that sleep.
pub const ROUND_TRIP_ASLEEP: Game = Game {
    name: "stream/rtt/sleep",
    what: "stream, 48 bytes there and back on one CPU",
    conditions: "48 bytes written by write_all and read by read_exact, and the same back; the futex calls only hand \
                 over whose turn it is, and futex_waitv waits for a further word, with a deadline in a second",
    members: 2,
    cpus: Cpus::One,
    measure: Measure::Whole,
    entries: &[
        Entry::of::<Pairs<Bare<FutexWaitv>>>(FUTEX_WAITV),
        Entry::of::<Pairs<Bare<Futex>>>(FUTEX),
        Entry::of::<Cast<RoundTrip, Frame<48>, BothWays<PipeStream, ROOM>>>(SUBJECT),
        Entry::of::<Cast<RoundTrip, Frame<48>, Pipes>>(PIPE),
        Entry::of::<Cast<RoundTrip, Frame<48>, Sockets>>(SOCKET),
    ],
    rows: &[
        Comparison::listed(FUTEX_WAITV),
        Comparison::listed(FUTEX),
        Comparison::listed(PIPE),
        Comparison::listed(SOCKET),
    ],
};
