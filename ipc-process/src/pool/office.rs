//! The office: what the parent knows of its jobs. Nothing of it is shared with other processes.
//!
//! A job has a slot from its posting until its result has come. There are as many slots as the board has room for, so posting never waits. What
//! finds no slot, or no room in the spill for its arguments, waits in the backlog, which is as long as it needs to be, and is posted, in
//! its order, as soon as results have made room: whoever takes results also posts.
//!
//! Arguments that are too long for the spill travel in files. These are made when their jobs are posted, a few for each worker, so that many jobs that wait do not use
//! up the descriptors of the process.

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use shmkit_core::shim::AtomicU64;
use shmkit_core::transfer::{Parcel, ReadyParcel};
use shmkit_core::{Error, Tailed};

use super::batch::{Batch, Cause, Part};
use super::board::Board;
use super::call::Chunk;
use super::job::{INLINE, Id, Job, Place};
use super::spill::Spill;

/// Arguments longer than this part of the spill are delivered: a few jobs must not keep all others waiting.
const SHARE: usize = 4;

/// How many jobs for each worker are posted even if there is no room in the spill for their arguments, which are delivered then: so that none is
/// idle beside those that have it.
const AT_HAND: usize = 2;

/// A job that is to be posted.
pub(super) struct Order {
    pub(super) batch: Arc<Batch>,
    /// Which part of the batch it is.
    pub(super) part: usize,
    pub(super) function: u64,
    /// How many sets of arguments there are.
    pub(super) count: u32,
    pub(super) args: Args,
    /// How often it may be posted again when its worker has died.
    pub(super) retries: u32,
}

/// The arguments of a job.
pub(super) enum Args {
    /// They are posted with it, or delivered if there is no room for that.
    Bytes(Vec<u8>),
    /// They bring files along, so they are delivered to the worker that asks for them.
    Delivered(ReadyParcel),
}

/// A job that has been posted.
struct Posted {
    id: Id,
    job: Job,
    batch: Arc<Batch>,
    part: usize,
    retries: u32,
    /// Its arguments, if they are to be delivered.
    parcel: Option<Arc<ReadyParcel>>,
}

/// Whether the pool takes orders.
#[derive(Clone, Debug)]
enum Phase {
    Open,
    /// It does what it has, and no more.
    Closed,
    /// It does nothing any more, for this reason.
    Over(Cause),
}

/// What the workers are to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Workers {
    /// Work.
    Wanted,
    /// Go: the board is closed, and they find that out.
    MayGo,
    /// Go at once.
    Killed,
}

/// See the module.
pub(super) struct Office {
    board: Board,
    /// Where arguments lie that are too large for a job.
    spill: Tailed<AtomicU64>,
    /// So many jobs keep all workers busy until there are results.
    enough: usize,
    ledger: Mutex<Ledger>,
}

struct Ledger {
    phase: Phase,
    /// What is posted, by slot.
    slots: Vec<Option<Posted>>,
    /// Slots in which nothing is.
    free: Vec<usize>,
    backlog: VecDeque<Order>,
    spill: Spill,
    /// How many jobs have been posted.
    posted: u64,
    is_board_closed: bool,
    /// Orders that cannot be posted, and why.
    refused: Vec<(Order, Cause)>,
}

impl Office {
    pub(super) fn new(board: Board, spill: Tailed<AtomicU64>, workers: usize) -> Self {
        let slots = board.slots();
        let ledger = Ledger {
            phase: Phase::Open,
            slots: (0..slots).map(|_| None).collect(),
            free: (0..slots).rev().collect(),
            backlog: VecDeque::new(),
            spill: Spill::new(spill.len()),
            posted: 0,
            is_board_closed: false,
            refused: Vec::new(),
        };
        Self { board, spill, enough: AT_HAND * workers, ledger: Mutex::new(ledger) }
    }

    /// Makes arguments what goes with an order.
    pub(super) fn pack(&self, chunk: Chunk) -> io::Result<Args> {
        let Chunk { bytes, files } = chunk;
        if files.is_empty() {
            return Ok(Args::Bytes(bytes));
        }
        Parcel { bytes, files }.ready().map(Args::Delivered)
    }

