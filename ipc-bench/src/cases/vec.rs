//! A shared vector: looking at an element, changing one, and one that comes and goes.

use std::cell::Cell;
use std::hint::black_box;
use std::io;
use std::sync::Mutex as StdMutex;

use shmkit::process::{SharedVec, VecOptions};

use crate::figure::{Comparison, SUBJECT};
use crate::lock::{LockUnderTest, SharedLock};
use crate::ours::Ours;
use crate::shared::Line;
use crate::solo::{Solo, Turns};

/// A mutex of ours around one number.
const SECTION: &str = "shmkit Mutex";
/// A vector of std under a mutex of std, in private memory.
const STD: &str = "std Vec in a Mutex";

/// How many elements there are.
const ELEMENTS: usize = 256;

/// A look at an element.
pub const GET: Solo = Solo {
    name: "vec/get",
    what: "vec, get of an element",
    conditions: "u64, 256 elements in turn; the mutex is for one number",
    candidates: get,
    rows: &[Comparison::listed(SECTION), Comparison::listed(STD)],
};

/// A change of an element.
pub const UPDATE: Solo = Solo {
    name: "vec/update",
    what: "vec, update of an element",
    conditions: "u64, 256 elements in turn; adds 1; the mutex is for one number",
    candidates: update,
    rows: &[Comparison::listed(SECTION), Comparison::listed(STD)],
};

/// An element more, and that taken away again.
pub const PUSH_POP: Solo = Solo {
    name: "vec/push_pop",
    what: "vec, push and pop",
    conditions: "u64, 256 elements besides; the mutex is for one number, and locked twice",
    candidates: push_pop,
    rows: &[Comparison::listed(SECTION), Comparison::listed(STD)],
};

fn get() -> io::Result<Vec<Turns>> {
    let (vec, section, std) = (ours()?, Ours::create()?, std());
    let [indices, std_indices] = [(); 2].map(|()| Indices::default());
    Ok(vec![
        Turns::new(SUBJECT, move || {
            black_box(vec.get(indices.next()).expect("a sound vector"));
        }),
        Turns::new(SECTION, move || {
            black_box(*section.lock());
        }),
        Turns::new(STD, move || {
            black_box(std.0.lock().expect("nobody panics").get(std_indices.next()).copied());
        }),
    ])
}

fn update() -> io::Result<Vec<Turns>> {
    let (vec, section, std) = (ours()?, Ours::create()?, std());
    let [indices, std_indices] = [(); 2].map(|()| Indices::default());
    Ok(vec![
        Turns::new(SUBJECT, move || {
            vec.update(indices.next(), |value| *value = black_box(*value + 1)).expect("a sound vector");
        }),
        Turns::new(SECTION, move || add(&section)),
        Turns::new(STD, move || {
            if let Some(value) = std.0.lock().expect("nobody panics").get_mut(std_indices.next()) {
                *value = black_box(*value + 1);
            }
        }),
    ])
}

fn push_pop() -> io::Result<Vec<Turns>> {
    let (vec, section, std) = (ours()?, Ours::create()?, std());
    Ok(vec![
        Turns::new(SUBJECT, move || {
            vec.push(black_box(7)).expect("room");
            black_box(vec.pop().expect("a sound vector"));
        }),
        Turns::new(SECTION, move || {
            add(&section);
            add(&section);
        }),
        Turns::new(STD, move || {
            std.0.lock().expect("nobody panics").push(black_box(7));
            black_box(std.0.lock().expect("nobody panics").pop());
        }),
    ])
}

#[inline(always)]
fn add(section: &Ours) {
    let mut value = section.lock();
    *value = black_box(*value + 1);
}

fn ours() -> io::Result<SharedVec<u64>> {
    let vec = VecOptions::new().capacity(2 * ELEMENTS as u64).anonymous().map_err(io::Error::other)?;
    vec.extend_from_slice(&[1; ELEMENTS]).map_err(io::Error::other)?;
    Ok(vec)
}

fn std() -> Line<StdMutex<Vec<u64>>> {
    let mut vec = Vec::with_capacity(2 * ELEMENTS);
    vec.resize(ELEMENTS, 1);
    Line(StdMutex::new(vec))
}

/// All indices, one after the other.
#[derive(Default)]
struct Indices(Cell<usize>);

impl Indices {
    #[inline(always)]
    fn next(&self) -> usize {
        let index = self.0.get();
        self.0.set((index + 1) % ELEMENTS);
        black_box(index)
    }
}
