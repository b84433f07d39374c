//! The word that says whether what a lock protects may be half-changed.
//!
//! | value | meaning | becomes |
//! |---|---|---|
//! | 0 | sound | 1 when an owner is found dead; 2 when a guard is dropped by a panic |
//! | 1 | an owner died | 0 by `clear_poison` |
//! | 2 | an owner panicked | 0 by `clear_poison`; 1 as above |
//! | other | garbage | `Corrupted`, until `clear_poison` |
//!
//! It is written by the holder of the lock only, except for `clear_poison`, and read by the next holder: the lock orders both.

use core::sync::atomic::Ordering::Relaxed;

use shmkit_core::shim::AtomicU32;
use shmkit_core::{Error, const_fn};

use crate::error::Poison;

const SOUND: u32 = 0;
const OWNER_DIED: u32 = 1;
const PANICKED: u32 = 2;

/// The word. Zeroes are a sound one.
#[repr(transparent)]
#[derive(Debug)]
pub(crate) struct PoisonWord(AtomicU32);

impl PoisonWord {
    const_fn! {
        pub(crate) fn new() -> Self {
            Self(AtomicU32::new(SOUND))
        }
    }

    #[inline]
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Relaxed) != SOUND
    }

    pub(crate) fn clear(&self) {
        self.0.store(SOUND, Relaxed);
    }

    /// An owner was found dead. The lock is held.
    pub(crate) fn note_death(&self) {
        self.0.store(OWNER_DIED, Relaxed);
    }

    /// The owner panics. It still holds the lock.
    #[cold]
    pub(crate) fn note_panic(&self) {
        self.0.store(PANICKED, Relaxed);
    }

    /// What happened, for one who found the word set or the last owner dead.
    pub(crate) fn cause(&self) -> Result<Poison, Error> {
        match self.0.load(Relaxed) {
            PANICKED => Ok(Poison::Panicked),
            // Cleared by somebody just now: what was found on the way in still counts.
            SOUND | OWNER_DIED => Ok(Poison::OwnerDied),
            found => Err(Error::Corrupted { what: "poison of a lock", found: found.into() }),
        }
    }
}
