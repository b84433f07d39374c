//! Regions between real processes: names and files, what is not a region, and races of creators and unlinkers.

mod common;

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use shmkit::{Error, Mutex, Region, RegionOptions};

use common::{
    Child, Name, Parent, Random, Stage, make_fifo, memory_file, party, receive_fd, roles, send_fd, size_of_dev_shm,
    umask,
};

roles!(party, masked_creator, opener, restless, mayfly, receiver, given);

// How the pages are.

/// Whether the kernel has put `flag` on the mapping of this region.
fn has_flag(region: &Region, flag: &str) -> bool {
    let inode = format!(
        " {} ",
        File::from(region.as_fd().try_clone_to_owned().expect("its file")).metadata().expect("its inode").ino()
    );
    let smaps = fs::read_to_string("/proc/self/smaps").expect("smaps");
    let flags = smaps.split(&inode).skip(1).filter_map(|mapping| mapping.split("VmFlags:").nth(1)?.lines().next());
    flags.into_iter().any(|flags| flags.split_whitespace().any(|set| set == flag))
}

#[test]
fn a_region_has_locked_memory_or_huge_pages_only_if_asked_for() {
    let region =
        |lock, huge| RegionOptions::new().lock_memory(lock).huge_pages(huge).anonymous(5 << 20).expect("a region");
    let [plain, locked, huge, both] =
        [(false, false), (true, false), (false, true), (true, true)].map(|(l, h)| region(l, h));

    assert_eq!([&plain, &locked, &huge, &both].map(|region| has_flag(region, "lo")), [false, true, false, true]);
    assert_eq!([&plain, &locked, &huge, &both].map(|region| has_flag(region, "hg")), [false, false, true, true]);
}

#[test]
fn a_region_with_huge_pages_is_one_from_the_first_to_the_last_byte() {
    let region = RegionOptions::new().huge_pages(true).populate(true).anonymous(3 << 20).expect("a region");
    let bytes = region.insert_array::<u8>("bytes", 3 << 20).expect("room");
    bytes.fill(3);
    bytes.set((3 << 20) - 1, 4).expect("the last one");

    let to_vec = bytes.to_vec();

    assert!(to_vec[..(3 << 20) - 1].iter().all(|byte| *byte == 3) && to_vec.last() == Some(&4));
}

// What is refused.

#[test]
fn names_that_no_file_can_have_are_refused() {
    for name in ["", "a/b", "/", ".", "..", "a\0b", &"x".repeat(256)] {
        assert!(matches!(Region::create(name, 1), Err(Error::InvalidName { .. })), "{name:?}");
        assert!(matches!(Region::open(name), Err(Error::InvalidName { .. })), "{name:?}");
        assert!(matches!(Region::open_or_create(name, 1), Err(Error::InvalidName { .. })), "{name:?}");
        assert!(matches!(Region::unlink(name), Err(Error::InvalidName { .. })), "{name:?}");
    }
}

#[test]
fn the_longest_name_is_one_of_255_bytes() {
    let name = format!("shmkit-test-{}-{}", std::process::id(), "x".repeat(255));
    let region = RegionOptions::new().unlink_on_drop(true).create(&name[..255], 1).expect("a region");

    assert_eq!(Region::open(&name[..255]).expect("the region").id(), region.id());
}

#[test]
fn an_existing_name_is_not_created_again_and_a_missing_one_not_opened() {
    let name = Name::new();

    assert!(matches!(Region::open(&name), Err(Error::NotFound)));
    assert!(matches!(Region::unlink(&name), Err(Error::NotFound)));
    let _region = Region::create(&name, 1).expect("a region");
    assert!(matches!(Region::create(&name, 1), Err(Error::AlreadyExists)));
}

#[test]
fn participants_out_of_range_are_refused() {
    for participants in [0, 4097, u32::MAX] {
        let name = Name::new();
        let refused = RegionOptions::new().participants(participants).create(&name, 1);
        assert!(matches!(refused, Err(Error::InvalidParticipants { asked, max: 4096 }) if asked == participants));
        assert!(!name.exists());
    }
}

