//! Regions of arbitrary bytes: they are opened or refused, and whatever is found in them is within them.

use core::cell::OnceCell;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::Relaxed;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::FileExt;

use arbitrary::{Arbitrary, Unstructured};
use shmkit::{
    BytePipe, ChannelOptions, Endpoint, Error, Event, Mutex, Pipe, Queue, Receiver, Region, RegionOptions, RwLock,
    Sender, Snapshot,
};

use crate::seen::{Kind, Seen, kind};
use crate::stage::{SIZE, Scribble, Stage, with_raw};

/// Where the log of objects begins in a region for two.
const LOG: usize = 576;

#[derive(Arbitrary, Debug)]
enum Act {
    Objects,
    Participants,
    Get,
    GetArray(u64),
    GetOther(u8),
    OpenChannel(u8),
    Insert(u8),
    Look,
}

pub(crate) fn run(data: &[u8], seen: &mut Seen) {
    let _ = play(&mut Unstructured::new(data), seen);
}

thread_local! {
    /// A region with some of everything in it.
    static IMAGE: OnceCell<Vec<u8>> = const { OnceCell::new() };
}

fn image() -> Vec<u8> {
    let region = RegionOptions::new().participants(2).keeper(false).anonymous(SIZE - LOG).expect("a region");
    region.insert("u64", AtomicU64::new(5)).expect("room");
    region.insert("mutex", Mutex::new(5u32)).expect("room");
    region.insert_array::<u32>("array", 10).expect("room");
    region.insert("event", Event::new()).expect("room");
    let mut options = ChannelOptions::new();
    let options = options.capacity(4).successors(true);
    let sender: Sender<u64> = options.create_in(&region, "sender").expect("room");
    let pipe: Pipe<[u8; 3]> = options.create_in(&region, "pipe").expect("room");
    let bytes: BytePipe = options.capacity(300).create_in(&region, "bytes").expect("room");
    let queue = Queue::<u64>::create_in(&region, "queue", 4).expect("room");
    queue.send(1).expect("room");
    let file = File::from(region.as_fd().try_clone_to_owned().expect("a descriptor"));
    let mut image = vec![0; SIZE];
    assert_eq!(file.metadata().expect("its size").len(), SIZE as u64);
    file.read_exact_at(&mut image, 0).expect("its bytes");
    // Nobody takes part.
    image[384..LOG].fill(0);
    drop((sender, pipe, bytes));
    image
}

fn play(input: &mut Unstructured<'_>, seen: &mut Seen) -> arbitrary::Result<()> {
    let mut bytes = IMAGE.with(|bytes| bytes.get_or_init(image).clone());
    for _ in 0..u8::arbitrary(input)? % 12 {
        let scribble = Scribble::arbitrary(input)?;
        let (start, end) = match u8::arbitrary(input)? % 4 {
            0 => (0, 64),
            1 => (64, LOG),
            2 => (LOG, LOG + 1024),
            _ => (0, bytes.len()),
        };
        Stage::scribble_bytes(&mut bytes[start..end], &scribble);
    }
    if u8::arbitrary(input)? % 8 == 0 {
        // A table of any size.
        bytes[24..28].copy_from_slice(&(u32::from(u16::arbitrary(input)?) % 5000).to_le_bytes());
    }
    if u8::arbitrary(input)? % 4 == 0 {
        // A log of anything.
        let log = <&[u8]>::arbitrary(input)?;
        bytes[LOG..LOG + log.len()].copy_from_slice(log);
        bytes[136..144].copy_from_slice(&(u64::arbitrary(input)? % SIZE as u64).to_le_bytes());
    }
    match u8::arbitrary(input)? % 4 {
        0 => {
            let len = usize::from(u16::arbitrary(input)?) % (2 * SIZE);
            bytes.resize(len, 0);
            let opened = small(bool::arbitrary(input)?).from_fd(sealed(&bytes));
            check(opened, input, seen)
        }
        1 => check(small(bool::arbitrary(input)?).from_fd(sealed(&bytes)), input, seen),
        _ => with_raw(&bytes, |base, len, file| {
            // SAFETY: so many bytes are mapped from the beginning of the file, and never unmapped.
            check(unsafe { small(false).from_raw(base, len, file, ()) }, input, seen)
        }),
    }
}

fn small(keeper: bool) -> RegionOptions {
    let mut options = RegionOptions::new();
    options.keeper(keeper);
    options
}

