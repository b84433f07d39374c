//! A traffic light: one process switches an event, and others wait for it, some of them not for long.
//!
//! The parent creates a region and starts a light, cars and police cars, which are processes of this same program. The light sets the
//! event `green` and resets it again and again. Each car comes to the light several times and waits until it is green. A police car waits for
//! at most half a second and then goes on, whatever the light shows; the light stays red until all police cars have done that.
//!
//! Whether somebody has passed on red is found out afterwards. All write down when they did what, by a clock that only counts, so
//! that of two entries it is known which came first: the light when each green began and ended, the cars when they came, when they
//! passed, and which green let them.

use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::process::{ExitStatusExt, parent_id};
use std::process::{Child, Command, ExitCode, ExitStatus};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use shmkit::{Event, Region, Shm, ShmSafe, WaitError};

type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

const USAGE: &str = "\
A traffic light: cars wait for an event in shared memory, police cars only for half a second.

Usage: cargo run --release --example traffic_light -- [OPTIONS]

  --cars N      cars that wait for green (1 to 100; default 8)
  --police N    police cars that come while the light is red (1 to 20; default 2)
  --laps N      how often each car comes to the light (1 to 20; default 3)
  --help        this text

The last line sums up: how many cars have made all their laps, how often one of them has passed on red, and how many police cars have.
The exit code is 0 if all cars have waited for green, and all police cars as long as they had to; 1 if not; 2 for a wrong call.";

const MAX_CARS: usize = 100;
const MAX_POLICE: usize = 20;
const MAX_LAPS: usize = 20;
const MAX_GREENS: usize = 1024;

/// How long a police car waits.
const PATIENCE: Duration = Duration::from_millis(500);
/// By how much it may be late, on a busy machine.
const LATE: Duration = Duration::from_secs(4);
/// How long the light is green, and how long red.
const PHASE: Duration = Duration::from_millis(120);
/// Longer than anything here takes: a hang is a failure.
const NIGHT: Duration = Duration::from_secs(60);
/// How often to look at the shared state, and whether the parent is there.
const TICK: Duration = Duration::from_millis(1);

/// Set in the environment of a child: what it is, and its number, from 0.
const ROLE: &str = "TRAFFIC_LIGHT_ROLE";
/// Set in the environment of a process that the parent starts: who that is. Asked later, it may be another one already.
const PARENT: &str = "TRAFFIC_LIGHT_PARENT";
const LAPS: &str = "TRAFFIC_LIGHT_LAPS";

/// What was written down. Times are those of the clock, and 0 is never.
#[repr(C)]
#[derive(ShmSafe)]
struct Book {
    /// The clock: how many entries there are.
    clock: AtomicU64,
    /// When each green began, and when it had ended. The first one is number 1.
    began: [AtomicU64; MAX_GREENS],
    ended: [AtomicU64; MAX_GREENS],
    /// What the cars did, car by car and lap by lap.
    passages: [Passage; MAX_CARS * MAX_LAPS],
    /// For how long each police car has waited in vain, in milliseconds.
    waited: [AtomicU64; MAX_POLICE],
    /// How many police cars are still to pass, and how many cars are at home.
    police_to_come: AtomicU64,
    home: AtomicU64,
}

#[repr(C)]
#[derive(ShmSafe)]
struct Passage {
    came: AtomicU64,
    passed: AtomicU64,
    /// Which green let the car pass.
    green: AtomicU64,
}

impl Book {
    fn new(police: usize) -> Self {
        let passage = || Passage { came: AtomicU64::new(0), passed: AtomicU64::new(0), green: AtomicU64::new(0) };
        Self {
            clock: AtomicU64::new(0),
            began: [const { AtomicU64::new(0) }; MAX_GREENS],
            ended: [const { AtomicU64::new(0) }; MAX_GREENS],
            passages: std::array::from_fn(|_| passage()),
            waited: [const { AtomicU64::new(0) }; MAX_POLICE],
            police_to_come: AtomicU64::new(police as u64),
            home: AtomicU64::new(0),
        }
    }

    /// Writes down that something happens now.
    fn note(&self, what: &AtomicU64) {
        what.store(self.clock.fetch_add(1, SeqCst) + 1, SeqCst);
    }

    /// Whether a car that has passed did so on green: the green that let it pass had begun when it passed, and had not ended when it
    /// came.
    fn was_green(&self, passage: &Passage) -> bool {
        let green = passage.green.load(SeqCst) as usize;
        let (Some(began), Some(ended)) = (self.began.get(green), self.ended.get(green)) else {
            return false;
        };
        let (began, ended) = (began.load(SeqCst), ended.load(SeqCst));
        began != 0 && began < passage.passed.load(SeqCst) && (ended == 0 || ended > passage.came.load(SeqCst))
    }
}

