//! Typed channels that somebody scribbles over: whatever stands in them, a call returns, with a value, an error or a time-out.

#![cfg(not(ipc_loom))]

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use bytemuck::Pod;
use shmkit_channel::{ChannelOptions, Endpoint, OpenError, Pipe, Receiver, RecvError, SendError, Sender};
use shmkit_core::{Described, Error, Region};

const CAPACITY: u64 = 20;
/// Where the ends, the capacity, and the number of received messages stand in a ring, in words, and how many there are before the cells.
const SENDER: u64 = 0;
const RECEIVER_ASLEEP: u64 = 4;
const RECEIVER: u64 = 1;
const RULES: u64 = 2;
const CAPACITY_WORD: u64 = 8;
const RECEIVED: u64 = 16;
const HEAD: u64 = 24;

/// A region with an object called `target`, whose bytes can be reached past everybody.
struct Target {
    region: Region,
    file: File,
    /// Where the name stands in the directory, and where the object begins.
    name_at: u64,
    object_at: u64,
}

impl Target {
    fn new<E: Endpoint>(successors: bool) -> (Self, E) {
        let region = Region::anonymous(1 << 16).expect("a region");
        let mut options = ChannelOptions::new();
        let end = options.capacity(CAPACITY).successors(successors).create_in(&region, "target").expect("a channel");
        let file = File::from(region.as_fd().try_clone_to_owned().expect("a descriptor"));
        let mut bytes = vec![0; region.size()];
        file.read_exact_at(&mut bytes, 0).expect("its bytes");
        let name_at = bytes.windows(6).position(|window| window == b"target").expect("the name in the directory");
        let word = |at| u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        // The offset stands 40 bytes before the name.
        (Self { region, file, name_at: name_at as u64, object_at: word(name_at - 40) }, end)
    }

    fn write(&self, at: u64, value: u64) {
        self.file.write_all_at(&value.to_le_bytes(), at).expect("a write");
    }

    /// Writes a word of the object.
    fn scribble(&self, word: u64, value: u64) {
        self.write(self.object_at + word * 8, value);
    }

    fn read(&self, word: u64) -> u64 {
        let mut bytes = [0; 8];
        self.file.read_exact_at(&mut bytes, self.object_at + word * 8).expect("a word");
        u64::from_le_bytes(bytes)
    }

    /// Size of the object and number of its elements, as the directory has them.
    fn resize(&self, size: u64, count: u64) {
        self.write(self.name_at - 32, size);
        self.write(self.name_at - 24, count);
    }
}

fn is_corrupted(error: &Error) -> bool {
    matches!(error, Error::Corrupted { .. })
}

#[test]
fn a_channel_of_another_size_than_its_capacity_says_is_not_opened() {
    let head = HEAD * 8;
    for len in [0, 8, 56, 64, 128, 64 * 5, 1 << 20, u64::MAX - head] {
        let (target, tx) = Target::new::<Sender<u64>>(false);
        target.resize(head.wrapping_add(len), len);
        let opened = Receiver::<u64>::open_in(&target.region, "target").expect_err("another size");
        assert!(matches!(&opened, OpenError::Failed(error) if is_corrupted(error)), "{len}: {opened}");
        drop(tx);

        let (target, rx) = Target::new::<Receiver<u64>>(false);
        target.resize(head.wrapping_add(len), len);
        assert!(Sender::<u64>::open_in(&target.region, "target").is_err(), "{len}");
        drop(rx);

        let (target, first) = Target::new::<Pipe<u64>>(false);
        target.resize((2 * head).wrapping_add(len), len);
        assert!(Pipe::<u64>::open_in(&target.region, "target").is_err(), "{len}");
        drop(first);
    }
}

