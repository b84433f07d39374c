//! Channels for bytes within one process: frames.

#![cfg(not(ipc_loom))]

use std::io::IoSlice;
use std::thread;
use std::time::{Duration, Instant};

use shmkit_channel::{
    BytePipe, ByteReceiver, ByteSender, ChannelOptions, Endpoint, OpenError, RecvError, SendError, Sender,
};
use shmkit_core::{Error, Region};

const SHORT: Duration = Duration::from_millis(20);

fn channel(capacity: u64) -> (ByteSender, ByteReceiver) {
    ChannelOptions::new().capacity(capacity).both().expect("a channel")
}

/// A frame that tells its length and number.
fn frame(len: usize, number: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 7 + number * 31 + len) as u8).collect()
}

#[test]
fn frames_of_every_length_arrive_whole_and_in_order() {
    let (mut tx, mut rx) = channel(256);
    let lens = || (0..1100).chain((0..1100).rev()).map(|i| i * 3 / 4);
    let sender = thread::spawn(move || lens().enumerate().try_for_each(|(i, len)| tx.send(&frame(len, i))));

    for (i, len) in lens().enumerate() {
        assert!(rx.recv().expect("a frame") == frame(len, i), "frame {i} of {len} bytes");
    }

    sender.join().expect("no panic").expect("a receiver");
    assert!(matches!(rx.recv(), Err(RecvError::Disconnected)));
}

#[test]
fn frames_that_were_sent_quietly_arrive_among_others_and_when_their_sender_waits_for_room() {
    let (mut tx, mut rx) = channel(256);
    let sender = thread::spawn(move || {
        for number in 0..3000 {
            let send = if number % 5 == 0 { ByteSender::send } else { ByteSender::send_quietly };
            send(&mut tx, &frame(number % 200, number)).expect("a receiver");
        }
        tx.tell();
        tx
    });

    for number in 0..3000 {
        assert!(rx.recv().expect("a frame") == frame(number % 200, number), "frame {number}");
    }

    assert!(!sender.join().expect("no panic").is_closed());
}

#[test]
fn a_frame_that_was_sent_quietly_is_there_for_one_who_looks() {
    let (mut tx, mut rx) = channel(256);
    tx.send_quietly(b"psst").expect("room");
    assert_eq!(rx.try_recv().expect("a frame"), b"psst");
}

#[test]
fn frames_that_come_in_parts_go_into_a_buffer_of_their_length() {
    let (mut tx, mut rx) = channel(256);
    let sender = thread::spawn(move || (0..500).try_for_each(|len| tx.send(&frame(len * 3, len))));
    let mut buffer = vec![0; 1500];

    for len in 0..500 {
        let found = rx.recv_into(&mut buffer[..len * 3]).expect("a frame");
        assert!(buffer[..found] == frame(len * 3, len), "{len}");
    }

    sender.join().expect("no panic").expect("a receiver");
}

#[test]
fn empty_frames_are_kept_and_are_not_the_end() {
    let (mut tx, mut rx) = channel(0);
    for frame in [b"".as_slice(), b"a", b"", b""] {
        tx.send(frame).expect("room");
    }
    drop(tx);

    assert_eq!(rx.iter().collect::<Vec<_>>(), [b"".as_slice(), b"a", b"", b""]);
    assert!(matches!(rx.try_recv(), Err(RecvError::Disconnected)));
}

#[test]
fn a_vectored_send_is_one_frame_of_all_the_slices() {
    let (mut tx, mut rx) = channel(256);
    let all = frame(600, 0);
    for len in [3, 10, 60, 600] {
        let slices: Vec<_> = all[..len].chunks(7).flat_map(|part| [IoSlice::new(part), IoSlice::new(&[])]).collect();
        thread::scope(|scope| {
            scope.spawn(|| tx.send_vectored(&slices).expect("a receiver"));
            assert_eq!(rx.recv().expect("a frame"), &all[..len]);
        });
    }
    tx.send_vectored(&[]).expect("room");
    assert_eq!(rx.recv().expect("a frame"), b"");
}

