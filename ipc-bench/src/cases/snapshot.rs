//! Reading a snapshot cell when nobody writes, and writing one when nobody else does.

use std::cell::Cell;
use std::hint::black_box;
use std::io;

use shmkit::{Region, Snapshot};

use crate::figure::{Comparison, SUBJECT};
use crate::shared::Line;
use crate::solo::{Solo, Turns};

/// The name of the copy in results.
pub const COPY: &str = "plain copy";

/// A read of 64 bytes, and a plain copy of as many.
pub const READ: Solo = Solo {
    name: "snapshot/read",
    what: "snapshot/read, 64 bytes, nobody writes",
    conditions: "64 bytes in the cache, copied to the stack; nobody writes",
    candidates: read,
    rows: &[Comparison::at_most(COPY, 2.0)],
};

/// A write of 64 bytes, and a plain copy of as many.
pub const WRITE: Solo = Solo {
    name: "snapshot/write",
    what: "snapshot/write, 64 bytes, nobody else writes",
    conditions: "64 bytes in the cache, copied from the stack; nobody else writes, and nobody reads; the bare copy in private memory",
    candidates: write,
    rows: &[Comparison::listed(COPY)],
};

fn read() -> io::Result<Vec<Turns>> {
    let region = Region::anonymous(4096).map_err(io::Error::other)?;
    let cell = region.insert("cell", Snapshot::new([1u64; 8])).map_err(io::Error::other)?;
    let plain = [1u64; 8];
    Ok(vec![
        Turns::new(COPY, move || {
            let copy = *black_box(&plain);
            black_box(&copy);
        }),
        Turns::new(SUBJECT, move || {
            black_box(&black_box(&*cell).read());
        }),
    ])
}

fn write() -> io::Result<Vec<Turns>> {
    let region = Region::anonymous(4096).map_err(io::Error::other)?;
    let cell = region.insert("cell", Snapshot::new([1u64; 8])).map_err(io::Error::other)?;
    let plain = Line(Cell::new([1u64; 8]));
    Ok(vec![
        Turns::new(COPY, move || {
            black_box(&plain.0).set(black_box([2; 8]));
        }),
        Turns::new(SUBJECT, move || {
            black_box(&*cell).write(black_box([2; 8])).expect("nobody scribbles on it");
        }),
    ])
}
