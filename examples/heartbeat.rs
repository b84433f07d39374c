//! A heartbeat: a daemon reports that its parent is alive, and ends with it.
//!
//! This process watches a worker. The worker starts a daemon, which reports over a pipe; that the reports come to an end, is how this process
//! learns of the worker's death, although nobody else has told it. The pipe's end goes from here to the worker, and from there to the daemon.

use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use shmkit::process::{self, ProcessOptions};
use shmkit::{ChannelOptions, Receiver, RecvError, Sender, Ticket};

type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

const USAGE: &str = "\
A heartbeat: a daemon reports that its parent is alive, and ends with it, when that is killed.

Usage: cargo run --release --example heartbeat -- [OPTIONS]

  --beats N     reports to wait for before the parent is killed (1 to 1000; default 10)
  --help        this text

The last line sums up. The exit code is 0 if the reports came, and ended; 1 if not; 2 for a wrong call.";

/// From one report to the next.
const PAUSE: Duration = Duration::from_millis(20);
/// Longer than anything here takes: a hang is a failure.
const BOUND: Duration = Duration::from_secs(20);

fn main() -> ExitCode {
    // In a child, this runs its function and ends it.
    process::init();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let beats = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => Some(10),
        ["--beats", number] => number.parse().ok().filter(|beats| (1..=1000).contains(beats)),
        ["--help" | "-h"] => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        _ => None,
    };
    let Some(beats) = beats else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    match watch(beats) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("heartbeat: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Waits for so many reports, kills the worker, and waits for the end of the reports.
fn watch(beats: u64) -> Result<()> {
    let (mut reports, ticket): (Receiver<u64>, _) = ChannelOptions::new().pair()?;
    let worker = ProcessOptions::new().name("worker").spawn(work, ticket)?;
    println!("the worker is {}", worker.pid());
    for beat in 1..=beats {
        let pid = reports.recv_timeout(BOUND)?;
        println!("beat {beat}: {pid} is alive");
        if pid != u64::from(worker.pid()) {
            return Err("a report about somebody else".into());
        }
    }
    worker.kill()?;
    let end = loop {
        match reports.recv_timeout(BOUND) {
            // It was on its way.
            Ok(_) => {}
            Err(RecvError::Disconnected) => break "gone",
            Err(error) => return Err(error.into()),
        }
    };
    println!("beats={beats} worker={} daemon={end} ok", worker.wait_timeout(BOUND)?);
    Ok(())
}

/// The worker, which knows nothing of who watches it.
fn work(ticket: Ticket<Sender<u64>>) {
    let _heart = ProcessOptions::new().name("heart").daemon(true).spawn(beat, ticket).expect("a daemon");
    thread::sleep(3 * BOUND);
}

/// The daemon.
fn beat(ticket: Ticket<Sender<u64>>) {
    let mut reports = ticket.take().expect("the end of the pipe that was given to this process");
    let parent = process::parent().expect("a process that has started this one");
    while parent.is_alive() && reports.send(u64::from(parent.pid())).is_ok() {
        thread::sleep(PAUSE);
    }
}
