//! Streams between real processes.

mod common;

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::time::Duration;

use shmkit::{BytePipe, ChannelOptions, Endpoint};

use common::{Child, Name, Parent, now_ns, prompt, roles};

roles!(peer);

/// A process with the second end of a pipe, as a stream.
fn peer(parent: &mut Parent) {
    let mut stream = BytePipe::open(parent.argument(0)).expect("the other end").into_stream();
    parent.say("here");
    match parent.hear().as_str() {
        // Answers each line with its length.
        "answer" => {
            let (mut writer, reader) = stream.split();
            for line in BufReader::new(reader).lines() {
                writeln!(writer, "{}", line.expect("text").len()).expect("a reader");
            }
        }
        "copy" => {
            let (mut writer, mut reader) = stream.split();
            io::copy(&mut reader, &mut writer).expect("both ends");
        }
        "write" => {
            stream.write_all(&[5; 1000]).expect("a reader");
            parent.say("written");
            // Until nobody reads.
            let error = loop {
                if let Err(error) = stream.write_all(&[6; 100]) {
                    break error;
                }
            };
            parent.say(format_args!("{:?}", error.kind()));
        }
        other => panic!("no order {other:?}"),
    }
    parent.say("done");
}

fn pair() -> (BytePipe, Child, Name) {
    let name = Name::new();
    let pipe = ChannelOptions::new().capacity(2048).create(&name).expect("a pipe");
    let mut peer = Child::spawn("peer", &[&name]);
    peer.expect("here");
    (pipe, peer, name)
}

#[test]
fn a_protocol_of_lines_works_and_ends_when_one_side_leaves() {
    let (pipe, mut peer, _name) = pair();
    peer.tell("answer");
    let (mut writer, reader) = pipe.into_stream().split();
    let mut answers = BufReader::new(reader).lines();
    for len in (0..500).chain([10_000]) {
        writeln!(writer, "{}", "x".repeat(len)).expect("a reader");
        assert_eq!(answers.next().expect("an answer").expect("text"), len.to_string());
    }
    drop(writer);
    assert!(answers.next().is_none());
    peer.expect("done");
    peer.finish();
}

#[test]
fn megabytes_are_copied_through_another_process() {
    let (pipe, mut peer, _name) = pair();
    peer.tell("copy");
    let all: Vec<u8> = (0..3_000_000u32).map(|i| (i ^ i >> 9) as u8).collect();
    let (mut writer, mut reader) = pipe.into_stream().split();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            writer.write_all(&all).expect("a reader");
            drop(writer);
        });
        let mut found = Vec::new();
        reader.read_to_end(&mut found).expect("a writer");
        assert!(found == all);
    });
    peer.expect("done");
}

#[test]
fn a_killed_writer_is_the_end_of_the_stream_behind_what_it_has_written() {
    let (pipe, mut peer, _name) = pair();
    peer.tell("write");
    let mut stream = pipe.into_stream();
    let mut found = vec![0; 1000];
    stream.read_exact(&mut found).expect("as much as was written");
    assert_eq!(found, [5; 1000]);
    peer.expect("written");
    peer.until_asleep();
    let start = peer.kill();

    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).expect("an end");
    assert!(Duration::from_nanos(now_ns() - start) < prompt());
    assert!(!rest.is_empty() && rest.iter().all(|byte| *byte == 6));
    assert_eq!(stream.read(&mut found).expect("the end"), 0);
    assert_eq!(stream.write(b"?").expect_err("nobody").kind(), ErrorKind::BrokenPipe);
    peer.reap();
}

#[test]
fn a_writer_that_sleeps_learns_at_once_that_the_reader_has_left() {
    let (pipe, mut peer, _name) = pair();
    peer.tell("write");
    peer.expect("written");
    peer.until_asleep();
    let start = now_ns();
    drop(pipe);

    peer.expect("BrokenPipe");
    assert!(Duration::from_nanos(now_ns() - start) < prompt());
}
