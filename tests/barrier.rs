//! The `Barrier` between real processes: rounds in lockstep, and what breaks it; its deaths have a file of their own.

mod common;

use std::time::Duration;

use common::barrier::{Meeting, all_are_told, barrier_party};
use common::{Net, Party, Random, now_ns, prompt, queue_up, roles};

roles!(barrier_party);

#[test]
fn parties_go_from_round_to_round_in_lockstep_and_each_round_has_one_leader() {
    const ROUNDS: u64 = 300;
    let meeting = Meeting::of(4);
    let mut parties: [Party; 4] = meeting.parties(Net::Off);

    parties.iter_mut().for_each(|party| party.tell(format_args!("rounds {ROUNDS}")));
    let led: u64 = parties.iter_mut().map(|party| party.reply().text.parse::<u64>().expect("a number")).sum();

    assert_eq!(led, ROUNDS);
    assert!(!meeting.barrier.is_broken());
    assert_eq!(meeting.stage.region.rescues(), 0);
}

#[test]
fn nobody_goes_on_before_the_last_has_come() {
    let meeting = Meeting::of(3);
    let [mut one, mut other, mut last] = meeting.parties(Net::Off);
    one.fall_asleep("wait");
    other.fall_asleep("wait");

    assert_eq!(meeting.barrier.waiting(), 2);
    assert!(!one.has_said() && !other.has_said());
    let start = now_ns();
    assert_eq!(last.ask("wait"), "leader");
    for party in [&mut one, &mut other] {
        assert_eq!(party.soon(start), "follower");
    }
    assert_eq!(meeting.barrier.waiting(), 0);
}

#[test]
fn the_only_party_never_waits() {
    let meeting = Meeting::of(1);
    let [mut party] = meeting.parties(Net::Off);

    assert_eq!(party.ask("wait"), "leader");
    assert_eq!(party.ask("timed 0"), "leader");
    assert_eq!(party.ask("rounds 100"), "100");
}

#[test]
fn one_more_than_there_are_seats_is_refused_until_one_leaves() {
    let meeting = Meeting::of(2);
    let [mut one, mut other] = meeting.parties(Net::Off);
    let mut third = meeting.guest(Net::Off);

    assert_eq!(third.ask("join"), "Full");
    assert_eq!(one.ask("leave"), "left");
    assert_eq!(third.ask("join"), "joined");
    Meeting::has_a_round(&mut [&mut third, &mut other]);
}

#[test]
fn a_round_waits_for_a_seat_that_is_free_to_be_taken() {
    let meeting = Meeting::of(2);
    let [mut one, mut other] = meeting.parties(Net::Off);
    let mut third = meeting.guest(Net::Off);
    assert_eq!(other.ask("leave"), "left");
    one.fall_asleep("wait");

    assert_eq!(third.ask("join"), "joined");
    one.until_asleep();
    assert_eq!(third.ask("wait"), "leader");
    assert_eq!(one.reply().text, "follower");
}

#[test]
fn a_time_out_breaks_the_barrier_for_all_and_late_ones_and_a_reset_repairs_it() {
    let meeting = Meeting::of(3);
    let [mut hasty, mut late, patient] = meeting.parties(Net::Off);
    let patient = &mut [patient];
    patient[0].fall_asleep("wait");

    hasty.tell("timed 200");
    let (reply, asked) = (hasty.reply(), Duration::from_millis(200));
    let start = now_ns();

    assert_eq!(reply.text, "TimedOut");
    assert!(reply.took >= asked && reply.took < asked + prompt(), "{reply:?}");
    all_are_told(patient, start);
    assert_eq!(late.ask("wait"), "Broken");
    assert_eq!(hasty.ask("timed 10000"), "Broken");
    assert!(meeting.barrier.is_broken());
    assert_eq!(late.ask("reset"), "Ok(())");
    assert!(!meeting.barrier.is_broken());
    Meeting::has_a_round(&mut [&mut hasty, &mut late, &mut patient[0]]);
}

