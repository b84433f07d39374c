//! System calls of the tests, each wrapped once.

use std::ffi::CString;
use std::fs;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use super::until;

/// The monotonic clock, which all processes share.
pub(crate) fn now_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a timespec to write to.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Sends a signal; `false` if there is no such process.
pub(crate) fn signal(pid: u32, signal: i32) -> bool {
    // SAFETY: no memory is involved.
    unsafe { libc::kill(pid as libc::pid_t, signal) == 0 }
}

/// Sends a signal to one thread; `false` if there is no such thread.
pub(crate) fn signal_thread(pid: u32, thread: u32, signal: i32) -> bool {
    // SAFETY: no memory is involved.
    unsafe { libc::syscall(libc::SYS_tgkill, pid, thread, signal) == 0 }
}

/// Installs a handler that does nothing, without SA_RESTART, so that system calls end with EINTR.
pub(crate) fn interrupt_on(signal: i32) {
    extern "C" fn nothing(_: i32) {}
    handle(signal, nothing);
}

/// Has a signal handled by `handler`.
pub(crate) fn handle(signal: i32, handler: extern "C" fn(i32)) {
    // SAFETY: zeroes are a sigaction, and what the handler does is the caller's to answer for.
    let installed = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as usize;
        libc::sigaction(signal, &raw const action, std::ptr::null_mut())
    };
    assert_eq!(installed, 0);
}

/// The id of the calling thread.
pub(crate) fn thread_id() -> u32 {
    // SAFETY: no memory is involved.
    unsafe { libc::gettid() as u32 }
}

/// Kills this process when the thread that started it ends.
pub(crate) fn die_with_parent() {
    // SAFETY: no memory is involved.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
}

/// Lets this process outlive its parent, but nobody by more than a minute.
pub(crate) fn outlive_parent() {
    // SAFETY: no memory is involved.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, 0);
        libc::alarm(60);
    }
}

/// Ends this process at once, without any clean-up.
pub(crate) fn exit_now(status: i32) -> ! {
    // SAFETY: ends the process.
    unsafe { libc::_exit(status) }
}

pub(crate) fn is_root() -> bool {
    // SAFETY: no memory is involved.
    unsafe { libc::geteuid() == 0 }
}

/// Becomes the user `nobody`, for good.
pub(crate) fn become_nobody() {
    // SAFETY: no memory is involved.
    let done =
        unsafe { libc::setgroups(0, std::ptr::null()) == 0 && libc::setgid(65534) == 0 && libc::setuid(65534) == 0 };
    assert!(done, "cannot become nobody: {}", std::io::Error::last_os_error());
    // Both were undone by the change of the user.
    die_with_parent();
    // SAFETY: no memory is involved. Without it /proc/self would belong to root now.
    unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 1) };
}

/// Limits a resource of this process.
pub(crate) fn limit(resource: libc::__rlimit_resource_t, most: u64) {
    let limit = libc::rlimit { rlim_cur: most, rlim_max: most };
    // SAFETY: `limit` is an rlimit to read.
    let set = unsafe { libc::setrlimit(resource, &raw const limit) };
    assert_eq!(set, 0);
}

/// Limits a resource of this process as long as it likes.
pub(crate) fn limit_for_now(resource: libc::__rlimit_resource_t, most: u64) {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is an rlimit to write to and to read.
    let set = unsafe {
        libc::getrlimit(resource, &raw mut limit);
        limit.rlim_cur = most.min(limit.rlim_max);
        libc::setrlimit(resource, &raw const limit)
    };
    assert_eq!(set, 0);
}

/// Sets the umask of this process.
pub(crate) fn umask(mask: u32) {
    // SAFETY: no memory is involved.
    unsafe { libc::umask(mask) };
}

/// Closes all descriptors from `first` on, as daemons do.
pub(crate) fn close_from(first: u32) {
    // SAFETY: whoever owns these descriptors copes: that is what the caller tests.
    let closed = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) };
    assert_eq!(closed, 0);
}

/// Keeps this thread on one CPU; with `idle`, it takes that from nobody when it is woken. It has its share all the same, or on a busy machine it would not
/// come to anything for seconds, not even to its end.
pub(crate) fn stay_on_cpu_0(idle: bool) {
    // SAFETY: both structures are plain numbers that live over the calls.
    unsafe {
        let mut cpus: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(0, &mut cpus);
        assert_eq!(libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const cpus), 0);
        let policy = if idle { libc::SCHED_BATCH } else { libc::SCHED_OTHER };
        let param: libc::sched_param = std::mem::zeroed();
        assert_eq!(libc::sched_setscheduler(0, policy, &raw const param), 0);
    }
}

