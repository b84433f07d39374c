//! Processes that run a function: values, ends, options.

mod common;

use std::fs;
use std::io::{Read, Seek};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use shmkit::process::{
    JoinError, Process, ProcessOptions, SpawnError, Stdio, Task, active_children, current_name, is_daemon, parent,
    parent_id, spawn, spawn_task,
};
use shmkit::wait::Source;
use shmkit::{Deadline, Event, wait_any};

use common::gate::{gate, open, pass, until_come};
use common::{BOUND, until};

shmkit::process::enable_test_support!();

/// Lives long, but no longer than its parent: a test that fails leaves nobody behind.
fn sleep_long(_: ()) {
    parent().unwrap().wait_timeout(Duration::from_secs(600)).unwrap();
}

fn exit_with(code: i32) {
    std::process::exit(code)
}

fn raise(signal: i32) {
    common::signal(std::process::id(), signal);
    thread::sleep(BOUND);
}

/// What the process table says of a process: its state, or that it is not there.
fn state(pid: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(") ").next()?.chars().next()
}

#[test]
fn the_value_of_a_function_comes_back() {
    let process = spawn(|(a, b): (u32, String)| format!("{b}{a}"), (7, "seven ".to_owned())).unwrap();
    assert_eq!(process.join().unwrap(), "seven 7");
}

#[test]
fn a_task_keeps_its_state() {
    #[derive(Serialize, Deserialize)]
    struct Sum {
        numbers: Vec<u64>,
    }
    impl Task for Sum {
        type Output = u64;
        fn run(self) -> u64 {
            self.numbers.into_iter().sum()
        }
    }

    let process = spawn_task(Sum { numbers: (1..=100).collect() }).unwrap();
    assert_eq!(process.join().unwrap(), 5050);
}

#[test]
fn arguments_and_values_may_be_large() {
    let large: Vec<u8> = (0..10_000_000_u32).map(|i| (i % 251) as u8).collect();
    let process = spawn(
        |mut bytes: Vec<u8>| {
            bytes.reverse();
            bytes
        },
        large.clone(),
    )
    .unwrap();
    let mut back = process.join().unwrap();
    back.reverse();
    assert!(back == large);
}

#[test]
fn exit_codes_and_signals_are_told_apart() {
    for code in [0, 1, 3, 255] {
        match spawn(exit_with, code).unwrap().join() {
            Err(JoinError::Ended { status, .. }) => {
                assert_eq!((status.code(), status.signal()), (Some(code), None));
                assert_eq!(status.to_string(), code.to_string());
            }
            joined => panic!("{joined:?}"),
        }
    }
    for signal in [libc::SIGKILL, libc::SIGTERM, libc::SIGABRT, libc::SIGRTMIN() + 1] {
        let process = ProcessOptions::new().name("raiser").spawn(raise, signal).unwrap();
        match process.join() {
            Err(error @ JoinError::Ended { status, .. }) => {
                assert_eq!((status.code(), status.signal()), (None, Some(signal)));
                assert_eq!(status.to_string(), format!("-{signal}"));
                assert_eq!(error.to_string(), format!("process \"raiser\" was ended by signal {signal}"));
            }
            joined => panic!("{joined:?}"),
        }
    }
}

#[test]
fn a_panic_is_an_error_with_its_message() {
    fn divide((a, b): (u32, u32)) -> u32 {
        assert!(b != 0, "{a} / {b}");
        a / b
    }
    let process = ProcessOptions::new().name("divider").stderr(Stdio::null()).spawn(divide, (7, 0)).unwrap();
    let error = process.join().unwrap_err();
    assert_eq!(error.to_string(), "process \"divider\" has panicked: 7 / 0");
}

/// What is thrown may be of any type.
#[test]
fn a_panic_whose_cause_panics_when_it_is_dropped_is_an_error_like_others() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("it was thrown away");
        }
    }
    let error = spawn(|()| -> () { std::panic::panic_any(Bomb) }, ()).unwrap().join().expect_err("a panic");
    assert!(matches!(error, JoinError::Panicked { .. }), "{error}");
}

#[test]
fn a_process_that_is_told_to_stay_is_alive_until_it_is_terminated() {
    let mut process = spawn(sleep_long, ()).unwrap();
    assert!(process.is_alive());
    assert_eq!(process.exit_status().unwrap(), None);
    assert!(matches!(process.join_timeout(Duration::ZERO), Err(JoinError::TimedOut { .. })));
    assert!(matches!(process.join_timeout(Duration::from_millis(20)), Err(JoinError::TimedOut { .. })));

    process.terminate().unwrap();
    assert_eq!(process.wait_timeout(BOUND).unwrap().signal(), Some(libc::SIGTERM));
    assert!(!process.is_alive());
    assert_eq!(process.exit_status().unwrap().unwrap().to_string(), "-15");
    // Neither harms anybody else.
    process.terminate().unwrap();
    process.kill().unwrap();
}

