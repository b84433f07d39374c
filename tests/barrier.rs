//! The `Barrier` between real processes: rounds in lockstep, what breaks it, and the deaths of its parties.

mod common;

use std::ops::{Deref, DerefMut};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use shmkit::{Barrier, BarrierError, BarrierWaitResult, Party as Seat, Region, Shm};

use common::{Child, Net, Parent, Random, Reply, Stage, fork, now_ns, prompt, roles, signal_thread, until};

roles!(party);

/// A stage with a barrier.
struct Meeting {
    stage: Stage,
    barrier: Shm<Barrier>,
}

impl Meeting {
    fn of(parties: u32) -> Self {
        let stage = Stage::create();
        let barrier = stage.region.insert("barrier", Barrier::new(parties).expect("1 to 64")).expect("room");
        Self { stage, barrier }
    }

    /// Starts a process that has not joined yet.
    #[track_caller]
    fn guest(&self, net: Net) -> Guest {
        let mut guest = Guest(Child::spawn_with(net, "party", &[self.stage.name()]));
        guest.expect("here");
        guest
    }

    /// Starts processes that have joined.
    #[track_caller]
    fn parties<const N: usize>(&self, net: Net) -> [Guest; N] {
        std::array::from_fn(|_| {
            let mut guest = self.guest(net);
            assert_eq!(guest.ask("join"), "joined");
            guest
        })
    }

    #[track_caller]
    fn until_told(&self, dead: &Guest) {
        until("the news of the death", || {
            // Where nobody has a keeper, it comes to those who look.
            let _ = self.barrier.is_broken();
            !self.stage.pids().contains(&dead.pid())
        });
    }

    /// All who are there go through a round, with one leader.
    #[track_caller]
    fn has_a_round(parties: &mut [&mut Guest]) {
        parties.iter_mut().for_each(|party| party.tell("wait"));
        let mut said: Vec<_> = parties.iter_mut().map(|party| party.reply().text).collect();
        said.sort();
        assert_eq!(said[0], if said.len() == 1 { "leader" } else { "follower" }, "{said:?}");
        assert_eq!(said.iter().filter(|said| *said == "leader").count(), 1, "{said:?}");
        assert!(said.iter().all(|said| said == "leader" || said == "follower"), "{said:?}");
    }
}

/// A process that does with the barrier what it is told.
struct Guest(Child);

impl Deref for Guest {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.0
    }
}

impl DerefMut for Guest {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.0
    }
}

impl Guest {
    #[track_caller]
    fn reply(&mut self) -> Reply {
        Reply::parse(&self.hear())
    }

    #[track_caller]
    fn ask(&mut self, what: &str) -> String {
        self.tell(what);
        self.reply().text
    }

    /// Waits at the barrier and falls asleep.
    #[track_caller]
    fn fall_asleep(&mut self) {
        self.tell("wait");
        self.until_asleep();
    }
}

fn party(parent: &mut Parent) {
    let name = parent.argument(0).to_owned();
    let region = Region::open(&name).expect("the region");
    let board = Stage::open(&name).board;
    let barrier = region.get::<Barrier>("barrier").expect("the barrier");
    let mut seat: Option<Seat<'_>> = None;
    parent.say("here");
    loop {
        let order = parent.hear();
        let (verb, number) = order.split_once(' ').unwrap_or((&order, "0"));
        let number: u64 = number.parse().expect("a number");
        let start = now_ns();
        let said = match verb {
            "join" => match barrier.join() {
                Ok(new) => {
                    seat = Some(new);
                    "joined".to_owned()
                }
                Err(error) => format!("{error:?}"),
            },
            "wait" => outcome(seat.as_mut().expect("a seat").wait()),
            "timed" => outcome(seat.as_mut().expect("a seat").wait_timeout(Duration::from_millis(number))),
            // So many rounds, in each of which all parties must find the same number on the board.
            "rounds" => {
                let seat = seat.as_mut().expect("a seat");
                let mut led = 0;
                for round in 1..=number {
                    if seat.wait().expect("a sound barrier").is_leader() {
                        led += 1;
                        board[0].store(round, Relaxed);
                    }
                    seat.wait().expect("a sound barrier");
                    assert_eq!(board[0].load(Relaxed), round);
                }
                led.to_string()
            }
            "leave" => {
                seat = None;
                "left".to_owned()
            }
            "panic" => {
                let held = seat.take();
                let panicked = catch_unwind(AssertUnwindSafe(|| {
                    let _held = held;
                    std::panic::resume_unwind(Box::new(()));
                }));
                assert!(panicked.is_err());
                "panicked".to_owned()
            }
            "abort" => {
                barrier.abort();
                "aborted".to_owned()
            }
            "reset" => format!("{:?}", barrier.reset()),
            // What a child can do with the seat of its parent: nothing.
            "fork" => {
                let mut held = seat.take();
                let child = fork(|| {
                    let seat = held.as_mut().expect("a seat");
                    assert!(matches!(seat.wait(), Err(BarrierError::NotJoined)));
                    drop(held.take());
                });
                let status = child.reap();
                seat = held;
                status.to_string()
            }
            "exit" => std::process::exit(7),
            "interrupts" => {
                common::interrupt_on(libc::SIGUSR1);
                "ready".to_owned()
            }
            other => panic!("no order {other:?}"),
        };
        let at = now_ns();
        parent.say(format_args!("{at} {} {said}", at - start));
    }
}

