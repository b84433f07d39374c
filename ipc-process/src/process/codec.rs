//! Values as parcels.

use std::os::fd::OwnedFd;

use serde::Serialize;
use serde::de::DeserializeOwned;
use shmkit_core::transfer::{self, Parcel};

/// Serialises a value, with the files that belong to it.
pub(crate) fn pack<T: Serialize>(value: &T) -> Result<Parcel, String> {
    let (bytes, files) = transfer::pack(|| postcard::to_allocvec(value));
    match bytes {
        Ok(bytes) => Ok(Parcel { bytes, files }),
        // The format drops texts.
        Err(error) => Err(transfer::refusal().unwrap_or_else(|| error.to_string())),
    }
}

/// Makes the value again.
pub(crate) fn unpack<T: DeserializeOwned>(bytes: &[u8], files: Vec<OwnedFd>) -> Result<T, String> {
    transfer::unpack(files, || postcard::from_bytes(bytes))
        .map_err(|error| transfer::refusal().unwrap_or_else(|| error.to_string()))
}
