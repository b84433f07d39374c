//! Types of your own in a shared region.
//!
//! A struct that several processes reach at once derives [`ShmSafe`](crate::ShmSafe). Its fields are
//! atomics, primitives of this library, [`Array`](crate::Array)s of plain values, arrays of all these, and other such structs:
//!
//! ```
//! use shmkit::{Array, Mutex, ShmSafe};
//! use std::sync::atomic::AtomicU64;
//!
//! #[repr(C)]
//! #[derive(ShmSafe)]
//! struct Counters {
//!     hits: AtomicU64,
//!     misses: AtomicU64,
//! }
//!
//! #[repr(C)]
//! #[derive(ShmSafe)]
//! struct Cache {
//!     total: Counters,
//!     per_worker: [Counters; 16],
//!     budget: Mutex<u64>,
//!     latencies: Array<f32, 64>,
//! }
//! ```
//!
//! What a lock guards is plain data: it is copied as bytes, so it derives `bytemuck::Pod`, and
//! [`Described`](crate::Described) so that two programs can tell whether they mean the same struct. For its derive macros, bytemuck is
//! to be among your dependencies, with the feature `derive`. Without that, take them from [`shmkit::bytemuck`](crate::bytemuck) and write
//! `#[bytemuck(crate = "shmkit::bytemuck")]` below them.
//!
//! ```
//! use bytemuck::{Pod, Zeroable};
//! use shmkit::{Described, Mutex, ShmSafe};
//!
//! #[repr(C)]
//! #[derive(Clone, Copy, Pod, Zeroable, Described)]
//! struct Order {
//!     id: u64,
//!     amount: u32,
//!     paid: u32,
//! }
//!
//! #[repr(C)]
//! #[derive(ShmSafe)]
//! struct Desk {
//!     current: Mutex<Order>,
//! }
//! ```
//!
//! Structs may be generic. A type goes by the name that it was declared with:
//!
//! ```
//! use bytemuck::Pod;
//! use shmkit::{Described, Mutex, ShmSafe, TypeName};
//!
//! #[repr(C)]
//! #[derive(ShmSafe)]
//! struct Slots<T: Pod, const N: usize> {
//!     values: [Mutex<T>; N],
//! }
//!
//! assert_eq!(TypeName::<Slots<u64, 8>>::new().to_string(), "Slots<u64, 8>");
//! assert_ne!(Slots::<u64, 8>::FINGERPRINT, Slots::<u64, 9>::FINGERPRINT);
//! ```
//!
//! When the meaning of a field changes but not its name or type, raise the layout version. Programs with
//! the old version then get an error instead of numbers that they would misread:
//!
//! ```
//! use shmkit::Described;
//!
//! mod seconds {
//!     # use shmkit::ShmSafe;
//!     # use std::sync::atomic::AtomicU64;
//!     #[repr(C)]
//!     #[derive(ShmSafe)]
//!     pub struct Timeout(AtomicU64);
//! }
//!
//! mod milliseconds {
//!     # use shmkit::ShmSafe;
//!     # use std::sync::atomic::AtomicU64;
//!     #[repr(C)]
//!     #[derive(ShmSafe)]
//!     #[shm(version = 2)]
//!     pub struct Timeout(AtomicU64);
//! }
//!
//! assert_ne!(seconds::Timeout::FINGERPRINT, milliseconds::Timeout::FINGERPRINT);
//! ```
//!
//! # What is refused
//!
//! A layout that the compiler may choose anew in every build; `#[repr(C)]` is missing:
//!
//! ```compile_fail
//! # use shmkit::ShmSafe;
//! # use std::sync::atomic::AtomicU64;
//! #[derive(ShmSafe)]
//! struct Counters {
//!     hits: AtomicU64,
//! }
//! ```
//!
//! Plain data outside of a lock, which would be a data race; use an atomic or `Mutex<u64>`:
//!
//! ```compile_fail
//! # use shmkit::ShmSafe;
//! #[repr(C)]
//! #[derive(ShmSafe)]
//! struct Counters {
//!     hits: u64,
//! }
//! ```
//!
//! Numbers whose size depends on the process; use `AtomicU64`, or `u64` in plain data:
//!
//! ```compile_fail
//! # use shmkit::ShmSafe;
//! # use std::sync::atomic::AtomicUsize;
//! #[repr(C)]
//! #[derive(ShmSafe)]
//! struct Ring {
//!     head: AtomicUsize,
//! }
//! ```
//!
//! Bytes that are not a value in every pattern, such as `bool`, `char` and enums; use `u8` or `u32` and
//! check what you read:
//!
//! ```compile_fail
//! # use shmkit::Described;
//! #[repr(C)]
//! #[derive(Described)]
//! struct Order {
//!     paid: bool,
//! }
//! ```
//!
//! ```compile_fail
//! # use shmkit::ShmSafe;
//! #[repr(C)]
//! #[derive(ShmSafe)]
//! enum State {
//!     Idle,
//!     Busy,
//! }
//! ```
//!
//! Anything that points: references, pointers, functions, `Box`, `Vec`, `String`, `Rc`, `Arc`. Use arrays,
//! and indices into them:
//!
//! ```compile_fail
//! # use shmkit::ShmSafe;
//! # use std::sync::atomic::AtomicU64;
//! #[repr(C)]
//! #[derive(ShmSafe)]
//! struct Link {
//!     next: &'static AtomicU64,
//! }
//! ```
//!
//! ```compile_fail
//! # use shmkit::ShmSafe;
//! # use std::sync::atomic::AtomicU64;
//! #[repr(C)]
//! #[derive(ShmSafe)]
//! struct Cache {
//!     per_worker: Vec<AtomicU64>,
//! }
//! ```
//!
//! Borrows:
//!
//! ```compile_fail
//! # use shmkit::Described;
//! # struct Text<'a>(&'a str);
//! #[repr(C)]
//! #[derive(Described)]
//! struct Order<'a> {
//!     customer: Text<'a>,
//! }
//! ```
//!
//! `Option` and tuples, which have no fixed layout; use a number that says whether the value is there, and
//! a struct:
//!
//! ```compile_fail
//! # use shmkit::Described;
//! #[repr(C)]
//! #[derive(Described)]
//! struct Order {
//!     discount: Option<u32>,
//! }
//! ```
//!
//! ```compile_fail
//! # use shmkit::Described;
//! #[repr(C)]
//! #[derive(Described)]
//! struct Line {
//!     from: (f64, f64),
//!     to: (f64, f64),
//! }
//! ```
//!
//! A field whose type has not made the promise itself:
//!
//! ```compile_fail
//! # use shmkit::ShmSafe;
//! # use std::sync::atomic::AtomicU64;
//! #[repr(C)]
//! struct Counters {
//!     hits: AtomicU64,
//! }
//!
//! #[repr(C)]
//! #[derive(ShmSafe)]
//! struct Cache {
//!     total: Counters,
//! }
//! ```
//!
//! An unsuitable type behind another name, or inside a lock:
//!
//! ```compile_fail
//! # use shmkit::ShmSafe;
//! type Index = usize;
//!
//! #[repr(C)]
//! #[derive(ShmSafe)]
//! struct Ring {
//!     head: Index,
//! }
//! ```
//!
//! ```compile_fail
//! # use shmkit::{Mutex, ShmSafe};
//! #[repr(C)]
//! #[derive(ShmSafe)]
//! struct Desk {
//!     open: Mutex<bool>,
//! }
//! ```
//!
//! `Drop`, which would run in no process, or in each:
//!
//! ```compile_fail
//! # use shmkit::ShmSafe;
//! # use std::sync::atomic::AtomicU64;
//! #[repr(C)]
//! #[derive(ShmSafe)]
//! struct Counters {
//!     hits: AtomicU64,
//! }
//!
//! impl Drop for Counters {
//!     fn drop(&mut self) {}
//! }
//! ```
//!
//! Padding, whose bytes nobody writes; declare them, here as `_reserved: [AtomicU8; 4]`:
//!
//! ```compile_fail
//! # use shmkit::ShmSafe;
//! # use std::sync::atomic::{AtomicU32, AtomicU64};
//! #[repr(C)]
//! #[derive(ShmSafe)]
//! struct Ticket {
//!     number: AtomicU64,
//!     holder: AtomicU32,
//! }
//! ```
//!
//! The same in a generic struct, where it is first used:
//!
//! ```compile_fail
//! # use shmkit::{Described, ShmSafe};
//! # use std::sync::atomic::{AtomicU8, AtomicU64};
//! #[repr(C)]
//! #[derive(ShmSafe)]
//! struct Tagged<T> {
//!     value: T,
//!     tag: AtomicU8,
//! }
//!
//! let fits = Tagged::<AtomicU8>::FINGERPRINT;
//! let padded = Tagged::<AtomicU64>::FINGERPRINT;
//! ```
