//! What this process has open: from an address to its region, and from no token to a token.

use core::cell::UnsafeCell;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use crate::attachment::{Attachment, Participation, Terms};
use crate::by_address::{Found, Table};
use crate::config;
use crate::deadline::Deadline;
use crate::error::Error;
use crate::identity::{self, Token};
use crate::keeper::Keeper;
use crate::mapped::Mapped;
use crate::proof;
use crate::sys::file::{FileId, Lock};
use crate::sys::process;

/// How long an opener or unlinker waits for others at most, and how long at a time.
pub(crate) const PATIENCE: Duration = Duration::from_secs(2);
pub(crate) const PAUSE: Duration = Duration::from_micros(200);

/// The regions and keepers of this process.
#[derive(Debug)]
pub(crate) struct Registry {
    /// Sorted by address.
    attachments: Vec<Entry>,
    keepers: Vec<Arc<Keeper>>,
    /// Regions that the process has no handle of, but cannot leave: it has used all generations of its token.
    retained: Vec<(Arc<Mapped>, Participation)>,
}

#[derive(Debug)]
struct Entry {
    start: usize,
    end: usize,
    file: FileId,
    attachment: Weak<Attachment>,
}

static REGISTRY: Mutex<Registry> =
    Mutex::new(Registry { attachments: Vec::new(), keepers: Vec::new(), retained: Vec::new() });

/// Its attachments, for those who do not lock it.
static BY_ADDRESS: Table<Attachment> = Table::new();

/// Locks the registry of this process. Drop no handle of a region meanwhile: that locks it, too.
pub(crate) fn lock() -> MutexGuard<'static, Registry> {
    REGISTRY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The region that `address` lies in.
pub(crate) fn find(address: usize) -> Option<Arc<Attachment>> {
    lock().entry(address)?.attachment.upgrade()
}

/// The region around something that is borrowed.
pub(crate) type Around<'a> = &'a Attachment;

/// The region that `primitive` lies in, without a lock if the process has few regions.
#[inline]
pub(crate) fn around<T>(primitive: &T) -> Option<Around<'_>> {
    const { assert!(size_of::<T>() > 0, "what has no size lies nowhere") }
    let address = core::ptr::from_ref(primitive).addr();
    let attachment = match BY_ADDRESS.find(address) {
        Found::Here(attachment) => attachment,
        Found::Nowhere => return None,
        Found::Unknown => look_up(address)?,
    };
    // SAFETY: all references to what lies in a region come from handles to it, which keep its attachment alive as long as they are used. `primitive` is one,
    // to at least a byte there: the entry that was found is that of its region, since none of another one has covered this address since the region was
    // mapped (see `by_address`).
    Some(unsafe { &*attachment })
}

#[cold]
fn look_up(address: usize) -> Option<*const Attachment> {
    Some(lock().entry(address)?.attachment.as_ptr())
}

/// The token of this process. Before its first use, and in a forked child, this draws one: after every region that the process
/// has (inherited) has been attached to under it, it is put in force.
#[inline]
pub(crate) fn ensure_token() -> Result<Token, Error> {
    identity::current().map_or_else(introduce, Ok)
}

#[cold]
fn introduce() -> Result<Token, Error> {
    // Handles found on the way are dropped after the registry is unlocked.
    let mut handles = Vec::new();
    let mut registry = lock();
    let token = registry.draw()?;
    if identity::current().is_none() {
        for entry in 0..registry.attachments.len() {
            if let Some(attachment) = registry.attachments[entry].attachment.upgrade() {
                handles.push(Arc::clone(&attachment));
                match attachment.join(&mut registry, token) {
                    // A hostile peer can keep this process out of its region, but not out of the others. Those who wait in it try again.
                    Err(_) if !attachment.is_trusted() => {}
                    joined => joined?,
                }
            }
        }
        identity::set_current(token);
    }
    drop(registry);
    drop(handles);
    Ok(token)
}

