//! The crate ipmpsc: a ring buffer in a file that all map, under a process-shared pthread mutex and condition variable.
//!
//! Used as its documentation says: the maker of the channel calls `SharedRingBuffer::create`, everybody else `open`; messages
//! are sent by `send` and, since they are bytes, received without a copy by a `ZeroCopyContext`, out of which they
//! are copied as all others do. They are given to serde as bytes, not one by one. The file is one in memory, as for
//! the others. Its mutex is not robust, and nobody is told of a death.

use std::fs::File;
use std::io;

use ipmpsc::{Receiver, Sender, SharedRingBuffer};
use serde::{Serialize, Serializer};

use crate::message::{Carrier, Note, Receiving, Sending};
use crate::shared::{address_of, memory_file};
use crate::team::Place;

/// The name in results.
pub const NAME: &str = "ipmpsc";

/// A ring of `CAPACITY` bytes for each lane.
pub struct Rings<const CAPACITY: u32> {
    paths: [String; 2],
    // Keep the memory for those who come by its path.
    _files: Option<[File; 2]>,
}

struct Bytes<'a>(&'a [u8]);

impl Serialize for Bytes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

impl<const CAPACITY: u32> Rings<CAPACITY> {
    fn open(&self, lane: usize) -> io::Result<SharedRingBuffer> {
        SharedRingBuffer::open(&self.paths[lane]).map_err(io::Error::other)
    }
}

impl<const CAPACITY: u32> Place for Rings<CAPACITY> {
    fn create(_: usize) -> io::Result<Self> {
        let files = [memory_file()?, memory_file()?];
        let paths = [address_of(&files[0]), address_of(&files[1])];
        for path in &paths {
            SharedRingBuffer::create(path, CAPACITY).map_err(io::Error::other)?;
        }
        Ok(Rings { paths, _files: Some(files) })
    }

    fn address(&self) -> String {
        self.paths.join(",")
    }

    fn attach(address: &str) -> io::Result<Self> {
        let (first, second) = address.split_once(',').ok_or(io::ErrorKind::InvalidInput)?;
        Ok(Rings { paths: [first.into(), second.into()], _files: None })
    }
}

impl<const CAPACITY: u32> Carrier<[u8]> for Rings<CAPACITY> {
    type Sender = Sender;
    type Receiver = Receiver;

    fn sender(&self, lane: usize) -> io::Result<Sender> {
        self.open(lane).map(Sender::new)
    }

    fn receiver(&self, lane: usize) -> io::Result<Receiver> {
        self.open(lane).map(Receiver::new)
    }
}

impl<const CAPACITY: u32> Carrier<Note> for Rings<CAPACITY> {
    type Sender = Sender;
    type Receiver = Receiver;

    fn sender(&self, lane: usize) -> io::Result<Sender> {
        Carrier::<[u8]>::sender(self, lane)
    }

    fn receiver(&self, lane: usize) -> io::Result<Receiver> {
        Carrier::<[u8]>::receiver(self, lane)
    }
}

impl Sending<[u8]> for Sender {
    fn send(&mut self, message: &[u8]) {
        Sender::send(self, &Bytes(message)).expect("room in the end");
    }
}

impl Receiving<[u8]> for Receiver {
    fn receive(&mut self, message: &mut [u8]) {
        message.copy_from_slice(self.zero_copy_context().recv().expect("a message of bytes"));
    }
}

impl Sending<Note> for Sender {
    fn send(&mut self, message: &Note) {
        Sending::send(self, message.as_slice());
    }
}

impl Receiving<Note> for Receiver {
    fn receive(&mut self, message: &mut Note) {
        Receiving::receive(self, message.as_mut_slice());
    }
}
