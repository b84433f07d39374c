//! A work queue: producers put jobs into it, workers do them, and one of each is killed.
//!
//! The parent creates a region with a queue, and starts producers and workers, which are processes of this same program.
//! Each job is a number. Before a producer sends one, it notes which; before a worker receives one, it notes which. So whoever is killed
//! leaves at most one job behind of which it is not known what has become of it, and that one has a name. At the end the parent compares: every
//! job was done once, or it is the one that a dead producer or worker has noted, and lost with it. What a dead producer
//! had not begun to send, the parent sends in its place.

use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::process::parent_id;
use std::process::{Child, Command, ExitCode};
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::{Duration, Instant};

use shmkit::{Queue, Region, ShmSafe};

type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

const USAGE: &str = "\
A work queue: producers send jobs, workers do them, and one of each is killed.

Usage: cargo run --release --example work_queue -- [OPTIONS]

  --jobs N        jobs to do (1 to 100000; default 10000)
  --producers N   processes that send (1 to 50; default 3)
  --workers N     processes that receive (1 to 50; default 3)
  --capacity N    jobs that the queue has room for (1 to 10000; default 64)
  --no-kill       let everybody live
  --help          this text

The last line sums up. The exit code is 0 if every job was done once, or is lost with a process that was killed; 1 if not; 2 for a wrong call.";

const MAX_JOBS: usize = 100_000;
const MAX_CREW: usize = 50;

/// Longer than anything here takes: a hang is a failure.
const CLOSING_TIME: Duration = Duration::from_secs(60);
/// How often to look at the shared state.
const TICK: Duration = Duration::from_micros(500);

/// Set in the environment of a process that the parent starts: `producer 3`, and who the parent is.
const ROLE: &str = "WORK_QUEUE_ROLE";
const PARENT: &str = "WORK_QUEUE_PARENT";

/// What all processes see, beside the queue. Jobs have numbers from 1.
#[repr(C)]
#[derive(ShmSafe)]
struct Shop {
    jobs: AtomicU32,
    producers: AtomicU32,
    /// 1 while the parent wants a producer, or a worker, with one of the later jobs in its hands to stay where it is.
    wanted: [AtomicU32; 2],
    /// The one who stays, from 1; 0: none.
    caught: [AtomicU32; 2],
    /// The job that each producer is sending, or has sent last.
    sending: [AtomicU32; MAX_CREW],
    /// The job that each worker is receiving or doing; 0: none.
    doing: [AtomicU32; MAX_CREW],
    /// How often each job was done. Job n is at n - 1.
    done: [AtomicU32; MAX_JOBS],
}

impl Shop {
    /// The first job of a producer after `job`: they take every so manieth.
    fn next_of(&self, producer: u32, job: u32) -> Option<u32> {
        let next = if job == 0 { producer } else { job + self.producers.load(SeqCst) };
        (next <= self.jobs.load(SeqCst)).then_some(next)
    }

    /// Sends all jobs of a producer after the one that it has noted. `stay` is called between note and job.
    fn send_rest(&self, queue: &Queue<u32>, producer: u32, stay: impl Fn(u32)) -> Result<()> {
        let note = &self.sending[producer as usize - 1];
        while let Some(job) = self.next_of(producer, note.load(SeqCst)) {
            note.store(job, SeqCst);
            stay(job);
            queue.send(job)?;
        }
        Ok(())
    }

    /// If the parent wants somebody like the caller: tells it who, and stays until the kill.
    fn stay_if_wanted(&self, kind: usize, number: u32, job: u32, parent: u32) {
        if job > self.jobs.load(SeqCst) / 2 && self.wanted[kind].swap(0, SeqCst) == 1 {
            self.caught[kind].store(number, SeqCst);
            while parent_id() == parent {
                std::thread::sleep(TICK);
            }
        }
    }
}

const PRODUCER: usize = 0;
const WORKER: usize = 1;

/// One line on standard output, whole, whoever else writes there.
fn say(line: std::fmt::Arguments<'_>) {
    // A reader that has gone away is no reason to stop working.
    let _ = std::io::stdout().write_all(format!("{line}\n").as_bytes());
}

