//! A participant that stands for a process which is yet to come.
//!
//! Something in a region can be kept for a process that does not take part yet, and may die before it does. The thing is held under the token
//! of a placeholder meanwhile. That stands in the participant table like a process, and is alive as long as somebody has its **file**: a
//! descriptor of the region's file with a shared lock on the byte of the entry, which can be inherited or sent. The kernel ends the lock
//! with the last descriptor, wherever that is: in a child that is killed before it does anything, in a message that nobody has received.
//! A placeholder has no keeper, so others look for its death every 10 ms, as they do for that of a process without one.
//!
//! # Handing over
//!
//! A descriptor that a process passes on is shared: the lock would last as long as any copy of it, also one that a forked child does not know
//! of. So each way to hand over opens the file anew, takes the lock there, too, and only then gives it up here: there is no moment without it.
//!
//! # A kill at each point
//!
//! * while it is made: before the token is in the table, the entry is free again; after that, the placeholder is dead;
//! * while it is handed over: who has the lock by then, has it; if nobody has, the placeholder is dead;
//! * after its successor has taken the thing over: the placeholder is dead, and nothing is held under its token.

use core::sync::atomic::AtomicBool;
use core::sync::atomic::Ordering::{AcqRel, Acquire, Release};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::process::Command;

use crate::crash_point;
use crate::error::{Error, Result};
use crate::identity::{self, Token};
use crate::mapped::Mapped;
use crate::participants::{Card, NAME_LEN, UNWATCHED};
use crate::region::Region;
use crate::registry::ensure_token;
use crate::sys::file::{self, Lock};
use crate::sys::passing::{self, Patience};
use crate::sys::process::random;

/// What stands in the table in the place of a process name.
const NAME: &[u8] = b"(expected)";

/// A participant that stands for a process which is yet to come. For `shmkit-channel`, and not covered by semantic versioning.
///
/// Dropped where it is, it leaves the region.
#[derive(Debug)]
pub struct Placeholder {
    region: Region,
    index: usize,
    token: Token,
    /// Keeps it alive. `None`: it has been handed over.
    file: Option<OwnedFd>,
    /// The process that has it.
    held_by: Token,
    /// Another file keeps it alive, on its way to whoever is to have it.
    is_handed_over: AtomicBool,
}

impl Placeholder {
    /// A new one among the participants of `region`.
    #[allow(clippy::missing_errors_doc, reason = "those of attaching")]
    pub fn new(region: &Region) -> Result<Self> {
        let held_by = ensure_token()?;
        let participants = region.mapped().participants();
        let token = loop {
            let mut bits = [0];
            random(&mut bits)?;
            if let Some(token) = Token::first(bits[0]).filter(|token| !participants.is_known(*token)) {
                break token;
            }
        };
        let capacity = region.capacity() as u32;
        let claim = region.mapped().claim()?.ok_or(Error::TooManyParticipants { capacity })?;
        crash_point!("placeholder.new.after_claim");
        // From now on it is the file that has the claim. Shared: so the next holder can have it before this one gives it up.
        file::try_lock(&claim.file, Mapped::claim_byte(claim.index), Lock::Shared)?;
        drop(claim.anchor);
        let mut name = [0; NAME_LEN];
        name[..NAME.len()].copy_from_slice(NAME);
        participants.attach(claim.index, &Card { token, liveness: UNWATCHED, pid: 0, pid_namespace: 0, name });
        crash_point!("placeholder.new.after_attach");
        Ok(Self {
            region: region.clone(),
            index: claim.index,
            token,
            file: Some(claim.file),
            held_by,
            is_handed_over: AtomicBool::new(false),
        })
    }

    /// Opens the region of the placeholder that `file` may be the file of. It stays untouched, whatever it is.
    #[allow(clippy::missing_errors_doc, reason = "those of opening by descriptor")]
    pub fn region_of(file: BorrowedFd<'_>) -> Result<Region> {
        // Some files do something when they are opened, and a close takes away the locks of their owner. Those that can be sealed do not.
        if !file::is_sealed(file) {
            return Err(Error::NotSealed);
        }
        // The lock must not be held by the file that the region keeps.
        let anew = file::reopen(file, file::status(file)?.id, None)?;
        Region::from_fd(anew)
    }

    /// The placeholder that `file` keeps alive in `region`; `None` if it is not alive any more.
    #[allow(clippy::missing_errors_doc, reason = "those of attaching")]
    pub fn of_file(region: Region, file: OwnedFd, token: Token) -> Result<Option<Self>> {
        let held_by = ensure_token()?;
        let index = region.mapped().participants().index_of(token);
        Ok(index.map(|index| Self {
            region,
            index,
            token,
            file: Some(file),
            held_by,
            is_handed_over: AtomicBool::new(false),
        }))
    }

