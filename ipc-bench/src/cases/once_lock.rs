//! Values that are made once.

use std::hint::black_box;
use std::io;
use std::sync::OnceLock as StdOnceLock;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Acquire;

use shmkit::OnceLock;

use crate::figure::{Comparison, SUBJECT};
use crate::ours::InRegion;
use crate::shared::Line;
use crate::solo::{Solo, Turns};

/// The name of the load in results.
pub const LOAD: &str = "atomic load";
const STD: &str = "std";

/// A look at a value that is there.
pub const GET: Solo = Solo {
    name: "once_lock/get",
    what: "once_lock, get",
    conditions: "the value is there; std and the atomic in private memory",
    candidates: get,
    rows: &[Comparison::listed(LOAD), Comparison::listed(STD)],
};

fn get() -> io::Result<Vec<Turns>> {
    let ours = InRegion::create(1, OnceLock::<u64>::new)?;
    ours[0].get_or_init(|| 1).map_err(io::Error::other)?;
    let std = Line(StdOnceLock::from(1u64));
    let atomic = Line(AtomicU64::new(1));
    Ok(vec![
        Turns::new(LOAD, move || {
            black_box(black_box(&atomic.0).load(Acquire));
        }),
        Turns::new(SUBJECT, move || {
            black_box(black_box(&ours[0]).get());
        }),
        Turns::new(STD, move || {
            black_box(black_box(&std.0).get());
        }),
    ])
}
