//! The map and the vectors of the soak.
//!
//! Each worker has an entry and an element of its own, and a share in an entry and in an element of all. It notes what it is about to make of them, and
//! afterwards that it has. So its successor knows what must be there: the old or the new, and neither anything else nor a lost one. The other entries, and the
//! elements that come and go, belong to nobody, and are counted.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use shmkit::ShmSafe;
use shmkit::process::{MapError, SharedVec, VecError};

use super::acts::{Hand, Violation, failed};
use super::world::{MAX_WORKERS, Sum, World};

/// How many entries fit into the map: not all that there could be.
pub(super) const ENTRIES: u64 = 24;

/// How many elements fit into the vector with those that come and go.
pub(super) const PILE: u64 = 20;

/// The keys: those that belong to nobody, from 0; the workers' own; and the one that all have a share in.
const KEYS: u64 = 16;
const OWN: u64 = 100;
pub(super) const SHARED: u64 = 1000;

/// The elements of the vector from which none is taken: the workers' own, and the one that all have a share in.
pub(super) const MARKS: u64 = MAX_WORKERS as u64 + 1;
const SHARED_MARK: usize = MAX_WORKERS;

/// A number, and what follows from it. Or a sum, and the shares it consists of.
pub type Value = [u64; MAX_WORKERS + 1];

/// What a worker makes of something: 0 if it is not there, or the number in it.
#[repr(C)]
#[derive(Debug, Default, ShmSafe)]
pub struct Note {
    before: AtomicU64,
    after: AtomicU64,
    /// The last number.
    last: AtomicU64,
}

impl Note {
    /// What is found is what it must be.
    fn settle(&self, found: u64) -> Result<(), Violation> {
        let (before, after) = (self.before.load(SeqCst), self.after.load(SeqCst));
        if found != before && found != after {
            return Err(format!("there is {found}, where {before} was to become {after}"));
        }
        self.before.store(found, SeqCst);
        self.after.store(found, SeqCst);
        Ok(())
    }

    /// A number that was not there yet.
    fn next(&self) -> u64 {
        self.last.fetch_add(1, SeqCst) + 1
    }

    /// Does what makes it `next`, or leaves it as it is and says so.
    fn change(&self, next: u64, act: impl FnOnce() -> Result<bool, Violation>) -> Result<(), Violation> {
        self.after.store(next, SeqCst);
        let found = if act()? { next } else { self.before.load(SeqCst) };
        self.settle(found)
    }
}

/// What a worker makes of all this. Only the worker itself writes, and the dead's successor goes on.
#[repr(C)]
#[derive(Debug, Default, ShmSafe)]
pub struct Journal {
    entry: Note,
    share: Note,
    mark: Note,
    share_of_mark: Note,
}

