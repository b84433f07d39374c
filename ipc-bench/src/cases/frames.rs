//! Frames: messages of bytes, streaming from one process to another.

use crate::channels::Frames;
use crate::figure::{Comparison, SUBJECT};
use crate::made::{COPIED, Made, MadeInPlace};
use crate::memcpy::{Buffer, MEMCPY, TWO_SLOTS};
use crate::message::{Cast, Frame, Stream};
use crate::peers::descriptors::{PIPE, Pipes, SOCKET, Sockets};
#[cfg(feature = "peers")]
use crate::peers::servo::{self, Rendezvous};
#[cfg(feature = "peers")]
use crate::peers::shmem_ipc::{self, Ring};
use crate::team::{Cpus, Entry, Game, Measure};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// Frames of 64 KiB.
pub const LARGE: Game = Game {
    name: "frames/64KiB",
    what: "frames of 64 KiB, stream",
    conditions: "each frame is copied from private memory and to private memory; the bare copies by way of a shared \
                 buffer of 16 frames, or of two, looking for one another; the peers know the length and send none; \
                 ours, pipe(2) and shmem-ipc with room for 1 MiB",
    members: 2,
    cpus: Cpus::Two,
    measure: Measure::Bytes(64 << 10),
    entries: &[
        Entry::of::<Cast<Stream, Frame<{ 64 * KIB }>, Frames<MIB>>>(SUBJECT),
        Entry::of::<Cast<Stream, Frame<{ 64 * KIB }>, Buffer<{ 64 * KIB }, 16, 1>>>(MEMCPY),
        Entry::of::<Cast<Stream, Frame<{ 64 * KIB }>, Buffer<{ 64 * KIB }, 2, 1>>>(TWO_SLOTS),
        Entry::of::<Cast<Stream, Frame<{ 64 * KIB }>, Pipes>>(PIPE),
        Entry::of::<Cast<Stream, Frame<{ 64 * KIB }>, Sockets>>(SOCKET),
        #[cfg(feature = "peers")]
        Entry::of::<Cast<Stream, Frame<{ 64 * KIB }>, Ring<MIB>>>(shmem_ipc::NAME),
        #[cfg(feature = "peers")]
        Entry::of::<Cast<Stream, Frame<{ 64 * KIB }>, Rendezvous>>(servo::NAME),
    ],
    rows: &[
        Comparison::at_least(MEMCPY, 0.8),
        Comparison::listed(TWO_SLOTS),
        Comparison::at_least(PIPE, 1.0),
        Comparison::at_least(SOCKET, 1.0),
        #[cfg(feature = "peers")]
        Comparison::at_least(shmem_ipc::NAME, 1.0),
        #[cfg(feature = "peers")]
        Comparison::at_least(servo::NAME, 1.0),
    ],
};

/// Frames of 64 KiB, made and looked at where they lie.
pub const IN_PLACE: Game = Game {
    name: "frames/64KiB/in-place",
    what: "frames of 64 KiB, made and looked through, stream",
    conditions: "each byte of a frame is written by its sender and read by its receiver; ours by reserve and commit, peek and release; those \
                 who copy make it in private memory, and look at a copy there; the bare copies by way of 16 frames",
    members: 2,
    cpus: Cpus::Two,
    measure: Measure::Bytes(64 << 10),
    entries: &[
        Entry::of::<Cast<MadeInPlace, Frame<{ 64 * KIB }>, Frames<MIB>>>(SUBJECT),
        Entry::of::<Cast<Made, Frame<{ 64 * KIB }>, Frames<MIB>>>(COPIED),
        Entry::of::<Cast<Made, Frame<{ 64 * KIB }>, Buffer<{ 64 * KIB }, 16, 1>>>(MEMCPY),
    ],
    rows: &[Comparison::at_least(MEMCPY, 1.0), Comparison::at_least(COPIED, 1.0)],
};

/// A point of the curve over sizes: frames of `SIZE` bytes, and for the bare copies so many slots and pauses
/// from look to look.
struct Size<const SIZE: usize, const SLOTS: usize, const PAUSES: u32>;

impl<const SIZE: usize, const SLOTS: usize, const PAUSES: u32> Size<SIZE, SLOTS, PAUSES> {
    const ENTRIES: &'static [Entry] = &[
        Entry::of::<Cast<Stream, Frame<SIZE>, Frames<MIB>>>(SUBJECT),
        Entry::of::<Cast<Stream, Frame<SIZE>, Buffer<SIZE, SLOTS, PAUSES>>>(MEMCPY),
        Entry::of::<Cast<Stream, Frame<SIZE>, Pipes>>(PIPE),
        Entry::of::<Cast<Stream, Frame<SIZE>, Sockets>>(SOCKET),
    ];

    const fn game(name: &'static str, what: &'static str) -> Game {
        Game {
            name,
            what,
            conditions: "as for frames of 64 KiB; the bare copies by way of 1024 slots, or as many as fit into 1 MiB, \
                         but two at least",
            members: 2,
            cpus: Cpus::Two,
            measure: Measure::Bytes(SIZE as u64),
            entries: Self::ENTRIES,
            rows: const { &[Comparison::listed(MEMCPY), Comparison::listed(PIPE), Comparison::listed(SOCKET)] },
        }
    }
}

/// The curve over sizes.
pub const SIZES: [&Game; 7] = [
    &Size::<8, 1024, 64>::game("frames/size/8B", "frames of 8 B, stream"),
    &Size::<64, 1024, 4>::game("frames/size/64B", "frames of 64 B, stream"),
    &Size::<512, 1024, 4>::game("frames/size/512B", "frames of 512 B, stream"),
    &Size::<{ 4 * KIB }, 256, 4>::game("frames/size/4KiB", "frames of 4 KiB, stream"),
    &Size::<{ 32 * KIB }, 32, 4>::game("frames/size/32KiB", "frames of 32 KiB, stream"),
    &Size::<{ 256 * KIB }, 4, 4>::game("frames/size/256KiB", "frames of 256 KiB, stream"),
    &Size::<MIB, 2, 4>::game("frames/size/1MiB", "frames of 1 MiB, stream"),
];
