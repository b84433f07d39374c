//! A hash map in a region.
//!
//! A table of as many buckets as there can be entries, each with a lock and a chain of the entries whose keys belong to it. What changes anything
//! takes the lock of the bucket; what only looks takes none.
//!
//! * `layout.rs`: what lies in shared memory, and who writes it;
//! * `hash.rs`, `key.rs`: which bucket a key belongs to, and what can be a key;
//! * `algorithm.rs`: looking, changing, finding room;
//! * `options.rs`, `error.rs`: how maps are made; what can go wrong.
//!
//! # States of a slot, as room for an entry
//!
//! | state | `insert` of a new key takes it | the holder of its bucket's lock | its bucket's lock is that of a dead |
//! |---|---|---|---|
//! | free: `entry` is 0 | notes it as `pending`, then exchanges 0 for its bucket | - | - |
//! | taken: not in the chain, `pending` of its bucket | no | fills it; links it and clears `pending` by one store | the next holder frees it |
//! | in the chain: in the map | no | `update`: fills the value that is not valid, then turns `entry`. `remove`: notes it as `pending`, then unlinks it | stays |
//! | unlinked: not in the chain, `pending` of its bucket | no | disturbs those who look, frees it, clears `pending` | the next holder does so |
//!
//! There is one lock and at most one `pending` slot per bucket, so nothing can be half-done twice. Two who insert the same key meet at one lock.
//!
//! # What a death leaves
//!
//! * Each change is one store: of `links` or of the `next` before it for what comes and goes, of the valid value for what changes. Before that the
//!   map is as it was, after it as it is to be.
//! * Perhaps the lock of a dead: the next one who changes something in the bucket takes it over.
//! * Perhaps a slot that is of no use to anybody: it is the `pending` one of that bucket, which is mended then; or by whoever finds no room
//!   otherwise.
//! * Nothing is counted: how many entries there are is found by going over them.
//!
//! # Looking without a lock
//!
//! A sequence lock for each bucket, whose writers never make anybody wait. Values have two copies, so the one that is looked at stays whole until
//! the next but one write; entries stay readable until their slot is given free. Before either is written over, the `version` of the bucket is raised.
//! Whoever has looked and finds another version than at first looks again, and after a hundred times takes the lock. The argument is that of
//! [`Snapshot`](shmkit_core::Snapshot), with one version for all that a chain consists of; see `docs/MEMORY_MODEL.md`.
//!
//! # Garbage
//!
//! Lengths are checked when a map is opened, and kept privately. A link leads to a slot, or to [`Error::Corrupted`]; so does an entry in the chain of
//! another bucket, and a chain with more entries than there are slots. Keys and values are any bytes.

mod algorithm;
mod error;
mod hash;
mod key;
mod layout;
#[cfg(not(ipc_loom))]
mod options;

use core::fmt;
use std::sync::Arc;

use bytemuck::Pod;
use shmkit_core::{Described, Error, Tailed};

use self::algorithm::{Put, Section};
use self::layout::{Head, Table};

pub use self::error::MapError;
pub use self::key::Key;
#[cfg(not(ipc_loom))]
pub use self::options::MapOptions;

/// A hash map of fixed capacity that any number of processes and threads read and change.
///
/// Keys are plain values, or `[u8]` and `str` of different lengths; values are plain values. Both are copied in and out. Clones denote the
/// same map, and a forked child may go on using those that it inherits.
///
/// Looking takes no lock and writes nothing, so those who look do not slow each other down, wherever they look. Changes of the same key take
/// turns, and so do those of the few that share a bucket with it; all others do not meet.
///
/// # What a death means
///
/// A process killed in the middle of a change has made it or not; no value is ever torn, no other entry is touched, and nobody waits
/// for the dead. So nothing is poisoned.
///
/// # Examples
///
/// ```
/// use shmkit_process::SharedMap;
///
/// # let name = format!("shmkit-doc-map-{}", std::process::id());
/// # let name = name.as_str();
/// let stock = SharedMap::<str, u32>::create(name, 100)?;
/// stock.insert("tickets", 20)?;
///
/// // In any other process:
/// let stock = SharedMap::<str, u32>::open(name)?;
/// let left = stock.update("tickets", |count| {
///     *count -= 1;
///     *count
/// })?;
/// assert_eq!(left, Some(19));
/// assert_eq!(stock.get("tickets")?, Some(19));
/// assert_eq!(stock.remove("programmes")?, None);
/// for entry in &stock {
///     let (name, count) = entry?;
///     println!("{count} {name}");
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct SharedMap<K: Key + ?Sized, V: Pod + Described> {
    table: Table<K, V>,
    name: Arc<str>,
}

