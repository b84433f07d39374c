//! Whether another process still has its memory, as `/proc` tells.
//!
//! The fewer questions, the better: the dying process waits for the CPU meanwhile, and while the kernel takes gigabytes apart on another one, each was seen to take 50 microseconds.

use std::ffi::{CStr, OsStr};
use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{self, AtFlags, OFlag};
use nix::sys::signal;
use nix::sys::stat::{self, Mode};
use nix::unistd::Pid;

use crate::config;

/// Whether process `pid` of our own PID namespace has certainly given up its memory: no thread of it can store any more.
///
/// True only with proof: there is no such process, or the kernel says of each of its threads that it has no address space
/// left. A process that has taken over the PID of a dead one makes the answer `false`, never wrongly `true`.
pub(crate) fn has_no_memory(pid: u32) -> bool {
    let Some(signed) = libc::pid_t::try_from(pid).ok().filter(|pid| *pid > 0 && config::get().proc) else {
        return false;
    };
    let Ok(tasks) = fs::File::open(format!("/proc/{pid}/task")) else {
        // Not the absence of /proc/PID: a /proc mounted with `hidepid` hides living processes of other users.
        return signal::kill(Pid::from_raw(signed), None) == Err(Errno::ESRCH);
    };
    let Ok(threads) = entries(&tasks) else {
        return false;
    };
    // The list ends early at a thread that is released while the kernel stands on it. It is whole if there are as many threads now
    // (the kernel counts them as folders: two links and one for each), and all that were listed are still there.
    let counted = tasks.metadata().map_or(0, |folder| folder.nlink());
    !threads.is_empty()
        && counted == threads.len() as u64 + 2
        && threads.iter().all(|thread| thread_has_no_memory(&tasks, thread))
}

/// The names in a folder, without those that begin with a dot.
fn entries(folder: &fs::File) -> io::Result<Vec<PathBuf>> {
    /// Where the length of a record and the name are in `struct linux_dirent64`.
    const LENGTH: usize = 16;
    const NAME: usize = 19;

    let mut names = Vec::new();
    let mut records = [0_u8; 1024];
    loop {
        // SAFETY: the buffer is so many bytes of integers, for which any bytes are values.
        let got = unsafe {
            libc::syscall(libc::SYS_getdents64, folder.as_raw_fd(), records.as_mut_ptr(), size_of_val(&records))
        };
        let mut rest = match usize::try_from(got) {
            Ok(0) => return Ok(names),
            Ok(got) => &records[..got],
            Err(_) => return Err(io::Error::last_os_error()),
        };
        while let Some(&[low, high]) = rest.get(LENGTH..LENGTH + 2) {
            let length = usize::from(u16::from_ne_bytes([low, high]));
            let name = rest.get(NAME..length).and_then(|name| CStr::from_bytes_until_nul(name).ok());
            let name = name.ok_or(io::ErrorKind::InvalidData)?;
            if !name.to_bytes().starts_with(b".") {
                names.push(PathBuf::from(OsStr::from_bytes(name.to_bytes())));
            }
            rest = &rest[length..];
        }
    }
}

/// Whether the thread that is shown as `thread` in the folder `tasks` is still there and has no address space any more.
fn thread_has_no_memory(tasks: &fs::File, thread: &Path) -> bool {
    // The question after its program comes first: it takes no reference to the memory. Whoever reads `statm` does, and if the
    // thread dies at that moment, it is the reader who has to tear down what may be gigabytes.
    match fcntl::readlinkat(tasks, &thread.join("exe")) {
        Ok(_) => false,
        // Without memory there is no program; nor if the thread is gone.
        Err(Errno::ENOENT) => stat::fstatat(tasks, thread, AtFlags::empty()).is_ok(),
        // That of another user's process may not be asked for.
        Err(_) => statm(tasks, thread).is_ok_and(|sizes| sizes.split_whitespace().all(|size| size == "0")),
    }
}

fn statm(tasks: &fs::File, thread: &Path) -> io::Result<String> {
    let file = fcntl::openat(tasks, &thread.join("statm"), OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    io::read_to_string(fs::File::from(file))
}

#[cfg(all(test, not(ipc_loom)))]
mod tests {
    use std::thread;
    use std::time::Duration;

    use nix::sys::signal::Signal;
    use nix::sys::wait::waitpid;
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

    /// A child of two threads, of which the first ends at once if `is_headless`.
    fn child(is_headless: bool) -> Child {
        // SAFETY: the C library makes its own locks usable in the child, which uses nothing else that another thread may have had.
        if let ForkResult::Parent { child } = unsafe { fork() }.expect("a child") {
            return Child(child);
        }
        // Nobody is left behind by a test that is killed.
        // SAFETY: no memory is involved.
        unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
        thread::spawn(|| {
            loop {
                pause();
            }
        });
        if is_headless {
            // SAFETY: ends this thread only, which has nothing that the other one uses.
            unsafe { libc::syscall(libc::SYS_exit, 0) };
        }
        loop {
            pause();
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
            let child = child(is_headless);
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
    fn what_is_no_process_proves_nothing() {
        assert!(!has_no_memory(0));
        assert!(!has_no_memory(u32::MAX));
    }

    #[test]
    fn all_entries_of_a_long_folder_are_found() {
        let folder = std::env::temp_dir().join(format!("shmkit-entries-{}", Pid::this()));
        fs::create_dir(&folder).expect("a folder");
        let mut made: Vec<_> =
            (0..200).map(|number| PathBuf::from(format!("entry {number} {}", "x".repeat(number)))).collect();
        made.iter().for_each(|name| fs::write(folder.join(name), "").expect("a file"));

        let found = fs::File::open(&folder).and_then(|folder| entries(&folder));
        fs::remove_dir_all(&folder).expect("it is ours");

        let mut found = found.expect("its entries");
        found.sort();
        made.sort();
        assert_eq!(found, made);
    }
}
