//! Coming in and going out.

use core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};
use core::sync::atomic::compiler_fence;
use core::time::Duration;

use shmkit_core::identity::{self, Token};
use shmkit_core::raw_lock::{Held, NotHeld};
use shmkit_core::shim::{AtomicU64, asymmetric, store_load_barrier};
use shmkit_core::spin::spin;
use shmkit_core::wait::{Glance, Site, nap, settling, wake_all};
use shmkit_core::{Deadline, Error, crash_point};

use super::hints;
use super::kept::Kept;
use super::layout::{BIASED, CELLS, CLOSING, Core, IDLE, OPEN, SLOTS, WAITING, WRITING, is_open};
use crate::error::taken_apart;

/// The time between two looks of a reader that waits for the turn of an asymmetric lock: about that of a barrier. A shorter sleep would end between two ticks of the
/// kernel's clock, which makes it dearer.
const NEXT_LOOK: Duration = Duration::from_millis(5);

/// A reader that is in.
#[derive(Debug)]
pub(super) struct Reading<'a> {
    pub(super) cell: &'a AtomicU64,
    pub(super) token: Token,
    /// What the cell is when the reader has left: 0, or the token with IDLE if a handle keeps the cell.
    pub(super) then: u64,
}

/// A writer that is in.
#[derive(Debug)]
pub(super) struct Writing {
    pub(super) token: Token,
    /// Another writer had died in there.
    pub(super) after_death: bool,
}

/// Why somebody who has the turn does not get what it waits for.
enum Gone {
    /// The deadline has passed.
    TimedOut,
    /// This is a child that a signal handler has forked meanwhile: the turn is its parent's.
    Forked,
    Failed(Error),
}

impl Core {
    // Readers.

