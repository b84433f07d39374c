//! Which bucket a key belongs to.
//!
//! All processes that share a map must agree on that for ever, so the hash is part of the layout of a map, and is written down here instead of being taken
//! from a crate that may improve its own. It is a folded multiplication per word of 8 bytes, as in wyhash (Wang Yi, 2019) and what came of
//! it: the high half of a product is a good mixture of all bits of both factors, and the low half repairs what it loses.
//!
//! ```text
//! fold(a, b) = low half ^ high half of a * b, 128 bits
//! h = seed 0
//! for each word w of the key, the last one filled up with zeroes:  h = fold(h ^ w, FIRST ^ seed 1)
//! hash = fold(h ^ length in bytes, SECOND)
//! bucket = high half of hash * number of buckets
//! ```
//!
//! The two seeds are drawn for each map, so nobody who sends keys from outside can know which of them collide. Whoever can read the region can;
//! those are trusted.

use crate::words::{WORD, word_of};

/// Two odd numbers with nothing up their sleeves: digits of pi, and of e.
const FIRST: u64 = 0x243f_6a88_85a3_08d3;
const SECOND: u64 = 0xb7e1_5162_8aed_2a6b;

#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

/// The hash of the bytes of a key.
#[inline]
pub(super) fn hash(seed: [u64; 2], bytes: &[u8]) -> u64 {
    let second = FIRST ^ seed[1];
    let mut hash = seed[0];
    for part in bytes.chunks(WORD) {
        hash = fold(hash ^ word_of(part), second);
    }
    fold(hash ^ bytes.len() as u64, SECOND)
}

/// Another number that looks as random: where to look next.
#[inline]
pub(super) fn again(hash: u64) -> u64 {
    fold(hash ^ FIRST, SECOND)
}

/// A number below `count`, by the high bits of `hash`.
#[inline]
pub(super) fn reduce(hash: u64, count: u32) -> u32 {
    ((u128::from(hash) * u128::from(count)) >> 64) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: [u64; 2] = [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210];

    /// Maps outlive programs: these numbers never change.
    #[test]
    fn the_hash_is_the_same_in_every_release() {
        let hashes = [&b""[..], b"a", b"abcdefgh", b"abcdefghi", &[0; 8], &[0; 16]].map(|bytes| hash(SEED, bytes));

        assert_eq!(
            hashes,
            [
                0x3cff_b292_aaa5_7d4c,
                0x7068_c95a_5a5b_64b0,
                0xf483_af80_96f9_60b9,
                0x8781_c198_d230_44de,
                0xeecd_4dd3_d2c0_1d79,
                0x2516_a1cd_0161_7bc6,
            ]
        );
    }

    #[test]
    fn keys_of_zeroes_differ_by_their_length() {
        let hashes: std::collections::HashSet<_> = (0..100).map(|len| hash(SEED, &vec![0; len])).collect();

        assert_eq!(hashes.len(), 100);
    }

    /// The fullest of as many buckets as there are keys, which would hold 9 or 10 if they were thrown at random.
    fn fullest(keys: impl Iterator<Item = Vec<u8>>) -> usize {
        let hashes: Vec<u64> = keys.map(|key| hash(SEED, &key)).collect();
        let mut buckets = vec![0; hashes.len()];
        hashes.iter().for_each(|hash| buckets[reduce(*hash, hashes.len() as u32) as usize] += 1);
        buckets.into_iter().max().expect("some")
    }

    #[test]
    fn keys_that_are_alike_spread_as_if_thrown_at_random() {
        let count = 100_000_u64;

        assert!(fullest((0..count).map(|i| i.to_ne_bytes().to_vec())) <= 12);
        assert!(fullest((0..count).map(|i| (i << 32).to_ne_bytes().to_vec())) <= 12);
        assert!(fullest((0..count).map(|i| (i << 44).wrapping_mul(3).to_ne_bytes().to_vec())) <= 12);
        assert!(fullest((0..count).map(|i| (i as f64).to_ne_bytes().to_vec())) <= 12);
        assert!(fullest((0..count).map(|i| [i % 300, i / 300].map(u64::to_ne_bytes).concat())) <= 12);
        assert!(fullest((0..count).map(|i| format!("user/{i}/name").into_bytes())) <= 12);
    }
}
