//! An object of a type, and as many bytes behind it as its maker asked for: what rings and tables are made of.
//!
//! The bytes are reached in two ways, each through `&`, by any number of threads and processes at once: words of 8 bytes, as atomics; and
//! ranges, by copies in and out. No reference to the bytes exists, so whoever writes there does nobody any harm but to get its bytes
//! read. What is copied is ordered by the words around it, as with [`Cells`](crate::Cells).

#[cfg(not(ipc_loom))]
pub use shared::Tailed;

#[cfg(ipc_loom)]
pub use model::Tailed;

/// The size of a word, in bytes.
const WORD: usize = 8;

#[cfg(not(ipc_loom))]
mod shared {
    use core::fmt;
    use core::ops::Deref;
    use core::ptr::NonNull;

    use super::WORD;
    use crate::copy;
    use crate::described::{Described, Fingerprint, ShmSafe, TypeName};
    use crate::directory::{self, Object, Plan};
    use crate::error::{Error, Result};
    use crate::region::{MAX_ALIGN, Region};
    use crate::shim::AtomicU64;
    use crate::shm::Shm;

    /// A handle to a `H` in a shared region, and to the bytes behind it. Keeps the mapping alive.
    ///
    /// It dereferences to the `H`. Clones are cheap and denote the same object. It is made by [`Region::insert_tailed`] and found by
    /// [`Region::get_tailed`].
    ///
    /// # Examples
    ///
    /// ```
    /// use core::sync::atomic::{AtomicU64, Ordering::{Acquire, Release}};
    /// use shmkit_core::Region;
    ///
    /// let region = Region::anonymous(4096)?;
    /// let notes = region.insert_tailed("notes", AtomicU64::new(0), 100)?;
    /// notes.store(8, b"hello");
    /// notes.word(0).store(5, Release);
    ///
    /// // In any other process that has it open:
    /// let notes = region.get_tailed::<AtomicU64>("notes")?;
    /// let len = notes.word(0).load(Acquire).min(92) as usize;
    /// let mut text = vec![0; len];
    /// notes.load(8, &mut text);
    /// assert_eq!(text, b"hello");
    /// # Ok::<(), shmkit_core::Error>(())
    /// ```
    pub struct Tailed<H: ShmSafe> {
        head: Shm<H>,
        tail: NonNull<u8>,
        len: usize,
    }

    // SAFETY: gives out `&H`, atomics and copies only, all of which are good in any thread.
    unsafe impl<H: ShmSafe> Send for Tailed<H> {}
    // SAFETY: as above.
    unsafe impl<H: ShmSafe> Sync for Tailed<H> {}

    impl<H: ShmSafe> Tailed<H> {
        /// A handle to a part of the `H`, such as a field, and to `len` of the bytes, from `at` on.
        ///
        /// # Panics
        ///
        /// If `at` is no multiple of 8, or they do not end within the bytes.
        pub fn part<G: ShmSafe>(&self, head: impl FnOnce(&H) -> &G, at: usize, len: usize) -> Tailed<G> {
            if at % WORD != 0 || !self.has(at, len) {
                out_of_range(at, len, self.len);
            }
            // SAFETY: still within the object, or at its end, by the check.
            let tail = unsafe { self.tail.add(at) };
            Tailed { head: self.head.map(head), tail, len }
        }

        /// A handle to the `H` alone.
        pub fn head(&self) -> &Shm<H> {
            &self.head
        }

        /// How many bytes there are behind the `H`.
        #[inline]
        pub fn len(&self) -> usize {
            self.len
        }

        /// Whether there are none.
        #[inline]
        pub fn is_empty(&self) -> bool {
            self.len == 0
        }

