//! Waiting for whichever of several things comes first.
//!
//! A thread that sleeps for several things is on the queue of each of their words, and any wake-up ends its sleep. Two things follow.
//!
//! **It may have been woken by more than one**, and it cannot know by which: until it runs, each of its words can spend a wake-up on it.
//! Where a wake-up is meant for one of many who sleep (a set of an auto-reset event, a permit), it may have got one that it has no use
//! for, and whoever should have had it sleeps on. So it passes them on: each [`Source`] is told at the end whether the thread may
//! have been woken, and makes sure that others are not forgotten.
//!
//! **It is told of no more than readiness.** Nothing is taken, so a wake-up is never used up by the wait itself: it is passed on also by the
//! source that is ready. That may wake one thread too many, and then one of the two finds nothing and waits again.
//!
//! # A kill at each point
//!
//! * between marks, or asleep: marks stay behind that mean nobody; each costs others one wake-up of nobody, once;
//! * woken, or between the sources when it passes wake-ups on: its death wakes all sleepers of each region, and they look.

use std::sync::Arc;

#[cfg(not(ipc_loom))]
use crate::attachment::Attachment;
use crate::crash_point;
use crate::deadline::Deadline;
use crate::error::Error;
use crate::identity;
use crate::shim::futex::{FutexWord, Woken};
#[cfg(ipc_loom)]
use crate::shim::model::Attachment;
use crate::spin::spin;
use crate::wait::{Epoch, Site, nap, settling, sleep};

/// For how many things one [`wait_any`](crate::wait_any) can be. As many words, and those of the epochs of as many regions, are what the kernel takes.
pub const MAX_SOURCES: usize = 64;

/// Something that [`wait_any`](crate::wait_any) can wait for: a primitive, from the point of view of one who waits for it.
///
/// The thread calls [`is_ready`](Self::is_ready) first. If nothing is ready, it goes round: [`arm`](Self::arm), `is_ready`, sleep on the
/// [`word`](Self::word); and at the end [`disarm`](Self::disarm), once. In between, the source belongs to this one thread.
///
/// Deaths need nothing of this: each raises the epoch of its region, by which the sleep ends, so `is_ready` is asked again.
///
/// # Examples
///
/// A gate that wakes only if somebody has said that they sleep:
///
/// ```
/// use core::sync::atomic::{AtomicU32, Ordering::{AcqRel, Acquire, Release}};
/// use shmkit_core::wait::{Armed, FutexWord, Source, wake_all};
/// use shmkit_core::{Deadline, Error, Region, wait_any};
///
/// const OPEN: u32 = 1;
/// const WAITING: u32 = 2;
///
/// fn open(gate: &AtomicU32) {
///     if gate.swap(OPEN, Release) & WAITING != 0 {
///         wake_all(gate);
///     }
/// }
///
/// struct Opening<'a>(&'a AtomicU32);
///
/// impl Source for Opening<'_> {
///     fn word(&self) -> &dyn FutexWord {
///         self.0
///     }
///
///     fn is_ready(&mut self) -> bool {
///         self.0.load(Acquire) & OPEN != 0
///     }
///
///     fn arm(&mut self) -> Result<Armed, Error> {
///         Ok(Armed::at(self.0.fetch_or(WAITING, AcqRel) | WAITING))
///     }
///
///     // All are woken, so no wake-up is for others; and WAITING may stay.
///     fn disarm(&mut self, _may_be_woken: bool) {}
/// }
///
/// let region = Region::anonymous(4096)?;
/// let gates = [region.insert("left", AtomicU32::new(0))?, region.insert("right", AtomicU32::new(0))?];
/// std::thread::scope(|scope| {
///     scope.spawn(|| open(&gates[1]));
///     let [left, right] = &gates;
///     let ready = wait_any(&mut [&mut Opening(left), &mut Opening(right)], None)?;
///     assert_eq!(ready, Some(1));
///     Ok::<(), Error>(())
/// })?;
/// # Ok::<(), Error>(())
/// ```
pub trait Source {
    /// The word that changes whenever it may have become ready, and that a wake-up on follows. Always the same one.
    fn word(&self) -> &dyn FutexWord;

    /// Whether what is waited for can be had: the operation in question would not block, be it that it fails. Changes nothing.
    fn is_ready(&mut self) -> bool;

