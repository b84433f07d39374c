//! Channels for bytes within one process: streams, and values of any type.

#![cfg(not(ipc_loom))]

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::thread;
use std::time::Duration;

use shmkit_channel::{BytePipe, ByteReceiver, ByteSender, ChannelOptions, PipeReader, PipeWriter};

const SHORT: Duration = Duration::from_millis(20);

fn channel(capacity: u64) -> (ByteSender, ByteReceiver) {
    ChannelOptions::new().capacity(capacity).both().expect("a channel")
}

fn stream(capacity: u64) -> (PipeWriter, PipeReader) {
    let (tx, rx) = channel(capacity);
    (tx.into_writer(), rx.into_reader())
}

fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * i / 5) as u8).collect()
}

#[test]
fn what_is_copied_in_comes_out_whatever_the_pieces() {
    let all = bytes(300_000);
    for (written, read) in [(1, 300_000), (300_000, 1), (7, 11), (300_000, 300_000), (1000, 3), (5000, 5000)] {
        let (mut writer, mut reader) = stream(256);
        thread::scope(|scope| {
            let sender = scope.spawn(|| {
                all.chunks(written).try_for_each(|part| writer.write_all(part))?;
                drop(writer);
                io::Result::Ok(())
            });
            let mut found = Vec::new();
            let mut part = vec![0; read];
            loop {
                match reader.read(&mut part).expect("a sound stream") {
                    0 => break,
                    count => found.extend_from_slice(&part[..count]),
                }
            }
            sender.join().expect("no panic").expect("a reader");
            assert!(found == all, "written by {written}, read by {read}");
        });
    }
}

#[test]
fn lines_and_copies_work_over_a_stream_both_ways() {
    let (ours, theirs): (BytePipe, BytePipe) = ChannelOptions::new().capacity(500).both().expect("a pipe");
    let (mut ours, mut theirs) = (ours.into_stream(), theirs.into_stream());
    thread::scope(|scope| {
        scope.spawn(move || {
            let (writer, reader) = (&mut Vec::new(), &mut BufReader::new(theirs.reader()));
            let mut line = String::new();
            while reader.read_line(&mut line).expect("a stream") > 0 {
                writer.extend_from_slice(line.to_uppercase().as_bytes());
                line.clear();
            }
            io::copy(&mut writer.as_slice(), theirs.writer()).expect("a reader");
        });
        (0..1000).for_each(|number| writeln!(ours, "line {number}").expect("a reader"));
        let (writer, mut reader) = ours.split();
        drop(writer);
        let mut answer = String::new();
        reader.read_to_string(&mut answer).expect("text");
        assert_eq!(answer.lines().count(), 1000);
        assert!(answer.lines().enumerate().all(|(number, line)| line == format!("LINE {number}")));
    });
}

#[test]
fn a_write_does_not_wait_for_room_for_all() {
    let (mut writer, mut reader) = stream(256);
    let written = writer.write(&[1; 10_000]).expect("some room");
    assert!(written > 0 && written < 256, "{written}");
    let mut all = written;
    writer.set_timeout(Some(SHORT)).expect("a time");
    let refused = loop {
        match writer.write(&[1; 10_000]) {
            Ok(count) => all += count,
            Err(error) => break error,
        }
    };
    assert_eq!(refused.kind(), ErrorKind::TimedOut);
    assert!(all > 150, "{all}");
    let mut found = vec![0; all];
    reader.read_exact(&mut found).expect("as much as was written");
    reader.set_timeout(Some(SHORT)).expect("a time");
    assert_eq!(reader.read(&mut found).expect_err("nothing").kind(), ErrorKind::TimedOut);
    assert_eq!(reader.set_timeout(Some(Duration::ZERO)).expect_err("no time").kind(), ErrorKind::InvalidInput);
}

#[test]
fn a_write_to_nobody_is_a_broken_pipe_and_one_of_nothing_is_nothing() {
    let (mut writer, reader) = stream(256);
    assert_eq!(writer.write(&[]).expect("nothing"), 0);
    drop(reader);
    assert_eq!(writer.write(&[1]).expect_err("nobody").kind(), ErrorKind::BrokenPipe);
    assert_eq!(writer.write(&[]).expect("nothing"), 0);
}

#[test]
fn frames_are_read_as_a_stream_and_empty_ones_are_not_its_end() {
    let (mut tx, rx) = channel(256);
    let mut reader = rx.into_reader();
    thread::scope(|scope| {
        scope.spawn(move || {
            for frame in [bytes(10), vec![], bytes(1000), vec![], vec![], bytes(3)] {
                tx.send(&frame).expect("a reader");
            }
        });
        let mut found = Vec::new();
        assert_eq!(reader.read(&mut []).expect("nothing"), 0);
        reader.read_to_end(&mut found).expect("a sound stream");
        assert!(found == [bytes(10), bytes(1000), bytes(3)].concat());
    });
}

#[cfg(feature = "serde")]
#[test]
fn values_arrive_and_what_is_none_is_an_error_and_gone() {
    use shmkit_channel::{RecvError, RecvValueError};

    let (mut tx, mut rx) = channel(256);
    tx.send_value(&("a", 1u64)).expect("room");
    tx.send(b"\xff\xff").expect("room");
    tx.send_value(&[Some(5u32), None]).expect("room");

    assert_eq!(rx.recv_value::<(String, u64)>().expect("a value"), ("a".to_owned(), 1));
    assert!(matches!(rx.recv_value::<String>(), Err(RecvValueError::Decode(_))));
    assert_eq!(rx.recv_value_timeout::<[Option<u32>; 2]>(SHORT).expect("a value"), [Some(5), None]);
    assert!(matches!(rx.try_recv_value::<u8>(), Err(RecvValueError::Recv(RecvError::Empty))));
}

#[cfg(feature = "serde")]
#[test]
fn values_find_room_at_once_or_in_time_or_are_not_sent() {
    use shmkit_channel::{SendError, SendValueError};

    let (mut tx, mut rx) = channel(256);
    let value = [7u8; 50].as_slice();
    tx.try_send_value(value).expect("room");
    tx.send_value_timeout(value, SHORT).expect("room");
    while tx.try_send_value(value).is_ok() {}

    assert!(matches!(tx.try_send_value(value), Err(SendValueError::Send(SendError::Full(())))));
    assert!(matches!(tx.send_value_timeout(value, SHORT), Err(SendValueError::Send(SendError::TimedOut(())))));
    assert_eq!(rx.recv_value::<Vec<u8>>().expect("a value"), value);
    tx.send_value_timeout(value, SHORT).expect("room again");
}