/// Keeps this thread on the CPU number `index` of those that it may use, modulo their number.
pub(crate) fn stay_on(index: usize) {
    let size = size_of::<libc::cpu_set_t>();
    // SAFETY: both sets are plain numbers that live over the calls, and no number is beyond their end.
    unsafe {
        let mut allowed: libc::cpu_set_t = std::mem::zeroed();
        assert_eq!(libc::sched_getaffinity(0, size, &raw mut allowed), 0);
        let cpus: Vec<_> = (0..libc::CPU_SETSIZE as usize).filter(|cpu| libc::CPU_ISSET(*cpu, &allowed)).collect();
        let mut own: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpus[index % cpus.len()], &mut own);
        assert_eq!(libc::sched_setaffinity(0, size, &raw const own), 0);
    }
}

/// A child made by `fork` alone; killed and reaped when dropped.
#[derive(Debug)]
pub(crate) struct Forked(libc::pid_t);

/// Runs `life` in a forked child, which then ends: with status 0, or 101 if it panicked. Only for roles, which have no other
/// tests beside them.
pub(crate) fn fork(life: impl FnOnce()) -> Forked {
    fork_in_two().unwrap_or_else(|| {
        let lived = catch_unwind(AssertUnwindSafe(life));
        exit_now(if lived.is_ok() { 0 } else { 101 });
    })
}

/// Forks, and comes back in both: `None` is the child, which is killed when its parent ends.
pub(crate) fn fork_in_two() -> Option<Forked> {
    let parent = std::process::id();
    // SAFETY: the child runs code of the libraries under test, which must work after a fork, and ends by `_exit`.
    match unsafe { libc::fork() } {
        -1 => panic!("fork: {}", std::io::Error::last_os_error()),
        0 => {
            die_with_parent();
            // 0 is a parent outside the PID namespace.
            if ![parent, 0].contains(&std::os::unix::process::parent_id()) {
                exit_now(0);
            }
            None
        }
        pid => Some(Forked(pid)),
    }
}

impl Forked {
    pub(crate) fn pid(&self) -> u32 {
        self.0 as u32
    }

    /// Waits for its end and returns its raw wait status: 0 is a good one.
    pub(crate) fn reap(self) -> i32 {
        let mut status = 0;
        until("the end of a forked child", || {
            // SAFETY: `status` is an int to write to.
            let ended = unsafe { libc::waitpid(self.0, &raw mut status, libc::WNOHANG) };
            assert_ne!(ended, -1, "{}", std::io::Error::last_os_error());
            ended == self.0
        });
        std::mem::forget(self);
        status
    }
}

impl Drop for Forked {
    fn drop(&mut self) {
        // SAFETY: our own child, not reaped yet; no status is asked for.
        unsafe {
            libc::kill(self.0, libc::SIGKILL);
            libc::waitpid(self.0, std::ptr::null_mut(), 0);
        }
    }
}

/// Starts a process that has the memory of this one, and keeps it until nobody is at the other end of `socket` any more.
pub(crate) fn share_memory(socket: impl AsFd) {
    extern "C" fn life(socket: *mut libc::c_void) -> i32 {
        let mut poll = libc::pollfd { fd: socket as usize as i32, events: 0, revents: 0 };
        // SAFETY: one pollfd that lives over the calls. A signal may end a call early.
        unsafe {
            while libc::poll(&raw mut poll, 1, -1) != 1 {}
            libc::_exit(0);
        }
    }
    let stack = Box::leak(Box::new([0_u128; 4096]));
    let socket = socket.as_fd().as_raw_fd() as usize as *mut libc::c_void;
    // SAFETY: the stack is nobody else's, for good, and aligned; the process has its own descriptors, and uses nothing else.
    let started = unsafe { libc::clone(life, stack.as_mut_ptr_range().end.cast(), libc::CLONE_VM, socket) };
    assert!(started > 0, "{}", std::io::Error::last_os_error());
}

/// Forks: the child, which gets 0, goes on from here like its parent. Only for roles; the child is to end by [`exit_now`].
pub(crate) fn fork_here() -> u32 {
    // SAFETY: the child does nothing but what the library under test must survive, and ends by `_exit`.
    let child = unsafe { libc::fork() };
    if child == 0 {
        die_with_parent();
    }
    u32::try_from(child).expect("a fork")
}

