//! Who takes part in a region, who watches whom, and how a death is told.
//!
//! # Shared layout
//!
//! ```text
//! News:          | death_epoch: u32 | pad to 64 | roster: u32 | rescues: u32 | pad to 128 |
//! tokens[i]:     | the token that participant i attached with; bit 0: DEAD; 0: nobody     |
//! entries[i]:    | liveness: u32 | pid: u32 | pid_namespace: u64 | name: 32 bytes | seen: u32 | spare |
//! ```
//!
//! # States of `tokens[i]`
//!
//! | state | attach (holds the kernel's lock on entry i) | confirmed dead, or leaves | announcer |
//! |---|---|---|---|
//! | `0` | -> `T` | - | - |
//! | `T`: alive | announces the dead first | -> `T` with DEAD | - |
//! | `T` with DEAD: dead, not everybody knows | announces first | - | raises the epoch, wakes all, -> `0` |
//!
//! One word decides: a token is alive exactly while it stands in the table without DEAD. Every change is one atomic operation,
//! so a kill falls between two states, and each of them is repaired by whoever sees it next:
//!
//! * killed before `tokens[i]` is set: the entry is nobody's and the kernel has dropped its lock;
//! * killed while alive: the kernel marks `liveness`, the watcher confirms and announces;
//! * killed while announcing: the DEAD bit stands, and the next who looks announces again. A repeated announcement costs a
//!   spurious wake-up.
//!
//! # Who watches
//!
//! The participants form a ring in the order of their entries; each one's keeper sleeps on the `liveness` of the next one that
//! seems alive, and on `roster`, which tells of arrivals and departures. When a watcher dies together with the one it watches,
//! its own watcher finds both.
//!
//! The kernel wakes one sleeper per death, and that may be the wrong one: a keeper that was just told of a newcomer, who watches
//! in its place now, is still on the queue of the word that it slept on. Therefore a keeper that runs looks at everybody, not
//! only up to the next one alive. And since the wrong one may die, too, before it runs, every keeper notes in `seen` which roster
//! it looked at last, after it has left all queues; as long as anybody alive has not seen the present roster, the keepers look
//! again from time to time instead of relying on the ring.
//!
//! # Garbage
//!
//! Anything may stand here. A token of nobody makes nobody alive; a false DEAD costs a look; a false `liveness` or `seen` makes the
//! keepers look every 10 or 250 ms and, without proof, nothing else; walks are bounded by the private copy of the capacity.

use core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use crate::crash_point;
use crate::identity::{FLAG, Token};
use crate::shim::{AtomicU32, AtomicU64, fence, futex};

/// In `tokens[i]`: its owner is dead, and this may not have been told to all.
pub(crate) const DEAD: u64 = FLAG;

/// In `liveness`: the kernel saw the keeper die (`FUTEX_OWNER_DIED`).
pub(crate) const OWNER_DIED: u32 = 0x4000_0000;
/// In `liveness`: wake a sleeper when that happens (`FUTEX_WAITERS`); always set, so that nobody has to ask for it.
pub(crate) const WAITERS: u32 = 0x8000_0000;
/// `liveness` of a participant without a keeper: no news will come, one has to look.
pub(crate) const UNWATCHED: u32 = 0;

/// The longest name of a participant, in bytes.
pub(crate) const NAME_LEN: usize = 32;

/// The words that everybody waits on.
#[repr(C, align(64))]
#[derive(Debug)]
#[cfg_attr(ipc_loom, derive(Default))]
pub(crate) struct News {
    /// Raised by one after each confirmed death and each departure, by the announcer, then all sleepers on it are woken.
    /// Every blocking call waits on it beside its own word. Garbage: wake-ups for nothing.
    death_epoch: AtomicU32,
    #[cfg(not(ipc_loom))]
    _line: [AtomicU32; 15],
    /// Raised by one after each change of who is alive, by the one who comes or announces, then the keepers are woken.
    /// Pairs with the keepers, who read it before they look at the table. Garbage: keepers look again.
    roster: AtomicU32,
    /// How often the safety net had to step in; only counted, by anybody. Garbage: a wrong count.
    rescues: AtomicU32,
    #[cfg(not(ipc_loom))]
    _rest: [AtomicU32; 14],
}

