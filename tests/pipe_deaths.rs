//! Pipes whose ends are killed: what the other side gets, how soon it learns of it, and what successors find.

mod common;

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use common::{Child, Net, PIPE, Random, Stage, Talker, now_ns, prompt, roles, talker, until};
use shmkit::{ChannelOptions, Endpoint, OpenError, Pipe, RecvError, RegionOptions, SendError};

roles!(talker);

fn with_and_without_the_net(scene: impl Fn(Net)) {
    scene(Net::Off);
    scene(Net::Same);
}

/// Kills a process and waits until nothing is left of it; says when it was killed.
fn kill(victim: &mut Child) -> u64 {
    let start = victim.kill();
    victim.reap();
    start
}

#[test]
fn a_receiver_learns_at_once_that_the_sender_was_killed() {
    with_and_without_the_net(|net| {
        let stage = Stage::create();
        let [mut one, mut other] = Talker::pair(net, &stage, "create 4");
        other.sleep_in("recv");

        let start = kill(&mut one);

        assert_eq!(other.reply_soon(start), "Disconnected");
        for order in ["recv", "try-recv", "timed-recv 15000", "poll 15000"] {
            assert_eq!(other.ask(order), "Disconnected");
        }
        assert_eq!(other.ask("send 1"), "Disconnected(..) 1");
        assert_eq!(stage.region.rescues(), 0);
    });
}

#[test]
fn a_sender_learns_at_once_that_the_receiver_was_killed() {
    with_and_without_the_net(|net| {
        let stage = Stage::create();
        let [mut one, mut other] = Talker::pair(net, &stage, "create 1");
        assert_eq!(other.ask("send 1"), "ok");
        other.sleep_in("send 2");

        let start = kill(&mut one);

        assert_eq!(other.reply_soon(start), "Disconnected(..) 2");
        assert_eq!(other.ask("try-send 3"), "Disconnected(..) 3");
        assert_eq!(other.ask("timed-send 4 15000"), "Disconnected(..) 4");
        assert_eq!(other.ask("is-closed"), "true");
        assert_eq!(stage.region.rescues(), 0);
    });
}

#[test]
fn what_was_sent_before_the_kill_arrives() {
    let stage = Stage::create();
    let [mut one, mut other] = Talker::pair(Net::Off, &stage, "create 20");
    assert_eq!(one.ask("send-many 0 20"), "ok");
    kill(&mut one);

    assert_eq!(other.ask("drain 0"), "20 Disconnected");
}

#[test]
fn exec_and_exit_are_ends_too() {
    for order in ["exec", "exit"] {
        let stage = Stage::create();
        let [mut one, mut other] = Talker::pair(Net::Off, &stage, "create 4");
        assert_eq!(one.ask("send 1"), "ok");
        assert_eq!(other.ask("recv"), "1");
        other.sleep_in("recv");
        let start = now_ns();
        one.tell(order);

        assert_eq!(other.reply_soon(start), "Disconnected");
    }
}

#[test]
fn the_news_comes_also_if_others_are_killed_with_it() {
    with_and_without_the_net(|net| {
        let stage = Stage::create();
        let [mut one, mut other] = Talker::pair(net, &stage, "create 4");
        // Whoever watches the one is among these, or the other itself.
        let mut bystanders = [(); 3].map(|()| Talker::join(net, &stage));
        other.sleep_in("recv");

        let start = now_ns();
        bystanders.iter().for_each(|bystander| _ = bystander.kill());
        one.kill();

        assert_eq!(other.reply_soon(start), "Disconnected");
        one.reap();
        bystanders.iter_mut().for_each(|bystander| _ = bystander.reap());
    });
}

#[test]
fn a_stopped_process_is_waited_for() {
    let stage = Stage::create();
    let [mut one, mut other] = Talker::pair(Net::On, &stage, "create 1");
    other.sleep_in("recv");
    one.signal(libc::SIGSTOP);
    common::until_stopped(one.pid());
    one.tell("send 1");
    // Longer than the safety net waits.
    let start = Instant::now();
    until("more than a second without a message", || start.elapsed() > Duration::from_millis(1200));
    assert!(!other.has_said());

    one.signal(libc::SIGCONT);

    assert_eq!(one.reply().text, "ok");
    assert_eq!(other.reply().text, "1");
}

// Successors.

