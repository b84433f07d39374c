//! What of a queue lies in shared memory, and where in it a message goes.
//!
//! # Shared layout
//!
//! ```text
//! Head<T>:   | rules and sleepers (128) | producers (128) | consumers (128) | received (128) |     then the cells
//!
//! rules:     | capacity: u64 | state: u32 | sleepers: u32, twice | unused |
//! producers: | lock (see `RawLock`) | sent: position | limit: position | unused |
//! consumers: | lock (see `RawLock`) | unused |
//! received:  | position | unused |
//!
//! a cell:    | header: u64 | message | message | ...    | unused |       64 bytes, or a multiple for a message that is larger
//!
//!             63                    32 31                     0
//!            +------------------------+-----------------------+
//! header:    | round + 1              | messages              |          0: nothing was ever sent here
//!            +------------------------+-----------------------+
//! position:  | round                  | place, below `slots`  |
//!            +------------------------+-----------------------+
//! ```
//!
//! A cell has as many messages as there is room for behind its header in one cache line, and one if there is room for none. The places
//! of messages are numbered through all cells; whoever comes to the last one begins the next round, modulo 2^32, at the first.
//! Where a cell has more than one message, there is one cell more than `capacity` messages need, so that they fit in at every offset within a
//! cell.
//!
//! What producers write has a pair of lines, what consumers write has two: those whom the ring is full for look at `received`, and must not
//! take the line of the consumers' lock away from them. (Pairs, because processors fetch two lines at a time.)
//!
//! # Who writes what
//!
//! | word | written by | order |
//! |---|---|---|
//! | `capacity` | the creator, before the queue is published | - |
//! | `state` | whoever closes, in the producers' turn | Release, pairs with the Acquire of everybody who looks |
//! | header | a producer, in its turn, after it has copied messages in: **this store sends them** | Release, pairs with the Acquire of consumers |
//! | `sent` | the same, after the header | Release, for those who look without the lock |
//! | `limit` | a producer, in its turn | by the lock |
//! | `received` | a consumer, in its turn, after it has copied messages out: **this store receives them** | Release, pairs with the Acquire of a producer that looks for room |
//! | messages | a producer, in its turn, beyond those that the header counts, and only with room | by the header |
//!
//! `sent` repeats what the headers say, for the next producer. One that was killed between the two stores has left it behind; whoever takes the
//! lock over from a dead looks at the header, and mends it. `limit` is a position up to which there surely is room: `received` as it was
//! at the last look, and `capacity` on top.
//!
//! # Garbage
//!
//! A position whose place is not below `slots`, a header that is neither of this round nor of the one before, a `sent` that is more than
//! `capacity` away from `received` or `limit`, are `Corrupted`. All places come from numbers that were loaded once and checked. A state other than 0 is CLOSED.

use core::fmt;
use core::marker::PhantomData;
// Of this process alone, and for hints only: nothing for models to explore.
use core::sync::atomic::AtomicU32 as Private;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use bytemuck::Pod;
use shmkit_core::raw_lock::RawLock;
use shmkit_core::shim::{AtomicU32, AtomicU64};
use shmkit_core::{Described, Error, Fingerprint, ShmSafe, Tailed, TypeName};

use super::algorithm::Obstacle;
use super::sleepers::Sleepers;
use super::turn::Turn;

/// The size of a header, and of a word.
const WORD: usize = 8;

/// The size of a cache line.
const LINE: usize = 64;

/// The most messages there can be at once: numbers of places must not overflow when they are added.
const MOST: u32 = 1 << 30;

/// The state of a queue that nobody can send into any more.
const CLOSED: u32 = 1;

/// How many cells ahead the line to be written is asked for: the exchange of the next turn waits until all that was written before is there. One
/// comes too late between CPUs that are far from each other; three or more made no message faster.
const AHEAD: u32 = 2;

/// After how many cells that a producer was just filling it is taken to go on. A burst of some messages, as in a request, is not kept waiting.
const CLOSELY: u32 = 8;

/// Version of the layout above.
const LAYOUT: u32 = 2;

