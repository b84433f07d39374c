//! Pipes: messages of a fixed type between two.

use shmkit::Pipe;
use shmkit::spin::Spinning;

use crate::baton::{Bare, CACHE_LINE, CacheLine, FUTEX, FUTEX_WAITV, Futex, FutexWaitv, Pairs};
use crate::channels::{BothWays, OneWay};
use crate::figure::{ALWAYS, Comparison, NEVER, SUBJECT};
use crate::message::{Batch, Cast, Frame, Note, RoundTrip, Stream, Typed};
use crate::peers::descriptors::{PIPE, Pipes, SOCKET, Sockets};
#[cfg(feature = "peers")]
use crate::peers::iceoryx2::{self, Services};
#[cfg(feature = "peers")]
use crate::peers::ipmpsc::{self, Rings as IpmpscRings};
#[cfg(feature = "peers")]
use crate::peers::rtrb::{self, Rings};
#[cfg(feature = "peers")]
use crate::peers::threads::Threads;
use crate::record::{LINE, Records};
use crate::team::{Cpus, Entry, Game, Measure};

/// How many messages the rings for streams have room for.
const ROOM: usize = 1024;
/// How many messages are sent by one call in batches.
const MANY: usize = 64;

/// rtrb with the pauses from look to look that were found to be best for there and back.
#[cfg(feature = "peers")]
type RingsThereAndBack = Rings<Note, ROOM, 4>;
/// The same for streams.
#[cfg(feature = "peers")]
type StreamingRings = Rings<u64, ROOM, 64>;

/// One message there and back between two that look for it.
pub const ROUND_TRIP_AWAKE: Game = Game {
    name: "pipe/rtt/spin",
    what: "pipe, 48 bytes there and back on two CPUs",
    conditions: "a message of 48 bytes, and the same back; the bare cache line carries only whose turn it is, and \
                 with the message there is a line for each way; rtrb between two threads, which look again after 4 \
                 pauses; iceoryx2 looks again at once",
    members: 2,
    cpus: Cpus::Two,
    measure: Measure::Whole,
    entries: &[
        Entry::of::<Pairs<Bare<CacheLine>>>(CACHE_LINE),
        Entry::of::<Cast<RoundTrip, Typed<Note>, Records>>(LINE),
        Entry::of::<Cast<RoundTrip, Typed<Note>, BothWays<Pipe<Note>, ROOM>>>(SUBJECT),
        Entry::of::<Cast<RoundTrip, Typed<Note>, BothWays<Pipe<Note>, ROOM>>>(ALWAYS).with(Spinning::Always),
        #[cfg(feature = "peers")]
        Entry::of::<Threads<Cast<RoundTrip, Typed<Note>, RingsThereAndBack>>>(rtrb::NAME),
        #[cfg(feature = "peers")]
        Entry::of::<Cast<RoundTrip, Typed<Note>, Services>>(iceoryx2::NAME),
    ],
    rows: &[
        Comparison::at_most(CACHE_LINE, 1.25),
        Comparison::at_most(CACHE_LINE, 1.25).of(ALWAYS),
        Comparison::listed(LINE).of(ALWAYS),
        #[cfg(feature = "peers")]
        Comparison::at_most(rtrb::NAME, 1.0),
        #[cfg(feature = "peers")]
        Comparison::at_most(iceoryx2::NAME, 1.0 / 3.0),
    ],
};

/// The same between two that sleep.
pub const ROUND_TRIP_ASLEEP: Game = Game {
    name: "pipe/rtt/sleep",
    what: "pipe, 48 bytes there and back on one CPU",
    conditions: "a message of 48 bytes, and the same back; the futex calls only hand over whose turn it is, and \
                 futex_waitv waits for a further word, with a deadline in a second",
    members: 2,
    cpus: Cpus::One,
    measure: Measure::Whole,
    entries: &[
        Entry::of::<Pairs<Bare<FutexWaitv>>>(FUTEX_WAITV),
        Entry::of::<Pairs<Bare<Futex>>>(FUTEX),
        Entry::of::<Cast<RoundTrip, Typed<Note>, BothWays<Pipe<Note>, ROOM>>>(SUBJECT),
        Entry::of::<Cast<RoundTrip, Typed<Note>, BothWays<Pipe<Note>, ROOM>>>(NEVER).with(Spinning::Never),
        Entry::of::<Cast<RoundTrip, Frame<48>, Pipes>>(PIPE),
        Entry::of::<Cast<RoundTrip, Frame<48>, Sockets>>(SOCKET),
        #[cfg(feature = "peers")]
        Entry::of::<Cast<RoundTrip, Typed<Note>, IpmpscRings<65536>>>(ipmpsc::NAME),
    ],
    rows: &[
        Comparison::at_most(FUTEX_WAITV, 1.2),
        Comparison::at_most(FUTEX_WAITV, 1.2).of(NEVER),
        Comparison::listed(FUTEX),
        Comparison::at_most(PIPE, 1.0),
        Comparison::at_most(SOCKET, 1.0),
        #[cfg(feature = "peers")]
        Comparison::listed(ipmpsc::NAME),
    ],
};

/// One message after the other, each by a call of its own.
pub const STREAM: Game = Game {
    name: "pipe/stream/single",
    what: "pipe, stream of u64, single calls",
    conditions: "room for 1024 messages; rtrb between two threads, push and pop, looking again after 64 pauses or \
                 at once",
    members: 2,
    cpus: Cpus::Two,
    measure: Measure::Whole,
    entries: &[
        #[cfg(feature = "peers")]
        Entry::of::<Threads<Cast<Stream, Typed<u64>, StreamingRings>>>(rtrb::NAME),
        Entry::of::<Cast<Stream, Typed<u64>, OneWay<ROOM>>>(SUBJECT),
        Entry::of::<Cast<Stream, Typed<u64>, OneWay<ROOM>>>(ALWAYS).with(Spinning::Always),
        #[cfg(feature = "peers")]
        Entry::of::<Threads<Cast<Stream, Typed<u64>, Rings<u64, ROOM, 1>>>>(rtrb::AT_ONCE),
    ],
    rows: &[
        #[cfg(feature = "peers")]
        Comparison::at_most(rtrb::NAME, 1.05),
        #[cfg(feature = "peers")]
        Comparison::at_most(rtrb::NAME, 1.05).of(ALWAYS),
        #[cfg(feature = "peers")]
        Comparison::listed(rtrb::AT_ONCE),
    ],
};

/// Many messages by one call.
pub const STREAM_BATCHES: Game = Game {
    name: "pipe/stream/batch",
    what: "pipe, stream of u64, batches of 64",
    conditions: "room for 1024 messages, 64 by each call; rtrb between two threads, slices copied into and out of \
                 its chunks, looking again after 64 pauses",
    members: 2,
    cpus: Cpus::Two,
    measure: Measure::PerMessage(MANY as u64),
    entries: &[
        #[cfg(feature = "peers")]
        Entry::of::<Threads<Cast<Stream, Batch<MANY>, StreamingRings>>>(rtrb::CHUNKS),
        Entry::of::<Cast<Stream, Batch<MANY>, OneWay<ROOM>>>(SUBJECT),
        Entry::of::<Cast<Stream, Batch<MANY>, OneWay<ROOM>>>(ALWAYS).with(Spinning::Always),
    ],
    rows: &[
        #[cfg(feature = "peers")]
        Comparison::at_most(rtrb::CHUNKS, 1.05),
        #[cfg(feature = "peers")]
        Comparison::at_most(rtrb::CHUNKS, 1.05).of(ALWAYS),
    ],
};
