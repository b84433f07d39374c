//! The synchronisation primitives while somebody writes what they like over them: each call ends, with a value or an error, and changes
//! nothing behind or before.

use core::ops::Range;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::Relaxed;
use core::time::Duration;

use arbitrary::{Arbitrary, Unstructured};
use shmkit::{
    Array, Barrier, BarrierError, Condvar, Deadline, Event, LockError, LockResult, Mutex, MutexGuard, Once, OnceLock,
    Party, Permit, Permits, ReentrantMutex, ReentrantMutexGuard, Region, RwLock, RwLockReadGuard, RwLockReader,
    RwLockWriteGuard, Semaphore, Shm, Snapshot, wait_any,
};

use crate::seen::{Kind, Seen, kind};
use crate::stage::{Scribble, with_stage, word_of};

const NOW: Duration = Duration::ZERO;

/// Where the words lie that all participants share: the epoch of deaths, and behind it the table, which is for four.
const TABLE: Range<usize> = 256..704;

#[derive(Arbitrary, Debug)]
enum Act<'a> {
    Scribble(Scribble),
    /// Over the words about participants.
    ScribbleTable(Scribble),
    Fill(u16, &'a [u8]),
    Mutex(u8),
    Reentrant(u8),
    RwLock(u8),
    Condvar(u8),
    Semaphore(u8, u32),
    Permits(u8),
    Event(u8),
    Barrier(u8),
    Once(u8),
    Snapshot,
    WaitAny,
    Look,
    Drop(u8),
}

/// One of each.
struct Things {
    mutex: Shm<Mutex<[u8; 5]>>,
    condvar: Shm<Condvar>,
    reentrant: Shm<ReentrantMutex<Array<u8, 3>>>,
    rwlock: Shm<RwLock<u64>>,
    asymmetric: Shm<RwLock<u64>>,
    semaphore: Shm<Semaphore>,
    permits: Shm<Permits>,
    events: [Shm<Event>; 2],
    barrier: Shm<Barrier>,
    once: Shm<Once>,
    once_lock: Shm<OnceLock<[u8; 3]>>,
    snapshots: (Shm<Snapshot<u64>>, Shm<Snapshot<[u8; 21]>>),
}

impl Things {
    fn new(region: &Region) -> Self {
        Self {
            mutex: region.insert("mutex", Mutex::new([0; 5])).expect("room"),
            condvar: region.insert("condvar", Condvar::new()).expect("room"),
            reentrant: region.insert("reentrant", ReentrantMutex::new(Array::new([0; 3]))).expect("room"),
            rwlock: region.insert("rwlock", RwLock::new(0)).expect("room"),
            asymmetric: region.insert("asymmetric", RwLock::new(0).asymmetric()).expect("room"),
            semaphore: region.insert("semaphore", Semaphore::bounded(2, 3).expect("in range")).expect("room"),
            permits: region.insert("permits", Permits::new(3).expect("in range")).expect("room"),
            events: [
                region.insert("manual", Event::new()).expect("room"),
                region.insert("auto", Event::auto_reset()).expect("room"),
            ],
            barrier: region.insert("barrier", Barrier::new(2).expect("in range")).expect("room"),
            once: region.insert("once", Once::new()).expect("room"),
            once_lock: region.insert("once_lock", OnceLock::new()).expect("room"),
            snapshots: (
                region.insert("snapshot", Snapshot::new(0)).expect("room"),
                region.insert("snapshots", Snapshot::new([0; 21])).expect("room"),
            ),
        }
    }
}

