//! The example `async_pipe`, as a newcomer runs it.

use std::path::PathBuf;
use std::process::{Command, Output};

/// Runs the example, which `cargo test` has built, and waits for its end; it bounds itself.
fn async_pipe(arguments: &[&str]) -> Output {
    let here = std::env::current_exe().expect("the test binary");
    let built = here.ancestors().nth(2).map(|folder| folder.join("examples/async_pipe"));
    let example = built.filter(|path| path.exists()).unwrap_or_else(|| PathBuf::from("missing"));
    Command::new(&example)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("{error}: build it first, with `cargo build --example async_pipe`"))
}

fn last_line(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).lines().last().unwrap_or_default().to_owned()
}

#[test]
fn a_task_awaits_the_messages_of_a_child_and_learns_of_its_death() {
    let output = async_pipe(&[]);
    assert_eq!(last_line(&output), "awaited=100 noticed=1 ok");
    assert!(output.status.success());
}

#[test]
fn the_death_may_come_at_once_or_late() {
    assert_eq!(last_line(&async_pipe(&["--readings", "1"])), "awaited=1 noticed=1 ok");
    assert_eq!(last_line(&async_pipe(&["--readings", "1000"])), "awaited=1000 noticed=1 ok");
}

#[test]
fn help_is_help_and_nonsense_is_refused() {
    assert!(async_pipe(&["--help"]).status.success());
    for nonsense in [&["--readings"][..], &["--readings", "0"], &["--readings", "many"], &["--dance"]] {
        assert_eq!(async_pipe(nonsense).status.code(), Some(2), "{nonsense:?}");
    }
}
