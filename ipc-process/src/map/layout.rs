//! What lies in the shared memory of a map, and who writes it.
//!
//! ```text
//! | head: 128 bytes | slot 0 | slot 1 | ... | slot capacity - 1 |
//! ```
//!
//! A slot is two things that have only their place in common: a **bucket**, with the lock of all keys that hash to it, and room for an **entry**, which
//! may be that of any bucket. An entry lies in the slot of its bucket if that is free, so most keys are found in one cache line.
//!
//! ```text
//! |<------------ bucket ----------->|<------------------ entry ------------------------>|
//! | lock: u64, twice | version: u64 | links | entry: u64 | [len: u64] | key | value 0 | value 1 | zeroes up to 64 bytes |
//!
//!            63               32 31                0
//!           +-------------------+-------------------+
//!    links  | pending + 1       | first + 1         |   0: none
//!           +-------------------+-------------------+
//!            63               32  31  30 29        0
//!           +-------------------+----+--+-----------+
//!    entry  | next + 1          |VAL | 0| bucket + 1|   0: a free slot
//!           +-------------------+----+--+-----------+
//! ```
//!
//! | word | what it says | written by |
//! |---|---|---|
//! | lock | see `RawLock`: who changes what belongs to the bucket | whoever takes or gives it up |
//! | version | how often readers have been disturbed, modulo 2^64 | the holder of the lock |
//! | links, first | the first entry of the chain | the holder of the lock |
//! | links, pending | a slot that may be this bucket's without being in its chain | the holder of the lock |
//! | entry | the next one in the chain; which value is the valid one; whose it is | whoever takes a free one, by an exchange; then the holder of the lock of its bucket |
//! | len, key | the key. `len` is there only if keys have different lengths | the holder of the lock of its bucket, before the entry is in the chain |
//! | value 0, value 1 | value VAL is the valid one | the holder of the lock of its bucket, the one that is not valid |
//!
//! An entry is in the map if it can be reached from its bucket, and not otherwise.

use core::fmt;
use core::marker::PhantomData;
use core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use bytemuck::Pod;
use shmkit_core::raw_lock::RawLock;
use shmkit_core::shim::{AtomicU64, fence};
use shmkit_core::{Described, Error, Fingerprint, ShmSafe, Tailed, TypeName};

use super::hash;
use super::key::Key;
use crate::words::{self, WORD, word_of, words_of};

/// The size of a cache line.
const LINE: usize = 64;

/// The most entries there can be: a number of a bucket, plus 1, has 30 bits.
pub(super) const MOST: u64 = (1 << 30) - 2;

/// The longest key of those that have different lengths: its length must not overflow anything.
pub(super) const LONGEST_KEY: u64 = 1 << 20;

/// Version of the layout above, and of the hash.
const LAYOUT: u32 = 2;

/// Which value is valid.
const VAL: u64 = 1 << 31;

/// Where in a slot the words of the bucket are, and that of the entry.
const LOCK: usize = 0;
const VERSION: usize = 2;
const LINKS: usize = 3;
const ENTRY: usize = 4;
/// Where the entry's length or key begins.
const KEY: usize = 5;

/// The fixed part of a map.
#[repr(C, align(128))]
#[derive(Debug)]
pub(super) struct Head<K: ?Sized, V> {
    /// How many slots there are. Garbage: checked against the size when the map is opened, once.
    capacity: AtomicU64,
    /// The length of the longest key, in bytes. The same.
    longest_key: AtomicU64,
    /// Of the hash. Any are good. Read once by each who opens the map.
    seed: [AtomicU64; 2],
    _rules: [AtomicU64; 4],
    /// How often a slot has become free, modulo 2^64. Whoever finds no free one looks whether one has become free meanwhile.
    freed: AtomicU64,
    _freed: [AtomicU64; 7],
    _keys: PhantomData<fn(&K)>,
    _values: PhantomData<fn() -> V>,
}

#[cfg(not(ipc_loom))]
const _: () = {
    use core::mem::offset_of;

    assert!(size_of::<Head<u64, u64>>() == 128 && align_of::<Head<u64, u64>>() == 128);
    assert!(offset_of!(Head<u64, u64>, longest_key) == 8);
    assert!(offset_of!(Head<u64, u64>, seed) == 16);
    assert!(offset_of!(Head<u64, u64>, freed) == 64);
};

// SAFETY: name, layout version, size and alignment are all that the layout of the head depends on; that of the slots depends on `K` and `V`.
unsafe impl<K: Key + ?Sized, V: Described> Described for Head<K, V> {
    const FINGERPRINT: Fingerprint = Fingerprint::new("SharedMap", LAYOUT, size_of::<Self>(), align_of::<Self>())
        .parameter(K::FINGERPRINT)
        .parameter(V::FINGERPRINT);

