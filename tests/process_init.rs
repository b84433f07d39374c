//! Programs that do not call `init`, or not where they should, or may not be told what to run. Each is this one, whose `main` is no harness's, in another role.

use std::env;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};

use shmkit::process::{JoinError, ProcessOptions, SpawnError, init, spawn};

/// Which program this is to be.
const ROLE: &str = "SHMKIT_TEST_PROGRAM";

/// Which program `becoming_another` becomes.
const OTHER: &str = "SHMKIT_TEST_OTHER";

/// A user without rights.
const NOBODY: u32 = 65534;

fn main() {
    match env::var(ROLE).as_deref() {
        Ok("without") => without(),
        Ok("only_in_the_parent") => only_in_the_parent(),
        Ok("late") => late(),
        Ok("garbage") => init(),
        Ok("becoming_another") => becoming_another(),
        Ok("telling_its_rights") => println!("{:?} {}", rights(()), is_more_than_its_user()),
        Ok(other) => panic!("no such program: {other}"),
        Err(_) => {
            init();
            test();
        }
    }
}

/// Does not call `init`.
fn without() {
    let error = ProcessOptions::new().name("worker").spawn(|_: ()| (), ()).unwrap_err();
    assert!(matches!(error, SpawnError::NotInitialised { .. }));
    println!("{error}");
}

/// Does not call it in its child, which therefore is a second program, and not the last of many.
fn only_in_the_parent() {
    let is_child = env::var_os("SHMKIT_PROCESS").is_some();
    if !is_child {
        init();
    }
    match spawn(|_: ()| 1, ()) {
        Ok(process) => println!("{}", process.join().unwrap_err()),
        Err(error) => println!("child: {error}"),
    }
}

/// Does something before, which each child does, too.
fn late() {
    println!("before");
    init();
    let lines = spawn(|_: ()| println!("within"), ()).unwrap();
    lines.join().unwrap();
    println!("after");
}

/// Is started by the library, and becomes another program, as somebody who has its descriptors and its environment.
fn becoming_another() {
    let other = env::var_os(OTHER).unwrap();
    let error = Command::new(other).env(ROLE, "garbage").uid(NOBODY).gid(NOBODY).exec();
    panic!("{error}");
}

/// The group of who has started this process, and that whose rights it has.
fn rights(_: ()) -> (u32, u32) {
    // SAFETY: no memory is involved.
    unsafe { (libc::getgid(), libc::getegid()) }
}

/// Whether the kernel has given this process rights that whoever has started it does not have.
fn is_more_than_its_user() -> bool {
    // SAFETY: no memory is involved.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

/// A program that has the rights of its group (setgid) runs nothing that it is told by whoever starts it.
fn test_with_rights_of_its_own(program: &Path) {
    fs::copy(env::current_exe().unwrap(), program).unwrap();
    fs::set_permissions(program, Permissions::from_mode(0o2755)).unwrap();
    let told = Command::new(program).env(ROLE, "telling_its_rights").uid(NOBODY).gid(NOBODY).output();
    let has_rights = told.is_ok_and(|told| said(&told) == format!("({NOBODY}, 0) true\n"));
    if !has_rights {
        println!("process_init: not tested with setgid, which takes root and a folder without nosuid");
        return;
    }
    let mut options = ProcessOptions::new();
    options.env(ROLE, "becoming_another").env(OTHER, program);
    let run = options.spawn(rights, ()).unwrap().join();
    assert!(matches!(run, Err(JoinError::Ended { status, .. }) if status.code() == Some(101)), "{run:?}");
}

fn test() {
    let program = env::temp_dir().join(format!("shmkit-setgid-{}", std::process::id()));
    let tested = std::panic::catch_unwind(|| test_with_rights_of_its_own(&program));
    fs::remove_file(&program).unwrap();
    assert!(tested.is_ok());

    let output = run("without", None);
    assert!(output.status.success());
    assert!(
        said(&output)
            .starts_with("process \"worker\" cannot be started: call shmkit::process::init() at the top of main")
    );

    let output = run("only_in_the_parent", None);
    assert!(output.status.success());
    let said_by_both = said(&output);
    let [child, parent] = said_by_both.lines().collect::<Vec<_>>()[..] else { panic!("{said_by_both}") };
    assert!(
        child.starts_with("child: process \"process-1\" cannot be started: call shmkit::process::init()"),
        "{child}"
    );
    assert_eq!(parent, "process \"process-1\" has exited with code 0 before its function returned");

    let output = run("late", None);
    assert_eq!(said(&output), "before\nbefore\nwithin\nafter\n");

    // A variable that is not for this process starts nothing, and takes nothing away.
    let (me, other) = (std::process::id(), u32::MAX);
    for garbage in ["", "x", "-1", "0", "1 2", "a b c", &format!("0 1 {me}"), &format!("9999 1 {me}")] {
        let output = run("garbage", Some(garbage));
        assert_eq!(output.status.code(), Some(101), "{garbage:?}");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(
            error.starts_with("shmkit: a process was started by the variable SHMKIT_PROCESS, but cannot begin"),
            "{error}"
        );
    }
    // One that was for the process's parent is left alone.
    for inherited in [format!("0 1 {other}"), format!("9999 1 {other}")] {
        assert!(run("garbage", Some(&inherited)).status.success());
    }
    let grandchild = |_: ()| run("late", None).status.success();
    assert!(spawn(grandchild, ()).unwrap().join().unwrap());

    // Without a harness, the arguments of a child are those of its parent.
    let arguments = spawn(|_: ()| env::args().collect::<Vec<_>>(), ()).unwrap().join().unwrap();
    assert_eq!(arguments, env::args().collect::<Vec<_>>());
    // A process that is asked for nothing has nothing besides.
    let threads = |_: ()| std::fs::read_dir("/proc/self/task").unwrap().count();
    assert_eq!(spawn(threads, ()).unwrap().join().unwrap(), 1);
    let shown = |_: ()| std::fs::read_to_string("/proc/self/comm").unwrap();
    assert_eq!(spawn(shown, ()).unwrap().join().unwrap(), shown(()));
    assert_eq!(ProcessOptions::new().name("shown by ps").spawn(shown, ()).unwrap().join().unwrap(), "shown by ps\n");
    let ended = spawn(|_: ()| std::process::exit(7), ()).unwrap().join();
    let ended: Result<(), JoinError> = ended;
    assert!(matches!(ended, Err(JoinError::Ended { status, .. }) if status.code() == Some(7)), "{ended:?}");
    println!("process_init: ok");
}

fn run(role: &str, variable: Option<&str>) -> Output {
    let mut command = Command::new(env::current_exe().unwrap());
    command.env(ROLE, role);
    if let Some(variable) = variable {
        command.env("SHMKIT_PROCESS", variable);
    }
    command.output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}
