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
//! [`Site::wait_for`] is this loop. [`wait_any`](crate::wait_any) is the same for several primitives at once, which may lie in several regions; for that,
//! each of them is a [`Source`]. What only tries, and does not wait, takes a [`Glance`], reads the word, and asks that.
//!
//! # Primitives of your own
//!
//! This module, [`identity`], [`raw_lock`](crate::raw_lock), [`poison`](crate::poison), [`spin`](crate::spin) and [`Deadline`] are what the primitives of this library
//! are built on, and all that they are built on. They are there for yours, too, and are covered by semantic versioning like
//! everything else that is public and documented: within a major version nothing of it is taken away or changes its meaning. A
//! primitive is a `repr(C)` struct of atomics with `#[derive(ShmSafe)]`. Rules that keep it alive:
//!
//! * Whoever holds something writes its [token](Site::token) into a word, by the same exchange that takes the thing. Values below
//!   2^28 are never tokens: use them for the other states.
//! * Somebody else's token is taken out only if [`is_alive`](Site::is_alive) said no, by an exchange that expects exactly that word.
//! * Every order of instructions may be the last: between two stores that belong together there must be a state that others
//!   understand. What is derived (a count of words in some state) cannot be left wrong; what is kept beside (a counter) can.
//! * First change the word that others wait on, then [wake](wake_all). A kill in between is made good: the death wakes all. For that, whoever
//!   wakes must [take part](take_part), which a child that has just been forked does not.
//! * An owning handle does nothing when it is dropped in a forked child: [`Site::is_own`].
//!
//! The example `latch` of the facade is a whole one in less than 100 lines. The smallest is a gate that is held shut by one process, and
//! opens when that opens it or dies:
//!
//! ```
//! use core::sync::atomic::{AtomicU64, Ordering::{Acquire, Release}};
//! use shmkit_core::identity::{FLAG, Token};
//! use shmkit_core::wait::{Site, wake_all};
//! use shmkit_core::{Deadline, Error, Region};
//! use std::time::Duration;
//!
//! const OPEN: u64 = 0;
//!
//! /// Shuts `gate`, which nobody else does meanwhile.
//! fn shut(gate: &AtomicU64) -> Result<(), Error> {
//!     // With the flag, the half that others wait on is never that of an open gate.
//!     gate.store(Site::of(gate)?.token().word() | FLAG, Release);
//!     Ok(())
//! }
//!
//! fn open(gate: &AtomicU64) {
//!     gate.store(OPEN, Release);
//!     wake_all(gate);
//! }
//!
//! /// Waits until `gate` is open, or shut by a dead; `false` if it still is shut after `patience`.
//! fn pass(gate: &AtomicU64, patience: Duration) -> Result<bool, Error> {
//!     let site = Site::of(gate)?;
//!     let is_open = || {
//!         let shut_by = Token::from_word(gate.load(Acquire));
//!         shut_by.is_none_or(|token| !site.is_alive(token)).then_some(())
//!     };
//!     Ok(site.wait_for(gate, Deadline::after(patience), is_open).is_some())
//! }
//!
//! let region = Region::anonymous(4096)?;
//! let gate = region.insert("gate", AtomicU64::new(OPEN))?;
//! shut(&gate)?;
//! assert!(!pass(&gate, Duration::from_millis(1))?);
//! std::thread::scope(|scope| {
//!     scope.spawn(|| open(&gate));
//!     pass(&gate, Duration::from_secs(10))
//! })?;
//! # Ok::<(), shmkit_core::Error>(())
//! ```
//!
//! A wait on an [`AtomicU64`](core::sync::atomic::AtomicU64) compares its low half only. Those of two tokens can be the same, and that of
//! a token without its flag can be 0. So mark a word that holds a token before you wait on it, as the gate does, or let those who
//! change it raise a counter that others wait on, as the latch does.
//!
//! # Outside any region
//!
//! A primitive on the stack, in a `Box` or in a `static` works between the threads of its process: locks exclude, waits wait, wake-ups
//! wake. There is no liveness: nobody else can be there who could die, so everybody who is asked about is alive, also in memory that
//! was shared by other means than a [`Region`](crate::Region). Something that is held for ever there, such as a forgotten guard, is
//! never taken over. In a forked child, whatever the parent held in such memory is held by somebody who is not there.
//!
//! # Safety net
//!
//! News of a death travels through another participant's keeper, and that process may be stopped (SIGSTOP). Therefore no wait
//! sleeps for longer than a second without looking for deaths by itself; nor does a process whose waits are shorter than that, or are
//! ended by others again and again, go for longer without a look. What ends a long sleep is counted as a rescue.

