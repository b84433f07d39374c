//! An open file among the arguments of a process.

use std::os::fd::OwnedFd;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};
use shmkit_core::transfer;

/// See the module.
#[derive(Debug)]
pub(super) struct Passed(pub(super) OwnedFd);

impl Serialize for Passed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let file = self.0.try_clone().map_err(ser::Error::custom)?;
        serializer.serialize_u32(transfer::add(file).map_err(ser::Error::custom)?)
    }
}

impl<'de> Deserialize<'de> for Passed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        transfer::take(u32::deserialize(deserializer)?).map(Self).map_err(de::Error::custom)
    }
}
