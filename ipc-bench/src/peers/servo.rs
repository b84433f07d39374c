//! Servo's crate ipc-channel: its channel of bytes, which on Linux is a Unix socket.
//!
//! Used as its documentation says: `IpcOneShotServer` to find each other, by which the end of a `bytes_channel` is sent, and then `send` and `recv`.
//! It gives a new vector for each message, which is copied out of there, as the others copy out.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};

use ipc_channel::ipc::{self, IpcBytesReceiver, IpcBytesSender, IpcOneShotServer, IpcSender};

use super::descriptors::{Inherited, pipe};
use super::temporary;
use crate::killed::{Doomed, Ended};
use crate::message::{Carrier, Receiving, Sending};
use crate::team::Place;

/// The name in results.
pub const NAME: &str = "ipc-channel (servo)";

/// A pipe, by which the receiver tells the sender where it is to be found; one lane.
pub struct Rendezvous(Inherited);

impl Place for Rendezvous {
    fn create(_: usize) -> io::Result<Self> {
        temporary::claim()?;
        Inherited::new(pipe()?).map(Rendezvous)
    }

    fn address(&self) -> String {
        self.0.address()
    }

    fn attach(address: &str) -> io::Result<Self> {
        Inherited::attach(address).map(Rendezvous)
    }
}

impl Carrier<[u8]> for Rendezvous {
    type Sender = IpcBytesSender;
    type Receiver = IpcBytesReceiver;

    fn sender(&self, _: usize) -> io::Result<IpcBytesSender> {
        let mut name = String::new();
        BufReader::new(self.0.get(0)?).read_line(&mut name)?;
        let (sender, receiver) = ipc::bytes_channel()?;
        IpcSender::connect(name.trim_end().into())?.send(receiver).map_err(io::Error::other)?;
        Ok(sender)
    }

    fn receiver(&self, _: usize) -> io::Result<IpcBytesReceiver> {
        let (server, name) = IpcOneShotServer::new()?;
        let mut tell: File = self.0.get(1)?;
        writeln!(tell, "{name}")?;
        let (_, receiver) = server.accept().map_err(io::Error::other)?;
        Ok(receiver)
    }
}

impl Sending<[u8]> for IpcBytesSender {
    fn send(&mut self, message: &[u8]) {
        IpcBytesSender::send(self, message).expect("a receiver");
    }
}

impl Receiving<[u8]> for IpcBytesReceiver {
    fn receive(&mut self, message: &mut [u8]) {
        message.copy_from_slice(&self.recv().expect("a sender"));
    }
}

/// The channel of a sender that dies; the receiver tells where it is before it waits for that.
pub struct Dying {
    rendezvous: Rendezvous,
    server: Cell<Option<IpcOneShotServer<IpcBytesReceiver>>>,
}

impl Dying {
    fn with(rendezvous: Rendezvous) -> Self {
        Dying { rendezvous, server: Cell::new(None) }
    }
}

impl Place for Dying {
    fn create(members: usize) -> io::Result<Self> {
        Rendezvous::create(members).map(Self::with)
    }

    fn address(&self) -> String {
        self.rendezvous.address()
    }

    fn attach(address: &str) -> io::Result<Self> {
        Rendezvous::attach(address).map(Self::with)
    }
}

impl Doomed for Dying {
    fn prepare(&self) -> io::Result<()> {
        let (server, name) = IpcOneShotServer::new()?;
        let mut tell: File = self.rendezvous.0.get(1)?;
        writeln!(tell, "{name}")?;
        self.server.set(Some(server));
        Ok(())
    }

    fn fall(&self, here: &dyn Fn()) -> io::Result<()> {
        let sender = self.rendezvous.sender(0)?;
        here();
        loop {
            IpcBytesSender::send(&sender, &[7; 64])?;
        }
    }

    fn go_on(&self) -> io::Result<Ended> {
        let server = self.server.take().ok_or(io::ErrorKind::NotFound)?;
        let (_, receiver) = server.accept().map_err(io::Error::other)?;
        loop {
            if let Err(error) = receiver.recv() {
                return Ok(Ended::Told(error.to_string()));
            }
        }
    }
}
