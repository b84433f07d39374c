//! How channels are made and opened.

use std::sync::Arc;

use shmkit_core::{Error, Region, RegionOptions, UntrustedRegion};

use crate::bell::Bell;
use crate::error::OpenError;
use crate::ticket::Ticket;
use crate::untrusted::UntrustedEnd;

/// What a channel is called in a region of its own.
pub(crate) const NAME: &str = "channel";

/// What the directory of a region takes for a channel, at most, besides the channel itself.
const OVERHEAD: usize = 2048;

/// An end of a channel, which others can open the other end of.
///
/// There are ends that send, ends that receive, and those of a [`Pipe`](crate::Pipe), which do both. Who makes a channel chooses an end; the other
/// one is its [`Peer`](Self::Peer). Each end belongs to one process at a time.
///
/// This trait cannot be implemented outside of this library.
///
/// # Examples
///
/// ```
/// use shmkit_channel::{ChannelOptions, Endpoint, Receiver, Sender};
///
/// # let name = format!("shmkit-doc-endpoint-{}", std::process::id());
/// let mut readings: Receiver<f64> = ChannelOptions::new().capacity(100).create(&name)?;
///
/// // In another process:
/// let mut sensor = Sender::<f64>::open(&name)?;
/// sensor.send(21.5)?;
/// drop(sensor);
///
/// // Back in the first:
/// assert_eq!(readings.iter().collect::<Vec<_>>(), [21.5]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Endpoint: sealed::Sealed {
    /// The other end.
    type Peer: Endpoint<Peer = Self>;

    /// Opens the other end of a channel that was [created](ChannelOptions::create) by name.
    ///
    /// # Blocking
    ///
    /// As for [`Region::open`].
    ///
    /// # Crash safety
    ///
    /// A process that is killed in this has the end or not; if it has it, it is a dead owner.
    ///
    /// # Errors
    ///
    /// [`OpenError::Taken`]; [`OpenError::Closed`]; [`OpenError::Failed`], with [`Error::WrongType`] if the channel is for other messages, or of another kind.
    /// That names what lies in the region: `Ring<T>` for a [`Sender`](crate::Sender) and a [`Receiver`](crate::Receiver), `ByteRing` for bytes, and `Duplex` of
    /// either for both ways. With [`Error::NoSuchObject`] if the name is that of something else than a channel.
    fn open(name: &str) -> Result<Self, OpenError> {
        Self::open_in(&Region::open(name)?, NAME)
    }

    /// Opens the other end of a channel that was [put into a region](ChannelOptions::create_in).
    ///
    /// # Errors
    ///
    /// As for [`open`](Self::open).
    fn open_in(region: &Region, name: &str) -> Result<Self, OpenError> {
        Self::claim(region, name, sealed::Role::Second)
    }

    /// Takes the end that the process which has started this one has [let it inherit](Ticket::inherit) under `name`.
    ///
    /// # Crash safety
    ///
    /// As for [`Ticket::take`].
    ///
    /// # Errors
    ///
    /// As for [`Ticket::inherited`].
    fn inherited(name: &str) -> Result<Self, OpenError> {
        Ticket::inherited(name)?.take()
    }

    /// Takes the place of the process that had created a channel by name, and is dead.
    ///
    /// # Errors
    ///
    /// As for [`open`](Self::open); [`OpenError::Taken`] also if the channel does not allow [successors](ChannelOptions::successors).
    fn succeed(name: &str) -> Result<Self, OpenError> {
        Self::succeed_in(&Region::open(name)?, NAME)
    }

    /// Takes the place of the process that had put a channel into a region, and is dead.
    ///
    /// # Errors
    ///
    /// As for [`succeed`](Self::succeed).
    fn succeed_in(region: &Region, name: &str) -> Result<Self, OpenError> {
        Self::claim(region, name, sealed::Role::First)
    }
}

/// How a channel is to be made.
///
/// # Examples
///
/// ```
/// use shmkit_channel::{ChannelOptions, Endpoint, Pipe};
/// use shmkit_core::Region;
///
/// let region = Region::anonymous(1 << 16)?;
/// let mut one = ChannelOptions::new().capacity(100).successors(true).create_in::<Pipe<u64>>(&region, "pipe")?;
///
/// // In any other process that has the region open:
/// let mut other = Pipe::<u64>::open_in(&region, "pipe")?;
/// one.send(7)?;
/// assert_eq!(other.recv()?, 7);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct ChannelOptions {
    capacity: u64,
    successors: bool,
    region: RegionOptions,
}

impl Default for ChannelOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl ChannelOptions {
    /// Room for 64 messages, or 64 KiB of a byte channel; no successors.
    pub fn new() -> Self {
        let mut region = RegionOptions::new();
        region.unlink_on_drop(true);
        Self { capacity: 0, successors: false, region }
    }

    /// For how many messages there is to be room, each way; for byte channels, how many bytes. At least one; 0 means the default.
    pub fn capacity(&mut self, capacity: u64) -> &mut Self {
        self.capacity = capacity;
        self
    }

    /// Whether the end of a process that has been killed can be opened anew.
    ///
    /// The other side is told that nobody is there all the same ([`RecvError::Disconnected`](crate::RecvError::Disconnected)), until
    /// somebody is. An end that was closed stays closed. Channels [without a name](Self::pair) have no successors: nobody could open them.
    pub fn successors(&mut self, successors: bool) -> &mut Self {
        self.successors = successors;
        self
    }

