//! Pipes between real processes: their everyday behaviour.

mod common;

use std::time::Duration;

use common::{Name, Net, PIPE, Stage, Talker, now_ns, prompt, roles, signal_thread, talker, until};
use shmkit::{ChannelOptions, Endpoint, Error, OpenError, Pipe, Receiver, RecvError, Region, Sender};

roles!(talker);

/// A pipe with this process at one end and a talker at the other.
fn dialogue(capacity: u64) -> (Stage, Pipe<u64>, Talker) {
    let stage = Stage::create();
    let pipe = ChannelOptions::new().capacity(capacity).create_in(&stage.region, PIPE).expect("a pipe");
    let mut talker = Talker::join(Net::Off, &stage);
    assert_eq!(talker.ask("open"), "ok");
    (stage, pipe, talker)
}

// Messages.

#[test]
fn messages_go_both_ways_in_order() {
    let (_stage, mut pipe, mut talker) = dialogue(5);
    talker.tell("echo");

    for number in 0..5000 {
        pipe.send(number).expect("room");
        assert_eq!(pipe.recv().expect("an echo"), number);
    }

    pipe.close();
    assert_eq!(talker.reply().text, "Disconnected");
}

#[test]
fn messages_that_stream_arrive_in_order_and_none_twice() {
    for capacity in [1, 6, 7, 100] {
        let stage = Stage::create();
        let [mut one, mut other] = Talker::pair(Net::Off, &stage, &format!("create {capacity}"));
        other.tell("drain 0");

        assert_eq!(one.ask("send-many 0 9000"), "ok");
        assert_eq!(one.ask("send 9000"), "ok");
        one.ask("drop");

        assert_eq!(other.reply().text, "9001 Disconnected");
        assert_eq!(stage.region.rescues(), 0);
    }
}

#[test]
fn both_may_send_before_either_receives() {
    let (_stage, mut pipe, mut talker) = dialogue(10);
    assert_eq!(talker.ask("send-many 0 10"), "ok");
    pipe.sender().send_slice(&[7; 10]).expect("room");

    assert_eq!(talker.ask("try-send 1"), "Full(..) 1");
    assert!(pipe.receiver().iter().take(10).eq(0..10));
    assert_eq!(talker.ask("try-send 1"), "ok");
    assert_eq!(talker.ask("recv"), "7");
}

#[test]
fn a_look_takes_nothing_and_does_not_block() {
    let (_stage, mut pipe, mut talker) = dialogue(4);
    talker.tell("poll 0");
    let reply = talker.reply();
    assert_eq!(reply.text, "false");
    assert!(reply.took < prompt(), "{reply:?}");
    talker.sleep_in("poll 15000");

    let start = now_ns();
    pipe.send(3).expect("room");

    assert_eq!(talker.reply_soon(start), "true");
    assert_eq!(talker.ask("poll 0"), "true");
    assert_eq!(talker.ask("recv"), "3");
    assert_eq!(talker.ask("poll 0"), "false");
}

// Time.

#[test]
fn timed_calls_end_after_their_time_and_not_before_and_succeed_in_time() {
    let (_stage, mut pipe, mut talker) = dialogue(1);
    let ends_in_time = |talker: &mut Talker, order: &str, timeout, text: &str| {
        talker.tell(order);
        let (reply, timeout) = (talker.reply(), Duration::from_millis(timeout));
        assert_eq!(reply.text, text);
        assert!(reply.took >= timeout && reply.took < timeout + prompt(), "{reply:?}");
    };
    for timeout in [0, 1, 50, 300] {
        ends_in_time(&mut talker, &format!("timed-recv {timeout}"), timeout, "TimedOut");
        ends_in_time(&mut talker, &format!("poll {timeout}"), timeout, "false");
    }
    talker.sleep_in("timed-recv 15000");
    let start = now_ns();
    pipe.send(1).expect("room");
    assert_eq!(talker.reply_soon(start), "1");

    assert_eq!(talker.ask("send 2"), "ok");
    for timeout in [0, 1, 50, 300] {
        ends_in_time(&mut talker, &format!("timed-send 3 {timeout}"), timeout, "TimedOut(..) 3");
    }
    talker.sleep_in("timed-send 4 15000");
    let start = now_ns();
    assert_eq!(pipe.recv().expect("a message"), 2);
    assert_eq!(talker.reply_soon(start), "ok");
    assert_eq!(pipe.recv().expect("a message"), 4);
}