    fn type_name(f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedMap<")?;
        K::type_name(f)?;
        write!(f, ", {}>", TypeName::<V>::new())
    }
}

// SAFETY: nothing but atomics, without padding; every value is survived.
unsafe impl<K: Key + ?Sized, V: Described + 'static> ShmSafe for Head<K, V> {}

impl<K: Key + ?Sized, V: Pod + Described> Head<K, V> {
    /// The head of an empty map.
    pub(super) fn new(capacity: u64, longest_key: u64, seed: [u64; 2]) -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            capacity: AtomicU64::new(capacity),
            longest_key: AtomicU64::new(K::LEN.map_or(longest_key, |len| len as u64)),
            seed: seed.map(AtomicU64::new),
            _rules: [(); 4].map(|()| zero()),
            freed: zero(),
            _freed: [(); 7].map(|()| zero()),
            _keys: PhantomData,
            _values: PhantomData,
        }
    }

    /// How many bytes the slots of such a map take; `None` if there can be no such map.
    pub(super) fn bytes(capacity: u64, longest_key: u64) -> Option<usize> {
        let is_possible = (1..=MOST).contains(&capacity) && (K::LEN.is_some() || longest_key <= LONGEST_KEY);
        let shape = Shape::new::<K, V>(K::LEN.unwrap_or(longest_key as usize))?;
        is_possible.then_some(())?;
        (capacity as usize).checked_mul(shape.slot)
    }
}

/// Where in a slot the values are, and how large it is.
#[derive(Clone, Copy, Debug)]
struct Shape {
    /// In words, from the beginning of the slot.
    values: [usize; 2],
    /// In bytes.
    slot: usize,
}

impl Shape {
    const fn new<K: Key + ?Sized, V>(longest_key: usize) -> Option<Self> {
        let key = words_of(longest_key) + K::LEN.is_none() as usize;
        let first = KEY + key;
        let value = words_of(size_of::<V>());
        let Some(words) = value.checked_mul(2) else { return None };
        let Some(words) = words.checked_add(first) else { return None };
        let Some(bytes) = words.checked_mul(WORD) else { return None };
        match bytes.checked_next_multiple_of(LINE) {
            Some(slot) => Some(Self { values: [first, first + value], slot }),
            None => None,
        }
    }
}

/// A map as one process sees it: the shared part, and private numbers that were checked once.
pub(super) struct Table<K: Key + ?Sized, V: Pod + Described> {
    shared: Tailed<Head<K, V>>,
    pub(super) capacity: u32,
    /// Means nothing if all keys have one length.
    longest_key: u32,
    seed: [u64; 2],
    shape: Shape,
}

impl<K: Key + ?Sized, V: Pod + Described> Clone for Table<K, V> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone(), ..*self }
    }
}

impl<K: Key + ?Sized, V: Pod + Described> Table<K, V> {
    /// What is the same for all maps of this type if all keys have one length.
    const SHAPE: Option<Shape> = match K::LEN {
        Some(len) => match Shape::new::<K, V>(len) {
            Some(shape) => Some(shape),
            None => panic!("keys and values of a map cannot be so large"),
        },
        None => None,
    };

    pub(super) fn new(shared: Tailed<Head<K, V>>) -> Result<Self, Error> {
        let [capacity, longest_key] = [&shared.capacity, &shared.longest_key].map(|word| word.load(Relaxed));
        let seed = [0, 1].map(|i: usize| shared.seed[i].load(Relaxed));
        if K::LEN.is_some_and(|len| len as u64 != longest_key) {
            return Err(Error::Corrupted { what: "length of the keys of a map", found: longest_key });
        }
        match (Head::<K, V>::bytes(capacity, longest_key), Shape::new::<K, V>(longest_key as usize)) {
            (Some(bytes), Some(shape)) if bytes == shared.len() => {
                Ok(Self { shared, capacity: capacity as u32, longest_key: longest_key as u32, seed, shape })
            }
            _ => Err(Error::Corrupted { what: "capacity of a map", found: capacity }),
        }
    }

    /// What is shared.
    pub(super) fn shared(&self) -> &Tailed<Head<K, V>> {
        &self.shared
    }

    #[inline]
    pub(super) fn longest_key(&self) -> usize {
        K::LEN.unwrap_or(self.longest_key as usize)
    }

    #[inline]
    pub(super) fn hash(&self, key: &[u8]) -> u64 {
        hash::hash(self.seed, of_known_length::<K>(key))
    }

