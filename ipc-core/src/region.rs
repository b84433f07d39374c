//! Regions: memory that several processes have in common.

use core::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use crate::attachment::Attachment;
use crate::crash_point;
use crate::described::{ShmSafe, TypeName};
use crate::directory::{self, Object, Plan};
use crate::error::{Error, Result};
use crate::mapped::Mapped;
use crate::options::{RegionOptions, check_name, refusal};
use crate::participants::{Card, UNWATCHED};
use crate::registry;
use crate::shm::Shm;
use crate::sys::file::{self, Lock};

/// The largest alignment of an object: mappings begin on a page, and no page is smaller.
pub(crate) const MAX_ALIGN: usize = 4096;

/// A shared-memory region, with a directory of named, typed objects.
///
/// A region is a file in `/dev/shm`, or an anonymous memory file that is passed on by its descriptor or inherited by a forked
/// child. A process maps a region once, however often it opens it, and is one participant in it. Handles are cheap to clone; the
/// last one (of `Region` and [`Shm`]) unmaps it. The memory itself lives until the name is [unlinked](Self::unlink) and all
/// processes are gone.
///
/// Opening a named region trusts what its file permissions trust: everybody who may write to it is a cooperating peer, who may
/// die at any instruction, but does not scribble.
///
/// # Crash safety
///
/// A region is built without a name and then linked to it in one step: nobody ever opens a half-made one, and a creator that is
/// killed leaves nothing behind.
///
/// # Examples
///
/// ```
/// use shmkit_core::{Region, RegionOptions};
/// use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
///
/// # let name = format!("shmkit-doc-region-{}", std::process::id());
/// let office = RegionOptions::new().unlink_on_drop(true).create(&name, 4096)?;
/// office.insert("visitors", AtomicU64::new(0))?;
///
/// // In any other process:
/// let visitors = Region::open(&name)?.get::<AtomicU64>("visitors")?;
/// visitors.fetch_add(1, Relaxed);
/// # Ok::<(), shmkit_core::Error>(())
/// ```
#[derive(Clone)]
pub struct Region {
    attachment: Arc<Attachment>,
}

/// What the directory says about an object.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ObjectInfo {
    /// The name that it was inserted under.
    pub name: String,
    /// The declared name of its type.
    pub type_name: String,
    /// Its size in bytes.
    pub size: usize,
}

/// A living participant of a region.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ParticipantInfo {
    /// Its process id, in its own PID namespace; 0 if it stands for a process that is yet to come, for which an end of a channel is kept.
    pub pid: u32,
    /// Its process name when it attached.
    pub name: String,
    /// Whether its death is told by itself; otherwise others have to look.
    pub has_keeper: bool,
}

impl ParticipantInfo {
    pub(crate) fn of(card: &Card) -> Self {
        Self {
            pid: card.pid,
            name: String::from_utf8_lossy(&card.name).trim_end_matches('\0').to_owned(),
            has_keeper: card.liveness != UNWATCHED,
        }
    }
}