/// Puts something else where a region is expected, and returns what `open` says; it is still there afterwards.
#[track_caller]
fn opened_instead(make: impl FnOnce(&str)) -> Error {
    let name = Name::new();
    make(&name.path());
    assert!(matches!(Region::create(&name, 1), Err(Error::AlreadyExists)));
    let error = Region::open(&name).expect_err("no region");
    let again = Region::open_or_create(&name, 1).expect_err("no region");
    assert_eq!(format!("{again:?}"), format!("{error:?}"));
    assert!(matches!(Region::unlink(&name), Err(Error::NotARegion { .. })));
    assert!(name.exists());
    error
}

#[test]
fn what_is_not_a_region_is_neither_opened_nor_unlinked() {
    let target = Name::new();
    let _region = Region::create(&target, 1).expect("a region");

    let errors = [
        opened_instead(|path| symlink(target.path(), path).expect("a link")),
        opened_instead(make_fifo),
        opened_instead(|path| fs::create_dir(path).expect("a directory")),
        opened_instead(|path| drop(std::os::unix::net::UnixListener::bind(path).expect("a socket"))),
        opened_instead(|path| fs::write(path, "").expect("a file")),
        opened_instead(|path| fs::write(path, [0x5a; 100]).expect("a file")),
        opened_instead(|path| fs::write(path, vec![0x5a; 100_000]).expect("a file")),
        opened_instead(|path| fs::write(path, vec![0; 100_000]).expect("a file")),
    ];

    for error in errors {
        assert!(matches!(error, Error::NotARegion { .. }), "{error:?}");
    }
}

/// Creates a region, changes its file, and returns what `open` says in another process.
#[track_caller]
fn opened_after(change: impl FnOnce(&File)) -> String {
    let name = Name::new();
    drop(Region::create(&name, 10_000).expect("a region"));
    change(&File::options().write(true).open(name.path()).expect("its file"));
    let said = Child::spawn("opener", &[&name]).hear();
    Region::unlink(&name).expect("it begins as a region does, of whatever version");
    said
}

// Opens what is called so and says what it is.
fn opener(parent: &mut Parent) {
    match Region::open(parent.argument(0)) {
        Ok(region) => {
            parent.say(format_args!("size {} id {} capacity {}", region.size(), region.id(), region.capacity()))
        }
        Err(error) => parent.say(format_args!("{error:?}")),
    }
}

#[test]
fn a_region_of_another_size_version_or_capacity_is_told_apart() {
    let cut = opened_after(|file| file.set_len(8192).expect("cut"));
    let extended = opened_after(|file| file.set_len(1 << 20).expect("extended"));
    let version = opened_after(|file| file.write_all_at(&99u32.to_ne_bytes(), 8).expect("written"));
    let platform = opened_after(|file| file.write_all_at(&7u32.to_ne_bytes(), 12).expect("written"));
    let none = opened_after(|file| file.write_all_at(&0u32.to_ne_bytes(), 24).expect("written"));
    let many = opened_after(|file| file.write_all_at(&4096u32.to_ne_bytes(), 24).expect("written"));

    assert!(cut.starts_with("WrongSize") && cut.contains("found: 8192"), "{cut}");
    assert!(extended.starts_with("WrongSize") && extended.contains("found: 1048576"), "{extended}");
    assert_eq!(version, "Version { expected: 2, found: 99 }");
    assert!(platform.starts_with("NotARegion"), "{platform}");
    assert!(none.starts_with("Corrupted") && many.starts_with("Corrupted"), "{none} {many}");
}

#[test]
fn more_than_there_is_room_for_is_refused_at_creation_and_leaves_nothing_behind() {
    let name = Name::new();
    let size = usize::try_from(size_of_dev_shm() * 2).expect("64 bits");

    assert!(matches!(Region::create(&name, size), Err(Error::NoSpace { .. })));
    assert!(matches!(Region::create(&name, usize::MAX), Err(Error::NoSpace { .. })));
    assert!(!name.exists());
}

// What is created.

fn masked_creator(parent: &mut Parent) {
    umask(0o777);
    for (index, mode) in [0o600, 0o640, 0o666, 0o777].into_iter().enumerate() {
        let name = parent.argument(index).to_owned();
        drop(RegionOptions::new().mode(mode).create(&name, 1).expect("a region"));
    }
    parent.say("created");
}

