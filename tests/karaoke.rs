//! The example `karaoke`, as a newcomer runs it.

mod common;

use std::process::Output;

use common::{last_line, run_example};

fn karaoke(arguments: &[&str]) -> Output {
    run_example("karaoke", arguments)
}

#[test]
fn with_no_options_two_singers_are_killed_and_their_booths_come_back() {
    let output = karaoke(&[]);
    assert_eq!(last_line(&output), "singers=10 booths=3 most_inside=3 killed=2 returned=2 ok");
    assert!(output.status.success());
}

#[test]
fn all_singers_but_one_may_be_killed() {
    let output = karaoke(&["--singers", "12", "--booths", "2", "--kill", "11"]);
    assert_eq!(last_line(&output), "singers=12 booths=2 most_inside=2 killed=11 returned=11 ok");
    assert!(output.status.success());
}

#[test]
fn there_may_be_more_booths_than_singers_or_one_for_all() {
    let output = karaoke(&["--singers", "4", "--booths", "64", "--kill", "3"]);
    assert_eq!(last_line(&output), "singers=4 booths=64 most_inside=4 killed=3 returned=3 ok");
    let output = karaoke(&["--singers", "5", "--booths", "1", "--kill", "1"]);
    assert_eq!(last_line(&output), "singers=5 booths=1 most_inside=1 killed=1 returned=1 ok");
}

#[test]
fn each_booth_that_came_back_is_told_of_once() {
    let output = karaoke(&["--kill", "5"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(text.matches("is killed in its booth").count(), 5);
    assert_eq!(text.matches("has died").count(), 5, "{text}");
}

#[test]
fn help_is_help_and_nonsense_is_refused() {
    assert!(karaoke(&["--help"]).status.success());
    for nonsense in
        [&["--kill", "10"][..], &["--booths", "0"], &["--booths", "65"], &["--singers", "many"], &["--dance"]]
    {
        assert_eq!(karaoke(nonsense).status.code(), Some(2), "{nonsense:?}");
    }
}
