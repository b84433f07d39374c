//! The `Barrier` between real processes, of which parties die.

mod common;

use std::time::Duration;

use common::barrier::{Meeting, all_are_told, barrier_party};
use common::{Net, Party, Random, now_ns, queue_up, roles, until, with_and_without_the_net};

roles!(barrier_party);

#[test]
fn the_death_of_a_party_that_has_not_come_breaks_the_barrier_at_once_for_all() {
    with_and_without_the_net(|net| {
        let meeting = Meeting::of(5);
        let [mut dead, mut late] = meeting.parties(net);
        let mut parties: [Party; 3] = meeting.parties(net);
        queue_up("wait", &mut parties);

        let start = dead.kill();

        all_are_told(&mut parties, start);
        assert_eq!(late.ask("wait"), "Broken");
        dead.reap();
        assert_eq!(meeting.stage.region.rescues(), 0);
    });
}

#[test]
fn the_death_of_a_party_that_waits_breaks_the_barrier_at_once_for_all() {
    with_and_without_the_net(|net| {
        let meeting = Meeting::of(4);
        let [mut dead, mut late] = meeting.parties(net);
        let mut parties: [Party; 2] = meeting.parties(net);
        dead.fall_asleep("wait");
        queue_up("wait", &mut parties);

        let start = dead.kill();

        all_are_told(&mut parties, start);
        assert_eq!(late.ask("wait"), "Broken");
        assert_eq!(meeting.stage.region.rescues(), 0);
    });
}

#[test]
fn those_who_come_after_a_death_find_the_barrier_broken_also_the_last() {
    with_and_without_the_net(|net| {
        let meeting = Meeting::of(2);
        let [mut dead, mut last] = meeting.parties(net);
        // Warm: it has looked before, and found all alive.
        Meeting::has_a_round(&mut [&mut dead, &mut last]);
        dead.fall_asleep("wait");
        dead.kill();
        dead.reap();
        meeting.until_told(&dead);

        assert!(meeting.barrier.is_broken());
        assert_eq!(last.ask("wait"), "Broken");
        assert_eq!(last.ask("timed 10000"), "Broken");
    });
}

#[test]
fn a_party_that_exits_without_leaving_breaks_the_barrier_and_one_that_left_before_does_not() {
    let meeting = Meeting::of(3);
    let [mut leaver, mut party] = meeting.parties(Net::Off);
    let waiting = &mut meeting.parties::<1>(Net::Off);
    assert_eq!(leaver.ask("leave"), "left");
    waiting[0].fall_asleep("wait");
    leaver.kill();
    leaver.reap();
    meeting.until_told(&leaver);
    assert!(!meeting.barrier.is_broken());
    waiting[0].until_asleep();

    let start = now_ns();
    party.tell("exit");

    all_are_told(waiting, start);
}

#[test]
fn a_reset_frees_the_seats_of_the_dead_for_others() {
    let meeting = Meeting::of(3);
    let mut dead: [Party; 2] = meeting.parties(Net::Off);
    let [mut survivor] = meeting.parties(Net::Off);
    // One of them has arrived, the other not.
    dead[0].fall_asleep("wait");
    for dead in &mut dead {
        dead.kill();
        dead.reap();
        meeting.until_told(dead);
    }
    let [mut one, mut other] = [(); 2].map(|()| meeting.guest(Net::Off));

    assert_eq!(one.ask("join"), "Broken");
    assert_eq!(survivor.ask("reset"), "Ok(())");
    assert!(!meeting.barrier.is_broken());
    assert_eq!(one.ask("join"), "joined");
    one.fall_asleep("wait");
    survivor.fall_asleep("wait");
    assert_eq!(meeting.barrier.waiting(), 2);
    assert_eq!(other.ask("join"), "joined");
    assert_eq!(meeting.barrier.waiting(), 2, "nobody has arrived for somebody else");
    assert_eq!(other.ask("wait"), "leader");
    assert_eq!(one.reply().text, "follower");
    assert_eq!(survivor.reply().text, "follower");
}

#[test]
fn several_parties_killed_at_one_blow_break_the_barrier_for_the_others() {
    with_and_without_the_net(|net| {
        for _ in 0..5 {
            let meeting = Meeting::of(6);
            let mut dead: [Party; 3] = meeting.parties(net);
            let mut survivors: [Party; 2] = meeting.parties(net);
            queue_up("wait", &mut dead[1..]);
            queue_up("wait", &mut survivors);

            let start = now_ns();
            dead.iter().for_each(|dead| dead.signal(libc::SIGKILL));

            all_are_told(&mut survivors, start);
            assert_eq!(meeting.stage.region.rescues(), 0);
        }
    });
}

#[test]
fn whenever_a_party_is_killed_the_others_learn_the_same_and_a_new_one_takes_its_place() {
    let meeting = Meeting::of(3);
    let mut survivors: [Party; 2] = meeting.parties(Net::Off);
    let mut random = Random::new();

    for _ in 0..40 {
        let [mut victim] = meeting.parties(Net::Off);
        survivors.iter_mut().for_each(|party| party.tell("wait"));
        victim.tell("wait");
        random.pause(Duration::from_micros(300));
        victim.kill();
        victim.reap();
        let came = survivors.each_mut().map(|party| party.reply().text);
        let broken = came.iter().filter(|came| *came == "Broken").count();

        assert!(broken == 0 || broken == 2, "{came:?}");
        until("the death to be told", || meeting.barrier.is_broken());
        meeting.until_told(&victim);
        assert_eq!(survivors[0].ask("reset"), "Ok(())");
    }
    assert_eq!(meeting.stage.region.rescues(), 0);
}