use core::ptr::NonNull;
use core::sync::atomic::Ordering::Acquire;
use core::time::Duration;
use std::sync::Arc;
#[cfg(not(ipc_loom))]
use std::sync::Weak;

#[cfg(not(ipc_loom))]
use crate::attachment::Attachment;
use crate::deadline::Deadline;
use crate::error::Error;
pub use crate::glance::Glance;
use crate::identity::{self, Token};
use crate::participants::News;
#[cfg(not(ipc_loom))]
use crate::registry::{ensure_token, find};
pub use crate::shim::futex::{FutexWord, Woken};
#[cfg(ipc_loom)]
use crate::shim::model::{Attachment, ensure_token, find};
use crate::shim::{fence, futex, spin_loop};
pub use crate::wait_any::{Armed, MAX_SOURCES, Source};

/// How long a wait sleeps at most before it looks for deaths by itself.
pub(crate) const NET: Duration = Duration::from_secs(1);

/// The same for a process that has no keeper.
const NO_KEEPER: Duration = Duration::from_millis(10);

/// Within which time a plain store of one process is surely seen by all others, with much to spare.
const SETTLING: Duration = Duration::from_micros(200);

/// Within which time it mostly is: with a store buffer full of stores that missed the cache, all but one in tens of thousands.
const DRAINING: Duration = Duration::from_nanos(500);

/// How long the sleep of one who may have been overlooked lasts at most. Longer than a tick of the kernel (4 ms, mostly), or each such sleep
/// would have to set the clock's alarm, which takes longer than the sleep itself does.
const NAP: Duration = Duration::from_millis(5);

/// Says when a mark that the calling thread has just set, to be told of changes, will have settled: from then on it is seen by all who look at it
/// without a fence. The caller looks at what they may have changed after this call, and once more after that time; until then it sleeps for a
/// [`nap`] at most.
/// `docs/MEMORY_MODEL.md` has the argument, in "A store without a fence".
///
/// # Blocking
///
/// Pauses for half a microsecond, after which the look finds nearly everything that the mark has come too late for.
///
/// Models count no time; there, it is never, and those who tell have a fence.
pub fn settling() -> Option<Deadline> {
    if cfg!(ipc_loom) {
        return None;
    }
    let drained = Deadline::after(DRAINING);
    while drained.is_some_and(|drained| !drained.has_passed()) {
        spin_loop();
    }
    Deadline::after(SETTLING)
}

/// Says, as [`settling`] does, when a mark will have settled that was set earlier: what that said then has been [kept](Deadline::as_nanos). Whatever
/// `kept` is, the answer is no later than for a mark that is set now.
pub fn settles(kept: u64) -> Option<Deadline> {
    if cfg!(ipc_loom) {
        return None;
    }
    Deadline::after(SETTLING).map(|latest| latest.min(Deadline::from_nanos(kept)))
}

/// Until when to sleep instead of `deadline` while a mark is `unsettled`, that is, its [`settling`] has not passed.
///
/// This is later than the mark has settled: one who was overlooked, which is rare, is late by some milliseconds, and all others fall asleep
/// as fast as without it.
pub fn nap(unsettled: Option<Deadline>, deadline: Option<Deadline>) -> Option<Deadline> {
    let nap = unsettled.and_then(|settled| settled.plus(NAP));
    match (nap, deadline) {
        (Some(nap), Some(deadline)) => Some(nap.min(deadline)),
        (some, None) | (None, some) => some,
    }
}

