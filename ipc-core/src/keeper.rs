//! The keeper: a thread that dies with its process, so that others hear of it, and that hears of the death of others.
//!
//! A process starts its first keeper with its first region, and a further one for every 60 regions that it has open at once. A
//! keeper blocks all signals, has a stack of 48 KiB, sleeps unless somebody comes, goes or dies, and stays until the process
//! ends.
//!
//! # How the kernel tells
//!
//! The keeper owns a robust list of the kernel (glibc's lists, of other threads, are left alone). For each region the list has
//! a node, and at a constant distance from it the `liveness` word of this process in that region:
//!
//! ```text
//! pages:  | head, life, front | node page 0 | node page 1 | ... | end | window 0 | window 1 | ...
//!                                 |<------------- futex_offset ------------>|
//! ```
//!
//! A window is the page of the region with the liveness word, mapped a second time. Nodes are private to the process: the
//! kernel's walk ends at the first bad pointer, so one scribbled region could silence all others. They lie in shared anonymous
//! memory, which is not reaped before the walk. Windows are replaced, never unmapped. One store links a node, and one unlinks
//! it, so the process may die between any two instructions.
//!
//! A keeper may also be killed alone, by a filter (seccomp) for example. Its process would not be missed in the regions that it came to after that, and would wait for ever for the keeper to
//! get off their words. So two nodes come before those of regions: `life`, for which the kernel marks the word `end` in this process, and `front`. Whoever has linked a node behind `front` and finds `end`
//! unmarked has done so before the kernel went on to `front`, and so in time. `end` is inherited by forked children, who may have to find out that the keeper that they wait for is none of theirs.
//!
//! The walk also ends at a window that is not there any more, because somebody has cut the file. That cannot happen to an anonymous region, whose
//! nodes therefore come first; and a region whose peers are not trusted has no node at all.

use core::ffi::c_void;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use core::sync::atomic::{AtomicPtr, AtomicU32, fence};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak, mpsc};
use std::time::Duration;

use crate::config;
use crate::crash_point;
use crate::deadline::Deadline;
use crate::error::Error;
use crate::mapped::{Claim, Mapped};
use crate::participants::{OWNER_DIED, Participants, Question, WAITERS};
use crate::proof;
use crate::shim::futex::{FutexWord, Woken};
use crate::shim::let_run;
use crate::sys::futex::{self, MAX_WORDS, RawWord};
use crate::sys::map::{Mapping, page_size};
use crate::sys::process::{self, RobustListHead};
use crate::wait::{Bell, NET};

/// Regions per keeper: two words each and one of the keeper's own fit one wait.
const SLOTS: usize = (MAX_WORDS - 8) / 2;

/// What a keeper needs of its stack; the mapping has a guard page on top.
const STACK: usize = 48 * 1024;

/// Where in the first page the nodes are that are always linked.
const LIFE: usize = 64;
const FRONT: usize = LIFE + size_of::<*mut c_void>();

/// How soon a keeper looks again for an unconfirmed death, at first and at last; and for those who have no keeper.
const FIRST_RETRY: Duration = Duration::from_micros(100);
const LAST_RETRY: Duration = Duration::from_millis(10);

/// How soon it looks again at last while another keeper has not seen the roster, which a stopped one never does.
const LAST_SETTLING: Duration = Duration::from_millis(250);

/// One keeper, as the other threads of its process see it.
#[derive(Debug)]
pub(crate) struct Keeper {
    /// See the picture above. The first page begins with the list's head.
    pages: Mapping,
    /// The thread id that the kernel compares with liveness words.
    thread: AtomicU32,
    /// Raised whenever the set of regions has changed.
    control: AtomicU32,
    /// The value of `control` at the thread's last look: whatever it waited on before that, it waits on no more.
    seen: AtomicU32,
    regions: Mutex<[Option<Kept>; SLOTS]>,
}

#[derive(Debug)]
struct Kept {
    region: Weak<Mapped>,
    index: usize,
    /// What to ring when somebody has died or left.
    bells: Vec<Weak<dyn Bell>>,
    /// The epoch of deaths at which they were rung last.
    rung: u32,
}

impl Kept {
    fn new(region: Weak<Mapped>, index: usize) -> Self {
        Self { region, index, bells: Vec::new(), rung: 0 }
    }
}

/// The seat of one region at a keeper.
#[derive(Debug)]
pub(crate) struct Seat {
    keeper: Arc<Keeper>,
    slot: usize,
    /// Where in its page the node is.
    offset: usize,
}