/// The fixed part of a queue.
#[repr(C, align(128))]
#[derive(Debug)]
pub(super) struct Head<T> {
    /// How many messages there can be at once. Garbage: checked against the size when the queue is opened, once.
    capacity: AtomicU64,
    /// 0 or CLOSED, which is for ever.
    state: AtomicU32,
    /// Producers that sleep until there is room.
    pub(super) producers_asleep: Sleepers,
    /// Consumers that sleep until there is a message.
    pub(super) consumers_asleep: Sleepers,
    _rules: [AtomicU32; 27],
    /// Held by the one who sends.
    pub(super) producers: RawLock,
    /// Where the next message goes. See the module.
    sent: AtomicU64,
    /// Up to where there surely is room. See the module.
    limit: AtomicU64,
    _producers: [AtomicU64; 12],
    /// Held by the one who receives.
    pub(super) consumers: RawLock,
    _consumers: [AtomicU64; 14],
    /// Where the next message is. See the module.
    received: AtomicU64,
    _received: [AtomicU64; 15],
    _messages: PhantomData<fn() -> T>,
}

#[cfg(not(ipc_loom))]
const _: () = {
    use core::mem::offset_of;

    assert!(size_of::<Head<u64>>() == 512 && align_of::<Head<u64>>() == 128);
    assert!(offset_of!(Head<u64>, state) == 8);
    assert!(offset_of!(Head<u64>, producers) == 128);
    assert!(offset_of!(Head<u64>, sent) == 144);
    assert!(offset_of!(Head<u64>, consumers) == 256);
    assert!(offset_of!(Head<u64>, received) == 384);
};

// SAFETY: name, layout version, size and alignment are all that the layout of the words depends on; that of the cells depends on `T`.
unsafe impl<T: Described> Described for Head<T> {
    const FINGERPRINT: Fingerprint =
        Fingerprint::new("Queue", LAYOUT, size_of::<Self>(), align_of::<Self>()).parameter(T::FINGERPRINT);

    fn type_name(f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Queue<{}>", TypeName::<T>::new())
    }
}

// SAFETY: nothing but atomics, without padding; every value is survived.
unsafe impl<T: Described + 'static> ShmSafe for Head<T> {}

/// A place in the ring, and how often the ring has been gone round, modulo 2^32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    round: u32,
    place: u32,
}

impl Position {
    fn word(self) -> u64 {
        u64::from(self.round) << 32 | u64::from(self.place)
    }
}

impl<T: Pod + Described> Head<T> {
    /// A message in the ring, which is no smaller than one byte.
    const SIZE: usize = if size_of::<T>() == 0 { 1 } else { size_of::<T>() };

    /// How many messages a cell has.
    const PER_CELL: u32 = if Self::SIZE > LINE - WORD { 1 } else { ((LINE - WORD) / Self::SIZE) as u32 };

    /// The size of a cell.
    const CELL: usize = (WORD + Self::SIZE).next_multiple_of(LINE);

    /// Whether messages are moved word by word. Each place is always reached in one way only.
    const IS_WORDS: bool = Self::SIZE % WORD == 0 && Self::SIZE <= LINE - WORD;

    /// The head of a queue without messages.
    pub(super) fn new(capacity: u64) -> Self {
        Self {
            capacity: AtomicU64::new(capacity),
            state: AtomicU32::new(0),
            producers_asleep: Sleepers::new(),
            consumers_asleep: Sleepers::new(),
            _rules: [(); 27].map(|()| AtomicU32::new(0)),
            producers: RawLock::new(),
            sent: AtomicU64::new(0),
            limit: AtomicU64::new(0),
            _producers: [(); 12].map(|()| AtomicU64::new(0)),
            consumers: RawLock::new(),
            _consumers: [(); 14].map(|()| AtomicU64::new(0)),
            received: AtomicU64::new(0),
            _received: [(); 15].map(|()| AtomicU64::new(0)),
            _messages: PhantomData,
        }
    }

    /// How many cells such a queue has; `None` if that is more than there can be.
    fn cells(capacity: u64) -> Option<u32> {
        let capacity = u32::try_from(capacity).ok().filter(|capacity| (1..=MOST).contains(capacity))?;
        let spare = u32::from(Self::PER_CELL > 1);
        Some(capacity.div_ceil(Self::PER_CELL) + spare)
    }