    /// Takes possession of an inherited descriptor, so that no child inherits it from here.
    ///
    /// # Safety
    ///
    /// Nobody else in this process owns it.
    #[allow(clippy::missing_errors_doc, reason = "if it is not open")]
    pub unsafe fn adopt(number: RawFd) -> io::Result<OwnedFd> {
        // SAFETY: the caller's obligation.
        unsafe { passing::adopt(number) }
    }

    /// The token that things are held under for whoever comes.
    pub fn token(&self) -> Token {
        self.token
    }

    /// Where it takes part.
    pub fn region(&self) -> &Region {
        &self.region
    }

    /// Whether it is the calling process that has it; not so in a forked child of the one that does.
    pub fn is_own(&self) -> bool {
        identity::is_own(self.held_by)
    }

    /// A file that keeps it alive in the place of its own, to be sent to whoever is to have it. Only the first call gives one: from then on, it
    /// is not here any more.
    #[allow(clippy::missing_errors_doc, reason = "no more descriptors")]
    pub fn hand_over(&self) -> io::Result<Option<OwnedFd>> {
        let Some(file) = self.file.as_ref().filter(|_| !self.is_handed_over.swap(true, AcqRel)) else {
            return Ok(None);
        };
        let byte = Mapped::claim_byte(self.index);
        let handed = || {
            let anew = file::reopen(file, file::status(file)?.id, None)?;
            file::try_lock(&anew, byte, Lock::Shared)?;
            crash_point!("placeholder.hand_over.after_lock");
            file::unlock(file, byte)?;
            Ok(anew)
        };
        handed().map(Some).inspect_err(|_| self.is_handed_over.store(false, Release))
    }

    /// Whether it has been [handed over](Self::hand_over).
    pub fn is_handed_over(&self) -> bool {
        self.is_handed_over.load(Acquire)
    }

    /// Hands it over to what `command` starts, with other descriptors; returns the numbers that its own and they have there.
    #[allow(clippy::missing_errors_doc, reason = "no more descriptors")]
    pub fn hand_to(mut self, command: &mut Command, others: Vec<OwnedFd>) -> io::Result<(RawFd, Vec<RawFd>)> {
        let byte = Mapped::claim_byte(self.index);
        let file = self.file.take().ok_or(io::ErrorKind::NotFound)?;
        let number = passing::inherit(command, file, byte)?;
        let others = others.into_iter().map(|other| passing::inherit_shared(command, other));
        Ok((number, others.collect::<io::Result<_>>()?))
    }

    /// Sends it over a Unix socket, with `bytes` and other descriptors. It stays here if that fails.
    #[allow(clippy::missing_errors_doc, reason = "those of the socket")]
    pub fn send(&mut self, socket: BorrowedFd<'_>, bytes: &[u8], others: &[BorrowedFd<'_>]) -> io::Result<()> {
        let byte = Mapped::claim_byte(self.index);
        let Some(file) = &self.file else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let anew = file::reopen(file, file::status(file)?.id, None)?;
        file::try_lock(&anew, byte, Lock::Shared)?;
        crash_point!("placeholder.send.after_lock");
        passing::send(socket, bytes, &[&[anew.as_fd()], others].concat(), Patience::Some)?;
        crash_point!("placeholder.send.after_send");
        file::unlock(file, byte)?;
        self.file = None;
        Ok(())
    }

    /// Receives what was sent with one: bytes, its file, and so many other descriptors. `Ok(Err(_))` says what is wrong with what came.
    #[allow(clippy::missing_errors_doc, reason = "those of the socket; nothing was received then")]
    pub fn receive(
        socket: BorrowedFd<'_>,
        bytes: &mut [u8],
        others: usize,
    ) -> io::Result<Result<(OwnedFd, Vec<OwnedFd>), &'static str>> {
        let mut received = passing::receive(socket, bytes)?;
        if received.bytes == 0 {
            return Ok(Err("the other side has closed the socket"));
        }
        if received.bytes < bytes.len() {
            return Ok(Err("the message ends too early"));
        }
        if received.files.is_empty() {
            return Ok(Err("no descriptor came with the message"));
        }
        if received.is_cut || received.files.len() != 1 + others {
            return Ok(Err("another number of descriptors came with the message"));
        }
        let others = received.files.split_off(1);
        Ok(received.files.pop().map(|file| (file, others)).ok_or("no descriptor came with the message"))
    }
}

impl Drop for Placeholder {
    fn drop(&mut self) {
        let Some(file) = self.file.take() else {
            return;
        };
        if self.is_own() && !self.is_handed_over() {
            self.region.mapped().participants().leave(self.index, self.token);
            crash_point!("placeholder.drop.after_leave");
            // Forked children may have a copy of the descriptor. If this fails, the entry is free when they have ended.
            let _ = file::unlock(&file, Mapped::claim_byte(self.index));
        }
    }
}
