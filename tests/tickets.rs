//! Tickets for the other end of a channel, between real processes: inherited, sent over a socket, lost on the way.

mod common;

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use shmkit::{ChannelOptions, Endpoint, OpenError, Pipe, Receiver, RecvError, SendError, Sender, Ticket};

use common::{
    BOUND, Child, Parent, descriptors, event_fd, fork, memory_file, prompt, receive_fd, roles, send_fds,
    sleep_for_ever, until,
};

roles!(echo, pair_of_ends, reader, asker, receiver, sleeper, idler, forker, forgetter, leaker, collector, greedy);

/// A pipe, and the ticket for its other end.
fn pipe() -> (Pipe<u64>, Ticket<Pipe<u64>>) {
    ChannelOptions::new().pair().expect("a pipe")
}

/// A child with the ticket, under the name "jobs".
fn child_with<E: Endpoint>(role: &str, arguments: &[&str], ticket: Ticket<E>) -> Child {
    Child::spawn_prepared(role, arguments, |command| ticket.inherit(command, "jobs").expect("a command"))
}

fn socket_of(descriptor: BorrowedFd<'_>) -> UnixStream {
    UnixStream::from(descriptor.try_clone_to_owned().expect("a descriptor"))
}

/// Waits for the news that the other end is gone, which is to come soon.
#[track_caller]
fn is_disconnected_promptly(pipe: &mut Pipe<u64>) {
    let start = Instant::now();
    let received = pipe.recv_timeout(BOUND);
    assert!(matches!(received, Err(RecvError::Disconnected)), "{received:?}");
    assert!(start.elapsed() < prompt(), "{:?}", start.elapsed());
}

/// Sends back what comes.
fn echo(_: &mut Parent) {
    let mut pipe = Pipe::<u64>::inherited("jobs").expect("a ticket");
    while let Ok(number) = pipe.recv() {
        pipe.send(number + 1).expect("a receiver");
    }
}

#[test]
fn a_child_takes_the_end_that_it_has_inherited() {
    let (mut pipe, ticket) = pipe();
    let child = child_with("echo", &[], ticket);

    pipe.send(1).expect("room");
    assert_eq!(pipe.recv().expect("an answer"), 2);

    drop(pipe);
    child.finish();
}

/// Asks for the same descriptors under another name, while it has them.
fn greedy(_: &mut Parent) {
    let ticket = Ticket::<Pipe<u64>>::inherited("jobs").expect("a ticket");
    let again = Ticket::<Pipe<u64>>::inherited("again");
    assert!(matches!(again, Err(OpenError::NoTicket { .. })), "{again:?}");
    drop(again);
    let mut pipe = ticket.take().expect("an end");
    pipe.send(1).expect("a receiver");
}

#[test]
fn what_two_variables_speak_of_is_taken_once() {
    let (mut pipe, ticket) = pipe();
    let child = Child::spawn_prepared("greedy", &[], |command| {
        ticket.inherit(command, "jobs").expect("a command");
        let jobs = command.get_envs().find(|(name, _)| *name == "SHMKIT_TICKET_jobs");
        let value = jobs.and_then(|(_, value)| value).expect("a variable").to_owned();
        command.env("SHMKIT_TICKET_again", value);
    });
    assert_eq!(pipe.recv().expect("a message"), 1);
    child.finish();
}

/// Sums up what one channel brings, and says the sum on another one.
fn pair_of_ends(_: &mut Parent) {
    let mut numbers = Receiver::<u64>::inherited("numbers").expect("a ticket");
    let mut sums = Sender::<u64>::inherited("sums").expect("a ticket");
    sums.send(numbers.iter().sum()).expect("a receiver");
}

