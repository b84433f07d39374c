//! Regions whose peers are not trusted, between real processes. What such peers do when they are hostile is in `scribbler.rs`.

mod common;

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use shmkit::{
    ChannelOptions, Endpoint, Error, Pipe, Queue, QueueOptions, RecvError, Region, RegionOptions, Semaphore,
    UntrustedEnd, UntrustedQueue, UntrustedRegion, UntrustedSemaphore, WaitError,
};

use common::{BOUND, Child, Parent, Stage, fork, prompt, roles, threads, until};

roles!(trusting, owner, sender, heir);

const MOMENT: Duration = Duration::from_millis(20);

fn descriptor(region: &UntrustedRegion) -> OwnedFd {
    region.as_fd().try_clone_to_owned().expect("a descriptor")
}

// Opens the region as one whose peers it trusts, and answers.
fn trusting(parent: &mut Parent) {
    let region = Region::from_fd(Parent::file()).expect("the region");
    let mut pipe = Pipe::<u64>::open_in(&region, "pipe").expect("the other end");
    let queue = Queue::<u64>::open_in(&region, "queue").expect("the queue");
    let asked = pipe.recv().expect("a message");
    region.get::<Semaphore>("permits").expect("it").acquire().expect("a permit");
    queue.send(asked + 1).expect("room");
    pipe.send(asked + 2).expect("room");
    parent.hear();
}

#[test]
fn who_trusts_its_peers_has_the_same_objects_under_their_other_names() {
    let region = UntrustedRegion::anonymous(1 << 16).expect("a region");
    let permits = Semaphore::new(0).expect("a value within the bound");
    let permits = region.insert("permits", UntrustedSemaphore::from(permits)).expect("room");
    let mut pipe = ChannelOptions::new().create_in_untrusted::<Pipe<u64>>(&region, "pipe").expect("room");
    let queue = QueueOptions::new().create_in_untrusted::<u64>(&region, "queue").expect("room");
    let mut trusting = Child::spawn_with_file(descriptor(&region), "trusting", &[]);

    pipe.send_timeout(40, BOUND).expect("room");
    permits.release().expect("below the bound");

    assert_eq!(queue.recv_timeout(BOUND).expect("a message"), 41);
    assert_eq!(pipe.recv_timeout(BOUND).expect("a message"), 42);
    trusting.tell("end");
}

// Has one end of the pipe, and stays.
fn owner(parent: &mut Parent) {
    let before = threads();
    let region = UntrustedRegion::from_fd(Parent::file()).expect("the region");
    assert_eq!(threads(), before, "an untrusted region needs no keeper");
    let mut pipe = UntrustedEnd::<Pipe<u64>>::open_in(&region, "pipe").expect("the other end");
    pipe.try_send(7).expect("room");
    parent.say("sent");
    parent.hear();
}

#[test]
fn the_death_of_a_peer_is_noticed_without_a_keeper() {
    let region = UntrustedRegion::anonymous(1 << 16).expect("a region");
    let mut pipe = ChannelOptions::new().create_in_untrusted::<Pipe<u64>>(&region, "pipe").expect("room");
    let mut owner = Child::spawn_with_file(descriptor(&region), "owner", &[]);
    owner.expect("sent");
    assert_eq!(pipe.recv_timeout(BOUND).expect("a message"), 7);
    assert!(matches!(pipe.recv_timeout(MOMENT), Err(RecvError::TimedOut)));

    let start = Instant::now();
    owner.kill();

    let ended = pipe.recv_timeout(BOUND);
    assert!(matches!(ended, Err(RecvError::Disconnected)), "{ended:?}");
    assert!(start.elapsed() < prompt(), "{:?}", start.elapsed());
}

