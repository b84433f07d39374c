//! Handles that read an `RwLock` by plain stores, between real processes.

mod common;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::hint::black_box;
use std::io::Error as IoError;
use std::mem::forget;
use std::time::{Duration, Instant};

use common::rwlock::{Lock, Numbers, create, create_with, open, rw_party};
use common::{
    Net, Parent, Party, Stage, answer, fork, now_ns, prompt, roles, signal, stay_on, until, with_and_without_the_net,
};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};
use shmkit::{Error, LockError, LockResult, RwLock, RwLockReadGuard, RwLockReader, Shm};

roles!(rw_party, handle_party, filtered, forbidden);

/// How many handles can keep a cell.
const HANDLES: usize = 64;

fn create_asymmetric() -> (Stage, Shm<Lock>) {
    create_with(RwLock::new([0; 16]).asymmetric())
}

type Guard<'a> = RwLockReadGuard<'a, Numbers>;

fn outcome(locked: LockResult<Guard<'_>>) -> (Option<Guard<'_>>, String) {
    match locked {
        Ok(guard) => (Some(guard), "ok".to_owned()),
        Err(LockError::Poisoned { guard, cause }) => (Some(guard), format!("poisoned {cause:?}")),
        Err(other) => (None, format!("{other:?}")),
    }
}

/// Reads the lock of the stage in its first argument by a handle, as it is told. What it has read it keeps until the next order.
fn handle_party(parent: &mut Parent) {
    let lock = open(parent.argument(0));
    let mut handles = vec![lock.reader().expect("a participant")];
    answer(parent, now_ns(), "here");
    loop {
        let order = parent.hear();
        let (verb, number) = order.split_once(' ').unwrap_or((&order, "0"));
        let number: u64 = number.parse().expect("a number");
        let start = now_ns();
        let Some(handle) = handles.first_mut() else { panic!("no handle to {verb}") };
        match verb {
            "read" | "try-read" | "timed-read" => {
                let (guard, text) = outcome(match verb {
                    "read" => handle.read(),
                    "try-read" => handle.try_read(),
                    _ => handle.read_timeout(Duration::from_millis(number)),
                });
                answer(parent, start, &text);
                if let Some(guard) = guard {
                    keep(parent, guard);
                }
            }
            "visit-read" => {
                let (guard, text) = outcome(handle.read());
                let at = now_ns();
                drop(guard);
                parent.say(format_args!("{at} {} {text}", at - start));
            }
            "watch" => {
                for round in 0u64.. {
                    fill_the_store_buffer(round as u8);
                    let guard = handle.read().expect("a sound lock");
                    for _ in 0..20 {
                        assert!(black_box(&*guard).iter().all(|each| *each == guard[0]), "half-written: {:?}", *guard);
                    }
                    if guard[0] == u64::MAX {
                        break;
                    }
                }
                answer(parent, start, "watched");
            }
            "stay-on" => {
                stay_on(number as usize);
                answer(parent, start, "there");
            }
            "keep" => {
                (0..number).for_each(|_| handles.push(lock.reader().expect("a participant")));
                answer(parent, start, &cheap(&handles).to_string());
            }
            "give-back" => {
                handles.truncate(number as usize);
                answer(parent, start, &cheap(&handles).to_string());
            }
            "fork" => {
                let child = fork(|| {
                    let mut inherited = std::mem::take(&mut handles);
                    assert_eq!(cheap(&inherited), 0);
                    let (guard, text) = outcome(inherited[0].read());
                    assert_eq!(text, "ok");
                    parent.say("child reads");
                    keep(parent, guard.expect("a sound lock"));
                    drop(inherited);
                });
                assert_eq!(child.reap(), 0);
                answer(parent, start, "child is gone");
            }
            other => panic!("no order {other:?}"),
        }
    }
}

