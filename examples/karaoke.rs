//! A karaoke bar: more singers than booths, and some are killed while they are in one.
//!
//! The parent creates a region and starts the singers, which are processes of this same program. Each takes one of the booths, sings,
//! and leaves, again and again. A singer that is killed inside leaves nothing to clean up: its booth goes to another one, who is told
//! that the singer before died in there. At the end the parent looks whether all booths are back.
//!
//! How many are inside is seen in one word with a bit for each singer: all at one instant, which a sum over several words would not be.
//! No count would have to be lowered for the dead: whoever gets the booth of one takes its bit out.

use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::process::{ExitStatusExt, parent_id};
use std::process::{Child, Command, ExitCode, ExitStatus};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use shmkit::{Permit, Permits, Region, ShmSafe};

type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

const USAGE: &str = "\
A karaoke bar: processes share a few booths, and some are killed while they are in one.

Usage: cargo run --release --example karaoke -- [OPTIONS]

  --singers N   processes that sing (1 to 64; default 10)
  --booths B    booths, each for one singer at a time (1 to 64; default 3)
  --kill K      singers to kill while they are in a booth (less than the singers; default 2, or what the singers allow)
  --help        this text

The last line sums up. The exit code is 0 if never more singers than booths were inside, and as many once, if each booth came back from
each dead, and if everybody else has sung; 1 if not; 2 for a wrong call.";

const MAX_SINGERS: usize = 64;
const MAX_BOOTHS: usize = Permits::MAX as usize;

/// How long a song and the break after it take.
const SONG: Duration = Duration::from_millis(2);
/// Longer than anything here takes: a hang is a failure.
const CLOSING_TIME: Duration = Duration::from_secs(60);
/// How often to look at the shared state.
const TICK: Duration = Duration::from_micros(500);

/// Set in the environment of a singer: its number, from 1, and the process id of its parent, which may be gone before the singer looks.
const SINGER: &str = "KARAOKE_SINGER";
const PARENT: &str = "KARAOKE_PARENT";

/// What all processes see, beside the booths.
#[repr(C)]
#[derive(ShmSafe)]
struct Bar {
    /// Who is inside: bit n - 1 is singer n.
    inside: AtomicU64,
    /// The most that were inside at any instant.
    most_inside: AtomicU32,
    /// How many of them there are to be once before anybody leaves.
    full_house: AtomicU32,
    /// Singers that wait for the bar to open.
    queue: AtomicU32,
    /// 1 from when the booths may be entered.
    open: AtomicU32,
    /// 1 while the parent wants the next singer that is inside to stay there.
    wanted: AtomicU32,
    /// The singer that is inside and stays; 0: none.
    caught: AtomicU32,
    /// How often somebody has got a booth in which the singer before has died.
    returned: AtomicU32,
    /// 1 from when everybody may go home after its song.
    last_round: AtomicU32,
    /// How often somebody has got a booth with somebody in it who lives.
    doubled: AtomicU32,
    _reserved: AtomicU32,
    /// The singer in each booth; 0: none.
    singers: [AtomicU32; MAX_BOOTHS],
    /// How many songs each singer has finished. Singer n is at n - 1.
    songs: [AtomicU32; MAX_SINGERS],
}

impl Bar {
    fn new(full_house: u32) -> Self {
        Self {
            inside: AtomicU64::new(0),
            most_inside: AtomicU32::new(0),
            full_house: AtomicU32::new(full_house),
            queue: AtomicU32::new(0),
            open: AtomicU32::new(0),
            wanted: AtomicU32::new(0),
            caught: AtomicU32::new(0),
            returned: AtomicU32::new(0),
            last_round: AtomicU32::new(0),
            doubled: AtomicU32::new(0),
            _reserved: AtomicU32::new(0),
            singers: [const { AtomicU32::new(0) }; MAX_BOOTHS],
            songs: [const { AtomicU32::new(0) }; MAX_SINGERS],
        }
    }

    /// Notes who is in the booth now; says who has died in there, if that is why it was free.
    fn enter(&self, booth: &Permit<'_>, number: u32) -> Option<u32> {
        let before = self.singers[booth.index() as usize].swap(number, SeqCst);
        let dead = booth.after_death().then_some(before);
        if dead.is_some() {
            self.returned.fetch_add(1, SeqCst);
        } else if before != 0 {
            self.doubled.fetch_add(1, SeqCst);
        }
        // At one instant the dead goes out and this one comes in.
        let gone = dead.map_or(0, bit);
        let change = |inside| Some(inside & !gone | bit(number));
        let inside =
            self.inside.fetch_update(SeqCst, SeqCst, change).unwrap_or_else(|inside| inside) & !gone | bit(number);
        self.most_inside.fetch_max(inside.count_ones(), SeqCst);
        dead
    }