/// Reaps a child that was forked here, if it has ended, and well.
pub(crate) fn has_ended_well(child: u32) -> bool {
    let mut status = 0;
    // SAFETY: `status` is an int to write to.
    let reaped = unsafe { libc::waitpid(child as libc::pid_t, &raw mut status, libc::WNOHANG) };
    assert_eq!(status, 0, "the child found something else");
    reaped == child as libc::pid_t
}

/// Lets the next forked child be the first process of a new PID namespace.
pub(crate) fn unshare_pids() {
    // SAFETY: no memory is involved.
    let done = unsafe { libc::unshare(libc::CLONE_NEWPID) };
    assert_eq!(done, 0, "unshare: {}", std::io::Error::last_os_error());
}

/// Replaces this process by `sleep`.
pub(crate) fn exec_sleep() -> ! {
    use std::os::unix::process::CommandExt;
    let error = std::process::Command::new("sleep").arg("60").exec();
    panic!("exec: {error}");
}

/// Memory of this process that has really been given to it.
pub(crate) fn touch(bytes: usize) -> *mut u8 {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE;
    // SAFETY: a new mapping; nothing else is touched.
    let memory = unsafe { libc::mmap(std::ptr::null_mut(), bytes, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
    assert_ne!(memory, libc::MAP_FAILED);
    memory.cast()
}

/// The file system's size in bytes.
pub(crate) fn size_of_dev_shm() -> u64 {
    let path = c"/dev/shm";
    // SAFETY: zeroes are a statvfs, which is written to.
    unsafe {
        let mut about: libc::statvfs = std::mem::zeroed();
        assert_eq!(libc::statvfs(path.as_ptr(), &raw mut about), 0);
        about.f_blocks * about.f_frsize
    }
}

/// Makes a named pipe.
pub(crate) fn make_fifo(path: &str) {
    let path = CString::new(path).expect("no zero byte");
    // SAFETY: a path that ends with a zero byte.
    assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o600) }, 0);
}

/// Whether a descriptor is readable, or becomes so in time.
pub(crate) fn is_readable(file: impl AsFd, timeout: Duration) -> bool {
    let mut poll = libc::pollfd { fd: file.as_fd().as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one pollfd that lives over the call.
    unsafe { libc::poll(&raw mut poll, 1, timeout.as_millis() as i32) == 1 }
}

/// A new `eventfd`.
pub(crate) fn event_fd() -> OwnedFd {
    // SAFETY: the call takes numbers; the descriptor is new and nobody else's.
    unsafe {
        let file = libc::eventfd(0, libc::EFD_CLOEXEC);
        assert!(file >= 0);
        OwnedFd::from_raw_fd(file)
    }
}

/// An anonymous memory file with no seals.
pub(crate) fn memory_file() -> fs::File {
    use std::os::fd::FromRawFd;
    // SAFETY: a label that ends with a zero byte; the descriptor is new and nobody else's.
    unsafe {
        let file = libc::memfd_create(c"shmkit-test".as_ptr(), libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING);
        assert!(file >= 0);
        fs::File::from_raw_fd(file)
    }
}

/// Sends a descriptor over a socket.
pub(crate) fn send_fd(socket: BorrowedFd<'_>, file: BorrowedFd<'_>) {
    send_fds(socket, &[1], &[file]);
}

/// Sends bytes over a socket, and up to 20 descriptors with them.
pub(crate) fn send_fds(socket: BorrowedFd<'_>, bytes: &[u8], files: &[BorrowedFd<'_>]) {
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let mut control = [0u64; 16];
    let len = (files.len().min(20) * size_of::<i32>()) as u32;
    // SAFETY: the message names buffers that live over the call; `control` has room for the header and 20 descriptors and is aligned.
    unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = libc::CMSG_SPACE(len) as usize;
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = libc::CMSG_LEN(len) as usize;
        for (at, file) in files.iter().take(20).enumerate() {
            libc::CMSG_DATA(header).cast::<i32>().add(at).write_unaligned(file.as_raw_fd());
        }
        let sent = libc::sendmsg(socket.as_raw_fd(), &raw const message, 0);
        assert_eq!(usize::try_from(sent), Ok(bytes.len()));
    }
}

/// Receives a descriptor from a socket.
pub(crate) fn receive_fd(socket: BorrowedFd<'_>) -> std::os::fd::OwnedFd {
    use std::os::fd::FromRawFd;
    let mut byte = [0u8];
    let mut part = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 1 };
    let mut control = [0u64; 8];
    // SAFETY: as in `send_fd`; a received descriptor is new and nobody else's.
    unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = size_of_val(&control);
        assert_eq!(libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_CMSG_CLOEXEC), 1);
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        assert!(!header.is_null(), "no descriptor came");
        let file = libc::CMSG_DATA(header).cast::<i32>().read_unaligned();
        OwnedFd::from_raw_fd(file)
    }
}

