//! Waits that are too short, or woken too often, to sleep until somebody looks for deaths, and those of forked children.

mod common;

use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, Release};
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::time::{Duration, Instant};

use common::{
    Child, Net, Parent, Party, Stage, exit_now, fork, party, prompt, roles, until, until_keepers_settled, until_stopped,
};
use shmkit::identity::{FLAG, Token};
use shmkit::wait::{Bell, Site, wake_all};
use shmkit::{Deadline, Region, RegionOptions, Shm};

roles!(party, gate_keeper, gate_parent, listener);

/// What a gate that is open holds.
const OPEN: u64 = 0;

/// Shuts the gate and stays.
fn gate_keeper(parent: &mut Parent) {
    let stage = Stage::open(parent.argument(0));
    let gate = stage.region.get::<AtomicU64>("gate").expect("the gate");
    shut(&gate);
    parent.say("shut");
    common::sleep_for_ever()
}

fn shut(gate: &Shm<AtomicU64>) {
    gate.store(Site::of(&**gate).expect("a site").token().word() | FLAG, Release);
}

/// Whether the gate is open or shut by a dead.
fn is_passable(site: &Site, gate: &AtomicU64) -> Option<()> {
    let shut_by = Token::from_word(gate.load(Relaxed));
    shut_by.is_none_or(|token| !site.is_alive(token)).then_some(())
}

/// A stage that this process takes part in without a keeper, with a gate that a process has shut that is dead now. Nobody tells
/// of that death.
fn shut_by_a_dead() -> (Stage, Shm<AtomicU64>) {
    let stage = Stage::create_with(RegionOptions::new().participants(16).keeper(false));
    let gate = stage.region.insert("gate", AtomicU64::new(OPEN)).expect("room");
    let mut keeper = Child::spawn("gate_keeper", &[stage.name()]);
    keeper.expect("shut");
    keeper.kill();
    keeper.reap();
    (stage, gate)
}

#[test]
fn short_waits_without_a_keeper_learn_of_a_death() {
    let (_stage, gate) = shut_by_a_dead();
    let start = Instant::now();

    until("the gate shut by a dead", || {
        let site = Site::of(&*gate).expect("a site");
        site.wait_for(&*gate, Deadline::after(Duration::from_millis(5)), || is_passable(&site, &gate)).is_some()
    });

    assert!(start.elapsed() < prompt(), "{:?}", start.elapsed());
}

