//! Who is here, for operations that do not wait.

use core::fmt;

use crate::error::Error;
use crate::identity::Token;
#[cfg(not(ipc_loom))]
use crate::registry::{Around, around, ensure_token};
#[cfg(ipc_loom)]
use crate::shim::model::{Around, around, ensure_token};
use crate::wait;

/// The [`Site`](wait::Site) of a primitive for a single look: for a `try_...`, which asks who is alive and does not wait.
///
/// It is bound to the primitive, whose region stays as long as that is borrowed; so nothing is locked or counted to find it, and most often no clock is read.
///
/// # Examples
///
/// ```
/// use shmkit_core::identity::Token;
/// use shmkit_core::wait::Glance;
/// use shmkit_core::{Error, Region};
/// use std::sync::atomic::{AtomicU64, Ordering::{AcqRel, Acquire, Relaxed}};
///
/// /// Takes `seat` if it is free, or its holder dead.
/// fn try_take(seat: &AtomicU64) -> Result<bool, Error> {
///     let glance = Glance::of(seat)?;
///     let found = seat.load(Acquire);
///     if Token::from_word(found).is_some_and(|holder| glance.is_alive(holder)) {
///         return Ok(false);
///     }
///     Ok(seat.compare_exchange(found, glance.token().word(), AcqRel, Relaxed).is_ok())
/// }
///
/// let region = Region::anonymous(4096)?;
/// let seat = region.insert("seat", AtomicU64::new(0))?;
/// assert!(try_take(&seat)?);
/// assert!(!try_take(&seat)?);
/// # Ok::<(), Error>(())
/// ```
pub struct Glance<'a> {
    token: Token,
    region: Option<Around<'a>>,
}

impl<'a> Glance<'a> {
    /// That of `primitive`, which is the thing itself and not a handle to it. Looks for deaths as [`Site::look`](wait::Site::look) does.
    ///
    /// # Errors
    ///
    /// Those of [`Site::of`](wait::Site::of).
    pub fn of<T>(primitive: &'a T) -> Result<Self, Error> {
        let token = ensure_token()?;
        let region = around(primitive);
        if let Some(region) = &region {
            wait::come_in(region, token)?;
            wait::look(region);
        }
        Ok(Self { token, region })
    }

    /// The token that the calling process holds things under.
    pub fn token(&self) -> Token {
        self.token
    }

    /// Whether the process behind `token` may still act here. `false` is proven and final.
    pub fn is_alive(&self, token: Token) -> bool {
        self.region.as_ref().is_none_or(|region| region.participants().is_alive(token))
    }
}

impl fmt::Debug for Glance<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Glance").field("token", &self.token).finish_non_exhaustive()
    }
}
