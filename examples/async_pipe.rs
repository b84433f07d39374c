//! A process in tokio that gets messages from a child process, and learns of its death.
//!
//! The parent starts a sensor, which is this same program, and lets it inherit one end of a channel. One task awaits the readings, as it would
//! await a socket; another one goes on with its work meanwhile, in the same thread. After some readings the sensor is killed, with
//! `kill -9`: the task gets those that were sent, and then is told that nobody is there any more.

use std::process::{Child, Command, ExitCode};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use shmkit::{ChannelOptions, Endpoint, Readiness, Receiver, RecvError, Sender};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

const USAGE: &str = "\
A process in tokio that gets messages from a child process, and learns of its death.

Usage: cargo run --release --example async_pipe -- [OPTIONS]

  --readings N  readings to await before the sensor is killed (at least 1; default 100)
  --help        this text

The last line sums up. The exit code is 0 if all came in order, the other task got on meanwhile, and the death was noticed; 1 if not; 2 for a
wrong call.";

/// What makes this program a sensor.
const SENSOR: &str = "--be-the-sensor";
/// What the channel is called between the two.
const READINGS: &str = "readings";

/// Longer than anything here takes: a hang is a failure.
const PATIENCE: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments[..] {
        [SENSOR] => be_the_sensor().map(|()| true),
        [] => run(100),
        ["--readings", count] => match count.parse() {
            Ok(count) if count > 0 => run(count),
            _ => return refuse(&format!("--readings needs a number above 0, not {count:?}")),
        },
        ["--help" | "-h"] => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        _ => return refuse("unknown options"),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("async_pipe: {error}");
            ExitCode::FAILURE
        }
    }
}

fn refuse(wrong: &str) -> ExitCode {
    eprintln!("{wrong}\n\n{USAGE}");
    ExitCode::from(2)
}

/// The sensor: sends readings until nobody receives them any more.
fn be_the_sensor() -> Result<()> {
    let mut readings = Sender::<u64>::inherited(READINGS)?;
    for number in 0.. {
        if readings.send(number).is_err() {
            break;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// A child that does not outlive this process's interest in it.
struct Sensor(Child);

impl Sensor {
    /// Sends SIGKILL, and does not wait for the end.
    fn kill(&mut self) -> Result<()> {
        Ok(self.0.kill()?)
    }
}

impl Drop for Sensor {
    fn drop(&mut self) {
        // One that has ended cannot be killed, only waited for.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A receiver whose messages can be awaited.
struct Incoming {
    receiver: Receiver<u64>,
    readiness: AsyncFd<Readiness>,
}

impl Incoming {
    /// To be called in a runtime.
    fn new(mut receiver: Receiver<u64>) -> Result<Self> {
        // SAFETY: a readiness names one descriptor all its life, which stays open until it is dropped, by the `AsyncFd`.
        let readiness = unsafe { AsyncFd::register_with_interest(receiver.readiness()?, Interest::READABLE)? };
        Ok(Self { receiver, readiness })
    }

    /// The next message; `None` if there will be no more.
    async fn next(&mut self) -> Result<Option<u64>> {
        loop {
            match self.receiver.try_recv() {
                Ok(message) => return Ok(Some(message)),
                // As with a socket that would block. What comes from here on makes the descriptor readable again.
                Err(RecvError::Empty) => self.readiness.readable().await?.clear_ready(),
                Err(RecvError::Disconnected) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Starts the sensor and the tasks; says whether all went well.
fn run(count: u64) -> Result<bool> {
    let (receiver, ticket) = ChannelOptions::new().pair::<Receiver<u64>>()?;
    let mut command = Command::new(std::env::current_exe()?);
    ticket.inherit(command.arg(SENSOR), READINGS)?;
    let sensor = Sensor(command.spawn()?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async { tokio::time::timeout(PATIENCE, watch(receiver, sensor, count)).await? })
}

async fn watch(receiver: Receiver<u64>, mut sensor: Sensor, count: u64) -> Result<bool> {
    let ticks = Rc::new(AtomicU64::new(0));
    let tasks = tokio::task::LocalSet::new();
    tasks.spawn_local({
        let ticks = Rc::clone(&ticks);
        async move {
            loop {
                tokio::time::sleep(Duration::from_millis(1)).await;
                ticks.fetch_add(1, Relaxed);
            }
        }
    });
    let (mut received, mut in_order, mut killed, mut took) = (0, 0, None, None);
    tasks
        .run_until(async {
            let mut incoming = Incoming::new(receiver)?;
            while let Some(number) = incoming.next().await? {
                in_order += u64::from(number == received);
                received += 1;
                // Not before the other task has had its turn.
                if received >= count && killed.is_none() && ticks.load(Relaxed) > 0 {
                    println!("{received} readings have come; the sensor is killed");
                    sensor.kill()?;
                    killed = Some(Instant::now());
                }
            }
            took = killed.map(|killed| killed.elapsed());
            Ok::<(), Box<dyn std::error::Error>>(())
        })
        .await?;
    if let Some(took) = took {
        println!("{:.3} ms later it is known, and {} readings had come", took.as_secs_f64() * 1000.0, received);
    }
    println!("meanwhile the other task has ticked {} times", ticks.load(Relaxed));
    let ok = received == in_order && took.is_some();
    println!("awaited={} noticed={} {}", received.min(count), took.map_or(0, |_| 1), if ok { "ok" } else { "wrong" });
    Ok(ok)
}
