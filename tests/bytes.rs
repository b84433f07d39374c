//! Byte pipes between real processes: frames, and the deaths of those who send and receive them.

mod common;

use std::time::Duration;

use shmkit::{BytePipe, ChannelOptions, Deadline, Endpoint, Error, Event, OpenError, RecvError, SendError, wait_any};

use common::{BOUND, Child, Name, Parent, Random, fork, is_readable, now_ns, prompt, roles};

roles!(peer, maker);

/// A frame that tells its length and number.
fn frame(len: usize, number: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 7 + number * 31 + len) as u8).collect()
}

/// A process that opens the second end of a pipe and does with it what it is told.
fn peer(parent: &mut Parent) {
    let pipe = match parent.argument(0) {
        "inherited" => BytePipe::inherited("frames"),
        name => BytePipe::open(name),
    };
    obey(parent, pipe.expect("the other end"));
}

/// A process that makes a pipe and does with its first end what it is told.
fn maker(parent: &mut Parent) {
    let pipe = BytePipe::create(parent.argument(0), 1024).expect("a pipe");
    obey(parent, pipe);
}

fn obey(parent: &mut Parent, pipe: BytePipe) {
    let mut pipe = Some(pipe);
    parent.say("here");
    loop {
        let order = parent.hear();
        let mut words = order.split(' ');
        let verb = words.next().unwrap_or_default();
        let mut number = || words.next().map_or(0, |word| word.parse().expect("a number"));
        let end = pipe.as_mut().expect("an end");
        let said = match verb {
            // Sends so many frames of so many bytes.
            "send" => {
                let (count, len) = (number(), number());
                match (0..count).try_for_each(|i| end.send(&frame(len, i))) {
                    Ok(()) => "sent".to_owned(),
                    Err(error) => format!("{error:?}"),
                }
            }
            // Receives so many frames of so many bytes.
            "receive" => {
                let (count, len) = (number(), number());
                let whole = (0..count).all(|i| end.recv().is_ok_and(|found| found == frame(len, i)));
                if whole { "received" } else { "wrong" }.to_owned()
            }
            "receive-one" => end.recv().map_or_else(|error| format!("{error:?}"), |frame| frame.len().to_string()),
            "echo" => {
                while let Ok(frame) = end.recv() {
                    end.send(&frame).expect("a receiver");
                }
                "echoed".to_owned()
            }
            "fork" => {
                let status = fork(|| {
                    assert!(matches!(end.send(b"?"), Err(SendError::Failed { error: Error::Forked, .. })));
                    assert!(matches!(end.try_send(&[0; 5000]), Err(SendError::Failed { error: Error::Forked, .. })));
                    assert!(matches!(end.recv(), Err(RecvError::Failed(Error::Forked))));
                    assert!(matches!(end.sender().reserve(1), Err(SendError::Failed { error: Error::Forked, .. })));
                    end.close();
                })
                .reap();
                status.to_string()
            }
            "fork-in-place" => {
                let room = end.sender().reserve(1).expect("room");
                let mut room = Some(room);
                let status = fork(|| {
                    let room = room.take().expect("a reservation");
                    assert!(matches!(room.commit(), Err(SendError::Failed { error: Error::Forked, .. })));
                })
                .reap();
                status.to_string()
            }
            "drop" => {
                pipe = None;
                "dropped".to_owned()
            }
            other => panic!("no order {other:?}"),
        };
        parent.say(said);
    }
}

/// An end of a pipe here, and a process with the other one.
struct Pair {
    pipe: BytePipe,
    peer: Child,
    name: Name,
}

impl Pair {
    fn new(options: &ChannelOptions) -> Self {
        let name = Name::new();
        let pipe = options.create(&name).expect("a pipe");
        let peer = Self::peer(&name);
        Self { pipe, peer, name }
    }

    fn with(capacity: u64) -> Self {
        Self::new(ChannelOptions::new().capacity(capacity))
    }

    /// The peer inherits its end.
    fn handed_over(capacity: u64) -> Self {
        let (pipe, ticket) = ChannelOptions::new().capacity(capacity).pair::<BytePipe>().expect("a pipe");
        let mut peer = Child::spawn_prepared("peer", &["inherited"], |command| {
            ticket.inherit(command, "frames").expect("a command");
        });
        peer.expect("here");
        Self { pipe, peer, name: Name::new() }
    }

