//! Typed channels whose ends die: at every step of claiming, sending, receiving, waiting and closing; and those who come after them.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use shmkit_channel::model::{Channel, pipe_end};
use shmkit_channel::{OpenError, RecvError, SendError};
use shmkit_core::shim::explore::{Place, end, explore, explore_deaths, keeper, spawn, spawn_mortal};

use crate::pipe::{Message, message, processes, receive_all, receiver, sender};

/// What a sender has done, and a receiver got, as far as they lived to note it.
type Count = Arc<AtomicU64>;

const WAITING: [&str; 2] = ["ends.wait.before_sleep", "ends.wait.after_sleep"];
const TELLING: [&str; 3] = ["ends.tell.before_swap", "ends.tell.before_wake", "ends.tell.after_wake"];
const SENDING: [&str; 2] = ["pipe.send.after_copy", "pipe.send.after_header"];
const RECEIVING: [&str; 2] = ["pipe.recv.after_copy", "pipe.recv.after_received"];
const COMING_AND_GOING: [&str; 2] = ["ends.claim.after_cas", "ends.close.after_cas"];

fn died_at(place: &Place) -> Option<&'static str> {
    *place.lock().unwrap()
}

#[test]
fn what_a_sender_that_dies_anywhere_has_sent_arrives_and_then_the_receiver_learns_of_it() {
    let points = [&WAITING[..], &TELLING, &SENDING, &COMING_AND_GOING].concat();
    explore_deaths(1, &points, |at| {
        let (region, [surviving, mortal]) = processes();
        let channel = Channel::<Message>::new(1, false);
        let keeper = keeper(&surviving);
        let sent = Count::default();
        let (thread, place) = spawn_mortal(&mortal, at, {
            let (channel, sent) = (channel.clone(), Arc::clone(&sent));
            move || {
                let mut tx = sender(&channel);
                for number in 0..2 {
                    tx.send(message(number)).expect("room");
                    sent.fetch_add(1, Relaxed);
                }
            }
        });
        surviving.act();
        let received = receive_all(&mut receiver(&channel));
        thread.join().unwrap();
        let place = died_at(&place);
        // What it died in may have been sent.
        let sent = sent.load(Relaxed);
        let count = received.len() as u64;
        assert!(received.into_iter().eq(0..count) && (sent..=sent + 1).contains(&count), "{sent} {count} {place:?}");
        end(&region, [keeper]);
        place
    });
}

#[test]
fn a_sender_whose_receiver_dies_anywhere_learns_of_it() {
    let points = [&WAITING[..], &TELLING, &RECEIVING, &COMING_AND_GOING].concat();
    explore_deaths(1, &points, |at| {
        let (region, [surviving, mortal]) = processes();
        let channel = Channel::<Message>::new(1, false);
        let keeper = keeper(&surviving);
        let received = Count::default();
        let (thread, place) = spawn_mortal(&mortal, at, {
            let (channel, received) = (channel.clone(), Arc::clone(&received));
            move || {
                let mut rx = receiver(&channel);
                for number in 0..2 {
                    assert_eq!(rx.recv().expect("a message"), message(number));
                    received.fetch_add(1, Relaxed);
                }
            }
        });
        surviving.act();
        let mut tx = sender(&channel);
        let sent = (0..4).take_while(|&number| match tx.send(message(number)) {
            Ok(()) => true,
            Err(error) => {
                assert!(matches!(error, SendError::Disconnected(given) if given == message(number)), "{error:?}");
                false
            }
        });
        let sent = sent.count() as u64;
        thread.join().unwrap();
        let received = received.load(Relaxed);
        // One that was not noted, and one that nobody took.
        assert!((received..=received + 2).contains(&sent), "{received} {sent}");
        end(&region, [keeper]);
        died_at(&place)
    });
}

/// The successor looks without patience, so that it must see by itself what comes.
#[test]
fn a_successor_receives_what_a_dead_receiver_has_not() {
    let points = [&WAITING[..], &RECEIVING].concat();
    explore_deaths(1, &points, |at| {
        let (region, [successor, mortal, sending]) = processes();
        let channel = Channel::<Message>::new(4, true);
        let received = Count::default();
        let (thread, place) = spawn_mortal(&mortal, at, {
            let (channel, received) = (channel.clone(), Arc::clone(&received));
            move || {
                let mut rx = receiver(&channel);
                assert_eq!(rx.recv().expect("a message"), message(0));
                received.fetch_add(1, Relaxed);
                // It is not closed, so that there is a successor in any case.
                core::mem::forget(rx);
            }
        });
        let sender = spawn(&sending, {
            let channel = channel.clone();
            move || {
                let mut tx = sender(&channel);
                for number in 0..2 {
                    // Between the news of the death and the successor nobody is there.
                    while let Err(error) = tx.send(message(number)) {
                        assert!(matches!(error, SendError::Disconnected(_)), "{error:?}");
                        loom::thread::yield_now();
                    }
                }
            }
        });
        thread.join().unwrap();
        let place = died_at(&place);
        if place.is_some() {
            successor.act();
            let mut rx = receiver(&channel);
            let mut next = received.load(Relaxed) + u64::from(place == Some("pipe.recv.after_received"));
            loop {
                match rx.try_recv() {
                    Ok(got) => {
                        assert_eq!(got, message(next));
                        next += 1;
                    }
                    Err(RecvError::Empty) => loom::thread::yield_now(),
                    Err(error) => {
                        assert!(matches!(error, RecvError::Disconnected), "{error:?}");
                        break;
                    }
                }
            }
            assert_eq!(next, 2);
        }
        sender.join().unwrap();
        end(&region, []);
        place
    });
}

