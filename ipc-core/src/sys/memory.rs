//! Whether another process still has its memory, as `/proc` tells.
//!
//! A living process starts threads and ends them while it is asked about, so what is found of one thread after the other is nothing that was ever so of all
//! at once. It is the order of three questions that makes a proof of the answers:
//!
//! 1. None of the threads that are listed has memory. A thread that has lost it, on its way to its end, never gets any again: this stays so.
//! 2. There are as many threads as were listed.
//! 3. All those that were listed are still there, so they were there at 2, and nobody else was.
//!
//! Thus at 2 no thread had memory. Only one that runs the program starts another, and that takes memory: none ever comes. (A thread that calls `exec` may take the
//! place of the first one, but at that moment there is no way back to the old program any more.) In any other order there is a gap for one that is started in between by
//! the last one that is listed, which then loses its memory. That the list ends early at a thread that is released while the kernel stands on it does no harm:
//! 2 finds more. Nor does a number that is given out once more: the kernel gives the new thread's folder another inode.
//!
//! All questions but the first list are asked by path, of which nobody can put another in its place. The folder that is listed may have become another one, if another thread closes all descriptors,
//! as daemons do, and opens something else: what that holds is not there under the path, with the same inode.
//!
//! The fewer questions, the better: the dying process waits for the CPU meanwhile, and while the kernel takes gigabytes apart on another one, each was seen to take 50 microseconds.

use core::ops::Range;
use std::collections::BTreeSet;
use std::ffi::{CStr, OsStr};
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl;
use nix::sys::signal;
use nix::unistd::Pid;

use crate::config;
use crate::sys::file::{self, OwnFile};

/// Whether process `pid` of our own PID namespace has certainly given up its memory: no thread of it can store any more.
///
/// True only with proof: there is no such process, or the kernel says of each of its threads that it has no address space
/// left. A process that has taken over the PID of a dead one makes the answer `false`, never wrongly `true`.
pub(crate) fn has_no_memory(pid: u32) -> bool {
    let Some(signed) = libc::pid_t::try_from(pid).ok().filter(|pid| *pid > 0 && config::get().proc) else {
        return false;
    };
    let path = PathBuf::from(format!("/proc/{pid}/task"));
    let Ok(folder) = open(&path) else {
        // Not the absence of /proc/PID: a /proc mounted with `hidepid` hides living processes of other users.
        return signal::kill(Pid::from_raw(signed), None) == Err(Errno::ESRCH);
    };
    is_proven(&path, &folder)
}

/// The folder of the threads of a process.
fn open(path: &Path) -> io::Result<OwnFile> {
    let folder = OwnedFd::from(fs::File::open(path)?);
    let id = file::status(&folder)?.id;
    Ok(OwnFile::new(folder, id))
}

/// Whether none of the threads that have their folders at `path`, as listed by `folder`, has memory.
fn is_proven(path: &Path, folder: &OwnFile) -> bool {
    // The living are asked about most often, and one thread that has memory is answer enough.
    let without_memory = |thread: io::Result<Entry>| thread.ok().filter(|thread| has_thread_no_memory(path, thread));
    // A set: two folders in the place of one may list a thread twice.
    let Some(threads) = Entries::of(folder).map(without_memory).collect::<Option<BTreeSet<_>>>() else {
        return false;
    };
    // The kernel counts threads as folders: two links and one for each.
    let is_counted = |folder: fs::Metadata| folder.nlink() == threads.len() as u64 + 2;
    !threads.is_empty()
        && fs::metadata(path).is_ok_and(is_counted)
        && threads.iter().all(|thread| is_still_there(path, thread))
}

/// Whether the listed thread has no address space any more; also if it is gone.
fn has_thread_no_memory(path: &Path, thread: &Entry) -> bool {
    // The question after its program comes first: it takes no reference to the memory. Whoever reads `statm` does, and if the
    // thread dies at that moment, it is the reader who has to tear down what may be gigabytes.
    match fcntl::readlink(&path.join(&thread.name).join("exe")) {
        Ok(_) => false,
        // Without memory there is no program.
        Err(Errno::ENOENT) => true,
        // That of another user's process may not be asked for.
        Err(_) => fs::read_to_string(path.join(&thread.name).join("statm")).is_ok_and(|sizes| is_nothing(&sizes)),
    }
}

