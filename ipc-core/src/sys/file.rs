//! Files: memory files, named files in /dev/shm, and kernel locks on bytes of them.

use core::mem::ManuallyDrop;
use core::ops::Deref;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{self, AT_FDCWD, AtFlags, FallocateFlags, FcntlArg, OFlag, SealFlag};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::{self, FileStat, Mode, SFlag};
use nix::unistd;

/// Where named regions live.
pub(crate) const DIRECTORY: &str = "/dev/shm";

/// The seals that keep the size of a memory file as it is.
const SEALS: SealFlag = SealFlag::F_SEAL_SHRINK.union(SealFlag::F_SEAL_GROW).union(SealFlag::F_SEAL_SEAL);

/// What identifies a file on this machine as long as somebody has it open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileId {
    device: u64,
    inode: u64,
}

#[cfg(feature = "shared_memory")]
impl FileId {
    /// The number of the inode.
    pub(crate) fn inode(self) -> u64 {
        self.inode
    }
}

/// What `fstat` says about a file, as far as it matters here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Status {
    pub(crate) id: FileId,
    pub(crate) size: u64,
    pub(crate) is_linked: bool,
    pub(crate) is_file: bool,
}

impl From<FileStat> for Status {
    fn from(status: FileStat) -> Self {
        Self {
            id: FileId { device: status.st_dev, inode: status.st_ino },
            size: u64::try_from(status.st_size).unwrap_or(0),
            is_linked: status.st_nlink != 0,
            is_file: SFlag::from_bits_truncate(status.st_mode) & SFlag::S_IFMT == SFlag::S_IFREG,
        }
    }
}

/// A descriptor of ours for longer than a moment. Somebody else may close it, as daemons do with all descriptors that they do not know, and open another file, which
/// gets its number: that one is not closed on drop.
#[derive(Debug)]
pub(crate) struct OwnFile {
    descriptor: ManuallyDrop<OwnedFd>,
    id: FileId,
}

impl OwnFile {
    /// The file with this `id`.
    pub(crate) fn new(descriptor: OwnedFd, id: FileId) -> Self {
        Self { descriptor: ManuallyDrop::new(descriptor), id }
    }

    pub(crate) fn id(&self) -> FileId {
        self.id
    }

    /// Whether the descriptor still is that of the file. If it is before and after a question, nobody has exchanged it in between.
    pub(crate) fn is_ours(&self) -> bool {
        status(self).is_ok_and(|status| status.id == self.id)
    }
}

impl Deref for OwnFile {
    type Target = OwnedFd;

    fn deref(&self) -> &OwnedFd {
        &self.descriptor
    }
}

impl AsFd for OwnFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

impl Drop for OwnFile {
    fn drop(&mut self) {
        if self.is_ours() {
            // SAFETY: dropped once, here, and not used again.
            unsafe { ManuallyDrop::drop(&mut self.descriptor) };
        }
    }
}

/// Looks at an open file.
pub(crate) fn status(file: impl AsFd) -> io::Result<Status> {
    Ok(stat::fstat(file)?.into())
}

/// Looks at what is at `path`, without following a link there.
pub(crate) fn status_at(path: &CStr) -> io::Result<Status> {
    Ok(stat::fstatat(AT_FDCWD, path, AtFlags::AT_SYMLINK_NOFOLLOW)?.into())
}

/// The path of the named region `name`.
pub(crate) fn path(name: &str) -> io::Result<CString> {
    Ok(CString::new(format!("{DIRECTORY}/{name}"))?)
}

/// An open file without a name in the directory of named regions, with exactly the permissions `mode`.
pub(crate) fn create_unnamed(mode: u32) -> io::Result<OwnedFd> {
    let flags = OFlag::O_TMPFILE | OFlag::O_RDWR | OFlag::O_CLOEXEC;
    let file = fcntl::open(DIRECTORY, flags, Mode::S_IRUSR | Mode::S_IWUSR)?;
    stat::fchmod(&file, Mode::from_bits_truncate(mode))?;
    Ok(file)
}

