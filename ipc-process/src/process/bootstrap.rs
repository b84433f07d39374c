//! What a new process is told by the one that has started it, and what it answers: both are parcels, over the one socket that it inherits.
//!
//! ```text
//! variable:      SHMKIT_PROCESS = "<descriptor of the socket> <its inode> <process id of the parent>"
//! to the child:  | the arguments, by postcard | Bootstrap, by postcard | its length: u32 |     first files: the parent process; standard output, if said so
//! to the parent: | the value, by postcard; or a text | what it is: u8 |
//! ```
//!
//! What is small comes last, so that what may be large is not moved. The child takes the variable out of its environment, if it can; what
//! it starts by other means may inherit the variable, but not the socket, and is not taken for a child.

use core::fmt;
use std::ffi::OsStr;
use std::os::fd::{OwnedFd, RawFd};

use serde::{Deserialize, Serialize};
use shmkit_core::transfer::Parcel;

use super::function::Function;

/// The variable with the number of the socket.
pub(crate) const VARIABLE: &str = "SHMKIT_PROCESS";

/// What the variable says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    /// The descriptor of the socket, in the child.
    pub(crate) number: RawFd,
    /// The inode of the socket, by which it is told from what others have under the same number.
    pub(crate) inode: u64,
    /// The process id of the parent.
    pub(crate) parent: u32,
}

impl Address {
    pub(crate) fn parse(text: &OsStr) -> Option<Self> {
        let mut parts = text.to_str()?.split(' ');
        let (number, inode, parent) = (parts.next()?, parts.next()?, parts.next()?);
        Some(Self { number: number.parse().ok()?, inode: inode.parse().ok()?, parent: parent.parse().ok()? })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.number, self.inode, self.parent)
    }
}

/// What a child is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Bootstrap {
    pub(crate) function: Function,
    pub(crate) name: String,
    /// Whether somebody has chosen the name.
    pub(crate) is_named: bool,
    pub(crate) is_daemon: bool,
    /// The process id of the parent.
    pub(crate) parent: u32,
    /// Whether its standard output is to be exchanged for the second file.
    pub(crate) has_output: bool,
}

/// The first files of a parcel for a child.
#[derive(Debug)]
pub(crate) struct Own {
    /// A descriptor of the parent.
    pub(crate) parent: OwnedFd,
    /// What its standard output is to be.
    pub(crate) output: Option<OwnedFd>,
}

impl Bootstrap {
    /// The parcel for the child.
    pub(crate) fn pack(&self, args: Parcel, own: Own) -> Result<Parcel, String> {
        let head = postcard::to_allocvec(self).map_err(|error| error.to_string())?;
        let mut bytes = args.bytes;
        bytes.extend(&head);
        bytes.extend((head.len() as u32).to_ne_bytes());
        let files = [own.parent].into_iter().chain(own.output).chain(args.files).collect();
        Ok(Parcel { bytes, files })
    }

    /// Takes such a parcel apart: what is told, its own files, and the arguments.
    pub(crate) fn unpack(mut parcel: Parcel) -> Option<(Self, Own, Parcel)> {
        let (rest, len) = parcel.bytes.split_last_chunk()?;
        let (args, head) = rest.split_at_checked(rest.len().checked_sub(u32::from_ne_bytes(*len) as usize)?)?;
        let bootstrap: Self = postcard::from_bytes(head).ok()?;
        let args_len = args.len();
        parcel.bytes.truncate(args_len);
        let mut files = parcel.files.drain(..);
        let own = Own { parent: files.next()?, output: if bootstrap.has_output { Some(files.next()?) } else { None } };
        let files = files.collect();
        Some((bootstrap, own, Parcel { bytes: parcel.bytes, files }))
    }
}

/// What a child answers.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The function has returned this.
    Value(Parcel),
    /// It has panicked, and said this.
    Panicked(String),
    /// There is no value, for this reason.
    Failed(String),
}

const VALUE: u8 = 0;
const PANICKED: u8 = 1;
const FAILED: u8 = 2;

impl Outcome {
    pub(crate) fn into_parcel(self) -> Parcel {
        let (what, mut bytes, files) = match self {
            Self::Value(Parcel { bytes, files }) => (VALUE, bytes, files),
            Self::Panicked(message) => (PANICKED, message.into_bytes(), Vec::new()),
            Self::Failed(what) => (FAILED, what.into_bytes(), Vec::new()),
        };
        bytes.push(what);
        Parcel { bytes, files }
    }

    pub(crate) fn of_parcel(mut parcel: Parcel) -> Self {
        let what = parcel.bytes.pop();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match what {
            Some(VALUE) => Self::Value(parcel),
            Some(PANICKED) => Self::Panicked(text(&parcel.bytes)),
            Some(FAILED) => Self::Failed(text(&parcel.bytes)),
            _ => Self::Failed("its answer makes no sense".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parcels_cut_anywhere_are_refused() {
        let function = Function::of((|number: u8| number) as fn(u8) -> u8).expect("a function of this program");
        let bootstrap =
            Bootstrap { function, name: "one".into(), is_named: true, is_daemon: false, parent: 7, has_output: false };
        let null = || OwnedFd::from(std::fs::File::open("/dev/null").expect("a device"));
        let parcel = bootstrap
            .pack(Parcel { bytes: vec![5], files: Vec::new() }, Own { parent: null(), output: None })
            .expect("plain values");
        // From its beginning the arguments are cut, which are not looked at here.
        for from in 2..=parcel.bytes.len() {
            let cut = Parcel { bytes: parcel.bytes[from..].to_vec(), files: vec![null()] };
            assert!(Bootstrap::unpack(cut).is_none(), "without {from} bytes");
        }
        let without_files = Parcel { bytes: parcel.bytes.clone(), files: Vec::new() };
        assert!(Bootstrap::unpack(without_files).is_none());
        let (unpacked, _, args) = Bootstrap::unpack(parcel).expect("what was packed");
        assert_eq!((unpacked, args.bytes), (bootstrap, vec![5]));
    }
}
