//! `Once` and `OnceLock` between real processes: one does it, whoever is killed.

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use shmkit::{Error, Once, OnceLock, Shm, WaitError};

use common::{
    Net, Parent, Party, Stage, answer, fork, fork_here, has_ended_well, interrupt_on, now_ns, prompt, queue_up, roles,
    until, until_stopped, with_and_without_the_net,
};

roles!(player, maker);

type Value = [u64; 64];

/// Where on the board it is counted how often it was begun, and how often done.
const BEGUN: usize = 0;
const DONE: usize = 1;

fn create() -> (Stage, Shm<Once>, Shm<OnceLock<Value>>) {
    let stage = Stage::create();
    let once = stage.region.insert("once", Once::new()).expect("room");
    let value = stage.region.insert("value", OnceLock::new()).expect("room");
    (stage, once, value)
}

fn count(stage: &Stage, what: usize) -> u64 {
    stage.board[what].load(Relaxed)
}

/// Lets it begin and stay in the middle.
fn begin(runner: &mut Party) {
    runner.tell("stay");
    assert_eq!(runner.reply().text, "within");
}

// Does what it is told.
fn player(parent: &mut Parent) {
    let stage = Stage::open(parent.argument(0));
    let once = stage.region.get::<Once>("once").expect("the once");
    let value = stage.region.get::<OnceLock<Value>>("value").expect("the value");
    let board = &stage.board;
    answer(parent, now_ns(), "here");
    loop {
        let order = parent.hear();
        let (verb, number) = order.split_once(' ').unwrap_or((&order, "0"));
        let number: u64 = number.parse().expect("a number");
        let timeout = Duration::from_millis(number);
        let start = now_ns();
        let work = || {
            board[BEGUN].fetch_add(1, Relaxed);
            board[DONE].fetch_add(1, Relaxed);
        };
        let text = match verb {
            "call" => outcome(once.call_once(work)),
            "call-timed" => outcome(once.call_once_timeout(timeout, work)),
            "wait" => outcome(once.wait()),
            "wait-timed" => outcome(once.wait_timeout(timeout)),
            // Begins and stays until told how to end.
            "stay" => {
                let ended = catch_unwind(AssertUnwindSafe(|| {
                    once.call_once(|| {
                        board[BEGUN].fetch_add(1, Relaxed);
                        answer(parent, start, "within");
                        match parent.hear().as_str() {
                            "done" => _ = board[DONE].fetch_add(1, Relaxed),
                            _ => std::panic::resume_unwind(Box::new(())),
                        }
                    })
                }));
                ended.map_or("panicked".to_owned(), outcome)
            }
            // Forks in the middle; the child calls, too.
            "fork" => {
                let done = once.call_once(|| {
                    let child = fork(|| {
                        let called = once.call_once_timeout(Duration::from_millis(1), || ());
                        assert!(matches!(called, Err(WaitError::TimedOut)));
                    });
                    assert_eq!(child.reap(), 0);
                });
                outcome(done)
            }
            // Forks in the middle, and the child returns from there like its parent.
            "fork-through" => {
                let parent_of_all = std::process::id();
                let done = value.get_or_init(|| {
                    let child = fork_here();
                    if child == 0 {
                        return [13; 64];
                    }
                    board[DONE].store(u64::from(child), Relaxed);
                    until("the end of the child", || has_ended_well(child));
                    [7; 64]
                });
                if std::process::id() != parent_of_all {
                    let forked = matches!(done, Err(WaitError::Failed(Error::Forked))) && value.get().is_none();
                    common::exit_now(if forked { 0 } else { 1 });
                }
                format!("{:?}", done.map(|value| value[0]))
            }
            // Makes a value of its own number.
            "make" => {
                let made = value.get_or_init(|| {
                    board[BEGUN].fetch_add(1, Relaxed);
                    [number; 64]
                });
                let made = made.expect("a value");
                assert!(made.iter().all(|part| *part == made[0]), "torn: {made:?}");
                made[0].to_string()
            }
            "interrupts" => {
                interrupt_on(libc::SIGUSR1);
                "ready".to_owned()
            }
            other => panic!("no order {other:?}"),
        };
        answer(parent, start, &text);
    }
}

fn outcome(result: Result<(), WaitError>) -> String {
    match result {
        Ok(()) => "done".to_owned(),
        Err(error) => format!("{error:?}"),
    }
}

// Everyday behaviour.

