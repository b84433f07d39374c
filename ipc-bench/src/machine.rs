//! The machine that figures are taken on, and what all cases have in common.

use std::env;
use std::ffi::CStr;
use std::fs;
use std::io;
use std::time::SystemTime;

use serde::Serialize;

use crate::pin::{self, Pair};
use crate::proc;

/// What is to be known of a machine beside its figures.
#[derive(Debug, Clone, Serialize)]
pub struct Machine {
    /// The model of the processor.
    pub cpu: String,
    /// How many CPUs the report may use.
    pub cpus: usize,
    /// The memory that is free, in MiB.
    pub memory_mib: u64,
    /// The kernel's release.
    pub kernel: String,
    /// The frequency governor; `None` where the kernel has none, as on most virtual machines.
    pub governor: Option<String>,
    /// What the machine runs on; `None` if nothing says that it is virtual.
    pub hypervisor: Option<String>,
    /// Which CPUs the processes of a case are pinned to.
    pub pinning: String,
    /// How waits begin.
    pub waiting: &'static str,
    /// The compiler.
    pub rustc: &'static str,
    /// The C library, whose primitives are peers.
    pub glibc: String,
    /// The version of shmkit.
    pub shmkit: &'static str,
    /// The load averages of the machine when the report began.
    pub load: String,
    /// When that was.
    pub begun: String,
    /// Whether the figures are those of a quick run, which mean nothing.
    pub quick: bool,
}

impl Machine {
    /// Looks around.
    ///
    /// # Errors
    /// Those of reading what every Linux has in `/proc`.
    pub fn look(quick: bool) -> io::Result<Self> {
        let info = fs::read_to_string("/proc/cpuinfo")?;
        Ok(Machine {
            cpu: value(&info, "model name").unwrap_or_else(|| env::consts::ARCH.into()),
            cpus: pin::allowed()?.len(),
            memory_mib: proc::memory_available()? >> 20,
            kernel: read("/proc/sys/kernel/osrelease").unwrap_or_default(),
            governor: read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
            hypervisor: hypervisor(&info),
            pinning: format!("{}; each case says who runs where", Pair::choose()?.describe()),
            waiting: "cases named spin: each on a CPU of its own, looks for a while before it sleeps; cases named \
                      sleep: all on one CPU, so that they sleep; \"always looking\" and \"never looking\" are ours \
                      with Spinning::Always and Spinning::Never",
            rustc: env!("SHMKIT_BENCH_RUSTC"),
            glibc: glibc(),
            shmkit: env!("CARGO_PKG_VERSION"),
            load: read("/proc/loadavg").unwrap_or_default().split(' ').take(3).collect::<Vec<_>>().join(" "),
            begun: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            quick,
        })
    }

    /// Names and values, for people.
    pub fn described(&self) -> Vec<(&'static str, String)> {
        let or = |text: &Option<String>, none: &str| text.clone().unwrap_or_else(|| none.into());
        vec![
            ("Processor", format!("{}, {} CPUs to be used", self.cpu, self.cpus)),
            ("Memory", format!("{} MiB free", self.memory_mib)),
            ("Hypervisor", or(&self.hypervisor, "none to be seen")),
            ("Kernel", format!("Linux {}", self.kernel)),
            ("Governor", or(&self.governor, "none to be seen")),
            ("Pinning", self.pinning.clone()),
            ("Spin or sleep", self.waiting.into()),
            ("Compiler", self.rustc.into()),
            ("C library", format!("glibc {}", self.glibc)),
            ("shmkit", self.shmkit.into()),
            ("Load when it began", self.load.clone()),
            ("Begun", self.begun.clone()),
        ]
    }
}

fn read(path: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    Some(text.trim().to_string()).filter(|text| !text.is_empty())
}

/// The value of the first line `key : value`.
fn value(text: &str, key: &str) -> Option<String> {
    let mut pairs = text.lines().filter_map(|line| line.split_once(':'));
    pairs.find(|(name, _)| name.trim() == key).map(|(_, value)| value.trim().to_string())
}

fn hypervisor(info: &str) -> Option<String> {
    let is_virtual = value(info, "flags").is_some_and(|flags| flags.split(' ').any(|flag| flag == "hypervisor"));
    if !is_virtual {
        return None;
    }
    let kind = read("/sys/hypervisor/type").or_else(signature);
    let of_board = ["/sys/class/dmi/id/sys_vendor", "/sys/class/dmi/id/product_name"];
    let words: Vec<_> = kind.into_iter().chain(of_board.into_iter().filter_map(read)).collect();
    Some(if words.is_empty() { "one that does not say which".into() } else { words.join(" ") })
}

/// How the hypervisor calls itself to the processor's guests.
#[cfg(target_arch = "x86_64")]
fn signature() -> Option<String> {
    let leaf = std::arch::x86_64::__cpuid(0x4000_0000);
    let bytes: Vec<u8> = [leaf.ebx, leaf.ecx, leaf.edx].into_iter().flat_map(u32::to_le_bytes).collect();
    let text = String::from_utf8(bytes).ok()?;
    Some(text.trim_matches('\0').to_string()).filter(|text| text.chars().all(|character| character.is_ascii_graphic()))
}

/// Nothing there says so.
#[cfg(not(target_arch = "x86_64"))]
fn signature() -> Option<String> {
    None
}

fn glibc() -> String {
    // SAFETY: takes nothing, and returns a C string that lives for ever.
    let version = unsafe { CStr::from_ptr(libc::gnu_get_libc_version()) };
    version.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn value_is_that_of_the_whole_key() {
        let text = "model\t\t: 1\nmodel name\t: AMD EPYC\nflags : fpu hypervisor\n";
        assert_eq!(value(text, "model name").as_deref(), Some("AMD EPYC"));
        assert!(hypervisor(text).is_some());
        assert_eq!(value(text, "name"), None);
    }
}