#[test]
fn a_child_of_one_that_ignores_signals_can_be_terminated() {
    fn ignore_and_terminate(_: ()) -> Option<i32> {
        // SAFETY: no handler is involved.
        unsafe { libc::signal(libc::SIGTERM, libc::SIG_IGN) };
        let child = ProcessOptions::new().daemon(true).spawn(sleep_long, ()).unwrap();
        child.terminate().unwrap();
        child.wait_timeout(BOUND).unwrap().signal()
    }
    assert_eq!(spawn(ignore_and_terminate, ()).unwrap().join().unwrap(), Some(libc::SIGTERM));
}

#[test]
fn a_value_is_taken_once() {
    let mut process = spawn(|_: ()| 5, ()).unwrap();
    assert_eq!(process.join_timeout(BOUND).unwrap(), 5);
    assert!(matches!(process.join_timeout(BOUND), Err(JoinError::Taken { .. })));
    assert_eq!(process.wait().unwrap().code(), Some(0));
}

#[test]
fn of_those_that_are_terminated_or_killed_right_after_their_start_none_is_lost() {
    let processes: Vec<Process<()>> = (0..100).map(|_| spawn(sleep_long, ()).unwrap()).collect();
    for (number, process) in processes.iter().enumerate() {
        if number % 2 == 0 { process.kill() } else { process.terminate() }.unwrap();
    }
    for (number, mut process) in processes.into_iter().enumerate() {
        let expected = if number % 2 == 0 { libc::SIGKILL } else { libc::SIGTERM };
        match process.join_timeout(BOUND) {
            Err(JoinError::Ended { status, .. }) => assert_eq!(status.signal(), Some(expected)),
            joined => panic!("{joined:?}"),
        }
    }
}

#[test]
fn whoever_is_not_joined_is_reaped() {
    let pids: Vec<u32> = (0..10).map(|_| spawn(|_: ()| (), ()).unwrap().pid()).collect();
    for pid in pids {
        until("a child is gone from the process table", || state(pid).is_none());
    }
    let process = spawn(exit_with, 4).unwrap();
    until("a child is gone from the process table", || state(process.pid()).is_none());
    assert_eq!(process.wait().unwrap().code(), Some(4));
}

#[test]
fn children_of_others_are_theirs_to_wait_for() {
    let mut stranger = std::process::Command::new("true").spawn().unwrap();
    for _ in 0..3 {
        spawn(|_: ()| (), ()).unwrap().join().unwrap();
    }
    until("it has ended", || state(stranger.id()) == Some('Z'));
    assert!(stranger.wait().unwrap().success());
}

#[test]
fn the_active_ones_are_listed() {
    // In a process of its own: other tests have children, too.
    fn list(_: ()) -> (Vec<String>, Vec<String>, bool) {
        let names = || active_children().iter().map(|child| child.name().to_owned()).collect::<Vec<_>>();
        let start = |name: &str| ProcessOptions::new().name(name).spawn(sleep_long, ()).unwrap();
        let (first, second) = (start("first"), start("second"));
        let both = names();
        assert_eq!(active_children()[1].pid(), second.pid());
        first.kill().unwrap();
        first.wait().unwrap();
        let one = names();
        active_children().iter().for_each(|child| child.kill().unwrap());
        second.wait().unwrap();
        (both, one, active_children().is_empty())
    }
    let (both, one, none) = spawn(list, ()).unwrap().join().unwrap();
    assert_eq!(both, ["first", "second"]);
    assert_eq!(one, ["second"]);
    assert!(none);
}

#[test]
fn a_process_knows_its_name_and_its_parent() {
    let look = |_: ()| (current_name().to_owned(), parent_id(), std::process::id(), is_daemon());
    let process = ProcessOptions::new().name("known").spawn(look, ()).unwrap();
    let pid = process.pid();
    assert_eq!(process.name(), "known");
    assert_eq!(process.join().unwrap(), ("known".to_owned(), Some(std::process::id()), pid, false));
    assert_eq!((current_name(), parent_id()), ("main", None));
    let names = [spawn(look, ()).unwrap(), spawn(look, ()).unwrap()].map(|process| process.join().unwrap().0);
    assert!(names[0] != names[1] && names.iter().all(|name| name.starts_with("process-")), "{names:?}");
}

#[test]
fn processes_start_processes() {
    fn factorial(n: u64) -> u64 {
        if n == 0 { 1 } else { n * spawn(factorial, n - 1).unwrap().join().unwrap() }
    }
    assert_eq!(spawn(factorial, 5).unwrap().join().unwrap(), 120);
}

