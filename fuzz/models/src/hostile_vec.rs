//! Vectors that somebody scribbles over, for those who look; and for those who change something, where the locks are free: with garbage in a lock
//! they may wait for ever for whoever stands there.

use arbitrary::{Arbitrary, Unstructured};
use shmkit::Error;
use shmkit::process::{SharedVec, VecError};

use crate::seen::{Seen, kind};
use crate::stage::{Scribble, Stage, with_stage};

const CAPACITY: usize = 8;

/// Where the elements are and how long one is, and where in the head its lock is, in bytes. The owner of its lock is the first word of an element.
const ELEMENTS: usize = 256;
const ELEMENT: usize = 40;
const LOCK: usize = 128;

#[derive(Arbitrary, Debug)]
enum Act {
    Look(u8),
    Push(u32),
    Pop,
    Set(u8, u32),
    Update(u8, u32),
    Extend(u8),
}

pub(crate) fn run(data: &[u8], seen: &mut Seen) {
    let _ = play(&mut Unstructured::new(data), seen);
}

fn play(input: &mut Unstructured<'_>, seen: &mut Seen) -> arbitrary::Result<()> {
    with_stage(|stage| {
        let vec = SharedVec::<u32>::create_in(stage.region(), "vec", CAPACITY as u64).expect("room");
        let end = stage.end();
        let start = end - (ELEMENTS + CAPACITY * ELEMENT);
        assert_eq!(stage.word(start / 8), CAPACITY as u64, "where the vector begins");
        let behind = stage.region().insert_array::<u64>("behind", 1).expect("room");
        vec.extend(0..5).expect("room");
        for _ in 0..100 {
            if input.is_empty() {
                break;
            }
            stage.scribble(start, end, &Scribble::arbitrary(input)?);
            match Act::arbitrary(input)? {
                Act::Look(index) => look(stage, &vec, index.into(), seen),
                act => {
                    free_locks(stage, start);
                    change(&act, &vec, seen);
                }
            }
            assert_eq!(behind.get(0), Some(0), "what is behind");
        }
        Ok(())
    })
}

/// As they are in a new vector.
fn free_locks(stage: &Stage, start: usize) {
    stage.store((start + LOCK) / 8, 0);
    for index in 0..CAPACITY {
        stage.store((start + ELEMENTS + index * ELEMENT) / 8, 0);
    }
}

fn look(stage: &Stage, vec: &SharedVec<u32>, index: usize, seen: &mut Seen) {
    for index in (0..CAPACITY).chain([index]) {
        let got = vec.get(index);
        assert!(index < CAPACITY || matches!(got, Ok(None)));
        seen.note("get", kind(&got));
    }
    let len = vec.len();
    assert!(!matches!(len, Ok(len) if len > CAPACITY));
    seen.note("len", kind(&len));
    // The last may be an error.
    assert!(vec.iter().count() <= CAPACITY + 1);
    let opened = SharedVec::<u32>::open_in(stage.region(), "vec");
    seen.note("open", kind(&opened));
    assert!(!matches!(opened, Ok(opened) if opened.capacity() != CAPACITY));
}

fn change(act: &Act, vec: &SharedVec<u32>, seen: &mut Seen) {
    let (name, result) = match *act {
        Act::Look(_) => return,
        Act::Push(value) => ("push", vec.push(value).map(drop)),
        Act::Pop => ("pop", vec.pop().map(drop)),
        Act::Set(index, value) => ("set", vec.set((index % 10).into(), value)),
        Act::Update(index, value) => ("update", vec.update((index % 10).into(), |now| *now ^= value)),
        Act::Extend(count) => ("extend", vec.extend(0..u32::from(count % 10)).map(drop)),
    };
    seen.note(name, kind(&result));
    match result {
        Ok(()) | Err(VecError::Full { .. } | VecError::OutOfRange { .. }) => {}
        Err(VecError::Failed(Error::Corrupted { .. })) => {}
        Err(error) => panic!("{error:?}"),
    }
}
