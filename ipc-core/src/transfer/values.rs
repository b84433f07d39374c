//! What travels with a file: regions, handles to what is in them, open files.
//!
//! An object is told by its region and its name. The receiver gets it from the directory there, with the checks of every `get`: nothing that comes in a
//! parcel makes a reference to anything else. A part of an object ([`Shm::map`]) has no name, so it does not travel.

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

/// Why a handle to a part does not travel.
const PART: &str =
    "it is a handle to a part of an object, which has no name: send that to the whole, and take the part there";

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
        if !file::has_ordinary_pages(&file) {
            return Err(Error::NotARegion { what: "it has huge pages" });
        }
        let options = RegionOptions::new();
        let mapped = || Mapped::open(file.try_clone()?, path.clone(), options.wishes());
        Ok(Self::of(registry::attach(status.id, options.terms(false), mapped)?))
    }

    /// The object that begins at `address`.
    fn object_at(&self, address: usize) -> Result<Object, String> {
        let offset = address.wrapping_sub(self.mapped().addresses().start);
        for object in directory::objects(self.mapped()) {
            match object {
                Ok(object) if object.offset == offset => return Ok(object),
                Ok(_) => {}
                Err(error) => return Err(error.to_string()),
            }
        }
        Err(PART.to_owned())
    }
}

/// Only [on its way](crate::transfer) to another process, which then has a handle to the same object. A [part](Shm::map) of one does not travel.
impl<T: ShmSafe> Serialize for Shm<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let region = self.region().map_err(ser_error)?;
        let object = region.object_at(core::ptr::from_ref::<T>(self).addr()).map_err(ser_error)?;
        // A part at the beginning of an object is of another type than the whole.
        if object.fingerprint != T::FINGERPRINT.value() || object.count != 1 {
            return Err(ser_error(PART));
        }
        (region, object.name).serialize(serializer)
    }
}

/// Only where it has come from another process.
impl<'de, T: ShmSafe> Deserialize<'de> for Shm<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (region, name) = <(Region, String)>::deserialize(deserializer)?;
        region.get(&name).map_err(de_error)
    }
}

/// Only [on its way](crate::transfer) to another process, which then has a handle to the same array.
impl<T: Pod + Described + Send> Serialize for SharedArray<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let region = self.region().map_err(ser_error)?;
        let object = region.object_at(self.address()).map_err(ser_error)?;
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
        let region = self.head().region().map_err(ser_error)?;
        let name = region.object_at(core::ptr::from_ref::<H>(self).addr()).map_err(ser_error)?.name;
        // Whole, or not to be found there.
        let whole = region.get_tailed::<H>(&name).map_err(ser_error)?;
        if whole.len() != self.len() || whole.as_ptr() != self.as_ptr() {
            return Err(ser_error(PART));
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
