//! Locks, and what is done once, against what one thread should find.

use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::Relaxed;
use core::time::Duration;

use arbitrary::{Arbitrary, Unstructured};
use shmkit::{Condvar, Mutex, Once, OnceLock, ReentrantMutex, RwLock, RwLockWriteGuard, SetError};

use crate::seen::{Kind, Seen, kind};
use crate::stage::with_stage;

const NOW: Duration = Duration::ZERO;

#[derive(Arbitrary, Debug)]
enum Act {
    Lock(bool),
    Write(u8),
    Unlock,
    WaitForNotice,
    Notify(bool),
    LockAgain(bool),
    UnlockAgain,
    Read(bool),
    WriteLock(bool, u8),
    Release(u8),
    Downgrade,
    CallOnce,
    SetOnce(u8),
    GetOnce,
    InitOnce(u8, bool),
}

pub(crate) fn run(data: &[u8], seen: &mut Seen) {
    let _ = play(&mut Unstructured::new(data), seen);
}

fn play(input: &mut Unstructured<'_>, seen: &mut Seen) -> arbitrary::Result<()> {
    with_stage(|stage| {
        let region = stage.region();
        let mutex = region.insert("mutex", Mutex::new([0u8; 5])).expect("room");
        let condvar = region.insert("condvar", Condvar::new()).expect("room");
        let reentrant = region.insert("reentrant", ReentrantMutex::new(AtomicU64::new(0))).expect("room");
        let rwlock = region.insert("rwlock", RwLock::new(0u64)).expect("room");
        let once = region.insert("once", Once::new()).expect("room");
        let once_lock = region.insert("once_lock", OnceLock::<u32>::new()).expect("room");

        let (mut guard, mut value) = (None, 0);
        let mut again = Vec::new();
        let (mut readers, mut writer, mut written) = (Vec::new(), None, 0u64);
        let (mut is_called, mut set) = (false, None);
        for _ in 0..200 {
            if input.is_empty() {
                break;
            }
            match Act::arbitrary(input)? {
                Act::Lock(in_time) => {
                    let locked = if in_time { mutex.lock_timeout(NOW) } else { mutex.try_lock() };
                    assert_eq!(locked.is_ok(), guard.is_none(), "{locked:?}");
                    seen.note("lock", kind(&locked));
                    if let Ok(locked) = locked {
                        assert_eq!(*locked, [value; 5]);
                        guard = Some(locked);
                    }
                }
                Act::Write(new) => {
                    if let Some(guard) = &mut guard {
                        (**guard, value) = ([new; 5], new);
                    }
                }
                Act::Unlock => guard = None,
                Act::WaitForNotice => {
                    if let Some(mine) = guard.take() {
                        // A notice without a waiter is not remembered; but it may return for no reason.
                        let (mine, waited) = condvar.wait_timeout(mine, NOW).expect("nobody dies");
                        assert_eq!(*mine, [value; 5]);
                        seen.note("wait", waited.timed_out().kind());
                        guard = Some(mine);
                    }
                }
                Act::Notify(all) => {
                    if all {
                        condvar.notify_all()
                    } else {
                        condvar.notify_one()
                    }
                }
                Act::LockAgain(in_time) => {
                    let locked = if in_time { reentrant.lock_timeout(NOW) } else { reentrant.try_lock() };
                    let locked = locked.expect("it is this thread's");
                    assert_eq!(locked.fetch_add(1, Relaxed), again.len() as u64);
                    again.push(locked);
                    seen.note("lock again", (again.len() > 1).kind());
                }
                Act::UnlockAgain => {
                    if let Some(guard) = again.pop() {
                        guard.fetch_sub(1, Relaxed);
                    }
                }
                Act::Read(in_time) => {
                    let read = if in_time { rwlock.read_timeout(NOW) } else { rwlock.try_read() };
                    assert_eq!(read.is_ok(), writer.is_none(), "{read:?}");
                    seen.note("read", kind(&read));
                    if let Ok(read) = read {
                        assert_eq!(*read, written);
                        readers.push(read);
                    }
                }
                Act::WriteLock(in_time, new) => {
                    let write = if in_time { rwlock.write_timeout(NOW) } else { rwlock.try_write() };
                    assert_eq!(write.is_ok(), writer.is_none() && readers.is_empty(), "{write:?}");
                    seen.note("write", kind(&write));
                    if let Ok(mut write) = write {
                        assert_eq!(*write, written);
                        (*write, written) = (new.into(), new.into());
                        writer = Some(write);
                    }
                }
                Act::Release(which) => {
                    if readers.is_empty() {
                        writer = None;
                    } else {
                        drop(readers.swap_remove(usize::from(which) % readers.len()));
                    }
                }
                Act::Downgrade => {
                    if let Some(writer) = writer.take() {
                        readers.push(RwLockWriteGuard::downgrade(writer));
                        seen.note("downgrade", "done");
                    }
                }
                Act::CallOnce => {
                    let mut ran = false;
                    once.call_once_timeout(NOW, || ran = true).expect("nobody else runs it");
                    assert_eq!(ran, !is_called);
                    assert!(once.is_completed());
                    is_called = true;
                    seen.note("call once", ran.kind());
                }
                Act::SetOnce(new) => {
                    let result = once_lock.set_timeout(NOW, new.into());
                    assert!(matches!(&result, Err(SetError::AlreadySet { .. })) == set.is_some(), "{result:?}");
                    seen.note("set once", result.is_ok().kind());
                    set = set.or(Some(u32::from(new)));
                }
                Act::GetOnce => assert_eq!(once_lock.get().copied(), set),
                Act::InitOnce(new, fails) => {
                    let made = once_lock.get_or_try_init_timeout(NOW, || if fails { Err(()) } else { Ok(new.into()) });
                    seen.note("init once", made.is_ok().kind());
                    if set.is_none() && !fails {
                        set = Some(new.into());
                    }
                    assert_eq!(made.ok().copied(), set);
                }
            }
            assert!(!mutex.is_poisoned() && !rwlock.is_poisoned());
        }
        Ok(())
    })
}
