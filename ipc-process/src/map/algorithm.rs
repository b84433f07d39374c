//! What is done to a map: looking without a lock, changing under the lock of a bucket, and finding room.

use bytemuck::Pod;
use shmkit_core::raw_lock::{Held, NotHeld};
use shmkit_core::shim::spin_loop;
use shmkit_core::{Described, Error, crash_point};

use super::hash;
use super::key::Key;
use super::layout::{Entry, Link, Slot, Table};

/// How often one looks again without the lock, if writers come in between. In models once is like often.
const LOOKS: u32 = if cfg!(ipc_loom) { 1 } else { 100 };

/// How many places are looked at in random order for a free slot before all of them are in theirs.
const PROBES: u32 = 64;

/// How often one looks at all slots, if some become free meanwhile. In a map of which nobody writes nonsense, each time that somebody else got
/// on is one time less.
const ROUNDS: u32 = 1000;

/// Where a key is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    index: u32,
    entry: Entry,
    /// The one before it in the chain.
    before: Option<u32>,
}

/// What has become of an entry that was to be made.
#[derive(Debug)]
pub(super) enum Put<V> {
    /// There was none before.
    New,
    /// The old value.
    Replaced(V),
    /// There is no room for it.
    Full,
}

impl<K: Key + ?Sized, V: Pod + Described> Table<K, V> {
    /// The bucket of a key.
    #[inline]
    pub(super) fn bucket(&self, key: &[u8]) -> u32 {
        hash::reduce(self.hash(key), self.capacity)
    }

    /// The value of a key that is no longer than the longest.
    #[inline]
    pub(super) fn get(&self, key: &[u8]) -> Result<Option<V>, Error> {
        let bucket = self.bucket(key);
        self.look(bucket, || {
            let place = self.find(bucket, key)?;
            Ok(place.map(|place| self.slot(place.index).value(place.entry)))
        })
    }

    #[inline]
    pub(super) fn contains(&self, key: &[u8]) -> Result<bool, Error> {
        let bucket = self.bucket(key);
        self.look(bucket, || Ok(self.find(bucket, key)?.is_some()))
    }

    /// How many entries a bucket has.
    pub(super) fn count(&self, bucket: u32) -> Result<u32, Error> {
        self.look(bucket, || {
            let mut count = 0;
            self.walk(bucket, |_, _| count += 1)?;
            Ok(count)
        })
    }

    /// Puts the entries of a bucket in the place of what is in `entries`.
    pub(super) fn collect(&self, bucket: u32, entries: &mut Vec<(K::Owned, V)>) -> Result<(), Error> {
        self.look(bucket, || {
            entries.clear();
            let mut nonsense = Ok(());
            self.walk(bucket, |slot, entry| match slot.key() {
                Ok(key) => entries.push((key, slot.value(entry))),
                Err(error) => nonsense = Err(error),
            })?;
            nonsense
        })
    }

    /// What `look` finds in a bucket at one point in time. It changes nothing, and is done again if somebody has disturbed it.
    #[inline]
    fn look<R>(&self, bucket: u32, mut look: impl FnMut() -> Result<R, Error>) -> Result<R, Error> {
        let slot = self.slot(bucket);
        let version = slot.begin_to_read();
        let found = look();
        if slot.is_undisturbed(version) { found } else { self.look_again(bucket, look) }
    }

    #[cold]
    fn look_again<R>(&self, bucket: u32, mut look: impl FnMut() -> Result<R, Error>) -> Result<R, Error> {
        let slot = self.slot(bucket);
        for _ in 0..LOOKS {
            let version = slot.begin_to_read();
            let found = look();
            if slot.is_undisturbed(version) {
                return found;
            }
            spin_loop();
        }
        let _section = Section::enter(self, bucket)?;
        look()
    }