#[test]
fn a_claim_that_fails_leaves_the_end_as_it_was() {
    let (target, mut tx) = Target::new::<Sender<u64>>(false);
    tx.send(5).expect("room");
    let capacity = target.read(CAPACITY_WORD);
    for garbage in [0, 1, 1000, u64::MAX] {
        target.scribble(CAPACITY_WORD, garbage);
        assert!(Receiver::<u64>::open_in(&target.region, "target").is_err());
    }
    target.scribble(CAPACITY_WORD, capacity);

    let mut rx = Receiver::<u64>::open_in(&target.region, "target").expect("the other end");
    assert_eq!(rx.recv().expect("a message"), 5);
}

#[test]
fn a_wrong_header_or_number_is_reported() {
    let (target, mut tx) = Target::new::<Sender<u64>>(false);
    let mut rx = Receiver::<u64>::open_in(&target.region, "target").expect("the other end");
    (0..3).for_each(|number| tx.send(number).expect("room"));
    assert_eq!(rx.recv().expect("a message"), 0);
    let header = target.read(HEAD);
    // Fewer messages than were received, more than fit, another cell, nothing.
    for garbage in [header - 3, header + 5, header + 64, header - 64, 0, u64::MAX] {
        target.scribble(HEAD, garbage);
        let (tried, waited) = (rx.recv_timeout(Duration::from_secs(10)), rx.poll(Duration::ZERO));
        // Two more are known to be there.
        assert!(tried.is_ok() || matches!(&tried, Err(RecvError::Failed(error)) if is_corrupted(error)), "{tried:?}");
        assert!(waited.is_ok() || matches!(&waited, Err(RecvError::Failed(error)) if is_corrupted(error)));
    }
    assert!(matches!(rx.try_recv(), Err(RecvError::Failed(error)) if is_corrupted(&error)));

    let room = CAPACITY - 3;
    (0..room).for_each(|number| tx.send(number).expect("room"));
    for garbage in [4 + CAPACITY, 1000, u64::MAX] {
        target.scribble(RECEIVED, garbage);
        let sent = tx.try_send(1).expect_err("nonsense");
        assert!(matches!(&sent, SendError::Failed { message: 1, error } if is_corrupted(error)), "{sent:?}");
    }
}

#[test]
fn a_slice_that_meets_garbage_in_its_middle_says_how_much_was_sent() {
    for room in 1..CAPACITY {
        let (target, mut tx) = Target::new::<Sender<u64>>(false);
        // After this, room for so many is known of.
        (room..CAPACITY).for_each(|number| tx.send(number).expect("room"));
        target.scribble(RECEIVED, u64::MAX / 2);

        let error = tx.send_slice(&[1; 100]).expect_err("garbage");

        assert!(matches!(error, SendError::Failed { message, .. } if message as u64 == room), "{room}: {error:?}");
        assert!(matches!(tx.try_send_slice(&[1]), Err(SendError::Failed { message: (), .. })));
    }
    let (target, mut tx) = Target::new::<Sender<u64>>(false);
    tx.send(0).expect("room");
    target.scribble(RECEIVED, u64::MAX / 2);
    assert_eq!(tx.try_send_slice(&[1; 100]).expect("some"), CAPACITY as usize - 1);
}

#[test]
fn an_end_that_is_not_its_owners_any_more_ends_its_waits_and_stays_as_it_is() {
    for garbage in [0, 1, 2, 3, 1 << 20, 1 << 40, u64::MAX] {
        let (target, mut tx) = Target::new::<Sender<u64>>(false);
        let mut rx = Receiver::<u64>::open_in(&target.region, "target").expect("the other end");
        target.scribble(RECEIVER, garbage);

        let waited = rx.recv_timeout(Duration::from_secs(10));
        assert!(matches!(&waited, Err(RecvError::Failed(error)) if is_corrupted(error)), "{garbage:#x}: {waited:?}");
        let _ = tx.send(1);
        rx.close();
        assert_eq!(target.read(RECEIVER) & !1, garbage & !1);
    }
}

