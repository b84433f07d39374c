//! The floor of frames: a `memcpy` into shared memory and one out of it, and nothing that is not needed for them.
//!
//! ```text
//! written | read | slot 0 | slot 1 | ...
//! ```
//!
//! The slots lie in one shared buffer. The sender waits, looking, until a slot is free, copies a frame of its
//! own memory into it, and publishes that by a store to `written`; the receiver waits, looking, until there
//! is one, copies it out into memory of its own, and gives the slot back by a store to `read`. With two
//! slots one copies in while the other copies out; with more, neither has to wait for the other's pace in
//! each frame. Both know the length of all frames; nobody is woken, and nobody's death is noticed.

use std::cell::UnsafeCell;
use std::io;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Release};

use crate::message::{Carrier, Receiving, Sending, pause};
use crate::shared::{Line, SharedBox, SharedLayout};
use crate::team::Place;

/// The name of a [`Buffer`] of 1 MiB in results.
pub const MEMCPY: &str = "memcpy in and out";
/// The name of a [`Buffer`] of two slots.
pub const TWO_SLOTS: &str = "memcpy in and out, two slots";

#[repr(C)]
struct Slots<const SIZE: usize, const COUNT: usize> {
    /// How many frames have been copied in; written by the sender.
    written: Line<AtomicU64>,
    /// How many of them have been copied out; written by the receiver.
    read: Line<AtomicU64>,
    slots: [Slot<SIZE>; COUNT],
}

#[repr(C, align(64))]
struct Slot<const SIZE: usize>(UnsafeCell<[u8; SIZE]>);

// SAFETY: a slot is reached by the sender while `written` says that it holds no frame, and by the receiver while
// it says that it does.
unsafe impl<const SIZE: usize, const COUNT: usize> Sync for Slots<SIZE, COUNT> {}
// SAFETY: repr(C) of integers and bytes, for which zero is a value, aligned to 128 bytes; and `Sync` holds
// between processes too, since atomics do.
unsafe impl<const SIZE: usize, const COUNT: usize> SharedLayout for Slots<SIZE, COUNT> {}

/// `COUNT` slots for frames of `SIZE` bytes, with `PAUSES` pauses from look to look; one lane.
pub struct Buffer<const SIZE: usize, const COUNT: usize, const PAUSES: u32>(Arc<SharedBox<Slots<SIZE, COUNT>>>);

impl<const SIZE: usize, const COUNT: usize, const PAUSES: u32> Place for Buffer<SIZE, COUNT, PAUSES> {
    fn create(_: usize) -> io::Result<Self> {
        SharedBox::create().map(|slots| Buffer(Arc::new(slots)))
    }

    fn address(&self) -> String {
        self.0.address()
    }

    fn attach(address: &str) -> io::Result<Self> {
        SharedBox::attach(address).map(|slots| Buffer(Arc::new(slots)))
    }
}

impl<const SIZE: usize, const COUNT: usize, const PAUSES: u32> Carrier<[u8]> for Buffer<SIZE, COUNT, PAUSES> {
    type Sender = In<SIZE, COUNT, PAUSES>;
    type Receiver = Out<SIZE, COUNT, PAUSES>;

    fn sender(&self, _: usize) -> io::Result<Self::Sender> {
        Ok(In { slots: Arc::clone(&self.0), written: 0, read: 0 })
    }

    fn receiver(&self, _: usize) -> io::Result<Self::Receiver> {
        Ok(Out { slots: Arc::clone(&self.0), written: 0, read: 0 })
    }
}

/// Copies in.
pub struct In<const SIZE: usize, const COUNT: usize, const PAUSES: u32> {
    slots: Arc<SharedBox<Slots<SIZE, COUNT>>>,
    written: u64,
    /// As it was when last looked at.
    read: u64,
}

impl<const SIZE: usize, const COUNT: usize, const PAUSES: u32> Sending<[u8]> for In<SIZE, COUNT, PAUSES> {
    #[inline(always)]
    fn send(&mut self, message: &[u8]) {
        assert_eq!(message.len(), SIZE, "all frames are as long");
        while self.written - self.read == COUNT as u64 {
            pause::<PAUSES>();
            // Acquire pairs with the Release in `receive`.
            self.read = self.slots.read.0.load(Acquire);
        }
        let slot = self.slots.slots[self.written as usize % COUNT].0.get();
        // SAFETY: both are live and `SIZE` bytes long, the message is private, and the receiver has given back the
        // slot.
        unsafe { ptr::copy_nonoverlapping(message.as_ptr(), slot.cast(), SIZE) };
        self.written += 1;
        // Release pairs with the Acquire in `receive`.
        self.slots.written.0.store(self.written, Release);
    }
}

/// Copies out.
pub struct Out<const SIZE: usize, const COUNT: usize, const PAUSES: u32> {
    slots: Arc<SharedBox<Slots<SIZE, COUNT>>>,
    /// As it was when last looked at.
    written: u64,
    read: u64,
}

impl<const SIZE: usize, const COUNT: usize, const PAUSES: u32> Receiving<[u8]> for Out<SIZE, COUNT, PAUSES> {
    #[inline(always)]
    fn receive(&mut self, message: &mut [u8]) {
        assert_eq!(message.len(), SIZE, "all frames are as long");
        while self.written == self.read {
            pause::<PAUSES>();
            // Acquire pairs with the Release in `send`.
            self.written = self.slots.written.0.load(Acquire);
        }
        let slot = self.slots.slots[self.read as usize % COUNT].0.get();
        // SAFETY: both are live and `SIZE` bytes long, the message is private, and the sender has left the slot to
        // the receiver.
        unsafe { ptr::copy_nonoverlapping(slot.cast(), message.as_mut_ptr(), SIZE) };
        self.read += 1;
        // Release pairs with the Acquire in `send`.
        self.slots.read.0.store(self.read, Release);
    }
}
