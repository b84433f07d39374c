//! What glibc and the kernel have, and their like, and what their victims and survivors do.

use std::cell::{Cell, RefCell};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::thread;

use super::other;
use crate::baton::Baton;
use crate::clock::monotonic_ns;
use crate::janitor;
use crate::killed::{Doomed, Ended};
use crate::lock::{LockUnderTest, RobustLock, SharedLock};
use crate::peers::barrier;
use crate::peers::descriptors::pipe;
use crate::peers::sem::Semaphores;
use crate::pthread::{Plain, Robust};
use crate::shared::address_of;
use crate::team::{Place, Play, Seat};

/// A pthread mutex.
pub(super) struct Locked<L>(L);

impl<L: SharedLock> Place for Locked<L> {
    fn create(_: usize) -> io::Result<Self> {
        L::create().map(Locked)
    }

    fn address(&self) -> String {
        self.0.address()
    }

    fn attach(address: &str) -> io::Result<Self> {
        L::attach(address).map(Locked)
    }
}

impl Doomed for Locked<Plain> {
    fn fall(&self, here: &dyn Fn()) -> io::Result<()> {
        std::mem::forget(self.0.lock());
        here();
        Ok(())
    }

    fn go_on(&self) -> io::Result<Ended> {
        drop(self.0.lock());
        Ok(Ended::GoesOn)
    }
}

impl Doomed for Locked<Robust> {
    fn fall(&self, here: &dyn Fn()) -> io::Result<()> {
        std::mem::forget(self.0.lock());
        here();
        Ok(())
    }

    fn go_on(&self) -> io::Result<Ended> {
        match self.0.take_over(|| 0)?.owner_died {
            true => Ok(Ended::GoesOn),
            false => Err(other("nobody has died")),
        }
    }
}

/// The only permit of a semaphore of glibc.
pub(super) struct Permit(Semaphores);

impl Place for Permit {
    fn create(_: usize) -> io::Result<Self> {
        Semaphores::with(1).map(Permit)
    }

    fn address(&self) -> String {
        self.0.address()
    }

    fn attach(address: &str) -> io::Result<Self> {
        Semaphores::attach(address).map(Permit)
    }
}

impl Doomed for Permit {
    fn fall(&self, here: &dyn Fn()) -> io::Result<()> {
        self.0.wait(0);
        here();
        Ok(())
    }

    fn go_on(&self) -> io::Result<Ended> {
        self.0.wait(0);
        Ok(Ended::GoesOn)
    }
}

/// One that waits for a word of its own, and is given it.
pub(super) struct Handed<B>(B);

impl<B: Baton> Place for Handed<B> {
    fn create(members: usize) -> io::Result<Self> {
        B::create(members).map(Handed)
    }

    fn address(&self) -> String {
        self.0.address()
    }

    fn attach(address: &str) -> io::Result<Self> {
        B::attach(address).map(Handed)
    }
}

impl<B: Baton + Sync> Doomed for Handed<B> {
    fn fall(&self, here: &dyn Fn()) -> io::Result<()> {
        here();
        self.0.take(0);
        Ok(())
    }

    fn go_on(&self) -> io::Result<Ended> {
        thread::scope(|scope| {
            scope.spawn(|| self.0.take(0));
            self.0.give(0);
        });
        Ok(Ended::GoesOn)
    }
}

/// One that waits for a word which only the victim would have given.
pub(super) struct Owed<B>(B);

impl<B: Baton> Place for Owed<B> {
    fn create(members: usize) -> io::Result<Self> {
        B::create(members).map(Owed)
    }

    fn address(&self) -> String {
        self.0.address()
    }

    fn attach(address: &str) -> io::Result<Self> {
        B::attach(address).map(Owed)
    }
}

impl<B: Baton> Doomed for Owed<B> {
    fn fall(&self, here: &dyn Fn()) -> io::Result<()> {
        here();
        Ok(())
    }

    fn go_on(&self) -> io::Result<Ended> {
        self.0.take(0);
        Ok(Ended::GoesOn)
    }
}

/// A pthread barrier for three.
pub(super) struct Round(barrier::Pthread);

