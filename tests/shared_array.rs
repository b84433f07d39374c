//! The example `shared_array`, as a newcomer runs it.

mod common;

use std::process::Output;

use common::{last_line, run_example};

fn shared_array(arguments: &[&str]) -> Output {
    run_example("shared_array", arguments)
}

#[test]
fn with_no_options_two_sums_are_exact_and_the_third_is_not() {
    let output = shared_array(&[]);
    let line = last_line(&output);
    assert!(
        line.starts_with("processes=20 additions=10000 expected=200000 locked=200000 atomic=200000 unguarded="),
        "{line}"
    );
    assert!(line.ends_with(" ok") && !line.contains("unguarded=200000"), "{line}");
    assert!(output.status.success());
}

#[test]
fn the_third_sum_is_wrong_even_if_each_process_adds_once() {
    let output = shared_array(&["--processes", "2", "--additions", "1"]);
    assert_eq!(last_line(&output), "processes=2 additions=1 expected=2 locked=2 atomic=2 unguarded=1 ok");
    assert!(output.status.success());
}

#[test]
fn help_is_printed_and_wrong_calls_are_refused() {
    let help = shared_array(&["--help"]);
    assert!(help.status.success());
    assert!(String::from_utf8_lossy(&help.stdout).contains("--additions N"));
    for wrong in [&["--nonsense"][..], &["--processes"], &["--processes", "1"], &["--additions", "many"]] {
        assert_eq!(shared_array(wrong).status.code(), Some(2), "{wrong:?}");
    }
}