#[test]
fn streams_environment_and_directory_are_as_asked_for() {
    let variable = |name: &str| std::env::var(name).ok();
    let look = |names: Vec<String>| {
        let mut input = String::new();
        std::io::stdin().read_to_string(&mut input).unwrap();
        println!("out {input}");
        eprintln!("err");
        let values: Vec<_> = names.iter().map(|name| std::env::var(name).ok()).collect();
        (values, std::env::current_dir().unwrap())
    };
    let names = vec!["SHMKIT_TEST_SET".to_owned(), "PATH".to_owned(), "SHMKIT_PROCESS".to_owned()];
    let [mut stdin, mut stdout, mut stderr] = [(); 3].map(|()| common::memory_file());
    std::io::Write::write_all(&mut stdin, b"hello").unwrap();
    stdin.rewind().unwrap();
    let run = |options: &mut ProcessOptions| options.spawn(look, names.clone()).unwrap().join().unwrap();

    let mut options = ProcessOptions::new();
    options
        .stdin(stdin.try_clone().unwrap())
        .stdout(stdout.try_clone().unwrap())
        .stderr(stderr.try_clone().unwrap())
        .env("SHMKIT_TEST_SET", "yes")
        .current_dir("/proc");
    let (values, directory) = run(&mut options);
    assert_eq!(values, [Some("yes".to_owned()), variable("PATH"), None]);
    assert_eq!(directory.to_str(), Some("/proc"));
    let written = |file: &mut fs::File| {
        let mut text = String::new();
        file.rewind().unwrap();
        file.read_to_string(&mut text).unwrap();
        text
    };
    assert_eq!(written(&mut stdout), "out hello\n");
    assert_eq!(written(&mut stderr), "err\n");

    let mut options = ProcessOptions::new();
    options.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).env_remove("PATH");
    assert_eq!(run(&mut options).0, [None, None, None]);
    options.env_clear().env("SHMKIT_TEST_SET", "1");
    assert_eq!(run(&mut options).0, [Some("1".to_owned()), None, None]);

    let nowhere = ProcessOptions::new().name("lost").current_dir("/proc/none").spawn(|_: ()| (), ());
    assert!(matches!(&nowhere, Err(SpawnError::Io { name, .. }) if name == "lost"), "{nowhere:?}");
}

#[test]
fn a_process_is_one_of_several_things_to_wait_for() {
    let stop = Event::new();
    let gate = gate();
    let (mut long, mut short) = (spawn(sleep_long, ()).unwrap(), spawn(pass, gate.clone()).unwrap());
    let mut until_stop = stop.until_set();
    let mut sources: [&mut dyn Source; 3] = [&mut until_stop, &mut long, &mut short];
    let (pid, waiter) = (std::process::id(), common::thread_id());
    thread::scope(|scope| {
        // It ends when its parent sleeps.
        scope.spawn(|| {
            until_come(&gate, 1);
            common::until_in_futex(pid, waiter);
            open(&gate);
        });
        let start = Instant::now();
        assert_eq!(wait_any(&mut sources, Deadline::after(BOUND)).unwrap(), Some(2));
        assert!(start.elapsed() < BOUND, "it was found by the last look only");
    });
    assert_eq!(wait_any(&mut sources[..2], Deadline::after(Duration::from_millis(10))).unwrap(), None);
    stop.set();
    assert_eq!(wait_any(&mut sources, Deadline::after(BOUND)).unwrap(), Some(0));
    assert_eq!(short.pid(), short.join().unwrap());

    long.kill().unwrap();
    assert_eq!(wait_any(&mut [&mut long], Deadline::after(BOUND)).unwrap(), Some(0));
    assert_eq!(long.wait().unwrap().to_string(), "-9");
}

#[test]
fn the_descriptor_of_a_process_tells_of_its_end() {
    let process = spawn(sleep_long, ()).unwrap();
    assert!(!common::is_readable(&*process, Duration::ZERO));
    process.kill().unwrap();
    assert!(common::is_readable(&*process, BOUND));
}

#[test]
fn what_cannot_be_sent_is_an_error_with_the_name_of_the_process() {
    #[derive(Serialize, Deserialize)]
    struct Picky(u8);
    fn refuse<S: serde::Serializer>(_: &u8, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("not today"))
    }
    #[derive(Serialize, Deserialize, Debug)]
    struct Never(#[serde(serialize_with = "refuse")] u8);

    let error = ProcessOptions::new().name("picky").spawn(|_: Never| (), Never(1)).unwrap_err();
    assert!(matches!(&error, SpawnError::Args { name, .. } if name == "picky"), "{error}");
    let process = ProcessOptions::new().name("giver").spawn(|Picky(value)| Never(value), Picky(1)).unwrap();
    let error = process.join().unwrap_err();
    assert!(matches!(&error, JoinError::Value { name, .. } if name == "giver"), "{error}");
}

#[test]
fn a_function_of_a_library_is_refused() {
    // SAFETY: it is not called.
    let foreign = unsafe { std::mem::transmute::<*const (), fn(u32) -> u32>(libc::getpid as *const ()) };
    assert!(matches!(spawn(foreign, 1), Err(SpawnError::NotInProgram { .. })));
}