impl Seat {
    /// Finds a keeper among `keepers` for the participant of `region` that `claim` makes of this process, or starts one. From
    /// here on, the death of the process marks the liveness word, as soon as that holds [`liveness`](Self::liveness).
    pub(crate) fn take(keepers: &mut Vec<Arc<Keeper>>, region: &Mapped, claim: &Claim) -> Result<Self, Error> {
        keepers.retain(|keeper| !keeper.has_ended());
        for keeper in keepers.iter() {
            if let Some(seat) = Keeper::seat(keeper, region, claim)? {
                return Ok(seat);
            }
        }
        let keeper = Keeper::start()?;
        keepers.push(Arc::clone(&keeper));
        Keeper::seat(&keeper, region, claim)?.ok_or_else(|| io::Error::other("a new keeper has no seat").into())
    }

    /// What the liveness word of the participant has to be.
    pub(crate) fn liveness(&self) -> u32 {
        self.keeper.thread.load(Relaxed) | WAITERS
    }

    /// Lets the keeper look after the region, whose participant is alive now.
    pub(crate) fn open(&self, region: &Arc<Mapped>, index: usize) {
        self.keeper.lock()[self.slot] = Some(Kept::new(Arc::downgrade(region), index));
        self.keeper.tell();
    }

    /// Lets the keeper ring `bell` after each death and departure that is told of from now on.
    pub(crate) fn ring_at_deaths(&self, bell: Weak<dyn Bell>) {
        if let Some(kept) = &mut self.keeper.lock()[self.slot] {
            kept.bells.retain(|bell| bell.strong_count() > 0);
            kept.bells.push(bell);
        }
        // It may have to look by itself from now on.
        self.keeper.tell();
    }

    /// Lets the keeper wait on nothing of the region any more, before the participant leaves it: a wake-up that found the keeper
    /// afterwards would be lost to the others. Waits for that, unless the keeper has ended, or `is_parents` says that it is that of a parent process.
    pub(crate) fn close(&self, is_parents: impl Fn() -> bool) {
        if let Some(kept) = &mut self.keeper.lock()[self.slot] {
            kept.region = Weak::new();
        }
        let told = self.keeper.tell();
        loop {
            // Acquire pairs with the Release in `look`.
            let seen = self.keeper.seen.load(Acquire);
            if seen.wrapping_sub(told) as i32 >= 0 || self.keeper.has_ended() || is_parents() {
                return;
            }
            let word = RawWord { address: self.keeper.seen.address(), expected: seen };
            futex::wait_raw(&[word], Deadline::after(LAST_RETRY));
        }
    }

    /// Gives the seat up: the participant has left the region.
    pub(crate) fn leave(self) -> io::Result<()> {
        let mut regions = self.keeper.lock();
        self.keeper.unlink(self.slot, self.offset);
        crash_point!("keeper.leave.after_unlink");
        self.keeper.pages.clear_page(window(self.slot))?;
        regions[self.slot] = None;
        Ok(())
    }

    /// Forgets the seat: it is that of a parent process.
    pub(crate) fn forget(self) {
        core::mem::forget(self);
    }
}

/// Where the node page and the window of a slot begin.
fn node_page(slot: usize) -> usize {
    (1 + slot) * page_size()
}

fn window(slot: usize) -> usize {
    node_page(slot) + futex_offset()
}

/// The address of a node, as other nodes have it.
fn address(node: &AtomicPtr<c_void>) -> *mut c_void {
    core::ptr::from_ref(node).cast_mut().cast()
}

fn futex_offset() -> usize {
    (1 + SLOTS) * page_size()
}

impl Keeper {
    fn start() -> Result<Arc<Self>, Error> {
        let pages = Mapping::unforked(2 * (1 + SLOTS) * page_size())?;
        pages.inherit_page(futex_offset())?;
        let keeper = Arc::new(Self {
            pages,
            thread: AtomicU32::new(0),
            control: AtomicU32::new(0),
            seen: AtomicU32::new(0),
            regions: Mutex::new([const { None }; SLOTS]),
        });
        let head = keeper.pages.base().cast::<RobustListHead>();
        let [life, front] = [LIFE, FRONT].map(|offset| keeper.node_at(offset));
        life.store(address(front), Relaxed);
        front.store(head.cast(), Relaxed);
        // SAFETY: the first page is ours alone, page-aligned and large enough; nobody else knows it yet.
        unsafe {
            head.write(RobustListHead {
                first: address(life),
                futex_offset: futex_offset() as libc::c_long,
                pending: core::ptr::null_mut(),
            });
        }
        let (started, has_started) = mpsc::channel();
        let of_thread = Arc::clone(&keeper);
        process::with_signals_blocked(|| {
            std::thread::Builder::new()
                .name("shmkit-keeper".to_owned())
                .stack_size(STACK)
                .spawn(move || of_thread.live(&started))
        })?;
        has_started.recv().map_err(io::Error::other)??;
        Ok(keeper)
    }