impl Region {
    /// [`RegionOptions::create`] with the defaults.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn create(name: &str, size: usize) -> Result<Self> {
        RegionOptions::new().create(name, size)
    }

    /// [`RegionOptions::open`] with the defaults.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn open(name: &str) -> Result<Self> {
        RegionOptions::new().open(name)
    }

    /// [`RegionOptions::open_or_create`] with the defaults.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn open_or_create(name: &str, size: usize) -> Result<Self> {
        RegionOptions::new().open_or_create(name, size)
    }

    /// [`RegionOptions::anonymous`] with the defaults.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn anonymous(size: usize) -> Result<Self> {
        RegionOptions::new().anonymous(size)
    }

    /// [`RegionOptions::from_fd`] with the defaults.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn from_fd(file: OwnedFd) -> Result<Self> {
        RegionOptions::new().from_fd(file)
    }

    /// Removes the name of a region. Those who have it open keep it.
    ///
    /// # Blocking
    ///
    /// While another process is just opening or unlinking it; at most two seconds.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidName`]; [`Error::NotFound`]; [`Error::NotARegion`] if the name is that of something else, which stays;
    /// [`Error::Busy`]; [`Error::Io`].
    pub fn unlink(name: &str) -> Result<()> {
        let path = check_name(name)?;
        let file = file::open(&path).map_err(refusal)?;
        if !file::status(&file)?.is_file || !Mapped::has_magic(&file)? {
            return Err(Error::NotARegion { what: "only regions are unlinked" });
        }
        registry::with_name_locked(&file, Lock::Exclusive, |_| {
            crash_point!("region.unlink.before_unlink");
            // Whoever had the lock before may have unlinked it, and a third created a new one.
            if file::status_at(&path).map_err(refusal)?.id != file::status(&file)?.id {
                return Err(Error::NotFound);
            }
            file::unlink(&path).map_err(refusal)
        })?
    }

    /// How many bytes there are for objects and their names.
    pub fn size(&self) -> usize {
        let layout = self.mapped().layout();
        layout.size - layout.data()
    }

    /// How many processes may take part at once.
    pub fn capacity(&self) -> usize {
        self.mapped().layout().participants
    }

    /// Random bits that tell this region from every other.
    pub fn id(&self) -> u128 {
        self.mapped().layout().id
    }

    /// Puts `value` into the region under `name`.
    ///
    /// # Blocking
    ///
    /// While another process is inserting something.
    ///
    /// # Crash safety
    ///
    /// The object is there as a whole or not at all.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidName`]; [`Error::ObjectExists`]; [`Error::NoSpace`] if the region is too full; [`Error::Corrupted`].
    pub fn insert<T: ShmSafe>(&self, name: &str, value: T) -> Result<Shm<T>> {
        const { assert!(align_of::<T>() <= MAX_ALIGN, "objects in a region are aligned to at most 4096 bytes") }
        directory::check_name(name)?;
        let plan = Plan {
            name,
            type_name: TypeName::<T>::new().to_string(),
            fingerprint: T::FINGERPRINT.value(),
            count: 1,
            size: size_of::<T>(),
            align: align_of::<T>(),
        };
        let object = directory::insert(self.mapped(), &plan, |place| {
            // SAFETY: the directory gives out `size` bytes of the region, aligned to `align`, that nobody else uses before the
            // object is published.
            unsafe { place.cast::<T>().write(value) }
        })?;
        Ok(self.shm(&object))
    }

    /// The object called `name`.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchObject`]; [`Error::WrongType`], which names both types; [`Error::Corrupted`].
    pub fn get<T: ShmSafe>(&self, name: &str) -> Result<Shm<T>> {
        const { assert!(align_of::<T>() <= MAX_ALIGN, "objects in a region are aligned to at most 4096 bytes") }
        let object =
            directory::find(self.mapped(), name)?.ok_or_else(|| Error::NoSuchObject { name: name.to_owned() })?;
        let asked = T::FINGERPRINT.value();
        if object.fingerprint != asked || object.count != 1 {
            return Err(Error::WrongType {
                name: object.name,
                found: object.type_name,
                asked: TypeName::<T>::new().to_string(),
            });
        }
        if object.size != size_of::<T>() {
            return Err(Error::Corrupted { what: "size of an object", found: object.size as u64 });
        }
        if object.offset % align_of::<T>() != 0 {
            return Err(Error::Corrupted { what: "offset of an object", found: object.offset as u64 });
        }
        Ok(self.shm(&object))
    }

    /// The object called `name`; if there is none, `make` makes it. Of those who do this at once, one value goes in.
    ///
    /// # Blocking
    ///
    /// As [`insert`](Self::insert); not at all if the object is there.
    ///
    /// # Errors
    ///
    /// Those of [`get`](Self::get) and [`insert`](Self::insert), except that it is missing or exists.
    pub fn get_or_insert_with<T: ShmSafe>(&self, name: &str, make: impl FnOnce() -> T) -> Result<Shm<T>> {
        match self.get(name) {
            Err(Error::NoSuchObject { .. }) => {}
            got => return got,
        }
        match self.insert(name, make()) {
            Err(Error::ObjectExists { .. }) => self.get(name),
            inserted => inserted,
        }
    }

    /// What is in the region, in the order of insertion.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupted`].
    pub fn objects(&self) -> Result<Vec<ObjectInfo>> {
        directory::objects(self.mapped())
            .map(|object| object.map(|Object { name, type_name, size, .. }| ObjectInfo { name, type_name, size }))
            .collect()
    }

    /// The processes that take part, as far as their deaths are known.
    pub fn participants(&self) -> Vec<ParticipantInfo> {
        self.cards().map(|card| ParticipantInfo::of(&card)).collect()
    }

    pub(crate) fn cards(&self) -> impl Iterator<Item = Card> {
        let participants = self.attachment.participants();
        (0..self.capacity()).filter_map(move |index| participants.card(index))
    }

    /// How often a wait in this region was saved by its safety net (see [`wait`](crate::wait)), in all processes together. More
    /// than zero if a process was stopped at a bad moment, or if a death fell into the very moment of a look.
    pub fn rescues(&self) -> u32 {
        self.attachment.participants().rescues()
    }

    pub(crate) fn of(attachment: Arc<Attachment>) -> Self {
        Self { attachment }
    }

    /// The region of a handle, of which only that of peers who are trusted is a `Region`.
    pub(crate) fn of_handle(attachment: &Arc<Attachment>) -> Result<Self> {
        if !attachment.is_trusted() {
            return Err(Error::OtherTrust { trusted: false });
        }
        Ok(Self::of(Arc::clone(attachment)))
    }

    pub(crate) fn attachment(&self) -> &Arc<Attachment> {
        &self.attachment
    }

    pub(crate) fn mapped(&self) -> &Arc<Mapped> {
        self.attachment.region()
    }

    pub(crate) fn shm<T: ShmSafe>(&self, object: &Object) -> Shm<T> {
        let place = self.mapped().at(object.offset).cast::<T>();
        // SAFETY: the directory checked that the object lies within the region; size, alignment and fingerprint are those of
        // `T`; it was published whole and is never moved or removed.
        unsafe { Shm::new(Arc::clone(&self.attachment), place) }
    }
}

impl AsFd for Region {
    /// The file of the region, to be passed on to another process, which calls [`Region::from_fd`].
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.mapped().file().as_fd()
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Region")
            .field("path", &self.mapped().path())
            .field("size", &self.size())
            .field("capacity", &self.capacity())
            .finish_non_exhaustive()
    }
}