#[test]
fn of_eight_processes_one_makes_the_value_and_all_get_it() {
    let (stage, _once, value) = create();
    let mut players: [Party; 8] = Party::join_many_as("player", Net::Off, &stage);

    for (number, player) in players.iter_mut().enumerate() {
        player.tell(format_args!("make {}", number + 1));
    }
    let values = players.each_mut().map(|player| player.reply().text);

    assert!(values.iter().all(|value| *value == values[0]), "{values:?}");
    assert_eq!(count(&stage, BEGUN), 1);
    assert_eq!(value.get().expect("a value")[0].to_string(), values[0]);
}

#[test]
fn those_who_come_while_it_is_done_go_on_when_it_is_done() {
    let (stage, once, _value) = create();
    let [mut runner, mut caller, mut waiter] = Party::join_many_as("player", Net::Off, &stage);
    begin(&mut runner);
    caller.fall_asleep("call");
    waiter.fall_asleep("wait");
    assert!(!once.is_completed());

    let start = now_ns();
    runner.tell("done");

    assert_eq!(caller.soon(start), "done");
    assert_eq!(waiter.soon(start), "done");
    assert_eq!(runner.reply().text, "done");
    assert_eq!((count(&stage, BEGUN), count(&stage, DONE)), (1, 1));
}

#[test]
fn timed_calls_and_waits_end_at_their_time_and_not_before() {
    let (stage, _once, _value) = create();
    let [mut runner, mut other] = Party::join_many_as("player", Net::Off, &stage);
    begin(&mut runner);

    for order in ["call-timed 100", "wait-timed 100", "call-timed 0", "wait-timed 0"] {
        other.tell(order);
        let reply = other.reply();
        let asked = Duration::from_millis(if order.ends_with("100") { 100 } else { 0 });
        assert_eq!(reply.text, "TimedOut");
        assert!(reply.took >= asked && reply.took < asked + prompt(), "{order}: {reply:?}");
    }
    runner.tell("done");
    assert_eq!(other.ask("call-timed 15000"), "done");
}

#[test]
fn one_who_panics_leaves_it_to_one_who_waits() {
    let (stage, _once, _value) = create();
    let [mut runner, mut waiter, mut caller] = Party::join_many_as("player", Net::Off, &stage);
    begin(&mut runner);
    waiter.fall_asleep("wait");
    caller.fall_asleep("call");

    let start = now_ns();
    runner.tell("panic");

    assert_eq!(caller.soon(start), "done");
    assert_eq!(waiter.soon(start), "done");
    assert_eq!(runner.reply().text, "panicked");
    assert_eq!((count(&stage, BEGUN), count(&stage, DONE)), (2, 1));
}

#[test]
fn one_who_waits_before_anybody_has_begun_goes_on_when_it_is_done() {
    let (stage, once, _value) = create();
    let [mut waiter] = Party::join_many_as("player", Net::Off, &stage);
    waiter.fall_asleep("wait");

    let start = now_ns();
    once.call_once(|| ()).expect("done");

    assert_eq!(waiter.soon(start), "done");
}

#[test]
fn a_stopped_process_is_still_doing_it() {
    let (stage, _once, _value) = create();
    let [mut runner, mut other] = Party::join_many_as("player", Net::Same, &stage);
    begin(&mut runner);
    runner.signal(libc::SIGSTOP);
    until_stopped(runner.pid());

    assert_eq!(other.ask("call-timed 1500"), "TimedOut");
    other.fall_asleep("call");
    runner.signal(libc::SIGCONT);
    runner.tell("done");

    assert_eq!(other.reply().text, "done");
    assert_eq!(count(&stage, BEGUN), 1);
}

#[test]
fn interrupting_signals_neither_surface_nor_cut_a_wait() {
    let (stage, _once, _value) = create();
    let [mut runner, mut other] = Party::join_many_as("player", Net::Off, &stage);
    begin(&mut runner);
    other.ask("interrupts");
    for order in ["call-timed 300", "wait-timed 300"] {
        other.tell(order);
        other.interrupt_until_it_answers();
        let reply = other.reply();
        assert_eq!(reply.text, "TimedOut");
        assert!(reply.took >= Duration::from_millis(300) && reply.took < Duration::from_millis(300) + prompt());
    }
    other.tell("call");
    other.interrupt_asleep(200);
    runner.tell("done");
    assert_eq!(other.reply().text, "done");
}

#[test]
fn a_child_forked_in_the_middle_waits_for_its_parent_like_any_other() {
    let (stage, once, _value) = create();
    let [mut parent] = Party::join_many_as("player", Net::Off, &stage);

    assert_eq!(parent.ask("fork"), "done");
    assert!(once.is_completed());
}

#[test]
fn a_child_that_returns_from_what_its_parent_does_completes_nothing() {
    let (stage, _once, value) = create();
    let [mut parent] = Party::join_many_as("player", Net::Off, &stage);

    assert_eq!(parent.ask("fork-through"), "Ok(7)");
    assert_eq!(value.get(), Some(&[7; 64]));
}

