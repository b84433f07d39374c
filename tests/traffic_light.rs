//! The example `traffic_light`, as a newcomer runs it.

mod common;

use std::io::{BufRead, BufReader, Read};
use std::process::{Output, Stdio};
use std::sync::mpsc;
use std::thread;

use common::{BOUND, example, last_line, run_example};

fn traffic_light(arguments: &[&str]) -> Output {
    run_example("traffic_light", arguments)
}

#[test]
fn with_no_options_eight_cars_pass_on_green_and_two_police_cars_on_red() {
    let output = traffic_light(&[]);

    assert_eq!(last_line(&output), "cars=8 passed_on_red=0 police=2 ok");
    assert!(output.status.success());
}

#[test]
fn each_car_comes_as_often_as_it_is_told_to_and_the_light_switches_meanwhile() {
    let output = traffic_light(&["--cars", "12", "--police", "3", "--laps", "5"]);

    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(last_line(&output), "cars=12 passed_on_red=0 police=3 ok");
    assert_eq!(text.lines().filter(|line| line.contains("passes on green")).count(), 12 * 5);
    assert_eq!(text.lines().filter(|line| line.contains("passes on red")).count(), 3);
    assert!(text.lines().filter(|line| line.starts_with("the light is green")).count() > 1);
    assert!(output.status.success());
}

#[test]
fn when_the_parent_is_killed_all_others_end() {
    let mut parent =
        example("traffic_light").args(["--laps", "20"]).stdout(Stdio::piped()).spawn().expect("the example runs");
    let mut lines = BufReader::new(parent.stdout.take().expect("a pipe"));
    let mut line = String::new();
    while !line.starts_with("car ") {
        line.clear();
        assert!(lines.read_line(&mut line).expect("text") > 0, "it has ended by itself");
    }

    parent.kill().expect("a process to kill");
    parent.wait().expect("its end");

    // The pipe ends when nobody has it any more who could write into it.
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        let mut rest = String::new();
        lines.read_to_string(&mut rest).expect("text");
        tell.send(rest)
    });
    let rest = told.recv_timeout(BOUND).expect("the end of all others");
    assert!(!rest.contains("passed_on_red"));
}

#[test]
fn help_is_help_and_nonsense_is_refused() {
    assert!(traffic_light(&["--help"]).status.success());
    for nonsense in [&["--cars", "0"][..], &["--police", "many"], &["--laps"], &["--drive"]] {
        assert_eq!(traffic_light(nonsense).status.code(), Some(2), "{nonsense:?}");
    }
}
