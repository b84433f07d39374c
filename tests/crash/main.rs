//! The crash sweep: a process is killed at every crash point of every operation, and the others must get on.
//!
//! For each scene below, a victim does one operation. The sweep first lets it live, to learn how many crash points it passes, then
//! starts it anew for each of them and lets it die there. After each death every other process of the scene must get what it was
//! waiting for, and a newcomer must be able to create, open, insert and lock. All of it without the safety net.

#![cfg(ipc_crash)]

#[path = "../common/mod.rs"]
mod common;

mod barrier;
mod bytes;
mod condvar;
mod event;
mod forks;
mod map;
mod once;
mod permits;
mod pipe;
mod pool;
mod process;
mod queue;
mod reentrant;
mod rwlock;
mod semaphore;
mod ticket;
mod wait_any;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::time::Duration;

use barrier::barrier_party;
use common::{Child, Name, Parent, Party, Stage, fork, party, roles, signal, sleeps_until_woken, state, talker, until};
use event::event_waiter;
use forks::forker;
use map::map_party;
use memmap2::MmapRaw;
use permits::permits_waiter;
use queue::queue_party;
use semaphore::semaphore_waiter;
use shmkit::shim::crash::{arm, disarm};
use shmkit::spin::{Spinning, set_spinning};
use shmkit::{Error, LockError, Mutex, Region, RegionOptions, Snapshot};
use wait_any::wait_any_waiter;

roles!(
    victim,
    party,
    newcomer,
    barrier_party,
    event_waiter,
    forker,
    map_party,
    permits_waiter,
    queue_party,
    semaphore_waiter,
    talker,
    wait_any_waiter
);

shmkit::process::enable_test_support!();

/// More crash points than any operation has: a sweep that gets here does not end.
const TOO_MANY: usize = 200;

/// What happens around the victim, given the name that it may use, itself, and the stage.
type Scene = fn(&Name, &mut Child, &Stage);

/// What the victim of each scene does, and which crash points it is there for.
const SCENES: &[(&str, Scene)] = &[
    ("create", alone),
    ("open", alone),
    ("unlink", alone),
    ("adopt", in_a_plain_file),
    ("insert", alone),
    ("insert_array", alone),
    ("lock", alone),
    ("take_over", after_dead_owner),
    ("contend", among_sleepers),
    ("watch", beside_dying_owner),
    ("fork", alone),
    ("write", before_readers),
    ("update", before_readers),
];

/// What a victim does, given the scene, its parent, the name of the stage, and where to die.
type Victim = fn(&str, &mut Parent, &str, usize);

/// The scenes around each primitive, and their victims.
const PARTS: &[(&[(&str, Scene)], Victim)] = &[
    (barrier::SCENES, barrier::victim),
    (bytes::SCENES, bytes::victim),
    (condvar::SCENES, condvar::victim),
    (event::SCENES, event::victim),
    (map::SCENES, map::victim),
    (once::SCENES, once::victim),
    (permits::SCENES, permits::victim),
    (pipe::SCENES, pipe::victim),
    (pool::SCENES, pool::victim),
    (process::SCENES, process::victim),
    (queue::SCENES, queue::victim),
    (reentrant::SCENES, reentrant::victim),
    (rwlock::SCENES, rwlock::victim),
    (semaphore::SCENES, semaphore::victim),
    (ticket::SCENES, ticket::victim),
    (wait_any::SCENES, wait_any::victim),
];

/// How often all scenes are played, if some crash point was not passed: a scene can lead a victim to a point, but on a busy machine somebody
/// else may have been faster.
const TIMES: usize = 3;

#[test]
fn a_kill_at_any_crash_point_of_any_operation_is_survived() {
    let mut missed = crash_points_in_the_sources();
    for _ in 0..TIMES {
        for &(scene, run) in SCENES.iter().chain(PARTS.iter().flat_map(|(scenes, _)| *scenes)) {
            let points = sweep(scene, run);
            println!("{scene}: {} crash points: {points:?}", points.len());
            missed.retain(|point| !points.contains(point));
        }
        if missed.is_empty() {
            return;
        }
        println!("not passed: {missed:?}");
    }
    panic!("no scene passes {missed:?}");
}

/// Kills the victim at one crash point after the other, until it passes them all; returns their names.
fn sweep(scene: &str, run: Scene) -> Vec<String> {
    for die_at in 1..TOO_MANY {
        let stage = Stage::create();
        let other = Name::new();
        let mut victim = Child::spawn("victim", &[scene, stage.name(), &other, &die_at.to_string()]);
        run(&other, &mut victim, &stage);
        let status = victim.reap();
        let lived = status.success();
        assert!(lived || status.signal() == Some(libc::SIGKILL), "{scene}: the victim failed by itself: {status}");
        aftermath(&stage, &other, victim.pid());
        if lived {
            // What it said before it ended: the crash points that it passed.
            return victim.hear().split(' ').map(str::to_owned).collect();
        }
    }
    panic!("{scene}: more than {TOO_MANY} crash points");
}