#[test]
fn a_successor_gets_what_the_dead_has_not_received_and_sends_behind_what_it_has_sent() {
    for received in 0..20 {
        let stage = Stage::create();
        let [mut one, mut other] = Talker::pair(Net::Off, &stage, "create-for-successors 20");
        assert_eq!(one.ask("send-many 0 20"), "ok");
        assert_eq!(other.ask(&format!("recv-many 0 {received}")), "ok");
        assert_eq!(other.ask(&format!("send-many 0 {received}")), "ok");
        kill(&mut other);
        until("the news", || one.ask("is-closed") == "true");
        assert_eq!(one.ask("send 20"), "Disconnected(..) 20");

        let mut successor = Talker::join(Net::Off, &stage);
        assert_eq!(successor.ask("open"), "ok");

        assert_eq!(one.ask("is-closed"), "false");
        assert_eq!(successor.ask(&format!("send-many {received} 1")), "ok");
        assert_eq!(successor.ask("close-sender"), "closed");
        // In the middle of a cell, one by one and without patience.
        for number in received..20 {
            assert_eq!(successor.ask("try-recv"), number.to_string());
        }
        assert_eq!(successor.ask("try-recv"), "Empty");
        assert_eq!(one.ask("send 21"), "ok");
        assert_eq!(successor.ask("try-recv"), "21");
        assert_eq!(one.ask("drain 0"), format!("{} Disconnected", received + 1));
    }
}

#[test]
fn a_successor_comes_as_soon_as_the_dead_has_been_reaped() {
    let stage = Stage::create();
    let [mut one, mut other] = Talker::pair(Net::Off, &stage, "create-for-successors 4");
    for number in 0..30 {
        let mut successor = Talker::join(Net::Off, &stage);
        kill(&mut other);
        assert_eq!(successor.ask("open"), "ok");
        other = successor;
        assert_eq!(other.ask(&format!("send {number}")), "ok");
        assert_eq!(one.ask("recv"), number.to_string());

        let mut successor = Talker::join(Net::Off, &stage);
        kill(&mut one);
        assert_eq!(successor.ask("succeed"), "ok");
        one = successor;
        assert_eq!(one.ask(&format!("send {number}")), "ok");
        assert_eq!(other.ask("recv"), number.to_string());
    }
}

#[test]
fn both_may_be_killed_and_their_successors_go_on() {
    let stage = Stage::create();
    let [mut one, mut other] = Talker::pair(Net::Off, &stage, "create-for-successors 10");
    assert_eq!(one.ask("send-many 0 9"), "ok");
    assert_eq!(other.ask("send-many 50 5"), "ok");
    other.sleep_in("recv-many 0 100");
    one.kill();
    other.kill();
    one.reap();
    other.reap();

    let mut heirs = [Talker::join(Net::Off, &stage), Talker::join(Net::Off, &stage)];
    assert_eq!(heirs[0].ask("succeed"), "ok");
    assert_eq!(heirs[1].ask("open"), "ok");

    assert_eq!(heirs[0].ask("send 9"), "ok");
    assert_eq!(heirs[1].ask("recv"), "9");
    assert_eq!(heirs[0].ask("recv-many 50 5"), "ok");
    heirs[0].sleep_in("recv");
    let start = now_ns();
    assert_eq!(heirs[1].ask("send 1"), "ok");
    assert_eq!(heirs[0].reply_soon(start), "1");
}

#[test]
fn a_dead_end_is_taken_for_ever_without_successors_and_a_closed_one_is_closed() {
    let stage = Stage::create();
    let [mut one, mut other] = Talker::pair(Net::Off, &stage, "create 4");
    kill(&mut other);
    until("the news", || one.ask("is-closed") == "true");
    let mut third = Talker::join(Net::Off, &stage);
    assert_eq!(third.ask("open"), "Taken");
    one.ask("drop");
    assert_eq!(third.ask("succeed"), "Closed");
}

/// Half of an end that was closed before its process died is not to be had, so neither is the other half; nothing hangs on that.
#[test]
fn a_half_closed_end_has_no_successor() {
    for half in ["close-sender", "close-receiver"] {
        let stage = Stage::create();
        let [mut one, mut other] = Talker::pair(Net::Off, &stage, "create-for-successors 4");
        assert_eq!(other.ask(half), "closed");
        kill(&mut other);
        until("the news", || one.ask("is-closed") == "true");
        let mut third = Talker::join(Net::Off, &stage);

        assert_eq!(third.ask("open"), "Closed");

        assert_eq!(one.ask("recv"), "Disconnected");
        assert_eq!(one.ask("send 1"), "Disconnected(..) 1");
    }
}

// Moments.

#[test]
fn a_message_for_one_who_was_killed_as_it_was_woken_reaches_its_successor() {
    with_and_without_the_net(|net| {
        let mut reached = 0;
        for _ in 0..20 {
            let stage = Stage::create();
            let [mut one, mut victim] = Talker::pair(net, &stage, "create-for-successors 4");
            one.ask("busy");
            victim.ask("idle");
            victim.sleep_in("recv");

            assert_eq!(one.ask(&format!("send-and-kill 1 {}", victim.pid())), "ok");
            victim.reap();

            let mut successor = Talker::join(net, &stage);
            assert_eq!(successor.ask("open"), "ok");
            // One that got as far as taking it has taken it along.
            let found = successor.ask("try-recv");
            assert!(["1", "Empty"].contains(&found.as_str()), "{found}");
            reached += u32::from(found == "1");
            assert_eq!(one.ask("send 2"), "ok");
            assert_eq!(successor.ask("recv"), "2");
            assert_eq!(stage.region.rescues(), 0);
        }
        assert!(reached > 0, "no victim died before it ran");
    });
}

