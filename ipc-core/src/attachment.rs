//! One region as this process has it: the mapping, and the participation that goes with it.

use core::sync::atomic::Ordering::Relaxed;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use core::time::Duration;
use std::ffi::CString;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::config;
use crate::crash_point;
use crate::deadline::Deadline;
use crate::error::Error;
use crate::identity::{self, Token};
use crate::keeper::Seat;
use crate::mapped::Mapped;
use crate::participants::{Card, NAME_LEN, News, Participants, UNWATCHED};
use crate::proof;
use crate::registry::{self, Registry};
use crate::sys::file::{self, Lock};
use crate::sys::map::Mapping;
use crate::sys::process;
use crate::wait::Bell;

/// How long a look at all participants may take where they are not trusted; the next one goes on from there.
const LONGEST_LOOK: Duration = Duration::from_millis(2);

/// The longest that a tick of the kernel's clock takes: 100 of them make a second, or more.
const TICK: Duration = Duration::from_millis(10);

/// What makes this process a participant.
#[derive(Debug)]
pub(crate) struct Participation {
    token: Token,
    index: usize,
    /// Keeps the kernel's lock on the entry.
    anchor: Mapping,
    seat: Option<Seat>,
}

/// How a process takes part in a region.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    /// The name goes with the last handle.
    pub(crate) unlink_on_drop: bool,
    /// A thread may be started that hears and tells of deaths.
    pub(crate) keeper: bool,
    /// Whether the others in it keep to the rules.
    pub(crate) trusted: bool,
}

/// A mapped region of which this process is a participant. There is one per region and process, however often it is opened.
#[derive(Debug)]
pub(crate) struct Attachment {
    region: Arc<Mapped>,
    /// Locked only under the registry's lock. A forked child finds its parent's here until it attaches itself.
    participation: Mutex<Option<Participation>>,
    /// The entry of this process and whether it has a keeper, for those who wait; `usize::MAX`: none.
    index: AtomicUsize,
    has_keeper: AtomicBool,
    /// Whether there may be one.
    wants_keeper: bool,
    /// When a thread of this process that waited last looked for deaths.
    last_look: LastLook,
    /// At whom it is to begin next time, if it could not look at all of them.
    next_look: AtomicUsize,
    /// The creator's token if the name is to go with the last handle.
    unlink: Option<Token>,
}

impl Attachment {
    /// The region, not attached to yet; `token` is that of this process.
    pub(crate) fn new(region: Mapped, token: Token, terms: Terms) -> Self {
        Self {
            region: Arc::new(region),
            participation: Mutex::new(None),
            index: AtomicUsize::new(usize::MAX),
            has_keeper: AtomicBool::new(false),
            wants_keeper: terms.keeper,
            last_look: LastLook::now(),
            next_look: AtomicUsize::new(0),
            unlink: terms.unlink_on_drop.then_some(token),
        }
    }

    /// The region again in which the process has [stayed](Registry::retain).
    pub(crate) fn resume(region: Arc<Mapped>, mine: Participation) -> Self {
        if let Some(seat) = &mine.seat {
            seat.open(&region, mine.index);
        }
        Self {
            region,
            index: AtomicUsize::new(mine.index),
            has_keeper: AtomicBool::new(mine.seat.is_some()),
            wants_keeper: mine.seat.is_some(),
            last_look: LastLook::now(),
            next_look: AtomicUsize::new(0),
            participation: Mutex::new(Some(mine)),
            unlink: None,
        }
    }

    pub(crate) fn region(&self) -> &Arc<Mapped> {
        &self.region
    }

    /// Whether the others in it are trusted to keep to the rules.
    pub(crate) fn is_trusted(&self) -> bool {
        self.region.is_trusted()
    }

    #[inline]
    pub(crate) fn news(&self) -> &News {
        &self.region.fixed().news
    }

