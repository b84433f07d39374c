//! The example `work_queue`, as a newcomer runs it.

use std::path::PathBuf;
use std::process::{Command, Output};

/// Runs the example, which `cargo test` has built, and waits for its end; it bounds itself.
fn work_queue(arguments: &[&str]) -> Output {
    let here = std::env::current_exe().expect("the test binary");
    let built = here.ancestors().nth(2).map(|folder| folder.join("examples/work_queue"));
    let example = built.filter(|path| path.exists()).unwrap_or_else(|| PathBuf::from("missing"));
    Command::new(&example)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("{error}: build it first, with `cargo build --example work_queue`"))
}

fn last_line(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).lines().last().unwrap_or_default().to_owned()
}

#[test]
fn with_no_options_one_of_each_is_killed_and_every_job_is_done_once_or_lost_with_its_owner() {
    let output = work_queue(&[]);
    assert_eq!(last_line(&output), "jobs=10000 done=9998 lost=2 duplicated=0 ok");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("is lost with producer ") && said.contains("is lost with worker "), "{said}");
    assert!(output.status.success());
}

#[test]
fn without_kills_nothing_is_lost() {
    let output = work_queue(&["--no-kill", "--producers", "5", "--workers", "1", "--capacity", "1", "--jobs", "2000"]);
    assert_eq!(last_line(&output), "jobs=2000 done=2000 lost=0 duplicated=0 ok");
    assert!(output.status.success());
}

#[test]
fn help_is_help_and_nonsense_is_refused() {
    assert!(work_queue(&["--help"]).status.success());
    for nonsense in [&["--workers", "1"][..], &["--jobs", "0"], &["--producers", "many"], &["--play"]] {
        assert_eq!(work_queue(nonsense).status.code(), Some(2), "{nonsense:?}");
    }
}
