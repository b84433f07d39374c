//! Mappings: the region itself, the page that keeps a claim alive, and the keeper's pages.

use core::ffi::c_void;
use core::num::NonZeroUsize;
use core::ptr::NonNull;
use std::io;
use std::os::fd::AsFd;

use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mlock, mmap, mmap_anonymous, munmap};

/// Where huge pages begin: at multiples of this, or of less.
const HUGE_PAGE: usize = 2 << 20;

/// Advices that are younger than the libraries: make huge pages now (Linux 6.1), fill all pages now (5.14).
const MADV_COLLAPSE: libc::c_int = 25;
const MADV_POPULATE_WRITE: libc::c_int = 23;

/// How the pages of a region should be.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wishes {
    /// There when the mapping is.
    pub(crate) populate: bool,
    /// In memory for as long as the mapping is there.
    pub(crate) locked: bool,
    /// As large as possible.
    pub(crate) huge_pages: bool,
}

/// The size of a page, in bytes.
pub(crate) fn page_size() -> usize {
    // SAFETY: no memory is involved.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(size).unwrap_or(4096)
}

/// The inode number of the file that is mapped at `address`; `None` if there is no file.
#[cfg(feature = "shared_memory")]
pub(crate) fn mapped_inode(address: core::num::NonZeroUsize) -> io::Result<Option<u64>> {
    // Each line: first and last address, permissions, offset, device, inode, and perhaps a path.
    let maps = std::fs::read_to_string("/proc/self/maps")?;
    let parts = maps.lines().map(|line| line.split_whitespace());
    let inode_here = |mut parts: core::str::SplitWhitespace<'_>| {
        let (first, end) = parts.next()?.split_once('-')?;
        let address = address.get() as u64;
        let is_here = (u64::from_str_radix(first, 16).ok()?..u64::from_str_radix(end, 16).ok()?).contains(&address);
        parts.nth(3)?.parse().ok().filter(|inode| is_here && *inode != 0)
    };
    Ok(parts.into_iter().find_map(inode_here))
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
    pub(crate) fn shared(file: impl AsFd, len: usize, wishes: Wishes) -> io::Result<Self> {
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        let populate = if wishes.populate { MapFlags::MAP_POPULATE } else { MapFlags::empty() };
        let mapping = if wishes.huge_pages {
            let mapping = Self::aligned(file, len, protection)?;
            mapping.collapse();
            if wishes.populate {
                // What could not be collapsed. Before Linux 5.14 the pages come when they are touched.
                let _ = mapping.advise_raw(MADV_POPULATE_WRITE);
            }
            mapping
        } else {
            Self::of_file(file, len, protection, MapFlags::MAP_SHARED | populate)?
        };
        if wishes.locked {
            // SAFETY: the range is ours; its pages only come and stay.
            unsafe { mlock(mapping.base, len)? };
        }
        Ok(mapping)
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
    #[inline]
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

    /// Lets forked children inherit the page at `offset` of a mapping that they do not inherit otherwise.
    pub(crate) fn inherit_page(&self, offset: usize) -> io::Result<()> {
        self.page_at(offset)?;
        // SAFETY: the page lies inside this mapping, which is ours, and the advice changes nothing for this process.
        unsafe { madvise(self.base.byte_add(offset), page_size(), MmapAdvise::MADV_DOFORK)? };
        Ok(())
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

    /// Maps the first `len` bytes of `file` where a huge page can begin.
    fn aligned(file: impl AsFd, len: usize, protection: ProtFlags) -> io::Result<Self> {
        let page = page_size();
        let size = len.checked_next_multiple_of(page).and_then(|len| len.checked_add(HUGE_PAGE));
        let room =
            Self::anonymous_with(size.ok_or(io::ErrorKind::OutOfMemory)?, ProtFlags::PROT_NONE, MapFlags::MAP_PRIVATE)?;
        let before = room.base.addr().get().next_multiple_of(HUGE_PAGE) - room.base.addr().get();
        // SAFETY: `before` is less than `HUGE_PAGE`, so `len` bytes from there lie inside `room`, which is ours and nobody has
        // pointers into; MAP_FIXED replaces nothing else.
        let base = unsafe {
            let at = room.base.byte_add(before);
            let len = NonZeroUsize::new(len).ok_or(io::ErrorKind::InvalidInput)?;
            mmap(Some(at.addr()), len, protection, MapFlags::MAP_SHARED | MapFlags::MAP_FIXED, file, 0)?
        };
        let room = core::mem::ManuallyDrop::new(room);
        let after = before + len.next_multiple_of(page);
        // SAFETY: what is left of `room` before and behind the new mapping; `room` itself is not unmapped any more.
        unsafe {
            if before > 0 {
                munmap(room.base, before)?;
            }
            if room.len() > after {
                munmap(room.base.byte_add(after), room.len() - after)?;
            }
        }
        Ok(Self { base, len: NonZeroUsize::new(len).ok_or(io::ErrorKind::InvalidInput)? })
    }

    /// Asks for huge pages, now and later. That the kernel has none to give is no error.
    fn collapse(&self) {
        let _ = self.advise(MmapAdvise::MADV_HUGEPAGE);
        // Since Linux 6.1; it does so also where huge pages do not come by themselves.
        let _ = self.advise_raw(MADV_COLLAPSE);
    }

    fn advise_raw(&self, advice: libc::c_int) -> io::Result<()> {
        // SAFETY: the range is ours and the advices that this is used for change nothing but the pages behind it.
        let advised = unsafe { libc::madvise(self.base.as_ptr(), self.len(), advice) };
        if advised == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    fn of_file(file: impl AsFd, len: usize, protection: ProtFlags, flags: MapFlags) -> io::Result<Self> {
        let len = NonZeroUsize::new(len).ok_or(io::ErrorKind::InvalidInput)?;
        // SAFETY: without MAP_FIXED the kernel picks an unused range.
        let base = unsafe { mmap(None, len, protection, flags, file, 0)? };
        Ok(Self { base, len })
    }

    fn anonymous(len: usize, sharing: MapFlags) -> io::Result<Self> {
        Self::anonymous_with(len, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, sharing)
    }

    fn anonymous_with(len: usize, protection: ProtFlags, sharing: MapFlags) -> io::Result<Self> {
        let len = NonZeroUsize::new(len).ok_or(io::ErrorKind::InvalidInput)?;
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
