//! Adding up in a shared array: many processes add to the same numbers, in three ways.
//!
//! The parent creates a region and starts the processes, which are this same program again. Each adds one, again and again, to
//! the elements in turn: to those of an array under a lock, to those of an array with `fetch_add`, and to those of an array by
//! reading and writing, with nothing that keeps others from doing so in between. The first two sums are exact. The third one is
//! not: what was added between another one's look and its write is lost.

use std::os::fd::AsFd;
use std::os::unix::process::parent_id;
use std::process::{Child, Command, ExitCode};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed, Ordering::SeqCst};
use std::time::{Duration, Instant};

use shmkit::{Array, Mutex, Region, SharedArray, Shm, ShmSafe};

type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

const USAGE: &str = "\
Processes add to the elements of shared arrays: under a lock, with fetch_add, and with neither.

Usage: cargo run --release --example shared_array -- [OPTIONS]

  --processes N   processes that add (2 to 100; default 20)
  --additions N   how often each adds, in each way (1 to 1000000; default 10000)
  --help          this text

The last line sums up. The exit code is 0 if the sums under the lock and with fetch_add are exact, and the one with neither
is not; 1 if not so; 2 for a wrong call.";

const MAX_PROCESSES: u32 = 100;
const MAX_ADDITIONS: u32 = 1_000_000;

/// The elements of each array.
const LEN: usize = 8;
/// Longer than anything here takes: a hang is a failure.
const BOUND: Duration = Duration::from_secs(120);
/// How often to look at the shared state.
const TICK: Duration = Duration::from_micros(500);

/// Set in the environment of a process that adds: how often.
const ADDITIONS: &str = "SHARED_ARRAY_ADDITIONS";
/// Set in the environment of a process that the parent starts: who that is. Asked later, it may be another one already.
const PARENT: &str = "SHARED_ARRAY_PARENT";

/// What the processes tell one another.
#[repr(C)]
#[derive(ShmSafe)]
struct Desk {
    /// How many processes there will be.
    processes: AtomicU32,
    /// How many have come to each of the meeting points.
    met: Array<u32, 2>,
}

/// All that lies in the region.
struct Shared {
    desk: Shm<Desk>,
    locked: Shm<Mutex<[u64; LEN]>>,
    atomic: SharedArray<u64>,
    unguarded: SharedArray<u64>,
}

impl Shared {
    fn create(region: &Region, processes: u32) -> Result<Self> {
        Ok(Self {
            desk: region.insert("desk", Desk { processes: AtomicU32::new(processes), met: Array::new([0; 2]) })?,
            locked: region.insert("locked", Mutex::new([0; LEN]))?,
            atomic: region.insert_array("atomic", LEN)?,
            unguarded: region.insert_array("unguarded", LEN)?,
        })
    }

    fn open(region: &Region) -> Result<Self> {
        Ok(Self {
            desk: region.get("desk")?,
            locked: region.get("locked")?,
            atomic: region.get_array("atomic", LEN)?,
            unguarded: region.get_array("unguarded", LEN)?,
        })
    }

    /// Waits until all processes have come to this point.
    fn meet(&self, point: usize, parent: u32) -> Result<()> {
        self.desk.met.fetch_add(point, 1, SeqCst)?;
        while self.desk.met.load(point, SeqCst)? < self.desk.processes.load(SeqCst) {
            check_parent(parent);
            std::thread::sleep(TICK);
        }
        Ok(())
    }
}

fn main() -> ExitCode {
    if let Some(additions) = std::env::var(ADDITIONS).ok().and_then(|additions| additions.parse().ok()) {
        return match add(additions) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("process {}: {error}", std::process::id());
                ExitCode::FAILURE
            }
        };
    }
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(wrong) => {
            eprintln!("{wrong}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match run(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("shared array: {error}");
            ExitCode::FAILURE
        }
    }
}

struct Options {
    processes: u32,
    additions: u32,
}

impl Options {
    /// `None` if only help is wanted.
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Option<Self>, String> {
        let mut options = Self { processes: 20, additions: 10_000 };
        while let Some(argument) = arguments.next() {
            let mut number = |least: u32, most: u32| {
                let value = arguments.next().ok_or(format!("{argument} needs a number"))?;
                let number = value.parse().map_err(|_| format!("{argument} needs a number, not {value:?}"))?;
                if (least..=most).contains(&number) {
                    Ok(number)
                } else {
                    Err(format!("{argument} goes from {least} to {most}"))
                }
            };
            match argument.as_str() {
                "--processes" => options.processes = number(2, MAX_PROCESSES)?,
                "--additions" => options.additions = number(1, MAX_ADDITIONS)?,
                "--help" | "-h" => return Ok(None),
                _ => return Err(format!("unknown option {argument}")),
            }
        }
        Ok(Some(options))
    }
}