macro_rules! say {
    ($($line:tt)*) => { say(format_args!($($line)*)) };
}

fn main() -> ExitCode {
    if let Ok(role) = std::env::var(ROLE) {
        return match work(&role) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{role}: {error}");
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
            eprintln!("work queue: {error}");
            ExitCode::FAILURE
        }
    }
}

struct Options {
    jobs: u32,
    producers: u32,
    workers: u32,
    capacity: u32,
    kill: bool,
}

impl Options {
    /// `None` if only help is wanted.
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Option<Self>, String> {
        let mut options = Self { jobs: 10_000, producers: 3, workers: 3, capacity: 64, kill: true };
        while let Some(argument) = arguments.next() {
            let mut number = |max: usize| {
                let value = arguments.next().ok_or(format!("{argument} needs a number"))?;
                let number: u32 = value.parse().map_err(|_| format!("{argument} needs a number, not {value:?}"))?;
                if (1..=max).contains(&(number as usize)) {
                    Ok(number)
                } else {
                    Err(format!("{argument} goes from 1 to {max}"))
                }
            };
            match argument.as_str() {
                "--jobs" => options.jobs = number(MAX_JOBS)?,
                "--producers" => options.producers = number(MAX_CREW)?,
                "--workers" => options.workers = number(MAX_CREW)?,
                "--capacity" => options.capacity = number(10_000)?,
                "--no-kill" => options.kill = false,
                "--help" | "-h" => return Ok(None),
                _ => return Err(format!("unknown option {argument}")),
            }
        }
        if options.kill && options.workers == 1 {
            return Err("one worker must live: at least 2 of --workers, or --no-kill".to_owned());
        }
        Ok(Some(options))
    }
}

// The parent.

/// The processes of one kind. Whatever happens here, none is left.
struct Crew(Vec<Option<Child>>);

impl Crew {
    fn start(kind: &str, count: u32, region: &Region) -> Result<Self> {
        let mut crew = Self(Vec::new());
        for number in 1..=count {
            let mut command = Command::new(std::env::current_exe()?);
            command.env(ROLE, format!("{kind} {number}")).env(PARENT, std::process::id().to_string());
            // The region has no name that could stay behind: it travels as the standard input.
            command.stdin(region.as_fd().try_clone_to_owned()?);
            crew.0.push(Some(command.spawn()?));
        }
        Ok(crew)
    }

