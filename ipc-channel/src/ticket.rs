//! Tickets: the other end of a channel that has no name, on its way to whoever is to have it.
//!
//! An end that a ticket is for is reserved under the token of a [`Placeholder`], whose file is what travels; see there for how it is handed over,
//! and what keeps it alive. Whoever takes the end exchanges that token for its own, in each word of the end, and then lets the placeholder
//! leave.
//!
//! # What travels
//!
//! ```text
//! environment: SHMKIT_TICKET_name = "<descriptor> <token> <bell> ..."   in hexadecimal, and the descriptors under those numbers
//! socket:      | "shmkit" 0 2 (8) | token (8) |                         with the descriptors
//! parcel:      number of the file, token, numbers of the bells                    by serde, see `shmkit_core::transfer`
//! ```
//!
//! For each way of the channel there is a [bell](crate::bell), which both ends have.
//!
//! # A kill at each point
//!
//! * while the ends are reserved: the one who has the first end is the one who is killed;
//! * in [`Ticket::take`], before the exchange: the placeholder dies with its file; after it, the end is that of a dead. Of the two ways of
//!   a pipe, either may be the case, and both are gone.
//!
//! # Garbage
//!
//! Neither the variable nor the message is believed: the descriptor must be that of a sealed region, with a channel of the right type in
//! it, whose end is reserved under that token, which stands in the participant table. A wrong variable leaves the descriptor alone, which then
//! may be anybody's.

use core::fmt;
use core::marker::PhantomData;
use std::collections::BTreeSet;
use std::env;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

use shmkit_core::identity::Token;
#[cfg(feature = "serde")]
use shmkit_core::transfer;
use shmkit_core::{Error, Placeholder, Region};

use crate::bell::Bell;
use crate::endpoint::sealed::{OnTicket, Role};
use crate::endpoint::{Endpoint, NAME};
use crate::error::{OpenError, SendError};

/// What a variable of a ticket begins with.
const PREFIX: &str = "SHMKIT_TICKET_";

/// What a message with a ticket begins with. The last byte is its version.
const MAGIC: [u8; 8] = *b"shmkit\0\x02";

/// The names under which this process has taken something up, and the descriptors that it has found there: no two variables are for the same ones.
static TAKEN_UP: Mutex<(BTreeSet<String>, BTreeSet<RawFd>)> = Mutex::new((BTreeSet::new(), BTreeSet::new()));

/// The end `E` of a channel that [has no name](crate::ChannelOptions::pair), for one who takes it: this process, a child that inherits the
/// ticket, or a process that it is sent to over a Unix socket.
///
/// As long as somebody could still take the end, the other side waits for it. When nobody can any more, it learns that the other end is
/// gone: at once if the ticket is dropped, within some 10 milliseconds if it is lost in any other way, such as with a child that is killed before
/// it has taken the end, or with a socket that is closed before the ticket has been received.
///
/// Two things are not covered. A process that has the ticket and lives on, but never takes the end, keeps the other side waiting. And a
/// child that is forked, without `exec`, by a process that has inherited or received a ticket has a copy of it without knowing: if the
/// process is then killed before it has taken the end, this is noticed only when that child has ended, too.
///
/// # Examples
///
/// ```no_run
/// use shmkit_channel::{ChannelOptions, Endpoint, Pipe};
/// use std::process::Command;
///
/// // A process starts another one ...
/// let (mut jobs, ticket) = ChannelOptions::new().pair::<Pipe<u64>>()?;
/// let mut worker = Command::new("worker");
/// ticket.inherit(&mut worker, "jobs")?;
/// let mut worker = worker.spawn()?;
/// jobs.send(17)?;
///
/// // ... which finds the other end of the pipe:
/// let mut jobs = Pipe::<u64>::inherited("jobs")?;
/// while let Ok(job) = jobs.recv() {
///     // ...
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Ticket<E: Endpoint> {
    /// `None`: it has been handed over. Boxed, since an error may bring the ticket back.
    placeholder: Option<Box<Placeholder>>,
    bells: Box<[Arc<Bell>]>,
    _end: PhantomData<fn() -> E>,
}