/// The value with this number; different ones for different keys.
fn value(key: u64, number: u64) -> Value {
    let mut word = number;
    std::array::from_fn(|at| {
        let this = word;
        word = (number ^ key << 32).wrapping_add(at as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        this
    })
}

/// The number in a value, which must be whole.
fn number(key: u64, found: &Value) -> Result<u64, Violation> {
    if *found == value(key, found[0]) { Ok(found[0]) } else { Err(format!("a torn value of {key}: {found:?}")) }
}

/// The share of a worker, in a value that must be whole.
fn share(me: usize, found: &Value) -> Result<u64, Violation> {
    if found[0] == found[1..].iter().sum::<u64>() { Ok(found[1 + me]) } else { Err(format!("a torn sum: {found:?}")) }
}

impl Hand<'_> {
    fn journal(&self) -> &Journal {
        &self.world.journals[self.me]
    }

    pub(super) fn change_own_entry(&mut self) -> Result<(), Violation> {
        let (map, key, way) = (&self.world.map, OWN + self.me as u64, self.random.below(4));
        let numbered = |found: Option<Value>| found.map_or(Ok(0), |found| number(key, &found));
        let note = &self.journal().entry;
        let before = numbered(map.get(&key).map_err(failed)?)?;
        note.settle(before)?;
        let next = if way == 0 { 0 } else { note.next() };
        let new = value(key, next);
        note.change(next, || {
            let replaced = match way {
                0 => map.remove(&key),
                1 => map.insert(&key, new),
                2 => map.update(&key, |now| std::mem::replace(now, new)),
                // What was not there is made of nothing.
                _ => map
                    .update_or_insert(&key, [0; MAX_WORKERS + 1], |now| std::mem::replace(now, new))
                    .map(|was| Some(was).filter(|was| was[0] != 0)),
            };
            match replaced {
                Ok(replaced) if numbered(replaced)? == before => Ok(way != 2 || before != 0),
                Ok(replaced) => Err(format!("a change by somebody else: {replaced:?} for {before}")),
                Err(MapError::Full { .. }) if before == 0 => Ok(false),
                Err(error) => Err(failed(error)),
            }
        })
    }

    pub(super) fn raise_share(&mut self) -> Result<(), Violation> {
        let world = self.world;
        let look = || world.map.get(&SHARED).map_err(failed)?.ok_or_else(|| "a lost entry".to_owned());
        let update = |change: &mut dyn FnMut(&mut Value)| {
            world.map.update(&SHARED, change).map_err(failed)?.ok_or_else(|| "a lost entry".to_owned())
        };
        self.raise(&world.journals[self.me].share, look, update)
    }

    pub(super) fn raise_share_of_mark(&mut self) -> Result<(), Violation> {
        let world = self.world;
        let look = || world.marks.get(SHARED_MARK).map_err(failed)?.ok_or_else(|| "a lost element".to_owned());
        let update = |change: &mut dyn FnMut(&mut Value)| world.marks.update(SHARED_MARK, change).map_err(failed);
        self.raise(&world.journals[self.me].share_of_mark, look, update)
    }

    /// Adds 1 to the own share, and to the sum.
    fn raise(
        &mut self,
        note: &Note,
        look: impl FnOnce() -> Result<Value, Violation>,
        update: impl FnOnce(&mut dyn FnMut(&mut Value)) -> Result<(), Violation>,
    ) -> Result<(), Violation> {
        let me = self.me;
        let before = share(me, &look()?)?;
        note.settle(before)?;
        note.change(before + 1, || {
            let mut found = Ok(before);
            update(&mut |now| {
                found = share(me, now);
                now[1 + me] += 1;
                self.dawdle();
                now[0] += 1;
            })?;
            match found? {
                found if found == before => Ok(true),
                found => Err(format!("a change by somebody else: {found} for {before}")),
            }
        })
    }

    pub(super) fn change_any_entry(&mut self) -> Result<(), Violation> {
        let map = &self.world.map;
        for _ in 0..1 + self.random.below(5) {
            let key = self.random.below(KEYS);
            let new = value(key, 1 + self.random.below(1 << 32));
            let found = match self.random.below(5) {
                0 | 1 => {
                    let is_new = |done: &Result<_, _>| u64::from(matches!(done, Ok(None)));
                    match self.noting(Sum::Inserted, || map.insert(&key, new), is_new) {
                        Err(MapError::Full { .. }) => Ok(None),
                        found => found,
                    }
                }
                2 => {
                    let is_gone = |done: &Result<_, _>| u64::from(matches!(done, Ok(Some(_))));
                    self.noting(Sum::Removed, || map.remove(&key), is_gone)
                }
                3 => map.update(&key, |now| std::mem::replace(now, new)),
                _ => map.get(&key),
            };
            if let Some(found) = found.map_err(failed)? {
                number(key, &found)?;
            }
        }
        if self.random.below(4) == 0 {
            entries(self.world)?;
        }
        Ok(())
    }

    pub(super) fn change_own_mark(&mut self) -> Result<(), Violation> {
        let (marks, me, way) = (&self.world.marks, self.me, self.random.below(2));
        let note = &self.journal().mark;
        let found = marks.get(me).map_err(failed)?.ok_or("a lost element")?;
        let before = number(me as u64, &found)?;
        note.settle(before)?;
        let next = note.next();
        let new = value(me as u64, next);
        note.change(next, || {
            let replaced = match way {
                0 => marks.set(me, new).map(|()| found),
                _ => marks.update(me, |now| std::mem::replace(now, new)),
            };
            match replaced.map_err(failed)? {
                replaced if replaced == found => Ok(true),
                replaced => Err(format!("a change by somebody else: {replaced:?} for {before}")),
            }
        })
    }

    pub(super) fn pile_up(&mut self) -> Result<(), Violation> {
        let count = 1 + self.random.below(3);
        let new: Vec<Value> = (0..count).map(|_| value(0, 1 + self.random.below(1 << 32))).collect();
        let push = || self.world.pile.extend_from_slice(&new);
        match self.noting(Sum::Pushed, push, |pushed| if pushed.is_ok() { count } else { 0 }) {
            Ok(_) | Err(VecError::Full { .. }) => {}
            Err(error) => return Err(failed(error)),
        }
        let at = self.random.below(PILE) as usize;
        if let Some(found) = self.world.pile.get(at).map_err(failed)? {
            number(0, &found)?;
        }
        Ok(())
    }

    pub(super) fn take_from_pile(&mut self) -> Result<(), Violation> {
        let at = self.random.below(PILE) as usize;
        let new = value(0, 1 + self.random.below(1 << 32));
        match self.world.pile.update(at, |now| std::mem::replace(now, new)) {
            Ok(found) => drop(number(0, &found)?),
            Err(VecError::OutOfRange { .. }) => {}
            Err(error) => return Err(failed(error)),
        }
        for _ in 0..1 + self.random.below(4) {
            let pop = || self.world.pile.pop();
            let popped = self.noting(Sum::Popped, pop, |popped| u64::from(matches!(popped, Ok(Some(_)))));
            if let Some(found) = popped.map_err(failed)? {
                number(0, &found)?;
            }
        }
        Ok(())
    }
}

