//! The snapshot cell between processes, of which writers are killed.

mod common;

use common::{Child, Parent, Random, Stage, roles, until};
use shmkit::{Region, Snapshot};

roles!(writer, holder);

/// So long that a kill falls into the middle of a copy often enough.
type Value = [u64; 64];

const KILLS: u32 = 40;

/// Writes for ever: all numbers of a value are the same, and each value is larger by one than the one before.
fn writer(parent: &mut Parent) {
    let region = Region::open(parent.argument(0)).expect("the region");
    let cell = region.get::<Snapshot<Value>>("cell").expect("the cell");
    parent.say("writing");
    loop {
        cell.update(|value| *value = [value[0] + 1; 64]).expect("a turn");
    }
}

/// Stays within a write until it is killed.
fn holder(parent: &mut Parent) {
    let region = Region::open(parent.argument(0)).expect("the region");
    let cell = region.get::<Snapshot<Value>>("cell").expect("the cell");
    cell.update(|value| {
        *value = [99; 64];
        parent.say("within");
        common::sleep_for_ever()
    })
    .expect("a turn");
}

#[test]
fn readers_never_see_a_torn_value_whenever_writers_are_killed() {
    let stage = Stage::create();
    let cell = stage.region.insert("cell", Snapshot::<Value>::new([0; 64])).expect("room");
    let mut random = Random::new();
    let mut last = 0;
    let mut look = || {
        let value = cell.read();
        assert!(value.iter().all(|number| *number == value[0]), "torn: {value:?}");
        assert!(value[0] >= last, "{} after {last}", value[0]);
        last = value[0];
        last
    };

    for _ in 0..KILLS {
        let mut writers = [0, 1].map(|_| Child::spawn("writer", &[stage.name()]));
        writers.iter_mut().for_each(|writer| writer.expect("writing"));
        let start = look();
        until("a write", || look() > start);
        (0..random.below(2000)).for_each(|_| _ = look());
        writers[0].kill();
        // The other one goes on.
        writers[0].reap();
        let later = look();
        until("a write after the death", || look() > later);
        writers[1].kill();
        writers[1].reap();
        let (value, version) = (look(), cell.version());
        assert_eq!(value, version, "as many writes as versions");
    }

    assert_eq!(stage.region.rescues(), 0);
    cell.write([7; 64]).expect("a turn after all deaths");
    assert_eq!(cell.read(), [7; 64]);
}

#[test]
fn a_writer_that_stays_within_its_turn_keeps_no_reader_waiting_and_its_death_lets_others_write() {
    let stage = Stage::create();
    let cell = stage.region.insert("cell", Snapshot::<Value>::new([1; 64])).expect("room");
    let mut holder = Child::spawn("holder", &[stage.name()]);
    holder.expect("within");

    assert_eq!(cell.try_read(), Some([1; 64]));
    let mut writer = Child::spawn("writer", &[stage.name()]);
    writer.expect("writing");
    writer.until_asleep();
    assert_eq!(cell.try_read(), Some([1; 64]));
    holder.kill();

    until("the other writer's turn", || cell.read()[0] > 1);
    writer.kill();
    writer.reap();
    assert_eq!(cell.read(), [cell.version() + 1; 64]);
}

#[test]
fn a_child_that_was_forked_within_a_write_writes_nothing() {
    let stage = Stage::create();
    let cell = stage.region.insert("cell", Snapshot::<Value>::new([1; 64])).expect("room");
    let mut child = 0;

    let written = cell.update(|value| {
        *value = [2; 64];
        // SAFETY: the child goes on with its own copy of everything and ends below.
        child = unsafe { libc::fork() };
    });
    if child == 0 {
        common::exit_now(i32::from(!matches!(written, Err(shmkit::Error::Forked))));
    }
    let mut status = 0;
    // SAFETY: the child of this process, once.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);

    assert_eq!(status, 0);
    assert!(written.is_ok());
    assert_eq!((cell.read(), cell.version()), ([2; 64], 1));
}
