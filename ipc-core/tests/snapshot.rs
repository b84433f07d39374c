//! The `Snapshot` between the threads of one process.

#![cfg(not(ipc_loom))]

use core::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use shmkit_core::{Described, Error, Region, Snapshot, TypeName};

#[test]
fn what_was_written_is_read() {
    let region = Region::anonymous(4096).expect("a region");
    let cell = region.insert("cell", Snapshot::new([1u64, 2, 3])).expect("room");
    assert_eq!(cell.read(), [1, 2, 3]);

    cell.write([4, 5, 6]).expect("a turn");

    assert_eq!(cell.read(), [4, 5, 6]);
    assert_eq!(region.get::<Snapshot<[u64; 3]>>("cell").expect("it").try_read(), Some([4, 5, 6]));
}

#[test]
fn values_of_any_size_come_back_byte_by_byte() {
    fn check<const N: usize>() {
        let value = core::array::from_fn(|i| i as u8 + 1);
        let cell = Snapshot::new([0xffu8; N]);
        assert_eq!(cell.read(), [0xff; N]);
        for version in 1..4 {
            cell.write(value).expect("a turn");
            assert_eq!(cell.read(), value);
            assert_eq!(cell.version(), version);
        }
    }
    check::<0>();
    check::<1>();
    check::<7>();
    check::<8>();
    check::<9>();
    check::<63>();
    check::<64>();
    check::<200>();
}

#[test]
fn values_of_all_alignments_have_room() {
    let wide = Snapshot::new([u128::MAX, 1]);
    wide.write([2, u128::MAX - 1]).expect("a turn");
    assert_eq!(wide.read(), [2, u128::MAX - 1]);

    let narrow = Snapshot::new([1u16; 5]);
    narrow.write([1, 2, 3, 4, 5]).expect("a turn");
    assert_eq!(narrow.read(), [1, 2, 3, 4, 5]);
}

#[test]
fn update_changes_what_is_there_and_returns_what_the_change_returns() {
    let cell = Snapshot::new([1u32, 2]);

    let old = cell.update(|value| core::mem::replace(&mut value[0], 7)).expect("a turn");

    assert_eq!((old, cell.read(), cell.version()), (1, [7, 2], 1));
}

#[test]
fn reading_within_an_update_gives_the_old_value() {
    let cell = Snapshot::new(1u64);

    let seen = cell.update(|value| {
        *value = 2;
        cell.read()
    });

    assert_eq!((seen.expect("a turn"), cell.read()), (1, 2));
}

#[test]
fn a_panic_within_an_update_writes_nothing_and_lets_others_write() {
    let cell = Snapshot::new([1u64; 2]);

    let panicked = catch_unwind(AssertUnwindSafe(|| {
        cell.update(|value| {
            value[0] = 9;
            std::panic::resume_unwind(Box::new(()));
        })
    }));

    assert!(panicked.is_err());
    assert_eq!((cell.read(), cell.version()), ([1; 2], 0));
    cell.write([3; 2]).expect("a turn");
    assert_eq!(cell.read(), [3; 2]);
}

#[test]
fn updates_of_several_threads_are_all_counted_and_no_reader_sees_one_torn() {
    let region = Region::anonymous(4096).expect("a region");
    let cell = region.insert("cell", Snapshot::new([0u64; 8])).expect("room");
    let over = AtomicBool::new(false);

    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut last = 0;
            while !over.load(Relaxed) {
                let value = cell.read();
                assert!(value == [value[0]; 8] && value[0] >= last, "{value:?} after {last}");
                last = value[0];
            }
        });
        let writer = || (0..5_000).for_each(|_| cell.update(|value| *value = [value[0] + 1; 8]).expect("a turn"));
        let writers = [scope.spawn(writer), scope.spawn(writer)];
        writers.into_iter().for_each(|thread| thread.join().expect("no panic"));
        over.store(true, Relaxed);
        reader.join().expect("nothing torn");
    });

    assert_eq!((cell.read(), cell.version()), ([10_000; 8], 10_000));
}

#[test]
fn the_type_of_the_value_belongs_to_the_type_of_the_cell() {
    let region = Region::anonymous(4096).expect("a region");
    region.insert("cell", Snapshot::new([0u32; 4])).expect("room");

    let wrong = region.get::<Snapshot<[u32; 5]>>("cell").map(drop);

    assert!(matches!(wrong, Err(Error::WrongType { found, asked, .. })
        if found == "Snapshot<[u32; 4]>" && asked == "Snapshot<[u32; 5]>"));
    assert_eq!(TypeName::<Snapshot<u8>>::new().to_string(), "Snapshot<u8>");
    assert_ne!(Snapshot::<u8>::FINGERPRINT, Snapshot::<i8>::FINGERPRINT);
}

/// The words of a cell in a region: two of the lock, the version, one that is reserved, and the copies.
fn words<T: bytemuck::Pod>(cell: &Snapshot<T>) -> &[core::sync::atomic::AtomicU64] {
    // SAFETY: a cell of values of whole words is nothing but words, which are atomics.
    unsafe { core::slice::from_raw_parts(core::ptr::from_ref(cell).cast(), size_of::<Snapshot<T>>() / 8) }
}

#[test]
fn arbitrary_words_make_arbitrary_values_and_nothing_worse() {
    let region = Region::anonymous(4096).expect("a region");
    let cell = region.insert("cell", Snapshot::new([0u64; 4])).expect("room");
    let mut seed = 0x9e37_79b9_7f4a_7c15u64;

    for round in 0..200u64 {
        for word in words(&cell) {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            word.store(if round % 3 == 0 { u64::MAX } else { seed }, Relaxed);
        }
        // The lock: of nobody.
        let version = cell.version();
        let _ = cell.read();
        cell.update(|value| value[3] = 5).expect("a turn");
        assert_eq!((cell.version(), cell.read()[3]), (version.wrapping_add(1), 5));
        cell.write([round; 4]).expect("a turn");
        assert_eq!(cell.read(), [round; 4]);
    }
}

#[test]
fn the_bytes_behind_an_odd_value_are_zero_and_stay_so() {
    #[inline(never)]
    fn dirty_the_stack() -> [u8; 4096] {
        core::hint::black_box([0x5a; 4096])
    }
    let region = Region::anonymous(4096).expect("a region");
    core::hint::black_box(dirty_the_stack());
    let cell = region.insert("cell", Snapshot::new([0xffu8; 3])).expect("room");
    cell.write([0xfe; 3]).expect("a turn");

    let copies: Vec<_> = words(&cell)[4..].iter().map(|word| word.load(Relaxed)).collect();

    assert_eq!(copies, [0xff_ffff, 0xfe_fefe]);
}

#[test]
fn debug_shows_version_and_value() {
    let cell = Snapshot::from(4711u64);
    assert_eq!(format!("{cell:?}"), "Snapshot { version: 0, value: Some(4711) }");
    assert_eq!(Snapshot::<u64>::default().read(), 0);
}
