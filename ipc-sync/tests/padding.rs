//! What lies behind small values: nothing that was on somebody's stack.

#![cfg(not(ipc_loom))]

use core::hint::black_box;

use shmkit_core::{Array, Described, Region, Shm, ShmSafe, Snapshot};
use shmkit_sync::{Mutex, OnceLock, ReentrantMutex, RwLock};

/// A value that is aligned to more than the words before it.
#[repr(C, align(16))]
#[derive(Clone, Copy, bytemuck::Zeroable, bytemuck::Pod, Described)]
#[shm(crate = "shmkit_core")]
struct Wide([u64; 2]);

const SECRET: u64 = 0x5ec2_e75e_c2e7_5ec2;

/// Leaves a secret where the next functions have their variables.
#[inline(never)]
fn leave_a_secret() {
    let mut secret = [0u64; 4096];
    secret.fill(SECRET);
    black_box(&mut secret);
}

/// Whether three bytes of the secret in a row lie in the object.
fn shows_the_secret<T: ShmSafe>(object: &Shm<T>) -> bool {
    let base: *const u8 = (&raw const **object).cast();
    // SAFETY: the bytes of the object, which nobody else uses; read one by one, whatever they are.
    let bytes: Vec<u8> = (0..size_of::<T>()).map(|at| unsafe { base.add(at).read_volatile() }).collect();
    let secret = SECRET.to_ne_bytes().repeat(2);
    bytes.windows(3).any(|found| secret.windows(3).any(|part| part == found))
}

#[inline(never)]
fn insert<T: ShmSafe>(region: &Region, name: &str, make: impl FnOnce() -> T) -> Shm<T> {
    region.insert(name, black_box(make())).expect("room")
}

#[inline(never)]
fn insert_lazily<T: ShmSafe>(region: &Region, name: &str, make: impl FnOnce() -> T) -> Shm<T> {
    region.get_or_insert_with(name, make).expect("room")
}

macro_rules! check {
    ($region:expr, $($make:expr),* $(,)?) => {
        $(
            leave_a_secret();
            let object = insert($region, stringify!($make), || $make);
            assert!(!shows_the_secret(&object), "inserted: {}", stringify!($make));
            leave_a_secret();
            let object = insert_lazily($region, concat!(stringify!($make), " lazily"), || $make);
            assert!(!shows_the_secret(&object), "inserted lazily: {}", stringify!($make));
        )*
    };
}

#[test]
fn nothing_of_the_stack_lies_behind_a_small_value() {
    let region = Region::anonymous(1 << 16).expect("a region");
    check!(
        &region,
        Mutex::new(black_box(1u8)),
        Mutex::new(black_box([1u8; 3])),
        Mutex::new(black_box(1u32)),
        Mutex::new(black_box(Wide([1; 2]))),
        Snapshot::new(black_box(Wide([1; 2]))),
        RwLock::new(black_box(1u8)),
        OnceLock::<u8>::new(),
        OnceLock::<[u8; 3]>::new(),
        ReentrantMutex::new(Array::new(black_box([1u8; 3]))),
    );
}
