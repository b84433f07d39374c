//! Arrays and their elements, within one process.

#![cfg(not(ipc_loom))]

use core::fmt;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::thread;

use bytemuck::{Pod, Zeroable};
use shmkit_core::{Array, Cells, Described, Error, Fingerprint, Region, SharedArray, ShmSafe};

/// Three words: larger than any atomic.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
struct Point {
    x: f64,
    y: f64,
    z: f64,
}

// SAFETY: `repr(C)`; the fingerprint covers name, size and fields.
unsafe impl Described for Point {
    const FINGERPRINT: Fingerprint = Fingerprint::new("Point", 1, size_of::<Self>(), align_of::<Self>())
        .field("x", 0, f64::FINGERPRINT)
        .field("y", 8, f64::FINGERPRINT)
        .field("z", 16, f64::FINGERPRINT);

    fn type_name(f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Point")
    }
}

fn point(number: usize) -> Point {
    let number = number as f64;
    Point { x: number, y: number + 0.25, z: number + 0.5 }
}

fn array<T: Pod + Described + Send>(len: usize) -> SharedArray<T> {
    let room = len * size_of::<T>() + 4096;
    Region::anonymous(room).expect("a region").insert_array("array", len).expect("room")
}

/// Does with an array all that is possible with any element; `value` makes the value for an index, never a zero.
#[track_caller]
fn check_elements<T: Pod + Described + Send + PartialEq + fmt::Debug>(value: impl Fn(usize) -> T) {
    const LEN: usize = 3000;
    let array = array::<T>(LEN);
    let values: Vec<T> = (0..LEN).map(|index| value(index % 100 + 1)).collect();

    assert_eq!(array.len(), LEN);
    assert!(array.iter().all(|value| value == T::zeroed()));
    for (index, value) in values.iter().enumerate() {
        array.set(index, *value).expect("in range");
    }
    assert_eq!(array.to_vec(), values);
    assert_eq!(array.iter().collect::<Vec<_>>(), values);
    assert!(array.iter().rev().eq(values.iter().rev().copied()));
    assert_eq!((0..LEN).map(|index| array.get(index).expect("in range")).collect::<Vec<_>>(), values);

    array.fill(value(7));
    assert_eq!(array.to_vec(), vec![value(7); LEN]);

    array.copy_from_slice(&values).expect("the same length");
    let mut read = vec![T::zeroed(); LEN];
    array.copy_to_slice(&mut read).expect("the same length");
    assert_eq!(read, values);

    for (start, end) in [(1, 2), (3, 20), (1, 2999), (5, 1500)] {
        let before = array.to_vec();
        let part = array.slice(start..end).expect("in range");
        assert_eq!(part.to_vec(), before[start..end]);
        part.fill(value(9));
        assert!(part.iter().all(|element| element == value(9)));
        assert_eq!(array.slice(..start).expect("in range").to_vec(), before[..start]);
        assert_eq!(array.slice(end..).expect("in range").to_vec(), before[end..]);
        part.copy_from_slice(&values[start..end]).expect("the same length");
        assert_eq!(array.to_vec(), values);
    }
}

#[test]
fn elements_of_any_type_are_written_and_read_one_by_one_and_in_bulk() {
    check_elements(|number| number as u8);
    check_elements(|number| number as u16 * 0x101);
    check_elements(|number| number as u32 * 0x0101_0101);
    check_elements(|number| number as u64 * 0x0101_0101_0101_0101);
    check_elements(|number| -(number as i8));
    check_elements(|number| -(number as i16));
    check_elements(|number| -(number as i32));
    check_elements(|number| -(number as i64));
    check_elements(|number| number as f32 / 3.0);
    check_elements(|number| number as f64 / 3.0);
    check_elements(|number| [number as u8; 3]);
    check_elements(|number| [number as u16; 2]);
    check_elements(|number| [number as u32; 2]);
    check_elements(|number| [number as u64; 600]);
    check_elements(point);
}

