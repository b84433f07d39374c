//! The example `latch`, as a newcomer runs it.

mod common;

use common::run_example;

#[test]
fn a_latch_opens_when_half_of_its_parties_have_counted_down_and_half_were_killed() {
    let output = run_example("latch", &[]);

    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(text.lines().last(), Some("parties=8 killed=4 died=4 ok"));
    assert!(output.status.success());
}

#[test]
fn the_latch_takes_less_than_100_lines() {
    let source = include_str!("../examples/latch.rs");

    assert!(source.lines().count() < 100);
}
