//! Values of any type, made of a number.

use bytemuck::Pod;
use shmkit::Described;

/// What arrays and channels are tried with.
pub(crate) trait Value: Pod + Described + Send + PartialEq + core::fmt::Debug {
    /// The value that belongs to `seed`; different ones for different seeds.
    fn of(seed: u8) -> Self {
        let mut value = Self::zeroed();
        let bytes = bytemuck::bytes_of_mut(&mut value);
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = seed.wrapping_add((at as u8).wrapping_mul(37));
        }
        value
    }
}

impl<T: Pod + Described + Send + PartialEq + core::fmt::Debug> Value for T {}
