//! Typed channels within one process: what goes through them, and what their methods say.

#![cfg(not(ipc_loom))]

use std::fmt::{self, Debug};
use std::thread;
use std::time::{Duration, Instant};

use bytemuck::Pod;
use shmkit_channel::{ChannelOptions, Endpoint, OpenError, Pipe, Receiver, RecvError, SendError, Sender};
use shmkit_core::{Described, Error, Fingerprint, Region, RegionOptions};

/// Longer than anything here may take.
const BOUND: Duration = Duration::from_secs(20);
/// A time to wait for nothing.
const SHORT: Duration = Duration::from_millis(20);

fn both<T: Pod + Described>(capacity: u64) -> (Sender<T>, Receiver<T>) {
    ChannelOptions::new().capacity(capacity).both().expect("a channel")
}

fn pipes<T: Pod + Described>(capacity: u64) -> (Pipe<T>, Pipe<T>) {
    ChannelOptions::new().capacity(capacity).both().expect("a pipe")
}

fn name(what: &str) -> String {
    format!("shmkit-test-pipe-{what}-{}", std::process::id())
}

// Messages.

#[test]
fn messages_arrive_in_order_until_the_sender_is_dropped() {
    let (mut tx, mut rx) = both::<u64>(10);
    let sender = thread::spawn(move || (0..20_000).try_for_each(|number| tx.send(number)));

    let received: Vec<u64> = rx.iter().collect();

    sender.join().expect("no panic").expect("a receiver");
    assert!(received.iter().copied().eq(0..20_000));
    assert!(matches!(rx.try_recv(), Err(RecvError::Disconnected)));
}

#[test]
fn as_many_messages_fit_in_as_were_asked_for() {
    for capacity in 1..30 {
        let (mut tx, mut rx) = both::<u64>(capacity);
        assert_eq!((tx.capacity(), rx.capacity()), (capacity, capacity));
        for round in 0..20 {
            (0..capacity).for_each(|number| tx.try_send(number).expect("room"));
            assert!(matches!(tx.try_send(7), Err(SendError::Full(7))));
            (0..capacity).for_each(|number| assert_eq!(rx.try_recv().expect("a message"), number, "round {round}"));
            assert!(matches!(rx.try_recv(), Err(RecvError::Empty)));
        }
    }
}

#[test]
fn slices_go_through_a_ring_that_is_smaller_than_they() {
    let (mut tx, mut rx) = both::<[u8; 3]>(50);
    let all: Vec<[u8; 3]> = (0..10_000u32).map(|number| [number as u8, (number >> 8) as u8, 7]).collect();
    let sent = all.clone();
    let sender = thread::spawn(move || tx.send_slice(&sent));

    let mut received = Vec::new();
    let mut part = [[0; 3]; 33];
    while let Ok(count) = rx.recv_slice(&mut part) {
        received.extend_from_slice(&part[..count]);
    }

    sender.join().expect("no panic").expect("a receiver");
    assert!(received == all);
}

/// Fills a channel several times over, in steps of all kinds, and finds everything again.
fn goes_through<T: Pod + Described + PartialEq + Debug>(message: impl Fn(u64) -> T) {
    for capacity in [1, 2, 7, 64] {
        let (mut tx, mut rx) = both::<T>(capacity);
        let (mut sent, mut received) = (0, 0);
        for step in 0..40 {
            let batch: Vec<T> = (sent..=sent + step % 9).map(&message).collect();
            sent += tx.try_send_slice(&batch).expect("room for one") as u64;
            let mut part = vec![T::zeroed(); 1 + step as usize % 5];
            while sent - received > capacity / 2 {
                let count = rx.try_recv_slice(&mut part).expect("a message") as u64;
                assert!(part.iter().take(count as usize).copied().eq((received..received + count).map(&message)));
                received += count;
            }
        }
        assert!((received..sent).all(|number| rx.recv().expect("a message") == message(number)));
        assert!(matches!(rx.try_recv_slice(&mut [T::zeroed()]), Err(RecvError::Empty)));
    }
}

/// What is aligned to more than messages in the ring are.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
struct Wide([u64; 8]);

// SAFETY: `repr(C)`, and the fingerprint covers name, version, size and alignment of this one field.
unsafe impl Described for Wide {
    const FINGERPRINT: Fingerprint = Fingerprint::new("Wide", 1, size_of::<Self>(), align_of::<Self>());

    fn type_name(f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wide")
    }
}