// Deaths.

#[test]
fn one_of_those_who_wait_does_it_when_the_one_who_did_is_killed() {
    with_and_without_the_net(|net| {
        let (stage, _once, _value) = create();
        let [runner, waiter, callers @ ..] = &mut Party::join_many_as::<5>("player", net, &stage);
        begin(runner);
        waiter.fall_asleep("wait");
        queue_up("call", callers);

        let start = runner.kill();

        callers.iter_mut().for_each(|caller| assert_eq!(caller.soon(start), "done"));
        assert_eq!(waiter.soon(start), "done");
        assert_eq!((count(&stage, BEGUN), count(&stage, DONE)), (2, 1));
        assert_eq!(stage.region.rescues(), 0);
    });
}

#[test]
fn those_who_wait_get_on_when_one_after_the_other_is_killed_while_doing_it() {
    with_and_without_the_net(|net| {
        let (stage, _once, _value) = create();
        let mut waiter = Party::join_as("player", net, &stage);
        let mut heirs = Vec::from(Party::join_many_as::<4>("player", net, &stage));
        let mut last = Party::join_as("player", net, &stage);
        let mut first = Party::join_as("player", net, &stage);
        begin(&mut first);
        waiter.fall_asleep("wait");
        queue_up("stay", &mut heirs);
        let start = first.kill();

        while !heirs.is_empty() {
            let mut next = None;
            until("one who does it", || {
                next = heirs.iter().position(|heir| heir.has_said());
                next.is_some()
            });
            let mut heir = heirs.remove(next.expect("the one found"));
            assert_eq!(heir.reply().text, "within");
            heir.kill();
        }
        assert_eq!(last.ask("call"), "done");

        assert_eq!(waiter.reply().text, "done");
        assert!(Duration::from_nanos(now_ns() - start) < 6 * prompt());
        assert_eq!((count(&stage, BEGUN), count(&stage, DONE)), (6, 1));
        assert_eq!(stage.region.rescues(), 0);
    });
}

#[test]
fn a_call_without_time_gets_what_a_dead_has_left() {
    let (stage, _once, _value) = create();
    let [mut runner, mut other] = Party::join_many_as("player", Net::Off, &stage);
    begin(&mut runner);
    runner.kill();
    runner.reap();

    until("the news of the death", || other.ask("call-timed 0") == "done");
    assert_eq!(count(&stage, DONE), 1);
}

#[test]
fn a_waiter_that_is_killed_disturbs_nobody() {
    with_and_without_the_net(|net| {
        let (stage, _once, _value) = create();
        let [mut runner, mut dead, mut other] = Party::join_many_as("player", net, &stage);
        begin(&mut runner);
        dead.fall_asleep("call");
        other.fall_asleep("call");
        dead.kill();
        dead.reap();
        until("the news of the death", || !stage.pids().contains(&dead.pid()));
        assert!(!other.has_said());

        let start = now_ns();
        runner.tell("done");

        assert_eq!(other.soon(start), "done");
        assert_eq!(count(&stage, BEGUN), 1);
        assert_eq!(stage.region.rescues(), 0);
    });
}

#[test]
fn values_are_whole_whenever_those_who_make_them_are_killed() {
    let stage = Stage::create();
    let mut random = common::Random::new();
    for round in 0..30 {
        let name = format!("value {round}");
        let value = stage.region.insert(&name, OnceLock::<Value>::new()).expect("room");
        let mut makers = [1, 2].map(|number| {
            let mut maker = common::Child::spawn("maker", &[stage.name(), &round.to_string(), &number.to_string()]);
            maker.expect("ready");
            maker
        });
        makers.iter_mut().for_each(|maker| maker.tell("go"));
        random.pause(Duration::from_micros(300));
        makers[0].kill();
        let made = value.get_or_init_timeout(common::BOUND, || [3; 64]).expect("a value");
        assert!(made.iter().all(|part| *part == made[0]) && (1..=3).contains(&made[0]), "torn: {made:?}");
        assert_eq!(makers[1].hear(), made[0].to_string());
    }
    assert_eq!(stage.region.rescues(), 0);
}

// Makes a value, once.
fn maker(parent: &mut Parent) {
    let stage = Stage::open(parent.argument(0));
    let name = format!("value {}", parent.argument(1));
    let number: u64 = parent.argument(2).parse().expect("a number");
    let value = stage.region.get::<OnceLock<Value>>(&name).expect("the value");
    parent.say("ready");
    parent.expect("go");
    let made = value.get_or_init(|| [number; 64]).expect("a value");
    parent.say(made[0]);
}
