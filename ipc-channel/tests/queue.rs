//! Queues within one process.

#![cfg(not(ipc_loom))]

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::{Duration, Instant};

use shmkit_channel::{Endpoint, OpenError, Queue, QueueOptions, Receiver, RecvError, SendError};
use shmkit_core::{Described, Error, Region};

fn queue<T: bytemuck::Pod + Described>(capacity: u64) -> Queue<T> {
    QueueOptions::new().capacity(capacity).anonymous().expect("a queue")
}

fn assert_shareable<T: Clone + Send + Sync>(_: &T) {}

#[test]
fn as_many_messages_fit_in_as_were_asked_for_and_come_out_in_order() {
    for capacity in 1..30 {
        let queue = queue::<u64>(capacity);
        assert_eq!(queue.capacity() as u64, capacity);
        for round in 0..20 {
            (0..capacity).for_each(|number| queue.try_send(number).expect("room"));
            assert_eq!(queue.len() as u64, capacity);
            assert!(matches!(queue.try_send(7), Err(SendError::Full(7))));
            (0..capacity).for_each(|number| assert_eq!(queue.try_recv().expect("a message"), number, "round {round}"));
            assert!(queue.is_empty());
            assert!(matches!(queue.try_recv(), Err(RecvError::Empty)));
        }
    }
}

fn messages_of_this_size_are_kept<const N: usize>()
where
    [u8; N]: bytemuck::Pod + Described,
{
    let queue = queue::<[u8; N]>(3);
    for number in 0..20 {
        queue.send([number; N]).expect("room");
        queue.send([number + 1; N]).expect("room");
        assert_eq!(queue.recv().expect("a message"), [number; N]);
        assert_eq!(queue.recv().expect("a message"), [number + 1; N]);
    }
}

#[test]
fn messages_of_any_size_are_kept() {
    messages_of_this_size_are_kept::<0>();
    messages_of_this_size_are_kept::<1>();
    messages_of_this_size_are_kept::<3>();
    messages_of_this_size_are_kept::<8>();
    messages_of_this_size_are_kept::<56>();
    messages_of_this_size_are_kept::<57>();
    messages_of_this_size_are_kept::<64>();
    messages_of_this_size_are_kept::<1000>();
}

#[test]
fn many_producers_and_consumers_pass_each_message_once_and_those_of_one_producer_in_order() {
    const EACH: u64 = 20_000;
    let queue = queue::<[u64; 2]>(50);
    assert_shareable(&queue);
    let consumers: Vec<_> = (0..3)
        .map(|_| {
            let queue = queue.clone();
            thread::spawn(move || queue.iter().collect::<Vec<_>>())
        })
        .collect();
    let producers: Vec<_> = (0..3)
        .map(|who| {
            let queue = queue.clone();
            thread::spawn(move || (0..EACH).for_each(|number| queue.send([who, number]).expect("room")))
        })
        .collect();

    producers.into_iter().for_each(|producer| producer.join().expect("no panic"));
    queue.close().expect("a turn");
    let received: Vec<_> = consumers.into_iter().map(|consumer| consumer.join().expect("no panic")).collect();

    for of_one in &received {
        for who in 0..3 {
            let numbers = of_one.iter().filter(|message| message[0] == who).map(|message| message[1]);
            assert!(numbers.is_sorted(), "out of order");
        }
    }
    let mut all: Vec<_> = received.concat();
    all.sort_unstable();
    assert!(all.into_iter().eq((0..3).flat_map(|who| (0..EACH).map(move |number| [who, number]))));
}

/// Through several rounds, and for cells of one message and of several.
fn received_messages_are_counted_for<const N: usize>() {
    let queue = queue::<[u64; N]>(3);
    for number in 0..20 {
        queue.send([number; N]).expect("room");
        queue.send([number; N]).expect("room");
        assert_eq!(queue.received().expect("a count"), 2 * number);
        queue.recv().expect("a message");
        assert_eq!(queue.received().expect("a count"), 2 * number + 1);
        queue.recv_with(|_| assert_eq!(queue.received().expect("a count"), 2 * number + 1)).expect("a message");
        assert_eq!(queue.received().expect("a count"), 2 * number + 2);
    }
}

#[test]
fn received_messages_are_counted_and_one_that_is_only_noted_is_not() {
    received_messages_are_counted_for::<1>();
    received_messages_are_counted_for::<7>();
    received_messages_are_counted_for::<100>();
}

