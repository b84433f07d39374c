//! The report as its user runs it: what it prints, and that it leaves no process behind.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Against hanging; several reports share the machine here, each on both CPUs.
const BOUND: Duration = Duration::from_secs(120);

fn bench(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shmkit-bench"));
    command.args(arguments);
    let heed_interrupts = || {
        // SAFETY: async-signal-safe, and touches no memory.
        unsafe { libc::signal(libc::SIGINT, libc::SIG_DFL) };
        Ok(())
    };
    // What runs in the background of a script ignores Ctrl-C, and so would its children.
    // SAFETY: the closure does only what a child may do between fork and exec.
    unsafe { command.pre_exec(heed_interrupts) };
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
    let mut command = bench(&["--only", "mutex/contended"]);
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
fn contended_locks_are_compared_by_the_time_of_a_section_and_by_the_weaker_share() {
    assert_compared(
        "mutex/contended",
        &["time per section", "pthread", "weaker share in any 100 ms", "repeated at most"],
    );
}

#[test]
fn waiters_behind_a_stopped_owner_are_told_in_time_and_rob_nobody() {
    assert_compared("mutex/stopped", &["late time-out", "from SIGCONT", "robbed", "sem_t", "robust-pthread"]);
}

#[test]
fn crowds_that_would_be_too_late_are_not_gathered() {
    let output = run(&["--only", "region/attach", "--rounds", "15", "--budget", "1"]);
    let (text, notes) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success(), "{notes}");
    assert!(text.contains(", 1 participant ") && !text.contains("1000 participants"), "{text}");
    assert!(notes.contains("region/attach: out of time before"), "{notes}");
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
    assert_compared(
        "event/handover/sleep",
        &["there and back on one CPU", "futex_waitv", "futex ", "sem_t", "eventfd"],
    );
}

#[test]
fn handing_over_awake_is_compared_with_a_cache_line_also_by_those_who_always_look() {
    assert_compared("semaphore/handover/spin", &["cache line", "two CPUs: shmkit, always looking"]);
}

#[test]
fn threads_of_one_process_can_take_part_in_a_team() {
    assert_compared("barrier/round/sleep", &["pthread barrier", "std, threads"]);
}

#[test]
fn all_peers_of_a_dead_party_learn_of_it() {
    assert_compared("barrier/death", &["20 kills of each", "shmkit, 1 peer", "shmkit, 16 peers", "robust-pthread"]);
}

#[test]
fn messages_there_and_back_are_compared_with_bare_futexes_and_with_what_the_kernel_carries() {
    assert_compared("pipe/rtt/sleep", &["48 bytes there and back", "futex_waitv", "pipe(2)", "UnixStream"]);
}

#[test]
fn streams_are_of_single_calls_and_of_batches() {
    assert_compared("pipe/stream", &["single calls", "batches of 64", "shmkit, always looking"]);
}

#[cfg(feature = "peers")]
#[test]
fn streams_are_compared_with_a_ring_between_threads() {
    assert_compared("pipe/stream", &["rtrb, threads", "rtrb chunks, threads"]);
}

#[test]
fn frames_are_compared_with_bare_copies_at_each_size() {
    assert_compared("frames/", &["memcpy in and out", "MB/s", "frames of 64 KiB", "frames of 8 B", "frames of 1 MiB"]);
}

#[test]
fn queues_are_of_one_and_of_two_on_each_side() {
    assert_compared("queue/", &["1 + 1", "2 + 2", "4 processes", "shmkit, always looking"]);
}

#[cfg(feature = "peers")]
#[test]
fn queues_are_compared_with_a_channel_between_threads() {
    assert_compared("queue/", &["crossbeam-channel, threads"]);
}

#[test]
fn cases_are_listed_and_not_run() {
    let output = run(&["--list", "--only", "event/"]);
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.lines().collect::<Vec<_>>(), ["event/set_reset", "event/handover/sleep", "event/handover/spin"]);
    assert_eq!(run(&["--list", "--only=event/"]).stdout, text.as_bytes());
}

