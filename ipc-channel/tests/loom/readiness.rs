//! The readiness of a receiver: its owner, its watcher, and the sender.

use shmkit_channel::model::{Carried, Channel};
use shmkit_channel::{Readiness, Receiver, RecvError, Sender};
use shmkit_core::shim::explore::{end, explore, explore_deaths, keeper, spawn, spawn_mortal};
use shmkit_core::shim::model::{Attachment, Process};
use shmkit_core::wait::Site;

/// A receiver in the hands of the calling thread, its readiness, and its watcher.
fn watched(channel: &Channel<u64>, owner: &Process) -> (Receiver<u64>, Readiness, loom::thread::JoinHandle<()>) {
    owner.act();
    let mut rx = channel.receiver().expect("an end");
    let (readiness, life) = rx.readiness().expect("a desk");
    (rx, readiness, spawn(owner, life))
}

/// What an event loop does: takes what is there, and waits for more when there is nothing.
fn next(rx: &mut Receiver<u64>, readiness: &Readiness) -> Option<u64> {
    loop {
        match rx.try_recv() {
            Ok(number) => return Some(number),
            Err(RecvError::Empty) => readiness.wait(),
            Err(RecvError::Disconnected) => return None,
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn an_event_loop_sleeps_through_no_message_and_no_close() {
    explore(2, || {
        let region = Attachment::new(2);
        let channel = Channel::<u64>::new(2, false);
        let [sender, receiver] = [1, 2].map(|number| Process::join(&region, number));
        let (mut rx, readiness, watcher) = watched(&channel, &receiver);
        let thread = spawn(&sender, {
            let channel = channel.clone();
            move || channel.sender().expect("an end").send(7).expect("room")
        });
        assert_eq!(next(&mut rx, &readiness), Some(7));
        assert_eq!(next(&mut rx, &readiness), None);
        thread.join().unwrap();
        drop(rx);
        end(&region, [watcher]);
    });
}

#[test]
fn one_who_blocks_beside_its_watcher_sleeps_through_no_message_and_no_close() {
    explore(2, || {
        let region = Attachment::new(2);
        let channel = Channel::<u64>::new(2, false);
        let [sender, receiver] = [1, 2].map(|number| Process::join(&region, number));
        let (mut rx, _readiness, watcher) = watched(&channel, &receiver);
        let thread = spawn(&sender, {
            let channel = channel.clone();
            move || channel.sender().expect("an end").send(7).expect("room")
        });
        assert_eq!(rx.recv().expect("a message"), 7);
        assert!(matches!(rx.recv(), Err(RecvError::Disconnected)));
        thread.join().unwrap();
        drop(rx);
        end(&region, [watcher]);
    });
}

#[test]
fn a_watcher_ends_wherever_it_is() {
    explore(3, || {
        let region = Attachment::new(1);
        let channel = Channel::<u64>::new(1, false);
        let receiver = Process::join(&region, 1);
        let (mut rx, readiness, watcher) = watched(&channel, &receiver);
        rx.close();
        readiness.wait();
        end(&region, [watcher]);
    });
}

#[test]
fn an_event_loop_does_not_sleep_through_a_death() {
    explore(1, || {
        let region = Attachment::new(2);
        let channel = Channel::<u64>::new(1, false);
        let [sender, receiver] = [1, 2].map(|number| Process::join(&region, number));
        let (mut rx, readiness, watcher) = watched(&channel, &receiver);
        let keeper = keeper(&receiver);
        let thread = spawn(&sender, {
            let (channel, sender) = (channel.clone(), sender.clone());
            move || {
                core::mem::forget(channel.sender().expect("an end"));
                sender.die();
            }
        });
        assert_eq!(next(&mut rx, &readiness), None);
        thread.join().unwrap();
        drop(rx);
        end(&region, [watcher, keeper]);
    });
}

// With a bell that was carried, and no watcher.

/// A receiver in the hands of the calling thread, whose bell the sender is to have, too.
fn carried(channel: &Channel<u64>, owner: &Process, bell: &Carried) -> (Receiver<u64>, Readiness) {
    owner.act();
    let mut rx = channel.receiver().expect("an end");
    let readiness = bell.readiness(&mut rx).expect("an end of this process");
    (rx, readiness)
}

/// As [`next`], where the keeper rings at deaths.
fn next_carried(rx: &mut Receiver<u64>, readiness: &Readiness) -> Option<u64> {
    let site = Site::of(rx).expect("a token");
    loop {
        let epoch = site.epoch();
        match rx.try_recv() {
            Ok(number) => return Some(number),
            Err(RecvError::Empty) => readiness.wait_or_death(&site, epoch),
            Err(RecvError::Disconnected) => return None,
            Err(error) => panic!("{error}"),
        }
    }
}

/// The sender sends one message and closes; it has the bell.
fn send_one(channel: &Channel<u64>, bell: &Carried) {
    let mut tx = channel.sender().expect("an end");
    bell.carry(&mut tx);
    tx.send(7).expect("room");
}

/// What an event loop gets first from a sender that leads this life.
fn first_of(life: impl Fn(Sender<u64>) + Clone + Send + Sync + 'static) -> Option<u64> {
    let region = Attachment::new(2);
    let (channel, bell) = (Channel::<u64>::new(2, false), Carried::new());
    let [sender, receiver] = [1, 2].map(|number| Process::join(&region, number));
    let (mut rx, readiness) = carried(&channel, &receiver, &bell);
    let thread = spawn(&sender, {
        let (channel, life) = (channel.clone(), life.clone());
        move || {
            let mut tx = channel.sender().expect("an end");
            bell.carry(&mut tx);
            life(tx);
        }
    });
    let first = next_carried(&mut rx, &readiness);
    thread.join().unwrap();
    drop(rx);
    end(&region, []);
    first
}

#[test]
fn an_event_loop_with_a_carried_bell_sleeps_through_no_message() {
    explore(3, || {
        let send_and_stay = |mut tx: Sender<u64>| {
            tx.send(7).expect("room");
            core::mem::forget(tx);
        };
        assert_eq!(first_of(send_and_stay), Some(7));
    });
}

#[test]
fn an_event_loop_with_a_carried_bell_sleeps_through_no_close() {
    explore(3, || assert_eq!(first_of(drop), None));
}

#[test]
fn one_who_has_blocked_leaves_the_event_loop_a_ring() {
    explore(2, || {
        let region = Attachment::new(2);
        let (channel, bell) = (Channel::<u64>::new(2, false), Carried::new());
        let [sender, receiver] = [1, 2].map(|number| Process::join(&region, number));
        let (mut rx, readiness) = carried(&channel, &receiver, &bell);
        let thread = spawn(&sender, {
            let (channel, bell) = (channel.clone(), bell.clone());
            move || send_one(&channel, &bell)
        });
        assert_eq!(rx.recv().expect("a message"), 7);
        // Not a look first, but the descriptor.
        let site = Site::of(&rx).expect("a token");
        readiness.wait_or_death(&site, site.epoch());
        assert_eq!(next_carried(&mut rx, &readiness), None);
        thread.join().unwrap();
        drop(rx);
        end(&region, []);
    });
}

#[test]
fn an_event_loop_with_a_carried_bell_does_not_sleep_through_a_death_anywhere() {
    let points = ["pipe.send.after_copy", "pipe.send.after_header", "ends.tell.before_swap", "end.tell.before_ring"];
    explore_deaths(1, &points, |at| {
        let region = Attachment::new(2);
        let (channel, bell) = (Channel::<u64>::new(1, false), Carried::new());
        let [sender, receiver] = [1, 2].map(|number| Process::join(&region, number));
        let (mut rx, readiness) = carried(&channel, &receiver, &bell);
        let keeper = keeper(&receiver);
        let (thread, place) = spawn_mortal(&sender, at, {
            let (channel, bell) = (channel.clone(), bell.clone());
            move || send_one(&channel, &bell)
        });
        let first = next_carried(&mut rx, &readiness);
        if first.is_some() {
            assert_eq!(first, Some(7));
            assert_eq!(next_carried(&mut rx, &readiness), None);
        }
        thread.join().unwrap();
        let died_at = *place.lock().unwrap();
        drop(rx);
        end(&region, [keeper]);
        died_at
    });
}
