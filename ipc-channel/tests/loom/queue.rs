//! Queues: each message once and in order, nobody asleep beside a message or beside room, whoever dies wherever.
//!
//! Where three live beside somebody who dies, the one who has seen the end of it looks for deaths; a keeper would be one thread too many.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use shmkit_channel::{Queue, RecvError, SendError};
use shmkit_core::shim::explore::{end, explore, explore_deaths, keeper, spawn, spawn_mortal};
use shmkit_core::shim::futex;
use shmkit_core::shim::model::{Attachment, Process};

/// Deadlines pass when a model says so, and count as passed for whoever asks the clock.
const TIMED: Duration = Duration::ZERO;

/// Larger than a cell has room for two of, so that there is one message to a cell.
type Message = [u64; 4];

fn message(number: u64) -> Message {
    [number; 4]
}

fn number(message: Message) -> u64 {
    assert_eq!(message, [message[0]; 4], "torn");
    message[0]
}

fn processes<const N: usize>() -> (Arc<Attachment>, [Process; N]) {
    let region = Attachment::new(N);
    let processes = core::array::from_fn(|i| Process::join(&region, i as u64 + 1));
    (region, processes)
}

#[test]
fn messages_arrive_whole_and_in_order_also_when_the_queue_is_full() {
    explore(3, || {
        let (_, [consumer, producer]) = processes();
        let queue = Queue::model(1);
        let thread = spawn(&producer, {
            let queue = queue.clone();
            move || {
                queue.send(message(1)).expect("room");
                queue.send(message(2)).expect("room");
                queue.close().expect("a turn");
            }
        });
        consumer.act();
        assert_eq!(number(queue.recv().expect("a message")), 1);
        assert_eq!(number(queue.recv().expect("a message")), 2);
        assert!(matches!(queue.recv(), Err(RecvError::Disconnected)));
        thread.join().unwrap();
    });
}

#[test]
fn several_messages_of_one_cell_are_counted_by_its_header() {
    explore(3, || {
        let (_, [consumer, producer]) = processes();
        let queue = Queue::<u64>::model(8);
        let thread = spawn(&producer, {
            let queue = queue.clone();
            move || {
                queue.send(1).expect("room");
                queue.send_slice(&[2, 3]).expect("room");
            }
        });
        consumer.act();
        let mut received = [0; 4];
        let mut count = 0;
        while count < 3 {
            count += queue.recv_slice(&mut received[count..]).expect("messages");
        }
        assert_eq!(received, [1, 2, 3, 0]);
        thread.join().unwrap();
        assert!(queue.is_empty());
    });
}