/// Whether the victim has died; it need not be reaped yet.
fn has_died(victim: &Child) -> bool {
    matches!(state(victim.pid(), victim.thread()), None | Some('Z' | 'X'))
}

/// Everybody else goes on.
fn aftermath(stage: &Stage, other: &Name, victim: u32) {
    until("the victim's leaving the table", || !stage.pids().contains(&victim));
    let mut newcomer = Child::spawn("newcomer", &[stage.name(), other]);
    newcomer.expect("done");
    newcomer.finish();
    let locked = stage.mutex.lock_timeout(Duration::from_secs(5));
    assert!(locked.is_ok() || matches!(locked, Err(LockError::Poisoned { .. })), "{:?}", locked.err());
    stage.mutex.clear_poison();
    assert_eq!(stage.region.rescues(), 0);
}

// The scenes: what happens around the victim.

fn alone(_other: &Name, victim: &mut Child, _stage: &Stage) {
    victim.tell("go");
}

fn after_dead_owner(_other: &Name, victim: &mut Child, stage: &Stage) {
    let mut owner = Party::join(stage);
    assert_eq!(owner.ask("lock"), "ok");
    owner.kill();
    owner.reap();
    victim.tell("go");
}

/// The victim and another process sleep until the lock is free; whoever lives gets it.
fn among_sleepers(_other: &Name, victim: &mut Child, stage: &Stage) {
    let mut sleeper = Party::join(stage);
    let guard = stage.mutex.lock().expect("a free mutex");
    victim.tell("go");
    until_sleeps_or_dies(victim);
    sleeper.tell("lock");
    until_sleeps(&sleeper);
    drop(guard);
    let reply = sleeper.reply().text;
    assert!(reply == "ok" || reply.starts_with("poisoned"), "{reply}");
    assert_eq!(sleeper.ask("unlock"), "unlocked");
}

/// The victim's keeper watches an owner that is killed while another process waits for its lock.
fn beside_dying_owner(_other: &Name, victim: &mut Child, stage: &Stage) {
    victim.expect("here");
    let mut owner = Party::join(stage);
    let mut sleeper = Party::join(stage);
    assert_eq!(owner.ask("lock"), "ok");
    sleeper.tell("lock");
    until_sleeps(&sleeper);
    victim.tell("go");
    victim.expect("armed");
    owner.kill();
    let reply = sleeper.reply().text;
    assert!(reply.starts_with("poisoned"), "{reply}");
    assert_eq!(sleeper.ask("unlock"), "unlocked");
    owner.reap();
    // Its keeper has had the chance to bury the owner; now it may go.
    until("the owner's leaving the table", || !stage.pids().contains(&owner.pid()));
    victim.try_tell("end");
}

/// The victim makes a region in a file that it has mapped.
fn in_a_plain_file(other: &Name, victim: &mut Child, _stage: &Stage) {
    let path = plain_file(other);
    File::create_new(&path).and_then(|file| file.set_len(1 << 16)).expect("a new file");
    victim.tell("go");
    until("the victim's end", || has_died(victim));
    adopt(&path).insert("thing", Mutex::new(7u64)).expect("a whole region with room");
    fs::remove_file(path).expect("the file");
}

fn plain_file(name: &str) -> String {
    format!("{}/{name}", env!("CARGO_TARGET_TMPDIR"))
}

/// Opens or makes the region in the file at `path`.
fn adopt(path: &str) -> Region {
    let file = File::options().read(true).write(true).open(path).expect("the file");
    let map = MmapRaw::map_raw(&file).expect("a mapping");
    // SAFETY: a shared mapping of the whole file, kept by the region; nobody cuts the file or has references into it.
    unsafe { Region::from_raw(map.as_mut_ptr(), map.len(), &file, map) }.expect("a region")
}

/// The victim writes to a snapshot cell. Whatever it dies at, others read one of the two values, and write.
fn before_readers(_other: &Name, victim: &mut Child, stage: &Stage) {
    let cell = stage.region.insert("cell", Snapshot::new(OLD)).expect("room");
    victim.tell("go");
    until("the victim's end", || {
        let value = cell.read();
        assert!(value == OLD || value == NEW, "torn: {value:?}");
        has_died(victim)
    });
    assert_eq!(cell.read(), if cell.version() == 0 { OLD } else { NEW });
    cell.update(|value| *value = [value[0] + 2; 4]).expect("a turn");
    assert!(cell.read() == [OLD[0] + 2; 4] || cell.read() == [NEW[0] + 2; 4]);
}

/// What is in the cell before and after the victim has written.
const OLD: [u64; 4] = [1; 4];
const NEW: [u64; 4] = [2; 4];

// The roles.

