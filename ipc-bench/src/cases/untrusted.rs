//! What there is among peers that are not trusted, beside the same among trusted ones.

use std::io;

use shmkit::{
    Event, HostileSafe, Pipe, Semaphore, Shm, UntrustedEnd, UntrustedEvent, UntrustedRegion, UntrustedSemaphore,
};

use crate::baton::{Bare, CACHE_LINE, CacheLine, FUTEX, FUTEX_WAITV, Futex, FutexWaitv, Pairs};
use crate::channels::{self, BothWays};
use crate::figure::{Comparison, SUBJECT};
use crate::floor::{self, TWO_RMWS};
use crate::message::{Cast, Frame, Note, RoundTrip, Stream, Typed};
use crate::ours::InRegion;
use crate::peers::descriptors::{PIPE, Pipes, SOCKET, Sockets};
use crate::peers::sem::{self, Semaphores};
use crate::record::{LINE, Records};
use crate::solo::{Solo, Turns};
use crate::team::{Cpus, Entry, Game, Measure};
use crate::untrusted::{PATIENCE, Shared};

/// The name of ours among trusted peers in results.
const TRUSTING: &str = "shmkit, trusting";

/// How many messages there is room for.
const ROOM: usize = 1024;

/// Acquire and release.
pub const SEMAPHORE: Solo = Solo {
    name: "untrusted/semaphore",
    what: "untrusted semaphore, acquire+release, uncontended",
    conditions: "there is always a permit; the untrusted one is asked for it with a bound; all in shared memory",
    candidates: semaphore,
    rows: &[Comparison::listed(TWO_RMWS), Comparison::listed(TRUSTING), Comparison::listed(sem::NAME)],
};

/// Set and reset.
pub const EVENT: Solo = Solo {
    name: "untrusted/event",
    what: "untrusted event, set+reset, nobody waits",
    conditions: "a manual-reset event; all in shared memory",
    candidates: event,
    rows: &[Comparison::listed(TWO_RMWS), Comparison::listed(TRUSTING)],
};

/// One message there and back between two that look for it.
pub const ROUND_TRIP_AWAKE: Game = Game {
    name: "untrusted/pipe/rtt/spin",
    what: "untrusted pipe, 48 bytes there and back on two CPUs",
    conditions: "a message of 48 bytes, and the same back; the untrusted ends wait with a bound; the bare cache line \
                 carries only whose turn it is, and with the message there is a line for each way",
    members: 2,
    cpus: Cpus::Two,
    measure: Measure::Whole,
    entries: &[
        Entry::of::<Pairs<Bare<CacheLine>>>(CACHE_LINE),
        Entry::of::<Cast<RoundTrip, Typed<Note>, Records>>(LINE),
        Entry::of::<Cast<RoundTrip, Typed<Note>, BothWays<UntrustedEnd<Pipe<Note>>, ROOM>>>(SUBJECT),
        Entry::of::<Cast<RoundTrip, Typed<Note>, BothWays<Pipe<Note>, ROOM>>>(TRUSTING),
    ],
    rows: &[Comparison::listed(CACHE_LINE), Comparison::listed(LINE), Comparison::listed(TRUSTING)],
};

/// The same between two that sleep.
pub const ROUND_TRIP_ASLEEP: Game = Game {
    name: "untrusted/pipe/rtt/sleep",
    what: "untrusted pipe, 48 bytes there and back on one CPU",
    conditions: "a message of 48 bytes, and the same back; the untrusted ends wait with a bound; the futex calls only \
                 hand over whose turn it is, and futex_waitv waits for a further word, with a deadline in a second",
    members: 2,
    cpus: Cpus::One,
    measure: Measure::Whole,
    entries: &[
        Entry::of::<Pairs<Bare<FutexWaitv>>>(FUTEX_WAITV),
        Entry::of::<Pairs<Bare<Futex>>>(FUTEX),
        Entry::of::<Cast<RoundTrip, Typed<Note>, BothWays<UntrustedEnd<Pipe<Note>>, ROOM>>>(SUBJECT),
        Entry::of::<Cast<RoundTrip, Typed<Note>, BothWays<Pipe<Note>, ROOM>>>(TRUSTING),
        Entry::of::<Cast<RoundTrip, Frame<48>, Pipes>>(PIPE),
        Entry::of::<Cast<RoundTrip, Frame<48>, Sockets>>(SOCKET),
    ],
    rows: &[
        Comparison::listed(FUTEX_WAITV),
        Comparison::listed(FUTEX),
        Comparison::listed(TRUSTING),
        Comparison::listed(PIPE),
        Comparison::listed(SOCKET),
    ],
};

/// One producer and one consumer.
pub const QUEUE: Game = Game {
    name: "untrusted/queue/1+1",
    what: "untrusted queue, a message, 1 + 1",
    conditions: "u64, room for 1024; the untrusted queue waits with a bound; pipe(2) carries bytes, eight by each call",
    members: 2,
    cpus: Cpus::Two,
    measure: Measure::Whole,
    entries: &[
        Entry::of::<Cast<Stream, Typed<u64>, Shared<ROOM>>>(SUBJECT),
        Entry::of::<Cast<Stream, Typed<u64>, channels::Shared<ROOM>>>(TRUSTING),
        Entry::of::<Cast<Stream, Frame<8>, Pipes>>(PIPE),
    ],
    rows: &[Comparison::listed(TRUSTING), Comparison::listed(PIPE)],
};

fn semaphore() -> io::Result<Vec<Turns>> {
    let one = || Semaphore::new(1).expect("so few permits");
    let ours = untrusted(UntrustedSemaphore::from(one()))?;
    let trusting = InRegion::create(1, one)?;
    let peer = Semaphores::with(1)?;
    Ok(vec![
        floor::two_rmws()?,
        Turns::new(SUBJECT, move || {
            ours.acquire_timeout(PATIENCE).expect("a permit");
            ours.release().expect("room for it");
        }),
        Turns::new(TRUSTING, move || {
            trusting[0].acquire().expect("a permit");
            trusting[0].release().expect("room for it");
        }),
        Turns::new(sem::NAME, move || {
            peer.wait(0);
            peer.post(0);
        }),
    ])
}

fn event() -> io::Result<Vec<Turns>> {
    let ours = untrusted(UntrustedEvent::from(Event::new()))?;
    let trusting = InRegion::create(1, Event::new)?;
    Ok(vec![
        floor::two_rmws()?,
        Turns::new(SUBJECT, move || {
            ours.set();
            ours.reset();
        }),
        Turns::new(TRUSTING, move || {
            trusting[0].set();
            trusting[0].reset();
        }),
    ])
}

/// Puts an object into a region of its own.
fn untrusted<T: HostileSafe>(value: T) -> io::Result<Shm<T>> {
    let region = UntrustedRegion::anonymous(4096).map_err(io::Error::other)?;
    region.insert("object", value).map_err(io::Error::other)
}