    fn lock(&self) -> MutexGuard<'_, Ledger> {
        // No code of users runs under it.
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes orders, and posts them, or keeps them for later.
    pub(super) fn take(&self, orders: impl IntoIterator<Item = Order>) {
        let mut ledger = self.lock();
        for order in orders {
            let cause = match &ledger.phase {
                Phase::Open => {
                    ledger.backlog.push_back(order);
                    continue;
                }
                Phase::Closed => Cause::Closed,
                Phase::Over(cause) => cause.clone(),
            };
            ledger.refused.push((order, cause));
        }
        self.go_on(ledger);
    }

    /// Takes the result of a job; says whether there is such a job.
    pub(super) fn done(&self, id: Id, frame: Vec<u8>) -> bool {
        let mut ledger = self.lock();
        let Some(Posted { batch, part, .. }) = ledger.take_down(id) else {
            // Those of a pool that is over have been given up.
            return matches!(ledger.phase, Phase::Over(_));
        };
        self.go_on(ledger);
        batch.finish(part, Part::Done(frame));
        true
    }

    /// The arguments of a job that are to be delivered.
    pub(super) fn parcel(&self, id: Id) -> Option<Arc<ReadyParcel>> {
        let ledger = self.lock();
        ledger.slots.get(id.slot())?.as_ref().filter(|posted| posted.id == id)?.parcel.clone()
    }

    /// Gives up, or posts again, what a worker had when it died. All of its results have been taken.
    pub(super) fn bury(&self, worker: u64, cause: &Cause) {
        let mut ledger = self.lock();
        let posted = ledger.slots.iter().flatten().map(|posted| posted.id);
        let lost = match self.board.lost_with(worker, posted) {
            Ok(lost) => lost,
            Err(error) => {
                drop(ledger);
                return self.end(&broken(&error));
            }
        };
        let mut given_up = Vec::new();
        let mut posted_again = Ok(());
        for id in lost {
            let Some(mut posted) = ledger.slots[id.slot()].take() else {
                continue;
            };
            if posted.retries > 0 {
                posted.retries -= 1;
                posted_again = posted_again.and(ledger.post(&self.board, id.slot(), posted));
            } else {
                ledger.clear(id.slot(), &posted.job);
                given_up.push((posted.batch, posted.part));
            }
        }
        if let Err(error) = posted_again {
            drop(ledger);
            self.end(&broken(&error));
        } else {
            self.go_on(ledger);
        }
        given_up.into_iter().for_each(|(batch, part)| batch.finish(part, Part::Failed(cause.clone())));
    }

    /// Takes no more orders.
    pub(super) fn close(&self) {
        let mut ledger = self.lock();
        if let Phase::Open = ledger.phase {
            ledger.phase = Phase::Closed;
        }
        self.go_on(ledger);
    }

    /// Ends everything, and gives up what is not done.
    pub(super) fn end(&self, cause: &Cause) {
        let mut ledger = self.lock();
        if let Phase::Over(_) = ledger.phase {
            return;
        }
        ledger.phase = Phase::Over(cause.clone());
        ledger.is_board_closed = true;
        let posted: Vec<_> = ledger.slots.iter_mut().filter_map(Option::take).collect();
        let backlog = mem::take(&mut ledger.backlog);
        drop(ledger);
        // Those who look at it are killed anyway.
        let _ = self.board.close();
        let posted = posted.into_iter().map(|posted| (posted.batch, posted.part));
        let orders = posted.chain(backlog.into_iter().map(|order| (order.batch, order.part)));
        orders.for_each(|(batch, part)| batch.finish(part, Part::Failed(cause.clone())));
    }

    /// What the workers are to do.
    pub(super) fn workers(&self) -> Workers {
        let ledger = self.lock();
        match ledger.phase {
            Phase::Over(_) => Workers::Killed,
            _ if ledger.is_board_closed => Workers::MayGo,
            _ => Workers::Wanted,
        }
    }

