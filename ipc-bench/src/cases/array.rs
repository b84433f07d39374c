//! Elements of a shared array, and copies into and out of it.

use std::hint::black_box;
use std::io;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use shmkit::{Region, SharedArray};

use crate::figure::{Comparison, Figure, Figures, SUBJECT};
use crate::pin;
use crate::solo::Settings;
use crate::stats::{self, Candidate};

/// The atomic of std that an element is compared with.
pub const ATOMIC: &str = "AtomicU64";
/// The copy of the C library.
pub const MEMCPY: &str = "memcpy";

/// The lengths of the copies; the target speaks of those from [`JUDGED`] on.
pub const SIZES: [(&str, usize); 10] = [
    ("64 B", 64),
    ("512 B", 512),
    ("4 KiB", 4 << 10),
    ("16 KiB", 16 << 10),
    ("64 KiB", 64 << 10),
    ("256 KiB", 256 << 10),
    ("1 MiB", 1 << 20),
    ("4 MiB", 4 << 20),
    ("16 MiB", 16 << 20),
    ("64 MiB", 64 << 20),
];

/// The shortest copy that the target speaks of.
const JUDGED: usize = 4 << 10;
/// So few that they stay in the cache.
const ELEMENTS: usize = 256;

/// Measures `get` and `set` against plain loads and stores of atomics in the same memory.
///
/// # Errors
/// Those of making the array and of pinning; `InvalidInput` for too few rounds.
pub fn elements(settings: &Settings) -> io::Result<Figures> {
    stats::check_rounds(settings.plan.rounds)?;
    let array = array(ELEMENTS)?;
    let cpu = pin::Pair::choose()?.first;
    let _pinned = pin::pin_to(cpu)?;
    // SAFETY: as many elements, of the size and alignment of the atomic, alive with `array`, and reached by atomics only.
    let atomics = unsafe { std::slice::from_raw_parts(array.as_ptr().cast::<AtomicU64>(), array.len()) };
    let load = |index: usize| array.get(index);
    let load_atomic = |index: usize| atomics.get(index).map(|atomic| atomic.load(Relaxed));
    let store = |index: usize| array.set(index, 1).ok();
    let store_atomic = |index: usize| atomics.get(index).map(|atomic| atomic.store(1, Relaxed));
    let turns = turns(settings.sample, |turns| access(turns, load_atomic));
    let per_turn = |time: Duration| Ok(time.as_secs_f64() * 1e9 / turns as f64);
    let load = vec![
        Candidate::new(SUBJECT, || per_turn(access(turns, load))),
        Candidate::new(ATOMIC, || per_turn(access(turns, load_atomic))),
    ];
    let store = vec![
        Candidate::new(SUBJECT, || per_turn(access(turns, store))),
        Candidate::new(ATOMIC, || per_turn(access(turns, store_atomic))),
    ];
    let figure = |what: &str, all| {
        let name = format!("array, {what} of an element");
        Figure::of_rounds(name, "ns", all, [Comparison::at_most(ATOMIC, 1.05)])
    };
    Ok(Figures {
        figures: vec![
            figure("load", stats::interleave(&settings.plan, load)?),
            figure("store", stats::interleave(&settings.plan, store)?),
        ],
        conditions: format!(
            "one thread pinned to CPU {cpu}; {turns} accesses per sample, each with a check of its index; \
             {ELEMENTS} elements, both in the same shared memory"
        ),
    })
}

/// Measures copies of every size in [`SIZES`].
///
/// # Errors
/// As for [`elements`].
pub fn copies(settings: &Settings) -> io::Result<Figures> {
    stats::check_rounds(settings.plan.rounds)?;
    let longest = SIZES.iter().map(|(_, size)| *size).max().unwrap_or(0);
    let array = array(longest / size_of::<u64>())?;
    array.fill(1);
    let private = vec![2u64; array.len()];
    let mut target = vec![3u64; array.len()];
    let cpu = pin::Pair::choose()?.first;
    let _pinned = pin::pin_to(cpu)?;
    let (mut inward, mut outward) = (Vec::new(), Vec::new());
    let figure = |way: &str, label: &str, size: usize, all| {
        let name = format!("array, copy {way}, {label}");
        let row = if size >= JUDGED { Comparison::at_least(MEMCPY, 0.9) } else { Comparison::listed(MEMCPY) };
        Figure::of_rounds(name, "GB/s", all, [row])
    };
    for (label, size) in SIZES {
        let cells = array.slice(..size / size_of::<u64>()).ok_or(io::ErrorKind::InvalidInput)?;
        let from = &private[..cells.len()];
        let copy_in = || black_box(cells).copy_from_slice(black_box(from)).expect("the same length");
        // SAFETY: both are as long as `cells`, and do not overlap; no other thread or process has the memory.
        let memcpy_in = || unsafe { ptr::copy_nonoverlapping(black_box(from).as_ptr(), cells.as_ptr(), from.len()) };
        let turns = turns(settings.sample, |turns| repeat(turns, memcpy_in));
        let rate = |time: Duration| Ok((turns as f64 * size as f64) / time.as_secs_f64() / 1e9);
        let candidates = vec![
            Candidate::new(SUBJECT, || rate(repeat(turns, copy_in))),
            Candidate::new(MEMCPY, || rate(repeat(turns, memcpy_in))),
        ];
        inward.push(figure("in", label, size, stats::interleave(&settings.plan, candidates)?));

        let to = target[..cells.len()].as_mut_ptr();
        let copy_out = || {
            // SAFETY: as long as `cells`, and nobody else uses it meanwhile.
            let to = unsafe { std::slice::from_raw_parts_mut(black_box(to), cells.len()) };
            black_box(cells).copy_to_slice(to).expect("the same length");
        };
        // SAFETY: as above.
        let memcpy_out = || unsafe { ptr::copy_nonoverlapping(cells.as_ptr(), black_box(to), cells.len()) };
        let candidates = vec![
            Candidate::new(SUBJECT, || rate(repeat(turns, copy_out))),
            Candidate::new(MEMCPY, || rate(repeat(turns, memcpy_out))),
        ];
        outward.push(figure("out", label, size, stats::interleave(&settings.plan, candidates)?));
    }
    let conditions = format!(
        "one thread pinned to CPU {cpu}; each sample takes about {} ms; copies from and to the same shared and the same \
         private memory, one after the other",
        settings.sample.as_millis()
    );
    inward.append(&mut outward);
    Ok(Figures { figures: inward, conditions })
}

fn array(len: usize) -> io::Result<SharedArray<u64>> {
    let region = Region::anonymous(len * size_of::<u64>() + 4096).map_err(io::Error::other)?;
    region.insert_array("array", len).map_err(io::Error::other)
}

/// How many turns take as long as a sample.
fn turns(sample: Duration, measure: impl Fn(u64) -> Duration) -> u64 {
    let mut turns = 1;
    loop {
        let time = measure(turns);
        if time > sample / 8 {
            return ((turns as f64 * sample.as_secs_f64() / time.as_secs_f64()) as u64).max(1);
        }
        turns *= 2;
    }
}

/// Accesses `turns` elements: the same loop for every candidate.
#[inline(never)]
fn access<R>(turns: u64, access: impl Fn(usize) -> Option<R>) -> Duration {
    let begin = Instant::now();
    for turn in 0..turns {
        let index = black_box(turn as usize % ELEMENTS);
        black_box(access(index));
    }
    begin.elapsed()
}

#[inline(never)]
fn repeat(turns: u64, copy: impl Fn()) -> Duration {
    let begin = Instant::now();
    for _ in 0..turns {
        copy();
    }
    begin.elapsed()
}
