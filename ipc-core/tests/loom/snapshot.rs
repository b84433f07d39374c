//! The snapshot cell: readers beside writers, and writers that die.
//!
//! Who only looks is a thread that is started, and writes come from the one that starts it: in the other order loom would find nothing to
//! try, since a writer reads each word under the lock before it writes it.

use std::sync::{Arc, Mutex};

use loom::thread;
use shmkit_core::Snapshot;
use shmkit_core::shim::model::{Attachment, Process};

use shmkit_core::shim::explore::{end, explore, explore_deaths, keeper};

type Cell = Arc<Snapshot<[u64; 2]>>;

fn cell() -> Cell {
    Arc::new(Snapshot::new([0; 2]))
}

/// What a read gives: no value is torn. `None` if a write came in between.
fn read(cell: &Cell) -> Option<u64> {
    let [first, second] = cell.try_read()?;
    assert_eq!(first, second, "torn");
    Some(first)
}

/// Two writes: the second one fills the copy that the reader began with.
#[test]
fn a_reader_beside_a_writer_sees_whole_values_in_order() {
    explore(3, || {
        let region = Attachment::new(1);
        let cell = cell();
        let process = Process::join(&region, 1);
        let reader = thread::spawn({
            let cell = Arc::clone(&cell);
            move || {
                let before = cell.version();
                let values = [read(&cell), read(&cell)].into_iter().flatten().collect::<Vec<_>>();
                assert!(
                    values.is_sorted() && values.iter().all(|value| *value >= before),
                    "{values:?} from version {before}"
                );
            }
        });
        process.act();
        (1..=2).for_each(|value| cell.write([value; 2]).unwrap());
        reader.join().unwrap();
        assert_eq!((read(&cell), cell.version()), (Some(2), 2));
    });
}

/// As many attempts as there are writes, and one more, give a value.
#[test]
fn a_reader_is_held_up_by_whole_writes_only() {
    explore(3, || {
        let region = Attachment::new(1);
        let cell = cell();
        let process = Process::join(&region, 1);
        let reader = thread::spawn({
            let cell = Arc::clone(&cell);
            move || assert!(read(&cell).or_else(|| read(&cell)).is_some())
        });
        process.act();
        cell.write([1; 2]).unwrap();
        reader.join().unwrap();
    });
}

#[test]
fn of_two_updates_none_is_lost_and_a_reader_sees_none_torn() {
    explore(2, || {
        let region = Attachment::new(2);
        let cell = cell();
        let add = |cell: &Cell| cell.update(|value| *value = [value[0] + 1; 2]).unwrap();
        let [one, other] = [1, 2].map(|number| Process::join(&region, number));
        let threads = [
            thread::spawn({
                let cell = Arc::clone(&cell);
                move || {
                    other.act();
                    add(&cell);
                }
            }),
            thread::spawn({
                let cell = Arc::clone(&cell);
                move || _ = read(&cell)
            }),
        ];
        one.act();
        add(&cell);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!((read(&cell), cell.version()), (Some(2), 2));
    });
}

/// The victim dies at any point of a write, while another process reads and then writes.
#[test]
fn a_writer_who_dies_anywhere_leaves_a_whole_value_and_the_turn_to_others() {
    let points = [
        "lock.after_cas",
        "snapshot.write.before_words",
        "snapshot.write.after_word",
        "snapshot.write.before_publish",
        "snapshot.write.after_publish",
        "lock.unlock.before_store",
        "lock.unlock.after_store",
    ];
    explore_deaths(2, &points, |at| {
        let region = Attachment::new(2);
        let cell = cell();
        let [survivor, victim] = [1, 2].map(|number| Process::join(&region, number));
        let keeper = keeper(&survivor);
        let place = Arc::new(Mutex::new(None));
        let dying = thread::spawn({
            let (cell, place) = (Arc::clone(&cell), Arc::clone(&place));
            move || {
                let died = victim.live_until(at, || cell.update(|value| *value = [value[0] + 1; 2]).unwrap());
                *place.lock().unwrap() = died;
            }
        });
        survivor.act();
        read(&cell);
        cell.update(|value| {
            assert_eq!(value[0], value[1], "torn");
            *value = [value[0] + 10; 2];
        })
        .unwrap();
        dying.join().unwrap();
        let died = *place.lock().unwrap();
        let behind = ["snapshot.write.after_publish", "lock.unlock.before_store", "lock.unlock.after_store"];
        let published = died.is_none_or(|at| behind.contains(&at) || at.starts_with("lock.wake."));
        let value = read(&cell).expect("nobody writes any more");
        assert!(value == 11 || !published && value == 10 || died.is_some_and(|at| at.starts_with("lock.")), "{value}");
        end(&region, [keeper]);
        died
    });
}
