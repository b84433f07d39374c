//! The ring of a channel for bytes: records of any length, one way.
//!
//! # Shared layout
//!
//! ```text
//! ByteRing:  | ends (64) | capacity, unused (64) | received, unused (64) |     then the bytes of the ring
//!
//! the bytes: | record | record | 0 ...                  | record | PAD | (from the beginning again)
//!
//! a record:  | header: u64 | payload | up to 7 bytes unused |
//!
//!             63         36 35  34   33    32   31            0
//!            +-------------+---+----+-----+----+---------------+
//! header:    | position/8  |PAD|LAST|FIRST|SENT| length        |     0: nothing is here yet
//!            +-------------+---+----+-----+----+---------------+
//! ```
//!
//! Records follow one another at multiples of 8, and none goes over the end of the ring: where one does not fit in before it, a PAD
//! fills up the rest. Positions count bytes from the beginning of the channel, without end; position `p` lies at place `p` modulo the size.
//! Header and payload lie side by side, so a small frame that comes alone costs the transfer of one line, or of two.
//!
//! A frame is one record, FIRST and LAST, if it is no longer than a quarter of the ring. A longer one is several: the first begins
//! with the length of the whole, a word, and the others follow in order. Nothing comes between them: if a FIRST does, the sender has given the
//! frame up, or died, and what there is of it is dropped.
//!
//! # Publishing
//!
//! What lies in the ring from the round before could be taken for a header. So the sender first stores 0 where the *next* header will be, then
//! publishes the record by the one store of its header. The place of the next header is 0 at all times, therefore, and there is always
//! room for one word more than the records take. A PAD and the record behind it are published together, by the store of the header of the PAD.
//!
//! # Who writes what
//!
//! | word | written by | order |
//! |---|---|---|
//! | `capacity` | the creator, before the ring is published | - |
//! | `received` | the receiver, after it has copied a record | Release, pairs with the Acquire of a sender that looks for room |
//! | header | the sender: 0 before it publishes the record in front of it, then itself after the payload | Release, pairs with the Acquire of a receiver that looks for records |
//! | payload | the sender, behind the published records, and only with room | ordered by the header |
//!
//! What the two keep for themselves, their places in the ring, can be found again by a successor: the receiver's is `received`; the
//! sender's is the first header that is 0, found by going over the headers from there.
//!
//! # A kill at each point
//!
//! * before the header: nothing has been sent; the next sender writes over it;
//! * after a header: the record is sent, and if it is LAST, so is the frame. If the receiver was to be told, the death tells it;
//! * between the records of a frame: it was not sent. Behind the last whole one the receiver finds that nobody is there; or a FIRST of a successor;
//! * in a receiver, before `received`: the record was not received, a successor gets it;
//! * after that: it was. Of a frame of several records, the rest is of no use to a successor, which drops it.
//!
//! # Garbage
//!
//! A header that is neither 0 nor one of this position, or one that goes over the end, is `Corrupted`; so is a `received` before the last look
//! or beyond what was sent, and a frame whose parts are not as long as its first record says. Each step over a record goes 8 bytes on at least,
//! so to go over all of them comes to an end.

use core::fmt;
use core::sync::atomic::Ordering::{Acquire, Relaxed};

use shmkit_core::shim::AtomicU64;
use shmkit_core::{Described, Error, Fingerprint, ShmSafe, Tailed};

use crate::end::Head;
use crate::ends::{Claim, Ends};

/// The size of a header, and of a word.
pub(crate) const WORD: usize = 8;

/// The size of a cache line.
const LINE: usize = 64;

/// The least size of a ring: there is room for a header, the length of a frame and some of it, twice.
#[cfg(not(ipc_loom))]
const LEAST: u64 = 256;

/// The most bytes of payload of one record, however large the ring is.
const LONGEST: usize = 1 << 30;

/// The bits of a header that are its length.
const LENGTH: u64 = (1 << 32) - 1;
/// Of every header that is not 0.
pub(crate) const SENT: u64 = 1 << 32;
/// The record begins a frame.
pub(crate) const FIRST: u64 = 1 << 33;
/// The record ends a frame.
pub(crate) const LAST: u64 = 1 << 34;
/// The record is only there to fill up the end of the ring.
pub(crate) const PAD: u64 = 1 << 35;
/// Where the position begins.
const POSITION: u32 = 36;

/// Version of the layout above.
const LAYOUT: u32 = 1;

