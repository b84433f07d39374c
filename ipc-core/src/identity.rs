//! Who this process is: the token that its locks are held under.
//!
//! ```text
//!  63                               28 27                      1    0
//! +-----------------------------------+-------------------------+------+
//! | identity: 36 random bits          | generation: 27 bits     | flag |
//! +-----------------------------------+-------------------------+------+
//! ```
//!
//! The identity is drawn once per process and never 0. A token is no PID: it means the same in every PID namespace and is not
//! reused. The flag bit is always 0 in a token; words that hold tokens use it for themselves. Numbers below 2^28 are no tokens: such
//! words can have other states there.
//!
//! The **generation** makes "this token is not in the table of its region" a proof of death for ever. A process that leaves a
//! region and attaches again would otherwise bring its old token back to life: a peer that found the token missing, and is
//! about to take a lock over, would then rob a living owner. So each departure raises the generation, and a process that
//! attaches is alive in that region from its current generation on. A guard that was forgotten (`mem::forget`) before the
//! departure stays that of a dead owner.
//!
//! The token lies in a page that the kernel wipes in a forked child. The child reads 0, which is nobody, and takes the cold
//! path of whatever it does; there it attaches to every region that it inherited, and only then has a token of its own.
//!
//! What belongs to one thread is held under the token of its process and the [id of the thread](thread_id). The kernel's ids of threads
//! would not do: after the death of an owner, a thread of another process can have the same.

use core::cell::Cell;
use core::num::NonZeroU64;

use crate::error::Error;
#[cfg(not(ipc_loom))]
use crate::registry::ensure_token;
#[cfg(ipc_loom)]
use crate::shim::model::{ensure_token, random};
#[cfg(not(ipc_loom))]
use crate::sys::process::random;

/// The flag bit, free for the words that hold tokens.
pub const FLAG: u64 = 1;

const GENERATION_SHIFT: u32 = 1;
const IDENTITY_SHIFT: u32 = 28;
const LAST_GENERATION: u64 = (1 << (IDENTITY_SHIFT - GENERATION_SHIFT)) - 1;

/// A process, as the words in a region name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token(NonZeroU64);

impl Token {
    /// The token in `word`, whose flag bit does not matter; `None` if there is no identity in it.
    #[inline]
    pub const fn from_word(word: u64) -> Option<Self> {
        if word >> IDENTITY_SHIFT == 0 {
            return None;
        }
        match NonZeroU64::new(word & !FLAG) {
            Some(word) => Some(Self(word)),
            None => None,
        }
    }

    /// The token as a word; its flag bit is 0.
    #[inline]
    pub const fn word(self) -> u64 {
        self.0.get()
    }

    /// Whether both tokens are of one process, whatever their generations.
    #[inline]
    pub const fn is_same_process(self, other: Self) -> bool {
        (self.word() ^ other.word()) >> IDENTITY_SHIFT == 0
    }

    /// Whether a process that attached with `self` is alive under `later`.
    #[inline]
    pub const fn covers(self, later: Self) -> bool {
        self.is_same_process(later) && self.word() <= later.word()
    }

    /// The token of the next generation; `None` after the last one.
    pub(crate) const fn next_generation(self) -> Option<Self> {
        if (self.word() >> GENERATION_SHIFT) & LAST_GENERATION == LAST_GENERATION {
            return None;
        }
        Self::from_word(self.word() + (1 << GENERATION_SHIFT))
    }

    /// The first token of the identity that `random` makes.
    pub(crate) const fn first(random: u64) -> Option<Self> {
        Self::from_word(random >> IDENTITY_SHIFT << IDENTITY_SHIFT)
    }
}

#[cfg(not(ipc_loom))]
mod page {
    use core::sync::atomic::AtomicPtr;
    use core::sync::atomic::AtomicU64;
    use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
    use std::io;

    use core::num::NonZeroU64;

    use super::Token;
    use crate::sys::map::Mapping;

    /// What lies in the page that fork wipes. Only its own process sees it.
    #[repr(C)]
    #[derive(Debug)]
    struct Page {
        /// The token in force, or 0 while the process has none. Written under the registry's lock.
        current: AtomicU64,
        /// A token that is being introduced to the regions, but not in force yet; else 0. Kept so that a failed introduction
        /// goes on with the same token.
        pending: AtomicU64,
    }

    static NOBODY: Page = Page { current: AtomicU64::new(0), pending: AtomicU64::new(0) };

    /// The page in use; `NOBODY` until the first token is drawn, then for ever the wiped page.
    static PAGE: AtomicPtr<Page> = AtomicPtr::new(core::ptr::from_ref(&NOBODY).cast_mut());

