//! What this process has of the objects of a region whose peers it does not trust: no two of its handles may overlap.
//!
//! A directory that somebody scribbles on could say that an array of words begins within a semaphore, or that a name is spelled in the
//! midst of a ring. Each of them alone does no harm. Together they would have the threads of this process reach one place in accesses of
//! different sizes at once, or write an object there plainly, and that is undefined whoever has written the directory. So what was given out is
//! noted down here, in private memory: what overlaps with it and is not the very same thing is refused, and so is a record that lies there.
//!
//! A directory that shows something else at each look would have this list grow for ever. No honest one has more objects than are looked at, so
//! that is its bound, and as they do not overlap, those that a place might overlap with are found in few steps.
//!
//! All of it happens under the registry's lock, record by record. A child that is forked meanwhile finds it whole.

use core::ops::Range;
use std::collections::BTreeMap;

use crate::directory::MOST_OBJECTS;
use crate::error::Error;
use crate::identity::{self, Token};

/// What has been given out of one region.
#[derive(Debug, Default)]
pub(crate) struct Grants {
    /// By where they begin.
    objects: BTreeMap<usize, Grant>,
    /// Where a thread is just inserting something, and of which process it is.
    inserting: Option<(Range<usize>, Token)>,
}

/// An object that this process has, or has had, a handle to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Grant {
    /// Where it lies.
    pub(crate) place: Range<usize>,
    /// What it is.
    pub(crate) fingerprint: u64,
    /// How many.
    pub(crate) count: u64,
}

impl Grants {
    /// Refuses to have `place` read as a part of the directory if it is something else.
    pub(crate) fn check(&self, place: &Range<usize>) -> Result<(), Error> {
        // Of those that begin before its end, the last one is also the last to end.
        let last = self.objects.range(..place.end).next_back();
        if self.is_inserting_at(place) || last.is_some_and(|(_, object)| overlap(&object.place, place)) {
            return Err(overlapping(place));
        }
        Ok(())
    }

    /// Notes that an object is given out.
    pub(crate) fn add(&mut self, object: Grant) -> Result<(), Error> {
        if self.objects.get(&object.place.start) == Some(&object) || object.place.is_empty() {
            return Ok(());
        }
        self.check(&object.place)?;
        self.check_number()?;
        self.objects.insert(object.place.start, object);
        Ok(())
    }

    /// Notes that something is about to be inserted at `place`, by this process, whose token is `own`.
    pub(crate) fn begin(&mut self, place: Range<usize>, own: Token) -> Result<(), Error> {
        if self.inserting().is_some() {
            // Two threads have the lock of the directory at once.
            return Err(overlapping(&place));
        }
        self.check(&place)?;
        self.check_number()?;
        self.inserting = Some((place, own));
        Ok(())
    }

    /// Notes that it is done; `object` is what it was.
    pub(crate) fn end(&mut self, object: Grant) {
        self.inserting = None;
        if !object.place.is_empty() {
            self.objects.insert(object.place.start, object);
        }
    }

    /// Refuses one more than there can be.
    fn check_number(&self) -> Result<(), Error> {
        let found = self.objects.len();
        if found < MOST_OBJECTS {
            Ok(())
        } else {
            Err(Error::Corrupted { what: "number of objects", found: found as u64 })
        }
    }

    fn is_inserting_at(&self, place: &Range<usize>) -> bool {
        self.inserting().is_some_and(|inserting| overlap(inserting, place))
    }

    /// Where a thread of this very process is inserting; one of the parent's does so in another memory.
    fn inserting(&self) -> Option<&Range<usize>> {
        let is_own = |by: &Token| identity::drawn().is_some_and(|own| own.is_same_process(*by));
        self.inserting.as_ref().filter(|(_, by)| is_own(by)).map(|(place, _)| place)
    }
}

fn overlap(one: &Range<usize>, other: &Range<usize>) -> bool {
    one.start < other.end && other.start < one.end
}

fn overlapping(place: &Range<usize>) -> Error {
    Error::Corrupted { what: "directory: objects that overlap", found: place.start as u64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(place: Range<usize>) -> Grant {
        Grant { place, fingerprint: 1, count: 1 }
    }

    #[test]
    fn the_same_object_is_given_out_again_and_no_other_one_in_its_place() {
        let mut grants = Grants::default();
        grants.add(object(64..128)).expect("the first");

        grants.add(object(64..128)).expect("the same");
        for place in [0..65, 127..130, 70..80, 0..1000, 64..127] {
            assert!(grants.add(object(place)).is_err());
        }
        assert!(grants.add(Grant { fingerprint: 2, ..object(64..128) }).is_err());
        assert!(grants.add(Grant { count: 2, ..object(64..128) }).is_err());
        grants.add(object(128..130)).expect("one behind it");
        grants.add(object(0..64)).expect("one before it");
    }

    #[test]
    fn what_was_given_out_is_no_record_any_more() {
        let mut grants = Grants::default();
        grants.add(object(64..128)).expect("the first");

        assert!(grants.check(&(100..148)).is_err());
        grants.check(&(128..176)).expect("behind it");
    }

    #[test]
    fn no_more_is_noted_than_an_honest_directory_has_objects() {
        let mut grants = Grants::default();
        (0..MOST_OBJECTS).for_each(|at| grants.add(object(at..at + 1)).expect("as many as there may be"));

        let own = crate::registry::ensure_token().expect("a token");
        let more = MOST_OBJECTS..MOST_OBJECTS + 1;
        for refused in [grants.begin(more.clone(), own), grants.add(object(more))] {
            assert!(matches!(refused, Err(Error::Corrupted { what: "number of objects", .. })), "{refused:?}");
        }
        grants.add(object(7..8)).expect("one that was given out before");
    }

    #[test]
    fn nobody_else_uses_the_place_where_something_is_being_inserted() {
        let own = crate::registry::ensure_token().expect("a token");
        let mut grants = Grants::default();
        grants.begin(64..200, own).expect("nobody else");

        assert!(grants.begin(500..600, own).is_err());
        assert!(grants.check(&(100..148)).is_err());
        assert!(grants.add(object(190..210)).is_err());
        grants.end(object(128..200));
        grants.check(&(64..128)).expect("its record");
        assert!(grants.check(&(150..160)).is_err());
    }
}
