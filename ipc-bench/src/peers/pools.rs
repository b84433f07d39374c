//! Other pools of processes: Python's `multiprocessing.Pool` (`pool.py` in the interpreter that `python3` is), and that of procspawn.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::cases::pool::{check, square, timed};
use crate::stats::Candidate;

/// The names in results.
pub const PYTHON: &str = "multiprocessing.Pool";
/// See [`PYTHON`].
pub const PROCSPAWN: &str = "procspawn, one by one";

const SCRIPT: &str = include_str!("pool.py");

/// How many tasks procspawn is given at once: each takes four descriptors.
const AT_ONCE: u64 = 100;

/// All that there are here.
pub(crate) fn all(workers: usize, tasks: u64, chunk: usize) -> io::Result<Vec<Candidate<'static, f64>>> {
    let mut all = vec![procspawn(workers, tasks)?];
    match Interpreter::start(workers, tasks, chunk) {
        Ok(mut interpreter) => all.push(Candidate::new(PYTHON, move || interpreter.map())),
        Err(error) => eprintln!("{PYTHON} is left out: {error}"),
    }
    Ok(all)
}

/// It has no map, so all tasks are submitted one by one.
fn procspawn(workers: usize, tasks: u64) -> io::Result<Candidate<'static, f64>> {
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
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Interpreter {
    /// `chunk` 0 means its default.
    fn start(workers: usize, tasks: u64, chunk: usize) -> io::Result<Self> {
        let mut command = Command::new("python3");
        command.args(["-c", SCRIPT, &workers.to_string(), &tasks.to_string(), &chunk.to_string()]);
        // A group of its own: Ctrl-C, which its workers would not survive in order, is not for it. It ends with its input.
        command.process_group(0);
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (orders, answers) = (process.stdin.take(), process.stdout.take());
        let (Some(orders), Some(answers)) = (orders, answers) else { unreachable!("both are piped") };
        let mut interpreter = Self { process, orders, answers: BufReader::new(answers) };
        // The first map waits for its workers.
        interpreter.map()?;
        Ok(interpreter)
    }

    /// How many microseconds a map takes, as the interpreter says.
    fn map(&mut self) -> io::Result<f64> {
        writeln!(self.orders)?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer)?;
        answer.trim().parse().map_err(|_| io::Error::other(format!("the interpreter says {answer:?}")))
    }
}

impl Drop for Interpreter {
    fn drop(&mut self) {
        // It ends its workers when it ends by itself; those are daemons.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