#[test]
fn one_who_sleeps_for_long_is_woken() {
    let (stage, mut pipe, mut talker) = dialogue(1);
    for number in 0..50 {
        talker.sleep_in("recv");
        let start = now_ns();
        pipe.send(number).expect("room");
        assert_eq!(talker.reply_soon(start), number.to_string());
    }
    assert_eq!(talker.ask("send 0"), "ok");
    for number in 1..50 {
        talker.sleep_in(&format!("send {number}"));
        let start = now_ns();
        assert_eq!(pipe.recv().expect("a message"), number - 1);
        assert_eq!(talker.reply_soon(start), "ok");
    }
    assert_eq!(stage.region.rescues(), 0);
}

#[test]
fn interrupting_signals_neither_surface_nor_cut_a_wait_short() {
    let (_stage, mut pipe, mut talker) = dialogue(1);
    talker.ask("interrupts");
    talker.ask("send 1");
    for (order, outcome) in
        [("timed-recv 300", "TimedOut"), ("poll 300", "false"), ("timed-send 2 300", "TimedOut(..) 2")]
    {
        talker.tell(order);
        let mut signals = 0;
        until("the end of the timed call", || {
            signals += u32::from(signal_thread(talker.pid(), talker.thread(), libc::SIGUSR1));
            talker.has_said()
        });
        let (reply, asked) = (talker.reply(), Duration::from_millis(300));
        assert!(signals > 100, "only {signals} signals were sent");
        assert_eq!(reply.text, outcome);
        assert!(reply.took >= asked && reply.took < asked + prompt(), "{reply:?}");
    }
    // What is sent between two signals arrives.
    for number in 0..100 {
        talker.tell("recv");
        signal_thread(talker.pid(), talker.thread(), libc::SIGUSR1);
        pipe.send(number).expect("room");
        signal_thread(talker.pid(), talker.thread(), libc::SIGUSR1);
        assert_eq!(talker.reply().text, number.to_string());
    }
}

// Closing.

#[test]
fn after_a_close_come_the_remaining_messages_and_then_its_news() {
    let (_stage, mut pipe, mut talker) = dialogue(10);
    pipe.sender().send_slice(&[1, 2, 3]).expect("room");
    drop(pipe);

    assert_eq!(talker.ask("is-closed"), "true");
    assert_eq!(talker.ask("poll 0"), "true");
    assert_eq!(talker.ask("recv-many 1 3"), "ok");
    for order in ["recv", "try-recv", "timed-recv 15000", "poll 0"] {
        assert_eq!(talker.ask(order), "Disconnected");
    }
    for order in ["send 5", "try-send 5", "timed-send 5 15000"] {
        assert_eq!(talker.ask(order), "Disconnected(..) 5");
    }
    assert_eq!(talker.ask("close"), "closed");
    assert_eq!(talker.ask("close"), "closed");
    assert_eq!(talker.ask("recv"), "Disconnected");
    assert_eq!(talker.ask("send 6"), "Disconnected(..) 6");
}

#[test]
fn a_close_ends_the_waits_of_the_other_side() {
    let (_stage, pipe, mut talker) = dialogue(1);
    talker.sleep_in("recv");
    let start = now_ns();
    drop(pipe);
    assert_eq!(talker.reply_soon(start), "Disconnected");

    let (_stage, mut pipe, mut talker) = dialogue(1);
    assert_eq!(talker.ask("send 1"), "ok");
    talker.sleep_in("send 2");
    let start = now_ns();
    pipe.close();
    assert_eq!(talker.reply_soon(start), "Disconnected(..) 2");
}

