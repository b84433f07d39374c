//! Cells that handles keep, and reading by a plain store.

use core::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};

use shmkit_core::identity::{self, Token};
use shmkit_core::shim::{AtomicU64, asymmetric, store_load_barrier};
use shmkit_core::wait::Site;
use shmkit_core::{Error, crash_point};

use super::algorithm::Reading;
use super::hints;
use super::layout::{BIASED, Core, IDLE, LINES, SLOTS, is_open};

/// A cell that a handle keeps. Nobody else writes it as long as the process of the handle lives.
#[derive(Debug)]
pub(super) struct Kept<'a> {
    cell: &'a AtomicU64,
    token: Token,
}

impl<'a> Kept<'a> {
    /// Whether the calling process is that of the handle; not so in a forked child.
    #[inline]
    pub(super) fn is_own(&self) -> bool {
        identity::is_own(self.token)
    }

    /// Says that the handle reads. It does only if no writer is in, nor comes in before it sees this.
    #[inline]
    pub(super) fn enter(&self) -> Reading<'a> {
        // Release pairs with the Acquire in `has_left`: whoever finds our token finds it among the participants, too.
        self.cell.store(self.token.word(), Release);
        crash_point!("rwlock.kept.after_enter");
        self.reading()
    }

    /// What the handle has when it reads.
    #[inline]
    fn reading(&self) -> Reading<'a> {
        Reading { cell: self.cell, token: self.token, then: self.token.word() | IDLE }
    }
}

impl Core {
    /// Comes in by a cell that is kept for this, if the gate is BIASED.
    #[inline]
    pub(super) fn read_kept<'a>(&'a self, kept: &Kept<'a>) -> Option<Reading<'a>> {
        if !kept.is_own() {
            return None;
        }
        // Pairs with the heavy barrier in `end_bias`: of this reader and a writer that ends the bias, one sees the other. Acquire pairs with the Release in `open`:
        // what the last writer wrote, and its poison, is seen.
        let (reading, gate) = asymmetric::light(|| kept.enter(), || self.gate.load(Acquire));
        if gate == BIASED {
            return Some(reading);
        }
        self.unread(&reading);
        None
    }

    /// The same if the gate is open in any way, with the barrier of those who have no handle.
    pub(super) fn read_unbiased<'a>(&'a self, kept: &Kept<'a>) -> Option<Reading<'a>> {
        if !kept.is_own() {
            return None;
        }
        let reading = kept.reading();
        // SeqCst, here and for the gate, as in `read_by`, and Release as in `enter`.
        kept.cell.swap(kept.token.word(), SeqCst);
        crash_point!("rwlock.kept.after_exchange");
        store_load_barrier();
        if is_open(self.gate.load(SeqCst)) {
            return Some(reading);
        }
        self.unread(&reading);
        None
    }

    /// Takes a cell for a handle. `None` if that would be of no use, as the lock is not asymmetric, or if handles have all the cells that they may have.
    #[cold]
    pub(super) fn keep(&self) -> Result<Option<Kept<'_>>, Error> {
        let site = Site::of(self)?;
        if !self.is_asymmetric() {
            return Ok(None);
        }
        site.look();
        let home = site.place().unwrap_or_else(hints::thread);
        let lines = (0..LINES).map(|i| (home + i) % LINES);
        // A line that nobody uses, if there is one: each handle is to be alone there.
        let unused = lines.clone().filter(|line| Self::line(*line).all(|index| self.cell(index).load(Relaxed) == 0));
        Ok(unused.chain(lines).flat_map(Self::line).filter(Self::is_for_handles).find_map(|index| {
            let cell = self.cell(index);
            // Acquire as in `has_left`: if these are the cells of the dead.
            let word = cell.load(Acquire);
            if Token::from_word(word).is_some_and(|token| site.is_alive(token)) {
                return None;
            }
            let token = site.token();
            // SeqCst, and Acquire and Release, as in `read_by` and `has_left`.
            cell.compare_exchange(word, token.word() | IDLE, SeqCst, Relaxed).ok()?;
            crash_point!("rwlock.keep.after_claim");
            Some(Kept { cell, token })
        }))
    }

    /// Ends the handle of a cell.
    pub(super) fn give_back(&self, kept: &Kept<'_>) {
        crash_point!("rwlock.keep.before_give_back");
        if kept.is_own() {
            // If a guard was forgotten, this is the end of it.
            self.leave(kept.cell, 0);
        }
    }

    /// The numbers of the cells in a line.
    fn line(line: usize) -> impl Iterator<Item = usize> {
        (0..SLOTS).map(move |slot| line * SLOTS + slot)
    }

    /// Whether a handle may keep this cell: every second one, so that there is room for those who have no handle.
    fn is_for_handles(index: &usize) -> bool {
        index % 2 == 1
    }
}
