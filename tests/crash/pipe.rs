//! The sweep through the operations of a pipe.

use shmkit::shim::crash::arm;
use shmkit::{ChannelOptions, Endpoint, OpenError, Pipe, Region};

use crate::common::{Child, Name, Net, PIPE, Parent, Stage, Talker, until};
use crate::{Scene, has_died, until_sleeps, until_sleeps_or_dies};

pub(crate) const SCENES: &[(&str, Scene)] = &[
    ("pipe_create", create_before_the_other),
    ("pipe_open", open_while_the_other_waits),
    ("pipe_open_in_vain", open_what_is_half_closed),
    ("pipe_send", send_to_a_sleeper),
    ("pipe_receive", receive_from_a_sleeper),
    ("pipe_wait", wait_for_a_message),
];

/// What the victim does.
pub(crate) fn victim(scene: &str, parent: &mut Parent, stage_name: &str, die_at: usize) {
    let region = Region::open(stage_name).expect("the stage");
    parent.expect("go");
    if scene == "pipe_create" {
        arm(die_at);
        let mut pipe: Pipe<u64> = ChannelOptions::new().create_in(&region, PIPE).expect("a pipe");
        pipe.send(0).expect("room");
        return pipe.close();
    }
    arm(die_at);
    let opened = Pipe::<u64>::open_in(&region, PIPE);
    if scene == "pipe_open_in_vain" {
        return assert!(matches!(opened, Err(OpenError::Closed)));
    }
    let mut pipe = opened.expect("the other end");
    match scene {
        "pipe_open" => {}
        "pipe_send" => (0..3).for_each(|number| pipe.send(number).expect("room")),
        "pipe_receive" => (0..3).for_each(|number| assert_eq!(pipe.recv().expect("a message"), number)),
        "pipe_wait" => assert_eq!(pipe.recv().expect("a message"), 7),
        unknown => panic!("no scene {unknown:?}"),
    }
    pipe.close();
}

/// A process that has made the pipe.
fn maker(stage: &Stage, create: &str) -> Talker {
    let mut talker = Talker::join(Net::Off, stage);
    assert_eq!(talker.ask(create), "ok");
    talker
}

/// The victim makes the pipe, sends, and closes it. There is no pipe, or one with a dead or closed end, which nobody waits at for long.
fn create_before_the_other(_other: &Name, victim: &mut Child, stage: &Stage) {
    let mut talker = Talker::join(Net::Off, stage);
    victim.tell("go");
    until("the victim's leaving the table", || !stage.pids().contains(&victim.pid()));
    let opened = talker.ask("open");
    if opened == "ok" {
        let drained = talker.ask("drain 0");
        assert!(["0 Disconnected", "1 Disconnected"].contains(&drained.as_str()), "{drained}");
        assert_eq!(talker.ask("send 1"), "Disconnected(..) 1");
    } else {
        assert!(opened.starts_with("Failed(NoSuchObject"), "{opened}");
    }
}

/// The victim opens the pipe, of which the other end waits for a message, and closes it.
fn open_while_the_other_waits(_other: &Name, victim: &mut Child, stage: &Stage) {
    let mut talker = maker(stage, "create 1");
    talker.tell("recv");
    until_sleeps(&talker);
    victim.tell("go");
    assert_eq!(talker.reply().text, "Disconnected");
    // Between the closes of its two halves it still receives, until its death is known.
    until("the victim's leaving the table", || !stage.pids().contains(&victim.pid()));
    assert_eq!(talker.ask("send-many 0 2"), "Disconnected(..) 0");
}

/// The victim wants the end of a dead, one half of which was closed. The other side knows of the death before and after, or waits in
/// between.
fn open_what_is_half_closed(_other: &Name, victim: &mut Child, stage: &Stage) {
    let mut talker = maker(stage, "create-for-successors 1");
    let mut dead = Talker::join(Net::Off, stage);
    assert_eq!(dead.ask("open"), "ok");
    assert_eq!(dead.ask("close-receiver"), "closed");
    dead.kill();
    dead.reap();
    assert_eq!(talker.ask("recv"), "Disconnected");
    talker.tell("recv");
    victim.tell("go");
    assert_eq!(talker.reply().text, "Disconnected");
    until("the victim's end", || has_died(victim));
    assert_eq!(talker.ask("recv"), "Disconnected");
}

/// The victim sends more than there is room for to a process that sleeps.
fn send_to_a_sleeper(_other: &Name, victim: &mut Child, stage: &Stage) {
    let mut talker = maker(stage, "create 1");
    talker.tell("drain 0");
    until_sleeps(&talker);
    victim.tell("go");
    let drained = talker.reply().text;
    assert!((0..=3).any(|count| drained == format!("{count} Disconnected")), "{drained}");
}

/// The victim receives from a process that sleeps until there is room.
fn receive_from_a_sleeper(_other: &Name, victim: &mut Child, stage: &Stage) {
    let mut talker = maker(stage, "create 1");
    assert_eq!(talker.ask("send 0"), "ok");
    talker.tell("stream 1");
    until_sleeps(&talker);
    victim.tell("go");
    assert_eq!(talker.reply().text, "Disconnected(..)");
}

/// The victim waits for a message.
fn wait_for_a_message(_other: &Name, victim: &mut Child, stage: &Stage) {
    let mut talker = maker(stage, "create 1");
    victim.tell("go");
    until_sleeps_or_dies(victim);
    // To one who is dead, or lives and takes it.
    let sent = talker.ask("send 7");
    assert!(["ok", "Disconnected(..) 7"].contains(&sent.as_str()), "{sent}");
    assert_eq!(talker.ask("recv"), "Disconnected");
    until("the victim's end", || has_died(victim));
}
