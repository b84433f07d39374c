//! A job as it lies in the queue: one cache line.
//!
//! ```text
//! | id | function | seal | size: u32, count: u32 | data (24) |
//!
//!          63                         16 15        0
//!         +-----------------------------+-----------+
//! id:     | how many were posted before | slot      |
//!         +-----------------------------+-----------+
//! ```
//!
//! `count` sets of arguments, `size` bytes in all, as they are encoded: in `data` if there is room for them, else where its first word says.
//!
//! # Garbage
//!
//! A worker calls what a job says, so it must not believe any bytes. The seal is a mixture of all other words and of a key that the parent
//! has drawn and given to its workers, and that lies in no region: a job that was scribbled over is no job, and nobody calls anything.

#![cfg_attr(not(ipc_loom), allow(unreachable_pub, reason = "models see it"))]

use bytemuck::{Pod, Zeroable};
use shmkit_core::{Described, Fingerprint};

/// How many bytes of arguments a job has room for.
pub(super) const INLINE: usize = 24;

/// The most slots.
pub(super) const MOST_SLOTS: usize = 1 << SLOT_BITS;

const SLOT_BITS: u32 = 16;

/// Version of the layout above.
const LAYOUT: u32 = 1;

/// Which job: no two of a pool have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Id(u64);

impl Id {
    /// That of the job which is posted after `before` others, into this slot.
    pub fn new(before: u64, slot: usize) -> Self {
        Self(before << SLOT_BITS | slot as u64 & (MOST_SLOTS as u64 - 1))
    }

    pub(super) fn of_word(word: u64) -> Self {
        Self(word)
    }

    pub(super) fn word(self) -> u64 {
        self.0
    }

    /// How many jobs were posted before.
    pub fn before(self) -> u64 {
        self.0 >> SLOT_BITS
    }

    /// Where the parent keeps what it knows of the job, and the worker notes that it has it.
    pub fn slot(self) -> usize {
        self.0 as usize & (MOST_SLOTS - 1)
    }
}

/// Where the arguments of a job are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In the job.
    Inline,
    /// In the spill, from this byte on.
    Spill(usize),
    /// The parent delivers them to the worker that asks for them.
    Delivered,
}

/// What the first word of `data` says of arguments that are to be delivered.
const DELIVERED: u64 = u64::MAX;

/// A job. The parent writes it into the queue as a whole, and workers take copies.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Job {
    /// Which one: see [`Id`].
    id: u64,
    /// Where in the program what is to be called lies.
    function: u64,
    /// The mixture of all other words and the key of the pool. Garbage: it is no job.
    seal: u64,
    /// How many bytes the arguments have, encoded.
    size: u32,
    /// How many sets of arguments there are.
    count: u32,
    /// The arguments, or in the first word where they are.
    data: [u64; INLINE / 8],
}

const _: () = assert!(size_of::<Job>() == 56 && align_of::<Job>() == 8);

// SAFETY: name, layout version, size and alignment are all that the layout depends on.
unsafe impl Described for Job {
    const FINGERPRINT: Fingerprint = Fingerprint::new("Job", LAYOUT, size_of::<Self>(), align_of::<Self>());

    fn type_name(f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Job")
    }
}

impl Job {
    /// A job that has not been posted. `inline`: its arguments, if they are to be in it.
    pub(super) fn new(function: u64, count: u32, size: u32, place: Place, inline: &[u8]) -> Self {
        let mut data = [0; INLINE / 8];
        match place {
            Place::Inline => bytemuck::bytes_of_mut(&mut data)[..inline.len()].copy_from_slice(inline),
            Place::Spill(at) => data[0] = at as u64,
            Place::Delivered => data[0] = DELIVERED,
        }
        Self { id: 0, function, seal: 0, size, count, data }
    }

    /// A job without arguments and function, for models.
    #[cfg(ipc_loom)]
    pub fn model(id: Id, key: u64) -> Self {
        Self::new(0, 0, 0, Place::Inline, &[]).sealed(id, key)
    }

    /// The same, as it is posted.
    #[must_use]
    pub(super) fn sealed(mut self, id: Id, key: u64) -> Self {
        self.id = id.0;
        self.seal = self.mixture(key);
        self
    }

    /// Whether it is one that was sealed with this key.
    pub(super) fn is_sealed(&self, key: u64) -> bool {
        self.seal == self.mixture(key)
    }

    fn mixture(&self, key: u64) -> u64 {
        let sizes = u64::from(self.size) << 32 | u64::from(self.count);
        let [a, b, c] = self.data;
        [self.id, self.function, sizes, a, b, c]
            .iter()
            .fold(key, |mixed, word| (mixed ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29) ^ key)
    }

    /// Which one.
    pub fn id(&self) -> Id {
        Id(self.id)
    }

    /// What to call.
    pub(super) fn function(&self) -> u64 {
        self.function
    }

    /// How many sets of arguments there are.
    pub(super) fn count(&self) -> u32 {
        self.count
    }

    /// How many bytes the arguments are. Means nothing for those that are delivered.
    pub(super) fn size(&self) -> usize {
        self.size as usize
    }

    /// Where the arguments are.
    pub(super) fn place(&self) -> Place {
        match self.data[0] {
            _ if self.size() <= INLINE => Place::Inline,
            DELIVERED => Place::Delivered,
            at => Place::Spill(at as usize),
        }
    }

    /// The arguments that are in it.
    pub(super) fn inline(&self) -> &[u8] {
        &bytemuck::bytes_of(&self.data)[..self.size().min(INLINE)]
    }
}

#[cfg(all(test, not(ipc_loom)))]
mod tests {
    use super::*;

    const KEY: u64 = 0x1234_5678_9abc_def1;

    #[test]
    fn an_id_keeps_its_slot_and_its_number() {
        for (before, slot) in [(0, 0), (1, 7), (1 << 40, MOST_SLOTS - 1)] {
            let id = Id::new(before, slot);
            assert_eq!((id.before(), id.slot()), (before, slot));
            assert_eq!(Id::of_word(id.word()), id);
        }
    }

    #[test]
    fn arguments_are_where_they_were_put() {
        let inline = Job::new(1, 2, 3, Place::Inline, b"abc").sealed(Id::new(4, 5), KEY);
        assert_eq!((inline.place(), inline.inline()), (Place::Inline, b"abc".as_slice()));
        let spilled = Job::new(1, 2, 25, Place::Spill(4096), &[]);
        assert_eq!((spilled.place(), spilled.size()), (Place::Spill(4096), 25));
        assert_eq!(Job::new(1, 2, u32::MAX, Place::Delivered, &[]).place(), Place::Delivered);
    }

    #[test]
    fn one_other_bit_anywhere_breaks_the_seal() {
        let job = Job::new(1, 2, 3, Place::Inline, b"abc").sealed(Id::new(4, 5), KEY);
        assert!(job.is_sealed(KEY) && !job.is_sealed(KEY + 1));
        for bit in 0..8 * size_of::<Job>() {
            let mut other = job;
            bytemuck::bytes_of_mut(&mut other)[bit / 8] ^= 1 << (bit % 8);
            assert!(!other.is_sealed(KEY), "bit {bit}");
        }
    }

    #[test]
    fn zeroes_are_no_job() {
        assert!(!Job::zeroed().is_sealed(KEY));
    }
}