/// Does one operation, armed.
fn victim(parent: &mut Parent) {
    let scene = parent.argument(0).to_owned();
    let (stage_name, other) = (parent.argument(1).to_owned(), parent.argument(2).to_owned());
    let die_at = parent.argument(3).parse().expect("a number");
    // One who looks before it sleeps would pass other crash points each time.
    set_spinning(Spinning::Never);
    match scene.as_str() {
        "create" => {
            parent.expect("go");
            arm(die_at);
            let region = RegionOptions::new().unlink_on_drop(true).create(&other, 4096).expect("a new region");
            drop(region);
        }
        "open" => {
            let keep = Region::create(&other, 4096).expect("a new region");
            drop(keep);
            parent.expect("go");
            arm(die_at);
            drop(Region::open(&other).expect("the region"));
        }
        "unlink" => {
            drop(Region::create(&other, 4096).expect("a new region"));
            parent.expect("go");
            arm(die_at);
            Region::unlink(&other).expect("a region to unlink");
        }
        "adopt" => {
            parent.expect("go");
            arm(die_at);
            drop(adopt(&plain_file(&other)));
        }
        "insert" => {
            let region = Region::open(&stage_name).expect("the stage");
            parent.expect("go");
            arm(die_at);
            region.insert("thing", Mutex::new(7u64)).expect("room");
        }
        "insert_array" => {
            let region = Region::open(&stage_name).expect("the stage");
            parent.expect("go");
            arm(die_at);
            region.insert_array::<u64>("numbers", 100).expect("room");
        }
        "lock" | "take_over" | "contend" => {
            let stage = Stage::open(&stage_name);
            parent.expect("go");
            arm(die_at);
            let guard = stage.mutex.lock().or_else(LockError::into_guard).expect("the mutex");
            drop(guard);
        }
        "write" | "update" => {
            let region = Region::open(&stage_name).expect("the stage");
            parent.expect("go");
            let cell = region.get::<Snapshot<[u64; 4]>>("cell").expect("the cell");
            arm(die_at);
            let written = if scene == "write" { cell.write(NEW) } else { cell.update(|value| *value = NEW) };
            written.expect("a turn");
        }
        "watch" => {
            let _stage = Stage::open(&stage_name);
            parent.say("here");
            parent.expect("go");
            arm(die_at);
            parent.say("armed");
            parent.expect("end");
        }
        "fork" => {
            let stage = Stage::open(&stage_name);
            parent.expect("go");
            arm(die_at);
            let child = fork(|| drop(stage.mutex.lock().or_else(LockError::into_guard).expect("the mutex")));
            match child.reap() {
                0 => {}
                // What its child dies of, the victim dies of, too, so that the sweep goes on.
                libc::SIGKILL => die(),
                status => panic!("the child failed by itself: {status}"),
            }
        }
        other => {
            let part = PARTS.iter().find(|(scenes, _)| scenes.iter().any(|(scene, _)| *scene == other));
            part.expect("a scene").1(other, parent, &stage_name, die_at);
        }
    }
    parent.say(disarm().join(" "));
}

/// Does what a newcomer does.
fn newcomer(parent: &mut Parent) {
    let (stage_name, other) = (parent.argument(0).to_owned(), parent.argument(1).to_owned());
    let stage = Stage::open(&stage_name);
    // First, so that a new array lies where the dead were writing.
    let numbers = stage.region.get_array_or_insert::<u64>("numbers", 100).expect("an array");
    assert_eq!(numbers.to_vec(), [0; 100]);
    let thing = stage.region.get_or_insert_with("thing", || Mutex::new(7u64)).expect("a thing");
    assert_eq!(*thing.lock().expect("a whole thing"), 7);
    stage.region.insert("newcomer", Mutex::new(1u32)).expect("room");
    match Region::unlink(&other) {
        Ok(()) | Err(Error::NotFound) => {}
        Err(error) => panic!("{error}"),
    }
    drop(Region::create(&other, 4096).expect("a free name"));
    drop(Region::open(&other).expect("a whole region"));
    Region::unlink(&other).expect("a region to unlink");
    parent.say("done");
}

fn die() -> ! {
    signal(std::process::id(), libc::SIGKILL);
    common::sleep_for_ever()
}

/// Waits until the role of a child sleeps and will not look around again by itself: what is done then meets it asleep, however busy the
/// machine is.
#[track_caller]
fn until_sleeps(child: &Child) {
    until("a child that sleeps until it is woken", || sleeps_until_woken(child.pid(), child.thread()));
}

/// The same for a victim, which may die before. There is one place only at which it can fall asleep.
#[track_caller]
fn until_sleeps_or_dies(victim: &Child) {
    let sleeps = || sleeps_until_woken(victim.pid(), victim.thread());
    until("the victim asleep or dead", || has_died(victim) || sleeps());
}

fn has_stopped(victim: &Child) -> bool {
    state(victim.pid(), victim.thread()) == Some('T')
}

/// The names of all crash points, from the sources.
fn crash_points_in_the_sources() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut folders = ["ipc-core/src", "ipc-sync/src", "ipc-channel/src", "ipc-process/src"]
        .map(|folder| Path::new(env!("CARGO_MANIFEST_DIR")).join(folder))
        .to_vec();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("the sources") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                // What is in `shim` is about models.
                folders.extend((!path.ends_with("shim")).then_some(path));
            } else {
                let text = fs::read_to_string(path).expect("a source file");
                let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
                let named = code.filter_map(|line| line.split("crash_point!(\"").nth(1)?.split('"').next());
                names.extend(named.map(str::to_owned));
            }
        }
    }
    names
}