    /// Sees to it that whoever makes it ready from now on changes the word and wakes the calling thread, and says what the word is until
    /// then. `is_ready` is asked after that. Called before each sleep.
    ///
    /// # Errors
    ///
    /// They end the wait.
    fn arm(&mut self) -> Result<Armed, Error>;

    /// The thread waits no more, and may not take what is ready. If it `may_be_woken` by a wake-up on the word that was meant for one of
    /// several who sleep there, the source passes it on. Also called if it has not been armed, and after a panic in any of the sources.
    fn disarm(&mut self, may_be_woken: bool);
}

/// What a [`Source`] says when it has been armed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Armed {
    expected: u32,
    is_unsettled: bool,
}

impl Armed {
    /// The thread is to sleep while the word is `expected`.
    pub fn at(expected: u32) -> Self {
        Self { expected, is_unsettled: false }
    }

    /// The thread is to look again after a short sleep: a mark was set anew, and others look at it without a fence. See
    /// [`settling`](crate::wait::settling).
    #[must_use]
    pub fn unsettled(self, is_unsettled: bool) -> Self {
        Self { is_unsettled, ..self }
    }
}

/// Waits until one of `sources` is ready, or until `deadline`; says which one, by its index.
///
/// Sources are the receivers and senders of channels (`&mut receiver`; a pipe or a stream stands for what it receives), events (`&mut event.until_set()`), semaphores
/// (`&mut semaphore.until_available(1)`), other processes ([`&mut peer`](crate::Peer)), and what you make a [`Source`]. They may lie in different
/// regions, or in none.
///
/// If several are ready, it is the first of them in the slice: what must not be kept waiting by a busy neighbour belongs in front of it, such
/// as the event that ends the program. Where all are to have their turn, rotate the slice (`sources.rotate_left(ready + 1)`).
///
/// Nothing is taken. What is ready is then had by the `try_` operation of that thing: `try_recv`, `try_wait`, `try_acquire`. Where there are others who
/// take, one of them may have been faster; then wait again. An end of a channel is ready also when the other side is gone, or anything is
/// wrong with it: the operation says what. A process that is gone stays so: take it out of the slice.
///
/// `None` is returned only if nothing was ready at the deadline, or if there are no sources.
///
/// # Blocking
///
/// Until something is ready: first looking for some microseconds (see [`spin`](crate::spin)), then asleep, once for all. Signals do not
/// end it.
///
/// # Crash safety
///
/// The process may be killed at any point. It has taken nothing, and a wake-up that it has got instead of another is made good by its death.
///
/// # Errors
///
/// [`Error::TooManySources`] if there are more than [`MAX_SOURCES`]; those of the sources: [`Error::Corrupted`], [`Error::Forked`]; those of
/// [`Site::of`].
///
/// # Examples
///
/// ```
/// use shmkit_core::wait::Source;
/// use shmkit_core::{Deadline, RegionOptions, wait_any};
/// use std::time::Duration;
///
/// # let name = format!("shmkit-doc-wait-any-{}", std::process::id());
/// let region = RegionOptions::new().unlink_on_drop(true).create(&name, 4096)?;
/// // When others have opened the region: which of them goes first?
/// let mut peers = region.peers();
/// let mut sources: Vec<&mut dyn Source> = peers.iter_mut().map(|peer| peer as &mut dyn Source).collect();
/// match wait_any(&mut sources, Deadline::after(Duration::from_secs(1)))? {
///     Some(index) => println!("{} is gone", peers[index].info().name),
///     None => println!("all who were there still are"),
/// }
/// # Ok::<(), shmkit_core::Error>(())
/// ```
pub fn wait_any(sources: &mut [&mut dyn Source], deadline: Option<Deadline>) -> Result<Option<usize>, Error> {
    let count = sources.len();
    if count > MAX_SOURCES {
        return Err(Error::TooManySources { asked: count as u64, max: MAX_SOURCES as u64 });
    }
    if count == 0 {
        return Ok(None);
    }
    let mut ready = first_ready(sources);
    // One without patience wants an answer, and no longer a look than this.
    if ready.is_none() && !deadline.is_some_and(Deadline::has_passed) {
        // One at each look: with more of them a look takes no longer.
        let mut turns = (0..count).cycle();
        let seen = spin(|| turns.next().filter(|index| sources[*index].is_ready()));
        ready = seen.map(|seen| first_ready(&mut sources[..seen]).unwrap_or(seen));
    }
    match ready {
        Some(index) => Ok(Some(index)),
        None => wait_unready(sources, deadline),
    }
}

