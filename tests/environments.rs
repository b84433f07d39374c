//! Where the kernel does not give all that this library makes use of: system calls that a filter keeps away, and no `/proc`. Other users and other PID
//! namespaces are in `processes.rs`.

mod common;

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};
use shmkit::{
    ChannelOptions, Error, Receiver, RecvError, Region, RegionOptions, Sender, UntrustedEnd, UntrustedRegion,
};

use common::{
    Child, Name, Net, Parent, Party, Stage, answer, become_nobody, fork, now_ns, obey, party, prompt, roles,
    share_memory, threads_named, unshare_pids, until,
};

roles!(party, filtered, forbidden, robbed, robbed_before, outlived, without_proc, without_proc_alone, other_namespace);

// System calls that are not to be had.

/// From now on, this comes of the system call.
fn keep_away(call: libc::c_long, action: SeccompAction) {
    keep_away_if(call, Vec::new(), action);
}

/// From now on, this comes of the system call if one of the rules is met, or if there are none.
fn keep_away_if(call: libc::c_long, rules: Vec<SeccompRule>, action: SeccompAction) {
    let rules: BTreeMap<_, _> = [(call, rules)].into();
    let arch: TargetArch = std::env::consts::ARCH.try_into().expect("a known architecture");
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, action, arch).expect("a filter");
    let program: BpfProgram = filter.try_into().expect("a program");
    seccompiler::apply_filter_all_threads(&program).expect("a filtered process");
}

// Takes part without some system calls: one that fails, as it does on a kernel that does not know it, and one that nobody is to make at all.
fn filtered(parent: &mut Parent) {
    keep_away(libc::SYS_futex_waitv, SeccompAction::Errno(libc::ENOSYS as u32));
    keep_away(libc::SYS_membarrier, SeccompAction::KillProcess);
    // SAFETY: no memory is involved.
    let asked = unsafe { libc::syscall(libc::SYS_futex_waitv, 0, 0, 0, 0, 0) };
    assert_eq!((asked, std::io::Error::last_os_error().raw_os_error()), (-1, Some(libc::ENOSYS)));
    party(parent);
}

// Makes the call that nobody is to make.
fn forbidden(parent: &mut Parent) {
    keep_away(libc::SYS_membarrier, SeccompAction::KillProcess);
    // SAFETY: no memory is involved.
    unsafe { libc::syscall(libc::SYS_membarrier, 0, 0, 0) };
    parent.say("alive");
}

/// Of two who play `role`, and one who does not, each finds the death of each.
fn recover(role: &str) {
    let stage = Stage::create_with(RegionOptions::new().mode(0o666));
    for [owner, heir] in [[role, role], [role, "party"], ["party", role]] {
        let mut owner = Party::join_as(owner, Net::Off, &stage);
        let mut heir = Party::join_as(heir, Net::Off, &stage);
        owner.ask("lock");
        heir.fall_asleep("pass");

        let start = owner.kill();

        assert_eq!(heir.soon(start), "poisoned OwnerDied");
    }
}

#[test]
fn without_futex_waitv_and_membarrier_deaths_are_found_all_the_same() {
    recover("filtered");
}

#[test]
fn one_who_asked_for_a_membarrier_would_not_have_come_through() {
    let mut forbidden = Child::spawn("forbidden", &[]);

    assert_eq!(forbidden.reap().signal(), Some(libc::SIGSYS));
}

// A keeper that is killed alone, as a filter may do, and a process that lives on.

/// Lets a filter kill the keeper, which is the only one to sleep on several words from now on.
fn rob_of_keeper() {
    let several = SeccompCondition::new(1, SeccompCmpArgLen::Dword, SeccompCmpOp::Ge, 2).expect("a condition");
    let rules = vec![SeccompRule::new(vec![several]).expect("a rule")];
    keep_away_if(libc::SYS_futex_waitv, rules, SeccompAction::KillThread);
    // It looks whenever there is another region, and wants to sleep again.
    let _another = Region::anonymous(1).expect("a region");
    until("the end of the keeper", || threads_named(std::process::id(), "shmkit-keeper").is_empty());
}

// Takes part, and has lost its keeper.
fn robbed(parent: &mut Parent) {
    let stage = Stage::open(parent.argument(0));
    rob_of_keeper();
    answer(parent, now_ns(), "here");
    obey(parent, &stage);
}

// The same, but it lost the keeper before.
fn robbed_before(parent: &mut Parent) {
    rob_of_keeper();
    party(parent);
}

// Is a party whose address space outlives it.
fn outlived(parent: &mut Parent) {
    share_memory(parent.socket());
    party(parent);
}

/// An owner comes last, in this role, and is killed; the heir gets its lock soon, and without the safety net.
#[track_caller]
fn inherit_at_once(stage: &Stage, heir: &mut Party, role: &str) {
    let mut owner = Party::join_as(role, Net::On, stage);
    owner.ask("lock");
    heir.fall_asleep("pass");

    let start = owner.kill();

    assert_eq!(heir.soon(start), "poisoned OwnerDied");
    assert_eq!(stage.region.rescues(), 0);
}

