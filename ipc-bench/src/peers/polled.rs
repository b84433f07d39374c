//! The kernel's ways of waiting for descriptors before they are read: poll(2) for several, and epoll(7) as event loops do.
//!
//! Used as their manuals say: poll gets the list of descriptors with each call; epoll is told once, looks at levels, and
//! is asked for one event.

use std::cell::OnceCell;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use super::descriptors::{Pipes, Sockets};
use super::eventfd::Counters;
use crate::baton::Baton;
use crate::message::{Carrier, Receiving};
use crate::team::Place;

/// The name of [`Polled`] in results.
pub const POLL: &str = "eventfd, poll";
/// The name of [`EventLoop`] with [`Counters`] in results.
pub const EVENTFD: &str = "eventfd, epoll";
/// The name of [`EventLoop`] with [`Pipes`] in results.
pub const PIPE: &str = "pipe(2), epoll";
/// The name of [`EventLoop`] with [`Sockets`] in results.
pub const SOCKET: &str = "UnixStream, epoll";

/// Counters, of which one that is never written to is waited for besides one's own.
pub struct Polled(Counters);

impl Place for Polled {
    fn create(members: usize) -> io::Result<Self> {
        Counters::create(members + 1).map(Polled)
    }

    fn address(&self) -> String {
        self.0.address()
    }

    fn attach(address: &str) -> io::Result<Self> {
        Counters::attach(address).map(Polled)
    }
}

impl Baton for Polled {
    fn give(&self, to: usize) {
        self.0.give(to);
    }

    fn take(&self, own: usize) {
        let files = self.0.files();
        let quiet = files.last().expect("one more than members");
        let asked = [quiet, &files[own]];
        let mut asked = asked.map(|file| libc::pollfd { fd: file.as_raw_fd(), events: libc::POLLIN, revents: 0 });
        while asked[1].revents == 0 {
            // SAFETY: both are live and writable for the call.
            let ready = unsafe { libc::poll(asked.as_mut_ptr(), asked.len() as libc::nfds_t, -1) };
            assert!(ready >= 0 || is_interrupted(), "open descriptors");
        }
        self.0.take(own);
    }
}

/// An epoll instance that knows one descriptor.
pub struct Epoll(OwnedFd);

impl Epoll {
    /// Makes one that waits until `descriptor` is readable.
    ///
    /// # Errors
    /// Those of `epoll_create1` and `epoll_ctl`.
    pub fn of(descriptor: BorrowedFd<'_>) -> io::Result<Self> {
        // SAFETY: takes a number and touches no memory.
        let epoll = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if epoll < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just made, and nobody else has it.
        let epoll = unsafe { OwnedFd::from_raw_fd(epoll) };
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: 0 };
        // SAFETY: the event is live for the call, and both descriptors are open.
        let added =
            unsafe { libc::epoll_ctl(epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, descriptor.as_raw_fd(), &mut event) };
        if added != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Epoll(epoll))
    }

    /// Waits until it is readable.
    ///
    /// # Panics
    /// Never, as it is open.
    pub fn wait(&self) {
        let mut event = libc::epoll_event { events: 0, u64: 0 };
        loop {
            // SAFETY: the event is live and writable for the call, and only one is asked for.
            let ready = unsafe { libc::epoll_wait(self.0.as_raw_fd(), &mut event, 1, -1) };
            if ready == 1 {
                return;
            }
            assert!(is_interrupted(), "an open descriptor");
        }
    }
}

fn is_interrupted() -> bool {
    io::Error::last_os_error().kind() == io::ErrorKind::Interrupted
}

/// `C`, where whoever waits does so in an event loop.
pub struct EventLoop<C> {
    carried: C,
    /// Of the member that takes a turn here.
    epoll: OnceCell<Epoll>,
}

impl<C> EventLoop<C> {
    fn with(carried: C) -> Self {
        EventLoop { carried, epoll: OnceCell::new() }
    }
}

impl<C: Place> Place for EventLoop<C> {
    fn create(members: usize) -> io::Result<Self> {
        C::create(members).map(Self::with)
    }

    fn address(&self) -> String {
        self.carried.address()
    }

    fn attach(address: &str) -> io::Result<Self> {
        C::attach(address).map(Self::with)
    }
}

impl Baton for EventLoop<Counters> {
    fn give(&self, to: usize) {
        self.carried.give(to);
    }

    fn take(&self, own: usize) {
        let counter = self.carried.files()[own].as_fd();
        self.epoll.get_or_init(|| Epoll::of(counter).expect("an epoll instance")).wait();
        self.carried.take(own);
    }
}

/// A receiver that is read when the event loop says so.
pub struct Looped<R> {
    epoll: Epoll,
    receiver: R,
}

impl<M: ?Sized, R: Receiving<M>> Receiving<M> for Looped<R> {
    #[inline(always)]
    fn receive(&mut self, message: &mut M) {
        self.epoll.wait();
        self.receiver.receive(message);
    }
}

macro_rules! carrier {
    ($carrier:ty, $end:ty) => {
        impl Carrier<[u8]> for EventLoop<$carrier> {
            type Sender = $end;
            type Receiver = Looped<$end>;

            fn sender(&self, lane: usize) -> io::Result<$end> {
                self.carried.sender(lane)
            }

            fn receiver(&self, lane: usize) -> io::Result<Looped<$end>> {
                let receiver = self.carried.receiver(lane)?;
                Ok(Looped { epoll: Epoll::of(receiver.as_fd())?, receiver })
            }
        }
    };
}

carrier!(Pipes, File);
carrier!(Sockets, UnixStream);