    /// The life of the thread.
    fn live(&self, started: &mpsc::Sender<io::Result<()>>) {
        process::prepare_keeper_thread();
        self.thread.store(process::thread_id(), Relaxed);
        self.end().store(process::thread_id(), Relaxed);
        // SAFETY: `pages` is never unmapped while this thread lives: it holds a reference to the keeper. Nodes are linked only
        // inside of it.
        let listed = unsafe { process::set_robust_list(self.pages.base().cast()) };
        let failed = listed.is_err();
        // A starter that is gone needs no answer.
        let _ = started.send(listed);
        if failed {
            return;
        }
        let mut retry = FIRST_RETRY;
        let mut words = Vec::with_capacity(MAX_WORDS);
        let mut by_itself = false;
        loop {
            words.clear();
            let again = self.look(&mut words, by_itself);
            let pause = [
                again.soon.then(|| retry.min(LAST_RETRY)),
                again.regularly.then_some(LAST_RETRY),
                again.until_settled.then_some(retry),
                // Whoever is waited for in an event loop has no wait of ours that would look for deaths.
                (again.has_bells && config::get().safety_net).then_some(NET),
            ];
            let pause = pause.into_iter().flatten().min();
            let woken = futex::wait_raw(&words, pause.and_then(Deadline::after));
            by_itself = woken == Woken::TimedOut && pause == Some(NET);
            retry = if woken == Woken::TimedOut { (retry * 2).min(LAST_SETTLING) } else { FIRST_RETRY };
        }
    }

    /// Looks at all regions, buries the dead and collects what to wait on. No reference to a region outlives this: when one is
    /// unmapped during the wait, `control` has changed before. `by_itself`: only the safety net has made it look.
    fn look(&self, words: &mut Vec<RawWord>, by_itself: bool) -> Again {
        // Acquire pairs with the Release in `tell`.
        let control = self.control.load(Acquire);
        words.push(RawWord { address: self.control.address(), expected: control });
        let is_kept = |(slot, kept): (usize, &Option<Kept>)| {
            let kept = kept.as_ref()?;
            Some((slot, kept.region.upgrade()?, kept.index))
        };
        let kept: Vec<_> = self.lock().iter().enumerate().filter_map(is_kept).collect();
        // Release pairs with the Acquire in `close`.
        if self.seen.swap(control, Release) != control {
            crate::shim::futex::wake(&self.seen, u32::MAX);
        }
        let mut again = Again::default();
        let mut woken = 0_u32;
        let mut to_tell = Vec::new();
        for (slot, region, me) in &kept {
            let participants = region.participants();
            let roster = participants.roster();
            let watch = participants.watch(*me, roster, |index, question| match question {
                Question::DeadSoon => proof::is_dead_soon(region, index),
                Question::Dead => proof::is_dead(region, index),
                Question::Released => proof::is_released(region, index),
            });
            words.push(RawWord { address: participants.roster_word().address(), expected: roster });
            if let Some((index, liveness)) = watch.target {
                words.push(RawWord { address: participants.liveness_word(index).address(), expected: liveness });
            }
            again.soon |= watch.unconfirmed;
            again.regularly |= watch.unwatched;
            again.until_settled |= watch.unsettled;
            // After the roster was read: whoever dies later changes that, too.
            again.has_bells |= self.ring(*slot, region, by_itself);
            if let Some(sleepers) = watch.woken {
                woken = woken.saturating_add(sleepers);
                to_tell.push(participants);
            }
        }
        if !to_tell.is_empty() {
            // Those who wait come first, in all regions: there may be as many keepers, and fewer CPUs.
            let_run(woken);
            to_tell.iter().for_each(Participants::tell_keepers);
        }
        again
    }

    /// Rings the bells of a region if somebody has died since they were rung last; says whether there are any.
    fn ring(&self, slot: usize, region: &Arc<Mapped>, by_itself: bool) -> bool {
        let epoch = region.fixed().news.epoch();
        let mut regions = self.lock();
        // Another region may have the slot by now.
        let is_same = |kept: &&mut Kept| core::ptr::eq(kept.region.as_ptr(), Arc::as_ptr(region));
        let Some(kept) = regions[slot].as_mut().filter(is_same) else {
            return false;
        };
        if kept.rung != epoch {
            kept.rung = epoch;
            kept.bells.iter().filter_map(Weak::upgrade).for_each(|bell| bell.ring());
            if by_itself && !kept.bells.is_empty() {
                region.participants().count_rescue();
            }
        }
        !kept.bells.is_empty()
    }

