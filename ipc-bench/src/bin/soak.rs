//! The soak: see [`shmkit_bench::soak`].

use std::env;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use shmkit_bench::cases;
use shmkit_bench::soak::supervisor::{self, Outcome, Settings};
use shmkit_bench::soak::world::MAX_WORKERS;

const HELP: &str = "\
Processes use all primitives of one region at random, while others of them are killed, stopped and replaced.

Usage: cargo run --release -p shmkit-bench --bin soak -- [OPTIONS]

  --seconds N    how long (default 30)
  --processes N  how many at a time (2 to 32; default 8)
  --seed N       who does what, and who is killed when (default: from the clock; it is printed)
  --help         this text

The last line sums up. The exit code is 0 if nothing was violated, nobody stalled for more than 2 s, and the safety net had to step in
at most once per kill or stop; 1 if not so; 2 for a wrong call.
";

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Option<Settings>, String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_nanos() as u64);
    let mut settings = Settings { seconds: 30, processes: 8, seed: now % 1_000_000 };
    while let Some(argument) = arguments.next() {
        let mut number = || {
            let value = arguments.next().ok_or(format!("{argument} needs a value"))?;
            value.parse::<u64>().map_err(|_| format!("{value:?} is not a number"))
        };
        match argument.as_str() {
            "--help" | "-h" => return Ok(None),
            "--seconds" => settings.seconds = number()?.max(1),
            "--processes" => settings.processes = number()? as usize,
            "--seed" => settings.seed = number()?,
            _ => return Err(format!("unknown option {argument}, see --help")),
        }
    }
    if !(2..=MAX_WORKERS).contains(&settings.processes) {
        return Err(format!("--processes must be 2 to {MAX_WORKERS}"));
    }
    Ok(Some(settings))
}

fn progress(elapsed: Duration, outcome: &Outcome) {
    println!("{:>4} s: {outcome}", elapsed.as_secs());
}

fn main() -> ExitCode {
    cases::run_role_if_child();
    let settings = match parse(env::args().skip(1)) {
        Ok(Some(settings)) => settings,
        Ok(None) => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(message) => {
            eprintln!("soak: {message}");
            return ExitCode::from(2);
        }
    };
    println!("seed {}, {} processes, {} s", settings.seed, settings.processes, settings.seconds);
    match supervisor::run(&settings, progress) {
        Ok(outcome) => {
            println!("{outcome} ok");
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("FAILED with seed {}: {error}", settings.seed);
            ExitCode::FAILURE
        }
    }
}
