//! What the system gives out: nothing leaks, much at once works, and what is not to be had is an error that leaves nothing half-done.

mod common;

use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::thread;

use shmkit::{
    ChannelOptions, Error, LockError, Mutex, Receiver, RecvError, Region, RegionOptions, Sender, Shm, UntrustedRegion,
};

use common::{
    Child, Name, Net, Parent, Party, Stage, become_nobody, descriptors, fork_here, is_root, limit, limit_for_now,
    mappings, now_ns, party, prompt, roles, signal, sleep_for_ever, threads, until,
};

roles!(party, cycler, crowd, nursery, short_of_descriptors, short_of_addresses, short_of_threads, stranger);

/// What this process has of the system.
fn counts() -> (usize, usize, usize) {
    (descriptors(), mappings(""), threads())
}

// Nothing leaks.

fn cycler(parent: &mut Parent) {
    let name = parent.argument(0).to_owned();
    let cycle = || {
        let region = RegionOptions::new().unlink_on_drop(true).participants(4).create(&name, 100).expect("a region");
        let mutex = region.insert("mutex", Mutex::new(0u64)).expect("room");
        *mutex.lock().expect("a free mutex") += 1;
        drop(Region::open(&name).expect("the region"));
        let untrusted = UntrustedRegion::anonymous(1).expect("a region");
        let descriptor = untrusted.as_fd().try_clone_to_owned().expect("a descriptor");
        drop(untrusted);
        drop(UntrustedRegion::from_fd(descriptor).expect("the region"));
    };
    // So that what stays for good is there: the page of the token, the keeper.
    (0..10).for_each(|_| cycle());
    let before = counts();
    (0..10_000).for_each(|_| cycle());
    until("all that 10,000 cycles took to be given back", || counts() == before);
    parent.say("nothing left");
}

#[test]
fn creating_opening_and_dropping_10000_regions_leaks_nothing() {
    let name = Name::new();
    let mut cycler = Child::spawn("cycler", &[&name]);

    cycler.expect("nothing left");

    assert!(!name.exists());
}

// Much at once.

const MANY: usize = 1000;

/// The mutex of the region that is the `index`th of all that are called after `name`.
fn mutex(name: &str, index: usize) -> Shm<Mutex<u64>> {
    let region = Region::open(&format!("{name}-{index}")).expect("the region");
    region.get("mutex").expect("its mutex")
}

// Creates a thousand regions and locks a mutex in each.
fn crowd(parent: &mut Parent) {
    limit_for_now(libc::RLIMIT_NOFILE, 4 * MANY as u64);
    let create = |index| {
        let name = format!("{}-{index}", parent.argument(0));
        let region = RegionOptions::new().participants(4).create(&name, 100).expect("a region");
        region.insert("mutex", Mutex::new(0u64)).expect("room")
    };
    let mutexes: Vec<_> = (0..MANY).map(create).collect();
    let _guards: Vec<_> = mutexes.iter().map(|mutex| mutex.lock().expect("a free mutex")).collect();
    parent.say(threads());
    sleep_for_ever();
}

/// Removes the names of the regions of a crowd.
struct Names(Name);

impl Drop for Names {
    fn drop(&mut self) {
        (0..MANY).for_each(|index| drop(Region::unlink(&format!("{}-{index}", &*self.0))));
    }
}

#[test]
fn a_process_can_have_1000_regions_and_its_death_is_known_in_the_first_and_the_last_of_them() {
    let names = Names(Name::new());
    let mut crowd = Child::spawn("crowd", &[&names.0]);
    let threads: usize = crowd.hear().parse().expect("a number");
    assert!(threads < 30, "{threads} threads");
    let mutexes = [0, MANY / 2, MANY - 1].map(|index| mutex(&names.0, index));

    let took: Vec<_> = thread::scope(|scope| {
        let wait = |mutex: &Shm<Mutex<u64>>| {
            let poisoned = matches!(mutex.lock(), Err(LockError::Poisoned { .. }));
            (poisoned, now_ns())
        };
        let waiting = mutexes.each_ref().map(|mutex| scope.spawn(move || wait(mutex)));
        let start = crowd.kill();
        let ended = waiting.map(|thread| thread.join().expect("no panic"));
        ended.into_iter().map(|(poisoned, at)| (poisoned, at.saturating_sub(start))).collect()
    });

    assert!(took.iter().all(|(poisoned, took)| *poisoned && *took < prompt().as_nanos() as u64), "{took:?}");
}