/// Whether this is what `statm` says of one without memory. Another file, if the descriptor has become one, says something else; or nothing.
fn is_nothing(sizes: &str) -> bool {
    sizes == "0 0 0 0 0 0 0\n"
}

/// Whether the very thread that was listed is there, and not another one that has its number by now.
fn is_still_there(path: &Path, thread: &Entry) -> bool {
    fs::metadata(path.join(&thread.name)).is_ok_and(|folder| folder.ino() == thread.inode)
}

/// What a folder holds.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    name: PathBuf,
    inode: u64,
}

/// The entries of a folder, without those that begin with a dot, as the kernel lists them.
struct Entries<'a> {
    folder: &'a OwnFile,
    records: [u8; 1024],
    unread: Range<usize>,
}

impl<'a> Entries<'a> {
    fn of(folder: &'a OwnFile) -> Self {
        Self { folder, records: [0; 1024], unread: 0..0 }
    }

    /// Reads some more records; there are none left if it finds none.
    fn read_on(&mut self) -> io::Result<()> {
        // SAFETY: the buffer is so many bytes of integers, for which any bytes are values.
        let got = unsafe {
            let records = self.records.as_mut_ptr();
            libc::syscall(libc::SYS_getdents64, self.folder.as_raw_fd(), records, size_of_val(&self.records))
        };
        self.unread = 0..usize::try_from(got).map_err(|_| io::Error::last_os_error())?;
        Ok(())
    }

    /// The next of the records that were read.
    fn take(&mut self) -> Option<Entry> {
        /// Where the length of a record and the name are in `struct linux_dirent64`, which begins with the inode.
        const LENGTH: usize = 16;
        const NAME: usize = 19;

        let rest = self.records.get(self.unread.clone())?;
        let inode = u64::from_ne_bytes(*rest.first_chunk()?);
        let length = usize::from(u16::from_ne_bytes(*rest.get(LENGTH..)?.first_chunk()?));
        let name = CStr::from_bytes_until_nul(rest.get(NAME..length)?).ok()?;
        self.unread.start += length;
        Some(Entry { name: PathBuf::from(OsStr::from_bytes(name.to_bytes())), inode })
    }
}

impl Iterator for Entries<'_> {
    type Item = io::Result<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if self.unread.is_empty() {
                if let Err(error) = self.read_on() {
                    return Some(Err(error));
                }
                if self.unread.is_empty() {
                    return None;
                }
            }
            match self.take() {
                Some(entry) if entry.name.as_os_str().as_bytes().starts_with(b".") => {}
                entry => return Some(entry.ok_or_else(|| io::ErrorKind::InvalidData.into())),
            }
        }
    }
}

#[cfg(all(test, not(ipc_loom)))]
mod tests {
    use core::ffi::c_void;
    use std::thread;
    use std::time::Duration;

    use nix::sys::signal::Signal;
    use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
    use nix::unistd::{ForkResult, fork, pause};

    use super::*;

    /// A child that is killed and reaped at the latest when this is dropped.
    struct Child(Pid);

    impl Child {
        fn reap(&self) {
            // It may be reaped already.
            let _ = signal::kill(self.0, Signal::SIGKILL);
            let _ = waitpid(self.0, None);
        }
    }

    impl Drop for Child {
        fn drop(&mut self) {
            self.reap();
        }
    }

    /// A child of two threads, of which the first ends at once if `is_headless`, and the second does `life`.
    fn child(is_headless: bool, life: fn()) -> Child {
        // SAFETY: the C library makes its own locks usable in the child, which uses nothing else that another thread may have had.
        if let ForkResult::Parent { child } = unsafe { fork() }.expect("a child") {
            return Child(child);
        }
        // Nobody is left behind by a test that is killed.
        // SAFETY: no memory is involved.
        unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
        thread::spawn(life);
        if is_headless {
            // SAFETY: ends this thread only, which has nothing that the other one uses.
            unsafe { libc::syscall(libc::SYS_exit, 0) };
        }
        rest()
    }

    fn rest() -> ! {
        loop {
            pause();
        }
    }