    /// Goes along the chain of a bucket. What it finds is right if the lock is held, or nobody has disturbed it.
    #[inline(always)]
    fn walk_while(&self, bucket: u32, mut visit: impl FnMut(&Slot<'_, K, V>, Place) -> bool) -> Result<(), Error> {
        let mut before = None;
        let mut link = self.slot(bucket).links().first;
        // A chain has no more entries than there are: garbage may lead in circles.
        for _ in 0..self.capacity {
            let Some(index) = self.follow(link)? else {
                return Ok(());
            };
            let slot = self.slot(index);
            let entry = slot.entry();
            if !entry.is_of(bucket) {
                return Err(Error::Corrupted { what: "entry of a map", found: entry.word() });
            }
            if !visit(&slot, Place { index, entry, before }) {
                return Ok(());
            }
            before = Some(index);
            link = entry.next();
        }
        match self.follow(link)? {
            None => Ok(()),
            Some(index) => Err(Error::Corrupted { what: "chain in a map", found: index.into() }),
        }
    }

    fn walk(&self, bucket: u32, mut visit: impl FnMut(&Slot<'_, K, V>, Entry)) -> Result<(), Error> {
        self.walk_while(bucket, |slot, place| {
            visit(slot, place.entry);
            true
        })
    }

    #[inline(always)]
    fn find(&self, bucket: u32, key: &[u8]) -> Result<Option<Place>, Error> {
        let mut found = None;
        self.walk_while(bucket, |slot, place| {
            found = slot.has_key(key).then_some(place);
            found.is_none()
        })?;
        Ok(found)
    }
}

/// The right to change what belongs to a bucket; given back when dropped, also by a panic.
pub(super) struct Section<'a, K: Key + ?Sized, V: Pod + Described> {
    table: &'a Table<K, V>,
    bucket: u32,
    slot: Slot<'a, K, V>,
    held: Held,
}

impl<'a, K: Key + ?Sized, V: Pod + Described> Section<'a, K, V> {
    /// Waits for the lock of a bucket, and mends what a dead has left behind.
    ///
    /// What is rare is apart and takes no reference to a section, so that one stays in registers where there is nothing to mend.
    #[inline]
    pub(super) fn enter(table: &'a Table<K, V>, bucket: u32) -> Result<Self, Error> {
        let held = match table.slot(bucket).lock().lock_if_free() {
            Some(held) => held,
            None => Self::wait(table, bucket)?,
        };
        Self::entered(table, bucket, held)
    }

    /// The same if nobody alive has the lock.
    fn try_enter(table: &'a Table<K, V>, bucket: u32) -> Result<Option<Self>, Error> {
        let held = table.slot(bucket).lock().try_lock()?;
        held.map(|held| Self::entered(table, bucket, held)).transpose()
    }

    #[cold]
    #[inline(never)]
    fn wait(table: &Table<K, V>, bucket: u32) -> Result<Held, Error> {
        table.slot(bucket).lock().lock(None).map_err(|error| match error {
            NotHeld::Failed(error) => error,
            NotHeld::TimedOut => Error::Busy,
        })
    }

    #[inline]
    fn entered(table: &'a Table<K, V>, bucket: u32, held: Held) -> Result<Self, Error> {
        let slot = table.slot(bucket);
        if slot.links().pending != Link::NONE {
            Self::mended(table, bucket, held)?;
        }
        Ok(Self { table, bucket, slot, held })
    }

    /// Mends; gives the lock up if that fails.
    #[cold]
    #[inline(never)]
    fn mended(table: &Table<K, V>, bucket: u32, held: Held) -> Result<(), Error> {
        let section = Section { table, bucket, slot: table.slot(bucket), held };
        section.mend()?;
        core::mem::forget(section);
        Ok(())
    }

    /// Somebody died while a slot was this bucket's without being in its chain, or about to be.
    fn mend(&self) -> Result<(), Error> {
        let links = self.slot.links();
        if let Some(index) = self.table.follow(links.pending)? {
            let pending = self.table.slot(index);
            let mut is_linked = false;
            self.table.walk_while(self.bucket, |_, place| {
                is_linked = place.index == index;
                !is_linked
            })?;
            if !is_linked && pending.entry().is_of(self.bucket) {
                self.slot.disturb();
                crash_point!("map.mend.before_free");
                pending.set_free();
                crash_point!("map.mend.after_free");
            }
        }
        self.slot.set_links(links.first, Link::NONE);
        crash_point!("map.mend.after_links");
        Ok(())
    }

    /// Whether it is that of the calling process; not so in a child that was forked meanwhile.
    pub(super) fn is_own(&self) -> bool {
        self.held.is_own()
    }

    #[inline]
    pub(super) fn find(&self, key: &[u8]) -> Result<Option<Place>, Error> {
        self.table.find(self.bucket, key)
    }

    #[inline]
    pub(super) fn value(&self, place: Place) -> V {
        self.table.slot(place.index).value(place.entry)
    }

    /// Gives an entry another value, by one store.
    #[inline]
    pub(super) fn set(&self, place: Place, value: &V) {
        let slot = self.table.slot(place.index);
        self.slot.disturb();
        crash_point!("map.set.before_value");
        slot.set_other_value(place.entry, value);
        crash_point!("map.set.after_value");
        slot.set_entry(place.entry.turned());
        crash_point!("map.set.after_entry");
    }