#[test]
fn messages_of_any_size_arrive_as_they_were_sent() {
    macro_rules! of_sizes {
        ($($size:literal)*) => { $(goes_through(|number| [number as u8; $size]);)* };
    }
    of_sizes!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 23 24 25 27 28 29 31 32 33 40 48 55 56 57 58 60 63);
    of_sizes!(64 65 71 72 73 100 119 120 121 127 128 129 150 183 184 185 191 192 193 199 200 1000 4096 5000);
    goes_through(|number| Wide([number; 8]));
    goes_through(|number| number as f32);
    goes_through(|number| [number as u16; 27]);
}

#[test]
fn messages_without_bytes_are_counted() {
    let (mut tx, mut rx) = both::<[u64; 0]>(3);
    tx.send_slice(&[[]; 3]).expect("room");

    assert!(matches!(tx.try_send([]), Err(SendError::Full([]))));
    assert_eq!(rx.recv_slice(&mut [[]; 5]).expect("messages"), 3);
    assert!(matches!(rx.try_recv(), Err(RecvError::Empty)));
}

#[test]
fn both_ends_of_a_pipe_send_and_receive() {
    let region = Region::anonymous(1 << 16).expect("a region");
    let mut first: Pipe<[u64; 20]> = ChannelOptions::new().create_in(&region, "pipe").expect("a pipe");
    let mut second = Pipe::<[u64; 20]>::open_in(&region, "pipe").expect("the other end");
    for number in 0..200 {
        first.send([number; 20]).expect("room");
        assert_eq!(second.recv().expect("a message"), [number; 20]);
        second.send([number + 1; 20]).expect("room");
        assert_eq!(first.recv().expect("a message"), [number + 1; 20]);
    }
}

#[test]
fn the_halves_of_a_pipe_work_in_two_threads() {
    let (mut first, mut second) = pipes::<u32>(4);
    assert!(!first.poll(Duration::ZERO).expect("an end") && first.sender().capacity() == 4);
    second.receiver().try_recv().expect_err("nothing");
    let (mut tx, mut rx) = first.split();
    let echo = thread::spawn(move || {
        while let Ok(number) = second.recv() {
            second.send(number * 2).expect("a receiver");
        }
    });
    let sender = thread::spawn(move || (0..1000).try_for_each(|number| tx.send(number)));

    assert!((0..1000).all(|number| rx.recv().expect("an echo") == number * 2));

    sender.join().expect("no panic").expect("a receiver");
    echo.join().expect("no panic");
    assert!(matches!(rx.recv(), Err(RecvError::Disconnected)));
}

// Time.

#[test]
fn one_who_has_nothing_to_do_waits_as_long_as_was_said() {
    let (mut tx, mut rx) = both::<u8>(1);
    let soon = |start: Instant| start.elapsed() >= SHORT && start.elapsed() < BOUND;
    let start = Instant::now();
    assert!(matches!(rx.recv_timeout(SHORT), Err(RecvError::TimedOut)) && soon(start));
    let start = Instant::now();
    assert!(matches!(rx.recv_deadline(start + SHORT), Err(RecvError::TimedOut)) && soon(start));
    let start = Instant::now();
    assert!(!rx.poll(SHORT).expect("an end") && soon(start));

    tx.send_timeout(1, SHORT).expect("room");
    let start = Instant::now();
    assert!(matches!(tx.send_timeout(2, SHORT), Err(SendError::TimedOut(2))) && soon(start));
    let start = Instant::now();
    assert!(matches!(tx.send_deadline(2, start + SHORT), Err(SendError::TimedOut(2))) && soon(start));
    assert!(matches!(tx.send_deadline(2, start), Err(SendError::TimedOut(2))));
    assert_eq!(rx.recv_timeout(Duration::MAX).expect("a message"), 1);
    tx.send_timeout(3, Duration::MAX).expect("room");
    assert_eq!(rx.recv_deadline(start).expect("a message"), 3);
}

#[test]
fn a_look_at_what_has_come_takes_nothing() {
    let (mut tx, mut rx) = both::<u8>(2);
    assert!(!rx.poll(Duration::ZERO).expect("an end"));
    tx.send(1).expect("room");

    assert!(rx.poll(Duration::ZERO).expect("an end") && rx.poll(Duration::MAX).expect("an end"));
    assert_eq!(rx.recv().expect("a message"), 1);
    assert!(!rx.poll(Duration::ZERO).expect("an end"));
}

#[test]
fn those_who_wait_go_on_when_the_other_side_moves() {
    let (mut tx, mut rx) = both::<u64>(1);
    let receiver = thread::spawn(move || {
        let first = rx.recv_timeout(BOUND);
        (first, rx.recv_timeout(BOUND), rx.recv_timeout(BOUND), rx.recv_timeout(BOUND))
    });

    (1..4).for_each(|number| tx.send_timeout(number, BOUND).expect("room in time"));
    drop(tx);

    let received = receiver.join().expect("no panic");
    assert!(matches!(received, (Ok(1), Ok(2), Ok(3), Err(RecvError::Disconnected))), "{received:?}");
}

