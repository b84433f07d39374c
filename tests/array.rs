//! Arrays between real processes: what one writes the others see, exact sums, and elements that are never torn.

mod common;

use std::fmt::Debug;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use bytemuck::{Pod, Zeroable};
use shmkit::{Array, Described, Element, Error, Mutex, Region, RegionOptions, SharedArray, Shm, ShmSafe};

use common::{Child, Name, Parent, roles, until};

roles!(author, asker, adder, flipper);

/// How many processes add up.
const ADDERS: usize = 4;
/// How often each of them does.
const ADDITIONS: usize = 20_000;
/// The elements that they add to.
const SUMS: usize = 16;

#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable, Described)]
struct Point {
    x: f64,
    y: f64,
    z: f64,
}

const POINT: Point = Point { x: 1.0, y: 2.0, z: 3.0 };

#[repr(C)]
#[derive(ShmSafe)]
struct Desk {
    sums: Mutex<[u64; SUMS]>,
    notes: Array<u16, 4>,
}

fn create(size: usize) -> (Name, Region) {
    let name = Name::new();
    let region = RegionOptions::new().unlink_on_drop(true).create(&name, size).expect("a region");
    (name, region)
}

/// Opens the region that the parent has named.
fn given(parent: &Parent) -> Region {
    Region::open(parent.argument(0)).expect("the parent's region")
}

#[test]
fn a_new_array_is_zero_whatever_lay_there_before() {
    let (name, region) = create(1 << 16);
    let file = File::options().write(true).open(name.path()).expect("its file");
    let free = file.metadata().expect("its size").len() as usize - (1 << 15);
    file.write_all_at(&[0x5a; 1 << 15], free as u64).expect("a write to the free part of the region");

    let array = region.insert_array::<u8>("array", region.size() - 256).expect("room");

    assert!(array.iter().all(|byte| byte == 0));
}

// Values of every kind.

fn write_all<T: Pod + Described + Send>(region: &Region, name: &str, value: T) {
    let array = region.get_array::<T>(name, 1000).expect("the parent's array");
    array.set(0, value).expect("in range");
    array.slice(500..).expect("in range").fill(value);
}

fn check_all<T: Pod + Described + Send + PartialEq + Debug>(region: &Region, name: &str, value: T) {
    let array = region.get_array::<T>(name, 1000).expect("our array").to_vec();
    assert_eq!(array[0], value);
    assert_eq!(array[1..500], [T::zeroed(); 499]);
    assert_eq!(array[500..], [value; 500]);
}

fn author(parent: &mut Parent) {
    let region = given(parent);
    write_all(&region, "u8", u8::MAX);
    write_all(&region, "u16", u16::MAX);
    write_all(&region, "i32", -7i32);
    write_all(&region, "u64", u64::MAX);
    write_all(&region, "f32", 1.5f32);
    write_all(&region, "f64", -2.5f64);
    write_all(&region, "point", POINT);
    let desk = region.get::<Desk>("desk").expect("the parent's desk");
    desk.notes.copy_from_slice(&[1, 2, 3, 4]).expect("four notes");
    parent.say("written");
}

#[test]
fn what_a_child_writes_is_seen_by_its_parent() {
    let (name, region) = create(1 << 17);
    region.insert_array::<u8>("u8", 1000).expect("room");
    region.insert_array::<u16>("u16", 1000).expect("room");
    region.insert_array::<i32>("i32", 1000).expect("room");
    region.insert_array::<u64>("u64", 1000).expect("room");
    region.insert_array::<f32>("f32", 1000).expect("room");
    region.insert_array::<f64>("f64", 1000).expect("room");
    region.insert_array::<Point>("point", 1000).expect("room");
    let desk = region.insert("desk", Desk { sums: Mutex::new([0; SUMS]), notes: Array::default() }).expect("room");

    Child::spawn("author", &[&name]).expect("written");

    check_all(&region, "u8", u8::MAX);
    check_all(&region, "u16", u16::MAX);
    check_all(&region, "i32", -7i32);
    check_all(&region, "u64", u64::MAX);
    check_all(&region, "f32", 1.5f32);
    check_all(&region, "f64", -2.5f64);
    check_all(&region, "point", POINT);
    assert_eq!(desk.notes.to_vec(), [1, 2, 3, 4]);
}

