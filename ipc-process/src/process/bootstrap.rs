//! What a new process is told by the one that has started it, and what it answers: both are parcels, over the one socket that it inherits.
//!
//! ```text
//! to the child:  | len: u32 | Bootstrap, by postcard | the arguments, by postcard |     first files: the parent process; standard output, if said so
//! to the parent: | what: u8 | the value, by postcard; or a text |
//! ```
//!
//! The child is told which socket by a variable of its environment, which it takes out at once.

use std::os::fd::OwnedFd;

use serde::{Deserialize, Serialize};
use shmkit_core::transfer::Parcel;

use super::function::Function;

/// The variable with the number of the socket.
pub(crate) const VARIABLE: &str = "SHMKIT_PROCESS";

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
        let mut bytes = Vec::with_capacity(4 + head.len() + args.bytes.len());
        bytes.extend((head.len() as u32).to_ne_bytes());
        bytes.extend(head);
        bytes.extend(args.bytes);
        let files = [own.parent].into_iter().chain(own.output).chain(args.files).collect();
        Ok(Parcel { bytes, files })
    }

    /// Takes such a parcel apart: what is told, its own files, and the arguments.
    pub(crate) fn unpack(mut parcel: Parcel) -> Option<(Self, Own, Parcel)> {
        let (len, rest) = parcel.bytes.split_first_chunk()?;
        let (head, args) = rest.split_at_checked(u32::from_ne_bytes(*len) as usize)?;
        let bootstrap: Self = postcard::from_bytes(head).ok()?;
        let args = args.to_vec();
        let mut files = parcel.files.drain(..);
        let own = Own { parent: files.next()?, output: if bootstrap.has_output { Some(files.next()?) } else { None } };
        let files = files.collect();
        Some((bootstrap, own, Parcel { bytes: args, files }))
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
        let (what, bytes, files) = match self {
            Self::Value(Parcel { bytes, files }) => (VALUE, bytes, files),
            Self::Panicked(message) => (PANICKED, message.into_bytes(), Vec::new()),
            Self::Failed(what) => (FAILED, what.into_bytes(), Vec::new()),
        };
        let mut all = Vec::with_capacity(1 + bytes.len());
        all.push(what);
        all.extend(bytes);
        Parcel { bytes: all, files }
    }

    pub(crate) fn of_parcel(mut parcel: Parcel) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match parcel.bytes.split_first() {
            Some((&VALUE, _)) => {
                parcel.bytes.remove(0);
                Self::Value(parcel)
            }
            Some((&PANICKED, message)) => Self::Panicked(text(message)),
            Some((&FAILED, what)) => Self::Failed(text(what)),
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
        for len in 0..parcel.bytes.len() - 1 {
            let cut = Parcel { bytes: parcel.bytes[..len].to_vec(), files: vec![null()] };
            assert!(Bootstrap::unpack(cut).is_none(), "{len} bytes");
        }
        let (unpacked, _, args) = Bootstrap::unpack(parcel).expect("what was packed");
        assert_eq!((unpacked, args.bytes), (bootstrap, vec![5]));
    }
}