    #[inline]
    pub(super) fn slot(&self, index: u32) -> Slot<'_, K, V> {
        debug_assert!(index < self.capacity);
        let size = self.shape().slot;
        Slot { table: self, index, words: self.shared.words(index as usize * size, size / WORD) }
    }

    #[inline]
    fn shape(&self) -> Shape {
        Self::SHAPE.unwrap_or(self.shape)
    }

    /// How often a slot has become free, and what was in the slots before.
    pub(super) fn freed(&self) -> u64 {
        // Acquire pairs with the Release in `note_freed`: whoever sees the number sees the slot free.
        self.shared.freed.load(Acquire)
    }

    /// A slot has become free.
    pub(super) fn note_freed(&self) {
        // Release: see `freed`.
        self.shared.freed.fetch_add(1, Release);
    }

    /// The slot that a link leads to; `None` if it is the last.
    #[inline]
    pub(super) fn follow(&self, link: Link) -> Result<Option<u32>, Error> {
        match link.0.checked_sub(1) {
            None => Ok(None),
            Some(index) if index < self.capacity => Ok(Some(index)),
            Some(_) => Err(Error::Corrupted { what: "link in a map", found: link.0.into() }),
        }
    }
}

/// The bytes of a key, as many as the compiler can know of: comparing eight bytes is one instruction then, and a call of `memcpy` otherwise.
#[inline]
fn of_known_length<K: Key + ?Sized>(key: &[u8]) -> &[u8] {
    K::LEN.map_or(key, |len| &key[..len])
}

/// A number of a slot, plus 1, or 0 for none. Garbage: see [`Table::follow`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Link(u32);

impl Link {
    pub(super) const NONE: Self = Self(0);

    /// The number of a slot is below [`MOST`].
    pub(super) fn to(index: u32) -> Self {
        Self(index + 1)
    }
}

/// What a bucket knows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Links {
    pub(super) first: Link,
    pub(super) pending: Link,
}

/// What an entry says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry(u64);

impl Entry {
    #[inline]
    pub(super) fn new(next: Link, bucket: u32) -> Self {
        Self(u64::from(next.0) << 32 | u64::from(bucket + 1))
    }

    #[inline]
    pub(super) fn is_free(self) -> bool {
        self.0 == 0
    }

    #[inline]
    pub(super) fn is_of(self, bucket: u32) -> bool {
        self.0 as u32 & !(VAL as u32) == bucket + 1
    }

    #[inline]
    pub(super) fn next(self) -> Link {
        Link((self.0 >> 32) as u32)
    }

    #[inline]
    pub(super) fn with_next(self, next: Link) -> Self {
        Self(self.0 & u64::from(u32::MAX) | u64::from(next.0) << 32)
    }

    /// With the other value as the valid one.
    #[inline]
    pub(super) fn turned(self) -> Self {
        Self(self.0 ^ VAL)
    }

    /// For error messages.
    pub(super) fn word(self) -> u64 {
        self.0
    }

    #[inline]
    fn valid(self) -> usize {
        usize::from(self.0 & VAL != 0)
    }
}

/// A slot.
pub(super) struct Slot<'a, K: Key + ?Sized, V: Pod + Described> {
    table: &'a Table<K, V>,
    index: u32,
    words: &'a [AtomicU64],
}

/// The bucket.
impl<'a, K: Key + ?Sized, V: Pod + Described> Slot<'a, K, V> {
    #[inline]
    pub(super) fn lock(&self) -> &'a RawLock {
        RawLock::of(self.words[LOCK..].first_chunk().expect("a slot begins with the bucket"))
    }

    /// The version, before a look at what belongs to the bucket.
    #[inline]
    pub(super) fn begin_to_read(&self) -> u64 {
        // Acquire pairs with the Release in `disturb`: what was done before that is seen.
        self.words[VERSION].load(Acquire)
    }

    /// Whether nobody has disturbed the look since.
    #[inline]
    pub(super) fn is_undisturbed(&self, version: u64) -> bool {
        // Acquire pairs with the Release fences in `disturb` and `begin_to_fill`: if anything that was looked at has been written over, then the version
        // that came before that is seen here.
        fence(Acquire);
        self.words[VERSION].load(Relaxed) == version
    }

    /// Whoever is looking at what belongs to the bucket has to look again: something that they may have in their hands is about to be written over. The
    /// lock is held.
    #[inline]
    pub(super) fn disturb(&self) {
        let version = self.words[VERSION].load(Relaxed).wrapping_add(1);
        // Release pairs with the Acquire in `begin_to_read`; the fence with that in `is_undisturbed`.
        self.words[VERSION].store(version, Release);
        fence(Release);
    }

    #[inline]
    pub(super) fn links(&self) -> Links {
        // Acquire pairs with the Release in `set_links`: an entry that is in the chain is seen whole.
        let word = self.words[LINKS].load(Acquire);
        Links { first: Link(word as u32), pending: Link((word >> 32) as u32) }
    }

    /// The lock is held.
    #[inline]
    pub(super) fn set_links(&self, first: Link, pending: Link) {
        // Release: see `links`.
        self.words[LINKS].store(u64::from(pending.0) << 32 | u64::from(first.0), Release);
    }
}

