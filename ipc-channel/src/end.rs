//! An end of a channel in the hands of its owner: what senders and receivers of all kinds have in common.

use core::fmt;
use core::sync::atomic::Ordering::Acquire;
use core::time::Duration;
use std::sync::Arc;
#[cfg(not(ipc_loom))]
use std::sync::Weak;
#[cfg(not(ipc_loom))]
use std::thread::JoinHandle;

use shmkit_core::shim::fence;
#[cfg(not(ipc_loom))]
use shmkit_core::wait;
use shmkit_core::wait::{Armed, Epoch, FutexWord, Site};
use shmkit_core::{Deadline, Error, ShmSafe, Tailed, crash_point};

use crate::bell::Bell;
use crate::ends::{Claim, Ended, Ends, NotClaimed, Side};
use crate::readiness::{Desk, Readiness};

/// What lies at the beginning of a channel.
pub(crate) trait Head: ShmSafe {
    /// Its ends.
    fn ends(&self) -> &Ends;
}

/// A claimed end, and what its owner knows of the other one. Closed when dropped.
#[derive(Debug)]
pub(crate) struct End<H: Head> {
    channel: Tailed<H>,
    /// The other way of a duplex channel.
    sibling: Option<Tailed<H>>,
    claim: Claim,
    site: Site,
    /// The epoch of deaths when the owner of the other end was last looked at.
    seen: Epoch,
    /// The other end as it was then, without its SLEEPY; before the first look, what it never is.
    other: u64,
    /// This end was closed by its owner.
    is_closed: bool,
    /// How often there was nothing to do.
    idle: u32,
    /// The bell of the channel, if it was carried to both sides: the sender rings it, and the receiver is asked for it.
    bell: Option<Arc<Bell>>,
    /// How an event loop is told, if there is one.
    watch: Option<Watch<H>>,
}

/// What a watcher does.
pub(crate) type Life = Box<dyn FnOnce() + Send>;

/// Whether a message of some number has come, or what is there is garbage.
type HasCome<H> = Box<dyn Fn(&Tailed<H>, u64) -> bool + Send + Sync>;

/// How an event loop is told of what comes.
enum Watch<H: Head> {
    /// By a watcher, which rings.
    Desk(Watcher),
    /// By the sender, and the keeper of this process.
    Bell(Arc<Bell>, HasCome<H>),
}

impl<H: Head> Watch<H> {
    fn bell(&self) -> &Arc<Bell> {
        match self {
            Self::Desk(watcher) => watcher.desk.bell(),
            Self::Bell(bell, _) => bell,
        }
    }
}

impl<H: Head> fmt::Debug for Watch<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Watch").field(self.bell()).finish_non_exhaustive()
    }
}

/// What an owner has of its watcher.
struct Watcher {
    desk: Arc<Desk>,
    /// Models have it elsewhere.
    #[cfg(not(ipc_loom))]
    thread: JoinHandle<()>,
}

/// How long to sleep at most until the owner looks whether it still is the process in which the watcher is.
const SLICE: Duration = Duration::from_secs(1);

/// How often one who is told of deaths finds nothing to do until it looks for them by itself, nevertheless.
const LEISURE: u32 = 64;

impl<H: Head> End<H> {
    /// Makes an end that of the calling process.
    pub(crate) fn claim(channel: Tailed<H>, side: Side, sibling: Option<Tailed<H>>) -> Result<Self, NotClaimed> {
        let site = Site::of(channel.ends()).map_err(NotClaimed::Failed)?;
        let claim = channel.ends().claim(side)?;
        Ok(Self::at(site, channel, claim, sibling))
    }

    /// The end that the calling process has by `claim`.
    pub(crate) fn of_claim(channel: Tailed<H>, claim: Claim, sibling: Option<Tailed<H>>) -> Result<Self, Error> {
        Ok(Self::at(Site::of(channel.ends())?, channel, claim, sibling))
    }

    fn at(site: Site, channel: Tailed<H>, claim: Claim, sibling: Option<Tailed<H>>) -> Self {
        let (seen, other) = (site.epoch(), Ends::NOTHING);
        Self { channel, sibling, claim, site, seen, other, is_closed: false, idle: 0, bell: None, watch: None }
    }

    /// Undoes the claim, as if it had never been made.
    pub(crate) fn unclaim(mut self) {
        if self.channel.ends().unclaim(&self.claim) {
            self.ring_other();
        }
        self.is_closed = true;
    }

