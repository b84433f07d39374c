//! Whose counterparts are killed, and what the others do: ours, and those of glibc, std and the kernel.

use std::cell::{Cell, RefCell};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::marker::PhantomData;
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::process;
use std::sync::atomic::AtomicU32;
use std::thread;
use std::time::Duration;

use shmkit::{
    Barrier, BarrierError, Condvar, Event, LockError, Mutex, Permits, RecvError, RwLock, Semaphore, SendError, ShmSafe,
};

use crate::baton::Baton;
use crate::channels::{OneWay, Shared};
use crate::figure::SUBJECT;
use crate::killed::When::{Holding, Waiting, Writing};
use crate::killed::{Doomed, Ended, Entry, Row};
use crate::lock::{LockUnderTest, RobustLock, SharedLock};
use crate::message::Carrier;
use crate::ours::InRegion;
use crate::peers::barrier;
use crate::peers::condvar;
use crate::peers::descriptors::pipe;
use crate::peers::sem::Semaphores;
use crate::progress;
use crate::pthread::{Plain, Robust};
use crate::team::{Place, Play, Seat};

const GLIBC: &str = "glibc";
const KERNEL: &str = "Linux";
/// How many messages our channels have room for.
const ROOM: usize = 64;

/// All rows, in their order.
pub const ENTRIES: &[Entry] = &[
    Entry::of::<Ours<Mutex<u64>>>(SUBJECT, "Mutex", Holding),
    Entry::of::<Ours<RwLock<u64>>>(SUBJECT, "RwLock, a writer", Holding),
    Entry::of::<Ours<Permits>>(SUBJECT, "Permits", Holding),
    Entry::of::<Ours<Semaphore>>(SUBJECT, "Semaphore (has no owners)", Holding).may_hang(),
    Entry::of::<Waits<Semaphore>>(SUBJECT, "Semaphore", Waiting).asks_later(),
    Entry::of::<Waits<Event>>(SUBJECT, "Event, auto-reset", Waiting).asks_later(),
    Entry::of::<Waits<Flag>>(SUBJECT, "Condvar", Waiting).asks_later(),
    Entry::of::<Parties>(SUBJECT, "Barrier", Waiting),
    Entry::of::<Pipe>(SUBJECT, "Pipe", Writing),
    Entry::of::<Reader>(SUBJECT, "Pipe, the receiver", Waiting).asks_later(),
    Entry::of::<Queue>(SUBJECT, "Queue", Writing).asks_later(),
    Entry::of::<Locked<Plain>>(GLIBC, "pthread mutex", Holding),
    Entry::of::<Locked<Robust>>(GLIBC, "robust pthread mutex", Holding),
    Entry::of::<Permit>(GLIBC, "sem_t", Holding),
    Entry::of::<Handed<Semaphores>>(GLIBC, "sem_t", Waiting).asks_later(),
    Entry::of::<Handed<condvar::Pthread>>(GLIBC, "pthread condvar", Waiting).asks_later(),
    Entry::of::<Round>(GLIBC, "pthread barrier", Waiting),
    Entry::of::<Bytes>(KERNEL, "pipe(2)", Writing),
    Entry::of::<Stream>(KERNEL, "UnixStream", Writing),
];

/// The name of the table in the list of cases.
pub const NAME: &str = "killed";

/// Fills the rows, one after the other, with `kills` kills each, and no survivor waiting for longer than `bound`.
///
/// # Errors
/// The first one, when all other rows are filled.
pub fn run(kills: usize, bound: Duration, mut add: impl FnMut(Row)) -> io::Result<()> {
    let mut result = Ok(());
    for (index, entry) in ENTRIES.iter().enumerate() {
        progress::round(index, ENTRIES.len());
        match entry.run(index, kills, bound) {
            Ok(row) => add(row),
            Err(error) => result = result.and(Err(error)),
        }
    }
    result
}

fn other(what: impl ToString) -> io::Error {
    io::Error::other(what.to_string())
}

/// One of our primitives, with something to hold.
struct Ours<T: Held>(InRegion<T>);

/// What a process can hold.
trait Held: ShmSafe + Sized + 'static {
    fn new() -> Self;

    /// Takes what is never given back.
    fn hold(&self) -> io::Result<()>;

    /// Waits for it, and mends what may be broken.
    fn recover(&self) -> io::Result<Ended>;
}

impl<T: Held> Place for Ours<T> {
    fn create(_: usize) -> io::Result<Self> {
        InRegion::create(1, T::new).map(Ours)
    }

    fn address(&self) -> String {
        self.0.address()
    }

    fn attach(address: &str) -> io::Result<Self> {
        InRegion::attach(address).map(Ours)
    }
}

impl<T: Held> Doomed for Ours<T> {
    fn fall(&self, here: &dyn Fn()) -> io::Result<()> {
        self.0[0].hold()?;
        here();
        Ok(())
    }

    fn go_on(&self) -> io::Result<Ended> {
        self.0[0].recover()
    }
}

