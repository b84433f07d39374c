//! A region, processes in it and the kernel's part in their deaths, for models.
//!
//! A process is one model thread or several; each says once for which process it [acts](Process::act). A death is the end of
//! the thread at a crash point ([`Process::live_until`]), after which this model of the kernel does what the kernel does: marks
//! the liveness word, wakes one sleeper on it, and gives the lock on the entry free.
//!
//! The words, and all that happens to them, are those of [`crate::participants`]. A copy is only the keeper's loop
//! ([`Process::keep`]): the real one sleeps by raw addresses, for many regions.

use core::cell::RefCell;
use core::marker::PhantomData;
use core::ops::{Deref, Range};
use core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::Arc;

use loom::sync::Mutex;

use super::crash;
use super::futex::{self, FutexWord};
use super::{AtomicU32, AtomicU64};
use crate::by_address::{Found, Table};
use crate::crash_point;
use crate::error::Error;
use crate::identity::Token;
use crate::participants::{Card, Entry, NAME_LEN, News, OWNER_DIED, Participants, WAITERS};

loom::thread_local! {
    /// For whom this thread acts.
    static ACTOR: RefCell<Option<Process>> = RefCell::new(None);
}

fn actor() -> Option<Process> {
    ACTOR.with(|actor| actor.borrow().clone())
}

/// The calling thread has died: nothing that is dropped while it unwinds finds itself in the process that it was of.
pub(super) fn forget_actor() {
    ACTOR.with(|actor| *actor.borrow_mut() = None);
}

/// The token of the process that the calling thread acts for.
pub fn current() -> Option<Token> {
    Some(actor()?.token)
}

/// Whether `token` is of that process, whatever its generation.
pub fn is_own(token: Token) -> bool {
    current().is_some_and(|current| current.is_same_process(token))
}

pub(crate) fn ensure_token() -> Result<Token, Error> {
    current().ok_or(Error::Busy)
}

loom::lazy_static! {
    static ref DRAWN: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
}

/// Numbers that differ from each other and are the same whenever a model comes the same way.
#[allow(clippy::unnecessary_wraps, reason = "the face of the real one")]
pub(crate) fn random(words: &mut [u64]) -> Result<(), Error> {
    for word in words {
        *word = (DRAWN.fetch_add(1, Relaxed) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
    Ok(())
}

/// Every primitive of a model lies in the region of whoever uses it.
pub(crate) fn find(_address: usize) -> Option<Arc<Attachment>> {
    Some(actor()?.region)
}

/// The same for those who do not wait.
pub(crate) fn around<T>(_primitive: &T) -> Option<Around<'_>> {
    Some(Around(actor()?.region, PhantomData))
}

/// The table of regions by address, with a number in the place of each region.
#[derive(Debug)]
pub struct Numbers(Table<u8>);

impl Numbers {
    /// One without any.
    #[allow(clippy::new_without_default, reason = "made by models only")]
    pub fn new() -> Self {
        Self(Table::new())
    }

    /// See `Table::fill`.
    pub fn fill(&self, all: &[(Range<usize>, usize)]) {
        self.0.fill(all.iter().map(|(range, number)| (range.clone(), core::ptr::without_provenance(*number))));
    }

    /// The number at `address`, 0 where there is nothing; `None` if that is not known.
    pub fn find(&self, address: usize) -> Option<usize> {
        match self.0.find(address) {
            Found::Here(number) => Some(number.addr()),
            Found::Nowhere => Some(0),
            Found::Unknown => None,
        }
    }
}

/// The region around something that is borrowed. A process may end within its `'a`, so this keeps the region by itself.
pub(crate) struct Around<'a>(Arc<Attachment>, PhantomData<&'a ()>);

impl Deref for Around<'_> {
    type Target = Attachment;

    fn deref(&self) -> &Attachment {
        &self.0
    }
}

