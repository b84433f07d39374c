//! The ring of a typed channel: messages of one size, one way.
//!
//! # Shared layout
//!
//! ```text
//! Ring<T>:  | ends (64) | capacity, unused (64) | received, unused (64) |     then the cells
//!
//! a cell:   | header: u64 | message | message | ...          | unused |       64 bytes, or a multiple for a message that is larger
//!
//!            63                                   6 5           0
//!           +--------------------------------------+-------------+
//! header:   | number of the cell + 1               | messages    |     0: nothing was ever sent here
//!           +--------------------------------------+-------------+
//! ```
//!
//! A cell has as many messages as there is room for behind its header in one cache line, and one if there is room for none. Cells are
//! numbered from 0 without end; cell `n` lies at place `n` modulo the number of cells. The sender fills one cell after the
//! other, and each message is published by the one store of the header that counts it. So a message that comes alone costs the transfer of one
//! line, and messages that stream come several to a line.
//!
//! There is one cell more than the messages need, so that `capacity` messages fit in at every offset within a cell.
//!
//! # Who writes what
//!
//! | word | written by | order |
//! |---|---|---|
//! | `capacity` | the creator, before the ring is published | - |
//! | `received` | the receiver, after it has copied a message | Release, pairs with the Acquire of a sender that looks for room |
//! | header | the sender, after it has copied a message | Release, pairs with the Acquire of a receiver that looks for messages |
//! | messages | the sender, beyond those that the header counts, and only with room | ordered by the header |
//!
//! What the two keep for themselves, their places in the ring, can be found again by a successor: the receiver's is `received`; the
//! sender's is behind the last message, found by going over the headers from there.
//!
//! # A kill at each point
//!
//! * in `send`, before the header: nothing has been sent; what was copied is not counted, and the next sender writes over it;
//! * after the header: it is sent. If the receiver was to be told, the death tells it;
//! * in `recv`, before `received`: the message was not received, a successor gets it;
//! * after that: it was received.
//!
//! # Garbage
//!
//! A header that is neither of this cell in this round nor of the round before, or counts more messages than fit, or fewer than
//! before, is `Corrupted`; so is a `received` beyond what was sent, or further behind it than the capacity. Positions come from private
//! numbers only.

use core::fmt;
use core::marker::PhantomData;
use core::sync::atomic::Ordering::{Acquire, Relaxed};

use bytemuck::Pod;
use shmkit_core::shim::AtomicU64;
use shmkit_core::{Described, Error, Fingerprint, ShmSafe, Tailed, TypeName};

use crate::end::Head;
use crate::ends::{Claim, Ends};

/// The size of a header, and of a word.
const WORD: usize = 8;

/// The size of a cache line.
const LINE: usize = 64;

/// Bits of a header that count messages.
const COUNT_BITS: u32 = 6;

/// Version of the layout above.
const LAYOUT: u32 = 1;

/// The fixed part of a ring.
#[repr(C, align(64))]
#[derive(Debug)]
pub(crate) struct Ring<T> {
    /// Who has which end.
    ends: Ends,
    /// How many messages there can be at once. Written at creation. Garbage: checked against the size when it is opened, once.
    capacity: AtomicU64,
    _line: [AtomicU64; 7],
    /// How many messages have been received so far, modulo 2^64. See the module.
    pub(crate) received: AtomicU64,
    _other_line: [AtomicU64; 7],
    _messages: PhantomData<fn() -> T>,
}

#[cfg(not(ipc_loom))]
const _: () = {
    assert!(size_of::<Ring<u64>>() == 3 * LINE && align_of::<Ring<u64>>() == LINE);
    assert!(core::mem::offset_of!(Ring<u64>, capacity) == LINE);
    assert!(core::mem::offset_of!(Ring<u64>, received) == 2 * LINE);
};

// SAFETY: name, layout version, size and alignment are all that the layout of the words depends on; that of the cells depends on `T`.
unsafe impl<T: Described> Described for Ring<T> {
    const FINGERPRINT: Fingerprint =
        Fingerprint::new("Ring", LAYOUT, size_of::<Self>(), align_of::<Self>()).parameter(T::FINGERPRINT);

    fn type_name(f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ring<{}>", TypeName::<T>::new())
    }
}