/// The entry.
impl<K: Key + ?Sized, V: Pod + Described> Slot<'_, K, V> {
    #[inline]
    pub(super) fn entry(&self) -> Entry {
        // Acquire pairs with the Release in `set_entry` and in `take`: what it says of key, value and chain is seen.
        Entry(self.words[ENTRY].load(Acquire))
    }

    /// The lock of its bucket is held.
    #[inline]
    pub(super) fn set_entry(&self, entry: Entry) {
        // Release: see `entry`.
        self.words[ENTRY].store(entry.0, Release);
    }

    /// Gives the slot free. The lock of its bucket is held, which has been disturbed since it was in the chain.
    pub(super) fn set_free(&self) {
        // Release pairs with the Acquire in `take`: the next owner writes after all that.
        self.words[ENTRY].store(0, Release);
        self.table.note_freed();
    }

    /// Takes a free slot for a bucket, whose lock is held; says whether it was free.
    pub(super) fn take(&self, bucket: u32) -> bool {
        let mine = Entry::new(Link::NONE, bucket).0;
        self.words[ENTRY].compare_exchange(0, mine, AcqRel, Relaxed).is_ok()
    }

    /// Fills a slot that has been taken and is not in the chain.
    pub(super) fn fill(&self, key: &[u8], value: &V) {
        // Pairs with the Acquire fence in `is_undisturbed`: whoever still reads what was here before sees the version that came before it was given
        // free, which was seen when it was taken.
        fence(Release);
        let mut at = KEY;
        if K::LEN.is_none() {
            self.words[KEY].store(key.len() as u64, Relaxed);
            at += 1;
        }
        for (word, part) in self.words[at..].iter().zip(key.chunks(WORD)) {
            word.store(word_of(part), Relaxed);
        }
        self.store(0, value);
    }

    /// Whether this is the key, which is no longer than the longest.
    #[inline]
    pub(super) fn has_key(&self, key: &[u8]) -> bool {
        let mut at = KEY;
        if K::LEN.is_none() {
            if self.words[KEY].load(Relaxed) != key.len() as u64 {
                return false;
            }
            at += 1;
        }
        let words = &self.words[at..];
        words.iter().zip(of_known_length::<K>(key).chunks(WORD)).all(|(word, part)| word.load(Relaxed) == word_of(part))
    }

    /// The key.
    pub(super) fn key(&self) -> Result<K::Owned, Error> {
        let (at, len) = match K::LEN {
            Some(len) => (KEY, len),
            None => {
                let found = self.words[KEY].load(Relaxed);
                if found > u64::from(self.table.longest_key) {
                    return Err(Error::Corrupted { what: "length of a key in a map", found });
                }
                (KEY + 1, found as usize)
            }
        };
        let words = &self.words[at..at + words_of(len)];
        let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.load(Relaxed).to_ne_bytes()).collect();
        bytes.truncate(len);
        let first = || bytes.first_chunk().map_or(0, |word| u64::from_le_bytes(*word));
        K::owned(&bytes).ok_or_else(|| Error::Corrupted { what: "key in a map", found: first() })
    }

    /// The value that is valid by `entry`, which was read from here.
    #[inline]
    pub(super) fn value(&self, entry: Entry) -> V {
        let (at, words) = self.place_of(entry.valid());
        let mut value = V::zeroed();
        words::load(&self.table.shared, at, words, bytemuck::bytes_of_mut(&mut value));
        value
    }

    /// Writes the value that is not valid by `entry`. The lock of its bucket is held, which has been disturbed since it was valid.
    #[inline]
    pub(super) fn set_other_value(&self, entry: Entry, value: &V) {
        self.store(entry.turned().valid(), value);
    }

    #[inline]
    fn store(&self, which: usize, value: &V) {
        let (at, words) = self.place_of(which);
        words::store(&self.table.shared, at, words, bytemuck::bytes_of(value));
    }

    /// Where a value begins: which byte behind the head it is, and the words from there on.
    #[inline]
    fn place_of(&self, which: usize) -> (usize, &[AtomicU64]) {
        let shape = self.table.shape();
        let at = shape.values[which];
        (self.index as usize * shape.slot + at * WORD, &self.words[at..])
    }
}
