//! What a worker tells the parent: frames in its own channel.
//!
//! ```text
//! | what: u64 | id of a job: u64, or 0 | ... |
//!
//! what:  1 READY    the initializer is through
//!        2 DONE     followed by an entry for each set of arguments; see `call.rs`
//!        3 WANTED   the arguments of this job are to be delivered
//!        4 FAILED   the initializer has failed; followed by why
//!        5 DAMAGED  what the pool shares makes no sense; followed by what was found
//! ```

use super::job::Id;

/// What comes before everything else in a frame.
pub(super) const HEAD: usize = 16;

/// What a frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    Ready,
    Done(Id),
    Wanted(Id),
    Failed,
    Damaged,
}

const READY: u64 = 1;
const DONE: u64 = 2;
const WANTED: u64 = 3;
const FAILED: u64 = 4;
const DAMAGED: u64 = 5;

impl What {
    /// Begins a frame.
    pub(super) fn begin(self, frame: &mut Vec<u8>) {
        let (what, id) = match self {
            Self::Ready => (READY, 0),
            Self::Done(id) => (DONE, id.word()),
            Self::Wanted(id) => (WANTED, id.word()),
            Self::Failed => (FAILED, 0),
            Self::Damaged => (DAMAGED, 0),
        };
        frame.clear();
        frame.extend(what.to_ne_bytes());
        frame.extend(id.to_ne_bytes());
    }

    /// What a frame says; `None` if it makes no sense. What follows is at [`HEAD`].
    pub(super) fn of(frame: &[u8]) -> Option<Self> {
        let (what, rest) = frame.split_first_chunk()?;
        let (id, _) = rest.split_first_chunk()?;
        let id = Id::of_word(u64::from_ne_bytes(*id));
        match u64::from_ne_bytes(*what) {
            READY => Some(Self::Ready),
            DONE => Some(Self::Done(id)),
            WANTED => Some(Self::Wanted(id)),
            FAILED => Some(Self::Failed),
            DAMAGED => Some(Self::Damaged),
            _ => None,
        }
    }
}

/// The text that follows.
pub(super) fn text(frame: &[u8]) -> String {
    String::from_utf8_lossy(frame.get(HEAD..).unwrap_or_default()).into_owned()
}