#[test]
fn slices_go_through_a_queue_that_is_smaller_than_they() {
    let queue = queue::<[u8; 3]>(50);
    let all: Vec<[u8; 3]> = (0..10_000u32).map(|number| [number as u8, (number >> 8) as u8, 7]).collect();
    let producer = thread::spawn({
        let (queue, all) = (queue.clone(), all.clone());
        move || {
            queue.send_slice(&all).expect("room");
            queue.close().expect("a turn");
        }
    });

    let mut received = Vec::new();
    let mut part = [[0; 3]; 33];
    while let Ok(count) = queue.recv_slice(&mut part) {
        received.extend_from_slice(&part[..count]);
    }

    producer.join().expect("no panic");
    assert!(received == all);
    assert_eq!(queue.recv_slice(&mut []).expect("nothing to wait for"), 0);
}

#[test]
fn as_much_of_a_slice_is_sent_and_received_at_once_as_there_is_room_for_and_as_there_is() {
    let queue = queue::<u64>(3);
    let mut part = [0; 2];

    assert!(matches!(queue.try_recv_slice(&mut part), Err(RecvError::Empty)));
    assert_eq!(queue.try_send_slice(&[1, 2, 3, 4]).expect("room for three"), 3);
    assert!(matches!(queue.try_send_slice(&[4]), Err(SendError::Full(()))));
    assert_eq!((queue.try_recv_slice(&mut part).expect("messages"), part), (2, [1, 2]));
    assert_eq!((queue.try_recv_slice(&mut part).expect("a message"), part[0]), (1, 3));
    assert_eq!((queue.try_send_slice(&[]).ok(), queue.try_recv_slice(&mut []).ok()), (Some(0), Some(0)));
}

#[test]
fn timed_operations_fail_after_their_timeout_and_not_before() {
    let queue = queue::<u64>(1);
    let timeout = Duration::from_millis(50);

    let start = Instant::now();
    assert!(matches!(queue.recv_timeout(timeout), Err(RecvError::TimedOut)));
    assert!(start.elapsed() >= timeout);
    queue.send_timeout(1, timeout).expect("room");
    let start = Instant::now();
    assert!(matches!(queue.send_timeout(2, timeout), Err(SendError::TimedOut(2))));
    assert!(start.elapsed() >= timeout);
    assert!(matches!(queue.send_deadline(2, start), Err(SendError::TimedOut(2))));
    assert_eq!(queue.recv_timeout(timeout).expect("a message"), 1);
    assert!(matches!(queue.recv_deadline(start), Err(RecvError::TimedOut)));
}

#[test]
fn after_a_close_the_rest_is_received_and_nothing_is_sent() {
    let queue = queue::<u64>(4);
    queue.send_slice(&[1, 2]).expect("room");
    assert!(!queue.is_closed());

    queue.close().expect("a turn");
    queue.close().expect("a turn");

    assert!(queue.is_closed());
    assert!(matches!(queue.send(3), Err(SendError::Disconnected(3))));
    assert!(matches!(queue.try_send(3), Err(SendError::Disconnected(3))));
    assert!(matches!(queue.send_timeout(3, Duration::ZERO), Err(SendError::Disconnected(3))));
    assert!(matches!(queue.send_slice(&[3, 4]), Err(SendError::Disconnected(0))));
    assert!(matches!(queue.try_send_slice(&[3, 4]), Err(SendError::Disconnected(()))));
    assert_eq!(queue.iter().collect::<Vec<_>>(), [1, 2]);
    assert!(matches!(queue.recv(), Err(RecvError::Disconnected)));
    assert!(matches!(queue.try_recv(), Err(RecvError::Disconnected)));
    assert!(matches!(queue.recv_timeout(Duration::ZERO), Err(RecvError::Disconnected)));
    assert!(matches!(queue.recv_slice(&mut [0]), Err(RecvError::Disconnected)));
    assert!(matches!(queue.try_recv_slice(&mut [0]), Err(RecvError::Disconnected)));
    assert!(matches!(queue.recv_with(|_| ()), Err(RecvError::Disconnected)));
}

#[test]
fn a_close_ends_those_who_wait() {
    let [full, empty] = [queue::<u64>(1), queue::<u64>(1)];
    full.send(1).expect("room");
    let producers = [(); 3].map(|()| {
        let queue = full.clone();
        thread::spawn(move || queue.send(2))
    });
    let consumers = [(); 3].map(|()| {
        let queue = empty.clone();
        thread::spawn(move || queue.recv())
    });

    full.close().expect("a turn");
    empty.close().expect("a turn");

    for producer in producers {
        assert!(matches!(producer.join().expect("no panic"), Err(SendError::Disconnected(2))));
    }
    for consumer in consumers {
        assert!(matches!(consumer.join().expect("no panic"), Err(RecvError::Disconnected)));
    }
    assert_eq!(full.recv().expect("a message"), 1);
}

