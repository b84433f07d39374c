//! What lies where in a region, and the check that a file is one.
//!
//! ```text
//! 0      +----------------------------------------------+
//!        | Header: magic, version, platform, size, ...  |  written once, before the region has a name
//! 128    +----------------------------------------------+
//!        | Directory: insert lock, end of the log       |
//! 192    +----------------------------------------------+
//!        | reserved, zero                               |
//! 256    +----------------------------------------------+
//!        | News: death_epoch, roster, rescues           |
//! 384    +----------------------------------------------+
//!        | tokens: 8 bytes per participant              |
//!        +----------------------------------------------+  rounded up to 64
//!        | entries: 64 bytes per participant            |
//! data   +----------------------------------------------+
//!        | the log of named objects                     |
//! size   +----------------------------------------------+
//! ```
//!
//! All offsets follow from the capacity. An opener checks header and size once and keeps them in a private [`Layout`]; nothing
//! is ever addressed by numbers that are still in the region.

use core::mem::offset_of;
use core::sync::atomic::Ordering::{Relaxed, Release};
use core::sync::atomic::{AtomicU32, AtomicU64};

use crate::crash_point;
use crate::directory::Directory;
use crate::error::Error;
use crate::participants::{Entry, News};

/// "shmkit01" in the order of the bytes.
const MAGIC: u64 = u64::from_le_bytes(*b"shmkit01");

/// Whether `bytes` are the first ones of a region, of whatever version.
pub(crate) fn is_magic(bytes: [u8; 8]) -> bool {
    u64::from_le_bytes(bytes) == MAGIC
}

/// Raised with every change of a shared layout.
pub(crate) const VERSION: u32 = 2;

/// Pointer width in bytes and a pattern that tells the order of bytes.
const PLATFORM: u32 = (size_of::<usize>() as u32) << 16 | 0x0102;

/// The most participants that a region can be made for.
pub(crate) const MAX_PARTICIPANTS: u32 = 4096;

/// The beginning of a region. Written by the creator before anybody else can see it, never changed. Garbage: the region is not
/// opened.
#[repr(C, align(64))]
#[derive(Debug)]
pub(crate) struct Header {
    /// "shmkit01". Written last.
    magic: AtomicU64,
    /// Of all that lies at fixed places.
    version: AtomicU32,
    /// Width of a pointer, and the order of bytes.
    platform: AtomicU32,
    /// Of the whole region, in bytes.
    size: AtomicU64,
    /// How many participants there is room for.
    participants: AtomicU32,
    spare: AtomicU32,
    /// Random bits that tell this region from every other.
    id: [AtomicU64; 2],
}

/// All that lies at fixed places.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Fixed {
    /// What the region is.
    header: Header,
    _line: [AtomicU64; 8],
    /// Where the log of objects ends.
    pub(crate) directory: Directory,
    _reserved: [AtomicU64; 8],
    /// Who has come and gone.
    pub(crate) news: News,
}

const _: () = {
    assert!(size_of::<Header>() == 64);
    assert!(offset_of!(Fixed, directory) == 128);
    assert!(offset_of!(Fixed, news) == 256);
    assert!(size_of::<Fixed>() == 384);
};

impl Fixed {
    /// Whether nothing is here yet, or only what one left who was killed before this became a region of `size` bytes.
    pub(crate) fn is_blank(&self, size: usize) -> bool {
        let header = &self.header;
        header.magic.load(Relaxed) == 0
            && [0, VERSION].contains(&header.version.load(Relaxed))
            && [0, PLATFORM].contains(&header.platform.load(Relaxed))
            && [0, size as u64].contains(&header.size.load(Relaxed))
            && header.participants.load(Relaxed) <= MAX_PARTICIPANTS
            && header.spare.load(Relaxed) == 0
    }
}

/// The validated shape of one region, in private memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Of the whole region, in bytes.
    pub(crate) size: usize,
    /// How many participants there is room for.
    pub(crate) participants: usize,
    /// Random bits that tell this region from every other.
    pub(crate) id: u128,
}

impl Layout {
    /// The smallest layout with `room` bytes for objects, in whole pages.
    pub(crate) fn with_room(room: usize, participants: u32, id: u128, page: usize) -> Result<Self, Error> {
        let participants = check_participants(participants)?;
        let size = data_offset(participants)
            .checked_add(room)
            .and_then(|size| size.checked_next_multiple_of(page))
            .filter(|size| isize::try_from(*size).is_ok())
            .ok_or(Error::NoSpace { bytes: room as u64 })?;
        Ok(Self { size, participants, id })
    }

