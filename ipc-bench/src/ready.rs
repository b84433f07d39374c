//! Our own receivers in an event loop: epoll tells by their [`Readiness`] when there is something to do.

use std::io;
use std::marker::PhantomData;
use std::os::fd::AsFd;

use shmkit::bytemuck::Pod;
use shmkit::{Described, Pipe, Readiness, Receiver, RecvError, Sender};

use crate::channels::{Channels, Duplex};
use crate::message::Receiving;
use crate::peers::polled::Epoll;

/// A [`Pipe`] whose receiving halves are looked at when their readiness says so.
pub struct Ready<T>(PhantomData<T>);

/// A receiving half with the event loop that waits for it.
pub struct ReadyReceiver<T: Pod + Described> {
    receiver: Receiver<T>,
    epoll: Epoll,
    _readiness: Readiness,
}

impl<T: Pod + Described> ReadyReceiver<T> {
    fn of(mut receiver: Receiver<T>) -> io::Result<Self> {
        let readiness = receiver.readiness().map_err(io::Error::other)?;
        let epoll = Epoll::of(readiness.as_fd())?;
        Ok(ReadyReceiver { receiver, epoll, _readiness: readiness })
    }
}

impl<T: Pod + Described> Duplex for Ready<T> {
    type Ground = Channels;
    type Sender = Sender<T>;
    type Receiver = ReadyReceiver<T>;

    fn make(ground: &Channels, capacity: usize) -> io::Result<(Sender<T>, ReadyReceiver<T>)> {
        let (sender, receiver) = <Pipe<T> as Duplex>::make(ground, capacity)?;
        Ok((sender, ReadyReceiver::of(receiver)?))
    }

    fn open(ground: &Channels) -> io::Result<(Sender<T>, ReadyReceiver<T>)> {
        let (sender, receiver) = <Pipe<T> as Duplex>::open(ground)?;
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
