//! `Once` and `OnceLock` between the threads of one process.

#![cfg(not(ipc_loom))]

use std::error::Error as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::thread;
use std::time::{Duration, Instant};

use shmkit_core::{Error, Region};
use shmkit_sync::{InitError, Once, OnceLock, SetError, WaitError};

const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(20);

/// Lets four threads do it at once: one does, and all see it.
fn race(once: &Once) {
    let (ran, value) = (AtomicU32::new(0), AtomicU64::new(0));

    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                once.call_once(|| {
                    ran.fetch_add(1, Relaxed);
                    thread::sleep(Duration::from_millis(1));
                    value.store(7, Relaxed);
                })
                .expect("done");
                assert_eq!(value.load(Relaxed), 7);
            });
        }
    });

    assert_eq!(ran.load(Relaxed), 1);
    assert!(once.is_completed());
}

#[test]
fn of_several_threads_one_does_it_and_all_see_it() {
    static ONCE: Once = Once::new();
    let region = Region::anonymous(4096).expect("a region");

    race(&region.insert("once", Once::new()).expect("room"));
    race(&Once::default());
    race(&ONCE);
}

#[test]
fn a_value_is_made_once_and_stays() {
    let region = Region::anonymous(4096).expect("a region");
    let value = region.insert("value", OnceLock::<[u32; 3]>::new()).expect("room");
    let made = AtomicU32::new(0);
    assert_eq!(value.get(), None);

    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let make = || [made.fetch_add(1, Relaxed) + 7; 3];
                assert_eq!(value.get_or_init(make).expect("a value"), &[7; 3]);
            });
        }
    });

    assert_eq!(value.get(), Some(&[7; 3]));
    assert_eq!(value.wait().expect("a value"), &[7; 3]);
    let error = value.set([8; 3]).expect_err("set already");
    assert!(error.to_string().contains("already") && error.source().is_none());
    assert_eq!(error.into_value(), [8; 3]);
}

#[test]
fn set_sets_what_is_not_set() {
    let value = OnceLock::default();

    assert!(value.set(7u128).is_ok());
    assert_eq!(value.get(), Some(&7));
    assert!(matches!(value.set_timeout(Duration::ZERO, 8), Err(SetError::AlreadySet { value: 8 })));
    assert!(value.set_deadline(Instant::now(), 9).is_err());
}

#[test]
fn one_who_panics_or_fails_leaves_it_to_the_next() {
    let (once, value) = (Once::new(), OnceLock::<u64>::new());
    fn fail() -> u64 {
        std::panic::resume_unwind(Box::new(()))
    }

    assert!(catch_unwind(AssertUnwindSafe(|| once.call_once(|| _ = fail()))).is_err());
    assert!(!once.is_completed());
    assert!(once.call_once(|| ()).is_ok());

    assert!(catch_unwind(AssertUnwindSafe(|| value.get_or_init(fail).copied())).is_err());
    assert!(matches!(value.get_or_try_init(|| Err("no")), Err(InitError::Init("no"))));
    assert_eq!(value.get(), None);
    assert_eq!(value.get_or_try_init(|| Ok::<_, ()>(7)).expect("made"), &7);
}

#[test]
fn inside_of_itself_it_is_waited_for_until_the_deadline() {
    let (once, value) = (Once::new(), OnceLock::<u64>::new());

    once.call_once(|| {
        assert!(matches!(once.call_once_timeout(SHORT, || ()), Err(WaitError::TimedOut)));
        assert!(matches!(once.call_once_deadline(Instant::now(), || ()), Err(WaitError::TimedOut)));
        assert!(matches!(once.wait_timeout(Duration::ZERO), Err(WaitError::TimedOut)));
    })
    .expect("done");
    value
        .get_or_init(|| {
            assert!(matches!(value.get_or_init_timeout(SHORT, || 8), Err(WaitError::TimedOut)));
            assert!(matches!(value.get_or_init_deadline(Instant::now(), || 8), Err(WaitError::TimedOut)));
            let tried = value.get_or_try_init_timeout(SHORT, || Err(()));
            assert!(matches!(tried, Err(InitError::Wait(WaitError::TimedOut))));
            let tried = value.get_or_try_init_deadline(Instant::now(), || Err(()));
            assert!(matches!(tried, Err(InitError::Wait(WaitError::TimedOut))));
            let error = value.set_timeout(SHORT, 9).expect_err("not set");
            assert!(matches!(error, SetError::NotSet { value: 9, cause: WaitError::TimedOut }));
            assert!(error.to_string().contains("not set") && error.source().is_some());
            7
        })
        .expect("made");
    assert_eq!(value.get(), Some(&7));
}

