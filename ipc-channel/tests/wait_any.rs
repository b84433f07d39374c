//! Ends of channels among several things that are waited for, in one process.

#![cfg(not(ipc_loom))]

use core::time::Duration;
use std::io::Read;
use std::thread;

use shmkit_channel::{
    BytePipe, ByteReceiver, ByteSender, ChannelOptions, Endpoint, OpenError, Pipe, Receiver, RecvError, SendError,
    Sender,
};
use shmkit_core::wait::Source;
use shmkit_core::{Deadline, Region, wait_any};
use shmkit_sync::Event;

const LONG: Duration = Duration::from_secs(20);

fn channel(capacity: u64) -> (Sender<u64>, Receiver<u64>) {
    ChannelOptions::new().capacity(capacity).both().expect("a channel")
}

fn soon() -> Option<Deadline> {
    Deadline::after(Duration::from_millis(10))
}

#[test]
fn a_receiver_is_ready_when_there_is_a_message_and_when_there_will_be_none() {
    let [(mut tx, mut rx), (other_tx, mut other_rx)] = [channel(4), channel(4)];
    let ready = |receivers: [&mut Receiver<u64>; 2]| {
        let [first, second] = receivers;
        wait_any(&mut [first, second], soon()).expect("tokens")
    };

    assert_eq!(ready([&mut rx, &mut other_rx]), None);
    tx.send(7).expect("room");
    assert_eq!(ready([&mut other_rx, &mut rx]), Some(1));
    assert_eq!(rx.try_recv().expect("a message"), 7);
    assert_eq!(ready([&mut other_rx, &mut rx]), None);
    drop(other_tx);
    assert_eq!(ready([&mut rx, &mut other_rx]), Some(1));
    assert!(matches!(other_rx.try_recv(), Err(RecvError::Disconnected)));
    rx.close();
    assert_eq!(ready([&mut rx, &mut other_rx]), Some(0));
}

#[test]
fn a_sender_is_ready_when_there_is_room_and_when_nobody_will_receive() {
    let (mut tx, mut rx) = channel(1);
    assert_eq!(wait_any(&mut [&mut tx], soon()).expect("a token"), Some(0));
    tx.send(1).expect("room");
    assert_eq!(wait_any(&mut [&mut tx], soon()).expect("a token"), None);

    thread::scope(|scope| {
        let waiter = scope.spawn(|| wait_any(&mut [&mut tx], Deadline::after(LONG)));
        assert_eq!(rx.recv().expect("a message"), 1);
        assert_eq!(waiter.join().expect("no panic").expect("a token"), Some(0));
    });
    tx.send(2).expect("room");
    drop(rx);
    assert_eq!(wait_any(&mut [&mut tx], soon()).expect("a token"), Some(0));
    assert!(matches!(tx.try_send(3), Err(SendError::Disconnected(3))));
}

#[test]
fn all_messages_of_many_senders_arrive_until_the_last_is_dropped() {
    const EACH: u64 = 5_000;
    let (senders, mut receivers): (Vec<_>, Vec<_>) = (0..12).map(|_| channel(3)).unzip();
    let never = Event::new();

    thread::scope(|scope| {
        for mut tx in senders {
            scope.spawn(move || (0..EACH).try_for_each(|number| tx.send(number)));
        }
        let mut received = vec![0; receivers.len()];
        let mut open = receivers.len();
        while open > 0 {
            let mut never = never.until_set();
            let mut sources: Vec<&mut dyn Source> = vec![&mut never];
            sources.extend(receivers.iter_mut().map(|receiver| receiver as &mut dyn Source));
            let ready = wait_any(&mut sources, Deadline::after(LONG)).expect("tokens").expect("a receiver") - 1;
            match receivers[ready].try_recv() {
                Ok(number) => {
                    assert_eq!(number, received[ready]);
                    received[ready] += 1;
                }
                Err(RecvError::Disconnected) => {
                    assert_eq!(received[ready], EACH);
                    receivers.swap_remove(ready);
                    received.swap_remove(ready);
                    open -= 1;
                }
                Err(error) => panic!("{error}"),
            }
        }
    });
}

#[test]
fn an_end_can_be_waited_for_by_itself_after_it_was_waited_for_among_others() {
    let (mut tx, mut rx) = channel(4);
    let event = Event::new();
    assert_eq!(wait_any(&mut [&mut rx, &mut event.until_set()], soon()).expect("tokens"), None);

    thread::scope(|scope| {
        let receiver = scope.spawn(|| rx.recv_timeout(LONG));
        tx.send(9).expect("room");
        assert_eq!(receiver.join().expect("no panic").expect("a message"), 9);
    });
}