impl<K: Key + ?Sized, V: Pod + Described> SharedMap<K, V> {
    fn of(shared: Tailed<Head<K, V>>, name: &str) -> Result<Self, MapError> {
        Ok(Self { table: Table::new(shared)?, name: name.into() })
    }

    /// A map for models.
    #[cfg(ipc_loom)]
    pub fn model(capacity: u64) -> Self {
        let bytes = Head::<K, V>::bytes(capacity, 8).expect("a small one");
        Self::of(Tailed::new(Head::new(capacity, 8, [1, 2]), bytes), "model").expect("a sound one")
    }

    /// Which bucket a key belongs to, for models and the crash sweep.
    #[cfg(any(ipc_loom, ipc_crash))]
    pub fn bucket(&self, key: &K) -> u32 {
        self.table.bucket(key.bytes())
    }

    /// The value of `key`, if it is in the map.
    ///
    /// # Blocking
    ///
    /// Never, unless a hundred changes in the same bucket come in between one after the other; then it takes its turn with them. A process that is
    /// stopped in the middle of a change does not matter.
    ///
    /// # Crash safety
    ///
    /// It changes nothing.
    ///
    /// # Errors
    ///
    /// [`MapError::Failed`].
    #[inline]
    pub fn get(&self, key: &K) -> Result<Option<V>, MapError> {
        let key = key.bytes();
        if !self.fits(key) {
            return Ok(None);
        }
        Ok(self.table.get(key)?)
    }

    /// Whether `key` is in the map.
    ///
    /// # Blocking
    ///
    /// As [`get`](Self::get).
    ///
    /// # Errors
    ///
    /// [`MapError::Failed`].
    #[inline]
    pub fn contains_key(&self, key: &K) -> Result<bool, MapError> {
        let key = key.bytes();
        Ok(self.fits(key) && self.table.contains(key)?)
    }

    /// Gives `key` a value, whether it had one or not, and returns the one it had.
    ///
    /// # Blocking
    ///
    /// While another one is changing something in the same bucket, which is a matter of nanoseconds, unless it is stopped in the middle of it or has a long way to go in
    /// [`update`](Self::update). A new key in a map that is nearly full is a matter of going over all of it.
    ///
    /// # Crash safety
    ///
    /// A process killed in this leaves the old value or the new one; of a key that was not there, the new one or none.
    ///
    /// # Errors
    ///
    /// [`MapError::Full`] if the key is not in the map, and as many others are; one that is just being removed still counts, and so does one that was,
    /// by a process that was killed, until its death is known. [`MapError::KeyTooLong`]; [`MapError::Failed`].
    pub fn insert(&self, key: &K, value: V) -> Result<Option<V>, MapError> {
        let key = self.checked(key)?;
        let section = Section::enter(&self.table, self.table.bucket(key))?;
        match section.put(key, &value)? {
            Put::New => Ok(None),
            Put::Replaced(old) => Ok(Some(old)),
            Put::Full => Err(self.full()),
        }
    }

