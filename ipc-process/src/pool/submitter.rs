//! Submitting tasks.

use core::fmt;
use std::any::type_name;
use std::num::NonZeroUsize;
use std::panic::Location;
use std::slice;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use shmkit_core::identity::{self, Token};

use super::batch::{Batch, Cause, Name, Part, Wanted};
use super::call::{self, Chunk};
use super::crew::Firm;
use super::error::TaskError;
use super::imap::Imap;
use super::office::{Args, Order};
use super::pending::{Pending, PendingMap};

/// How many chunks there are for each worker, unless something else is said: enough that none is idle for long at the end, and that a kill costs
/// little; few enough that what a chunk costs does not matter.
const CHUNKS: usize = 16;

/// How many orders are taken at once.
const LOT: usize = 64;

/// Submits tasks to a [`Pool`](super::Pool), in a certain manner. A pool dereferences to one, with the manner that it was made with; another one is derived by
/// [`chunked`](Self::chunked), [`retrying`](Self::retrying) and [`named`](Self::named). Clones are cheap, and good in any thread.
///
/// A task is a function, or a closure that captures nothing, and what it is to be called with: one value, which may be a tuple. Arguments and
/// values go through serde. Among the arguments may be what [`spawn`](crate::spawn) can pass on: regions, queues, tickets, open files. A
/// value that comes back cannot bring any along, which is an error.
///
/// In a forked child of the process that has made the pool, every task ends in [`TaskError::Broken`].
#[derive(Clone)]
pub struct Submitter {
    firm: Arc<Firm>,
    owner: Token,
    chunk: Option<NonZeroUsize>,
    retries: u32,
    name: Option<Arc<str>>,
}

impl Submitter {
    pub(super) fn new(firm: Arc<Firm>, owner: Token, retries: u32) -> Self {
        Self { firm, owner, chunk: None, retries, name: None }
    }

    pub(super) fn firm(&self) -> &Arc<Firm> {
        &self.firm
    }

    /// Whether the calling process has made the pool.
    pub(super) fn is_own(&self) -> bool {
        identity::is_own(self.owner)
    }

    /// One that submits with chunks of `size` tasks for the maps: what a worker takes at once, and what is lost with it if it is killed. 0 means the
    /// default: as many as make up some 16 chunks for each worker.
    #[must_use]
    pub fn chunked(&self, size: usize) -> Self {
        Self { chunk: NonZeroUsize::new(size), ..self.clone() }
    }

    /// One whose tasks are run again, up to so often, if their worker dies. They may have been run in part, or all of a chunk but its
    /// last, so that should do no harm.
    #[must_use]
    pub fn retrying(&self, retries: u32) -> Self {
        Self { retries, ..self.clone() }
    }

    /// One whose tasks are called so in errors.
    #[must_use]
    pub fn named(&self, name: impl Into<String>) -> Self {
        Self { name: Some(name.into().into()), ..self.clone() }
    }

    /// How many workers the pool has.
    pub fn workers(&self) -> usize {
        self.firm.terms.workers
    }

    /// The process ids of the workers, the oldest first. May be outdated when it returns.
    pub fn pids(&self) -> Vec<u32> {
        self.firm.staff().values().copied().collect()
    }

    /// Runs `f(args)` in a worker and waits for its value.
    ///
    /// # Blocking
    ///
    /// Until it is done.
    ///
    /// # Errors
    ///
    /// As for [`Pending::get`].
    #[track_caller]
    pub fn apply<A, R>(&self, f: fn(A) -> R, args: A) -> Result<R, TaskError>
    where
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
    {
        self.submit(f, args).get()
    }

    /// Has `f(args)` run in a worker.
    ///
    /// Whatever goes wrong, the handle tells.
    ///
    /// # Blocking
    ///
    /// Never.
    ///
    /// # Examples
    ///
    /// ```
    /// use shmkit_process::Pool;
    /// use std::sync::mpsc;
    ///
    /// fn main() -> Result<(), Box<dyn std::error::Error>> {
    ///     shmkit_process::init();
    ///     let pool = Pool::new(2)?;
    ///     let sum = pool.submit(|(a, b): (u64, u64)| a + b, (20, 22));
    ///     let (tell, told) = mpsc::channel();
    ///     pool.submit(u64::count_ones, 7).on_done(move |ones| tell.send(ones).unwrap());
    ///     assert_eq!(sum.get()?, 42);
    ///     assert_eq!(told.recv()??, 3);
    ///     Ok(())
    /// }
    /// ```
    #[doc(alias = "apply_async")]
    #[track_caller]
    pub fn submit<A, R>(&self, f: fn(A) -> R, args: A) -> Pending<R>
    where
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
    {
        let (batch, function) = self.begin(f, Wanted::Together);
        let mut orders = Vec::with_capacity(1);
        self.put(&batch, function, slice::from_ref(&args), &mut orders);
        self.hand_in(&mut orders);
        batch.seal();
        Pending::new(batch)
    }

