//! An echo server with a process for each connection, and its clients.
//!
//! The server accepts connections at the loopback address and gives each to a new process. A client that makes its process panic disturbs nobody
//! else. The clients are processes, too.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

use shmkit::process::{self, JoinError, Process, ProcessOptions, Stdio, spawn};
use shmkit::transfer::Passed;

type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

const USAGE: &str = "\
An echo server with a process for each connection, and its clients, one of which makes its process panic.

Usage: cargo run --release --example echo_server -- [OPTIONS]

  --clients N   clients, besides the one that makes trouble (1 to 50; default 5)
  --help        this text

The last line sums up. The exit code is 0 if all lines came back; 1 if not; 2 for a wrong call.";

/// What each client sends.
const LINES: u32 = 100;
/// Longer than anything here takes: a hang is a failure.
const BOUND: Duration = Duration::from_secs(20);

fn main() -> ExitCode {
    // In a child, this runs its function and ends it.
    process::init();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let clients = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => Some(5),
        ["--clients", number] => number.parse().ok().filter(|clients| (1..=50).contains(clients)),
        ["--help" | "-h"] => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        _ => None,
    };
    let Some(clients) = clients else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    match run(clients) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("echo server: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Starts the clients, serves each of them, and sums up.
fn run(clients: u32) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    println!("the server listens at {address}");
    let start = |number: u32| ProcessOptions::new().name(format!("client-{number}")).spawn(talk, (address, number));
    let clients = (1..=clients).map(start).collect::<Result<Vec<Process<u32>>, _>>()?;
    let troublemaker = spawn(make_trouble, address)?;

    let mut servers = Vec::new();
    for (number, stream) in listener.incoming().take(clients.len() + 1).enumerate() {
        let mut options = ProcessOptions::new();
        let server =
            options.name(format!("server-{}", number + 1)).stderr(Stdio::null()).spawn(serve, Passed(stream?))?;
        println!("{} (pid {}) serves a connection", server.name(), server.pid());
        servers.push(server);
    }

    let lines = clients.into_iter().map(Process::join).sum::<Result<u32, _>>()?;
    troublemaker.join()?;
    let (mut echoed, mut panicked, connections) = (0, 0, servers.len());
    for server in servers {
        match server.join() {
            Ok(lines) => echoed += lines,
            Err(JoinError::Panicked { name, message }) => {
                println!("{name} has panicked: {message}");
                panicked += 1;
            }
            Err(error) => return Err(error.into()),
        }
    }
    let is_right = lines == echoed && lines == (connections as u32 - 1) * LINES && panicked == 1;
    let verdict = if is_right { "ok" } else { "wrong" };
    println!("connections={connections} lines={lines} echoed={echoed} panicked={panicked} {verdict}");
    if is_right { Ok(()) } else { Err("not all lines came back".into()) }
}

/// Serves one connection; says how many lines it has sent back.
fn serve(Passed(stream): Passed<TcpStream>) -> u32 {
    stream.set_read_timeout(Some(BOUND)).expect("a socket");
    let mut lines = 0;
    for line in BufReader::new(&stream).lines() {
        let line = line.expect("a line");
        assert!(line != "die", "a client wants me to");
        (&stream).write_all(format!("{line}\n").as_bytes()).expect("a client that listens");
        lines += 1;
    }
    lines
}

/// A client; says how many lines came back as they were sent.
fn talk((address, number): (SocketAddr, u32)) -> u32 {
    let stream = TcpStream::connect(address).expect("a server");
    stream.set_read_timeout(Some(BOUND)).expect("a socket");
    let mut answers = BufReader::new(&stream).lines();
    let mut is_echoed = |line: String| {
        (&stream).write_all(format!("{line}\n").as_bytes()).expect("a server that listens");
        answers.next().is_some_and(|answer| answer.is_ok_and(|answer| answer == line))
    };
    (0..LINES).map(|line| u32::from(is_echoed(format!("line {line} of client {number}")))).sum()
}

/// A client that its server does not survive.
fn make_trouble(address: SocketAddr) {
    let stream = TcpStream::connect(address).expect("a server");
    (&stream).write_all(b"die\n").expect("a server that listens");
    let _ = BufReader::new(&stream).lines().next();
}