#[test]
fn a_buffer_that_is_too_small_leaves_the_frame_there() {
    let (mut tx, mut rx) = channel(1024);
    for len in [1, 100, 700] {
        tx.send(&frame(len, 0)).expect("room");
        let buffer = &mut vec![0; len - 1];
        for refused in [rx.recv_into(buffer), rx.try_recv_into(buffer)] {
            assert!(matches!(refused, Err(RecvError::TooSmall { needed }) if needed == len), "{refused:?}");
        }
        let mut buffer = vec![0; len + 5];
        assert_eq!(rx.try_recv_into(&mut buffer).expect("still there"), len);
        assert_eq!(buffer[..len], frame(len, 0));
    }
}

#[test]
fn try_send_sends_all_or_nothing() {
    for len in [0, 5, 56, 60, 100, 128] {
        let (mut tx, mut rx) = channel(256);
        for round in 0..50 {
            let sent = (0..).find(|number| tx.try_send(&frame(len, *number)).is_err()).expect("an end");
            assert!(sent > 0 && sent * (len + 8) <= 256, "{sent} frames of {len} bytes");
            assert!(matches!(tx.try_send(&frame(len, 0)), Err(SendError::Full(()))), "{len}");
            for number in 0..sent {
                assert_eq!(rx.try_recv().expect("a frame"), frame(len, number), "round {round}");
            }
            assert!(matches!(rx.try_recv(), Err(RecvError::Empty)));
        }
    }
}

#[test]
fn half_of_the_channel_fits_in_at_once_wherever_it_begins_and_more_is_refused() {
    for capacity in (256..1500).step_by(64) {
        let (mut tx, mut rx) = channel(capacity);
        let half = capacity as usize / 2;
        for place in 0..300 {
            tx.try_send(&frame(half, place)).expect("room");
            assert_eq!(rx.try_recv().expect("a frame"), frame(half, place));
            tx.try_send(b"").expect("room");
            assert_eq!(rx.try_recv().expect("a frame"), b"");
        }
        assert!(matches!(tx.try_send(&vec![1; half + 1]), Err(SendError::TooLong(()))));
    }
    let (mut tx, mut rx) = channel(256);
    assert!(matches!(tx.try_send(&[1; 249]), Err(SendError::TooLong(()))));
    assert!(matches!(tx.try_send(&[1; 10_000]), Err(SendError::TooLong(()))));
    assert!(matches!(rx.try_recv(), Err(RecvError::Empty)));
}

#[test]
fn a_frame_that_times_out_between_its_parts_is_dropped_whole() {
    let (mut tx, mut rx) = channel(256);
    for len in [300, 5000] {
        let start = Instant::now();
        assert!(matches!(tx.send_timeout(&frame(len, 1), SHORT), Err(SendError::TimedOut(()))));
        assert!(start.elapsed() >= SHORT);
        assert!(matches!(rx.try_recv(), Err(RecvError::Empty)));
        tx.send(b"next").expect("room");
        assert_eq!(rx.recv().expect("a frame"), b"next");

        assert!(matches!(tx.send_timeout(&frame(len, 1), SHORT), Err(SendError::TimedOut(()))));
        let sender = thread::spawn(move || tx.send(&frame(400, 2)).map(|()| tx));
        assert_eq!(rx.recv().expect("a frame"), frame(400, 2));
        tx = sender.join().expect("no panic").expect("a receiver");
    }
    assert!(tx.send_timeout(&frame(5000, 1), SHORT).is_err());
    drop(tx);
    assert!(matches!(rx.recv(), Err(RecvError::Disconnected)));
}

#[test]
fn a_receiver_that_takes_part_after_part_does_not_lift_the_deadline_of_the_sender_nor_the_sender_that_of_the_receiver()
{
    let (mut tx, mut rx) = channel(256);
    thread::scope(|scope| {
        scope.spawn(move || {
            // Parts without end, as nobody would send.
            let frame = vec![7; 1 << 30];
            let _ = tx.send_timeout(&frame, Duration::from_millis(300));
        });
        let start = Instant::now();
        assert!(matches!(rx.recv_timeout(SHORT), Err(RecvError::TimedOut)));
        assert!(start.elapsed() >= SHORT && start.elapsed() < Duration::from_millis(300));
        // What has come so far is not lost by that, but dropped when the sender gives up.
        assert!(matches!(rx.recv(), Err(RecvError::Disconnected)));
    });
}

