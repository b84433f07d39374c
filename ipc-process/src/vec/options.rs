//! How vectors are made and opened.

use bytemuck::Pod;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use shmkit_core::transfer::refuse;
use shmkit_core::{Described, Error, Region, RegionOptions, Tailed};

use super::SharedVec;
use super::error::VecError;
use super::layout::Head;

/// What a vector is called in a region of its own.
const NAME: &str = "vec";

/// How many elements fit in if nothing else is said.
const DEFAULT_CAPACITY: u64 = 1024;

/// What the directory of a region takes for a vector, at most, besides the vector itself.
const OVERHEAD: usize = 2048;

/// How a [`SharedVec`] is to be made.
///
/// # Examples
///
/// ```
/// use shmkit_process::{VecError, VecOptions};
///
/// let marks = VecOptions::new().capacity(2).anonymous::<u64>()?;
/// marks.extend_from_slice(&[7, 8])?;
/// assert!(matches!(marks.push(9), Err(VecError::Full { capacity: 2, .. })));
/// # Ok::<(), VecError>(())
/// ```
#[derive(Clone, Debug)]
pub struct VecOptions {
    capacity: u64,
    region: RegionOptions,
}

impl Default for VecOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl VecOptions {
    /// Room for 1024 elements.
    pub fn new() -> Self {
        let mut region = RegionOptions::new();
        region.unlink_on_drop(true);
        Self { capacity: DEFAULT_CAPACITY, region }
    }

    /// For how many elements there is to be room; 0 means the default. Each takes 16 bytes, and twice its size.
    pub fn capacity(&mut self, capacity: u64) -> &mut Self {
        self.capacity = if capacity == 0 { DEFAULT_CAPACITY } else { capacity };
        self
    }

    /// How the region of a vector with a name of its own is to be made. Unless said otherwise, its name goes when the creator drops its last
    /// handle; one that is killed leaves it, to be opened or [unlinked](shmkit_core::Region::unlink).
    pub fn region(&mut self, region: RegionOptions) -> &mut Self {
        self.region = region;
        self
    }

    /// Makes a vector that others can [open](SharedVec::open) by name.
    ///
    /// # Crash safety
    ///
    /// A process that is killed in this leaves nothing behind, or the whole vector.
    ///
    /// # Errors
    ///
    /// [`VecError::Failed`] with what [`RegionOptions::create`] fails with.
    pub fn create<T: Pod + Described>(&self, name: &str) -> Result<SharedVec<T>, VecError> {
        let size = self.size::<T>()?;
        let (_, shared) = self.region.create_with(name, size, |region| {
            region.insert_tailed(NAME, Head::<T>::new(self.capacity), self.bytes::<T>()?)
        })?;
        SharedVec::of(shared, name)
    }

    /// Puts a vector into a region, under `name`.
    ///
    /// # Crash safety
    ///
    /// As for [`create`](Self::create).
    ///
    /// # Errors
    ///
    /// [`VecError::Failed`] with what [`Region::insert`] fails with.
    pub fn create_in<T: Pod + Described>(&self, region: &Region, name: &str) -> Result<SharedVec<T>, VecError> {
        SharedVec::of(region.insert_tailed(name, Head::<T>::new(self.capacity), self.bytes::<T>()?)?, name)
    }

    /// Makes a vector without a name: for threads, for processes that get it as an argument, and for children that are forked from here on.
    ///
    /// # Errors
    ///
    /// [`VecError::Failed`] with what [`RegionOptions::anonymous`] fails with.
    pub fn anonymous<T: Pod + Described>(&self) -> Result<SharedVec<T>, VecError> {
        self.create_in(&self.region.anonymous(self.size::<T>()?)?, NAME)
    }

    /// How many bytes the elements take.
    fn bytes<T: Pod + Described>(&self) -> Result<usize, Error> {
        Head::<T>::bytes(self.capacity).ok_or(Error::NoSpace { bytes: u64::MAX })
    }

    /// The size of a region for one vector.
    fn size<T: Pod + Described>(&self) -> Result<usize, Error> {
        let size = self.bytes::<T>()?.checked_add(size_of::<Head<T>>() + OVERHEAD);
        size.ok_or(Error::NoSpace { bytes: u64::MAX })
    }
}

/// Making and opening vectors.
impl<T: Pod + Described> SharedVec<T> {
    /// Makes a vector with room for `capacity` elements, which other processes can [open](Self::open) by `name`.
    ///
    /// # Errors
    ///
    /// As for [`VecOptions::create`], which has more to choose from.
    pub fn create(name: &str, capacity: u64) -> Result<Self, VecError> {
        VecOptions::new().capacity(capacity).create(name)
    }

    /// Puts a vector with room for `capacity` elements into a region, under `name`.
    ///
    /// # Errors
    ///
    /// As for [`VecOptions::create_in`].
    pub fn create_in(region: &Region, name: &str, capacity: u64) -> Result<Self, VecError> {
        VecOptions::new().capacity(capacity).create_in(region, name)
    }

    /// Opens a vector that was [created](Self::create) by name.
    ///
    /// # Blocking
    ///
    /// As for [`Region::open`].
    ///
    /// # Errors
    ///
    /// [`VecError::Failed`] with what [`Region::open`] fails with, or with [`Error::WrongType`] if the vector has other elements, or with
    /// [`Error::NoSuchObject`] if the name is that of something else.
    pub fn open(name: &str) -> Result<Self, VecError> {
        Self::of(Region::open(name)?.get_tailed(NAME)?, name)
    }

    /// Opens a vector that was [put into a region](Self::create_in).
    ///
    /// # Errors
    ///
    /// [`VecError::Failed`] with what [`Region::get`] fails with.
    pub fn open_in(region: &Region, name: &str) -> Result<Self, VecError> {
        Self::of(region.get_tailed(name)?, name)
    }
}

/// Only [on its way](shmkit_core::transfer) to another process, which then has a handle to the same vector.
impl<T: Pod + Described> Serialize for SharedVec<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (self.table.shared(), &*self.name).serialize(serializer)
    }
}

/// Only where it has come from another process.
impl<'de, T: Pod + Described> Deserialize<'de> for SharedVec<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (shared, name) = <(Tailed<Head<T>>, String)>::deserialize(deserializer)?;
        Self::of(shared, &name).map_err(|error| D::Error::custom(refuse(error)))
    }
}