#[test]
fn a_death_behind_one_who_has_lost_its_keeper_is_proven_all_the_same() {
    let stage = Stage::create();
    // In the order of the table: the first one is to tell of the other two, of whom one lives and one never gives its claim up.
    let mut heir = Party::join_as("party", Net::On, &stage);
    let _robbed = Party::join_as("robbed", Net::On, &stage);

    inherit_at_once(&stage, &mut heir, "outlived");
}

#[test]
fn the_death_of_one_who_has_lost_its_keeper_before_it_came_is_told() {
    let stage = Stage::create();
    let mut heir = Party::join_as("party", Net::On, &stage);

    inherit_at_once(&stage, &mut heir, "robbed_before");
}

#[test]
fn one_who_has_lost_its_keeper_leaves_regions_that_it_came_to_before_and_after() {
    let stage = Stage::create();
    for role in ["robbed", "robbed_before"] {
        let mut party = Child::spawn_with(Net::On, role, &[stage.name()]);
        party.hear();

        party.tell("end");

        party.finish();
        assert_eq!(stage.pids().len(), 1);
    }
}

// No /proc.

/// Puts an empty folder where `/proc` was, for this process.
fn hide_proc() {
    // SAFETY: strings that end with a zero byte; only this process's view of the file system changes.
    let hidden = unsafe {
        libc::unshare(libc::CLONE_NEWNS) == 0
            && libc::mount(
                c"none".as_ptr(),
                c"/".as_ptr(),
                std::ptr::null(),
                libc::MS_REC | libc::MS_PRIVATE,
                std::ptr::null(),
            ) == 0
            && libc::mount(c"none".as_ptr(), c"/proc".as_ptr(), c"tmpfs".as_ptr(), 0, std::ptr::null()) == 0
    };
    assert!(hidden, "{}", std::io::Error::last_os_error());
    assert!(!std::path::Path::new("/proc/self").exists());
}

// Takes part without /proc.
fn without_proc(parent: &mut Parent) {
    hide_proc();
    party(parent);
}

#[test]
#[ignore = "needs root"]
fn without_proc_deaths_are_found_all_the_same() {
    recover("without_proc");
}

// Opens a region without /proc, and attempts to make some.
fn without_proc_alone(parent: &mut Parent) {
    hide_proc();
    let region = Region::open(parent.argument(0)).expect("the region");
    let descriptors = || (0..100).filter(|fd| is_open(*fd)).count();
    let before = descriptors();
    // The file of a region that has no name, or none yet, can be opened anew through /proc only, and that is how an entry is claimed.
    let name = Name::new();
    for made in [Region::create(&name, 100), Region::anonymous(100)] {
        assert!(matches!(&made, Err(Error::Io(error)) if error.kind() == ErrorKind::NotFound), "{made:?}");
    }
    assert!(!name.exists());
    assert_eq!(descriptors(), before);
    assert_eq!(region.participants().len(), 2);
    parent.say("ok");
}

/// Whether this process has this descriptor open.
fn is_open(descriptor: i32) -> bool {
    // SAFETY: it only asks.
    unsafe { libc::fcntl(descriptor, libc::F_GETFD) != -1 }
}

#[test]
#[ignore = "needs root"]
fn without_proc_regions_are_opened_by_name_and_making_one_is_an_error() {
    let stage = Stage::create();
    Child::spawn("without_proc_alone", &[stage.name()]).expect("ok");
}

// Peers that are not trusted are mostly other users, in other namespaces.

// Is nobody, in a PID namespace of its own; has the sending end in a region whose other users it does not trust.
fn other_namespace(parent: &mut Parent) {
    let file = Parent::file();
    unshare_pids();
    let inner = fork(|| {
        become_nobody();
        let region = UntrustedRegion::from_fd(file).expect("the region");
        let mut sender = UntrustedEnd::<Sender<u64>>::open_in(&region, "way").expect("the end");
        sender.try_send(7).expect("room");
        parent.say("sent");
        parent.hear();
    });
    inner.reap();
}

#[test]
#[ignore = "needs root"]
fn the_death_of_an_untrusted_peer_is_found_across_users_and_pid_namespaces() {
    let region = UntrustedRegion::anonymous(1 << 14).expect("a region");
    let mut receiver = ChannelOptions::new().create_in_untrusted::<Receiver<u64>>(&region, "way").expect("room");
    let file = region.as_fd().try_clone_to_owned().expect("a descriptor");
    let mut peer = Child::spawn_with_file(file, "other_namespace", &[]);
    peer.expect("sent");
    assert_eq!(receiver.recv_timeout(common::BOUND).expect("a message"), 7);
    assert!(matches!(receiver.recv_timeout(Duration::from_millis(50)), Err(RecvError::TimedOut)));

    // The process that it was forked from is killed, and with it all of its namespace.
    let start = Instant::now();
    peer.kill();

    let ended = receiver.recv_timeout(common::BOUND);
    assert!(matches!(ended, Err(RecvError::Disconnected)), "{ended:?}");
    assert!(start.elapsed() < prompt(), "{:?}", start.elapsed());
}