    /// Posts what there is room for, closes the board after the last job, and says what cannot be posted.
    fn go_on(&self, mut ledger: MutexGuard<'_, Ledger>) {
        let mut gone_on = self.post(&mut ledger);
        let is_idle = ledger.backlog.is_empty() && ledger.free.len() == ledger.slots.len();
        if matches!(ledger.phase, Phase::Closed) && is_idle && !ledger.is_board_closed {
            ledger.is_board_closed = true;
            gone_on = gone_on.and(self.board.close());
        }
        let refused = mem::take(&mut ledger.refused);
        drop(ledger);
        if let Err(error) = gone_on {
            self.end(&broken(&error));
        }
        refused.into_iter().for_each(|(order, cause)| order.batch.finish(order.part, Part::Failed(cause)));
    }

    /// Room in the spill for so many bytes, unless they are so many that a few such jobs would keep all others waiting.
    fn spill_for(&self, len: usize, spill: &mut Spill) -> Option<usize> {
        if len <= self.spill.len() / SHARE { spill.take(len) } else { None }
    }

    fn post(&self, ledger: &mut Ledger) -> Result<(), Error> {
        while let (Some(order), Some(slot)) = (ledger.backlog.front(), ledger.free.last().copied()) {
            let busy = ledger.slots.len() - ledger.free.len();
            let (place, ready) = match &order.args {
                Args::Delivered(_) => (Place::Delivered, None),
                Args::Bytes(bytes) if bytes.len() <= INLINE => (Place::Inline, None),
                Args::Bytes(bytes) => match self.spill_for(bytes.len(), &mut ledger.spill) {
                    Some(at) => (Place::Spill(at), None),
                    // The room comes back with results only, and a worker with nothing to do brings none.
                    None if busy < self.enough => match ReadyParcel::of_bytes(bytes) {
                        Ok(parcel) => (Place::Delivered, Some(parcel)),
                        // Descriptors and memory may come back with a result, too, if there is to be one.
                        Err(_) if busy > 0 => return Ok(()),
                        Err(error) => {
                            let cause = Cause::Args(format!("its arguments cannot be put into a file: {error}"));
                            let refused = ledger.backlog.pop_front().map(|order| (order, cause));
                            ledger.refused.extend(refused);
                            continue;
                        }
                    },
                    None => return Ok(()),
                },
            };
            let Some(Order { batch, part, function, count, args, retries }) = ledger.backlog.pop_front() else {
                return Ok(());
            };
            ledger.free.pop();
            let (bytes, parcel) = match args {
                Args::Bytes(bytes) => (bytes, ready.map(Arc::new)),
                Args::Delivered(parcel) => (Vec::new(), Some(Arc::new(parcel))),
            };
            let job = match place {
                Place::Inline => Job::new(function, count, bytes.len() as u32, place, &bytes),
                Place::Spill(at) => {
                    // Nobody reads there before the job is posted, and nobody else writes. Ordered by the posting.
                    self.spill.store(at, &bytes);
                    Job::new(function, count, bytes.len() as u32, place, &[])
                }
                // How much it is says the parcel.
                Place::Delivered => Job::new(function, count, u32::MAX, place, &[]),
            };
            ledger.post(&self.board, slot, Posted { id: Id::new(0, slot), job, batch, part, retries, parcel })?;
        }
        Ok(())
    }
}

impl Ledger {
    /// Posts a job into a slot that nothing else is in.
    fn post(&mut self, board: &Board, slot: usize, mut posted: Posted) -> Result<(), Error> {
        posted.id = Id::new(self.posted, slot);
        let sent = board.post(posted.job, posted.id);
        self.slots[slot] = Some(posted);
        self.posted += 1;
        sent
    }

    /// Takes a job out of its slot.
    fn take_down(&mut self, id: Id) -> Option<Posted> {
        let posted = self.slots.get_mut(id.slot())?.take_if(|posted| posted.id == id)?;
        self.clear(id.slot(), &posted.job);
        Some(posted)
    }

    /// Makes the slot of a job, and the place of its arguments, free for others.
    fn clear(&mut self, slot: usize, job: &Job) {
        self.free.push(slot);
        if let Place::Spill(at) = job.place() {
            self.spill.give_back(at, job.size());
        }
    }
}

fn broken(error: &Error) -> Cause {
    Cause::Broken(error.to_string().into())
}