/// What is to be known of a participant. Written by its owner while `tokens[i]` is not its token yet, except `liveness`, which
/// the kernel changes when the owner dies. Garbage: a proof of death is looked for in the wrong place and not found, or, among
/// peers that may write here, forged.
#[repr(C, align(64))]
#[derive(Debug)]
#[cfg_attr(ipc_loom, derive(Default))]
pub(crate) struct Entry {
    /// Thread id of the keeper | WAITERS, then OWNER_DIED | WAITERS; or UNWATCHED.
    liveness: AtomicU32,
    /// In the owner's PID namespace.
    pid: AtomicU32,
    /// That namespace; 0 if its owner could not tell.
    pid_namespace: AtomicU64,
    /// UTF-8, padded with zeroes; for people.
    name: [AtomicU64; NAME_LEN / 8],
    /// The roster at the last look of the owner's keeper, which writes it with Release while it is on no queue. Pairs with the
    /// Acquire of the other keepers. Garbage: the others look again from time to time.
    seen: AtomicU32,
    #[cfg(not(ipc_loom))]
    _spare: [AtomicU32; 3],
}

#[cfg(not(ipc_loom))]
const _: () = {
    assert!(size_of::<News>() == 128 && align_of::<News>() == 64);
    assert!(core::mem::offset_of!(News, roster) == 64);
    assert!(size_of::<Entry>() == 64 && align_of::<Entry>() == 64);
    assert!(core::mem::offset_of!(Entry, liveness) == 0);
    assert!(core::mem::offset_of!(Entry, name) == 16);
};

/// How a participant shows itself to the others.
#[derive(Clone, Debug)]
pub(crate) struct Card {
    pub(crate) token: Token,
    pub(crate) liveness: u32,
    pub(crate) pid: u32,
    pub(crate) pid_namespace: u64,
    pub(crate) name: [u8; NAME_LEN],
}

/// What a keeper asks of one who may be dead; see `proof`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Question {
    /// It is the one who is to tell: whether this is proven in a moment.
    DeadSoon,
    /// It is, and has been patient before: whether this is proven.
    Dead,
    /// Somebody else is: whether the claim is free.
    Released,
}

/// What a keeper has to do next for one region.
#[derive(Debug)]
pub(crate) struct Watch {
    /// Sleep on the liveness of this participant while it has this value.
    pub(crate) target: Option<(usize, u32)>,
    /// Deaths were announced, and so many sleepers woken by that.
    pub(crate) woken: Option<u32>,
    /// Somebody's death is not confirmed yet: look again soon.
    pub(crate) unconfirmed: bool,
    /// Somebody has no keeper: look again regularly.
    pub(crate) unwatched: bool,
    /// Somebody's keeper has not looked at the present roster yet: do not rely on the ring.
    pub(crate) unsettled: bool,
}

impl Watch {
    /// What to ask of the next one who may be dead.
    fn question(&self) -> Question {
        match self.target {
            Some(_) => Question::Released,
            None if self.unconfirmed => Question::Dead,
            None => Question::DeadSoon,
        }
    }
}

/// The participants of one region.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Participants<'a> {
    pub(crate) news: &'a News,
    pub(crate) tokens: &'a [AtomicU64],
    pub(crate) entries: &'a [Entry],
}

impl News {
    /// The epoch of deaths. Read it before the condition that a death may change.
    #[inline]
    pub(crate) fn epoch(&self) -> u32 {
        // Acquire pairs with the Release in `announce`: whoever sees the new epoch sees the token gone.
        self.death_epoch.load(Acquire)
    }

    /// The word behind [`epoch`](Self::epoch).
    pub(crate) fn epoch_word(&self) -> &AtomicU32 {
        &self.death_epoch
    }
}

