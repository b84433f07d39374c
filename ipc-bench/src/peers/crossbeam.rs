//! The crate crossbeam-channel: a bounded channel between threads of a process.
//!
//! Used as its documentation says: `bounded`, both ends cloned for each thread, and the `send` and `recv` that block.

use std::io;

use crossbeam_channel::{Receiver, Sender};

use crate::message::{Carrier, Receiving, Sending};

/// The name in results.
pub const NAME: &str = "crossbeam-channel, threads";

/// A channel for `CAPACITY` messages; one lane.
pub struct Channel<T, const CAPACITY: usize>(Sender<T>, Receiver<T>);

impl<T, const CAPACITY: usize> Default for Channel<T, CAPACITY> {
    fn default() -> Self {
        let (sender, receiver) = crossbeam_channel::bounded(CAPACITY);
        Channel(sender, receiver)
    }
}

impl<T: Copy + 'static, const CAPACITY: usize> Carrier<T> for Channel<T, CAPACITY> {
    type Sender = Sender<T>;
    type Receiver = Receiver<T>;

    fn sender(&self, _: usize) -> io::Result<Sender<T>> {
        Ok(self.0.clone())
    }

    fn receiver(&self, _: usize) -> io::Result<Receiver<T>> {
        Ok(self.1.clone())
    }
}

impl<T: Copy + 'static> Sending<T> for Sender<T> {
    #[inline(always)]
    fn send(&mut self, message: &T) {
        Sender::send(self, *message).expect("a receiver");
    }
}

impl<T: Copy + 'static> Receiving<T> for Receiver<T> {
    #[inline(always)]
    fn receive(&mut self, message: &mut T) {
        *message = self.recv().expect("a sender");
    }
}
