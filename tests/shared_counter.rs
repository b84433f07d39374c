//! The example `shared_counter`, as a newcomer runs it.

#![cfg(feature = "process")]

mod common;

use std::process::Output;

use common::{last_line, run_example};

fn shared_counter(arguments: &[&str]) -> Output {
    run_example("shared_counter", arguments)
}

#[test]
fn tickets_are_sold_once_by_update_and_twice_by_get_and_insert() {
    let output = shared_counter(&[]);
    let last = last_line(&output);
    assert!(last.starts_with("processes=100 left_by_get_and_insert="), "{last}");
    assert!(last.ends_with(" left_by_update=0 ok"), "{last}");
    assert!(output.status.success());
}

#[test]
fn help_is_help_and_nonsense_is_refused() {
    assert!(shared_counter(&["--help"]).status.success());
    for wrong in [&["--nonsense"][..], &["--processes"], &["--processes", "1"], &["--processes", "501"]] {
        assert_eq!(shared_counter(wrong).status.code(), Some(2), "{wrong:?}");
    }
}
