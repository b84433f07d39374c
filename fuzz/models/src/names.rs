//! Names of regions, and what regions, channels and queues can be asked to be.

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;

use arbitrary::{Arbitrary, Unstructured};
use shmkit::{ByteSender, ChannelOptions, Error, OpenError, Queue, QueueOptions, Region, RegionOptions, Sender};

use crate::seen::{Kind, Seen, kind};
use crate::stage::{SIZE, with_stage};

#[derive(Arbitrary, Debug)]
enum Act<'a> {
    Name(&'a str),
    LongName(u8),
    Mode(u32),
    Region(Number, Number),
    Channel(Number),
    Bytes(Number),
    Queue(Number),
}

/// Numbers that are small, close to a power of two, or any.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Number {
    Small(u16),
    Close(u8, i8),
    Any(u64),
}

impl Number {
    fn value(self) -> u64 {
        match self {
            Self::Small(value) => value.into(),
            Self::Close(power, difference) => (1u64 << (power % 64)).wrapping_add_signed(difference.into()),
            Self::Any(value) => value,
        }
    }
}

pub(crate) fn run(data: &[u8], seen: &mut Seen) {
    let _ = play(&mut Unstructured::new(data), seen);
}

fn play(input: &mut Unstructured<'_>, seen: &mut Seen) -> arbitrary::Result<()> {
    for _ in 0..10 {
        if input.is_empty() {
            break;
        }
        match Act::arbitrary(input)? {
            Act::Name(name) => try_name(name, seen),
            Act::LongName(len) => try_name(&"n".repeat(240 - prefix().len() + usize::from(len % 40)), seen),
            Act::Mode(mode) => try_mode(mode, seen),
            Act::Region(size, participants) => try_region(size.value(), participants.value() as u32, seen),
            Act::Channel(capacity) => {
                let capacity = capacity.value();
                let made = with_stage(|stage| {
                    let made = ChannelOptions::new().capacity(capacity).create_in::<Sender<u64>>(stage.region(), "c");
                    made.map(|tx| assert!(tx.capacity() == capacity || capacity == 0))
                });
                check_made("channel", made, if capacity == 0 { 64 } else { capacity }.saturating_mul(10), seen);
            }
            Act::Bytes(capacity) => {
                let capacity = capacity.value();
                let made = with_stage(|stage| {
                    let made = ChannelOptions::new().capacity(capacity).create_in::<ByteSender>(stage.region(), "c");
                    made.map(|tx| assert!(tx.capacity() >= capacity))
                });
                check_made("bytes", made, if capacity == 0 { 1 << 16 } else { capacity }, seen);
            }
            Act::Queue(capacity) => {
                let capacity = capacity.value();
                let made = with_stage(|stage| {
                    let made: Result<Queue<u64>, _> =
                        QueueOptions::new().capacity(capacity).create_in(stage.region(), "q");
                    made.map(|queue| assert!(queue.capacity() as u64 == capacity || capacity == 0))
                });
                check_made("queue", made, if capacity == 0 { 64 } else { capacity }.saturating_mul(10), seen);
            }
        }
    }
    Ok(())
}

/// What was made took about `bytes`; it fits into the region, or was refused.
fn check_made(what: &'static str, made: Result<(), OpenError>, bytes: u64, seen: &mut Seen) {
    seen.note(what, kind(&made));
    match made {
        Ok(()) => assert!(bytes < SIZE as u64 * 2),
        Err(OpenError::Failed(Error::NoSpace { .. })) => assert!(bytes > SIZE as u64 / 4),
        Err(error) => panic!("{what}: {error:?}"),
    }
}

/// Names of regions that nobody else has.
fn prefix() -> String {
    format!("shmkit-fuzz-{}-", std::process::id())
}

fn small() -> RegionOptions {
    let mut options = RegionOptions::new();
    options.participants(1).keeper(false);
    options
}

fn try_name(end: &str, seen: &mut Seen) {
    // As it is, it is only refused: it may be the name of something that is there.
    let is_refused =
        |name: &str| name.is_empty() || name.len() > 255 || name.contains(['/', '\0']) || name == "." || name == "..";
    let invalid = |result: Result<Region, Error>| matches!(result, Err(Error::InvalidName { .. }));
    if is_refused(end) {
        assert!(invalid(small().create(end, 1)) && invalid(Region::open(end)) && Region::unlink(end).is_err());
    }
    let name = prefix() + end;
    let created = small().create(&name, 1);
    let opened = small().open(&name).map(drop);
    let again = small().create(&name, 1).map(drop);
    let unlinked = Region::unlink(&name);
    seen.note("create", kind(&created));
    if is_refused(&name) {
        assert!(invalid(created) && matches!(opened, Err(Error::InvalidName { .. })));
        return;
    }
    created.expect("a name");
    opened.expect("it is there");
    assert!(matches!(again, Err(Error::AlreadyExists)), "{again:?}");
    unlinked.expect("it is there");
    assert!(matches!(small().open(&name), Err(Error::NotFound)));
}

fn try_mode(mode: u32, seen: &mut Seen) {
    let name = prefix() + "mode";
    let region = small().mode(mode).unlink_on_drop(true).create(&name, 1).expect("a region");
    let file = fs::File::from(region.as_fd().try_clone_to_owned().expect("a descriptor"));
    drop(region);
    let permissions = file.metadata().expect("its metadata").permissions();
    assert_eq!(permissions.mode() & 0o7777, mode & 0o777);
    seen.note("mode", (mode > 0o777).kind());
}

fn try_region(size: u64, participants: u32, seen: &mut Seen) {
    // What no machine has is refused without trying. What lies between could be had, at the cost of others.
    if size > 1 << 17 && size <= i64::MAX as u64 {
        return seen.note("region", "left out");
    }
    let made = RegionOptions::new().participants(participants).keeper(false).anonymous(size as usize);
    seen.note("region", kind(&made));
    match made {
        Ok(region) => {
            assert!(region.size() as u64 >= size && region.capacity() as u32 == participants);
            assert!((1..=4096).contains(&participants));
            assert_eq!(region.participants().len(), 1);
        }
        Err(Error::InvalidParticipants { asked, max: 4096 }) => {
            assert!(asked == participants && !(1..=4096).contains(&asked));
        }
        Err(Error::NoSpace { .. }) => assert!(size > i64::MAX as u64),
        Err(error) => panic!("{error:?}"),
    }
}
