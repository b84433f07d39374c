//! The crate raw_sync: its mutex, rwlock and event.
//!
//! Used as its documentation says: the maker calls `new` on memory that all map, everybody else
//! `from_existing`; the lock guards give access to data whose address each process passes in; an event
//! is set and waited for without a time-out. On Linux all of them are process-shared pthread objects,
//! so none tells of a death, and a mutex or rwlock whose owner was killed is locked for ever.

use std::cell::UnsafeCell;
use std::hint::black_box;
use std::io;
use std::mem::MaybeUninit;
use std::time::Duration;

use raw_sync::Timeout;
use raw_sync::events::{Event, EventImpl, EventInit, EventState};
use raw_sync::locks::{LockImpl, LockInit, Mutex, RwLock};

use crate::baton::Baton;
use crate::cases::stopped::Stopping;
use crate::killed::{Doomed, Ended};
use crate::peers::rwlock::TwoSided;
use crate::shared::{Line, SharedBox, SharedLayout};
use crate::solo::Turns;
use crate::team::{MOST, Place, Play, Seat};

/// The name in results.
pub const NAME: &str = "raw_sync";

/// What one object may take.
const ROOM: usize = 256;

/// Room for an object, and the value that a lock protects.
#[repr(C, align(64))]
struct Room {
    object: UnsafeCell<MaybeUninit<[u8; ROOM]>>,
    value: UnsafeCell<u64>,
}

// SAFETY: the object is reached only through the crate, which makes it for several processes, and the value
// only under it.
unsafe impl Sync for Room {}
// SAFETY: repr(C) of bytes and an integer, of which any are values.
unsafe impl SharedLayout for [Line<Room>; MOST] {}

type Rooms = SharedBox<[Line<Room>; MOST]>;

impl Room {
    fn object(&self) -> *mut u8 {
        self.object.get().cast()
    }

    fn value(&self) -> *mut u8 {
        self.value.get().cast()
    }
}

type Found<T> = Result<(T, usize), Box<dyn std::error::Error>>;

/// Checks that an object has had enough room.
fn within<T>(found: Found<T>) -> io::Result<T> {
    let (object, used) = found.map_err(|error| io::Error::other(error.to_string()))?;
    if used > ROOM { Err(io::ErrorKind::OutOfMemory.into()) } else { Ok(object) }
}

/// Lock and unlock of the mutex, which protects a value that each turn may change.
///
/// # Errors
/// Those of getting shared memory and of the crate.
pub fn mutex() -> io::Result<Turns> {
    let rooms = Rooms::create()?;
    let room = &rooms[0].0;
    // SAFETY: aligned, live memory that is large enough and known to nobody else.
    let mutex = within(unsafe { Mutex::new(room.object(), room.value()) })?;
    Ok(Turns::new(NAME, move || {
        let _keeps_the_memory = &rooms;
        let guard = mutex.lock().expect("nobody dies");
        black_box(*guard);
    }))
}

/// Read and unlock of the rwlock.
pub struct ReadLock {
    lock: Box<dyn LockImpl>,
    rooms: Rooms,
}

impl ReadLock {
    /// Locks for reading, reads, and unlocks.
    #[inline]
    pub fn read(&self) {
        let guard = self.lock.rlock().expect("nobody dies");
        black_box(*guard);
    }
}

impl Place for ReadLock {
    fn create(_: usize) -> io::Result<Self> {
        let rooms = Rooms::create()?;
        let room = &rooms[0].0;
        // SAFETY: aligned, live memory that is large enough and known to nobody else.
        let lock = within(unsafe { RwLock::new(room.object(), room.value()) })?;
        Ok(ReadLock { lock, rooms })
    }

    fn address(&self) -> String {
        self.rooms.address()
    }

    fn attach(address: &str) -> io::Result<Self> {
        let rooms = Rooms::attach(address)?;
        let room = &rooms[0].0;
        // SAFETY: aligned, live memory in which the parent has made a lock of this kind.
        let lock = within(unsafe { RwLock::from_existing(room.object(), room.value()) })?;
        Ok(ReadLock { lock, rooms })
    }
}

impl Play for ReadLock {
    fn play(&self, _: Seat, turns: u64) {
        for _ in 0..turns {
            self.read();
        }
    }
}

