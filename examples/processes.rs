//! Processes: starting, naming and joining them, how they end, a daemon, and that none of them stays behind as a zombie.

use std::fs;
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use shmkit::process::{self, Child, JoinError, Process, ProcessOptions, Stdio, spawn};
use shmkit::transfer::Passed;

type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

const USAGE: &str = "\
Processes: starting, naming and joining them, how they end, a daemon, and that no zombie is left.

Usage: cargo run --release --example processes -- [OPTIONS]

  --help        this text

The last line sums up. The exit code is 0 if all went as it should; 1 if not; 2 for a wrong call.";

/// Longer than anything here takes: a hang is a failure.
const BOUND: Duration = Duration::from_secs(20);

fn main() -> ExitCode {
    // In a child, this runs its function and ends it.
    process::init();
    match std::env::args().nth(1).as_deref() {
        None => {}
        Some("--help" | "-h") => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Some(other) => {
            eprintln!("unknown option {other}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    }
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("processes: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let joined = values()?;
    let ends = ends()?;
    let panicked = panic()?;
    daemon()?;
    let zombies = nobody_joins()?;
    println!("joined={joined} ends={ends} panicked={panicked} daemon=gone zombies={zombies} ok");
    Ok(())
}

/// Three processes, each with a name, whose functions return something.
fn values() -> Result<usize> {
    fn square(number: u64) -> u64 {
        println!("{} (pid {}) squares {number}", process::current_name(), std::process::id());
        number * number
    }
    let start = |number| ProcessOptions::new().name(format!("worker-{number}")).spawn(square, number);
    let workers = (1..=3).map(start).collect::<Result<Vec<Process<u64>>, _>>()?;
    let squares = workers.into_iter().map(Process::join).collect::<Result<Vec<_>, _>>()?;
    expect(squares == [1, 4, 9], "the squares")?;
    Ok(squares.len())
}

/// The ways in which a process ends without a value.
fn ends() -> Result<String> {
    fn sleep(_: ()) {
        thread::sleep(Duration::from_secs(60));
    }
    fn exit(code: i32) {
        std::process::exit(code)
    }
    let exiting = spawn(exit, 3)?;
    let (killed, terminated) = (spawn(sleep, ())?, spawn(sleep, ())?);
    expect(killed.is_alive() && terminated.is_alive(), "those who sleep")?;
    killed.kill()?;
    terminated.terminate()?;
    let children: [&Child; 3] = [&exiting, &killed, &terminated];
    let mut ends = Vec::new();
    for child in children {
        let status = child.wait_timeout(BOUND)?;
        println!("{} (pid {}) ends with {status}", child.name(), child.pid());
        ends.push(status.to_string());
    }
    expect(ends == ["3", "-9", "-15"], "the ways to end")?;
    Ok(ends.join(","))
}

fn panic() -> Result<u32> {
    fn give_up(reason: String) {
        panic!("I give up: {reason}")
    }
    match ProcessOptions::new().stderr(Stdio::null()).spawn(give_up, "no more paper".to_owned())?.join() {
        Err(JoinError::Panicked { name, message }) => {
            println!("{name} says {message:?}");
            expect(message == "I give up: no more paper", "what the panic said")?;
            Ok(1)
        }
        joined => Err(format!("a panic, and not {joined:?}").into()),
    }
}

/// A daemon ends with the process that has started it.
fn daemon() -> Result<()> {
    fn daemon(_held: Passed<UnixStream>) {
        thread::sleep(Duration::from_secs(60));
    }
    fn parent(held: Passed<UnixStream>) -> bool {
        let daemon = ProcessOptions::new().name("daemon").daemon(true).spawn(daemon, held);
        daemon.is_ok_and(|daemon| daemon.is_alive())
    }
    // Whoever has the other end of it: when the daemon has ended, there is nobody.
    let (mut line, held) = UnixStream::pair()?;
    line.set_read_timeout(Some(BOUND))?;
    expect(spawn(parent, Passed(held))?.join()?, "a daemon that lives")?;
    expect(line.read(&mut [0])? == 0, "a daemon that has ended")?;
    println!("the daemon has ended with its parent");
    Ok(())
}

/// Processes that nobody waits for leave nothing behind.
fn nobody_joins() -> Result<usize> {
    for _ in 0..20 {
        drop(spawn(|_: ()| (), ())?);
    }
    let end = Instant::now() + BOUND;
    let mut zombies = children()?;
    while zombies > 0 && Instant::now() < end {
        thread::sleep(Duration::from_millis(1));
        zombies = children()?;
    }
    expect(zombies == 0 && process::active_children().is_empty(), "no child that is left")?;
    Ok(zombies)
}

/// How many entries of the process table are children of this process, zombies or not.
fn children() -> Result<usize> {
    let mut count = 0;
    for entry in fs::read_dir("/proc")? {
        // One that is gone meanwhile is no child any more.
        let status = fs::read_to_string(entry?.path().join("status")).unwrap_or_default();
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap_or_default();
        count += usize::from(parent.trim() == std::process::id().to_string());
    }
    Ok(count)
}

fn expect(is_so: bool, what: &str) -> Result<()> {
    if is_so { Ok(()) } else { Err(format!("this was expected: {what}").into()) }
}
