//! A barrier: a fixed number of parties wait for one another, round after round.
//!
//! Parties are not counted but known: each takes a seat first. So one that dies is missed at once, and the others learn that nobody
//! will come instead of waiting for ever. What a broken round has left of the data is the business of the parties; who is to come
//! in place of the dead, too.
//!
//! # Shared layout
//!
//! ```text
//!       0 +----------------------------------------------------------+
//!         | state: u64                                               |
//!         |  63                               2          1        0  |
//!         | +----------------------------------+---------+--------+  |
//!         | | turn                             | WAITING | BROKEN |  |
//!         | +----------------------------------+---------+--------+  |
//!       8 | parties: u32, reserved: u32                              |
//!      16 | reserved, up to the end of the line                      |
//!      64 +----------------------------------------------------------+
//!         | 64 seats: | token: u64 | arrived: u64 |                  |
//!    1088 +----------------------------------------------------------+
//! ```
//!
//! Of the seats, the first `parties` are in use. `token` is 0 or that of the process that has taken the seat; `arrived` names the
//! turn in which whoever sits, or sat, there has arrived last, as `turn * 2 + 1`, and 0 is none. How many have arrived is
//! nowhere kept: it is how many seats name the turn of the state. A sleeper's futex compares the low half of the state: both flags and the
//! low 30 bits of the turn.
//!
//! # States
//!
//! The turn *t* is sound or broken. It ends by a completion, which leads to *t + 1*, or by a reset, which leads to *t + 2*.
//!
//! | state | the last party arrives | time-out, `abort`, a party found dead | `reset` |
//! |---|---|---|---|
//! | *t*, sound | CAS -> *t + 1*; whoever does it leads; wake all | CAS -> *t*, broken; wake all | breaks, frees the seats of the dead, CAS -> *t + 2* |
//! | *t*, broken | `Broken` | `Broken` | frees the seats of the dead, CAS -> *t + 2* |
//!
//! All ends of a turn are exchanges of this one word, so of a completion, a time-out and a death only one has happened, for all parties
//! alike. WAITING is set by a sleeper before it sleeps and taken away by whoever ends or breaks the turn and then wakes all.
//!
//! **Nobody is the last without knowing it.** A party first writes its own `arrived` and then reads those of all others. Of several that
//! arrive at once, the one that is last in the total order of SeqCst operations sees all. Less would let each of two miss the other.
//!
//! **How a party learns what became of its turn.** It has arrived in turn *t*, and finds turn *t'*. If *t' - t* is odd, *t* was completed.
//! Proof: turns grow by 1 with a completion and by 2 with a reset. A completion of any turn *u* needs the party's own seat to name *u*.
//! While it waits for *t*, its seat names *t* and nothing else: nobody writes it but the party, and nobody takes its seat, for only
//! the seats of the dead are freed. So there was at most one completion, that of *t*; and *t* ends once. If it ended by a
//! completion, the difference is 1 plus an even number, and otherwise even.
//!
//! **No seat arrives on behalf of its predecessor.** A seat that names turn *u* is given up only when *u* will not be completed any more. A
//! party that gives it up has waited for the end of *u*, or *u* is broken, and a broken turn is never completed. One who frees the
//! seat of a dead party leaves it alone as long as *u* is the present turn and sound; turns do not come back, so what it has
//! found once stays true. It cannot see an older turn than the dead did: its death tells everything that it has seen.
//!
//! # A kill at each point
//!
//! * in `join`, before the exchange: nothing; after it: a dead party;
//! * a dead party, wherever it was: the others find its token dead, and break the turn. A party that had arrived before it died
//!   counts as arrived only if its round is completed before the news is there;
//! * after the exchange that completes a turn, or breaks it, and before the wake-up: the death wakes all, and they see the word;
//! * in `reset`: the turn is broken, and some seats of the dead are free: the next `reset` does the rest;
//! * when leaving: the seat is that of a dead party, or free.
//!
//! # Garbage
//!
//! Any `state` is one of those above, `parties` is cut to what there is room for, a token that is nobody's is that of a dead party, and a
//! seat without a token that names some turn is free. A hostile peer can let rounds complete or break at will; nothing else.

use core::fmt;
use core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};
use core::time::Duration;
use std::time::Instant;

