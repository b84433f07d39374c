//! What the kernel is asked for.

use std::ffi::{CStr, CString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use nix::sys::time::TimeSpec;

use super::exit::ExitStatus;

/// This program, also if its file has another name by now, or none.
const PROGRAM: &CStr = c"/proc/self/exe";

/// What a new process is to be.
#[derive(Debug)]
pub(crate) struct Start {
    pub(crate) arguments: Vec<CString>,
    /// `NAME=value`.
    pub(crate) environment: Vec<CString>,
    pub(crate) directory: Option<CString>,
    /// What its first descriptors are to be; `None`: those of this process.
    pub(crate) stdio: [Option<OwnedFd>; 3],
    /// Inherited under the number that it has here.
    pub(crate) socket: OwnedFd,
}

/// Starts this program as a new process; returns its process id.
///
/// With `posix_spawn`: it takes as long for a large process as for a small one, and its child has no moment in which it could allocate. No
/// other child inherits the socket, since it becomes inheritable only in this one.
pub(crate) fn start(start: &Start) -> io::Result<u32> {
    let arguments = pointers(&start.arguments);
    let environment = pointers(&start.environment);
    let actions = Actions::new()?;
    let attributes = Attributes::new()?;
    if let Some(directory) = &start.directory {
        actions.change_directory(directory)?;
    }
    for (number, file) in start.stdio.iter().enumerate() {
        if let Some(file) = file {
            actions.put(file.as_raw_fd(), number as RawFd)?;
        }
    }
    // A descriptor that is put in its own place becomes inheritable there.
    actions.put(start.socket.as_raw_fd(), start.socket.as_raw_fd())?;
    let mut pid = 0;
    // SAFETY: the path and all strings end with zero, both vectors with a null pointer; all that is named lives over the call, which changes
    // nothing of it.
    let failed = unsafe {
        libc::posix_spawn(
            &raw mut pid,
            PROGRAM.as_ptr(),
            actions.0.as_ptr(),
            attributes.0.as_ptr(),
            arguments.as_ptr().cast(),
            environment.as_ptr().cast(),
        )
    };
    check(failed).map_err(explain)?;
    Ok(pid as u32)
}

/// A missing file is that of the program, unless it is the working directory.
fn explain(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::NotFound && std::fs::symlink_metadata("/proc/self/exe").is_err() {
        return io::Error::new(error.kind(), "this program cannot be found through /proc: mount it");
    }
    error
}

fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect()
}

fn check(code: libc::c_int) -> io::Result<()> {
    if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(code)) }
}

/// What is done in the child before it becomes the program. Boxed: it is not to be moved.
struct Actions(Box<MaybeUninit<libc::posix_spawn_file_actions_t>>);

impl Actions {
    fn new() -> io::Result<Self> {
        let mut actions = Box::new(MaybeUninit::uninit());
        // SAFETY: there is room for it.
        check(unsafe { libc::posix_spawn_file_actions_init(actions.as_mut_ptr()) })?;
        Ok(Self(actions))
    }

    fn put(&self, from: RawFd, to: RawFd) -> io::Result<()> {
        // SAFETY: initialised in `new`; nobody else reaches it.
        check(unsafe { libc::posix_spawn_file_actions_adddup2(self.0.as_ptr().cast_mut(), from, to) })
    }

    fn change_directory(&self, directory: &CStr) -> io::Result<()> {
        // SAFETY: as above; the path is copied.
        check(unsafe { libc::posix_spawn_file_actions_addchdir_np(self.0.as_ptr().cast_mut(), directory.as_ptr()) })
    }
}

impl Drop for Actions {
    fn drop(&mut self) {
        // SAFETY: initialised in `new`, and not used again.
        unsafe { libc::posix_spawn_file_actions_destroy(self.0.as_mut_ptr()) };
    }
}

/// How the child differs from this process: no signal is blocked, and SIGTERM not ignored, or it might not end the child.
struct Attributes(Box<MaybeUninit<libc::posix_spawnattr_t>>);

