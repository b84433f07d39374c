//! The readers-writer lock: exclusion, lost wake-ups, deaths.
//!
//! A model's lock has two cells and the one of a downgraded writer.

use std::sync::Arc;

use loom::cell::UnsafeCell;
use shmkit_core::crash_point;
use shmkit_core::shim::explore::{explore, explore_deaths, processes, spawn, spawn_mortal};
use shmkit_core::shim::futex;
use shmkit_sync::{LockError, LockResult, Poison, RwLock, RwLockWriteGuard};
use std::time::Duration;

/// A lock, and two numbers beside it that are equal whenever no writer is in.
pub(super) struct Board {
    pub(super) lock: RwLock<u32>,
    numbers: UnsafeCell<[u32; 2]>,
}

// SAFETY: `numbers` is reached under the lock only; that this holds is what the models check.
unsafe impl Sync for Board {}
// SAFETY: as above.
unsafe impl Send for Board {}

impl Board {
    pub(super) fn new() -> Arc<Self> {
        Self::of(RwLock::new(0))
    }

    pub(super) fn of(lock: RwLock<u32>) -> Arc<Self> {
        Arc::new(Self { lock, numbers: UnsafeCell::new([0; 2]) })
    }

    /// Looks at the numbers; loom fails the model if a writer is in.
    pub(super) fn look(&self, may_differ: bool) -> u32 {
        self.numbers.with(|numbers| {
            // SAFETY: the lock is held for reading.
            let numbers = unsafe { &*numbers };
            assert!(numbers[0] == numbers[1] || may_differ, "half-changed and sound");
            numbers[0]
        })
    }

    /// Changes one of the numbers; loom fails the model if anybody else is in.
    fn change(&self, half: usize) {
        // SAFETY: the lock is held for writing.
        self.numbers.with_mut(|numbers| unsafe { (*numbers)[half] += 1 });
    }

    fn mend(&self) {
        // SAFETY: the lock is held for writing.
        self.numbers.with_mut(|numbers| unsafe { (*numbers)[1] = (*numbers)[0] });
    }

    /// Reads; says what the number was.
    pub(super) fn read(&self) -> u32 {
        let (_guard, poisoned) = admitted(self.lock.read());
        self.look(poisoned)
    }

    fn read_timed(&self) {
        match self.lock.read_timeout(Duration::ZERO) {
            Err(LockError::TimedOut) => {}
            locked => {
                let (_guard, poisoned) = admitted(locked);
                self.look(poisoned);
            }
        }
    }

    /// Writes; says whether the lock was poisoned. What is half-changed is mended.
    pub(super) fn write(&self) -> bool {
        let (guard, poisoned) = admitted(self.lock.write());
        self.write_by(guard, poisoned);
        poisoned
    }

    pub(super) fn write_by(&self, _guard: RwLockWriteGuard<'_, u32>, poisoned: bool) {
        self.look(poisoned);
        if poisoned {
            self.mend();
            self.lock.clear_poison();
        }
        self.change(0);
        crash_point!("model.half");
        self.change(1);
    }

    fn write_timed(&self) -> bool {
        match self.lock.write_timeout(Duration::ZERO) {
            Err(LockError::TimedOut) => false,
            locked => {
                let (guard, poisoned) = admitted(locked);
                self.write_by(guard, poisoned);
                true
            }
        }
    }

    /// Writes and goes on as a reader; says what the number is then, which is as it was left.
    pub(super) fn write_and_read(&self) -> u32 {
        let (guard, poisoned) = admitted(self.lock.write());
        self.look(poisoned);
        (0..2).for_each(|half| self.change(half));
        let left = self.look(poisoned);
        let _guard = RwLockWriteGuard::downgrade(guard);
        assert_eq!(self.look(poisoned), left, "somebody else has written");
        left
    }
}

pub(super) fn admitted<G>(locked: LockResult<G>) -> (G, bool) {
    match locked {
        Ok(guard) => (guard, false),
        Err(LockError::Poisoned { guard, cause: Poison::OwnerDied }) => (guard, true),
        Err(error) => panic!("{error}"),
    }
}

/// A board, processes in one region, and threads that act for all but the first of them.
fn scene<const N: usize>(lives: [fn(&Board); N], meanwhile: impl FnOnce(&Board)) -> Arc<Board> {
    scene_at(Board::new, lives, meanwhile)
}