/// Makes this process, whose token is `token`, a participant of a region that it could not take part in when it was forked.
pub(crate) fn join(attachment: &Attachment, token: Token) -> Result<(), Error> {
    attachment.join(&mut lock(), token)
}

/// Attaches to the region that `mapped` makes of a file, or returns the attachment that this process has to that file already.
pub(crate) fn attach(
    file: FileId,
    terms: Terms,
    mapped: impl Fn() -> Result<Mapped, Error>,
) -> Result<Arc<Attachment>, Error> {
    ensure_token()?;
    let deadline = Deadline::after(PATIENCE);
    loop {
        let attached = lock().attach(file, terms, &mapped);
        if let Some(attachment) = attached? {
            return Ok(attachment);
        }
        if deadline.is_some_and(Deadline::has_passed) {
            return Err(Error::Busy);
        }
        std::thread::sleep(PAUSE);
    }
}

/// Does `act` under the kernel's lock that orders openers and unlinkers of one name, taken on a file that was opened for this
/// purpose. Waits for the lock for a bounded time, and not with the registry locked; `act` runs with the registry locked, so that
/// no child is forked with a file that has the lock.
pub(crate) fn with_name_locked<R>(
    file: &OwnedFd,
    kind: Lock,
    act: impl FnOnce(&mut Registry) -> R,
) -> Result<R, Error> {
    let deadline = Deadline::after(PATIENCE);
    loop {
        let mut registry = lock();
        if Mapped::try_lock_name(file, kind)? {
            let result = act(&mut registry);
            Mapped::unlock_name(file);
            drop(registry);
            return Ok(result);
        }
        drop(registry);
        if deadline.is_some_and(Deadline::has_passed) {
            return Err(Error::Busy);
        }
        std::thread::sleep(PAUSE);
    }
}

/// Why an attachment failed; and the attachment, to be dropped when the registry is not locked any more.
#[derive(Debug)]
pub(crate) struct Failed {
    error: Error,
    _attachment: Option<Arc<Attachment>>,
}

impl From<Failed> for Error {
    fn from(failed: Failed) -> Self {
        failed.error
    }
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self { error, _attachment: None }
    }
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Error::from(error).into()
    }
}

impl Registry {
    /// The keepers of this process.
    pub(crate) fn keepers(&mut self) -> &mut Vec<Arc<Keeper>> {
        &mut self.keepers
    }

    /// Attaches as the function [`attach`] does; the process has a token. `None` if another thread is just leaving the region:
    /// unlock the registry and try again.
    pub(crate) fn attach(
        &mut self,
        file: FileId,
        terms: Terms,
        mapped: impl FnOnce() -> Result<Mapped, Error>,
    ) -> Result<Option<Arc<Attachment>>, Failed> {
        let as_asked = |trusted| if trusted == terms.trusted { Ok(()) } else { Err(Error::OtherTrust { trusted }) };
        if let Some(entry) = self.attachments.iter().find(|entry| entry.file == file) {
            let attachment = entry.attachment.upgrade();
            if let Some(Err(error)) = attachment.as_ref().map(|attachment| as_asked(attachment.is_trusted())) {
                return Err(Failed { error, _attachment: attachment });
            }
            return Ok(attachment);
        }
        if let Some(at) = self.retained.iter().position(|(region, _)| region.id() == file) {
            as_asked(self.retained[at].0.is_trusted())?;
            let (region, participation) = self.retained.swap_remove(at);
            let attachment = Arc::new(Attachment::resume(region, participation));
            self.insert(&attachment);
            return Ok(Some(attachment));
        }
        let token = self.draw()?;
        let attachment = Arc::new(Attachment::new(mapped()?, token, terms));
        if let Err(error) = attachment.join(self, token) {
            return Err(Failed { error, _attachment: Some(attachment) });
        }
        self.insert(&attachment);
        Ok(Some(attachment))
    }

