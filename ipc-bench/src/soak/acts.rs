//! What the workers do, and what must hold whenever it has been done.

use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::time::Duration;

use shmkit::{BarrierError, BarrierWaitResult, LockError, RecvError, SendError, WaitError};

use super::Random;
use super::lines::Lines;
use super::world::{MAX_WORKERS, ONCES_PER_SECOND, SEEN, Sum, Tally, World};
use crate::clock;

/// Something that must not be.
pub type Violation = String;

/// A worker at work.
pub struct Hand<'a> {
    /// What it works with.
    pub world: &'a World,
    /// Which worker it is.
    pub me: usize,
    /// What it does next.
    pub random: Random,
    /// The last message of each worker that it has received from the queue.
    pub last: [u64; MAX_WORKERS],
    /// The ends of channels that it has.
    pub lines: Lines,
}

/// One act.
pub type Act = fn(&mut Hand<'_>) -> Result<(), Violation>;

/// All acts, by name.
pub const ACTS: &[(&str, Act)] = &[
    ("mutex", |hand| hand.keep_books()),
    ("reentrant", |hand| hand.nest()),
    ("rwlock read", |hand| hand.read_plan()),
    ("rwlock write", |hand| hand.write_plan()),
    ("semaphore release", |hand| hand.release()),
    ("semaphore acquire", |hand| hand.acquire()),
    ("permits", |hand| hand.enter()),
    ("event set", |hand| hand.ring()),
    ("event wait", |hand| hand.wait_for_bell()),
    ("event reset", |hand| hand.move_gate()),
    ("condvar produce", |hand| hand.produce()),
    ("condvar consume", |hand| hand.consume()),
    ("barrier", |hand| hand.meet()),
    ("once", |hand| hand.initialise()),
    ("snapshot", |hand| hand.tell_news()),
    ("array", |hand| hand.add()),
    ("queue send", |hand| hand.queue_up()),
    ("queue receive", |hand| hand.take_from_queue()),
    ("map own", |hand| hand.change_own_entry()),
    ("map share", |hand| hand.raise_share()),
    ("map any", |hand| hand.change_any_entry()),
    ("vec own", |hand| hand.change_own_mark()),
    ("vec share", |hand| hand.raise_share_of_mark()),
    ("vec push", |hand| hand.pile_up()),
    ("vec pop", |hand| hand.take_from_pile()),
    ("pipe send", |hand| hand.lines.send(hand.world, &mut hand.random)),
    ("pipe receive", |hand| hand.lines.receive(hand.world, &mut hand.random)),
];

/// How long to wait for what may never come.
const PATIENCE: Duration = Duration::from_millis(20);

/// How many goods may lie about before producers stop.
const ENOUGH: u32 = 20;

pub(super) fn failed(error: impl std::fmt::Display) -> Violation {
    format!("failed: {error}")
}

impl Hand<'_> {
    fn tally(&self) -> &Tally {
        &self.world.desk.tallies[self.me]
    }

    fn recovered(&self) {
        self.tally().recoveries.fetch_add(1, Relaxed);
    }

    /// Does `act` and notes how often it has come to what `sum` counts, so that a kill between the two is known.
    pub(super) fn noting<R>(&self, sum: Sum, act: impl FnOnce() -> R, count: impl FnOnce(&R) -> u64) -> R {
        let tally = self.tally();
        tally.intent.store(sum as u32, SeqCst);
        let result = act();
        let _ = tally.sums.fetch_add(sum as usize, count(&result), SeqCst);
        tally.intent.store(0, SeqCst);
        result
    }

    /// A pause with something held, sometimes.
    pub(super) fn dawdle(&mut self) {
        if self.random.below(4) == 0 {
            std::thread::sleep(self.random.time(Duration::from_micros(500)));
        }
    }

    fn keep_books(&mut self) -> Result<(), Violation> {
        let mutex = &self.world.books;
        let (mut books, poisoned) = match mutex.lock() {
            Ok(books) => (books, false),
            Err(LockError::Poisoned { guard, .. }) => (guard, true),
            Err(error) => return Err(failed(error)),
        };
        let entries = |books: &[u64]| books[1..].iter().sum::<u64>();
        if poisoned {
            books[0] = entries(&*books);
            mutex.clear_poison();
            self.recovered();
        }
        if books[0] != entries(&*books) {
            return Err(format!("half an entry in sound books: {} of {}", books[0], entries(&*books)));
        }
        books[0] += 1;
        self.dawdle();
        books[1 + self.me] += 1;
        Ok(())
    }

    fn nest(&mut self) -> Result<(), Violation> {
        let mutex = &self.world.nested;
        let (outer, poisoned) = match mutex.lock() {
            Ok(outer) => (outer, false),
            Err(LockError::Poisoned { guard, .. }) => (guard, true),
            Err(error) => return Err(failed(error)),
        };
        let number = |at| outer.load(at, Relaxed).unwrap_or(0);
        if poisoned {
            let _ = outer.store(1, number(0), Relaxed);
            mutex.clear_poison();
            self.recovered();
        }
        if number(0) != number(1) {
            return Err(format!("numbers differ in a sound lock: {} and {}", number(0), number(1)));
        }
        let _ = outer.store(0, number(0) + 1, Relaxed);
        let inner = mutex.lock().map_err(failed)?;
        self.dawdle();
        let _ = inner.store(1, number(1) + 1, Relaxed);
        drop(inner);
        if number(0) != number(1) {
            return Err("somebody else was in a reentrant lock".to_owned());
        }
        Ok(())
    }

    fn read_plan(&mut self) -> Result<(), Violation> {
        let [usual, asymmetric] = &self.world.plans;
        let mut handle = None;
        let read = match self.random.below(4) {
            0 => usual.read(),
            1 => asymmetric.read(),
            _ => handle.insert(asymmetric.reader().map_err(failed)?).read(),
        };
        let plan = match read {
            Ok(plan) => plan,
            // Only a writer mends.
            Err(LockError::Poisoned { .. }) => return Ok(()),
            Err(error) => return Err(failed(error)),
        };
        let first = *plan;
        self.dawdle();
        if plan.iter().any(|number| *number != first[0]) || *plan != first {
            return Err(format!("a reader saw {first:?}, then {:?}", *plan));
        }
        Ok(())
    }

    fn write_plan(&mut self) -> Result<(), Violation> {
        // A writer of the second one waits for all CPUs, each time.
        let lock = &self.world.plans[usize::from(self.random.below(4) == 0)];
        let (mut plan, poisoned) = match lock.write() {
            Ok(plan) => (plan, false),
            Err(LockError::Poisoned { guard, .. }) => (guard, true),
            Err(error) => return Err(failed(error)),
        };
        if poisoned {
            let largest = plan.iter().copied().max().unwrap_or(0);
            plan.fill(largest);
            lock.clear_poison();
            self.recovered();
        }
        if plan.iter().any(|number| *number != plan[0]) {
            return Err(format!("a writer found {:?}", *plan));
        }
        plan[..4].iter_mut().for_each(|number| *number += 1);
        self.dawdle();
        plan[4..].iter_mut().for_each(|number| *number += 1);
        Ok(())
    }

    fn release(&mut self) -> Result<(), Violation> {
        if self.world.goods.available() >= ENOUGH {
            return Ok(());
        }
        let n = 1 + self.random.below(3) as u32;
        self.noting(
            Sum::Released,
            || self.world.goods.release_many(n),
            |done| u64::from(if done.is_ok() { n } else { 0 }),
        )
        .map_err(failed)
    }

    fn acquire(&mut self) -> Result<(), Violation> {
        let n = 1 + self.random.below(2) as u32;
        let acquire = || self.world.goods.acquire_many_timeout(n, PATIENCE);
        let acquired = self.noting(Sum::Acquired, acquire, |done| u64::from(if done.is_ok() { n } else { 0 }));
        match acquired {
            Ok(()) | Err(WaitError::TimedOut) => Ok(()),
            Err(error) => Err(failed(error)),
        }
    }

    fn enter(&mut self) -> Result<(), Violation> {
        let permit = self.world.permits.acquire().map_err(failed)?;
        let at = permit.index() as usize;
        let before = self.world.inside.swap(at, self.me as u64 + 1, SeqCst).map_err(failed)?;
        if permit.after_death() {
            self.recovered();
        } else if before != 0 {
            return Err(format!("permit {at} belongs to {} and to worker {before}, who lives", self.me + 1));
        }
        self.dawdle();
        let meanwhile = self.world.inside.swap(at, 0, SeqCst).map_err(failed)?;
        if meanwhile != self.me as u64 + 1 {
            return Err(format!("permit {at} of worker {} was taken by {meanwhile}", self.me + 1));
        }
        Ok(())
    }

    fn ring(&mut self) -> Result<(), Violation> {
        // Noted before: more sets than were noted would make a wait that no set ended look sound.
        let _ = self.tally().sums.fetch_add(Sum::Set as usize, 1, SeqCst);
        self.world.bell.set();
        Ok(())
    }

    fn wait_for_bell(&mut self) -> Result<(), Violation> {
        match self.world.bell.wait_timeout(self.random.time(PATIENCE)) {
            Ok(()) => {
                let _ = self.tally().sums.fetch_add(Sum::Taken as usize, 1, SeqCst);
                Ok(())
            }
            Err(WaitError::TimedOut) => Ok(()),
            Err(error) => Err(failed(error)),
        }
    }

    fn move_gate(&mut self) -> Result<(), Violation> {
        let gate = &self.world.gate;
        let before = gate.generation();
        match self.random.below(3) {
            0 => gate.set(),
            1 => gate.reset(),
            _ => match gate.wait_timeout(self.random.time(PATIENCE)) {
                Ok(()) | Err(WaitError::TimedOut) => {}
                Err(error) => return Err(failed(error)),
            },
        }
        if gate.generation() < before {
            return Err("the generation of an event went back".to_owned());
        }
        Ok(())
    }

    fn produce(&mut self) -> Result<(), Violation> {
        let mutex = &self.world.stock;
        let mut stock = match mutex.lock() {
            Ok(stock) => stock,
            Err(LockError::Poisoned { mut guard, .. }) => {
                guard[0] = guard[1] - guard[2];
                mutex.clear_poison();
                self.recovered();
                guard
            }
            Err(error) => return Err(failed(error)),
        };
        check_stock(&stock)?;
        if stock[0] < u64::from(ENOUGH) {
            stock[1] += 1;
            stock[0] += 1;
            drop(stock);
            self.world.stocked.notify_one();
        }
        Ok(())
    }

    fn consume(&mut self) -> Result<(), Violation> {
        let mutex = &self.world.stock;
        let mend = |stock: &mut [u64; 3]| {
            stock[0] = stock[1] - stock[2];
            mutex.clear_poison();
            self.recovered();
        };
        let stock = match mutex.lock() {
            Ok(stock) => stock,
            Err(LockError::Poisoned { mut guard, .. }) => {
                mend(&mut guard);
                guard
            }
            Err(error) => return Err(failed(error)),
        };
        let mut stock = match self.world.stocked.wait_timeout_while(stock, PATIENCE, |stock| stock[0] == 0) {
            Ok((stock, _)) => stock,
            Err(LockError::Poisoned { guard: (mut stock, _), .. }) => {
                mend(&mut stock);
                stock
            }
            Err(error) => return Err(failed(error)),
        };
        check_stock(&stock)?;
        if stock[0] > 0 {
            stock[2] += 1;
            stock[0] -= 1;
        }
        Ok(())
    }

    fn meet(&mut self) -> Result<(), Violation> {
        let barrier = &self.world.barrier;
        let mut party = match barrier.join() {
            Ok(party) => party,
            Err(BarrierError::Full) => return Ok(()),
            Err(BarrierError::Broken) => {
                self.recovered();
                barrier.reset().map_err(failed)?;
                return Ok(());
            }
            Err(error) => return Err(failed(error)),
        };
        for _ in 0..1 + self.random.below(4) {
            let wait = || party.wait_timeout(PATIENCE);
            let count = |passed: &Result<_, _>| {
                if matches!(passed, Ok(outcome) if BarrierWaitResult::is_leader(*outcome)) {
                    let _ = self.tally().sums.fetch_add(Sum::Led as usize, 1, SeqCst);
                }
                u64::from(passed.is_ok())
            };
            match self.noting(Sum::Passed, wait, count) {
                Ok(_) => {}
                Err(BarrierError::Broken | BarrierError::TimedOut) => {
                    barrier.reset().map_err(failed)?;
                    return Ok(());
                }
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(())
    }

    fn initialise(&mut self) -> Result<(), Violation> {
        let number = clock::monotonic_ns() / (1_000_000_000 / ONCES_PER_SECOND);
        let once = self.world.once(number).map_err(failed)?;
        let mine = (self.me as u64) << 32 | self.random.below(1 << 32);
        let value = *once.get_or_init(|| mine).map_err(failed)?;
        if once.get() != Some(&value) {
            return Err("a value that is initialised once has changed".to_owned());
        }
        Ok(())
    }

    fn tell_news(&mut self) -> Result<(), Violation> {
        let before = self.world.news.read();
        if self.random.below(2) == 0 {
            self.world.news.update(|news| *news = [news[0] + 1; 32]).map_err(failed)?;
        }
        let after = self.world.news.read();
        if [before, after].iter().any(|news| news.iter().any(|number| *number != news[0])) || after[0] < before[0] {
            return Err(format!("torn or old news: {before:?}, then {after:?}"));
        }
        Ok(())
    }

    fn queue_up(&mut self) -> Result<(), Violation> {
        for _ in 0..1 + self.random.below(10) {
            let number = self.world.queued.get(self.me).unwrap_or(0) + 1;
            if number >= 64 * SEEN as u64 {
                return Ok(());
            }
            self.world.queued.set(self.me, number).map_err(failed)?;
            let message = [self.me as u64, number, number ^ (self.me as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)];
            let send = || self.world.queue.send_timeout(message, PATIENCE);
            match self.noting(Sum::Sent, send, |sent| u64::from(sent.is_ok())) {
                Ok(()) => {}
                // The number is left out.
                Err(SendError::TimedOut(_)) => return Ok(()),
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(())
    }

    fn take_from_queue(&mut self) -> Result<(), Violation> {
        for _ in 0..1 + self.random.below(10) {
            let recv = || self.world.queue.recv_timeout(PATIENCE);
            let message = match self.noting(Sum::Received, recv, |received| u64::from(received.is_ok())) {
                Ok(message) => message,
                Err(RecvError::TimedOut) => return Ok(()),
                Err(error) => return Err(failed(error)),
            };
            let [sender, number, sum] = message;
            let was_sent = self.world.queued.get(sender as usize).is_some_and(|last| number <= last);
            if !was_sent || sum != number ^ (sender + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) {
                return Err(format!("a message that nobody has sent: {message:?}"));
            }
            let (at, bit) = (sender as usize * SEEN + number as usize / 64, 1 << (number % 64));
            if self.world.seen.fetch_or(at, bit, SeqCst).map_err(failed)? & bit != 0 {
                return Err(format!("message {number} of worker {sender} was received twice"));
            }
            let last = &mut self.last[sender as usize];
            if number <= *last {
                return Err(format!("message {number} of worker {sender} comes after {last}"));
            }
            *last = number;
        }
        Ok(())
    }

    fn add(&mut self) -> Result<(), Violation> {
        let at = self.random.below(16) as usize;
        self.noting(Sum::Added, || self.world.numbers.fetch_add(at, 1, SeqCst), |_| 1).map(drop).map_err(failed)
    }
}

fn check_stock(stock: &[u64; 3]) -> Result<(), Violation> {
    if stock[0] == stock[1] - stock[2] { Ok(()) } else { Err(format!("half a change in a sound stock: {stock:?}")) }
}
