//! The examples about processes, as a newcomer runs them.

mod common;

use common::{last_line, run_example};

#[test]
fn processes_ends_well_and_leaves_no_zombie() {
    let output = run_example("processes", &[]);
    assert_eq!(last_line(&output), "joined=3 ends=3,-9,-15 panicked=1 daemon=gone zombies=0 ok");
    assert!(output.status.success());
}

#[test]
fn the_heart_beats_as_long_as_the_worker_lives() {
    let output = run_example("heartbeat", &["--beats", "3"]);
    assert_eq!(last_line(&output), "beats=3 worker=-9 daemon=gone ok");
    assert!(output.status.success());
}

#[test]
fn the_echo_server_survives_a_client() {
    let output = run_example("echo_server", &["--clients", "3"]);
    assert_eq!(last_line(&output), "connections=4 lines=300 echoed=300 panicked=1 ok");
    assert!(output.status.success());
}

#[test]
fn isolation_shows_what_is_shared() {
    let output = run_example("isolation", &[]);
    assert_eq!(last_line(&output), "global=1 region=2 orphan=alive ok");
    assert!(output.status.success());
}

#[test]
fn the_pool_has_all_values_but_the_one_that_was_lost_with_its_worker() {
    let output = run_example("pool", &["--tasks", "50"]);
    let last = last_line(&output);
    assert!(last.starts_with("tasks=50 ratio="), "{last}");
    assert!(last.ends_with(" squares=338350 killed=2 lost=1 lost_with_retries=0 ok"), "{last}");
    assert!(output.status.success());
}

#[test]
fn help_is_help_and_nonsense_is_refused() {
    for name in ["processes", "heartbeat", "echo_server", "isolation", "pool"] {
        assert!(run_example(name, &["--help"]).status.success(), "{name}");
        assert_eq!(run_example(name, &["--nonsense"]).status.code(), Some(2), "{name}");
    }
}