#[test]
fn waits_end_when_it_is_done_and_not_before() {
    let (once, value) = (Once::new(), OnceLock::<u64>::new());
    let start = Instant::now();
    assert!(matches!(once.wait_timeout(SHORT), Err(WaitError::TimedOut)));
    assert!(matches!(value.wait_deadline(Instant::now() + SHORT), Err(WaitError::TimedOut)));
    assert!(start.elapsed() >= SHORT);

    thread::scope(|scope| {
        let waiters = [
            scope.spawn(|| once.wait().is_ok()),
            scope.spawn(|| once.wait_timeout(Duration::MAX).is_ok()),
            scope.spawn(|| once.wait_deadline(Instant::now() + LONG).is_ok()),
            scope.spawn(|| value.wait().is_ok_and(|value| *value == 7)),
            scope.spawn(|| value.wait_timeout(LONG).is_ok_and(|value| *value == 7)),
        ];
        once.call_once(|| thread::sleep(Duration::from_millis(1))).expect("done");
        value.get_or_init(|| 7).expect("made");
        waiters.into_iter().for_each(|waiter| assert!(waiter.join().expect("no panic")));
    });
}

#[test]
fn what_is_done_or_can_be_done_needs_no_time() {
    let once = Once::new();

    assert!(once.call_once_timeout(Duration::ZERO, || ()).is_ok());
    assert!(once.call_once_timeout(Duration::MAX, || ()).is_ok());
    assert!(once.wait_timeout(Duration::ZERO).is_ok());
    assert!(once.wait_deadline(Instant::now()).is_ok());
}

#[test]
fn garbage_in_the_state_is_corrupted_or_that_of_a_dead() {
    let region = Region::anonymous(4096).expect("a region");
    let once = region.insert("once", Once::new()).expect("room");
    let value = region.insert("value", OnceLock::<u64>::new()).expect("room");
    // SAFETY: both begin with this atomic word.
    let [of_once, of_value]: [&AtomicU64; 2] =
        unsafe { [&*std::ptr::from_ref(&*once).cast(), &*std::ptr::from_ref(&*value).cast()] };

    for garbage in [3, 4, 5, (1 << 28) - 1] {
        of_once.store(garbage, Relaxed);
        of_value.store(garbage, Relaxed);
        let is_told =
            |error: &WaitError| matches!(error, WaitError::Failed(Error::Corrupted { found, .. }) if *found == garbage);
        assert!(once.call_once(|| panic!("called")).is_err_and(|error| is_told(&error)));
        assert!(once.call_once_timeout(LONG, || panic!("called")).is_err_and(|error| is_told(&error)));
        assert!(once.wait().is_err_and(|error| is_told(&error)));
        assert!(!once.is_completed());
        assert!(value.get_or_init(|| panic!("called")).is_err_and(|error| is_told(&error)));
        assert!(value.wait_timeout(LONG).is_err_and(|error| is_told(&error)));
        assert!(matches!(value.set(1), Err(SetError::NotSet { value: 1, cause }) if is_told(&cause)));
        assert_eq!(value.get(), None);
    }
    for nobody in [1 << 28, u64::MAX, u64::MAX - 1, 1 << 63, 0x1234_5678_9abc_def1] {
        of_once.store(nobody, Relaxed);
        assert!(matches!(once.wait_timeout(Duration::from_millis(1)), Err(WaitError::TimedOut)));
        assert!(once.call_once(|| ()).is_ok() && once.is_completed(), "{nobody:#x}");
        of_value.store(nobody, Relaxed);
        assert_eq!(value.get(), None);
        assert_eq!(value.get_or_init_timeout(Duration::ZERO, || nobody).expect("made"), &nobody);
    }
}

#[test]
fn debug_shows_what_is_there() {
    let value = OnceLock::<u64>::new();
    assert_eq!(format!("{value:?}"), "OnceLock { value: None }");
    assert!(value.set(4711).is_ok());
    assert!(format!("{value:?}").contains("4711"));
    assert!(format!("{:?}", Once::new()).contains("false"));
}
