//! Child processes and the roles that they play.

use std::env;
use std::fmt::Display;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus, Stdio};

use super::sys::{die_with_parent, now_ns, signal, signal_thread, thread_id, until_in_futex};
use super::{BOUND, until};

const CHILD: &str = "SHMKIT_TEST_CHILD";
const DISABLE: &str = "SHMKIT_DISABLE";

/// Where a role finds the second socket, for a child that it forks.
const SECOND: i32 = 100;

/// Whether a child may be saved by the safety net.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Net {
    /// No: a lost wake-up hangs it, and the test fails. Everything else is as for this process.
    Off,
    /// As for this process.
    Same,
    /// Yes, and nothing else is switched off either.
    On,
}

impl Net {
    fn disabled(self) -> String {
        let here = env::var(DISABLE).unwrap_or_default();
        match self {
            Self::Off => format!("{here},safety_net"),
            Self::Same => here,
            Self::On => String::new(),
        }
    }
}

/// A line of text each way, with a bound on the wait for it.
#[derive(Debug)]
pub(crate) struct Channel {
    lines: BufReader<UnixStream>,
    whose: String,
}

impl Channel {
    fn to(whose: &str, stream: UnixStream) -> Self {
        stream.set_read_timeout(Some(BOUND)).expect("a timeout above zero");
        Self { lines: BufReader::new(stream), whose: whose.to_owned() }
    }

    #[track_caller]
    pub(crate) fn tell(&mut self, line: impl Display) {
        writeln!(self.lines.get_mut(), "{line}")
            .unwrap_or_else(|error| panic!("{} hears nothing: {error}", self.whose));
    }

    #[track_caller]
    pub(crate) fn hear(&mut self) -> String {
        let mut line = String::new();
        match self.lines.read_line(&mut line) {
            Ok(0) => panic!("{} has ended", self.whose),
            Ok(_) => line.trim_end().to_owned(),
            Err(error) => panic!("{} says nothing: {error}", self.whose),
        }
    }

    /// Whether something has been said that nobody has heard yet.
    pub(crate) fn has_said(&self) -> bool {
        let mut poll = libc::pollfd { fd: self.lines.get_ref().as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one pollfd that lives over the call.
        !self.lines.buffer().is_empty() || unsafe { libc::poll(&raw mut poll, 1, 0) } == 1
    }
}

/// A child process that plays a role. Killed and reaped when dropped.
#[derive(Debug)]
pub(crate) struct Child {
    process: std::process::Child,
    channel: Channel,
    thread: u32,
}

impl Child {
    /// Starts a child without the safety net.
    #[track_caller]
    pub(crate) fn spawn(role: &str, arguments: &[&str]) -> Self {
        Self::spawn_with(Net::Off, role, arguments)
    }

    #[track_caller]
    pub(crate) fn spawn_with(net: Net, role: &str, arguments: &[&str]) -> Self {
        Self::start(Self::command(net), role, arguments)
    }

    /// Starts a child whose command `prepare` gives something along.
    #[track_caller]
    pub(crate) fn spawn_prepared(role: &str, arguments: &[&str], prepare: impl FnOnce(&mut Command)) -> Self {
        let mut command = Self::command(Net::Off);
        prepare(&mut command);
        Self::start(command, role, arguments)
    }

    /// Starts a child with `file` as its standard output.
    #[track_caller]
    pub(crate) fn spawn_with_file(file: OwnedFd, role: &str, arguments: &[&str]) -> Self {
        let mut command = Self::command(Net::Off);
        // libtest writes its own lines to descriptor 1, so the file gets another one.
        // SAFETY: `dup2` may be called between fork and exec.
        unsafe { command.pre_exec(move || dup(file.as_fd())) };
        Self::start(command, role, arguments)
    }

    /// Starts a child that is going to fork, and returns a second channel, to the child of the child.
    #[track_caller]
    pub(crate) fn spawn_with_second(net: Net, role: &str, arguments: &[&str]) -> (Self, Channel) {
        let (ours, theirs) = UnixStream::pair().expect("sockets");
        let mut command = Self::command(net);
        let theirs = OwnedFd::from(theirs);
        // SAFETY: as in `spawn_with_file`.
        unsafe { command.pre_exec(move || dup(theirs.as_fd())) };
        (Self::start(command, role, arguments), Channel::to("the forked child", ours))
    }

    fn command(net: Net) -> Command {
        let mut command = Command::new(env::current_exe().expect("the test binary"));
        command
            .args(["child", "--exact", "--nocapture", "--test-threads=1"])
            .env(CHILD, std::process::id().to_string())
            .env(DISABLE, net.disabled())
            .stdout(Stdio::null());
        command
    }

    #[track_caller]
    fn start(mut command: Command, role: &str, arguments: &[&str]) -> Self {
        let (ours, theirs) = UnixStream::pair().expect("sockets");
        let process = command.stdin(OwnedFd::from(theirs)).spawn().expect("a child process");
        // The command still has the child's socket; without it, the end of the child is the end of the lines.
        drop(command);
        let mut child = Self { process, channel: Channel::to(role, ours), thread: 0 };
        child.tell([&[role], arguments].concat().join(" "));
        child.thread = child.hear().parse().expect("a thread id");
        child
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// The thread that plays the role.
    pub(crate) fn thread(&self) -> u32 {
        self.thread
    }

    #[track_caller]
    pub(crate) fn tell(&mut self, line: impl Display) {
        self.channel.tell(line);
    }

    /// Tells something to a child that may be dead.
    pub(crate) fn try_tell(&mut self, line: impl Display) {
        // Nobody is there to hear it, then.
        let _ = writeln!(self.channel.lines.get_mut(), "{line}");
    }

    #[track_caller]
    pub(crate) fn hear(&mut self) -> String {
        self.channel.hear()
    }

    #[track_caller]
    pub(crate) fn expect(&mut self, line: &str) {
        assert_eq!(self.hear(), line);
    }

    pub(crate) fn has_said(&self) -> bool {
        self.channel.has_said()
    }

    pub(crate) fn socket(&self) -> BorrowedFd<'_> {
        self.channel.lines.get_ref().as_fd()
    }

