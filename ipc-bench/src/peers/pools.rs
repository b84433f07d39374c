//! Other pools of processes: Python's `multiprocessing.Pool` (`pool.py` in the interpreter that `python3` is), that of loky (`loky.py`, if that interpreter
//! has it), and that of procspawn.
//!
//! Each is used as its documentation says. `multiprocessing.Pool`: from a context, here of the start method `fork`, in a `with` that ends it, by `map`
//! with the default or the given `chunksize`. loky: by its reusable executor, whose `map` is that of `concurrent.futures`. procspawn: a `Pool`, to which
//! each task is given by `spawn`, and `join` for its value.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::cases::pool::{check, square, timed};
use crate::peers::temporary;
use crate::progress;
use crate::stats::Candidate;

/// The names in results.
pub const PYTHON: &str = "multiprocessing.Pool";
/// See [`PYTHON`].
pub const LOKY: &str = "loky";
/// See [`PYTHON`].
pub const PROCSPAWN: &str = "procspawn, one by one";

const SCRIPTS: [(&str, &str); 2] = [(PYTHON, include_str!("pool.py")), (LOKY, include_str!("loky.py"))];

/// How many tasks procspawn is given at once: each takes four descriptors.
const AT_ONCE: u64 = 100;

/// All that there are here.
pub(crate) fn all(workers: usize, tasks: u64, chunk: usize) -> io::Result<Vec<Candidate<'static, f64>>> {
    let mut all = vec![procspawn(workers, tasks)?];
    for (name, script) in SCRIPTS {
        match Interpreter::start(script, workers, tasks, chunk) {
            Ok(mut interpreter) => all.push(Candidate::new(name, move || interpreter.map())),
            Err(error) => progress::note(&format!("{name} is left out: {error}")),
        }
    }
    Ok(all)
}

/// It has no map, so all tasks are submitted one by one.
fn procspawn(workers: usize, tasks: u64) -> io::Result<Candidate<'static, f64>> {
    temporary::claim()?;
    let pool = procspawn::Pool::new(workers).map_err(io::Error::other)?;
    Ok(Candidate::new(PROCSPAWN, move || {
        timed(|| {
            for first in (0..tasks).step_by(AT_ONCE as usize) {
                let some = first..(first + AT_ONCE).min(tasks);
                let handles: Vec<_> = some.clone().map(|number| pool.spawn(number, square)).collect();
                for (number, handle) in some.zip(handles) {
                    check(handle.join().map_err(io::Error::other)? == square(number))?;
                }
            }
            Ok(())
        })
    }))
}

struct Interpreter {
    process: Child,
    /// `None`: it is to end.
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Interpreter {
    /// `chunk` 0 means its default.
    fn start(script: &str, workers: usize, tasks: u64, chunk: usize) -> io::Result<Self> {
        let mut command = Command::new("python3");
        command.args(["-c", script, &workers.to_string(), &tasks.to_string(), &chunk.to_string()]);
        // A group of its own: Ctrl-C, which its workers would not survive in order, is not for it. It ends with its input.
        command.process_group(0);
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (orders, answers) = (process.stdin.take(), process.stdout.take());
        let (Some(orders), Some(answers)) = (orders, answers) else { unreachable!("both are piped") };
        let mut interpreter = Self { process, orders: Some(orders), answers: BufReader::new(answers) };
        // The first map waits for its workers.
        interpreter.map()?;
        Ok(interpreter)
    }

    /// How many microseconds a map takes, as the interpreter says.
    fn map(&mut self) -> io::Result<f64> {
        self.orders.as_mut().map_or(Ok(()), |orders| writeln!(orders))?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer)?;
        answer.trim().parse().map_err(|_| io::Error::other(format!("the interpreter says {answer:?}")))
    }
}

impl Drop for Interpreter {
    fn drop(&mut self) {
        // At the end of its input it ends, and its workers with it. Those of loky would outlive it if it were killed.
        self.orders = None;
        let end = Instant::now() + Duration::from_secs(10);
        while let (Ok(None), true) = (self.process.try_wait(), Instant::now() < end) {
            thread::sleep(Duration::from_millis(1));
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
