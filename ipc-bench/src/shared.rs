//! One value in memory that several processes map: a memfd, found by others through `/proc`.
//!
//! Nothing has a name in the file system, so nothing is left behind, whoever is killed.

use std::ffi::CStr;
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Deref;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::process;
use std::ptr::{self, NonNull};

/// A value with cache lines of its own; 128 bytes, since CPUs fetch lines in pairs.
#[derive(Debug, Default)]
#[repr(C, align(128))]
pub struct Line<T>(pub T);

const NAME: &CStr = c"shmkit-bench";

/// Makes an empty file that is nowhere but in memory.
///
/// # Errors
/// Those of `memfd_create`.
pub fn memory_file() -> io::Result<File> {
    // SAFETY: the name is a C string that lives for ever.
    let fd = unsafe { libc::memfd_create(NAME.as_ptr(), libc::MFD_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just made, and nobody else has it.
    Ok(File::from(unsafe { OwnedFd::from_raw_fd(fd) }))
}

/// Returns where children of this process find `file`, as long as it is open here.
pub fn address_of(file: &File) -> String {
    format!("/proc/{}/fd/{}", process::id(), file.as_raw_fd())
}

/// Types that a [`SharedBox`] can hold.
///
/// # Safety
/// All bytes zero is a valid value; the layout is the same in every process (`repr(C)` or
/// transparent, no pointers into the process); what is reached through `&` may be reached from
/// several processes at once; and no alignment above that of a page is asked for.
pub unsafe trait SharedLayout: Sync {}

/// A `T` in shared memory, zeroed at first.
#[derive(Debug)]
pub struct SharedBox<T: SharedLayout> {
    value: NonNull<T>,
    // Kept open: it is what others open through /proc.
    file: File,
}

// SAFETY: the box owns its mapping, and `T: Sync` makes `&T` fit for any thread.
unsafe impl<T: SharedLayout> Send for SharedBox<T> {}
// SAFETY: `&SharedBox<T>` gives out only `&T`, and `T` is `Sync`.
unsafe impl<T: SharedLayout> Sync for SharedBox<T> {}

impl<T: SharedLayout> SharedBox<T> {
    /// Makes a new value of zero bytes.
    ///
    /// # Errors
    /// Those of `memfd_create`, `ftruncate` and `mmap`.
    pub fn create() -> io::Result<Self> {
        let file = memory_file()?;
        file.set_len(Self::LEN as u64)?;
        Self::map(file)
    }

    /// Maps the value that another process made; `address` is from [`address`](Self::address).
    ///
    /// # Errors
    /// Those of `open` and `mmap`; `InvalidData` if the file is not as large as a `T`.
    pub fn attach(address: &str) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(address)?;
        if file.metadata()?.len() != Self::LEN as u64 {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Self::map(file)
    }

    /// Returns where children of this process find the value, as long as this box lives.
    pub fn address(&self) -> String {
        address_of(&self.file)
    }

    const LEN: usize = if size_of::<T>() == 0 { 1 } else { size_of::<T>() };

    fn map(file: File) -> io::Result<Self> {
        // SAFETY: a new mapping at an address of the kernel's choice touches nothing that exists.
        let start = unsafe {
            libc::mmap(
                ptr::null_mut(),
                Self::LEN,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let value = NonNull::new(start.cast()).ok_or(io::ErrorKind::Other)?;
        Ok(SharedBox { value, file })
    }
}

impl<T: SharedLayout> Deref for SharedBox<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the mapping is as large as a `T`, page-aligned, and lives as long as `self`; its
        // bytes were zero at first and are since changed through `&T` only, as `SharedLayout` allows.
        unsafe { self.value.as_ref() }
    }
}

impl<T: SharedLayout> Drop for SharedBox<T> {
    fn drop(&mut self) {
        // SAFETY: exactly the mapping of `map`; every `&T` borrowed from `self` has ended.
        unsafe { libc::munmap(self.value.as_ptr().cast(), Self::LEN) };
    }
}
