//! The project's examples, as a newcomer runs them.

use std::env;
use std::process::{Command, Output};

/// The example of this name, which `cargo test` has built.
#[track_caller]
pub(crate) fn example(name: &str) -> Command {
    let here = env::current_exe().expect("the test binary");
    let built = here.ancestors().nth(2).map(|folder| folder.join("examples").join(name));
    let Some(built) = built.filter(|path| path.exists()) else {
        panic!("build it first, with `cargo build --example {name}`")
    };
    Command::new(built)
}

/// Runs the example of this name and waits for its end; it bounds itself.
#[track_caller]
pub(crate) fn run_example(name: &str, arguments: &[&str]) -> Output {
    example(name).args(arguments).output().expect("the example runs")
}

/// What it said last.
pub(crate) fn last_line(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).lines().last().unwrap_or_default().to_owned()
}
