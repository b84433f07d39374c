//! A ticket office: many processes buy tickets under one mutex, and some are killed while they hold it.
//!
//! The parent creates a region and starts the buyers, which are processes of this same program. Each looks how many tickets are
//! left, enters its purchase into the ledger, pauses, and takes the ticket from the stock: all under the lock, so whoever sees
//! anything in between oversells. A buyer that is killed in the pause leaves a purchase that is entered but not taken from the
//! stock; the next one learns of it by the poison, finishes the purchase and clears the poison.

use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::process::{ExitStatusExt, parent_id};
use std::process::{Child, Command, ExitCode, ExitStatus};
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::{Duration, Instant};

use shmkit::{LockError, Mutex, MutexGuard, Region, Shm, ShmSafe};

type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

const USAGE: &str = "\
A ticket office: processes buy tickets under a shared-memory mutex, and some are killed while they hold it.

Usage: cargo run --release --example ticket_office -- [OPTIONS]

  --buyers N    processes that buy (1 to 100; default 10)
  --tickets N   tickets to sell (1 to 4096; default 20)
  --kill K      buyers to kill while they hold the lock (less than the buyers; default 2, or what the buyers allow)
  --no-lock     buy without the lock, and see why there is one (no kills)
  --help        this text

The last line sums up. The exit code is 0 if every ticket was sold once, to one buyer, or is left; 1 if not; 2 for a wrong call.";

const MAX_TICKETS: usize = 4096;
const MAX_BUYERS: usize = 100;

/// Between looking at the stock and changing it: time for every other buyer to get in the way.
const PAUSE: Duration = Duration::from_millis(2);
/// Longer than anything here takes: a hang is a failure.
const CLOSING_TIME: Duration = Duration::from_secs(60);
/// How often to look at the shared state.
const TICK: Duration = Duration::from_micros(500);

/// Set in the environment of a buyer: its number, from 1.
const BUYER: &str = "TICKET_OFFICE_BUYER";
/// Set in the environment of a process that the parent starts: who that is. Asked later, it may be another one already.
const PARENT: &str = "TICKET_OFFICE_PARENT";
const NO_LOCK: &str = "TICKET_OFFICE_NO_LOCK";

/// What all processes see, beside the stock.
#[repr(C)]
#[derive(ShmSafe)]
struct Office {
    /// Buyers that wait for the office to open.
    queue: AtomicU32,
    /// 1 from when buying may begin.
    open: AtomicU32,
    /// How many buyers the parent still wants: whoever holds the lock next stays where it is. Written with the lock held, or before the office opens.
    wanted: AtomicU32,
    /// The buyer that holds the lock and stays; 0: none.
    caught: AtomicU32,
    /// How often a buyer has repaired the books after another one's death.
    recovered: AtomicU32,
    /// The stock for those who buy without the lock.
    unguarded: AtomicU32,
    /// How often each ticket was sold, and who bought it last. Ticket n is at n - 1.
    sales: [AtomicU32; MAX_TICKETS],
    owners: [AtomicU32; MAX_TICKETS],
}

impl Office {
    fn new(tickets: u32, wanted: u32) -> Self {
        Self {
            queue: AtomicU32::new(0),
            open: AtomicU32::new(0),
            wanted: AtomicU32::new(wanted),
            caught: AtomicU32::new(0),
            recovered: AtomicU32::new(0),
            unguarded: AtomicU32::new(tickets),
            sales: [const { AtomicU32::new(0) }; MAX_TICKETS],
            owners: [const { AtomicU32::new(0) }; MAX_TICKETS],
        }
    }

    fn sales_of(&self, ticket: u32) -> u32 {
        self.sales[ticket as usize - 1].load(SeqCst)
    }

    /// Enters a purchase into the ledger.
    fn enter(&self, ticket: u32, buyer: u32) {
        self.owners[ticket as usize - 1].store(buyer, SeqCst);
        self.sales[ticket as usize - 1].fetch_add(1, SeqCst);
    }
}

/// One line on standard output, whole, whoever else writes there.
fn say(line: std::fmt::Arguments<'_>) {
    // A reader that has gone away is no reason to stop selling.
    let _ = std::io::stdout().write_all(format!("{line}\n").as_bytes());
}

