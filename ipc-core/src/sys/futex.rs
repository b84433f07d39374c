//! `futex`, `futex_waitv` and the monotonic clock.

use core::mem::MaybeUninit;
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};
use core::time::Duration;
use std::io;

use crate::config;
use crate::deadline::Deadline;
use crate::shim::futex::{FutexWord, Woken};

/// `struct futex_waitv` of the kernel.
#[repr(C)]
#[derive(Clone, Copy)]
struct Waiter {
    value: u64,
    address: u64,
    flags: u32,
    reserved: u32,
}

const FUTEX2_SIZE_U32: u32 = 0x02;

/// The most words that one wait may name (`FUTEX_WAITV_MAX`).
pub(crate) const MAX_WORDS: usize = 128;

/// How long a wait sleeps at a time where the kernel cannot wait for several words at once.
const FALLBACK_SLICE: Duration = Duration::from_millis(5);

/// A word by its address, for those who cannot hold a reference while they sleep.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RawWord {
    pub(crate) address: *const u32,
    pub(crate) expected: u32,
}

/// Cleared by the first `ENOSYS` or `EPERM` (an old kernel, a seccomp filter).
static HAS_WAITV: AtomicBool = AtomicBool::new(true);

/// Sleeps while every word has its expected value, at most until `deadline`.
///
/// May return [`Woken::Maybe`] for no reason. Signals do not surface.
pub fn wait(words: &[(&dyn FutexWord, u32)], deadline: Option<Deadline>) -> Woken {
    const FEW: usize = 4;
    let raw = |(word, expected): &(&dyn FutexWord, u32)| RawWord { address: word.address(), expected: *expected };
    if words.len() > FEW {
        return wait_raw(&words.iter().map(raw).collect::<Vec<_>>(), deadline);
    }
    let mut few = [RawWord { address: core::ptr::null(), expected: 0 }; FEW];
    few.iter_mut().zip(words).for_each(|(few, word)| *few = raw(word));
    wait_raw(&few[..words.len()], deadline)
}

/// [`wait`] by addresses. The kernel only reads them: an address that is gone makes the wait return at once.
pub(crate) fn wait_raw(words: &[RawWord], deadline: Option<Deadline>) -> Woken {
    if config::get().futex_waitv && HAS_WAITV.load(Relaxed) {
        match waitv(words, deadline) {
            Err(libc::ENOSYS | libc::EPERM) => HAS_WAITV.store(false, Relaxed),
            Err(libc::ETIMEDOUT) => return Woken::TimedOut,
            _ => return Woken::Maybe,
        }
    }
    wait_first(words, deadline)
}

fn waitv(words: &[RawWord], deadline: Option<Deadline>) -> Result<(), i32> {
    let mut waiters = [const { MaybeUninit::<Waiter>::uninit() }; MAX_WORDS];
    for (waiter, word) in waiters.iter_mut().zip(words) {
        waiter.write(Waiter {
            value: u64::from(word.expected),
            address: word.address as u64,
            flags: FUTEX2_SIZE_U32,
            reserved: 0,
        });
    }
    let deadline = deadline.map(timespec);
    let deadline = deadline.as_ref().map_or(core::ptr::null(), core::ptr::from_ref);
    // SAFETY: `waiters` holds at least `words.len()` initialised entries and `deadline` is null or a timespec, all alive over
    // the call; the kernel only reads the words and fails with EFAULT where there is no memory.
    let ended = unsafe {
        libc::syscall(
            libc::SYS_futex_waitv,
            waiters.as_ptr(),
            words.len().min(MAX_WORDS) as libc::c_uint,
            0,
            deadline,
            libc::CLOCK_MONOTONIC,
        )
    };
    if ended >= 0 { Ok(()) } else { Err(errno()) }
}

/// Without `futex_waitv`: sleep on the first word in short slices, look at the others in between.
fn wait_first(words: &[RawWord], deadline: Option<Deadline>) -> Woken {
    const PAST: Deadline = Deadline { seconds: 0, nanoseconds: 0 };
    let [first, others @ ..] = words else {
        return Woken::Maybe;
    };
    loop {
        // The kernel looks: an address may be gone by now.
        let unchanged = |word: &RawWord| wait_one(*word, Some(PAST)) == Err(libc::ETIMEDOUT);
        if !others.iter().all(unchanged) {
            return Woken::Maybe;
        }
        let slice = if others.is_empty() { None } else { Deadline::now().plus(FALLBACK_SLICE) };
        let until = earlier(slice, deadline);
        match wait_one(*first, until) {
            Err(libc::ETIMEDOUT) if until == deadline => return Woken::TimedOut,
            Err(libc::ETIMEDOUT) => {}
            _ => return Woken::Maybe,
        }
    }
}

fn wait_one(word: RawWord, deadline: Option<Deadline>) -> Result<(), i32> {
    let deadline = deadline.map(timespec);
    let deadline = deadline.as_ref().map_or(core::ptr::null(), core::ptr::from_ref);
    // SAFETY: `deadline` is null or a timespec that outlives the call; the kernel only reads the word.
    let ended = unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.address,
            libc::FUTEX_WAIT_BITSET,
            word.expected,
            deadline,
            core::ptr::null::<u32>(),
            libc::FUTEX_BITSET_MATCH_ANY,
        )
    };
    if ended == 0 { Ok(()) } else { Err(errno()) }
}

/// Wakes at most `count` sleepers on `word`, in any process; says how many.
pub fn wake(word: &dyn FutexWord, count: u32) -> u32 {
    let count = i32::try_from(count).unwrap_or(i32::MAX);
    // SAFETY: the kernel uses the address as a key only.
    let woken = unsafe { libc::syscall(libc::SYS_futex, word.address(), libc::FUTEX_WAKE, count) };
    u32::try_from(woken).unwrap_or(0)
}

/// The earlier of two deadlines, where `None` is never.
fn earlier(a: Option<Deadline>, b: Option<Deadline>) -> Option<Deadline> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (some, None) | (None, some) => some,
    }
}

/// The monotonic clock, now.
pub(crate) fn now() -> Deadline {
    read(libc::CLOCK_MONOTONIC)
}

/// The time of that clock at the kernel's last tick.
pub(crate) fn last_tick() -> Deadline {
    read(libc::CLOCK_MONOTONIC_COARSE)
}

fn read(clock: libc::clockid_t) -> Deadline {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a timespec to write to; both clocks always exist.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    Deadline { seconds: time.tv_sec, nanoseconds: time.tv_nsec }
}

fn timespec(deadline: Deadline) -> libc::timespec {
    libc::timespec { tv_sec: deadline.seconds, tv_nsec: deadline.nanoseconds }
}

fn errno() -> i32 {
    io::Error::last_os_error().raw_os_error().unwrap_or(0)
}
