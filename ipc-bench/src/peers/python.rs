//! Python's `multiprocessing.Queue`, for those who know it: `queue.py` in the interpreter that `python3` is.
//!
//! The first member starts it and tells it when to begin and for how many messages; the others have
//! nothing to do. What its words with the interpreter take is small beside a round. What becomes of its processes when
//! another one is killed, `killed.py` finds out by itself.
//!
//! Used as its documentation says: all objects come from a context, here of the start method `fork`, and are inherited by
//! the processes that use them; a queue is put to and got from, and its feeder thread is left to itself.

use std::cell::RefCell;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use crate::killed::{Outcome, Row, When};
use crate::team::{Place, Play, Seat};

/// The name in results.
pub const NAME: &str = "multiprocessing.Queue";

const SCRIPT: &str = include_str!("queue.py");
const KILLED: &str = include_str!("killed.py");
const WHOSE: &str = "Python";

/// A queue for `CAPACITY` messages.
pub struct Queue<const CAPACITY: usize>(RefCell<Option<Interpreter>>);

struct Interpreter {
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

/// Whether this machine has an interpreter.
fn is_here() -> bool {
    let mut probe = Command::new("python3");
    let probe = probe.args(["-c", "import multiprocessing.synchronize"]).stderr(Stdio::null()).status();
    probe.is_ok_and(|status| status.success())
}

impl<const CAPACITY: usize> Place for Queue<CAPACITY> {
    fn create(_: usize) -> io::Result<Self> {
        if is_here() {
            return Ok(Queue(RefCell::new(None)));
        }
        Err(io::Error::new(io::ErrorKind::Unsupported, "no python3 with multiprocessing here"))
    }

    fn address(&self) -> String {
        String::new()
    }

    fn attach(_: &str) -> io::Result<Self> {
        Ok(Queue(RefCell::new(None)))
    }
}

impl Interpreter {
    fn start(capacity: usize, seat: Seat) -> io::Result<Self> {
        let cpus = (0..seat.members).map(|member| seat.cpus[member % 2]);
        let numbers = [capacity, seat.members / 2].into_iter().chain(cpus).map(|number| number.to_string());
        let mut command = Command::new("python3");
        command.args(["-c", SCRIPT]).args(numbers).stdin(Stdio::piped()).stdout(Stdio::piped());
        // A group of its own: Ctrl-C is not for it, it ends with its input.
        command.process_group(0);
        let mut process = command.spawn()?;
        let (orders, answers) = (process.stdin.take(), process.stdout.take());
        let (Some(orders), Some(answers)) = (orders, answers) else { unreachable!("both are piped") };
        Ok(Interpreter { orders, answers: BufReader::new(answers) })
    }

    fn play(&mut self, turns: u64) -> io::Result<()> {
        writeln!(self.orders, "{turns}")?;
        let mut answer = String::new();
        match self.answers.read_line(&mut answer)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

impl<const CAPACITY: usize> Play for Queue<CAPACITY> {
    fn prepare(&self, seat: Seat) {
        if seat.member == 0 && self.0.borrow().is_none() {
            self.0.replace(Some(Interpreter::start(CAPACITY, seat).expect("the interpreter")));
        }
    }

    fn play(&self, _: Seat, turns: u64) {
        if let Some(interpreter) = &mut *self.0.borrow_mut() {
            interpreter.play(turns).expect("the interpreter goes on");
        }
    }
}

/// What becomes of the others when one is killed, within `bound`.
///
/// # Errors
/// Those of starting the interpreter, and `InvalidData` if it does not say what it should.
pub fn killed(bound: Duration) -> io::Result<Vec<Row>> {
    if !is_here() {
        let outcome = Outcome::Absent("no python3 with multiprocessing on this machine".into());
        return Ok(vec![Row { whose: WHOSE, what: "multiprocessing".into(), when: When::Holding, outcome }]);
    }
    let mut command = Command::new("python3");
    command.args(["-c", KILLED, &bound.as_secs_f64().to_string()]).stdin(Stdio::null()).stderr(Stdio::inherit());
    let output = command.output()?.stdout;
    let rows: Option<Vec<_>> = String::from_utf8_lossy(&output).lines().map(|line| row(line, bound)).collect();
    rows.filter(|rows| !rows.is_empty()).ok_or(io::ErrorKind::InvalidData.into())
}

/// Reads a line of `killed.py`.
fn row(line: &str, bound: Duration) -> Option<Row> {
    let cells: Vec<_> = line.split('\t').collect();
    let [what, when, outcome, microseconds, text] = *cells else { return None };
    let time = Duration::from_micros(microseconds.parse().ok()?);
    let outcome = match outcome {
        "recovered" => Outcome::Recovered(time),
        "told" => Outcome::Told(time, text.into()),
        _ => Outcome::Hangs(bound),
    };
    let all = [When::Holding, When::Waiting, When::Writing];
    let when = all.into_iter().find(|known| known.to_string() == when)?;
    Some(Row { whose: WHOSE, what: what.into(), when, outcome })
}