    /// Gives the key a value, whether it had one or not.
    pub(super) fn put(&self, key: &[u8], value: &V) -> Result<Put<V>, Error> {
        match self.find(key)? {
            Some(place) => {
                let old = self.value(place);
                self.set(place, value);
                Ok(Put::Replaced(old))
            }
            None => Ok(if self.add(key, value) { Put::New } else { Put::Full }),
        }
    }

    /// Makes an entry for a key that has none, by one store; says whether there was room.
    pub(super) fn add(&self, key: &[u8], value: &V) -> bool {
        let first = self.slot.links().first;
        let Some(index) = self.take_slot(key) else {
            self.slot.set_links(first, Link::NONE);
            return false;
        };
        let slot = self.table.slot(index);
        slot.fill(key, value);
        crash_point!("map.insert.after_fill");
        slot.set_entry(Entry::new(first, self.bucket));
        crash_point!("map.insert.after_entry");
        self.slot.set_links(Link::to(index), Link::NONE);
        crash_point!("map.insert.after_links");
        true
    }

    /// Takes an entry out, by one store, and then gives its slot free.
    pub(super) fn remove(&self, place: Place) {
        let Place { index, entry, before } = place;
        let mut first = self.slot.links().first;
        if let Some(before) = before {
            self.slot.set_links(first, Link::to(index));
            crash_point!("map.remove.after_pending");
            let before = self.table.slot(before);
            before.set_entry(before.entry().with_next(entry.next()));
        } else {
            first = entry.next();
            self.slot.set_links(first, Link::to(index));
        }
        crash_point!("map.remove.after_unlink");
        // Who is at this entry may go on along the chain, but not take what the next one writes here for what was here.
        self.slot.disturb();
        crash_point!("map.remove.after_disturb");
        self.table.slot(index).set_free();
        crash_point!("map.remove.after_free");
        self.slot.set_links(first, Link::NONE);
        crash_point!("map.remove.after_links");
    }

    /// Takes all entries out, one after the other.
    pub(super) fn clear(&self) -> Result<(), Error> {
        for _ in 0..self.table.capacity {
            let Some(index) = self.table.follow(self.slot.links().first)? else {
                return Ok(());
            };
            let entry = self.table.slot(index).entry();
            if !entry.is_of(self.bucket) {
                return Err(Error::Corrupted { what: "entry of a map", found: entry.word() });
            }
            self.remove(Place { index, entry, before: None });
        }
        Ok(())
    }

    /// Takes a free slot: that of the bucket, or some other. `None` if there has been none.
    fn take_slot(&self, key: &[u8]) -> Option<u32> {
        if self.try_take(self.bucket) {
            return Some(self.bucket);
        }
        let mut probe = self.table.hash(key);
        for _ in 0..PROBES.min(self.table.capacity) {
            probe = hash::again(probe);
            let index = hash::reduce(probe, self.table.capacity);
            if self.try_take(index) {
                return Some(index);
            }
        }
        let from = hash::reduce(hash::again(probe), self.table.capacity);
        for _ in 0..ROUNDS {
            let freed = self.table.freed();
            let mut is_anyone_at_it = false;
            for index in (from..self.table.capacity).chain(0..from) {
                if self.try_take(index) {
                    return Some(index);
                }
                is_anyone_at_it |= index != self.bucket && self.table.slot(index).links().pending != Link::NONE;
            }
            if is_anyone_at_it {
                self.mend_others();
            }
            if self.table.freed() == freed {
                break;
            }
        }
        None
    }

    /// Takes a slot if it is free. From before that, it is this bucket's `pending`.
    fn try_take(&self, index: u32) -> bool {
        let slot = self.table.slot(index);
        if !slot.entry().is_free() {
            return false;
        }
        self.slot.set_links(self.slot.links().first, Link::to(index));
        crash_point!("map.insert.after_pending");
        let is_taken = slot.take(self.bucket);
        crash_point!("map.insert.after_take");
        is_taken
    }

    /// Mends all buckets that a dead has left unmended: one of their slots may be free.
    #[cold]
    fn mend_others(&self) {
        for bucket in (0..self.table.capacity).filter(|bucket| *bucket != self.bucket) {
            if self.table.slot(bucket).links().pending != Link::NONE {
                // Who is alive does it by itself. What cannot be mended does not matter here.
                drop(Section::try_enter(self.table, bucket));
            }
        }
    }
}

impl<K: Key + ?Sized, V: Pod + Described> Drop for Section<'_, K, V> {
    #[inline]
    fn drop(&mut self) {
        self.slot.lock().unlock(self.held);
    }
}