#[test]
fn a_child_takes_several_ends_by_their_names() {
    let (mut numbers, to_receive) = ChannelOptions::new().pair::<Sender<u64>>().expect("a channel");
    let (mut sums, to_send) = ChannelOptions::new().pair::<Receiver<u64>>().expect("a channel");
    let child = Child::spawn_prepared("pair_of_ends", &[], |command| {
        to_receive.inherit(command, "numbers").expect("a command");
        to_send.inherit(command, "sums").expect("a command");
    });

    (1..=100).for_each(|number| numbers.send(number).expect("a receiver"));
    drop(numbers);

    assert_eq!(sums.recv().expect("a sum"), 5050);
    child.finish();
}

/// Says what comes of asking for several things.
fn asker(parent: &mut Parent) {
    let refused = |asked: Result<(), OpenError>| format!("{:?}", asked.expect_err("a refusal"));
    parent.say(refused(Pipe::<u64>::inherited("nothing").map(drop)));
    parent.say(refused(Pipe::<u32>::inherited("jobs").map(drop)));
    parent.say(refused(Sender::<u64>::inherited("jobs").map(drop)));
    let taken = Pipe::<u64>::inherited("jobs");
    parent.say(taken.is_ok());
    parent.say(refused(Pipe::<u64>::inherited("jobs").map(drop)));
    parent.expect("end");
}

