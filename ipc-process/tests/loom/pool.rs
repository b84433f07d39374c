//! The board of a pool: what a worker that dies anywhere has taken, and what not.

use std::sync::{Arc, Mutex};

use shmkit_core::shim::explore::{end, explore_deaths, keeper, processes, spawn, spawn_mortal};
use shmkit_core::shim::model::Process;
use shmkit_process::model::{Board, Id, Job};

const KEY: u64 = 7;

/// The numbers of the workers.
const VICTIM: u64 = 1;
const OTHER: u64 = 2;

/// How many jobs each has done whose result has come.
type Results = Arc<Mutex<Vec<Id>>>;

fn ids<const N: usize>() -> [Id; N] {
    std::array::from_fn(|at| Id::new(at as u64, at))
}

fn post(board: &Board, ids: &[Id]) {
    ids.iter().for_each(|id| board.post(Job::model(*id, KEY), *id).expect("room"));
}

/// Takes so many jobs at most, and does them.
fn work(board: &Board, number: u64, most: usize, results: &Results) {
    for _ in 0..most {
        let Ok(job) = board.take(number) else {
            return;
        };
        results.lock().unwrap().push(job.id());
    }
}

/// Every job is done by the victim, or by the other one, or lost with the victim; and only one that it had taken is lost.
#[test]
fn what_a_worker_that_dies_anywhere_has_taken_is_told_from_what_it_has_only_noted() {
    let points = [
        "pool.take.before_note",
        "pool.take.after_note",
        "queue.recv.before_received",
        "queue.recv.after_received",
        "lock.unlock.after_store",
        "pool.take.after_take",
    ];
    explore_deaths(2, &points, |at| {
        let (region, [parent, other, victim]) = processes::<3>();
        let (board, ids, results) = (Board::model(2), ids::<2>(), Results::default());
        parent.act();
        post(&board, &ids);
        let keeper = keeper(&parent);
        let (thread, place) = spawn_mortal(&victim, at, {
            let (board, results) = (board.clone(), Arc::clone(&results));
            move || work(&board, VICTIM, 1, &results)
        });
        let other = worker(&other, &board, &results);
        // There is one job for each, so it dies, or has done one.
        thread.join().unwrap();
        // All of its results have come. The other one goes on meanwhile.
        let missing: Vec<Id> = ids.into_iter().filter(|id| !results.lock().unwrap().contains(id)).collect();
        let lost = board.lost_with(VICTIM, missing).expect("a sound board");
        other.join().unwrap();
        board.close().expect("a turn");
        // What is left goes to a worker in the place of the dead, which acts for the parent here.
        work(&board, OTHER, usize::MAX, &results);

        let died = *place.lock().unwrap();
        let done = results.lock().unwrap().clone();
        for id in ids {
            let times = done.iter().chain(&lost).filter(|other| **other == id).count();
            assert_eq!(times, 1, "{id:?}: {done:?} done, {lost:?} lost, died at {died:?}");
        }
        let before = ["pool.take.before_note", "pool.take.after_note", "queue.recv.before_received"];
        assert!(lost.is_empty() || died.is_some_and(|died| !before.contains(&died)), "{lost:?} lost at {died:?}");
        end(&region, [keeper]);
        died
    });
}

fn worker(process: &Process, board: &Board, results: &Results) -> loom::thread::JoinHandle<()> {
    let (board, results) = (board.clone(), Arc::clone(results));
    spawn(process, move || work(&board, OTHER, 1, &results))
}

/// The slot of a job that is done is used again. What the dead has noted there once does not make the new job its own.
#[test]
fn a_note_of_an_earlier_job_of_the_slot_takes_nothing_away() {
    explore_deaths(2, &["pool.take.before_note", "pool.take.after_note", "queue.recv.after_received"], |at| {
        let (region, [parent, victim]) = processes::<2>();
        let (board, results) = (Board::model(1), Results::default());
        let [first] = ids::<1>();
        let second = Id::new(1, 0);
        parent.act();
        post(&board, &[first]);
        victim.act();
        work(&board, VICTIM, 1, &results);
        parent.act();
        post(&board, &[second]);
        let keeper = keeper(&parent);
        let (thread, place) = spawn_mortal(&victim, at, {
            let (board, results) = (board.clone(), Arc::clone(&results));
            move || work(&board, VICTIM, 1, &results)
        });
        thread.join().unwrap();
        let missing = (!results.lock().unwrap().contains(&second)).then_some(second);
        let lost = board.lost_with(VICTIM, missing).expect("a sound board");
        board.close().expect("a turn");
        // A worker in the place of the dead, which acts for the parent here.
        work(&board, OTHER, usize::MAX, &results);
        let done = results.lock().unwrap().clone();
        assert_eq!(done.iter().chain(&lost).filter(|id| **id == second).count(), 1, "{done:?} {lost:?}");
        end(&region, [keeper]);
        *place.lock().unwrap()
    });
}
