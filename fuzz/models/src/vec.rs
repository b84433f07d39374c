//! Shared vectors against a `Vec`, with something before and behind that must stay as it is.

use arbitrary::{Arbitrary, Unstructured};
use shmkit::process::{SharedVec, VecError};

use crate::seen::{Kind, Seen};
use crate::stage::with_stage;
use crate::values::Value;

#[derive(Arbitrary, Debug)]
enum Act {
    Push(u8),
    Pop,
    Get(u8),
    Set(u8, u8),
    Update(u8, u8),
    Extend(u8, u8),
    ExtendByEndless(u8),
    Iterate,
    Empty,
}

pub(crate) fn run(data: &[u8], seen: &mut Seen) {
    let mut input = Unstructured::new(data);
    let _ = match u8::arbitrary(&mut input).unwrap_or(0) % 5 {
        0 => play::<u8>(&mut input, seen),
        1 => play::<u32>(&mut input, seen),
        2 => play::<u64>(&mut input, seen),
        3 => play::<[u8; 3]>(&mut input, seen),
        _ => play::<[u16; 7]>(&mut input, seen),
    };
}

fn play<T: Value>(input: &mut Unstructured<'_>, seen: &mut Seen) -> arbitrary::Result<()> {
    let capacity = u8::arbitrary(input)? % 24 + 1;
    with_stage(|stage| {
        let region = stage.region();
        let before = region.insert_array::<u64>("before", 1).expect("room");
        let vec = SharedVec::<T>::create_in(region, "vec", capacity.into()).expect("room");
        let behind = region.insert_array::<u64>("behind", 1).expect("room");
        let mut model = Vec::new();
        for _ in 0..150 {
            if input.is_empty() {
                break;
            }
            act(&Act::arbitrary(input)?, &vec, &mut model, seen);
            assert_eq!(vec.len().expect("whole"), model.len());
        }
        let again = SharedVec::<T>::open_in(region, "vec").expect("it is there");
        assert_eq!(again.capacity(), usize::from(capacity));
        assert_eq!(again.iter().collect::<Result<Vec<_>, _>>().expect("whole"), model);
        assert_eq!((before.get(0), behind.get(0)), (Some(0), Some(0)), "neighbours");
        Ok(())
    })
}

fn act<T: Value>(act: &Act, vec: &SharedVec<T>, model: &mut Vec<T>, seen: &mut Seen) {
    let refused = |added: usize, index: usize, error: VecError, seen: &mut Seen| {
        seen.note("refused", error.kind());
        match error {
            VecError::Full { capacity, .. } => {
                assert!(capacity == vec.capacity() && model.len() + added > capacity);
            }
            VecError::OutOfRange { index: named, .. } => assert!(named == index && index >= model.len()),
            error => panic!("{error:?}"),
        }
    };
    match *act {
        Act::Push(value) => match vec.push(T::of(value)) {
            Ok(index) => {
                assert_eq!(index, model.len());
                seen.note("push", "done");
                model.push(T::of(value));
            }
            Err(error) => refused(1, usize::MAX, error, seen),
        },
        Act::Pop => {
            let popped = vec.pop().expect("whole");
            assert_eq!(popped, model.pop());
            seen.note("pop", popped.is_some().kind());
        }
        Act::Get(index) => {
            let got = vec.get(place(index)).expect("whole");
            assert_eq!(got, model.get(place(index)).copied());
            seen.note("get", got.is_some().kind());
        }
        Act::Set(index, value) => match vec.set(place(index), T::of(value)) {
            Ok(()) => {
                model[place(index)] = T::of(value);
                seen.note("set", "done");
            }
            Err(error) => refused(0, place(index), error, seen),
        },
        Act::Update(index, value) => {
            let old = model.get(place(index)).copied();
            let update = |now: &mut T| {
                // Who looks meanwhile sees what was there.
                let was = core::mem::replace(now, T::of(value));
                assert_eq!(vec.get(place(index)).expect("whole"), Some(was));
                was
            };
            match vec.update(place(index), update) {
                Ok(was) => {
                    assert_eq!(Some(was), old);
                    model[place(index)] = T::of(value);
                    seen.note("update", "done");
                }
                Err(error) => refused(0, place(index), error, seen),
            }
        }
        Act::Extend(count, value) => {
            let values: Vec<T> = (0..count % 12).map(|at| T::of(value.wrapping_add(at))).collect();
            let extended = if value % 2 == 0 { vec.extend_from_slice(&values) } else { vec.extend(values.clone()) };
            match extended {
                Ok(index) => {
                    assert_eq!(index, model.len());
                    seen.note("extend", values.is_empty().kind());
                    model.extend(values);
                }
                Err(error) => refused(values.len(), usize::MAX, error, seen),
            }
        }
        Act::ExtendByEndless(value) => {
            let error = vec.extend(core::iter::repeat(T::of(value))).expect_err("no room");
            refused(usize::MAX / 2, usize::MAX, error, seen);
            seen.note("extend by endless", "refused");
        }
        Act::Iterate => {
            let elements: Vec<T> = vec.iter().collect::<Result<_, _>>().expect("whole");
            assert_eq!(elements, *model);
            seen.note("iterate", model.is_empty().kind());
        }
        Act::Empty => assert_eq!(vec.is_empty().expect("whole"), model.is_empty()),
    }
}

/// Mostly one that may be there.
fn place(index: u8) -> usize {
    if index < 240 { usize::from(index % 28) } else { usize::MAX - usize::from(index - 240) }
}
