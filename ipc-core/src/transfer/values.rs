//! What travels with a file: regions, handles to what is in them, open files.
//!
//! An object is told by its region and the place that it has in it. The receiver looks it up in the directory there, as if it had asked for it by name,
//! so a wrong place or type is an error. A part of an object ([`Shm::map`]) is not in the directory; of that it is checked that it lies
//! within an object, is aligned, and was sent as a value of this type.

use core::fmt::Display;
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};

use bytemuck::Pod;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

use super::{Passed, add, add_region, copy, refuse, take};
use crate::array::SharedArray;
use crate::described::{Described, ShmSafe};
use crate::directory::{self, Object};
use crate::error::{Error, Result};
use crate::mapped::Mapped;
use crate::options::{RegionOptions, check_name};
use crate::region::Region;
use crate::registry;
use crate::shm::Shm;
use crate::sys::file;
use crate::tailed::Tailed;

/// Where a region is to be found.
#[derive(Serialize, Deserialize)]
struct Place {
    /// The number of its file.
    file: u32,
    /// The name that it has, if it has one.
    name: Option<String>,
}

fn ser_error<E: ser::Error>(error: impl Display) -> E {
    E::custom(refuse(error))
}

fn de_error<E: de::Error>(error: impl Display) -> E {
    E::custom(refuse(error))
}

/// Only [on its way](crate::transfer) to another process, which then takes part in it.
impl Serialize for Region {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mapped = self.mapped();
        let is_ours = file::status(mapped.file()).is_ok_and(|status| status.id == mapped.id());
        let file = || if is_ours { Ok(mapped.file().try_clone()?) } else { mapped.reopen() };
        let file = add_region(mapped.id(), file).map_err(ser_error)?;
        let name = mapped.path().and_then(|path| path.to_str().ok()?.rsplit('/').next().map(str::to_owned));
        Place { file, name }.serialize(serializer)
    }
}

/// Only where it has come from another process.
impl<'de> Deserialize<'de> for Region {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let place = Place::deserialize(deserializer)?;
        let file = copy(place.file).map_err(de_error)?;
        let path = place.name.map(|name| check_name(&name)).transpose().map_err(de_error)?;
        Self::of_travelled(file, path).map_err(de_error)
    }
}

impl Region {
    /// The region behind a file that has come from another process. A sealed one is as good as any; another one was opened by its name there.
    fn of_travelled(file: OwnedFd, path: Option<CString>) -> Result<Self> {
        if file::is_sealed(&file) {
            return Self::from_fd(file);
        }
        let status = file::status(&file)?;
        if !status.is_file {
            return Err(Error::NotARegion { what: "it is no regular file" });
        }
        let options = RegionOptions::new();
        let mapped = || Mapped::open(file.try_clone()?, path.clone(), options.wishes());
        Ok(Self::of(registry::attach(status.id, options.terms(false), mapped)?))
    }

    /// The place of an address in it.
    fn offset_of(&self, address: usize) -> u64 {
        address.wrapping_sub(self.mapped().addresses().start) as u64
    }

    /// The object with the byte at `offset` in it, and that offset.
    fn object_at(&self, offset: u64) -> Result<(Object, usize)> {
        let wrong = Error::Corrupted { what: "place of an object", found: offset };
        let Ok(offset) = usize::try_from(offset) else {
            return Err(wrong);
        };
        for object in directory::objects(self.mapped()) {
            let object = object?;
            // An object of no bytes is told by its place alone.
            if object.offset == offset || object.offset < offset && offset - object.offset < object.size {
                return Ok((object, offset));
            }
        }
        Err(wrong)
    }

    /// The object that begins at `offset`.
    fn object_from(&self, offset: u64) -> Result<Object> {
        match self.object_at(offset)? {
            (object, at) if object.offset == at => Ok(object),
            _ => Err(Error::Corrupted { what: "place of an object", found: offset }),
        }
    }
}

/// Only [on its way](crate::transfer) to another process, which then has a handle to the same object.
impl<T: ShmSafe> Serialize for Shm<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let region = self.region();
        let offset = region.offset_of(core::ptr::from_ref::<T>(self).addr());
        (region, offset, T::FINGERPRINT.value()).serialize(serializer)
    }
}

/// Only where it has come from another process.
impl<'de, T: ShmSafe> Deserialize<'de> for Shm<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (region, offset, sent_as) = <(Region, u64, u64)>::deserialize(deserializer)?;
        region.shm_at(offset, sent_as).map_err(de_error)
    }
}

impl Region {
    /// The `T` at `offset`, which was sent as one of the type with the fingerprint `sent_as`.
    fn shm_at<T: ShmSafe>(&self, offset: u64, sent_as: u64) -> Result<Shm<T>> {
        let (object, at) = self.object_at(offset)?;
        let asked = T::FINGERPRINT.value();
        let is_whole = object.offset == at && object.fingerprint == asked && object.count == 1;
        let fits = at - object.offset <= object.size && size_of::<T>() <= object.size - (at - object.offset);
        if sent_as != asked || !fits || is_whole && object.size != size_of::<T>() {
            return Err(Error::Corrupted { what: "type of an object that was sent", found: sent_as });
        }
        if at % align_of::<T>() != 0 {
            return Err(Error::Corrupted { what: "place of an object", found: offset });
        }
        // The whole of it is in the directory as a `T`, or this is a part of it which another process of this program has had as a `T`.
        Ok(self.shm(&Object { offset: at, ..object }))
    }
}

/// Only [on its way](crate::transfer) to another process, which then has a handle to the same array.
impl<T: Pod + Described + Send> Serialize for SharedArray<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let region = self.region();
        let offset = region.offset_of(self.address());
        let object = region.object_from(offset).map_err(ser_error)?;
        (region, object.name, self.len() as u64).serialize(serializer)
    }
}

/// Only where it has come from another process.
impl<'de, T: Pod + Described + Send> Deserialize<'de> for SharedArray<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (region, name, len) = <(Region, String, u64)>::deserialize(deserializer)?;
        region.get_array(&name, usize::try_from(len).unwrap_or(usize::MAX)).map_err(de_error)
    }
}

/// Only [on its way](crate::transfer) to another process, which then has a handle to the same object. A [part](Tailed::part) of one does not travel.
impl<H: ShmSafe> Serialize for Tailed<H> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let region = self.head().region();
        let offset = region.offset_of(core::ptr::from_ref::<H>(self).addr());
        let name = region.object_from(offset).map_err(ser_error)?.name;
        // Whole, or not to be found there.
        let whole = region.get_tailed::<H>(&name).map_err(ser_error)?;
        if whole.len() != self.len() || whole.as_ptr() != self.as_ptr() {
            return Err(ser_error("it is a part of an object, and only whole ones can be sent"));
        }
        (region, name).serialize(serializer)
    }
}

/// Only where it has come from another process.
impl<'de, H: ShmSafe> Deserialize<'de> for Tailed<H> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (region, name) = <(Region, String)>::deserialize(deserializer)?;
        region.get_tailed(&name).map_err(de_error)
    }
}

/// Only [on its way](crate::transfer) to another process.
impl<F: AsFd> Serialize for Passed<F> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let file = self.0.as_fd().try_clone_to_owned().map_err(ser_error)?;
        add(file).map_err(ser_error)?.serialize(serializer)
    }
}

/// Only where it has come from another process.
impl<'de, F: From<OwnedFd>> Deserialize<'de> for Passed<F> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = u32::deserialize(deserializer)?;
        take(number).map(|file| Self(file.into())).map_err(de_error)
    }
}
