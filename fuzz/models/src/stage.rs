//! A region to play in, and a second mapping of it from which others scribble.

use core::cell::OnceCell;
use core::ptr::{self, NonNull};
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::Relaxed;
use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd};

use arbitrary::Arbitrary;
use shmkit::{Region, RegionOptions};

/// The size of the region, without the pages that nobody can reach.
pub(crate) const SIZE: usize = 32 * 1024;

/// The word of the header that says where the log of objects ends.
const END: usize = 144;

/// The word where the tokens of the participants begin.
pub(crate) const TOKENS: usize = 48;

/// One of the two unreachable pages around the region.
const PAGE: usize = 4096;

/// An empty region. An access behind its end, or before its beginning, ends the process.
pub(crate) struct Stage {
    region: Region,
    other: Words,
    /// What it is like when it is empty.
    image: Vec<u64>,
}

thread_local! {
    /// Made once: to map a region takes longer than what is done in it.
    static STAGE: OnceCell<Stage> = const { OnceCell::new() };
}

/// Does something in an empty region.
pub(crate) fn with_stage<R>(act: impl FnOnce(&Stage) -> R) -> R {
    STAGE.with(|stage| {
        let stage = stage.get_or_init(Stage::new);
        for (word, value) in stage.other.all().iter().zip(&stage.image) {
            word.store(*value, Relaxed);
        }
        act(stage)
    })
}

/// Gives out memory that begins with `bytes`, with unreachable pages around it, and its file.
pub(crate) fn with_raw<R>(bytes: &[u8], act: impl FnOnce(*mut u8, usize, &File) -> R) -> R {
    thread_local! {
        static RAW: OnceCell<(File, Words)> = const { OnceCell::new() };
    }
    RAW.with(|raw| {
        let (file, words) = raw.get_or_init(|| {
            let file = memory_file();
            let words = Words::map(&file);
            (file, words)
        });
        let values = bytes.chunks_exact(8).map(word_of).chain(core::iter::repeat(0));
        for (word, value) in words.all().iter().zip(values) {
            word.store(value, Relaxed);
        }
        act(words.0.as_ptr().cast(), SIZE, file)
    })
}

/// The word that eight bytes are.
pub(crate) fn word_of(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes.try_into().expect("eight bytes"))
}

fn memory_file() -> File {
    // SAFETY: no pointers but to a literal; the descriptor is nobody else's.
    let file = unsafe {
        let number = libc::memfd_create(c"shmkit-fuzz".as_ptr(), libc::MFD_CLOEXEC);
        assert!(number >= 0, "a memory file: {}", std::io::Error::last_os_error());
        File::from_raw_fd(number)
    };
    file.set_len(SIZE as u64).expect("memory");
    file
}

impl Stage {
    fn new() -> Self {
        let file = memory_file();
        let ours = Words::map(&file);
        // SAFETY: so many bytes are mapped from the beginning of the file, and never unmapped. The other mapping is reached by atomics only.
        let region = unsafe {
            RegionOptions::new().participants(4).keeper(false).from_raw(ours.0.as_ptr().cast(), SIZE, &file, ())
        };
        let region = region.expect("a region");
        core::mem::forget(ours);
        let other = Words::map(&file);
        let image = other.all().iter().map(|word| word.load(Relaxed)).collect();
        Self { region, other, image }
    }

    pub(crate) fn region(&self) -> &Region {
        &self.region
    }

    /// Where the objects end that there are so far, in bytes.
    pub(crate) fn end(&self) -> usize {
        (self.word(END / 8) as usize).min(SIZE)
    }

    /// The word of this number, through the other mapping.
    pub(crate) fn word(&self, number: usize) -> u64 {
        self.other.all()[number].load(Relaxed)
    }

    /// Writes a word through the other mapping.
    pub(crate) fn store(&self, number: usize, value: u64) {
        self.other.all()[number].store(value, Relaxed);
    }

    /// Scribbles over one word of those from `start` to `end`, in bytes.
    pub(crate) fn scribble(&self, start: usize, end: usize, scribble: &Scribble) {
        self.other.scribble(start, end, scribble);
    }