/// How many children are there at once.
const AT_ONCE: usize = 5;

// Forks children that attach to the stage and are killed, a thousand in all.
fn nursery(parent: &mut Parent) {
    let stage = Stage::open(parent.argument(0));
    for round in 1..=1000 / AT_ONCE as u64 {
        let attached = &stage.board[..AT_ONCE];
        let children: Vec<_> = attached.iter().map(|attached| forked(&stage, attached, round)).collect();
        until("children that have attached", || attached.iter().all(|attached| attached.load(Acquire) == round));
        for child in children {
            signal(child, libc::SIGKILL);
            let mut status = 0;
            // SAFETY: `status` is an int to write to.
            let reaped = unsafe { libc::waitpid(child as libc::pid_t, &raw mut status, 0) };
            assert_eq!(reaped, child as libc::pid_t);
        }
    }
    parent.say("done");
    parent.hear();
}

/// A child that takes part in the stage, says so by storing the number of the round, and stays.
fn forked(stage: &Stage, attached: &AtomicU64, round: u64) -> u32 {
    let child = fork_here();
    if child == 0 {
        // Where there is no room yet, the dead are not known to be dead.
        until("room in the table", || stage.mutex.lock().is_ok());
        attached.store(round, Release);
        sleep_for_ever();
    }
    child
}

#[test]
fn after_1000_children_were_killed_in_a_region_it_takes_newcomers() {
    let stage = Stage::create_with(RegionOptions::new().participants(8));
    let mut nursery = Child::spawn("nursery", &[stage.name()]);

    nursery.expect("done");

    let mut newcomers: [Party; 6] = Party::join_many(Net::Off, &stage);
    assert_eq!(newcomers[5].ask("lock"), "ok");
}

// What is not to be had.

/// Makes and opens regions of all kinds; says what failed.
fn all_kinds(name: &str) -> Result<(), Error> {
    let region = RegionOptions::new().unlink_on_drop(true).participants(4).create(name, 1 << 14)?;
    drop(region);
    let anonymous = UntrustedRegion::anonymous(1 << 14)?;
    let descriptor = anonymous.as_fd().try_clone_to_owned()?;
    drop(anonymous);
    Region::from_fd(descriptor).map(drop)
}

/// Attempts all under ever larger limits, until there is enough, and takes care that no failure leaves anything. Returns how many there were.
fn attempts(name: &Name, limits: impl Iterator<Item = u64>, resource: libc::__rlimit_resource_t) -> usize {
    // What stays for good.
    all_kinds(name).expect("enough of all");
    let before = counts();
    for (failures, most) in limits.enumerate() {
        limit_for_now(resource, most);
        let attempt = all_kinds(name);
        limit_for_now(resource, u64::MAX);
        let left = (counts(), name.exists());
        assert_eq!(left, (before, false), "after {attempt:?} with at most {most}");
        match attempt {
            Ok(()) => return failures,
            Err(Error::Io(_)) => {}
            Err(error) => panic!("with at most {most}: {error:?}"),
        }
    }
    panic!("never enough");
}

fn short_of_descriptors(parent: &mut Parent) {
    let name = Name::new();
    let failures = attempts(&name, 3.., libc::RLIMIT_NOFILE);
    assert!(failures > 2, "{failures}");
    parent.say("ok");
}

#[test]
fn without_descriptors_there_is_an_error_and_nothing_is_left() {
    Child::spawn("short_of_descriptors", &[]).expect("ok");
}

