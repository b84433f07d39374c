//! What becomes of the others when one of several is killed while it holds, waits, or writes: they go on, they are told,
//! or they hang.
//!
//! One kill: the survivor, a process, attaches; the victim, another one, attaches, gets to where it is to die, and says so in
//! shared memory; the survivor begins with what the death may disturb, before the kill if it is seen asleep in it, or
//! after; the controller kills, and waits for the survivor no longer than a bound. Each kill has processes and
//! memory of its own, so nothing has to be mended.

use std::any::Any;
use std::fmt::{self, Display, Formatter};
use std::io;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU8, AtomicU64};
use std::thread;
use std::time::Duration;

use crate::child::{Child, Orders};
use crate::clock::monotonic_ns;
use crate::figure::SUBJECT;
use crate::pin::Pair;
use crate::proc;
use crate::shared::{SharedBox, SharedLayout};
use crate::signal::Signal;
use crate::team::Place;

/// The role of those who die.
pub const VICTIM: &str = "killed-victim";
/// The role of those who are left.
pub const SURVIVOR: &str = "killed-survivor";

const ANSWER_WITHIN: Duration = Duration::from_secs(20);
/// Some wait by looking, and are never seen asleep: then the kill comes after this time.
const ASLEEP_WITHIN: Duration = Duration::from_millis(500);
/// How long a victim writes.
const WRITES_FOR: Duration = Duration::from_millis(5);
const TEXT: usize = 96;

/// What the victim was doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// It had what the others wait for.
    Holding,
    /// It was asleep, waiting for the others.
    Waiting,
    /// It was sending one message after the other.
    Writing,
    /// It was doing what the others wait for the end of.
    Working,
}

impl Display for When {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            When::Holding => "holding",
            When::Waiting => "waiting",
            When::Writing => "writing",
            When::Working => "working",
        })
    }
}

/// What became of the survivor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It goes on with what is shared, after this time.
    Recovered(Duration),
    /// It was told, after this time.
    Told(Duration, String),
    /// It was still waiting after this time.
    Hangs(Duration),
    /// This machine does not have it, or it does not apply.
    Absent(String),
}

/// A row of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Whose it is.
    pub whose: &'static str,
    /// What it is.
    pub what: String,
    /// What the victim was doing.
    pub when: When,
    /// What became of the survivor.
    pub outcome: Outcome,
}

/// How a survivor's part has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// All is as it should be: what the victim had is free, what it waited for works.
    GoesOn,
    /// An error says that somebody is dead.
    Told(String),
}

/// Something that a process can die with.
pub trait Doomed: Place {
    /// What the survivor does before there is a victim.
    ///
    /// # Errors
    /// Those of the candidate.
    fn prepare(&self) -> io::Result<()> {
        Ok(())
    }

    /// What the victim does. It calls `here` when it is where it shall die, or about to wait there.
    ///
    /// # Errors
    /// Those of the candidate.
    fn fall(&self, here: &dyn Fn()) -> io::Result<()>;

    /// Gives up what the controller has, and only victim and survivor shall have.
    fn leave(&self) {}

    /// What the survivor does.
    ///
    /// # Errors
    /// What nobody expects; errors that tell of the death are no such.
    fn go_on(&self) -> io::Result<Ended>;
}

/// A row that is to be filled.
pub struct Entry {
    /// Whose it is.
    pub whose: &'static str,
    /// What it is.
    pub what: &'static str,
    /// What the victim is doing.
    pub when: When,
    asks_later: bool,
    may_hang: bool,
    create: fn() -> io::Result<Stage>,
    fall: fn(&Orders, &Board) -> io::Result<()>,
    survive: fn(&Orders, &Board) -> io::Result<()>,
}

struct Stage {
    address: String,
    leave: Box<dyn Fn()>,
    // Keeps the memory for those who come by its address.
    _kept: Rc<dyn Any>,
}