/// A file whose size nobody can change.
fn sealed(bytes: &[u8]) -> OwnedFd {
    // SAFETY: no pointers but to a literal; the descriptor is ours.
    let file = unsafe {
        let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
        let number = libc::memfd_create(c"shmkit-fuzz".as_ptr(), flags);
        assert!(number >= 0, "a memory file: {}", std::io::Error::last_os_error());
        File::from_raw_fd(number)
    };
    file.write_all_at(bytes, 0).expect("memory");
    let seals = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
    // SAFETY: no pointers.
    assert_eq!(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) }, 0);
    file.into()
}

fn check(opened: Result<Region, Error>, input: &mut Unstructured<'_>, seen: &mut Seen) -> arbitrary::Result<()> {
    seen.note("open", kind(&opened));
    let Ok(region) = opened else {
        return Ok(());
    };
    assert!(region.size() <= 2 * SIZE && region.participants().len() <= region.capacity());
    for _ in 0..20 {
        if input.is_empty() {
            break;
        }
        look(&Act::arbitrary(input)?, &region, seen);
    }
    Ok(())
}

fn look(act: &Act, region: &Region, seen: &mut Seen) {
    let names = ["u64", "mutex", "array", "event", "sender", "pipe", "bytes", "queue", "other"];
    let name = |which: &u8| names[usize::from(*which) % names.len()];
    match act {
        Act::Objects => {
            let objects = region.objects();
            seen.note("objects", kind(&objects));
            let total: usize = objects.iter().flatten().map(|object| object.size).sum();
            assert!(total <= 2 * SIZE, "more than there is");
        }
        Act::Participants => assert!(region.participants().len() <= region.capacity()),
        Act::Get => {
            let number = region.get::<AtomicU64>("u64");
            seen.note("get", kind(&number));
            if let Ok(number) = number {
                number.fetch_add(1, Relaxed);
            }
            let mutex = region.get::<Mutex<u32>>("mutex");
            seen.note("get mutex", kind(&mutex));
            if let Ok(mutex) = mutex {
                seen.note("lock", kind(&mutex.try_lock().map(|mut value| *value = value.wrapping_add(1))));
            }
            let event = region.get::<Event>("event");
            seen.note("get event", kind(&event));
            event.iter().for_each(|event| event.set());
        }
        Act::GetArray(len) => {
            for len in [10, *len as usize] {
                let array = region.get_array::<u32>("array", len);
                seen.note("get array", kind(&array));
                if let Ok(array) = array {
                    array.fill(7);
                    assert!(array.iter().all(|value| value == 7) && array.len() == len);
                }
            }
        }
        Act::GetOther(which) => {
            seen.note("get rwlock", kind(&region.get::<RwLock<u64>>(name(which))));
            seen.note("get snapshot", kind(&region.get::<Snapshot<[u64; 9]>>(name(which))));
            seen.note("get bytes", kind(&region.get_array::<u8>(name(which), 100)));
        }
        Act::OpenChannel(which) => {
            let receiver = Receiver::<u64>::open_in(region, "sender");
            seen.note("open receiver", kind(&receiver));
            if let Ok(mut receiver) = receiver {
                seen.note("receive", kind(&receiver.try_recv()));
            }
            let sender = Sender::<u64>::succeed_in(region, "sender");
            seen.note("succeed sender", kind(&sender));
            if let Ok(mut sender) = sender {
                seen.note("send", kind(&sender.try_send(1)));
            }
            let pipe = Pipe::<[u8; 3]>::open_in(region, "pipe");
            seen.note("open pipe", kind(&pipe));
            if let Ok(mut pipe) = pipe {
                let _ = (pipe.try_send([*which; 3]), pipe.try_recv());
            }
            let bytes = BytePipe::open_in(region, "bytes");
            seen.note("open bytes", kind(&bytes));
            if let Ok(mut bytes) = bytes {
                let _ = (bytes.try_send(&[*which; 40]), bytes.try_recv());
            }
            let queue = Queue::<u64>::open_in(region, "queue");
            seen.note("open queue", kind(&queue));
            if let Ok(queue) = queue {
                let _ = (queue.try_send(2), queue.try_recv(), queue.len());
            }
        }
        Act::Insert(which) => {
            let inserted = region.insert(name(which), AtomicU64::new(9));
            seen.note("insert", kind(&inserted));
            if let Ok(inserted) = inserted {
                assert_eq!(inserted.fetch_add(1, Relaxed), 9);
            }
        }
        Act::Look => {
            assert!(!format!("{region:?}").is_empty());
            seen.note("size", (region.size() == SIZE - LOG).kind());
        }
    }
}
