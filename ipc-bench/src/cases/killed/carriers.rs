//! What carries messages for others, and what their victims and survivors do.

use std::cell::RefCell;
use std::io;

use super::other;
use crate::killed::{Doomed, Ended};
use crate::message::{Carrier, Note, Receiving, Sending};
use crate::team::Place;

/// A carrier whose sender dies. None of these tells anybody: who receives, waits.
pub(super) struct Writes<M: ?Sized, C: Carrier<M>> {
    carrier: C,
    receiver: RefCell<Option<C::Receiver>>,
}

impl<M: ?Sized + 'static, C: Carrier<M> + Place> Place for Writes<M, C> {
    fn create(members: usize) -> io::Result<Self> {
        Ok(Writes { carrier: C::create(members)?, receiver: RefCell::new(None) })
    }

    fn address(&self) -> String {
        self.carrier.address()
    }

    fn attach(address: &str) -> io::Result<Self> {
        Ok(Writes { carrier: C::attach(address)?, receiver: RefCell::new(None) })
    }
}

/// A message to be sent again and again.
pub(super) trait Sample: 'static {
    fn lend(act: &mut dyn FnMut(&mut Self));
}

impl Sample for [u8] {
    fn lend(act: &mut dyn FnMut(&mut Self)) {
        act(&mut [7; 64]);
    }
}

impl Sample for Note {
    fn lend(act: &mut dyn FnMut(&mut Self)) {
        act(&mut [7; 48]);
    }
}

impl<M: Sample + ?Sized, C: Carrier<M> + Place> Doomed for Writes<M, C> {
    fn prepare(&self) -> io::Result<()> {
        self.receiver.replace(Some(self.carrier.receiver(0)?));
        Ok(())
    }

    fn fall(&self, here: &dyn Fn()) -> io::Result<()> {
        let mut sender = self.carrier.sender(0)?;
        here();
        M::lend(&mut |message| {
            loop {
                sender.send(message);
            }
        });
        Ok(())
    }

    fn go_on(&self) -> io::Result<Ended> {
        let mut receiver = self.receiver.take().ok_or(io::ErrorKind::NotFound)?;
        M::lend(&mut |message| {
            loop {
                receiver.receive(message);
            }
        });
        Err(other("a stream without an end has ended"))
    }
}