use shmkit_core::identity::Token;
use shmkit_core::shim::{AtomicU32, AtomicU64, store_load_barrier};
use shmkit_core::spin::spin;
use shmkit_core::wait::{Epoch, Site, Woken, take_part, wake_all};
use shmkit_core::{Deadline, Described, Error, Fingerprint, ShmSafe, crash_point};

/// The turn will not be completed.
const BROKEN: u64 = 1;
/// Somebody may be asleep.
const WAITING: u64 = 2;
const TURN_SHIFT: u32 = 2;

/// How many seats there are. In a model each costs time, used or not.
const SEATS: usize = if cfg!(ipc_loom) { 3 } else { 64 };

/// Version of the layout above.
const LAYOUT: u32 = 1;

const fn turn_of(state: u64) -> u64 {
    state >> TURN_SHIFT
}

/// The state of a sound turn that nobody waits in, `steps` after `turn`.
const fn later(turn: u64, steps: u64) -> u64 {
    turn.wrapping_add(steps) << TURN_SHIFT
}

/// What a seat says of a party that has arrived in `turn`.
const fn arrival(turn: u64) -> u64 {
    turn << 1 | 1
}

/// A place for one party.
#[repr(C)]
struct Seat {
    /// 0, or the token of whoever has taken it. 0 -> token by `join`; token -> 0 by its owner, or if that is dead, by `reset`.
    token: AtomicU64,
    /// 0, or the turn in which its owner has arrived last. Written by the owner only.
    arrived: AtomicU64,
}

/// A fixed number of parties that wait for one another.
///
/// Each party takes a seat with [`join`](Self::join) and calls [`Party::wait`], which returns when all have done so: one round after
/// the other. Whatever any of them wrote before its `wait` is visible to all of them afterwards.
///
/// A round can fail: when a party dies, runs out of time, panics, or somebody calls [`abort`](Self::abort), the barrier is **broken** for all
/// parties, also for those who come later, until [`reset`](Self::reset). For each round, all parties that wait learn the same.
///
/// # Examples
///
/// ```
/// use shmkit_core::Region;
/// use shmkit_sync::Barrier;
///
/// let region = Region::anonymous(8192)?;
/// let barrier = region.insert("barrier", Barrier::new(3)?)?;
///
/// let leaders = std::thread::scope(|scope| {
///     let parties = [0; 3].map(|_| {
///         scope.spawn(|| {
///             let mut party = barrier.join()?;
///             // ... the first half of the work, then, when all have done theirs, the second.
///             party.wait().map(|round| round.is_leader())
///         })
///     });
///     parties.map(|party| party.join().expect("no panic"))
/// });
/// assert_eq!(leaders.into_iter().filter(|leader| matches!(leader, Ok(true))).count(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[repr(C, align(64))]
pub struct Barrier {
    /// See the module.
    state: AtomicU64,
    /// 1 to 64. Written at creation.
    parties: AtomicU32,
    reserved: [AtomicU32; 13],
    /// One per party; those that are more than `parties` stay empty.
    seats: [Seat; SEATS],
}

#[cfg(not(ipc_loom))]
const _: () = {
    assert!(size_of::<Barrier>() == 1088 && align_of::<Barrier>() == 64);
    assert!(core::mem::offset_of!(Barrier, state) == 0);
    assert!(core::mem::offset_of!(Barrier, parties) == 8);
    assert!(core::mem::offset_of!(Barrier, seats) == 64);
    assert!(size_of::<Seat>() == 16 && core::mem::offset_of!(Seat, arrived) == 8);
};

// SAFETY: name, layout version, size and alignment are all that the layout depends on.
unsafe impl Described for Barrier {
    const FINGERPRINT: Fingerprint = Fingerprint::new("Barrier", LAYOUT, size_of::<Self>(), align_of::<Self>());

    fn type_name(f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Barrier")
    }
}

// SAFETY: `repr(C)`, nothing but atomics, of which every value is valid; no drop glue.
unsafe impl ShmSafe for Barrier {}

impl Barrier {
    /// The most parties that a barrier can have.
    pub const MAX_PARTIES: u32 = SEATS as u32;

