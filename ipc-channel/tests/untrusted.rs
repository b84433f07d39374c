//! Channels in a region whose peers are not trusted, within one process.

#![cfg(not(ipc_loom))]

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::thread;
use std::time::{Duration, Instant};

use shmkit_channel::{
    BytePipe, ByteReceiver, ByteSender, ChannelOptions, Pipe, QueueOptions, Receiver, RecvError, SendError, Sender,
    UntrustedEnd, UntrustedQueue,
};
use shmkit_core::wait::Source;
use shmkit_core::{Deadline, Error, UntrustedRegion, wait_any};

const MOMENT: Duration = Duration::from_millis(20);
const LONG: Duration = Duration::from_secs(10);

fn region() -> UntrustedRegion {
    UntrustedRegion::anonymous(1 << 18).expect("a region")
}

#[test]
fn messages_go_both_ways_and_halves_by_themselves() {
    let region = region();
    let mut one = ChannelOptions::new().create_in_untrusted::<Pipe<u64>>(&region, "pipe").expect("room");
    let (mut tx, mut rx) = UntrustedEnd::<Pipe<u64>>::open_in(&region, "pipe").expect("the other end").split();

    one.try_send(1).expect("room");
    tx.send_timeout(2, LONG).expect("room");
    assert_eq!(rx.recv_timeout(LONG).expect("a message"), 1);
    assert_eq!(one.try_recv().expect("a message"), 2);
    assert_eq!(tx.try_send_slice(&[3, 4]).expect("room"), 2);
    assert!(one.poll(LONG).expect("no failure"));
    drop(tx);
    assert_eq!([one.try_recv().expect("a message"), one.try_recv().expect("a message")], [3, 4]);
    assert!(matches!(one.recv_timeout(LONG), Err(RecvError::Disconnected)));
    assert!(matches!(rx.try_recv(), Err(RecvError::Empty)));
    one.close();
    assert!(matches!(rx.try_recv(), Err(RecvError::Disconnected)));
    assert!(one.is_closed() && rx.is_closed());
}

#[test]
fn waits_end_with_their_time() {
    let region = region();
    let mut tx = ChannelOptions::new().capacity(1).create_in_untrusted::<Sender<u8>>(&region, "one").expect("room");
    let mut bytes = ChannelOptions::new().create_in_untrusted::<BytePipe>(&region, "bytes").expect("room");
    let queue = QueueOptions::new().create_in_untrusted::<u64>(&region, "queue").expect("room");
    let start = Instant::now();

    tx.try_send(1).expect("room");
    assert!(matches!(tx.send_timeout(2, MOMENT), Err(SendError::TimedOut(2))));
    assert!(matches!(bytes.recv_timeout(MOMENT), Err(RecvError::TimedOut)));
    assert!(matches!(bytes.recv_into_timeout(&mut [0; 8], MOMENT), Err(RecvError::TimedOut)));
    assert!(matches!(queue.recv_timeout(MOMENT), Err(RecvError::TimedOut)));
    assert!(start.elapsed() >= 4 * MOMENT);
}

#[test]
fn a_frame_that_is_longer_than_allowed_is_refused_before_it_takes_memory() {
    let region = region();
    let mut tx = ChannelOptions::new().create_in_untrusted::<ByteSender>(&region, "bytes").expect("room");
    let mut rx = UntrustedEnd::<ByteReceiver>::open_in(&region, "bytes").expect("the other end");
    let long = vec![7; (1 << 20) + 1];

    thread::scope(|scope| {
        scope.spawn(|| {
            tx.send_timeout(&long[1..], LONG).expect("room for all parts");
            let sent = tx.send_timeout(&long, LONG);
            assert!(matches!(sent, Err(SendError::Disconnected(()))), "{sent:?}");
        });
        assert_eq!(rx.recv_timeout(LONG).expect("a mebibyte"), long[1..]);
        let refused = rx.recv_timeout(LONG);
        assert!(matches!(refused, Err(RecvError::Failed(Error::Corrupted { found: 0x10_0001, .. }))), "{refused:?}");
        let into = rx.try_recv_into(&mut vec![0; 2 << 20]);
        assert!(matches!(into, Err(RecvError::Failed(Error::Corrupted { .. }))), "{into:?}");
        rx.close();
    });
}

#[test]
fn a_frame_in_one_piece_that_is_longer_than_allowed_is_refused() {
    let region = region();
    let mut tx = ChannelOptions::new().create_in_untrusted::<ByteSender>(&region, "bytes").expect("room");
    let mut rx = UntrustedEnd::<ByteReceiver>::open_in(&region, "bytes").expect("the other end");
    rx.set_longest(99);
    tx.try_send(&[1; 100]).expect("room");

    assert!(matches!(rx.try_recv(), Err(RecvError::Failed(Error::Corrupted { found: 100, .. }))));
    // Into memory that is there, it is received.
    assert_eq!(rx.try_recv_into(&mut [0; 100]).expect("a frame"), 100);
}

/// Says that the only end there is in a region is somebody else's: its owner's token stands first in the table, and once behind that, perhaps in a later
/// generation.
fn usurp(region: &UntrustedRegion) {
    let file = File::from(region.as_fd().try_clone_to_owned().expect("a descriptor"));
    let mut bytes = [0; 20_000];
    file.read_exact_at(&mut bytes, 384).expect("to be read");
    let identity = |word: &[u8]| u64::from_le_bytes(word.try_into().expect("a word")) >> 28;
    let of_owner = |word: &[u8]| identity(word) == identity(&bytes[..8]);
    let end = bytes.chunks_exact(8).skip(1).position(of_owner).expect("the end of the channel");
    file.write_all_at(&[0x55; 8], 384 + 8 * (end as u64 + 1)).expect("to be scribbled on");
}

