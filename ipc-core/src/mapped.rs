//! A region in the address space: where private numbers become references into shared memory.

use core::mem::ManuallyDrop;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::crash_point;
use crate::deadline::Deadline;
use crate::error::Error;
use crate::grants::Grants;
use crate::identity::{self, Token};
use crate::layout::{Fixed, Layout};
use crate::participants::{Entry, Participants};
use crate::registry;
use crate::sys::file::{self, FileId, Lock, OwnFile};
use crate::sys::map::{Mapping, Wishes, page_size};

/// The byte of the file whose lock orders openers (shared) against those who unlink (exclusive). Beyond every region's end.
const NAME_LOCK: u64 = 1 << 62;
/// The first of the bytes whose locks are the claims of the participants.
const CLAIMS: u64 = NAME_LOCK + 1;

/// For how long to look for a free entry among peers that are not trusted.
const PATIENCE: Duration = Duration::from_millis(50);

/// An entry of the participant table that belongs to this process.
#[derive(Debug)]
pub(crate) struct Claim {
    pub(crate) index: usize,
    /// Keeps the kernel's lock on the entry.
    pub(crate) anchor: Mapping,
    /// The file of the region, opened anew. Close it as soon as it has served.
    pub(crate) file: OwnedFd,
}

/// One mapped region.
#[derive(Debug)]
pub(crate) struct Mapped {
    memory: Memory,
    file: OwnFile,
    path: Option<CString>,
    layout: Layout,
    /// What has been given out of a region whose peers are not trusted. Locked only under the registry's lock.
    grants: Option<Mutex<Grants>>,
}

impl Mapped {
    /// Maps a file of `layout.size` zeroes and writes the header.
    pub(crate) fn create(file: OwnedFd, path: Option<CString>, layout: Layout, wishes: Wishes) -> Result<Self, Error> {
        let id = file::status(&file)?.id;
        let mapping = Mapping::shared(&file, layout.size, wishes)?;
        let file = OwnFile::new(file, id);
        let mapped = Self { memory: Memory::Ours(mapping), file, path, layout, grants: None };
        mapped.layout.write(mapped.fixed());
        Ok(mapped)
    }

    /// Maps a file that somebody else has made, if it is a region.
    pub(crate) fn open(file: OwnedFd, path: Option<CString>, wishes: Wishes) -> Result<Self, Error> {
        let status = file::status(&file)?;
        // Before it is mapped: the owner of another file may cut it at any time, and reading it would then be deadly.
        if !Self::has_magic(&file)? {
            return Err(Error::NotARegion { what: "its first bytes are not those of a region" });
        }
        let size = usize::try_from(status.size).unwrap_or(usize::MAX);
        if size < size_of::<Fixed>() {
            return Err(Error::WrongSize { expected: size_of::<Fixed>() as u64, found: status.size });
        }
        let mapping = Mapping::shared(&file, size, wishes)?;
        // SAFETY: the mapping has at least the size of `Fixed`, is page-aligned and alive; `Fixed` holds nothing but atomics.
        let fixed = unsafe { &*mapping.base().cast::<Fixed>() };
        let layout = Layout::read(fixed, size)?;
        let file = OwnFile::new(file, status.id);
        Ok(Self { memory: Memory::Ours(mapping), file, path, layout, grants: None })
    }

    /// The region in the first bytes of `file`, which somebody else has mapped, or makes it there: `new` is its layout. The lock on the name
    /// is held, so nobody else does so at the same time. Takes the memory out of `memory` only if this succeeds: what it is dropped with
    /// is the user's, and not to be run under locks.
    pub(crate) fn adopt(
        file: OwnedFd,
        memory: &mut Option<Foreign>,
        new: impl FnOnce() -> Result<Layout, Error>,
    ) -> Result<Self, Error> {
        let status = file::status(&file)?;
        // Only if another thread was just leaving the region it was in.
        let whole = memory.as_ref().ok_or(Error::Busy)?;
        let size = whole.len;
        if status.size < size as u64 {
            return Err(Error::WrongSize { expected: size as u64, found: status.size });
        }
        if size < size_of::<Fixed>() {
            return Err(Error::WrongSize { expected: size_of::<Fixed>() as u64, found: size as u64 });
        }
        // SAFETY: whoever made `memory` promised that so many bytes are mapped, to read and write, as long as it lives; it begins on a
        // page, and `Fixed` holds nothing but atomics.
        let fixed = unsafe { &*whole.base.cast::<Fixed>().as_ptr() };
        let layout = if fixed.is_blank(size) {
            let layout = new()?;
            // SAFETY: as above: the layout fits into `size`. All of it are words that a region reaches by atomic accesses.
            let words = unsafe {
                let count = layout.data() / size_of::<AtomicU64>();
                core::slice::from_raw_parts(whole.base.cast::<AtomicU64>().as_ptr(), count)
            };
            // One who was killed while doing this may have left something.
            words.iter().for_each(|word| word.store(0, Relaxed));
            crash_point!("region.adopt.after_clear");
            layout.write(fixed);
            layout
        } else {
            Layout::read(fixed, size)?
        };
        let memory = Memory::Foreign(memory.take().ok_or(Error::Busy)?);
        let file = OwnFile::new(file, status.id);
        Ok(Self { memory, file, path: None, layout, grants: None })
    }

