//! Handing over in pairs: each member waits for its own word, and gives the turn to its partner by
//! the partner's.
//!
//! Here are the bare ways, which know no deaths: a cache line to look at, and the futex calls that
//! anything built on sleeping is made of.

use std::hint;
use std::io;
use std::marker::PhantomData;
use std::ptr;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{Acquire, Release};

use crate::shared::{Line, SharedBox, SharedLayout};
use crate::team::{MOST, Place, Play, Seat};

/// Something that one waits for and another gives.
pub trait Baton: Place {
    /// Gives member `to` its turn.
    fn give(&self, to: usize);

    /// Waits for the turn of member `own`.
    fn take(&self, own: usize);
}

/// Members 0 and 1, 2 and 3, ... hand over to one another; a turn is one way and back.
pub struct Pairs<B>(B);

impl<B: Baton> Place for Pairs<B> {
    fn create(members: usize) -> io::Result<Self> {
        B::create(members).map(Pairs)
    }

    fn address(&self) -> String {
        self.0.address()
    }

    fn attach(address: &str) -> io::Result<Self> {
        B::attach(address).map(Pairs)
    }
}

impl<B: Baton> Play for Pairs<B> {
    const IS_LATENCY: bool = true;

    fn play(&self, seat: Seat, turns: u64) {
        let (own, partner) = (seat.member, seat.member ^ 1);
        let begins = own < partner;
        for _ in 0..turns {
            if begins {
                self.0.give(partner);
            }
            self.0.take(own);
            if !begins {
                self.0.give(partner);
            }
        }
    }
}

/// A word for each member, on lines of their own.
pub type Words = SharedBox<[Line<AtomicU32>; MOST]>;

// SAFETY: repr(C) of atomics, for which zero is a value.
unsafe impl SharedLayout for [Line<AtomicU32>; MOST] {}

/// One way of waiting for a word and of giving it.
pub trait Way: 'static {
    /// Gives member `to` its turn.
    fn give(words: &Words, to: usize);

    /// Waits for the turn of member `own`.
    fn take(words: &Words, own: usize);
}

/// A baton of bare words.
pub struct Bare<W>(Words, PhantomData<W>);

impl<W: Way> Place for Bare<W> {
    fn create(_: usize) -> io::Result<Self> {
        SharedBox::create().map(|words| Bare(words, PhantomData))
    }

    fn address(&self) -> String {
        self.0.address()
    }

    fn attach(address: &str) -> io::Result<Self> {
        SharedBox::attach(address).map(|words| Bare(words, PhantomData))
    }
}

impl<W: Way> Baton for Bare<W> {
    #[inline]
    fn give(&self, to: usize) {
        W::give(&self.0, to);
    }

    #[inline]
    fn take(&self, own: usize) {
        W::take(&self.0, own);
    }
}

/// One cache line goes from CPU to CPU: the physical limit. The word says whose turn it is.
pub struct CacheLine;

/// The name of [`CacheLine`] in results.
pub const CACHE_LINE: &str = "cache line";

impl Way for CacheLine {
    #[inline]
    fn give(words: &Words, to: usize) {
        // Release pairs with the Acquire in `take`.
        words[to / 2].0.store(to as u32, Release);
    }

    #[inline]
    fn take(words: &Words, own: usize) {
        while words[own / 2].0.load(Acquire) != own as u32 {
            hint::spin_loop();
        }
    }
}

/// Sleeps by `futex`.
pub struct Futex;

/// The name of [`Futex`] in results.
pub const FUTEX: &str = "futex";

impl Way for Futex {
    #[inline]
    fn give(words: &Words, to: usize) {
        give_and_wake(&words[to].0);
    }

    #[inline]
    fn take(words: &Words, own: usize) {
        take_or(&words[own].0, |word| {
            // SAFETY: the word is live for the call; without a time-out the rest is not looked at.
            unsafe {
                libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, 0, ptr::null::<libc::timespec>())
            };
        });
    }
}

/// Sleeps by `futex_waitv`, on its own word and on one that nobody changes, with a deadline.
pub struct FutexWaitv;

/// The name of [`FutexWaitv`] in results.
pub const FUTEX_WAITV: &str = "futex_waitv";

impl Way for FutexWaitv {
    #[inline]
    fn give(words: &Words, to: usize) {
        give_and_wake(&words[to].0);
    }

    #[inline]
    fn take(words: &Words, own: usize) {
        let quiet = &words[MOST - 1].0;
        take_or(&words[own].0, |word| wait_on_both([word, quiet]));
    }
}

#[inline]
fn give_and_wake(word: &AtomicU32) {
    // Release pairs with the Acquire in `take_or`.
    word.store(1, Release);
    // SAFETY: the word is live for the call; FUTEX_WAKE takes no pointer besides.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, 1) };
}

#[inline]
fn take_or(word: &AtomicU32, sleep: impl Fn(&AtomicU32)) {
    // Acquire pairs with the Release in `give_and_wake`.
    while word.swap(0, Acquire) == 0 {
        sleep(word);
    }
}

/// One word of `futex_waitv`; the kernel's `struct futex_waitv`.
#[repr(C)]
struct Waiter {
    value: u64,
    address: u64,
    flags: u32,
    reserved: u32,
}

const FUTEX_32: u32 = 2;

/// Sleeps while both are zero, for a second at most.
fn wait_on_both(words: [&AtomicU32; 2]) {
    let waiters = words.map(|word| Waiter { value: 0, address: word.as_ptr() as u64, flags: FUTEX_32, reserved: 0 });
    let mut deadline = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the time is live and writable.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut deadline) };
    deadline.tv_sec += 1;
    // SAFETY: the words, their descriptions and the deadline are live for the call.
    unsafe {
        libc::syscall(libc::SYS_futex_waitv, waiters.as_ptr(), waiters.len(), 0, &deadline, libc::CLOCK_MONOTONIC)
    };
}
