//! Channels for bytes within one process, and somebody who scribbles over them: whatever the region holds, an operation ends, with a value or
//! an error.

#![cfg(not(ipc_loom))]

use std::io::{Read, Write};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use shmkit_channel::{ByteReceiver, ByteSender, ChannelOptions, Endpoint};
use shmkit_core::Region;

const NONE: Duration = Duration::ZERO;

/// Random numbers (xorshift, by G. Marsaglia).
struct Random(u64);

impl Random {
    fn seeded(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

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

/// The words of a channel: those of its head, and those of a ring of 256 bytes.
struct Words(Vec<*const AtomicU64>);

/// A channel, and where its words are.
fn channel() -> (Region, ByteSender, ByteReceiver, Words) {
    let region = Region::anonymous(1 << 14).expect("a region");
    let tx: ByteSender = ChannelOptions::new().capacity(256).successors(true).create_in(&region, "c").expect("room");
    let mut rx = ByteReceiver::open_in(&region, "c").expect("the other end");
    let mut tx = tx;
    // The payload of the first record lies in the ring at 8, which is behind 192 bytes of head.
    tx.send(&[0; 8]).expect("room");
    let start = rx.peek().expect("a frame").as_ptr().wrapping_sub(8 + 192);
    rx.recv().expect("a frame");
    let words = (0..(192 + 256) / 8).map(|i| start.wrapping_add(i * 8).cast()).collect();
    (region, tx, rx, Words(words))
}

impl Words {
    /// Scribbles over one word, with something that is likely to be taken for sense.
    fn scribble(&self, random: &mut Random) {
        let word = self.0[random.below(self.0.len() as u64) as usize];
        // SAFETY: a word of the region, which is mapped; it is used as an atomic only, or by the copies of the library.
        let word = unsafe { &*word };
        let old = word.load(Relaxed);
        word.store(
            match random.below(6) {
                0 => 0,
                1 => random.next(),
                2 => old ^ 1 << random.below(64),
                3 => old.wrapping_add(8 << random.below(10)),
                4 => (random.below(64) << 36) | (random.below(16) << 32) | random.below(300),
                _ => old.wrapping_sub(random.below(1000)),
            },
            Relaxed,
        );
    }
}

fn act(random: &mut Random, tx: &mut ByteSender, rx: &mut ByteReceiver) {
    let len = random.below(300) as usize;
    let bytes = vec![random.next() as u8; len];
    match random.below(9) {
        0 => drop(tx.try_send(&bytes)),
        1 => drop(tx.send_timeout(&bytes, NONE)),
        2 => drop(tx.try_reserve(len % 57).and_then(|mut room| {
            room.fill(7);
            room.commit_len(len % 7 % (len % 57 + 1))
        })),
        3 => drop(rx.try_recv()),
        4 => drop(rx.try_recv_into(&mut vec![0; len])),
        5 => drop(rx.recv_timeout(NONE)),
        6 => drop(rx.poll(NONE)),
        7 => drop(rx.try_peek().map(|frame| frame.iter().map(|byte| u64::from(*byte)).sum::<u64>())),
        _ => drop(rx.try_peek().map(|frame| frame.release())),
    }
}

#[test]
fn whatever_is_scribbled_over_the_channel_between_operations_they_all_end() {
    for seed in 1..400 {
        let mut random = Random::seeded(seed);
        let (_region, mut tx, mut rx, words) = channel();
        for _ in 0..200 {
            act(&mut random, &mut tx, &mut rx);
            (0..random.below(3)).for_each(|_| words.scribble(&mut random));
        }
    }
}

#[test]
fn whatever_is_scribbled_over_a_stream_its_operations_end() {
    for seed in 1..200 {
        let mut random = Random::seeded(seed);
        let (_region, tx, rx, words) = channel();
        let (mut writer, mut reader) = (tx.into_writer(), rx.into_reader());
        writer.set_timeout(Some(Duration::from_nanos(1))).expect("a time");
        reader.set_timeout(Some(Duration::from_nanos(1))).expect("a time");
        for _ in 0..100 {
            let mut bytes = vec![1; random.below(200) as usize];
            drop(writer.write(&bytes));
            drop(reader.read(&mut bytes));
            (0..random.below(3)).for_each(|_| words.scribble(&mut random));
        }
    }
}

#[test]
fn ends_are_claimed_or_refused_whatever_the_channel_holds() {
    for seed in 1..2000 {
        let mut random = Random::seeded(seed);
        let (region, mut tx, mut rx, words) = channel();
        (0..20).for_each(|_| drop(tx.try_send(&vec![3; random.below(60) as usize])));
        (0..random.below(20)).for_each(|_| drop(rx.try_recv()));
        (0..random.below(5)).for_each(|_| words.scribble(&mut random));
        // Nobody has the ends.
        for word in &words.0[..2] {
            // SAFETY: as in `scribble`.
            unsafe { &**word }.store(0, Relaxed);
        }
        if let (Ok(mut tx), Ok(mut rx)) = (ByteSender::open_in(&region, "c"), ByteReceiver::succeed_in(&region, "c")) {
            (0..50).for_each(|_| act(&mut random, &mut tx, &mut rx));
        }
    }
}
