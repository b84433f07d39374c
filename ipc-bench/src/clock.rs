//! The clocks that all processes of one machine share.

use std::time::Duration;

/// Returns `CLOCK_MONOTONIC` in nanoseconds; comparable between processes.
#[inline]
pub fn monotonic_ns() -> u64 {
    let time = now(libc::CLOCK_MONOTONIC);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// The deadline `timeout` from now for calls of POSIX that count by `CLOCK_REALTIME`.
pub fn realtime_after(timeout: Duration) -> libc::timespec {
    let now = now(libc::CLOCK_REALTIME);
    let deadline = Duration::new(now.tv_sec as u64, now.tv_nsec as u32) + timeout;
    libc::timespec { tv_sec: deadline.as_secs() as libc::time_t, tv_nsec: deadline.subsec_nanos() as libc::c_long }
}

#[inline]
fn now(clock: libc::clockid_t) -> libc::timespec {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a live, writable timespec; the kernel keeps no reference to it.
    let result = unsafe { libc::clock_gettime(clock, &mut time) };
    assert_eq!(result, 0, "every Linux has this clock");
    time
}
