//! How queues are made and opened.

use bytemuck::Pod;
use shmkit_core::{Described, Error, Region, RegionOptions, UntrustedRegion};

use super::Queue;
use super::layout::Head;
use crate::error::OpenError;
use crate::untrusted::UntrustedQueue;

/// What a queue is called in a region of its own.
const NAME: &str = "queue";

/// How many messages fit in if nothing else is said.
const DEFAULT_CAPACITY: u64 = 64;

/// What the directory of a region takes for a queue, at most, besides the queue itself.
const OVERHEAD: usize = 2048;

/// How a [`Queue`] is to be made.
///
/// # Examples
///
/// ```
/// use shmkit_channel::{Queue, QueueOptions};
/// use shmkit_core::Region;
///
/// let region = Region::anonymous(1 << 16)?;
/// let jobs = QueueOptions::new().capacity(100).create_in::<u64>(&region, "jobs")?;
/// assert!(jobs.capacity() >= 100);
///
/// // In any other process that has the region open:
/// Queue::<u64>::open_in(&region, "jobs")?.send(7)?;
/// # assert_eq!(jobs.recv()?, 7);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct QueueOptions {
    capacity: u64,
    region: RegionOptions,
}

impl Default for QueueOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl QueueOptions {
    /// Room for 64 messages.
    pub fn new() -> Self {
        let mut region = RegionOptions::new();
        region.unlink_on_drop(true);
        Self { capacity: DEFAULT_CAPACITY, region }
    }

    /// For how many messages there is to be room: 1 to 2^30; 0 means the default.
    pub fn capacity(&mut self, capacity: u64) -> &mut Self {
        self.capacity = if capacity == 0 { DEFAULT_CAPACITY } else { capacity };
        self
    }

    /// How the region of a queue with a name of its own is to be made. Unless said otherwise, its name goes when the creator drops its last
    /// handle; one that is killed leaves it, to be opened or [unlinked](shmkit_core::Region::unlink).
    pub fn region(&mut self, region: RegionOptions) -> &mut Self {
        self.region = region;
        self
    }

    /// Makes a queue that others can [open](Queue::open) by name.
    ///
    /// # Crash safety
    ///
    /// A process that is killed in this leaves nothing behind, or the whole queue.
    ///
    /// # Errors
    ///
    /// [`OpenError::Failed`] with what [`RegionOptions::create`] fails with.
    pub fn create<T: Pod + Described>(&self, name: &str) -> Result<Queue<T>, OpenError> {
        let size = self.size::<T>()?;
        let (_, queue) = self.region.create_with(name, size, |region| self.create_in(region, NAME))?;
        Ok(queue)
    }

    /// Puts a queue into a region, under `name`.
    ///
    /// # Crash safety
    ///
    /// As for [`create`](Self::create).
    ///
    /// # Errors
    ///
    /// [`OpenError::Failed`] with what [`Region::insert`] fails with.
    pub fn create_in<T: Pod + Described>(&self, region: &Region, name: &str) -> Result<Queue<T>, OpenError> {
        let bytes = Head::<T>::bytes(self.capacity).ok_or(Error::NoSpace { bytes: u64::MAX })?;
        Ok(Queue::of(region.insert_tailed(name, Head::new(self.capacity), bytes)?)?)
    }

    /// Puts a queue into a region whose peers are not trusted, under `name`.
    ///
    /// # Errors
    ///
    /// As for [`create_in`](Self::create_in); [`Error::Busy`].
    pub fn create_in_untrusted<T: Pod + Described>(
        &self,
        region: &UntrustedRegion,
        name: &str,
    ) -> Result<UntrustedQueue<T>, OpenError> {
        // SAFETY: the queue is not used but through what this returns.
        self.create_in(unsafe { region.as_region() }, name).map(UntrustedQueue::of)
    }

    /// Makes a queue without a name: for threads, for children that are forked from here on, and, with the feature `serde`, for processes that get it as an
    /// argument.
    ///
    /// # Errors
    ///
    /// [`OpenError::Failed`] with what [`RegionOptions::anonymous`] fails with.
    pub fn anonymous<T: Pod + Described>(&self) -> Result<Queue<T>, OpenError> {
        self.create_in(&self.region.anonymous(self.size::<T>()?)?, NAME)
    }

    /// The size of a region for one queue.
    fn size<T: Pod + Described>(&self) -> Result<usize, Error> {
        let size = Head::<T>::bytes(self.capacity).and_then(|bytes| bytes.checked_add(size_of::<Head<T>>() + OVERHEAD));
        size.ok_or(Error::NoSpace { bytes: u64::MAX })
    }
}

/// Making and opening queues.
impl<T: Pod + Described> Queue<T> {
    /// Makes a queue with room for `capacity` messages, which other processes can [open](Self::open) by `name`.
    ///
    /// # Errors
    ///
    /// As for [`QueueOptions::create`], which has more to choose from.
    pub fn create(name: &str, capacity: u64) -> Result<Self, OpenError> {
        QueueOptions::new().capacity(capacity).create(name)
    }

    /// Puts a queue with room for `capacity` messages into a region, under `name`.
    ///
    /// # Errors
    ///
    /// As for [`QueueOptions::create_in`].
    pub fn create_in(region: &Region, name: &str, capacity: u64) -> Result<Self, OpenError> {
        QueueOptions::new().capacity(capacity).create_in(region, name)
    }

    /// Opens a queue that was [created](Self::create) by name.
    ///
    /// # Blocking
    ///
    /// As for [`Region::open`].
    ///
    /// # Errors
    ///
    /// [`OpenError::Failed`] with what [`Region::open`] fails with, or with [`Error::WrongType`] if the queue is for other messages, or with
    /// [`Error::NoSuchObject`] if the name is that of something else.
    pub fn open(name: &str) -> Result<Self, OpenError> {
        Self::open_in(&Region::open(name)?, NAME)
    }

    /// Opens a queue that was [put into a region](Self::create_in).
    ///
    /// # Errors
    ///
    /// [`OpenError::Failed`] with what [`Region::get`] fails with.
    pub fn open_in(region: &Region, name: &str) -> Result<Self, OpenError> {
        Ok(Self::of(region.get_tailed(name)?)?)
    }
}
