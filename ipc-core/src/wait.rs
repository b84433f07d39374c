//! Waiting for other processes, which may die meanwhile.
//!
//! Every blocking operation of shmkit, and every one built on it, has this form:
//!
//! 1. find the [`Site`] of the primitive, once, on the slow path;
//! 2. read the [`Epoch`] of deaths;
//! 3. look at the condition, including whether those it depends on are [alive](Site::is_alive);
//! 4. if it does not hold: [`Site::wait`] on exactly one word of the primitive, and the epoch; then go to 2.
//!
//! The death of any participant raises the epoch and wakes all sleepers, so no death needs anybody who would pass a wake-up on:
//! a killed owner, a killed waiter that had just been woken, a process killed between the change of a word and the wake-up that
//! belongs to it. The order of 2 and 3 matters: a death in between makes the wait return at once.
//!
//! # Safety net
//!
//! News of a death travels through another participant's keeper, and that process may be stopped (SIGSTOP). Therefore no wait
//! sleeps for longer than a second without looking for deaths by itself. Such rescues are counted.

use core::time::Duration;
use std::sync::Arc;

#[cfg(not(ipc_loom))]
use crate::attachment::Attachment;
use crate::deadline::Deadline;
use crate::error::Error;
use crate::identity::{self, Token};
#[cfg(not(ipc_loom))]
use crate::registry::{ensure_token, find};
use crate::shim::futex;
pub use crate::shim::futex::{FutexWord, Woken};
#[cfg(ipc_loom)]
use crate::shim::model::{Attachment, ensure_token, find};

/// How long a wait sleeps at most before it looks for deaths by itself.
const NET: Duration = Duration::from_secs(1);

/// The same for a process that has no keeper.
const NO_KEEPER: Duration = Duration::from_millis(10);

/// The number of deaths and departures in a region so far, modulo 2^32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Epoch(u32);

/// Where a primitive lives: in a region, with other processes, or in memory of this process alone.
///
/// Outside any region everybody who is asked about is alive, and nobody else can wake a sleeper.
#[derive(Debug)]
pub struct Site {
    token: Token,
    region: Option<Arc<Attachment>>,
}

impl Site {
    /// The site of `primitive`.
    ///
    /// # Errors
    ///
    /// Only in a forked child that could not attach to a region it inherited, and in a process without memory for a page:
    /// without a token of its own it can neither hold anything nor wait.
    #[cold]
    pub fn of<T>(primitive: &T) -> Result<Self, Error> {
        let token = ensure_token()?;
        Ok(Self { token, region: find(core::ptr::from_ref(primitive).addr()) })
    }

    /// The token that the calling process holds things under.
    pub fn token(&self) -> Token {
        self.token
    }

    /// Whether the calling process is the one that the site was found in; not so in a child that a signal handler has forked.
    pub fn is_own(&self) -> bool {
        identity::current().is_some_and(|current| current.is_same_process(self.token))
    }

    /// The epoch of deaths.
    pub fn epoch(&self) -> Epoch {
        Epoch(self.region.as_ref().map_or(0, |region| region.participants().epoch()))
    }

    /// Whether the process behind `token` may still act at this site. `false` is proven and final.
    pub fn is_alive(&self, token: Token) -> bool {
        self.region.as_ref().is_none_or(|region| region.participants().is_alive(token))
    }

    /// [`is_alive`](Self::is_alive), for those who are not going to wait: a process without a keeper hears of deaths only when it
    /// looks for them, so it does.
    pub fn is_alive_now(&self, token: Token) -> bool {
        if let Some(region) = self.region.as_ref().filter(|region| !region.has_keeper()) {
            region.sweep();
        }
        self.is_alive(token)
    }

    /// Sleeps while `word` is `expected` and nobody has died since `epoch`, at most until `deadline`.
    ///
    /// # Blocking
    ///
    /// Until woken; also returns for no reason, so look at the condition again. Signals do not end it.
    /// [`Woken::TimedOut`] means that no wake-up was consumed.
    pub fn wait(&self, word: &dyn FutexWord, expected: u32, epoch: Epoch, deadline: Option<Deadline>) -> Woken {
        let Some(region) = &self.region else {
            return futex::wait(&[(word, expected)], deadline);
        };
        let (slice, is_net) = self.slice(region);
        let look = slice.and_then(Deadline::after);
        let until = match (look, deadline) {
            (Some(look), Some(deadline)) => Some(look.min(deadline)),
            (some, None) | (None, some) => some,
        };
        let participants = region.participants();
        let woken = futex::wait(&[(word, expected), (participants.epoch_word(), epoch.0)], until);
        if woken == Woken::Maybe || until == deadline {
            return woken;
        }
        // A word that has changed says nothing: the lock may have gone from hand to hand among others.
        let missed = self.epoch() != epoch;
        if (region.sweep() || missed) && is_net {
            participants.count_rescue();
        }
        Woken::Maybe
    }

    /// After which time to look for deaths, and whether that is the safety net.
    fn slice(&self, region: &Attachment) -> (Option<Duration>, bool) {
        if !region.has_keeper() {
            (Some(NO_KEEPER), false)
        } else if crate::config::get().safety_net {
            (Some(NET), true)
        } else {
            (None, true)
        }
    }
}

/// Wakes one sleeper on `word`, in any process.
pub fn wake_one(word: &dyn FutexWord) {
    futex::wake(word, 1);
}

/// Wakes all sleepers on `word`, in any process.
pub fn wake_all(word: &dyn FutexWord) {
    futex::wake(word, u32::MAX);
}
