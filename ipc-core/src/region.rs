//! Regions: memory that several processes have in common.

use core::fmt;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use crate::attachment::{Attachment, Terms};
use crate::crash_point;
use crate::deadline::Deadline;
use crate::described::{ShmSafe, TypeName};
use crate::directory::{self, Object, Plan};
use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::mapped::Mapped;
use crate::registry;
use crate::shm::Shm;
use crate::sys::file::{self, Lock};
use crate::sys::map::page_size;
use crate::sys::process;

/// How many participants a region has room for if nothing else is asked for.
const DEFAULT_PARTICIPANTS: u32 = 128;

/// The largest alignment of an object: mappings begin on a page, and no page is smaller.
pub(crate) const MAX_ALIGN: usize = 4096;

/// How often an opener starts again because others unlink and create the same name.
const ATTEMPTS: u32 = 100;

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

/// How to create or open a region.
///
/// # Examples
///
/// ```
/// let region = shmkit_core::RegionOptions::new().participants(16).anonymous(1 << 20)?;
/// assert!(region.size() >= 1 << 20);
/// # Ok::<(), shmkit_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct RegionOptions {
    mode: u32,
    participants: u32,
    populate: bool,
    unlink_on_drop: bool,
    keeper: bool,
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
    /// Its process id, in its own PID namespace.
    pub pid: u32,
    /// Its process name when it attached.
    pub name: String,
    /// Whether its death is told by itself; otherwise others have to look.
    pub has_keeper: bool,
}

impl Default for RegionOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl RegionOptions {
    /// The defaults: mode `0o600`, 128 participants, pages filled when touched, names that stay, a keeper.
    pub fn new() -> Self {
        Self { mode: 0o600, participants: DEFAULT_PARTICIPANTS, populate: false, unlink_on_drop: false, keeper: true }
    }

    /// The permissions of a created file, exactly: the umask does not apply.
    pub fn mode(&mut self, mode: u32) -> &mut Self {
        self.mode = mode & 0o777;
        self
    }

    /// How many processes may take part at once in a created region: 1 to 4096. Each costs 72 bytes.
    pub fn participants(&mut self, participants: u32) -> &mut Self {
        self.participants = participants;
        self
    }

    /// Maps all pages at once, so that first accesses do not fault.
    pub fn populate(&mut self, populate: bool) -> &mut Self {
        self.populate = populate;
        self
    }

    /// Removes the name when the creating process drops its last handle; never from a forked child, nor when it is killed.
    pub fn unlink_on_drop(&mut self, unlink: bool) -> &mut Self {
        self.unlink_on_drop = unlink;
        self
    }

    /// Whether this process has its [keeper](crate#the-background-thread), a thread, for this region. Without one, its waits look for
    /// deaths every 10 ms, and one of the others has to look for its death so often; nothing else is different.
    ///
    /// It is the first opening of a region by a process that counts, until the last handle is dropped; forked children inherit it.
    pub fn keeper(&mut self, keeper: bool) -> &mut Self {
        self.keeper = keeper;
        self
    }

    /// Creates the region `name` with room for at least `size` bytes of objects.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidName`], [`Error::InvalidParticipants`]; [`Error::AlreadyExists`]; [`Error::NoSpace`] if `/dev/shm` is full;
    /// [`Error::Io`].
    pub fn create(&self, name: &str, size: usize) -> Result<Region> {
        let path = check_name(name)?;
        let layout = self.layout(size)?;
        let file = file::create_unnamed(self.mode)?;
        crash_point!("region.create.after_file");
        allocate(&file, &layout)?;
        let id = file::status(&file)?.id;
        let mapped = || Mapped::create(file.try_clone()?, Some(path.clone()), layout, self.populate);
        let attachment = registry::attach(id, self.terms(self.unlink_on_drop), mapped)?;
        crash_point!("region.create.before_link");
        match file::link(attachment.region().file(), &path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(Error::AlreadyExists),
            Err(error) => return Err(error.into()),
        }
        crash_point!("region.create.after_link");
        Ok(Region { attachment })
    }

    /// Opens the region `name`. Of these options, only [`populate`](Self::populate) and [`keeper`](Self::keeper) matter.
    ///
    /// # Blocking
    ///
    /// While another process is just opening or unlinking the same name, or another thread is just leaving the region; at most
    /// some seconds.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidName`]; [`Error::NotFound`]; [`Error::NotARegion`], [`Error::Version`] or [`Error::WrongSize`] if there is
    /// something else; [`Error::TooManyParticipants`]; [`Error::Busy`]; [`Error::Io`], above all if permissions forbid it.
    pub fn open(&self, name: &str) -> Result<Region> {
        let path = check_name(name)?;
        let deadline = Deadline::after(2 * registry::PATIENCE);
        while !deadline.is_some_and(Deadline::has_passed) {
            let file = file::open(&path).map_err(refusal)?;
            crash_point!("region.open.after_open");
            if !file::status(&file)?.is_file {
                return Err(Error::NotARegion { what: "it is no regular file" });
            }
            registry::ensure_token()?;
            // Nobody unlinks it from looking at the links to the attachment.
            let attached = registry::with_name_locked(&file, Lock::Shared, |registry| {
                let status = file::status(&file)?;
                if !status.is_linked {
                    return Ok(None);
                }
                let mapped = || Mapped::open(file.try_clone()?, Some(path.clone()), self.populate);
                registry.attach(status.id, self.terms(false), mapped)
            })?;
            if let Some(attachment) = attached? {
                crash_point!("region.open.after_attach");
                return Ok(Region { attachment });
            }
            // Unlinked since, or just being left by another thread.
            std::thread::sleep(registry::PAUSE);
        }
        Err(Error::Busy)
    }