/// One line on standard output, whole, whoever else writes there.
fn say(line: std::fmt::Arguments<'_>) {
    // A reader that has gone away is no reason to stop.
    let _ = std::io::stdout().write_all(format!("{line}\n").as_bytes());
}

macro_rules! say {
    ($($line:tt)*) => { say(format_args!($($line)*)) };
}

fn main() -> ExitCode {
    if let Ok(role) = std::env::var(ROLE) {
        return match play(&role) {
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
            eprintln!("traffic light: {error}");
            ExitCode::FAILURE
        }
    }
}

struct Options {
    cars: usize,
    police: usize,
    laps: usize,
}

impl Options {
    /// `None` if only help is wanted.
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Option<Self>, String> {
        let mut options = Self { cars: 8, police: 2, laps: 3 };
        while let Some(argument) = arguments.next() {
            let mut number = |max: usize| {
                let value = arguments.next().ok_or(format!("{argument} needs a number"))?;
                let number = value.parse().map_err(|_| format!("{argument} needs a number, not {value:?}"))?;
                if (1..=max).contains(&number) { Ok(number) } else { Err(format!("{argument} goes from 1 to {max}")) }
            };
            match argument.as_str() {
                "--cars" => options.cars = number(MAX_CARS)?,
                "--police" => options.police = number(MAX_POLICE)?,
                "--laps" => options.laps = number(MAX_LAPS)?,
                "--help" | "-h" => return Ok(None),
                _ => return Err(format!("unknown option {argument}")),
            }
        }
        Ok(Some(options))
    }
}

// The parent.

/// The children. Whatever happens here, none is left.
struct Children(Vec<Child>);

impl Children {
    fn start(&mut self, role: &str, number: usize, options: &Options, region: &Region) -> Result<()> {
        let mut command = Command::new(std::env::current_exe()?);
        command.env(ROLE, format!("{role} {number}")).env(LAPS, options.laps.to_string());
        command.env(PARENT, std::process::id().to_string());
        // The region has no name that could stay behind: it travels as the standard input.
        command.stdin(region.as_fd().try_clone_to_owned()?);
        self.0.push(command.spawn()?);
        Ok(())
    }

    /// Whether all have ended, and well.
    fn have_ended(&mut self) -> Result<bool> {
        let mut all = true;
        for child in &mut self.0 {
            let ended: Option<ExitStatus> = child.try_wait()?;
            all &= ended.is_some();
            match ended {
                Some(status) if !status.success() => {
                    return Err(match status.signal() {
                        Some(signal) => format!("somebody was ended by signal {signal}").into(),
                        None => format!("somebody failed: {status}").into(),
                    });
                }
                _ => {}
            }
        }
        Ok(all)
    }
}

