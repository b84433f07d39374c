//! What processes have in common, and what not: a global that a child changes is as it was here, the same value in a region is not; and a child
//! outlives its parent.

use std::process::ExitCode;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use shmkit::process::{self, ProcessOptions, spawn};
use shmkit::{Queue, QueueOptions, Region, Shm};

type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

const USAGE: &str = "\
What processes have in common, and what not: globals, values in a region, and their lives.

Usage: cargo run --release --example isolation -- [OPTIONS]

  --help        this text

The last line sums up. The exit code is 0 if all is as it should be; 1 if not; 2 for a wrong call.";

/// Longer than anything here takes: a hang is a failure.
const BOUND: Duration = Duration::from_secs(20);

/// Each process has its own.
static GLOBAL: AtomicU64 = AtomicU64::new(1);

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
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("isolation: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<bool> {
    let region = Region::anonymous(4096)?;
    let shared = region.insert("shared", AtomicU64::new(1))?;
    let in_child = spawn(change, shared.clone())?.join()?;
    let (global, shared) = (GLOBAL.load(SeqCst), shared.load(SeqCst));
    println!(
        "the child has changed both to {in_child}; here the global is {global}, and the value in the region {shared}"
    );

    let news = QueueOptions::new().anonymous::<u64>()?;
    let parent = ProcessOptions::new().name("parent").spawn(have_a_child, news.clone())?;
    let child = news.recv_timeout(BOUND)?;
    parent.kill()?;
    println!("{} has a child {child}, and ends with {}", parent.name(), parent.wait_timeout(BOUND)?);
    let orphan = news.recv_timeout(BOUND)?;
    println!("{orphan} is there without its parent");

    let is_right = (in_child, global, shared) == (2, 1, 2) && orphan == child;
    println!("global={global} region={shared} orphan=alive {}", if is_right { "ok" } else { "wrong" });
    Ok(is_right)
}

/// Changes the global and the value in the region.
fn change(shared: Shm<AtomicU64>) -> u64 {
    shared.fetch_add(1, SeqCst);
    GLOBAL.fetch_add(1, SeqCst) + 1
}

/// A process with a child, which is killed.
fn have_a_child(news: Queue<u64>) {
    let _child = ProcessOptions::new().name("child").spawn(outlive, news).expect("a process");
    std::thread::sleep(3 * BOUND);
}

/// A process that outlives its parent, and says so.
fn outlive(news: Queue<u64>) {
    let own = u64::from(std::process::id());
    news.send(own).expect("somebody who is to know");
    process::parent().expect("a parent").wait().expect("its end");
    news.send(own).expect("somebody who is to know");
}
