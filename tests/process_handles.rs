//! What processes are given and give back: regions, objects, channels, files.

mod common;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::Duration;

use shmkit::process::{JoinError, Process, ProcessOptions, SpawnError, parent, spawn};
use shmkit::transfer::{self, Passed};
use shmkit::{
    ByteReceiver, ByteSender, ChannelOptions, Mutex, OpenError, Pipe, Queue, QueueOptions, Receiver, RecvError, Region,
    RegionOptions, SendError, SendValueError, Sender, SharedArray, Shm, Ticket, UntrustedRegion,
};

use common::{BOUND, Name, until};

shmkit::process::enable_test_support!();

/// In another process it would be a handle to a region that is trusted there.
#[test]
fn what_lies_in_an_untrusted_region_is_not_sent() {
    let region = UntrustedRegion::anonymous(1 << 16).unwrap();
    let word = region.insert("word", AtomicU64::new(1)).unwrap();
    let array = region.insert_array::<u64>("array", 4).unwrap();
    let refused = |error: SpawnError| {
        let SpawnError::Args { what, .. } = error else { panic!("{error}") };
        assert!(what.contains("an UntrustedRegion"), "{what}");
    };
    refused(spawn(|_: Shm<AtomicU64>| (), word).unwrap_err());
    refused(spawn(|_: SharedArray<u64>| (), array).unwrap_err());
}

/// The descriptors of this process, but those that the listing itself takes.
fn descriptors() -> BTreeSet<String> {
    let all = fs::read_dir("/proc/self/fd").unwrap().map(|entry| entry.unwrap().path());
    all.filter_map(|path| Some(fs::read_link(path).ok()?.display().to_string()))
        .filter(|link| !link.starts_with("/proc/"))
        .collect()
}

#[test]
fn a_region_without_a_name_is_an_argument_and_a_value() {
    fn fill(region: Region) -> (Region, Shm<AtomicU64>) {
        region.get::<AtomicU64>("sum").unwrap().fetch_add(1, Relaxed);
        let made = Region::anonymous(4096).unwrap();
        let made = made.insert("made", AtomicU64::new(5)).unwrap();
        (region, made)
    }
    let region = Region::anonymous(4096).unwrap();
    let sum = region.insert("sum", AtomicU64::new(1)).unwrap();

    let (back, made) = spawn(fill, region.clone()).unwrap().join().unwrap();

    assert_eq!(sum.load(Relaxed), 2);
    assert_eq!(back.id(), region.id());
    assert_eq!(made.load(Relaxed), 5);
    assert_eq!(made.region().unwrap().get::<AtomicU64>("made").unwrap().fetch_add(1, Relaxed), 5);
}

#[test]
fn a_named_region_travels_also_when_its_name_is_gone() {
    let name = Name::new();
    let region = RegionOptions::new().create(&name, 4096).unwrap();
    let sum = region.insert("sum", AtomicU64::new(0)).unwrap();
    let add = |(region, by): (Region, u64)| region.get::<AtomicU64>("sum").unwrap().fetch_add(by, Relaxed);
    assert_eq!(spawn(add, (region.clone(), 1)).unwrap().join().unwrap(), 0);
    Region::unlink(&name).unwrap();
    assert_eq!(spawn(add, (region, 2)).unwrap().join().unwrap(), 1);
    assert_eq!(sum.load(Relaxed), 3);
}

#[test]
fn handles_denote_the_same_objects() {
    type Handles = (Shm<Mutex<u64>>, Shm<[AtomicU64; 2]>, SharedArray<u32>, SharedArray<u32>);
    fn use_them((mutex, pair, array, empty): Handles) -> (usize, usize) {
        *mutex.lock().unwrap() += 1;
        pair[1].store(7, Relaxed);
        array.set(3, 9).unwrap();
        (array.len(), empty.len())
    }
    let region = Region::anonymous(8192).unwrap();
    let mutex = region.insert("mutex", Mutex::new(41_u64)).unwrap();
    let pair = region.insert("pair", [AtomicU64::new(1), AtomicU64::new(2)]).unwrap();
    let empty = region.insert_array::<u32>("none", 0).unwrap();
    let array = region.insert_array::<u32>("array", 5).unwrap();

    let process = spawn(use_them, (mutex.clone(), pair.clone(), array.clone(), empty)).unwrap();

    assert_eq!(process.join().unwrap(), (5, 0));
    assert_eq!(*mutex.lock().unwrap(), 42);
    assert_eq!((pair[0].load(Relaxed), pair[1].load(Relaxed)), (1, 7));
    assert_eq!(array.to_vec(), [0, 0, 0, 9, 0]);
}

