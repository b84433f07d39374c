//! Where a thread looks for a free cell first.
//!
//! Only a hint: the lock may be another one meanwhile, and the cell taken. What is wrong here costs time and nothing else. It is private to
//! the thread.

use core::cell::Cell;
use core::sync::atomic::AtomicUsize;
use core::sync::atomic::Ordering::Relaxed;

use shmkit_core::identity::Token;

/// How many locks a thread remembers a cell of.
const LOCKS: usize = 16;

/// A cell of a lock.
#[derive(Clone, Copy)]
struct Hint {
    /// Of which lock, and for which process: a forked child, and one that has left and come back, has another place. 0: of none.
    key: u64,
    cell: usize,
}

std::thread_local! {
    static HINTS: [Cell<Hint>; LOCKS] = const { [const { Cell::new(Hint { key: 0, cell: 0 }) }; LOCKS] };
    /// The number of the thread.
    static NUMBER: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// The key of the lock at `address`, and which hint is for it.
#[inline]
fn key(address: usize, token: Token) -> (u64, usize) {
    // Locks are aligned to lines, and neighbours begin at least 18 lines apart. A product would spread them better, and take time.
    (address as u64 ^ token.word(), address / 64 % LOCKS)
}

/// The cell for the lock at `address`, if this thread has noted one.
#[inline]
pub(super) fn get(address: usize, token: Token) -> Option<usize> {
    // In a model, what is left of the last run must not matter.
    if cfg!(ipc_loom) {
        return None;
    }
    let (key, at) = key(address, token);
    let hint = HINTS.with(|hints| hints[at].get());
    (hint.key == key).then_some(hint.cell)
}

/// Notes `cell` for the lock at `address`.
pub(super) fn set(address: usize, token: Token, cell: usize) {
    let (key, at) = key(address, token);
    HINTS.with(|hints| hints[at].set(Hint { key, cell }));
}

/// The number of the calling thread in its process, from 0.
pub(super) fn thread() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    if cfg!(ipc_loom) {
        return 0;
    }
    NUMBER.with(|number| {
        if number.get() == usize::MAX {
            number.set(NEXT.fetch_add(1, Relaxed));
        }
        number.get()
    })
}