impl<E: Endpoint> Ticket<E> {
    /// Reserves the second end of the channel in `region`.
    pub(crate) fn new(region: &Region, bells: Box<[Arc<Bell>]>) -> Result<Self, OpenError> {
        let ticket = Self::of(Placeholder::new(region)?, bells);
        E::on_ticket(region, NAME, ticket.held()?.token(), OnTicket::Reserve)?;
        Ok(ticket)
    }

    fn of(placeholder: Placeholder, bells: Box<[Arc<Bell>]>) -> Self {
        Self { placeholder: Some(Box::new(placeholder)), bells, _end: PhantomData }
    }

    /// Takes the end in this process.
    ///
    /// # Crash safety
    ///
    /// A process that is killed in this has the end or not. Either way, the other side learns that it is gone.
    ///
    /// # Errors
    ///
    /// [`OpenError::Taken`] or [`OpenError::Closed`] if another process with the same ticket was faster, which only a child inherited by
    /// can be; [`OpenError::Failed`], with [`Error::Forked`] in a forked child of the process that has the ticket.
    pub fn take(self) -> Result<E, OpenError> {
        let held = self.held()?;
        let mut end = E::claim_reserved(held.region(), NAME, held.token())?;
        end.carry(&self.bells, Role::Second);
        Ok(end)
    }

    /// Lets the process that `command` starts have the end: there, [`E::inherited(name)`](Endpoint::inherited) takes it.
    ///
    /// A command can have several tickets, under different names. Other children do not inherit it, also such as are started by other threads
    /// meanwhile. A command that starts several processes leaves it to the first one that takes the end; it does not do so once the first
    /// process has died, since then the end is gone.
    ///
    /// The name travels in the environment, as `SHMKIT_TICKET_` and the name, and the file under the descriptor that it has here: a command
    /// that clears its environment afterwards, or puts something else under that number, does not hand it over.
    ///
    /// # Errors
    ///
    /// [`OpenError::Failed`] with [`Error::InvalidName`] if the name cannot be that of a variable, with [`Error::Forked`], or with
    /// [`Error::Io`]. The end is closed then.
    pub fn inherit(mut self, command: &mut Command, name: &str) -> Result<(), OpenError> {
        let variable = variable(name)?;
        let token = self.held()?.token().word();
        let Some(placeholder) = self.placeholder.take() else {
            return Err(Error::Forked.into());
        };
        let bells = self.bells.iter().map(|bell| bell.as_fd().try_clone_to_owned());
        let bells = bells.collect::<io::Result<_>>().map_err(Error::from)?;
        let (number, bells) = placeholder.hand_to(command, bells).map_err(Error::from)?;
        let bells: String = bells.iter().map(|bell| format!(" {bell:x}")).collect();
        command.env(variable, format!("{number:x} {token:x}{bells}"));
        Ok(())
    }

    /// The ticket that the process which has started this one has [let it inherit](Self::inherit) under `name`.
    ///
    /// What this process starts from then on does not inherit it; what it started before might.
    ///
    /// # Errors
    ///
    /// [`OpenError::NoTicket`] if there is none, if it has been asked for before, or if it is for the other end of the channel;
    /// [`OpenError::Taken`] and [`OpenError::Closed`] if another process has taken it; [`OpenError::Failed`], with
    /// [`Error::WrongType`] if the channel is for other messages, or of another kind. One who has asked for the wrong end or type can ask again.
    pub fn inherited(name: &str) -> Result<Self, OpenError> {
        // While it is locked, nobody else finds the same descriptor.
        let mut taken_up = TAKEN_UP.lock().unwrap_or_else(PoisonError::into_inner);
        let (names, numbers) = &mut *taken_up;
        if names.contains(name) {
            return Err(no_ticket("this process has taken it already"));
        }
        let value = env::var(variable(name)?).map_err(|_| no_ticket("nothing was inherited under this name"))?;
        let (number, token, bells) = parse(&value).ok_or(no_ticket("the variable does not say where it is"))?;
        let all: BTreeSet<RawFd> = bells.iter().copied().chain([number]).collect();
        if !all.is_disjoint(numbers) {
            return Err(no_ticket("its descriptors belong to another ticket"));
        }
        let is_open = std::fs::symlink_metadata(format!("/proc/self/fd/{number}")).is_ok();
        if !is_open {
            return Err(no_ticket("its descriptor is not open"));
        }
        // SAFETY: it is open, as was just seen. Should another thread close it meanwhile, which has no business with it, nothing worse comes
        // of it than looking at another file, or none.
        let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
        let region = Self::look_at(borrowed, token)?;
        let is_whole = bells.len() == E::WAYS && BTreeSet::from_iter(&bells).len() == bells.len();
        if !is_whole || !bells.iter().all(|bell| Bell::is_one(*bell)) {
            return Err(no_ticket("its bells are not there"));
        }
        // SAFETY: the file is that of a region in which this token stands for an end that is to be taken by whoever was given that very
        // descriptor. Nobody in this process has been yet: the number is noted below, under the lock.
        let file = unsafe { Placeholder::adopt(number) }.map_err(Error::from)?;
        // SAFETY: as for the file; whoever has written the variable has given these along.
        let bells = bells.into_iter().map(|bell| unsafe { Placeholder::adopt(bell) });
        let bells = bells.collect::<io::Result<_>>().map_err(Error::from)?;
        names.insert(name.to_owned());
        numbers.extend(all);
        Self::with(region, file, token, bells)
    }

