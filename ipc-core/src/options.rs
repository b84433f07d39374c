//! How regions are created and opened.

use std::ffi::CString;
use std::io;
use std::os::fd::OwnedFd;

use crate::attachment::Terms;
use crate::crash_point;
use crate::deadline::Deadline;
use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::mapped::Mapped;
use crate::region::Region;
use crate::registry;
use crate::sys::file::{self, Lock};
use crate::sys::map::{Wishes, page_size};
use crate::sys::process;
use crate::untrusted::UntrustedRegion;

/// How many participants a region has room for if nothing else is asked for.
const DEFAULT_PARTICIPANTS: u32 = 128;

/// How often an opener starts again because others unlink and create the same name.
const ATTEMPTS: u32 = 100;

/// How to create or open a region.
///
/// Those options that are about how this process has it (`populate`, `lock_memory`, `huge_pages`, `keeper`) count when it opens the region for
/// the first time, until the last handle is dropped.
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
    wishes: Wishes,
    unlink_on_drop: bool,
    keeper: bool,
}

impl Default for RegionOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl RegionOptions {
    /// The defaults: mode `0o600`, 128 participants, pages filled when touched, names that stay, a keeper.
    pub fn new() -> Self {
        Self {
            mode: 0o600,
            participants: DEFAULT_PARTICIPANTS,
            wishes: Wishes::default(),
            unlink_on_drop: false,
            keeper: true,
        }
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
        self.wishes.populate = populate;
        self
    }

    /// Keeps all pages in memory (`mlock`) as long as this process has the region open. A limit of the system (`ulimit -l`) makes
    /// the opening fail. Forked children do not inherit it.
    pub fn lock_memory(&mut self, lock: bool) -> &mut Self {
        self.wishes.locked = lock;
        self
    }

    /// Maps the region with huge pages, as far as the kernel has them to give (Linux 6.1; transparent ones), which spares large
    /// regions most misses of the address cache. Worth it from some megabytes; anonymous regions get them most surely. Where there
    /// are none, the pages are ordinary ones.
    pub fn huge_pages(&mut self, huge: bool) -> &mut Self {
        self.wishes.huge_pages = huge;
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
    /// Forked children inherit it.
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
        self.create_with(name, size, |_| Ok(())).map(|(region, ())| region)
    }

