//! What the kernel carries: pipe(2) and a pair of Unix stream sockets.
//!
//! They carry bytes and know of no messages; both sides know how long each is, so nothing is sent besides. The
//! children inherit the descriptors.
//!
//! The pipe is used as its manual says: one end is written to and the other read from, by calls that block, and its buffer is made as large
//! as `F_SETPIPE_SZ` permits without privilege. The sockets are used as the documentation of `UnixStream` says: a `pair`, each
//! end with its side, `write_all` and `read_exact`.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use crate::message::{Carrier, Receiving, Sending};
use crate::team::Place;

/// The name of [`Pipes`] in results.
pub const PIPE: &str = "pipe(2)";
/// The name of [`Sockets`] in results.
pub const SOCKET: &str = "UnixStream";

/// The buffer of a pipe, as large as it may be without privilege.
const PIPE_BUFFER: libc::c_int = 1 << 20;

/// Descriptors that all children of this process find under the same numbers, while this lives.
pub(super) struct Inherited(Vec<OwnedFd>);

impl Inherited {
    /// # Errors
    /// Those of `fcntl`.
    pub(super) fn new(descriptors: impl Into<Vec<OwnedFd>>) -> io::Result<Self> {
        let descriptors = descriptors.into();
        for descriptor in &descriptors {
            // SAFETY: sets the flags of a descriptor that is open, to none; touches no memory.
            if unsafe { libc::fcntl(descriptor.as_raw_fd(), libc::F_SETFD, 0) } != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(Inherited(descriptors))
    }

    pub(super) fn address(&self) -> String {
        let numbers: Vec<_> = self.0.iter().map(|descriptor| descriptor.as_raw_fd().to_string()).collect();
        numbers.join(",")
    }

    /// # Errors
    /// Those of `fcntl`; `InvalidInput` if `address` is not one of a parent.
    pub(super) fn attach(address: &str) -> io::Result<Self> {
        let numbers: Result<Vec<RawFd>, _> = address.split(',').map(str::parse).collect();
        let numbers = numbers.map_err(|_| io::ErrorKind::InvalidInput)?;
        // SAFETY: inherited from the parent, and nobody in this process closes what it has inherited.
        let copies = numbers.iter().map(|&number| unsafe { BorrowedFd::borrow_raw(number) }.try_clone_to_owned());
        copies.collect::<io::Result<_>>().map(Inherited)
    }

    /// Gets a copy of each.
    ///
    /// # Errors
    /// Those of `fcntl`.
    pub(super) fn all(&self) -> io::Result<Vec<File>> {
        (0..self.0.len()).map(|index| self.get(index)).collect()
    }

    /// Gets a copy of one.
    ///
    /// # Errors
    /// Those of `fcntl`.
    pub(super) fn get(&self, index: usize) -> io::Result<File> {
        self.0[index].try_clone().map(File::from)
    }
}

/// A pipe for each lane.
pub struct Pipes(Inherited);

impl Place for Pipes {
    fn create(_: usize) -> io::Result<Self> {
        let ([first, second], [third, fourth]) = (pipe()?, pipe()?);
        Inherited::new([first, second, third, fourth]).map(Pipes)
    }

    fn address(&self) -> String {
        self.0.address()
    }

    fn attach(address: &str) -> io::Result<Self> {
        Inherited::attach(address).map(Pipes)
    }
}

impl Carrier<[u8]> for Pipes {
    type Sender = File;
    type Receiver = File;

    fn sender(&self, lane: usize) -> io::Result<File> {
        self.0.get(2 * lane + 1)
    }

    fn receiver(&self, lane: usize) -> io::Result<File> {
        self.0.get(2 * lane)
    }
}

/// Makes a pipe with a large buffer: its end to read from, and its end to write to.
pub(crate) fn pipe() -> io::Result<[OwnedFd; 2]> {
    let mut ends = [0; 2];
    // SAFETY: `ends` is live and has room for two descriptors.
    if unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: just made, and nobody else has them.
    let ends = ends.map(|end| unsafe { OwnedFd::from_raw_fd(end) });
    // SAFETY: takes a number, and touches no memory.
    if unsafe { libc::fcntl(ends[1].as_raw_fd(), libc::F_SETPIPE_SZ, PIPE_BUFFER) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(ends)
}

/// Two sockets, each the end of one member.
pub struct Sockets(Inherited);

impl Place for Sockets {
    fn create(_: usize) -> io::Result<Self> {
        let (first, second) = UnixStream::pair()?;
        Inherited::new([first.into(), second.into()]).map(Sockets)
    }

    fn address(&self) -> String {
        self.0.address()
    }

    fn attach(address: &str) -> io::Result<Self> {
        Inherited::attach(address).map(Sockets)
    }
}

impl Carrier<[u8]> for Sockets {
    type Sender = UnixStream;
    type Receiver = UnixStream;

    fn sender(&self, lane: usize) -> io::Result<UnixStream> {
        self.0.get(lane).map(|file| OwnedFd::from(file).into())
    }

    fn receiver(&self, lane: usize) -> io::Result<UnixStream> {
        self.0.get(1 - lane).map(|file| OwnedFd::from(file).into())
    }
}

macro_rules! bytes {
    ($end:ty) => {
        impl Sending<[u8]> for $end {
            #[inline(always)]
            fn send(&mut self, message: &[u8]) {
                self.write_all(message).expect("the other end is open");
            }
        }

        impl Receiving<[u8]> for $end {
            #[inline(always)]
            fn receive(&mut self, message: &mut [u8]) {
                self.read_exact(message).expect("the other end is open");
            }
        }
    };
}

bytes!(File);
bytes!(UnixStream);