#[test]
fn every_killed_owner_is_taken_over_from() {
    let output = run(&["--quick", "--only", "mutex/kill/1MiB"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("20 kills per lock"), "{text}");
}

/// Runs a quick report that is written to a file by `option`, and reads the file.
fn written_by(option: &str, pattern: &str) -> String {
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap();
    let output = run(&["--quick", "--only", pattern, option, path]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    fs::read_to_string(path).unwrap()
}

fn keys(object: &serde_json::Value) -> BTreeSet<&str> {
    object.as_object().expect("an object").keys().map(String::as_str).collect()
}

#[test]
fn json_has_the_machine_and_all_cases_in_one_form() {
    let text = written_by("--json", "uncontended");
    let document: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(keys(&document), BTreeSet::from(["machine", "cases"]));
    for key in ["cpu", "kernel", "governor", "hypervisor", "pinning", "waiting", "rustc", "glibc"] {
        assert!(keys(&document["machine"]).contains(key), "no {key} in {text}");
    }
    let form = ["name", "unit", "better", "shmkit", "limit", "peers", "vs_limit", "vs_best_peer", "spread"];
    let cases = document["cases"].as_array().unwrap();
    assert!(cases.iter().all(|case| keys(case) == BTreeSet::from(form)), "{text}");
    let mutex = cases.iter().find(|case| case["name"] == "mutex/uncontended").unwrap();
    assert_eq!((mutex["unit"].as_str(), mutex["better"].as_str()), (Some("ns"), Some("lower")));
    assert!(keys(&mutex["peers"]).is_superset(&BTreeSet::from(["std", "pthread", "robust_pthread"])), "{text}");
    let numbers =
        ["shmkit", "limit", "vs_limit", "vs_best_peer", "spread"].map(|key| mutex[key].as_f64().unwrap_or(-1.0));
    assert!(numbers.iter().all(|&number| number >= 0.0), "{text}");
}

#[test]
fn rates_say_that_higher_is_better() {
    let text = written_by("--json", "frames/size/4KiB");
    let document: serde_json::Value = serde_json::from_str(&text).unwrap();
    let case = &document["cases"][0];
    assert_eq!((case["unit"].as_str(), case["better"].as_str()), (Some("MB/s"), Some("higher")));
    assert!(case["vs_limit"].as_f64().is_some(), "{text}");
}

#[test]
fn page_loads_nothing_and_shows_distributions_and_curves() {
    let page = written_by("--html", "handover/sleep");
    assert!(page.starts_with("<!DOCTYPE html>"));
    for foreign in ["src=", "<link", "<script", "@import", "url(", "href=\"http"] {
        assert!(!page.contains(foreign), "{foreign} in the page");
    }
    for expected in ["prefers-color-scheme: dark", "p99.9", "<svg", "role=\"img\"", "event/handover/sleep", "sem_t"] {
        assert!(page.contains(expected), "no {expected} in the page");
    }
}

#[test]
fn page_shows_curves_over_sizes() {
    let page = written_by("--html", "array/copy");
    for expected in ["Array: copy in, over the length", "64 MiB", "memcpy"] {
        assert!(page.contains(expected), "no {expected} in the page");
    }
}

#[test]
fn kills_have_a_table_of_who_goes_on_who_is_told_and_who_hangs() {
    let others = ["robust pthread mutex", "pthread rwlock", "sem_t", "eventfd", "UnixStream"];
    let ours = ["RwLock, asymmetric", "Snapshot, in an update", "BytePipe", "Pool, its task"];
    let outcomes = ["recovered", "end of file", "hang", "was ended by signal 9"];
    assert_compared("killed", &[&others[..], &ours, &outcomes].concat());
}

#[cfg(feature = "peers")]
#[test]
fn all_crates_have_a_row_among_the_killed_and_so_have_python_and_boost() {
    let crates = [
        "crossbeam-channel",
        "rtrb",
        "raw_sync",
        "shared_memory",
        "ipc-channel (servo)",
        "shmem-ipc",
        "ipmpsc",
        "iceoryx2",
        "procspawn",
        "parking_lot",
    ];
    assert_compared("killed", &crates);
    assert_compared("killed", &["multiprocessing", "interprocess_mutex"]);
}

#[test]
fn case_that_loses_a_process_is_wrong_and_the_others_go_on() {
    let mut command = bench(&["--only", "event/", "--rounds", "1000", "--budget", "5"]);
    let mut process = Report(command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("the report starts"));
    let mut workers = Vec::new();
    wait_for("the start of the members of a team", || {
        workers = children_of(process.0.id());
        !workers.is_empty()
    });
    // SAFETY: `kill` touches no memory; the report has not ended, and so the child is its own.
    assert_eq!(unsafe { libc::kill(workers[0] as libc::pid_t, libc::SIGKILL) }, 0);
    let mut text = String::new();
    process.0.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(process.0.wait().unwrap().code(), Some(1), "{text}");
    assert!(text.contains("WRONG: event/handover/"), "{text}");
    assert!(text.contains("event, set+reset"), "{text}");
}

#[test]
fn workers_end_when_the_report_is_killed() {
    assert_gone_after(libc::SIGKILL);
}

#[test]
fn workers_end_when_the_report_is_interrupted() {
    assert_gone_after(libc::SIGINT);
}

/// All that the report with this process id has started, by the marks that it leaves on its children.
fn started_by(pid: u32) -> Vec<u32> {
    let (parent, name) = (format!("SHMKIT_BENCH_PARENT={pid}\0"), format!("shmkit-bench-{pid}-"));
    let has = |file: &str, process: &str, mark: &str| {
        let text = fs::read(format!("/proc/{process}/{file}")).unwrap_or_default();
        text.windows(mark.len()).any(|window| window == mark.as_bytes())
    };
    let processes = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().into_string().ok());
    let numbers = processes.filter(|process| process.bytes().all(|byte| byte.is_ascii_digit()));
    let marked = numbers.filter(|process| has("environ", process, &parent) || has("cmdline", process, &name));
    marked.map(|process| process.parse().expect("a process id")).filter(|&pid| !is_zombie(pid)).collect()
}

fn regions_of(pid: u32) -> Vec<String> {
    let names = fs::read_dir("/dev/shm").unwrap().filter_map(|entry| entry.unwrap().file_name().into_string().ok());
    names.filter(|name| name.contains(&format!("shmkit-bench-{pid}-"))).collect()
}

/// Interrupts a report in the middle of a case as a terminal does: with all that it has started.
fn assert_nothing_is_left_of(pattern: &str) {
    let mut command = bench(&["--only", pattern, "--rounds", "1000"]);
    command.stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    let mut process = Report(command.spawn().expect("the report starts"));
    let pid = process.0.id();
    wait_for("the start of a child", || !started_by(pid).is_empty());
    // SAFETY: `kill` touches no memory; the group is that of the report, which was not reaped.
    assert_eq!(unsafe { libc::kill(-(pid as libc::pid_t), libc::SIGINT) }, 0);
    process.0.wait().expect("the report ends");
    wait_for("the end of all children", || started_by(pid).is_empty());
    wait_for("the end of all regions", || regions_of(pid).is_empty());
}

#[test]
fn interrupted_report_leaves_no_process_and_no_region() {
    for pattern in [
        "region/open",
        "event/handover/sleep",
        "pipe/rtt/spin",
        "mutex/death",
        "mutex/kill/1MiB",
        "killed",
        "mutex/processes/16",
    ] {
        assert_nothing_is_left_of(pattern);
    }
}

/// Stops the report, again and again, until it has been stopped when there was what `is_there` looks for.
fn stop_when(process: &Report, is_there: impl Fn() -> bool) {
    let signal = |signal: libc::c_int| {
        // SAFETY: `kill` touches no memory; the report was not reaped, so the pid is its own.
        assert_eq!(unsafe { libc::kill(process.0.id() as libc::pid_t, signal) }, 0);
    };
    let stat = format!("/proc/{}/stat", process.0.id());
    let is_stopped = || fs::read_to_string(&stat).is_ok_and(|stat| stat.contains(") T "));
    wait_for("a stop at the right time", || {
        signal(libc::SIGSTOP);
        wait_for("the stop", is_stopped);
        let stopped_in_time = is_there();
        if !stopped_in_time {
            signal(libc::SIGCONT);
        }
        stopped_in_time
    });
}

/// Interrupts a report when there is what `is_there` looks for, given its process id.
fn assert_not_left(pattern: &str, is_there: impl Fn(u32) -> bool) {
    let mut command = bench(&["--only", pattern, "--rounds", "1000"]);
    command.stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    let mut process = Report(command.spawn().expect("the report starts"));
    let pid = process.0.id();
    stop_when(&process, || is_there(pid));
    for signal in [libc::SIGINT, libc::SIGCONT] {
        // SAFETY: `kill` touches no memory; the group is that of the report, which was not reaped.
        assert_eq!(unsafe { libc::kill(-(pid as libc::pid_t), signal) }, 0);
    }
    process.0.wait().expect("the report ends");
    wait_for("the end of what was there", || !is_there(pid));
}

#[test]
fn report_interrupted_with_a_half_made_file_leaves_no_file() {
    let half_made = |whose: &str| {
        assert_not_left("region/create", |pid| regions_of(pid).contains(&format!("shmkit-bench-{pid}-create-{whose}")));
    };
    half_made("bare");
    half_made("ours");
    #[cfg(feature = "peers")]
    half_made("peer");
}

#[cfg(feature = "peers")]
#[test]
fn interrupted_report_leaves_no_socket_of_a_peer() {
    assert_not_left("process/spawn", |pid| {
        let own = std::env::temp_dir().join(format!("shmkit-bench-{pid}-files"));
        fs::read_dir(own).is_ok_and(|mut folder| folder.next().is_some())
    });
}

#[test]
fn help_is_printed_and_unknown_options_are_refused() {
    let help = run(&["--help"]);
    assert!(help.status.success());
    assert!(String::from_utf8(help.stdout).unwrap().contains("--only PATTERN"));
    assert_refused(&["--nonsense"], "--nonsense");
    assert_refused(&["--rounds", "none"], "\"none\" is not a positive number");
    assert_refused(&["--rounds", "14"], "at least 15 rounds, not 14");
    assert_refused(&["--quick=yes"], "--quick takes no value");
    // One that fits does not hide one that does not.
    assert_refused(&["--only", "event", "--only", "nothing like it"], "nothing like it");
}

/// Refuses at once, and says why.
fn assert_refused(arguments: &[&str], why: &str) {
    let output = run(arguments);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains(why), "{text}");
    assert!(output.stdout.is_empty(), "something was measured");
}

