//! What `/proc` says about a process.

use std::fs;
use std::io;
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
}
