//! A shared counter: a hundred processes take one ticket each from a map that says that there are a hundred.
//!
//! Once each looks how many there are and then puts one less into the map, as if it were alone: what others do between its look and its write is lost, and
//! tickets are sold twice. And once each does so by `update`, in which nobody comes in between: then there are none left. The map is an argument of
//! the function that the processes run.

use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use shmkit::process::{self, JoinError, MapOptions, Process, SharedMap, spawn};
use shmkit::{Event, Region, Shm};

type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

const USAGE: &str = "\
Processes take one ticket each from an entry of a shared map: by get and insert, and by update.

Usage: cargo run --release --example shared_counter -- [OPTIONS]

  --processes N   processes, and tickets (2 to 500; default 100)
  --help          this text

The last line says how many tickets are left each way. The exit code is 0 if some are left over by get and insert, since they were sold twice, and
none by update; 1 if not so; 2 for a wrong call.";

const MAX_PROCESSES: u64 = 500;

/// The entry.
const TICKETS: &str = "tickets";

/// How long a process thinks about the number that it has seen: as long as it takes many others to see it, too.
const THOUGHT: Duration = Duration::from_millis(20);

/// Longer than anything here takes: a hang is a failure.
const BOUND: Duration = Duration::from_secs(60);

/// What each process is given: the map, the sign that all of them are there, and whether nobody may come in between.
type Order = (SharedMap<str, u64>, Shm<Event>, bool);

fn main() -> ExitCode {
    // In a child, this runs its function and ends it.
    process::init();
    let processes = match parse(std::env::args().skip(1)) {
        Ok(Some(processes)) => processes,
        Ok(None) => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(wrong) => {
            eprintln!("{wrong}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match run(processes) {
        Ok((alone, together)) => {
            let is_right = alone > 0 && together == 0;
            let verdict = if is_right { "ok" } else { "wrong" };
            println!("processes={processes} left_by_get_and_insert={alone} left_by_update={together} {verdict}");
            if is_right { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("shared_counter: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The number of processes; `None` if help was asked for.
fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Option<u64>, String> {
    let mut processes = 100;
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--help" | "-h" => return Ok(None),
            "--processes" => {
                let value = arguments.next().and_then(|value| value.parse().ok());
                let value = value.filter(|value| (2..=MAX_PROCESSES).contains(value));
                processes = value.ok_or_else(|| format!("--processes takes a number from 2 to {MAX_PROCESSES}"))?;
            }
            other => return Err(format!("unknown option {other}")),
        }
    }
    Ok(Some(processes))
}

/// How many tickets are left by get and insert, and by update.
fn run(processes: u64) -> Result<(u64, u64)> {
    Ok((sell(processes, false)?, sell(processes, true)?))
}

/// Sells as many tickets as there are processes; says how many are left.
fn sell(processes: u64, together: bool) -> Result<u64> {
    let mut options = shmkit::RegionOptions::new();
    let region: Region = options.participants(MAX_PROCESSES as u32 + 1).anonymous(1 << 18)?;
    let office = MapOptions::new().capacity(10).create_in::<str, u64>(&region, "office")?;
    let opening = region.insert("opening", Event::new())?;
    office.insert(TICKETS, processes)?;

    let begin = Instant::now();
    let start = |_| spawn(take_one, (office.clone(), opening.clone(), together));
    let buyers = (0..processes).map(start).collect::<Result<Vec<Process<bool>>, _>>()?;
    opening.set();
    let bought = buyers.into_iter().map(join).collect::<Result<Vec<_>, _>>()?;

    let left = office.get(TICKETS)?.ok_or("the entry is gone")?;
    let way = if together { "by update" } else { "by get and insert" };
    let sold = bought.into_iter().filter(|bought| *bought).count();
    println!("{way}: {sold} processes have a ticket, {left} are left, {:.1?}", begin.elapsed());
    Ok(left)
}

fn join(mut buyer: Process<bool>) -> Result<bool, JoinError> {
    buyer.join_timeout(BOUND)
}

/// What a process does. Says whether it has got a ticket.
fn take_one((office, opening, together): Order) -> bool {
    opening.wait_timeout(BOUND).expect("the opening");
    if together {
        let sold = office.update(TICKETS, |left| {
            let is_any_left = *left > 0;
            *left -= u64::from(is_any_left);
            is_any_left
        });
        return sold.expect("the office") == Some(true);
    }
    let left = office.get(TICKETS).expect("the office").expect("the entry");
    thread::sleep(THOUGHT);
    if left > 0 {
        office.insert(TICKETS, left - 1).expect("the office");
    }
    left > 0
}