/// Goes through the map; says how many entries of those there are that belong to nobody.
pub(super) fn entries(world: &World) -> Result<u64, Violation> {
    let mut count = 0;
    for entry in &world.map {
        let (key, found) = entry.map_err(failed)?;
        if key == SHARED {
            share(0, &found)?;
        } else {
            number(key, &found)?;
        }
        count += u64::from(key < KEYS);
    }
    Ok(count)
}

/// What must hold when nobody is there any more, besides the sums. Fills what there is up to its end.
pub(super) fn balance(world: &World) -> Result<(), Violation> {
    let shared = world.map.get(&SHARED).map_err(failed)?.ok_or("a lost entry")?;
    let marks = world.marks.iter().collect::<Result<Vec<Value>, _>>().map_err(failed)?;
    for (me, journal) in world.journals.iter().enumerate() {
        let key = OWN + me as u64;
        let entry = world.map.get(&key).map_err(failed)?;
        journal.entry.settle(entry.map_or(Ok(0), |found| number(key, &found))?)?;
        journal.share.settle(share(me, &shared)?)?;
        journal.mark.settle(number(me as u64, &marks[me])?)?;
        journal.share_of_mark.settle(share(me, &marks[SHARED_MARK])?)?;
    }
    let before = world.map.len().map_err(failed)? as u64;
    let mut taken = 0;
    while taken <= ENTRIES {
        match world.map.insert(&(SHARED + 1 + taken), value(0, 1)) {
            Ok(_) => taken += 1,
            Err(MapError::Full { .. }) => break,
            Err(error) => return Err(failed(error)),
        }
    }
    if before + taken != ENTRIES {
        return Err(format!("a map for {ENTRIES} entries has {before} and takes {taken} more"));
    }
    let before = world.pile.len().map_err(failed)? as u64;
    let more = vec![value(0, 1); (PILE - before) as usize];
    world.pile.extend_from_slice(&more).map(drop).map_err(failed)
}

/// The elements that are there from the beginning.
pub(super) fn make_marks(marks: &SharedVec<Value>) -> Result<(), VecError> {
    marks.extend((0..MARKS).map(|at| if at == MARKS - 1 { [0; MAX_WORKERS + 1] } else { value(at, 0) })).map(drop)
}
