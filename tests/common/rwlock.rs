//! A stage with a read-write lock, and the role that does with it what it is told.

use std::time::{Duration, Instant};

use shmkit::{LockError, LockResult, Region, RwLock, RwLockReadGuard, RwLockWriteGuard, Shm};

use super::{Parent, Stage, answer, interrupt_on, now_ns, signal, stay_on, stay_on_cpu_0};

/// Numbers that are all the same whenever nobody writes.
pub(crate) type Numbers = [u64; 16];
pub(crate) type Lock = RwLock<Numbers>;

/// How many readers there is room for.
pub(crate) const CELLS: usize = 128;

pub(crate) fn create() -> (Stage, Shm<Lock>) {
    create_with(RwLock::new([0; 16]))
}

pub(crate) fn create_with(lock: Lock) -> (Stage, Shm<Lock>) {
    let stage = Stage::create();
    let lock = stage.region.insert("rwlock", lock).expect("room");
    (stage, lock)
}

pub(crate) fn open(name: &str) -> Shm<Lock> {
    Region::open(name).and_then(|region| region.get("rwlock")).expect("the lock")
}

enum Guard<'a> {
    Read(RwLockReadGuard<'a, Numbers>),
    Write(RwLockWriteGuard<'a, Numbers>),
}

fn outcome<'a, G>(locked: LockResult<G>, guards: &mut Vec<Guard<'a>>, wrap: fn(G) -> Guard<'a>) -> String {
    match locked {
        Ok(guard) => {
            guards.push(wrap(guard));
            "ok".to_owned()
        }
        Err(LockError::Poisoned { guard, cause }) => {
            guards.push(wrap(guard));
            format!("poisoned {cause:?}")
        }
        Err(other) => format!("{other:?}"),
    }
}

/// Joins the stage in its first argument and does with its lock what it is told.
pub(crate) fn rw_party(parent: &mut Parent) {
    let lock = open(parent.argument(0));
    answer(parent, now_ns(), "here");
    let mut guards: Vec<Guard<'_>> = Vec::new();
    loop {
        let order = parent.hear();
        let (verb, number) = order.split_once(' ').unwrap_or((&order, "0"));
        let number: u64 = number.parse().expect("a number");
        let time = Duration::from_millis(number);
        let start = now_ns();
        let text = match verb {
            "read" => outcome(lock.read(), &mut guards, Guard::Read),
            "write" => outcome(lock.write(), &mut guards, Guard::Write),
            "try-read" => outcome(lock.try_read(), &mut guards, Guard::Read),
            "try-write" => outcome(lock.try_write(), &mut guards, Guard::Write),
            "timed-read" => outcome(lock.read_timeout(time), &mut guards, Guard::Read),
            "timed-write" => outcome(lock.write_timeout(time), &mut guards, Guard::Write),
            "deadline-read" => outcome(lock.read_deadline(Instant::now() + time), &mut guards, Guard::Read),
            "deadline-write" => outcome(lock.write_deadline(Instant::now() + time), &mut guards, Guard::Write),
            // These leave again at once, and answer with when they were in.
            "visit-read" | "visit-write" => {
                let text = if verb == "visit-read" {
                    outcome(lock.read(), &mut guards, Guard::Read)
                } else {
                    outcome(lock.write(), &mut guards, Guard::Write)
                };
                let at = now_ns();
                guards.clear();
                parent.say(format_args!("{at} {} {text}", at - start));
                continue;
            }
            "unlock" => {
                guards.clear();
                "unlocked".to_owned()
            }
            "unlock-and-kill" => {
                guards.clear();
                signal(number as u32, libc::SIGKILL);
                "killed".to_owned()
            }
            "downgrade" => {
                let Some(Guard::Write(guard)) = guards.pop() else { panic!("no writer") };
                guards.push(Guard::Read(RwLockWriteGuard::downgrade(guard)));
                "downgraded".to_owned()
            }
            "set" => {
                let Some(Guard::Write(guard)) = guards.last_mut() else { panic!("no writer") };
                **guard = [number; 16];
                "set".to_owned()
            }
            "get" => match guards.last().expect("a guard") {
                Guard::Read(guard) => guard[0].to_string(),
                Guard::Write(guard) => guard[0].to_string(),
            },
            // Never without a guard, unless a writer comes.
            "stream" => {
                answer(parent, start, "streaming");
                let mut last = lock.read().expect("a sound lock");
                loop {
                    last = if let Ok(next) = lock.try_read() {
                        next
                    } else {
                        drop(last);
                        lock.read().expect("a sound lock")
                    };
                }
            }
            "count" => {
                for _ in 0..number {
                    lock.write().expect("a sound lock").iter_mut().for_each(|each| *each += 1);
                }
                "counted".to_owned()
            }
            "unlock-and-write-for" => {
                guards.clear();
                let begin = Instant::now();
                while begin.elapsed() < time {
                    lock.write().expect("a sound lock")[0] += 1;
                }
                "written".to_owned()
            }
            // With pauses, now shorter and now longer, in which readers come in; and now in one way, now in the other. In the end all is as large as can be.
            "write-for" => {
                let begin = Instant::now();
                for round in 0.. {
                    let pause = Instant::now();
                    while pause.elapsed() < Duration::from_nanos(round * 37 % 4001) {}
                    let written = if round % 2 == 0 { lock.write() } else { lock.try_write() };
                    let mut guard = match written {
                        Ok(guard) => guard,
                        Err(LockError::WouldBlock) => continue,
                        Err(error) => panic!("{error}"),
                    };
                    if begin.elapsed() > time {
                        *guard = [u64::MAX; 16];
                        break;
                    }
                    guard.iter_mut().for_each(|each| *each += 1);
                }
                "written".to_owned()
            }
            "watch" => {
                for _ in 0..number {
                    let guard = lock.read().expect("a sound lock");
                    assert!(guard.iter().all(|each| *each == guard[0]), "half-written: {:?}", *guard);
                }
                "watched".to_owned()
            }
            "panic" => {
                let held = guards.pop();
                let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                    let _held = held;
                    std::panic::resume_unwind(Box::new(()));
                }));
                assert!(panicked.is_err());
                "panicked".to_owned()
            }
            "poisoned" => lock.is_poisoned().to_string(),
            "clear" => {
                lock.clear_poison();
                "cleared".to_owned()
            }
            "interrupts" => {
                interrupt_on(libc::SIGUSR1);
                "ready".to_owned()
            }
            "stay-on" => {
                stay_on(number as usize);
                "there".to_owned()
            }
            "idle" => {
                stay_on_cpu_0(true);
                "idle".to_owned()
            }
            "busy" => {
                stay_on_cpu_0(false);
                "busy".to_owned()
            }
            other => panic!("no order {other:?}"),
        };
        answer(parent, start, &text);
    }
}
