//! Handles that read by plain stores: exclusion, lost wake-ups, deaths. In a model both sides of their barrier are fences, and handles can keep one of
//! the two cells.

use core::mem::forget;
use core::time::Duration;
use std::sync::Arc;

use shmkit_core::shim::explore::{explore, explore_deaths, processes, spawn, spawn_mortal};
use shmkit_core::shim::futex;
use shmkit_sync::{LockError, RwLock, RwLockReader};

use super::rwlock::{Board, admitted, nothing, read, scene_at, survive_at, write};

fn board() -> Arc<Board> {
    Board::of(RwLock::new(0).asymmetric())
}

fn handle(board: &Board) -> RwLockReader<'_, u32> {
    board.lock.reader().expect("a participant")
}

fn read_by(board: &Board, handle: &mut RwLockReader<'_, u32>) -> u32 {
    let (_guard, poisoned) = admitted(handle.read());
    board.look(poisoned)
}

fn read_by_handle(board: &Board) {
    read_by(board, &mut handle(board));
}

fn read_twice_by_handle(board: &Board) {
    let mut handle = handle(board);
    (0..2).for_each(|_| _ = read_by(board, &mut handle));
}

#[test]
fn a_handle_and_a_writer_exclude_each_other_and_none_is_forgotten() {
    explore(3, || {
        let board = scene_at(board, [read_twice_by_handle, |board| (0..2).for_each(|_| write(board))], nothing);
        assert_eq!(board.read(), 2);
        assert!(handle(&board).is_cheap(), "its cell is free again");
    });
}

#[test]
fn a_handle_a_reader_and_a_writer_exclude_each_other_and_none_is_forgotten() {
    explore(2, || {
        let board = scene_at(board, [read_by_handle, read, write], nothing);
        assert_eq!(board.read(), 1);
    });
}

#[test]
fn two_writers_and_a_handle_exclude_each_other_and_none_is_forgotten() {
    explore(2, || {
        let board = scene_at(board, [write, read_by_handle, write], nothing);
        assert_eq!(board.read(), 2);
    });
}

/// One of the two keeps the only cell that there is for handles; the other one reads as those without a handle do.
#[test]
fn two_handles_and_a_writer_exclude_each_other_and_none_is_forgotten() {
    explore(2, || {
        let board = scene_at(board, [read_by_handle, read_by_handle, write], nothing);
        assert_eq!(board.read(), 1);
    });
}

/// The second handle is made while the first one has read and is going to read again.
#[test]
fn a_handle_between_two_reads_keeps_its_cell() {
    explore(2, || {
        let board = scene_at(board, [read_twice_by_handle, write, read_by_handle], nothing);
        assert_eq!(board.read(), 1);
    });
}

#[test]
fn wake_ups_for_no_reason_change_nothing() {
    explore(2, || {
        scene_at(board, [read_by_handle, write, read_by_handle], |_| futex::disturb());
    });
}

/// What a handle leaves of the cells is enough for all others, one by one.
#[test]
fn readers_beside_a_handle_wait_for_a_cell_and_no_longer() {
    explore(2, || {
        let keep = |board: &Board| {
            let mut handle = handle(board);
            read(board);
            read_by(board, &mut handle);
        };
        let board = scene_at(board, [keep, read, read], nothing);
        assert!(board.lock.try_write().is_ok());
    });
}

#[test]
fn a_handle_beside_a_downgrade_sees_what_was_written() {
    explore(3, || {
        let board = scene_at(board, [|board| assert_eq!(board.write_and_read(), 1), read_by_handle], nothing);
        assert_eq!(read_by(&board, &mut handle(&board)), 1);
        assert!(board.lock.try_write().is_ok());
    });
}

#[test]
fn tries_get_in_only_alone_or_among_readers() {
    explore(2, || {
        scene_at(
            board,
            [
                |board| {
                    if let Ok(guard) = board.lock.try_write() {
                        board.write_by(guard, false);
                    }
                },
                |board| {
                    if let Ok(_guard) = handle(board).try_read() {
                        board.look(false);
                    }
                },
                write,
            ],
            nothing,
        );
    });
}