/// The state letter of a thread, such as `S`; `None` if it is gone.
pub(crate) fn state(pid: u32, thread: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/task/{thread}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// Whether a thread sleeps on a futex.
pub(crate) fn is_in_futex(pid: u32, thread: u32) -> bool {
    let calls = [format!("{} ", libc::SYS_futex), format!("{} ", libc::SYS_futex_waitv)];
    let call = fs::read_to_string(format!("/proc/{pid}/task/{thread}/syscall")).unwrap_or_default();
    calls.iter().any(|futex| call.starts_with(futex)) && state(pid, thread) == Some('S')
}

/// Waits until a thread sleeps on a futex.
#[track_caller]
pub(crate) fn until_in_futex(pid: u32, thread: u32) {
    until("a thread asleep on a futex", || is_in_futex(pid, thread));
}

/// Whether a thread sleeps on several futexes, as all waits of the library do, without a deadline: it has looked around for the last time, and
/// only somebody who wakes it gets it on.
pub(crate) fn sleeps_until_woken(pid: u32, thread: u32) -> bool {
    has_deadline(pid, thread) == Some(false)
}

/// Whether a thread sleeps on several futexes, with a deadline or without.
pub(crate) fn sleeps_on_several(pid: u32, thread: u32) -> bool {
    has_deadline(pid, thread).is_some()
}

/// Whether the sleep of a thread on several futexes has a deadline; `None` if it does not sleep so.
fn has_deadline(pid: u32, thread: u32) -> Option<bool> {
    let call = fs::read_to_string(format!("/proc/{pid}/task/{thread}/syscall")).unwrap_or_default();
    let mut call = call.split(' ');
    // The address of the deadline is the fourth argument.
    (call.next()? == libc::SYS_futex_waitv.to_string()).then_some(call.nth(3)? != "0x0")
}

/// The threads of a process that have this name.
pub(crate) fn threads_named(pid: u32, name: &str) -> Vec<u32> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("a living process").flatten();
    let is_so_called = |thread: &fs::DirEntry| {
        fs::read_to_string(thread.path().join("comm")).is_ok_and(|found| found.trim_end() == name)
    };
    let id = |thread: fs::DirEntry| thread.file_name().to_string_lossy().parse().expect("a thread id");
    threads.filter(is_so_called).map(id).collect()
}

/// The threads of a process that are keepers.
fn keepers(pid: u32) -> Vec<u32> {
    threads_named(pid, "shmkit-keeper")
}

/// Waits until the keepers of a process have looked at all that has happened so far, have seen that the others have, too, and sleep
/// until they are told of something. While another one has not looked yet, they look again by themselves, and find more than
/// they are told.
#[track_caller]
pub(crate) fn until_keepers_settled(pid: u32) {
    for keeper in keepers(pid) {
        until("a keeper asleep without a deadline", || sleeps_until_woken(pid, keeper));
    }
}

/// Waits until keepers that were [settled](until_keepers_settled) sleep again, and have a reason to look by themselves.
#[track_caller]
pub(crate) fn until_keepers_sleep_for_a_time(pid: u32) {
    for keeper in keepers(pid) {
        until("a keeper asleep with a deadline", || has_deadline(pid, keeper) == Some(true));
    }
}

/// Waits until all of a process is stopped.
#[track_caller]
pub(crate) fn until_stopped(pid: u32) {
    until("a stopped process", || {
        let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("a living process");
        threads.flatten().all(|thread| {
            let id = thread.file_name().to_string_lossy().parse().expect("a thread id");
            state(pid, id).is_none_or(|state| state == 'T')
        })
    });
}

/// Lines of `/proc/self/maps` that contain `text`.
pub(crate) fn mappings(text: &str) -> usize {
    fs::read_to_string("/proc/self/maps").expect("maps").lines().filter(|line| line.contains(text)).count()
}

/// How many descriptors this process has open.
pub(crate) fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").expect("descriptors").count()
}

/// How many threads this process has.
pub(crate) fn threads() -> usize {
    fs::read_dir("/proc/self/task").expect("threads").count()
}

/// Sleeps for good; whoever wants this process to end kills it.
pub(crate) fn sleep_for_ever() -> ! {
    loop {
        std::thread::sleep(Duration::from_secs(60));
    }
}
