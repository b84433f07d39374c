//! The thread that reaps children, and starts those that end with this process.
//!
//! It is started with the first child, blocks all signals, has a small stack, and sleeps until a child ends. It waits for the children of this
//! library only, each by its own descriptor, and never for any child: those that others have started are theirs to wait for.
//!
//! Daemons are started by it, since the kernel's notice of a parent's death (`PR_SET_PDEATHSIG`) is about the thread that has started the child,
//! and this one lives as long as the process. All others are started where `spawn` is called.

use core::cell::UnsafeCell;
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::EventFd;
use shmkit_core::identity::{self, Token};
use shmkit_core::wait::Site;

use super::child::Shared;
use super::sys;

/// What the thread needs of its stack, with much to spare.
const STACK: usize = 64 << 10;

/// What the bell is in the epoll set. Children have numbers from 1.
const BELL: u64 = 0;

/// Something to be done by the thread.
type Job = Box<dyn FnOnce() + Send>;

/// The thread of this process, and what it looks after.
#[derive(Debug)]
pub(crate) struct Nursery {
    /// The process that it is in.
    owner: Token,
    /// A descriptor of that process.
    process: OwnedFd,
    epoll: Epoll,
    bell: EventFd,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// Those that have not been seen to end, by number.
    children: HashMap<u64, Arc<Shared>>,
    last: u64,
    jobs: Vec<Job>,
    /// The thread does nothing any more.
    is_over: bool,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner").field("children", &self.children.len()).finish_non_exhaustive()
    }
}

static NURSERY: Mutex<Option<Arc<Nursery>>> = Mutex::new(None);

/// The guard that is held over a fork, so that the child never finds the nursery locked by a thread that it does not have.
static HELD: Held = Held(UnsafeCell::new(None));

struct Held(UnsafeCell<Option<MutexGuard<'static, Option<Arc<Nursery>>>>>);

// SAFETY: only the thread that has the nursery locked for its fork touches what is in it, or that thread's image in the child.
unsafe impl Sync for Held {}

/// Prepares this process for its forks. Once, and before there is anything to lock.
pub(super) fn prepare_for_forks() {
    extern "C" fn before() {
        let guard = NURSERY.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: the nursery is locked by this thread; see `Held`.
        unsafe { *HELD.0.get() = Some(guard) };
    }
    extern "C" fn after() {
        // SAFETY: the nursery is still locked by this thread; see `Held`.
        let guard = unsafe { (*HELD.0.get()).take() };
        drop(guard);
    }
    sys::at_fork(before, after);
}

/// The token of this process, by which it is told from a forked child.
pub(crate) fn own_token() -> io::Result<Token> {
    if let Some(token) = identity::current() {
        return Ok(token);
    }
    Ok(Site::of(&NURSERY).map_err(io::Error::other)?.token())
}

impl Nursery {
    /// That of this process, which is started if it is not there yet.
    pub(crate) fn get() -> io::Result<Arc<Self>> {
        // Before, since it takes another lock, which is also held over forks.
        let owner = own_token()?;
        let mut nursery = NURSERY.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(nursery) = nursery.as_ref().filter(|nursery| identity::is_own(nursery.owner)) {
            return Ok(Arc::clone(nursery));
        }
        let new = Self::start(owner)?;
        // In a forked child: what is there is the parent's. Its thread is not here, so nobody drops its part of it.
        *nursery = Some(Arc::clone(&new));
        Ok(new)
    }

    /// That of this process, if it has had a child.
    pub(crate) fn existing() -> Option<Arc<Self>> {
        let nursery = NURSERY.lock().unwrap_or_else(PoisonError::into_inner);
        nursery.as_ref().filter(|nursery| identity::is_own(nursery.owner)).cloned()
    }

    fn start(owner: Token) -> io::Result<Arc<Self>> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let bell = sys::bell()?;
        epoll.add(&bell, EpollEvent::new(EpollFlags::EPOLLIN, BELL))?;
        let process = sys::open_process(std::process::id())?;
        let inner = Mutex::new(Inner::default());
        let nursery = Arc::new(Self { owner, process, epoll, bell, inner });
        let of_thread = Arc::clone(&nursery);
        sys::with_signals_blocked(|| {
            thread::Builder::new().name("shmkit-nursery".to_owned()).stack_size(STACK).spawn(move || of_thread.live())
        })?;
        Ok(nursery)
    }

    /// A descriptor of this process.
    pub(crate) fn process(&self) -> &OwnedFd {
        &self.process
    }

    /// Looks after a child from now on.
    pub(crate) fn add(&self, child: &Arc<Shared>) -> io::Result<()> {
        let mut inner = self.lock();
        inner.last += 1;
        let number = inner.last;
        // Listed before it can be told of.
        inner.children.insert(number, Arc::clone(child));
        let added = self.epoll.add(child.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, number));
        if added.is_err() {
            inner.children.remove(&number);
        }
        Ok(added?)
    }

    /// Those that have not been seen to end, in the order in which they were started.
    pub(crate) fn children(&self) -> Vec<Arc<Shared>> {
        let inner = self.lock();
        let mut children: Vec<_> = inner.children.iter().collect();
        children.sort_by_key(|(number, _)| **number);
        children.into_iter().map(|(_, child)| Arc::clone(child)).collect()
    }

    /// Runs `job` in the thread.
    pub(crate) fn run<R: Send + 'static>(&self, job: impl FnOnce() -> R + Send + 'static) -> io::Result<R> {
        let (done, result) = mpsc::sync_channel(1);
        let mut inner = self.lock();
        if inner.is_over {
            return Err(io::Error::other("something has closed the descriptors of the thread that starts daemons"));
        }
        inner.jobs.push(Box::new(move || {
            // Whoever asked, waits for it.
            let _ = done.send(job());
        }));
        drop(inner);
        self.bell.write(1)?;
        result.recv().map_err(io::Error::other)
    }

    /// The life of the thread, which ends with the process, and not before: its end would be that of all daemons.
    fn live(&self) {
        self.look_after_all();
        let mut inner = self.lock();
        inner.is_over = true;
        inner.jobs.clear();
        drop(inner);
        loop {
            thread::park();
        }
    }

    /// Does what is to be done, until somebody closes what is not theirs: after that, children are reaped by those who wait for them.
    fn look_after_all(&self) {
        let mut events = [EpollEvent::empty(); 32];
        loop {
            let count = match self.epoll.wait(&mut events, EpollTimeout::NONE) {
                Ok(count) => count,
                Err(Errno::EINTR) => continue,
                Err(_) => return,
            };
            for event in &events[..count] {
                match event.data() {
                    BELL => self.work(),
                    number => self.bury(number),
                }
            }
        }
    }

    fn work(&self) {
        // It fails where it was not rung.
        let _ = self.bell.read();
        let jobs = std::mem::take(&mut self.lock().jobs);
        jobs.into_iter().for_each(|job| job());
    }

    /// Reaps a child that has ended, unless somebody has.
    fn bury(&self, number: u64) {
        let Some(child) = self.lock().children.get(&number).cloned() else {
            return;
        };
        // If that cannot be told, there is nothing to wait for any more.
        if child.look().is_ok_and(|ended| ended.is_none()) {
            return;
        }
        let _ = self.epoll.delete(child.as_fd());
        self.lock().children.remove(&number);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