/// The fixed part of a ring.
#[repr(C, align(64))]
#[derive(Debug)]
pub(crate) struct ByteRing {
    /// Who has which end.
    ends: Ends,
    /// The size of the ring in bytes. Written at creation. Garbage: compared with the real one when it is opened, once.
    capacity: AtomicU64,
    _line: [AtomicU64; 7],
    /// The position behind the last record that was received. See the module.
    pub(crate) received: AtomicU64,
    _other_line: [AtomicU64; 7],
}

#[cfg(not(ipc_loom))]
const _: () = {
    assert!(size_of::<ByteRing>() == 3 * LINE && align_of::<ByteRing>() == LINE);
    assert!(core::mem::offset_of!(ByteRing, capacity) == LINE);
    assert!(core::mem::offset_of!(ByteRing, received) == 2 * LINE);
};

// SAFETY: name, layout version, size and alignment are all that the layout depends on.
unsafe impl Described for ByteRing {
    const FINGERPRINT: Fingerprint = Fingerprint::new("ByteRing", LAYOUT, size_of::<Self>(), align_of::<Self>());

    fn type_name(f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ByteRing")
    }
}

// SAFETY: nothing but atomics, without padding; every value is survived.
unsafe impl ShmSafe for ByteRing {}

impl Head for ByteRing {
    #[inline]
    fn ends(&self) -> &Ends {
        &self.ends
    }
}

impl ByteRing {
    /// A ring of `size` bytes without records, which are zero. The `creator`, if there is one, has its end of it.
    pub(crate) fn new(size: u64, successors: bool, creator: Option<&Claim>) -> Self {
        Self {
            ends: Ends::new(successors, creator),
            capacity: AtomicU64::new(size),
            _line: [(); 7].map(|()| AtomicU64::new(0)),
            received: AtomicU64::new(0),
            _other_line: [(); 7].map(|()| AtomicU64::new(0)),
        }
    }

    /// The size of a ring for so many bytes; `None` if that is more than there can be.
    #[cfg(not(ipc_loom))]
    pub(crate) fn size(capacity: u64) -> Option<usize> {
        let size = capacity.max(LEAST).checked_next_multiple_of(LINE as u64)?;
        // Twice of it, and more, is still a size.
        usize::try_from(size).ok().filter(|size| *size < 1 << 60)
    }
}

/// A ring, as one side sees it.
pub(crate) type SharedBytes = Tailed<ByteRing>;

/// The private numbers of one side that do not change.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extent {
    /// The size of the ring.
    pub(crate) size: usize,
    /// The most bytes of payload of one record.
    pub(crate) longest: usize,
}

impl Extent {
    /// Those of this ring, which has the size that it should have.
    pub(crate) fn of(ring: &SharedBytes) -> Result<Self, Error> {
        let found = ring.capacity.load(Relaxed);
        let size = ring.len();
        if found != size as u64 || size < 6 * WORD || size % WORD != 0 {
            return Err(Error::Corrupted { what: "capacity of a channel", found });
        }
        // Two of them fit in with their headers, so that one fits in wherever the last one has ended; in a large ring it is three, so that one is
        // filled while one is read.
        Ok(Self { size, longest: (size / 4 / WORD * WORD).clamp(2 * WORD, LONGEST) })
    }
}

/// A place in the ring, from the point of view of one side. Private numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    /// The position, modulo 2^64.
    pub(crate) position: u64,
    /// Where it lies: a multiple of 8, below the size.
    pub(crate) at: usize,
}

/// What a header says, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    /// The length of the payload.
    pub(crate) len: usize,
    /// FIRST, LAST, PAD.
    pub(crate) kind: u64,
}

/// How many bytes a record takes.
#[inline]
pub(crate) fn stride(len: usize) -> usize {
    WORD + len.next_multiple_of(WORD)
}

impl Place {
    /// Where a receiver is that has received up to `position`.
    pub(crate) fn received(ring: &SharedBytes, extent: &Extent) -> Result<Self, Error> {
        // Acquire: if a predecessor died, this is the last that it has stored.
        let position = ring.received.load(Acquire);
        if position % WORD as u64 == 0 {
            Ok(Self::of(position, extent))
        } else {
            Err(Error::Corrupted { what: "position of the receiver", found: position })
        }
    }

    /// The place at this position, a multiple of 8.
    pub(crate) fn of(position: u64, extent: &Extent) -> Self {
        Self { position, at: (position % extent.size as u64) as usize }
    }

