//! Processes and the ends of those who have started them.

mod common;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use shmkit::process::{
    JoinError, Process, ProcessOptions, SpawnError, Stdio, active_children, is_daemon, parent, parent_id, spawn,
};
use shmkit::transfer::Passed;
use shmkit::wait::Source;
use shmkit::{Deadline, Error, wait_any};

use common::BOUND;

shmkit::process::enable_test_support!();

type Line = Passed<UnixStream>;

/// Lives long, but no longer than its parent: a test that fails leaves nobody behind.
fn sleep_long() {
    parent().expect("a parent").wait_timeout(Duration::from_secs(600)).expect("its end");
}

/// A daemon: says its process id, and does nothing by itself to end with its parent.
fn live(Passed(mut line): Line) {
    line.write_all(&std::process::id().to_ne_bytes()).unwrap();
    thread::sleep(3 * BOUND);
}

/// Two ends: one for the test, one for whoever is to be heard of. The first reads an end of file when nobody has the second any more.
fn line() -> (UnixStream, Line) {
    let (here, there) = UnixStream::pair().unwrap();
    here.set_read_timeout(Some(BOUND)).unwrap();
    (here, Passed(there))
}

fn read_pid(line: &mut UnixStream) -> u32 {
    let mut pid = [0; 4];
    line.read_exact(&mut pid).expect("a process that says who it is");
    u32::from_ne_bytes(pid)
}

/// Waits until nobody has the other end any more; if somebody has, it is `pid`, who is killed then.
#[track_caller]
fn assert_ended(mut line: UnixStream, pid: u32) {
    let mut said = Vec::new();
    if let Err(error) = line.read_to_end(&mut said) {
        common::signal(pid, libc::SIGKILL);
        panic!("{pid} lives on: {error}");
    }
}

#[test]
fn a_daemon_ends_with_its_parent_that_is_killed() {
    fn parent_of_a_daemon(Passed(mut line): Line) {
        let (mut from_daemon, to_parent) = crate::line();
        let held = Passed(line.try_clone().unwrap());
        // The thread that starts it ends when it runs, long before the process.
        let start = || {
            let daemon = ProcessOptions::new().daemon(true).spawn(live_and_hold, (to_parent, held)).unwrap();
            read_pid(&mut from_daemon);
            daemon
        };
        let daemon = thread::scope(|scope| scope.spawn(start).join().unwrap());
        assert!(daemon.is_daemon());
        assert!(matches!(daemon.wait_timeout(Duration::from_millis(50)), Err(JoinError::TimedOut { .. })));
        line.write_all(&daemon.pid().to_ne_bytes()).unwrap();
        sleep_long();
    }
    fn live_and_hold((line, _held): (Line, Line)) {
        live(line);
    }
    let (mut here, there) = line();
    let parent = spawn(parent_of_a_daemon, there).unwrap();
    let daemon = read_pid(&mut here);
    assert_ne!(daemon, parent.pid());

    parent.kill().unwrap();

    assert_ended(here, daemon);
}

#[test]
fn a_daemon_ends_with_its_parent_that_returns() {
    fn parent_of_a_daemon(line: Line) -> u32 {
        ProcessOptions::new().daemon(true).spawn(live, line).unwrap().pid()
    }
    let (here, there) = line();
    let daemon = spawn(parent_of_a_daemon, there).unwrap().join().unwrap();
    assert_ended(here, daemon);
}

#[test]
fn a_daemon_whose_parent_has_ended_before_it_begins_ends_as_well() {
    fn parent_of_a_late_daemon(line: Line) -> u32 {
        let daemon = ProcessOptions::new().daemon(true).spawn(live, line).unwrap().pid();
        // It has only just become this program.
        common::signal(daemon, libc::SIGSTOP);
        common::until_stopped(daemon);
        daemon
    }
    let (here, there) = line();
    let daemon = spawn(parent_of_a_late_daemon, there).unwrap().join().unwrap();
    common::signal(daemon, libc::SIGCONT);
    assert_ended(here, daemon);
}

#[test]
fn a_stopped_daemon_ends_as_well() {
    fn parent_of_a_stopped_daemon(line: Line) -> u32 {
        let (mut here, there) = UnixStream::pair().unwrap();
        let daemon = ProcessOptions::new()
            .daemon(true)
            .spawn(
                |(Passed(mut to_parent), _line): (Line, Line)| {
                    to_parent.write_all(&[1]).unwrap();
                    thread::sleep(3 * BOUND);
                },
                (Passed(there), line),
            )
            .unwrap();
        here.read_exact(&mut [0; 1]).unwrap();
        common::signal(daemon.pid(), libc::SIGSTOP);
        daemon.pid()
    }
    let (here, there) = line();
    let daemon = spawn(parent_of_a_stopped_daemon, there).unwrap().join().unwrap();
    assert_ended(here, daemon);
}

#[test]
fn a_daemon_may_have_no_children() {
    fn try_it(_: ()) -> (bool, String) {
        let child = ProcessOptions::new().name("grandchild").spawn(|_: ()| (), ());
        assert!(matches!(child, Err(SpawnError::Daemon { .. })));
        (is_daemon(), child.unwrap_err().to_string())
    }
    let (is_daemon, error) = ProcessOptions::new().daemon(true).spawn(try_it, ()).unwrap().join().unwrap();
    assert!(is_daemon);
    assert_eq!(error, "process \"grandchild\" cannot be started: this process is a daemon, which may have no children");
}

