//! What lies in the shared memory of a vector, and who writes it.
//!
//! ```text
//! | head: 256 bytes | element 0 | element 1 | ... | element capacity - 1 |
//!
//! | lock: u64, twice | version: u64 | value 0 | value 1 |      an element
//! ```
//!
//! | word | what it says | written by |
//! |---|---|---|
//! | head: lock | see `RawLock`: who pushes or pops | whoever takes or gives it up |
//! | head: len | how many elements there are | the holder of that lock |
//! | lock | who changes the element, or pops it | whoever takes or gives it up |
//! | version | value `version & 1` is the valid one. One more with each change, two more when the element has gone | the holder of the element's lock; beyond `len`, the holder of the head's lock |
//! | value 0, value 1 | | the holder of the element's lock, the one that is not valid; beyond `len`, the holder of the head's lock, the other one |

use core::fmt;
use core::marker::PhantomData;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use bytemuck::Pod;
use shmkit_core::raw_lock::RawLock;
use shmkit_core::shim::{AtomicU64, fence};
use shmkit_core::{Described, Error, Fingerprint, ShmSafe, Tailed, TypeName, crash_point};

use crate::words::{self, WORD, words_of};

/// Version of the layout above.
const LAYOUT: u32 = 3;

/// Where in an element its words are.
const LOCK: usize = 0;
const VERSION: usize = 2;
const VALUE: usize = 3;

/// The fixed part of a vector.
#[repr(C, align(128))]
#[derive(Debug)]
pub(super) struct Head<T> {
    /// How many elements there can be. Garbage: checked against the size when the vector is opened, once.
    capacity: AtomicU64,
    _rules: [AtomicU64; 15],
    /// Held by the one who pushes or pops.
    pub(super) lock: RawLock,
    /// How many elements there are. Garbage: more than there can be.
    len: AtomicU64,
    _len: [AtomicU64; 13],
    _elements: PhantomData<fn() -> T>,
}

#[cfg(not(ipc_loom))]
const _: () = {
    use core::mem::offset_of;

    assert!(size_of::<Head<u64>>() == 256 && align_of::<Head<u64>>() == 128);
    assert!(offset_of!(Head<u64>, lock) == 128);
    assert!(offset_of!(Head<u64>, len) == 144);
};

// SAFETY: name, layout version, size and alignment are all that the layout of the head depends on; that of the elements depends on `T`.
unsafe impl<T: Described> Described for Head<T> {
    const FINGERPRINT: Fingerprint =
        Fingerprint::new("SharedVec", LAYOUT, size_of::<Self>(), align_of::<Self>()).parameter(T::FINGERPRINT);

    fn type_name(f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SharedVec<{}>", TypeName::<T>::new())
    }
}

// SAFETY: nothing but atomics, without padding; every value is survived.
unsafe impl<T: Described + 'static> ShmSafe for Head<T> {}

impl<T: Pod + Described> Head<T> {
    const VALUE_WORDS: usize = words_of(size_of::<T>());

    /// The size of an element, in words.
    const WORDS: usize = VALUE + 2 * Self::VALUE_WORDS;

    /// The head of an empty vector.
    pub(super) fn new(capacity: u64) -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            capacity: AtomicU64::new(capacity),
            _rules: [(); 15].map(|()| zero()),
            lock: RawLock::new(),
            len: zero(),
            _len: [(); 13].map(|()| zero()),
            _elements: PhantomData,
        }
    }

    /// How many bytes the elements of such a vector take; `None` if there can be no such vector.
    pub(super) fn bytes(capacity: u64) -> Option<usize> {
        usize::try_from(capacity).ok()?.checked_mul(Self::WORDS)?.checked_mul(WORD)
    }
}

/// A vector as one process sees it: the shared part, and a private number that was checked once.
pub(super) struct Table<T: Pod + Described> {
    shared: Tailed<Head<T>>,
    pub(super) capacity: usize,
}

impl<T: Pod + Described> Clone for Table<T> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone(), ..*self }
    }
}

impl<T: Pod + Described> Table<T> {
    pub(super) fn new(shared: Tailed<Head<T>>) -> Result<Self, Error> {
        let found = shared.capacity.load(Relaxed);
        match Head::<T>::bytes(found) {
            Some(bytes) if bytes == shared.len() => Ok(Self { shared, capacity: found as usize }),
            _ => Err(Error::Corrupted { what: "capacity of a vector", found }),
        }
    }

