//! Python's `multiprocessing.Queue`, for those who know it: `queue.py` in the interpreter that `python3` is.
//!
//! The first member starts it and tells it when to begin and for how many messages; the others have
//! nothing to do. What its words with the interpreter take is small beside a round.

use std::cell::RefCell;
use std::io::{self, BufRead, BufReader, Write};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};

use crate::team::{Place, Play, Seat};

/// The name in results.
pub const NAME: &str = "multiprocessing.Queue";

const SCRIPT: &str = include_str!("queue.py");

/// A queue for `CAPACITY` messages.
pub struct Queue<const CAPACITY: usize>(RefCell<Option<Interpreter>>);

struct Interpreter {
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl<const CAPACITY: usize> Place for Queue<CAPACITY> {
    fn create(_: usize) -> io::Result<Self> {
        let mut probe = Command::new("python3");
        let probe = probe.args(["-c", "import multiprocessing.synchronize"]).stderr(Stdio::null()).status();
        if probe.is_ok_and(|status| status.success()) {
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