    /// How many bytes its cells take.
    pub(super) fn bytes(capacity: u64) -> Option<usize> {
        (Self::cells(capacity)? as usize).checked_mul(Self::CELL)
    }

    /// Whether nobody can send any more. What was sent is visible then.
    #[inline]
    pub(super) fn is_closed(&self) -> bool {
        // Acquire pairs with the Release in `close`, which comes after all that was ever sent.
        self.state.load(Acquire) != 0
    }

    /// Ends the sending. The producers' lock is held.
    pub(super) fn close(&self) {
        // Release: see `is_closed`.
        self.state.store(CLOSED, Release);
    }
}

/// A queue as one process sees it: the shared part, and private numbers that were checked once.
#[derive(Debug)]
pub(super) struct Ring<T: Pod + Described> {
    pub(super) shared: Tailed<Head<T>>,
    capacity: u32,
    /// How many places there are.
    slots: u32,
    /// How many cells were just being filled when a consumer came to them, since it last found no message. About, where threads share the handle.
    closely: Private,
}

impl<T: Pod + Described> Clone for Ring<T> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone(), closely: Private::new(0), ..*self }
    }
}

impl<T: Pod + Described> Ring<T> {
    pub(super) fn new(shared: Tailed<Head<T>>) -> Result<Self, Error> {
        let found = shared.capacity.load(Relaxed);
        match (Head::<T>::cells(found), Head::<T>::bytes(found)) {
            (Some(cells), Some(bytes)) if bytes == shared.len() => Ok(Self {
                shared,
                capacity: found as u32,
                slots: cells * Head::<T>::PER_CELL,
                closely: Private::new(0),
            }),
            _ => Err(Error::Corrupted { what: "capacity of a queue", found }),
        }
    }

    #[inline]
    pub(super) fn capacity(&self) -> u32 {
        self.capacity
    }

    #[inline]
    fn position(&self, word: u64, what: &'static str) -> Result<Position, Error> {
        let (round, place) = ((word >> 32) as u32, word as u32);
        if place < self.slots { Ok(Position { round, place }) } else { Err(garbage(what, word)) }
    }

    /// The position so many places further, at most one round.
    #[inline]
    pub(super) fn advance(&self, from: Position, count: u32) -> Position {
        let place = from.place + count;
        if place < self.slots {
            Position { place, ..from }
        } else {
            Position { place: place - self.slots, round: from.round.wrapping_add(1) }
        }
    }

    /// How many messages are between two positions; `None` if there cannot be so many.
    #[inline]
    fn distance(&self, from: Position, to: Position) -> Option<u32> {
        let distance = if to.round == from.round && to.place >= from.place {
            to.place - from.place
        } else if to.round == from.round.wrapping_add(1) && to.place <= from.place {
            self.slots - from.place + to.place
        } else {
            return None;
        };
        (distance <= self.capacity).then_some(distance)
    }

    /// How many more messages the cell at `position` has room for.
    #[inline]
    pub(super) fn left(position: Position) -> u32 {
        Head::<T>::PER_CELL - position.place % Head::<T>::PER_CELL
    }

    /// Whether `position` is the first one of a cell.
    #[inline]
    fn is_first(position: Position) -> bool {
        position.place % Head::<T>::PER_CELL == 0
    }

    /// Whether consumers have followed producers closely for some time, each message having cost both sides the transfer of its line. Asked where a
    /// consumer has found so many messages.
    #[inline]
    pub(super) fn follows_closely(&self, position: Position, available: u32) -> bool {
        let is_being_filled = Self::is_first(position) && (2..Head::<T>::PER_CELL).contains(&available);
        is_being_filled && {
            let cells = self.closely.load(Relaxed);
            self.closely.store(cells.saturating_add(1), Relaxed);
            cells >= CLOSELY
        }
    }

    /// A consumer has found no message, so it does not follow anybody.
    #[inline]
    pub(super) fn found_none(&self) {
        // Mostly there is nothing to write: threads may share the handle.
        if self.closely.load(Relaxed) != 0 {
            self.closely.store(0, Relaxed);
        }
    }

