//! What can go wrong with regions and the objects in them.

use core::fmt;
use std::io;

/// A specialised result.
pub type Result<T, E = Error> = core::result::Result<T, E>;

/// Why an operation on a region, or on the liveness of its participants, failed.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The name cannot be that of a region or of an object.
    InvalidName {
        /// What is wrong with it.
        what: &'static str,
    },
    /// A region cannot be made for so many participants.
    InvalidParticipants {
        /// What was asked for.
        asked: u32,
        /// The most that is possible.
        max: u32,
    },
    /// There is a file of this name already.
    AlreadyExists,
    /// There is no region of this name.
    NotFound,
    /// What is there is not a region.
    NotARegion {
        /// What tells so.
        what: &'static str,
    },
    /// The region was made by a version of this library with another layout.
    Version {
        /// The layout that this version of the library knows.
        expected: u32,
        /// The layout of the region.
        found: u32,
    },
    /// The file is shorter or longer than the region that was made in it.
    WrongSize {
        /// The size when it was made, in bytes, or the least that a region has.
        expected: u64,
        /// The size of the file, in bytes.
        found: u64,
    },
    /// The size of the memory file could still be changed by others.
    NotSealed,
    /// This process has the region open already, on other terms: it is either one whose peers are trusted, or one whose are not.
    OtherTrust {
        /// Whether it has it open as one whose peers are trusted.
        trusted: bool,
    },
    /// The memory for the region, or the room for the object in it, is not to be had.
    NoSpace {
        /// What was asked for, in bytes.
        bytes: u64,
    },
    /// All entries of the participant table belong to living processes.
    TooManyParticipants {
        /// How many there are.
        capacity: u32,
    },
    /// One wait cannot be for so many things.
    TooManySources {
        /// How many there are.
        asked: u64,
        /// The most that is possible.
        max: u64,
    },
    /// Somebody else keeps the name locked for longer than an opener may wait: a process stopped in the middle. Or, where peers are not trusted, one of them
    /// keeps the directory locked, or the file under so many locks that no free entry is found in time.
    Busy,
    /// The calling process is a forked child, and what it was about to end was begun by its parent, who still is to end it.
    Forked,
    /// The region holds no object of this name.
    NoSuchObject {
        /// Its name.
        name: String,
    },
    /// The region holds an object of this name already.
    ObjectExists {
        /// Its name.
        name: String,
    },
    /// The region holds an object of this name, but of another type.
    WrongType {
        /// Its name.
        name: String,
        /// The type it has.
        found: String,
        /// The type that was asked for.
        asked: String,
    },
    /// The region holds an array of this name and type, but of another length.
    WrongLength {
        /// Its name.
        name: String,
        /// How many elements it has.
        found: u64,
        /// How many were asked for.
        asked: u64,
    },
    /// A value in shared memory cannot have been written by this library.
    Corrupted {
        /// Which value.
        what: &'static str,
        /// What it is.
        found: u64,
    },
    /// The kernel does not make the barrier that this needs: it is built without the system call `membarrier`, a filter keeps that away, or there are CPUs that
    /// run without a clock (`nohz_full`).
    NoBarrier(io::Error),
    /// The operating system said no.
    Io(io::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidName { what } => write!(f, "the name {what}"),
            Self::InvalidParticipants { asked, max } => {
                write!(f, "a region cannot have {asked} participants: choose 1 to {max}")
            }
            Self::AlreadyExists => f.write_str("there is a file of this name already: open it, or unlink it first"),
            Self::NotFound => f.write_str("there is no region of this name: create it first"),
            Self::NotARegion { what } => write!(f, "not a region: {what}"),
            Self::Version { expected, found } => write!(
                f,
                "the region has layout version {found}, this library knows version {expected}: use the same version in all processes"
            ),
            Self::WrongSize { expected, found } => {
                write!(
                    f,
                    "the region was made with {expected} bytes, its file has {found}: it was cut or extended since"
                )
            }
            Self::NotSealed => f.write_str(
                "the file is not sealed against changes of its size: pass on the file of an anonymous region",
            ),
            Self::OtherTrust { trusted } => {
                let (is, asked) =
                    if *trusted { ("a Region", "an UntrustedRegion") } else { ("an UntrustedRegion", "a Region") };
                write!(f, "this process has the region open as {is}, and so it cannot have it as {asked}")
            }
            Self::NoSpace { bytes } => write!(
                f,
                "no space for {bytes} bytes: ask for less, or make the region larger; if it is the region itself, /dev/shm or the memory is too small"
            ),
            Self::TooManyParticipants { capacity } => write!(
                f,
                "all {capacity} participants of the region are alive: make it for more with RegionOptions::participants"
            ),
            Self::TooManySources { asked, max } => {
                write!(f, "a thread cannot wait for {asked} things at once, only for {max}: use several threads")
            }
            Self::Busy => f.write_str("another process keeps the region locked and does not get on: it may be stopped"),
            Self::Forked => f.write_str("this was begun by the parent process, and is the parent's to end"),
            Self::NoSuchObject { name } => write!(f, "the region holds no object {name:?}: insert it first"),
            Self::ObjectExists { name } => write!(f, "the region holds an object {name:?} already: get it instead"),
            Self::WrongType { name, found, asked } => {
                write!(f, "the region holds the object {name:?} of type {found}, asked for {asked}")
            }
            Self::WrongLength { name, found, asked } => {
                write!(f, "the region holds the array {name:?} of length {found}, asked for length {asked}")
            }
            Self::Corrupted { what, found } => write!(f, "corrupted {what}: found {found:#x}"),
            Self::NoBarrier(error) => {
                write!(f, "the system call membarrier, which this needs, failed: {error}")
            }
            Self::Io(error) => write!(f, "the operating system said no: {error}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(error) | Self::NoBarrier(error) => Some(error),
            _ => None,
        }
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}
