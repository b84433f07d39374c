//! The example `latch`, as a newcomer runs it.

use std::path::PathBuf;
use std::process::Command;

/// The example, which `cargo test` has built.
fn example() -> PathBuf {
    let here = std::env::current_exe().expect("the test binary");
    let built = here.ancestors().nth(2).map(|folder| folder.join("examples/latch"));
    built.filter(|path| path.exists()).expect("build it first, with `cargo build --example latch`")
}

#[test]
fn a_latch_opens_when_half_of_its_parties_have_counted_down_and_half_were_killed() {
    let output = Command::new(example()).output().expect("the example runs");

    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(text.lines().last(), Some("parties=8 killed=4 died=4 ok"));
    assert!(output.status.success());
}

#[test]
fn the_latch_takes_less_than_100_lines() {
    let source = include_str!("../examples/latch.rs");

    assert!(source.lines().count() < 100);
}