pub(super) fn scene_at<const N: usize>(
    board: fn() -> Arc<Board>,
    lives: [fn(&Board); N],
    meanwhile: impl FnOnce(&Board),
) -> Arc<Board> {
    let (_region, processes) = processes::<N>();
    let board = board();
    let threads: Vec<_> = (1..N)
        .map(|i| {
            let board = Arc::clone(&board);
            spawn(&processes[i], move || lives[i](&board))
        })
        .collect();
    processes[0].act();
    lives[0](&board);
    meanwhile(&board);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    board
}

pub(super) fn read(board: &Board) {
    board.read();
}

pub(super) fn write(board: &Board) {
    assert!(!board.write());
}

pub(super) fn nothing(_: &Board) {}

#[test]
fn a_reader_and_a_writer_exclude_each_other_and_none_is_forgotten() {
    explore(3, || {
        let board =
            scene([|board| (0..2).for_each(|_| read(board)), |board| (0..2).for_each(|_| write(board))], nothing);
        assert_eq!(board.read(), 2);
    });
}

#[test]
fn two_readers_and_a_writer_exclude_each_other_and_none_is_forgotten() {
    explore(2, || {
        let board = scene([read, read, write], nothing);
        assert_eq!(board.read(), 1);
    });
}

#[test]
fn two_writers_and_a_reader_exclude_each_other_and_none_is_forgotten() {
    explore(2, || {
        let board = scene([write, read, write], nothing);
        assert_eq!(board.read(), 2);
    });
}

#[test]
fn wake_ups_for_no_reason_change_nothing() {
    explore(2, || {
        scene([read, write, read], |_| futex::disturb());
    });
}

#[test]
fn a_reader_without_a_free_cell_waits_for_one_and_no_longer() {
    explore(2, || {
        let board = scene([read, read, read], nothing);
        assert!(board.lock.try_write().is_ok());
    });
}

#[test]
fn a_full_house_with_a_late_reader_empties_for_a_writer() {
    explore(1, || {
        let board = scene([read, read, read, write], nothing);
        assert_eq!(board.read(), 1);
    });
}

#[test]
fn no_writer_comes_between_a_downgrade_and_its_reader() {
    explore(2, || {
        scene([|board| _ = board.write_and_read(), |board| (0..2).for_each(|_| write(board)), nothing], nothing);
    });
}

#[test]
fn a_reader_beside_a_downgrade_sees_what_was_written() {
    explore(3, || {
        let board = scene([|board| assert_eq!(board.write_and_read(), 1), read], nothing);
        assert_eq!(board.read(), 1);
        assert!(board.lock.try_write().is_ok());
    });
}

/// A writer whose time is over opens the gate again, and those whom it kept out come in.
#[test]
fn a_writer_that_times_out_leaves_nobody_outside() {
    explore(2, || {
        let (_region, [owner, hasty, patient]) = processes();
        let board = Board::new();
        owner.act();
        let guard = board.lock.read().expect("a new lock");
        let threads = [
            spawn(&hasty, {
                let board = Arc::clone(&board);
                move || _ = board.write_timed()
            }),
            spawn(&patient, {
                let board = Arc::clone(&board);
                move || _ = board.read()
            }),
        ];
        futex::expire();
        // Not before the patient one has read: it must not be left outside because this one is in.
        let [hasty, patient] = threads;
        patient.join().unwrap();
        drop(guard);
        hasty.join().unwrap();
        assert!(board.lock.try_write().is_ok());
    });
}

#[test]
fn one_who_times_out_swallows_no_wake_up() {
    explore(2, || {
        let (_region, [owner, hasty, patient]) = processes();
        let board = Board::new();
        owner.act();
        let guard = board.lock.write().expect("a new lock");
        let threads = [
            spawn(&hasty, {
                let board = Arc::clone(&board);
                move || board.read_timed()
            }),
            spawn(&patient, {
                let board = Arc::clone(&board);
                move || write(&board)
            }),
        ];
        drop(guard);
        futex::expire();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(board.read(), 1);
    });
}

#[test]
fn tries_get_in_only_alone_or_among_readers() {
    explore(2, || {
        scene(
            [
                |board| {
                    if let Ok(guard) = board.lock.try_write() {
                        board.write_by(guard, false);
                    }
                },
                |board| {
                    if let Ok(_guard) = board.lock.try_read() {
                        board.look(false);
                    }
                },
                write,
            ],
            nothing,
        );
    });
}

