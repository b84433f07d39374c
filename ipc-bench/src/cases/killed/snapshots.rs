//! A snapshot whose writer dies, in the middle of an update or of a write: the others have a whole value, and can write.

use std::io;

use shmkit::Snapshot;

use super::{other, park_for_ever};
use crate::killed::{Doomed, Ended};
use crate::ours::InRegion;
use crate::team::Place;

/// Large enough for many a writer to die in the middle of it. All words are the same, if it is whole.
type Page = [u64; 512];

/// A snapshot that the victim updates.
pub(super) struct Updated(InRegion<Snapshot<Page>>);

impl Place for Updated {
    fn create(_: usize) -> io::Result<Self> {
        InRegion::create(1, || Snapshot::new([0; 512])).map(Updated)
    }

    fn address(&self) -> String {
        self.0.address()
    }

    fn attach(address: &str) -> io::Result<Self> {
        InRegion::attach(address).map(Updated)
    }
}

impl Doomed for Updated {
    fn fall(&self, here: &dyn Fn()) -> io::Result<()> {
        let updated = self.0[0].update(|page| {
            page.fill(7);
            here();
            park_for_ever(());
        });
        updated.map_err(other)
    }

    /// Reads while the victim is in its update, and updates when it is dead.
    fn go_on(&self) -> io::Result<Ended> {
        let snapshot = &self.0[0];
        let old_value = snapshot.read() == [0; 512];
        let kept = snapshot.update(|page| std::mem::replace(page, [8; 512]) == [0; 512]).map_err(other)?;
        match old_value && kept && snapshot.read() == [8; 512] {
            true => Ok(Ended::GoesOn),
            false => Err(other("a value of a dead")),
        }
    }
}

/// A snapshot that the victim writes again and again; who survives only reads.
pub(super) struct Written(Updated);

impl Place for Written {
    fn create(members: usize) -> io::Result<Self> {
        Updated::create(members).map(Written)
    }

    fn address(&self) -> String {
        self.0.address()
    }

    fn attach(address: &str) -> io::Result<Self> {
        Updated::attach(address).map(Written)
    }
}

impl Doomed for Written {
    fn fall(&self, here: &dyn Fn()) -> io::Result<()> {
        let snapshot = &self.0.0[0];
        here();
        for number in 1.. {
            snapshot.write([number; 512]).map_err(other)?;
        }
        Ok(())
    }

    fn go_on(&self) -> io::Result<Ended> {
        let page = self.0.0[0].read();
        match page.iter().all(|word| *word == page[0]) {
            true => Ok(Ended::GoesOn),
            false => Err(other("a torn value")),
        }
    }
}
