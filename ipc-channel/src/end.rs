//! An end of a channel in the hands of its owner: what senders and receivers of all kinds have in common.

use core::sync::atomic::Ordering::Acquire;

use shmkit_core::shim::fence;
use shmkit_core::wait::{Armed, Epoch, FutexWord, Site};
use shmkit_core::{Deadline, Error, ShmSafe, Tailed};

use crate::ends::{Claim, Ended, Ends, NotClaimed, Side};

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
}

/// How often one who is told of deaths finds nothing to do until it looks for them by itself, nevertheless.
const LEISURE: u32 = 64;

impl<H: Head> End<H> {
    /// Makes an end that of the calling process.
    pub(crate) fn claim(channel: Tailed<H>, side: Side, sibling: Option<Tailed<H>>) -> Result<Self, NotClaimed> {
        let site = Site::of(channel.ends()).map_err(NotClaimed::Failed)?;
        let claim = channel.ends().claim(side)?;
        Ok(Self::at(site, channel, claim, sibling))
    }

    /// The end that the calling process has since it made the channel with `claim`.
    pub(crate) fn of_creator(channel: Tailed<H>, claim: Claim, sibling: Option<Tailed<H>>) -> Result<Self, Error> {
        Ok(Self::at(Site::of(channel.ends())?, channel, claim, sibling))
    }

    fn at(site: Site, channel: Tailed<H>, claim: Claim, sibling: Option<Tailed<H>>) -> Self {
        Self { channel, sibling, claim, site, seen: None, other: 0, is_closed: false, idle: 0 }
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
        let (ends, side) = (self.channel.ends(), self.claim.side());
        let is_gone = ends.is_gone(side.other(), site)?;
        // One who was killed between the claims of its two ends has left one of them as if it were yet to come.
        match &self.sibling {
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
        self.channel.ends().wait(&self.claim, deadline, look, |site| self.is_other_gone_at(site))
    }

    /// The word that the owner sleeps on, for [`Source::word`](shmkit_core::wait::Source::word).
    pub(crate) fn word(&self) -> &dyn FutexWord {
        self.channel.ends().word(&self.claim)
    }

    /// For [`Source::arm`](shmkit_core::wait::Source::arm).
    pub(crate) fn arm(&self) -> Result<Armed, Error> {
        self.channel.ends().arm(&self.claim)
    }

    /// For [`Source::disarm`](shmkit_core::wait::Source::disarm).
    pub(crate) fn disarm(&self) {
        self.channel.ends().disarm(&self.claim);
    }

    /// Closes it and tells the other side. Does nothing the second time, and in a forked child.
    pub(crate) fn close(&mut self) {
        if !self.is_closed {
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