impl Stage {
    fn of<D: Doomed>() -> io::Result<Self> {
        let place = Rc::new(D::create(2)?);
        let same = Rc::clone(&place);
        Ok(Stage { address: place.address(), leave: Box::new(move || same.leave()), _kept: place })
    }
}

impl Entry {
    /// A row for `D`, which its survivors ask for before the kill.
    pub const fn of<D: Doomed>(whose: &'static str, what: &'static str, when: When) -> Self {
        let (create, fall, survive) = (Stage::of::<D>, fall::<D>, survive::<D>);
        Entry { whose, what, when, asks_later: false, may_hang: false, create, fall, survive }
    }

    /// The same with a survivor that comes after the death.
    pub const fn asks_later(self) -> Self {
        Entry { asks_later: true, ..self }
    }

    /// The same for one of ours that does not promise anything here.
    pub const fn may_hang(self) -> Self {
        Entry { may_hang: true, ..self }
    }

    /// Kills `kills` victims, and waits for each survivor no longer than `bound`.
    ///
    /// # Errors
    /// Those of starting processes, or of one that ends; `TimedOut` if one of ours hangs that must not.
    pub fn run(&self, index: usize, kills: usize, bound: Duration) -> io::Result<Row> {
        let mut outcomes = Vec::new();
        for _ in 0..kills {
            match self.kill(index, bound) {
                Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                    outcomes = vec![Outcome::Absent(error.to_string())];
                    break;
                }
                // One hang is enough: each takes as long as the bound.
                Ok(hang @ Outcome::Hangs(_)) => {
                    outcomes.push(hang);
                    break;
                }
                outcome => outcomes.push(outcome?),
            }
        }
        let outcome = typical(outcomes);
        if matches!(outcome, Outcome::Hangs(_)) && self.whose == SUBJECT && !self.may_hang {
            let message = format!("{}, {}: hangs after a kill", self.what, self.when);
            return Err(io::Error::new(io::ErrorKind::TimedOut, message));
        }
        Ok(Row { whose: self.whose, what: self.what.into(), when: self.when, outcome })
    }

    fn kill(&self, index: usize, bound: Duration) -> io::Result<Outcome> {
        let pair = Pair::choose()?;
        let stage = (self.create)()?;
        let board = SharedBox::<Board>::create()?;
        let start = |role, cpu: usize| {
            let arguments = [
                ("entry", index.to_string()),
                ("address", stage.address.clone()),
                ("board", board.address()),
                ("cpu", cpu.to_string()),
            ];
            Child::start(role, &arguments)
        };
        let mut survivor = start(SURVIVOR, pair.first)?;
        survivor.await_signal(&board.ready, 1, ANSWER_WITHIN)?;
        let mut victim = start(VICTIM, pair.second)?;
        victim.await_signal(&board.here, 1, ANSWER_WITHIN)?;
        if self.when == When::Waiting {
            settle(victim.pid())?;
        }
        (stage.leave)();
        if !self.asks_later {
            board.go_on.set(1);
            survivor.await_signal(&board.asks, 1, ANSWER_WITHIN)?;
            match self.when {
                When::Writing => thread::sleep(WRITES_FOR),
                When::Holding | When::Waiting | When::Working => settle(survivor.pid())?,
            }
        }
        let mut since = victim.kill()?;
        victim.reap()?;
        if self.asks_later {
            since = monotonic_ns();
            board.go_on.set(1);
        }
        match survivor.await_signal(&board.done, 1, bound) {
            Err(error) if error.kind() == io::ErrorKind::TimedOut => return Ok(Outcome::Hangs(bound)),
            done => done?,
        }
        let known_at = board.known_at.load(Relaxed);
        // One that ends a stream by itself: nothing was measured.
        let time = known_at
            .checked_sub(since)
            .ok_or_else(|| io::Error::other(format!("{}: knew before the kill", self.what)))?;
        let time = Duration::from_nanos(time);
        Ok(match board.text() {
            text if text.is_empty() => Outcome::Recovered(time),
            text => Outcome::Told(time, text),
        })
    }

    /// Dies as a child with these orders.
    ///
    /// # Errors
    /// Unfit orders, or those of attaching.
    pub fn fall_as_told(&self, orders: &Orders) -> io::Result<()> {
        let board = SharedBox::<Board>::attach(orders.text("board")?)?;
        (self.fall)(orders, &board)
    }

    /// Survives as a child with these orders.
    ///
    /// # Errors
    /// Unfit orders, or those of attaching.
    pub fn survive_as_told(&self, orders: &Orders) -> io::Result<()> {
        let board = SharedBox::<Board>::attach(orders.text("board")?)?;
        (self.survive)(orders, &board)
    }
}

