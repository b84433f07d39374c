//! The word that says whether what a lock protects may be half-changed.
//!
//! | value | meaning | becomes |
//! |---|---|---|
//! | 0 | sound | 1 when an owner is found dead; 2 when one panics |
//! | 1 | an owner died | 0 by `clear` |
//! | 2 | an owner panicked | 0 by `clear`; 1 as above |
//! | other | garbage | `Corrupted`, until `clear` |
//!
//! It is written by the holder of the lock only, except for `clear`, and read by the next holder: the lock orders both.
//!
//! ```
//! use shmkit_core::Region;
//! use shmkit_core::poison::PoisonWord;
//! use shmkit_core::raw_lock::RawLock;
//!
//! let region = Region::anonymous(4096)?;
//! let (lock, poison) = (region.insert("lock", RawLock::new())?, region.insert("poison", PoisonWord::new())?);
//!
//! let held = lock.lock(None).expect("this process takes part in the region");
//! if held.after_death {
//!     poison.note_death();
//! }
//! if poison.is_set() {
//!     println!("{:?}: look at what the lock protects", poison.cause()?);
//!     poison.clear();
//! }
//! lock.unlock(held);
//! # Ok::<(), shmkit_core::Error>(())
//! ```

use core::fmt;
use core::sync::atomic::Ordering::Relaxed;

use crate::const_fn;
use crate::described::{Described, Fingerprint, ShmSafe};
use crate::error::Error;
use crate::shim::AtomicU32;

/// Why the previous holder of a lock may have left its data half-changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Poison {
    /// Its process was killed, or ended, while it held the lock.
    OwnerDied,
    /// Its thread panicked while it held the lock.
    Panicked,
}

const SOUND: u32 = 0;
const OWNER_DIED: u32 = 1;
const PANICKED: u32 = 2;

/// The word. Zeroes are a sound one.
#[repr(transparent)]
#[derive(Debug)]
pub struct PoisonWord(AtomicU32);

impl PoisonWord {
    const_fn! {
        /// A sound one.
        pub fn new() -> Self {
            Self(AtomicU32::new(SOUND))
        }
    }

    /// Whether an owner died or panicked and nobody has cleared that. May be outdated when it returns, unless the caller holds the lock.
    #[inline]
    pub fn is_set(&self) -> bool {
        self.0.load(Relaxed) != SOUND
    }

    /// Declares what the lock protects sound. The lock is held.
    pub fn clear(&self) {
        self.0.store(SOUND, Relaxed);
    }

    /// An owner was found dead. The lock is held.
    pub fn note_death(&self) {
        self.0.store(OWNER_DIED, Relaxed);
    }

    /// The owner panics. It still holds the lock.
    #[cold]
    pub fn note_panic(&self) {
        self.0.store(PANICKED, Relaxed);
    }

    /// What happened, for one who found the word set or the last owner dead.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupted`] if the word holds what nobody writes.
    pub fn cause(&self) -> Result<Poison, Error> {
        match self.0.load(Relaxed) {
            PANICKED => Ok(Poison::Panicked),
            // Cleared by somebody just now: what was found on the way in still counts.
            SOUND | OWNER_DIED => Ok(Poison::OwnerDied),
            found => Err(Error::Corrupted { what: "poison of a lock", found: found.into() }),
        }
    }
}

impl Default for PoisonWord {
    fn default() -> Self {
        Self::new()
    }
}

/// Version of the states above.
const LAYOUT: u32 = 1;

// SAFETY: name and layout version are all that the layout depends on.
unsafe impl Described for PoisonWord {
    const FINGERPRINT: Fingerprint = Fingerprint::new("PoisonWord", LAYOUT, size_of::<Self>(), align_of::<Self>());

    fn type_name(f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PoisonWord")
    }
}

// SAFETY: an atomic.
unsafe impl ShmSafe for PoisonWord {}
