//! Our channels, and what those do who are left alone at one.

use std::io;
use std::marker::PhantomData;

use shmkit::{ByteReceiver, ByteSender, Endpoint, Receiver, RecvError, SendError, Sender};

use super::other;
use crate::channels::{OneWay, Shared};
use crate::killed::{Doomed, Ended};
use crate::message::Carrier;
use crate::team::Place;

/// How many messages the queue has room for.
const ROOM: usize = 64;
const FRAME: [u8; 64] = [7; 64];

/// An end of one of our channels.
pub(super) trait Half: Endpoint + 'static {
    /// Sends or receives one message; or returns what it is told when nobody is at the other end.
    fn pass(&mut self) -> io::Result<Option<String>>;
}

macro_rules! half {
    ($end:ty, $error:pat, |$half:ident| $pass:expr) => {
        impl Half for $end {
            fn pass(&mut self) -> io::Result<Option<String>> {
                let $half = self;
                match $pass {
                    Ok(_) => Ok(None),
                    Err(error @ $error) => Ok(Some(error.to_string())),
                    Err(error) => Err(other(error)),
                }
            }
        }
    };
}

half!(Sender<u64>, SendError::Disconnected(_), |half| half.send(7));
half!(Receiver<u64>, RecvError::Disconnected, |half| half.recv());
half!(ByteSender, SendError::Disconnected(_), |half| half.send(&FRAME));
half!(ByteReceiver, RecvError::Disconnected, |half| half.recv_into(&mut [0; FRAME.len()]));

/// A channel with room for `CAPACITY`, of which the survivor has the end `E`, and the victim the other one.
pub(super) struct Left<E, const CAPACITY: usize>(OneWay<CAPACITY>, PhantomData<fn() -> E>);

impl<E: Half, const CAPACITY: usize> Place for Left<E, CAPACITY> {
    fn create(members: usize) -> io::Result<Self> {
        OneWay::create(members).map(|channel| Left(channel, PhantomData))
    }

    fn address(&self) -> String {
        self.0.address()
    }

    fn attach(address: &str) -> io::Result<Self> {
        OneWay::attach(address).map(|channel| Left(channel, PhantomData))
    }
}

impl<E: Half<Peer: Half>, const CAPACITY: usize> Doomed for Left<E, CAPACITY> {
    fn fall(&self, here: &dyn Fn()) -> io::Result<()> {
        // It makes the channel, so that it need not wait for the survivor.
        let mut end: E::Peer = self.0.make_end(0)?;
        here();
        while end.pass()?.is_none() {}
        Ok(())
    }

    fn go_on(&self) -> io::Result<Ended> {
        let mut end: E = match self.0.open_end(0) {
            Ok(end) => end,
            Err(error) => return Ok(Ended::Told(error.to_string())),
        };
        loop {
            if let Some(told) = end.pass()? {
                return Ok(Ended::Told(told));
            }
        }
    }
}

/// A queue of which one of two senders dies.
pub(super) struct Queue(Shared<ROOM>);

impl Place for Queue {
    fn create(members: usize) -> io::Result<Self> {
        Shared::create(members).map(Queue)
    }

    fn address(&self) -> String {
        self.0.address()
    }

    fn attach(address: &str) -> io::Result<Self> {
        Shared::attach(address).map(Queue)
    }
}

impl Doomed for Queue {
    fn fall(&self, here: &dyn Fn()) -> io::Result<()> {
        let queue = self.0.sender(0)?;
        here();
        loop {
            queue.send(7).map_err(other)?;
        }
    }

    /// Takes what the dead has left, and sends and receives something of its own.
    fn go_on(&self) -> io::Result<Ended> {
        let queue = self.0.sender(0)?;
        while queue.try_recv().is_ok() {}
        queue.send(8).map_err(other)?;
        match queue.recv().map_err(other)? {
            8 => Ok(Ended::GoesOn),
            _ => Err(other("a message that nobody has sent")),
        }
    }
}