/// The owner dies after `before`; then the victim dies at each point of what it does, beside the survivor. How news of a death get about is
/// modelled in the core: here the main thread tells them, at any time after the death.
fn survive(
    preemptions: usize,
    points: &[&'static str],
    victim_does: fn(&Board),
    before: fn(&Board),
    survivor_does: fn(&Board),
) {
    survive_at(Board::new, preemptions, points, victim_does, before, survivor_does);
}

pub(super) fn survive_at(
    board: fn() -> Arc<Board>,
    preemptions: usize,
    points: &[&'static str],
    victim_does: fn(&Board),
    before: fn(&Board),
    survivor_does: fn(&Board),
) {
    explore_deaths(preemptions, points, move |at| {
        let (_region, [owner, survivor, victim]) = processes();
        let board = board();
        owner.act();
        before(&board);
        owner.die();
        survivor.act();
        survivor.sweep();
        let (thread, place) = spawn_mortal(&victim, at, {
            let board = Arc::clone(&board);
            move || victim_does(&board)
        });
        let witness = spawn(&survivor, {
            let board = Arc::clone(&board);
            move || survivor_does(&board)
        });
        thread.join().unwrap();
        survivor.sweep();
        witness.join().unwrap();
        // Whatever has died where, the lock goes on.
        board.write();
        board.read();
        assert!(!board.lock.is_poisoned());
        *place.lock().unwrap()
    });
}

#[test]
fn a_reader_that_dies_anywhere_is_forgotten() {
    let points =
        ["rwlock.read.after_claim", "rwlock.read.before_leave", "rwlock.read.after_leave", "rwlock.read.before_wake"];
    survive(2, &points, read, nothing, |board| assert!(!board.write(), "a reader poisons nothing"));
}

/// The victim and the survivor both wait behind a writer that is dead already.
#[test]
fn one_who_dies_repairing_leaves_it_to_the_next() {
    let points = [
        "rwlock.repair.before_poison",
        "rwlock.repair.before_open",
        "rwlock.read.after_turn",
        "rwlock.open.before_unlock",
    ];
    let die_writing = |board: &Board| {
        let guard = board.lock.write().expect("a new lock");
        board.change(0);
        core::mem::forget(guard);
    };
    survive(2, &points, read, die_writing, |board| _ = board.read());
}

#[test]
fn a_writer_that_dies_anywhere_leaves_whole_data_or_poison() {
    let points = [
        "rwlock.write.after_shut",
        "rwlock.write.after_begin",
        "model.half",
        "rwlock.write.before_open",
        "rwlock.open.before_unlock",
    ];
    survive(2, &points, |board| _ = board.write(), nothing, |board| _ = board.read());
}

#[test]
fn a_downgrade_that_dies_anywhere_leaves_whole_data_or_poison() {
    let points = [
        "rwlock.downgrade.before_claim",
        "rwlock.downgrade.after_claim",
        "rwlock.open.before_unlock",
        "rwlock.read.before_leave",
    ];
    survive(2, &points, |board| _ = board.write_and_read(), nothing, |board| _ = board.write());
}

/// The victim waits for a reader, and dies before, in and after its sleep.
#[test]
fn a_writer_that_dies_waiting_for_readers_poisons_nothing() {
    let points = ["rwlock.wait.after_waiting", "rwlock.wait.after_wait", "rwlock.write.after_shut"];
    explore_deaths(1, &points, move |at| {
        let (_region, [reader, survivor, victim]) = processes();
        let board = Board::new();
        reader.act();
        let guard = board.lock.read().expect("a new lock");
        let (thread, place) = spawn_mortal(&victim, at, {
            let board = Arc::clone(&board);
            move || _ = board.write()
        });
        let witness = spawn(&survivor, {
            let board = Arc::clone(&board);
            move || _ = board.read()
        });
        board.look(false);
        drop(guard);
        thread.join().unwrap();
        survivor.act();
        survivor.sweep();
        witness.join().unwrap();
        let place = *place.lock().unwrap();
        let was_writing = matches!(place, Some("rwlock.write.after_begin" | "model.half" | "rwlock.write.before_open"));
        assert_eq!(board.write(), was_writing, "{place:?}");
        place
    });
}

/// Both cells are those of dead readers; the victim inherits one.
#[test]
fn cells_of_the_dead_are_inherited_also_if_the_heir_dies() {
    let points = ["rwlock.read.after_inherit", "rwlock.read.after_turn"];
    let read_twice = |board: &Board| {
        core::mem::forget(board.lock.read().expect("a new lock"));
        core::mem::forget(board.lock.read().expect("a new lock"));
    };
    survive(1, &points, read, read_twice, |board| _ = board.read());
}

#[test]
fn one_who_dies_forgetting_the_dead_leaves_it_to_the_next() {
    let points = ["rwlock.write.after_forget"];
    let read_once = |board: &Board| core::mem::forget(board.lock.read().expect("a new lock"));
    survive(2, &points, |board| _ = board.write(), read_once, |board| _ = board.write());
}
