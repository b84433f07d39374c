//! Forks in the middle of what is done with the end of a channel, as a signal handler makes them: at every crash point. The child goes on from there
//! when its parent has sent and received much more; it must not send or receive in its parent's name.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use shmkit::shim::crash::{disarm, interrupt};
use shmkit::{ByteReceiver, ByteSender, ChannelOptions, Endpoint, Receiver, RecvError, Region, SendError, Sender, Shm};

use super::TOO_MANY;
use crate::common::{Child, Parent, exit_now, fork_here, handle, has_ended_well, until};

/// What the process does that is interrupted, with a channel that has a message and room for more.
const ACTS: &[&str] = &[
    "send",
    "send_slice",
    "recv",
    "recv_slice",
    "frame_send",
    "frame_recv",
    "padded_send",
    "parts_send",
    "parts_recv",
];

#[test]
fn a_fork_at_any_crash_point_of_an_end_sends_and_receives_nothing_in_the_name_of_its_owner() {
    for act in ACTS {
        let points: Vec<_> = (1..TOO_MANY).map_while(|at| interrupted(act, at)).collect();
        println!("{act}: {} crash points: {points:?}", points.len());
        assert!((2..TOO_MANY - 1).contains(&points.len()), "the crash points of {act}: {points:?}");
        assert_eq!(*act == "padded_send", points.iter().any(|point| point == "bytes.send.before_pad"));
    }
}

/// One fork, at the crash point number `at`, whose name is returned; `None` if there is none.
fn interrupted(act: &str, at: usize) -> Option<String> {
    let mut forker = Child::spawn("end_forker", &[act, &at.to_string()]);
    let point = forker.hear();
    forker.finish();
    (point != "none").then_some(point)
}

// The role.

/// Places on the board that the process shares with its child: the id of that, and whether it may go on.
const CHILD: usize = 0;
const GO: usize = 1;

static BOARD: OnceLock<Shm<[AtomicU64; 2]>> = OnceLock::new();

fn board() -> &'static Shm<[AtomicU64; 2]> {
    BOARD.get().expect("the board")
}

/// The handler: forks, and keeps the child waiting until it may go on.
extern "C" fn fork_now(_: i32) {
    match fork_here() {
        0 => until("leave to go on", || board()[GO].load(Acquire) != 0),
        child => board()[CHILD].store(child.into(), Relaxed),
    }
}

/// Both ends of a channel for messages, or of one for frames.
trait Ends {
    /// Says whether there was room.
    fn send(&mut self, number: u64) -> bool;
    /// What has come, if anything has.
    fn recv(&mut self) -> Option<u64>;
}

struct Numbers(Sender<u64>, Receiver<u64>);

impl Ends for Numbers {
    fn send(&mut self, number: u64) -> bool {
        has_room(self.0.try_send(number))
    }

    fn recv(&mut self) -> Option<u64> {
        has_come(self.1.try_recv())
    }
}

struct Frames(ByteSender, ByteReceiver);

impl Ends for Frames {
    fn send(&mut self, number: u64) -> bool {
        has_room(self.0.try_send(&number.to_ne_bytes()))
    }

    fn recv(&mut self) -> Option<u64> {
        // One in several parts counts by its beginning.
        has_come(self.1.try_recv()).map(|frame| u64::from_ne_bytes(frame[..8].try_into().expect("eight bytes")))
    }
}

fn has_room<M: std::fmt::Debug>(sent: Result<(), SendError<M>>) -> bool {
    match sent {
        Ok(()) => true,
        Err(SendError::Full(_)) => false,
        Err(error) => panic!("{error}"),
    }
}

fn has_come<T>(received: Result<T, RecvError>) -> Option<T> {
    match received {
        Ok(message) => Some(message),
        Err(RecvError::Empty) => None,
        Err(error) => panic!("{error}"),
    }
}

/// A channel, and what is in it: the numbers from the first to before the second.
struct Channel<'a>(&'a mut dyn Ends, u64, u64);

impl Channel<'_> {
    fn fill(&mut self) {
        while self.0.send(self.2) {
            self.2 += 1;
        }
    }

    fn drain(&mut self) {
        while let Some(number) = self.0.recv() {
            assert_eq!(number, self.1);
            self.1 += 1;
        }
        assert_eq!(self.1, self.2, "the last ones are lost");
    }
}

/// A frame of so many words.
fn long_frame(number: u64, words: usize) -> Vec<u8> {
    number.to_ne_bytes().repeat(words)
}

/// Words of a frame that needs several records.
const LONG: usize = 20;

/// Does what its first argument says, and forks at the crash point in the second one.
pub(crate) fn end_forker(parent: &mut Parent) {
    let at = parent.argument(1).parse().expect("a number");
    let region = Region::anonymous(1 << 16).expect("a region");
    BOARD.get_or_init(|| region.insert("board", [0, 0].map(AtomicU64::new)).expect("room"));
    let mut options = ChannelOptions::new();
    let mut numbers = Numbers(
        options.capacity(16).create_in(&region, "numbers").expect("room"),
        Receiver::open_in(&region, "numbers").expect("its other end"),
    );
    let mut frames = Frames(
        options.capacity(512).create_in(&region, "frames").expect("room"),
        ByteReceiver::open_in(&region, "frames").expect("its other end"),
    );
    handle(libc::SIGUSR1, fork_now);
    assert!(numbers.send(0));
    let act = parent.argument(0).to_owned();
    frames.0.try_send(&long_frame(0, if act == "parts_recv" { LONG } else { 1 })).expect("room");
    if act == "padded_send" {
        // Up to the last two words of the ring.
        (1..31).for_each(|number| assert!(frames.send(number) && frames.recv() == Some(number - 1)));
    }

    let forker = std::process::id();
    interrupt(at, libc::SIGUSR1);
    // What is in it then.
    let done = catch_unwind(AssertUnwindSafe(|| match &*act {
        "send" => (numbers.send(1), 0, 2),
        "send_slice" => (matches!(numbers.0.try_send_slice(&[1, 2, 3]), Ok(3)), 0, 4),
        "recv" => (numbers.recv() == Some(0), 1, 1),
        "recv_slice" => (matches!(numbers.1.try_recv_slice(&mut [0; 2]), Ok(1)), 1, 1),
        "frame_send" => (frames.send(1), 0, 2),
        "padded_send" => (frames.0.try_send(&long_frame(31, 3)).is_ok(), 30, 32),
        "parts_send" => (frames.0.try_send(&long_frame(1, LONG)).is_ok(), 0, 2),
        "frame_recv" | "parts_recv" => (frames.recv() == Some(0), 1, 1),
        unknown => panic!("nothing called {unknown:?}"),
    }));
    if std::process::id() != forker {
        // It may have met with anything but must have left no trace.
        exit_now(0);
    }
    let passed = disarm();
    let (is_done, from, to) = done.expect("no panic");
    assert!(is_done, "{act}");

    let ends: &mut dyn Ends =
        if !matches!(&*act, "send" | "send_slice" | "recv" | "recv_slice") { &mut frames } else { &mut numbers };
    let mut channel = Channel(ends, from, to);
    for _ in 0..10 {
        channel.fill();
        channel.drain();
    }
    channel.fill();
    board()[GO].store(1, Release);
    let child = board()[CHILD].load(Relaxed) as u32;
    until("the child's end", || child == 0 || has_ended_well(child));
    for _ in 0..10 {
        channel.fill();
        channel.drain();
    }
    parent.say(if child == 0 { "none" } else { passed[at - 1] });
}