    pub(crate) fn participants(&self) -> Participants<'_> {
        self.region.participants()
    }

    /// Whether news of deaths reaches this process by itself.
    pub(crate) fn has_keeper(&self) -> bool {
        self.has_keeper.load(Relaxed)
    }

    /// Lets the keeper ring `bell` after each death that is told of from now on; says whether there is one.
    pub(crate) fn ring_at_deaths(&self, bell: Weak<dyn Bell>) -> bool {
        let _registry = registry::lock();
        let participation = self.participation();
        let seat = participation.as_ref().and_then(|mine| mine.seat.as_ref());
        seat.map(|seat| seat.ring_at_deaths(bell)).is_some()
    }

    /// The entry of this process.
    pub(crate) fn place(&self) -> Option<usize> {
        Some(self.index.load(Relaxed)).filter(|index| *index != usize::MAX)
    }

    /// Whether nobody in this process has looked for deaths for `time`. Of those who ask at once, one is told so: it is to
    /// [look](Self::sweep).
    pub(crate) fn is_look_due(&self, time: Duration) -> bool {
        self.last_look.is_due(time)
    }

    /// Looks for deaths that nobody has told of; says whether there were any.
    pub(crate) fn sweep(&self) -> bool {
        self.last_look.note();
        let is_dead = |index| proof::is_dead(&self.region, index);
        if self.is_trusted() {
            return self.participants().sweep(self.place(), is_dead);
        }
        // How long each question takes, hostile peers have a say in: by locks on the file, and by those who sleep on what the dead are told by.
        let until = Deadline::after(LONGEST_LOOK);
        let count = self.participants().tokens.len();
        let some = round_about(count, &self.next_look, || until.is_some_and(Deadline::has_passed));
        self.participants().sweep_some(some.filter(|index| Some(*index) != self.place()), is_dead)
    }

    /// Makes this process a participant under `token`, if it is not one yet. What a parent process left here is forgotten.
    pub(crate) fn join(&self, registry: &mut Registry, token: Token) -> Result<(), Error> {
        let mut participation = self.participation();
        if let Some(current) = participation.as_ref() {
            if current.token.is_same_process(token) {
                return Ok(());
            }
        }
        if let Some(of_parent) = participation.take() {
            self.index.store(usize::MAX, Relaxed);
            self.has_keeper.store(false, Relaxed);
            of_parent.forget();
        }
        let participants = self.participants();
        if participants.is_known(token) {
            // Two processes have drawn the same 36 random bits, or somebody scribbles.
            return Err(Error::Corrupted { what: "participant with the token of this process", found: token.word() });
        }
        let claim = self
            .region
            .claim()?
            .ok_or(Error::TooManyParticipants { capacity: self.region.layout().participants as u32 })?;
        let index = claim.index;
        crash_point!("attach.after_claim");
        let seat = if config::get().keeper && self.wants_keeper {
            // Without a keeper the process still takes part: others look for its death, and it for theirs.
            Seat::take(registry.keepers(), &self.region, &claim).ok()
        } else {
            None
        };
        crash_point!("attach.after_seat");
        participants.attach(
            index,
            &Card {
                token,
                liveness: seat.as_ref().map_or(UNWATCHED, Seat::liveness),
                pid: std::process::id(),
                pid_namespace: proof::own_namespace(),
                name: name(),
            },
        );
        crash_point!("attach.after_attach");
        if let Some(seat) = &seat {
            seat.open(&self.region, index);
        }
        self.index.store(index, Relaxed);
        self.has_keeper.store(seat.is_some(), Relaxed);
        *participation = Some(Participation { token, index, anchor: claim.anchor, seat });
        Ok(())
    }

    /// Gives the participation up, if it is one of this very process; what a parent process left here is forgotten.
    fn resign(&self, registry: &mut Registry) -> Option<Participation> {
        let mine = self.participation().take()?;
        let Some(own) = identity::drawn().filter(|own| own.is_same_process(mine.token)) else {
            mine.forget();
            return None;
        };
        if registry.raise_generation(own) {
            return Some(mine);
        }
        // No token is left that would be new to the region: the process stays in it.
        registry.retain(Arc::clone(&self.region), mine);
        None
    }

    fn leave(&self, mine: Participation) {
        // A signal handler may fork meanwhile; in the child, this is its parent's business.
        let is_parents = || !identity::drawn().is_some_and(|own| own.is_same_process(mine.token));
        let is_whole = self.region.check_size().is_ok();
        if let Some(seat) = &mine.seat {
            seat.close(is_parents);
        }
        if is_parents() {
            mine.forget();
            return;
        }
        crash_point!("detach.after_close");
        if is_whole {
            self.participants().leave(mine.index, mine.token);
        }
        crash_point!("detach.after_leave");
        if let Some(seat) = mine.seat {
            // A window that cannot be cleared keeps its slot: it still shows the region's page.
            let _ = seat.leave();
        }
        crash_point!("detach.after_seat");
        drop(mine.anchor);
    }

    fn participation(&self) -> MutexGuard<'_, Option<Participation>> {
        self.participation.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes the name, if it still is that of this region.
    fn unlink(&self, path: &CString) -> Result<(), Error> {
        let file = self.region.reopen()?;
        registry::with_name_locked(&file, Lock::Exclusive, |_| {
            if file::status_at(path)?.id == self.region.id() {
                file::unlink(path)?;
            }
            Ok(())
        })?
    }
}

