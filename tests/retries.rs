//! Somebody who changes a word between any two looks at it: each exchange fails, so a loop that tries again has to give up by itself.
//!
//! No scribbler is that fast. But a debugger is: the processor stops the process behind each access to the word (a watchpoint), and whoever debugs it
//! writes something else there before it goes on.

#![cfg(target_arch = "x86_64")]

mod common;

use std::cell::Cell;
use std::fs::File;
use std::mem::offset_of;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU32, AtomicU64};

use shmkit::identity::FLAG;
use shmkit::{
    ChannelOptions, Error, Event, RegionOptions, Semaphore, Sender, UntrustedEnd, UntrustedEvent, UntrustedRegion,
    UntrustedSemaphore, WaitError,
};

use common::{BOUND, Child, Parent, fork, roles};

roles!(debugger);

/// How many accesses there are at least until an exchange is given up, and at most until the call has ended: some look before each attempt, and some
/// have two such loops.
const LEAST: u64 = 65_000;
const MOST: u64 = 250_000;

// What a debugger does.

/// Has this thread stopped and debugged by its parent, from here on.
fn be_debugged() {
    // SAFETY: no memory is involved.
    unsafe {
        assert_ne!(libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0), -1);
        libc::raise(libc::SIGSTOP);
    }
}

/// Debugs a child until it ends: `change` is called behind each of its accesses to the `len` bytes at `address`, which is asked for
/// when it has come so far. Says how many there were.
fn debug(child: libc::pid_t, address: impl FnOnce() -> usize, len: usize, mut change: impl FnMut(u64)) -> u64 {
    let wait = || {
        let mut status = 0;
        // SAFETY: `status` is an int to write to.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        status
    };
    let poke = |register: usize, value: usize| {
        let at = offset_of!(libc::user, u_debugreg) + register * size_of::<usize>();
        // SAFETY: a register of the child.
        let poked = unsafe { libc::ptrace(libc::PTRACE_POKEUSER, child, at, value) };
        assert_ne!(poked, -1, "no watchpoint: {}", std::io::Error::last_os_error());
    };
    assert!(libc::WIFSTOPPED(wait()));
    poke(0, address());
    // Of the first watchpoint: it is on, stops at reads and writes, and is so long.
    poke(7, 1 | (0b11 << 16) | ([0b11, 0b10][usize::from(len == 8)] << 18));
    let mut accesses = 0;
    while accesses < MOST {
        // SAFETY: the child is stopped.
        unsafe { libc::ptrace(libc::PTRACE_CONT, child, 0, 0) };
        let status = wait();
        if libc::WIFEXITED(status) {
            assert_eq!(status, 0, "the call has come to something else");
            return accesses;
        }
        assert!(libc::WIFSTOPPED(status), "{status:#x}");
        // Not so if all processes are stopped and continued by somebody.
        if libc::WSTOPSIG(status) == libc::SIGTRAP {
            change(accesses);
            accesses += 1;
        }
    }
    panic!("it goes on trying");
}

// The calls.

/// Where the log of the objects begins in a region for eight.
const LOG: usize = 960;

/// A region, and where its first byte is.
fn region() -> (UntrustedRegion, usize) {
    let region = RegionOptions::new().participants(8).anonymous_untrusted(1 << 14).expect("a region");
    let first = region.insert("first", AtomicU64::new(0)).expect("room");
    let base = std::ptr::from_ref(&*first).addr() - word(&region, LOG + 8) as usize;
    (region, base)
}

/// A word of a region.
fn word(region: &UntrustedRegion, at: usize) -> u64 {
    let file = File::from(region.as_fd().try_clone_to_owned().expect("a descriptor"));
    let mut bytes = [0; 8];
    file.read_exact_at(&mut bytes, at as u64).expect("a word");
    u64::from_le_bytes(bytes)
}

/// The second object of a region, from its first byte.
fn second(region: &UntrustedRegion) -> usize {
    let record = word(region, LOG) as usize;
    word(region, record + 8) as usize
}

/// Lets a child live to make a call while each of its exchanges of the word there fails.
fn give_up(address: impl FnOnce() -> usize, len: usize, change: impl FnMut(u64), life: impl FnOnce()) {
    let child = fork(life);
    let accesses = debug(child.pid() as libc::pid_t, address, len, change);
    assert!(accesses > LEAST, "{accesses} accesses");
    // It was reaped when it ended.
    std::mem::forget(child);
}

fn is_corrupted(ended: &Result<(), WaitError>) -> bool {
    matches!(ended, Err(WaitError::Failed(Error::Corrupted { .. })))
}