#[test]
fn an_owner_that_has_met_with_an_error_is_not_taken_for_asleep() {
    let (target, mut tx) = Target::new::<Sender<u64>>(false);
    let mut rx = Receiver::<u64>::open_in(&target.region, "target").expect("the other end");
    let sender = target.read(SENDER);
    target.scribble(SENDER, 1 << 20);
    assert!(matches!(rx.recv(), Err(RecvError::Failed(error)) if is_corrupted(&error)));
    target.scribble(SENDER, sender);

    assert_eq!(target.read(RECEIVER_ASLEEP), 0);
    tx.send(1).expect("room");
    assert_eq!(rx.recv().expect("a message"), 1);
}

/// Random numbers (xorshift, by G. Marsaglia).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

/// Calls what there is, with a bound on what could last.
fn call_something<T: Pod + Described>(random: &mut Random, tx: &mut Sender<T>, rx: &mut Receiver<T>) {
    let patience = Duration::from_micros(random.below(4) * 100);
    let mut several = [T::zeroed(); 30];
    let count = random.below(30) as usize;
    match random.below(9) {
        0 => drop(tx.try_send(T::zeroed())),
        1 => drop(tx.send_timeout(T::zeroed(), patience)),
        2 => drop(tx.try_send_slice(&several[..count])),
        3 => drop(rx.try_recv()),
        4 => drop(rx.recv_timeout(patience)),
        5 => drop(rx.try_recv_slice(&mut several[..count])),
        6 => drop(rx.poll(patience)),
        7 => drop((tx.is_closed(), rx.is_closed(), format!("{tx:?} {rx:?}"))),
        _ => drop(tx.send_deadline(T::zeroed(), Instant::now())),
    }
}

/// A value that means something somewhere, or one close to what stands there.
fn nasty(random: &mut Random, now: u64) -> u64 {
    match random.below(6) {
        0 => random.below(70),
        1 => now.wrapping_add(random.below(5)).wrapping_sub(2),
        2 => now ^ 1 << random.below(64),
        3 => u64::MAX - random.below(70),
        4 => (random.below(30) + 1) << 6 | random.below(10),
        _ => random.next(),
    }
}

fn scribble_and_call<T: Pod + Described>(seed: u64) {
    let mut random = Random(seed | 1);
    for round in 0..60 {
        let (target, pipe) = Target::new::<Pipe<T>>(round % 2 == 0);
        let (mut tx, mut back) = pipe.split();
        let (mut forth_tx, mut rx) = Pipe::<T>::open_in(&target.region, "target").expect("the other end").split();
        let size = target.region.size() as u64 - target.object_at;
        for _ in 0..100 {
            for _ in 0..random.below(3) {
                let word = if random.below(2) == 0 { random.below(2 * HEAD) } else { random.below(size / 8) };
                let now = target.read(word);
                target.scribble(word, nasty(&mut random, now));
            }
            call_something(&mut random, &mut tx, &mut rx);
            call_something(&mut random, &mut forth_tx, &mut back);
            let opened = if random.below(2) == 0 {
                Pipe::<T>::open_in(&target.region, "target")
            } else {
                Pipe::<T>::succeed_in(&target.region, "target")
            };
            if let Ok(other) = opened {
                let (mut other_tx, mut other_rx) = other.split();
                call_something(&mut random, &mut other_tx, &mut rx);
                call_something(&mut random, &mut tx, &mut other_rx);
            }
            target.scribble(RULES, random.below(2));
        }
    }
}

#[test]
fn bytes_scribbled_between_calls_lead_to_values_errors_or_time_outs() {
    let seed = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("a clock").subsec_nanos().into();
    println!("seed: {seed}");
    scribble_and_call::<u64>(seed);
    scribble_and_call::<[u8; 0]>(seed ^ 0x10_0000);
    scribble_and_call::<[u8; 3]>(seed ^ 0x20_0000);
    scribble_and_call::<[u64; 25]>(seed ^ 0x30_0000);
}
