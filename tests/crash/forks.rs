//! Forks in the middle of an operation, as a signal handler makes them: at every crash point, and the child goes on from there as its parent does.
//!
//! What the child finds itself with is what its parent has got, and nothing of its own, or it begins anew and gets in its turn. In both
//! cases it must not do in its parent's name what its parent does.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
use std::thread;

use shmkit::shim::crash::{disarm, interrupt};
use shmkit::spin::{Spinning, set_spinning};
use shmkit::{
    Barrier, LockError, LockResult, Permits, Queue, ReentrantMutex, RwLock, RwLockWriteGuard, Shm, Snapshot, WaitError,
};

use super::TOO_MANY;
use crate::common::{
    BOUND, Child, Parent, Stage, exit_now, fork_here, handle, has_ended_well, sleeps_on_several, thread_id, until,
};

/// Places on the board: the id of the forked child, whether it may go on, and whether it has come to its end.
const CHILD: usize = 0;
const GO: usize = 1;
const OVER: usize = 2;
/// Whether its parent waits for that.
const FIRST: usize = 3;

/// Comes in, and goes out after it has called what it is given.
type Life = fn(&Stage, &mut dyn FnMut());

/// What the process does that is interrupted.
struct Scene {
    name: &'static str,
    /// Puts what it is about on the stage.
    set: fn(&Stage),
    /// What it does.
    life: Life,
    /// Whether others are refused while it is in; `None`: it keeps nobody out.
    keeps_out: Option<fn(&Stage) -> bool>,
    /// What another process does, which nobody else is in beside.
    alone: Life,
    /// Whether the others are as they are to be while that is in.
    is_taken: fn(&Stage) -> bool,
    /// What somebody is in by when `life` begins, until that sleeps.
    before: Option<Life>,
}

/// Whoever copies words does so to the end, be it in a child. `docs/MEMORY_MODEL.md` has that among the cases that are left to handlers ("Fork").
const COPYING: &[&str] = &["snapshot.write.before_words", "snapshot.write.after_word", "snapshot.write.before_publish"];

type Lock = RwLock<[u64; 2]>;

fn rwlock(stage: &Stage) -> Shm<Lock> {
    stage.region.get("rwlock").expect("the lock")
}

fn usual(stage: &Stage) {
    stage.region.insert("rwlock", Lock::new([0; 2])).expect("room");
}

fn asymmetric(stage: &Stage) {
    stage.region.insert("rwlock", Lock::new([0; 2]).asymmetric()).expect("room");
}

fn sound<G>(locked: LockResult<G>) -> G {
    locked.expect("nobody has died")
}

fn would_block<G>(locked: LockResult<G>) -> bool {
    matches!(locked, Err(LockError::WouldBlock))
}

fn write(stage: &Stage, inside: &mut dyn FnMut()) {
    let lock = rwlock(stage);
    let _guard = sound(lock.write_timeout(BOUND));
    inside();
}

fn is_written(stage: &Stage) -> bool {
    // If it said something else, the death of who is in would not poison.
    let says_so = words(&rwlock(stage)).1.load(Relaxed) == WRITING;
    says_so && would_block(rwlock(stage).try_read()) && would_block(rwlock(stage).try_write())
}

fn is_read(stage: &Stage) -> bool {
    would_block(rwlock(stage).try_write())
}

fn try_write(stage: &Stage, inside: &mut dyn FnMut()) {
    let lock = rwlock(stage);
    // The child may be refused.
    let _guard = lock.try_write();
    inside();
}

fn downgrade(stage: &Stage, inside: &mut dyn FnMut()) {
    let lock = rwlock(stage);
    let _guard = RwLockWriteGuard::downgrade(sound(lock.write_timeout(BOUND)));
    inside();
}

fn read(stage: &Stage, inside: &mut dyn FnMut()) {
    let lock = rwlock(stage);
    let _guard = sound(lock.read_timeout(BOUND));
    inside();
}

