//! Whose counterparts are killed, and what the others do: ours, those of glibc and the kernel, and other
//! peers.

#[cfg(feature = "peers")]
mod carriers;
mod channels;
mod ours;
mod processes;
mod rwlocks;
mod sections;
mod snapshots;
mod system;

use std::io;
use std::sync::atomic::AtomicU64;
use std::thread;
use std::time::Duration;

use shmkit::process::{SharedMap, SharedVec};
use shmkit::{ByteReceiver, ByteSender, Event, Mutex, Permits, Receiver, ReentrantMutex, RwLock, Semaphore, Sender};

#[cfg(feature = "peers")]
use self::carriers::Writes;
use self::channels::{Left, Queue};
use self::ours::{Flag, Ours, Parties, Read, ReadByHandle, Waits};
use self::sections::{Behind, Made, Within};
use self::system::{Bytes, Handed, Locked, Owed, Permit, Round, Stream};
use crate::cases::event;
use crate::figure::SUBJECT;
use crate::killed::When::{Holding, Waiting, Working, Writing};
use crate::killed::{Entry, Outcome, Row, When};
#[cfg(feature = "peers")]
use crate::message::Note;
use crate::peers::eventfd::Counters;
use crate::peers::sem::Semaphores;
#[cfg(feature = "peers")]
use crate::peers::{
    boost, iceoryx2, ipmpsc, parking_lot, procspawn, python, raw_sync, servo, shared_memory, shmem_ipc,
};
use crate::peers::{condvar, rwlock};
use crate::progress;
use crate::pthread::{Plain, Robust};

const GLIBC: &str = "glibc";
const KERNEL: &str = "Linux";
/// How many messages of 8 bytes our pipes have room for, or how many bytes.
const ROOM: usize = 64;
const BYTES: usize = 4096;

/// All rows, in their order.
pub const ENTRIES: &[Entry] = &[
    Entry::of::<Ours<Mutex<u64>>>(SUBJECT, "Mutex", Holding),
    Entry::of::<Ours<ReentrantMutex<AtomicU64>>>(SUBJECT, "ReentrantMutex", Holding),
    Entry::of::<Ours<RwLock<u64>>>(SUBJECT, "RwLock, a writer", Holding),
    Entry::of::<Ours<Read>>(SUBJECT, "RwLock, a reader", Holding),
    Entry::of::<Ours<ReadByHandle>>(SUBJECT, "RwLock, asymmetric, a reader by a handle", Holding),
    Entry::of::<Ours<Permits>>(SUBJECT, "Permits", Holding),
    Entry::of::<Ours<Semaphore>>(SUBJECT, "Semaphore (has no owners)", Holding).may_hang(),
    Entry::of::<Made>(SUBJECT, "OnceLock, who makes the value", Holding),
    Entry::of::<Within<SharedMap<u64, u64>>>(SUBJECT, "SharedMap, in an update", Holding),
    Entry::of::<Within<SharedVec<u64>>>(SUBJECT, "SharedVec, in an update", Holding),
    Entry::of::<snapshots::Updated>(SUBJECT, "Snapshot, in an update", Holding),
    Entry::of::<snapshots::Written>(SUBJECT, "Snapshot, for who reads", Writing).asks_later(),
    Entry::of::<Behind>(SUBJECT, "Mutex", Waiting).asks_later(),
    Entry::of::<Waits<Semaphore>>(SUBJECT, "Semaphore", Waiting).asks_later(),
    Entry::of::<Waits<Event>>(SUBJECT, "Event, auto-reset", Waiting).asks_later(),
    Entry::of::<Owed<event::Ours>>(SUBJECT, "Event (has no owners), who would set it", Working).may_hang(),
    Entry::of::<Waits<Flag>>(SUBJECT, "Condvar", Waiting).asks_later(),
    Entry::of::<Parties>(SUBJECT, "Barrier", Waiting),
    Entry::of::<Left<Receiver<u64>, ROOM>>(SUBJECT, "Pipe", Writing),
    Entry::of::<Left<Sender<u64>, ROOM>>(SUBJECT, "Pipe, the receiver", Waiting).asks_later(),
    Entry::of::<Left<ByteReceiver, BYTES>>(SUBJECT, "BytePipe", Writing),
    Entry::of::<Left<ByteSender, BYTES>>(SUBJECT, "BytePipe, the receiver", Waiting).asks_later(),
    Entry::of::<Queue>(SUBJECT, "Queue", Writing).asks_later(),
    Entry::of::<Locked<Plain>>(GLIBC, "pthread mutex", Holding),
    Entry::of::<Locked<Robust>>(GLIBC, "robust pthread mutex", Holding),
    Entry::of::<rwlocks::Writer<rwlock::Pthread>>(GLIBC, "pthread rwlock, a writer", Holding),
    Entry::of::<rwlocks::Reader<rwlock::Pthread>>(GLIBC, "pthread rwlock, a reader", Holding),
    Entry::of::<Permit>(GLIBC, "sem_t", Holding),
    Entry::of::<Handed<Semaphores>>(GLIBC, "sem_t", Waiting).asks_later(),
    Entry::of::<Handed<condvar::Pthread>>(GLIBC, "pthread condvar", Waiting).asks_later(),
    Entry::of::<Round>(GLIBC, "pthread barrier", Waiting),
    Entry::of::<Handed<Counters>>(KERNEL, "eventfd", Waiting).asks_later(),
    Entry::of::<Owed<Counters>>(KERNEL, "eventfd, who would signal", Working),
    Entry::of::<Bytes>(KERNEL, "pipe(2)", Writing),
    Entry::of::<Stream>(KERNEL, "UnixStream", Writing),
    #[cfg(feature = "peers")]
    Entry::of::<raw_sync::Owned>(raw_sync::NAME, "Mutex", Holding),
    #[cfg(feature = "peers")]
    Entry::of::<rwlocks::Writer<raw_sync::ReadLock>>(raw_sync::NAME, "RwLock, a writer", Holding),
    #[cfg(feature = "peers")]
    Entry::of::<rwlocks::Reader<raw_sync::ReadLock>>(raw_sync::NAME, "RwLock, a reader", Holding),
    #[cfg(feature = "peers")]
    Entry::of::<Handed<raw_sync::Events>>(raw_sync::NAME, "Event, auto-reset", Waiting).asks_later(),
    #[cfg(feature = "peers")]
    Entry::of::<Owed<raw_sync::Events>>(raw_sync::NAME, "Event, who would set it", Working),
    #[cfg(feature = "peers")]
    Entry::of::<servo::Dying>(servo::NAME, "bytes_channel", Writing),
    #[cfg(feature = "peers")]
    Entry::of::<Writes<[u8], shmem_ipc::Ring<65536>>>(shmem_ipc::NAME, "Sender", Writing),
    #[cfg(feature = "peers")]
    Entry::of::<Writes<[u8], ipmpsc::Rings<65536>>>(ipmpsc::NAME, "Sender", Writing),
    #[cfg(feature = "peers")]
    Entry::of::<Writes<Note, iceoryx2::Services>>(iceoryx2::NAME, "Publisher", Writing),
];