impl Attributes {
    fn new() -> io::Result<Self> {
        let mut attributes = Box::new(MaybeUninit::uninit());
        let terminate = SigSet::from(Signal::SIGTERM);
        // SAFETY: there is room for it; then it is initialised, and the sets of signals are some. All is copied.
        unsafe {
            check(libc::posix_spawnattr_init(attributes.as_mut_ptr()))?;
            let new = Self(attributes);
            check(libc::posix_spawnattr_setsigmask(new.0.as_ptr().cast_mut(), SigSet::empty().as_ref()))?;
            check(libc::posix_spawnattr_setsigdefault(new.0.as_ptr().cast_mut(), terminate.as_ref()))?;
            let flags = (libc::POSIX_SPAWN_SETSIGMASK | libc::POSIX_SPAWN_SETSIGDEF) as libc::c_short;
            check(libc::posix_spawnattr_setflags(new.0.as_ptr().cast_mut(), flags))?;
            Ok(new)
        }
    }
}

impl Drop for Attributes {
    fn drop(&mut self) {
        // SAFETY: initialised in `new`, and not used again.
        unsafe { libc::posix_spawnattr_destroy(self.0.as_mut_ptr()) };
    }
}

/// A descriptor of the same file that is none of the first three, and not inherited.
pub(crate) fn beyond_stdio(file: OwnedFd) -> io::Result<OwnedFd> {
    // The standard library makes no copies below 3.
    if file.as_raw_fd() < 3 { file.try_clone() } else { Ok(file) }
}

/// A descriptor of a process of ours that nobody has reaped.
pub(crate) fn open_process(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: no memory is involved. The descriptor is new and nobody else's, and closed on `exec`.
    unsafe {
        match libc::syscall(libc::SYS_pidfd_open, pid as libc::pid_t, 0) {
            -1 => Err(io::Error::last_os_error()),
            number => Ok(OwnedFd::from_raw_fd(number as RawFd)),
        }
    }
}

/// Sends a signal to a process. One that has ended does not mind.
pub(crate) fn signal(process: BorrowedFd<'_>, signal: libc::c_int) -> io::Result<()> {
    let nothing = ptr::null::<libc::siginfo_t>();
    // SAFETY: no memory is involved.
    let sent = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, process.as_raw_fd(), signal, nothing, 0) };
    match (sent, io::Error::last_os_error()) {
        (0, _) => Ok(()),
        (_, error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
        (_, error) => Err(error),
    }
}

/// Ends a process that has just been started, and that nobody knows, by its id.
pub(crate) fn undo(pid: u32) {
    // SAFETY: no memory is involved. It is a child that nobody has reaped, so the id is still its own.
    unsafe {
        libc::kill(pid as libc::pid_t, libc::SIGKILL);
        libc::waitpid(pid as libc::pid_t, ptr::null_mut(), 0);
    }
}

/// What asking the kernel for the end of a child has given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reaped {
    /// It has not ended.
    Alive,
    /// It has, and was reaped just now.
    Ended(ExitStatus),
    /// Somebody else has reaped it.
    Lost,
}

/// Reaps a child if it has ended.
pub(crate) fn reap(process: BorrowedFd<'_>) -> io::Result<Reaped> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    let what = libc::WEXITED | libc::WNOHANG;
    // SAFETY: there is room for what is said of the child. Zeroes are a value of it, and what is left if there is nothing to say. It is of a
    // child in any case, which is the part of it that has these fields.
    let (failed, pid, status, code) = unsafe {
        let failed = libc::waitid(libc::P_PIDFD, process.as_raw_fd() as libc::id_t, info.as_mut_ptr(), what) == -1;
        let info = info.assume_init();
        (failed, info.si_pid(), info.si_status(), info.si_code)
    };
    if failed {
        let error = io::Error::last_os_error();
        return match error.raw_os_error() {
            Some(libc::ECHILD) => Ok(Reaped::Lost),
            Some(libc::EINTR) => Ok(Reaped::Alive),
            _ => Err(error),
        };
    }
    Ok(match (pid, code) {
        (0, _) => Reaped::Alive,
        (_, libc::CLD_EXITED) => Reaped::Ended(ExitStatus::of_code(status)),
        _ => Reaped::Ended(ExitStatus::of_signal(status)),
    })
}

