//! A hash map in a region.
