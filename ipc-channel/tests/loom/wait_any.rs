//! Ends of channels among several things.

use shmkit_channel::RecvError;
use shmkit_channel::model::Channel;
use shmkit_core::shim::explore::{end, explore, explore_deaths, keeper, spawn, spawn_mortal};
use shmkit_core::shim::model::{Attachment, Process};
use shmkit_core::wait_any;

#[test]
fn messages_of_two_channels_and_their_ends_are_told() {
    explore(2, || {
        let region = Attachment::new(2);
        let channels = [(); 2].map(|()| Channel::<u64>::new(1, false));
        let [receiver, sender] = [1, 2].map(|number| Process::join(&region, number));
        receiver.act();
        let [mut first, mut second] = channels.each_ref().map(|channel| channel.receiver().expect("an end"));
        let thread = spawn(&sender, move || {
            let [_silent, mut tx] = channels.each_ref().map(|channel| channel.sender().expect("an end"));
            tx.send(7).expect("room");
        });
        assert_eq!(wait_any(&mut [&mut second], None).unwrap(), Some(0));
        assert_eq!(second.try_recv().expect("a message"), 7);
        let mut gone = [false; 2];
        while gone != [true; 2] {
            let ready = match gone {
                [false, false] => wait_any(&mut [&mut first, &mut second], None).unwrap().expect("no deadline"),
                [true, _] => 1 + wait_any(&mut [&mut second], None).unwrap().expect("no deadline"),
                _ => wait_any(&mut [&mut first], None).unwrap().expect("no deadline"),
            };
            let receiver = if ready == 0 { &mut first } else { &mut second };
            assert!(matches!(receiver.try_recv(), Err(RecvError::Disconnected)));
            gone[ready] = true;
        }
        thread.join().unwrap();
        end(&region, []);
    });
}

#[test]
fn room_is_told_to_a_sender_that_waits_for_it_among_others() {
    explore(2, || {
        let region = Attachment::new(2);
        let (channel, other) = (Channel::<u64>::new(1, false), Channel::<u64>::new(1, false));
        let [sender, receiver] = [1, 2].map(|number| Process::join(&region, number));
        sender.act();
        let (mut tx, mut never) = (channel.sender().expect("an end"), other.receiver().expect("an end"));
        tx.send(1).expect("room");
        let thread = spawn(&receiver, move || {
            let mut rx = channel.receiver().expect("an end");
            assert_eq!(rx.recv().expect("a message"), 1);
            assert_eq!(rx.recv().expect("a message"), 2);
        });
        assert_eq!(wait_any(&mut [&mut never, &mut tx], None).unwrap(), Some(1));
        tx.try_send(2).expect("room, or nobody was told so");
        thread.join().unwrap();
        end(&region, []);
    });
}

#[test]
fn a_sender_that_dies_anywhere_ends_the_wait() {
    explore_deaths(1, &["pipe.send.after_copy", "pipe.send.after_header"], |at| {
        let region = Attachment::new(2);
        let (channel, other) = (Channel::<u64>::new(1, false), Channel::<u64>::new(1, false));
        let [receiver, victim] = [1, 2].map(|number| Process::join(&region, number));
        let keeper = keeper(&receiver);
        receiver.act();
        let (mut rx, mut never) = (channel.receiver().expect("an end"), other.receiver().expect("an end"));
        victim.act();
        let mut tx = channel.sender().expect("an end");
        receiver.act();
        let (mortal, place) = spawn_mortal(&victim, at, move || {
            tx.send(7).expect("room");
            drop(tx);
        });
        assert_eq!(wait_any(&mut [&mut never, &mut rx], None).unwrap(), Some(1));
        if rx.try_recv().is_ok() {
            assert_eq!(wait_any(&mut [&mut never, &mut rx], None).unwrap(), Some(1));
        }
        assert!(matches!(rx.try_recv(), Err(RecvError::Disconnected)));
        mortal.join().unwrap();
        end(&region, [keeper]);
        *place.lock().unwrap()
    });
}
