//! Values on their way to another process, with the files that belong to them.
//!
//! A [`Region`](crate::Region), a handle to an object in one, a ticket or an open file is not made of bytes: what another process needs of it is a file. With
//! the feature `serde`, such things are serialised as what else there is to say of them, and the number of a file in the [`Parcel`] that is
//! just being [packed](pack). Outside of that they cannot be serialised: that is an error.
//!
//! This is what `shmkit::process` is made of. It is for those who move values between processes on a way of their own: serialise them in
//! [`pack`], send the bytes and the files, and deserialise them in [`unpack`].
//!
//! # What travels over a socket
//!
//! ```text
//! first message:   | files: u32 | in a file: u32 | bytes: u64 | the bytes, if they are few |     with up to 253 files
//! further ones:    | 0 (1) |                                                                  with up to 253 files each
//! ```
//!
//! Many bytes are in a memory file, which is the first of the files.
//!
//! # A kill at each point
//!
//! A parcel that was sent in part ends for its receiver with an error, and the kernel closes what nobody has received. A parcel is on its way
//! as long as somebody has an end of the socket.
//!
//! # Garbage
//!
//! Numbers in a message are compared with what has come. What the bytes of a parcel say is believed as far as their types say what
//! they can be: whoever sends one, is trusted as those are who have a region open.

#[cfg(feature = "serde")]
mod values;

use core::cell::RefCell;
use core::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{BorrowedFd, OwnedFd};

#[cfg(feature = "serde")]
use crate::error::Result as RegionResult;
use crate::sys::file;
#[cfg(feature = "serde")]
use crate::sys::file::FileId;
use crate::sys::passing::{self, MOST_FILES, Patience};

/// Up to how many bytes travel in the message itself.
const INLINE: usize = 16 << 10;

/// What a first message begins with.
const HEAD: usize = 16;

/// A value, as bytes, and the files that belong to it.
#[derive(Debug, Default)]
pub struct Parcel {
    /// The value.
    pub bytes: Vec<u8>,
    /// What the value denotes by its number.
    pub files: Vec<OwnedFd>,
}

/// A [`Parcel`] that is ready to be sent; made by [`Parcel::ready`]. Whoever receives it, gets a parcel.
#[derive(Debug)]
pub struct ReadyParcel {
    /// The first message.
    message: Vec<u8>,
    files: Vec<OwnedFd>,
}

/// An open file, socket, or end of a pipe (`F`), as a value: with the feature `serde`, it travels in [parcels](Parcel), as a copy of its descriptor.
///
/// # Examples
///
/// See the example `echo_server`, in which a process serves a `Passed<TcpStream>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Passed<F>(pub F);

thread_local! {
    static PACKING: RefCell<Option<Packing>> = const { RefCell::new(None) };
    static REFUSED: RefCell<Option<String>> = const { RefCell::new(None) };
    static UNPACKING: RefCell<Option<Vec<Option<OwnedFd>>>> = const { RefCell::new(None) };
}

/// The files of a parcel that is being packed, and those of them that are regions'.
#[derive(Default)]
struct Packing {
    files: Vec<OwnedFd>,
    #[cfg(feature = "serde")]
    regions: Vec<(FileId, u32)>,
}

/// Why a file cannot travel, or has not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotInParcel {
    what: &'static str,
}

impl fmt::Display for NotInParcel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what)
    }
}

impl std::error::Error for NotInParcel {}

/// Runs `serialise` and returns the files that were [added](add) meanwhile.
///
/// # Examples
///
/// ```
/// use shmkit_core::transfer::{self, pack, unpack};
/// use std::io::Read;
///
/// let (reader, writer) = std::os::unix::net::UnixStream::pair()?;
/// let (number, files) = pack(|| transfer::add(reader.into()));
/// drop(writer);
/// let reader = unpack(files, || transfer::take(number?))?;
/// assert_eq!(std::fs::File::from(reader).read(&mut [0; 1])?, 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn pack<R>(serialise: impl FnOnce() -> R) -> (R, Vec<OwnedFd>) {
    /// Puts back what was there before, also after a panic.
    struct Before(Option<Packing>);
    impl Drop for Before {
        fn drop(&mut self) {
            PACKING.set(self.0.take());
        }
    }
    let _before = Before(PACKING.replace(Some(Packing::default())));
    REFUSED.take();
    let result = serialise();
    let files = PACKING.take().map_or(Vec::new(), |packing| packing.files);
    (result, files)
}