/// Waits until a process has ended, for `timeout` at most; says whether it has.
pub(crate) fn wait(process: BorrowedFd<'_>, timeout: Option<Duration>) -> io::Result<bool> {
    let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    loop {
        let mut files = [PollFd::new(process, PollFlags::POLLIN)];
        let left = deadline.map(|deadline| TimeSpec::from_duration(deadline.saturating_duration_since(Instant::now())));
        match ppoll(&mut files, left, None) {
            Ok(0) => return Ok(false),
            Ok(_) => return Ok(true),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Takes possession of the descriptor `number`, so that no child inherits it, if it is that of the socket with this inode.
///
/// # Safety
///
/// If it is, nobody else in this process owns it.
pub(crate) unsafe fn adopt_socket(number: RawFd, inode: u64) -> Option<OwnedFd> {
    let mut status = MaybeUninit::<libc::stat>::zeroed();
    // SAFETY: there is room for what is said of the file; zeroes are values of it.
    let status = unsafe {
        if libc::fstat(number, status.as_mut_ptr()) == -1 {
            return None;
        }
        status.assume_init()
    };
    let is_it = status.st_mode & libc::S_IFMT == libc::S_IFSOCK && status.st_ino == inode;
    // SAFETY: no memory is involved.
    if !is_it || unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } == -1 {
        return None;
    }
    // SAFETY: it is open, as the calls have shown, and the caller says that nobody else owns it.
    Some(unsafe { OwnedFd::from_raw_fd(number) })
}

/// The number by which an open file is told from all others of its kind.
pub(crate) fn inode(file: &OwnedFd) -> io::Result<u64> {
    Ok(nix::sys::stat::fstat(file)?.st_ino)
}

/// Whether the calling thread is the only one of its process. If that cannot be told, it is not.
pub(crate) fn is_single_threaded() -> bool {
    // The kernel counts threads as folders: two links, and one for each.
    nix::sys::stat::stat("/proc/self/task").is_ok_and(|folder| folder.st_nlink == 3)
}

/// Whether the kernel has given this process rights that whoever has started it may not have.
pub(crate) fn has_rights_of_its_own() -> bool {
    // SAFETY: looks at what the kernel has put there for this process.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

/// Exchanges the standard output of this process.
pub(crate) fn set_output(file: OwnedFd) -> io::Result<()> {
    // SAFETY: no memory is involved. The standard library owns that number as one that it writes to, whatever is there.
    match unsafe { libc::dup2(file.as_raw_fd(), libc::STDOUT_FILENO) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Sees to it that this process is killed when the thread that has started it ends.
pub(crate) fn end_with_parent() -> io::Result<()> {
    // SAFETY: no memory is involved.
    match unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Ends this process as `kill -9` does.
pub(crate) fn kill_self() -> ! {
    loop {
        // SAFETY: no memory is involved.
        unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
    }
}

/// Ends this process at once: what is to be done at an exit is not its own to do, but its parent's.
pub(crate) fn exit_now(code: libc::c_int) -> ! {
    // SAFETY: no memory is involved.
    unsafe { libc::_exit(code) }
}

/// Sets what `ps` shows for this process. The calling thread is its first one.
pub(crate) fn set_name(name: &CStr) {
    // SAFETY: the name ends with zero; the kernel reads 16 bytes at most. It cannot fail.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
}

/// Registers what to do around every `fork` of this process.
pub(crate) fn at_fork(prepare: extern "C" fn(), after: extern "C" fn()) {
    // SAFETY: the handlers are functions of the program and stay valid while it runs. It fails only without memory; forked children are then like
    // those of a process without the handlers.
    unsafe { libc::pthread_atfork(Some(prepare), Some(after), Some(after)) };
}

/// Runs `start` with all signals blocked in this thread, so that a thread started in it never runs a signal handler.
pub(crate) fn with_signals_blocked<T>(start: impl FnOnce() -> T) -> T {
    let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK);
    let result = start();
    if let Ok(before) = before {
        // Restoring a mask that was in force a moment ago cannot fail.
        let _ = before.thread_set_mask();
    }
    result
}

/// A descriptor to ring at.
pub(crate) fn bell() -> io::Result<EventFd> {
    let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
    Ok(EventFd::from_flags(flags)?)
}