    /// A barrier for `parties` parties, of which none has joined.
    ///
    /// # Errors
    ///
    /// [`BarrierError::InvalidParties`] if that is 0 or more than [`MAX_PARTIES`](Self::MAX_PARTIES).
    pub fn new(parties: u32) -> Result<Self, BarrierError> {
        if parties == 0 || parties > Self::MAX_PARTIES {
            return Err(BarrierError::InvalidParties { asked: parties });
        }
        Ok(Self {
            state: AtomicU64::new(later(0, 0)),
            parties: AtomicU32::new(parties),
            reserved: core::array::from_fn(|_| AtomicU32::new(0)),
            seats: core::array::from_fn(|_| Seat { token: AtomicU64::new(0), arrived: AtomicU64::new(0) }),
        })
    }

    /// Takes a seat. A process can take several, each for one of its threads.
    ///
    /// On a broken barrier that succeeds, too; the party then finds it broken until it is reset.
    ///
    /// # Crash safety
    ///
    /// A process that is killed after it has joined breaks the barrier.
    ///
    /// # Errors
    ///
    /// [`BarrierError::Full`] if all seats are taken; [`BarrierError::Broken`] if they are, but one of them by a dead party, which
    /// [`reset`](Self::reset) removes; [`BarrierError::Failed`].
    pub fn join(&self) -> Result<Party<'_>, BarrierError> {
        let site = Site::of(self)?;
        let mine = site.token().word();
        for (index, seat) in self.seats().iter().enumerate() {
            // Acquire pairs with the Release of whoever has freed the seat: the turn that its predecessor arrived in is over for us,
            // too. Release pairs with the Acquire in `has_dead`: whoever finds our token finds it among the participants.
            if seat.token.compare_exchange(0, mine, AcqRel, Relaxed).is_ok() {
                crash_point!("barrier.join.after_cas");
                return Ok(Party {
                    barrier: self,
                    seat: index,
                    site,
                    sound_at: None,
                    was_panicking: std::thread::panicking(),
                });
            }
        }
        site.look();
        Err(if self.has_dead(|token| !site.is_alive(token)) { BarrierError::Broken } else { BarrierError::Full })
    }

    /// Breaks the barrier: all who wait, and all who come later, get [`BarrierError::Broken`] until it is [`reset`](Self::reset).
    ///
    /// Whoever calls it need not be a party.
    pub fn abort(&self) {
        while !self.break_turn(turn_of(self.state.load(Relaxed))) {
            if self.state.load(Relaxed) & BROKEN != 0 {
                return;
            }
        }
    }

    /// Repairs the barrier: removes the dead parties, so that others can join in their place, and begins a new round.
    ///
    /// Parties that wait meanwhile get [`BarrierError::Broken`]; all who live keep their seats. It is for one of them to call, or for
    /// somebody else, once. When several do so at once, parties that have gone on after the first may be broken off by the next. A death
    /// that nobody has heard of yet is not repaired, and breaks the barrier again.
    ///
    /// # Crash safety
    ///
    /// The process may be killed at any point: the barrier is broken until the next reset.
    ///
    /// # Errors
    ///
    /// [`BarrierError::Failed`].
    pub fn reset(&self) -> Result<(), BarrierError> {
        let site = Site::of(self)?;
        // Nothing may be completed while seats change hands.
        self.abort();
        crash_point!("barrier.reset.after_break");
        site.look();
        let word = self.state.load(Acquire);
        for seat in &self.seats {
            // Acquire pairs with the Release in `join`: whoever sits there is among the participants.
            let token = seat.token.load(Acquire);
            if token == 0 || Token::from_word(token).is_some_and(|token| site.is_alive(token)) {
                continue;
            }
            // All that the dead have done is visible. One that has arrived in a sound turn breaks that, and is not ours to remove:
            // another reset has been here before.
            let arrived = seat.arrived.load(Relaxed);
            let now = self.state.load(Acquire);
            if now & BROKEN != 0 || arrived != arrival(turn_of(now)) {
                // Release pairs with the Acquire in `join`. If it fails, somebody else has freed the seat.
                let _ = seat.token.compare_exchange(token, 0, Release, Relaxed);
                crash_point!("barrier.reset.after_free");
            }
        }
        // If it fails, another reset has ended this turn after this one began. Release pairs with the Acquire of those who
        // go on in the new turn.
        let _ = self.state.compare_exchange(word | BROKEN, later(turn_of(word), 2), Release, Relaxed);
        crash_point!("barrier.reset.before_wake");
        // Those whom somebody was about to wake, and has not yet, need not wait for that.
        wake_all(&self.state);
        Ok(())
    }

    /// Whether the barrier is broken, or a dead party will break it as soon as somebody waits. May be outdated when it returns.
    pub fn is_broken(&self) -> bool {
        self.state.load(Acquire) & BROKEN != 0
            || Site::of(self).is_ok_and(|site| {
                site.look();
                self.has_dead(|token| !site.is_alive(token))
            })
    }

    /// How many parties are waiting at present; 0 if the barrier is broken. May be outdated when it returns.
    pub fn waiting(&self) -> u32 {
        let state = self.state.load(Acquire);
        if state & BROKEN != 0 {
            return 0;
        }
        let is_here = |seat: &&Seat| seat.arrived.load(Relaxed) == arrival(turn_of(state));
        self.seats().iter().filter(is_here).count() as u32
    }

    /// How many parties the barrier is for.
    pub fn parties(&self) -> u32 {
        self.seats().len() as u32
    }

    /// The seats in use: `parties`, but not more than there are, and not none.
    #[inline]
    fn seats(&self) -> &[Seat] {
        let parties = self.parties.load(Relaxed) as usize;
        &self.seats[..parties.clamp(1, SEATS)]
    }

    /// Whether all parties have arrived in `turn`.
    #[inline]
    fn all_arrived(&self, turn: u64) -> bool {
        // SeqCst and the barrier before it: see the module. As Acquire it pairs with the arrival of each.
        self.seats().iter().all(|seat| seat.arrived.load(SeqCst) == arrival(turn))
    }

    /// Whether a seat is that of a dead party. Values that are no token are nobody's.
    fn has_dead(&self, is_dead: impl Fn(Token) -> bool) -> bool {
        self.seats().iter().any(|seat| {
            // Acquire pairs with the Release in `join`.
            let token = seat.token.load(Acquire);
            token != 0 && Token::from_word(token).is_none_or(&is_dead)
        })
    }

    /// Completes `turn`, in which all have arrived. `false` if somebody else has ended or broken it.
    #[inline]
    fn complete(&self, turn: u64) -> bool {
        // At most two other states: with WAITING, and broken.
        let mut state = self.state.load(Relaxed);
        while turn_of(state) == turn && state & BROKEN == 0 {
            // Release pairs with the Acquire of those who wait: what all others wrote, which we saw with their arrivals, is passed on.
            match self.state.compare_exchange(state, later(turn, 1), Release, Relaxed) {
                Ok(_) => {
                    if state & WAITING != 0 {
                        self.wake_completed();
                    }
                    return true;
                }
                Err(now) => state = now,
            }
        }
        false
    }

    /// Breaks `turn`; `false` if it has ended or is broken already.
    #[cold]
    fn break_turn(&self, turn: u64) -> bool {
        let mut state = self.state.load(Relaxed);
        take_part(self);
        while turn_of(state) == turn && state & BROKEN == 0 {
            match self.state.compare_exchange(state, (state | BROKEN) & !WAITING, Relaxed, Relaxed) {
                Ok(_) => {
                    if state & WAITING != 0 {
                        crash_point!("barrier.break.before_wake");
                        wake_all(&self.state);
                    }
                    return true;
                }
                Err(now) => state = now,
            }
        }
        false
    }

    #[cold]
    fn wake_completed(&self) {
        crash_point!("barrier.complete.before_wake");
        wake_all(&self.state);
        crash_point!("barrier.complete.after_wake");
    }

    /// What has become of `turn`, for a party that has arrived in it and finds `state`; `None` if it is still going on.
    #[inline]
    fn outcome(state: u64, turn: u64) -> Option<Result<BarrierWaitResult, BarrierError>> {
        // See the module.
        let turns = turn_of(state).wrapping_sub(turn);
        match (turns, state & BROKEN) {
            (0, 0) => None,
            (0, _) => Some(Err(BarrierError::Broken)),
            _ if turns % 2 == 1 => Some(Ok(BarrierWaitResult { is_leader: false })),
            _ => Some(Err(BarrierError::Broken)),
        }
    }
}