/// Runs `deserialise`, which may [take] the `files` meanwhile. Those that are left are closed.
pub fn unpack<R>(files: Vec<OwnedFd>, deserialise: impl FnOnce() -> R) -> R {
    struct Before(Option<Vec<Option<OwnedFd>>>);
    impl Drop for Before {
        fn drop(&mut self) {
            UNPACKING.set(self.0.take());
        }
    }
    let _before = Before(UNPACKING.replace(Some(files.into_iter().map(Some).collect())));
    REFUSED.take();
    deserialise()
}

/// Adds a file to the parcel that the calling thread is packing; returns its number in it.
///
/// # Errors
///
/// If it packs none.
pub fn add(file: OwnedFd) -> Result<u32, NotInParcel> {
    packing(|packing| {
        packing.files.push(file);
        packing.files.len() as u32 - 1
    })
}

/// Whether the calling thread is packing a parcel, so that a file can be [added](add): to be asked before something is given up for it.
///
/// # Errors
///
/// If it is not.
pub fn ensure_packing() -> Result<(), NotInParcel> {
    packing(|_| ())
}

/// Takes the file with this number out of the parcel that the calling thread is unpacking.
///
/// # Errors
///
/// If it unpacks none, or the file is not in it (any more).
pub fn take(number: u32) -> Result<OwnedFd, NotInParcel> {
    unpacking(|files| files.get_mut(number as usize).and_then(Option::take).ok_or(MISSING))?
}

/// Adds the file of a region, once, however many handles of it there are in the parcel.
#[cfg(feature = "serde")]
fn add_region(id: FileId, file: impl FnOnce() -> RegionResult<OwnedFd>) -> RegionResult<u32, String> {
    let known = packing(|packing| packing.regions.iter().find(|(known, _)| *known == id).map(|(_, number)| *number));
    if let Some(number) = known.map_err(|error| error.to_string())? {
        return Ok(number);
    }
    let file = file().map_err(|error| error.to_string())?;
    let added = packing(|packing| {
        let number = packing.files.len() as u32;
        packing.files.push(file);
        packing.regions.push((id, number));
        number
    });
    added.map_err(|error| error.to_string())
}

/// A copy of the file with this number.
#[cfg(feature = "serde")]
fn copy(number: u32) -> io::Result<OwnedFd> {
    let copied = unpacking(|files| files.get(number as usize).and_then(Option::as_ref).map(OwnedFd::try_clone));
    copied.map_err(io::Error::other)?.unwrap_or_else(|| Err(io::Error::other(MISSING)))
}

/// Notes why a value cannot be serialised or deserialised, for [`refusal`]: some formats drop the texts of errors.
pub fn refuse(why: impl fmt::Display) -> String {
    let why = why.to_string();
    REFUSED.set(Some(why.clone()));
    why
}

/// Why a value was refused last in this thread, since the last [`pack`] or [`unpack`] began.
pub fn refusal() -> Option<String> {
    REFUSED.take()
}

const MISSING: NotInParcel = NotInParcel { what: "a file that the value names has not come with it" };

fn packing<R>(act: impl FnOnce(&mut Packing) -> R) -> Result<R, NotInParcel> {
    const NOWHERE: NotInParcel =
        NotInParcel { what: "it goes with a file, so it can only be serialised on its way to another process" };
    PACKING.with_borrow_mut(|packing| packing.as_mut().map(act).ok_or(NOWHERE))
}

fn unpacking<R>(act: impl FnOnce(&mut Vec<Option<OwnedFd>>) -> R) -> Result<R, NotInParcel> {
    const NOWHERE: NotInParcel = NotInParcel {
        what: "it goes with a file, so it can only be deserialised where it has come from another process",
    };
    UNPACKING.with_borrow_mut(|files| files.as_mut().map(act).ok_or(NOWHERE))
}

/// Two sockets that parcels can be sent over, connected to each other.
///
/// # Errors
///
/// If there are no more descriptors.
pub fn sockets() -> io::Result<(OwnedFd, OwnedFd)> {
    passing::pair()
}

impl Parcel {
    /// Sends it over a socket made by [`sockets`]. All of it, or an error.
    ///
    /// # Blocking
    ///
    /// Never: if the socket is full, that is an error. It has room for some 200 messages.
    ///
    /// # Errors
    ///
    /// [`WouldBlock`](io::ErrorKind::WouldBlock); if the other side is closed; if there are too many descriptors, or too little memory.
    pub fn send(self, socket: BorrowedFd<'_>) -> io::Result<()> {
        self.ready()?.send(socket)
    }

    /// Makes it ready to be sent, also several times: whoever has no time then does the long part now, which is to put many bytes into a file.
    ///
    /// # Errors
    ///
    /// If there are too many descriptors, or too little memory.
    pub fn ready(self) -> io::Result<ReadyParcel> {
        ReadyParcel::new(&self.bytes, self.files)
    }

