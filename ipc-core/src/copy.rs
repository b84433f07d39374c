//! Copies between private memory and memory that other processes may change meanwhile.
//!
//! A plain `memcpy` of such memory is a data race, which Rust does not define, whoever checks the result afterwards. Here the bytes
//! are moved by short pieces of assembly: to the compiler opaque operations on the addresses that they are given, to the hardware
//! ordinary loads and stores. What arrives may be a mixture of old and new, but of whole units: the shared side is moved in
//! aligned words, and in aligned parts of a word where the range begins or ends within one. `docs/MEMORY_MODEL.md` has the argument.
//!
//! There are two ways to move words on x86_64. A loop starts at once; it moves pairs of words, aligned in shared memory, each of
//! which is one access on processors with AVX, and two of a word on older ones. The string instruction takes some time to start,
//! then moves whole cache lines, as fast as `memcpy`. How it cuts the range into accesses is not told, but it is by powers of two,
//! counted from the beginning or from an aligned address of either side: a unit that is aligned on both sides stays whole. Where
//! the private side is not aligned to the unit, the loop does all.
//!
//! Nanoseconds per copy in the cache, by which the ways were chosen (EPYC, Zen 3, not quite alone; least of two runs of 7 rounds):
//!
//! | bytes | `memcpy` | `rep movsq` | `rep movsb` | general registers | pairs of words |
//! |---|---|---|---|---|---|
//! | 64 | 2.7 | 11 | 8.7 | 3.7 | 2.5 |
//! | 256 | 5.0 | 22 | 19 | 8.6 | 6.8 |
//! | 1024 | 12 | 28 | 28 | 37 | 22 |
//! | 2048 | 24 | 39 | 52 | 61 | 41 |
//! | 4096 | 73 | 72 | 71 | 121 | 93 |
//! | 16384 | 251 | 252 | 259 | 516 | 476 |
//! | 1048576 | 28100 | 29200 | 28900 | 34700 | 28100 |

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!("shmkit knows how to copy on x86_64 and aarch64 only");

/// The size of a word, in bytes.
const WORD: usize = 8;

/// From this length on, in words, the string instruction is faster than the loop.
#[cfg(target_arch = "x86_64")]
const LONG: usize = 2048 / WORD;

/// Copies `len` bytes out of shared memory, no unit of 1 to 8 bytes torn that is aligned in shared memory.
///
/// # Safety
///
/// Both ranges are mapped over the call; nobody else uses `private`, and it does not overlap `shared`; the threads of this process
/// access `shared` only atomically, or through this module. `unit` is 1, 2, 4 or 8.
// `unit` is a constant of the caller, and mostly `len`, too: then hardly more is left than the moves.
#[inline(always)]
pub(crate) unsafe fn load(shared: *const u8, private: *mut u8, len: usize, unit: usize) {
    let (head, words) = parts(shared.addr(), len);
    let tail = head + words * WORD;
    // SAFETY: the three parts make up the two ranges, which the caller vouches for; the middle one begins aligned in shared memory.
    unsafe {
        move_units(shared, private, head, shared.addr());
        load_words(shared.add(head), private.add(head), words, unit);
        move_units(shared.add(tail), private.add(tail), len - tail, shared.addr() + tail);
    }
}

/// Copies `len` bytes into shared memory, no unit of 1 to 8 bytes torn that is aligned in shared memory.
///
/// # Safety
///
/// As for [`load`], but others may read `private`.
#[inline(always)]
pub(crate) unsafe fn store(private: *const u8, shared: *mut u8, len: usize, unit: usize) {
    let (head, words) = parts(shared.addr(), len);
    let tail = head + words * WORD;
    // SAFETY: as in `load`.
    unsafe {
        move_units(private, shared, head, shared.addr());
        store_words(private.add(head), shared.add(head), words, unit);
        move_units(private.add(tail), shared.add(tail), len - tail, shared.addr() + tail);
    }
}

/// How many bytes lie before the first aligned word of the shared range, and how many words follow.
#[inline]
fn parts(shared: usize, len: usize) -> (usize, usize) {
    let head = (shared.wrapping_neg() % WORD).min(len);
    (head, (len - head) / WORD)
}