impl Place for Round {
    fn create(_: usize) -> io::Result<Self> {
        barrier::Pthread::create(3).map(Round)
    }

    fn address(&self) -> String {
        self.0.address()
    }

    fn attach(address: &str) -> io::Result<Self> {
        barrier::Pthread::attach(address).map(Round)
    }
}

impl Doomed for Round {
    fn fall(&self, here: &dyn Fn()) -> io::Result<()> {
        here();
        self.0.play(Seat { member: 0, members: 3, cpus: [0, 0] }, 1);
        Ok(())
    }

    fn go_on(&self) -> io::Result<Ended> {
        self.0.play(Seat { member: 1, members: 3, cpus: [0, 0] }, 1);
        Ok(Ended::GoesOn)
    }
}

/// A pipe(2), whose ends victim and survivor open through `/proc`: nobody else has them when one dies.
pub(super) struct Bytes {
    made: RefCell<Vec<File>>,
    address: String,
    reading: Cell<Option<File>>,
}

impl Bytes {
    fn path(&self, end: usize) -> io::Result<&str> {
        self.address.split(',').nth(end).ok_or(io::ErrorKind::InvalidInput.into())
    }
}

impl Place for Bytes {
    fn create(_: usize) -> io::Result<Self> {
        let made: Vec<File> = pipe()?.into_iter().map(File::from).collect();
        let address = made.iter().map(address_of).collect::<Vec<_>>().join(",");
        Ok(Bytes { made: RefCell::new(made), address, reading: Cell::new(None) })
    }

    fn address(&self) -> String {
        self.address.clone()
    }

    fn attach(address: &str) -> io::Result<Self> {
        Ok(Bytes { made: RefCell::default(), address: address.into(), reading: Cell::new(None) })
    }
}

impl Doomed for Bytes {
    fn prepare(&self) -> io::Result<()> {
        self.reading.set(Some(File::open(self.path(0)?)?));
        Ok(())
    }

    fn fall(&self, here: &dyn Fn()) -> io::Result<()> {
        let writing = OpenOptions::new().write(true).open(self.path(1)?)?;
        write_for_ever(writing, here)
    }

    fn leave(&self) {
        self.made.borrow_mut().clear();
    }

    fn go_on(&self) -> io::Result<Ended> {
        read_to_the_end(self.reading.take().ok_or(io::ErrorKind::NotFound)?)
    }
}

/// A Unix stream socket, with an abstract name.
pub(super) struct Stream {
    name: String,
    listener: Cell<Option<UnixListener>>,
}

impl Stream {
    fn with(name: String) -> Self {
        Stream { name, listener: Cell::new(None) }
    }

    fn socket_address(&self) -> io::Result<SocketAddr> {
        SocketAddr::from_abstract_name(&self.name)
    }
}

impl Place for Stream {
    fn create(_: usize) -> io::Result<Self> {
        Ok(Stream::with(janitor::own_name(monotonic_ns())))
    }

    fn address(&self) -> String {
        self.name.clone()
    }

    fn attach(address: &str) -> io::Result<Self> {
        Ok(Stream::with(address.into()))
    }
}

impl Doomed for Stream {
    fn prepare(&self) -> io::Result<()> {
        self.listener.set(Some(UnixListener::bind_addr(&self.socket_address()?)?));
        Ok(())
    }

    fn fall(&self, here: &dyn Fn()) -> io::Result<()> {
        write_for_ever(UnixStream::connect_addr(&self.socket_address()?)?, here)
    }

    fn go_on(&self) -> io::Result<Ended> {
        let (reading, _) = self.listener.take().ok_or(io::ErrorKind::NotFound)?.accept()?;
        read_to_the_end(reading)
    }
}

fn write_for_ever(mut to: impl Write, here: &dyn Fn()) -> io::Result<()> {
    here();
    loop {
        to.write_all(&[7; 4096])?;
    }
}

fn read_to_the_end(mut from: impl Read) -> io::Result<Ended> {
    let mut buffer = [0; 4096];
    while from.read(&mut buffer)? > 0 {}
    Ok(Ended::Told("end of file".into()))
}