impl Held for Mutex<u64> {
    fn new() -> Self {
        Mutex::new(0)
    }

    fn hold(&self) -> io::Result<()> {
        std::mem::forget(self.lock().map_err(other)?);
        Ok(())
    }

    fn recover(&self) -> io::Result<Ended> {
        match self.lock() {
            Err(LockError::Poisoned { guard: _guard, .. }) => {
                self.clear_poison();
                Ok(Ended::GoesOn)
            }
            Ok(_) => Err(other("nobody has died")),
            Err(error) => Err(other(error)),
        }
    }
}

impl Held for RwLock<u64> {
    fn new() -> Self {
        RwLock::new(0)
    }

    fn hold(&self) -> io::Result<()> {
        std::mem::forget(self.write().map_err(other)?);
        Ok(())
    }

    fn recover(&self) -> io::Result<Ended> {
        match self.write() {
            Err(LockError::Poisoned { guard: _guard, .. }) => {
                self.clear_poison();
                Ok(Ended::GoesOn)
            }
            Ok(_) => Err(other("nobody has died")),
            Err(error) => Err(other(error)),
        }
    }
}

impl Held for Permits {
    fn new() -> Self {
        Permits::new(1).expect("so few")
    }

    fn hold(&self) -> io::Result<()> {
        std::mem::forget(self.acquire().map_err(other)?);
        Ok(())
    }

    fn recover(&self) -> io::Result<Ended> {
        drop(self.acquire().map_err(other)?);
        Ok(Ended::GoesOn)
    }
}

impl Held for Semaphore {
    fn new() -> Self {
        Semaphore::new(1).expect("so few")
    }

    fn hold(&self) -> io::Result<()> {
        self.acquire().map_err(other)
    }

    fn recover(&self) -> io::Result<Ended> {
        self.acquire().map_err(other)?;
        Ok(Ended::GoesOn)
    }
}

/// One of our primitives, which one waits for and the other gives: a waiter has died, and the next one must not be
/// forgotten for it.
struct Waits<T: Awaited>(InRegion<T>);

/// What a process can wait for.
trait Awaited: ShmSafe + Sized + Sync + 'static {
    fn new() -> Self;

    /// Waits until it is given.
    fn take(&self) -> io::Result<()>;

    /// Gives it to one.
    fn give(&self) -> io::Result<()>;
}

impl<T: Awaited> Place for Waits<T> {
    fn create(_: usize) -> io::Result<Self> {
        InRegion::create(1, T::new).map(Waits)
    }

    fn address(&self) -> String {
        self.0.address()
    }

    fn attach(address: &str) -> io::Result<Self> {
        InRegion::attach(address).map(Waits)
    }
}

impl<T: Awaited> Doomed for Waits<T> {
    fn fall(&self, here: &dyn Fn()) -> io::Result<()> {
        here();
        self.0[0].take()
    }

    fn go_on(&self) -> io::Result<Ended> {
        let object = &self.0[0];
        thread::scope(|scope| {
            let taken = scope.spawn(|| object.take());
            object.give()?;
            taken.join().map_err(|_| other("a panic"))?
        })?;
        Ok(Ended::GoesOn)
    }
}

impl Awaited for Semaphore {
    fn new() -> Self {
        Semaphore::new(0).expect("so few")
    }

    fn take(&self) -> io::Result<()> {
        self.acquire().map_err(other)
    }

    fn give(&self) -> io::Result<()> {
        self.release().map_err(other)
    }
}

impl Awaited for Event {
    fn new() -> Self {
        Event::auto_reset()
    }

    fn take(&self) -> io::Result<()> {
        self.wait().map_err(other)
    }

    fn give(&self) -> io::Result<()> {
        self.set();
        Ok(())
    }
}

/// A flag under a mutex, and a condition variable for those who wait until it is up.
#[repr(C)]
#[derive(ShmSafe)]
struct Flag {
    is_up: Mutex<u32>,
    raised: Condvar,
    _reserved: AtomicU32,
}

impl Awaited for Flag {
    fn new() -> Self {
        Flag { is_up: Mutex::new(0), raised: Condvar::new(), _reserved: AtomicU32::new(0) }
    }

    fn take(&self) -> io::Result<()> {
        let is_up = self.is_up.lock().map_err(other)?;
        *self.raised.wait_while(is_up, |is_up| *is_up == 0).map_err(other)? = 0;
        Ok(())
    }

    fn give(&self) -> io::Result<()> {
        *self.is_up.lock().map_err(other)? = 1;
        self.raised.notify_one();
        Ok(())
    }
}

/// A barrier for three: victim and survivor wait for one that never comes.
struct Parties(InRegion<Barrier>);

impl Place for Parties {
    fn create(_: usize) -> io::Result<Self> {
        InRegion::create(1, || Barrier::new(3).expect("so few")).map(Parties)
    }

    fn address(&self) -> String {
        self.0.address()
    }