    /// Where the cell at `position` lies.
    #[inline]
    fn cell(position: Position) -> usize {
        (position.place / Head::<T>::PER_CELL) as usize * Head::<T>::CELL
    }

    /// Where the message at `position` lies.
    #[inline]
    fn message(position: Position) -> usize {
        Self::cell(position) + WORD + (position.place % Head::<T>::PER_CELL) as usize * Head::<T>::SIZE
    }

    /// What the header of a cell is when `count` of its messages have been sent in this round.
    #[inline]
    fn header(round: u32, count: u32) -> u64 {
        u64::from(round.wrapping_add(1)) << 32 | u64::from(count)
    }

    /// Asks for the line of a later cell, if there surely is room up to there. The producers' lock is held.
    #[inline]
    pub(super) fn prepare(&self, sent: Position, turn: &Turn) {
        let places = AHEAD * Head::<T>::PER_CELL;
        let is_line = Head::<T>::CELL == LINE;
        if is_line && Self::is_first(sent) && self.room(sent, turn).is_ok_and(|room| room > places) {
            self.shared.prefetch_to_write(Self::cell(self.advance(sent, places)));
        }
    }

    /// Copies messages in: no more than are left in the cell.
    #[inline]
    pub(super) fn store(&self, position: Position, messages: &[T]) {
        let bytes = bytemuck::cast_slice(messages);
        if Head::<T>::IS_WORDS {
            #[cfg(ipc_loom)]
            self.shared.watch_store(Self::message(position), bytes.len());
            // Few words, mostly a number that the compiler knows: faster than a copy of any length.
            for (shared, word) in self.words(position, messages.len()).iter().zip(bytes.chunks_exact(WORD)) {
                shared.store(u64::from_ne_bytes(word.try_into().unwrap_or_default()), Relaxed);
            }
        } else {
            self.shared.store(Self::message(position), bytes);
        }
    }

    /// Copies messages out: no more than are left in the cell.
    #[inline]
    pub(super) fn load(&self, position: Position, messages: &mut [T]) {
        let count = messages.len();
        let bytes = bytemuck::cast_slice_mut(messages);
        if Head::<T>::IS_WORDS {
            #[cfg(ipc_loom)]
            self.shared.watch_load(Self::message(position), bytes.len());
            for (shared, word) in self.words(position, count).iter().zip(bytes.chunks_exact_mut(WORD)) {
                word.copy_from_slice(&shared.load(Relaxed).to_ne_bytes());
            }
        } else {
            self.shared.load(Self::message(position), bytes);
        }
    }

    /// The words of the next `count` messages.
    #[inline]
    fn words(&self, position: Position, count: usize) -> &[AtomicU64] {
        self.shared.words(Self::message(position), count * Head::<T>::SIZE / WORD)
    }

    /// Sends the next `count` messages, which have been copied in and are not more than are left in the cell.
    #[inline]
    pub(super) fn publish(&self, position: Position, count: u32) {
        let done = position.place % Head::<T>::PER_CELL;
        let header = Self::header(position.round, done + count);
        // Release pairs with the Acquire in `available`: whoever finds them counted finds them there.
        self.shared.word(Self::cell(position)).store(header, Release);
    }

    /// How many messages there are at `position`, up to the end of its cell.
    #[inline]
    pub(super) fn available(&self, position: Position) -> Result<u32, Error> {
        let done = position.place % Head::<T>::PER_CELL;
        // Acquire pairs with the Release in `publish`.
        let found = self.shared.word(Self::cell(position)).load(Acquire);
        let count = found as u32;
        if found == Self::header(position.round, count) && (done..=Head::<T>::PER_CELL).contains(&count) {
            return Ok(count - done);
        }
        Self::available_before(position, found)
    }

    /// The same, for a header that says nothing of this round: none, or it is nonsense.
    fn available_before(position: Position, found: u64) -> Result<u32, Error> {
        let before = Self::header(position.round.wrapping_sub(1), Head::<T>::PER_CELL);
        if Self::is_first(position) && (found == before || found == 0 && position.round == 0) {
            Ok(0)
        } else {
            Err(garbage("header of a cell of a queue", found))
        }
    }