    /// Runs `f` with each of `items` and waits for the values, which are in the order of the items.
    ///
    /// The items are taken first. If taking one panics, nothing was submitted.
    ///
    /// # Blocking
    ///
    /// Until all are done.
    ///
    /// # Errors
    ///
    /// Those of the first task, in the order of the items, that has no value; as for [`Pending::get`]. All others are run nevertheless:
    /// [`map_async`](Self::map_async) has a handle that tells of each.
    ///
    /// # Examples
    ///
    /// ```
    /// use shmkit_process::Pool;
    ///
    /// fn main() -> Result<(), Box<dyn std::error::Error>> {
    ///     shmkit_process::init();
    ///     let pool = Pool::new(2)?;
    ///     assert_eq!(pool.map(|n: u64| n * n, 1..=4)?, [1, 4, 9, 16]);
    ///     assert_eq!(pool.chunked(1).map(|(base, exponent)| u64::pow(base, exponent), [(2, 3), (3, 2)])?, [8, 9]);
    ///     Ok(())
    /// }
    /// ```
    #[doc(alias = "starmap")]
    #[track_caller]
    pub fn map<A, R>(&self, f: fn(A) -> R, items: impl IntoIterator<Item = A>) -> Result<Vec<R>, TaskError>
    where
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
    {
        self.map_async(f, items).get()
    }

    /// Has `f` run with each of `items`.
    ///
    /// The items are taken first. If taking one panics, nothing was submitted.
    ///
    /// # Blocking
    ///
    /// Never for the tasks.
    #[doc(alias = "starmap_async")]
    #[track_caller]
    pub fn map_async<A, R>(&self, f: fn(A) -> R, items: impl IntoIterator<Item = A>) -> PendingMap<R>
    where
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
    {
        let items: Vec<A> = items.into_iter().collect();
        let (batch, function) = self.begin(f, Wanted::Together);
        let size = self.chunk.map_or(items.len().div_ceil(CHUNKS * self.workers()).max(1), NonZeroUsize::get);
        let mut orders = Vec::with_capacity(LOT);
        for chunk in items.chunks(size) {
            self.put(&batch, function, chunk, &mut orders);
        }
        self.hand_in(&mut orders);
        batch.seal();
        PendingMap::new(batch)
    }

    /// Runs `f` with each of `items`, and gives out the values in their order, as they come.
    ///
    /// Items are taken by the iterator as it goes on, some ahead of the values; so there may be any number of them. In chunks of one task,
    /// unless [something else](Self::chunked) is said.
    ///
    /// # Examples
    ///
    /// ```
    /// use shmkit_process::Pool;
    ///
    /// fn main() -> Result<(), Box<dyn std::error::Error>> {
    ///     shmkit_process::init();
    ///     let pool = Pool::new(2)?;
    ///     let first = pool.imap(|n: u64| n * n, 1..).find(|square| !matches!(square, Ok(0..=50)));
    ///     assert_eq!(first, Some(Ok(64)));
    ///     Ok(())
    /// }
    /// ```
    #[track_caller]
    pub fn imap<A, R, I>(&self, f: fn(A) -> R, items: I) -> Imap<A, R, I::IntoIter>
    where
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
        I: IntoIterator<Item = A>,
    {
        let (batch, function) = self.begin(f, Wanted::InOrder);
        Imap::new(self.clone(), batch, function, items.into_iter())
    }

    /// Runs `f` with each of `items`, as [`imap`](Self::imap) does, and gives out the values in the order in which they come.
    #[track_caller]
    pub fn imap_unordered<A, R, I>(&self, f: fn(A) -> R, items: I) -> Imap<A, R, I::IntoIter>
    where
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
        I: IntoIterator<Item = A>,
    {
        let (batch, function) = self.begin(f, Wanted::AsTheyCome);
        Imap::new(self.clone(), batch, function, items.into_iter())
    }

    /// A batch for a function, and the word that tells the function.
    #[track_caller]
    fn begin<A, R>(&self, f: fn(A) -> R, wanted: Wanted) -> (Arc<Batch>, Option<u64>)
    where
        A: DeserializeOwned,
        R: Serialize,
    {
        let name = match &self.name {
            Some(name) => Name::Given(Arc::clone(name)),
            None => Name::Of(type_name::<fn(A) -> R>(), Location::caller()),
        };
        (Batch::new(name, wanted, self.owner), call::word_of(f))
    }

    /// How many tasks an iterator hands in as one.
    pub(super) fn chunk_of_iterators(&self) -> usize {
        self.chunk.map_or(1, NonZeroUsize::get)
    }

    /// Hands a chunk in, or what makes it fail. `orders`: those that are handed in together.
    pub(super) fn put<A: Serialize>(
        &self,
        batch: &Arc<Batch>,
        function: Option<u64>,
        items: &[A],
        orders: &mut Vec<Order>,
    ) {
        // Before anything is noted: to serialise them may panic.
        let packed = match function {
            _ if !self.is_own() => Err(Cause::forked()),
            None => {
                Err(Cause::Args("the function is in a shared library; it has to be in the main program".to_owned()))
            }
            Some(function) => self.pack(items).map(|args| (function, args)).map_err(Cause::Args),
        };
        let part = batch.add(items.len() as u32);
        match packed {
            Ok((function, args)) => {
                let (count, retries) = (items.len() as u32, self.retries);
                orders.push(Order { batch: Arc::clone(batch), part, function, count, args, retries });
            }
            Err(cause) => batch.finish(part, Part::Failed(cause)),
        }
        if orders.len() >= LOT {
            self.hand_in(orders);
        }
    }

    fn pack<A: Serialize>(&self, items: &[A]) -> Result<Args, String> {
        let packed = self.firm.office.pack(Chunk::of(items)?);
        packed.map_err(|error| format!("its arguments cannot be put into a file: {error}"))
    }

    pub(super) fn hand_in(&self, orders: &mut Vec<Order>) {
        // In a forked child there are none, and what the office has locked may have been so when it was forked.
        if !orders.is_empty() {
            self.firm.office.take(orders.drain(..));
        }
    }
}

impl fmt::Debug for Submitter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Submitter")
            .field("workers", &self.workers())
            .field("chunk", &self.chunk)
            .field("retries", &self.retries)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