/// A handle whose time is over has left nothing in its cell that a writer would wait for.
#[test]
fn a_handle_that_times_out_keeps_nobody_out() {
    explore(2, || {
        let board = scene_at(
            board,
            [
                |board| match handle(board).read_timeout(Duration::ZERO) {
                    Err(LockError::TimedOut) => {}
                    locked => {
                        let (_guard, poisoned) = admitted(locked);
                        board.look(poisoned);
                    }
                },
                |board| (0..2).for_each(|_| write(board)),
            ],
            |_| futex::expire(),
        );
        assert!(board.lock.try_write().is_ok());
    });
}

#[test]
fn a_handle_that_dies_anywhere_is_forgotten() {
    let points = [
        "rwlock.keep.after_claim",
        "rwlock.kept.after_enter",
        "rwlock.read.before_leave",
        "rwlock.read.after_leave",
        "rwlock.read.before_wake",
    ];
    let survivor_does = |board: &Board| assert!(!board.write(), "a reader poisons nothing");
    survive_at(board, 2, &points, read_by_handle, nothing, survivor_does);
}

/// The victim waits behind a writer that is dead already.
#[test]
fn a_handle_that_dies_late_leaves_the_rest_to_the_next() {
    let points = ["rwlock.repair.before_poison", "rwlock.read.after_turn", "rwlock.kept.after_enter"];
    let die_writing = |board: &Board| forget(board.lock.write().expect("a new lock"));
    survive_at(board, 2, &points, read_by_handle, die_writing, |board| _ = board.read());
}

/// The dead had a handle, and read by it or not; the victim takes its cell, for a handle of its own.
#[test]
fn the_cells_of_dead_handles_are_taken_over_also_if_the_heir_dies() {
    let points = ["rwlock.keep.after_claim", "rwlock.kept.after_enter", "rwlock.read.before_leave"];
    let idle = |board: &Board| forget(handle(board));
    survive_at(board, 2, &points, read_by_handle, idle, |board| _ = board.write());
    let reading = |board: &Board| {
        let mut handle = handle(board);
        forget(handle.read().expect("a new lock"));
        forget(handle);
    };
    survive_at(board, 2, &points, read_by_handle, reading, |board| _ = board.write());
}

/// The cell of a dead that a writer is about to forget is kept for a new handle meanwhile.
#[test]
fn a_new_handle_in_the_cell_of_a_dead_keeps_no_writer_asleep() {
    explore(2, || {
        let (_region, [owner, writer, keeper]) = processes();
        let board = board();
        owner.act();
        let mut dead = handle(&board);
        forget(dead.read().expect("a new lock"));
        forget(dead);
        owner.die();
        keeper.act();
        keeper.sweep();
        let thread = spawn(&writer, {
            let board = Arc::clone(&board);
            move || assert!(!board.write(), "a reader poisons nothing")
        });
        let heir = handle(&board);
        thread.join().unwrap();
        drop(heir);
    });
}

/// The one who comes after it must not take what it has begun for done: a handle may have come in before.
#[test]
fn a_writer_that_dies_ending_the_bias_lets_nobody_in_beside_a_handle() {
    let points = ["rwlock.write.after_bias", "rwlock.write.after_barrier", "rwlock.write.after_shut"];
    explore_deaths(2, &points, move |at| {
        let (_region, [survivor, reader, victim]) = processes();
        let board = board();
        let reading = spawn(&reader, {
            let board = Arc::clone(&board);
            move || read_by_handle(&board)
        });
        let (dying, place) = spawn_mortal(&victim, at, {
            let board = Arc::clone(&board);
            move || _ = board.write()
        });
        dying.join().unwrap();
        survivor.act();
        survivor.sweep();
        board.write();
        reading.join().unwrap();
        *place.lock().unwrap()
    });
}