impl Drop for Children {
    fn drop(&mut self) {
        for child in &mut self.0 {
            // Those who have ended by themselves cannot be killed, only waited for.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Runs the crossing; says whether all have behaved.
fn run(options: &Options) -> Result<bool> {
    let morning = Instant::now() + NIGHT;
    let region = Region::anonymous(size_of::<Book>() + 4096)?;
    let book = region.insert("book", Book::new(options.police))?;
    let green = region.insert("green", Event::new())?;
    let stop = region.insert("stop", Event::new())?;
    region.insert("siren", Event::auto_reset())?;
    let mut children = Children(Vec::new());
    children.start("light", 0, options, &region)?;
    (0..options.police).try_for_each(|number| children.start("police", number, options, &region))?;
    (0..options.cars).try_for_each(|number| children.start("car", number, options, &region))?;
    while book.home.load(SeqCst) < options.cars as u64 {
        children.have_ended()?;
        check_time(morning)?;
        std::thread::sleep(TICK);
    }
    stop.set();
    while !children.have_ended()? {
        check_time(morning)?;
        std::thread::sleep(TICK);
    }
    Ok(sum_up(options, &book, &green))
}

fn check_time(morning: Instant) -> Result<()> {
    if Instant::now() > morning { Err("they do not get on".into()) } else { Ok(()) }
}

/// Prints the last line.
fn sum_up(options: &Options, book: &Book, green: &Event) -> bool {
    let laps = |car: usize| &book.passages[car * MAX_LAPS..][..options.laps];
    let has_passed = |passage: &Passage| passage.passed.load(SeqCst) != 0;
    let cars = (0..options.cars).filter(|car| laps(*car).iter().all(has_passed)).count();
    let on_red =
        (0..options.cars).flat_map(laps).filter(|passage| has_passed(passage) && !book.was_green(passage)).count();
    // Those who have waited as long as they must, and not for much longer.
    let long_enough = PATIENCE.as_millis()..PATIENCE.as_millis() + LATE.as_millis();
    let waited = |car: &&AtomicU64| long_enough.contains(&u128::from(car.load(SeqCst)));
    let police = book.waited[..options.police].iter().filter(waited).count();
    // The light has written down as many greens as there were.
    let greens = book.began.iter().filter(|began| began.load(SeqCst) != 0).count();
    let ok = cars == options.cars && on_red == 0 && police == options.police && greens as u64 == green.generation();
    say!("cars={cars} passed_on_red={on_red} police={police} {}", if ok { "ok" } else { "wrong" });
    ok
}

// The children.

/// What a child finds in the region.
struct Crossing {
    book: Shm<Book>,
    green: Shm<Event>,
    stop: Shm<Event>,
    siren: Shm<Event>,
}

fn play(role: &str) -> Result<()> {
    let parent: u32 = std::env::var(PARENT)?.parse()?;
    // Whoever waits, for whatever, ends with the parent.
    std::thread::spawn(move || {
        while parent_id() == parent {
            std::thread::sleep(50 * TICK);
        }
        std::process::exit(1);
    });
    let region = Region::from_fd(std::io::stdin().as_fd().try_clone_to_owned()?)?;
    let crossing = Crossing {
        book: region.get("book")?,
        green: region.get("green")?,
        stop: region.get("stop")?,
        siren: region.get("siren")?,
    };
    let (what, number) = role.split_once(' ').ok_or("a role and a number, please")?;
    let number: usize = number.parse()?;
    match what {
        "light" => light(&crossing),
        "car" => car(&crossing, number, std::env::var(LAPS)?.parse()?),
        "police" => police(&crossing, number),
        _ => Err(format!("what is a {what}?").into()),
    }
}

/// Is red until all police cars have passed, and then switches until it is told to stop.
fn light(crossing: &Crossing) -> Result<()> {
    let Crossing { book, green, stop, siren } = crossing;
    say!("the light is red");
    // Each that passes sounds its siren; if several do so at once, it is one sound.
    while book.police_to_come.load(SeqCst) > 0 {
        siren.wait()?;
    }
    for number in 1..MAX_GREENS {
        // Before it is green, and after it was: whatever happens on green happens in between.
        book.note(&book.began[number]);
        green.set();
        say!("the light is green, green {number}");
        let stopped = stop.wait_timeout(PHASE);
        green.reset();
        book.note(&book.ended[number]);
        say!("the light is red");
        match stopped.or_else(|_| stop.wait_timeout(PHASE)) {
            Ok(()) => return Ok(()),
            Err(WaitError::TimedOut) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err("nobody has stopped the light".into())
}

/// Comes to the light again and again, and waits for green.
fn car(crossing: &Crossing, number: usize, laps: usize) -> Result<()> {
    let Crossing { book, green, .. } = crossing;
    for (lap, passage) in book.passages[number * MAX_LAPS..][..laps].iter().enumerate() {
        book.note(&passage.came);
        green.wait()?;
        let which = green.generation();
        passage.green.store(which, SeqCst);
        book.note(&passage.passed);
        say!("car {number} passes on green {which}, in lap {}", lap + 1);
        // Each takes its own time to come around, so that they come on red and on green.
        std::thread::sleep(PHASE / 4 * (1 + number as u32 % 7));
    }
    book.home.fetch_add(1, SeqCst);
    Ok(())
}

/// Waits for green for half a second, and then goes on.
fn police(crossing: &Crossing, number: usize) -> Result<()> {
    let Crossing { book, green, siren, .. } = crossing;
    let start = Instant::now();
    match green.wait_timeout(PATIENCE) {
        Ok(()) => say!("police car {number} passes on green"),
        Err(WaitError::TimedOut) => {
            let waited = start.elapsed().as_millis() as u64;
            book.waited[number].store(waited, SeqCst);
            say!("police car {number} has waited {waited} ms, and passes on red");
        }
        Err(error) => return Err(error.into()),
    }
    book.police_to_come.fetch_sub(1, SeqCst);
    siren.set();
    Ok(())
}