// SAFETY: nothing but atomics, without padding; every value is survived.
unsafe impl<T: Described + 'static> ShmSafe for Ring<T> {}

impl<T: Described + 'static> Head for Ring<T> {
    #[inline]
    fn ends(&self) -> &Ends {
        &self.ends
    }
}

/// A cell of the ring, from the point of view of one side. Private numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    /// The number of the next message.
    number: u64,
    /// What the header of its cell is without messages.
    header: u64,
    /// Where the cell lies.
    at: usize,
    /// How many of its messages are done with, below [`Ring::PER_CELL`].
    pub(crate) done: usize,
}

impl<T: Pod + Described> Ring<T> {
    /// A message in the ring, which is no smaller than one byte.
    const SIZE: usize = if size_of::<T>() == 0 { 1 } else { size_of::<T>() };

    /// How many messages a cell has.
    pub(crate) const PER_CELL: usize = if Self::SIZE > LINE - WORD { 1 } else { (LINE - WORD) / Self::SIZE };

    /// The size of a cell.
    const CELL: usize = (WORD + Self::SIZE).next_multiple_of(LINE);

    /// Whether messages are moved word by word. Each place is always reached in one way only.
    const IS_WORDS: bool = Self::SIZE % WORD == 0 && Self::SIZE <= LINE - WORD;

    /// A ring without messages.
    pub(crate) fn new(capacity: u64, successors: bool, creator: Option<&Claim>) -> Self {
        Self {
            ends: Ends::new(successors, creator),
            capacity: AtomicU64::new(capacity),
            _line: [(); 7].map(|()| AtomicU64::new(0)),
            received: AtomicU64::new(0),
            _other_line: [(); 7].map(|()| AtomicU64::new(0)),
            _messages: PhantomData,
        }
    }

    /// How many bytes the cells of such a ring take; `None` if that is more than there can be.
    pub(crate) fn bytes(capacity: u64) -> Option<usize> {
        let cells = capacity.div_ceil(Self::PER_CELL as u64).checked_add(1)?;
        usize::try_from(cells).ok()?.checked_mul(Self::CELL)
    }
}

/// A ring, as one side sees it.
pub(crate) type Shared<T> = Tailed<Ring<T>>;

/// How many messages there can be at once, checked against the size of the ring.
pub(crate) fn capacity<T: Pod + Described>(ring: &Shared<T>) -> Result<u64, Error> {
    let found = ring.capacity.load(Relaxed);
    if found > 0 && Ring::<T>::bytes(found) == Some(ring.len()) {
        Ok(found)
    } else {
        Err(Error::Corrupted { what: "capacity of a channel", found })
    }
}

/// Where the message with this number, from 0, goes.
pub(crate) fn place<T: Pod + Described>(ring: &Shared<T>, number: u64) -> Place {
    let (cell, done) = (number / Ring::<T>::PER_CELL as u64, number % Ring::<T>::PER_CELL as u64);
    let cells = ring.len() / Ring::<T>::CELL;
    let at = (cell % cells as u64) as usize * Ring::<T>::CELL;
    Place { number, header: cell.wrapping_add(1) << COUNT_BITS, at, done: done as usize }
}

impl Place {
    /// The number of the next message.
    #[inline]
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// How many more messages the cell has room for.
    #[inline]
    pub(crate) fn left<T: Pod + Described>(&self) -> usize {
        Ring::<T>::PER_CELL - self.done
    }

    /// Goes on by so many messages, at most to the end of the cell; says whether that has brought it to the next one.
    #[inline]
    pub(crate) fn advance<T: Pod + Described>(&mut self, ring: &Shared<T>, count: usize) -> bool {
        self.number = self.number.wrapping_add(count as u64);
        self.done += count;
        let is_over = self.done >= Ring::<T>::PER_CELL;
        if is_over {
            self.done = 0;
            self.header = self.header.wrapping_add(1 << COUNT_BITS);
            self.at += Ring::<T>::CELL;
            if self.at >= ring.len() {
                self.at = 0;
            }
        }
        is_over
    }

    /// Where the cell lies that comes so many cells later; nowhere if there are not so many.
    #[inline]
    pub(crate) fn ahead<T: Pod + Described>(&self, ring: &Shared<T>, cells: usize) -> usize {
        let at = self.at + cells * Ring::<T>::CELL;
        if at < ring.len() { at } else { at - ring.len() }
    }