#[test]
fn parts_that_have_come_stay_when_the_receiver_runs_out_of_time() {
    let (mut tx, mut rx) = channel(256);
    assert!(tx.send_timeout(&frame(1000, 1), SHORT).is_err());
    assert!(matches!(rx.try_recv_into(&mut [0; 1000]), Err(RecvError::Empty)));
    assert!(matches!(rx.try_recv_into(&mut []), Err(RecvError::Empty)));
    assert!(tx.send_timeout(&frame(1000, 1), SHORT).is_err());
    assert!(matches!(rx.try_recv_into(&mut []), Err(RecvError::Empty)));
    let whole = frame(1000, 3);
    thread::scope(|scope| {
        let sender = scope.spawn(|| tx.send(&whole));
        let mut lens = [1000, 0, 1000, 999].into_iter().cycle();
        // Each time another buffer, not always a large one.
        let found = loop {
            let mut buffer = vec![0; lens.next().unwrap_or_default()];
            match rx.try_recv_into(&mut buffer) {
                Ok(len) => break buffer[..len].to_vec(),
                Err(RecvError::TooSmall { needed }) => assert_eq!(needed, 1000),
                Err(error) => assert!(matches!(error, RecvError::Empty), "{error:?}"),
            }
        };
        assert!(found == whole);
        sender.join().expect("no panic").expect("a receiver");
    });
}

#[test]
fn poll_says_whether_there_is_a_whole_frame_and_leaves_it() {
    let (mut tx, mut rx) = channel(256);
    assert!(!rx.poll(Duration::ZERO).expect("a sound channel"));
    assert!(!rx.poll(SHORT).expect("a sound channel"));
    tx.send(b"").expect("room");
    assert!(rx.poll(Duration::ZERO).expect("a sound channel"));
    assert_eq!(rx.recv().expect("a frame"), b"");

    assert!(tx.send_timeout(&[1; 400], SHORT).is_err());
    assert!(!rx.poll(SHORT).expect("a sound channel"));
    tx.try_send(&[2; 100]).expect("room for its parts");
    assert!(rx.poll(SHORT).expect("a sound channel") && rx.poll(Duration::ZERO).expect("a sound channel"));
    assert_eq!(rx.recv().expect("a frame"), [2; 100]);
}

// In place.

#[test]
fn frames_are_written_and_read_in_place() {
    let (mut tx, mut rx) = channel(256);
    for round in 0..100 {
        let len = round % (tx.longest_in_place() + 1);
        let mut reservation = tx.reserve(len).expect("room");
        reservation.copy_from_slice(&frame(len, round));
        reservation.commit().expect("our own");
        let peek = rx.peek().expect("a frame");
        assert_eq!(*peek, *frame(len, round));
        peek.release().expect("our own");
    }
}

#[test]
fn a_reservation_that_is_dropped_sends_nothing() {
    let (mut tx, mut rx) = channel(256);
    for round in 0..100 {
        tx.reserve(50).expect("room").fill(0xff);
        assert!(matches!(rx.try_recv(), Err(RecvError::Empty)));
        let mut reservation = tx.reserve(40).expect("room");
        reservation[..4].copy_from_slice(b"only");
        reservation.commit_len(4).expect("our own");
        assert_eq!(rx.recv().expect("a frame"), b"only", "round {round}");
    }
}

#[test]
fn a_peek_that_is_dropped_leaves_the_frame() {
    let (mut tx, mut rx) = channel(1024);
    for len in [9, 700] {
        tx.send(&frame(len, 0)).expect("room");
        assert_eq!(*rx.peek().expect("a frame"), *frame(len, 0));
        assert_eq!(*rx.try_peek().expect("a frame"), *frame(len, 0));
        rx.peek_timeout(SHORT).expect("a frame").release().expect("our own");
        assert!(matches!(rx.try_peek(), Err(RecvError::Empty)));
    }
}

#[test]
fn more_than_goes_in_one_piece_cannot_be_reserved_and_what_does_not_fit_now_waits() {
    let (mut tx, _rx) = channel(256);
    let longest = tx.longest_in_place();
    assert!(matches!(tx.try_reserve(longest + 1), Err(SendError::TooLong(()))));
    (0..3).for_each(|_| tx.try_reserve(longest).expect("room").commit().expect("our own"));
    assert!(matches!(tx.try_reserve(longest), Err(SendError::Full(()))));
    assert!(matches!(tx.reserve_timeout(longest, SHORT), Err(SendError::TimedOut(()))));
    tx.try_reserve(8).expect("room").commit().expect("our own");
}