#[test]
fn of_two_producers_each_has_its_turn() {
    explore(3, || {
        let (_, [consumer, producers @ ..]) = processes::<3>();
        let queue = Queue::model(2);
        let threads = producers.map(|process| {
            let queue = queue.clone();
            let number = process.token().word() >> 40;
            spawn(&process, move || queue.send(message(number)).expect("room"))
        });
        consumer.act();
        let received = [queue.recv(), queue.recv()].map(|received| number(received.expect("a message")));
        assert!(received == [2, 3] || received == [3, 2], "{received:?}");
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn of_two_consumers_each_gets_one_message_and_neither_sleeps_on() {
    explore(3, || {
        let (_, [producer, consumers @ ..]) = processes::<3>();
        let queue = Queue::model(2);
        let threads = consumers.map(|process| {
            let queue = queue.clone();
            spawn(&process, move || assert_ne!(number(queue.recv().expect("a message")), 0))
        });
        producer.act();
        queue.send(message(1)).expect("room");
        queue.send(message(2)).expect("room");
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert!(matches!(queue.try_recv(), Err(RecvError::Empty)));
    });
}

#[test]
fn several_messages_that_are_sent_at_once_wake_several() {
    explore(3, || {
        let (_, [producer, consumers @ ..]) = processes::<3>();
        let queue = Queue::<u64>::model(2);
        let threads = consumers.map(|process| {
            let queue = queue.clone();
            spawn(&process, move || assert_ne!(queue.recv().expect("a message"), 0))
        });
        producer.act();
        queue.send_slice(&[1, 2]).expect("room");
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn two_producers_that_wait_for_room_get_it_also_if_it_comes_at_once() {
    explore(3, || {
        let (_, [consumer, producers @ ..]) = processes::<3>();
        let queue = Queue::<u64>::model(2);
        consumer.act();
        queue.send_slice(&[1, 2]).expect("room");
        let threads = producers.map(|process| {
            let queue = queue.clone();
            spawn(&process, move || queue.send(3).expect("room"))
        });
        assert_eq!(queue.recv_slice(&mut [0; 2]).expect("messages"), 2);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(queue.len(), 2);
    });
}

#[test]
fn wake_ups_for_no_reason_change_nothing() {
    explore(3, || {
        let (_, [consumer, producer]) = processes();
        let queue = Queue::model(1);
        let thread = spawn(&producer, {
            let queue = queue.clone();
            move || (1..=2).for_each(|number| queue.send(message(number)).expect("room"))
        });
        consumer.act();
        futex::disturb();
        (1..=2).for_each(|expected| assert_eq!(number(queue.recv().expect("a message")), expected));
        thread.join().unwrap();
    });
}

/// One who leaves at its deadline may have been woken; the one who sleeps behind it must not miss that.
#[test]
fn a_consumer_that_times_out_swallows_no_wake_up() {
    explore(3, || {
        let (_, [producer, timed, patient]) = processes();
        let queue = Queue::model(2);
        let threads = [
            spawn(&timed, {
                let queue = queue.clone();
                move || match queue.recv_timeout(TIMED) {
                    Ok(received) => queue.send(received).expect("room"),
                    Err(error) => assert!(matches!(error, RecvError::TimedOut)),
                }
            }),
            spawn(&patient, {
                let queue = queue.clone();
                move || assert_eq!(number(queue.recv().expect("a message")), 1)
            }),
        ];
        producer.act();
        queue.send(message(1)).expect("room");
        futex::expire();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn a_producer_that_times_out_swallows_no_wake_up() {
    explore(3, || {
        let (_, [consumer, timed, patient]) = processes();
        let queue = Queue::model(1);
        consumer.act();
        queue.send(message(1)).expect("room");
        let threads = [
            spawn(&timed, {
                let queue = queue.clone();
                move || match queue.send_timeout(message(2), TIMED) {
                    Ok(()) => assert!(queue.recv().is_ok()),
                    Err(error) => assert!(matches!(error, SendError::TimedOut(_))),
                }
            }),
            spawn(&patient, {
                let queue = queue.clone();
                move || queue.send(message(3)).expect("room")
            }),
        ];
        queue.recv().expect("a message");
        futex::expire();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn a_close_ends_all_who_wait_and_lets_nothing_in_behind_it() {
    explore(3, || {
        let (_, [closer, consumer, producer]) = processes();
        let queue = Queue::model(1);
        let [received, sent] = [(); 2].map(|()| Arc::new(AtomicU64::new(0)));
        let consumer = spawn(&consumer, {
            let queue = queue.clone();
            let received = Arc::clone(&received);
            move || received.store(queue.iter().map(number).sum(), Relaxed)
        });
        let producer = spawn(&producer, {
            let queue = queue.clone();
            let sent = Arc::clone(&sent);
            move || match queue.send(message(1)) {
                Ok(()) => sent.store(1, Relaxed),
                Err(error) => assert!(matches!(error, SendError::Disconnected(_))),
            }
        });
        closer.act();
        queue.close().expect("a turn");
        [consumer, producer].into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(received.load(Relaxed), sent.load(Relaxed));
        assert!(matches!(queue.try_recv(), Err(RecvError::Disconnected)));
    });
}

/// What the victim has sent, it has sent once and whole; the survivor is kept from nothing.
#[test]
fn a_producer_that_dies_anywhere_has_sent_or_not() {
    let points = [
        "lock.after_cas",
        "queue.send.after_copy",
        "queue.send.after_header",
        "queue.send.after_sent",
        "lock.unlock.before_store",
        "lock.unlock.after_store",
        "queue.send.after_unlock",
    ];
    explore_deaths(1, &points, |at| {
        let (region, [survivor, victim]) = processes();
        let queue = Queue::<u64>::model(4);
        let keeper = keeper(&survivor);
        let noted = Arc::new(std::sync::atomic::AtomicU64::new(0));
        let (thread, place) = spawn_mortal(&victim, at, {
            let (queue, noted) = (queue.clone(), Arc::clone(&noted));
            move || {
                for number in 1..=2 {
                    queue.send(number).expect("room");
                    noted.store(number, Relaxed);
                }
            }
        });
        survivor.act();
        queue.send(7).expect("room");
        thread.join().unwrap();
        queue.send(8).expect("room");
        queue.close().expect("a turn");
        let received: Vec<u64> = queue.iter().collect();
        let of_victim: Vec<u64> = received.iter().copied().filter(|number| *number < 7).collect();
        let died = *place.lock().unwrap();
        // Whatever is stored after the header, the message is sent.
        let unsent = ["lock.after_cas", "lock.after_take", "lock.after_mark", "lock.after_wait"];
        let is_sent =
            |at| !unsent.contains(&at) && !["queue.send.after_copy", "queue.send.after_mending"].contains(&at);
        let sent = noted.load(Relaxed) as usize + usize::from(died.is_some_and(is_sent));
        assert_eq!(of_victim, [1, 2][..sent], "{received:?} {died:?}");
        assert_eq!(received.iter().filter(|number| **number == 7).count(), 1);
        assert_eq!(received.last(), Some(&8));
        end(&region, [keeper]);
        died
    });
}

/// Each message is received by the victim, once, or by the survivor, once; one that the victim dies with is missing.
#[test]
fn a_consumer_that_dies_anywhere_has_received_or_not() {
    let points = [
        "lock.after_cas",
        "queue.recv.after_copy",
        "queue.recv.after_received",
        "lock.unlock.before_store",
        "lock.unlock.after_store",
        "queue.recv.after_unlock",
    ];
    explore_deaths(2, &points, |at| {
        let (region, [survivor, victim]) = processes();
        let queue = Queue::<u64>::model(4);
        survivor.act();
        queue.send_slice(&[1, 2, 3]).expect("room");
        let noted = Arc::new(std::sync::Mutex::new(Vec::new()));
        let keeper = keeper(&survivor);
        let (thread, place) = spawn_mortal(&victim, at, {
            let (queue, noted) = (queue.clone(), Arc::clone(&noted));
            move || {
                let message = queue.recv().expect("a message");
                noted.lock().unwrap().push(message);
            }
        });
        let mut received = vec![queue.recv().expect("a message")];
        thread.join().unwrap();
        queue.close().expect("a turn");
        received.extend(queue.iter());
        let died = *place.lock().unwrap();
        let noted = noted.lock().unwrap().clone();
        received.extend(&noted);
        received.sort_unstable();
        received.dedup();
        // Dead before the store: three are there; after it: one of the first two is missing, unless it had been noted.
        let is_received = !matches!(
            died,
            Some("lock.after_cas" | "lock.after_take" | "queue.recv.after_copy" | "queue.recv.before_received")
        );
        let expected = if is_received && noted.is_empty() && died.is_some() { 2 } else { 3 };
        // Waiting for its turn, it had nothing yet.
        assert!(received.len() == expected || received.len() == 3, "{received:?} {died:?}");
        assert!(received.contains(&3));
        end(&region, [keeper]);
        died
    });
}

/// The victim sends for two who sleep, or is about to.
#[test]
fn a_death_beside_sleepers_leaves_nobody_asleep() {
    let points = ["queue.tell.before_change", "queue.tell.before_wake", "queue.tell.after_wake"];
    explore_deaths(2, &points, |at| {
        let (region, [survivor, consumer, victim]) = processes();
        let queue = Queue::model(2);
        let thread = spawn(&consumer, {
            let queue = queue.clone();
            move || assert!(queue.iter().count() <= 1)
        });
        let (mortal, place) = spawn_mortal(&victim, at, {
            let queue = queue.clone();
            move || queue.send(message(1)).expect("room")
        });
        survivor.act();
        mortal.join().unwrap();
        survivor.sweep();
        queue.close().expect("a turn");
        thread.join().unwrap();
        end(&region, []);
        *place.lock().unwrap()
    });
}

/// The victim waits for a message beside another one; one message for each of them, and another one if the victim has died with its.
#[test]
fn a_consumer_that_dies_in_its_wait_takes_no_wake_up_along() {
    let points = ["queue.wait.after_mark", "queue.wait.after_sleep"];
    explore_deaths(2, &points, |at| {
        let (region, [survivor, victim, producer]) = processes();
        let queue = Queue::model(2);
        let (mortal, place) = spawn_mortal(&victim, at, {
            let queue = queue.clone();
            move || assert_ne!(number(queue.recv().expect("a message")), 0)
        });
        let thread = spawn(&survivor, {
            let queue = queue.clone();
            move || assert_ne!(number(queue.recv().expect("a message")), 0)
        });
        producer.act();
        queue.send(message(1)).expect("room");
        queue.send(message(2)).expect("room");
        mortal.join().unwrap();
        producer.sweep();
        thread.join().unwrap();
        end(&region, []);
        *place.lock().unwrap()
    });
}

#[test]
fn one_that_dies_in_a_close_has_closed_for_all_or_not() {
    let points = ["queue.close.after_state", "queue.close.after_unlock", "queue.tell_all.before_wake"];
    explore_deaths(2, &points, |at| {
        let (region, [survivor, victim]) = processes();
        let queue = Queue::<u64>::model(1);
        let (mortal, place) = spawn_mortal(&victim, at, {
            let queue = queue.clone();
            move || queue.close().expect("a turn")
        });
        let thread = spawn(&survivor, {
            let queue = queue.clone();
            move || {
                let received = queue.recv();
                assert!(matches!(received, Ok(1) | Err(RecvError::Disconnected)));
            }
        });
        mortal.join().unwrap();
        survivor.act();
        survivor.sweep();
        match queue.send(1) {
            Ok(()) => assert!(place.lock().unwrap().is_some()),
            Err(error) => assert!(matches!(error, SendError::Disconnected(1))),
        }
        thread.join().unwrap();
        end(&region, []);
        *place.lock().unwrap()
    });
}