/// The numbers below `count`, from `next` on and round about, until it is over; at least one. `next` is where to go on.
fn round_about(count: usize, next: &AtomicUsize, is_over: impl Fn() -> bool) -> impl Iterator<Item = usize> {
    let start = next.load(Relaxed);
    (0..count).map(move |step| (start + step) % count).take_while(move |index| {
        let has_begun = *index != start % count;
        next.store(*index, Relaxed);
        !(has_begun && is_over())
    })
}

/// A moment, in nanoseconds of the monotonic clock.
#[derive(Debug)]
pub(crate) struct LastLook(AtomicU64);

impl LastLook {
    fn now() -> Self {
        Self(AtomicU64::new(Deadline::now().as_nanos()))
    }

    /// It is now.
    pub(crate) fn note(&self) {
        self.0.store(Deadline::now().as_nanos(), Relaxed);
    }

    /// Whether it was longer ago than `time`; then it is now.
    pub(crate) fn is_due(&self, time: Duration) -> bool {
        let last = self.0.load(Relaxed);
        let is_past = |now: Deadline| now.as_nanos().saturating_sub(last) >= time.as_nanos() as u64;
        // The clock takes several times as long as all the rest of a try that fails, so first the one that goes by ticks.
        if Deadline::last_tick().plus(TICK).is_some_and(|now| !is_past(now)) {
            return false;
        }
        let now = Deadline::now();
        let is_due = is_past(now);
        // One thread is enough.
        is_due && self.0.compare_exchange(last, now.as_nanos(), Relaxed, Relaxed).is_ok()
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        // The registry is not locked while anybody is waited for. Until the last line, those who open the region again wait.
        let mine = self.resign(&mut registry::lock());
        if let Some(mine) = mine {
            self.leave(mine);
        }
        if let (Some(path), Some(creator)) = (self.region.path(), self.unlink) {
            if identity::drawn().is_some_and(|own| own.is_same_process(creator)) {
                // Somebody else may have removed it, or hold it; there is nobody to tell.
                let _ = self.unlink(path);
            }
        }
        registry::lock().remove(self);
    }
}

impl Participation {
    /// In a forked child: neither the claim nor the keeper was inherited.
    pub(crate) fn forget(self) {
        self.anchor.forget();
        if let Some(seat) = self.seat {
            seat.forget();
        }
    }
}

/// The name of this process, cut to what an entry holds.
fn name() -> [u8; NAME_LEN] {
    let name = process::name();
    let mut bytes = [0; NAME_LEN];
    let mut len = name.len().min(NAME_LEN);
    while !name.is_char_boundary(len) {
        len -= 1;
    }
    bytes[..len].copy_from_slice(&name.as_bytes()[..len]);
    bytes
}

#[cfg(test)]
mod tests {
    use core::cell::Cell;

    use super::*;

    /// Which of `count` come next if there is time for so many.
    fn looked_at(count: usize, next: &AtomicUsize, time: usize) -> Vec<usize> {
        let asked = Cell::new(1);
        round_about(count, next, || asked.replace(asked.get() + 1) >= time).collect()
    }

    #[test]
    fn who_was_not_looked_at_for_want_of_time_comes_first_next_time() {
        let next = AtomicUsize::new(0);

        assert_eq!(looked_at(5, &next, 3), [0, 1, 2]);
        assert_eq!(looked_at(5, &next, 3), [3, 4, 0]);
        assert_eq!(looked_at(5, &next, 1), [1]);
        assert_eq!(looked_at(5, &next, 9), [2, 3, 4, 0, 1]);
        assert_eq!(looked_at(1, &next, 9), [0]);
    }
}
