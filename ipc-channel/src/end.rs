//! An end of a channel in the hands of its owner: what senders and receivers of all kinds have in common.

use core::sync::atomic::Ordering::Acquire;
use core::time::Duration;
use std::sync::Arc;
#[cfg(not(ipc_loom))]
use std::thread::JoinHandle;

use shmkit_core::shim::fence;
use shmkit_core::wait::{Armed, Epoch, FutexWord, Site};
use shmkit_core::{Deadline, Error, ShmSafe, Tailed};

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
    /// The epoch of deaths when the owner of the other end was last looked at. Before the first look there is none.
    seen: Option<Epoch>,
    /// The other end as it was then, without its SLEEPY.
    other: u64,
    /// This end was closed by its owner.
    is_closed: bool,
    /// How often there was nothing to do.
    idle: u32,
    /// Who waits at the end for an event loop, if there is one.
    watch: Option<Watch>,
}

/// What a watcher does.
pub(crate) type Life = Box<dyn FnOnce() + Send>;

/// What an owner has of its watcher.
#[derive(Debug)]
struct Watch {
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
        Self { channel, sibling, claim, site, seen: None, other: 0, is_closed: false, idle: 0, watch: None }
    }

    /// Undoes the claim, as if it had never been made.
    pub(crate) fn unclaim(mut self) {
        self.channel.ends().unclaim(&self.claim);
        self.is_closed = true;
    }

    /// The channel.
    #[inline]
    pub(crate) fn channel(&self) -> &Tailed<H> {
        &self.channel
    }

    /// Whether the calling process may use the end: it has it and has not closed it.
    #[inline]
    pub(crate) fn check(&self) -> Result<(), Ended> {
        if self.claim.is_own() && !self.is_closed { Ok(()) } else { Err(self.refusal()) }
    }

    #[cold]
    fn refusal(&self) -> Ended {
        if self.is_closed { Ended::Gone } else { Ended::Failed(Error::Forked) }
    }

    /// Whether the other side is gone, as far as is known. Costs two loads as long as nothing has happened.
    #[inline]
    pub(crate) fn is_other_gone(&mut self) -> Result<bool, Error> {
        if self.seen == Some(self.site.epoch()) && self.channel.ends().is_other(&self.claim, self.other) {
            return Ok(false);
        }
        self.look_at_other()
    }

    #[cold]
    fn look_at_other(&mut self) -> Result<bool, Error> {
        let epoch = self.site.epoch();
        // The epoch before the look, so that a death in between is looked for again.
        fence(Acquire);
        let other = self.channel.ends().other(&self.claim);
        let is_gone = self.is_other_gone_now()?;
        if !is_gone {
            self.seen = Some(epoch);
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

    /// Tells the other side of a change, if it is asleep. The change must have been made before, with Release.
    #[inline]
    pub(crate) fn tell(&self) {
        self.channel.ends().tell(&self.claim);
    }

    /// Waits until `look` finds something, or the other side is gone and `look` does not find anything after that either.
    pub(crate) fn wait<R>(&self, deadline: Option<Deadline>, look: impl FnMut() -> Option<R>) -> Result<R, Ended> {
        match &self.watch {
            Some(watch) => self.wait_for_watcher(&watch.desk, deadline, look),
            None => self.wait_here(deadline, look),
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
        if let Some(watch) = &self.watch {
            watch.desk.want(number);
        }
    }

    /// To be called by an owner who goes away without the message of this `number`: if there is a watcher, that tells when it comes.
    #[cold]
    pub(crate) fn go_without(&self, number: u64) -> Result<(), Ended> {
        let Some(watch) = &self.watch else {
            return Ok(());
        };
        watch.desk.want(number);
        if watch.desk.arm() {
            return Ok(());
        }
        match self.wait_here(Deadline::after(Duration::ZERO), || None::<()>) {
            Err(Ended::TimedOut) | Ok(()) => Ok(()),
            Err(ended) => Err(ended),
        }
    }

    /// A descriptor that tells when there is something to do, for an owner who wants the message of this `number` next. `has_come` says
    /// whether a message has come, or what is there is garbage.
    #[cfg(not(ipc_loom))]
    pub(crate) fn readiness(
        &mut self,
        number: u64,
        has_come: impl Fn(&Tailed<H>, u64) -> bool + Send + 'static,
    ) -> Result<Readiness, Ended> {
        self.check()?;
        if let Some(watch) = &self.watch {
            return Ok(Readiness::of(&watch.desk));
        }
        let (desk, life) = self.watched(number, has_come)?;
        let thread = crate::readiness::start(life).map_err(Error::from)?;
        let readiness = Readiness::of(&desk);
        self.watch = Some(Watch { desk, thread });
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
        let readiness = Readiness::of(&desk);
        self.watch = Some(Watch { desk });
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

    /// Ends the watch, and waits for the end of the watcher: nobody of this process sleeps at the end any more.
    fn dismiss_watcher(&mut self) {
        let Some(watch) = self.watch.take() else {
            return;
        };
        if self.claim.is_own() {
            watch.desk.end();
            self.channel.ends().interrupt(&self.claim);
            #[cfg(not(ipc_loom))]
            let _ = watch.thread.join();
        } else {
            // The thread is one of the parent's.
            #[cfg(not(ipc_loom))]
            core::mem::forget(watch.thread);
        }
    }

    /// The word that the owner sleeps on, for [`Source::word`](shmkit_core::wait::Source::word).
    pub(crate) fn word(&self) -> &dyn FutexWord {
        match &self.watch {
            Some(watch) if !watch.desk.is_over() => watch.desk.word(),
            _ => self.channel.ends().word(&self.claim),
        }
    }

    /// For [`Source::arm`](shmkit_core::wait::Source::arm).
    pub(crate) fn arm(&self) -> Result<Armed, Error> {
        match &self.watch {
            Some(watch) if watch.desk.arm() => Ok(watch.desk.armed()),
            _ => self.channel.ends().arm(&self.claim),
        }
    }

    /// For [`Source::disarm`](shmkit_core::wait::Source::disarm).
    pub(crate) fn disarm(&self) {
        // What is armed at a desk may stay so.
        if self.watch.as_ref().is_none_or(|watch| watch.desk.is_over()) {
            self.channel.ends().disarm(&self.claim);
        }
    }

    /// Closes it and tells the other side. Does nothing the second time, and in a forked child.
    pub(crate) fn close(&mut self) {
        if !self.is_closed {
            self.dismiss_watcher();
            self.channel.ends().close(&self.claim);
            self.is_closed = true;
        }
    }
}

impl<H: Head> Drop for End<H> {
    fn drop(&mut self) {
        self.close();
    }
}
