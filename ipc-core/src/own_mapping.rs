//! Regions in memory that somebody else has mapped.

use core::ptr::NonNull;
use std::os::fd::AsFd;

use crate::deadline::Deadline;
use crate::error::{Error, Result};
use crate::mapped::{Foreign, Mapped};
use crate::options::RegionOptions;
use crate::region::Region;
use crate::registry;
use crate::sys::file::{self, Lock};
use crate::sys::map::page_size;

impl RegionOptions {
    /// The region in memory that the caller has mapped: the `len` bytes at `base`, which are the first ones of `file`. If there is
    /// none and the first 64 bytes are zero, as in a new file, it is made; all who do this at once get the same one.
    ///
    /// The file may be any that the kernel maps shared and keeps locks on: one in `/dev/shm`, a memory file, one on a local disk.
    /// A region there takes all of `len`, and can only be opened with the same length again. Of these options,
    /// [`participants`](Self::participants) and [`keeper`](Self::keeper) matter.
    ///
    /// `keep_alive` is dropped when the last handle is; not in a forked child. It is what unmaps the memory, if anything does. If this
    /// process has the region open already, the handle is one more of that, and `keep_alive` is dropped at once.
    ///
    /// # Blocking
    ///
    /// As for [`open`](Self::open).
    ///
    /// # Crash safety
    ///
    /// One who is killed while making the region leaves none; the next one makes it.
    ///
    /// # Errors
    ///
    /// [`Error::NotARegion`] if the memory begins with something else, or not on a page, or is made of huge pages;
    /// [`Error::WrongSize`] if the file is shorter than `len`, or `len` is not the length of the region, or too little for one;
    /// otherwise as for [`open`](Self::open).
    ///
    /// # Safety
    ///
    /// * `base` to `base + len` are mapped from offset 0 of `file`, `MAP_SHARED`, to read and write, and stay so until `keep_alive` is
    ///   dropped.
    /// * Nobody has a Rust reference to any of it, and whoever reaches it by other means than this library does not write.
    /// * Forked children that use the region inherit the mapping, neither unmapped (`MADV_DONTFORK`) nor wiped.
    /// * This process uses no record locks of POSIX (`F_SETLK`, `lockf`) on the file: closing any descriptor of it drops them, and this closes
    ///   some. Nobody has such a lock on all of the file: it covers the places of this library's own locks, behind its end.
    /// * Nobody makes the file shorter: the access to a page that is not there any more kills the process (SIGBUS). Pages that
    ///   the file system allocates when they are touched do the same when it is full.
    ///
    /// # Examples
    ///
    /// ```
    /// use shmkit_core::RegionOptions;
    /// use std::sync::atomic::AtomicU64;
    ///
    /// # let path = std::env::temp_dir().join(format!("shmkit-doc-{}", std::process::id()));
    /// let file = std::fs::File::options().read(true).write(true).create(true).truncate(false).open(&path)?;
    /// file.set_len(1 << 16)?;
    /// let memory = memmap2::MmapRaw::map_raw(&file)?;
    /// // SAFETY: a shared mapping of the whole file, which lives in the region from here on; nobody else uses or cuts it.
    /// let region = unsafe { RegionOptions::new().from_raw(memory.as_mut_ptr(), memory.len(), &file, memory)? };
    /// region.insert("visitors", AtomicU64::new(0))?;
    /// # std::fs::remove_file(&path)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub unsafe fn from_raw(
        &self,
        base: *mut u8,
        len: usize,
        file: impl AsFd,
        keep_alive: impl Send + Sync + 'static,
    ) -> Result<Region> {
        let base = NonNull::new(base).filter(|base| base.addr().get() % page_size() == 0);
        let base = base.ok_or(Error::NotARegion { what: "its memory does not begin on a page" })?;
        let status = file::status(&file)?;
        if !status.is_file {
            return Err(Error::NotARegion { what: "it is no regular file" });
        }
        if !file::has_ordinary_pages(&file) {
            return Err(Error::NotARegion { what: "it has huge pages" });
        }
        // A descriptor of our own: locks on the caller's would be shared with whoever has a duplicate of it.
        let own = file::reopen(&file, status.id, None)?;
        registry::ensure_token()?;
        let mut memory = Some(Foreign::new(base, len, Box::new(keep_alive)));
        let deadline = Deadline::after(2 * registry::PATIENCE);
        while !deadline.is_some_and(Deadline::has_passed) {
            let attached = registry::with_name_locked(&own, Lock::Exclusive, |registry| {
                registry.attach(status.id, self.terms(false), || {
                    Mapped::adopt(own.try_clone()?, &mut memory, || self.layout_filling(len))
                })
            })?;
            if let Some(attachment) = attached? {
                return Ok(Region::of(attachment));
            }
            // Just being left by another thread.
            std::thread::sleep(registry::PAUSE);
        }
        Err(Error::Busy)
    }
}