    /// Gives it the bell of its channel, which the other side has, too, or is to have.
    pub(crate) fn carry(&mut self, bell: &Arc<Bell>) {
        self.bell = Some(Arc::clone(bell));
    }

    /// The channel.
    #[inline]
    pub(crate) fn channel(&self) -> &Tailed<H> {
        &self.channel
    }

    /// Whether the calling process may use the end: it has it and has not closed it.
    #[inline]
    pub(crate) fn is_usable(&self) -> bool {
        self.claim.is_own() && !self.is_closed
    }

    /// Why it may not, if it may not.
    #[inline]
    pub(crate) fn check(&self) -> Result<(), Ended> {
        if self.is_usable() { Ok(()) } else { Err(self.refusal()) }
    }

    #[cold]
    fn refusal(&self) -> Ended {
        if self.is_closed { Ended::Gone } else { Ended::Failed(Error::Forked) }
    }

    /// Whether the other side, opposite to this `side`, was there when it was last looked at, and nothing has happened since. Costs two
    /// loads; a side that is known to the compiler saves it from computing where they are.
    #[inline]
    pub(crate) fn is_other_as_seen(&self, side: Side) -> bool {
        self.seen == self.site.epoch() && self.other == self.channel.ends().other(side)
    }

    /// Whether the other side is gone, as far as is known.
    #[inline]
    pub(crate) fn is_other_gone(&mut self) -> Result<bool, Error> {
        if self.is_other_as_seen(self.claim.side()) { Ok(false) } else { self.look_at_other() }
    }

    #[cold]
    fn look_at_other(&mut self) -> Result<bool, Error> {
        let epoch = self.site.epoch();
        // The epoch before the look, so that a death in between is looked for again.
        fence(Acquire);
        let other = self.channel.ends().other(self.claim.side());
        let is_gone = self.is_other_gone_now()?;
        if !is_gone {
            self.seen = epoch;
            self.other = other;
        }
        Ok(is_gone)
    }

    /// The same for those who have found nothing to do, and may come back again and again: sometimes they look for deaths, always if nobody
    /// tells them.
    #[inline]
    pub(crate) fn is_other_gone_at_leisure(&mut self) -> Result<bool, Error> {
        self.idle = self.idle.wrapping_add(1);
        if self.idle % LEISURE == 0 || !self.site.is_told() { self.is_other_gone_now() } else { self.is_other_gone() }
    }

    /// The same with a look for deaths.
    #[cold]
    pub(crate) fn is_other_gone_now(&self) -> Result<bool, Error> {
        let site = Site::of(self.channel.ends())?;
        site.look();
        self.is_other_gone_at(&site)
    }

    /// Whether the other end was closed, or its owner is dead. What the other side did before is visible then.
    fn is_other_gone_at(&self, site: &Site) -> Result<bool, Error> {
        Self::is_gone(&self.channel, self.sibling.as_ref(), &self.claim, site)
    }

    fn is_gone(channel: &Tailed<H>, sibling: Option<&Tailed<H>>, claim: &Claim, site: &Site) -> Result<bool, Error> {
        let (ends, side) = (channel.ends(), claim.side());
        let is_gone = ends.is_gone(side.other(), site)?;
        // One who was killed between the claims of its two ends has left one of them as if it were yet to come.
        match sibling {
            Some(sibling) if !is_gone && ends.is_absent(side.other()) => sibling.ends().is_gone(side, site),
            _ => Ok(is_gone),
        }
    }

    /// Tells the other side of a change on this `side`, if it is asleep. The change must have been made before, with Release.
    #[inline]
    pub(crate) fn tell(&self, side: Side) {
        if self.channel.ends().is_to_be_told(side.other()) {
            self.tell_sleepy(side);
        }
    }

    /// Never where messages are passed: there, it would be in the way of what is.
    #[cold]
    #[inline(never)]
    fn tell_sleepy(&self, side: Side) {
        if self.channel.ends().tell_sleepy(side.other()) {
            self.ring_other();
        }
    }

    /// Rings the bell of the other side.
    #[cold]
    fn ring_other(&self) {
        crash_point!("end.tell.before_ring");
        // One who was asked to ring without having a bell has been asked by garbage.
        if let Some(bell) = &self.bell {
            bell.ring();
        }
        crash_point!("end.tell.after_ring");
    }