/// Waits until the main thread of a process sleeps, but not for ever: some wait by looking.
fn settle(pid: u32) -> io::Result<()> {
    match proc::wait_until_asleep(pid, ASLEEP_WITHIN) {
        Err(error) if error.kind() == io::ErrorKind::TimedOut => Ok(()),
        settled => settled,
    }
}

/// Any hang, else the one in the middle.
fn typical(mut outcomes: Vec<Outcome>) -> Outcome {
    let time = |outcome: &Outcome| match outcome {
        Outcome::Recovered(time) | Outcome::Told(time, _) => *time,
        Outcome::Hangs(_) => Duration::MAX,
        Outcome::Absent(_) => Duration::ZERO,
    };
    outcomes.sort_by_key(time);
    match outcomes.pop_if(|last| matches!(last, Outcome::Hangs(_))) {
        Some(hang) => hang,
        None => outcomes.swap_remove(outcomes.len() / 2),
    }
}

/// What controller, victim and survivor share besides the candidate.
#[repr(C)]
struct Board {
    /// 1 when the survivor is prepared.
    ready: Signal,
    /// 1 when the victim is where it shall die.
    here: Signal,
    /// 1 when the survivor shall go on; written by the controller.
    go_on: Signal,
    /// 1 when it is about to.
    asks: Signal,
    /// 1 when it has.
    done: Signal,
    /// When it knew.
    known_at: AtomicU64,
    /// What it was told; zero behind that.
    text: [AtomicU8; TEXT],
}

// SAFETY: repr(C) of atomics, for which zero is a value.
unsafe impl SharedLayout for Board {}

impl Board {
    fn text(&self) -> String {
        let bytes: Vec<u8> = self.text.iter().map(|byte| byte.load(Relaxed)).take_while(|&byte| byte != 0).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn set_text(&self, text: &str) {
        for (place, byte) in self.text.iter().zip(text.bytes()) {
            place.store(byte, Relaxed);
        }
    }
}

fn fall<D: Doomed>(orders: &Orders, board: &Board) -> io::Result<()> {
    let place = D::attach(orders.text("address")?)?;
    place.fall(&|| board.here.set(1))?;
    loop {
        // SAFETY: `pause` takes nothing and touches no memory.
        unsafe { libc::pause() };
    }
}

fn survive<D: Doomed>(orders: &Orders, board: &Board) -> io::Result<()> {
    let place = D::attach(orders.text("address")?)?;
    place.prepare()?;
    board.ready.set(1);
    board.go_on.wait_for_change(0);
    board.asks.set(1);
    let ended = place.go_on()?;
    board.known_at.store(monotonic_ns(), Relaxed);
    if let Ended::Told(text) = ended {
        board.set_text(&text);
    }
    board.done.set(1);
    loop {
        // Until the controller has seen it.
        thread::park();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_hang_among_many_kills_is_a_hang() {
        let fast = Outcome::Recovered(Duration::from_micros(3));
        let hang = Outcome::Hangs(Duration::from_secs(1));
        assert_eq!(typical(vec![hang.clone(), fast.clone(), fast.clone()]), hang);
        assert_eq!(typical(vec![fast.clone()]), fast);
    }
}