    /// The layout that fills `size` bytes.
    pub(crate) fn filling(size: usize, participants: u32, id: u128) -> Result<Self, Error> {
        let participants = check_participants(participants)?;
        let least = data_offset(participants);
        if size < least {
            return Err(Error::WrongSize { expected: least as u64, found: size as u64 });
        }
        Ok(Self { size, participants, id })
    }

    /// Where the tokens begin.
    pub(crate) const fn tokens(&self) -> usize {
        size_of::<Fixed>()
    }

    /// Where the entries begin.
    pub(crate) const fn entries(&self) -> usize {
        entries_offset(self.participants)
    }

    /// Where the objects begin.
    pub(crate) const fn data(&self) -> usize {
        data_offset(self.participants)
    }

    /// Writes the header of a new region, which nobody else uses yet. What makes it one comes last: whoever finds less finds no
    /// region.
    pub(crate) fn write(&self, fixed: &Fixed) {
        let header = &fixed.header;
        header.version.store(VERSION, Relaxed);
        header.platform.store(PLATFORM, Relaxed);
        header.size.store(self.size as u64, Relaxed);
        header.participants.store(self.participants as u32, Relaxed);
        header.id[0].store(self.id as u64, Relaxed);
        header.id[1].store((self.id >> 64) as u64, Relaxed);
        fixed.directory.initialise(self.data());
        crash_point!("layout.write.before_magic");
        // Release keeps it behind the others. Openers have a lock that the writer gave up, or the name that it made, in between.
        header.magic.store(MAGIC, Release);
    }

    /// Checks the header of a region whose file has `size` bytes, which are mapped.
    pub(crate) fn read(fixed: &Fixed, size: usize) -> Result<Self, Error> {
        let header = &fixed.header;
        if header.magic.load(Relaxed) != MAGIC {
            return Err(Error::NotARegion { what: "its first bytes are not those of a region" });
        }
        let version = header.version.load(Relaxed);
        if version != VERSION {
            return Err(Error::Version { expected: VERSION, found: version });
        }
        if header.platform.load(Relaxed) != PLATFORM {
            return Err(Error::NotARegion { what: "it was made on another kind of machine" });
        }
        let told = header.size.load(Relaxed);
        if told != size as u64 {
            return Err(Error::WrongSize { expected: told, found: size as u64 });
        }
        let participants = header.participants.load(Relaxed);
        if participants == 0 || participants > MAX_PARTICIPANTS || data_offset(participants as usize) > size {
            return Err(Error::Corrupted { what: "participant capacity", found: u64::from(participants) });
        }
        let id = u128::from(header.id[0].load(Relaxed)) | u128::from(header.id[1].load(Relaxed)) << 64;
        Ok(Self { size, participants: participants as usize, id })
    }
}

fn check_participants(participants: u32) -> Result<usize, Error> {
    if participants == 0 || participants > MAX_PARTICIPANTS {
        return Err(Error::InvalidParticipants { asked: participants, max: MAX_PARTICIPANTS });
    }
    Ok(participants as usize)
}

const fn entries_offset(participants: usize) -> usize {
    (size_of::<Fixed>() + participants * size_of::<AtomicU64>()).next_multiple_of(align_of::<Entry>())
}

const fn data_offset(participants: usize) -> usize {
    entries_offset(participants) + participants * size_of::<Entry>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overhead_stays_below_8_kib_and_128_bytes_per_participant() {
        for participants in 1..=MAX_PARTICIPANTS as usize {
            assert!(data_offset(participants) <= 8 * 1024 + 128 * participants);
        }
    }

    #[test]
    fn room_that_no_address_space_has_is_refused() {
        let layout = Layout::with_room(usize::MAX - 10, 8, 0, 4096);
        assert!(matches!(layout, Err(Error::NoSpace { .. })));
    }

    #[test]
    fn capacities_out_of_range_are_refused() {
        for participants in [0, MAX_PARTICIPANTS + 1] {
            let layout = Layout::with_room(100, participants, 0, 4096);
            assert!(matches!(layout, Err(Error::InvalidParticipants { .. })));
        }
    }
}
