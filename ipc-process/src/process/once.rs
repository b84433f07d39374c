//! Functions of users that fork.

use shmkit_core::identity::{self, Token};

use super::init::FAILURE;
use super::nursery::own_token;
use super::sys;

/// Runs code of users, which comes back in the process that it was called in, and nowhere else: a child that it has forked ends where it would come back.
///
/// Otherwise the child would answer in the place of its parent, and do what else that has to do: take jobs of a pool, for example, whose results nobody would take from it.
pub(crate) fn only_here<R>(run: impl FnOnce() -> R) -> R {
    // A process that cannot have a token has hardly the memory to fork.
    let _here = own_token().ok().map(Here);
    run()
}

/// The process that runs it, also if it panics.
struct Here(Token);

impl Drop for Here {
    fn drop(&mut self) {
        if !identity::is_own(self.0) {
            sys::exit_now(if std::thread::panicking() { FAILURE } else { 0 });
        }
    }
}
