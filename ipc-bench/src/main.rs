//! Prints the table of figures: each case, ours, the floor or peer, the ratio, the target, and the
//! conditions. Progress goes to stderr.

use std::env;
use std::io;
use std::process::ExitCode;
use std::time::Duration;

use shmkit_bench::cases::{self, array, contention, kill, memory, open, pool, spawn};
use shmkit_bench::death::Death;
use shmkit_bench::report::Report;
use shmkit_bench::solo::{self, Solo};
use shmkit_bench::stats::{MIN_ROUNDS, Plan};
use shmkit_bench::team::Game;

const HELP: &str = "\
Measures shmkit against the hardware's floor and its peers.

Usage: shmkit-bench [OPTIONS]

Options:
  --list               print the names of the cases
  --only PATTERN       only cases whose name contains PATTERN
  --quick              few and short rounds, to see that all works; not for figures
  --rounds N           rounds of all cases but those that kill (at least 15;
                       default 31)
  --work NS            work outside the section when contending (default 200)
  --kills N            kills per candidate, but for victims of 2 GiB (default
                       1000)
  --large-kills N      kills per lock with victims of 2 GiB (default 1000)
  --small-pages        victims of 2 GiB use no huge pages (slow)
  --budget SECONDS     begin no round of a case after this time (default 1200)
  --help               print this
";

struct Options {
    list: bool,
    only: Option<String>,
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
            only: None,
            quick: false,
            rounds: 0,
            work: Duration::from_nanos(200),
            kills: 0,
            large_kills: 0,
            huge_pages: true,
            budget: Duration::from_secs(1200),
        };
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
            match argument.as_str() {
                "--help" | "-h" => return Ok(None),
                "--list" => options.list = true,
                "--only" => options.only = Some(value()?),
                "--quick" => options.quick = true,
                "--rounds" => rounds = Some(number(&value()?)?),
                "--work" => options.work = Duration::from_nanos(number(&value()?)? as u64),
                "--kills" => kills = Some(number(&value()?)?),
                "--large-kills" => large_kills = Some(number(&value()?)?),
                "--small-pages" => options.huge_pages = false,
                "--budget" => options.budget = Duration::from_secs(number(&value()?)? as u64),
                _ => return Err(format!("unknown option {argument}, see --help")),
            }
        }
        let pick = |given: Option<usize>, full, quick| given.unwrap_or(if options.quick { quick } else { full });
        options.rounds = pick(rounds, 31, MIN_ROUNDS);
        options.kills = pick(kills, 1000, 20);
        options.large_kills = pick(large_kills, 1000, 3);
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

    fn contention(&self, case: &str, report: &mut Report) -> io::Result<()> {
        let settings = contention::Settings {
            plan: self.plan(case, self.rounds),
            duration: Duration::from_millis(if self.quick { 130 } else { 500 }),
            work: self.work,
            repeats: if self.quick { 0 } else { 10 },
        };
        report.add_contention(&contention::run(&settings)?);
        Ok(())
    }

    fn kill_small(&self, case: &str, report: &mut Report) -> io::Result<()> {
        let plan = self.plan(case, self.kills);
        // So little memory that no huge page fits in surely: small pages always.
        let settings = kill::Settings { label: "1 MiB", plan, memory: 1 << 20, huge_pages: false };
        report.add(&kill::run(&settings)?);
        Ok(())
    }

    fn kill_large(&self, case: &str, report: &mut Report) -> io::Result<()> {
        let plan = self.plan(case, self.large_kills);
        let settings = kill::Settings { label: "2 GiB", plan, memory: 2 << 30, huge_pages: self.huge_pages };
        report.add(&kill::run(&settings)?);
        Ok(())
    }

    fn open(&self, case: &str, report: &mut Report) -> io::Result<()> {
        let settings = open::Settings { plan: self.plan(case, self.rounds), turns: if self.quick { 10 } else { 100 } };
        report.add_open(&open::run(&settings)?);
        Ok(())
    }

    fn memory(&self, _: &str, report: &mut Report) -> io::Result<()> {
        report.add_memory(&memory::run()?);
        Ok(())
    }

    fn spawn(&self, case: &str, report: &mut Report) -> io::Result<()> {
        let settings = spawn::Settings { plan: self.plan(case, self.rounds), turns: if self.quick { 2 } else { 20 } };
        report.add(&spawn::run(&settings)?);
        Ok(())
    }

    fn pool_maps(&self, case: &str, report: &mut Report) -> io::Result<()> {
        report.add(&pool::maps(&self.plan(case, self.rounds))?);
        Ok(())
    }

    fn pool_kills(&self, case: &str, report: &mut Report) -> io::Result<()> {
        report.add(&pool::kills(&self.plan(case, self.rounds))?);
        Ok(())
    }

    fn elements(&self, case: &str, report: &mut Report) -> io::Result<()> {
        report.add(&array::elements(&self.sample(case, 1, 6))?);
        Ok(())
    }

    fn copies(&self, case: &str, report: &mut Report) -> io::Result<()> {
        report.add(&array::copies(&self.sample(case, 1, 6))?);
        Ok(())
    }
}