        /// The word at byte `at`.
        ///
        /// # Panics
        ///
        /// If `at` is no multiple of 8, or the word does not end within the bytes. So `at` must not come from shared memory unchecked.
        #[inline]
        pub fn word(&self, at: usize) -> &AtomicU64 {
            // Bits of `at` that make it no multiple come to the top, and so beyond every length.
            if at.rotate_right(WORD.trailing_zeros()) >= self.len / WORD {
                out_of_range(at, WORD, self.len);
            }
            // SAFETY: within the object, by the check; aligned, as the bytes begin at a multiple of 8; mapped as long as `head` lives.
            // An atomic may be changed by anybody at any time.
            unsafe { &*self.tail.as_ptr().add(at).cast::<AtomicU64>() }
        }

        /// `count` words, the first of them at byte `at`.
        ///
        /// # Panics
        ///
        /// As for [`word`](Self::word).
        #[inline]
        pub fn words(&self, at: usize, count: usize) -> &[AtomicU64] {
            // As in `word`. One condition, of which one comparison remains for one word.
            let (first, len) = (at.rotate_right(WORD.trailing_zeros()), self.len / WORD);
            if (first > len) | (count > len.wrapping_sub(first)) {
                out_of_range(at, count.saturating_mul(WORD), self.len);
            }
            // SAFETY: as in `word`.
            unsafe { core::slice::from_raw_parts(self.tail.as_ptr().add(at).cast::<AtomicU64>(), count) }
        }

        /// Copies bytes in, from `at` on.
        ///
        /// # Panics
        ///
        /// If they do not end within the bytes.
        #[inline]
        pub fn store(&self, at: usize, bytes: &[u8]) {
            if !self.has(at, bytes.len()) {
                out_of_range(at, bytes.len(), self.len);
            }
            // SAFETY: within the object, by the check, and mapped as long as `head` lives; reached by atomics and by `copy` only; a
            // private slice does not overlap it.
            unsafe { copy::store(bytes.as_ptr(), self.tail.as_ptr().add(at), bytes.len(), 1) }
        }

        /// Copies bytes out, from `at` on.
        ///
        /// # Panics
        ///
        /// If they do not end within the bytes.
        #[inline]
        pub fn load(&self, at: usize, bytes: &mut [u8]) {
            if !self.has(at, bytes.len()) {
                out_of_range(at, bytes.len(), self.len);
            }
            // SAFETY: as in `store`; the slice is borrowed exclusively.
            unsafe { copy::load(self.tail.as_ptr().add(at), bytes.as_mut_ptr(), bytes.len(), 1) }
        }

        /// Begins to bring the cache line of byte `at` here, to be read soon. Does nothing if there is no such byte.
        #[inline]
        pub fn prefetch(&self, at: usize) {
            if at < self.len {
                copy::prefetch(self.tail.as_ptr().wrapping_add(at));
            }
        }

        /// Begins to bring the cache line of byte `at` here, to be written soon: the line is taken away from the other CPUs.
        #[inline]
        pub fn prefetch_to_write(&self, at: usize) {
            if at < self.len {
                copy::prefetch_to_write(self.tail.as_ptr().wrapping_add(at));
            }
        }

        /// Where the bytes begin, which is at a multiple of 8, and of 64 if the size of `H` is one. Whoever reads or writes there is on
        /// their own: other processes may do so at the same time.
        #[inline]
        pub fn as_ptr(&self) -> *mut u8 {
            self.tail.as_ptr()
        }

        #[inline]
        fn has(&self, at: usize, len: usize) -> bool {
            at <= self.len && len <= self.len - at
        }
    }

    impl<H: ShmSafe> Deref for Tailed<H> {
        type Target = H;

        #[inline]
        fn deref(&self) -> &H {
            &self.head
        }
    }

    impl<H: ShmSafe> Clone for Tailed<H> {
        fn clone(&self) -> Self {
            Self { head: self.head.clone(), tail: self.tail, len: self.len }
        }
    }