#[test]
fn file_that_cannot_be_made_is_refused_before_anything_is_measured() {
    for option in ["--json", "--html", "--targets"] {
        assert_refused(&["--only", "mutex/uncontended", option, "/nowhere/report"], "/nowhere/report");
    }
}

#[test]
fn files_are_replaced_by_whole_reports_only() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("report");
    fs::write(&path, "an older one").unwrap();
    let option = format!("--json={}", path.display());
    let mut command = bench(&["--only", "event/handover/sleep", "--rounds", "1000", &option]);
    command.stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    let mut process = Report(command.spawn().expect("the report starts"));
    let pid = process.0.id();
    wait_for("the start of a child", || !started_by(pid).is_empty());
    // SAFETY: `kill` touches no memory; the group is that of the report, which was not reaped.
    assert_eq!(unsafe { libc::kill(-(pid as libc::pid_t), libc::SIGINT) }, 0);
    process.0.wait().expect("the report ends");
    assert_eq!(fs::read_to_string(&path).unwrap(), "an older one");

    assert!(run(&["--only", "region/memory", &option]).status.success());
    assert!(fs::read_to_string(&path).unwrap().contains("region/memory"));
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "something else is left");
}

#[test]
fn what_is_no_ordinary_file_is_written_to_and_stays() {
    let output = run(&["--only", "region/memory", "--json", "/dev/stdout"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8(output.stdout).unwrap().contains("\"cases\""));
}

#[test]
fn targets_are_checked_over_several_reports() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_string();
    let files = ["1", "2", "3"].map(path);
    for file in &files {
        // Memory is what it is: such a figure holds on any machine, however busy.
        let output = run(&["--only", "region/memory", "--targets", file]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let output = run(&["--check", &files[0], &files[1], &files[2]]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    let rows: Vec<_> = text.lines().filter(|line| line.contains("| 3 of 3 | `region/memory` |")).collect();
    assert_eq!(rows.len(), 5, "{text}");
    assert_eq!(run(&["--check", &files[0]]).status.code(), Some(1));
    assert_refused(&["--check", &path("none")], "none");
    fs::write(path("other"), "{}").unwrap();
    assert_refused(&["--check", &path("other")], "other");
    let quick = path("quick");
    assert!(run(&["--quick", "--only", "region/memory", "--targets", &quick]).status.success());
    assert_refused(&["--check", &quick], "a quick run");
}