/// Gives an unnamed file its name; fails with `AlreadyExists` if that is taken. By then, the file has been opened anew, so there is a `/proc`.
pub(crate) fn link(file: impl AsFd, path: &CStr) -> io::Result<()> {
    unistd::linkat(AT_FDCWD, proc_path(file)?.as_c_str(), AT_FDCWD, path, AtFlags::AT_SYMLINK_FOLLOW)?;
    Ok(())
}

/// A new memory file.
pub(crate) fn create_memory(label: &CStr) -> io::Result<OwnedFd> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let no_exec = MFdFlags::from_bits_retain(libc::MFD_NOEXEC_SEAL);
    match memfd_create(label, flags | no_exec) {
        // Before Linux 6.3.
        Err(Errno::EINVAL) => Ok(memfd_create(label, flags)?),
        file => Ok(file?),
    }
}

/// Makes the size of a memory file final.
pub(crate) fn seal(file: impl AsFd) -> io::Result<()> {
    fcntl::fcntl(file, FcntlArg::F_ADD_SEALS(SEALS))?;
    Ok(())
}

/// Whether the file has pages of the ordinary size, which those of hugetlbfs do not have.
pub(crate) fn has_ordinary_pages(file: impl AsFd) -> bool {
    nix::sys::statfs::fstatfs(file).is_ok_and(|system| system.filesystem_type() != nix::sys::statfs::HUGETLBFS_MAGIC)
}

/// Whether the size of the file can never change again.
pub(crate) fn is_sealed(file: impl AsFd) -> bool {
    let size = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW;
    fcntl::fcntl(file, FcntlArg::F_GET_SEALS).is_ok_and(|seals| SealFlag::from_bits_retain(seals).contains(size))
}

/// Gives the file `size` bytes that are really there, so that no later access can fail for want of memory.
pub(crate) fn allocate(file: &OwnedFd, size: u64) -> io::Result<()> {
    // In steps, since a signal undoes what the interrupted step has allocated.
    const STEP: u64 = 64 << 20;
    // What cannot be there is refused before the kernel has given out half of the machine's memory in the attempt.
    if size > free_space(file)? {
        return Err(Errno::ENOSPC.into());
    }
    let mut done = 0;
    while done < size {
        let step = STEP.min(size - done);
        match fcntl::fallocate(file, FallocateFlags::empty(), done as libc::off_t, step as libc::off_t) {
            Err(Errno::EINTR) => {}
            allocated => {
                allocated?;
                done += step;
            }
        }
    }
    Ok(())
}

/// The most that can be allocated in the file system of `file`, in bytes: its free blocks, if they are counted, and not more
/// than the machine has to spare.
fn free_space(file: &OwnedFd) -> io::Result<u64> {
    let system = nix::sys::statvfs::fstatvfs(file)?;
    let free = if system.blocks() == 0 { u64::MAX } else { system.blocks_available() * system.fragment_size() };
    let machine = nix::sys::sysinfo::sysinfo()?;
    let memory = available_memory().unwrap_or(machine.ram_total()) + machine.swap_total();
    Ok(free.min(memory))
}