#[test]
fn daemons_are_joined_like_others() {
    let daemon = ProcessOptions::new().daemon(true).spawn(|number: u32| number + 1, 1).unwrap();
    assert_eq!(daemon.join().unwrap(), 2);
    let daemon = ProcessOptions::new().daemon(true).spawn(|_: ()| sleep_long(), ()).unwrap();
    daemon.terminate().unwrap();
    assert_eq!(daemon.wait_timeout(BOUND).unwrap().to_string(), "-15");
}

#[test]
fn others_outlive_their_parent_and_see_its_death() {
    fn orphan(Passed(mut line): Line) {
        let parent = parent().unwrap();
        assert!(parent.is_alive());
        assert!(!parent.wait_timeout(Duration::from_millis(1)).unwrap());
        line.write_all(&parent.pid().to_ne_bytes()).unwrap();
        parent.wait().unwrap();
        assert!(!parent.is_alive() && parent.wait_timeout(Duration::ZERO).unwrap());
        assert_eq!(parent_id(), Some(parent.pid()));
        line.write_all(b"orphaned").unwrap();
    }
    fn parent_of_an_orphan(line: Line) {
        spawn(orphan, line).unwrap();
        sleep_long();
    }
    let (mut here, there) = line();
    let parent = spawn(parent_of_an_orphan, there).unwrap();
    assert_eq!(read_pid(&mut here), parent.pid());

    parent.kill().unwrap();

    let mut said = String::new();
    here.read_to_string(&mut said).unwrap();
    assert_eq!(said, "orphaned");
}

#[test]
fn a_process_that_is_not_joined_gets_all_of_its_arguments_after_its_parent_has_ended() {
    fn report((Passed(mut line), bytes): (Line, Vec<u8>)) {
        line.write_all(&(bytes.len() as u32).to_ne_bytes()).unwrap();
    }
    fn start_and_end(line: Line) {
        spawn(report, (line, vec![7; 1_000_000])).unwrap();
    }
    let (mut here, there) = line();
    spawn(start_and_end, there).unwrap().join().unwrap();
    assert_eq!(read_pid(&mut here), 1_000_000);
}

#[test]
fn a_forked_child_leaves_the_children_of_its_parent_alone() {
    fn fork_with_a_child(_: ()) -> (i32, bool) {
        let mut process: Process<()> = spawn(|_: ()| sleep_long(), ()).unwrap();
        let forked = common::fork(|| {
            assert!(process.is_alive());
            assert!(matches!(process.exit_status(), Err(JoinError::Forked { .. })));
            assert!(matches!(process.wait_timeout(Duration::ZERO), Err(JoinError::Forked { .. })));
            let waited = wait_any(&mut [&mut process as &mut dyn Source], Deadline::after(Duration::ZERO));
            assert!(matches!(waited, Err(Error::Forked)), "{waited:?}");
            assert!(process.kill().is_err() && process.terminate().is_err());
            assert!(active_children().is_empty());
            // It may have children of its own.
            assert_eq!(spawn(|_: ()| 3, ()).unwrap().join().unwrap(), 3);
        });
        let status = forked.reap();
        process.kill().unwrap();
        (status, process.wait().unwrap().signal() == Some(libc::SIGKILL))
    }
    assert_eq!(spawn(fork_with_a_child, ()).unwrap().join().unwrap(), (0, true));
}

#[test]
fn a_function_that_forks_returns_once_where_it_was_called() {
    fn fork_here(panics: bool) -> i32 {
        // The child would be the first one to answer.
        common::fork_in_two().map_or_else(|| if panics { panic!("in the child") } else { -1 }, |child| child.reap())
    }
    assert_eq!(spawn(fork_here, false).unwrap().join().unwrap(), 0);
    assert_eq!(spawn(fork_here, true).unwrap().join().unwrap(), 101 << 8);
}

#[test]
fn whoever_is_reaped_by_others_is_lost_and_not_waited_for() {
    fn wait_for_anybody(_: ()) -> bool {
        // SAFETY: no memory is involved.
        unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
        // It must not be reaped before `spawn` has come to its end.
        let process = ProcessOptions::new().name("lost").spawn::<_, ()>(|_: ()| common::sleep_for_ever(), ()).unwrap();
        process.kill().unwrap();
        matches!(process.join(), Err(JoinError::Lost { name }) if name == "lost")
    }
    assert!(spawn(wait_for_anybody, ()).unwrap().join().unwrap());
}

#[test]
fn a_process_that_is_killed_after_its_function_has_returned_gives_no_value() {
    fn die_at_exit(_: ()) -> u32 {
        extern "C" fn die() {
            common::signal(std::process::id(), libc::SIGKILL);
        }
        // SAFETY: the function stays valid.
        unsafe { libc::atexit(die) };
        1
    }
    match ProcessOptions::new().stderr(Stdio::null()).spawn(die_at_exit, ()).unwrap().join() {
        Err(JoinError::Ended { status, .. }) => assert_eq!(status.signal(), Some(libc::SIGKILL)),
        joined => panic!("{joined:?}"),
    }
}