    /// Makes the thread look anew; returns what `seen` is going to be.
    fn tell(&self) -> u32 {
        let told = self.control.fetch_add(1, Release).wrapping_add(1);
        crate::shim::futex::wake(&self.control, 1);
        told
    }

    fn lock(&self) -> MutexGuard<'_, [Option<Kept>; SLOTS]> {
        self.regions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the thread has ended. It ends with its process, or is killed alone.
    fn has_ended(&self) -> bool {
        self.end().load(Relaxed) & OWNER_DIED != 0
    }

    /// The word that the kernel marks when the thread ends: its id before that.
    fn end(&self) -> &AtomicU32 {
        // SAFETY: inside `pages`, in the page between nodes and windows, aligned, alive with `self`, and only ever accessed atomically, by us and the kernel.
        unsafe { &*self.pages.base().add(LIFE + futex_offset()).cast() }
    }

    /// Takes a free slot, if there is one and the thread lives, and links its node.
    fn seat(this: &Arc<Self>, region: &Mapped, claim: &Claim) -> Result<Option<Seat>, Error> {
        let mut regions = this.lock();
        let Some(slot) = regions.iter().position(Option::is_none) else {
            return Ok(None);
        };
        let (page, offset) = region.liveness_page(claim.index);
        this.pages.replace_page(window(slot), &claim.file, page)?;
        crash_point!("keeper.seat.before_link");
        this.link(slot, offset, region.is_anonymous());
        // SeqCst: with less, `end` might be read before the node is linked. The kernel marks it before it goes on, with a full barrier.
        fence(SeqCst);
        if this.has_ended() {
            this.unlink(slot, offset);
            this.pages.clear_page(window(slot))?;
            return Ok(None);
        }
        regions[slot] = Some(Kept::new(Weak::new(), claim.index));
        Ok(Some(Seat { keeper: Arc::clone(this), slot, offset }))
    }

    /// The node of a region.
    fn node(&self, slot: usize, offset: usize) -> &AtomicPtr<c_void> {
        self.node_at(node_page(slot) + offset)
    }

    /// The pointer that a node consists of: at a multiple of its size, before the windows.
    fn node_at(&self, offset: usize) -> &AtomicPtr<c_void> {
        // SAFETY: inside `pages`, aligned, as the liveness word that it stands for is to 64, alive with `self`, and only ever accessed
        // atomically, by us and the kernel.
        unsafe { &*self.pages.base().add(offset).cast() }
    }

    /// The node that those of regions come after.
    fn front(&self) -> &AtomicPtr<c_void> {
        self.node_at(FRONT)
    }

    /// Links a node: as the first, or as the last.
    fn link(&self, slot: usize, offset: usize, as_first: bool) {
        let node = self.node(slot, offset);
        let before = if as_first { self.front() } else { self.last() };
        node.store(before.load(Relaxed), Relaxed);
        // The kernel walks when the thread has ended, mostly with this process: Release keeps it from a node that leads nowhere yet.
        before.store(address(node), Release);
    }

    /// The last node.
    fn last(&self) -> &AtomicPtr<c_void> {
        let mut last = self.front();
        // As in `unlink`.
        for _ in 0..SLOTS {
            let next = last.load(Relaxed);
            if next == self.pages.base().cast() {
                break;
            }
            // SAFETY: as in `unlink`.
            last = unsafe { &*next.cast::<AtomicPtr<c_void>>() };
        }
        last
    }

    fn unlink(&self, slot: usize, offset: usize) {
        let node = self.node(slot, offset);
        let address = address(node);
        let mut before = self.front();
        // Every slot has at most one node, so a list of more is not ours.
        for _ in 0..SLOTS {
            let next = before.load(Relaxed);
            if next == address {
                before.store(node.load(Relaxed), Release);
                return;
            }
            if next == self.pages.base().cast() {
                return;
            }
            // SAFETY: neither the head nor the end: a node in `pages`, linked by `link` under the lock that we hold.
            before = unsafe { &*next.cast::<AtomicPtr<c_void>>() };
        }
    }
}

/// Why a keeper has to look again by itself.
#[derive(Clone, Copy, Default)]
struct Again {
    /// A death is not confirmed yet.
    soon: bool,
    /// Somebody has no keeper.
    regularly: bool,
    /// Another keeper has not seen the roster yet.
    until_settled: bool,
    /// There is somebody to be told who does not wait by a wait of this library.
    has_bells: bool,
}