    /// Before the booth is given back: whoever gets it next is not seen beside this one.
    fn leave(&self, booth: &Permit<'_>, number: u32) {
        self.inside.fetch_and(!bit(number), SeqCst);
        self.singers[booth.index() as usize].store(0, SeqCst);
    }

    fn was_full(&self) -> bool {
        self.most_inside.load(SeqCst) >= self.full_house.load(SeqCst)
    }
}

/// The bit of a singer; none for number 0, which is nobody.
fn bit(number: u32) -> u64 {
    number.checked_sub(1).and_then(|place| 1u64.checked_shl(place)).unwrap_or(0)
}

/// One line on standard output, whole, whoever else writes there.
fn say(line: std::fmt::Arguments<'_>) {
    // A reader that has gone away is no reason to stop singing.
    let _ = std::io::stdout().write_all(format!("{line}\n").as_bytes());
}

macro_rules! say {
    ($($line:tt)*) => { say(format_args!($($line)*)) };
}

fn main() -> ExitCode {
    if let Some(number) = std::env::var(SINGER).ok().and_then(|number| number.parse().ok()) {
        return match sing(number) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("singer {number}: {error}");
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
            eprintln!("karaoke: {error}");
            ExitCode::FAILURE
        }
    }
}

struct Options {
    singers: u32,
    booths: u32,
    kill: u32,
}

impl Options {
    /// `None` if only help is wanted.
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Option<Self>, String> {
        let (mut singers, mut booths, mut kill) = (10, 3, None);
        while let Some(argument) = arguments.next() {
            let mut number = |max: usize| {
                let value = arguments.next().ok_or(format!("{argument} needs a number"))?;
                let number = value.parse().map_err(|_| format!("{argument} needs a number, not {value:?}"))?;
                if number as usize > max { Err(format!("{argument} goes up to {max}")) } else { Ok(number) }
            };
            match argument.as_str() {
                "--singers" => singers = number(MAX_SINGERS)?,
                "--booths" => booths = number(MAX_BOOTHS)?,
                "--kill" => kill = Some(number(MAX_SINGERS)?),
                "--help" | "-h" => return Ok(None),
                _ => return Err(format!("unknown option {argument}")),
            }
        }
        if singers == 0 || booths == 0 {
            return Err("at least one singer and one booth, please".to_owned());
        }
        if kill.is_some_and(|kill| kill >= singers) {
            return Err("at least one singer must live: choose --kill less than --singers".to_owned());
        }
        Ok(Some(Self { singers, booths, kill: kill.unwrap_or(2.min(singers - 1)) }))
    }
}

// The parent.

/// The singers' processes. Whatever happens here, none is left.
struct Singers(Vec<Option<Child>>);

impl Singers {
    fn start(options: &Options, region: &Region) -> Result<Self> {
        let mut singers = Self(Vec::new());
        for number in 1..=options.singers {
            let mut command = Command::new(std::env::current_exe()?);
            command.env(SINGER, number.to_string()).env(PARENT, std::process::id().to_string());
            // The region has no name that could stay behind: it travels as the standard input.
            command.stdin(region.as_fd().try_clone_to_owned()?);
            singers.0.push(Some(command.spawn()?));
        }
        Ok(singers)
    }