    /// Receives one.
    ///
    /// # Blocking
    ///
    /// Until it comes.
    ///
    /// # Errors
    ///
    /// [`UnexpectedEof`](io::ErrorKind::UnexpectedEof) if the other side is closed; [`InvalidData`](io::ErrorKind::InvalidData) if something
    /// else has come.
    pub fn receive(socket: BorrowedFd<'_>) -> io::Result<Self> {
        Self::receive_with(socket, Patience::Some)
    }

    /// Receives one that has been sent already.
    ///
    /// # Errors
    ///
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) if none has; and those of [`receive`](Self::receive).
    pub fn try_receive(socket: BorrowedFd<'_>) -> io::Result<Self> {
        Self::receive_with(socket, Patience::None)
    }

    fn receive_with(socket: BorrowedFd<'_>, patience: Patience) -> io::Result<Self> {
        let mut message = vec![0; HEAD + INLINE];
        let received = passing::receive_some(socket, &mut message, patience)?;
        if received.bytes == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let garbage = || io::Error::new(io::ErrorKind::InvalidData, "what came over the socket is no parcel");
        if received.is_cut || received.bytes < HEAD {
            return Err(garbage());
        }
        let (head, inline) = message[..received.bytes].split_at(HEAD);
        let number = |at: usize| u32::from_ne_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let len = u64::from(number(8)) | u64::from(number(12)) << 32;
        let (count, is_inline) = (number(0) as usize, number(4) == 0);
        let mut files = received.files;
        while files.len() < count {
            let more = passing::receive_some(socket, &mut [0; 2], patience)?;
            if more.is_cut || more.bytes != 1 || more.files.is_empty() {
                return Err(garbage());
            }
            files.extend(more.files);
        }
        if files.len() != count || is_inline && len != inline.len() as u64 || !is_inline && files.is_empty() {
            return Err(garbage());
        }
        let bytes = if is_inline { inline.to_vec() } else { from_memory(files.remove(0), len)? };
        Ok(Self { bytes, files })
    }
}

impl ReadyParcel {
    /// A parcel of bytes alone, which stay where they are: for one who has other use for them if it cannot be made.
    ///
    /// # Errors
    ///
    /// As for [`Parcel::ready`].
    pub fn of_bytes(bytes: &[u8]) -> io::Result<Self> {
        Self::new(bytes, Vec::new())
    }

    fn new(bytes: &[u8], files: Vec<OwnedFd>) -> io::Result<Self> {
        let is_inline = bytes.len() <= INLINE;
        let memory = if is_inline { None } else { Some(in_memory(bytes)?) };
        let files: Vec<OwnedFd> = memory.into_iter().chain(files).collect();
        let mut message = Vec::with_capacity(HEAD + if is_inline { bytes.len() } else { 0 });
        message.extend((files.len() as u32).to_ne_bytes());
        message.extend(u32::from(!is_inline).to_ne_bytes());
        message.extend((bytes.len() as u64).to_ne_bytes());
        if is_inline {
            message.extend(bytes);
        }
        Ok(Self { message, files })
    }

    /// Sends it over a socket made by [`sockets`]. All of it, or an error.
    ///
    /// # Blocking
    ///
    /// Never: as [`Parcel::send`].
    ///
    /// # Errors
    ///
    /// [`WouldBlock`](io::ErrorKind::WouldBlock); if the other side is closed; if there are too many descriptors.
    pub fn send(&self, socket: BorrowedFd<'_>) -> io::Result<()> {
        let (with_first, others) = self.files.split_at(self.files.len().min(MOST_FILES));
        passing::send(socket, &self.message, with_first, Patience::None)?;
        others.chunks(MOST_FILES).try_for_each(|files| passing::send(socket, &[0], files, Patience::None))
    }
}

/// A memory file with these bytes.
fn in_memory(bytes: &[u8]) -> io::Result<OwnedFd> {
    let mut file = File::from(file::create_memory(c"shmkit-parcel")?);
    file.write_all(bytes)?;
    Ok(file.into())
}

/// What is in a memory file, which must be `len` bytes. They are read, and not mapped: whoever has sent the file could cut it.
fn from_memory(file: OwnedFd, len: u64) -> io::Result<Vec<u8>> {
    if file::status(&file)?.size != len {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a parcel has another length than it says"));
    }
    let mut file = File::from(file);
    file.rewind()?;
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(usize::try_from(len).unwrap_or(usize::MAX)).map_err(|_| io::ErrorKind::OutOfMemory)?;
    file.take(len).read_to_end(&mut bytes)?;
    Ok(bytes)
}