/// What a model has in the place of a mapped region.
#[derive(Debug)]
pub struct Attachment {
    news: News,
    tokens: Vec<AtomicU64>,
    entries: Vec<Entry>,
    /// Which entries the kernel holds a lock on.
    claims: Mutex<Vec<bool>>,
    /// Not 0 once the model is over and keepers are to end; stands for the control word of a keeper.
    over: AtomicU32,
}

impl Attachment {
    /// A region for `capacity` participants, without any.
    pub fn new(capacity: usize) -> Arc<Self> {
        Arc::new(Self {
            news: News::default(),
            tokens: (0..capacity).map(|_| AtomicU64::new(0)).collect(),
            entries: (0..capacity).map(|_| Entry::default()).collect(),
            claims: Mutex::new(vec![false; capacity]),
            over: AtomicU32::new(0),
        })
    }

    /// Ends the keepers. Only for when all survivors have come to their end: it must not be what wakes them.
    pub fn end(&self) {
        self.over.store(1, Release);
        futex::wake(&self.over, u32::MAX);
    }

    /// The state of the roster.
    pub fn roster(&self) -> u32 {
        self.participants().roster()
    }

    /// Sleeps until the roster is not as it was, as a keeper does that watches none of those who die.
    pub fn await_roster(&self, before: u32) {
        while self.roster() == before {
            futex::wait(&[(self.participants().roster_word(), before)], None);
        }
    }

    pub(crate) fn news(&self) -> &News {
        &self.news
    }

    pub(crate) fn participants(&self) -> Participants<'_> {
        Participants { news: &self.news, tokens: &self.tokens, entries: &self.entries }
    }

    #[allow(clippy::unused_self, reason = "the face of the real one")]
    pub(crate) fn is_trusted(&self) -> bool {
        true
    }

    pub(crate) fn has_keeper(&self) -> bool {
        true
    }

    /// Models have no clock.
    #[allow(clippy::unused_self, reason = "the face of the real one")]
    pub(crate) fn is_look_due(&self, _time: core::time::Duration) -> bool {
        false
    }

    #[allow(clippy::unused_self, reason = "the face of the real one")]
    pub(crate) fn place(&self) -> Option<usize> {
        Some(actor()?.index)
    }

    pub(crate) fn sweep(&self) -> bool {
        self.participants().sweep(self.place(), |index| self.is_dead(index))
    }

    /// The proof of death. It comes later than the news of it, but it does come: the locked claims make whoever asks wait.
    fn is_dead(&self, index: usize) -> bool {
        !self.claims.lock().unwrap()[index]
    }
}

/// A process that takes part in the region, or is about to.
#[derive(Clone, Debug)]
pub struct Process {
    region: Arc<Attachment>,
    index: usize,
    token: Token,
    /// Between the process and its keeper: 0, ASKED, DISMISSED.
    dismissal: Arc<AtomicU32>,
}

const ASKED: u32 = 1;
const DISMISSED: u32 = 2;

impl Process {
    /// A process with a lock of the kernel on the first free entry; no two have the same `number`.
    pub fn claim(region: &Arc<Attachment>, number: u64) -> Self {
        let token = Token::first(number << 40).expect("number is not 0");
        Self::claim_as(region, token)
    }

    fn claim_as(region: &Arc<Attachment>, token: Token) -> Self {
        let mut claims = region.claims.lock().unwrap();
        let index = claims.iter().position(|claimed| !claimed).expect("there is room");
        claims[index] = true;
        drop(claims);
        Self { region: Arc::clone(region), index, token, dismissal: Arc::new(AtomicU32::new(0)) }
    }

    /// Makes it a participant.
    pub fn attach(&self) {
        self.region.participants().attach(
            self.index,
            &Card {
                token: self.token,
                liveness: self.alive(),
                pid: self.thread(),
                pid_namespace: 0,
                name: [0; NAME_LEN],
            },
        );
    }

    /// Claims and attaches at once.
    pub fn join(region: &Arc<Attachment>, number: u64) -> Self {
        let process = Self::claim(region, number);
        process.attach();
        process
    }