/// A semaphore that has now so many permits, now one more.
fn semaphore(permits: u32, call: impl FnOnce(&UntrustedSemaphore)) {
    let (region, _) = region();
    let semaphore = Semaphore::bounded(permits, 1000).expect("in range");
    let semaphore = region.insert("semaphore", UntrustedSemaphore::from(semaphore)).expect("room");
    let address = std::ptr::from_ref(&*semaphore).addr();
    // SAFETY: the state, the first word of the semaphore, is an atomic.
    let state = unsafe { &*(address as *const AtomicU32) };
    let change = |n: u64| state.store(permits + (n + 1) as u32 % 2, Relaxed);
    give_up(
        || address,
        4,
        change,
        || {
            be_debugged();
            call(&semaphore);
        },
    );
}

/// An event that has these flags, and has been set once more.
fn event(flags: u64, call: impl FnOnce(&UntrustedEvent)) {
    let (region, _) = region();
    let event = region.insert("event", UntrustedEvent::from(Event::auto_reset())).expect("room");
    let address = std::ptr::from_ref(&*event).addr();
    // SAFETY: an event is an atomic word.
    let word = unsafe { &*(address as *const AtomicU64) };
    word.store(flags, Relaxed);
    let change = |n| word.store((8 * (n + 1)) | flags, Relaxed);
    give_up(
        || address,
        8,
        change,
        || {
            be_debugged();
            call(&event);
        },
    );
}

/// A lock on the directory that is always somebody else's, of whom nobody knows: an insertion waits for a second, and no longer, although it never comes to
/// sleep.
fn insertion() {
    let (region, base) = region();
    // SAFETY: the lock, an atomic, is there.
    let lock = unsafe { &*((base + 128) as *const AtomicU64) };
    let change = |n: u64| lock.store(((n + 1) << 40) | (1 << 28), Relaxed);
    change(0);
    let child = fork(|| {
        be_debugged();
        let inserted = region.insert("second", AtomicU64::new(0));
        assert!(inserted.is_err(), "{inserted:?}");
    });
    let accesses = debug(child.pid() as libc::pid_t, || base + 128, 8, change);
    assert!(accesses > 2, "{accesses} accesses");
    // It was reaped when it ended.
    std::mem::forget(child);
}

/// An end that is its owner's always, with a mark that comes and goes.
fn closing() {
    let (region, base) = region();
    // In the child, which is the owner.
    let address = || base + second(&region);
    let end = Cell::new(None);
    let change = |_| {
        let at = end.get().unwrap_or_else(address);
        end.set(Some(at));
        // SAFETY: the end, the first word of a channel, is an atomic.
        unsafe { &*(at as *const AtomicU64) }.fetch_xor(FLAG, Relaxed);
    };
    give_up(address, 8, change, || {
        let mut sender: UntrustedEnd<Sender<u64>> =
            ChannelOptions::new().create_in_untrusted(&region, "way").expect("room");
        be_debugged();
        sender.close();
    });
}

/// Keeps this process, and those that it forks, on the processor that it is on: to go from one to the other is faster there than across two.
fn stay_here() {
    // SAFETY: zeroes are an empty set, which is only read.
    unsafe {
        let mut here: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(libc::sched_getcpu() as usize, &mut here);
        assert_eq!(libc::sched_setaffinity(0, size_of_val(&here), &raw const here), 0);
    }
}

// Does one of the above.
fn debugger(parent: &mut Parent) {
    stay_here();
    match parent.argument(0) {
        "acquire_many" => semaphore(3, |semaphore| assert!(is_corrupted(&semaphore.acquire_many_timeout(2, BOUND)))),
        "release" => semaphore(3, |semaphore| assert!(semaphore.release().is_err())),
        "fall_asleep" => semaphore(0, |semaphore| assert!(is_corrupted(&semaphore.acquire_timeout(BOUND)))),
        "wait" => event(5, |event| assert!(is_corrupted(&event.wait_timeout(BOUND)))),
        "set" => event(2, UntrustedEvent::set),
        "insert" => insertion(),
        "close" => closing(),
        other => panic!("no call {other}"),
    }
    parent.say("it gave up");
}

#[test]
fn a_loop_whose_exchanges_all_fail_gives_up() {
    let calls = ["acquire_many", "fall_asleep", "release", "wait", "set", "insert", "close"];
    for call in calls {
        Child::spawn("debugger", &[call]).expect("it gave up");
    }
}
