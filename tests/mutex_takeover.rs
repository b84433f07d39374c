//! The `Mutex` between real processes: nobody gets it before the dead have stored for the last time.

mod common;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU8, AtomicU64};
use std::thread;
use std::time::Duration;

use shmkit::{LockError, Region, RegionOptions, Shm};

use common::{Child, Name, Net, Parent, Stage, memory_file, now_ns, prompt, roles, touch, until};

roles!(victim, heir);

/// What the threads of a victim write until they are dead.
struct Scene {
    stage: Stage,
    counters: Shm<[AtomicU64; 4]>,
    bytes: Shm<[AtomicU8; BYTES]>,
}

const BYTES: usize = 1 << 18;

impl Scene {
    fn create() -> Self {
        let name = Name::new();
        let region = RegionOptions::new().participants(8).create(&name, BYTES + (1 << 16)).expect("a region");
        region.insert("counters", [const { AtomicU64::new(0) }; 4]).expect("counters");
        region.insert("bytes", [const { AtomicU8::new(0) }; BYTES]).expect("bytes");
        let stage = Stage::create_in(region, name);
        let name = stage.name().to_string();
        Self::open(&name, stage)
    }

    fn open(name: &str, stage: Stage) -> Self {
        let region = Region::open(name).expect("the region");
        let counters = region.get("counters").expect("counters");
        Self { stage, counters, bytes: region.get("bytes").expect("bytes") }
    }
}

// Holds the lock while four threads store into the region and a fifth one lets the kernel do it.
fn victim(parent: &mut Parent) {
    let name = parent.argument(0).to_owned();
    let _touched = touch(parent.argument(1).parse().expect("a number"));
    let scene = Scene::open(&name, Stage::open(&name));
    let _guard = scene.stage.mutex.lock().or_else(LockError::into_guard).expect("the lock");
    let files = [0x55, 0xaa].map(|byte| {
        let file = memory_file();
        file.write_all_at(&vec![byte; BYTES], 0).expect("a file in memory");
        file
    });
    let reads = &scene.stage.board[1];
    thread::scope(|scope| {
        for counter in &*scene.counters {
            scope.spawn(move || {
                loop {
                    counter.fetch_add(1, Relaxed);
                }
            });
        }
        let scene = &scene;
        scope.spawn(move || {
            loop {
                for file in &files {
                    read_into(file, &scene.bytes);
                    reads.fetch_add(1, Relaxed);
                }
            }
        });
        let before = reads.load(Relaxed);
        let counted: Vec<_> = scene.counters.iter().map(|counter| counter.load(Relaxed)).collect();
        until("all threads at work", || {
            reads.load(Relaxed) > before + 2
                && scene.counters.iter().zip(&counted).all(|(counter, before)| counter.load(Relaxed) > *before)
        });
        parent.say("ready");
        common::sleep_for_ever();
    });
}

fn read_into(file: &File, bytes: &[AtomicU8; BYTES]) {
    use std::os::fd::AsRawFd;
    // SAFETY: all of the array is written by the kernel, which is what atomics allow anybody to do.
    let read = unsafe { libc::pread(file.as_raw_fd(), bytes.as_ptr().cast_mut().cast(), BYTES, 0) };
    assert_eq!(read, BYTES as isize);
}

// Waits for the lock of the victim, and looks from then on whether anything changes.
fn heir(parent: &mut Parent) {
    let name = parent.argument(0).to_owned();
    let scene = Scene::open(&name, Stage::open(&name));
    let (counters, bytes) = (&*scene.counters, &*scene.bytes);
    let victim_is_gone = &scene.stage.board[0];
    loop {
        parent.expect("inherit");
        let guard = scene.stage.mutex.lock();
        let counted = counters.each_ref().map(|counter| counter.load(Acquire));
        // The kernel fills the array from its beginning, so a copy from its end is overtaken by any store that is still to come.
        let copy = copy_backwards(bytes);
        let at = now_ns();
        let poisoned = matches!(guard, Err(LockError::Poisoned { .. }));
        let same = || {
            counters.iter().zip(&counted).all(|(counter, before)| counter.load(Acquire) == *before)
                && is_same(bytes, &copy)
        };
        let mut late = !same();
        while victim_is_gone.load(Acquire) == 0 {
            late |= !same();
        }
        for _ in 0..3 {
            late |= !same();
        }
        scene.stage.mutex.clear_poison();
        drop(guard);
        parent.say(format_args!("{at} 0 poisoned={poisoned} late={late}"));
    }
}

fn copy_backwards(bytes: &[AtomicU8; BYTES]) -> Vec<u8> {
    const PART: usize = 1 << 16;
    let mut copy = vec![0u8; BYTES];
    for start in (0..BYTES).step_by(PART).rev() {
        // SAFETY: both ranges have at least `PART` bytes from `start`. If somebody still writes to the source, which is what the
        // test is there to find, the copy is a mixture.
        unsafe { libc::memcpy(copy.as_mut_ptr().add(start).cast(), bytes.as_ptr().add(start).cast(), PART) };
    }
    copy
}

fn is_same(bytes: &[AtomicU8; BYTES], copy: &[u8]) -> bool {
    assert_eq!(copy.len(), BYTES);
    // SAFETY: both have `BYTES` bytes; as in `copy_backwards`.
    unsafe { libc::memcmp(bytes.as_ptr().cast(), copy.as_ptr().cast(), BYTES) == 0 }
}

/// Kills victims of this size and returns the longest time to the lock.
#[track_caller]
fn kill_victims(times: u32, memory: usize, net: Net) -> Duration {
    let scene = Scene::create();
    let name: &str = scene.stage.name();
    let mut heir = Child::spawn_with(net, "heir", &[name]);
    let mut slowest = Duration::ZERO;
    for round in 0..times {
        scene.stage.board[0].store(0, Release);
        let mut victim = Child::spawn_with(net, "victim", &[name, &memory.to_string()]);
        victim.expect("ready");
        heir.fall_asleep("inherit");

        let killed = victim.kill();
        victim.reap();
        scene.stage.board[0].store(1, Release);
        let reply = common::Reply::parse(&heir.hear());

        assert_eq!(reply.text, "poisoned=true late=false", "round {round}");
        slowest = slowest.max(reply.since(killed));
    }
    assert_eq!(scene.stage.region.rescues(), 0);
    slowest
}

#[test]
fn no_thread_of_a_small_victim_stores_after_the_new_owner_has_the_lock() {
    let slowest = kill_victims(100, 1 << 20, Net::Off);

    assert!(slowest < prompt(), "{slowest:?}");
}

#[test]
fn no_thread_of_a_victim_with_2_gib_stores_after_the_new_owner_has_the_lock() {
    let slowest = kill_victims(4, 2 << 30, Net::Off);

    assert!(slowest < 4 * prompt(), "{slowest:?}");
}
