//! What the fuzz targets do with their inputs: they make operations of the bytes, do them, and compare with a plain model where there is one.
//!
//! The targets themselves, in the folder above, need a nightly toolchain; this does not, so `tests/replay.rs` runs all inputs that
//! are kept: the seeds, and what was ever found.
//!
//! Nothing in here blocks: all operations are those that try, or wait for no time at all. A run that panics, hangs or reads where it must not
//! is a finding.

mod array;
mod directory;
mod event;
mod frames;
mod hostile_channels;
mod hostile_map;
mod hostile_sync;
mod hostile_vec;
mod locks;
mod map;
mod names;
mod permits;
mod pipe;
mod queue;
mod region_bytes;
mod seen;
mod semaphore;
mod snapshot;
mod stage;
mod untrusted;
mod values;
mod vec;

pub use seen::Seen;

/// A fuzz target.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// The name of the binary, and of the folders with its inputs.
    pub name: &'static str,
    /// Does what the input says.
    pub run: fn(&[u8], &mut Seen),
    /// Whether what an input comes to depends on nothing but its bytes. Where somebody scribbles, it depends on random tokens, too.
    pub is_exact: bool,
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "array", run: array::run, is_exact: true },
    Target { name: "directory", run: directory::run, is_exact: true },
    Target { name: "event", run: event::run, is_exact: true },
    Target { name: "frames", run: frames::run, is_exact: true },
    Target { name: "hostile_channels", run: hostile_channels::run, is_exact: false },
    Target { name: "hostile_map", run: hostile_map::run, is_exact: false },
    Target { name: "hostile_sync", run: hostile_sync::run, is_exact: false },
    Target { name: "hostile_vec", run: hostile_vec::run, is_exact: false },
    Target { name: "locks", run: locks::run, is_exact: true },
    Target { name: "map", run: map::run, is_exact: true },
    Target { name: "names", run: names::run, is_exact: true },
    Target { name: "permits", run: permits::run, is_exact: true },
    Target { name: "pipe", run: pipe::run, is_exact: true },
    Target { name: "queue", run: queue::run, is_exact: true },
    Target { name: "region_bytes", run: region_bytes::run, is_exact: false },
    Target { name: "semaphore", run: semaphore::run, is_exact: true },
    Target { name: "snapshot", run: snapshot::run, is_exact: true },
    Target { name: "untrusted", run: untrusted::run, is_exact: false },
    Target { name: "vec", run: vec::run, is_exact: true },
];

/// What the fuzz target of this name does with an input.
///
/// # Panics
///
/// If there is no such target, or the library does something wrong.
pub fn fuzz(name: &str, data: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name).expect("the name of a target");
    (target.run)(data, &mut Seen::default());
}
