//! The crate shmem-ipc: a ring between two processes, with eventfds to wait for.
//!
//! Used as its documentation says: the closure is given a piece of the ring, and copies as much as fits; a
//! side that finds no room, or nothing, blocks. The children inherit the descriptors.

use std::io;
use std::ptr;

use shmem_ipc::sharedring::{Receiver, Sender};

use super::descriptors::Inherited;
use crate::message::{Carrier, Receiving, Sending};
use crate::team::Place;

/// The name in results.
pub const NAME: &str = "shmem-ipc";

/// A ring of at least `CAPACITY` bytes; one lane.
pub struct Ring<const CAPACITY: usize>(Inherited);

impl<const CAPACITY: usize> Place for Ring<CAPACITY> {
    fn create(_: usize) -> io::Result<Self> {
        let ring = Sender::<u8>::new(CAPACITY).map_err(io::Error::other)?;
        let descriptors = [ring.memfd().as_file(), ring.empty_signal(), ring.full_signal()];
        let copies = descriptors.into_iter().map(|file| Ok(file.try_clone()?.into()));
        Inherited::new(copies.collect::<io::Result<Vec<_>>>()?).map(Ring)
    }

    fn address(&self) -> String {
        self.0.address()
    }

    fn attach(address: &str) -> io::Result<Self> {
        Inherited::attach(address).map(Ring)
    }
}

impl<const CAPACITY: usize> Carrier<[u8]> for Ring<CAPACITY> {
    type Sender = Sender<u8>;
    type Receiver = Receiver<u8>;

    fn sender(&self, _: usize) -> io::Result<Sender<u8>> {
        Sender::open(CAPACITY, self.0.get(0)?, self.0.get(1)?, self.0.get(2)?).map_err(io::Error::other)
    }

    fn receiver(&self, _: usize) -> io::Result<Receiver<u8>> {
        Receiver::open(CAPACITY, self.0.get(0)?, self.0.get(1)?, self.0.get(2)?).map_err(io::Error::other)
    }
}

impl Sending<[u8]> for Sender<u8> {
    fn send(&mut self, message: &[u8]) {
        let mut rest = message;
        while !rest.is_empty() {
            self.block_until_writable().expect("a ring");
            self.send_raw(|room, count| {
                let count = count.min(rest.len());
                // SAFETY: `room` has room for as much and is left to the sender, and the rest is as long and private.
                unsafe { ptr::copy_nonoverlapping(rest.as_ptr(), room, count) };
                rest = &rest[count..];
                count
            })
            .expect("a ring");
        }
    }
}

impl Receiving<[u8]> for Receiver<u8> {
    fn receive(&mut self, message: &mut [u8]) {
        let mut done = 0;
        while done < message.len() {
            self.block_until_readable().expect("a ring");
            self.receive_raw(|bytes, count| {
                let rest = &mut message[done..];
                let count = count.min(rest.len());
                // SAFETY: there are as many bytes left to the receiver, and the rest is as long and private.
                unsafe { ptr::copy_nonoverlapping(bytes, rest.as_mut_ptr(), count) };
                done += count;
                count
            })
            .expect("a ring");
        }
    }
}
