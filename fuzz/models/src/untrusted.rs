//! Untrusted regions while somebody writes what they like anywhere in them: each call ends, with a value or an error.

use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::Relaxed;
use core::time::Duration;
use std::fs::File;
use std::os::fd::AsFd;
use std::time::Instant;

use arbitrary::{Arbitrary, Unstructured};
use shmkit::{
    BytePipe, ByteReceiver, ByteSender, ChannelOptions, Event, Pipe, QueueOptions, Receiver, RegionOptions, Semaphore,
    Sender, SharedArray, Shm, UntrustedEnd, UntrustedEvent, UntrustedQueue, UntrustedRegion, UntrustedSemaphore,
};

use crate::seen::{Kind, Seen, kind};
use crate::stage::{SIZE, Scribble, TOKENS, Words};

const NOW: Duration = Duration::ZERO;

/// Where the objects begin in a region for four.
const LOG: usize = 704;

/// The word of that lock.
const DIRECTORY_LOCK: usize = 16;

/// Some calls wait for up to 100 milliseconds for one who stands in a lock. Once is enough.
const PATIENCE: Duration = Duration::from_millis(50);

#[derive(Arbitrary, Debug)]
enum Act {
    Scribble(Scribble),
    /// Over what lies at fixed places.
    ScribbleFixed(Scribble),
    /// Over the first objects.
    ScribbleObjects(Scribble),
    /// Over what the directory says of the array.
    ScribbleArray(Scribble),
    Insert(u8, u16),
    Get(u8),
    /// With the length that the directory says.
    GetAsItIs,
    Objects,
    Array(u8, u16),
    Semaphore(u8, u32),
    Event(u8),
    Open(u8),
    Send(u8, u8),
    Receive(u8),
    Queue(u8),
    Drop(u8),
}

pub(crate) fn run(data: &[u8], seen: &mut Seen) {
    let _ = play(&mut Unstructured::new(data), seen);
}

/// A region, and another mapping of it. A new one for each input: it remembers what it has given out, whatever stands in it.
struct Room {
    region: UntrustedRegion,
    other: Words,
}

impl Room {
    fn new() -> Self {
        let region = RegionOptions::new().participants(4).anonymous_untrusted(SIZE - LOG).expect("a region");
        let file = File::from(region.as_fd().try_clone_to_owned().expect("a descriptor"));
        assert_eq!(file.metadata().expect("its size").len(), SIZE as u64);
        let other = Words::map(&file);
        Self { region, other }
    }
}

/// What there is at the time.
#[derive(Default)]
struct Things {
    number: Option<Shm<AtomicU64>>,
    array: Option<SharedArray<u32>>,
    semaphore: Option<Shm<UntrustedSemaphore>>,
    event: Option<Shm<UntrustedEvent>>,
    sender: Option<UntrustedEnd<Sender<u64>>>,
    receiver: Option<UntrustedEnd<Receiver<u64>>>,
    first: Option<UntrustedEnd<BytePipe>>,
    second: Option<UntrustedEnd<BytePipe>>,
    queue: Option<UntrustedQueue<[u8; 3]>>,
}

fn play(input: &mut Unstructured<'_>, seen: &mut Seen) -> arbitrary::Result<()> {
    let Room { region, other } = &Room::new();
    let mut things = Things::default();
    for which in 0..6 {
        insert(region, &mut things, which, 40, seen);
    }
    for which in 0..5 {
        open(region, &mut things, which, seen);
    }
    // The first record says where the second one is, that of the array.
    let record = other.all()[LOG / 8].load(Relaxed) as usize;
    for _ in 0..100 {
        if input.is_empty() {
            break;
        }
        let begun = Instant::now();
        match Act::arbitrary(input)? {
            Act::Scribble(scribble) => other.scribble(0, SIZE, &scribble),
            Act::ScribbleFixed(scribble) => other.scribble(0, LOG, &scribble),
            Act::ScribbleObjects(scribble) => other.scribble(LOG, LOG + 4096, &scribble),
            Act::ScribbleArray(scribble) => other.scribble(record, record + 48, &scribble),
            Act::GetAsItIs => {
                let len = other.all()[record / 8 + 3].load(Relaxed) as usize;
                note(&mut things.array, region.get_array("array", len), "get array as it is", seen);
                assert!(things.array.as_ref().is_none_or(|array| array.len() <= SIZE / 4));
            }
            // It would wait for a second.
            Act::Insert(..) if is_locked(other) => seen.note("insert", "left out"),
            act => use_it(&act, region, &mut things, seen),
        }
        if begun.elapsed() > PATIENCE {
            break;
        }
    }
    Ok(())
}