    /// How the region of a channel with a name of its own is to be made. Unless said otherwise, its name goes when the creator drops its end;
    /// one that is killed leaves it, to be opened or [unlinked](shmkit_core::Region::unlink).
    pub fn region(&mut self, region: RegionOptions) -> &mut Self {
        self.region = region;
        self
    }

    /// Makes a channel that others can [open](Endpoint::open) by name, and opens the first end of it.
    ///
    /// # Crash safety
    ///
    /// A process that is killed in this leaves nothing behind, or the whole channel with its first end that of a dead owner.
    ///
    /// # Errors
    ///
    /// [`OpenError::Failed`] with what [`RegionOptions::create`] fails with.
    pub fn create<E: Endpoint>(&self, name: &str) -> Result<E, OpenError> {
        let size = self.size::<E>()?;
        let (_, end) = self.region.create_with(name, size, |region| self.create_in(region, NAME))?;
        Ok(end)
    }

    /// Puts a channel into a region, under `name`, and opens the first end of it.
    ///
    /// # Crash safety
    ///
    /// As for [`create`](Self::create).
    ///
    /// # Errors
    ///
    /// [`OpenError::Failed`] with what [`Region::insert`] fails with.
    pub fn create_in<E: Endpoint>(&self, region: &Region, name: &str) -> Result<E, OpenError> {
        E::insert(region, name, self.capacity, self.successors)
    }

    /// Puts a channel into a region whose peers are not trusted, under `name`, and opens the first end of it.
    ///
    /// # Errors
    ///
    /// As for [`create_in`](Self::create_in); [`Error::Busy`].
    ///
    /// # Examples
    ///
    /// See [`UntrustedEnd`].
    pub fn create_in_untrusted<E: Endpoint>(
        &self,
        region: &UntrustedRegion,
        name: &str,
    ) -> Result<UntrustedEnd<E>, OpenError> {
        // SAFETY: the end is not used but through what this returns.
        UntrustedEnd::of(self.create_in(unsafe { region.as_region() }, name))
    }

    /// Makes a channel without a name, and opens both ends of it in this process: for two threads.
    ///
    /// # Errors
    ///
    /// [`OpenError::Failed`] with what [`RegionOptions::anonymous`] fails with.
    pub fn both<E: Endpoint>(&self) -> Result<(E, E::Peer), OpenError> {
        let region = self.region.anonymous(self.size::<E>()?)?;
        let first = self.create_in(&region, NAME)?;
        Ok((first, E::Peer::open_in(&region, NAME)?))
    }

    /// Makes a channel without a name, and opens the first end of it; the other one is for whoever takes the [`Ticket`].
    ///
    /// # Errors
    ///
    /// As for [`both`](Self::both).
    ///
    /// # Examples
    ///
    /// See [`Ticket`].
    pub fn pair<E: Endpoint>(&self) -> Result<(E, Ticket<E::Peer>), OpenError> {
        let region = self.region.anonymous(self.size::<E>()?)?;
        // Nobody could come but with the ticket, so there are no successors.
        let mut first = E::insert(&region, NAME, self.capacity, false)?;
        let bells = (0..E::WAYS).map(|_| Ok(Arc::new(Bell::new()?)));
        let bells = bells.collect::<Result<Box<[_]>, Error>>()?;
        first.carry(&bells, sealed::Role::First);
        Ok((first, Ticket::new(&region, bells)?))
    }

    /// The size of a region for one channel.
    fn size<E: Endpoint>(&self) -> Result<usize, Error> {
        let size = E::size(self.capacity).and_then(|size| size.checked_add(OVERHEAD));
        size.ok_or(Error::NoSpace { bytes: u64::MAX })
    }
}

pub(crate) mod sealed {
    use std::sync::Arc;

    use shmkit_core::Region;
    use shmkit_core::identity::Token;

    use crate::bell::Bell;
    use crate::error::OpenError;

    /// Which end of a channel that has two of a kind.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Role {
        First,
        Second,
    }

    /// What to do with an end that a ticket is for.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum OnTicket {
        /// Reserve it. Nobody has it.
        Reserve,
        /// Look whether it still is reserved.
        Check,
        /// Close the end if nobody has come.
        Close,
    }

    /// What only this crate can do.
    pub trait Sealed: Sized {
        /// How many ways its channel has; each has a bell.
        const WAYS: usize;

        /// Gives it the bells of its channel, which the other end has, too, or is to have. The first one is of the way that the first end sends
        /// by, or the only one.
        fn carry(&mut self, bells: &[Arc<Bell>], role: Role);

        /// Sets the length above which it receives no frames, if it receives any.
        fn set_longest(&mut self, longest: usize);

        /// The size of a channel, in bytes; `None` if it cannot be so large. `capacity` 0 means the default.
        fn size(capacity: u64) -> Option<usize>;

        /// Puts a channel into a region, of which the calling process has the first end from the beginning.
        fn insert(region: &Region, name: &str, capacity: u64, successors: bool) -> Result<Self, OpenError>;

        /// Makes an end that of the calling process.
        fn claim(region: &Region, name: &str, role: Role) -> Result<Self, OpenError>;

        /// Makes the second end, which is reserved under `token`, that of the calling process.
        fn claim_reserved(region: &Region, name: &str, token: Token) -> Result<Self, OpenError>;

        /// Does something with the second end, which is, or is to be, reserved under `token`.
        fn on_ticket(region: &Region, name: &str, token: Token, act: OnTicket) -> Result<(), OpenError>;
    }
}
