//! A pipe between a parent and a child that converse both ways; how each learns that the other has nothing more to say; and how soon the
//! parent learns that a child was killed.
//!
//! The parent makes a pipe and starts a child, which is a process of this same program and opens the other end by name. The child speaks first.
//! The parent sends questions and gets answers, some at once and some later: a pipe has room for several messages each way. Then it closes its
//! sending half. The child gets what is still on its way, and then the end: it says how many questions it has had, and goes home. The parent
//! reads that, and then the end as well.
//!
//! A second child is killed while the parent waits for a message. The parent is told at once.

use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitCode};
use std::time::{Duration, Instant};

use shmkit::{Endpoint, Pipe, RecvError, Region, SendError};

type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

const USAGE: &str = "\
A pipe between a parent and a child that converse both ways, and a child that is killed.

Usage: cargo run --release --example duplex_pipe -- [OPTIONS]

  --questions N   questions to ask (1 to 1000000; default 1000)
  --room R        messages that fit into the pipe each way (1 to 100000; default 16)
  --help          this text

The last line sums up. The exit code is 0 if every question was answered, both sides saw the end of the other, and the kill was noticed; 1 if
not; 2 for a wrong call.";

/// Two numbers: a question is what to add and multiply, an answer is what comes out.
type Message = [u64; 2];

/// What a child says when it is there, and what it says at the end is [BYE, number of questions].
const HELLO: Message = [u64::MAX, 0];
const BYE: u64 = u64::MAX - 1;

/// Longer than anything here takes: a hang is a failure.
const PATIENCE: Duration = Duration::from_secs(60);

/// Set in the environment of a child: the name of the pipe.
const PIPE: &str = "DUPLEX_PIPE";

fn main() -> ExitCode {
    if let Ok(name) = std::env::var(PIPE) {
        return match answer(&name) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("child: {error}");
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
            eprintln!("duplex_pipe: {error}");
            ExitCode::FAILURE
        }
    }
}

struct Options {
    questions: u64,
    room: u64,
}

impl Options {
    /// `None` if only help is wanted.
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Option<Self>, String> {
        let mut options = Self { questions: 1000, room: 16 };
        while let Some(argument) = arguments.next() {
            let mut number = |max: u64| {
                let value = arguments.next().ok_or(format!("{argument} needs a number"))?;
                let number = value.parse().map_err(|_| format!("{argument} needs a number, not {value:?}"))?;
                if (1..=max).contains(&number) { Ok(number) } else { Err(format!("{argument} goes from 1 to {max}")) }
            };
            match argument.as_str() {
                "--questions" => options.questions = number(1_000_000)?,
                "--room" => options.room = number(100_000)?,
                "--help" | "-h" => return Ok(None),
                _ => return Err(format!("unknown option {argument}")),
            }
        }
        Ok(Some(options))
    }
}

// The parent.

/// A child at the other end of a pipe. Whatever happens here, it is not left.
struct Partner {
    pipe: Pipe<Message>,
    process: Child,
}

impl Partner {
    /// Makes a pipe, starts a child and hears its first word.
    fn start(number: u32, room: u64) -> Result<Self> {
        let name = format!("duplex_pipe-{}-{number}", std::process::id());
        let pipe = Pipe::create(&name, room)?;
        let process = Command::new(std::env::current_exe()?).env(PIPE, &name).spawn()?;
        let mut partner = Self { pipe, process };
        let hello = partner.pipe.recv_timeout(PATIENCE)?;
        // Both have it open: nobody needs the name any more.
        Region::unlink(&name)?;
        if hello == HELLO { Ok(partner) } else { Err(format!("the child begins with {hello:?}").into()) }
    }
}

impl Drop for Partner {
    fn drop(&mut self) {
        // One that has ended by itself cannot be killed, only waited for.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn right_answer([a, b]: Message) -> Message {
    [a.wrapping_add(b), a.wrapping_mul(b)]
}

/// Runs both conversations; says whether all went well.
fn run(options: &Options) -> Result<bool> {
    let mut partner = Partner::start(1, options.room)?;
    println!("a child has opened the other end and says hello");
    let answers = ask(&mut partner.pipe, options.questions)?;
    println!("{} questions were asked, {answers} answered rightly", options.questions);

    partner.pipe.sender().close();
    let [bye, heard] = partner.pipe.recv_timeout(PATIENCE)?;
    let is_over = matches!(partner.pipe.recv_timeout(PATIENCE), Err(RecvError::Disconnected));
    let went_home = partner.process.wait()?.success();
    let eof = bye == BYE && heard == options.questions && is_over && went_home;
    println!(
        "the parent closes its half; the child has heard {heard} questions and then the end, and closes the other"
    );
    drop(partner);

    let mut victim = Partner::start(2, options.room)?;
    println!("a second child says hello; it is killed while the parent waits for its next word");
    let noticed = kill_while_waiting(&mut victim)?;
    let refused = matches!(victim.pipe.send([1, 2]), Err(SendError::Disconnected([1, 2])));
    println!("the parent learns of it after {} us, and cannot send to it any more", noticed.as_micros());

    let ok = answers == options.questions && eof && refused;
    println!(
        "questions={} answers={answers} eof={} killed=1 noticed_us={} {}",
        options.questions,
        if eof { "seen" } else { "missed" },
        noticed.as_micros(),
        if ok { "ok" } else { "wrong" },
    );
    Ok(ok)
}

/// Asks, as far ahead of the answers as there is room, and says how many answers were right.
fn ask(pipe: &mut Pipe<Message>, questions: u64) -> Result<u64> {
    let (mut asked, mut answered, mut right) = (0, 0, 0);
    while answered < questions {
        // No further ahead than the room of one way: else both could wait for room, and nobody would receive.
        while asked < questions && asked - answered < pipe.receiver().capacity() {
            pipe.send([asked, 7])?;
            asked += 1;
        }
        right += u64::from(pipe.recv_timeout(PATIENCE)? == right_answer([answered, 7]));
        answered += 1;
    }
    Ok(right)
}

/// Kills the child while this thread waits for a message; says how long after the kill the wait ended.
fn kill_while_waiting(victim: &mut Partner) -> Result<Duration> {
    let Partner { pipe, process } = victim;
    std::thread::scope(|scope| {
        let killer = scope.spawn(|| {
            // Time to fall asleep in; if it is too short, nothing changes but the figure.
            std::thread::sleep(Duration::from_millis(50));
            let before = Instant::now();
            process.kill().and_then(|()| process.wait()).map(|status| (before, status))
        });
        let waited = pipe.recv_timeout(PATIENCE);
        let noticed = Instant::now();
        let (before, status) = killer.join().map_err(|_| "the killer has failed")??;
        match waited {
            Err(RecvError::Disconnected) if status.signal() == Some(9) => Ok(noticed - before),
            other => Err(format!("the wait ended with {other:?}, the child with {status}").into()),
        }
    })
}

// The child.

fn answer(name: &str) -> Result<()> {
    let mut pipe = Pipe::<Message>::open(name)?;
    pipe.send(HELLO)?;
    let mut heard = 0;
    loop {
        match pipe.recv() {
            Ok(question) => pipe.send(right_answer(question))?,
            // The parent has closed its half, or is gone.
            Err(RecvError::Disconnected) => break,
            Err(error) => return Err(error.into()),
        }
        heard += 1;
    }
    pipe.send([BYE, heard])?;
    Ok(())
}