#[test]
fn a_message_is_received_when_the_note_of_it_returns_and_not_if_that_panics() {
    let queue = queue::<u64>(4);
    queue.send_slice(&[1, 2]).expect("room");

    let panicked = catch_unwind(AssertUnwindSafe(|| queue.recv_with(|_| std::panic::resume_unwind(Box::new(())))));
    assert!(panicked.is_err());
    assert_eq!(queue.len(), 2);

    assert_eq!(queue.recv_with(|number| number + 10).expect("a message"), 11);
    assert_eq!(queue.recv().expect("a message"), 2);
}

#[test]
fn a_queue_is_found_by_its_name_and_its_type() {
    let name = format!("shmkit-test-queue-{}", std::process::id());
    let queue = Queue::<u32>::create(&name, 5).expect("a queue");
    let same = Queue::<u32>::open(&name).expect("the queue");
    same.send(9).expect("room");
    assert_eq!((same.capacity(), queue.recv().expect("a message")), (5, 9));

    assert!(matches!(Queue::<i32>::open(&name), Err(OpenError::Failed(Error::WrongType { .. }))));
    assert!(matches!(Receiver::<u64>::open(&name), Err(OpenError::Failed(Error::NoSuchObject { .. }))));
    assert!(matches!(Queue::<u32>::create(&name, 5), Err(OpenError::Failed(Error::AlreadyExists))));
    drop((queue, same));
    assert!(matches!(Queue::<u32>::open(&name), Err(OpenError::Failed(Error::NotFound))));
    assert!(matches!(Queue::<u32>::create(&name, 1 << 40), Err(OpenError::Failed(Error::NoSpace { .. }))));
}

#[test]
fn several_queues_lie_in_one_region() {
    let region = Region::anonymous(1 << 16).expect("a region");
    let [jobs, results] = ["jobs", "results"].map(|name| Queue::<u64>::create_in(&region, name, 10).expect("room"));
    jobs.send(1).expect("room");
    assert_eq!(Queue::<u64>::open_in(&region, "jobs").expect("the queue").len(), 1);
    assert!(results.is_empty());
    let missing = Queue::<u64>::open_in(&region, "missing");
    assert!(matches!(missing, Err(OpenError::Failed(Error::NoSuchObject { .. }))));
}

/// The bytes of a queue, in the file of its region.
struct Bytes {
    file: File,
    offset: u64,
    sound: Vec<u8>,
}

impl Bytes {
    /// The size of the fixed part, and of a header.
    const BEFORE_FIRST: u64 = 512 + 8;

    fn of(name: &str, queue: &Queue<u64>) -> Self {
        const SIGN: u64 = 0x1122_3344_5566_7788;
        queue.send(SIGN).expect("room");
        let file = File::options().read(true).write(true).open(format!("/dev/shm/{name}")).expect("the region");
        let mut all = vec![0; file.metadata().expect("a size").len() as usize];
        file.read_exact_at(&mut all, 0).expect("the region");
        let is_sign = |bytes: &[u8]| bytes == SIGN.to_ne_bytes();
        let first = all.chunks(8).position(is_sign).expect("the message") as u64 * 8;
        let offset = first - Self::BEFORE_FIRST;
        let len = Self::BEFORE_FIRST as usize + 56 * 4;
        Self { file, offset, sound: all[offset as usize..][..len].to_vec() }
    }

    fn restore(&self) {
        self.file.write_all_at(&self.sound, self.offset).expect("the region");
    }

    fn scribble(&self, word: u64, value: u64) {
        let place = self.offset + word % (self.sound.len() as u64 / 8) * 8;
        self.file.write_all_at(&value.to_ne_bytes(), place).expect("the region");
    }
}

#[test]
fn whatever_is_scribbled_there_nothing_panics_hangs_or_leaves_the_region() {
    let name = format!("shmkit-test-scribble-{}", std::process::id());
    let queue = Queue::<u64>::create(&name, 9).expect("a queue");
    let bytes = Bytes::of(&name, &queue);
    let mut random = 88_172_645_463_325_252_u64;
    let mut next = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    let patience = Duration::from_micros(100);
    for _ in 0..2000 {
        bytes.restore();
        for _ in 0..20 {
            // Small numbers are nearer to what makes sense; tokens of nobody are those of the dead.
            let values = [next(), next() % 16, ((next() % 3) << 32) | (next() % 32), u64::MAX - next() % 16];
            bytes.scribble(next(), values[next() as usize % 4]);
            let operations: [&dyn Fn(); 9] = [
                &|| drop(queue.try_send(1)),
                &|| drop(queue.send_timeout(1, patience)),
                &|| drop(queue.try_recv()),
                &|| drop(queue.recv_timeout(patience)),
                &|| drop(queue.recv_deadline(Instant::now())),
                &|| drop(Queue::<u64>::open(&name)),
                &|| assert!(queue.len() <= queue.capacity()),
                &|| drop(queue.close()),
                &|| drop(format!("{queue:?}")),
            ];
            operations[next() as usize % operations.len()]();
        }
    }
}