/// The kernel's estimate of what can be had without swapping, in bytes.
fn available_memory() -> Option<u64> {
    let memory = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = memory.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

/// Opens what is at `path` to read and write; a link, a device or a pipe there is not followed, or does not block.
pub(crate) fn open(path: &CStr) -> io::Result<OwnedFd> {
    let flags = OFlag::O_RDWR | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    Ok(fcntl::open(path, flags, Mode::empty())?)
}

/// Opens the file `wanted` anew, through its descriptor or, if that is somebody else's by now, its path. The result does not
/// share its locks with `file`, as a duplicate would.
pub(crate) fn reopen(file: impl AsFd, wanted: FileId, path: Option<&CStr>) -> io::Result<OwnedFd> {
    let is_wanted = |file: &OwnedFd| status(file).is_ok_and(|status| status.id == wanted);
    // A stranger's file is not even opened: closing it would drop the locks that its owner has on it.
    if status(&file).is_ok_and(|status| status.id == wanted) {
        let through_proc = proc_path(&file)?;
        let flags = OFlag::O_RDWR | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
        match (fcntl::open(through_proc.as_c_str(), flags, Mode::empty()), path) {
            (Ok(opened), _) if is_wanted(&opened) => return Ok(opened),
            (Err(error), None) => return Err(error.into()),
            _ => {}
        }
    }
    path.map(open).transpose()?.filter(is_wanted).ok_or_else(|| io::ErrorKind::NotFound.into())
}

fn proc_path(file: impl AsFd) -> io::Result<CString> {
    Ok(CString::new(format!("/proc/self/fd/{}", file.as_fd().as_raw_fd()))?)
}

/// Removes the name `path`.
pub(crate) fn unlink(path: &CStr) -> io::Result<()> {
    unistd::unlink(path)?;
    Ok(())
}

/// Reads the first bytes of a file; says whether there are as many.
pub(crate) fn read_start(file: &OwnedFd, bytes: &mut [u8]) -> io::Result<bool> {
    use std::os::unix::fs::FileExt;
    match std::fs::File::from(file.try_clone()?).read_exact_at(bytes, 0) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        read => read.map(|()| true),
    }
}

/// How a byte of a file is locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lock {
    /// Together with others.
    Shared,
    /// Alone.
    Exclusive,
}

/// Takes a lock on one byte for the open file description behind `file`; says whether it was free. The byte need not exist.
pub(crate) fn try_lock(file: impl AsFd, byte: u64, lock: Lock) -> io::Result<bool> {
    let kind = match lock {
        Lock::Shared => libc::F_RDLCK,
        Lock::Exclusive => libc::F_WRLCK,
    };
    match fcntl::fcntl(file, FcntlArg::F_OFD_SETLK(&flock(kind, byte))) {
        Ok(_) => Ok(true),
        Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Gives a lock on one byte up, also for forked children, which have inherited the open file description that holds it.
pub(crate) fn unlock(file: impl AsFd, byte: u64) -> io::Result<()> {
    fcntl::fcntl(file, FcntlArg::F_OFD_SETLK(&flock(libc::F_UNLCK, byte)))?;
    Ok(())
}

/// Whether no other open file description than that of `file` holds a lock on the byte.
pub(crate) fn is_unlocked(file: impl AsFd, byte: u64) -> io::Result<bool> {
    let mut found = flock(libc::F_WRLCK, byte);
    fcntl::fcntl(file, FcntlArg::F_OFD_GETLK(&mut found))?;
    Ok(i32::from(found.l_type) == libc::F_UNLCK)
}

fn flock(kind: i32, byte: u64) -> libc::flock {
    libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: byte as libc::off_t,
        l_len: 1,
        l_pid: 0,
    }
}

#[cfg(all(test, not(ipc_loom)))]
mod tests {
    use std::os::fd::FromRawFd;

    use nix::unistd::dup2;

    use super::*;

    #[test]
    fn a_file_that_somebody_has_opened_in_the_place_of_ours_stays_open() {
        let descriptor = open(c"/dev/null").expect("a file");
        let id = status(&descriptor).expect("an open file").id;
        let mut ours = OwnFile::new(descriptor, id);
        let others = create_memory(c"shmkit-test").expect("a file");
        assert!(ours.is_ours());

        dup2(&others, &mut ours.descriptor).expect("two open files");
        assert!(!ours.is_ours());
        let number = ours.as_raw_fd();
        drop(ours);

        // SAFETY: it is open, for nobody has closed it, and belongs to nobody else.
        let left = unsafe { OwnedFd::from_raw_fd(number) };
        let found = |file: &OwnedFd| status(file).expect("an open file").id;
        assert_eq!(found(&left), found(&others));
    }
}