    impl<H: ShmSafe + fmt::Debug> fmt::Debug for Tailed<H> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.debug_struct("Tailed").field("head", &**self).field("len", &self.len).finish()
        }
    }

    /// Objects with bytes behind them.
    impl Region {
        /// Puts `head` into the region under `name`, and `len` bytes behind it, which are zero.
        ///
        /// # Blocking
        ///
        /// While another process is inserting something.
        ///
        /// # Crash safety
        ///
        /// The object is there as a whole or not at all.
        ///
        /// # Errors
        ///
        /// [`Error::InvalidName`]; [`Error::ObjectExists`]; [`Error::NoSpace`] if the region is too full; [`Error::Corrupted`].
        pub fn insert_tailed<H: ShmSafe>(&self, name: &str, head: H, len: usize) -> Result<Tailed<H>> {
            const { assert_head::<H>() }
            directory::check_name(name)?;
            let no_space = Error::NoSpace { bytes: len as u64 };
            let plan = Plan {
                name,
                type_name: type_name::<H>(len),
                fingerprint: fingerprint::<H>(),
                count: len as u64,
                size: len.checked_add(size_of::<H>()).ok_or(no_space)?,
                align: align_of::<H>().max(WORD),
            };
            let object = directory::insert(self.mapped(), &plan, |place| {
                // SAFETY: the directory gives out `size` bytes of the region, aligned to `align`, that nobody else uses before the object
                // is published. Not all of a region is zero: one who was killed while inserting may have written here.
                unsafe {
                    place.cast::<H>().write(head);
                    place.add(size_of::<H>()).write_bytes(0, len);
                }
            })?;
            Ok(self.tailed(&object, len))
        }

        /// The object called `name` that was inserted by [`insert_tailed`](Self::insert_tailed), with as many bytes as it has.
        ///
        /// # Errors
        ///
        /// [`Error::NoSuchObject`]; [`Error::WrongType`], which names both types; [`Error::Corrupted`].
        pub fn get_tailed<H: ShmSafe>(&self, name: &str) -> Result<Tailed<H>> {
            const { assert_head::<H>() }
            let object =
                directory::find(self.mapped(), name)?.ok_or_else(|| Error::NoSuchObject { name: name.to_owned() })?;
            if object.fingerprint != fingerprint::<H>() {
                let asked = format!("{} and bytes", TypeName::<H>::new());
                return Err(Error::WrongType { name: object.name, found: object.type_name, asked });
            }
            let Some(len) = object.size.checked_sub(size_of::<H>()).filter(|len| *len as u64 == object.count) else {
                return Err(Error::Corrupted { what: "size of an object", found: object.size as u64 });
            };
            if object.offset % align_of::<H>().max(WORD) != 0 {
                return Err(Error::Corrupted { what: "offset of an object", found: object.offset as u64 });
            }
            Ok(self.tailed(&object, len))
        }

        /// A handle to `object`, whose type, size and alignment are those of a `H` with `len` bytes behind it.
        fn tailed<H: ShmSafe>(&self, object: &Object, len: usize) -> Tailed<H> {
            let head = self.shm(object);
            let base = self.mapped().at(object.offset);
            // SAFETY: still within the object, or at its end.
            let tail = unsafe { base.add(size_of::<H>()) };
            Tailed { head, tail, len }
        }
    }

    /// Apart, by value, and never inlined: what leads here costs the others nothing but a branch.
    #[cold]
    #[inline(never)]
    fn out_of_range(at: usize, len: usize, of: usize) -> ! {
        panic!("no {len} aligned bytes at {at} of {of}")
    }

    const fn assert_head<H>() {
        assert!(align_of::<H>() <= MAX_ALIGN, "objects in a region are aligned to at most 4096 bytes");
        assert!(size_of::<H>() % WORD == 0, "the bytes behind an object begin at a multiple of 8");
    }

    /// Tells these objects from others. The length is apart from it.
    fn fingerprint<H: Described>() -> u64 {
        const { Fingerprint::new("Tailed", 1, size_of::<H>(), align_of::<H>()).parameter(H::FINGERPRINT) }.value()
    }

    fn type_name<H: Described>(len: usize) -> String {
        format!("{} and {len} bytes", TypeName::<H>::new())
    }
}

#[cfg(ipc_loom)]
mod model {
    use core::ops::Deref;
    use core::sync::atomic::Ordering::Relaxed;
    use std::sync::Arc;