#[test]
fn who_asks_for_the_wrong_thing_or_twice_is_told_what_is_wrong() {
    let (mut pipe, ticket) = pipe();
    let mut child = child_with("asker", &[], ticket);

    assert_eq!(child.hear(), r#"NoTicket { what: "nothing was inherited under this name" }"#);
    assert!(child.hear().starts_with("Failed(WrongType"));
    assert!(child.hear().starts_with("Failed(WrongType"));
    assert_eq!(child.hear(), "true");
    assert_eq!(child.hear(), r#"NoTicket { what: "this process has taken it already" }"#);
    child.tell("end");
    child.finish();
    is_disconnected_promptly(&mut pipe);
}

/// Asks for the end that receives.
fn reader(parent: &mut Parent) {
    let refused = Sender::<u64>::inherited("jobs").expect_err("it is for a receiver");
    parent.say(refused.to_string());
    parent.say(Receiver::<u64>::inherited("jobs").expect("a ticket").recv().expect("a message"));
}

#[test]
fn a_ticket_for_the_one_end_is_none_for_the_other() {
    let (mut numbers, ticket) = ChannelOptions::new().pair::<Sender<u64>>().expect("a channel");
    let mut child = child_with("reader", &[], ticket);

    assert_eq!(child.hear(), "there is no ticket for this end of a channel: it is for the other end of the channel");
    numbers.send(7).expect("a receiver");
    child.expect("7");
    child.finish();
}

/// Has a variable that says nothing of use.
#[test]
fn a_variable_that_nobody_has_written_leaves_descriptors_alone() {
    let file = std::fs::File::open("/dev/null").expect("a file");
    let number = file.as_raw_fd();
    for value in ["", "7", "x y", "-1 ffffffffff", "7 0", &format!("{number:x} ffffffffff"), "fffff ffffffffff"] {
        let child = Child::spawn_prepared("forgetter", &[], |command| {
            command.env("SHMKIT_TICKET_jobs", value);
        });
        child.finish();
    }
}

/// Is given a wrong variable, and loses nothing by it.
fn forgetter(_: &mut Parent) {
    let before = descriptors();
    let asked = Pipe::<u64>::inherited("jobs");
    assert!(matches!(asked, Err(OpenError::NoTicket { .. } | OpenError::Failed(_))), "{asked:?}");
    assert_eq!(descriptors(), before);
}

/// Does not take anything.
fn sleeper(_: &mut Parent) {
    sleep_for_ever();
}

#[test]
fn a_child_killed_before_it_takes_the_end_is_missed() {
    let (mut pipe, ticket) = pipe();
    let child = child_with("sleeper", &[], ticket);
    assert!(matches!(pipe.try_recv(), Err(RecvError::Empty)));

    child.kill();

    is_disconnected_promptly(&mut pipe);
}

#[test]
fn a_child_that_ends_without_taking_it_is_missed_while_its_command_is_kept() {
    let (mut pipe, ticket) = pipe();
    let mut command = Command::new("true");
    ticket.inherit(&mut command, "jobs").expect("a command");

    command.status().expect("a child");

    is_disconnected_promptly(&mut pipe);
    drop(command);
}

#[test]
fn a_command_that_cannot_be_started_or_is_not_leaves_nobody() {
    let (mut pipe, ticket) = pipe();
    let mut command = Command::new("/nonexistent/program");
    ticket.inherit(&mut command, "jobs").expect("a command");
    assert!(matches!(pipe.try_recv(), Err(RecvError::Empty)));
    command.spawn().expect_err("no program");
    is_disconnected_promptly(&mut pipe);

    let (mut pipe, ticket) = self::pipe();
    let mut command = Command::new("true");
    ticket.inherit(&mut command, "jobs").expect("a command");
    drop(command);
    is_disconnected_promptly(&mut pipe);
}

#[test]
fn a_ticket_lives_as_long_as_one_of_the_children_that_inherited_it() {
    let (mut pipe, ticket) = pipe();
    let mut command = Command::new("sh");
    // The descriptor is there in both, under the same number.
    command.args(["-c", r#"set -- $SHMKIT_TICKET_jobs; test -e /proc/self/fd/$((0x$1)) && cat"#]);
    ticket.inherit(command.stdin(Stdio::piped()).stdout(Stdio::null()), "jobs").expect("a command");
    let mut first = command.spawn().expect("a child");
    let mut second = command.spawn().expect("a child");

    first.kill().expect("a child");
    first.wait().expect("its end");
    assert!(matches!(pipe.recv_timeout(Duration::from_millis(50)), Err(RecvError::TimedOut)));
    drop(second.stdin.take());
    assert!(second.wait().expect("its end").success());

    is_disconnected_promptly(&mut pipe);
}

/// Counts its descriptors, with a ticket for somebody else in its parent.
fn idler(parent: &mut Parent) {
    let regions = std::fs::read_dir("/proc/self/fd").expect("descriptors").flatten();
    let regions = regions.filter(|file| {
        std::fs::read_link(file.path()).is_ok_and(|to| to.to_string_lossy().starts_with("/memfd:shmkit"))
    });
    parent.say(regions.count());
}

#[test]
fn only_the_child_that_it_is_meant_for_inherits_the_descriptor() {
    let (mut pipe, ticket) = pipe();
    let mut command = Command::new("true");
    ticket.inherit(&mut command, "jobs").expect("a command");
    let mut other = Child::spawn("idler", &[]);
    other.expect("0");
    other.finish();

    let (_second, ticket) = self::pipe();
    let mut meant = child_with("idler", &[], ticket);
    meant.expect("1");
    meant.finish();

    drop(command);
    is_disconnected_promptly(&mut pipe);
}

#[test]
fn children_started_by_other_threads_meanwhile_inherit_nothing() {
    std::thread::scope(|scope| {
        let others = scope.spawn(|| {
            (0..20).for_each(|_| {
                let mut other = Child::spawn("idler", &[]);
                other.expect("0");
                other.finish();
            });
        });
        (0..20).for_each(|number| {
            let (mut pipe, ticket) = pipe();
            let child = child_with("echo", &[], ticket);
            pipe.send(number).expect("room");
            assert_eq!(pipe.recv().expect("an answer"), number + 1);
            drop(pipe);
            child.finish();
        });
        others.join().expect("no panic");
    });
}

/// Receives a ticket over its standard input and takes the end, or does as it is told.
fn receiver(parent: &mut Parent) {
    let socket = socket_of(parent.socket());
    parent.say("ready");
    let ticket = Ticket::<Pipe<u64>>::receive(&socket).expect("a ticket");
    parent.say("received");
    match parent.hear().as_str() {
        "take" => {
            let mut pipe = ticket.take().expect("an end");
            while let Ok(number) = pipe.recv() {
                pipe.send(number + 1).expect("a receiver");
            }
        }
        "drop" => {
            drop(ticket);
            parent.expect("end");
        }
        _ => sleep_for_ever(),
    }
}

/// A child that has received the ticket.
fn child_sent(ticket: Ticket<Pipe<u64>>) -> Child {
    let mut child = Child::spawn("receiver", &[]);
    child.expect("ready");
    ticket.send(&socket_of(child.socket())).expect("a socket");
    child.expect("received");
    child
}

#[test]
fn a_process_takes_the_end_that_was_sent_to_it() {
    let (mut pipe, ticket) = pipe();
    let mut child = child_sent(ticket);
    child.tell("take");

    pipe.send(1).expect("room");
    assert_eq!(pipe.recv().expect("an answer"), 2);

    child.kill();
    is_disconnected_promptly(&mut pipe);
}

#[test]
fn a_process_killed_with_a_ticket_that_it_has_received_is_missed() {
    let (mut pipe, ticket) = pipe();
    let child = child_sent(ticket);
    assert!(matches!(pipe.try_recv(), Err(RecvError::Empty)));

    child.kill();

    is_disconnected_promptly(&mut pipe);
}

#[test]
fn a_process_that_drops_a_ticket_that_it_has_received_is_missed() {
    let (mut pipe, ticket) = pipe();
    let mut child = child_sent(ticket);

    child.tell("drop");

    is_disconnected_promptly(&mut pipe);
    child.tell("end");
    child.finish();
}

/// The ticket of its parent is none of a child's.
fn is_refused(ticket: Ticket<Pipe<u64>>) {
    let taken = ticket.take();
    assert!(matches!(taken, Err(OpenError::Failed(shmkit::Error::Forked))), "{taken:?}");
}

/// Forks a child that keeps a copy of everything, with a ticket in hand.
fn forker(parent: &mut Parent) {
    let (mut pipe, ticket) = pipe();
    for act in [drop::<Ticket<_>>, is_refused] {
        // SAFETY: the copy of the parent's ticket in the child, which is not used in any other way there.
        let child = fork(|| act(unsafe { std::ptr::read(&raw const ticket) }));
        assert_eq!(child.reap(), 0);
    }
    assert!(matches!(pipe.recv_timeout(Duration::from_millis(30)), Err(RecvError::TimedOut)));
    ticket.take().expect("the end").send(1).expect("room");
    assert_eq!(pipe.recv().expect("a message"), 1);
    parent.say("done");
}

#[test]
fn a_forked_child_can_neither_take_nor_close_the_ticket_of_its_parent() {
    let mut child = Child::spawn("forker", &[]);
    child.expect("done");
    child.finish();
}

#[test]
fn a_ticket_in_a_socket_that_is_closed_leaves_nobody() {
    let (mut pipe, ticket) = pipe();
    let (here, there) = UnixStream::pair().expect("sockets");
    ticket.send(&here).expect("room");
    drop(here);
    assert!(matches!(pipe.recv_timeout(Duration::from_millis(30)), Err(RecvError::TimedOut)));

    drop(there);

    is_disconnected_promptly(&mut pipe);
}

/// Receives what are no tickets, and loses nothing by it.
fn leaker(parent: &mut Parent) {
    let (null, memory, bell) = (std::fs::File::open("/dev/null").expect("a file"), memory_file(), event_fd());
    // A ticket for an end that is taken by now: the placeholder's file is kept by the socket.
    let (_pipe, ticket) = pipe();
    let (here, there) = UnixStream::pair().expect("sockets");
    ticket.send(&here).expect("room");
    let region = receive_fd(there.as_fd());
    let message = |token: u64| [*b"shmkit\0\x02", token.to_le_bytes()].concat();
    let before = descriptors();
    let refused = |bytes: &[u8], files: &[BorrowedFd<'_>]| {
        let (here, there) = UnixStream::pair().expect("sockets");
        send_fds(here.as_fd(), bytes, files);
        drop(here);
        let received = Ticket::<Pipe<u64>>::receive(&there);
        drop(there);
        assert_eq!(descriptors(), before, "after {bytes:?} with {} descriptors", files.len());
        received.expect_err("no ticket").to_string()
    };

    let (file, bell) = (null.as_fd(), bell.as_fd());
    assert!(refused(&message(1 << 40), &[]).ends_with("no descriptor came with the message"));
    assert!(refused(&message(1 << 40)[..15], &[file]).ends_with("the message ends too early"));
    assert!(refused(b"sixteen bytes...", &[file, bell, bell]).ends_with("the message is something else"));
    assert!(refused(&message(7), &[file, bell, bell]).ends_with("the message is something else"));
    for files in [&[file, bell][..], &[file, bell, bell, bell], &[file; 20]] {
        assert!(refused(&message(1 << 40), files).ends_with("another number of descriptors came with the message"));
    }
    assert!(refused(&message(1 << 40), &[file, bell, bell]).contains("not sealed"));
    assert!(refused(&message(1 << 40), &[memory.as_fd(), bell, bell]).contains("not sealed"));
    assert!(refused(&message(1 << 40), &[region.as_fd(), bell, bell]).contains("another process has this end"));
    parent.say("done");
}

/// Takes, drops and hands over many tickets.
fn collector(parent: &mut Parent) {
    let life = || {
        let (mut pipe, ticket) = pipe();
        let mut other = ticket.take().expect("the end");
        other.send(1).expect("room");
        assert_eq!(pipe.recv().expect("a message"), 1);
        let (_pipe, _ticket) = self::pipe();
        let (_pipe, ticket) = self::pipe();
        ticket.inherit(&mut Command::new("true"), "jobs").expect("a command");
        let (_pipe, ticket) = self::pipe();
        let (here, there) = UnixStream::pair().expect("sockets");
        ticket.send(&here).expect("room");
        drop(Ticket::<Pipe<u64>>::receive(&there).expect("a ticket"));
    };
    life();
    let before = descriptors();
    (0..50).for_each(|_| life());
    assert_eq!(descriptors(), before);
    parent.say("done");
}

#[test]
fn tickets_leave_no_descriptor() {
    let mut child = Child::spawn("collector", &[]);
    child.expect("done");
    child.finish();
}

#[test]
fn a_socket_that_brings_nothing_is_an_error() {
    let (here, there) = UnixStream::pair().expect("sockets");
    there.set_nonblocking(true).expect("a socket");
    let nothing = Ticket::<Pipe<u64>>::receive(&there).expect_err("nothing has come");
    assert!(matches!(nothing, OpenError::Failed(shmkit::Error::Io(_))), "{nothing:?}");
    drop(here);
    let closed = Ticket::<Pipe<u64>>::receive(&there).expect_err("nobody is there");
    assert!(matches!(closed, OpenError::NoTicket { .. }), "{closed:?}");
}

#[test]
fn a_ticket_is_passed_on_by_those_who_have_no_use_for_it() {
    let (mut pipe, mut ticket) = pipe();
    for _ in 0..5 {
        let (here, there) = UnixStream::pair().expect("sockets");
        ticket.send(&here).expect("room");
        ticket = Ticket::receive(&there).expect("a ticket");
    }
    let child = child_with("echo", &[], ticket);
    pipe.send(1).expect("room");
    assert_eq!(pipe.recv().expect("an answer"), 2);
    drop(pipe);
    child.finish();
}

#[test]
fn a_message_that_is_no_ticket_is_an_error_and_leaks_no_descriptor() {
    let mut child = Child::spawn("leaker", &[]);
    child.expect("done");
    child.finish();
}

#[test]
fn a_ticket_that_cannot_be_sent_comes_back() {
    let (mut pipe, ticket) = pipe();
    let (here, there) = UnixStream::pair().expect("sockets");
    drop(there);
    let Err(SendError::Disconnected(ticket)) = ticket.send(&here) else { panic!("nobody is there") };
    let mut other = ticket.take().expect("the end");
    other.send(3).expect("room");
    assert_eq!(pipe.recv().expect("a message"), 3);
    until("nobody who stands for another", || other.sender().try_send(1).is_ok());
}