    /// Waits until `look` finds something, or the other side is gone and `look` does not find anything after that either.
    pub(crate) fn wait<R>(&self, deadline: Option<Deadline>, look: impl FnMut() -> Option<R>) -> Result<R, Ended> {
        match &self.watch {
            Some(Watch::Desk(watcher)) => self.wait_for_watcher(&watcher.desk, deadline, look),
            Some(Watch::Bell(bell, _)) => {
                let waited = self.wait_here(deadline, look);
                self.ring_own(bell);
                waited
            }
            None => self.wait_here(deadline, look),
        }
    }

    /// Lets the event loop look again: what it had left word of may be overwritten.
    fn ring_own(&self, bell: &Bell) {
        // A forked child has a copy of the bell of its parent.
        if self.claim.is_own() {
            bell.ring();
        }
    }

    fn wait_here<R>(&self, deadline: Option<Deadline>, look: impl FnMut() -> Option<R>) -> Result<R, Ended> {
        self.channel.ends().wait(&self.claim, deadline, look, |site| self.is_other_gone_at(site))
    }

    #[cold]
    fn wait_for_watcher<R>(
        &self,
        desk: &Desk,
        deadline: Option<Deadline>,
        mut look: impl FnMut() -> Option<R>,
    ) -> Result<R, Ended> {
        let site = Site::of(self.channel.ends())?;
        while desk.arm() {
            let is_over = deadline.is_some_and(Deadline::has_passed);
            if let Some(ended) = Ends::look_around(&site, is_over, &mut look, |site| self.is_other_gone_at(site)) {
                return ended;
            }
            let slice = Deadline::after(SLICE).filter(|_| !cfg!(ipc_loom));
            desk.sleep(match (slice, deadline) {
                (Some(slice), Some(deadline)) => Some(slice.min(deadline)),
                (some, None) | (None, some) => some,
            });
            self.check()?;
        }
        // It has met with what this is going to meet with.
        self.wait_here(deadline, look)
    }

    /// To be called by an owner who is going to wait for the message of this `number`.
    pub(crate) fn expect(&self, number: u64) {
        if let Some(Watch::Desk(watcher)) = &self.watch {
            watcher.desk.want(number);
        }
    }

    /// To be called by an owner who goes away without the message of this `number`: if there is an event loop, that is told when it comes.
    #[cold]
    pub(crate) fn go_without(&self, number: u64) -> Result<(), Ended> {
        let watcher = match &self.watch {
            None => return Ok(()),
            Some(Watch::Bell(bell, has_come)) => return self.leave_word(bell, || has_come(&self.channel, number)),
            Some(Watch::Desk(watcher)) => watcher,
        };
        watcher.desk.want(number);
        if watcher.desk.arm() {
            return Ok(());
        }
        match self.wait_here(Deadline::after(Duration::ZERO), || None::<()>) {
            Err(Ended::TimedOut) | Ok(()) => Ok(()),
            Err(ended) => Err(ended),
        }
    }

    /// Clears the bell and leaves word that it is to be rung, unless there is a reason to ring it at once.
    fn leave_word(&self, bell: &Bell, has_come: impl Fn() -> bool) -> Result<(), Ended> {
        self.check()?;
        // Before the looks below, which see what a ring that is cleared here was for.
        bell.clear();
        let is_seen = self.channel.ends().arm_bell(&self.claim)?;
        if !is_seen || has_come() || self.is_other_gone_at(&self.site)? {
            bell.ring();
        }
        Ok(())
    }

    /// A descriptor that tells when there is something to do, for an owner who wants the message of this `number` next. `has_come` says
    /// whether a message has come, or what is there is garbage.
    #[cfg(not(ipc_loom))]
    pub(crate) fn readiness(
        &mut self,
        number: u64,
        has_come: impl Fn(&Tailed<H>, u64) -> bool + Send + Sync + 'static,
    ) -> Result<Readiness, Ended> {
        self.check()?;
        if let Some(watch) = &self.watch {
            return Ok(Readiness::of(watch.bell()));
        }
        if let Some(bell) = self.bell.clone() {
            let at_deaths: Weak<dyn wait::Bell> = Arc::<Bell>::downgrade(&bell);
            if self.site.ring_at_deaths(at_deaths) {
                return self.readiness_by_bell(bell, number, has_come);
            }
        }
        let (desk, life) = self.watched(number, has_come)?;
        let thread = crate::readiness::start(life).map_err(Error::from)?;
        let readiness = Readiness::of(desk.bell());
        self.watch = Some(Watch::Desk(Watcher { desk, thread }));
        Ok(readiness)
    }

