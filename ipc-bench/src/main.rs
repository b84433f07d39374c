//! The report: runs all cases, prints what they have shown, and writes it for programs and as a page. Progress goes
//! to stderr.

use std::env;
use std::fmt::Display;
use std::fs::File;
use std::io::{self, BufWriter, ErrorKind};
use std::panic::{self, AssertUnwindSafe};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use shmkit_bench::cases::{self, array, attach, contention, create, kill, killed, memory, open, pool, spawn, stopped};
use shmkit_bench::death::Death;
use shmkit_bench::figure::Figures;
use shmkit_bench::progress;
use shmkit_bench::report::output::Output;
use shmkit_bench::report::{Report, html, json, targets};
use shmkit_bench::solo::{self, Solo};
use shmkit_bench::stats::{self, MIN_ROUNDS, Plan};
use shmkit_bench::team::Game;

const HELP: &str = "\
Measures shmkit against the hardware's limits and its peers.

Usage: shmkit-bench [OPTIONS]

Options, with their values behind them or, as in --only=mutex, behind a sign:
  --list               print the names of the cases
  --only PATTERN       only cases whose name contains PATTERN; several of these:
                       those with any
  --json FILE          write all figures for programs, too
  --html FILE          write a page that holds all, too
  --targets FILE       write the figures that have a target, for --check, too
  --check FILE...      measure nothing: say for each target whether it holds in
                       all these reports, as a table in Markdown; exit status 1
                       if one does not
  --quick              few and short rounds, under a minute in all: to see that
                       all works, not for figures
  --rounds N           rounds of all cases but those that kill (at least 15;
                       default 31)
  --work NS            work outside the section when contending (default 200)
  --kills N            kills per candidate, but for large victims (default
                       1000)
  --large-kills N      kills per lock with victims of 256 MiB and more (default
                       100)
  --small-pages        large victims use no huge pages (slow)
  --budget SECONDS     begin no round of a case after this time (default 45;
                       1000 kills of large victims or with many waiters take
                       longer)
  --help               print this

All ratios are what ours costs by what the other costs, of times as of rates:
lower is better. The exit status is 0 if every case went right, whether or not
its figures reach their targets; 1 if a case was wrong; 2 if the options are,
or a file cannot be read or made.
";

/// A quick run begins no round after this time; each case gets its part of what is left.
const QUICK: Duration = Duration::from_secs(25);

/// A quick run makes and touches no more memory at once than that.
const QUICK_MEMORY: usize = 64 << 20;

/// Regions of one size are made for no longer than that: the kernel clears gigabytes for each.
const EACH_SIZE: Duration = Duration::from_secs(15);

struct Options {
    list: bool,
    only: Vec<String>,
    json: Option<PathBuf>,
    html: Option<PathBuf>,
    targets: Option<PathBuf>,
    check: Vec<PathBuf>,
    quick: bool,
    rounds: usize,
    work: Duration,
    kills: usize,
    large_kills: usize,
    huge_pages: bool,
    budget: Duration,
}