    /// The same region, whose peers are to be trusted or not.
    pub(crate) fn trusted(mut self, trusted: bool) -> Self {
        self.grants = (!trusted).then(Mutex::default);
        self
    }

    /// Whether the others in it are trusted to keep to the rules.
    pub(crate) fn is_trusted(&self) -> bool {
        self.grants.is_none()
    }

    /// Does `act` with what has been given out of the region, which nobody in this process changes meanwhile; with nothing if its peers are
    /// trusted.
    pub(crate) fn with_grants<R>(&self, act: impl FnOnce(Option<&mut Grants>) -> R) -> R {
        match &self.grants {
            None => act(None),
            Some(grants) => {
                let _registry = registry::lock();
                act(Some(&mut grants.lock().unwrap_or_else(PoisonError::into_inner)))
            }
        }
    }

    /// Whether the file begins as a region does.
    pub(crate) fn has_magic(file: &OwnedFd) -> Result<bool, Error> {
        let mut magic = [0; 8];
        let read = file::read_start(file, &mut magic)?;
        Ok(read && crate::layout::is_magic(magic))
    }

    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }

    pub(crate) fn file(&self) -> &OwnedFd {
        &self.file
    }

    pub(crate) fn id(&self) -> FileId {
        self.file.id()
    }

    pub(crate) fn path(&self) -> Option<&CString> {
        self.path.as_ref()
    }

    /// What lies at fixed places.
    #[inline]
    pub(crate) fn fixed(&self) -> &Fixed {
        // SAFETY: every layout is larger than `Fixed`; the mapping is page-aligned and lives as long as `self`; `Fixed` holds
        // nothing but atomics, so other processes may change it at any time.
        unsafe { &*self.memory.base().cast::<Fixed>() }
    }

    /// The participants.
    pub(crate) fn participants(&self) -> Participants<'_> {
        let count = self.layout.participants;
        // SAFETY: `Layout` keeps `count` tokens and entries, aligned, within the mapping, which lives as long as `self`; both
        // hold nothing but atomics.
        unsafe {
            Participants {
                news: &self.fixed().news,
                tokens: core::slice::from_raw_parts(self.at(self.layout.tokens()).cast::<AtomicU64>().as_ptr(), count),
                entries: core::slice::from_raw_parts(self.at(self.layout.entries()).cast::<Entry>().as_ptr(), count),
            }
        }
    }

    /// The address of the byte at `offset`, which is at most the size of the region.
    pub(crate) fn at(&self, offset: usize) -> NonNull<u8> {
        assert!(offset <= self.layout.size, "offsets are checked by those who read them");
        // SAFETY: inside the mapping or one past it; mappings do not begin at address 0.
        unsafe { NonNull::new_unchecked(self.memory.base().add(offset)) }
    }

    /// Whether it has no name, and so a size that cannot change; not so if somebody else has mapped it.
    pub(crate) fn is_anonymous(&self) -> bool {
        self.path.is_none() && matches!(self.memory, Memory::Ours(_))
    }

    /// Looks whether the file still is as long as the region, which the file of an anonymous one always is. Whoever touches what was cut off dies of
    /// SIGBUS, so this is asked where somebody begins to use something.
    pub(crate) fn check_size(&self) -> Result<(), Error> {
        let expected = self.layout.size as u64;
        // Without our descriptor there is nobody to ask.
        let status = file::status(&self.file).ok().filter(|status| status.id == self.id());
        match status {
            Some(status) if status.size < expected => Err(Error::WrongSize { expected, found: status.size }),
            _ => Ok(()),
        }
    }

    /// The addresses of the region.
    pub(crate) fn addresses(&self) -> core::ops::Range<usize> {
        let base = self.memory.base() as usize;
        base..base + self.layout.size
    }

    /// Where in the file the liveness word of participant `index` lies.
    pub(crate) fn liveness_offset(&self, index: usize) -> usize {
        // The liveness is an entry's first word (asserted beside `Entry`).
        self.layout.entries() + index * size_of::<Entry>()
    }

    /// Claims the first free entry of the participant table: the kernel's lock on it lives as long as the returned mapping, so
    /// at most as long as the address space of this process. `None` if every entry is claimed.
    pub(crate) fn claim(&self) -> Result<Option<Claim>, Error> {
        let file = self.reopen()?;
        let tokens = self.participants().tokens;
        let is_free = |index: &usize| tokens[*index].load(Relaxed) == 0;
        // Entries that look free first, then those whose owner may have died unnoticed.
        let free = (0..self.layout.participants).filter(is_free);
        // Hostile peers can make each attempt take long, by locks of their own.
        let until = if self.is_trusted() { None } else { Deadline::after(PATIENCE) };
        for index in free.chain(0..self.layout.participants) {
            if until.is_some_and(Deadline::has_passed) {
                return Err(Error::Busy);
            }
            if file::try_lock(&file, Self::claim_byte(index), Lock::Exclusive)? {
                let anchor = Mapping::anchor(&file)?;
                return Ok(Some(Claim { index, anchor, file }));
            }
        }
        Ok(None)
    }

    /// The byte of the file whose lock is the claim on entry `index`.
    pub(crate) fn claim_byte(index: usize) -> u64 {
        CLAIMS + index as u64
    }

    /// Opens the file of the region anew.
    pub(crate) fn reopen(&self) -> Result<OwnedFd, Error> {
        Ok(file::reopen(&self.file, self.id(), self.path.as_deref())?)
    }

    /// Whether nobody holds the claim on entry `index`: no address space in which its owner lived exists any more. `None` if that
    /// cannot be told.
    pub(crate) fn is_unclaimed(&self, index: usize) -> Option<bool> {
        let is_unlocked = |file: &OwnedFd| file::is_unlocked(file, Self::claim_byte(index)).ok();
        if self.file.is_ours() {
            return is_unlocked(&self.file).filter(|_| self.file.is_ours());
        }
        // Somebody has closed our descriptor, as daemons do, and may have opened another file in its place. Without a name, or
        // with one that is another file's by now, there is no proof.
        let is_the_region = |file: &OwnedFd| file::status(file).is_ok_and(|status| status.id == self.id());
        let file = file::open(self.path.as_ref()?).ok().filter(is_the_region)?;
        is_unlocked(&file)
    }

    /// Takes the lock that orders openers and unlinkers, on a file opened for this purpose; `false` if somebody else has it.
    pub(crate) fn try_lock_name(file: &OwnedFd, lock: Lock) -> Result<bool, Error> {
        Ok(file::try_lock(file, NAME_LOCK, lock)?)
    }

    /// Gives that lock up.
    pub(crate) fn unlock_name(file: &OwnedFd) {
        // It cannot fail for a lock on a single byte that we have.
        let unlocked = file::unlock(file, NAME_LOCK);
        debug_assert!(unlocked.is_ok());
    }

    /// Where the page of the liveness word of `index` begins in the file, and where the word is in it.
    pub(crate) fn liveness_page(&self, index: usize) -> (usize, usize) {
        let offset = self.liveness_offset(index);
        let page = page_size();
        (offset / page * page, offset % page)
    }
}