#[test]
fn a_time_out_at_the_very_moment_that_the_last_comes_is_one_for_both_or_for_none() {
    let meeting = Meeting::of(2);
    let [mut hasty, mut last] = meeting.parties(Net::Off);
    let mut random = Random::new();

    for _ in 0..100 {
        hasty.tell("timed 3");
        random.pause(Duration::from_millis(5));
        last.tell("wait");
        let came = [hasty.reply().text, last.reply().text];
        match [&*came[0], &*came[1]] {
            ["follower", "leader"] | ["leader", "follower"] => {}
            ["TimedOut", "Broken"] => assert_eq!(last.ask("reset"), "Ok(())"),
            _ => panic!("{came:?}"),
        }
    }
    assert_eq!(meeting.stage.region.rescues(), 0);
}

#[test]
fn an_abort_breaks_the_barrier_for_all_and_late_ones() {
    let meeting = Meeting::of(3);
    let mut stranger = meeting.guest(Net::Off);
    let mut parties: [Party; 2] = meeting.parties(Net::Off);
    queue_up("wait", &mut parties);

    let start = now_ns();
    assert_eq!(stranger.ask("abort"), "aborted");

    all_are_told(&mut parties, start);
    assert_eq!(stranger.ask("join"), "joined");
    assert_eq!(stranger.ask("wait"), "Broken");
}

#[test]
fn a_reset_sends_those_who_wait_away() {
    let meeting = Meeting::of(2);
    let [mut other, party] = meeting.parties(Net::Off);
    let party = &mut [party];
    party[0].fall_asleep("wait");

    let start = now_ns();
    assert_eq!(other.ask("reset"), "Ok(())");

    all_are_told(party, start);
    Meeting::has_a_round(&mut [&mut other, &mut party[0]]);
}

#[test]
fn a_party_dropped_by_a_panic_breaks_the_barrier() {
    let meeting = Meeting::of(2);
    let [mut careless, party] = meeting.parties(Net::Off);
    let party = &mut [party];
    party[0].fall_asleep("wait");

    let start = now_ns();
    assert_eq!(careless.ask("panic"), "panicked");

    all_are_told(party, start);
}

#[test]
fn interrupting_signals_neither_surface_nor_cut_a_wait_short() {
    let meeting = Meeting::of(2);
    let [mut party, mut other] = meeting.parties(Net::Off);
    party.ask("interrupts");
    party.tell("wait");

    party.interrupt_asleep(200);
    assert_eq!(other.ask("wait"), "leader");
    assert_eq!(party.reply().text, "follower");

    party.tell("timed 300");
    let signals = party.interrupt_until_it_answers();
    let (reply, asked) = (party.reply(), Duration::from_millis(300));
    assert!(signals > 100, "only {signals} signals were sent");
    assert_eq!(reply.text, "TimedOut");
    assert!(reply.took >= asked && reply.took < asked + prompt(), "{reply:?}");
}

#[test]
fn a_stopped_party_is_alive_and_waited_for() {
    let meeting = Meeting::of(2);
    let [mut stopped, mut party] = meeting.parties(Net::Same);

    stopped.signal(libc::SIGSTOP);
    common::until_stopped(stopped.pid());
    party.fall_asleep("wait");
    // Longer than the safety net, which must not take it for dead.
    assert!(!speaks_within(&party, Duration::from_millis(1300)));
    stopped.signal(libc::SIGCONT);

    assert_eq!(stopped.ask("wait"), "leader");
    assert_eq!(party.reply().text, "follower");
}

/// Whether it says something within `time`.
fn speaks_within(party: &Party, time: Duration) -> bool {
    let end = now_ns() + time.as_nanos() as u64;
    while now_ns() < end && !party.has_said() {
        std::thread::sleep(Duration::from_millis(1));
    }
    party.has_said()
}

#[test]
fn a_forked_child_has_no_seat_and_takes_none_away() {
    let meeting = Meeting::of(2);
    let [mut parent, mut party] = meeting.parties(Net::Off);

    assert_eq!(parent.ask("fork"), "0");

    assert!(!meeting.barrier.is_broken());
    assert_eq!(meeting.barrier.waiting(), 0);
    Meeting::has_a_round(&mut [&mut parent, &mut party]);
}
