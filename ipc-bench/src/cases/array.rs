//! Elements of a shared array, and copies into and out of it.

use std::cell::RefCell;
use std::hint::black_box;
use std::io;
use std::ptr;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use shmkit::{Region, SharedArray};

use crate::figure::{Comparison, Figure, Figures, SUBJECT};
use crate::pin;
use crate::solo::{Settings, Solo, Turns};
use crate::stats::{self, Candidate};

/// The atomic of std that an element is compared with.
pub const ATOMIC: &str = "AtomicU64";
/// The copy of the C library.
pub const MEMCPY: &str = "memcpy";

/// The lengths of the copies; the target speaks of those of 4 KiB and more.
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

/// A load of an element, and of an atomic in the same memory.
pub const LOAD: Solo = Solo {
    name: "array/load",
    what: "array, load of an element",
    conditions: ELEMENT_CONDITIONS,
    candidates: || elements(|array, index| array.get(index), |atomic| atomic.load(Relaxed)),
    rows: &[Comparison::at_most(ATOMIC, 1.05)],
};

/// A store to an element, and to an atomic in the same memory.
pub const STORE: Solo = Solo {
    name: "array/store",
    what: "array, store of an element",
    conditions: ELEMENT_CONDITIONS,
    candidates: || elements(|array, index| array.set(index, 1).ok(), |atomic| atomic.store(1, Relaxed)),
    rows: &[Comparison::at_most(ATOMIC, 1.05)],
};

const ELEMENT_CONDITIONS: &str = "256 elements, each access with a check of its index; both in the same shared memory";

fn elements<R>(
    ours: impl Fn(&SharedArray<u64>, usize) -> Option<R> + 'static,
    theirs: impl Fn(&AtomicU64) -> R + 'static,
) -> io::Result<Vec<Turns>> {
    let array = array(ELEMENTS)?;
    let same = array.clone();
    Ok(vec![
        Turns::timed(SUBJECT, move |turns| access(turns, |index| ours(&array, index))),
        Turns::timed(ATOMIC, move |turns| {
            // SAFETY: as many elements, of the size and alignment of the atomic, alive with `same`, and reached by
            // atomics only.
            let atomics = unsafe { std::slice::from_raw_parts(same.as_ptr().cast::<AtomicU64>(), same.len()) };
            access(turns, |index| atomics.get(index).map(&theirs))
        }),
    ])
}

/// Which way a copy goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Into the array.
    In,
    /// Out of it.
    Out,
}

impl Way {
    /// Both, in the order of the results.
    pub const BOTH: [Way; 2] = [Way::In, Way::Out];

    /// What it is called in results.
    pub fn name(self) -> &'static str {
        match self {
            Way::In => "in",
            Way::Out => "out",
        }
    }

    /// Makes the candidates for copies of `size` bytes, between the same shared and the same private memory.
    ///
    /// # Errors
    /// Those of making the array.
    pub fn candidates(self, size: usize) -> io::Result<Vec<Turns>> {
        let array = array(size / size_of::<u64>())?;
        array.fill(1);
        // One for both, which take turns.
        let private = Rc::new(RefCell::new(vec![2u64; array.len() + PLACES]));
        let (shared, same) = (array.clone(), Rc::clone(&private));
        Ok(match self {
            Way::In => vec![
                Turns::timed(SUBJECT, move |turns| {
                    each_place(turns, &mut private.borrow_mut(), |from| {
                        black_box(&array).copy_from_slice(from).expect("the same length");
                    })
                }),
                Turns::timed(MEMCPY, move |turns| {
                    each_place(turns, &mut same.borrow_mut(), |from| {
                        // SAFETY: both are as long, and do not overlap; no other thread or process has the memory.
                        unsafe { ptr::copy_nonoverlapping(from.as_ptr(), black_box(&shared).as_ptr(), from.len()) };
                    })
                }),
            ],
            Way::Out => vec![
                Turns::timed(SUBJECT, move |turns| {
                    each_place(turns, &mut private.borrow_mut(), |to| {
                        black_box(&array).copy_to_slice(to).expect("the same length");
                    })
                }),
                Turns::timed(MEMCPY, move |turns| {
                    each_place(turns, &mut same.borrow_mut(), |to| {
                        // SAFETY: as above.
                        unsafe { ptr::copy_nonoverlapping(black_box(&shared).as_ptr(), to.as_mut_ptr(), to.len()) };
                    })
                }),
            ],
        })
    }
}

/// A power of two: as many words as a page has.
const PLACES: usize = 512;

/// Copies `turns` times, with the private memory at another place within a page each time: which places suit the processor differs from one way
/// of copying to the other, by up to a sixth of the time.
#[inline(never)]
fn each_place(turns: u64, private: &mut [u64], copy: impl Fn(&mut [u64])) -> Duration {
    let len = private.len() - PLACES;
    let begin = Instant::now();
    for turn in 0..turns as usize {
        // Odd, so that each has its turn.
        let place = turn * 37 % PLACES;
        copy(black_box(&mut private[place..place + len]));
    }
    begin.elapsed()
}

/// Measures copies of every size in [`SIZES`].
///
/// # Errors
/// Those of making arrays and of pinning; `InvalidInput` for too few rounds.
pub fn copies(settings: &Settings) -> io::Result<Figures> {
    stats::check_rounds(settings.plan.rounds)?;
    // Before the thread is pinned: its keeper serves later cases, too.
    let _keeper = Region::anonymous(1).map_err(io::Error::other)?;
    let cpu = pin::Pair::choose()?.first;
    let _pinned = pin::pin_to(cpu)?;
    let mut figures = Vec::new();
    for way in Way::BOTH {
        for (label, size) in SIZES {
            let candidates = way.candidates(size)?;
            let turns = turns(settings.sample, &candidates[0]);
            let rate = |time: Duration| (turns as f64 * size as f64) / time.as_secs_f64() / 1e9;
            let contestants =
                candidates.iter().map(|candidate| Candidate::new(candidate.name, || Ok(rate(candidate.time(turns)))));
            let all = stats::interleave(&settings.plan, contestants.collect())?;
            let row = if size >= JUDGED { Comparison::at_least(MEMCPY, 0.9) } else { Comparison::listed(MEMCPY) };
            figures.push(Figure::of_rounds(format!("array, copy {}, {label}", way.name()), "GB/s", all, [row]));
        }
    }
    let conditions = format!(
        "one thread pinned to CPU {cpu}; each sample takes about {} ms; copies from and to the same shared and the same \
         private memory, one after the other, at every word of a page",
        settings.sample.as_millis()
    );
    Ok(Figures { figures, conditions })
}

fn array(len: usize) -> io::Result<SharedArray<u64>> {
    let region = Region::anonymous(len * size_of::<u64>() + 4096).map_err(io::Error::other)?;
    region.insert_array("array", len).map_err(io::Error::other)
}

/// How many turns take as long as a sample.
fn turns(sample: Duration, candidate: &Turns) -> u64 {
    let mut turns = 1;
    loop {
        let time = candidate.time(turns);
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