    /// Changes the value of `key` by `change`, which gets a copy of it, and returns what `change` does; `None` if the key is not in the map. No change by others comes
    /// in between.
    ///
    /// # Blocking
    ///
    /// As [`insert`](Self::insert). While `change` runs, others wait who want to change the same key, or one that shares its bucket. So it must change nothing in the same
    /// map; to look is fine, and gives the old value.
    ///
    /// # Crash safety
    ///
    /// A process killed in this leaves the old value or the new one.
    ///
    /// # Errors
    ///
    /// [`MapError::Failed`], also with [`Error::Forked`] in a child that `change` has forked, in which nothing was changed: the turn is its parent's.
    ///
    /// # Panics
    ///
    /// If `change` does; nothing was changed then.
    #[inline]
    pub fn update<R>(&self, key: &K, change: impl FnOnce(&mut V) -> R) -> Result<Option<R>, MapError> {
        let key = key.bytes();
        if !self.fits(key) {
            return Ok(None);
        }
        let section = Section::enter(&self.table, self.table.bucket(key))?;
        let Some(place) = section.find(key)? else {
            return Ok(None);
        };
        let mut value = section.value(place);
        let result = change(&mut value);
        if !section.is_own() {
            return Err(MapError::Failed(Error::Forked));
        }
        section.set(place, &value);
        Ok(Some(result))
    }

    /// Changes the value of `key` by `change`, which gets a copy of it, or of `missing` if the key is not in the map, and returns what `change` does. No change by others
    /// comes in between.
    ///
    /// # Blocking
    ///
    /// As [`update`](Self::update).
    ///
    /// # Crash safety
    ///
    /// As for [`insert`](Self::insert).
    ///
    /// # Errors
    ///
    /// Those of [`insert`](Self::insert) and [`update`](Self::update).
    ///
    /// # Panics
    ///
    /// If `change` does; nothing was changed then.
    ///
    /// # Examples
    ///
    /// ```
    /// use shmkit_process::{MapError, MapOptions};
    ///
    /// let words = MapOptions::new().anonymous::<str, u64>()?;
    /// for word in "the cat and the dog".split(' ') {
    ///     words.update_or_insert(word, 0, |count| *count += 1)?;
    /// }
    /// assert_eq!(words.get("the")?, Some(2));
    /// # Ok::<(), MapError>(())
    /// ```
    pub fn update_or_insert<R>(&self, key: &K, missing: V, change: impl FnOnce(&mut V) -> R) -> Result<R, MapError> {
        let key = self.checked(key)?;
        let section = Section::enter(&self.table, self.table.bucket(key))?;
        let place = section.find(key)?;
        let mut value = place.map_or(missing, |place| section.value(place));
        let result = change(&mut value);
        if !section.is_own() {
            return Err(MapError::Failed(Error::Forked));
        }
        match place {
            Some(place) => section.set(place, &value),
            None if section.add(key, &value) => {}
            None => return Err(self.full()),
        }
        Ok(result)
    }

    /// Takes `key` out of the map, and returns the value it had.
    ///
    /// # Blocking
    ///
    /// As [`insert`](Self::insert).
    ///
    /// # Crash safety
    ///
    /// A process killed in this has removed the key or not.
    ///
    /// # Errors
    ///
    /// [`MapError::Failed`].
    pub fn remove(&self, key: &K) -> Result<Option<V>, MapError> {
        let key = key.bytes();
        if !self.fits(key) {
            return Ok(None);
        }
        let section = Section::enter(&self.table, self.table.bucket(key))?;
        let Some(place) = section.find(key)? else {
            return Ok(None);
        };
        let value = section.value(place);
        section.remove(place);
        Ok(Some(value))
    }

    /// Takes all keys out of the map, one after the other. What others insert meanwhile may stay.
    ///
    /// # Blocking
    ///
    /// As [`insert`](Self::insert), for each bucket.
    ///
    /// # Crash safety
    ///
    /// A process killed in this has removed some of them.
    ///
    /// # Errors
    ///
    /// [`MapError::Failed`]; some of them are removed then.
    pub fn clear(&self) -> Result<(), MapError> {
        for bucket in 0..self.table.capacity {
            if self.table.count(bucket)? > 0 {
                Section::enter(&self.table, bucket)?.clear()?;
            }
        }
        Ok(())
    }

