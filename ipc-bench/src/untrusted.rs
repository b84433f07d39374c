//! Our own channels among peers that are not trusted, in an anonymous [`UntrustedRegion`].
//!
//! Their waits have a bound, which no measured case comes near to.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::process;
use std::time::Duration;

use shmkit::bytemuck::Pod;
use shmkit::{
    ChannelOptions, Described, Pipe, QueueOptions, Receiver, Sender, UntrustedEnd, UntrustedQueue, UntrustedRegion,
};

use crate::channels::{Duplex, once_made};
use crate::message::{Carrier, Receiving, Sending};
use crate::team::Place;

/// The bound of waits: as long as nobody is given up here before.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The name of the one channel in its region.
const CHANNEL: &str = "channel";
/// Enough for all that is measured.
const REGION: usize = 1 << 20;

/// A region for one channel.
pub struct Ground(UntrustedRegion);

impl Place for Ground {
    fn create(_: usize) -> io::Result<Self> {
        UntrustedRegion::anonymous(REGION).map(Ground).map_err(io::Error::other)
    }

    fn address(&self) -> String {
        format!("/proc/{}/fd/{}", process::id(), self.0.as_fd().as_raw_fd())
    }

    fn attach(address: &str) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(address)?;
        UntrustedRegion::from_fd(file.into()).map(Ground).map_err(io::Error::other)
    }
}

impl<T: Pod + Described> Duplex for UntrustedEnd<Pipe<T>> {
    type Ground = Ground;
    type Sender = UntrustedEnd<Sender<T>>;
    type Receiver = UntrustedEnd<Receiver<T>>;

    fn make(ground: &Ground, capacity: usize) -> io::Result<(Self::Sender, Self::Receiver)> {
        let mut options = ChannelOptions::new();
        let end = options.capacity(capacity as u64).create_in_untrusted::<Pipe<T>>(&ground.0, CHANNEL);
        end.map(Self::split).map_err(io::Error::other)
    }

    fn open(ground: &Ground) -> io::Result<(Self::Sender, Self::Receiver)> {
        once_made(|| Self::open_in(&ground.0, CHANNEL)).map(Self::split)
    }
}

impl<T: Pod + Described> Sending<T> for UntrustedEnd<Sender<T>> {
    #[inline(always)]
    fn send(&mut self, message: &T) {
        self.send_timeout(*message, PATIENCE).expect("a receiver");
    }
}

impl<T: Pod + Described> Receiving<T> for UntrustedEnd<Receiver<T>> {
    #[inline(always)]
    fn receive(&mut self, message: &mut T) {
        *message = self.recv_timeout(PATIENCE).expect("a sender");
    }
}

/// A queue with room for `CAPACITY` messages; one lane.
pub struct Shared<const CAPACITY: usize>(Ground);

impl<const CAPACITY: usize> Place for Shared<CAPACITY> {
    fn create(members: usize) -> io::Result<Self> {
        let ground = Ground::create(members)?;
        let mut options = QueueOptions::new();
        let queue = options.capacity(CAPACITY as u64).create_in_untrusted::<u64>(&ground.0, CHANNEL);
        queue.map(|_| Shared(ground)).map_err(io::Error::other)
    }

    fn address(&self) -> String {
        self.0.address()
    }

    fn attach(address: &str) -> io::Result<Self> {
        Ground::attach(address).map(Shared)
    }
}

impl<const CAPACITY: usize> Carrier<u64> for Shared<CAPACITY> {
    type Sender = UntrustedQueue<u64>;
    type Receiver = UntrustedQueue<u64>;

    fn sender(&self, _: usize) -> io::Result<UntrustedQueue<u64>> {
        UntrustedQueue::open_in(&self.0.0, CHANNEL).map_err(io::Error::other)
    }

    fn receiver(&self, lane: usize) -> io::Result<UntrustedQueue<u64>> {
        self.sender(lane)
    }
}

impl<T: Pod + Described> Sending<T> for UntrustedQueue<T> {
    #[inline(always)]
    fn send(&mut self, message: &T) {
        self.send_timeout(*message, PATIENCE).expect("nobody closes it");
    }
}

impl<T: Pod + Described> Receiving<T> for UntrustedQueue<T> {
    #[inline(always)]
    fn receive(&mut self, message: &mut T) {
        *message = self.recv_timeout(PATIENCE).expect("nobody closes it");
    }
}