    /// Opens the region `name`, or creates it if there is none; all who call this at once get the same one.
    ///
    /// # Errors
    ///
    /// Those of [`open`](Self::open) and [`create`](Self::create), except that it is missing or exists.
    pub fn open_or_create(&self, name: &str, size: usize) -> Result<Region> {
        for _ in 0..ATTEMPTS {
            match self.open(name) {
                Err(Error::NotFound) => {}
                opened => return opened,
            }
            match self.create(name, size) {
                Err(Error::AlreadyExists) => {}
                created => return created,
            }
        }
        Err(Error::Busy)
    }

    /// Creates a region without a name, whose size nobody can ever change: a sealed memory file.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidParticipants`], [`Error::NoSpace`], [`Error::Io`].
    pub fn anonymous(&self, size: usize) -> Result<Region> {
        let layout = self.layout(size)?;
        let file = file::create_memory(c"shmkit")?;
        allocate(&file, &layout)?;
        file::seal(&file)?;
        let id = file::status(&file)?.id;
        let mapped = || Mapped::create(file.try_clone()?, None, layout, self.populate);
        Ok(Region { attachment: registry::attach(id, self.terms(false), mapped)? })
    }

    /// Opens the anonymous region behind `file`, which was inherited or received.
    ///
    /// # Errors
    ///
    /// [`Error::NotSealed`] if its size could still be changed; otherwise as for [`open`](Self::open).
    pub fn from_fd(&self, file: OwnedFd) -> Result<Region> {
        let status = file::status(&file)?;
        if !status.is_file {
            return Err(Error::NotARegion { what: "it is no regular file" });
        }
        if !file::is_sealed(&file) {
            return Err(Error::NotSealed);
        }
        if !file::has_ordinary_pages(&file) {
            return Err(Error::NotARegion { what: "it has huge pages" });
        }
        let mapped = || Mapped::open(file.try_clone()?, None, self.populate);
        Ok(Region { attachment: registry::attach(status.id, self.terms(false), mapped)? })
    }

    fn terms(&self, unlink_on_drop: bool) -> Terms {
        Terms { unlink_on_drop, keeper: self.keeper }
    }

    fn layout(&self, size: usize) -> Result<Layout> {
        let mut id = [0; 2];
        process::random(&mut id)?;
        let id = u128::from(id[0]) | u128::from(id[1]) << 64;
        Layout::with_room(size, self.participants, id, page_size())
    }
}

impl Region {
    /// [`RegionOptions::create`] with the defaults.
    pub fn create(name: &str, size: usize) -> Result<Self> {
        RegionOptions::new().create(name, size)
    }

    /// [`RegionOptions::open`] with the defaults.
    pub fn open(name: &str) -> Result<Self> {
        RegionOptions::new().open(name)
    }

    /// [`RegionOptions::open_or_create`] with the defaults.
    pub fn open_or_create(name: &str, size: usize) -> Result<Self> {
        RegionOptions::new().open_or_create(name, size)
    }

    /// [`RegionOptions::anonymous`] with the defaults.
    pub fn anonymous(size: usize) -> Result<Self> {
        RegionOptions::new().anonymous(size)
    }

    /// [`RegionOptions::from_fd`] with the defaults.
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
        let participants = self.attachment.participants();
        (0..self.capacity())
            .filter_map(|index| participants.card(index))
            .map(|card| ParticipantInfo {
                pid: card.pid,
                name: String::from_utf8_lossy(&card.name).trim_end_matches('\0').to_owned(),
                has_keeper: card.liveness != crate::participants::UNWATCHED,
            })
            .collect()
    }

    /// How often a wait in this region was saved by its safety net (see [`wait`](crate::wait)), in all processes together. More
    /// than zero if a process was stopped at a bad moment, or if a death fell into the very moment of a look.
    pub fn rescues(&self) -> u32 {
        self.attachment.participants().rescues()
    }

    pub(crate) fn attachment(&self) -> &Arc<Attachment> {
        &self.attachment
    }

    pub(crate) fn mapped(&self) -> &Arc<Mapped> {
        self.attachment.region()
    }

    fn shm<T: ShmSafe>(&self, object: &Object) -> Shm<T> {
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

/// Checks the name of a region and says where it is.
fn check_name(name: &str) -> Result<CString> {
    let wrong = if name.is_empty() {
        "is empty"
    } else if name.len() > 255 {
        "is longer than 255 bytes"
    } else if name.contains('/') {
        "contains a slash"
    } else if name.contains('\0') {
        "contains a zero byte"
    } else if name == "." || name == ".." {
        "is that of a directory"
    } else {
        return Ok(file::path(name)?);
    };
    Err(Error::InvalidName { what: wrong })
}

fn allocate(file: &OwnedFd, layout: &Layout) -> Result<()> {
    let size = layout.size as u64;
    match file::allocate(file, size) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSPC | libc::ENOMEM | libc::EFBIG)) => {
            Err(Error::NoSpace { bytes: size })
        }
        allocated => Ok(allocated?),
    }
}

/// What the failure to open a name means.
fn refusal(error: io::Error) -> Error {
    match error.raw_os_error() {
        Some(libc::ENOENT) => Error::NotFound,
        Some(libc::ELOOP) => Error::NotARegion { what: "it is a symbolic link" },
        Some(libc::EISDIR | libc::ENXIO) => Error::NotARegion { what: "it is no regular file" },
        _ => error.into(),
    }
}
