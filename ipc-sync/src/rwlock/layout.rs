//! The words of a lock in shared memory, apart from its value.

use core::fmt;
use core::sync::atomic::Ordering::Relaxed;

use shmkit_core::const_fn;
use shmkit_core::identity::FLAG;
use shmkit_core::raw_lock::RawLock;
use shmkit_core::shim::{AtomicU32, AtomicU64};

use shmkit_core::poison::PoisonWord;

/// Version of the layout.
pub(super) const LAYOUT: u32 = 3;

/// `gate`: readers come in by themselves.
pub(super) const OPEN: u32 = 0;
/// `gate`: somebody has the turn and looks whether the readers have left. The data are whole.
pub(super) const CLOSING: u32 = 1;
/// `gate`: the same, and it sleeps, or is about to: readers that leave wake it. The data are whole.
pub(super) const WAITING: u32 = 2;
/// `gate`: a writer is in, and the data may be half-changed. Any value that is not listed here is taken for this one.
pub(super) const WRITING: u32 = 3;
/// `gate`: readers come in by themselves, handles by plain stores. Only in an asymmetric lock, which is OPEN while somebody with the turn ends that.
pub(super) const BIASED: u32 = 4;

/// `asymmetric`: the gate is BIASED when nobody has the turn.
pub(super) const ASYMMETRIC: u32 = 1;

/// In a cell, beside a token: it is kept for a handle of that process, which does not read just now.
pub(super) const IDLE: u64 = FLAG;

/// How many participants have a line of cells of their own. Models have less of everything, since each word multiplies the orders.
pub(super) const LINES: usize = if cfg!(ipc_loom) { 2 } else { 16 };
/// How many readers there is room for in a line.
pub(super) const SLOTS: usize = if cfg!(ipc_loom) { 1 } else { 8 };
/// How many readers there is room for.
pub(super) const CELLS: usize = LINES * SLOTS;

/// All of a lock but its value.
#[repr(C, align(64))]
pub(super) struct Core {
    /// The turn: held by a writer as long as it writes, and for a moment by a reader that found the gate shut. Written by both.
    pub(super) turn: RawLock,
    /// Whether the value may be half-changed. Written by whoever has the turn, except for `clear_poison`.
    pub(super) poison: PoisonWord,
    /// OPEN, CLOSING, WAITING, WRITING or BIASED. OPEN, or BIASED in an asymmetric lock, whenever nobody has the turn; written by whoever has it only.
    /// Garbage: as WRITING.
    pub(super) gate: AtomicU32,
    /// The cell of a reader that was a writer. 0 -> token by that writer while it writes; otherwise as the other cells.
    pub(super) downgraded: AtomicU64,
    /// Raised by readers that leave while the gate says WAITING; whoever waits for that sleeps on it. Garbage: a look for nothing.
    pub(super) left: AtomicU32,
    /// 0, or ASYMMETRIC: writers make the barriers of handles. Never written after the lock was made. Garbage: as ASYMMETRIC; a 0 that was something else
    /// lets a writer in beside a handle that reads.
    asymmetric: AtomicU32,
    #[cfg(not(ipc_loom))]
    reserved: [AtomicU32; 6],
    /// Each 0, or the token of a process one of whose threads reads, or such a token with IDLE: that of a handle that does not read. Participant `i`
    /// begins to look for a free one in line `i` modulo 16. 0 -> token by a reader, token -> 0 by the same reader; 0 -> token with IDLE when a handle is
    /// made, and then by this handle alone, token and back, and -> 0 in the end. The token of a dead: -> 0 or another token by whoever has the turn, or
    /// another token with IDLE by whoever makes a handle. Garbage: a token of nobody is that of a dead; one of somebody alive is a reader who does not leave
    /// before it dies, or with IDLE a cell that is of no use until then.
    pub(super) cells: [AtomicU64; CELLS],
}

#[cfg(not(ipc_loom))]
const _: () = {
    assert!(size_of::<Core>() == 64 + 1024 && align_of::<Core>() == 64);
    assert!(core::mem::offset_of!(Core, turn) == 0);
    assert!(core::mem::offset_of!(Core, poison) == 16);
    assert!(core::mem::offset_of!(Core, gate) == 20);
    assert!(core::mem::offset_of!(Core, downgraded) == 24);
    assert!(core::mem::offset_of!(Core, left) == 32);
    assert!(core::mem::offset_of!(Core, asymmetric) == 36);
    assert!(core::mem::offset_of!(Core, cells) == 64);
};

/// Whether readers come in by themselves when `gate` says this.
#[inline]
pub(super) fn is_open(gate: u32) -> bool {
    gate & !BIASED == OPEN
}

impl Core {
    const_fn! {
        pub(super) fn new() -> Self {
            Self {
                turn: RawLock::new(),
                poison: PoisonWord::new(),
                gate: AtomicU32::new(OPEN),
                downgraded: AtomicU64::new(0),
                left: AtomicU32::new(0),
                asymmetric: AtomicU32::new(0),
                #[cfg(not(ipc_loom))]
                reserved: [const { AtomicU32::new(0) }; 6],
                #[cfg(not(ipc_loom))]
                cells: [const { AtomicU64::new(0) }; CELLS],
                #[cfg(ipc_loom)]
                cells: core::array::from_fn(|_| AtomicU64::new(0)),
            }
        }
    }

    const_fn! {
        /// The same, with handles.
        pub(super) fn asymmetric(mut self) -> Self {
            self.asymmetric = AtomicU32::new(ASYMMETRIC);
            self.gate = AtomicU32::new(BIASED);
            self
        }
    }

    /// Whether handles can read by plain stores.
    #[inline]
    pub(super) fn is_asymmetric(&self) -> bool {
        self.asymmetric.load(Relaxed) != 0
    }

    /// What the gate is when nobody has the turn.
    #[inline]
    pub(super) fn opened(&self) -> u32 {
        if self.is_asymmetric() { BIASED } else { OPEN }
    }

    /// The cell number `index`, modulo their number.
    #[inline]
    pub(super) fn cell(&self, index: usize) -> &AtomicU64 {
        &self.cells[index % CELLS]
    }

    /// All cells.
    pub(super) fn cells(&self) -> impl Iterator<Item = &AtomicU64> {
        self.cells.iter().chain([&self.downgraded])
    }
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core").field("turn", &self.turn).field("gate", &self.gate).finish_non_exhaustive()
    }
}