/// Stores to lines that are in no cache: the processor takes some time for that, and whatever is stored next is seen after it.
fn fill_the_store_buffer(byte: u8) {
    thread_local! {
        static LINES: RefCell<[u8; 64 * 64]> = const { RefCell::new([0; 64 * 64]) };
    }
    LINES.with_borrow_mut(|lines| {
        // SAFETY: every such processor has these instructions, which change nothing.
        #[cfg(target_arch = "x86_64")]
        unsafe {
            use std::arch::x86_64::{_mm_clflush, _mm_mfence};
            lines.chunks(64).for_each(|line| _mm_clflush(line.as_ptr()));
            _mm_mfence();
        }
        lines.iter_mut().step_by(64).for_each(|place| *black_box(place) = byte);
    });
}

/// Does with a guard what it is told.
fn keep(parent: &mut Parent, guard: Guard<'_>) {
    loop {
        let start = now_ns();
        match parent.hear().as_str() {
            "get" => answer(parent, start, &guard[0].to_string()),
            "forget" => {
                forget(guard);
                return answer(parent, start, "forgotten");
            }
            "unlock" => {
                drop(guard);
                return answer(parent, start, "unlocked");
            }
            other => panic!("no order {other:?} for a guard"),
        }
    }
}

fn cheap(handles: &[RwLockReader<'_, Numbers>]) -> usize {
    handles.iter().filter(|handle| handle.is_cheap()).count()
}

#[test]
fn handles_of_different_processes_read_together_and_a_writer_is_alone() {
    let (stage, _lock) = create_asymmetric();
    let [mut one, mut other] = Party::join_many_as("handle_party", Net::Off, &stage);
    let [mut writer, mut reader] = Party::join_many_as("rw_party", Net::Off, &stage);

    assert_eq!(one.ask("read"), "ok");
    assert_eq!(other.ask("read"), "ok");
    assert_eq!(reader.ask("read"), "ok");
    for reading in [&mut one, &mut other, &mut reader] {
        assert_eq!(writer.ask("try-write"), "WouldBlock");
        assert_eq!(reading.ask("unlock"), "unlocked");
    }
    assert_eq!(writer.ask("try-write"), "ok");
    assert_eq!(one.ask("try-read"), "WouldBlock");
    assert_eq!(one.ask("timed-read 20"), "TimedOut");
    assert_eq!(writer.ask("set 4711"), "set");
    other.fall_asleep("read");
    let start = now_ns();
    writer.ask("unlock");
    assert_eq!(other.soon(start), "ok");
    assert_eq!(other.ask("get"), "4711");
}

/// What models cannot show, since they have a fence there: on a real processor, the plain store of a handle is seen late, and its look at the gate comes before.
/// Without a barrier this fails in an optimised build; in another one, the writer takes longer to look than a store is late.
#[test]
fn writers_on_another_cpu_are_never_in_beside_a_handle() {
    let (stage, lock) = create_asymmetric();
    let [mut handle] = Party::join_many_as("handle_party", Net::Off, &stage);
    let [mut writer] = Party::join_many_as("rw_party", Net::Off, &stage);
    assert_eq!(handle.ask("keep 0"), "1");
    assert_eq!([handle.ask("stay-on 0"), writer.ask("stay-on 1")], ["there", "there"]);

    handle.tell("watch");
    writer.tell("write-for 1000");

    assert_eq!([writer.reply().text, handle.reply().text], ["written", "watched"]);
    drop(lock);
    assert_eq!(stage.region.rescues(), 0);
}

#[test]
fn a_writer_that_sleeps_for_long_is_woken_by_a_handle_that_leaves() {
    let (stage, _lock) = create_asymmetric();
    let [mut handle] = Party::join_many_as("handle_party", Net::Off, &stage);
    let [mut writer] = Party::join_many_as("rw_party", Net::Off, &stage);
    handle.ask("read");
    writer.fall_asleep("visit-write");
    // Not to be saved by the short time after which it looks again by itself.
    let since = Instant::now();
    until("the end of the first look", || since.elapsed() > Duration::from_millis(10));
    writer.until_asleep();

    let start = now_ns();
    handle.ask("unlock");

    let reply = writer.reply();
    assert!(reply.text == "ok" && reply.since(start) < prompt(), "{reply:?}");
}

#[test]
fn readers_that_sleep_come_in_beside_a_writer_that_comes_back_for_the_next_turn_at_once() {
    let (stage, _lock) = create_asymmetric();
    let [mut handle] = Party::join_many_as("handle_party", Net::Off, &stage);
    let [mut writer, mut reader] = Party::join_many_as("rw_party", Net::Off, &stage);
    for _ in 0..5 {
        writer.ask("write");
        handle.fall_asleep("visit-read");
        reader.fall_asleep("visit-read");

        let start = now_ns();
        writer.tell("unlock-and-write-for 700");

        assert_eq!([handle.soon(start), reader.soon(start)], ["ok", "ok"]);
        assert_eq!(writer.reply().text, "written");
    }
}

#[test]
fn a_guard_that_is_forgotten_keeps_writers_out_until_the_handle_reads_again_or_is_given_back() {
    let (stage, _lock) = create_asymmetric();
    let [mut handle] = Party::join_many_as("handle_party", Net::Off, &stage);
    let [mut writer] = Party::join_many_as("rw_party", Net::Off, &stage);
    for end in ["visit-read", "give-back 0"] {
        handle.ask("read");
        handle.ask("forget");
        assert_eq!(writer.ask("try-write"), "WouldBlock");

        handle.ask(end);

        assert_eq!(writer.ask("try-write"), "ok");
        writer.ask("unlock");
    }
}

#[test]
fn a_waiting_writer_gets_on_when_the_handle_that_reads_is_killed_and_nothing_is_poisoned() {
    with_and_without_the_net(|net| {
        let (stage, lock) = create_asymmetric();
        let [mut handle, mut late] = Party::join_many_as("handle_party", net, &stage);
        let [mut writer] = Party::join_many_as("rw_party", net, &stage);
        handle.ask("read");
        writer.fall_asleep("visit-write");
        late.fall_asleep("visit-read");

        let start = handle.kill();

        assert_eq!([writer.soon(start), late.soon(start)], ["ok", "ok"]);
        assert!(!lock.is_poisoned());
        assert_eq!(stage.region.rescues(), 0);
    });
}

#[test]
fn a_waiting_handle_gets_on_when_the_writer_is_killed_and_finds_the_poison() {
    with_and_without_the_net(|net| {
        let (stage, lock) = create_asymmetric();
        let [mut handle] = Party::join_many_as("handle_party", net, &stage);
        let [mut writer] = Party::join_many_as("rw_party", net, &stage);
        writer.ask("write");
        handle.fall_asleep("visit-read");

        let start = writer.kill();

        assert_eq!(handle.soon(start), "poisoned OwnerDied");
        lock.clear_poison();
        assert_eq!(handle.ask("visit-read"), "ok");
        assert_eq!(stage.region.rescues(), 0);
    });
}

#[test]
fn a_handle_that_is_one_too_many_reads_at_the_usual_cost_and_the_cells_of_the_dead_are_kept_anew() {
    let (stage, lock) = create_asymmetric();
    let [mut many] = Party::join_many_as("handle_party", Net::Off, &stage);
    assert_eq!(many.ask(&format!("keep {}", HANDLES + 1)), HANDLES.to_string());
    let [mut late] = Party::join_many_as("handle_party", Net::Off, &stage);
    assert_eq!(late.ask("keep 0"), "0");
    assert_eq!(late.ask("visit-read"), "ok");
    let guards: Vec<_> = (0..HANDLES).map(|_| lock.read().expect("half of the cells are for all others")).collect();
    assert!(matches!(lock.try_read(), Err(LockError::WouldBlock)));
    assert_eq!(many.ask("visit-read"), "ok", "a cell of its own");
    drop(guards);

    many.kill();
    many.reap();
    until("the news of the death", || lock.reader().expect("a participant").is_cheap());

    assert!(lock.write().is_ok(), "the dead did not read");
    assert_eq!(late.ask(&format!("keep {HANDLES}")), HANDLES.to_string());
    let guards: Vec<_> = (0..HANDLES).map(|_| lock.read().expect("the cells that handles cannot keep")).collect();
    assert!(matches!(lock.try_write(), Err(LockError::WouldBlock)));
    drop(guards);
    assert!(lock.write().is_ok());
}

#[test]
fn cells_of_dead_handles_are_there_for_readers_too() {
    let (stage, lock) = create_asymmetric();
    let [mut many] = Party::join_many_as("handle_party", Net::Off, &stage);
    assert_eq!(many.ask(&format!("keep {}", HANDLES - 1)), HANDLES.to_string());
    many.kill();
    many.reap();
    until("the news of the death", || lock.reader().expect("a participant").is_cheap());

    let guards: Vec<_> = (0..2 * HANDLES).map(|_| lock.read().expect("all cells")).collect();

    assert!(matches!(lock.try_read(), Err(LockError::WouldBlock)));
    drop(guards);
    assert!(lock.try_write().is_ok());
}

#[test]
fn a_forked_child_reads_by_the_handle_that_it_inherited_and_leaves_that_of_its_parent_alone() {
    let (stage, _lock) = create_asymmetric();
    let [mut handle] = Party::join_many_as("handle_party", Net::Off, &stage);
    let [mut writer] = Party::join_many_as("rw_party", Net::Off, &stage);

    handle.tell("fork");
    handle.expect("child reads");
    assert_eq!(writer.ask("try-write"), "WouldBlock");
    assert_eq!(handle.ask("unlock"), "unlocked");

    assert_eq!(handle.reply().text, "child is gone");
    let [mut other] = Party::join_many_as("handle_party", Net::Off, &stage);
    assert_eq!(other.ask(&format!("keep {HANDLES}")), (HANDLES - 1).to_string(), "one is kept for the parent");
    assert_eq!(writer.ask("try-write"), "ok");
    writer.ask("unlock");
    assert_eq!(handle.ask("read"), "ok");
    assert_eq!(writer.ask("try-write"), "WouldBlock");
}

// Where the kernel makes no barriers.

/// From now on, this comes of a call of `membarrier`.
fn keep_membarrier_away(action: SeccompAction) {
    let rules: BTreeMap<_, _> = [(libc::SYS_membarrier, Vec::new())].into();
    let arch = std::env::consts::ARCH.try_into().expect("a known architecture");
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, action, arch).expect("a filter");
    let program: BpfProgram = filter.try_into().expect("a program");
    seccompiler::apply_filter_all_threads(&program).expect("a filtered process");
}