    use loom::cell::UnsafeCell;

    use super::WORD;
    use crate::shim::AtomicU64;

    /// What a model has in the place of an object in a region: copies move whole words, as relaxed as those of the real one.
    ///
    /// Of each word it is also watched who copies: a copy in, and any other copy of the same word that is not ordered before or after it, fail the
    /// model. The words alone would not show that, since no load of a model sees a store that comes later.
    #[derive(Debug)]
    pub struct Tailed<H> {
        shared: Arc<Shared<H>>,
    }

    #[derive(Debug)]
    struct Shared<H> {
        head: H,
        words: Vec<AtomicU64>,
        watches: Vec<UnsafeCell<()>>,
    }

    // SAFETY: the cells hold nothing; they are there for loom to see who reaches them.
    unsafe impl<H: Sync> Sync for Shared<H> {}
    // SAFETY: as above.
    unsafe impl<H: Send> Send for Shared<H> {}

    impl<H> Clone for Tailed<H> {
        fn clone(&self) -> Self {
            Self { shared: Arc::clone(&self.shared) }
        }
    }

    impl<H> Tailed<H> {
        /// A `head` with `len` bytes behind it.
        pub fn new(head: H, len: usize) -> Self {
            let count = len.div_ceil(WORD);
            let words = (0..count).map(|_| AtomicU64::new(0)).collect();
            let watches = (0..count).map(|_| UnsafeCell::new(())).collect();
            Self { shared: Arc::new(Shared { head, words, watches }) }
        }

        /// How many bytes there are behind the head.
        #[allow(clippy::len_without_is_empty, reason = "models ask for the length only")]
        pub fn len(&self) -> usize {
            self.shared.words.len() * WORD
        }

        /// The word at byte `at`.
        pub fn word(&self, at: usize) -> &AtomicU64 {
            assert_eq!(at % WORD, 0);
            &self.shared.words[at / WORD]
        }

        /// `count` words, the first of them at byte `at`.
        pub fn words(&self, at: usize, count: usize) -> &[AtomicU64] {
            assert_eq!(at % WORD, 0);
            &self.shared.words[at / WORD..at / WORD + count]
        }

        /// Does nothing.
        pub fn prefetch(&self, _at: usize) {}

        /// Does nothing.
        pub fn prefetch_to_write(&self, _at: usize) {}

        /// The bytes from `at` on are being written, and nobody else copies them in or out meanwhile.
        pub fn watch_store(&self, at: usize, len: usize) {
            self.watches(at, len).iter().for_each(|watch| watch.with_mut(|_| ()));
        }

        /// The bytes from `at` on are being read, and nobody writes them meanwhile.
        pub fn watch_load(&self, at: usize, len: usize) {
            self.watches(at, len).iter().for_each(|watch| watch.with(|_| ()));
        }

        fn watches(&self, at: usize, len: usize) -> &[UnsafeCell<()>] {
            &self.shared.watches[at / WORD..(at + len).div_ceil(WORD)]
        }

        /// Copies bytes in: whole words, the last one filled up with zeroes.
        pub fn store(&self, at: usize, bytes: &[u8]) {
            self.watch_store(at, bytes.len());
            for (i, part) in bytes.chunks(WORD).enumerate() {
                let mut word = [0; WORD];
                word[..part.len()].copy_from_slice(part);
                self.word(at + i * WORD).store(u64::from_le_bytes(word), Relaxed);
            }
        }

        /// Copies bytes out.
        pub fn load(&self, at: usize, bytes: &mut [u8]) {
            self.watch_load(at, bytes.len());
            for (i, part) in bytes.chunks_mut(WORD).enumerate() {
                let word = self.word(at + i * WORD).load(Relaxed).to_le_bytes();
                part.copy_from_slice(&word[..part.len()]);
            }
        }
    }

    impl<H> Deref for Tailed<H> {
        type Target = H;

        fn deref(&self) -> &H {
            &self.shared.head
        }
    }
}
