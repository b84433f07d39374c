//! When to stop trying.

/// How often an exchange may fail in a row.
const MOST: u32 = 1 << 16;

/// Counts the attempts of a loop that tries an exchange again because others have changed the word since the look at it.
///
/// Among those who keep to the rules, each failure of one is the success of another one, so such a loop comes to an end. One who writes to the word
/// at full speed, and keeps to none, can make it fail again and again. So every such loop counts: after 65536 failures in a row, which
/// is some milliseconds and does not happen otherwise, there is nothing to be had.
///
/// # Examples
///
/// ```
/// use shmkit_core::Retries;
/// use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
///
/// fn double(word: &AtomicU32) -> Option<u32> {
///     let mut retries = Retries::new();
///     let mut found = word.load(Relaxed);
///     while let Err(now) = word.compare_exchange(found, found.wrapping_mul(2), Relaxed, Relaxed) {
///         retries.again()?;
///         found = now;
///     }
///     Some(found)
/// }
/// assert_eq!(double(&AtomicU32::new(21)), Some(21));
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Retries(u32);

impl Retries {
    /// No attempt has failed yet.
    #[inline]
    pub const fn new() -> Self {
        Self(0)
    }

    /// Counts a failure; `None` if there have been too many.
    #[inline]
    pub fn again(&mut self) -> Option<()> {
        self.0 += 1;
        (self.0 < MOST).then_some(())
    }
}