/// What is rung at [deaths](Site::ring_at_deaths). For `shmkit-channel`, and not covered by semantic versioning.
#[doc(hidden)]
pub trait Bell: core::fmt::Debug + Send + Sync {
    /// Rings it, at once. May be called by any thread, with a lock of this library held.
    fn ring(&self);
}

/// The number of deaths and departures in a region so far, modulo 2^32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Epoch(u32);

/// Where a primitive lives: in a region, with other processes, or in memory of this process alone.
///
/// Outside any region everybody who is asked about is alive, and nobody else can wake a sleeper; see the
/// [module](self#outside-any-region).
#[derive(Debug)]
pub struct Site {
    token: Token,
    region: Option<Arc<Attachment>>,
    /// The news of that region, at hand: a channel asks for the epoch with each message.
    news: Option<NewsOf>,
    /// When it was found: about when the wait began.
    since: Deadline,
}

impl Site {
    /// The site of `primitive`, which is the thing itself and not a handle to it: `Site::of(&*shm)`.
    ///
    /// # Errors
    ///
    /// Only in a forked child that could not attach to a region it inherited, and in a process without memory for a page:
    /// without a token of its own it can neither hold anything nor wait.
    #[cold]
    pub fn of<T>(primitive: &T) -> Result<Self, Error> {
        Self::at(core::ptr::from_ref(primitive).addr())
    }

    pub(crate) fn at(address: usize) -> Result<Self, Error> {
        let token = ensure_token()?;
        let region = find(address);
        if let Some(region) = &region {
            come_in(region, token)?;
        }
        let news = region.as_deref().map(|region| NewsOf(NonNull::from(region.news())));
        Ok(Self { token, region, news, since: Deadline::now() })
    }

    /// The token that the calling process holds things under.
    pub fn token(&self) -> Token {
        self.token
    }

    /// Whether the calling process is the one that the site was found in; not so in a child that a signal handler has forked.
    pub fn is_own(&self) -> bool {
        identity::is_own(self.token)
    }

    /// The place of the calling process among the participants of the region, from 0; `None` outside any region.
    ///
    /// No two participants have the same place at the same time; that of one who has left goes to a later one. Good for spreading
    /// what processes write over several cache lines, and for nothing that must be right.
    pub fn place(&self) -> Option<usize> {
        self.region.as_ref().and_then(|region| region.place())
    }

    /// Whether the calling process is told of deaths. If it is not, it hears of them only when it [looks](Self::look), or waits.
    pub fn is_told(&self) -> bool {
        self.region.as_ref().is_none_or(|region| region.has_keeper())
    }

    /// The epoch of deaths.
    #[inline]
    pub fn epoch(&self) -> Epoch {
        // SAFETY: they are those of `region`, which keeps them mapped, at one place, as long as `self` lives. Nothing but atomics.
        Epoch(self.news.as_ref().map_or(0, |news| unsafe { news.0.as_ref() }.epoch()))
    }

    /// Whether the process behind `token` may still act at this site. `false` is proven and final.
    pub fn is_alive(&self, token: Token) -> bool {
        self.region.as_ref().is_none_or(|region| region.participants().is_alive(token))
    }

    /// Lets `bell` be rung, by the keeper of this process, after each death and departure in the region that is told of from now on, for those who
    /// wait in another way than by [waiting](Self::wait); says whether it will be: this process may have no keeper. For `shmkit-channel`, and
    /// not covered by semantic versioning.
    #[doc(hidden)]
    #[cfg(not(ipc_loom))]
    pub fn ring_at_deaths(&self, bell: Weak<dyn Bell>) -> bool {
        self.region.as_ref().is_none_or(|region| region.ring_at_deaths(bell))
    }

    /// Looks for deaths that nobody has told of, for those who are going to ask [who is alive](Self::is_alive) and not to wait: a process
    /// without a keeper hears of deaths only when it looks for them, so it does. With a keeper it does so once in a second, as those
    /// who wait do.
    pub fn look(&self) {
        if let Some(region) = &self.region {
            look(region);
        }
    }