    #[inline]
    fn page() -> &'static Page {
        // Acquire pairs with the Release in `prepare`: the page is mapped and zeroed.
        let page = PAGE.load(Acquire);
        // SAFETY: points to `NOBODY` or to the start of a page that is never unmapped; both hold nothing but atomics, and a
        // wiped page is one of zeroes, which are values of them.
        unsafe { &*page }
    }

    /// The token of this process; `None` before its first use of the library and right after a fork.
    #[inline]
    pub fn current() -> Option<Token> {
        // Acquire pairs with the Release in `set_current`: whoever publishes something under the token publishes with it that
        // the token stands in the tables of all regions. What stands here was written by `set_current` or wiped.
        NonZeroU64::new(page().current.load(Acquire)).map(Token)
    }

    /// Whether `token` is of the calling process, whatever its generation; not so in a forked child that has inherited it.
    #[inline]
    pub fn is_own(token: Token) -> bool {
        // A process without a token reads 0, an identity that no token has. Relaxed: nothing is published under the token here.
        (page().current.load(Relaxed) ^ token.word()) >> super::IDENTITY_SHIFT == 0
    }

    /// A token that was drawn for this very process, in force or not.
    pub(crate) fn drawn() -> Option<Token> {
        current().or_else(|| Token::from_word(page().pending.load(Relaxed)))
    }

    /// Maps the page if that has not been done yet. The registry's lock is held.
    pub(crate) fn prepare() -> io::Result<()> {
        if !core::ptr::eq(page(), &raw const NOBODY) {
            return Ok(());
        }
        let wiped = Mapping::wiped_on_fork()?;
        PAGE.store(wiped.base().cast(), Release);
        wiped.forget();
        Ok(())
    }

    /// Notes a token that is not in force yet. The registry's lock is held and `prepare` has succeeded.
    pub(crate) fn set_pending(token: Token) {
        page().pending.store(token.word(), Relaxed);
    }

    /// Puts a token in force. The registry's lock is held and `prepare` has succeeded.
    pub(crate) fn set_current(token: Token) {
        page().current.store(token.word(), Release);
    }
}
#[cfg(not(ipc_loom))]
pub use page::{current, is_own};
#[cfg(not(ipc_loom))]
pub(crate) use page::{drawn, prepare, set_current, set_pending};

#[cfg(ipc_loom)]
pub use crate::shim::model::{current, is_own};

/// The id of a thread, and the token that its process had when it was drawn. Zeroes: none yet.
#[derive(Clone, Copy)]
struct Thread {
    id: u64,
    drawn_under: u64,
}

impl Thread {
    const NOBODY: Self = Self { id: 0, drawn_under: 0 };
}

#[cfg(not(ipc_loom))]
std::thread_local! {
    static THREAD: Cell<Thread> = const { Cell::new(Thread::NOBODY) };
}
#[cfg(ipc_loom)]
loom::thread_local! {
    static THREAD: Cell<Thread> = Cell::new(Thread::NOBODY);
}

/// The id of the calling thread: 64 random bits, which no other thread has in any process.
///
/// It stays the same as long as the thread lives. A forked child inherits the memory in which it is kept, so there the one thread of the
/// child draws another one.
///
/// # Errors
///
/// Those of [`Site::of`](crate::wait::Site::of), and a kernel without random bits.
#[inline]
pub fn thread_id() -> Result<NonZeroU64, Error> {
    let thread = THREAD.with(Cell::get);
    if let (Some(id), Some(token), Some(now)) =
        (NonZeroU64::new(thread.id), Token::from_word(thread.drawn_under), current())
    {
        if token.is_same_process(now) {
            return Ok(id);
        }
    }
    draw_thread_id()
}

#[cold]
fn draw_thread_id() -> Result<NonZeroU64, Error> {
    let token = ensure_token()?;
    loop {
        let mut bits = [0];
        random(&mut bits)?;
        if let Some(id) = NonZeroU64::new(bits[0]) {
            THREAD.with(|thread| thread.set(Thread { id: id.get(), drawn_under: token.word() }));
            return Ok(id);
        }
    }
}

#[cfg(all(test, not(ipc_loom)))]
mod tests {
    use super::*;

    fn token(random: u64) -> Token {
        Token::first(random).expect("an identity")
    }

    #[test]
    fn a_word_without_an_identity_is_nobody() {
        assert_eq!(Token::from_word(0), None);
        assert_eq!(Token::from_word((1 << IDENTITY_SHIFT) - 1), None);
    }

    #[test]
    fn the_flag_bit_does_not_belong_to_the_token() {
        let token = token(u64::MAX);
        assert_eq!(Token::from_word(token.word() | FLAG), Some(token));
    }

    #[test]
    fn an_attachment_covers_its_own_and_later_generations_only() {
        let old = token(u64::MAX);
        let new = old.next_generation().expect("not the last");
        assert!(old.covers(old) && old.covers(new) && new.covers(new));
        assert!(!new.covers(old));
    }

    #[test]
    fn processes_do_not_cover_each_other() {
        let one = token(1 << 40);
        let other = token(1 << 41);
        assert!(!one.covers(other) && !other.covers(one));
    }

    #[test]
    fn a_thread_keeps_its_id_and_shares_it_with_no_other() {
        let id = || thread_id().expect("random bits");
        let mine = id();

        let other = std::thread::spawn(id).join().expect("no panic");

        assert_eq!(id(), mine);
        assert_ne!(other, mine);
    }

    #[test]
    fn generations_end_before_they_touch_the_identity() {
        let last = Token::from_word(token(1 << 40).word() | LAST_GENERATION << GENERATION_SHIFT);
        assert_eq!(last.expect("an identity").next_generation(), None);
    }
}