/// Defines the moves of words that load from shared memory, or store into it: `$shared` is which of the two operands that is, `$load` and
/// `$store` move pairs of words. Aligned moves are one access with AVX; of unaligned ones the manuals do not say so, also where they
/// are aligned.
#[cfg(target_arch = "x86_64")]
macro_rules! words {
    ($name:ident($from:ident, $to:ident), $shared:ident, $load:literal, $store:literal) => {
        /// Moves `words` words.
        ///
        /// # Safety
        ///
        /// As for [`load`]; the shared side is aligned to a word.
        #[inline]
        unsafe fn $name($from: *const u8, $to: *mut u8, words: usize, unit: usize) {
            let whole = ($from.addr() ^ $to.addr()) & (unit - 1) == 0;
            if words >= LONG && whole {
                // SAFETY: reads and writes exactly the two ranges; the direction flag is clear at all times by the calling convention.
                unsafe {
                    core::arch::asm!(
                        "rep movsq",
                        inout("rsi") $from => _, inout("rdi") $to => _, inout("rcx") words => _,
                        options(nostack, preserves_flags)
                    );
                }
                return;
            }
            // One word so that pairs of words are aligned in shared memory.
            let lead = ($shared.addr() / WORD % 2).min(words);
            let (blocks, rest) = ((words - lead) / 8, (words - lead) % 8);
            // SAFETY: reads and writes exactly the two ranges; behind the first word the shared side is aligned to 16 bytes.
            unsafe {
                core::arch::asm!(
                    "test {lead}, {lead}",
                    "jz 2f",
                    "mov {word}, [{from}]",
                    "mov [{to}], {word}",
                    "add {from}, 8",
                    "add {to}, 8",
                    "2:",
                    "test {blocks}, {blocks}",
                    "jz 4f",
                    "3:",
                    concat!($load, " {a}, [{from}]"),
                    concat!($load, " {b}, [{from} + 16]"),
                    concat!($load, " {c}, [{from} + 32]"),
                    concat!($load, " {d}, [{from} + 48]"),
                    concat!($store, " [{to}], {a}"),
                    concat!($store, " [{to} + 16], {b}"),
                    concat!($store, " [{to} + 32], {c}"),
                    concat!($store, " [{to} + 48], {d}"),
                    "add {from}, 64",
                    "add {to}, 64",
                    "dec {blocks}",
                    "jnz 3b",
                    "4:",
                    "test {rest}, {rest}",
                    "jz 6f",
                    "5:",
                    "mov {word}, [{from}]",
                    "mov [{to}], {word}",
                    "add {from}, 8",
                    "add {to}, 8",
                    "dec {rest}",
                    "jnz 5b",
                    "6:",
                    from = inout(reg) $from => _, to = inout(reg) $to => _, lead = in(reg) lead,
                    blocks = inout(reg) blocks => _, rest = inout(reg) rest => _, word = out(reg) _,
                    a = out(xmm_reg) _, b = out(xmm_reg) _, c = out(xmm_reg) _, d = out(xmm_reg) _,
                    options(nostack)
                );
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
words!(load_words(from, to), from, "movaps", "movups");
#[cfg(target_arch = "x86_64")]
words!(store_words(from, to), to, "movups", "movaps");

#[cfg(target_arch = "aarch64")]
use move_words as load_words;
#[cfg(target_arch = "aarch64")]
use move_words as store_words;

/// Moves `words` words. A pair is two accesses of a word each.
///
/// # Safety
///
/// As for [`load`]; the shared side is aligned to a word.
#[cfg(target_arch = "aarch64")]
#[inline]
unsafe fn move_words(from: *const u8, to: *mut u8, words: usize, _unit: usize) {
    // SAFETY: reads and writes exactly the two ranges.
    unsafe {
        core::arch::asm!(
            "cbz {blocks}, 3f",
            "2:",
            "ldp {a}, {b}, [{from}], #16",
            "ldp {c}, {d}, [{from}], #16",
            "stp {a}, {b}, [{to}], #16",
            "stp {c}, {d}, [{to}], #16",
            "subs {blocks}, {blocks}, #1",
            "b.ne 2b",
            "3:",
            "cbz {rest}, 5f",
            "4:",
            "ldr {a}, [{from}], #8",
            "str {a}, [{to}], #8",
            "subs {rest}, {rest}, #1",
            "b.ne 4b",
            "5:",
            from = inout(reg) from => _, to = inout(reg) to => _,
            blocks = inout(reg) words / 4 => _, rest = inout(reg) words % 4 => _,
            a = out(reg) _, b = out(reg) _, c = out(reg) _, d = out(reg) _,
            options(nostack)
        );
    }
}

/// Moves less than a word, in the largest units that are aligned in shared memory, where the range begins at `place`.
///
/// # Safety
///
/// As for [`load`].
#[inline]
unsafe fn move_units(from: *const u8, to: *mut u8, len: usize, place: usize) {
    let mut done = 0;
    while done < len {
        let (place, left) = (place + done, len - done);
        // SAFETY: each unit lies within the two ranges. Unaligned accesses, which only the private side has, are allowed.
        unsafe {
            let (from, to) = (from.add(done), to.add(done));
            if left >= 4 && place % 4 == 0 {
                move_4(from, to);
                done += 4;
            } else if left >= 2 && place % 2 == 0 {
                move_2(from, to);
                done += 2;
            } else {
                move_1(from, to);
                done += 1;
            }
        }
    }
}

macro_rules! hint {
    ($name:ident, $what:literal, $x86:literal, $arm:literal) => {
        #[doc = concat!("Begins to bring the cache line of `place` here, to be ", $what, " soon.")]
        /// An address that leads nowhere is ignored.
        #[inline]
        pub(crate) fn $name(place: *const u8) {
            // SAFETY: a hint, which changes nothing that can be seen, at any address.
            unsafe {
                #[cfg(target_arch = "x86_64")]
                core::arch::asm!($x86, in(reg) place, options(nostack, preserves_flags, readonly));
                #[cfg(target_arch = "aarch64")]
                core::arch::asm!($arm, in(reg) place, options(nostack, preserves_flags, readonly));
            }
        }
    };
}

hint!(prefetch, "read", "prefetcht0 [{}]", "prfm pldl1keep, [{}]");
hint!(prefetch_to_write, "written", "prefetchw [{}]", "prfm pstl1keep, [{}]");

macro_rules! unit {
    ($name:ident, $bytes:literal, $class:ident, $load:literal, $store:literal) => {
        #[doc = concat!("Moves ", $bytes, " byte(s) by one access on each side.")]
        ///
        /// # Safety
        ///
        /// As for [`load`].
        #[inline]
        unsafe fn $name(from: *const u8, to: *mut u8) {
            // SAFETY: reads and writes exactly these bytes.
            unsafe {
                core::arch::asm!(
                    $load,
                    $store,
                    from = in(reg) from, to = in(reg) to, unit = out($class) _,
                    options(nostack, preserves_flags)
                );
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
unit!(move_1, 1, reg_byte, "mov {unit}, [{from}]", "mov [{to}], {unit}");
#[cfg(target_arch = "x86_64")]
unit!(move_2, 2, reg, "movzx {unit:e}, word ptr [{from}]", "mov [{to}], {unit:x}");
#[cfg(target_arch = "x86_64")]
unit!(move_4, 4, reg, "mov {unit:e}, [{from}]", "mov [{to}], {unit:e}");

#[cfg(target_arch = "aarch64")]
unit!(move_1, 1, reg, "ldrb {unit:w}, [{from}]", "strb {unit:w}, [{to}]");
#[cfg(target_arch = "aarch64")]
unit!(move_2, 2, reg, "ldrh {unit:w}, [{from}]", "strh {unit:w}, [{to}]");
#[cfg(target_arch = "aarch64")]
unit!(move_4, 4, reg, "ldr {unit:w}, [{from}]", "str {unit:w}, [{to}]");

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: u8 = 0xa5;

    /// Copies `len` bytes between two places with `copy`, and checks that they have arrived and all others stayed.
    #[track_caller]
    fn check(len: usize, from: usize, to: usize, copy: impl Fn(*const u8, *mut u8)) {
        // No two neighbours, and no two that are a word apart, are the same. The vectors are aligned to words.
        let source: Vec<u8> = (0..len + 16).map(|i| (i * 7 % 251) as u8).collect();
        let mut target = vec![BEFORE; len + 32];

        copy(source[from..].as_ptr(), target[to..].as_mut_ptr());

        assert!(target[to..to + len] == source[from..from + len], "{len} bytes from {from} to {to}");
        assert!(target[..to] == vec![BEFORE; to], "{len} bytes from {from} to {to}");
        assert!(target[to + len..] == vec![BEFORE; 32 - to], "{len} bytes from {from} to {to}");
    }

    fn check_both_ways(len: usize, from: usize, to: usize) {
        for unit in [1, 8] {
            // SAFETY: vectors of this thread, which have `len` bytes from there.
            check(len, from, to, |from, to| unsafe { load(from, to, len, unit) });
            // SAFETY: as above.
            check(len, from, to, |from, to| unsafe { store(from, to, len, unit) });
        }
    }

    #[test]
    fn every_length_at_every_offset_arrives_whole_and_touches_nothing_else() {
        for len in 0..=300 {
            for offset in 0..16 {
                check_both_ways(len, offset, 0);
                check_both_ways(len, 0, offset);
                check_both_ways(len, offset, 15 - offset);
            }
        }
    }

    #[test]
    fn long_ranges_arrive_whole_at_every_offset() {
        for len in [1000, 2032, 2040, 2047, 2048, 2049, 2055, 2056, 2064, 4900] {
            for from in 0..16 {
                for to in 0..16 {
                    check_both_ways(len, from, to);
                }
            }
        }
    }

    #[test]
    fn a_range_is_cut_at_the_words_of_shared_memory() {
        assert_eq!(parts(64, 24), (0, 3));
        assert_eq!(parts(65, 24), (7, 2));
        assert_eq!(parts(71, 24), (1, 2));
        assert_eq!(parts(66, 3), (3, 0));
        assert_eq!(parts(64, 7), (0, 0));
        assert_eq!(parts(usize::MAX - 7, 8), (0, 1));
    }
}