#[test]
fn what_a_table_says_of_a_process_is_no_proof_of_its_death() {
    let region = UntrustedRegion::anonymous(1 << 16).expect("a region");
    let mut pipe = ChannelOptions::new().create_in_untrusted::<Pipe<u64>>(&region, "pipe").expect("room");
    let mut owner = Child::spawn_with_file(descriptor(&region), "owner", &[]);
    owner.expect("sent");
    assert_eq!(pipe.recv_timeout(BOUND).expect("a message"), 7);

    // In the second of 128 entries: the kernel has seen it die, and there is no process of that number.
    let entry = 384 + 128 * 8 + 64;
    let said: [u32; 2] = [0xc000_0001, 4_100_000];
    let bytes: Vec<u8> = said.iter().flat_map(|word| word.to_le_bytes()).collect();
    File::from(descriptor(&region)).write_all_at(&bytes, entry).expect("to be scribbled on");

    assert!(matches!(pipe.recv_timeout(5 * MOMENT), Err(RecvError::TimedOut)));
    assert_eq!(region.participants().iter().map(|one| one.pid).collect::<Vec<_>>(), [std::process::id(), said[1]]);
}

// Sends one message into the queue and is killed with the turn to send the next.
fn sender(parent: &mut Parent) {
    let region = UntrustedRegion::from_fd(Parent::file()).expect("the region");
    let queue = UntrustedQueue::<u64>::open_in(&region, "queue").expect("the queue");
    parent.say("here");
    loop {
        queue.try_send(1).or_else(|_| queue.try_recv().map(drop)).expect("no failure");
    }
}

#[test]
fn a_queue_goes_on_when_peers_are_killed_in_the_midst_of_it() {
    let region = UntrustedRegion::anonymous(1 << 16).expect("a region");
    let queue = QueueOptions::new().capacity(8).create_in_untrusted::<u64>(&region, "queue").expect("room");

    for _ in 0..10 {
        let mut sender = Child::spawn_with_file(descriptor(&region), "sender", &[]);
        sender.expect("here");
        sender.kill();
        sender.reap();
        until("an empty queue", || queue.try_recv().is_err());
        queue.send_timeout(2, BOUND).expect("room");
        assert_eq!(queue.recv_timeout(BOUND).expect("a message"), 2);
    }
}

// Takes the last place in the region, so that a child that is forked has none there, and tells what that can do.
fn heir(parent: &mut Parent) {
    let stage = Stage::open(parent.argument(0));
    let region = UntrustedRegion::from_fd(Parent::file()).expect("the region");
    let permits = region.get::<UntrustedSemaphore>("permits").expect("it");
    let numbers = region.get::<AtomicU64>("number").expect("it");
    let child = fork(|| {
        drop(stage.mutex.lock().expect("the lock in a region that all can take part in"));
        let kept_out = permits.acquire_timeout(MOMENT);
        assert!(matches!(kept_out, Err(WaitError::Failed(Error::TooManyParticipants { capacity: 2 }))), "{kept_out:?}");
        numbers.fetch_add(1, Relaxed);
        until("room in the table", || matches!(permits.acquire_timeout(MOMENT), Err(WaitError::TimedOut)));
        numbers.fetch_add(1, Relaxed);
    });
    until("the child to be kept out", || numbers.load(Relaxed) == 1);
    parent.say("kept out");
    assert_eq!(child.reap(), 0);
    assert_eq!(numbers.load(Relaxed), 2);
    parent.say("let in");
}

#[test]
fn a_forked_child_that_finds_no_room_in_an_untrusted_region_takes_part_in_all_others() {
    let stage = Stage::create();
    let region = RegionOptions::new().participants(2).anonymous_untrusted(1 << 12).expect("a region");
    let permits = Semaphore::new(0).expect("a value within the bound");
    region.insert("permits", UntrustedSemaphore::from(permits)).expect("room");
    region.insert("number", AtomicU64::new(0)).expect("room");
    let mut heir = Child::spawn_with_file(descriptor(&region), "heir", &[stage.name()]);
    heir.expect("kept out");

    drop(region);

    heir.expect("let in");
}