    /// [Looks](Self::look) for deaths, however short the time since the last look: for those who would be wrong to take somebody for alive who has been reaped.
    pub fn look_now(&self) {
        if let Some(region) = &self.region {
            region.sweep();
        }
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
        let words = [(word, expected), (region.news().epoch_word() as &dyn FutexWord, epoch.0)];
        sleep(&words, &[(region, epoch)], self.since, deadline)
    }

    /// Waits on `word` until `condition` gives something; `None` if it does not until `deadline`.
    ///
    /// The condition is asked again after every wake-up on `word`, every change of it and every death. What it looks at may
    /// change only before `word` does, or by a death.
    ///
    /// # Blocking
    ///
    /// Until then; not at all if the condition gives something at once, also if the deadline has passed.
    ///
    /// # Crash safety
    ///
    /// The process may be killed at any point: it leaves nothing behind. A wake-up that dies with it is made good by its death.
    pub fn wait_for<R>(
        &self,
        word: &dyn FutexWord,
        deadline: Option<Deadline>,
        mut condition: impl FnMut() -> Option<R>,
    ) -> Option<R> {
        let mut again;
        let mut site = self;
        loop {
            // Both before the condition, which may change in between: then the wait returns at once.
            let epoch = site.epoch();
            let expected = word.value();
            // Acquire pairs with the Release of whoever has changed the word: the condition sees what came before that.
            fence(Acquire);
            if let Some(result) = condition() {
                return Some(result);
            }
            let woken = site.wait(word, expected, epoch, deadline);
            if woken == Woken::TimedOut || deadline.is_some_and(Deadline::has_passed) {
                let last = condition();
                if last.is_none() && woken == Woken::Maybe {
                    // It may have been meant for one of several who wait: the next one is woken in our place.
                    wake_one(word);
                }
                return last;
            }
            if !site.is_own() {
                // A signal handler has forked: the child takes part by itself from here on, or hears of no deaths. If it cannot, it goes on
                // as it was.
                if let Ok(own) = Self::at(word.address().addr()) {
                    again = own;
                    site = &again;
                }
            }
        }
    }

    /// The region, if it lies in one.
    pub(crate) fn region(&self) -> Option<&Arc<Attachment>> {
        self.region.as_ref()
    }

    /// Whether a primitive at this address surely has this site, too.
    pub(crate) fn covers(&self, address: usize) -> bool {
        #[cfg(not(ipc_loom))]
        return self.region.as_ref().is_some_and(|region| region.region().addresses().contains(&address));
        // Every primitive of a model lies in the region of whoever uses it.
        #[cfg(ipc_loom)]
        {
            let _ = address;
            self.region.is_some()
        }
    }

    /// When it was found.
    pub(crate) fn since(&self) -> Deadline {
        self.since
    }
}

/// Where the news of a region are.
#[derive(Debug)]
struct NewsOf(NonNull<News>);

// SAFETY: the address of nothing but atomics, which are good in any thread.
unsafe impl Send for NewsOf {}
// SAFETY: as above.
unsafe impl Sync for NewsOf {}

impl Epoch {
    /// What the word of the epochs was.
    pub(crate) fn value(self) -> u32 {
        self.0
    }
}