    /// Creates a region as [`create`](Self::create) does, and what is to be in it before anybody can open it: it has its name only once
    /// `fill` has succeeded.
    ///
    /// # Crash safety
    ///
    /// A process that is killed in this, `fill` included, leaves nothing behind.
    ///
    /// # Errors
    ///
    /// Those of `fill`, and those of [`create`](Self::create).
    ///
    /// # Examples
    ///
    /// ```
    /// use shmkit_core::{Error, RegionOptions};
    /// use std::sync::atomic::AtomicU64;
    ///
    /// # let name = format!("shmkit-doc-create-with-{}", std::process::id());
    /// let (office, visitors) = RegionOptions::new()
    ///     .unlink_on_drop(true)
    ///     .create_with(&name, 4096, |office| office.insert("visitors", AtomicU64::new(0)))?;
    /// # drop((office, visitors));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn create_with<R, E: From<Error>>(
        &self,
        name: &str,
        size: usize,
        fill: impl FnOnce(&Region) -> Result<R, E>,
    ) -> Result<(Region, R), E> {
        let path = check_name(name)?;
        let layout = self.layout(size)?;
        let file = file::create_unnamed(self.mode).map_err(Error::from)?;
        crash_point!("region.create.after_file");
        allocate(&file, &layout)?;
        let id = file::status(&file).map_err(Error::from)?.id;
        let mapped = || Mapped::create(file.try_clone()?, Some(path.clone()), layout, self.wishes);
        let attachment = registry::attach(id, self.terms(self.unlink_on_drop), mapped)?;
        let region = Region::of(attachment);
        let made = fill(&region)?;
        crash_point!("region.create.before_link");
        match file::link(region.mapped().file(), &path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(Error::AlreadyExists.into()),
            Err(error) => return Err(Error::from(error).into()),
        }
        crash_point!("region.create.after_link");
        Ok((region, made))
    }

    /// Opens the region `name`. Of these options, those that make or change a file do not matter.
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
                let mapped = || Mapped::open(file.try_clone()?, Some(path.clone()), self.wishes);
                registry.attach(status.id, self.terms(false), mapped)
            })?;
            if let Some(attachment) = attached? {
                crash_point!("region.open.after_attach");
                return Ok(Region::of(attachment));
            }
            // Unlinked since, or just being left by another thread.
            std::thread::sleep(registry::PAUSE);
        }
        Err(Error::Busy)
    }

    /// Opens the region `name`, or creates it if there is none; all who call this at once get the same one.
    ///
    /// # Blocking
    ///
    /// As [`open`](Self::open).
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
        self.anonymous_with(size, true)
    }

    /// Creates a region without a name, to be shared with peers that are not trusted.
    ///
    /// # Errors
    ///
    /// As for [`anonymous`](Self::anonymous).
    pub fn anonymous_untrusted(&self, size: usize) -> Result<UntrustedRegion> {
        self.anonymous_with(size, false).map(UntrustedRegion::of)
    }

    fn anonymous_with(&self, size: usize, trusted: bool) -> Result<Region> {
        let layout = self.layout(size)?;
        let file = file::create_memory(c"shmkit")?;
        allocate(&file, &layout)?;
        file::seal(&file)?;
        let id = file::status(&file)?.id;
        let mapped = || Ok(Mapped::create(file.try_clone()?, None, layout, self.wishes)?.trusted(trusted));
        Ok(Region::of(registry::attach(id, self.terms_of(trusted), mapped)?))
    }

    /// Opens the anonymous region behind `file`, which was inherited or received.
    ///
    /// # Errors
    ///
    /// [`Error::NotSealed`] if its size could still be changed; [`Error::OtherTrust`]; otherwise as for [`open`](Self::open).
    pub fn from_fd(&self, file: OwnedFd) -> Result<Region> {
        self.open_file(file, true)
    }

    /// Opens the anonymous region behind `file`, which peers have who are not trusted. It is mapped with ordinary pages, which come when they are touched, whatever
    /// these options say.
    ///
    /// # Errors
    ///
    /// As for [`from_fd`](Self::from_fd).
    pub fn from_fd_untrusted(&self, file: OwnedFd) -> Result<UntrustedRegion> {
        self.open_file(file, false).map(UntrustedRegion::of)
    }

    fn open_file(&self, file: OwnedFd, trusted: bool) -> Result<Region> {
        // Before anything else where it comes from somebody who is not trusted: only memory files have seals, and to ask for them takes no file system, which
        // might be the sender's, and not answer.
        if !trusted && !file::is_sealed(&file) {
            return Err(Error::NotSealed);
        }
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
        // Whoever is not trusted has chosen the size: it is not for all of it to be there.
        let wishes = if trusted { self.wishes } else { Wishes::default() };
        let mapped = || Ok(Mapped::open(file.try_clone()?, None, wishes)?.trusted(trusted));
        Ok(Region::of(registry::attach(status.id, self.terms_of(trusted), mapped)?))
    }

    #[cfg(feature = "serde")]
    pub(crate) fn wishes(&self) -> Wishes {
        self.wishes
    }

    pub(crate) fn terms(&self, unlink_on_drop: bool) -> Terms {
        Terms { unlink_on_drop, keeper: self.keeper, trusted: true }
    }

    /// The terms of a region without a name. No keeper looks after one whose peers are not trusted: they could keep it busy, and others would
    /// hear of deaths late.
    fn terms_of(&self, trusted: bool) -> Terms {
        Terms { trusted, keeper: self.keeper && trusted, ..self.terms(false) }
    }

    fn layout(&self, size: usize) -> Result<Layout> {
        Layout::with_room(size, self.participants, new_id()?, page_size())
    }

    /// The layout of a region that has exactly `size` bytes.
    pub(crate) fn layout_filling(&self, size: usize) -> Result<Layout> {
        Layout::filling(size, self.participants, new_id()?)
    }
}

/// Random bits that tell one region from every other.
fn new_id() -> Result<u128> {
    let mut id = [0; 2];
    process::random(&mut id)?;
    Ok(u128::from(id[0]) | u128::from(id[1]) << 64)
}

/// Checks the name of a region and says where it is.
pub(crate) fn check_name(name: &str) -> Result<CString> {
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
pub(crate) fn refusal(error: io::Error) -> Error {
    match error.raw_os_error() {
        Some(libc::ENOENT) => Error::NotFound,
        Some(libc::ELOOP) => Error::NotARegion { what: "it is a symbolic link" },
        Some(libc::EISDIR | libc::ENXIO) => Error::NotARegion { what: "it is no regular file" },
        _ => error.into(),
    }
}
