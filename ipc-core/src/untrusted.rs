//! Regions that are shared with peers who may write whatever they like, and what can be used there.
//!
//! The mapping, the directory and the attachment are those of any [`Region`](crate::Region). What is different:
//!
//! * only types that are [`HostileSafe`] are to be had, and waits are bounded;
//! * no keeper looks after the region, so no word of it is ever waited for by a thread that others depend on. This process hears of deaths when it
//!   waits, every 10 ms;
//! * nobody is taken for dead for what the table says of a process, but only when the kernel says that nobody has its claim;
//! * no two handles of this process overlap (see `grants`).

#[cfg(not(ipc_loom))]
use core::fmt;
use core::sync::atomic::{AtomicI8, AtomicI16, AtomicI32, AtomicI64, AtomicU8, AtomicU16, AtomicU32, AtomicU64};
#[cfg(not(ipc_loom))]
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

#[cfg(not(ipc_loom))]
use bytemuck::Pod;

#[cfg(not(ipc_loom))]
use crate::array::{Array, SharedArray};
#[cfg(not(ipc_loom))]
use crate::described::Described;
use crate::described::ShmSafe;
#[cfg(not(ipc_loom))]
use crate::error::Result;
#[cfg(not(ipc_loom))]
use crate::options::RegionOptions;
#[cfg(not(ipc_loom))]
use crate::region::{ObjectInfo, ParticipantInfo, Region};
#[cfg(not(ipc_loom))]
use crate::shm::Shm;

/// A type that can be used while peers write to it who keep to no rules: it is to be had in an [`UntrustedRegion`].
///
/// Atomics are such types, and arrays, which copy their values in and out. Of the primitives of this library, those are that have a name beginning
/// with `Untrusted`; a lock is not, since it gives out a reference to what it protects, and a peer need not care about it.
///
/// # Safety
///
/// Whatever bytes the memory holds, and however they change at any time:
///
/// - no method gives out a reference to anything there but atomics, and other such types;
/// - what is read from there is loaded once, and the copy is checked before it is relied on;
/// - no method panics, and each ends, after a bounded number of steps or within the time that the caller has given it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not safe with hostile peers",
    label = "not to be had in an `UntrustedRegion`",
    note = "use an array, an atomic, `UntrustedSemaphore`, `UntrustedEvent`, or one of the untrusted ends of channels and queues",
    note = "among peers that are trusted, use a `Region`"
)]
pub unsafe trait HostileSafe: ShmSafe {}

macro_rules! hostile_safe {
    ($($ty:ident)*) => {$(
        // SAFETY: every bit pattern is a value, and each method is one instruction, a loop of the caller's own, or a few that the compiler makes a loop of
        // on some processors: to keep such a loop going, a peer would have to write between its load and its exchange each time.
        unsafe impl HostileSafe for $ty {}
    )*};
}

hostile_safe!(AtomicU8 AtomicU16 AtomicU32 AtomicU64 AtomicI8 AtomicI16 AtomicI32 AtomicI64);

// SAFETY: what is promised of each element is true of all.
unsafe impl<T: HostileSafe, const N: usize> HostileSafe for [T; N] {}

// SAFETY: any bytes are values of the `Pod` elements, which are copied in and out, in one go each.
#[cfg(not(ipc_loom))]
unsafe impl<T: Pod + Described + Send, const N: usize> HostileSafe for Array<T, N> {}

/// A shared-memory region whose other users may be hostile: whatever they write, this process stays memory-safe, and each call ends with a value or an
/// error.
///
/// It is an anonymous region, whose size is sealed, and which is passed on by its descriptor. On the other side it may be opened as what the peer thinks fit: the
/// bytes are the same. One process has it open either as this or as a [`Region`].
///
/// # What a hostile peer can do
///
/// - **Deny service** within this region: garble, lose or invent messages, permits and values, keep locks, close channels, fill the table of
///   participants, let every wait run into its deadline, or wake it for nothing and so burn processor time.
/// - Have this process hear late, or never, of the deaths of others in this region, or take the living for dead here.
/// - Punch holes into the memory: it reads as zeroes then, and comes back when it is touched. If the machine has no memory left by then, the kernel kills who
///   touches it.
///
/// # What it cannot do
///
/// - Have this process read or write outside of the region, or use a value that is none: there is no undefined behaviour, and no panic.
/// - Keep a call longer than its deadline, but for the time of one look at the participants (2 milliseconds).
/// - Have it use up memory, but for one frame of a byte channel, whose length has a limit.
/// - Disturb other regions of this process: nothing of this one is looked after by a [keeper](crate#the-background-thread).
/// - Cut the file: an access would be a SIGBUS, but its size is sealed, and that is checked before it is mapped.
///
/// # Examples
///
/// ```
/// use shmkit_core::UntrustedRegion;
/// use std::os::fd::AsFd;
///
/// let region = UntrustedRegion::anonymous(4096)?;
/// let pixels = region.insert_array::<u32>("pixels", 100)?;
/// pixels.set(7, 0xff00ff)?;
/// let to_be_sent = region.as_fd().try_clone_to_owned()?;
/// # drop((pixels, region));
///
/// // In a process that has received the descriptor from somebody whom it does not trust:
/// let region = UntrustedRegion::from_fd(to_be_sent)?;
/// let pixels = region.get_array::<u32>("pixels", 100)?;
/// assert_eq!(pixels.get(7), Some(0xff00ff));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// What gives out references, or waits without a bound, is not to be had:
///
/// ```compile_fail,E0277
/// # use shmkit_core::{Snapshot, UntrustedRegion};
/// # let region = UntrustedRegion::anonymous(4096)?;
/// region.get::<Snapshot<[u64; 4]>>("state")?;
/// # Ok::<(), shmkit_core::Error>(())
/// ```
#[cfg(not(ipc_loom))]
#[derive(Clone)]
pub struct UntrustedRegion(Region);