fn read_by_handle(stage: &Stage, inside: &mut dyn FnMut()) {
    let lock = rwlock(stage);
    let mut handle = lock.reader().expect("a participant");
    let _guard = sound(handle.read_timeout(BOUND));
    inside();
}

fn mutex(stage: &Stage, inside: &mut dyn FnMut()) {
    let _guard = sound(stage.mutex.lock_timeout(BOUND));
    inside();
}

/// A token of nobody, and so of somebody who is dead.
const DEAD: u64 = 0x1234_5678_9abc_def0;

fn left_by_a_dead_owner(stage: &Stage) {
    // SAFETY: a mutex begins with the word of its lock.
    let owner: &AtomicU64 = unsafe { &*std::ptr::from_ref(&*stage.mutex).cast() };
    owner.store(DEAD, Relaxed);
}

fn left_by_a_dead_writer(stage: &Stage) {
    usual(stage);
    let lock = rwlock(stage);
    let (turn, gate) = words(&lock);
    turn.store(DEAD, Relaxed);
    gate.store(WRITING, Relaxed);
}

/// The word of the turn, and that of the gate.
fn words(lock: &Lock) -> (&AtomicU64, &AtomicU32) {
    let start = std::ptr::from_ref(lock).cast::<AtomicU32>();
    // SAFETY: a lock begins with two words of the turn, and the gate is behind these and the poison.
    unsafe { (&*start.cast::<AtomicU64>(), &*start.add(5)) }
}

/// The gate of a lock that a writer is in.
const WRITING: u32 = 3;

fn lock_after_dead(stage: &Stage, inside: &mut dyn FnMut()) {
    let _guard = stage.mutex.lock_timeout(BOUND).or_else(LockError::into_guard).expect("the mutex");
    if !is_child() {
        stage.mutex.clear_poison();
    }
    inside();
}

fn write_after_dead(stage: &Stage, inside: &mut dyn FnMut()) {
    let lock = rwlock(stage);
    let _guard = lock.write_timeout(BOUND).or_else(LockError::into_guard).expect("the lock");
    if !is_child() {
        lock.clear_poison();
    }
    inside();
}

fn is_locked(stage: &Stage) -> bool {
    would_block(stage.mutex.try_lock())
}

fn reentrant(stage: &Stage) -> Shm<ReentrantMutex<AtomicU64>> {
    stage.region.get("reentrant").expect("the mutex")
}

fn lock_twice(stage: &Stage, inside: &mut dyn FnMut()) {
    let mutex = reentrant(stage);
    let outer = sound(mutex.lock_timeout(BOUND));
    inside();
    let inner = mutex.try_lock();
    assert!(inner.is_ok() || is_child(), "the owner cannot lock again");
    drop(outer);
}

fn has_owner(stage: &Stage) -> bool {
    would_block(reentrant(stage).try_lock())
}

fn permits(stage: &Stage) -> Shm<Permits> {
    stage.region.get("permits").expect("the permits")
}

fn acquire(stage: &Stage, inside: &mut dyn FnMut()) {
    let permits = permits(stage);
    let _permit = permits.acquire_timeout(BOUND).expect("a participant");
    inside();
}

fn is_held(stage: &Stage) -> bool {
    matches!(permits(stage).try_acquire(), Err(WaitError::WouldBlock))
}

fn snapshot(stage: &Stage) -> Shm<Snapshot<[u64; 4]>> {
    stage.region.get("snapshot").expect("the cell")
}

fn queue(stage: &Stage) -> Queue<u64> {
    Queue::open_in(&stage.region, "queue").expect("the queue")
}

/// A queue with a message.
fn queue_of_one(stage: &Stage) {
    let queue = Queue::<u64>::create_in(&stage.region, "queue", 8).expect("room");
    queue.send(1).expect("room");
}