/// Sleeps while all `words` are as expected, and the epochs of all `regions`, whose words are among them; at most until `deadline`. The thread
/// has been waiting, with pauses, since `since`.
pub(crate) fn sleep(
    words: &[(&dyn FutexWord, u32)],
    regions: &[(&Arc<Attachment>, Epoch)],
    since: Deadline,
    deadline: Option<Deadline>,
) -> Woken {
    // A process without a keeper hears of deaths by this alone.
    if any(regions, |region| !region.has_keeper() && look_if_due(region, NO_KEEPER)) {
        return Woken::Maybe;
    }
    let shortest = regions.iter().filter_map(|(region, _)| slice(region)).min();
    let look = shortest.and_then(Deadline::after);
    let until = match (look, deadline) {
        (Some(look), Some(deadline)) => Some(look.min(deadline)),
        (some, None) | (None, some) => some,
    };
    let woken = futex::wait(words, until);
    if woken == Woken::Maybe || until == deadline {
        // Whoever is woken again and again, or waits for short times only, must learn of deaths, too.
        let has_waited = woken == Woken::TimedOut || since.plus(NET).is_some_and(Deadline::has_passed);
        let is_due = |region: &Attachment| slice(region).is_some_and(|slice| look_if_due(region, slice));
        return if has_waited && any(regions, is_due) { Woken::Maybe } else { woken };
    }
    for (region, epoch) in regions {
        let slice = slice(region);
        if slice != shortest {
            // A wait in several regions, of which another one has no keeper.
            let _ = slice.is_some_and(|slice| look_if_due(region, slice));
            continue;
        }
        // A word that has changed says nothing: the lock may have gone from hand to hand among others.
        let missed = region.news().epoch() != epoch.0;
        if (region.sweep() || missed) && slice == Some(NET) {
            region.participants().count_rescue();
        }
    }
    Woken::Maybe
}

/// Whether `is_so` is true of any of the regions; all are asked.
fn any(regions: &[(&Arc<Attachment>, Epoch)], is_so: impl Fn(&Attachment) -> bool) -> bool {
    regions.iter().fold(false, |any, (region, _)| is_so(region) || any)
}

/// Makes this process, whose token is `token`, take part in `region` if it could not when it was forked: hostile peers had filled the table.
#[inline]
pub(crate) fn come_in(region: &Attachment, token: Token) -> Result<(), Error> {
    #[cfg(not(ipc_loom))]
    if region.place().is_none() {
        return crate::registry::join(region, token);
    }
    let _ = (region, token);
    Ok(())
}

/// See [`Site::look`].
#[inline]
pub(crate) fn look(region: &Attachment) {
    if !region.has_keeper() {
        // How long that takes, hostile peers have a say in.
        let _ = (region.is_trusted() || region.is_look_due(NO_KEEPER)) && region.sweep();
    } else if crate::config::get().safety_net {
        look_if_due(region, NET);
    }
}

/// Looks for deaths if nobody in this process has done so for `time`; says whether there were any. That is no rescue: the news may be
/// on its way, and whoever looks now has not been asleep for so long.
fn look_if_due(region: &Attachment, time: Duration) -> bool {
    region.is_look_due(time) && region.sweep()
}

/// After which time to look for deaths.
fn slice(region: &Attachment) -> Option<Duration> {
    if !region.has_keeper() {
        Some(NO_KEEPER)
    } else if crate::config::get().safety_net {
        Some(NET)
    } else {
        None
    }
}

/// Makes sure that the calling process takes part in the region of `primitive`. To be called before a change that is followed by a wake-up, by
/// operations that hold nothing and so need no token.
///
/// Every process does so already, but for a child that has just been forked: if that were killed before the wake-up, nobody would miss it. If it
/// cannot take part, the safety net is left.
#[inline]
pub fn take_part<T>(primitive: &T) {
    if identity::current().is_none() {
        let _ = Site::of(primitive);
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

#[cfg(all(test, not(ipc_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_nap_ends_after_its_mark_has_settled_and_no_later_than_the_deadline() {
        let settled = settling();
        let soon = Deadline::after(Duration::from_micros(1));
        let late = Deadline::after(Duration::from_secs(10));

        assert!(nap(settled, None) > settled);
        assert_eq!(nap(settled, late), nap(settled, None));
        assert_eq!(nap(settled, soon), soon);
        assert_eq!(nap(None, late), late);
        assert_eq!(nap(None, None), None);
    }

    #[test]
    fn a_mark_that_was_set_earlier_settles_earlier_and_never_later_than_a_new_one() {
        let earlier = Deadline::now();

        assert_eq!(settles(earlier.as_nanos()), Some(earlier));
        assert!(settles(u64::MAX) <= settling());
    }
}
