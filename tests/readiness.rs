//! The readiness of receivers, between real processes: what an event loop sees of messages, closes and deaths.

mod common;

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::process::Command;
use std::time::{Duration, Instant};

use shmkit::{ChannelOptions, Endpoint, Pipe, Readiness, Receiver, RecvError};

use common::{
    BOUND, Child, Name, Net, Parent, Random, descriptors, exec_sleep, fork, fork_here, is_readable, prompt, roles,
    signal, sleep_for_ever, threads, until,
};

roles!(teller, counter, forker, thrifty);

/// Does to the pipe, whose end it has inherited or opens by name, what it is told.
fn teller(parent: &mut Parent) {
    let mut pipe = match parent.argument(0) {
        "inherited" => Pipe::<u64>::inherited("pipe"),
        name => Pipe::open(name),
    }
    .expect("an end");
    parent.say("here");
    loop {
        let order = parent.hear();
        let (verb, number) = order.split_once(' ').unwrap_or((&order, "0"));
        let number: u64 = number.parse().expect("a number");
        match verb {
            "send" => (0..number).for_each(|number| pipe.send(number).expect("a receiver")),
            "close" => pipe.close(),
            // Leaves a copy of all descriptors to a child, which does nothing.
            "fork" => {
                let child = fork_here();
                if child == 0 {
                    sleep_for_ever();
                }
                parent.say(child);
            }
            "exec" => exec_sleep(),
            // As fast as they are taken, and as slowly that each wakes somebody up.
            "stream" => (0..number).for_each(|number| {
                pipe.send(number).expect("a receiver");
                while number % 3 == 0 && pipe.try_recv().is_err() {
                    std::hint::spin_loop();
                }
            }),
            _ => sleep_for_ever(),
        }
        parent.say("done");
    }
}

/// How the child gets the other end of the pipe.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// With a ticket, which carries the bell.
    Ticket,
    /// By name, so there is a watcher.
    Name,
}

/// A pipe, its readiness, and a child at the other end.
fn pipe_to_child(way: Way) -> (Pipe<u64>, Readiness, Child) {
    let name = Name::new();
    let (mut pipe, mut child) = match way {
        Way::Ticket => {
            let (pipe, ticket) = ChannelOptions::new().pair::<Pipe<u64>>().expect("a pipe");
            let inherit = |command: &mut Command| ticket.inherit(command, "pipe").expect("a command");
            (pipe, Child::spawn_prepared("teller", &["inherited"], inherit))
        }
        Way::Name => (Pipe::create(&name, 64).expect("a pipe"), Child::spawn("teller", &[&name])),
    };
    let readiness = pipe.readiness().expect("a descriptor");
    child.expect("here");
    (pipe, readiness, child)
}

/// Plays a scene with each.
fn both_ways(mut scene: impl FnMut(Pipe<u64>, Readiness, Child)) {
    for way in [Way::Ticket, Way::Name] {
        println!("{way:?}");
        let (pipe, readiness, child) = pipe_to_child(way);
        scene(pipe, readiness, child);
    }
}

/// Takes what is there; says how much, and why there is no more.
fn drain(receiver: &mut Receiver<u64>) -> (u64, RecvError) {
    let mut count = 0;
    loop {
        match receiver.try_recv() {
            Ok(_) => count += 1,
            Err(error) => return (count, error),
        }
    }
}

#[track_caller]
fn is_empty(pipe: &mut Pipe<u64>) {
    let left = drain(pipe.receiver());
    assert!(matches!(left, (0, RecvError::Empty)), "{left:?}");
}

#[track_caller]
fn becomes_readable_promptly(readiness: &Readiness, since: Instant) {
    assert!(is_readable(readiness, BOUND), "not readable in {BOUND:?}");
    assert!(since.elapsed() < prompt(), "{:?}", since.elapsed());
}

/// Tells the watcher of what has not come, and waits until it has seen that, so that it sleeps.
#[track_caller]
fn settle(pipe: &mut Pipe<u64>, readiness: &Readiness) {
    is_empty(pipe);
    until("nothing to be told", || {
        let is_quiet = !is_readable(readiness, Duration::from_millis(5));
        is_empty(pipe);
        is_quiet
    });
}

#[test]
fn a_message_makes_it_readable_until_a_call_finds_nothing() {
    both_ways(|mut pipe, readiness, mut child| {
        settle(&mut pipe, &readiness);
        assert!(!is_readable(&readiness, Duration::from_millis(20)));

        let start = Instant::now();
        child.tell("send 3");
        becomes_readable_promptly(&readiness, start);
        child.expect("done");

        assert_eq!(pipe.try_recv().expect("a message"), 0);
        assert!(is_readable(&readiness, Duration::ZERO), "two messages are left");
        assert!(matches!(drain(pipe.receiver()), (2, RecvError::Empty)));
        settle(&mut pipe, &readiness);
        assert!(!is_readable(&readiness, Duration::from_millis(20)));
    });
}