fn number(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|&number| number > 0).ok_or(format!("{text:?} is not a positive number"))
}

/// How a case is run.
enum Run {
    By(fn(&Options, &str, &mut Report) -> io::Result<()>),
    Solo(&'static Solo),
    Game(&'static Game),
    Death(&'static Death),
}

impl Run {
    fn run(&self, options: &Options, name: &str, report: &mut Report) -> io::Result<()> {
        match self {
            Run::By(case) => return case(options, name, report),
            Run::Solo(case) => report.add(&case.run(&options.sample(name, 1, 6))?),
            Run::Death(case) => report.add(&case.run(&options.plan(name, options.kills))?),
            Run::Game(case) => report.add(&case.run(&options.sample(name, 5, 20))?),
        }
        Ok(())
    }
}

/// All cases, by their names.
fn all_cases() -> Vec<(&'static str, Run)> {
    let mut all = vec![
        ("contention", Run::By(Options::contention)),
        ("kill-1MiB", Run::By(Options::kill_small)),
        ("kill-2GiB", Run::By(Options::kill_large)),
        ("open", Run::By(Options::open)),
        ("memory", Run::By(Options::memory)),
        ("process/spawn", Run::By(Options::spawn)),
        ("pool/map", Run::By(Options::pool_maps)),
        ("pool/kills", Run::By(Options::pool_kills)),
        ("array/element", Run::By(Options::elements)),
        ("array/copy", Run::By(Options::copies)),
    ];
    all.extend(cases::SOLOS.iter().map(|case| (case.name, Run::Solo(case))));
    all.extend(cases::DEATHS.iter().map(|case| (case.name, Run::Death(case))));
    all.extend(cases::GAMES.iter().map(|case| (case.name, Run::Game(case))));
    all
}

fn main() -> ExitCode {
    cases::run_role_if_child();
    let options = match Options::parse(env::args().skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(message) => {
            eprintln!("shmkit-bench: {message}");
            return ExitCode::from(2);
        }
    };
    let wanted = |name: &str| options.only.as_deref().is_none_or(|pattern| name.contains(pattern));
    let mut chosen = all_cases();
    chosen.retain(|(name, _)| wanted(name));
    if chosen.is_empty() {
        eprintln!("shmkit-bench: no case of that name, see --help");
        return ExitCode::from(2);
    }
    if options.list {
        for (name, _) in chosen {
            println!("{name}");
        }
        return ExitCode::SUCCESS;
    }
    let mut report = Report::default();
    let mut failed = false;
    for (name, case) in chosen {
        eprintln!("{name}: begins");
        if let Err(error) = case.run(&options, name, &mut report) {
            eprintln!("{name}: failed: {error}");
            failed = true;
        }
    }
    if options.quick {
        println!("a quick run: it shows that all works, its figures mean nothing\n");
    }
    print!("{report}");
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
