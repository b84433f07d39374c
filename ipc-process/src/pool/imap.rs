//! Values one by one, while items are still being taken.

use core::fmt;
use std::collections::VecDeque;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::batch::Batch;
use super::error::TaskError;
use super::office::Order;
use super::submitter::Submitter;

/// How many tasks an iterator is ahead of its values, for each worker, at least.
const AHEAD: usize = 64;

/// How many chunks, for each worker, at least.
const CHUNKS_AHEAD: usize = 4;

/// The values of [`Submitter::imap`] and [`Submitter::imap_unordered`].
///
/// If taking an item panics, that comes out of [`next`](Iterator::next). What was taken before goes on: the iterator can be used further.
///
/// To drop it does not call off what it has submitted.
pub struct Imap<A, R, I> {
    submitter: Submitter,
    batch: Arc<Batch>,
    function: Option<u64>,
    items: I,
    /// All items have been taken.
    is_exhausted: bool,
    /// A value could not be waited for.
    is_given_up: bool,
    /// Items that make up the next chunk.
    taken: Vec<A>,
    /// Chunks that are to be handed in.
    orders: Vec<Order>,
    /// How many tasks have been submitted whose values were not fetched.
    ahead: usize,
    /// Values that came with others.
    fetched: VecDeque<Result<R, TaskError>>,
}

impl<A, R, I> Imap<A, R, I> {
    pub(super) fn new(submitter: Submitter, batch: Arc<Batch>, function: Option<u64>, items: I) -> Self {
        Self {
            submitter,
            batch,
            function,
            items,
            is_exhausted: false,
            is_given_up: false,
            taken: Vec::new(),
            orders: Vec::new(),
            ahead: 0,
            fetched: VecDeque::new(),
        }
    }
}

impl<A: Serialize, R, I: Iterator<Item = A>> Imap<A, R, I> {
    /// Takes items, and submits them, until it is far enough ahead. What was taken when that panics is still there the next time.
    fn submit(&mut self) {
        let chunk = self.submitter.chunk_of_iterators();
        let most = AHEAD.max(CHUNKS_AHEAD.saturating_mul(chunk)).saturating_mul(self.submitter.workers());
        // Not one by one, as values are fetched: many orders at once cost less.
        if self.orders.is_empty() && (self.is_exhausted || self.ahead > most / 2) {
            return;
        }
        while !self.is_exhausted && self.ahead < most {
            while self.taken.len() < chunk && !self.is_exhausted {
                match self.items.next() {
                    Some(item) => self.taken.push(item),
                    None => self.is_exhausted = true,
                }
            }
            if !self.taken.is_empty() {
                self.submitter.put(&self.batch, self.function, &self.taken, &mut self.orders);
                self.ahead += self.taken.len();
                self.taken.clear();
            }
        }
        self.submitter.hand_in(&mut self.orders);
        if self.is_exhausted {
            self.batch.seal();
        }
    }
}

impl<A: Serialize, R: DeserializeOwned, I: Iterator<Item = A>> Iterator for Imap<A, R, I> {
    type Item = Result<R, TaskError>;

    /// # Blocking
    ///
    /// Until the next value has come.
    fn next(&mut self) -> Option<Self::Item> {
        loop {
            self.submit();
            if let Some(value) = self.fetched.pop_front() {
                return Some(value);
            }
            match self.batch.fetch() {
                Ok(Some((count, part))) => {
                    self.ahead -= count as usize;
                    self.fetched.extend(self.batch.values_of(count, &part));
                }
                Ok(None) => return None,
                // It would be so the next time, too: whoever goes on until the end must come to one.
                Err(_) if self.is_given_up => return None,
                Err(waited) => {
                    self.is_given_up = true;
                    return Some(Err(waited.error(&self.batch.task)));
                }
            }
        }
    }
}

impl<A, R, I> fmt::Debug for Imap<A, R, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Imap")
            .field("task", &self.batch.task.to_string())
            .field("ahead", &self.ahead)
            .finish_non_exhaustive()
    }
}
