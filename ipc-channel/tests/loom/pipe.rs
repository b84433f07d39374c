//! The ring of a typed channel, one way.

use shmkit_channel::RecvError;
use shmkit_channel::model::Channel;
use shmkit_core::shim::explore::{end, explore, spawn};
use shmkit_core::shim::model::{Attachment, Process};

#[test]
fn messages_arrive_whole_and_in_order_also_when_the_ring_is_full() {
    explore(2, || {
        let region = Attachment::new(2);
        let channel = Channel::<[u64; 2]>::new(1, false);
        let [sender, receiver] = [1, 2].map(|number| Process::join(&region, number));
        receiver.act();
        let mut rx = channel.receiver().expect("an end");
        let thread = spawn(&sender, {
            let channel = channel.clone();
            move || {
                let mut tx = channel.sender().expect("an end");
                tx.send([1, 1]).expect("room");
                tx.send([2, 2]).expect("room");
            }
        });
        assert_eq!(rx.recv().expect("a message"), [1, 1]);
        assert_eq!(rx.recv().expect("a message"), [2, 2]);
        assert!(matches!(rx.recv(), Err(RecvError::Disconnected)));
        thread.join().unwrap();
        end(&region, []);
    });
}
