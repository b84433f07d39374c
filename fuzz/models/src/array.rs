//! Arrays against a `Vec`, with something before and behind that must stay as it is.

use core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use arbitrary::{Arbitrary, Unstructured};
use shmkit::{Integer, SharedArray};

use crate::seen::{Kind, Seen};
use crate::stage::with_stage;
use crate::values::Value;

#[derive(Arbitrary, Debug)]
enum Act {
    Get(u16),
    Set(u16, u8),
    Fill(u8),
    CopyIn(u8, u8, u8),
    CopyOut(u8, u8),
    Slice(u16, u16, u8),
    Iterate,
    Atomic(u8, u16, u8),
}

/// What is done with elements that are numbers.
type Atomic<T> = fn(&SharedArray<T>, &mut [T], u8, usize, T, &mut Seen);

pub(crate) fn run(data: &[u8], seen: &mut Seen) {
    let mut input = Unstructured::new(data);
    // An input that ends too early is a short one.
    let _ = match u8::arbitrary(&mut input).unwrap_or(0) % 8 {
        0 => play::<u8>(&mut input, Some(atomic), seen),
        1 => play::<u16>(&mut input, Some(atomic), seen),
        2 => play::<u32>(&mut input, Some(atomic), seen),
        3 => play::<u64>(&mut input, Some(atomic), seen),
        4 => play::<i32>(&mut input, Some(atomic), seen),
        5 => play::<[u8; 3]>(&mut input, None, seen),
        6 => play::<[u64; 5]>(&mut input, None, seen),
        _ => play::<[u16; 7]>(&mut input, None, seen),
    };
}

fn play<T: Value>(input: &mut Unstructured<'_>, atomic: Option<Atomic<T>>, seen: &mut Seen) -> arbitrary::Result<()> {
    let len = usize::from(u8::arbitrary(input)?) % 100;
    with_stage(|stage| {
        let region = stage.region();
        let before = region.insert_array::<u64>("before", 1).expect("room");
        let array = region.insert_array::<T>("array", len).expect("room");
        let behind = region.insert_array::<u64>("behind", 1).expect("room");
        let mut model = vec![T::zeroed(); len];
        for _ in 0..100 {
            if input.is_empty() {
                break;
            }
            act(&Act::arbitrary(input)?, &array, &mut model, atomic, seen);
        }
        assert_eq!(array.to_vec(), model);
        let again = region.get_array::<T>("array", len).expect("it is there");
        assert!(again.iter().rev().eq(model.iter().rev().copied()));
        assert_eq!((before.get(0), behind.get(0)), (Some(0), Some(0)), "neighbours");
        Ok(())
    })
}

fn act<T: Value>(act: &Act, array: &SharedArray<T>, model: &mut [T], atomic: Option<Atomic<T>>, seen: &mut Seen) {
    match *act {
        Act::Get(index) => {
            let got = array.get(index.into());
            assert_eq!(got, model.get(usize::from(index)).copied());
            seen.note("get", got.is_some().kind());
        }
        Act::Set(index, value) => {
            let set = array.set(index.into(), T::of(value));
            if let Some(place) = model.get_mut(usize::from(index)) {
                *place = T::of(value);
            }
            assert_eq!(set.is_ok(), usize::from(index) < model.len());
            seen.note("set", set.is_ok().kind());
        }
        Act::Fill(value) => {
            array.fill(T::of(value));
            model.fill(T::of(value));
            seen.note("fill", "done");
        }
        Act::CopyIn(start, len, value) => {
            let (start, len) = (usize::from(start), usize::from(len));
            let values: Vec<T> = (0..len).map(|at| T::of(value.wrapping_add(at as u8))).collect();
            let Some(part) = array.slice(start..) else {
                assert!(start > model.len());
                return seen.note("copy in", "no slice");
            };
            let copied = part.copy_from_slice(&values);
            assert_eq!(copied.is_ok(), start + len == model.len());
            if copied.is_ok() {
                model[start..].copy_from_slice(&values);
            }
            seen.note("copy in", copied.is_ok().kind());
        }
        Act::CopyOut(start, end) => {
            let (start, end) = (usize::from(start), usize::from(end));
            let part = array.slice(start..end);
            let expected = model.get(start..end);
            assert_eq!(part.is_some(), expected.is_some());
            seen.note("copy out", part.is_some().kind());
            if let (Some(part), Some(expected)) = (part, expected) {
                let mut values = vec![T::zeroed(); expected.len()];
                part.copy_to_slice(&mut values).expect("the same length");
                assert_eq!(values, expected);
                assert!(part.copy_to_slice(&mut vec![T::zeroed(); expected.len() + 1]).is_err());
            }
        }
        Act::Slice(start, end, value) => {
            let (start, end) = (usize::from(start), usize::from(end));
            let part = array.slice(start..=end);
            assert_eq!(part.is_some(), model.get(start..=end).is_some());
            seen.note("slice", part.is_some().kind());
            if let Some(part) = part {
                part.fill(T::of(value));
                model[start..=end].fill(T::of(value));
                assert_eq!(part.len(), model[start..=end].len());
            }
        }
        Act::Iterate => {
            assert!(array.iter().eq(model.iter().copied()));
            assert_eq!(array.iter().len(), model.len());
            seen.note("iterate", "done");
        }
        Act::Atomic(what, index, value) => match atomic {
            Some(atomic) => atomic(array, model, what, index.into(), T::of(value), seen),
            None => seen.note("atomic", "not a number"),
        },
    }
}

