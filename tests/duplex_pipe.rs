//! The example `duplex_pipe`, as a newcomer runs it.

use std::path::PathBuf;
use std::process::{Command, Output};

/// Runs the example, which `cargo test` has built, and waits for its end; it bounds itself.
fn duplex_pipe(arguments: &[&str]) -> Output {
    let here = std::env::current_exe().expect("the test binary");
    let built = here.ancestors().nth(2).map(|folder| folder.join("examples/duplex_pipe"));
    let example = built.filter(|path| path.exists()).unwrap_or_else(|| PathBuf::from("missing"));
    Command::new(&example)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("{error}: build it first, with `cargo build --example duplex_pipe`"))
}

fn last_line(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).lines().last().unwrap_or_default().to_owned()
}

#[track_caller]
fn goes_well(arguments: &[&str], begin: &str) {
    let output = duplex_pipe(arguments);
    let line = last_line(&output);
    assert!(line.starts_with(begin) && line.ends_with(" ok"), "{line} {}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success());
}

#[test]
fn with_no_options_all_questions_are_answered_and_end_and_kill_are_noticed() {
    goes_well(&[], "questions=1000 answers=1000 eof=seen killed=1 noticed_us=");
}

#[test]
fn the_pipe_may_be_small_or_large() {
    goes_well(&["--questions", "300", "--room", "1"], "questions=300 answers=300 eof=seen killed=1 noticed_us=");
    goes_well(&["--questions", "1", "--room", "5000"], "questions=1 answers=1 eof=seen killed=1 noticed_us=");
}

#[test]
fn help_is_help_and_nonsense_is_refused() {
    assert!(duplex_pipe(&["--help"]).status.success());
    for nonsense in [&["--questions", "0"][..], &["--room", "0"], &["--room"], &["--questions", "many"], &["--talk"]] {
        assert_eq!(duplex_pipe(nonsense).status.code(), Some(2), "{nonsense:?}");
    }
}