macro_rules! say {
    ($($line:tt)*) => { say(format_args!($($line)*)) };
}

fn main() -> ExitCode {
    if let Some(number) = std::env::var(BUYER).ok().and_then(|number| number.parse().ok()) {
        return match buy(number, std::env::var_os(NO_LOCK).is_none()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("buyer {number}: {error}");
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
            eprintln!("ticket office: {error}");
            ExitCode::FAILURE
        }
    }
}

struct Options {
    buyers: u32,
    tickets: u32,
    kill: u32,
    lock: bool,
}

impl Options {
    /// `None` if only help is wanted.
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Option<Self>, String> {
        let (mut buyers, mut tickets, mut kill, mut lock) = (10, 20, None, true);
        while let Some(argument) = arguments.next() {
            let mut number = |max: usize| {
                let value = arguments.next().ok_or(format!("{argument} needs a number"))?;
                let number = value.parse().map_err(|_| format!("{argument} needs a number, not {value:?}"))?;
                if number as usize > max { Err(format!("{argument} goes up to {max}")) } else { Ok(number) }
            };
            match argument.as_str() {
                "--buyers" => buyers = number(MAX_BUYERS)?,
                "--tickets" => tickets = number(MAX_TICKETS)?,
                "--kill" => kill = Some(number(MAX_BUYERS)?),
                "--no-lock" => lock = false,
                "--help" | "-h" => return Ok(None),
                _ => return Err(format!("unknown option {argument}")),
            }
        }
        if buyers == 0 || tickets == 0 {
            return Err("at least one buyer and one ticket, please".to_owned());
        }
        if kill.is_some_and(|kill| kill >= buyers) {
            return Err("at least one buyer must live: choose --kill less than --buyers".to_owned());
        }
        let kill = if lock { kill.unwrap_or(2.min(buyers - 1)) } else { 0 };
        Ok(Some(Self { buyers, tickets, kill, lock }))
    }
}

// The parent.

/// The buyers' processes. Whatever happens here, none is left.
struct Buyers(Vec<Option<Child>>);

impl Buyers {
    fn start(options: &Options, region: &Region) -> Result<Self> {
        let mut buyers = Self(Vec::new());
        for number in 1..=options.buyers {
            let mut command = Command::new(std::env::current_exe()?);
            command.env(BUYER, number.to_string()).env(PARENT, std::process::id().to_string());
            if !options.lock {
                command.env(NO_LOCK, "1");
            }
            // The region has no name that could stay behind: it travels as the standard input.
            command.stdin(region.as_fd().try_clone_to_owned()?);
            buyers.0.push(Some(command.spawn()?));
        }
        Ok(buyers)
    }

    /// Kills a buyer and waits for its end.
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
                        Some(signal) => format!("a buyer was ended by signal {signal}").into(),
                        None => format!("a buyer failed: {status}").into(),
                    });
                }
            }
        }
        Ok(self.0.iter().flatten().count())
    }
}

