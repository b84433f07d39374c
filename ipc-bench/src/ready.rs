//! Our own receivers in an event loop: epoll tells by their [`Readiness`] when there is something to do.

use std::io;
use std::marker::PhantomData;
use std::os::fd::AsFd;

use shmkit::bytemuck::Pod;
use shmkit::{ChannelOptions, Described, Pipe, Readiness, Receiver, RecvError, Sender, Ticket};

use crate::channels::Duplex;
use crate::message::{Carrier, Receiving};
use crate::peers::descriptors::Sockets;
use crate::peers::polled::Epoll;

/// A [`Pipe`] without a name, whose second end the other member gets by a [`Ticket`].
pub struct Ticketed<T>(PhantomData<T>);

impl<T: Pod + Described> Duplex for Ticketed<T> {
    type Ground = Sockets;
    type Sender = Sender<T>;
    type Receiver = Receiver<T>;

    fn make(ground: &Sockets, capacity: usize) -> io::Result<(Sender<T>, Receiver<T>)> {
        let mut options = ChannelOptions::new();
        let (pipe, ticket) = options.capacity(capacity as u64).pair::<Pipe<T>>().map_err(io::Error::other)?;
        ticket.send(&ground.sender(0)?).map_err(|error| io::Error::other(error.to_string()))?;
        Ok(pipe.split())
    }

    fn open(ground: &Sockets) -> io::Result<(Sender<T>, Receiver<T>)> {
        let ticket = Ticket::<Pipe<T>>::receive(&ground.sender(1)?);
        ticket.and_then(Ticket::take).map(Pipe::split).map_err(io::Error::other)
    }
}

/// What `D` makes, where the receiving halves are looked at when their readiness says so.
pub struct Ready<D>(PhantomData<D>);

/// A receiving half with the event loop that waits for it.
pub struct ReadyReceiver<T: Pod + Described> {
    receiver: Receiver<T>,
    epoll: Epoll,
    // Kept, since the event loop has its descriptor.
    _readiness: Readiness,
}

impl<T: Pod + Described> ReadyReceiver<T> {
    fn of(mut receiver: Receiver<T>) -> io::Result<Self> {
        let readiness = receiver.readiness().map_err(io::Error::other)?;
        let epoll = Epoll::of(readiness.as_fd())?;
        Ok(ReadyReceiver { receiver, epoll, _readiness: readiness })
    }
}

impl<T: Pod + Described, D: Duplex<Receiver = Receiver<T>>> Duplex for Ready<D> {
    type Ground = D::Ground;
    type Sender = D::Sender;
    type Receiver = ReadyReceiver<T>;

    fn make(ground: &D::Ground, capacity: usize) -> io::Result<(D::Sender, ReadyReceiver<T>)> {
        let (sender, receiver) = D::make(ground, capacity)?;
        Ok((sender, ReadyReceiver::of(receiver)?))
    }

    fn open(ground: &D::Ground) -> io::Result<(D::Sender, ReadyReceiver<T>)> {
        let (sender, receiver) = D::open(ground)?;
        Ok((sender, ReadyReceiver::of(receiver)?))
    }
}

impl<T: Pod + Described> Receiving<T> for ReadyReceiver<T> {
    #[inline(always)]
    fn receive(&mut self, message: &mut T) {
        loop {
            match self.receiver.try_recv() {
                Ok(received) => return *message = received,
                Err(RecvError::Empty) => self.epoll.wait(),
                Err(error) => panic!("a sender: {error}"),
            }
        }
    }
}