#[test]
fn what_came_before_it_was_asked_for_makes_it_readable() {
    let (mut pipe, ticket) = ChannelOptions::new().pair::<Pipe<u64>>().expect("a pipe");
    let mut other = ticket.take().expect("the other end");
    other.send(1).expect("room");

    let readiness = pipe.readiness().expect("a descriptor");

    becomes_readable_promptly(&readiness, Instant::now());
}

#[test]
fn the_death_of_the_other_side_makes_it_readable() {
    both_ways(|mut pipe, readiness, child| {
        settle(&mut pipe, &readiness);

        let start = Instant::now();
        child.kill();
        becomes_readable_promptly(&readiness, start);

        assert!(matches!(drain(pipe.receiver()), (0, RecvError::Disconnected)));
        assert!(is_readable(&readiness, Duration::from_millis(20)), "it stays so");
    });
}

#[test]
fn the_death_of_a_child_before_it_took_its_end_makes_it_readable() {
    let (mut pipe, ticket) = ChannelOptions::new().pair::<Pipe<u64>>().expect("a pipe");
    let readiness = pipe.readiness().expect("a descriptor");
    let mut command = std::process::Command::new("true");
    ticket.inherit(&mut command, "pipe").expect("a command");
    settle(&mut pipe, &readiness);

    command.status().expect("a child");

    becomes_readable_promptly(&readiness, Instant::now());
    assert!(matches!(drain(pipe.receiver()), (0, RecvError::Disconnected)));
}

#[test]
fn a_close_makes_it_readable_after_the_last_message() {
    both_ways(|mut pipe, readiness, mut child| {
        settle(&mut pipe, &readiness);

        child.tell("send 2");
        child.expect("done");
        let start = Instant::now();
        child.tell("close");
        child.expect("done");

        becomes_readable_promptly(&readiness, start);
        assert!(matches!(drain(pipe.receiver()), (2, RecvError::Disconnected)));
    });
}

/// An epoll with one descriptor in it.
struct Epoll(OwnedFd);

impl Epoll {
    fn of(file: BorrowedFd<'_>, edges: bool) -> Self {
        let edges = if edges { libc::EPOLLET } else { 0 };
        let mut event = libc::epoll_event { events: (libc::EPOLLIN | edges) as u32, u64: 0 };
        // SAFETY: a new descriptor, which is nobody else's; one event that lives over the call.
        unsafe {
            let epoll = libc::epoll_create1(libc::EPOLL_CLOEXEC);
            assert!(epoll >= 0);
            assert_eq!(libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, file.as_raw_fd(), &raw mut event), 0);
            Self(OwnedFd::from_raw_fd(epoll))
        }
    }

    /// Waits for an event; its absence fails the test.
    #[track_caller]
    fn wait(&self) {
        let mut event = libc::epoll_event { events: 0, u64: 0 };
        // SAFETY: room for one event, which lives over the call.
        let count = unsafe { libc::epoll_wait(self.0.as_raw_fd(), &raw mut event, 1, BOUND.as_millis() as i32) };
        assert_eq!(count, 1, "waited {BOUND:?} in vain for an event");
    }
}

/// An event loop that takes a stream of messages; the sender waits for a word after every third.
fn stream_through(way: Way, edges: bool, count: u64) {
    let (mut pipe, readiness, mut child) = pipe_to_child(way);
    let epoll = Epoll::of(readiness.as_fd(), edges);
    child.tell(format_args!("stream {count}"));
    let mut received = 0;
    while received < count {
        match pipe.try_recv() {
            Ok(number) => {
                assert_eq!(number, received);
                received += 1;
                (number % 3 == 0).then(|| pipe.send(number).expect("a receiver"));
            }
            Err(RecvError::Empty) => epoll.wait(),
            Err(error) => panic!("{error}"),
        }
    }
    child.expect("done");
    assert_eq!(received, count);
}

#[test]
fn no_message_is_slept_through_by_one_who_looks_at_levels() {
    for way in [Way::Ticket, Way::Name] {
        stream_through(way, false, 20_000);
    }
}

#[test]
fn no_message_is_slept_through_by_one_who_looks_at_edges() {
    for way in [Way::Ticket, Way::Name] {
        stream_through(way, true, 20_000);
    }
}

#[test]
fn blocking_calls_work_beside_it() {
    both_ways(|mut pipe, readiness, mut child| {
        settle(&mut pipe, &readiness);

        assert!(matches!(pipe.recv_timeout(Duration::from_millis(30)), Err(RecvError::TimedOut)));
        child.tell("stream 1000");
        for expected in 0..1000 {
            assert_eq!(pipe.recv().expect("a message"), expected);
            if expected % 3 == 0 {
                pipe.send(expected).expect("a receiver");
            }
        }
        child.expect("done");
        settle(&mut pipe, &readiness);

        let start = Instant::now();
        child.kill();
        assert!(matches!(pipe.recv(), Err(RecvError::Disconnected)));
        assert!(start.elapsed() < prompt());
    });
}

#[test]
fn it_is_readable_after_this_end_was_closed() {
    both_ways(|mut pipe, readiness, child| {
        settle(&mut pipe, &readiness);

        pipe.close();

        assert!(is_readable(&readiness, Duration::ZERO));
        assert!(matches!(pipe.readiness(), Err(RecvError::Disconnected)));
        drop(child);
    });
}

