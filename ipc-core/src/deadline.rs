//! Deadlines on the monotonic clock.

use std::time::{Duration, Instant};

/// A point in time on the monotonic clock, in the form that the kernel takes.
///
/// Every timed operation computes one deadline when it starts and keeps it through all retries. "No deadline" is
/// `Option::<Deadline>::None`; a point too far away to be represented is none, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline {
    pub(crate) seconds: i64,
    pub(crate) nanoseconds: i64,
}

impl Deadline {
    /// The point `timeout` from now; `None` if that is beyond what the clock can say.
    pub fn after(timeout: Duration) -> Option<Self> {
        Self::now().plus(timeout)
    }

    /// The deadline that `instant` is; one in the past has passed already.
    pub fn at(instant: Instant) -> Option<Self> {
        Self::after(instant.saturating_duration_since(Instant::now()))
    }

    /// Whether this point lies in the past.
    pub fn has_passed(self) -> bool {
        self <= Self::now()
    }

    #[cfg(not(ipc_loom))]
    pub(crate) fn now() -> Self {
        crate::sys::futex::now()
    }

    /// When the kernel's clock ticked last, by which it is not later than now; a fraction of the time to read.
    #[cfg(not(ipc_loom))]
    pub(crate) fn last_tick() -> Self {
        crate::sys::futex::last_tick()
    }

    /// Models have no clock: their deadlines pass when the model says so.
    #[cfg(ipc_loom)]
    pub(crate) fn now() -> Self {
        Self { seconds: 0, nanoseconds: 0 }
    }

    /// Nanoseconds since the beginning of the clock, to be kept in a word.
    pub fn as_nanos(self) -> u64 {
        (self.seconds as u64).wrapping_mul(1_000_000_000).wrapping_add(self.nanoseconds as u64)
    }

    /// The deadline that was [kept](Self::as_nanos) as this number. Any number is one.
    pub fn from_nanos(nanoseconds: u64) -> Self {
        Self { seconds: (nanoseconds / 1_000_000_000) as i64, nanoseconds: (nanoseconds % 1_000_000_000) as i64 }
    }

    pub(crate) fn plus(self, duration: Duration) -> Option<Self> {
        let nanoseconds = self.nanoseconds + i64::from(duration.subsec_nanos());
        let seconds = i64::try_from(duration.as_secs()).ok()?;
        Some(Self {
            seconds: self.seconds.checked_add(seconds)?.checked_add(nanoseconds / 1_000_000_000)?,
            nanoseconds: nanoseconds % 1_000_000_000,
        })
    }
}

#[cfg(all(test, not(ipc_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_too_long_for_the_clock_is_no_deadline() {
        assert_eq!(Deadline::after(Duration::MAX), None);
    }

    #[test]
    fn nanoseconds_carry_into_seconds() {
        let start = Deadline { seconds: 7, nanoseconds: 900_000_000 };
        assert_eq!(start.plus(Duration::from_millis(1_200)), Some(Deadline { seconds: 9, nanoseconds: 100_000_000 }));
    }

    #[test]
    fn an_instant_in_the_past_has_passed() {
        let deadline = Deadline::at(Instant::now()).expect("now is representable");
        assert!(deadline.has_passed());
    }
}