#[test]
#[should_panic(expected = "11 of 10 bytes")]
fn no_more_is_committed_than_was_reserved() {
    let (mut tx, _rx) = channel(256);
    let _ = tx.reserve(10).expect("room").commit_len(11);
}

// Ends.

#[test]
fn both_ends_of_a_pipe_send_and_receive_and_its_halves_by_themselves() {
    let region = Region::anonymous(1 << 16).expect("a region");
    let mut first: BytePipe = ChannelOptions::new().capacity(1000).create_in(&region, "pipe").expect("a pipe");
    let mut second = BytePipe::open_in(&region, "pipe").expect("the other end");
    for len in 0..200 {
        first.send(&frame(len, 1)).expect("room");
        assert_eq!(second.recv().expect("a frame"), frame(len, 1));
        second.send(&frame(len, 2)).expect("room");
        assert_eq!(first.recv().expect("a frame"), frame(len, 2));
    }
    let (mut tx, rx) = first.split();
    drop(rx);
    assert!(matches!(second.send(b"?"), Err(SendError::Disconnected(()))));
    tx.send(b"!").expect("room");
    assert_eq!(second.recv().expect("a frame"), b"!");
}

#[test]
fn an_end_is_claimed_once_and_only_as_what_it_is() {
    let region = Region::anonymous(1 << 16).expect("a region");
    let tx: ByteSender = ChannelOptions::new().capacity(300).create_in(&region, "bytes").expect("a channel");
    assert_eq!(tx.capacity(), 320);
    assert!(matches!(ByteSender::open_in(&region, "bytes"), Err(OpenError::Taken)));
    let other = Sender::<u64>::open_in(&region, "bytes");
    assert!(matches!(other, Err(OpenError::Failed(Error::WrongType { .. }))));
    assert!(matches!(BytePipe::open_in(&region, "bytes"), Err(OpenError::Failed(Error::WrongType { .. }))));
    drop(tx);
    assert!(matches!(ByteSender::open_in(&region, "bytes"), Err(OpenError::Closed)));
}

#[test]
fn what_was_sent_comes_before_the_news_that_the_sender_is_gone_and_use_after_close_is_an_error() {
    let (mut tx, mut rx) = channel(1024);
    tx.send(&frame(700, 1)).expect("room");
    tx.close();
    tx.close();
    assert!(tx.is_closed() && rx.is_closed());
    assert!(matches!(tx.send(b""), Err(SendError::Disconnected(()))));
    assert!(matches!(tx.try_send(&[0; 5000]), Err(SendError::Disconnected(()))));
    assert!(matches!(tx.reserve(1), Err(SendError::Disconnected(()))));
    assert_eq!(rx.recv().expect("a frame"), frame(700, 1));
    assert!(matches!(rx.recv(), Err(RecvError::Disconnected)));
    rx.close();
    assert!(matches!(rx.recv_into(&mut []), Err(RecvError::Disconnected)));
    assert!(matches!(rx.poll(SHORT), Err(RecvError::Disconnected)));
}

#[test]
fn a_long_frame_to_one_who_leaves_is_an_error() {
    let (mut tx, mut rx) = channel(256);
    thread::scope(|scope| {
        let sender = scope.spawn(|| tx.send(&vec![7; 1 << 28]));
        assert!(!rx.poll(SHORT).expect("a sound channel"));
        drop(rx);
        assert!(matches!(sender.join().expect("no panic"), Err(SendError::Disconnected(()))));
    });
}

#[test]
fn a_channel_that_cannot_be_so_large_is_refused() {
    let region = Region::anonymous(1 << 16).expect("a region");
    for capacity in [1 << 20, 1 << 62, u64::MAX - 3, u64::MAX] {
        let refused = ChannelOptions::new().capacity(capacity).create_in::<BytePipe>(&region, "pipe");
        assert!(matches!(refused, Err(OpenError::Failed(Error::NoSpace { .. }))), "{refused:?}");
    }
}
