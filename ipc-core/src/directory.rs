//! The directory of a region: a log of named, typed objects.
//!
//! # Shared layout
//!
//! ```text
//! Directory:  | lock: u64 | end: u64 | pad to 64 |
//! log:        | record | object | record | object | ...        from the start of the data to `end`
//! record:     | next | object | size | count | fingerprint | name_len : type_len | name, type, padded to 8 |
//! ```
//!
//! A record is written behind `end` under the lock, together with its object, and published by the one store that moves
//! `end`; a process killed before that has left nothing. Readers need no lock: what lies before `end` does not change.
//!
//! # Garbage
//!
//! Every number of a record is loaded once and checked against the private size of the region; the walk only goes forward. A
//! record that makes no sense ends it with `Corrupted`. Where peers are not trusted, the lock is waited for with a bound, the walk ends
//! after so many objects, and what overlaps with what was given out before is refused (see `grants`).

use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use core::sync::atomic::{AtomicU8, AtomicU64};

use std::time::Duration;

use crate::crash_point;
use crate::deadline::Deadline;
use crate::error::Error;
use crate::grants::{Grant, Grants};
use crate::identity;
use crate::mapped::Mapped;
use crate::raw_lock::{NotHeld, RawLock};

/// Objects begin on their own cache line.
const OBJECT_ALIGN: usize = 64;

/// The longest name of an object, in bytes.
pub(crate) const MAX_NAME: usize = 255;

/// The longest name of a type that is kept, in bytes.
const MAX_TYPE: usize = 1024;

/// Among peers that are not trusted: how many objects are looked at, and for how long the lock is waited for.
pub(crate) const MOST_OBJECTS: usize = 1 << 14;
const PATIENCE: Duration = Duration::from_secs(1);

/// The head of the directory.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Directory {
    /// Held by whoever inserts. Garbage: see [`RawLock`].
    lock: RawLock,
    /// Where the log ends, from the start of the region. Written under the lock with Release, which pairs with the Acquire of
    /// readers. Garbage: `Corrupted`.
    end: AtomicU64,
    _line: [AtomicU64; 5],
}

/// The fixed part of a record. Written once under the lock, before `end` passes it.
#[repr(C)]
#[derive(Debug)]
struct Record {
    /// Where the next record begins.
    next: AtomicU64,
    /// Where the object begins.
    object: AtomicU64,
    /// Of the object, in bytes.
    size: AtomicU64,
    /// How many elements: 1, or the length of an array.
    count: AtomicU64,
    /// Of the type.
    fingerprint: AtomicU64,
    /// Lengths in bytes: of the name in the low half, of the type's name in the high half.
    lens: AtomicU64,
}

const RECORD: usize = size_of::<Record>();

const _: () = {
    assert!(size_of::<Directory>() == 64);
    assert!(RECORD == 48 && align_of::<Record>() == 8);
};

/// What a record says, checked, in private memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Object {
    pub(crate) name: String,
    pub(crate) type_name: String,
    pub(crate) fingerprint: u64,
    pub(crate) count: u64,
    /// Where it is, from the start of the region; within it.
    pub(crate) offset: usize,
    pub(crate) size: usize,
}

impl Object {
    fn grant(&self) -> Grant {
        Grant { place: self.offset..self.offset + self.size, fingerprint: self.fingerprint, count: self.count }
    }
}

/// An object to be made.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    pub(crate) name: &'a str,
    pub(crate) type_name: String,
    pub(crate) fingerprint: u64,
    pub(crate) count: u64,
    pub(crate) size: usize,
    pub(crate) align: usize,
}

impl Directory {
    /// Makes the directory of a new region, whose log begins at `data`.
    pub(crate) fn initialise(&self, data: usize) {
        self.end.store(data as u64, Relaxed);
    }
}

/// Checks the name of an object.
pub(crate) fn check_name(name: &str) -> Result<(), Error> {
    match name.len() {
        0 => Err(Error::InvalidName { what: "is empty" }),
        1..=MAX_NAME => Ok(()),
        _ => Err(Error::InvalidName { what: "is longer than 255 bytes" }),
    }
}