impl Participants<'_> {
    /// The state of the roster, for [`watch`](Self::watch).
    pub(crate) fn roster(&self) -> u32 {
        // Acquire pairs with the Release in `tell_keepers`: whoever sees the new roster sees the new token.
        self.news.roster.load(Acquire)
    }

    /// The word behind [`roster`](Self::roster).
    pub(crate) fn roster_word(&self) -> &AtomicU32 {
        &self.news.roster
    }

    /// The word that tells of the death of participant `index`.
    pub(crate) fn liveness_word(&self, index: usize) -> &AtomicU32 {
        &self.entries[index].liveness
    }

    /// Whether the process behind `token` may still act in this region. `false` is final.
    pub(crate) fn is_alive(&self, token: Token) -> bool {
        self.tokens.iter().any(|word| {
            // Acquire pairs with the AcqRel of `bury`: what the dead have written is visible to those who take over.
            let word = word.load(Acquire);
            word & DEAD == 0 && Token::from_word(word).is_some_and(|attached| attached.covers(token))
        })
    }

    /// Whether the process of `token` is in the table, under any generation.
    pub(crate) fn is_known(&self, token: Token) -> bool {
        let known = |word: &AtomicU64| Token::from_word(word.load(Acquire)).is_some_and(|at| at.is_same_process(token));
        self.tokens.iter().any(known)
    }

    /// The entry of the one who attached with exactly `token` and is alive.
    pub(crate) fn index_of(&self, token: Token) -> Option<usize> {
        // Acquire as in `is_alive`.
        self.tokens.iter().position(|word| word.load(Acquire) == token.word())
    }

    /// The token and the card of participant `index` if it is alive.
    pub(crate) fn card(&self, index: usize) -> Option<Card> {
        let word = self.tokens[index].load(Acquire);
        let token = Token::from_word(word).filter(|_| word & DEAD == 0)?;
        let entry = &self.entries[index];
        let mut name = [0; NAME_LEN];
        for (bytes, word) in name.chunks_exact_mut(8).zip(&entry.name) {
            bytes.copy_from_slice(&word.load(Relaxed).to_ne_bytes());
        }
        let card = Card {
            token,
            liveness: entry.liveness.load(Acquire),
            pid: entry.pid.load(Relaxed),
            pid_namespace: entry.pid_namespace.load(Relaxed),
            name,
        };
        // The entry is rewritten only while its token is gone: if it still stands, the card is of one piece. Acquire pairs with the Release
        // fence in `attach`.
        fence(Acquire);
        (self.tokens[index].load(Relaxed) == word).then_some(card)
    }

    /// Fills entry `index` and makes its owner alive. The caller holds the kernel's lock on the entry, and the token is not in
    /// force before this returns.
    pub(crate) fn attach(&self, index: usize, card: &Card) {
        let stale = self.tokens[index].load(Acquire);
        if stale != 0 {
            // Its lock is free: that is proof enough.
            self.bury(index, stale);
        }
        // Pairs with the Acquire fence in `card`: whoever has read something of the new entry does not find the old token any more.
        fence(Release);
        let entry = &self.entries[index];
        entry.pid.store(card.pid, Relaxed);
        entry.pid_namespace.store(card.pid_namespace, Relaxed);
        for (bytes, word) in card.name.chunks_exact(8).zip(&entry.name) {
            word.store(u64::from_ne_bytes(bytes.try_into().unwrap_or_default()), Relaxed);
        }
        crash_point!("participants.attach.before_liveness");
        entry.liveness.store(card.liveness, Relaxed);
        // Not the roster that this attachment is going to make.
        entry.seen.store(self.roster(), Relaxed);
        crash_point!("participants.attach.before_token");
        // Release: whoever sees the token sees the entry.
        self.tokens[index].store(card.token.word(), Release);
        crash_point!("participants.attach.after_token");
        self.tell_keepers();
    }

    /// Ends the life of participant `index`, which is the caller's own, was attached with `token`, and will not use it again.
    pub(crate) fn leave(&self, index: usize, token: Token) {
        self.bury(index, token.word());
    }

    /// Declares the owner of `word` in entry `index` dead, which the caller has proof of, and tells everybody.
    pub(crate) fn bury(&self, index: usize, word: u64) {
        self.announce(index, word);
        self.tell_keepers();
    }

    /// The same for those who wait; says how many did. The keepers are still to be told.
    fn announce(&self, index: usize, word: u64) -> u32 {
        let slot = &self.tokens[index];
        // AcqRel pairs with the Acquire in `is_alive`. A failure means that somebody else has been here: the repetition below
        // does no harm.
        let _ = slot.compare_exchange(word, word | DEAD, AcqRel, Relaxed);
        crash_point!("participants.bury.after_mark");
        self.news.death_epoch.fetch_add(1, Release);
        crash_point!("participants.bury.after_epoch");
        let woken = futex::wake(&self.news.death_epoch, u32::MAX);
        crash_point!("participants.bury.after_wake");
        let _ = slot.compare_exchange(word | DEAD, 0, AcqRel, Relaxed);
        crash_point!("participants.bury.after_clear");
        woken
    }

    /// What the keeper of participant `me`, which sleeps on nothing, has to watch at the state `roster` of the roster; looks at
    /// everybody and announces those of whom `is_so` answers its question with yes. If there were any, the other keepers are still to be [told](Self::tell_keepers). This keeper is
    /// to tell of all up to the next one alive, and is patient about one of them only.
    pub(crate) fn watch(&self, me: usize, roster: u32, mut is_so: impl FnMut(usize, Question) -> bool) -> Watch {
        let mut watch = Watch { target: None, woken: None, unconfirmed: false, unwatched: false, unsettled: false };
        if self.entries[me].seen.load(Relaxed) != roster {
            self.entries[me].seen.store(roster, Release);
            // Nobody sleeps on it, except in models, which have no time to look again.
            #[cfg(ipc_loom)]
            futex::wake(&self.entries[me].seen, u32::MAX);
        }
        let mut woken = None;
        let mut announce = |index, word| {
            woken = Some(woken.unwrap_or(0_u32).saturating_add(self.announce(index, word)));
        };
        for step in 1..self.tokens.len() {
            let index = (me + step) % self.tokens.len();
            let word = self.tokens[index].load(Acquire);
            if Token::from_word(word).is_none() {
                continue;
            }
            // Acquire pairs with the kernel's store at the death of the keeper.
            let liveness = self.entries[index].liveness.load(Acquire);
            if word & DEAD != 0 {
                announce(index, word & !DEAD);
            } else if liveness != UNWATCHED && liveness & OWNER_DIED == 0 {
                watch.target = watch.target.or(Some((index, liveness)));
                watch.unsettled |= self.entries[index].seen.load(Acquire) != roster;
            } else if liveness == UNWATCHED && watch.target.is_some() {
                // Those between look regularly.
            } else if is_so(index, watch.question()) {
                announce(index, word);
            } else if liveness == UNWATCHED {
                watch.unwatched = true;
            } else {
                watch.unconfirmed = true;
            }
        }
        watch.woken = woken;
        watch
    }

    /// Looks at everybody but `me` and buries those that `is_dead` confirms; says whether there were any.
    pub(crate) fn sweep(&self, me: Option<usize>, is_dead: impl FnMut(usize) -> bool) -> bool {
        self.sweep_some((0..self.tokens.len()).filter(|index| Some(*index) != me), is_dead)
    }

    /// The same for some of them.
    pub(crate) fn sweep_some(&self, some: impl Iterator<Item = usize>, mut is_dead: impl FnMut(usize) -> bool) -> bool {
        let mut found = false;
        for index in some {
            let word = self.tokens[index].load(Acquire);
            if Token::from_word(word).is_some() && (word & DEAD != 0 || is_dead(index)) {
                self.announce(index, word & !DEAD);
                found = true;
            }
        }
        if found {
            self.tell_keepers();
        }
        found
    }

    /// All that the keepers of others, and their deaths, change, with its present values.
    #[cfg(ipc_loom)]
    pub(crate) fn everything_but(&self, me: usize) -> Vec<(&dyn futex::FutexWord, u32)> {
        let others = self.entries.iter().enumerate().filter(|(index, _)| *index != me);
        let words = others.flat_map(|(_, entry)| [&entry.liveness, &entry.seen]);
        words.map(|word| (word as &dyn futex::FutexWord, word.load(Acquire))).collect()
    }

    /// How often the safety net had to step in.
    pub(crate) fn rescues(&self) -> u32 {
        self.news.rescues.load(Relaxed)
    }

    /// Notes that the safety net had to step in.
    pub(crate) fn count_rescue(&self) {
        self.news.rescues.fetch_add(1, Relaxed);
    }

    /// Tells of those who have come or gone. The dead may have taken news of another death along: the kernel wakes one keeper only, and it may
    /// have been theirs. One who is killed before this is missed as any other, and is told of.
    pub(crate) fn tell_keepers(&self) {
        self.news.roster.fetch_add(1, Release);
        crash_point!("participants.roster.after_raise");
        futex::wake(&self.news.roster, u32::MAX);
    }
}