impl Drop for Buyers {
    fn drop(&mut self) {
        for child in self.0.iter_mut().flatten() {
            // Those who have ended by themselves cannot be killed, only waited for.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Runs the office; says whether the books balance.
fn run(options: &Options) -> Result<bool> {
    let closing = Instant::now() + CLOSING_TIME;
    let region = Region::anonymous(size_of::<Office>() + 4096)?;
    let office = region.insert("office", Office::new(options.tickets, options.kill))?;
    let stock = region.insert("stock", Mutex::new(options.tickets))?;
    say!("{} buyers come for {} tickets", options.buyers, options.tickets);
    let mut buyers = Buyers::start(options, &region)?;
    while office.queue.load(SeqCst) < options.buyers {
        check_time(closing)?;
        buyers.remaining()?;
        std::thread::sleep(TICK);
    }
    office.open.store(1, SeqCst);

    let mut killed = 0;
    while buyers.remaining()? > 0 {
        check_time(closing)?;
        let caught = office.caught.swap(0, SeqCst);
        if caught != 0 {
            say!("buyer {caught} is killed while it holds the lock");
            killed += 1;
            buyers.kill(caught)?;
        }
        std::thread::sleep(TICK);
    }
    let left = if options.lock { *lock(&office, &stock, "the office")? } else { office.unguarded.load(SeqCst) };
    Ok(balance(options, &office, left, killed))
}

fn check_time(closing: Instant) -> Result<()> {
    if Instant::now() > closing { Err("the buyers do not get on".into()) } else { Ok(()) }
}

/// Prints the last line.
fn balance(options: &Options, office: &Office, left: u32, killed: u32) -> bool {
    let recovered = office.recovered.load(SeqCst);
    let sold: u32 = (1..=options.tickets).map(|ticket| office.sales_of(ticket)).sum();
    let oversold = (1..=options.tickets).any(|ticket| office.sales_of(ticket) > 1);
    let in_order = (1..=options.tickets).all(|ticket| {
        let owner = office.owners[ticket as usize - 1].load(SeqCst);
        let (sales, owned) = if ticket <= left { (0, 0..=0) } else { (1, 1..=options.buyers) };
        office.sales_of(ticket) == sales && owned.contains(&owner)
    });
    let ok = in_order && recovered == killed;
    let verdict = match (ok, oversold) {
        (true, _) => "ok",
        (false, true) => "oversold",
        (false, false) => "wrong",
    };
    say!(
        "tickets={} sold={sold} left={left} buyers={} killed={killed} recovered={recovered} {verdict}",
        options.tickets,
        options.buyers,
    );
    ok
}

// The buyers.

fn buy(number: u32, with_lock: bool) -> Result<()> {
    let parent = std::env::var(PARENT)?.parse()?;
    let region = Region::from_fd(std::io::stdin().as_fd().try_clone_to_owned()?)?;
    let office = region.get::<Office>("office")?;
    let stock = region.get::<Mutex<u32>>("stock")?;
    office.queue.fetch_add(1, SeqCst);
    while office.open.load(SeqCst) == 0 && parent_id() == parent {
        std::thread::sleep(TICK);
    }
    // Without the parent there is nobody to sell to.
    while parent_id() == parent {
        let sold = if with_lock {
            let mut left = lock(&office, &stock, &format!("buyer {number}"))?;
            let ticket = *left;
            if ticket > 0 {
                office.enter(ticket, number);
                std::thread::sleep(PAUSE);
                stay_if_wanted(&office, number, parent);
                *left = ticket - 1;
            }
            ticket
        } else {
            let ticket = office.unguarded.load(SeqCst);
            if ticket > 0 {
                office.enter(ticket, number);
                std::thread::sleep(PAUSE);
                office.unguarded.store(ticket - 1, SeqCst);
            }
            ticket
        };
        if sold == 0 {
            return Ok(());
        }
        say!("buyer {number} has ticket {sold}");
        // Back to the end of the queue.
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

/// If the parent wants somebody who holds the lock: tell it who, and stay until the kill.
fn stay_if_wanted(office: &Office, number: u32, parent: u32) {
    let wanted = office.wanted.load(SeqCst);
    if wanted > 0 {
        office.wanted.store(wanted - 1, SeqCst);
        office.caught.store(number, SeqCst);
        while parent_id() == parent {
            std::thread::sleep(TICK);
        }
    }
}

/// Locks the stock; puts the books in order if the last one who had it was killed.
fn lock<'a>(office: &Office, stock: &'a Shm<Mutex<u32>>, who: &str) -> Result<MutexGuard<'a, u32>> {
    match stock.lock() {
        Ok(left) => Ok(left),
        Err(LockError::Poisoned { guard: mut left, cause }) => {
            let ticket = *left;
            if ticket > 0 && office.sales_of(ticket) == 1 {
                *left = ticket - 1;
                say!("{who} finds the lock poisoned ({cause:?}), and finishes the sale of ticket {ticket}");
            } else {
                say!("{who} finds the lock poisoned ({cause:?}), and the books in order");
            }
            stock.clear_poison();
            office.recovered.fetch_add(1, SeqCst);
            Ok(left)
        }
        Err(error) => Err(error.to_string().into()),
    }
}