/// The addresses behind a region.
#[derive(Debug)]
enum Memory {
    Ours(Mapping),
    Foreign(Foreign),
}

impl Memory {
    #[inline]
    fn base(&self) -> *mut u8 {
        match self {
            Self::Ours(mapping) => mapping.base(),
            Self::Foreign(foreign) => foreign.base.as_ptr(),
        }
    }
}

/// Memory that the user has mapped.
pub(crate) struct Foreign {
    base: NonNull<u8>,
    len: usize,
    /// Whose drop may unmap it.
    keep_alive: ManuallyDrop<Box<dyn Send + Sync>>,
    /// The process that has mapped it.
    mapped_by: Option<Token>,
}

impl Foreign {
    /// The `len` bytes at `base`, which begin on a page and stay mapped, to read and write, until `keep_alive` is dropped. This process
    /// has a token.
    pub(crate) fn new(base: NonNull<u8>, len: usize, keep_alive: Box<dyn Send + Sync>) -> Self {
        Self { base, len, keep_alive: ManuallyDrop::new(keep_alive), mapped_by: identity::drawn() }
    }
}

// SAFETY: as for `Mapping`: a range of addresses; what keeps it alive is `Send` and `Sync` itself.
unsafe impl Send for Foreign {}
// SAFETY: as above.
unsafe impl Sync for Foreign {}

impl core::fmt::Debug for Foreign {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Foreign").field("base", &self.base).field("len", &self.len).finish_non_exhaustive()
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        // A forked child has no business with it: its drop may remove a name that belongs to the parent.
        let is_own = |by: Token| identity::drawn().is_some_and(|own| own.is_same_process(by));
        if self.mapped_by.is_some_and(is_own) {
            // SAFETY: dropped once, here, and not used again.
            unsafe { ManuallyDrop::drop(&mut self.keep_alive) };
        }
    }
}
