//! Reading under a lock whose handles read by plain stores, and whose writers make the barrier for both.

use std::cell::Cell;
use std::hint::black_box;
use std::io;
use std::sync::RwLock as StdRwLock;
use std::time::{Duration, Instant};

use shmkit::bytemuck::Pod;
use shmkit::{Described, RwLock};

use crate::figure::{Comparison, SUBJECT};
use crate::floor::{PRIVATE_LINES, PrivateLines};
use crate::ours::InRegion;
use crate::peers::rwlock::{self, STD};
use crate::shared::Line;
use crate::solo::{Solo, Turns};
use crate::team::Place;

/// The name of the lock as it is by default.
const USUAL: &str = "shmkit, by default";

/// Read one word and unlock.
pub const READ: Solo = Solo {
    name: "rwlock/asymmetric/read",
    what: "rwlock, asymmetric: read+unlock by a handle",
    conditions: "one word is read; std in private memory, all others in shared memory",
    candidates: read,
    rows: &[Comparison::at_most(USUAL, 0.8), Comparison::listed(PRIVATE_LINES), Comparison::listed(STD)],
};

/// The same with something to do in between.
pub const LOOK_UP: Solo = Solo {
    name: "rwlock/asymmetric/look_up",
    what: "rwlock, asymmetric: a look-up by a handle",
    conditions: "any key of a hash table of 64 KiB is looked up under the lock",
    candidates: look_up,
    rows: &[Comparison::at_most(USUAL, 0.8)],
};

/// Turns of a handle that reads.
fn by_handle<T: Pod + Described + Send + Sync>(value: T, turn: impl Fn(&T) + 'static) -> io::Result<Turns> {
    let lock = InRegion::create(1, || RwLock::new(value).asymmetric())?;
    Ok(Turns::timed(SUBJECT, move |turns| {
        let mut handle = lock[0].reader().expect("this process takes part");
        timed(turns, || turn(&handle.read().expect("nobody dies while writing")))
    }))
}

/// Turns of one who reads without a handle.
fn by_default<T: Pod + Described + Send + Sync>(value: T, turn: impl Fn(&T) + 'static) -> io::Result<Turns> {
    let lock = InRegion::create(1, || RwLock::new(value))?;
    Ok(Turns::timed(USUAL, move |turns| {
        let lock = &lock[0];
        timed(turns, || turn(&lock.read().expect("nobody dies while writing")))
    }))
}

#[inline(always)]
fn timed(turns: u64, mut turn: impl FnMut()) -> Duration {
    let begin = Instant::now();
    (0..turns).for_each(|_| turn());
    begin.elapsed()
}

fn read() -> io::Result<Vec<Turns>> {
    let private = Line(StdRwLock::new(0));
    let line = PrivateLines::create(1)?;
    Ok(vec![
        by_handle(0u64, |value| _ = black_box(value))?,
        by_default(0u64, |value| _ = black_box(value))?,
        Turns::new(PRIVATE_LINES, move || line.take_and_give(0)),
        Turns::new(STD, move || rwlock::read_std(&private.0)),
    ])
}

/// How many places a table has: 64 KiB of keys, each with its value.
const PLACES: u64 = 4096;

/// A hash table, half full, in which a key stands at its place or behind those that came before it. 0 is no key.
type Table = [[u64; 2]; PLACES as usize];

fn place(key: u64) -> usize {
    (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - PLACES.trailing_zeros())) as usize
}

fn new_table() -> Table {
    let mut table = [[0; 2]; PLACES as usize];
    for key in 1..=PLACES / 2 {
        let mut at = place(key);
        while table[at][0] != 0 {
            at = (at + 1) % table.len();
        }
        table[at] = [key, key];
    }
    table
}

/// Looks for one key after the other.
fn look_for_keys() -> impl Fn(&Table) {
    let last = Cell::new(0u64);
    move |table| {
        last.set((last.get() * 5 + 1) % (PLACES / 2));
        let key = last.get() + 1;
        let mut at = place(key);
        while table[at][0] != key {
            at = (at + 1) % table.len();
        }
        black_box(table[at][1]);
    }
}

fn look_up() -> io::Result<Vec<Turns>> {
    Ok(vec![by_handle(new_table(), look_for_keys())?, by_default(new_table(), look_for_keys())?])
}
