//! Our own channels, in an anonymous region: [`Pipe`]s, their halves by themselves, and [`Queue`]s.

use std::cell::Cell;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use shmkit::{
    ByteReceiver, ByteSender, ChannelOptions, Described, Endpoint, Error, OpenError, Pipe, Queue, Receiver, Region,
    Sender, bytemuck::Pod,
};

use crate::message::{Carrier, Receiving, Sending};
use crate::ours;
use crate::team::Place;

/// The name of the queue in its region.
const QUEUE: &str = "queue";
/// Enough for all that is measured.
const REGION: usize = 4 << 20;
/// Against hanging: the process that makes a channel has done so by then.
const MADE_WITHIN: Duration = Duration::from_secs(20);

/// A region for channels, which the members put there: whoever makes a channel has an end of it.
pub struct Channels(Region);

impl Place for Channels {
    fn create(_: usize) -> io::Result<Self> {
        Region::anonymous(REGION).map(Channels).map_err(io::Error::other)
    }

    fn address(&self) -> String {
        ours::address_of(&self.0)
    }

    fn attach(address: &str) -> io::Result<Self> {
        ours::attach(address).map(Channels)
    }
}

impl Channels {
    /// Makes the channel `lane`, with room for `capacity` messages.
    pub(crate) fn make<E: Endpoint>(&self, lane: usize, capacity: usize) -> io::Result<E> {
        let mut options = ChannelOptions::new();
        options.capacity(capacity as u64).create_in(&self.0, &lane.to_string()).map_err(io::Error::other)
    }

    /// Opens the other end of the channel `lane`, once it is there.
    pub(crate) fn open<E: Endpoint>(&self, lane: usize) -> io::Result<E> {
        once_made(|| E::open_in(&self.0, &lane.to_string()))
    }
}

/// Opens what another member makes, once it is there.
pub(crate) fn once_made<E>(open: impl Fn() -> Result<E, OpenError>) -> io::Result<E> {
    let deadline = Instant::now() + MADE_WITHIN;
    loop {
        match open() {
            Err(OpenError::Failed(Error::NoSuchObject { .. })) if Instant::now() < deadline => thread::yield_now(),
            opened => return opened.map_err(io::Error::other),
        }
    }
}

/// Channels of one way each, with room for `CAPACITY` messages.
pub struct OneWay<const CAPACITY: usize>(Channels);

impl<const CAPACITY: usize> Place for OneWay<CAPACITY> {
    fn create(members: usize) -> io::Result<Self> {
        Channels::create(members).map(OneWay)
    }

    fn address(&self) -> String {
        self.0.address()
    }

    fn attach(address: &str) -> io::Result<Self> {
        Channels::attach(address).map(OneWay)
    }
}

impl<const CAPACITY: usize> OneWay<CAPACITY> {
    /// Makes the channel `lane`, and gets an end of it.
    ///
    /// # Errors
    /// Those of making it.
    pub fn make_end<E: Endpoint>(&self, lane: usize) -> io::Result<E> {
        self.0.make(lane, CAPACITY)
    }

    /// Gets the other end, once it is made.
    ///
    /// # Errors
    /// Those of opening it.
    pub fn open_end<E: Endpoint>(&self, lane: usize) -> io::Result<E> {
        self.0.open(lane)
    }
}

impl<const CAPACITY: usize> Carrier<u64> for OneWay<CAPACITY> {
    type Sender = Sender<u64>;
    type Receiver = Receiver<u64>;

    fn sender(&self, lane: usize) -> io::Result<Sender<u64>> {
        self.0.make(lane, CAPACITY)
    }

    fn receiver(&self, lane: usize) -> io::Result<Receiver<u64>> {
        self.0.open(lane)
    }
}

impl<const CAPACITY: usize> Carrier<[u64]> for OneWay<CAPACITY> {
    type Sender = Sender<u64>;
    type Receiver = Receiver<u64>;

    fn sender(&self, lane: usize) -> io::Result<Sender<u64>> {
        Carrier::<u64>::sender(self, lane)
    }

    fn receiver(&self, lane: usize) -> io::Result<Receiver<u64>> {
        Carrier::<u64>::receiver(self, lane)
    }
}

/// Channels for frames, of one way each and `CAPACITY` bytes.
pub struct Frames<const CAPACITY: usize>(Channels);

impl<const CAPACITY: usize> Place for Frames<CAPACITY> {
    fn create(members: usize) -> io::Result<Self> {
        Channels::create(members).map(Frames)
    }

    fn address(&self) -> String {
        self.0.address()
    }

    fn attach(address: &str) -> io::Result<Self> {
        Channels::attach(address).map(Frames)
    }
}

impl<const CAPACITY: usize> Carrier<[u8]> for Frames<CAPACITY> {
    type Sender = ByteSender;
    type Receiver = ByteReceiver;

    fn sender(&self, lane: usize) -> io::Result<ByteSender> {
        self.0.make(lane, CAPACITY)
    }

    fn receiver(&self, lane: usize) -> io::Result<ByteReceiver> {
        self.0.open(lane)
    }
}

impl Sending<[u8]> for ByteSender {
    #[inline(always)]
    fn send(&mut self, message: &[u8]) {
        ByteSender::send(self, message).expect("a receiver");
    }
}

impl Receiving<[u8]> for ByteReceiver {
    #[inline(always)]
    fn receive(&mut self, message: &mut [u8]) {
        assert_eq!(self.recv_into(message).expect("a sender"), message.len());
    }
}