/// Whether somebody who seems alive has the lock on the directory.
fn is_locked(words: &Words) -> bool {
    let identity = |word: usize| words.all()[word].load(Relaxed) >> 28;
    identity(DIRECTORY_LOCK) != 0 && (TOKENS..TOKENS + 4).any(|word| identity(word) == identity(DIRECTORY_LOCK))
}

fn insert(region: &UntrustedRegion, things: &mut Things, which: u8, len: u16, seen: &mut Seen) {
    let mut options = ChannelOptions::new();
    let options = options.capacity(u64::from(len) % 300 + 1).successors(len % 2 == 0);
    match which % 6 {
        0 => note(&mut things.number, region.insert("number", AtomicU64::new(1)), "insert number", seen),
        1 => note(&mut things.array, region.insert_array("array", len.into()), "insert array", seen),
        2 => {
            let semaphore = Semaphore::bounded(2, 3).expect("in range");
            note(&mut things.semaphore, region.insert("semaphore", semaphore.into()), "insert semaphore", seen);
            note(&mut things.event, region.insert("event", Event::auto_reset().into()), "insert event", seen);
        }
        3 => note(&mut things.sender, options.create_in_untrusted(region, "messages"), "insert messages", seen),
        4 => note(&mut things.first, options.create_in_untrusted(region, "bytes"), "insert bytes", seen),
        _ => {
            let queue = QueueOptions::new().capacity(u64::from(len) % 50 + 1).create_in_untrusted(region, "queue");
            note(&mut things.queue, queue, "insert queue", seen);
        }
    }
}

fn note<T, E: Kind>(place: &mut Option<T>, made: Result<T, E>, what: &'static str, seen: &mut Seen) {
    seen.note(what, kind(&made));
    if let Ok(made) = made {
        *place = Some(made);
    }
}

fn open(region: &UntrustedRegion, things: &mut Things, which: u8, seen: &mut Seen) {
    match which % 8 {
        0 => note(&mut things.receiver, UntrustedEnd::open_in(region, "messages"), "open receiver", seen),
        1 => note(&mut things.sender, UntrustedEnd::succeed_in(region, "messages"), "succeed sender", seen),
        2 => note(&mut things.second, UntrustedEnd::open_in(region, "bytes"), "open bytes", seen),
        3 => note(&mut things.first, UntrustedEnd::succeed_in(region, "bytes"), "succeed bytes", seen),
        4 => note(&mut things.queue, UntrustedQueue::open_in(region, "queue"), "open queue", seen),
        5 => note(&mut things.semaphore, region.get("semaphore"), "get semaphore", seen),
        6 => note(&mut things.event, region.get("event"), "get event", seen),
        _ => {
            // Of other kinds and types than what is there.
            let name = ["messages", "bytes", "queue", "number"][usize::from(which / 8 % 4)];
            let results = [
                kind(&UntrustedEnd::<Pipe<u64>>::open_in(region, name)),
                kind(&UntrustedEnd::<ByteSender>::open_in(region, name)),
                kind(&UntrustedEnd::<ByteReceiver>::open_in(region, name)),
                kind(&UntrustedQueue::<u64>::open_in(region, name)),
            ];
            results.into_iter().for_each(|result| seen.note("open another kind", result));
        }
    }
}

