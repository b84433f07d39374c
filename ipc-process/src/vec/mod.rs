//! A vector in a region.