// Closing.

#[test]
fn what_was_sent_before_a_close_is_received_and_then_nothing() {
    let (mut tx, mut rx) = both::<u8>(8);
    tx.send_slice(&[1, 2, 3, 4]).expect("room");
    assert!(!rx.is_closed());
    tx.close();
    tx.close();

    assert!(tx.is_closed() && rx.is_closed());
    assert!(rx.poll(Duration::ZERO).expect("a message"));
    assert_eq!(rx.recv().expect("a message"), 1);
    assert_eq!(rx.try_recv().expect("a message"), 2);
    assert!((&mut rx).into_iter().eq([3, 4]));
    assert!(matches!(rx.recv(), Err(RecvError::Disconnected)));
    assert!(matches!(rx.recv_timeout(BOUND), Err(RecvError::Disconnected)));
    assert!(matches!(rx.poll(Duration::ZERO), Err(RecvError::Disconnected)));
    assert!(matches!(rx.recv_slice(&mut [0]), Err(RecvError::Disconnected)));
}

#[test]
fn messages_for_a_closed_receiver_come_back() {
    let (mut tx, mut rx) = both::<u8>(8);
    tx.send(1).expect("room");
    rx.close();
    rx.close();

    assert!(tx.is_closed() && rx.is_closed());
    assert!(matches!(tx.send(2), Err(SendError::Disconnected(2))));
    assert!(matches!(tx.try_send(3), Err(SendError::Disconnected(3))));
    assert!(matches!(tx.send_timeout(4, BOUND), Err(SendError::Disconnected(4))));
    assert!(matches!(tx.send_slice(&[5, 6]), Err(SendError::Disconnected(0))));
    assert!(matches!(tx.try_send_slice(&[5]), Err(SendError::Disconnected(()))));
    assert_eq!(tx.send(7).expect_err("nobody").into_message(), 7);
}

#[test]
fn a_closed_end_cannot_be_used_any_more() {
    let (mut first, second) = pipes::<u8>(8);
    first.close();
    first.close();

    assert!(first.is_closed() && second.is_closed());
    assert!(matches!(first.send(1), Err(SendError::Disconnected(1))));
    assert!(matches!(first.send_timeout(1, BOUND), Err(SendError::Disconnected(1))));
    assert!(matches!(first.try_send(1), Err(SendError::Disconnected(1))));
    assert!(matches!(first.recv(), Err(RecvError::Disconnected)));
    assert!(matches!(first.recv_timeout(BOUND), Err(RecvError::Disconnected)));
    assert!(matches!(first.try_recv(), Err(RecvError::Disconnected)));
}

#[test]
fn each_way_of_a_pipe_is_closed_by_itself() {
    let (first, mut second) = pipes::<u8>(8);
    let (tx, mut rx) = first.split();
    drop(tx);

    assert!(matches!(second.recv(), Err(RecvError::Disconnected)));
    assert!(!second.is_closed());
    second.send(1).expect("a receiver");
    assert_eq!(rx.recv().expect("a message"), 1);
    drop(rx);
    assert!(matches!(second.send(2), Err(SendError::Disconnected(2))));
    assert!(second.is_closed());
}

#[test]
fn a_slice_that_could_be_sent_in_part_says_how_much_of_it_was() {
    let (mut tx, mut rx) = both::<u8>(100);
    let sender = thread::spawn(move || tx.send_slice(&[7; 1000]));
    let mut received = [0; 60];
    let mut count = 0;
    while count < 150 {
        count += rx.recv_slice(&mut received).expect("messages");
    }
    rx.close();

    let error = sender.join().expect("no panic").expect_err("nobody received all");
    assert!(matches!(error, SendError::Disconnected(sent) if sent >= count && sent <= count + 100), "{error:?}");
}

// Ends.

#[test]
fn a_slice_is_sent_as_far_as_there_is_room_also_where_it_has_become_more_since_the_last_look() {
    let (mut tx, mut rx) = both::<u64>(10);
    // From here on, room for six is known of.
    (0..4).for_each(|number| tx.send(number).expect("room"));
    (0..3).for_each(|number| assert_eq!(rx.recv().expect("a message"), number));

    assert_eq!(tx.try_send_slice(&[5; 20]).expect("some"), 9);
    assert!(matches!(tx.try_send_slice(&[5]), Err(SendError::Full(()))));
}

