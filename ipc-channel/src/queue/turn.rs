//! The lock of one side: one word, one exchange and one store.
//!
//! ```text
//! | token of the owner |   0: free
//! ```
//!
//! | word | take | give up | confirmed death of the owner |
//! |---|---|---|---|
//! | `0` | CAS -> mine | - | - |
//! | `T` | look for a while, then [sleep](Sleepers) until told | store -> `0`, tell one | the next one: CAS -> mine |
//!
//! It differs from [`RawLock`](shmkit_core::raw_lock::RawLock) in how it is given up: by a plain store, where that needs an exchange to learn whether
//! anybody waits. Here they wait at a word of their own, which may be looked at without a fence; see `sleepers.rs`. A queue is fast or slow by
//! the number of its exchanges, and this halves it.
//!
//! # A kill at each point
//!
//! * before the exchange: nothing; after it: a dead owner, taken over by the next one, who is told so;
//! * after the store, before anybody is told: the death wakes all.
//!
//! # Garbage
//!
//! Any value is `0`, the token of a participant, or nobody's, that is of a dead owner. Whoever writes at random can keep others out or let them in
//! together, which garbles what they send; all that they do there is within bounds.

use core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use shmkit_core::identity::{self, Token};
use shmkit_core::shim::AtomicU64;
use shmkit_core::spin::spin_briefly;
use shmkit_core::wait::Site;
use shmkit_core::{Deadline, crash_point};

use super::sleepers::Sleepers;
use crate::ends::Ended;

/// How often one who waits looks before it sleeps: a turn is short, unless its owner has been interrupted.
const LOOKS: u32 = 200;

/// The word. Written by whoever takes a free one, or that of a dead, and by its owner.
#[repr(transparent)]
#[derive(Debug)]
pub(super) struct Lock(AtomicU64);

/// How long to wait for a turn.
#[derive(Clone, Copy, Debug)]
pub(super) enum Patience {
    /// Not at all.
    None,
    /// As long as it takes, or until then.
    Until(Option<Deadline>),
}

/// The lock is held until this is dropped.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    lock: &'a Lock,
    asleep: &'a Sleepers,
    token: Token,
    /// The previous owner has died with it.
    pub(super) after_death: bool,
}

impl Lock {
    pub(super) fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Takes it. `asleep`: where those sleep who wait for it. The end is [`Ended::TimedOut`] if patience is.
    #[inline]
    pub(super) fn take<'a>(&'a self, asleep: &'a Sleepers, patience: Patience) -> Result<Turn<'a>, Ended> {
        match (self.take_free(asleep), patience) {
            (Some(turn), _) => Ok(turn),
            (None, Patience::None) => Err(Ended::TimedOut),
            (None, Patience::Until(deadline)) => self.take_contended(asleep, deadline),
        }
    }

    #[inline]
    fn take_free<'a>(&'a self, asleep: &'a Sleepers) -> Option<Turn<'a>> {
        let token = identity::current()?;
        // Acquire pairs with the Release in `drop`. Release pairs with the Acquire in `take_from`: whoever finds our token here finds it
        // among the participants, too.
        self.0.compare_exchange(0, token.word(), AcqRel, Relaxed).ok()?;
        crash_point!("queue.turn.after_cas");
        Some(Turn { lock: self, asleep, token, after_death: false })
    }

    #[cold]
    fn take_contended<'a>(&'a self, asleep: &'a Sleepers, deadline: Option<Deadline>) -> Result<Turn<'a>, Ended> {
        let free = || if self.0.load(Relaxed) == 0 { self.take_free(asleep) } else { None };
        if let Some(turn) = spin_briefly(LOOKS, free) {
            return Ok(turn);
        }
        let (turn, awake) = asleep.wait(self, deadline, |site| Ok(self.take_from(site, asleep)))?;
        // ASLEEP is set, so the next one is woken when this turn ends.
        awake.has_acted();
        Ok(turn)
    }

    /// Takes it if it is free, or its owner proven dead.
    fn take_from<'a>(&'a self, site: &Site, asleep: &'a Sleepers) -> Option<Turn<'a>> {
        // Acquire pairs with the Release in the exchanges: an owner that is found here is among the participants.
        let word = self.0.load(Acquire);
        let owner = Token::from_word(word);
        if owner.is_some_and(|owner| site.is_alive(owner)) {
            return None;
        }
        let token = site.token();
        // As in `take_free`. What a dead owner wrote is visible since its death was confirmed.
        self.0.compare_exchange(word, token.word(), AcqRel, Relaxed).ok()?;
        crash_point!("queue.turn.after_take");
        Some(Turn { lock: self, asleep, token, after_death: owner.is_some() })
    }
}

impl Turn<'_> {
    /// Whether it is that of the calling process; not so in a child that was forked meanwhile.
    #[inline]
    pub(super) fn is_own(&self) -> bool {
        identity::current().is_some_and(|current| current.is_same_process(self.token))
    }
}

impl Drop for Turn<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.is_own() {
            crash_point!("queue.turn.before_store");
            // Release pairs with the Acquire of the next owner.
            self.lock.0.store(0, Release);
            crash_point!("queue.turn.after_store");
            self.asleep.tell(1);
        }
    }
}