    /// What is shared.
    #[inline]
    pub(super) fn shared(&self) -> &Tailed<Head<T>> {
        &self.shared
    }

    /// How many elements there are.
    #[inline]
    pub(super) fn len(&self) -> Result<usize, Error> {
        // Acquire pairs with the Release in `set_len`: all of them are seen whole.
        let found = self.shared.len.load(Acquire);
        if found > self.capacity as u64 {
            return Err(Error::Corrupted { what: "length of a vector", found });
        }
        Ok(found as usize)
    }

    /// The head's lock is held.
    #[inline]
    pub(super) fn set_len(&self, len: usize) {
        // Release: see `len`.
        self.shared.len.store(len as u64, Release);
    }

    /// The place of an element, which is below the capacity.
    #[inline]
    pub(super) fn element(&self, index: usize) -> Element<'_, T> {
        debug_assert!(index < self.capacity);
        let at = index * Head::<T>::WORDS * WORD;
        Element { table: self, at, words: self.shared.words(at, Head::<T>::WORDS) }
    }
}

/// The place of an element.
pub(super) struct Element<'a, T: Pod + Described> {
    table: &'a Table<T>,
    /// Its first byte, from the end of the head.
    at: usize,
    words: &'a [AtomicU64],
}

impl<'a, T: Pod + Described> Element<'a, T> {
    #[inline]
    pub(super) fn lock(&self) -> &'a RawLock {
        RawLock::of(self.words[LOCK..].first_chunk().expect("an element begins with them"))
    }

    /// The version, before a look at the length, and then at the value.
    #[inline]
    pub(super) fn begin_to_read(&self) -> u64 {
        // Acquire pairs with the Release in `set`: the value is at least as new as the version. And with that in `disturb`: whoever sees that the element
        // has gone reads a length without it, or one behind which another one is there whole.
        self.words[VERSION].load(Acquire)
    }

    /// The value at that version, unless it has changed since, or the element has gone.
    #[inline]
    pub(super) fn try_read(&self, version: u64) -> Option<T> {
        let value = self.load(version);
        // Acquire pairs with the Release fences in `set` and `fill`: if any word above was written by the change after the next, or by a push after the
        // element had gone, then the version that came before that is seen below.
        fence(Acquire);
        (self.words[VERSION].load(Relaxed) == version).then_some(value)
    }

    /// The value. The element's lock is held.
    #[inline]
    pub(super) fn read(&self) -> T {
        self.load(self.words[VERSION].load(Relaxed))
    }

    /// Changes the value. The element's lock is held.
    #[inline]
    pub(super) fn set(&self, value: &T) {
        let next = self.words[VERSION].load(Relaxed).wrapping_add(1);
        // See `try_read`.
        fence(Release);
        crash_point!("vec.set.before_value");
        self.store(next, value);
        crash_point!("vec.set.after_value");
        // Release: see `begin_to_read`.
        self.words[VERSION].store(next, Release);
        crash_point!("vec.set.after_version");
    }

    /// Whoever is looking at the element has to look again: it is not there any more, and its place may be filled anew. The head's lock is held.
    #[inline]
    pub(super) fn disturb(&self) {
        // The same value stays valid, so that it need not be moved.
        let version = self.words[VERSION].load(Relaxed).wrapping_add(2);
        // Release: see `begin_to_read`.
        self.words[VERSION].store(version, Release);
    }

    /// Writes the value of an element that is not there yet. The head's lock is held.
    #[inline]
    pub(super) fn fill(&self, value: &T) {
        // See `try_read`. The lock has ordered this after the `disturb` of whatever went from here.
        fence(Release);
        self.store(self.words[VERSION].load(Relaxed), value);
    }

    #[inline]
    fn load(&self, version: u64) -> T {
        let place = Self::place(version);
        let mut value = T::zeroed();
        let bytes = bytemuck::bytes_of_mut(&mut value);
        words::load(&self.table.shared, self.at + place * WORD, &self.words[place..], bytes);
        value
    }

    #[inline]
    fn store(&self, version: u64, value: &T) {
        let place = Self::place(version);
        words::store(&self.table.shared, self.at + place * WORD, &self.words[place..], bytemuck::bytes_of(value));
    }

    /// Where the value is that is valid at `version`, in words.
    #[inline]
    fn place(version: u64) -> usize {
        VALUE + (version & 1) as usize * Head::<T>::VALUE_WORDS
    }
}