/// Why nobody is killed in what is only for the threads of a process.
const THREADS: &str = "for the threads of one process, which die together";

/// In what nobody is killed, and why not.
const SPARED: &[(&str, &str, When, &str)] = &[
    ("std", "Mutex, RwLock, Condvar, Barrier", Holding, THREADS),
    #[cfg(feature = "peers")]
    ("crossbeam-channel", "bounded", Writing, THREADS),
    #[cfg(feature = "peers")]
    ("rtrb", "RingBuffer", Writing, THREADS),
    #[cfg(feature = "peers")]
    (parking_lot::NAME, "Mutex, RwLock", Holding, THREADS),
    #[cfg(feature = "peers")]
    (shared_memory::NAME, "Shmem", Holding, "memory and no more: nobody waits in it for anybody"),
];

/// The name of the table in the list of cases.
pub const NAME: &str = "killed";

/// Fills the rows, one after the other, with `kills` kills each, and no survivor waiting for longer than `bound`.
///
/// # Errors
/// The first one, when all other rows are filled.
pub fn run(kills: usize, bound: Duration, mut add: impl FnMut(Row)) -> io::Result<()> {
    let mut result = Ok(());
    for (index, entry) in ENTRIES.iter().enumerate() {
        progress::round(index, ENTRIES.len());
        match entry.run(index, kills, bound) {
            Ok(row) => add(row),
            Err(error) => result = result.and(Err(error)),
        }
    }
    for (whose, what, when, why) in SPARED {
        let outcome = Outcome::Absent(why.to_string());
        add(Row { whose, what: what.to_string(), when: *when, outcome });
    }
    for rows in [processes::killed(bound), peers(bound)] {
        match rows {
            Ok(rows) => rows.into_iter().for_each(&mut add),
            Err(error) => result = result.and(Err(error)),
        }
    }
    result
}

fn park_for_ever((): ()) {
    loop {
        thread::park();
    }
}

#[cfg(feature = "peers")]
fn peers(bound: Duration) -> io::Result<Vec<Row>> {
    let mut rows = vec![procspawn::killed(bound)?];
    rows.extend(python::killed(bound)?);
    rows.extend(boost::killed(bound)?);
    Ok(rows)
}

#[cfg(not(feature = "peers"))]
fn peers(_: Duration) -> io::Result<Vec<Row>> {
    Ok(Vec::new())
}

fn other(what: impl ToString) -> io::Error {
    io::Error::other(what.to_string())
}