    /// Keeps a participation that cannot be given up, until the region is opened again or the process ends.
    pub(crate) fn retain(&mut self, region: Arc<Mapped>, participation: Participation) {
        self.retained.push((region, participation));
    }

    /// Forgets an attachment that is being dropped.
    pub(crate) fn remove(&mut self, attachment: &Attachment) {
        let start = attachment.region().addresses().start;
        self.attachments.retain(|entry| entry.start != start);
        self.publish();
    }

    /// Lets all later locks be held under a token that this process, whose token is `own`, never had in a region that it is
    /// about to leave; says whether there is one.
    pub(crate) fn raise_generation(&mut self, own: Token) -> bool {
        let Some(next) = own.next_generation() else {
            return false;
        };
        if identity::current().is_some() {
            identity::set_current(next);
        } else {
            identity::set_pending(next);
        }
        true
    }

    fn insert(&mut self, attachment: &Arc<Attachment>) {
        let addresses = attachment.region().addresses();
        let at = self.attachments.partition_point(|entry| entry.start < addresses.start);
        let entry = Entry {
            start: addresses.start,
            end: addresses.end,
            file: attachment.region().id(),
            attachment: Arc::downgrade(attachment),
        };
        self.attachments.insert(at, entry);
        self.publish();
    }

    /// What covers `address`.
    fn entry(&self, address: usize) -> Option<&Entry> {
        let after = self.attachments.partition_point(|entry| entry.start <= address);
        self.attachments[..after].last().filter(|entry| address < entry.end)
    }

    /// Lets those who do not lock the registry know of a change of the attachments.
    fn publish(&self) {
        BY_ADDRESS.fill(self.attachments.iter().map(|entry| (entry.start..entry.end, entry.attachment.as_ptr())));
    }

    /// The token that was drawn for this process, or a new one.
    fn draw(&mut self) -> Result<Token, Error> {
        identity::prepare()?;
        if let Some(token) = identity::drawn() {
            return Ok(token);
        }
        // A first use, or a forked child: its parent's keepers do not run here, nor do the threads that were about to leave.
        self.keepers.drain(..).for_each(core::mem::forget);
        self.retained.drain(..).for_each(|(_, of_parent)| of_parent.forget());
        self.attachments.retain(|entry| entry.attachment.strong_count() > 0);
        self.publish();
        proof::prepare();
        let token = loop {
            let mut random = [0];
            process::random(&mut random)?;
            if let Some(token) = Token::first(random[0]) {
                break token;
            }
        };
        identity::set_pending(token);
        Ok(token)
    }
}

/// Prepares the process for its forks when the library is loaded, which is before there is a second thread (unless it is loaded
/// at run time): a fork while the handlers were being registered would leave its child with a locked registry.
#[used]
#[unsafe(link_section = ".init_array")]
static INITIALISE: extern "C" fn() = {
    extern "C" fn initialise() {
        // An allocator that prepares for forks, too, has to do so before us: then it is locked after us.
        core::hint::black_box(Box::new(0_u8));
        process::at_fork(before_fork, after_fork);
        // Not later in a thread that a fork might interrupt.
        config::get();
    }
    initialise
};

/// The guard that is held over a fork, so that the child never finds the registry locked by a thread that it does not have.
static HELD: Held = Held(UnsafeCell::new(None));

struct Held(UnsafeCell<Option<MutexGuard<'static, Registry>>>);

// SAFETY: only the thread that has the registry locked for its fork touches what is in it, or that thread's image in the child.
unsafe impl Sync for Held {}

extern "C" fn before_fork() {
    let guard = lock();
    // SAFETY: the registry is locked by this thread; see `Held`.
    unsafe { *HELD.0.get() = Some(guard) };
}

extern "C" fn after_fork() {
    // SAFETY: the registry is still locked by this thread; see `Held`.
    let guard = unsafe { (*HELD.0.get()).take() };
    drop(guard);
}
