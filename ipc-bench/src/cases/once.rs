//! Something that is done once.

use std::hint::black_box;
use std::io;
use std::sync::Once as StdOnce;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Acquire;

use shmkit::Once;

use super::once_lock::LOAD;
use crate::figure::{Comparison, SUBJECT};
use crate::ours::InRegion;
use crate::shared::Line;
use crate::solo::{Solo, Turns};

const STD: &str = "std";

/// A call after it has been done.
pub const CALL: Solo = Solo {
    name: "once/call",
    what: "once, call after it is done",
    conditions: "it has been done; std and the atomic in private memory",
    candidates: call,
    rows: &[Comparison::listed(LOAD), Comparison::listed(STD)],
};

fn call() -> io::Result<Vec<Turns>> {
    let ours = InRegion::create(1, Once::new)?;
    ours[0].call_once(|| {}).map_err(io::Error::other)?;
    let std = Line(StdOnce::new());
    std.0.call_once(|| {});
    let atomic = Line(AtomicU64::new(1));
    Ok(vec![
        Turns::new(LOAD, move || {
            black_box(black_box(&atomic.0).load(Acquire));
        }),
        Turns::new(SUBJECT, move || {
            black_box(&ours[0]).call_once(never).expect("it has been done");
        }),
        Turns::new(STD, move || {
            black_box(&std.0).call_once(never);
        }),
    ])
}

fn never() {
    unreachable!("it has been done");
}