    /// Ends the calling thread as soon as there is another one, which does the same. With the bare C library, so that little time lies between.
    fn hand_on() {
        extern "C" fn life(_: *mut c_void) -> *mut c_void {
            hand_on();
            core::ptr::null_mut()
        }
        // SAFETY: both are plain data, for which zeroes are values, and are initialised before they are read; the thread borrows nothing.
        unsafe {
            let mut attributes: libc::pthread_attr_t = core::mem::zeroed();
            let mut thread: libc::pthread_t = core::mem::zeroed();
            libc::pthread_attr_init(&raw mut attributes);
            libc::pthread_attr_setdetachstate(&raw mut attributes, libc::PTHREAD_CREATE_DETACHED);
            while libc::pthread_create(&raw mut thread, &raw const attributes, life, core::ptr::null_mut()) != 0 {}
        }
    }

    fn soon(mut is_so: impl FnMut() -> bool) -> bool {
        (0..10_000).any(|_| {
            thread::sleep(Duration::from_millis(1));
            is_so()
        })
    }

    #[test]
    fn the_living_have_memory_and_the_dead_have_none() {
        let has_memory = |pid: Pid| !has_no_memory(pid.as_raw().unsigned_abs());
        assert!(has_memory(Pid::this()));
        for is_headless in [false, true] {
            let child = child(is_headless, || rest());
            let sizes = || fs::read_to_string(format!("/proc/{}/statm", child.0)).expect("a child that is not reaped");
            assert!(!is_headless || soon(|| sizes().starts_with("0 ")), "its first thread ends");
            assert!(has_memory(child.0));

            signal::kill(child.0, Signal::SIGKILL).expect("a child of ours");
            assert!(soon(|| !has_memory(child.0)), "long before it is reaped");

            child.reap();
            assert!(!has_memory(child.0));
        }
    }

    #[test]
    fn the_living_have_memory_although_each_thread_ends_that_can_be_asked_after() {
        let child = child(true, hand_on);

        // Any question may fall between the end of one thread and the beginning of the next.
        for asked in 0..200_000 {
            assert!(!has_no_memory(child.0.as_raw().unsigned_abs()), "after {asked} questions");
        }

        assert_eq!(waitpid(child.0, Some(WaitPidFlag::WNOHANG)), Ok(WaitStatus::StillAlive));
    }

    #[test]
    fn what_is_no_process_proves_nothing() {
        assert!(!has_no_memory(0));
        assert!(!has_no_memory(u32::MAX));
    }

    #[test]
    fn threads_that_are_listed_by_a_folder_of_other_things_prove_nothing() {
        let path = std::env::temp_dir().join(format!("shmkit-tasks-{}", Pid::this()));
        // As many as this process may have threads, and none of them has a program there.
        fs::create_dir_all(path.join("1")).expect("a folder");
        fs::create_dir_all(path.join("2")).expect("a folder");

        let proven = open(&path).map(|folder| is_proven(Path::new("/proc/self/task"), &folder));
        fs::remove_dir_all(&path).expect("it is ours");

        assert!(!proven.expect("a folder"));
    }

    #[test]
    fn nothing_but_sizes_of_zero_says_that_a_thread_has_no_memory() {
        let child = child(true, || rest());
        let sizes = |pid: Pid| fs::read_to_string(format!("/proc/{pid}/statm")).expect("a child that is not reaped");

        assert!(soon(|| is_nothing(&sizes(child.0))), "its first thread ends");

        assert!(!is_nothing(&sizes(Pid::this())));
        assert!(!is_nothing(""), "as an empty file");
        assert!(!is_nothing("0\n"), "as a file that holds a number");
    }

    #[test]
    fn all_entries_of_a_long_folder_are_found() {
        let folder = std::env::temp_dir().join(format!("shmkit-entries-{}", Pid::this()));
        fs::create_dir(&folder).expect("a folder");
        let mut made: Vec<_> = (0..200)
            .map(|number| {
                let name = PathBuf::from(format!("entry {number} {}", "x".repeat(number)));
                fs::write(folder.join(&name), "").expect("a file");
                let inode = fs::metadata(folder.join(&name)).expect("a file").ino();
                Entry { name, inode }
            })
            .collect();

        let found: io::Result<Vec<_>> = open(&folder).and_then(|folder| Entries::of(&folder).collect());
        fs::remove_dir_all(&folder).expect("it is ours");

        let mut found = found.expect("its entries");
        found.sort();
        made.sort();
        assert_eq!(found, made);
    }
}