fn first_ready(sources: &mut [&mut dyn Source]) -> Option<usize> {
    sources.iter_mut().position(|source| source.is_ready())
}

#[cold]
fn wait_unready(sources: &mut [&mut dyn Source], deadline: Option<Deadline>) -> Result<Option<usize>, Error> {
    let mut waiting = Waiting { sources, may_be_woken: false };
    sleep_until_ready(waiting.sources, deadline, &mut waiting.may_be_woken)
}

/// Sources that are to be disarmed, also after a panic in one of them: others must not be forgotten for that.
struct Waiting<'a, 'b> {
    sources: &'a mut [&'b mut dyn Source],
    may_be_woken: bool,
}

impl Drop for Waiting<'_, '_> {
    fn drop(&mut self) {
        // In models, what the dead had is dropped, too.
        if cfg!(ipc_loom) && identity::current().is_none() {
            return;
        }
        for source in &mut *self.sources {
            crash_point!("wait_any.before_disarm");
            source.disarm(self.may_be_woken);
        }
    }
}

/// Goes to sleep until a source is ready. `may_be_woken`: whether that may have taken wake-ups since all sources were armed last.
fn sleep_until_ready(
    sources: &mut [&mut dyn Source],
    deadline: Option<Deadline>,
    may_be_woken: &mut bool,
) -> Result<Option<usize>, Error> {
    let mut sites = Sites::of(sources)?;
    let mut has_slept = false;
    let mut settled = None;
    loop {
        if !sites.are_own() {
            // A signal handler has forked: the child takes part by itself from here on.
            sites = Sites::of(sources)?;
        }
        // Before the sources are looked at, and so before everything that a death may change.
        let regions = sites.regions();
        let armed = sources.iter_mut().map(|source| source.arm()).collect::<Result<Vec<_>, _>>()?;
        crash_point!("wait_any.after_arm");
        if armed.iter().any(|armed| armed.is_unsettled) {
            settled = settling();
        }
        // Before the look, which is the last one if it is settled. Whatever ends a sleep before that time makes it no shorter.
        let unsettled = settled.filter(|settled| !settled.has_passed());
        if let Some(ready) = first_ready(sources) {
            return Ok(Some(ready));
        }
        if has_slept && deadline.is_some_and(Deadline::has_passed) {
            return Ok(None);
        }
        let words = words(sources, &armed, &regions);
        let woken = sleep(&words, &regions, sites.since, nap(unsettled, deadline));
        crash_point!("wait_any.after_sleep");
        // An earlier wake-up has been passed on by the arming that followed it, or its source is ready.
        *may_be_woken = woken == Woken::Maybe;
        has_slept = true;
    }
}

/// What to sleep on, each word once.
fn words<'a>(
    sources: &'a [&mut dyn Source],
    armed: &[Armed],
    regions: &[(&'a Arc<Attachment>, Epoch)],
) -> Vec<(&'a dyn FutexWord, u32)> {
    let mut words: Vec<(&dyn FutexWord, u32)> = Vec::with_capacity(sources.len() + regions.len());
    let of_sources = sources.iter().zip(armed).map(|(source, armed)| (source.word(), armed.expected));
    let of_regions =
        regions.iter().map(|(region, epoch)| (region.news().epoch_word() as &dyn FutexWord, epoch.value()));
    for (word, expected) in of_sources.chain(of_regions) {
        let is_same = |(other, value): &(&dyn FutexWord, u32)| other.address() == word.address() && *value == expected;
        if !words.iter().any(is_same) {
            words.push((word, expected));
        }
    }
    words
}

/// Where the sources lie: one site for each region, and for each source outside of all regions.
struct Sites {
    sites: Vec<Site>,
    since: Deadline,
}

impl Sites {
    fn of(sources: &[&mut dyn Source]) -> Result<Self, Error> {
        let mut sites: Vec<Site> = Vec::new();
        for source in sources {
            let address = source.word().address().addr();
            if !sites.iter().any(|site| site.covers(address)) {
                sites.push(Site::at(address)?);
            }
        }
        Ok(Self { since: sites[0].since(), sites })
    }

    fn are_own(&self) -> bool {
        self.sites.iter().all(Site::is_own)
    }

    /// The regions, and the epoch of deaths in each.
    fn regions(&self) -> Vec<(&Arc<Attachment>, Epoch)> {
        self.sites.iter().filter_map(|site| Some((site.region()?, site.epoch()))).collect()
    }
}