fn atomic<T: Number>(array: &SharedArray<T>, model: &mut [T], what: u8, index: usize, value: T, seen: &mut Seen) {
    let old = model.get(index).copied();
    let (got, new, name) = match what % 11 {
        0 => (array.load(index, Acquire), old, "load"),
        1 => (array.store(index, value, Release).map(|()| old.unwrap_or(value)), Some(value), "store"),
        2 => (array.swap(index, value, AcqRel), Some(value), "swap"),
        3 => (array.fetch_add(index, value, Relaxed), old.map(|old| old.plus(value)), "add"),
        4 => (array.fetch_sub(index, value, Relaxed), old.map(|old| old.minus(value)), "sub"),
        5 => (array.fetch_and(index, value, Relaxed), old.map(|old| old.both(value)), "and"),
        6 => (array.fetch_or(index, value, Relaxed), old.map(|old| old.either(value)), "or"),
        7 => (array.fetch_xor(index, value, Relaxed), old.map(|old| old.one(value)), "xor"),
        8 => (array.fetch_max(index, value, Relaxed), old.map(|old| old.max(value)), "max"),
        9 => (array.fetch_min(index, value, Relaxed), old.map(|old| old.min(value)), "min"),
        _ => {
            // Half of the time it is what is there.
            let current = if value.is_odd() { value } else { old.unwrap_or(value) };
            let exchanged = array.compare_exchange(index, current, value, AcqRel, Acquire);
            let new = if old == Some(current) { Some(value) } else { old };
            if let (Ok(exchanged), Some(old)) = (exchanged, old) {
                assert_eq!(exchanged.is_ok(), old == current);
                seen.note("exchange", exchanged.is_ok().kind());
            }
            (exchanged.map(|exchanged| exchanged.unwrap_or_else(|other| other)), new, "exchange")
        }
    };
    assert_eq!(got.ok(), old, "{name}");
    seen.note(name, old.is_some().kind());
    if let (Some(place), Some(new)) = (model.get_mut(index), new) {
        *place = new;
    }
}

/// Integers, as the model calculates with them.
trait Number: Value + Integer + Ord {
    fn plus(self, other: Self) -> Self;
    fn minus(self, other: Self) -> Self;
    fn both(self, other: Self) -> Self;
    fn either(self, other: Self) -> Self;
    fn one(self, other: Self) -> Self;
    fn is_odd(self) -> bool;
}

macro_rules! number {
    ($($ty:ty)*) => {$(
        impl Number for $ty {
            fn plus(self, other: Self) -> Self {
                self.wrapping_add(other)
            }

            fn minus(self, other: Self) -> Self {
                self.wrapping_sub(other)
            }

            fn both(self, other: Self) -> Self {
                self & other
            }

            fn either(self, other: Self) -> Self {
                self | other
            }

            fn one(self, other: Self) -> Self {
                self ^ other
            }

            fn is_odd(self) -> bool {
                self % 2 != 0
            }
        }
    )*};
}

number!(u8 u16 u32 u64 i32);