#[cfg(not(ipc_loom))]
impl UntrustedRegion {
    /// [`RegionOptions::anonymous_untrusted`] with the defaults.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn anonymous(size: usize) -> Result<Self> {
        RegionOptions::new().anonymous_untrusted(size)
    }

    /// [`RegionOptions::from_fd_untrusted`] with the defaults.
    ///
    /// A large region is opened as fast as a small one, but takes up as many addresses as it is large: if there is to be a limit to that, look at the size of
    /// the file before.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn from_fd(file: OwnedFd) -> Result<Self> {
        RegionOptions::new().from_fd_untrusted(file)
    }

    pub(crate) fn of(region: Region) -> Self {
        Self(region)
    }

    /// How many bytes there are for objects and their names.
    pub fn size(&self) -> usize {
        self.0.size()
    }

    /// How many processes may take part at once.
    pub fn capacity(&self) -> usize {
        self.0.capacity()
    }

    /// Puts `value` into the region under `name`.
    ///
    /// # Blocking
    ///
    /// As for [`Region::insert`], but for a second at most.
    ///
    /// # Crash safety
    ///
    /// The object is there as a whole or not at all.
    ///
    /// # Errors
    ///
    /// As for [`Region::insert`]; [`Error::Busy`](crate::Error::Busy).
    pub fn insert<T: HostileSafe>(&self, name: &str, value: T) -> Result<Shm<T>> {
        self.0.insert(name, value)
    }

    /// The object called `name`.
    ///
    /// # Errors
    ///
    /// As for [`Region::get`]. [`Error::Corrupted`](crate::Error::Corrupted) also if it overlaps with anything that this process has had from the region.
    pub fn get<T: HostileSafe>(&self, name: &str) -> Result<Shm<T>> {
        self.0.get(name)
    }

    /// Puts an array of `len` elements into the region under `name`. All are zero.
    ///
    /// # Blocking
    ///
    /// As for [`insert`](Self::insert).
    ///
    /// # Errors
    ///
    /// As for [`Region::insert_array`]; [`Error::Busy`](crate::Error::Busy).
    pub fn insert_array<T: Pod + Described + Send>(&self, name: &str, len: usize) -> Result<SharedArray<T>> {
        self.0.insert_array(name, len)
    }

    /// The array called `name`, if it has `len` elements.
    ///
    /// # Errors
    ///
    /// As for [`Region::get_array`], and as for [`get`](Self::get).
    pub fn get_array<T: Pod + Described + Send>(&self, name: &str, len: usize) -> Result<SharedArray<T>> {
        self.0.get_array(name, len)
    }

    /// What is said to be in the region, in the order of insertion.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupted`](crate::Error::Corrupted), also if it is more than 16,384 objects.
    pub fn objects(&self) -> Result<Vec<ObjectInfo>> {
        self.0.objects()
    }

    /// The processes that are said to take part.
    pub fn participants(&self) -> Vec<ParticipantInfo> {
        self.0.participants()
    }

    /// The region as one whose peers are trusted, to build handles on that only give what is safe with others.
    ///
    /// # Safety
    ///
    /// No object of it is used but as [`HostileSafe`] demands.
    pub unsafe fn as_region(&self) -> &Region {
        &self.0
    }
}

#[cfg(not(ipc_loom))]
impl AsFd for UntrustedRegion {
    /// The file of the region, to be passed on to another process.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(not(ipc_loom))]
impl fmt::Debug for UntrustedRegion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UntrustedRegion")
            .field("size", &self.size())
            .field("capacity", &self.capacity())
            .finish_non_exhaustive()
    }
}
