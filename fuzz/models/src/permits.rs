//! Permits and the seats of a barrier against lists of who has them.

use core::time::Duration;

use arbitrary::{Arbitrary, Unstructured};
use shmkit::{Barrier, BarrierError, Party, Permit, Permits, WaitError};

use crate::seen::{Kind, Seen, kind};
use crate::stage::with_stage;

#[derive(Arbitrary, Debug)]
enum Act {
    Take,
    TakeInTime,
    GiveBack(u8),
    Join,
    Leave(u8),
    Arrive(u8),
    Abort,
    Reset,
}

pub(crate) fn run(data: &[u8], seen: &mut Seen) {
    let _ = play(&mut Unstructured::new(data), seen);
}

fn play(input: &mut Unstructured<'_>, seen: &mut Seen) -> arbitrary::Result<()> {
    let count = u32::from(u8::arbitrary(input)?) % 68;
    let (permits, barrier) = (Permits::new(count), Barrier::new(count));
    let is_possible = (1..=64).contains(&count);
    assert_eq!((permits.is_ok(), barrier.is_ok()), (is_possible, is_possible));
    seen.note("new", is_possible.kind());
    let (Ok(permits), Ok(barrier)) = (permits, barrier) else {
        return Ok(());
    };
    with_stage(|stage| {
        let permits = stage.region().insert("permits", permits).expect("room");
        let barrier = stage.region().insert("barrier", barrier).expect("room");
        let (mut held, mut parties) = (Vec::new(), Vec::new());
        let mut is_broken = false;
        for _ in 0..200 {
            if input.is_empty() {
                break;
            }
            let act = Act::arbitrary(input)?;
            match act {
                Act::Take => take(permits.try_acquire(), &mut held, count, seen),
                Act::TakeInTime => take(permits.acquire_timeout(Duration::ZERO), &mut held, count, seen),
                Act::GiveBack(which) => drop(pick(&mut held, which)),
                Act::Join => join(barrier.join(), &mut parties, count, is_broken, seen),
                Act::Leave(which) => drop(pick(&mut parties, which)),
                Act::Arrive(which) => {
                    if let Some(mut party) = pick(&mut parties, which) {
                        // There is one thread, so one party alone completes a round.
                        let waited = party.wait_timeout(Duration::ZERO);
                        assert_eq!(waited.is_ok(), count == 1 && !is_broken, "{waited:?}");
                        assert!(!matches!(waited, Ok(round) if !round.is_leader()));
                        is_broken |= waited.is_err();
                        parties.push(party);
                        seen.note("arrive", barrier_kind(&waited));
                    }
                }
                Act::Abort => {
                    barrier.abort();
                    is_broken = true;
                    seen.note("abort", "done");
                }
                Act::Reset => {
                    barrier.reset().expect("nobody scribbles");
                    is_broken = false;
                    seen.note("reset", "done");
                }
            }
            assert_eq!(permits.available() as usize, count as usize - held.len());
            assert_eq!(barrier.is_broken(), is_broken);
        }
        Ok(())
    })
}

fn take<'a>(taken: Result<Permit<'a>, WaitError>, held: &mut Vec<Permit<'a>>, count: u32, seen: &mut Seen) {
    assert_eq!(taken.is_ok(), held.len() < count as usize, "{taken:?}");
    seen.note("take", kind(&taken));
    if let Ok(permit) = taken {
        assert!(permit.index() < count && !permit.after_death());
        assert!(held.iter().all(|other| other.index() != permit.index()), "two holders");
        held.push(permit);
    }
}

fn join<'a>(
    joined: Result<Party<'a>, BarrierError>,
    parties: &mut Vec<Party<'a>>,
    count: u32,
    is_broken: bool,
    seen: &mut Seen,
) {
    // Also while it is broken: whoever waits is told.
    let fits = parties.len() < count as usize;
    seen.note("join", if is_broken { "while broken" } else { fits.kind() });
    assert!(joined.is_ok() == fits, "{joined:?} of {count}");
    parties.extend(joined);
}

fn pick<T>(list: &mut Vec<T>, which: u8) -> Option<T> {
    if list.is_empty() { None } else { Some(list.swap_remove(usize::from(which) % list.len())) }
}

fn barrier_kind<T>(result: &Result<T, BarrierError>) -> &'static str {
    match result {
        Ok(_) => "done",
        Err(BarrierError::Broken) => "broken",
        Err(BarrierError::TimedOut) => "timed out",
        Err(_) => "another error",
    }
}