/// Sends and receives, for some rounds of the ring, and leaves it full. Calls `full`, in which somebody may receive some messages of its own accord,
/// but there is no room to send any.
fn pass(queue: &Queue<u64>, full: &mut dyn FnMut()) {
    // So many that then the first cells are full, where a child may be about to send.
    for value in 10..71 {
        queue.send_timeout(value, BOUND).expect("room");
        let received = std::iter::from_fn(|| Some(queue.recv_timeout(BOUND).expect("a sound queue")));
        let strangers: Vec<_> = received.take_while(|received| *received != value).collect();
        assert!(strangers.len() <= 7 && strangers.iter().all(|stranger| *stranger <= 5), "{strangers:?}");
    }
    let sent: Vec<_> = (100..).take_while(|value| queue.try_send(*value).is_ok()).collect();
    assert_eq!(sent.len(), 8);
    full();
    let received: Vec<_> = std::iter::from_fn(|| queue.try_recv().ok()).collect();
    assert!((5..=8).contains(&received.len()) && sent.ends_with(&received), "{received:?}");
    assert!(queue.is_empty());
}

const SEND: Scene = Scene {
    name: "queue_send",
    set: queue_of_one,
    life: |stage, inside| {
        let sent = queue(stage).try_send(2);
        assert!(sent.is_ok() || is_child(), "{sent:?}");
        inside();
    },
    keeps_out: None,
    alone: |stage, inside| pass(&queue(stage), inside),
    is_taken: |_| true,
    before: None,
};

const WRITE: Scene = Scene {
    name: "rwlock_write",
    set: usual,
    life: write,
    keeps_out: Some(is_written),
    alone: write,
    is_taken: is_written,
    before: None,
};

const MUTEX: Scene = Scene {
    name: "mutex",
    set: |_| (),
    life: mutex,
    keeps_out: Some(is_locked),
    alone: mutex,
    is_taken: is_locked,
    before: None,
};

const PERMITS: Scene = Scene {
    name: "permits",
    set: |stage| drop(stage.region.insert("permits", Permits::new(1).expect("one")).expect("room")),
    life: acquire,
    keeps_out: Some(is_held),
    alone: acquire,
    is_taken: is_held,
    before: None,
};