impl fmt::Debug for Barrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.load(Relaxed);
        f.debug_struct("Barrier")
            .field("parties", &self.parties())
            .field("waiting", &self.waiting())
            .field("broken", &(state & BROKEN != 0))
            .field("turn", &turn_of(state))
            .finish_non_exhaustive()
    }
}

/// A seat at a [`Barrier`]; given up when dropped.
///
/// While it is free, no round is completed. Dropping it in a panic breaks the barrier: the others would wait for a party that will not
/// come. It belongs to the process that joined: in a forked child it does nothing, also when it is dropped. A party that
/// is forgotten keeps its seat, and its process in the region, until that ends.
#[must_use = "if unused the seat is given up again at once"]
pub struct Party<'a> {
    barrier: &'a Barrier,
    /// Which seat; less than `SEATS`.
    seat: usize,
    site: Site,
    /// The epoch of deaths at which no seat was that of a dead party.
    sound_at: Option<Epoch>,
    was_panicking: bool,
}

impl Party<'_> {
    /// Waits until all parties wait.
    ///
    /// # Blocking
    ///
    /// Until the last party has come, unless the barrier is broken meanwhile: first looking for some microseconds (see
    /// [`spin`](shmkit_core::spin)), then asleep. A stopped party (SIGSTOP) is alive, and waited for. The only party of a barrier does
    /// not wait.
    ///
    /// # Crash safety
    ///
    /// Any process may be killed at any instruction. If it was a party, the others get [`BarrierError::Broken`].
    ///
    /// # Errors
    ///
    /// [`BarrierError::Broken`]; [`BarrierError::NotJoined`].
    #[inline]
    pub fn wait(&mut self) -> Result<BarrierWaitResult, BarrierError> {
        match self.arrive()? {
            None => Ok(BarrierWaitResult { is_leader: true }),
            Some(turn) => self.wait_for_others(turn, None),
        }
    }

    /// Waits until all parties wait, for at most `timeout`. If the time is over before, the barrier is broken for all.
    ///
    /// # Blocking
    ///
    /// As [`wait`](Self::wait), but not longer than `timeout` (monotonic clock).
    ///
    /// # Errors
    ///
    /// [`BarrierError::TimedOut`] for the party whose time-out has broken the barrier, [`BarrierError::Broken`] for the others. The last
    /// to arrive never runs out of time. [`BarrierError::NotJoined`].
    #[inline]
    pub fn wait_timeout(&mut self, timeout: Duration) -> Result<BarrierWaitResult, BarrierError> {
        match self.arrive()? {
            None => Ok(BarrierWaitResult { is_leader: true }),
            Some(turn) => self.wait_for_others(turn, Deadline::after(timeout)),
        }
    }

    /// Waits until all parties wait, until `deadline` at the latest. If that passes before, the barrier is broken for all.
    ///
    /// # Errors
    ///
    /// As for [`wait_timeout`](Self::wait_timeout).
    #[inline]
    pub fn wait_deadline(&mut self, deadline: Instant) -> Result<BarrierWaitResult, BarrierError> {
        self.wait_timeout(deadline.saturating_duration_since(Instant::now()))
    }

    /// Arrives, and completes the turn if that makes all. Otherwise returns the turn, whose end is to be waited for.
    #[inline]
    fn arrive(&mut self) -> Result<Option<u64>, BarrierError> {
        let barrier = self.barrier;
        let seat = &barrier.seats[self.seat];
        if !self.site.is_own() || seat.token.load(Relaxed) != self.site.token().word() {
            return Err(BarrierError::NotJoined);
        }
        // Acquire pairs with the Release in `complete`.
        let state = barrier.state.load(Acquire);
        if state & BROKEN != 0 {
            return Err(BarrierError::Broken);
        }
        let turn = turn_of(state);
        let epoch = self.site.epoch();
        if self.sound_at != Some(epoch) {
            // Somebody has died or left since the last look: maybe a party.
            if self.finds_dead() {
                barrier.break_turn(turn);
                return Err(BarrierError::Broken);
            }
            self.sound_at = Some(epoch);
        }
        // SeqCst, and the barrier behind it: see the module. As Release it pairs with the loads in `all_arrived`: the one who
        // completes the turn has seen what we wrote before.
        seat.arrived.swap(arrival(turn), SeqCst);
        store_load_barrier();
        crash_point!("barrier.wait.after_arrival");
        if !self.site.is_own() {
            // A child that a signal handler has forked since: its parent ends the turn, and leads it.
            return Err(BarrierError::NotJoined);
        }
        Ok(if barrier.all_arrived(turn) && barrier.complete(turn) { None } else { Some(turn) })
    }

    #[cold]
    fn finds_dead(&self) -> bool {
        self.barrier.has_dead(|token| !self.site.is_alive(token))
    }

    /// Waits for the end of `turn`, in which this party has arrived.
    #[cold]
    fn wait_for_others(&self, turn: u64, deadline: Option<Deadline>) -> Result<BarrierWaitResult, BarrierError> {
        let barrier = self.barrier;
        // Acquire, here and below, pairs with the Release in `complete`.
        if let Some(outcome) = spin(|| Barrier::outcome(barrier.state.load(Acquire), turn)) {
            return outcome;
        }
        // It notes when the wait began, from which deaths are looked for. Only a forked child can fail to find one.
        let Ok(site) = Site::of(barrier) else {
            return Err(BarrierError::NotJoined);
        };
        let mut woken = None;
        loop {
            // Before everything that a death may change.
            let epoch = site.epoch();
            let state = barrier.state.load(Acquire);
            if let Some(outcome) = Barrier::outcome(state, turn) {
                return outcome;
            }
            // Here and below: whoever fails to break the turn finds out in the next round what it was ended by.
            if self.finds_dead() {
                barrier.break_turn(turn);
                continue;
            }
            if woken == Some(Woken::TimedOut) || (woken.is_some() && deadline.is_some_and(Deadline::has_passed)) {
                if barrier.break_turn(turn) {
                    return Err(BarrierError::TimedOut);
                }
                continue;
            }
            if state & WAITING == 0 {
                if barrier.state.compare_exchange(state, state | WAITING, Relaxed, Relaxed).is_err() {
                    continue;
                }
                crash_point!("barrier.wait.after_waiting");
            }
            woken = Some(site.wait(&barrier.state, (state | WAITING) as u32, epoch, deadline));
            crash_point!("barrier.wait.after_wait");
            // In a child that a signal handler has forked, the party is its parent.
            if !self.site.is_own() {
                return Err(BarrierError::NotJoined);
            }
        }
    }
}

