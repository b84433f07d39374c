//! Deaths in the readers-writer lock.

use std::mem::forget;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::thread;
use std::time::Duration;

use shmkit::shim::crash::arm;
use shmkit::{LockError, LockResult, Region, RwLock, RwLockReader, RwLockWriteGuard, Shm};

use super::{Scene, has_died, until_sleeps_or_dies};
use crate::common::{Child, Parent, Stage, fork, until};

/// Two numbers that a writer raises one after the other.
type Lock = RwLock<[u64; 2]>;

const SECONDS: Duration = Duration::from_secs(10);

/// The place of the gate in a lock, and what it is while somebody sleeps until readers leave.
const GATE: usize = 20;
const WAITING: u32 = 2;

/// The mark of those who sleep until they get the turn.
const ASLEEP: u64 = 1;

/// More readers than there is room for.
const READERS: usize = 128;

pub(crate) const SCENES: &[(&str, Scene)] = &[
    ("rwlock_read", |_, victim, stage| at_once(&usual(stage), victim)),
    ("rwlock_write", |_, victim, stage| at_once(&usual(stage), victim)),
    ("rwlock_downgrade", |_, victim, stage| at_once(&usual(stage), victim)),
    ("rwlock_read_late", |_, victim, stage| {
        behind_writer(&usual(stage), victim, |_, victim| until_sleeps_or_dies(victim))
    }),
    ("rwlock_write_late", |_, victim, stage| behind_reader(&usual(stage), victim)),
    ("rwlock_leave", |_, victim, stage| before_writer(&usual(stage), victim)),
    ("rwlock_repair", |_, victim, stage| first_after_dead(&usual(stage), victim)),
    ("rwlock_forget", |_, victim, stage| first_after_dead(&usual(stage), victim)),
    ("rwlock_inherit", |_, victim, stage| first_after_dead(&usual(stage), victim)),
    ("rwlock_handle", |_, victim, stage| at_once(&asymmetric(stage), victim)),
    ("rwlock_handle_write", |_, victim, stage| at_once(&asymmetric(stage), victim)),
    ("rwlock_handle_late", |_, victim, stage| behind_writer(&asymmetric(stage), victim, until_marks_or_dies)),
    ("rwlock_handle_leave", |_, victim, stage| before_writer(&asymmetric(stage), victim)),
];

fn usual(stage: &Stage) -> Shm<Lock> {
    stage.region.insert("rwlock", RwLock::new([0; 2])).expect("room")
}

fn asymmetric(stage: &Stage) -> Shm<Lock> {
    stage.region.insert("rwlock", RwLock::new([0; 2]).asymmetric()).expect("room")
}

fn gate(lock: &Lock) -> u32 {
    // SAFETY: this atomic word lies there in the lock, and is aligned.
    unsafe { &*std::ptr::from_ref(lock).cast::<AtomicU32>().add(GATE / 4) }.load(SeqCst)
}

fn admitted<G>(locked: LockResult<G>) -> (G, bool) {
    match locked {
        Ok(guard) => (guard, false),
        Err(LockError::Poisoned { guard, .. }) => (guard, true),
        Err(error) => panic!("{error:?}"),
    }
}

fn write(lock: &Lock) {
    let (mut guard, poisoned) = admitted(lock.write_timeout(SECONDS));
    assert!(guard[0] == guard[1] || poisoned, "half-changed and sound");
    guard[0] += 1;
    guard[1] = guard[0];
    lock.clear_poison();
}

fn read(lock: &Lock) {
    let (guard, poisoned) = admitted(lock.read_timeout(SECONDS));
    assert!(guard[0] == guard[1] || poisoned, "half-changed and sound");
}

fn read_by(handle: &mut RwLockReader<'_, [u64; 2]>) {
    let (guard, poisoned) = admitted(handle.read_timeout(SECONDS));
    assert!(guard[0] == guard[1] || poisoned, "half-changed and sound");
}

/// Others come in, before the victim's death, beside it and after it.
fn go_on(lock: &Lock) {
    thread::scope(|scope| {
        scope.spawn(|| read_by(&mut lock.reader().expect("a participant")));
        scope.spawn(|| read(lock));
        scope.spawn(|| write(lock));
    });
    read(lock);
    write(lock);
}