// Has no membarrier.
fn filtered(parent: &mut Parent) {
    keep_membarrier_away(SeccompAction::Errno(libc::EPERM as u32));
    let lock = open(parent.argument(0));
    let mut handle = lock.reader().expect("a participant");
    assert!(handle.is_cheap());
    assert_eq!(handle.read().expect("a sound lock")[0], 0);
    for written in [lock.write(), lock.try_write(), lock.write_timeout(common::BOUND)] {
        let Err(LockError::Failed(Error::NoBarrier(error))) = written else { panic!("{written:?}") };
        assert_eq!(IoError::raw_os_error(&error), Some(libc::EPERM));
    }
    assert!(handle.try_read().is_ok(), "the gate is open again");
    parent.say("done");
}

#[test]
fn without_membarrier_handles_read_and_writing_is_an_error() {
    let (stage, lock) = create_asymmetric();
    let mut filtered = common::Child::spawn("filtered", &[stage.name()]);

    filtered.expect("done");

    assert!(!lock.is_poisoned());
    assert!(lock.try_write().is_ok(), "for others it is none");
}

// Is killed at any call of membarrier.
fn forbidden(parent: &mut Parent) {
    keep_membarrier_away(SeccompAction::KillProcess);
    let lock = open(parent.argument(0));
    let mut handle = lock.reader().expect("a participant");
    assert!(!handle.is_cheap() && handle.read().is_ok());
    assert!(lock.write().is_ok() && lock.try_write().is_ok());
    let asymmetric = RwLock::new(7).asymmetric();
    let mut handle = asymmetric.reader().expect("a thread");
    assert!(handle.is_cheap() && handle.read().is_ok() && asymmetric.read().is_ok());
    parent.say("done");
    assert!(signal(std::process::id(), libc::SIGKILL));
}

#[test]
fn nobody_but_the_writers_of_an_asymmetric_lock_asks_for_a_barrier() {
    let (stage, _lock) = create();

    common::Child::spawn("forbidden", &[stage.name()]).expect("done");
}