    /// Kills a singer and waits for its end.
    fn kill(&mut self, number: u32) -> Result<()> {
        if let Some(mut child) = self.0[number as usize - 1].take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// Collects those who have gone home; says how many are still there.
    fn remaining(&mut self) -> Result<usize> {
        for child in &mut self.0 {
            let ended: Option<ExitStatus> = child.as_mut().map_or(Ok(None), Child::try_wait)?;
            if let Some(status) = ended {
                *child = None;
                if !status.success() {
                    return Err(match status.signal() {
                        Some(signal) => format!("a singer was ended by signal {signal}").into(),
                        None => format!("a singer failed: {status}").into(),
                    });
                }
            }
        }
        Ok(self.0.iter().flatten().count())
    }
}

impl Drop for Singers {
    fn drop(&mut self) {
        for child in self.0.iter_mut().flatten() {
            // Those who have ended by themselves cannot be killed, only waited for.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Runs the bar; says whether all went well.
fn run(options: &Options) -> Result<bool> {
    let closing = Instant::now() + CLOSING_TIME;
    let region = Region::anonymous(size_of::<Bar>() + size_of::<Permits>() + 4096)?;
    let bar = region.insert("bar", Bar::new(options.booths.min(options.singers)))?;
    let booths = region.insert("booths", Permits::new(options.booths)?)?;
    say!("{} singers come to a bar with {} booths", options.singers, options.booths);
    let mut singers = Singers::start(options, &region)?;
    while bar.queue.load(SeqCst) < options.singers {
        check_time(closing)?;
        singers.remaining()?;
        std::thread::sleep(TICK);
    }
    bar.open.store(1, SeqCst);

    let mut killed = Vec::new();
    let mut wanted = 0;
    while singers.remaining()? > 0 {
        check_time(closing)?;
        let caught = bar.caught.swap(0, SeqCst);
        if caught != 0 {
            say!("singer {caught} is killed in its booth");
            killed.push(caught);
            singers.kill(caught)?;
        }
        if killed.len() as u32 == options.kill && bar.was_full() {
            bar.last_round.store(1, SeqCst);
        } else if killed.len() as u32 == wanted && bar.was_full() {
            // One victim at a time, and the first only when all booths have been in use at once.
            wanted += 1;
            bar.wanted.store(1, SeqCst);
        }
        std::thread::sleep(TICK);
    }

    // Whatever nobody else has got, the bar has: all booths at once.
    let mut all = Vec::new();
    for _ in 0..options.booths {
        let booth = booths.acquire_deadline(closing)?;
        if let Some(dead) = bar.enter(&booth, 0) {
            say!("the bar finds booth {} empty: singer {dead} has died in it", booth.index() + 1);
        }
        all.push(booth);
    }
    Ok(sum_up(options, &bar, &killed))
}

fn check_time(closing: Instant) -> Result<()> {
    if Instant::now() > closing { Err("the singers do not get on".into()) } else { Ok(()) }
}

/// Prints the last line.
fn sum_up(options: &Options, bar: &Bar, killed: &[u32]) -> bool {
    let (most_inside, returned) = (bar.most_inside.load(SeqCst), bar.returned.load(SeqCst));
    let has_sung = |number: &u32| bar.songs[*number as usize - 1].load(SeqCst) > 0;
    let all_sang = (1..=options.singers).filter(|number| !killed.contains(number)).all(|number| has_sung(&number));
    let is_full = most_inside == options.booths.min(options.singers);
    let as_wanted = killed.len() as u32 == options.kill && returned == options.kill;
    let nobody_else = bar.inside.load(SeqCst) == 0 && bar.doubled.load(SeqCst) == 0;
    let ok = is_full && as_wanted && all_sang && nobody_else;
    say!(
        "singers={} booths={} most_inside={most_inside} killed={} returned={returned} {}",
        options.singers,
        options.booths,
        killed.len(),
        if ok { "ok" } else { "wrong" },
    );
    ok
}

// The singers.

fn sing(number: u32) -> Result<()> {
    let parent = std::env::var(PARENT)?.parse()?;
    let region = Region::from_fd(std::io::stdin().as_fd().try_clone_to_owned()?)?;
    let bar = region.get::<Bar>("bar")?;
    let booths = region.get::<Permits>("booths")?;
    bar.queue.fetch_add(1, SeqCst);
    while bar.open.load(SeqCst) == 0 && parent_id() == parent {
        std::thread::sleep(TICK);
    }
    // Without the parent there is nobody to sing for.
    while parent_id() == parent {
        let booth = booths.acquire()?;
        match bar.enter(&booth, number) {
            Some(dead) => say!("singer {number} is in booth {}, where singer {dead} has died", booth.index() + 1),
            None => say!("singer {number} is in booth {}", booth.index() + 1),
        }
        // The first ones wait until all booths are in use.
        while !bar.was_full() && parent_id() == parent {
            std::thread::sleep(TICK);
        }
        std::thread::sleep(SONG);
        stay_if_wanted(&bar, number, parent);
        bar.songs[number as usize - 1].fetch_add(1, SeqCst);
        bar.leave(&booth, number);
        drop(booth);
        if bar.last_round.load(SeqCst) == 1 {
            return Ok(());
        }
        std::thread::sleep(SONG);
    }
    Ok(())
}

/// If the parent wants somebody who is inside: tell it who, and stay until the kill.
fn stay_if_wanted(bar: &Bar, number: u32, parent: u32) {
    if bar.wanted.swap(0, SeqCst) == 1 {
        bar.caught.store(number, SeqCst);
        while parent_id() == parent {
            std::thread::sleep(TICK);
        }
    }
}