fn at_once(lock: &Lock, victim: &mut Child) {
    victim.tell("prepare");
    victim.expect("prepared");
    victim.tell("go");
    go_on(lock);
    until("the victim's end", || has_died(victim));
    go_on(lock);
}

/// The victim is the first to find what a dead has left.
fn first_after_dead(lock: &Lock, victim: &mut Child) {
    victim.tell("prepare");
    victim.expect("prepared");
    victim.tell("go");
    until("the victim's end", || has_died(victim));
    go_on(lock);
}

/// The victim and another reader sleep until a writer is done.
fn behind_writer(lock: &Lock, victim: &mut Child, until_waits: fn(&Lock, &Child)) {
    victim.tell("prepare");
    victim.expect("prepared");
    let guard = lock.write().expect("a new lock");
    victim.tell("go");
    until_waits(lock, victim);
    thread::scope(|scope| {
        scope.spawn(|| read(lock));
        scope.spawn(|| write(lock));
        drop(guard);
    });
    until("the victim's end", || has_died(victim));
    go_on(lock);
}

/// One who waits for the turn of an asymmetric lock sleeps for short times only. So it is not its sleep that is waited for, but its mark in the second word of the turn.
fn until_marks_or_dies(lock: &Lock, victim: &Child) {
    // SAFETY: this atomic word lies there in the lock, and is aligned.
    let sleepers = unsafe { &*std::ptr::from_ref(lock).cast::<AtomicU64>().add(1) };
    until("a mark, or the victim's end", || has_died(victim) || sleepers.load(SeqCst) & ASLEEP != 0);
}

/// The victim wants to write while there is a reader. If it dies, other readers come in before that one has left.
fn behind_reader(lock: &Lock, victim: &mut Child) {
    victim.tell("prepare");
    victim.expect("prepared");
    let guard = lock.read().expect("a new lock");
    victim.tell("go");
    until_sleeps_or_dies(victim);
    if has_died(victim) {
        read(lock);
    }
    drop(guard);
    go_on(lock);
    until("the victim's end", || has_died(victim));
    go_on(lock);
}

/// The victim leaves while a writer sleeps until it does.
fn before_writer(lock: &Lock, victim: &mut Child) {
    victim.tell("prepare");
    victim.expect("prepared");
    thread::scope(|scope| {
        scope.spawn(|| write(lock));
        until("a writer asleep", || gate(lock) == WAITING);
        victim.tell("go");
    });
    until("the victim's end", || has_died(victim));
    go_on(lock);
}

/// What the victim does.
pub(crate) fn victim(scene: &str, parent: &mut Parent, stage_name: &str, die_at: usize) {
    let region = Region::open(stage_name).expect("the stage");
    parent.expect("prepare");
    let lock = region.get::<Lock>("rwlock").expect("the lock");
    let leave_to_a_child = |life: fn(&Lock)| assert_eq!(fork(|| life(&lock)).reap(), 0);
    let mut handle = (scene == "rwlock_handle_leave").then(|| lock.reader().expect("a participant"));
    let mut reading = None;
    match scene {
        "rwlock_handle_leave" => reading = handle.as_mut().map(|handle| handle.read().expect("a new lock")),
        "rwlock_leave" => reading = Some(lock.read().expect("a new lock")),
        "rwlock_repair" => leave_to_a_child(|lock| {
            let mut guard = lock.write().expect("a new lock");
            guard[0] += 1;
            forget(guard);
        }),
        "rwlock_forget" => leave_to_a_child(|lock| forget(lock.read().expect("a new lock"))),
        "rwlock_inherit" => leave_to_a_child(|lock| (0..READERS).for_each(|_| forget(lock.read().expect("room")))),
        _ => {}
    }
    parent.say("prepared");
    parent.expect("go");
    arm(die_at);
    match scene {
        "rwlock_read" | "rwlock_read_late" | "rwlock_inherit" => drop(admitted(lock.read())),
        "rwlock_downgrade" => drop(RwLockWriteGuard::downgrade(admitted(lock.write()).0)),
        "rwlock_leave" | "rwlock_handle_leave" => drop(reading),
        "rwlock_handle" | "rwlock_handle_late" => drop(admitted(lock.reader().expect("a participant").read())),
        _ => {
            let (mut guard, _) = admitted(lock.write());
            guard[0] += 1;
            guard[1] = guard[0];
        }
    }
}
