//! The process: who it is, who else is still there, and what the kernel does when it dies.

use core::ffi::c_void;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;

/// Fills `words` with random bits from the kernel.
pub(crate) fn random(words: &mut [u64]) -> io::Result<()> {
    let len = size_of_val(words);
    // SAFETY: the buffer is `len` bytes of integers, for which any bytes are values.
    let got = unsafe { libc::getrandom(words.as_mut_ptr().cast::<c_void>(), len, 0) };
    // Up to 256 bytes come whole or not at all.
    if usize::try_from(got) == Ok(len) { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The id of the calling thread, in its own PID namespace.
pub(crate) fn thread_id() -> u32 {
    // SAFETY: no memory is involved.
    unsafe { libc::gettid() as u32 }
}

/// The PID namespace of this process as a number that other processes can compare; 0 if it cannot be told.
pub(crate) fn pid_namespace() -> u64 {
    // Read anew each time: a forked child may live in another one. Without a /proc that shows our own namespace, PIDs found in
    // /proc would be other processes'.
    let own = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let pids = own.lines().find_map(|line| line.strip_prefix("NSpid:"));
    if pids.is_none_or(|pids| pids.split_whitespace().count() != 1) {
        return 0;
    }
    fs::metadata("/proc/self/ns/pid").map_or(0, |namespace| namespace.ino())
}

/// The name that `ps` shows for this process, or an empty one.
pub(crate) fn name() -> String {
    fs::read_to_string("/proc/self/comm").map_or(String::new(), |name| name.trim_end().to_owned())
}

/// The head of a robust list as the kernel reads it (`struct robust_list_head`).
#[repr(C)]
#[derive(Debug)]
pub(crate) struct RobustListHead {
    /// The first node, or the head itself. A node is one such pointer.
    pub(crate) first: *mut c_void,
    /// From a node to its futex word, in bytes.
    pub(crate) futex_offset: libc::c_long,
    /// Unused here: one store links and one unlinks a node.
    pub(crate) pending: *mut c_void,
}

/// Makes the kernel walk the list at `head` when the calling thread ends.
///
/// # Safety
///
/// The head and all nodes it ever leads to stay mapped until the thread has ended.
pub(crate) unsafe fn set_robust_list(head: *mut RobustListHead) -> io::Result<()> {
    // SAFETY: the caller keeps the list mapped; the kernel copes with any content.
    let set = unsafe { libc::syscall(libc::SYS_set_robust_list, head, size_of::<RobustListHead>()) };
    if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Runs `start` with all signals blocked in this thread, so that a thread started in it never runs a signal handler.
pub(crate) fn with_signals_blocked<T>(start: impl FnOnce() -> T) -> T {
    use nix::sys::signal::{SigSet, SigmaskHow};
    let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK);
    let result = start();
    if let Ok(before) = before {
        // Restoring a mask that was in force a moment ago cannot fail.
        let _ = before.thread_set_mask();
    }
    result
}

/// Names the calling thread and lets its short sleeps be short.
pub(crate) fn prepare_keeper_thread() {
    // SAFETY: no memory is involved; a kernel that refuses leaves the sleeps a little longer.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1_000) };
}

/// Registers what to do around every `fork` of this process. Call it once, before there is a second thread.
pub(crate) fn at_fork(prepare: extern "C" fn(), after: extern "C" fn()) {
    // SAFETY: the handlers are functions of the program and stay valid while it runs. It fails only without memory, at the very
    // start of the process, whose forked children are then like those of a process without the handlers.
    unsafe { libc::pthread_atfork(Some(prepare), Some(after), Some(after)) };
}

/// Ends this process as `kill -9` does.
#[cfg(ipc_crash)]
pub(crate) fn kill_self() -> ! {
    loop {
        // SAFETY: no memory is involved.
        unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
    }
}

/// Sends a signal to the calling thread, whose handler has run when this returns.
#[cfg(ipc_crash)]
pub(crate) fn interrupt_self(signal: libc::c_int) {
    // SAFETY: no memory is involved but what the handler uses.
    unsafe { libc::raise(signal) };
}