#[test]
fn the_mode_is_the_one_asked_for_whatever_the_umask() {
    let names = [(); 4].map(|()| Name::new());
    let mut creator = Child::spawn("masked_creator", &names.each_ref().map(|name| &**name));

    creator.expect("created");

    let modes = names.map(|name| fs::metadata(name.path()).expect("a region").permissions().mode() & 0o7777);
    assert_eq!(modes, [0o600, 0o640, 0o666, 0o777]);
}

#[test]
fn creator_and_opener_see_the_same_region() {
    let name = Name::new();
    let region = RegionOptions::new().participants(5).create(&name, 12_345).expect("a region");

    let seen = Child::spawn("opener", &[&name]).hear();

    assert!(region.size() >= 12_345);
    assert_eq!(seen, format!("size {} id {} capacity 5", region.size(), region.id()));
}

#[test]
fn regions_have_different_ids() {
    let ids: HashSet<_> = (0..20).map(|_| Region::anonymous(1).expect("a region").id()).collect();

    assert_eq!(ids.len(), 20);
}

#[test]
fn an_unlinked_region_works_on_and_its_name_is_free() {
    let stage = Stage::create();
    let mut party = common::Party::join(&stage);

    Region::unlink(stage.name()).expect("unlinked");

    assert!(!stage.name().exists());
    assert_eq!(party.ask("add 10"), "added");
    assert_eq!(stage.mutex.lock().expect("a sound mutex")[0], 10);
    let second = Region::create(stage.name(), 1).expect("a free name");
    assert_ne!(second.id(), stage.region.id());
}

#[test]
fn unlink_on_drop_waits_for_the_last_handle_and_spares_a_successor() {
    let name = Name::new();
    let region = RegionOptions::new().unlink_on_drop(true).create(&name, 100).expect("a region");
    let object = region.insert("object", AtomicU64::new(0)).expect("room");
    drop(region);
    assert!(name.exists());
    drop(object);
    assert!(!name.exists());

    let region = RegionOptions::new().unlink_on_drop(true).create(&name, 1).expect("a region");
    Region::unlink(&name).expect("unlinked");
    let _successor = Region::create(&name, 1).expect("a free name");
    drop(region);
    assert!(name.exists());
}

// Races.

// Opens or creates, and unlinks now and then, for a while.
fn restless(parent: &mut Parent) {
    let name = parent.argument(0).to_owned();
    let every: u32 = parent.argument(1).parse().expect("a number");
    let mut ids = HashSet::new();
    let mut unlinked = 0;
    parent.say("ready");
    parent.expect("go");
    for round in 0..300 {
        ids.insert(Region::open_or_create(&name, 100).expect("a region").id());
        if round % every == 0 {
            unlinked += u32::from(Region::unlink(&name).is_ok());
        }
    }
    let ids: Vec<_> = ids.iter().map(u128::to_string).collect();
    parent.say(format_args!("{unlinked} {}", ids.join(",")));
}

#[test]
fn all_who_open_or_create_at_once_share_one_region_until_it_is_unlinked() {
    let name = Name::new();
    let mut children: Vec<_> =
        (0..8).map(|index| Child::spawn("restless", &[&name, ["1000", "3"][index % 2]])).collect();
    children.iter_mut().for_each(|child| child.expect("ready"));

    children.iter_mut().for_each(|child| child.tell("go"));
    let told: Vec<_> = children.iter_mut().map(Child::hear).collect();

    let told: Vec<_> = told.iter().map(|line| line.split_once(' ').expect("two parts")).collect();
    let unlinked: usize = told.iter().map(|(count, _)| count.parse::<usize>().expect("a number")).sum();
    let regions: HashSet<_> = told.iter().flat_map(|(_, ids)| ids.split(',')).collect();
    // Each region is created once and, but for the last one, unlinked once: two at a time would be one too many.
    assert_eq!(regions.len(), unlinked + usize::from(name.exists()));
}