impl Options {
    /// Reads the command line; `None` if only help is wanted.
    fn parse(arguments: impl Iterator<Item = String>) -> Result<Option<Self>, String> {
        let mut arguments = arguments.peekable();
        let (mut rounds, mut kills, mut large_kills) = (None, None, None);
        let mut options = Options {
            list: false,
            only: Vec::new(),
            json: None,
            html: None,
            targets: None,
            check: Vec::new(),
            quick: false,
            rounds: 0,
            work: Duration::from_nanos(200),
            kills: 0,
            large_kills: 0,
            huge_pages: true,
            budget: Duration::from_secs(45),
        };
        while let Some(argument) = arguments.next() {
            let (option, mut given) = match argument.split_once('=') {
                Some((option, value)) => (option, Some(value.to_string())),
                None => (&*argument, None),
            };
            let mut value = || given.take().or_else(|| arguments.next()).ok_or(format!("{option} needs a value"));
            match option {
                "--help" | "-h" => return Ok(None),
                "--list" => options.list = true,
                "--only" => options.only.push(value()?),
                "--json" => options.json = Some(value()?.into()),
                "--html" => options.html = Some(value()?.into()),
                "--targets" => options.targets = Some(value()?.into()),
                "--check" => {
                    options.check = vec![value()?.into()];
                    options.check.extend(arguments.by_ref().map(PathBuf::from));
                }
                "--quick" => options.quick = true,
                "--rounds" => rounds = Some(number(&value()?)?),
                "--work" => options.work = Duration::from_nanos(number(&value()?)? as u64),
                "--kills" => kills = Some(number(&value()?)?),
                "--large-kills" => large_kills = Some(number(&value()?)?),
                "--small-pages" => options.huge_pages = false,
                "--budget" => options.budget = Duration::from_secs(number(&value()?)? as u64),
                _ => return Err(format!("unknown option {option}, see --help")),
            }
            if let Some(value) = given {
                return Err(format!("{option} takes no value, and not {value:?}"));
            }
        }
        let pick = |given: Option<usize>, full, quick| given.unwrap_or(if options.quick { quick } else { full });
        options.rounds = pick(rounds, 31, MIN_ROUNDS);
        stats::check_rounds(options.rounds).map_err(|error| format!("--rounds: {error}"))?;
        options.kills = pick(kills, 1000, 20);
        options.large_kills = pick(large_kills, 100, 3);
        Ok(Some(options))
    }

    fn plan(&self, case: &str, rounds: usize) -> Plan {
        Plan { case: case.into(), rounds, budget: self.budget, verbose: true }
    }

    /// With samples of so many milliseconds, if they need not be figures and if they do.
    fn sample(&self, case: &str, quick: u64, full: u64) -> solo::Settings {
        let sample = Duration::from_millis(if self.quick { quick } else { full });
        solo::Settings { plan: self.plan(case, self.rounds), sample }
    }

    fn contention(&self, case: &str) -> io::Result<Figures> {
        contention::run(&contention::Settings {
            plan: self.plan(case, self.rounds),
            duration: Duration::from_millis(if self.quick { 130 } else { 500 }),
            work: self.work,
            repeats: if self.quick { 0 } else { 10 },
        })
    }

    fn kill(&self, case: &str, size: &kill::Size) -> io::Result<Figures> {
        if self.quick && size.memory > QUICK_MEMORY {
            return Err(io::Error::new(ErrorKind::Unsupported, "so much memory takes too long for a quick run"));
        }
        let kills = if size.is_large() { self.large_kills } else { self.kills };
        kill::run(&kill::Settings { plan: self.plan(case, kills), ..size.settings(self.huge_pages) })
    }

    fn open(&self, case: &str) -> io::Result<Figures> {
        open::run(&open::Settings { plan: self.plan(case, self.rounds), turns: if self.quick { 10 } else { 100 } })
    }

    fn create(&self, case: &str) -> io::Result<Figures> {
        let (turns, most) = if self.quick { (2, QUICK_MEMORY) } else { (50, usize::MAX) };
        let plan = self.plan(case, self.rounds);
        create::run(&create::Settings { plan: Plan { budget: plan.budget.min(EACH_SIZE), ..plan }, turns, most })
    }

    fn attach(&self, case: &str) -> io::Result<Figures> {
        attach::run(&attach::Settings { plan: self.plan(case, self.rounds), most: if self.quick { 10 } else { 1000 } })
    }

    fn memory(&self, _: &str) -> io::Result<Figures> {
        memory::run()
    }

    fn spawn(&self, case: &str) -> io::Result<Figures> {
        spawn::run(&spawn::Settings { plan: self.plan(case, self.rounds), turns: if self.quick { 2 } else { 20 } })
    }

    fn pool_maps(&self, case: &str) -> io::Result<Figures> {
        pool::maps(&self.plan(case, self.rounds))
    }

