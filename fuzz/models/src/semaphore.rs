//! Semaphores against a number.

use core::time::Duration;

use arbitrary::{Arbitrary, Unstructured};
use shmkit::{Deadline, Semaphore, SemaphoreError, wait_any};

use crate::seen::{Kind, Seen};
use crate::stage::with_stage;

#[derive(Arbitrary, Debug)]
enum Act {
    Take,
    TakeSome(Count),
    TakeInTime(Count),
    WaitAny(Count),
    Release,
    ReleaseSome(Count),
}

/// Numbers that are small, or close to the limits.
#[derive(Arbitrary, Debug)]
enum Count {
    Few(u8),
    Limit(i8),
    Any(u32),
}

impl Count {
    fn value(&self) -> u32 {
        match *self {
            Self::Few(value) => u32::from(value % 8),
            Self::Limit(difference) => Semaphore::MAX.wrapping_add_signed(difference.into()),
            Self::Any(value) => value,
        }
    }
}

pub(crate) fn run(data: &[u8], seen: &mut Seen) {
    let _ = play(&mut Unstructured::new(data), seen);
}

fn play(input: &mut Unstructured<'_>, seen: &mut Seen) -> arbitrary::Result<()> {
    let (value, bound) = (Count::arbitrary(input)?.value(), Count::arbitrary(input)?.value());
    let semaphore = match Semaphore::bounded(value, bound) {
        Ok(semaphore) => semaphore,
        Err(SemaphoreError::InvalidBound { asked, .. }) => {
            assert!(asked == bound && (bound == 0 || bound > Semaphore::MAX));
            seen.note("new", "invalid bound");
            return Ok(());
        }
        Err(error) => {
            assert!(matches!(error, SemaphoreError::AboveBound { .. }) && value > bound);
            seen.note("new", "above bound");
            return Ok(());
        }
    };
    assert!((1..=Semaphore::MAX).contains(&bound) && value <= bound);
    with_stage(|stage| {
        let semaphore = stage.region().insert("semaphore", semaphore).expect("room");
        let mut model = value;
        for _ in 0..200 {
            if input.is_empty() {
                break;
            }
            match Act::arbitrary(input)? {
                Act::Take => take(semaphore.try_acquire(), &mut model, 1, "take", seen),
                Act::TakeSome(n) => {
                    take(semaphore.try_acquire_many(n.value()), &mut model, n.value(), "take some", seen)
                }
                Act::TakeInTime(n) => {
                    let taken = semaphore.acquire_many_timeout(n.value(), Duration::ZERO);
                    take(taken.is_ok(), &mut model, n.value(), "take in time", seen);
                }
                Act::WaitAny(n) => {
                    // It tells, and takes nothing.
                    let n = n.value();
                    let first = wait_any(&mut [&mut semaphore.until_available(n)], Deadline::after(Duration::ZERO));
                    assert_eq!(first.expect("one source"), (n <= model).then_some(0));
                    seen.note("wait any", (n <= model).kind());
                }
                Act::Release => release(semaphore.release(), &mut model, 1, bound, seen),
                Act::ReleaseSome(n) => release(semaphore.release_many(n.value()), &mut model, n.value(), bound, seen),
            }
            assert_eq!(semaphore.available(), model);
        }
        Ok(())
    })
}

fn take(taken: bool, model: &mut u32, n: u32, operation: &'static str, seen: &mut Seen) {
    assert_eq!(taken, n <= *model, "{operation} {n} of {model}");
    *model -= if taken { n } else { 0 };
    seen.note(operation, taken.kind());
}

fn release(released: Result<(), SemaphoreError>, model: &mut u32, n: u32, bound: u32, seen: &mut Seen) {
    let fits = u64::from(*model) + u64::from(n) <= u64::from(bound);
    assert_eq!(released.is_ok(), fits, "{n} more than {model} of {bound}");
    *model += if fits { n } else { 0 };
    seen.note("release", fits.kind());
}