    /// Sends SIGKILL and returns at once, with the time just before.
    pub(crate) fn kill(&self) -> u64 {
        let before = now_ns();
        assert!(signal(self.pid(), libc::SIGKILL));
        before
    }

    pub(crate) fn signal(&self, number: i32) {
        assert!(signal(self.pid(), number));
    }

    /// Waits until the role sleeps on a futex.
    #[track_caller]
    pub(crate) fn until_asleep(&self) {
        until_in_futex(self.pid(), self.thread);
    }

    /// Gives an order that makes the role sleep on a futex, and waits until it does.
    #[track_caller]
    pub(crate) fn fall_asleep(&mut self, order: impl Display) {
        self.tell(order);
        self.until_asleep();
    }

    /// Interrupts the role by SIGUSR1 again and again until it says something; returns how often.
    #[track_caller]
    pub(crate) fn interrupt_until_it_answers(&self) -> u32 {
        let mut signals = 0;
        until("an answer in spite of signals", || {
            signals += u32::from(signal_thread(self.pid(), self.thread, libc::SIGUSR1));
            self.has_said()
        });
        signals
    }

    /// Interrupts the role by SIGUSR1 in its sleep, so often; it says nothing to that.
    #[track_caller]
    pub(crate) fn interrupt_asleep(&self, times: u32) {
        for _ in 0..times {
            self.until_asleep();
            assert!(signal_thread(self.pid(), self.thread, libc::SIGUSR1));
        }
        assert!(!self.has_said());
    }

    /// Waits for the end of the process.
    #[track_caller]
    pub(crate) fn reap(&mut self) -> ExitStatus {
        let mut status = None;
        until("the end of a child", || {
            status = self.process.try_wait().expect("a child of ours");
            status.is_some()
        });
        status.expect("it has ended")
    }

    /// Waits for a good end.
    #[track_caller]
    pub(crate) fn finish(mut self) {
        let status = self.reap();
        assert!(status.success(), "{}: {status}", self.channel.whose);
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // One that has been reaped is neither killed nor waited for again.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn dup(file: BorrowedFd<'_>) -> std::io::Result<()> {
    // SAFETY: the child has no descriptor of this number that anybody uses.
    match unsafe { libc::dup2(file.as_raw_fd(), SECOND) } {
        -1 => Err(std::io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// The parent, as a role sees it.
#[derive(Debug)]
pub(crate) struct Parent {
    lines: BufReader<UnixStream>,
    arguments: Vec<String>,
}

impl Parent {
    fn at(descriptor: i32) -> Self {
        // SAFETY: the parent has put a socket there, and nobody else uses it.
        let stream = unsafe { UnixStream::from_raw_fd(descriptor) };
        Self { lines: BufReader::new(stream), arguments: Vec::new() }
    }

    /// The second channel, for a forked child.
    pub(crate) fn second() -> Self {
        Self::at(SECOND)
    }

    /// The file that was given along.
    pub(crate) fn file() -> OwnedFd {
        // SAFETY: the parent has put a file there, and nobody else uses it.
        unsafe { OwnedFd::from_raw_fd(SECOND) }
    }

    pub(crate) fn argument(&self, index: usize) -> &str {
        &self.arguments[index]
    }

    pub(crate) fn say(&mut self, line: impl Display) {
        writeln!(self.lines.get_mut(), "{line}").expect("a parent that listens");
    }

    /// Waits for the next line; a parent that is gone ends this process.
    pub(crate) fn hear(&mut self) -> String {
        let mut line = String::new();
        if self.lines.read_line(&mut line).is_ok_and(|read| read > 0) {
            line.trim_end().to_owned()
        } else {
            super::sys::exit_now(0)
        }
    }

    pub(crate) fn expect(&mut self, line: &str) {
        assert_eq!(self.hear(), line);
    }

    pub(crate) fn socket(&self) -> BorrowedFd<'_> {
        self.lines.get_ref().as_fd()
    }
}

/// The name of a role, and what it does.
pub(crate) type Role<'a> = (&'a str, fn(&mut Parent));

/// Plays the role that the parent asks for, if this process is a child of a test.
pub(crate) fn play(roles: &[Role<'_>]) {
    let Ok(parent) = env::var(CHILD) else {
        return;
    };
    die_with_parent();
    assert_eq!(std::os::unix::process::parent_id().to_string(), parent, "the parent is gone");
    let mut parent = Parent::at(0);
    let orders = parent.hear();
    let mut words = orders.split(' ').map(str::to_owned);
    let name = words.next().unwrap_or_default();
    parent.arguments = words.collect();
    let (_, role) = roles.iter().find(|(role, _)| *role == name).unwrap_or_else(|| panic!("no role {name:?}"));
    parent.say(thread_id());
    role(&mut parent);
}
