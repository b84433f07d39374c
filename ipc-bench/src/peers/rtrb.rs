//! The crate rtrb: a ring for one producer and one consumer, in two threads of a process.
//!
//! Used as its documentation says: `RingBuffer::new`, each end moved into its thread, `push` and `pop` until they succeed.
//! It has no way of waiting, so both sides look again and again. Batches are copied by the calls for whole
//! slices, which are its chunks with a `memcpy`.

use std::io;
use std::sync::{Mutex, PoisonError};

use rtrb::{Consumer, Producer, RingBuffer};

use crate::message::{Carrier, Receiving, Sending, pause};

/// The name in results.
pub const NAME: &str = "rtrb, threads";
/// The name where it looks again at once.
pub const AT_ONCE: &str = "rtrb looking at once, threads";
/// The name with batches.
pub const CHUNKS: &str = "rtrb chunks, threads";

/// A ring for each lane, with `PAUSES` pauses from look to look, whose ends are still here.
pub struct Rings<T, const CAPACITY: usize, const PAUSES: u32> {
    producers: [Taken<Producer<T>>; 2],
    consumers: [Taken<Consumer<T>>; 2],
}

/// What can be taken once.
struct Taken<E>(Mutex<Option<E>>);

impl<E> Taken<E> {
    fn new(end: E) -> Self {
        Taken(Mutex::new(Some(end)))
    }

    fn take(&self) -> io::Result<E> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take().ok_or(io::ErrorKind::NotFound.into())
    }
}

impl<T, const CAPACITY: usize, const PAUSES: u32> Default for Rings<T, CAPACITY, PAUSES> {
    fn default() -> Self {
        let [there, back] = [RingBuffer::new(CAPACITY), RingBuffer::new(CAPACITY)];
        Rings {
            producers: [Taken::new(there.0), Taken::new(back.0)],
            consumers: [Taken::new(there.1), Taken::new(back.1)],
        }
    }
}

/// An end of a ring.
pub struct End<E, const PAUSES: u32>(E);

impl<M, T, const CAPACITY: usize, const PAUSES: u32> Carrier<M> for Rings<T, CAPACITY, PAUSES>
where
    M: ?Sized,
    T: 'static,
    End<Producer<T>, PAUSES>: Sending<M>,
    End<Consumer<T>, PAUSES>: Receiving<M>,
{
    type Sender = End<Producer<T>, PAUSES>;
    type Receiver = End<Consumer<T>, PAUSES>;

    fn sender(&self, lane: usize) -> io::Result<Self::Sender> {
        self.producers[lane].take().map(End)
    }

    fn receiver(&self, lane: usize) -> io::Result<Self::Receiver> {
        self.consumers[lane].take().map(End)
    }
}

impl<T: Copy + 'static, const PAUSES: u32> Sending<T> for End<Producer<T>, PAUSES> {
    #[inline(always)]
    fn send(&mut self, message: &T) {
        while self.0.push(*message).is_err() {
            pause::<PAUSES>();
        }
    }
}

impl<T: Copy + 'static, const PAUSES: u32> Receiving<T> for End<Consumer<T>, PAUSES> {
    #[inline(always)]
    fn receive(&mut self, message: &mut T) {
        loop {
            match self.0.pop() {
                Ok(value) => return *message = value,
                Err(_) => pause::<PAUSES>(),
            }
        }
    }
}

impl<T: Copy + 'static, const PAUSES: u32> Sending<[T]> for End<Producer<T>, PAUSES> {
    #[inline(always)]
    fn send(&mut self, message: &[T]) {
        while self.0.push_entire_slice(message).is_err() {
            pause::<PAUSES>();
        }
    }
}

impl<T: Copy + 'static, const PAUSES: u32> Receiving<[T]> for End<Consumer<T>, PAUSES> {
    #[inline(always)]
    fn receive(&mut self, message: &mut [T]) {
        while self.0.pop_entire_slice(message).is_err() {
            pause::<PAUSES>();
        }
    }
}