    fn peer(name: &str) -> Child {
        let mut peer = Child::spawn("peer", &[name]);
        peer.expect("here");
        peer
    }
}

#[test]
fn frames_of_all_lengths_go_both_ways_whole_and_in_order() {
    let Pair { mut pipe, mut peer, .. } = Pair::with(1024);
    peer.tell("echo");
    for (i, len) in (0..3000).step_by(13).chain([0, 1, 100_000, 0]).enumerate() {
        let (tx, rx) = (frame(len, i), &mut Vec::new());
        // Longer than both rings: the other side sends it back only when it is there.
        pipe.send(&tx).expect("a receiver");
        rx.extend(pipe.recv_timeout(BOUND).expect("a frame"));
        assert!(*rx == tx, "frame {i} of {len} bytes");
    }
    drop(pipe);
    peer.expect("echoed");
}

#[test]
fn what_a_peer_has_sent_before_it_left_or_was_killed_comes_first_and_then_nobody_is_there() {
    for kill in [false, true] {
        let Pair { mut pipe, mut peer, .. } = Pair::with(1024);
        peer.tell("send 5 50");
        peer.expect("sent");
        if kill {
            peer.kill();
            peer.reap();
        } else {
            peer.tell("drop");
            peer.expect("dropped");
        }
        for i in 0..5 {
            assert_eq!(pipe.recv_timeout(BOUND).expect("a frame"), frame(50, i));
        }
        assert!(matches!(pipe.recv_timeout(BOUND), Err(RecvError::Disconnected)));
        assert!(matches!(pipe.send(b"?"), Err(SendError::Disconnected(()))));
        assert!(matches!(pipe.send(&[0; 5000]), Err(SendError::Disconnected(()))));
    }
}

#[test]
fn whoever_sleeps_learns_of_the_death_of_the_other_at_once() {
    for order in ["receive-one", "send 1 100000", "send 100 100"] {
        let name = Name::new();
        let mut maker = Child::spawn("maker", &[&name]);
        maker.expect("here");
        let mut victim = Pair::peer(&name);
        maker.tell(order);
        maker.until_asleep();
        let start = victim.kill();
        let said = maker.hear();
        assert!(said.starts_with("Disconnected"), "{said}");
        assert!(Duration::from_nanos(now_ns() - start) < prompt());
        victim.reap();
    }
}

#[test]
fn a_sender_that_is_killed_in_the_middle_of_a_long_frame_has_not_sent_it() {
    let Pair { mut pipe, mut peer, .. } = Pair::with(1024);
    peer.tell("send 1 100000");
    // It has filled the ring with the first parts.
    peer.until_asleep();
    // They are taken out, and it fills it again.
    assert!(matches!(pipe.try_recv(), Err(RecvError::Empty)));
    peer.until_asleep();
    let start = peer.kill();

    assert!(matches!(pipe.recv(), Err(RecvError::Disconnected)));
    assert!(Duration::from_nanos(now_ns() - start) < prompt());
    assert!(matches!(pipe.try_recv(), Err(RecvError::Disconnected)));
    peer.reap();
}

#[test]
fn a_sender_killed_at_any_moment_has_sent_whole_frames_in_order_and_its_successor_goes_on() {
    let mut random = Random::new();
    let name = Name::new();
    let mut pipe: BytePipe = ChannelOptions::new().capacity(512).successors(true).create(&name).expect("a pipe");
    for round in 0..60 {
        let mut peer = Pair::peer(&name);
        let len = LENS[round % LENS.len()];
        peer.tell(format_args!("send 1000000 {len}"));
        let patience = Duration::from_nanos(random.below(2_000_000));
        let end = std::time::Instant::now() + patience;
        let mut count = 0;
        while std::time::Instant::now() < end {
            count += usize::from(next_is(&mut pipe, len, count).is_ok());
        }
        peer.kill();
        let ended = loop {
            match next_is(&mut pipe, len, count) {
                Ok(()) => count += 1,
                Err(error) => break error,
            }
        };
        assert!(matches!(ended, RecvError::Disconnected), "{ended:?}");
        peer.reap();
    }
}