    fn pool_kills(&self, case: &str) -> io::Result<Figures> {
        pool::kills(&self.plan(case, self.rounds))
    }

    fn stopped(&self, case: &str) -> io::Result<Figures> {
        stopped::run(&self.plan(case, self.rounds))
    }

    fn copies(&self, case: &str) -> io::Result<Figures> {
        array::copies(&self.sample(case, 1, 6))
    }

    /// Kills the victims of a table that is no figure.
    fn killed(&self, report: &mut Report) -> io::Result<()> {
        let (kills, bound) = if self.quick { (1, Duration::from_millis(500)) } else { (5, Duration::from_secs(2)) };
        killed::run(kills, bound, |row| report.add_killed(row))
    }
}

fn number(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|&number| number > 0).ok_or(format!("{text:?} is not a positive number"))
}

/// How a case is run.
enum Run {
    /// In so many seconds, about.
    By(f64, fn(&Options, &str) -> io::Result<Figures>),
    Kill(&'static kill::Size),
    Solo(&'static Solo),
    Game(&'static Game),
    Death(&'static Death),
    Killed,
}

impl Run {
    fn run(&self, options: &Options, name: &str, report: &mut Report) -> io::Result<()> {
        let figures = match self {
            Run::By(_, case) => case(options, name)?,
            Run::Kill(size) => options.kill(name, size)?,
            Run::Solo(case) => case.run(&options.sample(name, 1, 6))?,
            Run::Death(case) => case.run(&options.plan(name, options.kills))?,
            Run::Game(case) => case.run(&options.sample(name, 5, 20))?,
            Run::Killed => return options.killed(report),
        };
        report.add(name, &figures);
        Ok(())
    }

    /// How long it takes, in seconds or so: only counts beside that of the others.
    fn weight(&self, options: &Options) -> f64 {
        let rounds = options.rounds as f64;
        let seconds = match self {
            // Each gets its part of the time.
            _ if options.quick => 1.0,
            Run::By(seconds, _) => seconds * rounds / 31.0,
            Run::Solo(_) => rounds * 0.03,
            Run::Game(case) => rounds * 0.03 * case.entries.len() as f64 + 0.1 * case.members as f64,
            Run::Death(case) => options.kills as f64 * 0.01 * case.entries.len() as f64,
            Run::Kill(size) if size.is_large() => options.large_kills as f64 * size.memory as f64 / 1e9,
            Run::Kill(_) => options.kills as f64 * 0.03,
            Run::Killed => 30.0,
        };
        seconds.min(options.budget.as_secs_f64())
    }
}

/// All cases, by their names.
fn all_cases() -> Vec<(&'static str, Run)> {
    let mut all = vec![
        ("mutex/contended", Run::By(31.0, Options::contention)),
        ("mutex/stopped", Run::By(7.0, Options::stopped)),
        (open::NAME, Run::By(5.0, Options::open)),
        (create::NAME, Run::By(60.0, Options::create)),
        ("region/attach", Run::By(50.0, Options::attach)),
        ("region/memory", Run::By(1.0, Options::memory)),
        (spawn::NAME, Run::By(2.0, Options::spawn)),
        (pool::MAPS, Run::By(2.0, Options::pool_maps)),
        (pool::KILLS, Run::By(40.0, Options::pool_kills)),
        ("array/copy", Run::By(9.0, Options::copies)),
    ];
    all.extend(kill::SIZES.iter().map(|size| (size.case, Run::Kill(size))));
    all.extend(cases::SOLOS.iter().map(|case| (case.name, Run::Solo(case))));
    all.extend(cases::DEATHS.iter().map(|case| (case.name, Run::Death(case))));
    all.extend(cases::GAMES.iter().map(|case| (case.name, Run::Game(case))));
    all.push((killed::NAME, Run::Killed));
    all
}

/// Runs the chosen cases one after the other; one that fails does not keep the others from running.
fn run(options: &mut Options, chosen: &[(&'static str, Run)]) -> io::Result<Report> {
    let mut report = Report::new(options.quick)?;
    progress::begin(chosen.iter().map(|(_, case)| case.weight(options)).collect());
    let begun = Instant::now();
    let budget = options.budget;
    for (index, (name, case)) in chosen.iter().enumerate() {
        progress::case(index, name);
        if options.quick {
            let left = QUICK.saturating_sub(begun.elapsed());
            options.budget = budget.min(left / (chosen.len() - index) as u32);
        }
        let done = panic::catch_unwind(AssertUnwindSafe(|| case.run(options, name, &mut report)));
        // A peer may panic where ours returns an error. What it has said is on the screen.
        match done.unwrap_or_else(|_| Err(io::Error::other("a panic"))) {
            Ok(()) => {}
            // Not a fault of anything that is measured.
            Err(error) if [ErrorKind::OutOfMemory, ErrorKind::Unsupported].contains(&error.kind()) => {
                progress::note(&format!("{name}: left out: {error}"));
                report.add_absent(name, &error.to_string());
            }
            Err(error) => {
                progress::note(&format!("{name}: wrong: {error}"));
                report.add_wrong(name, &error.to_string());
            }
        }
    }
    progress::end();
    Ok(report)
}

/// What writes a report in one form.
type Write = fn(&Report, &mut BufWriter<File>) -> io::Result<()>;

/// Sees that the files that are wanted can be made: before the cases, which take minutes.
fn outputs(options: &Options) -> io::Result<Vec<(Output, Write)>> {
    let wanted: [(&Option<PathBuf>, Write); 3] = [
        (&options.json, |report, file| json::write(report, file)),
        (&options.html, |report, file| html::write(report, file)),
        (&options.targets, |report, file| targets::write(report, file)),
    ];
    let prepare = |(path, write): (&Option<PathBuf>, Write)| {
        let output = Output::prepare(path.as_ref()?);
        Some(output.map(|output| (output, write)))
    };
    wanted.into_iter().filter_map(prepare).collect()
}

/// Prints the report and writes it where it is wanted.
fn publish(report: &Report, outputs: Vec<(Output, Write)>) -> io::Result<()> {
    print!("{report}");
    for (output, write) in outputs {
        output.write(|file| write(report, file))?;
    }
    Ok(())
}

/// Says for each target whether it holds in all reports.
fn check(files: &[PathBuf]) -> io::Result<bool> {
    let checked = targets::check(files)?;
    print!("{}", checked.table);
    Ok(checked.all_hold)
}

fn refuse(message: impl Display) -> ExitCode {
    eprintln!("shmkit-bench: {message}");
    ExitCode::from(2)
}

fn main() -> ExitCode {
    cases::run_role_if_child();
    let mut options = match Options::parse(env::args().skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(message) => return refuse(message),
    };
    if !options.check.is_empty() {
        return match check(&options.check) {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(error) => refuse(error),
        };
    }
    let mut chosen = all_cases();
    for pattern in &options.only {
        if !chosen.iter().any(|(name, _)| name.contains(pattern)) {
            return refuse(format_args!("no case has {pattern:?} in its name, see --list"));
        }
    }
    let is_chosen = |name: &str| options.only.is_empty() || options.only.iter().any(|pattern| name.contains(pattern));
    chosen.retain(|(name, _)| is_chosen(name));
    if options.list {
        for (name, _) in chosen {
            println!("{name}");
        }
        return ExitCode::SUCCESS;
    }
    let outputs = match outputs(&options) {
        Ok(outputs) => outputs,
        Err(error) => return refuse(error),
    };
    let done = run(&mut options, &chosen).and_then(|report| publish(&report, outputs).map(|()| report));
    match done {
        Ok(report) if report.is_wrong() => ExitCode::FAILURE,
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("shmkit-bench: {error}");
            ExitCode::FAILURE
        }
    }
}
