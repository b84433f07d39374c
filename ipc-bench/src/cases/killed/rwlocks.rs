//! Locks of others for readers and writers, of which one dies inside; the survivor wants to write.

use std::io;

use crate::killed::{Doomed, Ended};
use crate::peers::rwlock::TwoSided;
use crate::team::Place;

/// A lock whose writer dies.
pub(super) struct Writer<L>(L);

impl<L: TwoSided> Place for Writer<L> {
    fn create(members: usize) -> io::Result<Self> {
        L::create(members).map(Writer)
    }

    fn address(&self) -> String {
        self.0.address()
    }

    fn attach(address: &str) -> io::Result<Self> {
        L::attach(address).map(Writer)
    }
}

impl<L: TwoSided> Doomed for Writer<L> {
    fn fall(&self, here: &dyn Fn()) -> io::Result<()> {
        self.0.keep_writing()?;
        here();
        Ok(())
    }

    fn go_on(&self) -> io::Result<Ended> {
        self.0.keep_writing()?;
        Ok(Ended::GoesOn)
    }
}

/// A lock whose reader dies.
pub(super) struct Reader<L>(L);

impl<L: TwoSided> Place for Reader<L> {
    fn create(members: usize) -> io::Result<Self> {
        L::create(members).map(Reader)
    }

    fn address(&self) -> String {
        self.0.address()
    }

    fn attach(address: &str) -> io::Result<Self> {
        L::attach(address).map(Reader)
    }
}

impl<L: TwoSided> Doomed for Reader<L> {
    fn fall(&self, here: &dyn Fn()) -> io::Result<()> {
        self.0.keep_reading()?;
        here();
        Ok(())
    }

    fn go_on(&self) -> io::Result<Ended> {
        self.0.keep_writing()?;
        Ok(Ended::GoesOn)
    }
}
