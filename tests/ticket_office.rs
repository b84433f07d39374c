//! The example `ticket_office`, as a newcomer runs it.

mod common;

use std::process::Output;

use common::{last_line, run_example};

fn ticket_office(arguments: &[&str]) -> Output {
    run_example("ticket_office", arguments)
}

#[test]
fn with_no_options_two_buyers_are_killed_and_the_books_balance() {
    let output = ticket_office(&[]);
    assert_eq!(last_line(&output), "tickets=20 sold=20 left=0 buyers=10 killed=2 recovered=2 ok");
    assert!(output.status.success());
}

#[test]
fn all_buyers_but_one_may_be_killed() {
    let output = ticket_office(&["--buyers", "12", "--tickets", "60", "--kill", "11"]);
    assert_eq!(last_line(&output), "tickets=60 sold=60 left=0 buyers=12 killed=11 recovered=11 ok");
    assert!(output.status.success());
}

#[test]
fn without_the_lock_tickets_are_oversold() {
    let output = ticket_office(&["--no-lock"]);
    assert!(last_line(&output).ends_with(" killed=0 recovered=0 oversold"), "{}", last_line(&output));
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn help_is_help_and_nonsense_is_refused() {
    assert!(ticket_office(&["--help"]).status.success());
    for nonsense in [&["--kill", "10"][..], &["--tickets", "0"], &["--buyers", "many"], &["--sell"]] {
        assert_eq!(ticket_office(nonsense).status.code(), Some(2), "{nonsense:?}");
    }
}
