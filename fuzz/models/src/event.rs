//! Events of both kinds against a `bool` each.

use core::time::Duration;

use arbitrary::{Arbitrary, Unstructured};
use shmkit::{Deadline, Event, wait_any};

use crate::seen::{Kind, Seen};
use crate::stage::with_stage;

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Act {
    Set,
    Reset,
    IsSet,
    TryWait,
    WaitInTime,
    WaitAny,
    Generation,
}

pub(crate) fn run(data: &[u8], seen: &mut Seen) {
    let _ = play(&mut Unstructured::new(data), seen);
}

fn play(input: &mut Unstructured<'_>, seen: &mut Seen) -> arbitrary::Result<()> {
    with_stage(|stage| {
        let manual = stage.region().insert("manual", Event::new()).expect("room");
        let auto = stage.region().insert("auto", Event::auto_reset()).expect("room");
        let (mut manual_is_set, mut auto_is_set) = (false, false);
        let mut generations = [0; 2];
        for _ in 0..200 {
            if input.is_empty() {
                break;
            }
            let is_auto = bool::arbitrary(input)?;
            let (event, is_set) = if is_auto { (&auto, &mut auto_is_set) } else { (&manual, &mut manual_is_set) };
            let released = match Act::arbitrary(input)? {
                Act::Set => {
                    event.set();
                    generations[usize::from(is_auto)] += u64::from(!*is_set);
                    *is_set = true;
                    seen.note("set", is_auto.kind());
                    continue;
                }
                Act::Reset => {
                    event.reset();
                    *is_set = false;
                    seen.note("reset", is_auto.kind());
                    continue;
                }
                Act::IsSet => {
                    assert_eq!(event.is_set(), *is_set);
                    assert_eq!(event.is_auto_reset(), is_auto);
                    seen.note("is set", is_set.kind());
                    continue;
                }
                Act::Generation => {
                    assert_eq!(event.generation(), generations[usize::from(is_auto)]);
                    continue;
                }
                Act::WaitAny => {
                    // It tells, and takes nothing.
                    let first =
                        wait_any(&mut [&mut event.until_set()], Deadline::after(Duration::ZERO)).expect("one source");
                    assert_eq!(first, is_set.then_some(0));
                    seen.note("wait any", is_set.kind());
                    continue;
                }
                Act::TryWait => event.try_wait(),
                Act::WaitInTime => event.wait_timeout(Duration::ZERO).is_ok(),
            };
            assert_eq!(released, *is_set);
            seen.note(if is_auto { "wait, auto" } else { "wait, manual" }, released.kind());
            *is_set &= !is_auto;
        }
        Ok(())
    })
}