#[test]
fn an_index_out_of_range_is_told_with_the_length_and_changes_nothing() {
    let array = array::<u64>(3);

    assert_eq!(array.get(3), None);
    assert_eq!(array.get(usize::MAX), None);
    let refused = array.set(3, 1).expect_err("out of range");
    assert_eq!((refused.index, refused.len), (3, 3));
    assert_eq!(refused.to_string(), "there is no element 3: the length is 3");
    let others = [
        array.load(3, Relaxed).err(),
        array.store(3, 1, Relaxed).err(),
        array.swap(3, 1, Relaxed).err(),
        array.compare_exchange(3, 0, 1, Relaxed, Relaxed).err(),
        array.fetch_add(3, 1, Relaxed).err(),
        array.fetch_sub(3, 1, Relaxed).err(),
        array.fetch_and(3, 1, Relaxed).err(),
        array.fetch_or(3, 1, Relaxed).err(),
        array.fetch_xor(3, 1, Relaxed).err(),
        array.fetch_max(3, 1, Relaxed).err(),
        array.fetch_min(3, 1, Relaxed).err(),
    ];
    assert_eq!(others, [Some(refused); 11]);
    assert_eq!(array.to_vec(), [0; 3]);
}

#[test]
fn a_slice_of_another_length_is_refused_with_both_lengths_and_nothing_is_copied() {
    let array = array::<u16>(5);
    array.fill(1);

    for len in [0, 4, 6] {
        let refused = array.copy_from_slice(&vec![2; len]).expect_err("another length");
        assert_eq!((refused.cells, refused.slice), (5, len));
        let mut slice = vec![3; len];
        assert_eq!(array.copy_to_slice(&mut slice), Err(refused));
        assert_eq!(slice, vec![3; len]);
        assert!(refused.to_string().contains(&format!("{len} elements")));
    }
    assert_eq!(array.to_vec(), [1; 5]);
}

#[test]
#[expect(clippy::reversed_empty_ranges, reason = "they are what is refused")]
fn ranges_are_those_of_slices_and_impossible_ones_are_none() {
    let array = array::<u8>(4);
    array.copy_from_slice(&[0, 1, 2, 3]).expect("the same length");
    let part = |cells: Option<&Cells<u8>>| cells.map(Cells::to_vec);

    assert_eq!(part(array.slice(..)), Some(vec![0, 1, 2, 3]));
    assert_eq!(part(array.slice(1..3)), Some(vec![1, 2]));
    assert_eq!(part(array.slice(2..=3)), Some(vec![2, 3]));
    assert_eq!(part(array.slice(4..)), Some(vec![]));
    assert_eq!(part(array.slice(1..).expect("in range").slice(1..2)), Some(vec![2]));
    assert!(array.slice(..5).is_none());
    assert!(array.slice(5..).is_none());
    assert!(array.slice(3..2).is_none());
    assert!(array.slice(..=usize::MAX).is_none());
}

macro_rules! check_integer {
    ($ty:ty) => {{
        let array = array::<$ty>(3);
        assert_eq!(array.fetch_add(1, 7, Relaxed), Ok(0));
        assert_eq!(array.fetch_sub(1, 2, AcqRel), Ok(7));
        assert_eq!(array.fetch_and(1, 4, Relaxed), Ok(5));
        assert_eq!(array.fetch_or(1, 3, Relaxed), Ok(4));
        assert_eq!(array.fetch_xor(1, 1, Relaxed), Ok(7));
        assert_eq!(array.fetch_max(1, 9, Relaxed), Ok(6));
        assert_eq!(array.fetch_min(1, 8, Relaxed), Ok(9));
        assert_eq!(array.swap(1, 5, AcqRel), Ok(8));
        assert_eq!(array.compare_exchange(1, 4, 1, AcqRel, Acquire), Ok(Err(5)));
        assert_eq!(array.compare_exchange(1, 5, 1, AcqRel, Acquire), Ok(Ok(5)));
        assert_eq!(array.store(1, <$ty>::MAX, Release), Ok(()));
        assert_eq!(array.fetch_add(1, 1, Relaxed), Ok(<$ty>::MAX));
        assert_eq!(array.load(1, Acquire), Ok(<$ty>::MIN));
        assert_eq!(array.to_vec(), [0, <$ty>::MIN, 0]);
    }};
}