    /// How many keys are in the map: those that stay in it while this counts, and some of those that come or go meanwhile.
    ///
    /// It goes over the whole map. A number that is kept beside would be wrong after somebody was killed between the change of the map and that of the
    /// number.
    ///
    /// # Errors
    ///
    /// [`MapError::Failed`].
    pub fn len(&self) -> Result<usize, MapError> {
        let mut len = 0;
        for bucket in 0..self.table.capacity {
            len += self.table.count(bucket)? as usize;
        }
        Ok(len)
    }

    /// Whether there is no key in the map. It stops at the first that it finds.
    ///
    /// # Errors
    ///
    /// [`MapError::Failed`].
    pub fn is_empty(&self) -> Result<bool, MapError> {
        for bucket in 0..self.table.capacity {
            if self.table.count(bucket)? > 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// How many keys there can be in the map. It can hold as many whatever was in it before.
    #[inline]
    pub fn capacity(&self) -> usize {
        self.table.capacity as usize
    }

    /// How long a key can be, in bytes.
    #[inline]
    pub fn longest_key(&self) -> usize {
        self.table.longest_key()
    }

    /// Goes through the entries, in no order. Those that are in the map all the time come once each, with some value that they have meanwhile; those that come or go may come or
    /// not.
    ///
    /// An error is that of a few entries; what follows it are the others.
    pub fn iter(&self) -> MapIter<'_, K, V> {
        MapIter { map: self, bucket: 0, entries: Vec::new() }
    }

    #[inline]
    fn fits(&self, key: &[u8]) -> bool {
        K::LEN.is_some() || key.len() <= self.table.longest_key()
    }

    #[inline]
    fn checked<'k>(&self, key: &'k K) -> Result<&'k [u8], MapError> {
        let key = key.bytes();
        if self.fits(key) { Ok(key) } else { Err(self.too_long(key.len())) }
    }

    #[cold]
    fn too_long(&self, len: usize) -> MapError {
        MapError::KeyTooLong { map: self.name.to_string(), len, longest: self.longest_key() }
    }

    #[cold]
    fn full(&self) -> MapError {
        MapError::Full { map: self.name.to_string(), capacity: self.capacity() }
    }
}

impl<K: Key + ?Sized, V: Pod + Described> Clone for SharedMap<K, V> {
    fn clone(&self) -> Self {
        Self { table: self.table.clone(), name: Arc::clone(&self.name) }
    }
}

impl<K: Key + ?Sized, V: Pod + Described> fmt::Debug for SharedMap<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedMap")
            .field("name", &self.name)
            .field("capacity", &self.capacity())
            .finish_non_exhaustive()
    }
}

/// The entries of a [`SharedMap`].
pub struct MapIter<'a, K: Key + ?Sized, V: Pod + Described> {
    map: &'a SharedMap<K, V>,
    /// The next one to be looked at.
    bucket: u32,
    /// What is left of the last one.
    entries: Vec<(K::Owned, V)>,
}

impl<K: Key + ?Sized, V: Pod + Described> Iterator for MapIter<'_, K, V> {
    type Item = Result<(K::Owned, V), MapError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(entry) = self.entries.pop() {
                return Some(Ok(entry));
            }
            if self.bucket == self.map.table.capacity {
                return None;
            }
            let bucket = self.bucket;
            self.bucket += 1;
            if let Err(error) = self.map.table.collect(bucket, &mut self.entries) {
                self.entries.clear();
                return Some(Err(error.into()));
            }
        }
    }
}

impl<K: Key + ?Sized, V: Pod + Described> core::iter::FusedIterator for MapIter<'_, K, V> {}

impl<K: Key + ?Sized, V: Pod + Described> fmt::Debug for MapIter<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MapIter").field("map", self.map).finish_non_exhaustive()
    }
}

impl<'a, K: Key + ?Sized, V: Pod + Described> IntoIterator for &'a SharedMap<K, V> {
    type Item = Result<(K::Owned, V), MapError>;
    type IntoIter = MapIter<'a, K, V>;

    fn into_iter(self) -> MapIter<'a, K, V> {
        self.iter()
    }
}