    /// Ends its participation. What is left of it is its next generation, which has no entry yet.
    pub fn leave(&self) -> Token {
        let next = self.token.next_generation().expect("not the last");
        self.region.participants().leave(self.index, self.token);
        self.region.claims.lock().unwrap()[self.index] = false;
        next
    }

    /// Attaches again, after [`leave`](Self::leave).
    pub fn rejoin(&self, token: Token) -> Self {
        let process = Self::claim_as(&self.region, token);
        process.attach();
        process
    }

    /// Its token.
    pub fn token(&self) -> Token {
        self.token
    }

    /// Which entry it has.
    pub fn index(&self) -> usize {
        self.index
    }

    /// What others see of it: `None` if it does not take part, else whether the entry that goes with its token is its own.
    pub fn is_seen_whole(&self) -> Option<bool> {
        let card = self.region.participants().card(self.index).filter(|card| card.token == self.token)?;
        Some(card.pid == self.thread() && card.liveness == self.alive())
    }

    /// From here on the calling thread acts for this process.
    pub fn act(&self) {
        ACTOR.with(|actor| *actor.borrow_mut() = Some(self.clone()));
    }

    /// Acts for this process until it dies at the crash point number `at`, from 1; returns its name if it comes so far.
    pub fn live_until(&self, at: i64, life: impl FnOnce()) -> Option<&'static str> {
        self.act();
        let died = crash::run_and_die_at(at, life);
        if died.is_some() {
            self.die();
        }
        died
    }

    /// Dies. Nothing may act for this process any more.
    pub fn die(&self) {
        let mut claims = self.region.claims.lock().unwrap();
        let participants = self.region.participants();
        let liveness = participants.liveness_word(self.index);
        // As the kernel: only if the word still is that of this thread.
        if liveness.compare_exchange(self.alive(), OWNER_DIED | WAITERS, AcqRel, Relaxed).is_ok() {
            futex::wake(liveness, 1);
        }
        claims[self.index] = false;
    }

    /// Looks for deaths by itself, as one does who has no keeper; says whether there were any.
    pub fn sweep(&self) -> bool {
        self.region.sweep()
    }

    /// The life of its keeper: watches until the model is over.
    pub fn keep(&self) {
        let participants = self.region.participants();
        while self.region.over.load(Acquire) == 0 && self.dismissal.load(Acquire) == 0 {
            let roster = participants.roster();
            let everything = participants.everything_but(self.index);
            crash_point!("keeper.before_watch");
            let watch = participants.watch(self.index, roster, |index, _| self.region.is_dead(index));
            if watch.woken.is_some() {
                participants.tell_keepers();
            }
            let mut words: Vec<(&dyn FutexWord, u32)> =
                vec![(&self.region.over, 0), (&*self.dismissal, 0), (participants.roster_word(), roster)];
            if let Some((index, liveness)) = watch.target {
                words.push((participants.liveness_word(index), liveness));
            }
            if watch.unsettled {
                // The real one looks again from time to time: it sleeps only as long as nothing changes.
                words.extend(everything);
            }
            if watch.unconfirmed {
                // The real one sleeps for a moment.
                loom::thread::yield_now();
                continue;
            }
            crash_point!("keeper.before_wait");
            futex::wait(&words, None);
            crash_point!("keeper.after_wait");
        }
        self.dismissal.store(DISMISSED, Release);
        futex::wake(&*self.dismissal, u32::MAX);
    }

    /// Ends its keeper and waits until that sleeps on no word of the region any more. To be done before it leaves: a keeper that
    /// was woken by a death is the only one who was.
    pub fn dismiss_keeper(&self) {
        let _ = self.dismissal.compare_exchange(0, ASKED, AcqRel, Acquire);
        futex::wake(&*self.dismissal, u32::MAX);
        while self.dismissal.load(Acquire) != DISMISSED {
            futex::wait(&[(&*self.dismissal, ASKED)], None);
        }
    }

    /// Its liveness word.
    fn alive(&self) -> u32 {
        self.thread() | WAITERS
    }

    /// The number of its keeper's thread, which is no other's.
    fn thread(&self) -> u32 {
        (self.token.word() >> 40) as u32
    }
}