    /// Comes in by the cell that this thread used the last time.
    #[inline]
    pub(super) fn read_fast(&self) -> Option<Reading<'_>> {
        let token = identity::current()?;
        let cell = hints::get(self.address(), token)?;
        self.read_by(cell, token)
    }

    /// Comes in by the cell number `index`, if that is free and the gate is open.
    #[inline]
    fn read_by(&self, index: usize, token: Token) -> Option<Reading<'_>> {
        let cell = self.cell(index);
        // SeqCst, here and for the gate: of a reader that takes a cell and then looks at the gate, and a writer that shuts the gate and
        // then looks at the cells, one must see the other. With less both could miss each other and be in together.
        // Acquire pairs with the Release of whoever left by this cell before: it is passed on to the writer by the next Release.
        // Release pairs with the Acquire in `has_left`: whoever finds our token finds it among the participants, too.
        cell.compare_exchange(0, token.word(), SeqCst, Relaxed).ok()?;
        crash_point!("rwlock.read.after_claim");
        store_load_barrier();
        let reading = Reading { cell, token, then: 0 };
        // Acquire pairs with the Release in `open`: what the last writer wrote, and its poison, is seen.
        if is_open(self.gate.load(SeqCst)) {
            return Some(reading);
        }
        self.unread(&reading);
        None
    }

    /// Goes out. In a process that did not come in (a forked child of the reader) this does nothing.
    #[inline]
    pub(super) fn unread(&self, reading: &Reading<'_>) {
        crash_point!("rwlock.read.before_leave");
        if identity::is_own(reading.token) {
            self.leave(reading.cell, reading.then);
        }
    }

    #[inline]
    pub(super) fn leave(&self, cell: &AtomicU64, then: u64) {
        // Release pairs with the Acquire in `has_left`: the writer writes after all that was read in here.
        cell.store(then, Release);
        // The processor may still look at the gate first; the writer allows for that. The compiler may not.
        compiler_fence(SeqCst);
        // Models know no time: there, this is a fence on our side.
        store_load_barrier();
        if self.gate.load(Relaxed) == WAITING {
            self.tell_left();
        }
    }

    #[cold]
    fn tell_left(&self) {
        crash_point!("rwlock.read.after_leave");
        // Release pairs with the Acquire in `wait`: whoever sees the new number sees the cell free.
        self.left.fetch_add(1, Release);
        crash_point!("rwlock.read.before_wake");
        wake_all(&self.left);
        crash_point!("rwlock.read.after_wake");
    }

    /// Comes in by the cell `kept` for this, if there is one, or by any other.
    #[cold]
    pub(super) fn read_slow<'a>(
        &'a self,
        kept: Option<&Kept<'a>>,
        deadline: Option<Deadline>,
    ) -> Result<Reading<'a>, NotHeld> {
        let mut home = self.home().map_err(NotHeld::Failed)?;
        if let Some(reading) = self.read_anywhere(kept, home) {
            return Ok(reading);
        }
        // A writer is in there, mostly not for long; who waits for the turn comes in one by one.
        if spin(|| is_open(self.gate.load(Relaxed)).then_some(())).is_some() {
            if let Some(reading) = self.read_anywhere(kept, home) {
                return Ok(reading);
            }
        }
        loop {
            let held = match self.turn.lock(self.until_next_look(deadline)) {
                Ok(held) => held,
                Err(NotHeld::TimedOut) if !deadline.is_some_and(Deadline::has_passed) => {
                    if let Some(reading) = self.read_anywhere(kept, home) {
                        return Ok(reading);
                    }
                    continue;
                }
                Err(error) => return Err(error),
            };
            let reading = self.repair(held).and_then(|_| match self.claim(kept, home, held)? {
                Some(reading) => Ok(reading),
                None => self.wait_for_a_cell(held, deadline),
            });
            match reading {
                Ok(reading) => {
                    crash_point!("rwlock.read.after_turn");
                    self.open(held);
                    return Ok(reading);
                }
                Err(gone) => self.give_up(gone, held)?,
            }
            home = self.home().map_err(NotHeld::Failed)?;
        }
    }

    #[cold]
    pub(super) fn try_read_slow<'a>(&'a self, kept: Option<&Kept<'a>>) -> Result<Option<Reading<'a>>, Error> {
        let home = self.home()?;
        for _ in 0..2 {
            if let Some(reading) = self.read_anywhere(kept, home) {
                return Ok(Some(reading));
            }
            if let Some(held) = self.turn.try_lock()? {
                let reading = self.repair(held).and_then(|_| match self.claim(kept, home, held)? {
                    Some(reading) => Ok(Some(reading)),
                    None => {
                        let glance = Glance::of(self).map_err(Gone::Failed)?;
                        Ok(self.inherit(held, |token| glance.is_alive(token)))
                    }
                });
                // Also if this has failed.
                self.open(held);
                return reading.or_else(refused);
            }
            if !is_open(self.gate.load(Relaxed)) {
                break;
            }
            // Only a reader that was waiting for its turn.
        }
        Ok(None)
    }

    /// How long a reader waits for the turn before it looks at the gate again. In an asymmetric lock, whoever has the turn mostly ends the bias, and the gate is open
    /// meanwhile; and a writer that comes back for the next turn at once would be there before a reader that has just been woken.
    fn until_next_look(&self, deadline: Option<Deadline>) -> Option<Deadline> {
        if cfg!(ipc_loom) || !self.is_asymmetric() {
            return deadline;
        }
        let next = Deadline::after(NEXT_LOOK);
        deadline.map_or(next, |deadline| next.map(|next| next.min(deadline)))
    }

    /// Where this thread begins to look for a free cell.
    fn home(&self) -> Result<usize, Error> {
        if let Some(cell) = identity::current().and_then(|token| hints::get(self.address(), token)) {
            return Ok(cell);
        }
        let site = Site::of(self)?;
        let thread = hints::thread();
        // Outside any region there are threads of one process only: then each has its own line.
        let cell = site
            .place()
            .map_or(thread * SLOTS + thread / (CELLS / SLOTS) % SLOTS, |place| place * SLOTS + thread % SLOTS);
        hints::set(self.address(), site.token(), cell % CELLS);
        Ok(cell % CELLS)
    }

    /// The numbers of all cells, those in the line of `home` first.
    fn from_home(home: usize) -> impl Iterator<Item = usize> {
        (0..CELLS).map(move |i| (home / SLOTS + i / SLOTS) * SLOTS % CELLS + (home + i) % SLOTS)
    }

    /// Comes in by any free cell, or by the one that is `kept` for this, if the gate is open.
    fn read_anywhere<'a>(&'a self, kept: Option<&Kept<'a>>, home: usize) -> Option<Reading<'a>> {
        if let Some(kept) = kept.filter(|kept| kept.is_own()) {
            return self.read_unbiased(kept);
        }
        for cell in Self::from_home(home) {
            if !is_open(self.gate.load(Relaxed)) {
                return None;
            }
            // Anew each time: a signal handler may have forked.
            let token = identity::current()?;
            if self.cell(cell).load(Relaxed) == 0 {
                if let Some(reading) = self.read_by(cell, token) {
                    if cell / SLOTS == home / SLOTS {
                        // Another thread of this process likes the same cell, or this thread reads twice.
                        hints::set(self.address(), token, cell);
                    }
                    return Some(reading);
                }
            }
        }
        None
    }

    /// Comes in by any free cell, or by the one that is `kept` for this. Whoever calls this has the turn, so there is no writer, and none can come before it
    /// gives the turn up.
    fn claim<'a>(&'a self, kept: Option<&Kept<'a>>, home: usize, held: Held) -> Result<Option<Reading<'a>>, Gone> {
        Self::check(held)?;
        if let Some(kept) = kept.filter(|kept| kept.is_own()) {
            return Ok(Some(kept.enter()));
        }
        let token = held.token;
        Ok(Self::from_home(home).map(|index| self.cell(index)).find_map(|cell| {
            // Acquire and Release as in `read_by`.
            cell.compare_exchange(0, token.word(), AcqRel, Relaxed).ok()?;
            Some(Reading { cell, token, then: 0 })
        }))
    }

    /// Comes in by a free cell or that of a dead. The caller has the turn.
    fn inherit(&self, held: Held, is_alive: impl Fn(Token) -> bool) -> Option<Reading<'_>> {
        (0..CELLS).map(|index| self.cell(index)).find_map(|cell| {
            let word = cell.load(Acquire);
            if Token::from_word(word).is_some_and(&is_alive) || !held.is_own() {
                return None;
            }
            let token = held.token;
            cell.compare_exchange(word, token.word(), AcqRel, Relaxed).ok()?;
            crash_point!("rwlock.read.after_inherit");
            Some(Reading { cell, token, then: 0 })
        })
    }

    /// Comes in as soon as one of all the others has left. The gate is shut meanwhile, or they would leave without a word.
    #[cold]
    fn wait_for_a_cell(&self, held: Held, deadline: Option<Deadline>) -> Result<Reading<'_>, Gone> {
        self.wait(held, deadline, |site| self.inherit(held, |token| site.is_alive(token)))
    }

    // Writers.

    #[inline]
    pub(super) fn write(&self, deadline: Option<Deadline>) -> Result<Writing, NotHeld> {
        let Some(held) = self.turn.lock_if_free() else {
            return taken_apart(self.write_slow(None, deadline));
        };
        if self.gate.load(Relaxed) == OPEN && !self.is_asymmetric() && self.close(held).is_ok() {
            if self.is_empty() && self.begin(held).is_ok() {
                return Ok(Writing { token: held.token, after_death: false });
            }
            return taken_apart(self.write_after_readers(held, deadline));
        }
        taken_apart(self.write_slow(Some(held), deadline))
    }

    /// The same for somebody who has the turn and has shut the gate.
    #[cold]
    fn write_after_readers(&self, held: Held, deadline: Option<Deadline>) -> Result<Writing, NotHeld> {
        match self.wait_for_readers(held, deadline).and_then(|()| self.begin(held)) {
            Ok(()) => Ok(Writing { token: held.token, after_death: false }),
            Err(gone) => {
                self.give_up(gone, held)?;
                self.write_slow(None, deadline)
            }
        }
    }

    /// The same with all that may be in the way, for somebody who may have the turn already.
    #[cold]
    fn write_slow(&self, mut turn: Option<Held>, deadline: Option<Deadline>) -> Result<Writing, NotHeld> {
        loop {
            let held = match turn.take() {
                Some(held) => held,
                None => self.turn.lock(deadline)?,
            };
            let alone = self.repair(held).and_then(|after_death| {
                self.shut(held)?;
                if !self.is_empty() {
                    self.wait_for_readers(held, deadline)?;
                }
                self.begin(held)?;
                Ok(Writing { token: held.token, after_death })
            });
            match alone {
                Ok(writing) => return Ok(writing),
                Err(gone) => self.give_up(gone, held)?,
            }
        }
    }

    pub(super) fn try_write(&self) -> Result<Option<Writing>, Error> {
        let Some(held) = self.turn.try_lock()? else {
            return Ok(None);
        };
        let alone = self.repair(held).and_then(|after_death| {
            self.shut(held)?;
            if !self.is_empty() {
                let glance = Glance::of(self).map_err(Gone::Failed)?;
                if !self.has_left(|token| glance.is_alive(token)) {
                    return Ok(None);
                }
            }
            self.begin(held)?;
            Ok(Some(Writing { token: held.token, after_death }))
        });
        if !matches!(alone, Ok(Some(_))) {
            self.open(held);
        }
        alone.or_else(refused)
    }

    /// Goes out.
    #[inline]
    pub(super) fn unwrite(&self, token: Token) {
        crash_point!("rwlock.write.before_open");
        self.open(held(token));
    }

    /// Makes the writer a reader, with no other writer in between.
    pub(super) fn downgrade(&self, token: Token) -> Reading<'_> {
        crash_point!("rwlock.downgrade.before_claim");
        if identity::is_own(token) {
            // It was 0 when this writer came in, and only a writer that is in takes it. The next writer sees it by the turn.
            self.downgraded.store(token.word(), Relaxed);
            crash_point!("rwlock.downgrade.after_claim");
            self.open(held(token));
        }
        Reading { cell: &self.downgraded, token, then: 0 }
    }

    /// Shuts the gate, for somebody who has the turn.
    #[inline]
    fn shut(&self, held: Held) -> Result<(), Gone> {
        if self.is_asymmetric() {
            self.end_bias(held)?;
        }
        self.close(held)
    }

    /// Shuts a gate that is not BIASED.
    #[inline]
    fn close(&self, held: Held) -> Result<(), Gone> {
        crash_point!("rwlock.write.before_shut");
        // Of an asymmetric lock, a signal has had the time of the barrier to come.
        Self::check(held)?;
        // SeqCst as in `read_by`.
        self.gate.swap(CLOSING, SeqCst);
        crash_point!("rwlock.write.after_shut");
        store_load_barrier();
        Ok(())
    }

    /// Has handles come in as all others do: whichever came in by a plain store is seen from here on, and none does any more until the gate is BIASED again. They need not wait meanwhile.
    ///
    /// What another one has begun of this is not built upon: it may have died in the middle.
    #[cold]
    fn end_bias(&self, held: Held) -> Result<(), Gone> {
        crash_point!("rwlock.write.before_bias");
        Self::check(held)?;
        // Before the barrier, for whoever goes through that.
        self.gate.swap(OPEN, SeqCst);
        crash_point!("rwlock.write.after_bias");
        // Pairs with the light barrier in `read_kept`.
        asymmetric::heavy().map_err(Gone::Failed)?;
        crash_point!("rwlock.write.after_barrier");
        Ok(())
    }

    /// From here on, the data may be half-changed.
    #[inline]
    fn begin(&self, held: Held) -> Result<(), Gone> {
        Self::check(held)?;
        self.gate.store(WRITING, Relaxed);
        // A death after the first change of the data must be one after this store. For the processor it is: at whatever instruction it
        // is stopped, those before are done. The compiler must not change their order.
        compiler_fence(SeqCst);
        crash_point!("rwlock.write.after_begin");
        Ok(())
    }

    /// Opens the gate and gives the turn up. The data are whole. In a process that did not take the turn this does nothing.
    #[inline]
    fn open(&self, held: Held) {
        if !held.is_own() {
            return;
        }
        // Release pairs with the Acquire in `read_by` and `read_kept`.
        self.gate.store(self.opened(), Release);
        crash_point!("rwlock.open.before_unlock");
        self.turn.unlock(held);
    }

    /// Whether nobody reads, and no handle keeps a cell. The gate is shut.
    fn is_empty(&self) -> bool {
        // SeqCst as in `read_by`. Acquire as in `has_left`.
        let or = |all: u64, cell: &AtomicU64| all | cell.load(SeqCst);
        // Four at a time: in a single chain each would wait for the one before.
        let fours = self.cells.chunks_exact(4);
        let rest = fours.remainder().iter().chain([&self.downgraded]).fold(0, or);
        let each = fours.fold([0; 4], |all, four| core::array::from_fn(|i| or(all[i], &four[i])));
        each.iter().fold(rest, |all, one| all | one) == 0
    }

    /// Whether nobody reads. The gate is shut.
    fn is_idle(&self) -> bool {
        // As in `is_empty`.
        self.cells().map(|cell| cell.load(SeqCst)).all(|word| word == 0 || word & IDLE != 0)
    }

    /// Whether nobody alive reads; the dead are forgotten. The gate is shut.
    fn has_left(&self, is_alive: impl Fn(Token) -> bool) -> bool {
        self.cells().all(|cell| {
            // SeqCst as in `read_by`. Acquire pairs with the Release in `leave`, and with that in `read_by`.
            let word = cell.load(SeqCst);
            if word == 0 || word & IDLE != 0 {
                return true;
            }
            if Token::from_word(word).is_some_and(&is_alive) {
                return false;
            }
            // Acquire and Release: what was read by others through this cell was before, too. Acquire where it fails: somebody may have taken the cell for a handle, which does
            // not read.
            let found = cell.compare_exchange(word, 0, AcqRel, Acquire);
            crash_point!("rwlock.write.after_forget");
            found.map_or_else(|word| word == 0 || word & IDLE != 0, |_| true)
        })
    }

    #[cold]
    fn wait_for_readers(&self, held: Held, deadline: Option<Deadline>) -> Result<(), Gone> {
        match spin(|| self.is_idle().then_some(())) {
            Some(()) => Ok(()),
            None => self.wait(held, deadline, |site| self.has_left(|token| site.is_alive(token)).then_some(())),
        }
    }

    // Whoever has the turn.

    /// Refuses to go on in a child that a signal handler has forked since the turn was taken: that is its parent's, and so is all that is written with
    /// it. Asked before each such store.
    #[inline]
    fn check(held: Held) -> Result<(), Gone> {
        if held.is_own() { Ok(()) } else { Err(Gone::Forked) }
    }

    /// Makes good what a dead has left, after the turn was taken; says whether it was a writer that was in. Then the gate is open.
    #[inline]
    fn repair(&self, held: Held) -> Result<bool, Gone> {
        // The turn orders it.
        match self.gate.load(Relaxed) {
            OPEN | BIASED => Ok(false),
            found => self.repair_after(found, held),
        }
    }

    #[cold]
    fn repair_after(&self, found: u32, held: Held) -> Result<bool, Gone> {
        let was_writing = !matches!(found, CLOSING | WAITING);
        if was_writing {
            crash_point!("rwlock.repair.before_poison");
            Self::check(held)?;
            self.poison.note_death();
        }
        crash_point!("rwlock.repair.before_open");
        Self::check(held)?;
        // Release pairs with the Acquire in `read_by`: whoever comes in sees the poison.
        self.gate.store(OPEN, Release);
        Ok(was_writing)
    }

    /// Shuts the gate and sleeps until `found` gives something, which may change by readers that leave or die. The caller has the turn.
    #[cold]
    fn wait<R>(&self, held: Held, deadline: Option<Deadline>, found: impl Fn(&Site) -> Option<R>) -> Result<R, Gone> {
        let site = Site::of(self).map_err(Gone::Failed)?;
        Self::check(held)?;
        // SeqCst: from here on, a reader that leaves either is seen to have left or sees that it must tell; or it does so within the
        // time of settling.
        self.gate.swap(WAITING, SeqCst);
        crash_point!("rwlock.wait.after_waiting");
        store_load_barrier();
        let settled = settling();
        let mut is_over = false;
        loop {
            // All three before the look, in any order: what happens after it ends the wait.
            let epoch = site.epoch();
            // Acquire pairs with the Release in `tell_left`.
            let left = self.left.load(Acquire);
            let unsettled = settled.filter(|settled| !settled.has_passed());
            if let Some(found) = found(&site) {
                return Ok(found);
            }
            if is_over {
                return Err(Gone::TimedOut);
            }
            site.wait(&self.left, left, epoch, nap(unsettled, deadline));
            crash_point!("rwlock.wait.after_wait");
            Self::check(held)?;
            // Then one last look.
            is_over = deadline.is_some_and(Deadline::has_passed);
        }
    }

    /// Gives the turn up without having got anything; `Ok` if it was not ours.
    #[cold]
    fn give_up(&self, gone: Gone, held: Held) -> Result<(), NotHeld> {
        let error = match gone {
            Gone::Forked => return Ok(()),
            Gone::TimedOut => NotHeld::TimedOut,
            Gone::Failed(error) => NotHeld::Failed(error),
        };
        self.open(held);
        Err(error)
    }

    #[inline]
    fn address(&self) -> usize {
        core::ptr::from_ref(self).addr()
    }
}

/// The turn, as a writer that is in has it.
#[inline]
fn held(token: Token) -> Held {
    Held { token, after_death: false }
}

/// What one gets who does not wait.
fn refused<T>(gone: Gone) -> Result<Option<T>, Error> {
    match gone {
        Gone::Failed(error) => Err(error),
        Gone::TimedOut | Gone::Forked => Ok(None),
    }
}
