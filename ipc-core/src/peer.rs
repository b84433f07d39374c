//! Another process that takes part in a region.

use core::fmt;
use core::time::Duration;

use crate::deadline::Deadline;
use crate::error::Error;
use crate::identity::{self, Token};
use crate::participants::Card;
use crate::proof;
use crate::region::{ParticipantInfo, Region};
use crate::shim::futex::FutexWord;
use crate::wait::Site;
use crate::wait_any::{Armed, Source, wait_any};

/// Another process that takes part in a region, to be told of its death.
///
/// It is **gone** when it is proven dead, and as well when it has left the region, by dropping its last handle: then its death
/// would not be told any more. Gone is for ever: a process that opens the region again is another peer.
///
/// A peer keeps the region open.
///
/// # Examples
///
/// ```
/// use shmkit_core::RegionOptions;
/// use std::time::Duration;
///
/// # let name = format!("shmkit-doc-peer-{}", std::process::id());
/// let region = RegionOptions::new().unlink_on_drop(true).create(&name, 4096)?;
/// // When another process has opened the region:
/// for peer in region.peers() {
///     if !peer.wait_timeout(Duration::from_secs(10))? {
///         println!("{} is still there", peer.info().name);
///     }
/// }
/// # Ok::<(), shmkit_core::Error>(())
/// ```
#[derive(Clone)]
pub struct Peer {
    region: Region,
    token: Token,
    info: ParticipantInfo,
}

impl Region {
    /// The participant with this process id, as the PID namespace of the caller counts; `None` if there is none.
    ///
    /// A child takes part when it has opened the region, and not as soon as it has been started.
    pub fn peer(&self, pid: u32) -> Option<Peer> {
        // One with the same id, who has been reaped or is another program now, may have died without anybody's notice.
        self.attachment().sweep();
        let is_it = |card: &Card| card.pid == pid && card.pid_namespace == proof::own_namespace();
        self.peers_that(is_it).next()
    }

    /// The other processes that take part, as far as their deaths are known.
    pub fn peers(&self) -> Vec<Peer> {
        let is_other = |card: &Card| !identity::current().is_some_and(|own| own.is_same_process(card.token));
        self.peers_that(is_other).collect()
    }

    fn peers_that(&self, is_it: impl Fn(&Card) -> bool) -> impl Iterator<Item = Peer> {
        let peer = |card: Card| Peer { region: self.clone(), token: card.token, info: ParticipantInfo::of(&card) };
        self.cards().filter(move |card| is_it(card)).map(peer)
    }
}

impl Peer {
    /// What is known of it.
    pub fn info(&self) -> &ParticipantInfo {
        &self.info
    }

    /// Whether it still takes part. `false` is proven and final.
    pub fn is_alive(&self) -> bool {
        // One that cannot be looked for is as alive as it was.
        if let Ok(site) = Site::at(self.word().address().addr()) {
            site.look();
        }
        self.is_there()
    }

    /// Waits until it is gone.
    ///
    /// # Blocking
    ///
    /// Until then. A process that is killed is gone within about a millisecond.
    ///
    /// # Errors
    ///
    /// Those of [`Site::of`].
    pub fn wait(&self) -> Result<(), Error> {
        wait_any(&mut [&mut self.clone()], None).map(|_| ())
    }

    /// Waits until it is gone, for at most `timeout`; says whether it is.
    ///
    /// # Errors
    ///
    /// As for [`wait`](Self::wait).
    pub fn wait_timeout(&self, timeout: Duration) -> Result<bool, Error> {
        wait_any(&mut [&mut self.clone()], Deadline::after(timeout)).map(|gone| gone.is_some())
    }

    fn is_there(&self) -> bool {
        self.region.attachment().participants().is_alive(self.token)
    }
}

/// Ready when it is gone.
impl Source for Peer {
    fn word(&self) -> &dyn FutexWord {
        self.region.attachment().news().epoch_word()
    }

    fn is_ready(&mut self) -> bool {
        !self.is_there()
    }

    fn arm(&mut self) -> Result<Armed, Error> {
        // Acquire pairs with the Release of whoever announces: one whose epoch is seen here is not alive any more when it is asked about.
        Ok(Armed::at(self.region.attachment().news().epoch()))
    }

    /// A death wakes all.
    fn disarm(&mut self, _may_be_woken: bool) {}
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer").field("info", &self.info).field("region", &self.region).finish_non_exhaustive()
    }
}