    /// The place `stride` bytes on, which go no further than to the end of the ring.
    #[inline]
    pub(crate) fn plus(self, extent: &Extent, stride: usize) -> Self {
        let at = self.at + stride;
        Self { position: self.position.wrapping_add(stride as u64), at: if at == extent.size { 0 } else { at } }
    }

    /// How many bytes there are until the end of the ring: 8 at least.
    #[inline]
    pub(crate) fn left(self, extent: &Extent) -> usize {
        extent.size - self.at
    }

    /// The header at this place.
    #[inline]
    pub(crate) fn header(self, ring: &SharedBytes) -> &AtomicU64 {
        ring.word(self.at)
    }

    /// What the header of this record is.
    #[inline]
    pub(crate) fn header_of(self, record: Record) -> u64 {
        ((self.position / WORD as u64) << POSITION) | record.kind | SENT | record.len as u64
    }

    /// The record at this place, if there is one.
    #[inline]
    pub(crate) fn record(self, ring: &SharedBytes, extent: &Extent) -> Result<Option<Record>, Error> {
        // Acquire pairs with the Release of the sender: the payload is there.
        let found = self.header(ring).load(Acquire);
        if found == 0 {
            return Ok(None);
        }
        let record = Record { len: (found & LENGTH) as usize, kind: found & (FIRST | LAST | PAD) };
        let left = self.left(extent);
        let fits = match record.kind {
            PAD => stride(record.len) == left,
            // It begins with the length of the whole frame.
            FIRST => record.len >= WORD && stride(record.len) <= left,
            _ => record.kind & PAD == 0 && stride(record.len) <= left,
        };
        if fits && found == self.header_of(record) {
            Ok(Some(record))
        } else {
            Err(Error::Corrupted { what: "header of a record", found })
        }
    }
}

/// Where the next record goes: behind all that there are.
pub(crate) fn find_tail(ring: &SharedBytes, extent: &Extent) -> Result<Place, Error> {
    let received = Place::received(ring, extent)?;
    let mut place = received;
    while let Some(record) = place.record(ring, extent)? {
        place = place.plus(extent, stride(record.len));
        if place.position.wrapping_sub(received.position) > extent.size as u64 - WORD as u64 {
            return Err(Error::Corrupted { what: "position of the receiver", found: received.position });
        }
    }
    Ok(place)
}

#[cfg(all(test, not(ipc_loom)))]
mod tests {
    use shmkit_core::Region;

    use super::*;

    fn ring(size: u64) -> (SharedBytes, Extent) {
        let region = Region::anonymous(1 << 16).expect("a region");
        let ring = region.insert_tailed("ring", ByteRing::new(size, false, None), size as usize).expect("room");
        let extent = Extent::of(&ring).expect("a sound ring");
        (ring, extent)
    }

    #[test]
    fn two_of_the_longest_records_and_a_header_fit_into_any_ring() {
        for size in (48..10_000).step_by(8) {
            let (_, extent) = ring(size);
            assert!(2 * stride(extent.longest) <= extent.size, "{extent:?}");
            assert!(extent.longest > WORD, "{extent:?}");
        }
    }

    #[test]
    fn a_header_is_told_from_that_of_the_round_before() {
        let (ring, extent) = ring(256);
        let record = Record { len: 10, kind: FIRST | LAST };
        let place = Place { position: 64, at: 64 };
        place.header(&ring).store(place.header_of(record), Relaxed);
        assert_eq!(place.record(&ring, &extent).expect("sound"), Some(record));
        let next_round = Place { position: 64 + 256, at: 64 };
        assert!(matches!(next_round.record(&ring, &extent), Err(Error::Corrupted { .. })));
    }

    #[test]
    fn a_record_that_goes_over_the_end_is_nonsense() {
        let (ring, extent) = ring(256);
        let place = Place { position: 192, at: 192 };
        for (len, kind) in [(57, FIRST | LAST), (48, PAD), (0, FIRST), (8, PAD | LAST), (usize::MAX >> 32, LAST)] {
            place.header(&ring).store(place.header_of(Record { len, kind }), Relaxed);
            assert!(matches!(place.record(&ring, &extent), Err(Error::Corrupted { .. })), "{len} {kind:#x}");
        }
    }

    #[test]
    fn a_ring_full_of_records_has_no_end() {
        let (ring, extent) = ring(256);
        for at in (0..256).step_by(8) {
            let place = Place { position: at as u64, at };
            place.header(&ring).store(place.header_of(Record { len: 0, kind: FIRST | LAST }), Relaxed);
        }
        assert!(matches!(find_tail(&ring, &extent), Err(Error::Corrupted { .. })));
    }
}