    /// The same, in private bytes.
    pub(crate) fn scribble_bytes(bytes: &mut [u8], scribble: &Scribble) {
        let count = bytes.len() / 8;
        let word = |number: usize| word_of(&bytes[number % count * 8..][..8]);
        let at = usize::from(scribble.at) % count;
        let value = scribble.how.value(word(at), |number| word(number.into()), |index| word(index.into()));
        bytes[at * 8..][..8].copy_from_slice(&value.to_le_bytes());
    }
}

/// Something to be written over a word.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(crate) struct Scribble {
    at: u16,
    how: How,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum How {
    Zero,
    Ones,
    Small(u8),
    Word(u64),
    LowHalf(u32),
    HighHalf(u32),
    /// A number that is no larger than regions and tables are, in one half.
    Half(bool, u16),
    Flip(u8),
    Add(i8),
    /// What stands in another word.
    Copy(u16),
    /// A token from the table of participants.
    Token(u8, bool),
}

impl How {
    fn value(self, old: u64, from: impl Fn(u16) -> u64, token: impl Fn(u8) -> u64) -> u64 {
        match self {
            Self::Zero => 0,
            Self::Ones => u64::MAX,
            Self::Small(value) => value.into(),
            Self::Word(value) => value,
            Self::LowHalf(value) => old & !0xffff_ffff | u64::from(value),
            Self::HighHalf(value) => old & 0xffff_ffff | u64::from(value) << 32,
            Self::Half(is_high, value) if is_high => old & 0xffff_ffff | u64::from(value) << 32,
            Self::Half(_, value) => old & !0xffff_ffff | u64::from(value),
            Self::Flip(bit) => old ^ 1 << (bit % 64),
            Self::Add(value) => old.wrapping_add_signed(value.into()),
            Self::Copy(number) => from(number),
            Self::Token(index, flag) => token(index) | u64::from(flag),
        }
    }
}

/// The words of a mapping.
pub(crate) struct Words(NonNull<AtomicU64>);

impl Words {
    /// The first bytes of `file`.
    pub(crate) fn map(file: &File) -> Self {
        // SAFETY: an address range that nobody has is reserved first; the file is mapped into the middle of it.
        let base = unsafe {
            let all = libc::mmap(
                ptr::null_mut(),
                SIZE + 2 * PAGE,
                libc::PROT_NONE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            );
            assert!(all != libc::MAP_FAILED, "addresses: {}", std::io::Error::last_os_error());
            libc::mmap(
                all.byte_add(PAGE),
                SIZE,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_FIXED,
                file.as_raw_fd(),
                0,
            )
        };
        assert!(base != libc::MAP_FAILED, "a mapping: {}", std::io::Error::last_os_error());
        Self(NonNull::new(base.cast()).expect("an address"))
    }

    /// Scribbles over one word of those from `start` to `end`, in bytes.
    pub(crate) fn scribble(&self, start: usize, end: usize, scribble: &Scribble) {
        let (first, count) = (start / 8, (end - start) / 8);
        if count == 0 {
            return;
        }
        let word = |number: usize| self.all()[number].load(Relaxed);
        let at = first + usize::from(scribble.at) % count;
        let from = |number: u16| word(first + usize::from(number) % count);
        let token = |index: u8| word(TOKENS + usize::from(index % 4));
        self.all()[at].store(scribble.how.value(word(at), from, token), Relaxed);
    }

    pub(crate) fn all(&self) -> &[AtomicU64] {
        // SAFETY: mapped as long as `self` lives, aligned to a page; anybody may change atomics.
        unsafe { core::slice::from_raw_parts(self.0.as_ptr(), SIZE / 8) }
    }
}

impl Drop for Words {
    fn drop(&mut self) {
        // SAFETY: mapped in `map`, with the pages around it, and borrowed by nobody any more.
        let unmapped = unsafe { libc::munmap(self.0.as_ptr().cast::<u8>().sub(PAGE).cast(), SIZE + 2 * PAGE) };
        assert_eq!(unmapped, 0);
    }
}