impl TwoSided for ReadLock {
    fn keep_reading(&self) -> io::Result<()> {
        std::mem::forget(self.lock.rlock().map_err(|error| io::Error::other(error.to_string()))?);
        Ok(())
    }

    fn keep_writing(&self) -> io::Result<()> {
        std::mem::forget(self.lock.lock().map_err(|error| io::Error::other(error.to_string()))?);
        Ok(())
    }
}

/// An auto-reset event for each member.
pub struct Events {
    events: Vec<Box<dyn EventImpl>>,
    rooms: Rooms,
}

// SAFETY: an event is a pointer to what several processes share, which its `set` and `wait` reach under its mutex, whoever calls them.
unsafe impl Sync for Events {}

impl Place for Events {
    /// In all rooms, so that nobody has to be told how many hold an event.
    fn create(_: usize) -> io::Result<Self> {
        let rooms = Rooms::create()?;
        // SAFETY: aligned, live memory that is large enough and known to nobody else.
        let make = |room: &Line<Room>| within(unsafe { Event::new(room.0.object(), true) });
        let events = rooms.iter().map(make).collect::<io::Result<_>>()?;
        Ok(Events { events, rooms })
    }

    fn address(&self) -> String {
        self.rooms.address()
    }

    fn attach(address: &str) -> io::Result<Self> {
        let rooms = Rooms::attach(address)?;
        // SAFETY: aligned, live memory in which the parent has made an event.
        let find = |room: &Line<Room>| within(unsafe { Event::from_existing(room.0.object()) });
        let events = rooms.iter().map(find).collect::<io::Result<_>>()?;
        Ok(Events { events, rooms })
    }
}

impl Baton for Events {
    fn give(&self, to: usize) {
        self.events[to].set(EventState::Signaled).expect("nobody dies");
    }

    fn take(&self, own: usize) {
        self.events[own].wait(Timeout::Infinite).expect("a set in the end");
    }
}

/// Set and reset of a manual-reset event.
///
/// # Errors
/// Those of getting shared memory and of the crate.
pub fn set_reset() -> io::Result<Turns> {
    let rooms = Rooms::create()?;
    // SAFETY: aligned, live memory that is large enough and known to nobody else.
    let event = within(unsafe { Event::new(rooms[0].0.object(), false) })?;
    Ok(Turns::new(NAME, move || {
        let _keeps_the_memory = &rooms;
        event.set(EventState::Signaled).expect("nobody dies");
        event.set(EventState::Clear).expect("nobody dies");
    }))
}

/// The mutex, whose owner dies or is stopped.
pub struct Owned {
    lock: Box<dyn LockImpl>,
    rooms: Rooms,
}

impl Place for Owned {
    fn create(_: usize) -> io::Result<Self> {
        let rooms = Rooms::create()?;
        let room = &rooms[0].0;
        // SAFETY: aligned, live memory that is large enough and known to nobody else.
        let lock = within(unsafe { Mutex::new(room.object(), room.value()) })?;
        Ok(Owned { lock, rooms })
    }

    fn address(&self) -> String {
        self.rooms.address()
    }

    fn attach(address: &str) -> io::Result<Self> {
        let rooms = Rooms::attach(address)?;
        let room = &rooms[0].0;
        // SAFETY: aligned, live memory in which the parent has made a lock of this kind.
        let lock = within(unsafe { Mutex::from_existing(room.object(), room.value()) })?;
        Ok(Owned { lock, rooms })
    }
}

impl Doomed for Owned {
    fn fall(&self, here: &dyn Fn()) -> io::Result<()> {
        std::mem::forget(self.lock.lock().map_err(|error| io::Error::other(error.to_string()))?);
        here();
        Ok(())
    }

    fn go_on(&self) -> io::Result<Ended> {
        match self.lock.lock() {
            Ok(_) => Ok(Ended::GoesOn),
            Err(error) => Ok(Ended::Told(error.to_string())),
        }
    }
}

impl Stopping for Owned {
    fn section(&self, inside: &mut dyn FnMut()) {
        let _guard = self.lock.lock().expect("nobody dies");
        inside();
    }

    fn try_for(&self, at_most: Duration) -> io::Result<bool> {
        // Its error is a text for people, in whatever way it comes about.
        Ok(self.lock.try_lock(Timeout::Val(at_most)).is_ok())
    }
}
