//! The report as its user runs it: what it prints, and that it leaves no process behind.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Against hanging; several reports share the machine here, each on both CPUs.
const BOUND: Duration = Duration::from_secs(120);

fn bench(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shmkit-bench"));
    command.args(arguments);
    command
}

fn run(arguments: &[&str]) -> Output {
    bench(arguments).output().expect("the report starts")
}

fn wait_for(what: &str, mut happened: impl FnMut() -> bool) {
    let deadline = Instant::now() + BOUND;
    while !happened() {
        assert!(Instant::now() < deadline, "{what} did not happen within {BOUND:?}");
        thread::sleep(Duration::from_millis(5));
    }
}

fn children_of(pid: u32) -> Vec<u32> {
    let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    list.split_whitespace().map(|pid| pid.parse().expect("a pid")).collect()
}

/// A running report; killed and reaped when dropped.
struct Report(Child);

impl Drop for Report {
    fn drop(&mut self) {
        // One that has ended is neither killed nor waited for again.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Two workers for each of the two locks.
fn start_with_all_workers() -> (Report, Vec<u32>) {
    let mut command = bench(&["--only", "contention"]);
    let process = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the report starts");
    let process = Report(process);
    let mut workers = Vec::new();
    wait_for("the start of four workers", || {
        workers = children_of(process.0.id());
        workers.len() == 4
    });
    (process, workers)
}

fn assert_gone_after(signal: libc::c_int) {
    let (mut process, workers) = start_with_all_workers();
    let pid = process.0.id() as libc::pid_t;
    // SAFETY: `kill` touches no memory; the process was not reaped, so the pid is its own.
    let result = unsafe { libc::kill(pid, signal) };
    assert_eq!(result, 0);
    process.0.wait().expect("the report ends");
    let gone = |pid: &u32| !Path::new(&format!("/proc/{pid}")).exists() || is_zombie(*pid);
    wait_for("the end of all workers", || workers.iter().all(gone));
}

/// An orphan's new parent may take its time to reap it.
fn is_zombie(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_none_or(|(_, rest)| rest.trim_start().starts_with('Z'))
}

#[test]
fn uncontended_names_all_locks_and_the_conditions() {
    let output = run(&["--quick", "--only", "mutex/uncontended"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success());
    for expected in ["floor", "std", "pthread", "robust-pthread", "[1] one thread pinned to CPU"] {
        assert!(text.contains(expected), "no {expected:?} in:\n{text}");
    }
}

#[test]
fn contended_counts_every_section_of_both_processes() {
    let output = run(&["--quick", "--only", "contention"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success());
    assert!(text.contains(" 0 rounds with a wrong count"), "{text}");
}

#[test]
fn arrays_are_compared_with_atomics_and_with_memcpy() {
    let output = run(&["--quick", "--only", "array"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for expected in ["array, load of an element", "array, copy in, 4 KiB", "array, copy out, 64 MiB", "memcpy"] {
        assert!(text.contains(expected), "no {expected:?} in:\n{text}");
    }
}

/// Runs the cases of one thread or of a team whose names contain `pattern`, and looks for all that is compared.
fn assert_compared(pattern: &str, expected: &[&str]) {
    let output = run(&["--quick", "--only", pattern]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for expected in expected {
        assert!(text.contains(expected), "no {expected:?} in:\n{text}");
    }
}

#[test]
fn uncontended_semaphores_are_compared_with_their_floor_and_with_sem_t() {
    assert_compared("semaphore/uncontended", &["acquire+release", "two RMWs", "sem_t"]);
}

#[test]
fn readers_side_by_side_are_compared_one_by_one_with_lines_of_their_own() {
    assert_compared("rwlock/read/two_cpus", &["process 1", "process 2", "a CAS and a store", "pthread rwlock"]);
}

#[test]
fn handing_over_asleep_is_compared_with_bare_futexes() {
    assert_compared("event/handover/one_cpu", &["there and back on one CPU", "futex_waitv", "futex ", "sem_t"]);
}

#[test]
fn handing_over_awake_is_compared_with_a_cache_line_also_by_those_who_always_look() {
    assert_compared("semaphore/handover/two_cpus", &["cache line", "two CPUs: shmkit, always looking"]);
}

#[test]
fn threads_of_one_process_can_take_part_in_a_team() {
    assert_compared("barrier/round/one_cpu", &["pthread barrier", "std, threads"]);
}

#[test]
fn all_peers_of_a_dead_party_learn_of_it() {
    assert_compared("barrier/death", &["20 kills of each", "shmkit, 1 peer", "shmkit, 16 peers", "robust-pthread"]);
}

#[test]
fn messages_there_and_back_are_compared_with_bare_futexes_and_with_what_the_kernel_carries() {
    assert_compared("pipe/round_trip/one_cpu", &["48 bytes there and back", "futex_waitv", "pipe(2)", "UnixStream"]);
}

#[test]
fn streams_are_compared_with_a_ring_between_threads() {
    assert_compared("pipe/stream", &["single calls", "rtrb, threads", "batches of 64", "rtrb chunks, threads"]);
}

#[test]
fn frames_are_compared_with_bare_copies_at_each_size() {
    assert_compared("frames/", &["memcpy in and out", "MB/s", "frames of 64 KiB", "frames of 8 B", "frames of 1 MiB"]);
}

#[test]
fn queues_are_compared_with_a_channel_between_threads_also_with_two_of_each() {
    assert_compared("queue/", &["1 + 1", "2 + 2", "4 processes", "crossbeam-channel"]);
}

#[test]
fn cases_are_listed_and_not_run() {
    let output = run(&["--list", "--only", "event"]);
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(
        text.lines().collect::<Vec<_>>(),
        ["event/set_reset", "event/handover/one_cpu", "event/handover/two_cpus"]
    );
}

#[test]
fn every_killed_owner_is_taken_over_from() {
    let output = run(&["--quick", "--only", "kill-1MiB"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("20 kills per lock"), "{text}");
}

#[test]
fn workers_end_when_the_report_is_killed() {
    assert_gone_after(libc::SIGKILL);
}

#[test]
fn workers_end_when_the_report_is_interrupted() {
    assert_gone_after(libc::SIGINT);
}

#[test]
fn help_is_printed_and_unknown_options_are_refused() {
    let help = run(&["--help"]);
    assert!(help.status.success());
    assert!(String::from_utf8(help.stdout).unwrap().contains("--only PATTERN"));
    assert_eq!(run(&["--nonsense"]).status.code(), Some(2));
    assert_eq!(run(&["--only", "nothing like it"]).status.code(), Some(2));
}