#[test]
fn a_handle_to_a_part_does_not_travel() {
    let region = Region::anonymous(4096).unwrap();
    let pair = region.insert("pair", [AtomicU64::new(1), AtomicU64::new(2)]).unwrap();
    for part in [pair.map(|pair| &pair[0]), pair.map(|pair| &pair[1])] {
        match spawn(|_: Shm<AtomicU64>| (), part) {
            Err(SpawnError::Args { what, .. }) => assert!(what.contains("send that to the whole"), "{what}"),
            started => panic!("{started:?}"),
        }
    }
}

#[test]
fn a_thousand_handles_take_one_descriptor() {
    let region = Region::anonymous(200_000).unwrap();
    let handles: Vec<_> = (0..1000).map(|i| region.insert(&format!("{i}"), AtomicU64::new(i)).unwrap()).collect();
    let sum = |handles: Vec<Shm<AtomicU64>>| -> u64 { handles.iter().map(|handle| handle.load(Relaxed)).sum() };
    assert_eq!(spawn(sum, handles).unwrap().join().unwrap(), 499_500);
}

#[test]
fn more_files_than_one_message_takes() {
    let files: Vec<_> = (0..600).map(|_| Passed(File::open("/dev/null").unwrap())).collect();
    let back = |mut files: Vec<Passed<File>>| {
        files.truncate(300);
        files
    };
    assert_eq!(spawn(back, files).unwrap().join().unwrap().len(), 300);
}

#[test]
fn queues_are_shared() {
    fn work((jobs, done): (Queue<u64>, Queue<u64>)) -> u64 {
        jobs.iter().map(|job| done.send(2 * job).unwrap()).count() as u64
    }
    let new = || QueueOptions::new().capacity(16).anonymous::<u64>().unwrap();
    let (jobs, done) = (new(), new());
    let workers: Vec<_> = (0..3).map(|_| spawn(work, (jobs.clone(), done.clone())).unwrap()).collect();
    let sums = thread::spawn(move || (0..100).map(|_| done.recv().unwrap()).sum::<u64>());
    jobs.send_slice(&(0..100).collect::<Vec<_>>()).unwrap();
    jobs.close().unwrap();
    assert_eq!(workers.into_iter().map(|worker| worker.join().unwrap()).sum::<u64>(), 100);
    assert_eq!(sums.join().unwrap(), 9900);
}

#[test]
fn a_ticket_takes_an_end_of_a_pipe_to_a_process() {
    fn serve(ticket: Ticket<Pipe<u64>>) {
        let mut pipe = ticket.take().unwrap();
        while let Ok(number) = pipe.recv() {
            pipe.send(number + 1).unwrap();
        }
    }
    let (mut pipe, ticket) = ChannelOptions::new().pair::<Pipe<u64>>().unwrap();
    let process = spawn(serve, ticket).unwrap();
    pipe.send(1).unwrap();
    assert_eq!(pipe.recv().unwrap(), 2);
    process.kill().unwrap();
    assert!(matches!(pipe.recv_timeout(BOUND), Err(RecvError::Disconnected)));
}

#[test]
fn tickets_for_all_kinds_of_ends_travel_both_ways() {
    type Given = (Ticket<Sender<u64>>, Ticket<ByteReceiver>);
    fn pass_on((numbers, bytes): Given) -> (Vec<u8>, Ticket<ByteSender>) {
        numbers.take().unwrap().send(3).unwrap();
        let frame = bytes.take().unwrap().recv().unwrap();
        let (_mine, ticket) = ChannelOptions::new().pair::<ByteReceiver>().unwrap();
        (frame, ticket)
    }
    let (mut numbers, to_send) = ChannelOptions::new().pair::<Receiver<u64>>().unwrap();
    let (mut bytes, to_receive) = ChannelOptions::new().pair::<ByteSender>().unwrap();
    bytes.send(b"frame").unwrap();
    let (frame, ticket) = spawn(pass_on, (to_send, to_receive)).unwrap().join().unwrap();
    assert_eq!(frame, b"frame");
    assert_eq!(numbers.recv().unwrap(), 3);
    // The one who has the first end is dead.
    let mut end = ticket.take().unwrap();
    until("the other end is known to be dead", || matches!(end.send(b"x"), Err(SendError::Disconnected(_))));
}

#[test]
fn a_ticket_that_is_lost_with_a_process_is_missed() {
    let (mut pipe, ticket) = ChannelOptions::new().pair::<Pipe<u64>>().unwrap();
    let process = spawn(|_ticket: Ticket<Pipe<u64>>| sleep_long(), ticket).unwrap();
    assert!(matches!(pipe.recv_timeout(Duration::from_millis(50)), Err(RecvError::TimedOut)));
    process.kill().unwrap();
    assert!(matches!(pipe.recv_timeout(BOUND), Err(RecvError::Disconnected)));

    // And with one that could not be started.
    let (mut pipe, ticket) = ChannelOptions::new().pair::<Pipe<u64>>().unwrap();
    let lost = ProcessOptions::new().current_dir("/proc/none").spawn(|_: Ticket<Pipe<u64>>| (), ticket);
    assert!(matches!(lost, Err(SpawnError::Io { .. })));
    assert!(matches!(pipe.recv_timeout(BOUND), Err(RecvError::Disconnected)));
}

