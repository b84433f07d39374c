//! The example `async_pipe`, as a newcomer runs it.

mod common;

use common::{last_line, run_example};

#[test]
fn a_task_awaits_the_messages_of_a_child_and_learns_of_its_death() {
    let output = run_example("async_pipe", &[]);
    assert_eq!(last_line(&output), "awaited=100 noticed=1 ok");
    assert!(output.status.success());
}

#[test]
fn the_death_may_come_at_once_or_late() {
    assert_eq!(last_line(&run_example("async_pipe", &["--readings", "1"])), "awaited=1 noticed=1 ok");
    assert_eq!(last_line(&run_example("async_pipe", &["--readings", "1000"])), "awaited=1000 noticed=1 ok");
}

#[test]
fn help_is_help_and_nonsense_is_refused() {
    assert!(run_example("async_pipe", &["--help"]).status.success());
    for nonsense in [&["--readings"][..], &["--readings", "0"], &["--readings", "many"], &["--dance"]] {
        assert_eq!(run_example("async_pipe", nonsense).status.code(), Some(2), "{nonsense:?}");
    }
}