    /// Sends the ticket over a Unix socket, for one who [receives](Self::receive) it there.
    ///
    /// # Blocking
    ///
    /// While the socket is full, unless it is non-blocking.
    ///
    /// # Errors
    ///
    /// [`SendError::Full`] if the socket is full and non-blocking, [`SendError::Disconnected`] if its other side is closed or the ticket has been
    /// handed over in another way,
    /// [`SendError::Failed`]; each gives the ticket back.
    pub fn send(mut self, socket: &UnixStream) -> Result<(), SendError<Self>> {
        let mut message = [0; 16];
        message[..8].copy_from_slice(&MAGIC);
        let sent = match self.held() {
            Ok(held) => {
                message[8..].copy_from_slice(&held.token().word().to_le_bytes());
                let bells: Vec<_> = self.bells.iter().map(|bell| bell.as_fd()).collect();
                self.placeholder.as_mut().map_or(Ok(()), |held| held.send(socket.as_fd(), &message, &bells))
            }
            Err(OpenError::Failed(error)) => return Err(SendError::Failed { message: self, error }),
            Err(_) => return Err(SendError::Disconnected(self)),
        };
        match sent {
            Ok(()) => {
                self.placeholder = None;
                Ok(())
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Err(SendError::Full(self)),
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Err(SendError::Disconnected(self)),
            Err(error) => Err(SendError::Failed { message: self, error: error.into() }),
        }
    }

    /// Receives a ticket from a Unix socket, which must be the next thing that comes there.
    ///
    /// # Blocking
    ///
    /// Until it comes, unless the socket is non-blocking or has a time-out.
    ///
    /// # Errors
    ///
    /// [`OpenError::Failed`] with [`Error::Io`] if there is nothing to receive, and nothing has been; [`OpenError::NoTicket`] if the
    /// other side is closed, or something else has come, which is lost; otherwise as for [`inherited`](Self::inherited), and the ticket is lost.
    pub fn receive(socket: &UnixStream) -> Result<Self, OpenError> {
        let mut message = [0; 16];
        let received = Placeholder::receive(socket.as_fd(), &mut message, E::WAYS).map_err(Error::from)?;
        let (file, bells) = received.map_err(no_ticket)?;
        let (magic, token) = message.split_at(8);
        let token = token.try_into().ok().and_then(|token| Token::from_word(u64::from_le_bytes(token)));
        let token = token.filter(|_| magic == MAGIC).ok_or(no_ticket("the message is something else"))?;
        let region = Self::look_at(file.as_fd(), token)?;
        Self::with(region, file, token, bells)
    }

    /// Looks whether `file` is that of a ticket for this kind of end.
    fn look_at(file: BorrowedFd<'_>, token: Token) -> Result<Region, OpenError> {
        let region = Placeholder::region_of(file)?;
        E::on_ticket(&region, NAME, token, OnTicket::Check)?;
        Ok(region)
    }

    fn with(region: Region, file: OwnedFd, token: Token, bells: Vec<OwnedFd>) -> Result<Self, OpenError> {
        let bells = bells.into_iter().map(|bell| Bell::of_file(bell).map(Arc::new)).collect::<Option<_>>();
        let bells = bells.ok_or(no_ticket("what came in the place of a bell is none"))?;
        // If it is dead, so is the end, for the other side.
        let placeholder = Placeholder::of_file(region, file, token)?.ok_or(OpenError::Taken)?;
        Ok(Self::of(placeholder, bells))
    }

    /// What the ticket consists of, for the process that has it.
    fn held(&self) -> Result<&Placeholder, OpenError> {
        let held = self.placeholder.as_deref().filter(|held| held.is_own()).ok_or(Error::Forked)?;
        if held.is_handed_over() {
            return Err(no_ticket("it has been handed over to another process"));
        }
        Ok(held)
    }
}

/// Only [on its way](shmkit_core::transfer) to another process: that hands it over, and it is not here any more. If it does not get there, the end is lost.
#[cfg(feature = "serde")]
impl<E: Endpoint> serde::Serialize for Ticket<E> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let refused = |error: &dyn fmt::Display| serde::ser::Error::custom(transfer::refuse(error));
        // Before it is handed over.
        transfer::ensure_packing().map_err(|error| refused(&error))?;
        let held = self.held().map_err(|error| refused(&error))?;
        let bells = self.bells.iter().map(|bell| bell.as_fd().try_clone_to_owned());
        let bells = bells.collect::<io::Result<Vec<_>>>().map_err(|error| refused(&error))?;
        let file = held.hand_over().map_err(|error| refused(&error))?;
        let file = file.ok_or_else(|| refused(&"the ticket has been handed over already"))?;
        let number = transfer::add(file).map_err(|error| refused(&error))?;
        let bells = bells.into_iter().map(transfer::add).collect::<Result<Vec<_>, _>>();
        let bells = bells.map_err(|error| refused(&error))?;
        (number, held.token().word(), bells).serialize(serializer)
    }
}