#[test]
fn one_way_may_be_closed_and_the_other_goes_on() {
    let (_stage, mut pipe, mut talker) = dialogue(4);
    assert_eq!(talker.ask("close-sender"), "closed");

    assert!(matches!(pipe.recv(), Err(RecvError::Disconnected)));
    assert!(!pipe.is_closed());
    pipe.send(1).expect("a receiver");
    assert_eq!(talker.ask("recv"), "1");
    assert_eq!(talker.ask("close-receiver"), "closed");
    assert!(pipe.is_closed());
}

// Ends.

#[test]
fn an_end_is_taken_as_long_as_its_process_lives_also_if_that_is_stopped() {
    let stage = Stage::create();
    let [mut one, mut other] = Talker::pair(Net::Off, &stage, "create-for-successors 4");
    let mut third = Talker::join(Net::Off, &stage);
    assert_eq!(third.ask("open"), "Taken");
    assert_eq!(third.ask("succeed"), "Taken");

    other.signal(libc::SIGSTOP);
    common::until_stopped(other.pid());
    assert_eq!(third.ask("open"), "Taken");
    one.sleep_in("recv");
    assert!(!one.has_said());
    other.signal(libc::SIGCONT);
    assert_eq!(other.ask("send 3"), "ok");
    assert_eq!(one.reply().text, "3");

    // Forgotten is not given back.
    other.ask("forget");
    assert_eq!(third.ask("open"), "Taken");
    assert_eq!(one.ask("send 1"), "ok");
    one.ask("drop");
    assert_eq!(third.ask("succeed"), "Closed");
}

#[test]
fn a_forked_child_can_do_nothing_with_the_end_of_its_parent() {
    let (_stage, mut pipe, mut talker) = dialogue(4);
    pipe.send(1).expect("room");

    assert_eq!(talker.ask("fork"), "0");

    assert_eq!(talker.ask("recv"), "1");
    assert_eq!(talker.ask("send 2"), "ok");
    assert_eq!(pipe.recv().expect("a message"), 2);
    assert!(!pipe.is_closed());
}

#[test]
fn pipes_have_names_of_their_own() {
    let name = Name::new();
    assert!(matches!(Pipe::<u8>::open(&name), Err(OpenError::Failed(Error::NotFound))));
    let mut one = Pipe::<[u8; 3]>::create(&name, 4).expect("a pipe");
    assert!(matches!(Pipe::<[u8; 3]>::create(&name, 4), Err(OpenError::Failed(Error::AlreadyExists))));
    assert!(matches!(Pipe::<[u8; 4]>::open(&name), Err(OpenError::Failed(Error::WrongType { .. }))));
    for bad in ["", "a/b", &"x".repeat(300)] {
        assert!(matches!(Pipe::<u8>::create(bad, 4), Err(OpenError::Failed(Error::InvalidName { .. }))), "{bad}");
        assert!(matches!(Pipe::<u8>::open(bad), Err(OpenError::Failed(Error::InvalidName { .. }))), "{bad}");
    }
    let mut other = Pipe::<[u8; 3]>::open(&name).expect("the other end");

    Region::unlink(&name).expect("a name");

    one.send([1, 2, 3]).expect("room");
    assert_eq!(other.recv().expect("a message"), [1, 2, 3]);
    assert!(!name.exists());
    // A new one of the same name is another one, and its name goes with its maker.
    let again = Pipe::<u8>::create(&name, 4).expect("a free name");
    drop((one, other));
    assert!(name.exists());
    drop(again);
    assert!(!name.exists());
}

#[test]
fn a_channel_for_one_way_has_one_end_of_each_kind() {
    let stage = Stage::create();
    let mut rx: Receiver<u64> = ChannelOptions::new().create_in(&stage.region, PIPE).expect("a channel");
    assert!(matches!(Receiver::<u64>::open_in(&stage.region, PIPE), Err(OpenError::Taken)));
    let mut talker = Talker::join(Net::Off, &stage);
    assert!(talker.ask("open").starts_with("Failed(WrongType"));
    let mut tx = Sender::<u64>::open_in(&stage.region, PIPE).expect("the other end");
    tx.send(1).expect("room");
    assert_eq!(rx.recv().expect("a message"), 1);
}
