//! Snapshots against plain values.

use arbitrary::{Arbitrary, Unstructured};
use shmkit::Snapshot;

use crate::seen::{Kind, Seen};
use crate::stage::with_stage;
use crate::values::Value;

#[derive(Arbitrary, Debug)]
enum Act {
    Read,
    TryRead,
    Write(u8),
    Update(u8),
}

pub(crate) fn run(data: &[u8], seen: &mut Seen) {
    let mut input = Unstructured::new(data);
    let _ = match u8::arbitrary(&mut input).unwrap_or(0) % 6 {
        0 => play::<u8>(&mut input, seen),
        1 => play::<u64>(&mut input, seen),
        2 => play::<[u8; 3]>(&mut input, seen),
        3 => play::<[u8; 0]>(&mut input, seen),
        4 => play::<[u32; 4]>(&mut input, seen),
        _ => play::<[u64; 40]>(&mut input, seen),
    };
}

fn play<T: Value>(input: &mut Unstructured<'_>, seen: &mut Seen) -> arbitrary::Result<()> {
    with_stage(|stage| {
        let before = stage.region().insert("before", Snapshot::new(7u64)).expect("room");
        let snapshot = stage.region().insert("snapshot", Snapshot::new(T::of(0))).expect("room");
        let behind = stage.region().insert("behind", Snapshot::new(7u64)).expect("room");
        let (mut model, mut writes) = (T::of(0), 0);
        for _ in 0..100 {
            if input.is_empty() {
                break;
            }
            match Act::arbitrary(input)? {
                Act::Read => assert_eq!(snapshot.read(), model),
                Act::TryRead => {
                    let read = snapshot.try_read();
                    assert_eq!(read, Some(model));
                    seen.note("try read", read.is_some().kind());
                }
                Act::Write(value) => {
                    model = T::of(value);
                    snapshot.write(model).expect("no error");
                    writes += 1;
                    seen.note("write", if size_of::<T>() % 8 == 0 { "whole words" } else { "a part of a word" });
                }
                Act::Update(value) => {
                    let old = snapshot.update(|now| core::mem::replace(now, T::of(value))).expect("no error");
                    assert_eq!(old, model);
                    model = T::of(value);
                    writes += 1;
                    seen.note("update", "done");
                }
            }
            assert_eq!(snapshot.version(), writes);
        }
        assert_eq!((before.read(), snapshot.read(), behind.read()), (7, model, 7));
        Ok(())
    })
}