fn short_of_addresses(parent: &mut Parent) {
    let name = Name::new();
    let statm = std::fs::read_to_string("/proc/self/statm").expect("sizes");
    let used: u64 = 4096 * statm.split_whitespace().next().expect("a size").parse::<u64>().expect("a number");
    let failures = attempts(&name, (0..).map(|step| used + step * 8192), libc::RLIMIT_AS);
    assert!(failures > 0, "{failures}");
    parent.say("ok");
}

#[test]
fn without_addresses_there_is_an_error_and_nothing_is_left() {
    Child::spawn("short_of_addresses", &[]).expect("ok");
}

fn short_of_threads(parent: &mut Parent) {
    let (mut sender, mut receiver): (Sender<u8>, Receiver<u8>) = ChannelOptions::new().both().expect("a channel");
    let drop_rights = [|| {}, become_nobody][usize::from(is_root())];
    drop_rights();
    limit(libc::RLIMIT_NPROC, 0);
    assert!(thread::Builder::new().spawn(|| {}).is_err());
    // Not the mappings: what was to be a stack, the C library keeps for the next thread.
    let before = (descriptors(), threads());
    let readiness = receiver.readiness();
    assert!(matches!(readiness, Err(RecvError::Failed(Error::Io(_)))), "{readiness:?}");
    assert_eq!((descriptors(), threads()), before);
    // It goes on without.
    sender.send(7).expect("room");
    assert_eq!(receiver.recv().expect("a message"), 7);
    drop(Region::anonymous(100).expect("a region"));
    parent.say("ok");
}

#[test]
fn without_a_thread_a_receiver_goes_on_without_a_watcher() {
    Child::spawn("short_of_threads", &[]).expect("ok");
}

#[test]
fn a_descriptor_that_only_reads_is_refused_and_nothing_is_left() {
    let region = Region::anonymous(100).expect("a region");
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&region.as_fd()));
    let read_only = || File::open(&path).expect("the file").into();
    // Not the region that this process has open already.
    let other = UntrustedRegion::anonymous(100).expect("a region");
    let descriptor = other.as_fd().try_clone_to_owned().expect("a descriptor");
    let other_path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&descriptor));
    drop(other);
    let refused = UntrustedRegion::from_fd(File::open(&other_path).expect("the file").into());

    assert!(matches!(&refused, Err(Error::Io(error)) if error.kind() == ErrorKind::PermissionDenied), "{refused:?}");
    UntrustedRegion::from_fd(descriptor).expect("it is as it was");
    drop(Region::from_fd(read_only()).expect("it is mapped already"));
    assert_eq!(region.participants().len(), 1);
}

#[test]
fn a_folder_in_the_place_of_a_region_is_refused_and_stays() {
    let name = Name::new();
    std::fs::create_dir(name.path()).expect("a folder");

    assert!(matches!(Region::open(&name), Err(Error::NotARegion { .. })));
    assert!(matches!(Region::create(&name, 1), Err(Error::AlreadyExists)));
    assert!(name.exists());
}

// Other users.

// Becomes nobody, and tries to open what it may not write to.
fn stranger(parent: &mut Parent) {
    let name = parent.argument(0).to_owned();
    become_nobody();
    let before = counts();
    let refused = Region::open(&name);
    assert!(matches!(&refused, Err(Error::Io(error)) if error.kind() == ErrorKind::PermissionDenied), "{refused:?}");
    let unlinked = Region::unlink(&name);
    assert!(matches!(&unlinked, Err(Error::Io(_))), "{unlinked:?}");
    assert_eq!(counts(), before);
    parent.say("refused");
}

#[test]
#[ignore = "needs root"]
fn a_file_that_one_may_only_read_or_not_even_that_is_refused() {
    for mode in [0o644, 0o600, 0o000] {
        let name = Name::new();
        let region = RegionOptions::new().mode(mode).create(&name, 1).expect("a region");
        region.insert("mutex", Mutex::new(0u64)).expect("room");

        Child::spawn("stranger", &[&name]).expect("refused");

        assert_eq!(region.participants().len(), 1);
        assert!(name.exists());
    }
}