// Creates regions under one name as fast as it can.
fn mayfly(parent: &mut Parent) {
    let name = parent.argument(0).to_owned();
    parent.say("ready");
    loop {
        // The one of the last round.
        let _ = Region::unlink(&name);
        let region = RegionOptions::new().participants(8).create(&name, 1 << 16).expect("a region");
        region.insert("object", Mutex::new([7u64; 64])).expect("room");
    }
}

#[test]
fn a_creator_killed_at_any_moment_leaves_a_whole_region_or_none() {
    let name = Name::new();
    let mut random = Random::new();
    let before = entries();

    for _ in 0..150 {
        let mut creator = Child::spawn("mayfly", &[&name]);
        creator.expect("ready");
        random.pause(Duration::from_millis(2));
        creator.kill();
        creator.reap();
        let left = Region::open(&name).map(|region| {
            let sound = |object: shmkit::Shm<Mutex<[u64; 64]>>| object.lock().expect("never locked")[63] == 7;
            assert!(region.objects().expect("a directory").len() <= 1);
            let whole = region.get("object").map_or_else(|error| matches!(error, Error::NoSuchObject { .. }), sound);
            // And it can be used.
            region.insert("another", AtomicU64::new(1)).expect("room");
            whole
        });
        assert!(left.unwrap_or_else(|error| matches!(error, Error::NotFound)));
        // There may be none.
        let _ = Region::unlink(&name);
    }

    let left: Vec<_> = entries().into_iter().filter(|entry| !before.contains(entry)).collect();
    let of_others = |entry: &String| entry.starts_with("shmkit-test-") && *entry != *name;
    assert!(left.iter().all(|entry| of_others(entry) || *entry == *name), "{left:?}");
}

fn entries() -> Vec<String> {
    fs::read_dir("/dev/shm")
        .expect("/dev/shm")
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into())
        .collect()
}

// Anonymous regions.

// Opens the region behind the file that it was started with.
fn given(parent: &mut Parent) {
    let region = Region::from_fd(Parent::file()).expect("an anonymous region");
    region.get::<AtomicU64>("object").expect("the object").fetch_add(1, Relaxed);
    parent.say(region.id());
    parent.hear();
}

// Opens the region behind the file that it receives.
fn receiver(parent: &mut Parent) {
    let region = Region::from_fd(receive_fd(parent.socket())).expect("an anonymous region");
    region.get::<AtomicU64>("object").expect("the object").fetch_add(1, Relaxed);
    parent.say(region.id());
    parent.hear();
}

#[test]
fn an_anonymous_region_is_shared_through_inherited_and_received_descriptors() {
    let region = Region::anonymous(1 << 14).expect("a region");
    let object = region.insert("object", AtomicU64::new(40)).expect("room");
    let mut given = Child::spawn_with_file(region.as_fd().try_clone_to_owned().expect("a descriptor"), "given", &[]);
    let mut receiver = Child::spawn("receiver", &[]);
    send_fd(receiver.socket(), region.as_fd());

    given.expect(&region.id().to_string());
    receiver.expect(&region.id().to_string());

    assert_eq!(object.load(Relaxed), 42);
    assert_eq!(region.participants().len(), 3);
    receiver.kill();
    given.tell("end");
}

#[test]
fn a_memory_file_without_seals_is_refused() {
    let mut file = memory_file();
    file.write_all(&[0; 100_000]).expect("memory");

    assert!(matches!(Region::from_fd(file.into()), Err(Error::NotSealed)));
}

#[test]
fn a_named_region_or_a_pipe_is_no_anonymous_one() {
    let name = Name::new();
    let region = Region::create(&name, 1).expect("a region");
    let (_read, write) = std::io::pipe().expect("a pipe");

    let named = region.as_fd().try_clone_to_owned().expect("a descriptor");
    assert!(matches!(Region::from_fd(named), Err(Error::NotSealed)));
    assert!(matches!(Region::from_fd(write.into()), Err(Error::NotARegion { .. })));
}

#[test]
fn the_size_of_an_anonymous_region_can_never_change() {
    let region = Region::anonymous(10_000).expect("a region");
    let file = File::from(region.as_fd().try_clone_to_owned().expect("a descriptor"));

    assert!(file.set_len(0).is_err());
    assert!(file.set_len(1 << 30).is_err());
}