fn use_it(act: &Act, region: &UntrustedRegion, things: &mut Things, seen: &mut Seen) {
    match *act {
        Act::Insert(which, len) => insert(region, things, which, len, seen),
        Act::Open(which) => open(region, things, which, seen),
        Act::Get(which) => match which % 3 {
            0 => note(&mut things.number, region.get("number"), "get number", seen),
            1 => note(&mut things.array, region.get_array("array", which.into()), "get array", seen),
            _ => note(&mut things.array, region.get_array("array", 40), "get array", seen),
        },
        Act::Objects => {
            let objects = region.objects();
            seen.note("objects", kind(&objects));
            assert!(objects.iter().flatten().map(|object| object.size).sum::<usize>() <= SIZE);
            assert!(region.participants().len() <= 4 && region.size() == SIZE - LOG);
            if let Some(number) = &things.number {
                number.fetch_add(1, Relaxed);
            }
        }
        Act::Array(how, index) => {
            let Some(array) = &things.array else { return };
            match how % 4 {
                0 => seen.note("set", array.set(index.into(), how.into()).is_ok().kind()),
                1 => seen.note("array get", array.get(index.into()).is_some().kind()),
                2 => array.fill(how.into()),
                _ => assert_eq!(array.to_vec().len(), array.len()),
            }
        }
        Act::Semaphore(how, n) => {
            let Some(semaphore) = &things.semaphore else { return };
            match how % 3 {
                0 => seen.note("take", semaphore.try_acquire_many(n).kind()),
                1 => seen.note("take in time", kind(&semaphore.acquire_many_timeout(n, NOW))),
                _ => seen.note("release", semaphore.release_many(n).is_ok().kind()),
            }
        }
        Act::Event(how) => {
            let Some(event) = &things.event else { return };
            match how % 4 {
                0 => event.set(),
                1 => event.reset(),
                2 => seen.note("wait", event.try_wait().kind()),
                _ => seen.note("wait in time", kind(&event.wait_timeout(NOW))),
            }
        }
        Act::Send(how, len) => {
            let frame = vec![how; len.into()];
            if let Some(sender) = &mut things.sender {
                seen.note("send", kind(&sender.try_send(len.into())));
                seen.note("send some", kind(&sender.try_send_slice(&[1; 20])));
            }
            let end = if how % 2 == 0 { &mut things.first } else { &mut things.second };
            if let Some(end) = end {
                seen.note("send frame", kind(&end.try_send(&frame)));
                seen.note("send frame in time", kind(&end.send_timeout(&frame, NOW)));
            }
        }
        Act::Receive(how) => {
            if let Some(receiver) = &mut things.receiver {
                seen.note("receive", kind(&receiver.try_recv()));
                seen.note("receive some", kind(&receiver.try_recv_slice(&mut [0; 20])));
                seen.note("poll", kind(&receiver.poll(NOW)));
            }
            let end = if how % 2 == 0 { &mut things.first } else { &mut things.second };
            if let Some(end) = end {
                seen.note("receive frame", kind(&end.try_recv()));
                seen.note("receive into", kind(&end.try_recv_into(&mut vec![0; how.into()])));
                seen.note("receive frame in time", kind(&end.recv_timeout(NOW)));
            }
        }
        Act::Queue(how) => {
            let Some(queue) = &things.queue else { return };
            match how % 4 {
                0 => seen.note("put", kind(&queue.try_send([how; 3]))),
                1 => seen.note("take", kind(&queue.try_recv())),
                2 => seen.note("put in time", kind(&queue.send_timeout([how; 3], NOW))),
                _ => seen.note("take in time", kind(&queue.recv_timeout(NOW))),
            }
            let _ = (queue.len(), queue.is_closed(), queue.capacity());
        }
        Act::Drop(which) => match which % 6 {
            0 => things.sender = None,
            1 => things.receiver = None,
            2 => things.first = None,
            3 => things.second = None,
            4 => things.queue = None,
            _ => things.array = None,
        },
        Act::Scribble(_) | Act::ScribbleFixed(_) | Act::ScribbleObjects(_) | Act::ScribbleArray(_) | Act::GetAsItIs => {
        }
    }
}
