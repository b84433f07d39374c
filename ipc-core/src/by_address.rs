//! The regions of this process by address, to be read without a lock: by those who come to try, and do not wait.
//!
//! The registry writes here what it knows, with its lock held, between two raises of a number, of which the first makes it odd. A reader that finds
//! the number odd, or another one behind its look, knows nothing, and asks the registry.
//!
//! What a reader finds may be outdated, but not about what it has a reference to: that came from a handle, which was made after its region had been entered here, so
//! the entry is seen, or what has come after it; and it is taken out only after the last handle is gone, and before the addresses go to something else.

use core::ops::Range;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use crate::const_fn;
use crate::shim::{AtomicPtr, AtomicU64, fence};

/// How many regions are kept here. Of a process that has more, the rest are looked for in the registry.
const ROOM: usize = if cfg!(ipc_loom) { 2 } else { 8 };

/// Ranges of addresses, and what lies there. Written under the registry's lock; only its own process sees it.
#[derive(Debug)]
pub(crate) struct Table<T> {
    /// Raised before and after each change.
    changes: AtomicU64,
    /// How many ranges there are, also if that is more than there is room for.
    count: AtomicU64,
    places: [Place<T>; ROOM],
}

#[derive(Debug)]
struct Place<T> {
    start: AtomicU64,
    end: AtomicU64,
    what: AtomicPtr<T>,
}

/// What is known of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found<T> {
    /// This lies there.
    Here(*const T),
    /// Nothing does.
    Nowhere,
    /// It is to be looked for in the registry.
    Unknown,
}

impl<T> Place<T> {
    const_fn! {
        fn empty() -> Self {
            Self { start: AtomicU64::new(0), end: AtomicU64::new(0), what: AtomicPtr::new(core::ptr::null_mut()) }
        }
    }
}

impl<T> Table<T> {
    const_fn! {
        /// Nothing lies anywhere.
        pub(crate) fn new() -> Self {
            Self { changes: AtomicU64::new(0), count: AtomicU64::new(0), places: empty_places() }
        }
    }

    /// What lies at `address`, which is not to be followed unless the caller has a reference to something there.
    #[inline]
    pub(crate) fn find(&self, address: usize) -> Found<T> {
        let address = address as u64;
        // Acquire pairs with the Release at the end of `fill`: the ranges are those of this number, or later ones.
        let changes = self.changes.load(Acquire);
        let count = self.count.load(Relaxed);
        let is_around = |place: &&Place<T>| place.start.load(Relaxed) <= address && address < place.end.load(Relaxed);
        let found = match self.places.iter().take(count as usize).find(is_around) {
            Some(place) => Found::Here(place.what.load(Relaxed)),
            None if count > ROOM as u64 => Found::Unknown,
            None => Found::Nowhere,
        };
        // Pairs with the Release fence in `fill`: whoever has read something of a later number finds that number, too.
        fence(Acquire);
        if changes % 2 == 0 && self.changes.load(Relaxed) == changes { found } else { Found::Unknown }
    }

    /// From here on it is `all` that lies anywhere. The registry is locked: nobody else does this.
    pub(crate) fn fill(&self, all: impl ExactSizeIterator<Item = (Range<usize>, *const T)>) {
        let changes = self.changes.load(Relaxed);
        self.changes.store(changes + 1, Relaxed);
        fence(Release);
        self.count.store(all.len() as u64, Relaxed);
        for (place, (range, what)) in self.places.iter().zip(all) {
            place.start.store(range.start as u64, Relaxed);
            place.end.store(range.end as u64, Relaxed);
            place.what.store(what.cast_mut(), Relaxed);
        }
        self.changes.store(changes + 2, Release);
    }
}

#[cfg(not(ipc_loom))]
const fn empty_places<T>() -> [Place<T>; ROOM] {
    [const { Place::empty() }; ROOM]
}

#[cfg(ipc_loom)]
fn empty_places<T>() -> [Place<T>; ROOM] {
    core::array::from_fn(|_| Place::empty())
}

#[cfg(all(test, not(ipc_loom)))]
mod tests {
    use super::*;

    /// A table with ranges of 10 addresses, which begin at those.
    fn table(starts: &[usize]) -> Table<usize> {
        let table = Table::new();
        table.fill(starts.iter().map(|start| (*start..*start + 10, core::ptr::from_ref(start))));
        table
    }

    #[test]
    fn a_range_has_its_first_address_and_not_its_end() {
        let starts = [100, 110, 200];
        let table = table(&starts);
        let found = [99, 100, 109, 110, 119, 120, 200].map(|address| table.find(address));
        let [first, second, third] = [0, 1, 2].map(|i| Found::Here(&raw const starts[i]));
        assert_eq!(found, [Found::Nowhere, first, first, second, second, Found::Nowhere, third]);
    }

    #[test]
    fn of_more_ranges_than_there_is_room_for_the_rest_are_unknown() {
        let starts: Vec<_> = (1..=ROOM + 1).map(|i| 100 * i).collect();
        let table = table(&starts);
        assert_eq!(table.find(starts[ROOM - 1]), Found::Here(&raw const starts[ROOM - 1]));
        assert_eq!((table.find(starts[ROOM]), table.find(0)), (Found::Unknown, Found::Unknown));
    }

    #[test]
    fn what_was_taken_out_lies_nowhere() {
        let table = table(&[100, 200]);
        table.fill(core::iter::empty());
        assert_eq!((table.find(100), table.find(200)), (Found::Nowhere, Found::Nowhere));
    }
}
