//! The example `shared_array`, as a newcomer runs it.

use std::path::PathBuf;
use std::process::{Command, Output};

/// Runs the example, which `cargo test` has built, and waits for its end; it bounds itself.
fn shared_array(arguments: &[&str]) -> Output {
    let here = std::env::current_exe().expect("the test binary");
    let built = here.ancestors().nth(2).map(|folder| folder.join("examples/shared_array"));
    let example = built.filter(|path| path.exists()).unwrap_or_else(|| PathBuf::from("missing"));
    Command::new(&example)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("{error}: build it first, with `cargo build --example shared_array`"))
}

fn last_line(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).lines().last().unwrap_or_default().to_owned()
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