#[test]
fn a_ticket_that_is_packed_is_not_here_any_more() {
    let (mut carrier, _other) = ChannelOptions::new().both::<ByteSender>().unwrap();
    let (mut pipe, ticket) = ChannelOptions::new().pair::<Pipe<u64>>().unwrap();
    let mut pack = || transfer::pack(|| carrier.send_value(&ticket));
    let (packed, files) = pack();
    packed.unwrap();
    assert!(matches!(pipe.recv_timeout(Duration::from_millis(50)), Err(RecvError::TimedOut)));
    assert!(pack().0.is_err());
    drop(files);
    assert!(matches!(pipe.recv_timeout(BOUND), Err(RecvError::Disconnected)));
    assert!(matches!(ticket.take(), Err(OpenError::NoTicket { .. })));
}

/// Lives long, but no longer than its parent: a test that fails leaves nobody behind.
fn sleep_long() {
    parent().unwrap().wait_timeout(Duration::from_secs(600)).unwrap();
}

#[test]
fn open_files_travel() {
    fn talk((Passed(mut stream), Passed(mut file)): (Passed<UnixStream>, Passed<File>)) {
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        stream.write_all(text.as_bytes()).unwrap();
    }
    let (mut here, there) = UnixStream::pair().unwrap();
    let file = File::open("/proc/version").unwrap();
    spawn(talk, (Passed(there), Passed(file))).unwrap().join().unwrap();
    let mut text = String::new();
    here.read_to_string(&mut text).unwrap();
    assert_eq!(text, fs::read_to_string("/proc/version").unwrap());
}

#[test]
fn what_goes_to_one_process_goes_to_no_other() {
    // In a process of its own, since other tests open files at the same time.
    fn look(_: ()) -> Vec<BTreeSet<String>> {
        fn compare((_held, name): (Option<Region>, String)) -> BTreeSet<String> {
            let mine = descriptors();
            // Nor does what is started by other means inherit anything.
            let list = std::process::Command::new("sh").args(["-c", "ls -l /proc/self/fd"]).output().unwrap();
            let list = String::from_utf8(list.stdout).unwrap();
            assert!(!list.contains("memfd"), "{name}: {list}");
            assert!(!list.contains("pidfd"), "{name}: {list}");
            mine
        }
        let region = Region::anonymous(4096).unwrap();
        let with = spawn(compare, (Some(region.clone()), "with".to_owned())).unwrap();
        let without = spawn(compare, (None, "without".to_owned())).unwrap();
        let ends = [with, without].map(|process: Process<_>| process.join().unwrap());
        drop(region);
        ends.into()
    }
    let found = spawn(look, ()).unwrap().join().unwrap();
    let memory = |set: &BTreeSet<String>| set.iter().any(|link| link.starts_with("/memfd:"));
    assert_eq!(found.iter().map(memory).collect::<Vec<_>>(), [true, false], "{found:?}");
    // Nothing but the three streams, the socket and the parent's descriptor.
    assert!(found[1].len() <= 5, "{:?}", found[1]);
}

#[test]
fn outside_of_a_transfer_nothing_that_goes_with_a_file_is_serialised() {
    let (mut pipe, ticket) = ChannelOptions::new().pair::<Pipe<u64>>().unwrap();
    let region = Region::anonymous(4096).unwrap();
    let mut sender = ChannelOptions::new().both::<ByteSender>().unwrap().0;
    let is_refused = |sent| {
        let why = shmkit::transfer::refusal().unwrap();
        matches!(sent, Err(SendValueError::Encode(_)))
            && why.contains("only be serialised on its way to another process")
    };
    assert!(is_refused(sender.send_value(&region)));
    assert!(is_refused(sender.send_value(&ticket)));
    // It is still here.
    pipe.send(4).unwrap();
    assert_eq!(ticket.take().unwrap().recv().unwrap(), 4);
}

#[test]
fn a_value_that_cannot_be_read_is_an_error() {
    // The descriptors of one process are not enough for what another one sends it.
    fn open(_: ()) -> Vec<Passed<File>> {
        (0..200).map(|_| Passed(File::open("/dev/null").unwrap())).collect()
    }
    fn starve(_: ()) -> String {
        let process = ProcessOptions::new().name("rich").spawn(open, ()).unwrap();
        process.wait().unwrap();
        common::limit(libc::RLIMIT_NOFILE, 40);
        let error = process.join().unwrap_err();
        assert!(matches!(error, JoinError::Value { .. } | JoinError::Io { .. }), "{error}");
        error.to_string()
    }
    let error = spawn(starve, ()).unwrap().join().unwrap();
    assert!(error.contains("\"rich\""), "{error}");
}