#[test]
fn atomic_operations_on_integers_are_those_of_std() {
    check_integer!(u8);
    check_integer!(u16);
    check_integer!(u32);
    check_integer!(u64);
    check_integer!(i8);
    check_integer!(i16);
    check_integer!(i32);
    check_integer!(i64);
}

#[test]
fn atomic_operations_on_floats_compare_bits() {
    let array = array::<f32>(2);

    assert_eq!(array.compare_exchange(0, -0.0, 1.0, AcqRel, Acquire), Ok(Err(0.0)));
    assert_eq!(array.compare_exchange(0, 0.0, f32::NAN, AcqRel, Acquire), Ok(Ok(0.0)));
    assert!(array.compare_exchange(0, f32::NAN, 2.5, AcqRel, Acquire).is_ok_and(|done| done.is_ok()));
    assert_eq!(array.swap(0, 3.5, Relaxed), Ok(2.5));
    assert_eq!(array.store(1, 4.5, Release), Ok(()));
    assert_eq!((array.load(0, Acquire), array.load(1, Acquire)), (Ok(3.5), Ok(4.5)));
}

#[test]
fn additions_of_many_threads_are_all_counted() {
    let array = array::<u32>(4);

    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..10_000).for_each(|i| assert!(array.fetch_add(i % 4, 1, Relaxed).is_ok())));
        }
    });

    assert_eq!(array.to_vec(), [10_000; 4]);
}

#[test]
fn type_and_length_are_checked_and_the_error_names_both() {
    let region = Region::anonymous(4096).expect("a region");
    region.insert_array::<u32>("array", 10).expect("room");
    region.insert("one", AtomicU64::new(1)).expect("room");

    let wrong_type = region.get_array::<f32>("array", 10).expect_err("another type");
    let wrong_length = region.get_array::<u32>("array", 9).expect_err("another length");

    assert!(matches!(wrong_type, Error::WrongType { .. }));
    assert_eq!(wrong_type.to_string(), r#"the region holds the object "array" of type [u32; 10], asked for [f32; 10]"#);
    assert!(matches!(wrong_length, Error::WrongLength { found: 10, asked: 9, .. }));
    assert_eq!(wrong_length.to_string(), r#"the region holds the array "array" of length 10, asked for length 9"#);
    assert!(matches!(region.get_array::<u64>("one", 1), Err(Error::WrongType { .. })));
    assert!(matches!(region.get::<AtomicU64>("array"), Err(Error::WrongType { .. })));
    assert!(matches!(region.get_array::<u32>("none", 1), Err(Error::NoSuchObject { .. })));
    assert!(matches!(region.insert_array::<u32>("array", 10), Err(Error::ObjectExists { .. })));
    assert!(region.get_array::<u32>("array", 10).is_ok());
}

#[test]
fn an_array_of_one_is_no_single_object_and_the_other_way_round() {
    let region = Region::anonymous(4096).expect("a region");
    region.insert_array::<u64>("array", 1).expect("room");
    region.insert("one", Array::new([0u64])).expect("room");

    assert!(matches!(region.get::<Array<u64, 1>>("array"), Err(Error::WrongType { .. })));
    assert!(matches!(region.get_array::<u64>("one", 1), Err(Error::WrongType { .. })));
}

#[test]
fn an_empty_array_is_an_array() {
    let region = Region::anonymous(4096).expect("a region");

    let empty = region.insert_array::<u64>("empty", 0).expect("room");

    assert!(empty.is_empty());
    assert_eq!((empty.get(0), empty.to_vec(), empty.iter().next()), (None, vec![], None));
    empty.fill(1);
    assert_eq!(empty.copy_from_slice(&[]), Ok(()));
    assert_eq!(region.get_array::<u64>("empty", 0).expect("it").len(), 0);
    assert!(matches!(region.get_array::<u64>("empty", 1), Err(Error::WrongLength { found: 0, asked: 1, .. })));
}

#[test]
fn lengths_that_no_memory_holds_are_refused_and_leave_nothing() {
    let region = Region::anonymous(4096).expect("a region");

    for len in [usize::MAX, usize::MAX / 8, usize::MAX / 8 + 2, isize::MAX as usize / 8 + 1, 1 << 40, region.size() / 8]
    {
        assert!(matches!(region.insert_array::<u64>("array", len), Err(Error::NoSpace { .. })), "{len}");
        assert!(matches!(region.get_array::<u64>("array", len), Err(Error::NoSuchObject { .. })), "{len}");
    }
    assert_eq!(region.objects().expect("a sound directory"), []);
    region.insert_array::<u64>("array", 100).expect("room");
    for len in [usize::MAX, usize::MAX / 8 + 2] {
        assert!(matches!(region.get_array::<u64>("array", len), Err(Error::WrongLength { found: 100, .. })));
    }
}

#[test]
fn of_all_who_get_or_insert_an_array_one_makes_it() {
    let region = Region::anonymous(1 << 16).expect("a region");

    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let array = region.get_array_or_insert::<u64>("array", 9).expect("room");
                assert!(array.fetch_add(8, 1, Relaxed).is_ok());
            });
        }
    });

    assert_eq!(region.get_array::<u64>("array", 9).expect("it").get(8), Some(4));
    assert!(matches!(region.get_array_or_insert::<u64>("array", 8), Err(Error::WrongLength { .. })));
    assert!(matches!(region.get_array_or_insert::<u32>("array", 9), Err(Error::WrongType { .. })));
}

