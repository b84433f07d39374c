//! Processes as other participants of a region know them.

mod common;

use std::env;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use common::{Child, Parent, Stage, roles};

roles!(reborn);

/// Takes part, and when it is told to begins anew, as the same process.
fn reborn(parent: &mut Parent) {
    let _stage = Stage::open(parent.argument(0));
    parent.say("here");
    parent.expect("exec");
    parent.say("gone");
    let error = Command::new(env::current_exe().expect("the test binary")).args(env::args_os().skip(1)).exec();
    panic!("exec: {error}");
}

#[test]
fn a_process_that_has_come_back_by_exec_is_not_taken_for_the_one_that_it_was() {
    let stage = Stage::create();
    let mut process = Child::spawn("reborn", &[stage.name()]);
    process.expect("here");
    let before = stage.region.peer(process.pid()).expect("a participant");

    process.tell("exec");
    process.expect("gone");
    process.tell(["reborn", stage.name()].join(" "));
    let _thread = process.hear();
    process.expect("here");

    let now = stage.region.peer(process.pid()).expect("a participant");
    assert!(!now.wait_timeout(Duration::ZERO).expect("a token"), "it is there");
    assert!(before.wait_timeout(common::BOUND).expect("a token"), "that one is gone");
}
