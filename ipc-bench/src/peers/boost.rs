//! Boost.Interprocess, where its headers and a C++ compiler are: its mutex, semaphore and sharable mutex.
//!
//! Used as its documentation says: objects constructed in place in `anonymous_shared_memory`, taken by `scoped_lock` and
//! `sharable_lock`. `boost.cpp` is compiled with optimisation when it is first needed, into memory, and runs as a process that does
//! the turns and measures them by itself, on the CPU of whoever asks. On Linux the mutex is a process-shared pthread
//! mutex that is not robust, and nobody is told of a death.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use crate::killed::{Outcome, Row, When};
use crate::pin::{self, Pair};
use crate::shared::{address_of, memory_file};
use crate::solo::Turns;

/// The name of the mutex in results.
pub const MUTEX: &str = "boost interprocess_mutex";
/// The name of the semaphore in results.
pub const SEMAPHORE: &str = "boost interprocess_semaphore";
/// The name of the mutex for readers and writers in results.
pub const SHARABLE: &str = "boost interprocess_sharable_mutex";

const WHOSE: &str = "Boost";
const SOURCE: &str = include_str!("boost.cpp");
/// What each is called in `boost.cpp`.
const KINDS: [(&str, &str); 3] = [(MUTEX, "mutex"), (SEMAPHORE, "semaphore"), (SHARABLE, "sharable")];

/// The compiled program, if it could be compiled.
fn program() -> Option<&'static File> {
    static PROGRAM: OnceLock<Option<File>> = OnceLock::new();
    PROGRAM.get_or_init(|| compile().ok().flatten()).as_ref()
}

fn compile() -> io::Result<Option<File>> {
    let file = memory_file()?;
    let mut compiler = Command::new("c++");
    compiler.args(["-std=c++17", "-O2", "-pthread", "-x", "c++", "-", "-o", &address_of(&file)]);
    let mut compiler = compiler.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    if let Some(mut input) = compiler.stdin.take() {
        // It fails when the compiler ends before it has read all; then so does that.
        let _ = input.write_all(SOURCE.as_bytes());
    }
    if !compiler.wait()?.success() {
        return Ok(None);
    }
    // What is open for writing cannot be executed.
    File::open(address_of(&file)).map(Some)
}

fn start(arguments: &[&str]) -> io::Result<Option<Child>> {
    let Some(program) = program() else { return Ok(None) };
    let mut command = Command::new(address_of(program));
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().map(Some)
}

struct Server {
    process: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Server {
    fn time(&mut self, turns: u64) -> io::Result<Duration> {
        writeln!(self.orders, "{turns}")?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer)?;
        answer.trim().parse().map(Duration::from_nanos).map_err(io::Error::other)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Turns of the primitive of that name; `None` if this machine does not have it.
///
/// # Errors
/// Those of starting the process.
pub fn turns(name: &'static str) -> io::Result<Option<Turns>> {
    // The process inherits the pin.
    let _pinned = pin::pin_to(Pair::choose()?.first)?;
    let Some(mut process) = start(&[kind_of(name)])? else { return Ok(None) };
    let (Some(orders), Some(answers)) = (process.stdin.take(), process.stdout.take()) else {
        unreachable!("both are piped")
    };
    let server = RefCell::new(Server { process, orders, answers: BufReader::new(answers) });
    let time = move |turns| server.borrow_mut().time(turns).expect("the program of Boost goes on");
    Ok(Some(Turns::timed(name, time)))
}

fn kind_of(name: &str) -> &'static str {
    KINDS.iter().find(|(known, _)| *known == name).map_or("", |(_, kind)| kind)
}

/// What becomes of who waits for each when the holder is killed, within `bound`.
///
/// # Errors
/// Those of starting processes.
pub fn killed(bound: Duration) -> io::Result<Vec<Row>> {
    KINDS.iter().map(|(name, kind)| Ok(row(name.trim_start_matches("boost "), outcome(kind, bound)?))).collect()
}

fn row(what: &str, outcome: Outcome) -> Row {
    Row { whose: WHOSE, what: what.into(), when: When::Holding, outcome }
}

fn outcome(kind: &str, bound: Duration) -> io::Result<Outcome> {
    let Some(process) = start(&["killed", kind, &bound.as_millis().to_string()])? else {
        return Ok(Outcome::Absent("no headers of Boost.Interprocess, or no c++, on this machine".into()));
    };
    let output = process.wait_with_output()?.stdout;
    let times: Vec<u64> = String::from_utf8_lossy(&output).lines().filter_map(|line| line.parse().ok()).collect();
    match *times {
        [_] => Ok(Outcome::Hangs(bound)),
        [killed, known] => Ok(Outcome::Recovered(Duration::from_nanos(known.saturating_sub(killed)))),
        _ => Err(io::Error::other(format!("the program of Boost has said {output:?}"))),
    }
}
