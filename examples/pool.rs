//! A pool: many small tasks, by a pool and by a process each; squares with a callback; and a worker that is killed in the middle of its task.

use std::process::ExitCode;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use shmkit::process::{self, Pool, Submitter, TaskError, spawn};
use shmkit::{Region, Shm};

type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

const USAGE: &str = "\
A pool of worker processes: how fast it is, a callback, and a worker that is killed.

Usage: cargo run --release --example pool -- [OPTIONS]

  --tasks N     small tasks to do, by a pool and by a process each (1 to 10000; default 500)
  --workers N   workers of the pool (2 to 100; default 2)
  --help        this text

The last line sums up. The exit code is 0 if every task has its value, but the one that was lost with its worker; 1 if not; 2 for a wrong call.";

/// Longer than anything here takes: a hang is a failure.
const BOUND: Duration = Duration::from_secs(20);

fn main() -> ExitCode {
    // In a worker, this does its tasks and ends it.
    process::init();
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
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pool: {error}");
            ExitCode::FAILURE
        }
    }
}

struct Options {
    tasks: u64,
    workers: usize,
}

impl Options {
    /// `None` if only help is wanted.
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Option<Self>, String> {
        let mut options = Self { tasks: 500, workers: 2 };
        while let Some(argument) = arguments.next() {
            let mut number = |min: u64, max: u64| {
                let value = arguments.next().ok_or(format!("{argument} needs a number"))?;
                let number = value.parse().map_err(|_| format!("{argument} needs a number, not {value:?}"))?;
                if (min..=max).contains(&number) {
                    Ok(number)
                } else {
                    Err(format!("{argument} goes from {min} to {max}"))
                }
            };
            match argument.as_str() {
                "--tasks" => options.tasks = number(1, 10_000)?,
                "--workers" => options.workers = number(2, 100)? as usize,
                "--help" | "-h" => return Ok(None),
                _ => return Err(format!("unknown option {argument}")),
            }
        }
        Ok(Some(options))
    }
}

fn run(options: &Options) -> Result<()> {
    let pool = Pool::new(options.workers)?;
    let ratio = many_small_tasks(&pool, options.tasks)?;
    let sum = squares(&pool)?;
    let lost = with_a_kill(&pool)?;
    let lost_with_retries = with_a_kill(&pool.retrying(1))?;
    pool.close();
    pool.join();
    expect(pool.pids().is_empty(), "no worker that is left")?;
    println!(
        "tasks={} ratio={ratio:.0} squares={sum} killed=2 lost={lost} lost_with_retries={lost_with_retries} ok",
        options.tasks
    );
    Ok(())
}

fn square(number: u64) -> u64 {
    number * number
}

/// Says how many times faster the pool is than a process for each task.
fn many_small_tasks(pool: &Pool, tasks: u64) -> Result<f64> {
    // Workers come up by and by; that is no part of the measure.
    pool.chunked(1).map(square, 0..100)?;
    let begin = Instant::now();
    let by_pool = pool.chunked(1).map(square, 0..tasks)?;
    let pool_took = begin.elapsed();
    let begin = Instant::now();
    let by_processes = (0..tasks).map(|number| Ok(spawn(square, number)?.join()?)).collect::<Result<Vec<_>>>()?;
    let processes_took = begin.elapsed();
    println!("{tasks} tasks take a pool {pool_took:.1?}, one at a time, and a process each {processes_took:.1?}");
    expect(by_pool == by_processes, "the same squares")?;
    Ok(processes_took.as_secs_f64() / pool_took.as_secs_f64())
}

/// The sum of some squares, which a callback gets.
fn squares(pool: &Pool) -> Result<u64> {
    let (tell, told) = mpsc::channel();
    let pending = pool.map_async(square, 1..=100).on_progress(|done, all| {
        if done == all {
            println!("all {all} squares have come");
        }
    });
    // Nobody listens any more if this takes too long.
    pending.on_done(move |squares| drop(tell.send(squares)));
    let squares = told.recv_timeout(BOUND)??;
    Ok(squares.into_iter().sum())
}

/// The process id of whoever has the task in the middle; 0: nobody has had it yet.
type Desk = Shm<AtomicU32>;

/// Squares a number. Whoever is the first to get the one in the middle says so, and waits for the end.
fn square_or_wait((number, desk): (u64, Option<Desk>)) -> u64 {
    if let Some(desk) = desk.filter(|desk| desk.compare_exchange(0, std::process::id(), SeqCst, SeqCst).is_ok()) {
        while desk.load(SeqCst) != 0 {
            thread::sleep(Duration::from_millis(1));
        }
    }
    square(number)
}

/// Kills a worker in the middle of its task; says how many tasks have no value for that.
fn with_a_kill(pool: &Submitter) -> Result<usize> {
    let desk = Region::anonymous(4096)?.insert("desk", AtomicU32::new(0))?;
    let items = (0..100).map(|number| (number, (number == 50).then(|| desk.clone())));
    let pending = pool.named("square_or_wait").chunked(1).map_async(square_or_wait, items);
    let end = Instant::now() + BOUND;
    while desk.load(SeqCst) == 0 {
        expect(Instant::now() < end, "somebody who gets to task 50")?;
        thread::sleep(Duration::from_micros(100));
    }
    kill(desk.load(SeqCst))?;
    let mut lost = 0;
    for (number, value) in (0..).zip(pending.get_each()?) {
        match value {
            Ok(value) => expect(value == square(number), "a square")?,
            Err(error @ TaskError::WorkerDied { .. }) => {
                println!("{error}");
                lost += 1;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(lost)
}

fn kill(pid: u32) -> Result<()> {
    // SAFETY: no memory is involved.
    let killed = unsafe { libc::kill(pid as libc::pid_t, libc::SIGKILL) };
    expect(killed == 0, "a worker to kill")
}

fn expect(is_so: bool, what: &str) -> Result<()> {
    if is_so { Ok(()) } else { Err(format!("this was expected: {what}").into()) }
}