    /// The word that says how many messages of the cell have been sent.
    #[inline]
    pub(crate) fn header<'a, T: Pod + Described>(&self, ring: &'a Shared<T>) -> &'a AtomicU64 {
        ring.word(self.at)
    }

    /// What its header is when `count` messages have been sent.
    #[inline]
    pub(crate) fn header_with(&self, count: usize) -> u64 {
        self.header | count as u64
    }

    /// How many messages of the cell have been sent.
    #[inline]
    pub(crate) fn sent<T: Pod + Described>(&self, ring: &Shared<T>) -> Result<usize, Error> {
        match self.count(ring) {
            Ok(count) => Ok(count),
            Err(found) if self.is_before_the_first(ring, found) => Ok(0),
            Err(found) => Err(garbage(found)),
        }
    }

    /// The same, if the header is one of this round; else what it is.
    #[inline]
    pub(crate) fn count<T: Pod + Described>(&self, ring: &Shared<T>) -> Result<usize, u64> {
        // Acquire pairs with the Release of the sender: the messages that it counts are there.
        let found = self.header(ring).load(Acquire);
        // That of another round, and nonsense, is further away than any count.
        let count = found.wrapping_sub(self.header);
        if count <= Ring::<T>::PER_CELL as u64 && count >= self.done as u64 { Ok(count as usize) } else { Err(found) }
    }

    /// Whether that is the header as long as none of the cell's messages has been sent in this round.
    ///
    /// Whoever waits looks at this again and again, and is to see a change soon: no call, and no result in memory.
    #[inline]
    fn is_before_the_first<T: Pod + Described>(&self, ring: &Shared<T>, found: u64) -> bool {
        let cells = (ring.len() / Ring::<T>::CELL) as u64;
        // In the first round there was none before.
        let before = match self.header.checked_sub(cells << COUNT_BITS) {
            None | Some(0) => 0,
            Some(header) => header | Ring::<T>::PER_CELL as u64,
        };
        found == before && self.done == 0
    }

    /// Copies messages in, from the place on: no more than are left.
    #[inline]
    pub(crate) fn store<T: Pod + Described>(&self, ring: &Shared<T>, messages: &[T]) {
        let bytes = bytemuck::cast_slice(messages);
        if Ring::<T>::IS_WORDS {
            #[cfg(ipc_loom)]
            ring.watch_store(self.first_byte::<T>(), bytes.len());
            // Few words, mostly a number that the compiler knows: faster than a copy of any length.
            for (shared, word) in self.words(ring, messages.len()).iter().zip(bytes.chunks_exact(WORD)) {
                shared.store(u64::from_ne_bytes(word.try_into().unwrap_or_default()), Relaxed);
            }
        } else {
            ring.store(self.first_byte::<T>(), bytes);
        }
    }

    /// Copies messages out, from the place on: no more than are left.
    #[inline]
    pub(crate) fn load<T: Pod + Described>(&self, ring: &Shared<T>, messages: &mut [T]) {
        let count = messages.len();
        let bytes = bytemuck::cast_slice_mut(messages);
        if Ring::<T>::IS_WORDS {
            #[cfg(ipc_loom)]
            ring.watch_load(self.first_byte::<T>(), bytes.len());
            for (shared, word) in self.words(ring, count).iter().zip(bytes.chunks_exact_mut(WORD)) {
                word.copy_from_slice(&shared.load(Relaxed).to_ne_bytes());
            }
        } else {
            ring.load(self.first_byte::<T>(), bytes);
        }
    }

    /// Where the next message begins.
    #[inline]
    fn first_byte<T: Pod + Described>(&self) -> usize {
        self.at + WORD + self.done * Ring::<T>::SIZE
    }

    /// The words of the next `count` messages.
    #[inline]
    fn words<'a, T: Pod + Described>(&self, ring: &'a Shared<T>, count: usize) -> &'a [AtomicU64] {
        ring.words(self.first_byte::<T>(), count * Ring::<T>::SIZE / WORD)
    }
}

#[cold]
fn garbage(found: u64) -> Error {
    Error::Corrupted { what: "header of a cell", found }
}