#[test]
fn an_end_that_somebody_scribbles_over_does_not_end_the_wait_for_others() {
    let (bad, good) = (region(), region());
    let receiver = |region| ChannelOptions::new().create_in_untrusted::<Receiver<u64>>(region, "way").expect("room");
    let (mut scribbled, mut sound) = (receiver(&bad), receiver(&good));
    let mut sender = UntrustedEnd::<Sender<u64>>::open_in(&good, "way").expect("the other end");
    let deadline = || Deadline::after(LONG);

    usurp(&bad);
    assert_eq!(wait_any(&mut [&mut sound, &mut scribbled], deadline()).expect("no failure"), Some(1));
    assert!(matches!(scribbled.try_recv(), Err(RecvError::Failed(Error::Corrupted { .. }))));

    sender.try_send(7).expect("room");
    assert_eq!(wait_any(&mut [&mut sound, &mut scribbled], deadline()).expect("no failure"), Some(0));
    assert_eq!(sound.try_recv().expect("a message"), 7);
}

#[test]
fn whoever_is_told_that_an_end_is_ready_which_is_not_its_owners_any_more_gets_an_error_from_every_attempt() {
    let regions = [(); 4].map(|()| region());
    let mut options = ChannelOptions::new();
    let mut sender = options.capacity(1).create_in_untrusted::<Sender<u64>>(&regions[0], "way").expect("room");
    sender.try_send(1).expect("room");
    let mut receiver = options.create_in_untrusted::<Receiver<u64>>(&regions[1], "way").expect("room");
    let mut frames = options.create_in_untrusted::<ByteReceiver>(&regions[2], "way").expect("room");
    let mut writer = options.create_in_untrusted::<ByteSender>(&regions[3], "way").expect("room");
    while writer.try_send(&[0; 8]).is_ok() {}
    regions.iter().for_each(usurp);
    let sources: [&mut dyn Source; 4] = [&mut sender, &mut receiver, &mut frames, &mut writer];
    for source in sources {
        assert_eq!(wait_any(&mut [source], Deadline::after(LONG)).expect("no failure"), Some(0));
    }

    assert!(matches!(sender.try_send(2), Err(SendError::Failed { message: 2, error: Error::Corrupted { .. } })));
    assert!(matches!(sender.try_send_slice(&[2]), Err(SendError::Failed { error: Error::Corrupted { .. }, .. })));
    assert!(matches!(receiver.try_recv(), Err(RecvError::Failed(Error::Corrupted { .. }))));
    assert!(matches!(receiver.try_recv_slice(&mut [0]), Err(RecvError::Failed(Error::Corrupted { .. }))));
    assert!(matches!(frames.try_recv(), Err(RecvError::Failed(Error::Corrupted { .. }))));
    assert!(matches!(frames.try_recv_into(&mut [0; 8]), Err(RecvError::Failed(Error::Corrupted { .. }))));
    assert!(matches!(writer.try_send(&[0; 8]), Err(SendError::Failed { error: Error::Corrupted { .. }, .. })));
}

#[test]
fn a_queue_is_the_same_for_all_who_open_it() {
    let region = region();
    let queue = QueueOptions::new().capacity(2).create_in_untrusted::<u64>(&region, "queue").expect("room");
    let other = UntrustedQueue::<u64>::open_in(&region, "queue").expect("it");

    queue.try_send(1).expect("room");
    other.send_timeout(2, LONG).expect("room");
    assert!(matches!(queue.try_send(3), Err(SendError::Full(3))));
    assert_eq!((queue.len(), queue.capacity()), (2, 2));
    assert_eq!([other.try_recv().expect("it"), queue.recv_timeout(LONG).expect("it")], [1, 2]);
    assert!(!queue.is_closed() && queue.is_empty());
}

/// Frames come in parts while somebody waits for them among other things, and so does what is said of their length.
#[test]
fn one_who_waits_among_other_things_takes_no_longer_frames_than_one_who_receives() {
    const TOO_LONG: usize = (1 << 20) + 1;
    fn receives_nothing(mut rx: UntrustedEnd<ByteReceiver>, mut tx: UntrustedEnd<ByteSender>) {
        let error = thread::scope(|scope| {
            // It does not come to an end with it, since the receiver does not.
            scope.spawn(move || tx.send_timeout(&vec![7; TOO_LONG], LONG));
            assert_eq!(wait_any(&mut [&mut rx], Deadline::after(LONG)).expect("no failure"), Some(0));
            let error = rx.try_recv().map(|frame| frame.len()).expect_err("a long frame");
            rx.close();
            error
        });
        assert!(
            matches!(error, RecvError::Failed(Error::Corrupted { found, .. }) if found == TOO_LONG as u64),
            "{error}"
        );
    }
    let region = region();
    let rx = ChannelOptions::new().create_in_untrusted::<ByteReceiver>(&region, "bytes").expect("room");
    receives_nothing(rx, UntrustedEnd::open_in(&region, "bytes").expect("the other end"));
    let pipe = ChannelOptions::new().create_in_untrusted::<BytePipe>(&region, "pipe").expect("room");
    let other = UntrustedEnd::<BytePipe>::open_in(&region, "pipe").expect("the other end");
    receives_nothing(pipe.split().1, other.split().0);
}