impl Drop for Party<'_> {
    fn drop(&mut self) {
        if !self.site.is_own() {
            return;
        }
        if !self.was_panicking && std::thread::panicking() {
            self.barrier.abort();
        }
        crash_point!("barrier.leave.before_free");
        // Release pairs with the Acquire in `join`. If it fails, the seat is not ours any more.
        let mine = self.site.token().word();
        let _ = self.barrier.seats[self.seat].token.compare_exchange(mine, 0, Release, Relaxed);
    }
}

impl fmt::Debug for Party<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Party").field("seat", &self.seat).field("barrier", self.barrier).finish_non_exhaustive()
    }
}

/// A completed round, as one of its parties sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BarrierWaitResult {
    is_leader: bool,
}

impl BarrierWaitResult {
    /// Whether this party is the leader of the round, which exactly one of them is.
    ///
    /// If the leader is killed before it returns from the wait, the round has none.
    pub fn is_leader(self) -> bool {
        self.is_leader
    }
}

/// Why a round was not completed, or a seat not to be had.
#[derive(Debug)]
#[non_exhaustive]
pub enum BarrierError {
    /// A party has died, run out of time or panicked, or somebody has aborted, and nobody has reset the barrier since.
    Broken,
    /// This party ran out of time, and has broken the barrier by that.
    TimedOut,
    /// All seats are taken.
    Full,
    /// The seat is not that of the calling process: a forked child has inherited it.
    NotJoined,
    /// A barrier cannot be made for so many parties.
    InvalidParties {
        /// What was asked for.
        asked: u32,
    },
    /// This process, a forked child, could not take part in the region (for example [`Error::TooManyParticipants`]).
    Failed(Error),
}

impl fmt::Display for BarrierError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broken => f.write_str("the barrier is broken: a party has died, given up or aborted; reset it"),
            Self::TimedOut => f.write_str("not all parties had come when the time was over; the barrier is broken"),
            Self::Full => f.write_str("all seats of the barrier are taken"),
            Self::NotJoined => f.write_str("this process has no seat at the barrier: join it first"),
            Self::InvalidParties { asked } => {
                write!(f, "a barrier cannot have {asked} parties: choose 1 to {}", Barrier::MAX_PARTIES)
            }
            Self::Failed(error) => write!(f, "the barrier cannot be used: {error}"),
        }
    }
}

impl std::error::Error for BarrierError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Failed(error) => Some(error),
            _ => None,
        }
    }
}

impl From<Error> for BarrierError {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}