/// What makes and opens a pipe between two, whose ends are taken apart into halves.
pub trait Duplex: 'static {
    /// Where the pipe lies.
    type Ground: Place;
    /// The half that sends.
    type Sender: 'static;
    /// The half that receives.
    type Receiver: 'static;

    /// Makes the pipe, with room for `capacity` messages (or bytes) each way.
    ///
    /// # Errors
    /// Those of making it.
    fn make(ground: &Self::Ground, capacity: usize) -> io::Result<(Self::Sender, Self::Receiver)>;

    /// Gets the other end, once it is made.
    ///
    /// # Errors
    /// Those of opening it.
    fn open(ground: &Self::Ground) -> io::Result<(Self::Sender, Self::Receiver)>;
}

impl<T: Pod + Described> Duplex for Pipe<T> {
    type Ground = Channels;
    type Sender = Sender<T>;
    type Receiver = Receiver<T>;

    fn make(ground: &Channels, capacity: usize) -> io::Result<(Sender<T>, Receiver<T>)> {
        ground.make(0, capacity).map(Pipe::split)
    }

    fn open(ground: &Channels) -> io::Result<(Sender<T>, Receiver<T>)> {
        ground.open(0).map(Pipe::split)
    }
}

/// A pipe with room for `CAPACITY` messages each way; its two ends are those of the two members.
pub struct BothWays<D: Duplex, const CAPACITY: usize> {
    ground: D::Ground,
    /// Half of the end of this member, when only the other one was asked for so far.
    sender: Cell<Option<D::Sender>>,
    /// The same.
    receiver: Cell<Option<D::Receiver>>,
}

impl<D: Duplex, const CAPACITY: usize> BothWays<D, CAPACITY> {
    fn with(ground: D::Ground) -> Self {
        BothWays { ground, sender: Cell::new(None), receiver: Cell::new(None) }
    }

    /// Gets the end of one of the members, in two halves.
    fn halves(&self, makes: bool) -> io::Result<(D::Sender, D::Receiver)> {
        if makes { D::make(&self.ground, CAPACITY) } else { D::open(&self.ground) }
    }
}

impl<D: Duplex, const CAPACITY: usize> Place for BothWays<D, CAPACITY> {
    fn create(members: usize) -> io::Result<Self> {
        D::Ground::create(members).map(Self::with)
    }

    fn address(&self) -> String {
        self.ground.address()
    }

    fn attach(address: &str) -> io::Result<Self> {
        D::Ground::attach(address).map(Self::with)
    }
}

impl<M: ?Sized, D: Duplex, const CAPACITY: usize> Carrier<M> for BothWays<D, CAPACITY>
where
    D::Sender: Sending<M>,
    D::Receiver: Receiving<M>,
{
    type Sender = D::Sender;
    type Receiver = D::Receiver;

    fn sender(&self, lane: usize) -> io::Result<D::Sender> {
        if let Some(sender) = self.sender.take() {
            return Ok(sender);
        }
        let (sender, receiver) = self.halves(lane == 0)?;
        self.receiver.set(Some(receiver));
        Ok(sender)
    }

    fn receiver(&self, lane: usize) -> io::Result<D::Receiver> {
        if let Some(receiver) = self.receiver.take() {
            return Ok(receiver);
        }
        let (sender, receiver) = self.halves(lane == 1)?;
        self.sender.set(Some(sender));
        Ok(receiver)
    }
}

/// A queue with room for `CAPACITY` messages; one lane.
pub struct Shared<const CAPACITY: usize>(Channels);

impl<const CAPACITY: usize> Place for Shared<CAPACITY> {
    fn create(members: usize) -> io::Result<Self> {
        let channels = Channels::create(members)?;
        Queue::<u64>::create_in(&channels.0, QUEUE, CAPACITY as u64).map_err(io::Error::other)?;
        Ok(Shared(channels))
    }

    fn address(&self) -> String {
        self.0.address()
    }

    fn attach(address: &str) -> io::Result<Self> {
        Channels::attach(address).map(Shared)
    }
}

impl<const CAPACITY: usize> Carrier<u64> for Shared<CAPACITY> {
    type Sender = Queue<u64>;
    type Receiver = Queue<u64>;

    fn sender(&self, _: usize) -> io::Result<Queue<u64>> {
        Queue::open_in(&self.0.0, QUEUE).map_err(io::Error::other)
    }

    fn receiver(&self, lane: usize) -> io::Result<Queue<u64>> {
        self.sender(lane)
    }
}

impl<T: Pod + Described> Sending<T> for Queue<T> {
    #[inline(always)]
    fn send(&mut self, message: &T) {
        Queue::send(self, *message).expect("nobody closes it");
    }
}

impl<T: Pod + Described> Receiving<T> for Queue<T> {
    #[inline(always)]
    fn receive(&mut self, message: &mut T) {
        *message = self.recv().expect("nobody closes it");
    }
}

impl<T: Pod + Described> Sending<T> for Sender<T> {
    #[inline(always)]
    fn send(&mut self, message: &T) {
        Sender::send(self, *message).expect("a receiver");
    }
}

impl<T: Pod + Described> Receiving<T> for Receiver<T> {
    #[inline(always)]
    fn receive(&mut self, message: &mut T) {
        *message = self.recv().expect("a sender");
    }
}

impl<T: Pod + Described> Sending<[T]> for Sender<T> {
    #[inline(always)]
    fn send(&mut self, messages: &[T]) {
        self.send_slice(messages).expect("a receiver");
    }
}

impl<T: Pod + Described> Receiving<[T]> for Receiver<T> {
    #[inline(always)]
    fn receive(&mut self, messages: &mut [T]) {
        let mut received = 0;
        while received < messages.len() {
            received += self.recv_slice(&mut messages[received..]).expect("a sender");
        }
    }
}