fn outcome(waited: Result<BarrierWaitResult, BarrierError>) -> String {
    match waited {
        Ok(round) if round.is_leader() => "leader".to_owned(),
        Ok(_) => "follower".to_owned(),
        Err(error) => format!("{error:?}"),
    }
}

/// Each of them learns soon after `start` that the barrier is broken.
#[track_caller]
fn all_are_told(parties: &mut [Guest], start: u64) {
    for party in parties {
        let reply = party.reply();
        assert_eq!(reply.text, "Broken");
        assert!(reply.since(start) < prompt(), "{reply:?}");
    }
}

fn with_and_without_the_net(scene: impl Fn(Net)) {
    scene(Net::Off);
    scene(Net::Same);
}

// Everyday behaviour.

#[test]
fn parties_go_from_round_to_round_in_lockstep_and_each_round_has_one_leader() {
    const ROUNDS: u64 = 300;
    let meeting = Meeting::of(4);
    let mut parties: [Guest; 4] = meeting.parties(Net::Off);

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
    one.fall_asleep();
    other.fall_asleep();

    assert_eq!(meeting.barrier.waiting(), 2);
    assert!(!one.has_said() && !other.has_said());
    let start = now_ns();
    assert_eq!(last.ask("wait"), "leader");
    for party in [&mut one, &mut other] {
        let reply = party.reply();
        assert_eq!(reply.text, "follower");
        assert!(reply.since(start) < prompt(), "{reply:?}");
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
    one.fall_asleep();

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
    patient[0].fall_asleep();

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
    let mut parties: [Guest; 2] = meeting.parties(Net::Off);
    parties.iter_mut().for_each(Guest::fall_asleep);

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
    party[0].fall_asleep();

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
    party[0].fall_asleep();

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

    for _ in 0..200 {
        party.until_asleep();
        assert!(signal_thread(party.pid(), party.thread(), libc::SIGUSR1));
    }
    assert!(!party.has_said());
    assert_eq!(other.ask("wait"), "leader");
    assert_eq!(party.reply().text, "follower");

    party.tell("timed 300");
    let mut signals = 0;
    until("the end of the timed wait", || {
        signals += u32::from(signal_thread(party.pid(), party.thread(), libc::SIGUSR1));
        party.has_said()
    });
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
    party.tell("wait");
    party.until_asleep();
    // Longer than the safety net, which must not take it for dead.
    assert!(!speaks_within(&party, Duration::from_millis(1300)));
    stopped.signal(libc::SIGCONT);

    assert_eq!(stopped.ask("wait"), "leader");
    assert_eq!(party.reply().text, "follower");
}

/// Whether it says something within `time`.
fn speaks_within(party: &Guest, time: Duration) -> bool {
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

// Deaths.

#[test]
fn the_death_of_a_party_that_has_not_come_breaks_the_barrier_at_once_for_all() {
    with_and_without_the_net(|net| {
        let meeting = Meeting::of(5);
        let [mut dead, mut late] = meeting.parties(net);
        let mut parties: [Guest; 3] = meeting.parties(net);
        parties.iter_mut().for_each(Guest::fall_asleep);

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
        let mut parties: [Guest; 2] = meeting.parties(net);
        dead.fall_asleep();
        parties.iter_mut().for_each(Guest::fall_asleep);

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
        dead.fall_asleep();
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
    waiting[0].fall_asleep();
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
    let mut dead: [Guest; 2] = meeting.parties(Net::Off);
    let [mut survivor] = meeting.parties(Net::Off);
    // One of them has arrived, the other not.
    dead[0].fall_asleep();
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
    one.fall_asleep();
    survivor.fall_asleep();
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
            let mut dead: [Guest; 3] = meeting.parties(net);
            let mut survivors: [Guest; 2] = meeting.parties(net);
            dead[1..].iter_mut().for_each(Guest::fall_asleep);
            survivors.iter_mut().for_each(Guest::fall_asleep);

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
    let mut survivors: [Guest; 2] = meeting.parties(Net::Off);
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