#[test]
fn an_array_keeps_its_region_mapped() {
    let array = array::<u64>(100);
    let clone = array.clone();
    drop(array);

    clone.fill(3);
    assert_eq!(clone.iter().sum::<u64>(), 300);
}

#[test]
fn an_array_of_fixed_length_is_an_object() {
    let region = Region::anonymous(4096).expect("a region");
    let array = region.insert("array", Array::from([1.5f64, 2.5])).expect("room");

    array.set(1, 3.5).expect("in range");

    assert_eq!(region.get::<Array<f64, 2>>("array").expect("it").to_vec(), [1.5, 3.5]);
    let wrong = region.get::<Array<f64, 3>>("array").expect_err("another length");
    assert!(wrong.to_string().ends_with("of type Array<f64, 2>, asked for Array<f64, 3>"), "{wrong}");
    assert_eq!(Array::<u32, 3>::default().to_vec(), [0; 3]);
    assert_eq!(format!("{array:?}"), "[1.5, 3.5]");
}

#[test]
fn arrays_may_be_shared_and_are_what_a_region_can_hold() {
    fn sent_and_shared<T: Send + Sync>() {}
    fn in_a_region<T: ShmSafe>() {}

    sent_and_shared::<SharedArray<u64>>();
    in_a_region::<Array<[f32; 3], 5>>();
}

#[test]
fn elements_less_aligned_than_large_are_copied_wherever_they_lie() {
    let mut pairs = [[0u32; 2]; 9];
    let cells = Cells::from_mut(&mut pairs);
    let mut bytes = [[0u8; 8]; 20];
    let odd = Cells::from_mut(&mut bytes);

    (0..9).for_each(|i| cells.set(i, [i as u32, !0]).expect("in range"));
    (0..20).for_each(|i| odd.set(i, [i as u8; 8]).expect("in range"));

    assert!(cells.iter().enumerate().all(|(i, pair)| pair == [i as u32, !0]));
    assert!(odd.iter().enumerate().all(|(i, bytes)| bytes == [i as u8; 8]));
}

#[test]
#[should_panic(expected = "acquire")]
fn an_impossible_ordering_panics_as_in_std() {
    let _ = array::<u8>(1).store(0, 1, Acquire);
}

#[test]
fn elements_without_bytes_are_filled_at_once() {
    let region = Region::anonymous(1 << 16).expect("a region");
    let empty = region.insert_array::<[u32; 0]>("empty", usize::MAX).expect("no room is needed");

    empty.fill([]);

    assert_eq!(empty.len(), usize::MAX);
}
