//! Values in words of 8 bytes that others read and write at the same time.
//!
//! What is short goes word by word, what is long by the copy routine of the regions; which of the two is decided by the length alone, so each
//! place is always reached in one way. Nothing here orders anything: that is done by the words around it.

use core::sync::atomic::Ordering::Relaxed;

use shmkit_core::shim::AtomicU64;
use shmkit_core::{ShmSafe, Tailed};

/// The size of a word, in bytes.
pub(crate) const WORD: usize = 8;

/// From this length on, the copy routine is faster than single words.
const LONG: usize = 128;

/// How many words so many bytes take.
pub(crate) const fn words_of(bytes: usize) -> usize {
    bytes.div_ceil(WORD)
}

/// Copies out what lies at byte `at`, which begins a word. `words` are the same place.
#[inline]
pub(crate) fn load<H: ShmSafe>(tail: &Tailed<H>, at: usize, words: &[AtomicU64], bytes: &mut [u8]) {
    if bytes.len() >= LONG {
        return tail.load(at, bytes);
    }
    for (word, part) in words.iter().zip(bytes.chunks_mut(WORD)) {
        part.copy_from_slice(&word.load(Relaxed).to_ne_bytes()[..part.len()]);
    }
}

/// Copies in. The rest of the last word of what is short becomes zeroes.
#[inline]
pub(crate) fn store<H: ShmSafe>(tail: &Tailed<H>, at: usize, words: &[AtomicU64], bytes: &[u8]) {
    if bytes.len() >= LONG {
        return tail.store(at, bytes);
    }
    for (word, part) in words.iter().zip(bytes.chunks(WORD)) {
        word.store(word_of(part), Relaxed);
    }
}

/// At most 8 bytes as a word, the rest of which is zero.
#[inline]
pub(crate) fn word_of(part: &[u8]) -> u64 {
    let mut word = [0; WORD];
    word[..part.len()].copy_from_slice(part);
    u64::from_ne_bytes(word)
}