fn asker(parent: &mut Parent) {
    let region = given(parent);
    parent.say(region.get_array::<f32>("array", 10).expect_err("another type"));
    parent.say(region.get_array::<u32>("array", 11).expect_err("another length"));
    parent.say(region.get_array::<u32>("array", 10).expect("the array").len());
}

#[test]
fn another_process_is_told_the_type_and_the_length() {
    let (name, region) = create(4096);
    region.insert_array::<u32>("array", 10).expect("room");

    let mut child = Child::spawn("asker", &[&name]);

    child.expect(r#"the region holds the object "array" of type [u32; 10], asked for [f32; 10]"#);
    child.expect(r#"the region holds the array "array" of length 10, asked for length 11"#);
    child.expect("10");
}

// Sums.

fn sums(region: &Region) -> (Shm<Mutex<[u64; SUMS]>>, SharedArray<u64>, SharedArray<f64>) {
    let locked = region.get_or_insert_with("locked", || Mutex::new([0; SUMS])).expect("room");
    let added = region.get_array_or_insert("added", SUMS).expect("room");
    let exchanged = region.get_array_or_insert("exchanged", SUMS).expect("room");
    (locked, added, exchanged)
}

fn adder(parent: &mut Parent) {
    let (locked, added, exchanged) = sums(&given(parent));
    parent.say("here");
    parent.expect("go");
    for index in (0..ADDITIONS).map(|addition| addition % SUMS) {
        locked.lock().expect("a sound mutex")[index] += 1;
        added.fetch_add(index, 1, Relaxed).expect("in range");
        let mut sum = exchanged.load(index, Relaxed).expect("in range");
        while let Err(other) = exchanged.compare_exchange(index, sum, sum + 0.5, Relaxed, Relaxed).expect("in range") {
            sum = other;
        }
    }
    parent.say("done");
}

#[test]
fn sums_of_many_processes_are_exact_under_a_lock_and_with_atomic_operations() {
    let (name, region) = create(4096);
    let (locked, added, exchanged) = sums(&region);
    let mut adders: [Child; ADDERS] = std::array::from_fn(|_| Child::spawn("adder", &[&name]));

    adders.iter_mut().for_each(|adder| adder.expect("here"));
    adders.iter_mut().for_each(|adder| adder.tell("go"));
    adders.iter_mut().for_each(|adder| adder.expect("done"));

    let sum = (ADDERS * ADDITIONS / SUMS) as u64;
    let guard = locked.lock().expect("a sound mutex");
    assert!(guard.iter().all(|element| *element == sum));
    assert_eq!(guard[..], [sum; SUMS]);
    assert_eq!(added.to_vec(), [sum; SUMS]);
    assert_eq!(exchanged.to_vec(), [sum as f64 / 2.0; SUMS]);
}

#[test]
fn a_guard_is_a_slice_that_other_processes_see_changed() {
    let (name, region) = create(4096);
    let (locked, ..) = sums(&region);
    let mut guard = locked.lock().expect("a free mutex");
    guard[2..5].copy_from_slice(&[7, 8, 9]);
    guard.sort_unstable_by(|a, b| b.cmp(a));
    drop(guard);

    let elsewhere = Region::open(&name).expect("the region").get::<Mutex<[u64; SUMS]>>("locked").expect("it");
    assert_eq!(elsewhere.lock().expect("a free mutex")[..4], [9, 8, 7, 0]);
}

// Whole elements.

/// Elements of the array that changes; long enough for every way of copying.
const CHANGING: usize = 3000;
/// How often it must have been seen to change.
const CHANGES: usize = 300;

/// A number all of whose bits are set, or none.
trait Extremes: Element + Described + Send + PartialEq + Debug {
    const NAME: &'static str;
    const ONES: Self;
}

macro_rules! extremes {
    ($($ty:ident)*) => {$(
        impl Extremes for $ty {
            const NAME: &'static str = stringify!($ty);
            const ONES: Self = $ty::MAX;
        }
    )*};
}

extremes!(u16 u32 u64);

fn flip<T: Extremes>(region: &Region) {
    let array = region.get_array::<T>(T::NAME, CHANGING).expect("the parent's array");
    let over = region.get_array::<u32>("over", 1).expect("the parent's word");
    // One element more, so that the values can be taken from any offset.
    let values = [vec![T::zeroed(); CHANGING + 4], vec![T::ONES; CHANGING + 4]];
    let mut turn = 0;
    while over.load(0, Acquire) == Ok(0) {
        let from = turn / 2 % 4;
        let values = &values[turn % 2];
        // The whole, and a short part that begins and ends within a word.
        array.copy_from_slice(&values[from..from + CHANGING]).expect("the same length");
        array.slice(1..30).expect("in range").copy_from_slice(&values[from..from + 29]).expect("the same length");
        array.slice(2000..).expect("in range").fill(values[0]);
        turn += 1;
    }
}

fn flipper(parent: &mut Parent) {
    let region = given(parent);
    match parent.argument(1) {
        "u16" => flip::<u16>(&region),
        "u32" => flip::<u32>(&region),
        _ => flip::<u64>(&region),
    }
    parent.say("over");
}

#[track_caller]
fn elements_stay_whole<T: Extremes>() {
    let (name, region) = create(1 << 17);
    let array = region.insert_array::<T>(T::NAME, CHANGING).expect("room");
    let over = region.insert_array::<u32>("over", 1).expect("room");
    let mut child = Child::spawn("flipper", &[&name, T::NAME]);
    let (mut last, mut changes, mut turn) = (T::zeroed(), 0, 0);
    let mut copy = [T::zeroed(); CHANGING + 4];

    until("changes of the array", || {
        let to = turn % 4;
        turn += 1;
        array.copy_to_slice(&mut copy[to..to + CHANGING]).expect("the same length");
        let torn = copy[to..to + CHANGING].iter().position(|element| *element != T::zeroed() && *element != T::ONES);
        assert_eq!(torn, None, "{}: {:x?}", T::NAME, torn.map(|index| copy[to + index]));
        let short = array.slice(1..30).expect("in range");
        short.copy_to_slice(&mut copy[to..to + 29]).expect("the same length");
        assert!(copy[to..to + 29].iter().all(|element| *element == T::zeroed() || *element == T::ONES));
        assert!(array.iter().all(|element| element == T::zeroed() || element == T::ONES));
        let now = array.get(0).expect("in range");
        changes += usize::from(now != last);
        last = now;
        changes >= CHANGES
    });

    over.store(0, 1, Release).expect("in range");
    child.expect("over");
}

#[test]
fn elements_that_are_written_and_read_in_bulk_are_never_torn() {
    elements_stay_whole::<u16>();
    elements_stay_whole::<u32>();
    elements_stay_whole::<u64>();
}

#[test]
fn an_array_that_was_scribbled_on_is_an_error_or_numbers() {
    let (name, region) = create(4096);
    region.insert_array::<u64>("target", 10).expect("room");
    let file = File::options().read(true).write(true).open(name.path()).expect("its file");
    let mut bytes = vec![0; file.metadata().expect("its size").len() as usize];
    file.read_exact_at(&mut bytes, 0).expect("its bytes");
    let name_at = bytes.windows(6).position(|window| window == b"target").expect("the name in the directory");
    // Size and number of elements stand 32 and 24 bytes before the name.
    for (at, value) in
        [(32, 79u64), (32, u64::MAX), (32, 88), (24, 11), (24, u64::MAX), (24, 0), (40, 8), (40, 1 << 40)]
    {
        let place = (name_at - at) as u64;
        file.write_all_at(&value.to_le_bytes(), place).expect("a write");

        for len in [0, 10, 11, usize::MAX] {
            let got = region.get_array::<u64>("target", len);
            assert!(
                matches!(got, Err(Error::Corrupted { .. } | Error::WrongLength { .. })),
                "{at} {value} {len}: {got:?}"
            );
        }
        file.write_all_at(&bytes[name_at - at..name_at - at + 8], place).expect("a write");
    }
    assert!(region.get_array::<u64>("target", 10).is_ok());
}