/// Makes many receivers with a readiness, and leaves nothing.
fn counter(parent: &mut Parent) {
    let life = || {
        let (mut pipe, ticket) = ChannelOptions::new().pair::<Pipe<u64>>().expect("a pipe");
        let readiness = pipe.readiness().expect("a descriptor");
        let again = pipe.readiness().expect("the same");
        assert_eq!(readiness.as_raw_fd(), again.as_raw_fd());
        drop(ticket);
        assert!(is_readable(&readiness, BOUND));
    };
    life();
    let before = (descriptors(), threads());
    (0..50).for_each(|_| life());
    assert_eq!((descriptors(), threads()), before);
    parent.say("done");
}

#[test]
fn receivers_leave_no_thread_and_no_descriptor() {
    let mut child = Child::spawn("counter", &[]);
    child.expect("done");
    child.finish();
}

/// Forks while it has a readiness.
fn forker(parent: &mut Parent) {
    let (mut pipe, ticket) = ChannelOptions::new().pair::<Pipe<u64>>().expect("a pipe");
    let readiness = pipe.readiness().expect("a descriptor");
    settle(&mut pipe, &readiness);
    let mut pipe = Some(pipe);
    let child = fork(|| {
        let mut pipe = pipe.take().expect("a copy");
        assert!(matches!(pipe.try_recv(), Err(RecvError::Failed(_))));
        assert!(matches!(pipe.readiness(), Err(RecvError::Failed(_))));
    });
    assert_eq!(child.reap(), 0);
    assert!(pipe.is_some() && !is_readable(&readiness, Duration::from_millis(20)));
    drop(ticket);
    assert!(is_readable(&readiness, BOUND));
    parent.say("done");
}

#[test]
fn a_forked_child_disturbs_nothing() {
    let mut child = Child::spawn("forker", &[]);
    child.expect("done");
    child.finish();
}

#[test]
fn a_stopped_sender_is_there() {
    both_ways(|mut pipe, readiness, child| {
        settle(&mut pipe, &readiness);

        child.signal(libc::SIGSTOP);
        assert!(!is_readable(&readiness, Duration::from_millis(100)));

        signal(child.pid(), libc::SIGKILL);
        becomes_readable_promptly(&readiness, Instant::now());
    });
}

/// A descriptor of the sender's would be open as long as a child of it has a copy; a process id would be alive after an exec.
#[test]
fn neither_a_child_of_the_sender_nor_what_it_has_become_hides_its_end() {
    for last in ["", "exec"] {
        let (mut pipe, readiness, mut child) = pipe_to_child(Way::Ticket);
        child.tell("fork");
        let heir = Heir(child.hear().parse().expect("a process id"));
        child.expect("done");
        settle(&mut pipe, &readiness);

        let start = Instant::now();
        if last.is_empty() {
            child.kill();
        } else {
            child.tell(last);
        }
        becomes_readable_promptly(&readiness, start);

        assert!(matches!(drain(pipe.receiver()), (0, RecvError::Disconnected)));
        drop(heir);
    }
}

/// A process that somebody else has left behind.
struct Heir(u32);

impl Drop for Heir {
    fn drop(&mut self) {
        signal(self.0, libc::SIGKILL);
    }
}

#[test]
fn wherever_a_sender_is_killed_the_event_loop_learns_of_it() {
    let mut random = Random::new();
    for _ in 0..25 {
        both_ways(|mut pipe, readiness, mut child| {
            let epoll = Epoll::of(readiness.as_fd(), true);
            child.tell("send 1000000");
            let (mut received, mut alive) = (0, true);
            loop {
                match pipe.try_recv() {
                    Ok(number) => {
                        assert_eq!(number, received);
                        received += 1;
                    }
                    Err(RecvError::Empty) => epoll.wait(),
                    Err(RecvError::Disconnected) => break,
                    Err(error) => panic!("{error}"),
                }
                if alive && received > 100 {
                    alive = false;
                    random.pause(Duration::from_micros(200));
                    child.kill();
                }
            }
            assert!(!alive, "disconnected before the kill");
        });
    }
}

/// Says how many threads more it has with a readiness: of an end with a ticket, and of one with a name.
fn thrifty(parent: &mut Parent) {
    let (mut pipe, _ticket) = ChannelOptions::new().pair::<Pipe<u64>>().expect("a pipe");
    let before = threads();
    let _readiness = pipe.readiness().expect("a descriptor");
    let with_ticket = threads() - before;

    let mut pipe = Pipe::<u64>::create(parent.argument(0), 1).expect("a pipe");
    let _other = pipe.readiness().expect("a descriptor");
    parent.say(format_args!("{with_ticket} {}", threads() - before - with_ticket));
}

#[test]
fn an_end_that_was_handed_over_needs_no_thread() {
    // With everything that may be switched off.
    let name = Name::new();
    let mut child = Child::spawn_with(Net::On, "thrifty", &[&name]);
    child.expect("0 1");
    child.finish();
}