/// What is given back later, or by the time when something else stands there.
#[derive(Debug)]
enum Held<'a> {
    Mutex(#[allow(dead_code, reason = "to be dropped")] MutexGuard<'a, [u8; 5]>),
    Reentrant(#[allow(dead_code, reason = "to be dropped")] ReentrantMutexGuard<'a, Array<u8, 3>>),
    Read(#[allow(dead_code, reason = "to be dropped")] RwLockReadGuard<'a, u64>),
    Write(RwLockWriteGuard<'a, u64>),
    Handle(RwLockReader<'a, u64>),
    Permit(#[allow(dead_code, reason = "to be dropped")] Permit<'a>),
    Party(Party<'a>),
}

pub(crate) fn run(data: &[u8], seen: &mut Seen) {
    let _ = play(&mut Unstructured::new(data), seen);
}

fn play(input: &mut Unstructured<'_>, seen: &mut Seen) -> arbitrary::Result<()> {
    with_stage(|stage| {
        let before = stage.region().insert("before", AtomicU64::new(7)).expect("room");
        let start = stage.end();
        let things = Things::new(stage.region());
        let end = stage.end();
        let behind = stage.region().insert("behind", AtomicU64::new(7)).expect("room");
        let mut held = Vec::new();
        for _ in 0..100 {
            if input.is_empty() {
                break;
            }
            match Act::arbitrary(input)? {
                Act::Scribble(scribble) => stage.scribble(start, end, &scribble),
                Act::ScribbleTable(scribble) => stage.scribble(TABLE.start, TABLE.end, &scribble),
                Act::Fill(at, bytes) => {
                    let first = (start + usize::from(at) % (end - start)) / 8;
                    for (at, word) in (first..end / 8).zip(bytes.chunks_exact(8)) {
                        stage.store(at, word_of(word));
                    }
                }
                act => use_it(&act, &things, &mut held, seen),
            }
        }
        drop(held);
        assert_eq!((before.load(Relaxed), behind.load(Relaxed)), (7, 7), "neighbours");
        Ok(())
    })
}

fn use_it<'a>(act: &Act<'_>, things: &'a Things, held: &mut Vec<Held<'a>>, seen: &mut Seen) {
    match *act {
        Act::Mutex(how) => {
            let locked = if how % 2 == 0 { things.mutex.try_lock() } else { things.mutex.lock_timeout(NOW) };
            if let Some(mut guard) = note("mutex", locked, seen) {
                guard[0] = how;
                held.push(Held::Mutex(guard));
            }
            if how > 250 {
                things.mutex.clear_poison();
            }
        }
        Act::Reentrant(how) => {
            let mutex = &things.reentrant;
            let locked = if how % 2 == 0 { mutex.try_lock() } else { mutex.lock_timeout(NOW) };
            if let Some(guard) = note("reentrant", locked, seen) {
                guard.set(0, how).expect("in range");
                held.push(Held::Reentrant(guard));
            }
        }
        Act::RwLock(how) if how >= 192 => use_handles(how, &things.asymmetric, held, seen),
        Act::RwLock(how) => {
            let rwlock = &things.rwlock;
            if how % 8 == 7 {
                if let Some(Held::Write(guard)) = take(held, |held| matches!(held, Held::Write(_))) {
                    held.push(Held::Read(RwLockWriteGuard::downgrade(guard)));
                    seen.note("downgrade", "done");
                }
            } else if how % 4 < 2 {
                let read = if how % 2 == 0 { rwlock.try_read() } else { rwlock.read_timeout(NOW) };
                held.extend(note("read", read, seen).map(Held::Read));
            } else {
                let write = if how % 2 == 0 { rwlock.try_write() } else { rwlock.write_timeout(NOW) };
                held.extend(note("write", write, seen).map(Held::Write));
            }
            seen.note("rwlock is poisoned", rwlock.is_poisoned().kind());
        }
        Act::Condvar(how) => {
            let condvar = &things.condvar;
            match how % 4 {
                0 => condvar.notify_one(),
                1 => condvar.notify_all(),
                _ => {
                    let Some(Held::Mutex(guard)) = take(held, |held| matches!(held, Held::Mutex(_))) else {
                        return;
                    };
                    let waited = condvar.wait_timeout(guard, NOW);
                    seen.note("condvar", kind(&waited));
                }
            }
        }
        Act::Semaphore(how, n) => {
            let semaphore = &things.semaphore;
            match how % 4 {
                0 => seen.note("take", semaphore.try_acquire_many(n).kind()),
                1 => seen.note("take in time", kind(&semaphore.acquire_many_timeout(n, NOW))),
                2 => seen.note("release", semaphore.release_many(n).is_ok().kind()),
                _ => seen.note("release one", semaphore.release().is_ok().kind()),
            }
        }
        Act::Permits(how) => {
            let taken = if how % 2 == 0 { things.permits.try_acquire() } else { things.permits.acquire_timeout(NOW) };
            seen.note("permits", kind(&taken));
            held.extend(taken.map(Held::Permit));
            let _ = (things.permits.available(), things.permits.count());
        }
        Act::Event(how) => {
            let event = &things.events[usize::from(how % 2)];
            match how / 2 % 4 {
                0 => event.set(),
                1 => event.reset(),
                2 => seen.note("event", event.try_wait().kind()),
                _ => seen.note("event in time", kind(&event.wait_timeout(NOW))),
            }
        }
        Act::Barrier(how) => use_barrier(how, &things.barrier, held, seen),
        Act::Once(how) => {
            match how % 5 {
                0 => seen.note("call once", kind(&things.once.call_once_timeout(NOW, || ()))),
                1 => seen.note("wait once", kind(&things.once.wait_timeout(NOW))),
                2 => seen.note("set once", things.once_lock.set_timeout(NOW, [how; 3]).is_ok().kind()),
                3 => seen.note("init once", kind(&things.once_lock.get_or_init_timeout(NOW, || [how; 3]))),
                _ => seen.note("get once", things.once_lock.get().is_some().kind()),
            };
        }
        // Writers wait without an end for whoever stands in the lock.
        Act::Snapshot => {
            let read = (things.snapshots.0.try_read(), things.snapshots.1.try_read());
            seen.note("snapshot", read.0.is_some().kind());
            let _ = things.snapshots.1.version();
        }
        Act::WaitAny => {
            let (first, second) = (&mut things.events[0].until_set(), &mut things.semaphore.until_available(1));
            seen.note("wait any", kind(&wait_any(&mut [first, second], Deadline::after(NOW))));
        }
        Act::Look => {
            let things = (&*things.mutex, &*things.rwlock, &*things.permits, &*things.barrier, &*things.once_lock);
            assert!(!format!("{things:?}").is_empty());
        }
        Act::Drop(which) => {
            if !held.is_empty() {
                drop(held.swap_remove(usize::from(which) % held.len()));
            }
        }
        Act::Scribble(_) | Act::ScribbleTable(_) | Act::Fill(..) => {}
    }
}

fn use_handles<'a>(how: u8, rwlock: &'a RwLock<u64>, held: &mut Vec<Held<'a>>, seen: &mut Seen) {
    // Seldom: a writer waits for all CPUs.
    if how == 255 {
        let write = rwlock.write_timeout(NOW);
        held.extend(note("write beside handles", write, seen).map(Held::Write));
        return;
    }
    if how % 8 == 0 {
        held.extend(note("read beside handles", rwlock.try_read(), seen).map(Held::Read));
        return;
    }
    if how % 4 == 0 {
        let handle = rwlock.reader().expect("a participant");
        seen.note("handle is cheap", handle.is_cheap().kind());
        held.push(Held::Handle(handle));
        return;
    }
    let Some(Held::Handle(mut handle)) = take(held, |held| matches!(held, Held::Handle(_))) else {
        return;
    };
    let read = if how % 4 == 1 { handle.try_read() } else { handle.read_timeout(NOW) };
    if let (Some(guard), 3) = (note("read by a handle", read, seen), how % 4) {
        core::mem::forget(guard);
    }
    held.push(Held::Handle(handle));
}

fn use_barrier<'a>(how: u8, barrier: &'a Barrier, held: &mut Vec<Held<'a>>, seen: &mut Seen) {
    let result = match how % 6 {
        0 | 1 => {
            let joined = barrier.join();
            let result = joined.as_ref().map(drop).map_err(|error| error.to_string());
            held.extend(joined.map(Held::Party));
            seen.note("join", result.is_ok().kind());
            return;
        }
        2 | 3 => {
            let Some(Held::Party(mut party)) = take(held, |held| matches!(held, Held::Party(_))) else {
                return;
            };
            let waited = party.wait_timeout(NOW).map(drop);
            held.push(Held::Party(party));
            waited
        }
        4 => barrier.reset(),
        _ => {
            barrier.abort();
            Ok(())
        }
    };
    let _ = (barrier.is_broken(), barrier.waiting());
    assert!((1..=64).contains(&barrier.parties()) || barrier.parties() == 0);
    seen.note(
        "barrier",
        match result {
            Ok(()) => "done",
            Err(BarrierError::Broken) => "broken",
            Err(BarrierError::TimedOut) => "timed out",
            Err(BarrierError::Failed(error)) => error.kind(),
            Err(_) => "another error",
        },
    );
}

/// Takes the last one out that is of some kind.
fn take<'a>(held: &mut Vec<Held<'a>>, is_it: impl Fn(&Held<'a>) -> bool) -> Option<Held<'a>> {
    let at = held.iter().rposition(is_it)?;
    Some(held.swap_remove(at))
}

/// The guard, poisoned or not.
fn note<G>(operation: &'static str, locked: LockResult<G>, seen: &mut Seen) -> Option<G> {
    seen.note(operation, kind(&locked));
    match locked {
        Ok(guard) => Some(guard),
        Err(LockError::Poisoned { guard, .. }) => Some(guard),
        Err(_) => None,
    }
}