    /// Where the next message is. Settled only for those who have the consumers' lock.
    #[inline]
    pub(super) fn received(&self) -> Result<Position, Error> {
        // Acquire pairs with the Release in `set_received`: what is to be written over has been copied out.
        self.position(self.shared.received.load(Acquire), "number of received messages")
    }

    /// How many messages are before that place, in all rounds.
    pub(super) fn count_received(&self) -> Result<u64, Error> {
        let Position { round, place } = self.received()?;
        Ok(u64::from(round) * u64::from(self.slots) + u64::from(place))
    }

    /// Receives what is before `position`. The consumers' lock is held.
    #[inline]
    pub(super) fn set_received(&self, position: Position) {
        self.shared.received.store(position.word(), Release);
    }

    /// Where the next message goes. Settled only for those who have the producers' lock, and only if no owner has died with it since.
    #[inline]
    pub(super) fn sent(&self) -> Result<Position, Error> {
        // Acquire pairs with the Release in `set_sent`, for those without the lock: they see the headers.
        self.position(self.shared.sent.load(Acquire), "number of sent messages")
    }

    #[inline]
    pub(super) fn set_sent(&self, position: Position) {
        self.shared.sent.store(position.word(), Release);
    }

    /// Where the next message goes, also if a producer has died between its two stores.
    pub(super) fn really_sent(&self) -> Result<Position, Error> {
        let sent = self.sent()?;
        Ok(self.advance(sent, self.available(sent)?))
    }

    /// For how many messages there is room from `sent` on, at least. The producers' lock is held.
    #[inline]
    pub(super) fn room(&self, sent: Position, turn: &Turn) -> Result<u32, Error> {
        let found = self.shared.limit.load(Relaxed);
        if found == sent.word() {
            return self.look_for_room(sent, turn);
        }
        let limit = self.position(found, "limit of a queue")?;
        self.distance(sent, limit).ok_or_else(|| garbage("limit of a queue", found))
    }

    /// Finds out whether there is room for one message at `sent`. The producers' lock is held.
    #[inline]
    pub(super) fn has_room(&self, sent: Position, turn: &Turn) -> Result<(), Obstacle> {
        // A limit that makes no sense is found by consumers, by the headers of messages that were written over.
        if self.shared.limit.load(Relaxed) != sent.word() {
            return Ok(());
        }
        if self.look_for_room(sent, turn)? > 0 { Ok(()) } else { Err(Obstacle::NotReady) }
    }

    fn look_for_room(&self, sent: Position, turn: &Turn) -> Result<u32, Error> {
        let received = self.received()?;
        let Some(waiting) = self.distance(received, sent) else {
            return Err(garbage("number of received messages", received.word()));
        };
        let limit = self.advance(received, self.capacity).word();
        turn.check()?;
        self.shared.limit.store(limit, Relaxed);
        Ok(self.capacity - waiting)
    }

    /// Whether a producer has something to do: there is room for `count` messages, or none is needed any more. Without the lock; may be
    /// outdated if it says yes.
    pub(super) fn may_send(&self, count: u32) -> bool {
        let is_full = || {
            let received = self.received().ok()?;
            let waiting = self.distance(received, self.really_sent().ok()?)?;
            Some(waiting > self.capacity - count)
        };
        self.shared.is_closed() || is_full() != Some(true)
    }

    /// Whether a consumer has something to do: there is a message, or there will be none any more. Without the lock; may be outdated if it says
    /// yes.
    pub(super) fn may_receive(&self) -> bool {
        // What is received was sent before. So if nothing was sent at this place, then it is the place where the next message is.
        let is_empty = || Some(self.available(self.received().ok()?).ok()? == 0);
        self.shared.is_closed() || is_empty() != Some(true)
    }

    /// How many messages there are, about.
    pub(super) fn len(&self) -> u32 {
        let waiting = || {
            let received = self.received().ok()?;
            self.distance(received, self.really_sent().ok()?)
        };
        // Between the two looks others may have sent and received more than there is room for.
        waiting().unwrap_or(self.capacity)
    }
}

#[cold]
fn garbage(what: &'static str, found: u64) -> Error {
    Error::Corrupted { what, found }
}