#[test]
fn a_successor_sends_behind_what_a_dead_sender_has_sent() {
    let points = [&WAITING[..], &SENDING].concat();
    explore_deaths(1, &points, |at| {
        let (region, [receiving, mortal, successor]) = processes();
        let channel = Channel::<Message>::new(1, true);
        let place = Arc::new(Mutex::new(None));
        let heir = spawn(&successor, {
            let (channel, place) = (channel.clone(), Arc::clone(&place));
            move || {
                let (thread, died) = spawn_mortal(&mortal, at, {
                    let channel = channel.clone();
                    move || {
                        let mut tx = sender(&channel);
                        (0..2).for_each(|number| tx.send(message(number)).expect("room"));
                        core::mem::forget(tx);
                    }
                });
                thread.join().unwrap();
                *place.lock().unwrap() = *died.lock().unwrap();
                if died.lock().unwrap().is_some() {
                    let mut tx = sender(&channel);
                    tx.send(message(9)).expect("room");
                    core::mem::forget(tx);
                }
            }
        });
        receiving.act();
        let mut rx = receiver(&channel);
        let mut next = 0;
        loop {
            match rx.recv() {
                Ok(got) if got == message(next) => next += 1,
                Ok(got) => {
                    assert_eq!(got, message(9));
                    break;
                }
                Err(error) => {
                    // Until the successor is there.
                    assert!(matches!(error, RecvError::Disconnected), "{error:?}");
                    loom::thread::yield_now();
                }
            }
            if next == 2 && place.lock().unwrap().is_none() {
                break;
            }
        }
        heir.join().unwrap();
        end(&region, []);
        died_at(&place)
    });
}

#[test]
fn one_who_dies_between_its_two_ends_is_dead_to_both_sides_of_the_other() {
    explore_deaths(1, &["ends.claim.after_cas", "pipe.claim.between", "ends.close.after_cas"], |at| {
        let (region, [surviving, mortal]) = processes();
        let (forth, back) = (Channel::<Message>::new(1, false), Channel::<Message>::new(1, false));
        let keeper = keeper(&surviving);
        surviving.act();
        let (mut tx, mut rx) = pipe_end(&forth, &back).expect("an end");
        let (thread, place) = spawn_mortal(&mortal, at, move || drop(pipe_end(&back, &forth).expect("an end")));
        assert!(matches!(rx.recv(), Err(RecvError::Disconnected)));
        // One may go into the ring before it is noticed on this way.
        let sent = tx.send(message(0)).and_then(|()| tx.send(message(1)));
        assert!(matches!(sent, Err(SendError::Disconnected(_))), "{sent:?}");
        thread.join().unwrap();
        end(&region, [keeper]);
        died_at(&place)
    });
}

/// The sender of a pipe is dead, its receiver closed: whoever wants to succeed gets the one, not the other, and gives the first back.
#[test]
fn a_claim_that_is_undone_leaves_nobody_asleep() {
    explore(3, || {
        let (region, [surviving, dead, successor]) = processes();
        let (forth, back) = (Channel::<Message>::new(1, true), Channel::<Message>::new(1, true));
        dead.act();
        core::mem::forget(sender(&back));
        drop(receiver(&forth));
        dead.die();
        surviving.act();
        let mut rx = receiver(&back);
        surviving.sweep();
        let thread = spawn(&successor, move || {
            assert!(matches!(pipe_end(&back, &forth), Err(OpenError::Closed)));
        });
        assert!(matches!(rx.recv(), Err(RecvError::Disconnected)));
        thread.join().unwrap();
        end(&region, []);
    });
}

/// One of two gets it, also if the other side tells the dead owner of something meanwhile, which was asleep.
#[test]
fn of_two_who_want_the_end_of_a_dead_one_gets_it() {
    explore_deaths(2, &["ends.wait.before_sleep"], |at| {
        let (region, [sending, mortal, one, other]) = processes();
        let channel = Channel::<Message>::new(4, true);
        let (thread, place) = spawn_mortal(&mortal, at, {
            let channel = channel.clone();
            move || {
                let mut rx = receiver(&channel);
                assert!(matches!(rx.recv_timeout(core::time::Duration::ZERO), Err(RecvError::TimedOut)));
                core::mem::forget(rx);
            }
        });
        sending.act();
        let mut tx = sender(&channel);
        shmkit_core::shim::futex::expire();
        thread.join().unwrap();
        let place = died_at(&place);
        if place == Some("ends.wait.before_sleep") {
            let claims = [one, other].map(|process| {
                let channel = channel.clone();
                let won = Arc::new(Mutex::new(false));
                let thread = spawn(&process, {
                    let won = Arc::clone(&won);
                    move || match channel.receiver() {
                        Ok(rx) => {
                            *won.lock().unwrap() = true;
                            core::mem::forget(rx);
                        }
                        Err(error) => assert!(matches!(error, OpenError::Taken), "{error:?}"),
                    }
                });
                (thread, won)
            });
            // Somebody is there, or nobody: it does not matter here.
            drop(tx.send(message(0)));
            let won = claims.map(|(thread, won)| {
                thread.join().unwrap();
                *won.lock().unwrap()
            });
            assert!(won[0] != won[1], "{won:?}");
        }
        end(&region, []);
        place
    });
}
