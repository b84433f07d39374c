//! What `/proc` says about a process.

use std::fs;
use std::io;
use std::ops::Range;
use std::thread;
use std::time::{Duration, Instant};

const LOOK_EVERY: Duration = Duration::from_micros(100);
const SETTLED_AFTER: u32 = 3;

/// What [`sleep_of`] reads: a process that sleeps shows the same value at every look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sleep {
    asleep: bool,
    switches: u64,
}

/// Waits until the main thread of `pid` has gone to sleep and stays asleep.
///
/// It is settled when several looks in a row find it sleeping with the same count of voluntary
/// switches: it did not wake in between.
///
/// # Errors
/// `TimedOut` after `at_most`; `NotFound` when the process is gone.
pub fn wait_until_asleep(pid: u32, at_most: Duration) -> io::Result<()> {
    let deadline = Instant::now() + at_most;
    let mut last = sleep_of(pid)?;
    let mut same = 0;
    while same < SETTLED_AFTER {
        if Instant::now() > deadline {
            let message = format!("process {pid} did not go to sleep within {at_most:?}");
            return Err(io::Error::new(io::ErrorKind::TimedOut, message));
        }
        thread::sleep(LOOK_EVERY);
        let now = sleep_of(pid)?;
        same = if now.asleep && now == last { same + 1 } else { 0 };
        last = now;
    }
    Ok(())
}

/// Waits until all threads of `pid` are stopped.
///
/// # Errors
/// `TimedOut` after `at_most`; `NotFound` when the process is gone.
pub fn wait_until_stopped(pid: u32, at_most: Duration) -> io::Result<()> {
    let deadline = Instant::now() + at_most;
    loop {
        let mut all = true;
        for task in fs::read_dir(format!("/proc/{pid}/task"))? {
            let status = fs::read_to_string(task?.path().join("status"))?;
            all &= field(&status, "State:").is_some_and(|state| state.starts_with('T'));
        }
        if all {
            return Ok(());
        }
        if Instant::now() > deadline {
            let message = format!("process {pid} was not stopped within {at_most:?}");
            return Err(io::Error::new(io::ErrorKind::TimedOut, message));
        }
        thread::sleep(LOOK_EVERY);
    }
}

fn sleep_of(pid: u32) -> io::Result<Sleep> {
    // The same pid as task: the main thread, not a sum over all.
    let status = fs::read_to_string(format!("/proc/{pid}/task/{pid}/status"))?;
    let asleep = field(&status, "State:").is_some_and(|state| state.starts_with('S'));
    let switches = number(&status, "voluntary_ctxt_switches:").ok_or(io::ErrorKind::InvalidData)?;
    Ok(Sleep { asleep, switches })
}

/// Returns how much memory a new process can still get, in bytes.
///
/// # Errors
/// Those of reading `/proc/meminfo`.
pub fn memory_available() -> io::Result<u64> {
    kilobytes("/proc/meminfo", "MemAvailable:")
}

/// Returns how much private memory of this process is in huge pages, in bytes.
///
/// # Errors
/// Those of reading `/proc/self/smaps_rollup`.
pub fn own_huge_pages() -> io::Result<u64> {
    kilobytes("/proc/self/smaps_rollup", "AnonHugePages:")
}

/// Returns for how long the main thread of `pid` has been ready to run without getting a CPU, so far.
///
/// # Errors
/// Those of reading `/proc`; `InvalidData` from a kernel that does not count this.
pub fn time_without_cpu(pid: u32) -> io::Result<Duration> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/schedstat"))?;
    let nanoseconds = text.split_whitespace().nth(1).and_then(|word| word.parse().ok());
    Ok(Duration::from_nanos(nanoseconds.ok_or(io::ErrorKind::InvalidData)?))
}

/// A mapping of this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Area {
    /// Its addresses.
    pub range: Range<u64>,
    /// Whether it can be neither read nor written.
    pub is_inaccessible: bool,
    /// How much of it is in memory, in bytes.
    pub resident: u64,
}

/// Returns the mappings of this process in the order of their addresses.
///
/// # Errors
/// Those of reading `/proc/self/smaps`.
pub fn own_areas() -> io::Result<Vec<Area>> {
    Ok(parse_areas(&fs::read_to_string("/proc/self/smaps")?))
}

fn parse_areas(text: &str) -> Vec<Area> {
    let mut areas: Vec<Area> = Vec::new();
    for line in text.lines() {
        if let Some(area) = parse_head(line) {
            areas.push(area);
        } else if let (Some(last), Some(kilobytes)) = (areas.last_mut(), number(line, "Rss:")) {
            last.resident = kilobytes * 1024;
        }
    }
    areas
}

/// Parses the first line of a mapping, such as `7f00-7f80 rw-p 00000000 00:00 0`.
fn parse_head(line: &str) -> Option<Area> {
    let mut words = line.split_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let range = hexadecimal(start)?..hexadecimal(end)?;
    Some(Area { range, is_inaccessible: words.next()?.starts_with("---"), resident: 0 })
}

/// Returns the stack pointer from the text of a `/proc/PID/task/TID/syscall`; `None` unless the
/// thread sleeps.
pub fn stack_pointer(call: &str) -> Option<u64> {
    let mut from_the_end = call.split_whitespace().rev();
    let _instruction = from_the_end.next()?;
    hexadecimal(from_the_end.next()?.strip_prefix("0x")?)
}

fn hexadecimal(digits: &str) -> Option<u64> {
    u64::from_str_radix(digits, 16).ok()
}

fn kilobytes(path: &str, name: &str) -> io::Result<u64> {
    let text = fs::read_to_string(path)?;
    Ok(number(&text, name).ok_or(io::ErrorKind::InvalidData)? * 1024)
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

fn number(text: &str, name: &str) -> Option<u64> {
    field(text, name)?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn number_of_a_line_is_found_by_its_whole_name() {
        let text = "nonvoluntary_ctxt_switches:\t7\nvoluntary_ctxt_switches:\t12\nRss:  34 kB\n";
        assert_eq!(number(text, "voluntary_ctxt_switches:"), Some(12));
        assert_eq!(number(text, "Rss:"), Some(34));
        assert_eq!(number(text, "Pss:"), None);
    }

    #[test]
    fn areas_are_told_from_the_lines_about_them() {
        let text =
            "7f00-7f80 rw-p 00000000 00:00 0\nSize:  0 kB\nRss:  8 kB\n7f80-7f90 ---p 00000000 00:00 0\nRss: 0 kB\n";
        let stack = Area { range: 0x7f00..0x7f80, is_inaccessible: false, resident: 8192 };
        let guard = Area { range: 0x7f80..0x7f90, is_inaccessible: true, resident: 0 };
        assert_eq!(parse_areas(text), [stack, guard]);
    }

    #[test]
    fn stack_pointer_is_known_of_sleepers_only() {
        assert_eq!(stack_pointer("202 0x1 0x80 0x2 0x0 0x0 0x0 0x7ffd10 0x7f20\n"), Some(0x7f_fd10));
        assert_eq!(stack_pointer("running\n"), None);
    }
}