const SCENES: &[Scene] = &[
    WRITE,
    Scene { name: "rwlock_write_late", before: Some(write), ..WRITE },
    Scene { name: "rwlock_write_behind_reader", before: Some(read), ..WRITE },
    Scene { name: "rwlock_write_after_dead", set: left_by_a_dead_writer, life: write_after_dead, ..WRITE },
    Scene { name: "rwlock_try_write", life: try_write, ..WRITE },
    Scene { name: "rwlock_downgrade", life: downgrade, keeps_out: Some(is_read), ..WRITE },
    Scene { name: "rwlock_read", life: read, keeps_out: Some(is_read), ..WRITE },
    Scene { name: "rwlock_read_late", life: read, keeps_out: Some(is_read), before: Some(write), ..WRITE },
    Scene { name: "asymmetric_write", set: asymmetric, ..WRITE },
    Scene { name: "asymmetric_write_late", set: asymmetric, before: Some(write), ..WRITE },
    Scene { name: "asymmetric_try_write", set: asymmetric, life: try_write, ..WRITE },
    Scene { name: "asymmetric_downgrade", set: asymmetric, life: downgrade, keeps_out: Some(is_read), ..WRITE },
    Scene { name: "asymmetric_read", set: asymmetric, life: read_by_handle, keeps_out: Some(is_read), ..WRITE },
    Scene {
        name: "asymmetric_read_late",
        set: asymmetric,
        life: read_by_handle,
        keeps_out: Some(is_read),
        before: Some(write),
        ..WRITE
    },
    MUTEX,
    Scene { name: "mutex_late", before: Some(mutex), ..MUTEX },
    Scene {
        name: "reentrant",
        set: |stage| drop(stage.region.insert("reentrant", ReentrantMutex::new(AtomicU64::new(0))).expect("room")),
        life: lock_twice,
        keeps_out: Some(has_owner),
        alone: lock_twice,
        is_taken: has_owner,
        before: None,
    },
    Scene { name: "mutex_after_dead", set: left_by_a_dead_owner, life: lock_after_dead, ..MUTEX },
    SEND,
    Scene {
        name: "queue_send_after_dead",
        set: |stage| {
            queue_of_one(stage);
            let mut dead = Child::spawn("queue_party", &[stage.name()]);
            dead.expect("here");
            dead.tell("die in send");
            dead.reap();
        },
        ..SEND
    },
    Scene {
        name: "queue_send_many",
        life: |stage, inside| {
            let sent = queue(stage).try_send_slice(&[2, 3, 3]);
            assert!(matches!(sent, Ok(3)) || is_child(), "{sent:?}");
            inside();
        },
        ..SEND
    },
    Scene {
        name: "queue_recv",
        life: |stage, inside| {
            let received = queue(stage).try_recv();
            assert!(matches!(received, Ok(1)) || is_child(), "{received:?}");
            inside();
        },
        ..SEND
    },
    Scene {
        name: "queue_recv_many",
        life: |stage, inside| {
            let received = queue(stage).try_recv_slice(&mut [0; 3]);
            assert!(matches!(received, Ok(1)) || is_child(), "{received:?}");
            inside();
        },
        ..SEND
    },
    PERMITS,
    Scene { name: "permits_late", before: Some(acquire), ..PERMITS },
    Scene {
        name: "snapshot",
        set: |stage| drop(stage.region.insert("snapshot", Snapshot::new([0u64; 4])).expect("room")),
        life: |stage, inside| {
            let written = snapshot(stage).write([1; 4]);
            assert!(written.is_ok() || is_child(), "{written:?}");
            inside();
        },
        keeps_out: None,
        alone: |stage, inside| {
            (2..=3).for_each(|value| snapshot(stage).write([value; 4]).expect("a participant"));
            inside();
        },
        is_taken: |stage| snapshot(stage).read() == [3; 4] && snapshot(stage).version() == 3,
        before: None,
    },
    Scene {
        name: "barrier",
        set: |stage| drop(stage.region.insert("barrier", Barrier::new(1).expect("one party")).expect("room")),
        life: |stage, inside| {
            let barrier: Shm<Barrier> = stage.region.get("barrier").expect("the barrier");
            let mut party = barrier.join().expect("a seat");
            inside();
            let is_leader = party.wait().is_ok_and(|round| round.is_leader());
            assert_eq!(is_leader, !is_child(), "the only party leads each round");
        },
        keeps_out: None,
        alone: |_, inside| inside(),
        is_taken: |_| true,
        before: None,
    },
];

/// When the child goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    /// Its parent goes on only after that.
    First,
    /// Its parent is in.
    ParentIn,
    /// Its parent is out again, and somebody else in.
    OtherIn,
    /// Nobody is in.
    NobodyIn,
}

#[test]
fn a_fork_at_any_crash_point_gives_the_child_nothing_of_its_parents_and_takes_nothing_away() {
    for scene in SCENES {
        for when in [When::First, When::ParentIn, When::OtherIn, When::NobodyIn] {
            let points: Vec<_> = (1..TOO_MANY).map_while(|at| interrupted(scene, at, when)).collect();
            println!("{}, {when:?}: {} crash points: {points:?}", scene.name, points.len());
            assert!(points.len() < TOO_MANY - 1, "the crash points come to no end");
        }
    }
}

/// One fork, at the crash point number `at`, whose name is returned; `None` if there is none.
fn interrupted(scene: &Scene, at: usize, when: When) -> Option<String> {
    let stage = Stage::create();
    (scene.set)(&stage);
    let mut victim = Child::spawn("forker", &[scene.name, stage.name(), &at.to_string()]);
    stage.board[FIRST].store((when == When::First).into(), Relaxed);
    if let Some(before) = scene.before {
        let (pid, thread) = (victim.pid(), victim.thread());
        before(&stage, &mut || {
            victim.tell("go");
            until("a sleeper", || sleeps_on_several(pid, thread));
        });
    } else {
        victim.tell("go");
    }
    victim.expect("in");
    let point = match scene.keeps_out.filter(|_| when == When::ParentIn) {
        Some(keeps_out) => beside_another(scene, &stage, keeps_out, &mut victim),
        None => leave(&mut victim),
    };
    if when == When::OtherIn && !COPYING.contains(&&*point) {
        (scene.alone)(&stage, &mut || {
            go_on(&stage);
            let is_taken = thread::scope(|scope| scope.spawn(|| (scene.is_taken)(&stage)).join());
            assert!(is_taken.expect("no panic"), "{} {at}, at {point}: not as others have left it", scene.name);
        });
    }
    // Also the one that was forked when its parent left.
    go_on(&stage);
    let was_forked = stage.board[CHILD].load(Relaxed) != 0;
    until("the child's end", || !was_forked || stage.board[OVER].load(Acquire) != 0);
    (scene.alone)(&stage, &mut || ());
    victim.tell("end");
    victim.finish();
    was_forked.then_some(point)
}