#[test]
fn a_wait_that_others_end_again_and_again_learns_of_a_death() {
    let (stage, gate) = shut_by_a_dead();
    let bell = &stage.board[0];

    std::thread::scope(|scope| {
        let (over, ringing) = (&stage.board[1], &stage.board[2]);
        scope.spawn(move || {
            while over.load(Relaxed) == 0 {
                bell.fetch_add(1, Relaxed);
                wake_all(bell);
                ringing.fetch_add(1, Relaxed);
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        until("the bell", || ringing.load(Relaxed) > 0);
        let site = Site::of(&*gate).expect("a site");
        let start = Instant::now();
        let passed = site.wait_for(bell, Deadline::after(Duration::from_secs(10)), || is_passable(&site, &gate));
        let took = start.elapsed();
        over.store(1, Relaxed);

        assert_eq!(passed, Some(()));
        assert!(took < prompt(), "{took:?}");
    });
}

#[test]
fn the_safety_net_saves_one_who_waits_for_short_times_only() {
    let stage = Stage::create();
    // As in the test of the net for one long wait: the watcher of the owner does not see its death.
    let [watcher, owner, waiter] = &mut Party::join_many::<3>(Net::On, &stage);
    let name = stage.leave();
    owner.ask("lock");
    until_keepers_settled(watcher.pid());
    watcher.signal(libc::SIGSTOP);
    until_stopped(watcher.pid());
    until_keepers_settled(waiter.pid());
    owner.kill();
    let start = Instant::now();

    until("the lock of the dead", || waiter.ask("timed 50") == "poisoned OwnerDied");

    assert!(start.elapsed() < Duration::from_secs(1) + prompt(), "{:?}", start.elapsed());
    // Only what ends a long sleep is one.
    assert_eq!(Stage::open(&name).region.rescues(), 0);
}

#[test]
fn a_wait_ends_at_its_deadline_however_often_the_word_changes() {
    let region = Region::anonymous(4096).expect("a region");
    let word = region.insert("word", AtomicU64::new(0)).expect("room");
    let site = Site::of(&*word).expect("a site");
    let start = Instant::now();

    let never = site.wait_for(&*word, Deadline::after(Duration::from_millis(20)), || {
        // Between the look at the word and the sleep.
        word.fetch_add(1, Relaxed);
        (start.elapsed() > common::BOUND).then_some(())
    });

    assert_eq!(never, None);
    assert!(start.elapsed() >= Duration::from_millis(20));
}

/// Shuts the gate, forks a child that goes on with what its parent knows, and dies.
fn gate_parent(parent: &mut Parent) {
    let stage = Stage::open(parent.argument(0));
    let gate = stage.region.get::<AtomicU64>("gate").expect("the gate");
    let site = Site::of(&*gate).expect("a site");
    shut(&gate);
    let _child = fork(|| {
        common::outlive_parent();
        stage.board[0].store(1, Relaxed);
        let passed = site.wait_for(&*gate, Deadline::after(common::BOUND), || is_passable(&site, &gate));
        stage.board[0].store(if passed.is_some() { 2 } else { 3 }, Relaxed);
        exit_now(0);
    });
    until("the child", || stage.board[0].load(Relaxed) == 1);
    parent.say("shut");
    common::sleep_for_ever()
}

#[test]
fn a_child_that_was_forked_during_a_wait_learns_of_its_parents_death() {
    // Nobody else hears of the death.
    let stage = Stage::create_with(RegionOptions::new().participants(16).keeper(false));
    stage.region.insert("gate", AtomicU64::new(OPEN)).expect("room");
    let mut owner = Child::spawn_with(Net::On, "gate_parent", &[stage.name()]);
    owner.expect("shut");

    owner.kill();

    until("the child's passing", || stage.board[0].load(Relaxed) > 1);
    assert_eq!(stage.board[0].load(Relaxed), 2);
}

/// Counts how often it is rung.
#[derive(Debug)]
struct Counter(AtomicU32);

impl Bell for Counter {
    fn ring(&self) {
        self.0.fetch_add(1, Relaxed);
    }
}

/// Has a bell, and says when asked how often it was rung.
fn listener(parent: &mut Parent) {
    let stage = Stage::open(parent.argument(0));
    let counter = Arc::new(Counter(AtomicU32::new(0)));
    let bell: std::sync::Weak<dyn Bell> = Arc::<Counter>::downgrade(&counter);
    parent.say(Site::of(&*stage.board).expect("a site").ring_at_deaths(bell));
    loop {
        parent.expect("how often?");
        parent.say(counter.0.load(Relaxed));
    }
}

fn rings(listener: &mut Child) -> u32 {
    listener.tell("how often?");
    listener.hear().parse().expect("a number")
}

fn listening(stage: &Stage) -> Child {
    // It needs a keeper, whatever is switched off.
    let mut child = Child::spawn_with(Net::On, "listener", &[stage.name()]);
    child.expect("true");
    child
}

#[test]
fn a_bell_is_rung_at_a_death_and_at_a_departure() {
    let stage = Stage::create();
    let [mut leaver, victim] = Party::join_many::<2>(Net::On, &stage);
    let mut listener = listening(&stage);
    let start = Instant::now();

    victim.kill();
    until("a ring for the dead", || rings(&mut listener) == 1);
    leaver.tell("end");
    until("a ring for the one who left", || rings(&mut listener) == 2);

    assert!(start.elapsed() < prompt(), "{:?}", start.elapsed());
}

#[test]
fn the_safety_net_rings_for_a_death_whose_news_went_to_a_stopped_process() {
    let stage = Stage::create();
    let [watcher, owner] = &mut Party::join_many::<2>(Net::On, &stage);
    let mut listener = listening(&stage);
    let name = stage.leave();
    until_keepers_settled(watcher.pid());
    watcher.signal(libc::SIGSTOP);
    until_stopped(watcher.pid());
    let before = rings(&mut listener);
    owner.kill();
    let start = Instant::now();

    until("a ring", || rings(&mut listener) > before);

    assert!(start.elapsed() < Duration::from_secs(1) + prompt(), "{:?}", start.elapsed());
    assert_eq!(Stage::open(&name).region.rescues(), 1);
}
