//! Queues in which something wrong stands: whoever meets it is told.

#![cfg(not(ipc_loom))]

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use shmkit_channel::{Queue, RecvError, SendError};
use shmkit_core::{Error, Region};

const CAPACITY: u64 = 10;
/// How many places there are: three cells of seven messages.
const SLOTS: u64 = 21;

/// Where the words lie, in bytes.
const CAPACITY_WORD: u64 = 0;
const SENT: u64 = 144;
const LIMIT: u64 = 152;
const RECEIVED: u64 = 384;
const HEADER: u64 = 512;

/// A queue whose bytes can be reached past everybody.
struct Target {
    region: Region,
    queue: Queue<u64>,
    file: File,
    at: u64,
}

impl Target {
    fn new() -> Self {
        let region = Region::anonymous(1 << 14).expect("a region");
        let queue = Queue::create_in(&region, "target", CAPACITY).expect("room");
        let file = File::from(region.as_fd().try_clone_to_owned().expect("a descriptor"));
        let mut bytes = vec![0; region.size()];
        file.read_exact_at(&mut bytes, 0).expect("its bytes");
        let name = bytes.windows(6).position(|window| window == b"target").expect("the name in the directory");
        // The offset stands 40 bytes before the name.
        let at = u64::from_le_bytes(std::array::from_fn(|i| bytes[name - 40 + i]));
        Self { region, queue, file, at }
    }

    fn write(&self, word: u64, value: u64) {
        self.file.write_all_at(&value.to_le_bytes(), self.at + word).expect("a write");
    }

    fn read(&self, word: u64) -> u64 {
        let mut bytes = [0; 8];
        self.file.read_exact_at(&mut bytes, self.at + word).expect("a word");
        u64::from_le_bytes(bytes)
    }
}

fn is_refused(received: &Result<u64, RecvError>) -> bool {
    matches!(received, Err(RecvError::Failed(Error::Corrupted { .. })))
}

fn is_not_sent(sent: &Result<(), SendError<u64>>) -> bool {
    matches!(sent, Err(SendError::Failed { error: Error::Corrupted { .. }, .. }))
}

#[test]
fn a_position_behind_the_last_place_is_refused() {
    let target = Target::new();
    target.queue.send(5).expect("room");
    let (sent, received) = (target.read(SENT), target.read(RECEIVED));
    for garbage in [SLOTS, SLOTS + 1, 1 << 20, u64::from(u32::MAX), u64::MAX] {
        target.write(RECEIVED, garbage);
        assert!(is_refused(&target.queue.recv_timeout(Duration::from_secs(10))), "{garbage:#x}");
        target.write(RECEIVED, received);
        target.write(SENT, garbage);
        assert!(is_not_sent(&target.queue.try_send(6)), "{garbage:#x}");
        target.write(SENT, sent);
    }
    assert_eq!(target.queue.try_recv().expect("as it was"), 5);
}

#[test]
fn more_messages_than_there_are_or_fit_in_are_refused() {
    let target = Target::new();
    target.queue.send(5).expect("room");
    let (header, sent, received) = (target.read(HEADER), target.read(SENT), target.read(RECEIVED));
    for garbage in [0, header + 7, header + 64, header ^ 1 << 32, u64::MAX] {
        target.write(RECEIVED, received);
        target.write(HEADER, garbage);
        let got = target.queue.try_recv();
        assert!(is_refused(&got) || garbage == 0 && matches!(got, Err(RecvError::Empty)), "{garbage:#x}: {got:?}");
    }
    target.write(HEADER, header);
    // As if so many had been received that were never sent, or so few that more would be waiting than fit in.
    for garbage in [sent + 1, sent + 15, 1 << 32 | 5, u64::MAX << 32] {
        target.write(RECEIVED, garbage);
        target.write(LIMIT, sent);
        assert!(is_not_sent(&target.queue.try_send(6)), "{garbage:#x}");
    }
}

#[test]
fn a_capacity_of_another_size_is_not_opened() {
    let target = Target::new();
    for garbage in [0, 1, 7, 15, 1 << 30, u64::MAX] {
        target.write(CAPACITY_WORD, garbage);
        assert!(Queue::<u64>::open_in(&target.region, "target").is_err(), "{garbage}");
    }
    target.write(CAPACITY_WORD, CAPACITY);
    assert!(Queue::<u64>::open_in(&target.region, "target").is_ok());
}
