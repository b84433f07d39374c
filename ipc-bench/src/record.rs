//! The floor of a message there and back: a record beside its number, in one line for each lane.
//!
//! The sender copies the message into the line and publishes it by a store to the number; the receiver looks for
//! the next number, and copies the message out. Nothing says that it has done so but its answer: only good
//! for one message there and back, and nobody's death is noticed.

use std::cell::UnsafeCell;
use std::hint;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Release};

use crate::message::{Carrier, Note, Receiving, Sending};
use crate::shared::{Line, SharedBox, SharedLayout};
use crate::team::Place;

/// The name in results.
pub const LINE: &str = "cache line with the message";

#[repr(C)]
struct Record {
    /// How many messages there have been; written by the sender.
    number: AtomicU64,
    message: UnsafeCell<Note>,
}

type Both = [Line<Record>; 2];

// SAFETY: the message is reached by the sender before it raises `number`, and by the receiver after that, until it
// answers by the other lane.
unsafe impl Sync for Record {}
// SAFETY: repr(C) of an integer and bytes, for which zero is a value; and `Sync` holds between processes too, since
// atomics do.
unsafe impl SharedLayout for Both {}

/// A record for each lane.
pub struct Records(Arc<SharedBox<Both>>);

/// An end of a lane.
pub struct End {
    records: Arc<SharedBox<Both>>,
    lane: usize,
    /// How many messages have gone this way.
    number: u64,
}

impl Place for Records {
    fn create(_: usize) -> io::Result<Self> {
        SharedBox::create().map(|records| Records(Arc::new(records)))
    }

    fn address(&self) -> String {
        self.0.address()
    }

    fn attach(address: &str) -> io::Result<Self> {
        SharedBox::attach(address).map(|records| Records(Arc::new(records)))
    }
}

impl Carrier<Note> for Records {
    type Sender = End;
    type Receiver = End;

    fn sender(&self, lane: usize) -> io::Result<End> {
        Ok(End { records: Arc::clone(&self.0), lane, number: 0 })
    }

    fn receiver(&self, lane: usize) -> io::Result<End> {
        self.sender(lane)
    }
}

impl Sending<Note> for End {
    #[inline(always)]
    fn send(&mut self, message: &Note) {
        let record = &self.records[self.lane].0;
        // SAFETY: live and aligned, and the receiver has answered the message before.
        unsafe { *record.message.get() = *message };
        self.number += 1;
        // Release pairs with the Acquire in `receive`.
        record.number.store(self.number, Release);
    }
}

impl Receiving<Note> for End {
    #[inline(always)]
    fn receive(&mut self, message: &mut Note) {
        let record = &self.records[self.lane].0;
        self.number += 1;
        // Acquire pairs with the Release in `send`.
        while record.number.load(Acquire) != self.number {
            hint::spin_loop();
        }
        // SAFETY: live and aligned, and the sender waits for the answer.
        unsafe { *message = *record.message.get() };
    }
}
