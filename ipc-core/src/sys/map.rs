//! Mappings: the region itself, the page that keeps a claim alive, and the keeper's pages.

use core::ffi::c_void;
use core::num::NonZeroUsize;
use core::ptr::NonNull;
use std::io;
use std::os::fd::AsFd;

use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap, mmap_anonymous, munmap};

/// The size of a page, in bytes.
pub(crate) fn page_size() -> usize {
    // SAFETY: no memory is involved.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(size).unwrap_or(4096)
}

/// Pages mapped by us, unmapped on drop.
#[derive(Debug)]
pub(crate) struct Mapping {
    base: NonNull<c_void>,
    len: NonZeroUsize,
}

// SAFETY: a mapping is a range of addresses of the process; what may be done to the memory is the business of those who read
// and write it.
unsafe impl Send for Mapping {}
// SAFETY: as above; all methods only tell where it is.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps the first `len` bytes of `file`, shared, to read and write; inherited by forked children.
    pub(crate) fn shared(file: impl AsFd, len: usize, populate: bool) -> io::Result<Self> {
        let populate = if populate { MapFlags::MAP_POPULATE } else { MapFlags::empty() };
        Self::of_file(file, len, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_SHARED | populate)
    }

    /// Maps the first page of `file` to read, not inherited by forked children: as long as the address space exists, so does
    /// the open file description behind `file`, with its locks.
    pub(crate) fn anchor(file: impl AsFd) -> io::Result<Self> {
        let anchor = Self::of_file(file, page_size(), ProtFlags::PROT_READ, MapFlags::MAP_SHARED)?;
        anchor.advise(MmapAdvise::MADV_DONTFORK)?;
        Ok(anchor)
    }

    /// Maps `len` bytes of zeroes that forked children do not inherit and that are freed by the last user only (a private page
    /// of a dying process may be reaped before the kernel has walked its robust list).
    pub(crate) fn unforked(len: usize) -> io::Result<Self> {
        let mapping = Self::anonymous(len, MapFlags::MAP_SHARED)?;
        mapping.advise(MmapAdvise::MADV_DONTFORK)?;
        Ok(mapping)
    }

    /// Maps one page of zeroes that a forked child finds zeroed again.
    pub(crate) fn wiped_on_fork() -> io::Result<Self> {
        let mapping = Self::anonymous(page_size(), MapFlags::MAP_PRIVATE)?;
        mapping.advise(MmapAdvise::MADV_WIPEONFORK)?;
        Ok(mapping)
    }

    /// Where the mapping begins.
    pub(crate) fn base(&self) -> *mut u8 {
        self.base.as_ptr().cast()
    }

    /// How many bytes it has.
    pub(crate) fn len(&self) -> usize {
        self.len.get()
    }

    /// Forgets the mapping without unmapping it: a forked child does so with what it did not inherit.
    pub(crate) fn forget(self) {
        core::mem::forget(self);
    }

    /// Replaces the page at `offset` by the page of `file` at `file_offset`, to read and write, not inherited.
    pub(crate) fn replace_page(&self, offset: usize, file: impl AsFd, file_offset: usize) -> io::Result<()> {
        let page = page_size();
        let at = self.page_at(offset)?;
        let file_offset = libc::off_t::try_from(file_offset).map_err(io::Error::other)?;
        // SAFETY: the page lies inside this mapping, which we own; MAP_FIXED replaces nothing else, and no reference into a
        // replaceable page exists: only the kernel reads and writes there.
        unsafe {
            mmap(
                Some(at),
                NonZeroUsize::new(page).ok_or(io::ErrorKind::InvalidInput)?,
                ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
                MapFlags::MAP_SHARED | MapFlags::MAP_FIXED,
                file,
                file_offset,
            )?;
            madvise(self.base.byte_add(offset), page, MmapAdvise::MADV_DONTFORK)?;
        }
        Ok(())
    }

    /// Replaces the page at `offset` by zeroes, so that nothing of a file stays mapped there and nobody else's mapping moves in.
    pub(crate) fn clear_page(&self, offset: usize) -> io::Result<()> {
        let page = page_size();
        let at = self.page_at(offset)?;
        // SAFETY: as in `replace_page`.
        unsafe {
            mmap_anonymous(
                Some(at),
                NonZeroUsize::new(page).ok_or(io::ErrorKind::InvalidInput)?,
                ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
                MapFlags::MAP_SHARED | MapFlags::MAP_FIXED,
            )?;
            madvise(self.base.byte_add(offset), page, MmapAdvise::MADV_DONTFORK)?;
        }
        Ok(())
    }

    fn page_at(&self, offset: usize) -> io::Result<NonZeroUsize> {
        let page = page_size();
        if offset % page != 0 || offset.checked_add(page).is_none_or(|end| end > self.len()) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        Ok(self.base.addr().saturating_add(offset))
    }

    fn of_file(file: impl AsFd, len: usize, protection: ProtFlags, flags: MapFlags) -> io::Result<Self> {
        let len = NonZeroUsize::new(len).ok_or(io::ErrorKind::InvalidInput)?;
        // SAFETY: without MAP_FIXED the kernel picks an unused range.
        let base = unsafe { mmap(None, len, protection, flags, file, 0)? };
        Ok(Self { base, len })
    }

    fn anonymous(len: usize, sharing: MapFlags) -> io::Result<Self> {
        let len = NonZeroUsize::new(len).ok_or(io::ErrorKind::InvalidInput)?;
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: without MAP_FIXED the kernel picks an unused range.
        let base = unsafe { mmap_anonymous(None, len, protection, sharing)? };
        Ok(Self { base, len })
    }

    fn advise(&self, advice: MmapAdvise) -> io::Result<()> {
        // SAFETY: the range is ours and the advice changes nothing for this process.
        unsafe { madvise(self.base, self.len(), advice)? };
        Ok(())
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range is ours, and whoever drops the mapping has given up all pointers into it.
        let unmapped = unsafe { munmap(self.base, self.len()) };
        debug_assert_eq!(unmapped, Ok(()));
    }
}
