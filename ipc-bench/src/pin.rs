//! Pinning the calling thread to one CPU, and choosing the CPUs to pin to.

use std::fs;
use std::io;
use std::marker::PhantomData;
use std::mem;

/// Returns the CPUs that the calling thread may run on, in rising order.
///
/// # Errors
/// Those of `sched_getaffinity`.
pub fn allowed() -> io::Result<Vec<usize>> {
    let set = affinity()?;
    // SAFETY: `CPU_ISSET` only reads the set, and every index is below its size.
    let holds = |cpu: &usize| unsafe { libc::CPU_ISSET(*cpu, &set) };
    Ok((0..libc::CPU_SETSIZE as usize).filter(holds).collect())
}

/// The two CPUs of a case with two sides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// The CPU of the side that also holds the controller.
    pub first: usize,
    /// The CPU of the other side; equal to `first` when only one is allowed.
    pub second: usize,
    /// How the two are related, for the stated conditions.
    pub relation: &'static str,
}

impl Pair {
    /// Chooses two allowed CPUs, on different cores where there are any.
    ///
    /// # Errors
    /// Those of [`allowed`].
    pub fn choose() -> io::Result<Self> {
        let cpus = allowed()?;
        let first = *cpus.first().ok_or(io::ErrorKind::NotFound)?;
        let siblings = siblings_of(first);
        let others = &cpus[1..];
        let (second, relation) = match others.iter().find(|&&cpu| !siblings.contains(&cpu)) {
            Some(&cpu) => (cpu, "two cores"),
            None => match others.first() {
                Some(&cpu) => (cpu, "two threads of one core"),
                None => (first, "one CPU for both"),
            },
        };
        Ok(Pair { first, second, relation })
    }

    /// Describes the pair for the stated conditions.
    pub fn describe(&self) -> String {
        format!("CPUs {} and {} ({})", self.first, self.second, self.relation)
    }
}

/// Undoes [`pin_to`] when dropped.
#[must_use = "the thread is released again when this is dropped"]
pub struct Pinned {
    before: libc::cpu_set_t,
    // Affinity belongs to the thread that asked for it.
    _not_send: PhantomData<*const ()>,
}

/// Pins the calling thread to `cpu` until the result is dropped.
///
/// Threads and processes that are started meanwhile inherit the pin.
///
/// # Errors
/// Those of `sched_setaffinity`, such as a CPU that is not allowed here.
pub fn pin_to(cpu: usize) -> io::Result<Pinned> {
    pin_to_any(&[cpu])
}

/// The same for several CPUs, among which the kernel chooses.
///
/// # Errors
/// As for [`pin_to`].
pub fn pin_to_any(cpus: &[usize]) -> io::Result<Pinned> {
    let before = affinity()?;
    let mut only = empty_set();
    for &cpu in cpus {
        if cpu >= libc::CPU_SETSIZE as usize {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        // SAFETY: `cpu` was checked to be within the set.
        unsafe { libc::CPU_SET(cpu, &mut only) };
    }
    set_affinity(&only)?;
    Ok(Pinned { before, _not_send: PhantomData })
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // The old set can have become empty by hotplug or cgroup changes: then the pin stays.
        let _ = set_affinity(&self.before);
    }
}

fn empty_set() -> libc::cpu_set_t {
    // SAFETY: `cpu_set_t` is an array of integers, for which zero is a value.
    unsafe { mem::zeroed() }
}

fn affinity() -> io::Result<libc::cpu_set_t> {
    let mut set = empty_set();
    // SAFETY: `set` is live, writable and as large as stated; 0 is the calling thread.
    match unsafe { libc::sched_getaffinity(0, size_of_val(&set), &mut set) } {
        0 => Ok(set),
        _ => Err(io::Error::last_os_error()),
    }
}

fn set_affinity(set: &libc::cpu_set_t) -> io::Result<()> {
    // SAFETY: `set` is live, readable and as large as stated; 0 is the calling thread.
    match unsafe { libc::sched_setaffinity(0, size_of_val(set), set) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Reads the hardware threads of `cpu`'s core; only `cpu` itself where the kernel does not say.
fn siblings_of(cpu: usize) -> Vec<usize> {
    let path = format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
    fs::read_to_string(path).map_or_else(|_| vec![cpu], |list| parse_cpu_list(&list))
}

/// Parses the kernel's list format, such as `0-2,8`.
fn parse_cpu_list(list: &str) -> Vec<usize> {
    let ranges = list.trim().split(',').filter_map(|part| {
        let (low, high) = part.split_once('-').unwrap_or((part, part));
        Some(low.parse::<usize>().ok()?..=high.parse::<usize>().ok()?)
    });
    ranges.flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_list_with_ranges_and_single_numbers_is_parsed() {
        assert_eq!(parse_cpu_list("0-2,8\n"), [0, 1, 2, 8]);
    }

    #[test]
    fn pin_holds_until_it_is_dropped() {
        let before = allowed().unwrap();
        let pinned = pin_to(before[0]).unwrap();
        let during = allowed().unwrap();
        drop(pinned);
        assert_eq!(during, [before[0]]);
        assert_eq!(allowed().unwrap(), before);
    }
}
