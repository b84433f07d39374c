//! How maps are made and opened.

use std::hash::{BuildHasher, RandomState};

use bytemuck::Pod;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use shmkit_core::transfer::refuse;
use shmkit_core::{Described, Error, Region, RegionOptions, Tailed};

use super::SharedMap;
use super::error::MapError;
use super::key::Key;
use super::layout::Head;

/// What a map is called in a region of its own.
const NAME: &str = "map";

/// How many entries fit in if nothing else is said.
const DEFAULT_CAPACITY: u64 = 1024;

/// How long keys of different lengths can be if nothing else is said.
const DEFAULT_LONGEST_KEY: u64 = 32;

/// What the directory of a region takes for a map, at most, besides the map itself.
const OVERHEAD: usize = 2048;

/// How a [`SharedMap`] is to be made.
///
/// # Examples
///
/// ```
/// use shmkit_process::{MapError, MapOptions};
///
/// let users = MapOptions::new().capacity(100).longest_key(8).anonymous::<str, u64>()?;
/// users.insert("eve", 1)?;
/// assert_eq!(users.get("eve")?, Some(1));
/// assert!(matches!(users.insert("wilhelmina", 2), Err(MapError::KeyTooLong { len: 10, .. })));
/// # Ok::<(), MapError>(())
/// ```
#[derive(Clone, Debug)]
pub struct MapOptions {
    capacity: u64,
    longest_key: u64,
    region: RegionOptions,
}

impl Default for MapOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl MapOptions {
    /// Room for 1024 entries, whose keys have up to 32 bytes if they can have different lengths.
    pub fn new() -> Self {
        let mut region = RegionOptions::new();
        region.unlink_on_drop(true);
        Self { capacity: DEFAULT_CAPACITY, longest_key: DEFAULT_LONGEST_KEY, region }
    }

    /// For how many entries there is to be room: 1 to 2^30 - 2; 0 means the default.
    ///
    /// Each takes a cache line, or more if a line has no room for 32 bytes, the key (with 8 bytes for its length, if that varies), and twice the value. A map works best
    /// if some of its room stays free: an entry of a map that was filled to the last is found in twice the time.
    pub fn capacity(&mut self, capacity: u64) -> &mut Self {
        self.capacity = if capacity == 0 { DEFAULT_CAPACITY } else { capacity };
        self
    }

    /// How many bytes a key of `[u8]` or `str` can have: up to 2^20. Makes no difference to keys that have one length.
    pub fn longest_key(&mut self, bytes: u64) -> &mut Self {
        self.longest_key = bytes;
        self
    }

    /// How the region of a map with a name of its own is to be made. Unless said otherwise, its name goes when the creator drops its last
    /// handle; one that is killed leaves it, to be opened or [unlinked](shmkit_core::Region::unlink).
    pub fn region(&mut self, region: RegionOptions) -> &mut Self {
        self.region = region;
        self
    }

    /// Makes a map that others can [open](SharedMap::open) by name.
    ///
    /// # Crash safety
    ///
    /// A process that is killed in this leaves nothing behind, or the whole map.
    ///
    /// # Errors
    ///
    /// [`MapError::Failed`] with what [`RegionOptions::create`] fails with.
    pub fn create<K: Key + ?Sized, V: Pod + Described>(&self, name: &str) -> Result<SharedMap<K, V>, MapError> {
        let size = self.size::<K, V>()?;
        let (_, shared) = self
            .region
            .create_with(name, size, |region| region.insert_tailed(NAME, self.head::<K, V>(), self.bytes::<K, V>()?))?;
        SharedMap::of(shared, name)
    }

    /// Puts a map into a region, under `name`.
    ///
    /// # Crash safety
    ///
    /// As for [`create`](Self::create).
    ///
    /// # Errors
    ///
    /// [`MapError::Failed`] with what [`Region::insert`] fails with.
    pub fn create_in<K: Key + ?Sized, V: Pod + Described>(
        &self,
        region: &Region,
        name: &str,
    ) -> Result<SharedMap<K, V>, MapError> {
        SharedMap::of(region.insert_tailed(name, self.head::<K, V>(), self.bytes::<K, V>()?)?, name)
    }