    /// Kills one and waits for its end.
    fn kill(&mut self, number: u32) -> Result<()> {
        if let Some(mut child) = self.0[number as usize - 1].take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// Whether all who were not killed have ended.
    fn has_ended(&mut self) -> Result<bool> {
        for child in &mut self.0 {
            if let Some(status) = child.as_mut().map_or(Ok(None), Child::try_wait)? {
                *child = None;
                if !status.success() {
                    return Err(format!("one of the crew failed: {status}").into());
                }
            }
        }
        Ok(self.0.iter().flatten().count() == 0)
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        for child in self.0.iter_mut().flatten() {
            // Those who have ended by themselves cannot be killed, only waited for.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Waits until something holds.
fn until(closing: Instant, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
    while !holds()? {
        if Instant::now() > closing {
            return Err("the work does not get on".into());
        }
        std::thread::sleep(TICK);
    }
    Ok(())
}

/// Runs the shop; says whether the books balance.
fn run(options: &Options) -> Result<bool> {
    let closing = Instant::now() + CLOSING_TIME;
    let region = Region::anonymous(size_of::<Shop>() + options.capacity as usize * 64 + 8192)?;
    let shop = region.insert("shop", new_shop(options))?;
    let queue = Queue::<u32>::create_in(&region, "jobs", options.capacity.into())?;
    say!("{} producers send {} jobs to {} workers", options.producers, options.jobs, options.workers);
    let mut workers = Crew::start("worker", options.workers, &region)?;
    let mut producers = Crew::start("producer", options.producers, &region)?;

    // Who was killed, and the job that it has noted.
    let mut dead = Vec::new();
    until(closing, || {
        let caught = [PRODUCER, WORKER].map(|kind| shop.caught[kind].swap(0, SeqCst));
        if caught[PRODUCER] != 0 {
            let (number, job) = (caught[PRODUCER], shop.sending[caught[PRODUCER] as usize - 1].load(SeqCst));
            producers.kill(number)?;
            say!("producer {number} is killed while it sends job {job}");
            dead.push((format!("producer {number}"), job));
            // The note says where to go on. That job itself may have been sent or not, so nobody sends it again.
            shop.send_rest(&queue, number, |_| ())?;
        }
        if caught[WORKER] != 0 {
            let (number, job) = (caught[WORKER], shop.doing[caught[WORKER] as usize - 1].load(SeqCst));
            workers.kill(number)?;
            say!("worker {number} is killed while it does job {job}");
            dead.push((format!("worker {number}"), job));
        }
        if producers.has_ended()? {
            // Those who work take what is left, and learn that there will be no more.
            queue.close()?;
        }
        workers.has_ended()
    })?;
    Ok(balance(options, &shop, &dead))
}

fn new_shop(options: &Options) -> Shop {
    Shop {
        jobs: AtomicU32::new(options.jobs),
        producers: AtomicU32::new(options.producers),
        wanted: [(); 2].map(|()| AtomicU32::new(options.kill.into())),
        caught: [const { AtomicU32::new(0) }; 2],
        sending: [const { AtomicU32::new(0) }; MAX_CREW],
        doing: [const { AtomicU32::new(0) }; MAX_CREW],
        done: [const { AtomicU32::new(0) }; MAX_JOBS],
    }
}

/// Says what has become of the jobs. `dead`: who was killed, and the job that it has noted.
fn balance(options: &Options, shop: &Shop, dead: &[(String, u32)]) -> bool {
    let (mut done, mut lost, mut duplicated, mut missing) = (0, 0, 0, 0);
    for job in 1..=options.jobs {
        match (shop.done[job as usize - 1].load(SeqCst), dead.iter().find(|(_, noted)| *noted == job)) {
            (1, _) => done += 1,
            (0, Some((owner, _))) => {
                say!("job {job} is lost with {owner}");
                lost += 1;
            }
            (0, None) => missing += 1,
            _ => duplicated += 1,
        }
    }
    let ok = duplicated == 0 && missing == 0;
    let verdict = if ok { "ok".to_owned() } else { format!("missing={missing} wrong") };
    say!("jobs={} done={done} lost={lost} duplicated={duplicated} {verdict}", options.jobs);
    ok
}

// The crew.

fn work(role: &str) -> Result<()> {
    let (kind, number) = role.split_once(' ').ok_or("no role")?;
    let number: u32 = number.parse()?;
    let region = Region::from_fd(std::io::stdin().as_fd().try_clone_to_owned()?)?;
    let (shop, queue) = (region.get::<Shop>("shop")?, Queue::<u32>::open_in(&region, "jobs")?);
    let parent: u32 = std::env::var(PARENT)?.parse()?;
    // A queue has no owners: if the parent is gone, somebody must close it, or all would wait for ever.
    std::thread::spawn({
        let queue = queue.clone();
        move || {
            while parent_id() == parent {
                std::thread::sleep(100 * TICK);
            }
            let _ = queue.close();
        }
    });
    match kind {
        "producer" => shop.send_rest(&queue, number, |job| shop.stay_if_wanted(PRODUCER, number, job, parent)),
        _ => {
            do_jobs(&shop, &queue, number, parent);
            Ok(())
        }
    }
}

/// Does jobs until there are no more. The note comes before the job is received, and goes after it is done.
fn do_jobs(shop: &Shop, queue: &Queue<u32>, number: u32, parent: u32) {
    let note = &shop.doing[number as usize - 1];
    let next = || {
        queue.recv_with(|job| {
            note.store(*job, SeqCst);
            *job
        })
    };
    while let Ok(job) = next() {
        shop.stay_if_wanted(WORKER, number, job, parent);
        shop.done[job as usize - 1].fetch_add(1, SeqCst);
        note.store(0, SeqCst);
    }
}
