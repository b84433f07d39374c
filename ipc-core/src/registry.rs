//! What this process has open: from an address to its region, and from no token to a token.

use core::sync::atomic::{AtomicPtr, Ordering};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use crate::attachment::Attachment;
use crate::deadline::Deadline;
use crate::error::Error;
use crate::identity::{self, Token};
use crate::keeper::Keeper;
use crate::mapped::Mapped;
use crate::proof;
use crate::sys::file::{FileId, Lock};
use crate::sys::process;

/// The regions and keepers of this process.
#[derive(Debug)]
pub(crate) struct Registry {
    /// Sorted by address.
    attachments: Vec<Entry>,
    keepers: Vec<Arc<Keeper>>,
}

#[derive(Debug)]
struct Entry {
    start: usize,
    end: usize,
    file: FileId,
    attachment: Weak<Attachment>,
}

static REGISTRY: Mutex<Registry> = Mutex::new(Registry { attachments: Vec::new(), keepers: Vec::new() });

/// Locks the registry of this process. Drop no handle of a region meanwhile: that locks it, too.
pub(crate) fn lock() -> MutexGuard<'static, Registry> {
    REGISTRY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The region that `address` lies in.
pub(crate) fn find(address: usize) -> Option<Arc<Attachment>> {
    let registry = lock();
    let after = registry.attachments.partition_point(|entry| entry.start <= address);
    let entry = registry.attachments[..after].last()?;
    if address < entry.end { entry.attachment.upgrade() } else { None }
}

/// The token of this process. Before its first use, and in a forked child, this draws one: after every region that the process
/// has (inherited) has been attached to under it, it is put in force.
pub(crate) fn ensure_token() -> Result<Token, Error> {
    if let Some(token) = identity::current() {
        return Ok(token);
    }
    // Handles found on the way are dropped after the registry is unlocked.
    let mut handles = Vec::new();
    let mut registry = lock();
    let token = registry.draw()?;
    if identity::current().is_none() {
        for entry in 0..registry.attachments.len() {
            if let Some(attachment) = registry.attachments[entry].attachment.upgrade() {
                handles.push(Arc::clone(&attachment));
                attachment.join(&mut registry, token)?;
            }
        }
        identity::set_current(token);
    }
    drop(registry);
    drop(handles);
    Ok(token)
}

/// Attaches to the region that `mapped` makes of a file, or returns the attachment that this process has to that file already.
pub(crate) fn attach(
    file: FileId,
    unlink_on_drop: bool,
    mapped: impl FnOnce() -> Result<Mapped, Error>,
) -> Result<Arc<Attachment>, Error> {
    ensure_token()?;
    loop {
        let mut registry = lock();
        match registry.attachments.iter().find(|entry| entry.file == file) {
            None => {
                let token = registry.draw()?;
                let attachment = Arc::new(Attachment::new(mapped()?, token, unlink_on_drop));
                let joined = attachment.join(&mut registry, token);
                if joined.is_ok() {
                    registry.insert(&attachment);
                }
                // A failed attachment locks the registry when it is dropped.
                drop(registry);
                return joined.map(|()| attachment);
            }
            Some(entry) => match entry.attachment.upgrade() {
                Some(attachment) => return Ok(attachment),
                // Another thread is just dropping the last handle, and waits for the lock to detach.
                None => {
                    drop(registry);
                    std::thread::yield_now();
                }
            },
        }
    }
}

/// The lock that orders openers and unlinkers of a named region, held. Closing the file would not be enough to give it up: a
/// child that is forked meanwhile has it open, too.
#[derive(Debug)]
#[must_use = "the name is unlocked again at once"]
pub(crate) struct NameLocked<'a>(&'a OwnedFd);

impl Drop for NameLocked<'_> {
    fn drop(&mut self) {
        Mapped::unlock_name(self.0);
    }
}

/// Waits, for a bounded time, for the lock that orders openers and unlinkers of a named region.
pub(crate) fn lock_name(file: &OwnedFd, lock: Lock) -> Result<NameLocked<'_>, Error> {
    const PATIENCE: Duration = Duration::from_secs(2);
    let deadline = Deadline::after(PATIENCE);
    while !Mapped::try_lock_name(file, lock)? {
        if deadline.is_some_and(Deadline::has_passed) {
            return Err(Error::Busy);
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    Ok(NameLocked(file))
}

impl Registry {
    /// The keepers of this process.
    pub(crate) fn keepers(&mut self) -> &mut Vec<Arc<Keeper>> {
        &mut self.keepers
    }

    /// Forgets an attachment that is being dropped.
    pub(crate) fn remove(&mut self, attachment: &Attachment) {
        let start = attachment.region().addresses().start;
        self.attachments.retain(|entry| entry.start != start);
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
    }

    /// The token that was drawn for this process, or a new one.
    fn draw(&mut self) -> Result<Token, Error> {
        process::at_fork(before_fork, after_fork)?;
        identity::prepare()?;
        if let Some(token) = identity::drawn() {
            return Ok(token);
        }
        // A first use, or a forked child, whose parent's keepers do not run here.
        self.keepers.drain(..).for_each(core::mem::forget);
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

/// The guard that is held over a fork, so that the child never finds the registry locked by a thread that it does not have.
static HELD: AtomicPtr<MutexGuard<'static, Registry>> = AtomicPtr::new(core::ptr::null_mut());

extern "C" fn before_fork() {
    let guard = Box::into_raw(Box::new(lock()));
    HELD.store(guard, Ordering::Relaxed);
}

extern "C" fn after_fork() {
    let guard = HELD.swap(core::ptr::null_mut(), Ordering::Relaxed);
    if !guard.is_null() {
        // SAFETY: made by `before_fork` in this thread, or in the thread that this child's only thread is the image of.
        drop(unsafe { Box::from_raw(guard) });
    }
}
