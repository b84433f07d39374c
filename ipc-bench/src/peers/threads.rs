//! What works only between the threads of a process, in a team of processes: the first member does it
//! all, with a thread for each of the others.

use std::cell::RefCell;
use std::io;
use std::process;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::thread::{self, JoinHandle};

use crate::pin::pin_to;
use crate::team::{Place, Play, Seat};

/// What the threads of one process do.
pub trait Threaded: Send + Sync + 'static {
    /// As [`Play::IS_LATENCY`].
    const IS_LATENCY: bool = false;

    /// Makes what the threads use.
    fn create() -> Self;

    /// Does `turns` turns in the place of `seat`, with as many others as it says.
    fn play(&self, seat: Seat, turns: u64);
}

/// A team in which only the first process has anything to do. Its threads are started for each round, before
/// that begins.
pub struct Threads<T> {
    game: Arc<T>,
    others: RefCell<Option<Others>>,
}

/// The threads besides the first, of one round.
struct Others {
    start: Arc<Start>,
    threads: Vec<JoinHandle<()>>,
}

/// How the first thread and the others begin and end together.
#[derive(Default)]
struct Start {
    /// How many of the others are where they belong.
    ready: AtomicU64,
    /// Zero until the round begins; written by the first thread.
    turns: AtomicU64,
    /// How many of the others have ended the round.
    ended: AtomicU64,
}

impl Others {
    fn start<T: Threaded>(game: &Arc<T>, seat: Seat) -> Self {
        let start = Arc::new(Start::default());
        let threads = (1..seat.members).map(|member| {
            let (game, start) = (Arc::clone(game), Arc::clone(&start));
            thread::spawn(move || start.play(&*game, Seat { member, ..seat }))
        });
        let others = Others { threads: threads.collect(), start };
        others.wait_for_all(&others.start.ready);
        others
    }

    /// Waits until `count` has counted all.
    fn wait_for_all(&self, count: &AtomicU64) {
        // Acquire pairs with the Release in `Start::play`.
        while count.load(Acquire) < self.threads.len() as u64 {
            thread::yield_now();
        }
    }

    /// Lets the others do `turns` turns, does `first` meanwhile, and waits until all have ended.
    fn play(&self, turns: u64, first: impl FnOnce()) {
        // Release pairs with the Acquire in `Start::play`.
        self.start.turns.store(turns, Release);
        first();
        self.wait_for_all(&self.start.ended);
    }

    fn join(self) {
        for thread in self.threads {
            thread.join().expect("a panic ends the process");
        }
    }
}

/// Ends the process when its thread panics: the others would wait for it.
struct EndWithThread;

impl Drop for EndWithThread {
    fn drop(&mut self) {
        if thread::panicking() {
            process::abort();
        }
    }
}

impl Start {
    fn play(&self, game: &impl Threaded, seat: Seat) {
        let _ends_all = EndWithThread;
        let _pinned = pin_to(seat.cpus[seat.member % 2]).expect("pinning to an allowed CPU");
        // Release pairs with the Acquire in `Others::wait_for_all`.
        self.ready.fetch_add(1, Release);
        let turns = loop {
            // Acquire pairs with the Release in `Others::play`.
            match self.turns.load(Acquire) {
                0 => thread::yield_now(),
                turns => break turns,
            }
        };
        game.play(seat, turns);
        // Release pairs with the Acquire in `Others::wait_for_all`.
        self.ended.fetch_add(1, Release);
    }
}

impl<T: Threaded> Place for Threads<T> {
    fn create(_: usize) -> io::Result<Self> {
        Ok(Threads { game: Arc::new(T::create()), others: RefCell::new(None) })
    }

    /// Nowhere: each process that attaches has its own, and only the first uses it.
    fn address(&self) -> String {
        String::new()
    }

    fn attach(_: &str) -> io::Result<Self> {
        Self::create(0)
    }
}

impl<T: Threaded> Play for Threads<T> {
    const IS_LATENCY: bool = T::IS_LATENCY;

    fn prepare(&self, seat: Seat) {
        if seat.member > 0 {
            return;
        }
        if let Some(others) = self.others.take() {
            others.join();
        }
        self.others.replace(Some(Others::start(&self.game, seat)));
    }

    fn play(&self, seat: Seat, turns: u64) {
        if let Some(others) = &*self.others.borrow() {
            others.play(turns, || self.game.play(seat, turns));
        }
    }

    fn play_singly(&self, seat: Seat, turns: u64, done: &mut dyn FnMut()) {
        if let Some(others) = &*self.others.borrow() {
            others.play(turns, || {
                for _ in 0..turns {
                    self.game.play(seat, 1);
                    done();
                }
            });
        }
    }
}