/// All objects, in the order of their insertion.
pub(crate) fn objects(region: &Mapped) -> impl Iterator<Item = Result<Object, Error>> + '_ {
    let mut at = region.layout().data();
    let mut left = if region.is_trusted() { usize::MAX } else { MOST_OBJECTS };
    let end = region.check_size().and_then(|()| end(region));
    let mut failed = None;
    let end = end.unwrap_or_else(|error| {
        failed = Some(error);
        at
    });
    core::iter::from_fn(move || {
        if let Some(error) = failed.take() {
            return Some(Err(error));
        }
        if at >= end {
            return None;
        }
        left -= 1;
        let read = if left > 0 {
            region.with_grants(|grants| read(region, at, end, grants.as_deref()))
        } else {
            Err(Error::Corrupted { what: "number of objects", found: MOST_OBJECTS as u64 })
        };
        match read {
            Ok((object, next)) => {
                at = next;
                Some(Ok(object))
            }
            Err(error) => {
                at = end;
                Some(Err(error))
            }
        }
    })
}

/// The object called `name`, to be given out.
pub(crate) fn find(region: &Mapped, name: &str) -> Result<Option<Object>, Error> {
    let found = look_up(region, name)?;
    if let Some(object) = &found {
        region.with_grants(|grants| grants.map_or(Ok(()), |grants| grants.add(object.grant())))?;
    }
    Ok(found)
}

fn look_up(region: &Mapped, name: &str) -> Result<Option<Object>, Error> {
    objects(region).find(|object| object.as_ref().map_or(true, |object| object.name == name)).transpose()
}

/// Adds an object, which `write` fills, given its address; fails if there is one of this name.
pub(crate) fn insert(region: &Mapped, plan: &Plan<'_>, write: impl FnOnce(*mut u8)) -> Result<Object, Error> {
    region.check_size()?;
    let directory = &region.fixed().directory;
    let deadline = if region.is_trusted() { None } else { Deadline::after(PATIENCE) };
    let held = directory.lock.lock(deadline).map_err(|error| match error {
        NotHeld::Failed(error) => error,
        NotHeld::TimedOut => Error::Busy,
    })?;
    let inserted = insert_locked(region, plan, write);
    directory.lock.unlock(held);
    inserted
}

fn insert_locked(region: &Mapped, plan: &Plan<'_>, write: impl FnOnce(*mut u8)) -> Result<Object, Error> {
    if look_up(region, plan.name)?.is_some() {
        return Err(Error::ObjectExists { name: plan.name.to_owned() });
    }
    let start = end(region)?;
    let no_space = || Error::NoSpace { bytes: plan.size as u64 };
    let type_name = cut(&plan.type_name, MAX_TYPE);
    let text = plan.name.len() + type_name.len();
    let object = (start + RECORD + text).checked_next_multiple_of(plan.align.max(OBJECT_ALIGN)).ok_or_else(no_space)?;
    let next = object
        .checked_add(plan.size)
        .and_then(|end| end.checked_next_multiple_of(align_of::<Record>()))
        .filter(|next| *next <= region.layout().size)
        .ok_or_else(no_space)?;
    let own = identity::drawn().ok_or(Error::Forked)?;
    region.with_grants(|grants| grants.map_or(Ok(()), |grants| grants.begin(start..next, own)))?;
    crash_point!("directory.insert.before_record");
    let record = record(region, start);
    record.next.store(next as u64, Relaxed);
    record.object.store(object as u64, Relaxed);
    record.size.store(plan.size as u64, Relaxed);
    record.count.store(plan.count, Relaxed);
    record.fingerprint.store(plan.fingerprint, Relaxed);
    record.lens.store(plan.name.len() as u64 | (type_name.len() as u64) << 32, Relaxed);
    let bytes = plan.name.bytes().chain(type_name.bytes());
    for (shared, byte) in text_of(region, start, text).iter().zip(bytes) {
        shared.store(byte, Relaxed);
    }
    crash_point!("directory.insert.before_object");
    write(region.at(object).as_ptr());
    crash_point!("directory.insert.before_end");
    let object = Object {
        name: plan.name.to_owned(),
        type_name: type_name.to_owned(),
        fingerprint: plan.fingerprint,
        count: plan.count,
        offset: object,
        size: plan.size,
    };
    // Before others can read the record.
    region.with_grants(|grants| grants.map(|grants| grants.end(object.grant())));
    region.fixed().directory.end.store(next as u64, Release);
    crash_point!("directory.insert.after_end");
    Ok(object)
}