// The parent.

/// The processes that add. Whatever happens here, none is left.
struct Adders(Vec<Child>);

impl Adders {
    fn start(options: &Options, region: &Region) -> Result<Self> {
        let mut adders = Self(Vec::new());
        for _ in 0..options.processes {
            let mut command = Command::new(std::env::current_exe()?);
            // The region has no name that could stay behind: it travels as the standard input.
            command.env(ADDITIONS, options.additions.to_string()).env(PARENT, std::process::id().to_string());
            command.stdin(region.as_fd().try_clone_to_owned()?);
            adders.0.push(command.spawn()?);
        }
        Ok(adders)
    }

    /// Waits for all to end well.
    fn finish(&mut self) -> Result<()> {
        let end = Instant::now() + BOUND;
        for adder in 0..self.0.len() {
            // Not one after the other: if one fails, those who wait for it would never end.
            while self.0[adder].try_wait()?.is_none() {
                for other in &mut self.0 {
                    if let Some(status) = other.try_wait()?.filter(|status| !status.success()) {
                        return Err(format!("a process failed: {status}").into());
                    }
                }
                if Instant::now() > end {
                    return Err("the processes do not get on".into());
                }
                std::thread::sleep(TICK);
            }
        }
        if self.0.iter_mut().all(|adder| matches!(adder.try_wait(), Ok(Some(status)) if status.success())) {
            Ok(())
        } else {
            Err("a process failed".into())
        }
    }
}

impl Drop for Adders {
    fn drop(&mut self) {
        for adder in &mut self.0 {
            // Those who have ended by themselves cannot be killed, only waited for.
            let _ = adder.kill();
            let _ = adder.wait();
        }
    }
}

/// Has all added up; says whether the sums are what they should be.
fn run(options: &Options) -> Result<bool> {
    let Options { processes, additions } = *options;
    let region = Region::anonymous(size_of::<Desk>() + 4096)?;
    let shared = Shared::create(&region, processes)?;
    println!("{processes} processes add {additions} times each, in three ways");
    Adders::start(options, &region)?.finish()?;

    let expected = u64::from(processes) * u64::from(additions);
    let locked: u64 = shared.locked.lock().map_err(|error| error.to_string())?.iter().sum();
    let atomic: u64 = shared.atomic.iter().sum();
    let unguarded: u64 = shared.unguarded.iter().sum();
    println!("under the lock   {:?}", shared.locked.lock().map_err(|error| error.to_string())?);
    println!("with fetch_add   {:?}", shared.atomic);
    println!("with neither     {:?}", shared.unguarded);
    let ok = locked == expected && atomic == expected && unguarded < expected;
    println!(
        "processes={processes} additions={additions} expected={expected} locked={locked} atomic={atomic} \
         unguarded={unguarded} {}",
        if ok { "ok" } else { "wrong" },
    );
    Ok(ok)
}

// The processes that add.

fn add(additions: u32) -> Result<()> {
    let parent = std::env::var(PARENT)?.parse()?;
    let region = Region::from_fd(std::io::stdin().as_fd().try_clone_to_owned()?)?;
    let shared = Shared::open(&region)?;
    shared.meet(0, parent)?;

    for index in turns(additions, parent) {
        shared.locked.lock().map_err(|error| error.to_string())?[index] += 1;
    }
    for index in turns(additions, parent) {
        shared.atomic.fetch_add(index, 1, Relaxed)?;
    }
    // The first time all look before anybody writes, so that it goes wrong on every machine; then as it comes.
    let mut looked = shared.unguarded.load(0, Relaxed)?;
    shared.meet(1, parent)?;
    for (turn, index) in turns(additions, parent).enumerate() {
        if turn > 0 {
            looked = shared.unguarded.load(index, Relaxed)?;
        }
        shared.unguarded.store(index, looked + 1, Relaxed)?;
    }
    Ok(())
}

/// The elements to add to, one after the other, as long as the parent lives.
fn turns(additions: u32, parent: u32) -> impl Iterator<Item = usize> {
    (0..additions as usize).map(move |turn| {
        if turn % 1024 == 0 {
            check_parent(parent);
        }
        turn % LEN
    })
}

/// Without the parent there is nobody to add up for: ends this process.
fn check_parent(parent: u32) {
    if parent_id() != parent {
        std::process::exit(1);
    }
}