/// The child goes on while its parent is in, and somebody else waits for that to leave.
fn beside_another(scene: &Scene, stage: &Stage, keeps_out: fn(&Stage) -> bool, victim: &mut Child) -> String {
    let (id, is_in) = (AtomicU32::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            id.store(thread_id(), Release);
            (scene.alone)(stage, &mut || is_in.store(true, Release));
        });
        until("somebody who waits", || sleeps_on_several(std::process::id(), id.load(Acquire)));
        go_on(stage);
        let is_alone = !is_in.load(Acquire) && keeps_out(stage);
        let point = leave(victim);
        assert!(is_alone, "{}, at {point}: somebody comes in beside the parent", scene.name);
        point
    })
}

/// Lets the victim leave; returns the name of the crash point.
fn leave(victim: &mut Child) -> String {
    victim.tell("leave");
    victim.hear()
}

/// Lets the child, if there is one, go on until it has come to its end, or waits for somebody else.
fn go_on(stage: &Stage) {
    stage.board[GO].store(1, Release);
    let child = stage.board[CHILD].load(Acquire) as u32;
    let waits = || sleeps_on_several(child, child);
    until("the child at rest", || child == 0 || stage.board[OVER].load(Acquire) != 0 || waits());
}

// The role.

/// The stage of the process that is to fork, in its signal handler.
static STAGE: OnceLock<Stage> = OnceLock::new();

/// The process that plays the role.
static FORKER: AtomicU32 = AtomicU32::new(0);

fn is_child() -> bool {
    std::process::id() != FORKER.load(Relaxed)
}

/// The handler: forks, and keeps the child waiting until it may go on.
extern "C" fn fork_now(_: i32) {
    let stage = STAGE.get().expect("the stage");
    match fork_here() {
        0 => until("leave to go on", || stage.board[GO].load(Acquire) != 0),
        child => {
            stage.board[CHILD].store(child.into(), Release);
            if stage.board[FIRST].load(Relaxed) != 0 {
                go_on(stage);
            }
        }
    }
}

/// Does what the scene in its first argument says, and forks at the crash point in its last one.
pub(crate) fn forker(parent: &mut Parent) {
    let scene = SCENES.iter().find(|scene| scene.name == parent.argument(0)).expect("a scene");
    let stage = STAGE.get_or_init(|| Stage::open(parent.argument(1)));
    let at = parent.argument(2).parse().expect("a number");
    FORKER.store(std::process::id(), Relaxed);
    // One who looks before it sleeps would pass other crash points each time.
    set_spinning(Spinning::Never);
    handle(libc::SIGUSR1, fork_now);
    parent.expect("go");
    interrupt(at, libc::SIGUSR1);
    let lived = catch_unwind(AssertUnwindSafe(|| {
        (scene.life)(stage, &mut || {
            if !is_child() {
                parent.say("in");
                parent.expect("leave");
            }
        });
    }));
    if is_child() {
        stage.board[OVER].store(1, Release);
        exit_now(if lived.is_ok() { 0 } else { 101 });
    }
    lived.expect("an end without a panic");
    let passed = disarm();
    parent.say(passed.get(at - 1).unwrap_or(&"none"));
    parent.expect("end");
    let child = stage.board[CHILD].load(Relaxed) as u32;
    until("the child's end", || child == 0 || has_ended_well(child));
}