#[test]
fn an_end_that_is_closed_cannot_be_armed_and_stays_closed() {
    let region = Region::anonymous(1 << 14).expect("a region");
    let _tx: Sender<u64> = ChannelOptions::new().create_in(&region, "channel").expect("a channel");
    let mut rx = Receiver::<u64>::open_in(&region, "channel").expect("the other end");
    rx.close();

    assert!(rx.arm().is_err());
    assert!(matches!(Receiver::<u64>::open_in(&region, "channel"), Err(OpenError::Closed)));
}

#[test]
fn a_receiver_of_frames_is_ready_when_there_is_a_whole_one_and_when_there_will_be_none() {
    let (mut tx, mut rx): (ByteSender, ByteReceiver) = ChannelOptions::new().capacity(1024).both().expect("a channel");
    let event = Event::new();
    let ready = |rx: &mut ByteReceiver| wait_any(&mut [&mut event.until_set(), rx], soon()).expect("a token");
    let long: Vec<u8> = (0..5000u32).map(|number| number as u8).collect();

    assert_eq!(ready(&mut rx), None);
    tx.send(b"short").expect("room");
    assert_eq!(ready(&mut rx), Some(1));
    assert_eq!(rx.try_recv().expect("a frame"), b"short");
    // Longer than the channel: it comes through only because who waits for it takes its parts.
    thread::scope(|scope| {
        let sender = scope.spawn(|| tx.send(&long));
        let ready = wait_any(&mut [&mut event.until_set(), &mut rx], Deadline::after(LONG)).expect("a token");
        assert_eq!(ready, Some(1));
        sender.join().expect("no panic").expect("a receiver");
    });
    assert_eq!(rx.try_recv().expect("a frame"), long);
    assert_eq!(ready(&mut rx), None);
    drop(tx);
    assert_eq!(ready(&mut rx), Some(1));
    assert!(matches!(rx.try_recv(), Err(RecvError::Disconnected)));
}

#[test]
fn a_sender_of_frames_is_ready_when_there_is_room_and_when_nobody_will_receive() {
    let (mut tx, mut rx): (ByteSender, ByteReceiver) = ChannelOptions::new().capacity(1024).both().expect("a channel");
    let ready = |tx: &mut ByteSender| wait_any(&mut [tx], soon()).expect("a token");
    let piece = vec![7; tx.longest_in_place()];

    assert_eq!(ready(&mut tx), Some(0));
    while tx.try_send(&piece).is_ok() {}
    assert_eq!(ready(&mut tx), None);
    thread::scope(|scope| {
        scope.spawn(|| while rx.try_recv().is_ok() {});
        assert_eq!(wait_any(&mut [&mut tx], Deadline::after(LONG)).expect("a token"), Some(0));
    });
    while tx.try_send(&piece).is_ok() {}
    drop(rx);
    assert_eq!(ready(&mut tx), Some(0));
    assert!(matches!(tx.try_send(b""), Err(SendError::Disconnected(()))));
}

fn is_ready(source: &mut dyn Source) -> bool {
    wait_any(&mut [source], soon()).expect("a token").is_some()
}

#[test]
fn a_pipe_is_ready_when_there_is_something_to_receive_and_when_there_will_be_nothing() {
    let (mut pipe, mut other): (Pipe<u64>, _) = ChannelOptions::new().both().expect("a pipe");
    let (mut bytes, mut other_bytes): (BytePipe, _) = ChannelOptions::new().both().expect("a pipe");
    assert_eq!(wait_any(&mut [&mut pipe, &mut bytes], soon()).expect("tokens"), None);

    other_bytes.send(b"frame").expect("room");
    assert_eq!(wait_any(&mut [&mut pipe, &mut bytes], soon()).expect("tokens"), Some(1));
    other.send(1).expect("room");
    assert_eq!(wait_any(&mut [&mut pipe, &mut bytes], soon()).expect("tokens"), Some(0));
    assert_eq!((pipe.try_recv().expect("a message"), bytes.try_recv().expect("a frame")), (1, b"frame".to_vec()));

    other.close();
    assert!(is_ready(&mut pipe) && !is_ready(&mut bytes));
    drop(other_bytes);
    assert!(is_ready(&mut bytes));
}

#[test]
fn a_stream_is_ready_for_bytes_and_for_its_end_and_not_for_empty_frames() {
    let (stream, mut other): (BytePipe, BytePipe) = ChannelOptions::new().both().expect("a pipe");
    let mut stream = stream.into_stream();
    let mut byte = [0];

    (0..3).for_each(|_| other.send(b"").expect("room"));
    assert!(!is_ready(&mut stream) && !is_ready(stream.reader()));
    other.send(b"ab").expect("room");
    for expected in [b"a", b"b"] {
        assert!(is_ready(&mut stream) && is_ready(stream.reader()));
        stream.read_exact(&mut byte).expect("a byte");
        assert_eq!(&byte, expected);
    }
    assert!(!is_ready(&mut stream));
    other.send(b"").expect("room");
    drop(other);
    assert!(is_ready(&mut stream));
    assert_eq!(stream.read(&mut byte).expect("the end"), 0);
}