    /// The same by a bell that the sender has, too, and that somebody rings at deaths.
    pub(crate) fn readiness_by_bell(
        &mut self,
        bell: Arc<Bell>,
        number: u64,
        has_come: impl Fn(&Tailed<H>, u64) -> bool + Send + Sync + 'static,
    ) -> Result<Readiness, Ended> {
        let readiness = Readiness::of(&bell);
        self.watch = Some(Watch::Bell(bell, Box::new(has_come)));
        self.go_without(number)?;
        Ok(readiness)
    }

    /// The same, and what the watcher does, for a model to start.
    #[cfg(ipc_loom)]
    pub(crate) fn readiness(
        &mut self,
        number: u64,
        has_come: impl Fn(&Tailed<H>, u64) -> bool + Send + 'static,
    ) -> Result<(Readiness, Life), Ended> {
        let (desk, life) = self.watched(number, has_come)?;
        let readiness = Readiness::of(desk.bell());
        self.watch = Some(Watch::Desk(Watcher { desk }));
        Ok((readiness, life))
    }

    /// Where to meet a new watcher, and what it does.
    fn watched(
        &self,
        number: u64,
        has_come: impl Fn(&Tailed<H>, u64) -> bool + Send + 'static,
    ) -> Result<(Arc<Desk>, Life), Error> {
        let desk = Arc::new(Desk::new()?);
        desk.want(number);
        desk.arm();
        let (of_watcher, channel, sibling) = (Arc::clone(&desk), self.channel.clone(), self.sibling.clone());
        let claim = self.claim.of_watcher();
        let life = move || {
            of_watcher.watch(|is_off, wanted| {
                let look = || (is_off() || has_come(&channel, wanted())).then_some(());
                let is_gone = |site: &Site| Self::is_gone(&channel, sibling.as_ref(), &claim, site);
                !matches!(channel.ends().wait(&claim, None, look, is_gone), Err(Ended::Failed(_)))
            });
        };
        Ok((desk, Box::new(life)))
    }

    /// Ends the watch, and waits for the end of the watcher: nobody of this process sleeps at the end any more. The bell stays rung.
    fn end_watch(&mut self) {
        match self.watch.take() {
            None => {}
            Some(Watch::Bell(bell, _)) => self.ring_own(&bell),
            Some(Watch::Desk(watcher)) if self.claim.is_own() => {
                watcher.desk.end();
                self.channel.ends().interrupt(&self.claim);
                #[cfg(not(ipc_loom))]
                let _ = watcher.thread.join();
            }
            Some(Watch::Desk(_watcher)) => {
                // The thread is one of the parent's.
                #[cfg(not(ipc_loom))]
                core::mem::forget(_watcher.thread);
            }
        }
    }

    /// The word that the owner sleeps on, for [`Source::word`](shmkit_core::wait::Source::word).
    pub(crate) fn word(&self) -> &dyn FutexWord {
        match &self.watch {
            Some(Watch::Desk(watcher)) if !watcher.desk.is_over() => watcher.desk.word(),
            _ => self.channel.ends().word(&self.claim),
        }
    }

    /// For [`Source::arm`](shmkit_core::wait::Source::arm).
    pub(crate) fn arm(&self) -> Result<Armed, Error> {
        match &self.watch {
            Some(Watch::Desk(watcher)) if watcher.desk.arm() => Ok(watcher.desk.armed()),
            _ => self.channel.ends().arm(&self.claim),
        }
    }

    /// For [`Source::disarm`](shmkit_core::wait::Source::disarm).
    pub(crate) fn disarm(&self) {
        match &self.watch {
            // What is armed at a desk may stay so.
            Some(Watch::Desk(watcher)) if !watcher.desk.is_over() => {}
            Some(Watch::Bell(bell, _)) => {
                self.channel.ends().disarm(&self.claim);
                self.ring_own(bell);
            }
            _ => self.channel.ends().disarm(&self.claim),
        }
    }

    /// Closes it and tells the other side. Does nothing the second time, and in a forked child.
    pub(crate) fn close(&mut self) {
        if !self.is_closed {
            self.end_watch();
            if self.channel.ends().close(&self.claim) {
                self.ring_other();
            }
            self.is_closed = true;
        }
    }
}

impl<H: Head> Drop for End<H> {
    fn drop(&mut self) {
        self.close();
    }
}