#[test]
fn an_end_belongs_to_one_at_a_time() {
    let name = name("taken");
    let first = Pipe::<u8>::create(&name, 1).expect("a pipe");
    assert!(matches!(Pipe::<u8>::succeed(&name), Err(OpenError::Taken)));
    let second = Pipe::<u8>::open(&name).expect("the other end");

    assert!(matches!(Pipe::<u8>::open(&name), Err(OpenError::Taken)));

    drop(second);
    assert!(matches!(Pipe::<u8>::open(&name), Err(OpenError::Closed)));
    drop(first);
    assert!(matches!(Pipe::<u8>::open(&name), Err(OpenError::Failed(Error::NotFound))));
}

#[test]
fn ends_of_one_way_channels_can_be_made_and_opened_either_way() {
    let name = name("either");
    let mut tx: Sender<u8> = ChannelOptions::new().successors(true).create(&name).expect("a channel");
    assert!(matches!(Sender::<u8>::succeed(&name), Err(OpenError::Taken)));
    assert!(matches!(Sender::<u8>::open(&name), Err(OpenError::Taken)));
    let mut rx = Receiver::<u8>::open(&name).expect("the other end");
    tx.send(1).expect("room");
    assert_eq!(rx.recv().expect("a message"), 1);
    assert_eq!(tx.capacity(), 64);
}

#[test]
fn a_channel_of_another_type_or_kind_is_not_opened() {
    let region = Region::anonymous(1 << 16).expect("a region");
    let _pipe: Pipe<u32> = ChannelOptions::new().create_in(&region, "pipe").expect("a pipe");
    let _sender: Sender<u32> = ChannelOptions::new().create_in(&region, "channel").expect("a channel");
    let is_wrong = |error| matches!(error, OpenError::Failed(Error::WrongType { .. }));

    assert!(is_wrong(Pipe::<i32>::open_in(&region, "pipe").expect_err("other messages")));
    assert!(is_wrong(Pipe::<[u8; 4]>::open_in(&region, "pipe").expect_err("other messages")));
    assert!(is_wrong(Receiver::<u32>::open_in(&region, "pipe").expect_err("a pipe")));
    assert!(is_wrong(Pipe::<u32>::open_in(&region, "channel").expect_err("one way only")));
    assert!(matches!(Pipe::<u32>::open_in(&region, "nothing"), Err(OpenError::Failed(Error::NoSuchObject { .. }))));
    let again = ChannelOptions::new().create_in::<Pipe<u32>>(&region, "pipe");
    assert!(matches!(again, Err(OpenError::Failed(Error::ObjectExists { .. }))));
    Pipe::<u32>::open_in(&region, "pipe").expect("the right one");
}

#[test]
fn a_capacity_that_no_memory_has_is_refused() {
    for capacity in [u64::MAX, u64::MAX / 2, 1 << 60, 1 << 58, 1 << 50, 1 << 45] {
        let no_space = |error| matches!(error, OpenError::Failed(Error::NoSpace { .. }));
        let name = name("large");
        assert!(no_space(Pipe::<u64>::create(&name, capacity).expect_err("too large")), "{capacity:#x}");
        assert!(no_space(ChannelOptions::new().capacity(capacity).both::<Sender<[u8; 99]>>().expect_err("too large")));
        let region = Region::anonymous(1 << 16).expect("a region");
        let insert = ChannelOptions::new().capacity(capacity).create_in::<Pipe<u8>>(&region, "pipe");
        assert!(no_space(insert.expect_err("too large")));
        assert!(matches!(Region::unlink(&name), Err(Error::NotFound)));
    }
}

#[test]
fn the_name_of_a_channel_stays_if_the_options_of_its_region_say_so() {
    let name = name("stays");
    drop(ChannelOptions::new().region(RegionOptions::new()).create::<Pipe<u8>>(&name).expect("a pipe"));

    let opened = Pipe::<u8>::open(&name);

    Region::unlink(&name).expect("a name");
    assert!(matches!(opened.expect("nobody has had it").recv(), Err(RecvError::Disconnected)));
}

#[test]
fn errors_and_ends_show_what_they_are() {
    let (mut tx, rx) = both::<u8>(1);
    tx.send(1).expect("room");
    let full = tx.try_send(2).expect_err("no room");
    assert_eq!((format!("{full:?}"), full.to_string()), ("Full(..)".into(), "the channel is full".into()));
    assert_eq!(
        format!("{tx:?} {rx:?}"),
        "Sender { capacity: 1, sent: 1, .. } Receiver { capacity: 1, received: 0, .. }"
    );
}