    fn attach(address: &str) -> io::Result<Self> {
        InRegion::attach(address).map(Parties)
    }
}

impl Doomed for Parties {
    fn fall(&self, here: &dyn Fn()) -> io::Result<()> {
        let mut party = self.0[0].join().map_err(other)?;
        here();
        party.wait().map(drop).map_err(other)
    }

    fn go_on(&self) -> io::Result<Ended> {
        let mut party = self.0[0].join().map_err(other)?;
        match party.wait() {
            Err(error @ BarrierError::Broken) => Ok(Ended::Told(error.to_string())),
            Err(error) => Err(other(error)),
            Ok(_) => Err(other("a round of two out of three")),
        }
    }
}

/// A pipe whose sender dies.
struct Pipe(OneWay<ROOM>);

impl Place for Pipe {
    fn create(members: usize) -> io::Result<Self> {
        OneWay::create(members).map(Pipe)
    }

    fn address(&self) -> String {
        self.0.address()
    }

    fn attach(address: &str) -> io::Result<Self> {
        OneWay::attach(address).map(Pipe)
    }
}

impl Doomed for Pipe {
    fn fall(&self, here: &dyn Fn()) -> io::Result<()> {
        let mut sender = Carrier::<u64>::sender(&self.0, 0)?;
        here();
        loop {
            sender.send(7).map_err(other)?;
        }
    }

    fn go_on(&self) -> io::Result<Ended> {
        let mut receiver = Carrier::<u64>::receiver(&self.0, 0)?;
        loop {
            match receiver.recv() {
                Ok(_) => {}
                Err(error @ RecvError::Disconnected) => return Ok(Ended::Told(error.to_string())),
                Err(error) => return Err(other(error)),
            }
        }
    }
}

/// A pipe whose receiver dies.
struct Reader(Pipe);

impl Place for Reader {
    fn create(members: usize) -> io::Result<Self> {
        Pipe::create(members).map(Reader)
    }

    fn address(&self) -> String {
        self.0.address()
    }

    fn attach(address: &str) -> io::Result<Self> {
        Pipe::attach(address).map(Reader)
    }
}

impl Doomed for Reader {
    fn fall(&self, here: &dyn Fn()) -> io::Result<()> {
        // It makes the channel, so that it need not wait for the survivor.
        let mut receiver: shmkit::Receiver<u64> = self.0.0.make_end(0)?;
        here();
        receiver.recv().map(drop).map_err(other)
    }

    fn go_on(&self) -> io::Result<Ended> {
        let mut sender: shmkit::Sender<u64> = match self.0.0.open_end(0) {
            Ok(sender) => sender,
            Err(error) => return Ok(Ended::Told(error.to_string())),
        };
        loop {
            match sender.send(7) {
                Ok(()) => {}
                Err(error @ SendError::Disconnected(_)) => return Ok(Ended::Told(error.to_string())),
                Err(error) => return Err(other(error)),
            }
        }
    }
}

/// A queue of which one of two senders dies.
struct Queue(Shared<ROOM>);

impl Place for Queue {
    fn create(members: usize) -> io::Result<Self> {
        Shared::create(members).map(Queue)
    }

    fn address(&self) -> String {
        self.0.address()
    }

    fn attach(address: &str) -> io::Result<Self> {
        Shared::attach(address).map(Queue)
    }
}

impl Doomed for Queue {
    fn fall(&self, here: &dyn Fn()) -> io::Result<()> {
        let queue = self.0.sender(0)?;
        here();
        loop {
            queue.send(7).map_err(other)?;
        }
    }

    /// Takes what the dead has left, and sends and receives something of its own.
    fn go_on(&self) -> io::Result<Ended> {
        let queue = self.0.sender(0)?;
        while queue.try_recv().is_ok() {}
        queue.send(8).map_err(other)?;
        match queue.recv().map_err(other)? {
            8 => Ok(Ended::GoesOn),
            _ => Err(other("a message that nobody has sent")),
        }
    }
}

/// A pthread mutex.
struct Locked<L>(L);

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
struct Permit(Semaphores);

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
struct Handed<B>(B);

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

/// A pthread barrier for three.
struct Round(barrier::Pthread);

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
struct Bytes {
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
        let paths = made.iter().map(|file| format!("/proc/{}/fd/{}", process::id(), file.as_raw_fd()));
        let address = paths.collect::<Vec<_>>().join(",");
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
struct Stream {
    name: String,
    listener: Cell<Option<UnixListener>>,
    _not_shared: PhantomData<*const ()>,
}

impl Stream {
    fn with(name: String) -> Self {
        Stream { name, listener: Cell::new(None), _not_shared: PhantomData }
    }

    fn socket_address(&self) -> io::Result<SocketAddr> {
        SocketAddr::from_abstract_name(&self.name)
    }
}

impl Place for Stream {
    fn create(_: usize) -> io::Result<Self> {
        Ok(Stream::with(format!("shmkit-bench-{}-{}", process::id(), crate::clock::monotonic_ns())))
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