impl Region {
    /// [`RegionOptions::from_raw`] with the defaults.
    ///
    /// # Safety
    ///
    /// That of [`RegionOptions::from_raw`].
    ///
    /// # Errors
    ///
    /// Those of [`RegionOptions::from_raw`].
    pub unsafe fn from_raw(
        base: *mut u8,
        len: usize,
        file: impl AsFd,
        keep_alive: impl Send + Sync + 'static,
    ) -> Result<Self> {
        // SAFETY: what the caller promises.
        unsafe { RegionOptions::new().from_raw(base, len, file, keep_alive) }
    }
}

#[cfg(feature = "shared_memory")]
mod segment {
    use std::ffi::CString;

    use shared_memory::Shmem;

    use super::{Error, NonNull, Region, RegionOptions, Result, file};
    use crate::options::refusal;
    use crate::sys::map::mapped_inode;

    /// A segment that is only kept until it is dropped.
    struct Kept(#[allow(dead_code, reason = "it is there to be dropped")] Shmem);

    // SAFETY: nothing is done with it but dropping it, once: that unmaps the memory, closes the file and removes the name, and
    // none of these belongs to a thread.
    unsafe impl Send for Kept {}
    // SAFETY: as above.
    unsafe impl Sync for Kept {}

    impl RegionOptions {
        /// The region in a segment of the crate `shared_memory`, which is the whole segment; see [`from_raw`](Self::from_raw).
        ///
        /// The segment goes with the last handle, and its name if the segment owns it; not in a forked child. If this process has the
        /// region open already, both go at once.
        ///
        /// # Errors
        ///
        /// [`Error::NotFound`] if the name of the segment is that of another file by now, or none; [`Error::NoSpace`] if `/dev/shm`
        /// is too full for all of it; otherwise as for [`from_raw`](Self::from_raw).
        pub fn from_shared_memory(&self, segment: Shmem) -> Result<Region> {
            let path = CString::new(format!("/dev/shm/{}", segment.get_os_id().trim_start_matches('/')));
            let file = file::open(&path.map_err(|_| Error::NotFound)?).map_err(refusal)?;
            let (base, len) = (segment.as_ptr(), segment.len());
            let status = file::status(&file)?;
            // The segment does not give its file out, and another one may have taken the name since.
            if mapped_inode(NonNull::new(base).ok_or(Error::NotFound)?.addr())? != Some(status.id.inode()) {
                return Err(Error::NotFound);
            }
            file::allocate(&file, len as u64).map_err(|error| match error.raw_os_error() {
                Some(libc::ENOSPC | libc::ENOMEM) => Error::NoSpace { bytes: len as u64 },
                _ => error.into(),
            })?;
            // SAFETY: a segment is a shared mapping of its whole file, which this is, and is unmapped when it is dropped. Its crate
            // gives out references to it by unsafe functions only.
            unsafe { self.from_raw(base, len, &file, Kept(segment)) }
        }
    }

    impl Region {
        /// [`RegionOptions::from_shared_memory`] with the defaults.
        ///
        /// # Errors
        ///
        /// Those of [`RegionOptions::from_shared_memory`].
        pub fn from_shared_memory(segment: Shmem) -> Result<Self> {
            RegionOptions::new().from_shared_memory(segment)
        }
    }
}