/// Takes frames as they come, and `wait`s when there are none, while the sender is killed.
fn take_from_one_who_is_killed(random: &mut Random, mut pair: Pair, len: usize, wait: impl Fn(&mut BytePipe)) {
    let Pair { pipe, peer, .. } = &mut pair;
    peer.tell(format_args!("send 1000000 {len}"));
    let (mut count, mut killed_at) = (0, None);
    loop {
        match pipe.try_recv() {
            Ok(found) => {
                assert!(found == frame(len, count), "frame {count} of {len} bytes");
                count += 1;
            }
            Err(RecvError::Empty) => wait(pipe),
            Err(RecvError::Disconnected) => break,
            Err(error) => panic!("{error}"),
        }
        if killed_at.is_none() && count > 5 {
            random.pause(Duration::from_micros(300));
            killed_at = Some(peer.kill());
        }
    }
    let after = Duration::from_nanos(now_ns() - killed_at.expect("it was alive until then"));
    assert!(after < prompt(), "{after:?}");
}

/// Short frames, such as take a good part of the channel, and longer ones than that.
const LENS: [usize; 4] = [5, 60, 200, 2000];

#[test]
fn one_who_waits_for_frames_among_other_things_is_told_of_the_death_of_the_sender() {
    let mut random = Random::new();
    let never = Event::new();
    for len in LENS.repeat(6) {
        take_from_one_who_is_killed(&mut random, Pair::with(512), len, |pipe| {
            let ready = wait_any(&mut [&mut never.until_set(), pipe], Deadline::after(BOUND));
            assert_eq!(ready.expect("tokens"), Some(1));
        });
    }
}

#[test]
fn one_who_waits_for_frames_in_an_event_loop_is_told_of_the_death_of_the_sender() {
    let mut random = Random::new();
    for make in [Pair::with, Pair::handed_over] {
        for len in LENS.repeat(3) {
            take_from_one_who_is_killed(&mut random, make(512), len, |pipe| {
                let readiness = pipe.readiness().expect("a descriptor");
                assert!(is_readable(&readiness, BOUND), "nothing in {BOUND:?}");
            });
        }
    }
}

/// Receives a frame, which is this one.
fn next_is(pipe: &mut BytePipe, len: usize, number: usize) -> Result<(), RecvError> {
    let found = pipe.recv_timeout(Duration::from_secs(5))?;
    assert!(found == frame(len, number), "frame {number} of {len} bytes");
    Ok(())
}

#[test]
fn a_successor_of_a_killed_receiver_gets_what_it_had_not_received() {
    let Pair { mut pipe, mut peer, name } = Pair::new(ChannelOptions::new().successors(true));
    (0..4).for_each(|i| pipe.send(&frame(30, i)).expect("room"));
    peer.tell("receive 1 30");
    peer.expect("received");
    peer.kill();
    assert!(matches!(pipe.recv(), Err(RecvError::Disconnected)));
    peer.reap();

    let mut rx = BytePipe::open(&name).expect("the end of a dead");
    for i in 1..4 {
        assert_eq!(rx.recv().expect("a frame"), frame(30, i));
    }
    assert!(matches!(rx.try_recv(), Err(RecvError::Empty)));
}

#[test]
fn a_forked_child_can_do_nothing_with_the_ends_of_its_parent_and_closes_nothing() {
    let Pair { mut pipe, mut peer, name } = Pair::with(1024);
    peer.tell("fork");
    peer.expect("0");
    peer.tell("fork-in-place");
    peer.expect("0");
    peer.tell("send 2 700");
    assert_eq!(pipe.recv_timeout(BOUND).expect("a frame"), frame(700, 0));
    assert_eq!(pipe.recv_timeout(BOUND).expect("a frame"), frame(700, 1));
    peer.expect("sent");
    drop(pipe);
    assert!(!name.exists());
}

#[test]
fn a_second_claim_of_an_end_is_refused_while_the_first_lives_and_after_it_unless_successors_are_allowed() {
    for successors in [false, true] {
        let mut pair = Pair::new(ChannelOptions::new().successors(successors));
        assert!(matches!(BytePipe::open(&pair.name), Err(OpenError::Taken)));
        pair.peer.kill();
        pair.peer.reap();
        assert!(matches!(pair.pipe.recv(), Err(RecvError::Disconnected)));
        let again = BytePipe::open(&pair.name);
        assert_eq!(again.is_ok(), successors, "{again:?}");
    }
}