/// Only where it has come from another process.
#[cfg(feature = "serde")]
impl<'de, E: Endpoint> serde::Deserialize<'de> for Ticket<E> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let refused = |error: &dyn fmt::Display| serde::de::Error::custom(transfer::refuse(error));
        let (number, token, bells) = <(u32, u64, Vec<u32>)>::deserialize(deserializer)?;
        let token = Token::from_word(token).ok_or_else(|| refused(&"a ticket without a token"))?;
        let file = transfer::take(number).map_err(|error| refused(&error))?;
        let region = Self::look_at(file.as_fd(), token).map_err(|error| refused(&error))?;
        if bells.len() != E::WAYS {
            return Err(refused(&"a ticket with another number of bells than there are ways"));
        }
        let bells = bells.into_iter().map(transfer::take).collect::<Result<_, _>>().map_err(|error| refused(&error))?;
        Self::with(region, file, token, bells).map_err(|error| refused(&error))
    }
}

impl<E: Endpoint> Drop for Ticket<E> {
    fn drop(&mut self) {
        if let Ok(held) = self.held() {
            // What has been taken is not closed. If the region is scribbled over, the placeholder's death tells the same.
            let _ = E::on_ticket(held.region(), NAME, held.token(), OnTicket::Close);
        }
    }
}

impl<E: Endpoint> fmt::Debug for Ticket<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket").finish_non_exhaustive()
    }
}

fn variable(name: &str) -> Result<String, Error> {
    if name.is_empty() {
        Err(Error::InvalidName { what: "is empty" })
    } else if name.contains(['=', '\0']) {
        Err(Error::InvalidName { what: "cannot be part of the name of a variable" })
    } else {
        Ok(format!("{PREFIX}{name}"))
    }
}

/// The descriptor, the token, and the descriptors of the bells, in a variable.
fn parse(value: &str) -> Option<(RawFd, Token, Vec<RawFd>)> {
    let number = |text: &str| RawFd::from_str_radix(text, 16).ok().filter(|number| *number >= 0);
    let mut words = value.split(' ');
    let file = number(words.next()?)?;
    let token = Token::from_word(u64::from_str_radix(words.next()?, 16).ok()?)?;
    Some((file, token, words.map(number).collect::<Option<_>>()?))
}

fn no_ticket(what: &'static str) -> OpenError {
    OpenError::NoTicket { what }
}
