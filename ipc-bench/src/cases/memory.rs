//! What a region and a keeper cost in memory.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::thread;
use std::time::{Duration, Instant};

use shmkit::{Region, RegionOptions};

use crate::figure::{Comparison, Figure, Figures};
use crate::proc::{self, Area};

/// The participant capacities whose regions are measured; the default is among them.
pub const CAPACITIES: [u32; 4] = [1, 16, 128, 4096];

const KEEPER: &str = "shmkit-keeper";
const ASLEEP_WITHIN: Duration = Duration::from_secs(5);

/// Measures regions of several capacities, and the keeper of this process.
///
/// # Errors
/// Those of making regions and of reading `/proc`; `NotFound` if no keeper can be seen.
pub fn run() -> io::Result<Figures> {
    let one =
        |name: String, unit, number: u64, rows: &[Comparison]| Figure::alone(name, unit, vec![number as f64], rows);
    let mut figures = Vec::new();
    for capacity in CAPACITIES {
        let region = RegionOptions::new().participants(capacity).anonymous(1).map_err(io::Error::other)?;
        let slots = region.capacity();
        let within = Comparison::alone_at_most(8.0 * 1024.0 + 128.0 * slots as f64);
        figures.push(one(format!("memory, region with {slots} slots"), "B", overhead(&region)?, &[within]));
    }
    let _region = Region::anonymous(1).map_err(io::Error::other)?;
    let areas = proc::own_areas()?;
    let pointer = stack_pointer_of_keeper()?;
    let index = areas.iter().position(|area| area.range.contains(&pointer)).ok_or(io::ErrorKind::NotFound)?;
    let stack = &areas[index];
    let is_guard = |below: &&Area| below.range.end == stack.range.start && below.is_inaccessible;
    let guard = index.checked_sub(1).and_then(|below| areas.get(below)).filter(is_guard);
    let size = |area: &Area| area.range.end - area.range.start;
    let conditions = "region: bytes of the file minus Region::size(), for objects of 1 byte; keeper: the line of \
                      /proc/self/smaps that holds the stack pointer of the thread shmkit-keeper, its guard apart"
        .into();
    let within = Comparison::alone_at_most(64.0 * 1024.0);
    figures.push(one("memory, keeper's stack".into(), "B", size(stack), &[within]));
    figures.push(one("memory, of that resident".into(), "B", stack.resident, &[]));
    figures.push(one("memory, guard of that stack".into(), "B", guard.map_or(0, size), &[]));
    Ok(Figures { figures, conditions })
}

/// What a region costs besides the objects in it: bytes of the file that are not for objects; the rest of the last
/// page is.
fn overhead(region: &Region) -> io::Result<u64> {
    let file = File::from(region.as_fd().try_clone_to_owned()?);
    Ok(file.metadata()?.len() - region.size() as u64)
}

/// The keeper sleeps most of the time, and then the kernel tells where its stack is.
fn stack_pointer_of_keeper() -> io::Result<u64> {
    let deadline = Instant::now() + ASLEEP_WITHIN;
    loop {
        for task in fs::read_dir("/proc/self/task")? {
            let task = task?.path();
            let name = fs::read_to_string(task.join("comm")).unwrap_or_default();
            if name.trim_end() == KEEPER {
                let call = fs::read_to_string(task.join("syscall"))?;
                if let Some(pointer) = proc::stack_pointer(&call) {
                    return Ok(pointer);
                }
            }
        }
        if Instant::now() > deadline {
            return Err(io::Error::new(io::ErrorKind::NotFound, "no sleeping thread shmkit-keeper in this process"));
        }
        thread::sleep(Duration::from_millis(1));
    }
}