    /// Makes a map without a name: for threads, for processes that get it as an argument, and for children that are forked from here on.
    ///
    /// # Errors
    ///
    /// [`MapError::Failed`] with what [`RegionOptions::anonymous`] fails with.
    pub fn anonymous<K: Key + ?Sized, V: Pod + Described>(&self) -> Result<SharedMap<K, V>, MapError> {
        self.create_in(&self.region.anonymous(self.size::<K, V>()?)?, NAME)
    }

    fn head<K: Key + ?Sized, V: Pod + Described>(&self) -> Head<K, V> {
        // Keys of its own, drawn from the operating system's randomness, are what std makes a hasher with.
        Head::new(self.capacity, self.longest_key, [0, 1].map(|number: u8| RandomState::new().hash_one(number)))
    }

    /// How many bytes the slots take.
    fn bytes<K: Key + ?Sized, V: Pod + Described>(&self) -> Result<usize, Error> {
        Head::<K, V>::bytes(self.capacity, self.longest_key).ok_or(Error::NoSpace { bytes: u64::MAX })
    }

    /// The size of a region for one map.
    fn size<K: Key + ?Sized, V: Pod + Described>(&self) -> Result<usize, Error> {
        let size = self.bytes::<K, V>()?.checked_add(size_of::<Head<K, V>>() + OVERHEAD);
        size.ok_or(Error::NoSpace { bytes: u64::MAX })
    }
}

/// Making and opening maps.
impl<K: Key + ?Sized, V: Pod + Described> SharedMap<K, V> {
    /// Makes a map with room for `capacity` entries, which other processes can [open](Self::open) by `name`.
    ///
    /// # Errors
    ///
    /// As for [`MapOptions::create`], which has more to choose from.
    pub fn create(name: &str, capacity: u64) -> Result<Self, MapError> {
        MapOptions::new().capacity(capacity).create(name)
    }

    /// Puts a map with room for `capacity` entries into a region, under `name`.
    ///
    /// # Errors
    ///
    /// As for [`MapOptions::create_in`].
    pub fn create_in(region: &Region, name: &str, capacity: u64) -> Result<Self, MapError> {
        MapOptions::new().capacity(capacity).create_in(region, name)
    }

    /// Opens a map that was [created](Self::create) by name.
    ///
    /// # Blocking
    ///
    /// As for [`Region::open`].
    ///
    /// # Errors
    ///
    /// [`MapError::Failed`] with what [`Region::open`] fails with, or with [`Error::WrongType`] if the map has other keys or values, or with
    /// [`Error::NoSuchObject`] if the name is that of something else.
    pub fn open(name: &str) -> Result<Self, MapError> {
        Self::of(Region::open(name)?.get_tailed(NAME)?, name)
    }

    /// Opens a map that was [put into a region](Self::create_in).
    ///
    /// # Errors
    ///
    /// [`MapError::Failed`] with what [`Region::get`] fails with.
    pub fn open_in(region: &Region, name: &str) -> Result<Self, MapError> {
        Self::of(region.get_tailed(name)?, name)
    }
}

/// Only [on its way](shmkit_core::transfer) to another process, which then has a handle to the same map.
impl<K: Key + ?Sized, V: Pod + Described> Serialize for SharedMap<K, V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (self.table.shared(), &*self.name).serialize(serializer)
    }
}

/// Only where it has come from another process.
impl<'de, K: Key + ?Sized, V: Pod + Described> Deserialize<'de> for SharedMap<K, V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (shared, name) = <(Tailed<Head<K, V>>, String)>::deserialize(deserializer)?;
        Self::of(shared, &name).map_err(|error| D::Error::custom(refuse(error)))
    }
}