fn end(region: &Mapped) -> Result<usize, Error> {
    let found = region.fixed().directory.end.load(Acquire);
    let layout = region.layout();
    usize::try_from(found)
        .ok()
        .filter(|end| (layout.data()..=layout.size).contains(end) && end % align_of::<Record>() == 0)
        .ok_or(Error::Corrupted { what: "end of the directory", found })
}

/// Reads the record at `at`, which is below `end`, and says where the next one is. Nothing of it lies in what `grants` says is something
/// else.
fn read(region: &Mapped, at: usize, end: usize, grants: Option<&Grants>) -> Result<(Object, usize), Error> {
    let corrupted = |what, found| Error::Corrupted { what, found };
    let check = |place| grants.map_or(Ok(()), |grants| grants.check(&place));
    if end - at < RECORD {
        return Err(corrupted("directory record", at as u64));
    }
    check(at..at + RECORD)?;
    let record = record(region, at);
    let next = record.next.load(Relaxed);
    let next = usize::try_from(next)
        .ok()
        .filter(|next| *next >= at + RECORD && *next <= end && next % align_of::<Record>() == 0)
        .ok_or(corrupted("next directory record", next))?;
    let lens = record.lens.load(Relaxed);
    let (name_len, type_len) = ((lens & 0xffff_ffff) as usize, (lens >> 32) as usize);
    if name_len > MAX_NAME || type_len > MAX_TYPE || at + RECORD + name_len + type_len > next {
        return Err(corrupted("lengths of names in the directory", lens));
    }
    let object = record.object.load(Relaxed);
    let offset = usize::try_from(object)
        .ok()
        .filter(|offset| *offset >= at + RECORD + name_len + type_len && *offset <= next)
        .ok_or(corrupted("offset of an object", object))?;
    let size = record.size.load(Relaxed);
    let size =
        usize::try_from(size).ok().filter(|size| *size <= next - offset).ok_or(corrupted("size of an object", size))?;
    check(at + RECORD..at + RECORD + name_len + type_len)?;
    let text: Vec<u8> = text_of(region, at, name_len + type_len).iter().map(|byte| byte.load(Relaxed)).collect();
    let (name, type_name) = text.split_at(name_len);
    let object = Object {
        name: String::from_utf8_lossy(name).into_owned(),
        type_name: String::from_utf8_lossy(type_name).into_owned(),
        fingerprint: record.fingerprint.load(Relaxed),
        count: record.count.load(Relaxed),
        offset,
        size,
    };
    Ok((object, next))
}

/// The record at `at`, a checked multiple of 8 with room for one before the end of the region.
fn record(region: &Mapped, at: usize) -> &Record {
    assert!(at % align_of::<Record>() == 0 && at + RECORD <= region.layout().size);
    // SAFETY: in bounds and aligned by the assertion (the region begins on a page), alive with `region`, and nothing but atomics.
    unsafe { &*region.at(at).as_ptr().cast::<Record>() }
}

/// The bytes behind the record at `at`.
fn text_of(region: &Mapped, at: usize, len: usize) -> &[AtomicU8] {
    assert!(at + RECORD + len <= region.layout().size);
    // SAFETY: in bounds by the assertion, alive with `region`, and nothing but atomics. No object and no other record overlaps
    // them in a region that nobody scribbles on; in any other, it is `grants` that sees to it.
    unsafe { core::slice::from_raw_parts(region.at(at + RECORD).as_ptr().cast::<AtomicU8>(), len) }
}

/// The longest beginning of `text` that has at most `len` bytes.
fn cut(text: &str, len: usize) -> &str {
    let mut len = len.min(text.len());
    while !text.is_char_boundary(len) {
        len -= 1;
    }
    &text[..len]
}