#[test]
fn whatever_a_sender_is_killed_at_the_receiver_gets_all_that_was_sent_and_nothing_else() {
    let mut random = Random::new();
    for round in 0..20 {
        let stage = Stage::create();
        let mut pipe: Pipe<u64> =
            ChannelOptions::new().capacity(1 + round % 9).create_in(&stage.region, PIPE).expect("a pipe");
        let mut victim = Talker::join(Net::Off, &stage);
        assert_eq!(victim.ask("open"), "ok");
        victim.tell("stream 0");
        for number in 0..200 {
            assert_eq!(pipe.recv().expect("a message"), number);
        }
        random.pause(Duration::from_millis(1));
        let start = Instant::now();
        victim.kill();

        let rest: Vec<u64> = pipe.receiver().iter().collect();

        assert!(start.elapsed() < prompt(), "{:?}", start.elapsed());
        let all = 200 + rest.len() as u64;
        assert!(rest.into_iter().eq(200..all));
        assert!(matches!(pipe.try_recv(), Err(RecvError::Disconnected)));
        victim.reap();
        let noted = stage.board[0].load(Relaxed);
        assert!((noted..=noted + 1).contains(&all), "{noted} noted, {all} received");
    }
}

#[test]
fn whatever_a_receiver_is_killed_at_its_successor_goes_on_behind_it() {
    let mut random = Random::new();
    for round in 0..20 {
        let stage = Stage::create();
        let mut options = ChannelOptions::new();
        options.capacity(1 + round % 9).successors(true);
        let mut pipe: Pipe<u64> = options.create_in(&stage.region, PIPE).expect("a pipe");
        let mut victim = Talker::join(Net::Off, &stage);
        assert_eq!(victim.ask("open"), "ok");
        victim.tell("drain 0");
        let mut next = 0;
        (0..200).for_each(|number| {
            pipe.send(number).expect("room");
            next = number + 1;
        });
        random.pause(Duration::from_micros(300));
        victim.kill();
        let start = Instant::now();
        let refused = (next..).find_map(|number| pipe.send(number).err()).expect("no end of numbers");
        assert!(start.elapsed() < prompt() && matches!(refused, SendError::Disconnected(_)), "{refused:?}");
        victim.reap();

        let mut heir = Pipe::<u64>::open_in(&stage.region, PIPE).expect("the end of the dead");
        pipe.close();
        let rest: Vec<u64> = heir.receiver().iter().collect();
        let refused = refused.into_message();
        let first = refused - rest.len() as u64;
        assert!(rest.into_iter().eq(first..refused));
        let noted = stage.board[1].load(Relaxed);
        assert!((noted..=noted + 1).contains(&first), "{noted} noted, {first} is the next");
    }
}

// Without a keeper.

/// A stage that this process takes part in without a keeper: nobody tells it of deaths.
fn untold() -> (Stage, Pipe<u64>, Talker) {
    let stage = Stage::create_with(RegionOptions::new().participants(16).keeper(false));
    let pipe = ChannelOptions::new().capacity(1).create_in(&stage.region, PIPE).expect("a pipe");
    let mut talker = Talker::join(Net::Same, &stage);
    assert_eq!(talker.ask("open"), "ok");
    (stage, pipe, talker)
}

#[test]
fn one_whom_nobody_tells_learns_of_a_death_by_calls_that_do_not_wait() {
    let learns: [fn(&mut Pipe<u64>) -> bool; 6] = [
        |pipe| matches!(pipe.poll(Duration::ZERO), Err(RecvError::Disconnected)),
        |pipe| matches!(pipe.try_recv(), Err(RecvError::Disconnected)),
        |pipe| matches!(pipe.recv_timeout(Duration::ZERO), Err(RecvError::Disconnected)),
        |pipe| matches!(pipe.try_send(1), Err(SendError::Disconnected(1))),
        |pipe| matches!(pipe.send_timeout(1, Duration::ZERO), Err(SendError::Disconnected(1))),
        |pipe| pipe.is_closed(),
    ];
    for has_learned in learns {
        let (_stage, mut pipe, mut talker) = untold();
        pipe.send(0).expect("room");
        assert!(!has_learned(&mut pipe));
        kill(&mut talker);
        let start = Instant::now();

        until("the news", || has_learned(&mut pipe));

        assert!(start.elapsed() < prompt(), "{:?}", start.elapsed());
    }
}

#[test]
fn one_whom_nobody_tells_learns_of_a_death_by_waiting() {
    let (stage, mut pipe, mut talker) = untold();
    kill(&mut talker);
    let start = Instant::now();
    assert!(matches!(pipe.recv(), Err(RecvError::Disconnected)));
    assert!(start.elapsed() < prompt(), "{:?}", start.elapsed());
    assert!(matches!(Pipe::<u64>::open_in(&stage.region, PIPE), Err(OpenError::Taken)));
}
