//! The `Mutex` between real processes: its everyday behaviour, the deaths of those who hold it or wait for it, and that nobody
//! gets it before the dead have stored for the last time.

mod common;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU8, AtomicU64, compiler_fence};
use std::thread;
use std::time::{Duration, Instant};

use shmkit::{LockError, Region, RegionOptions, Shm};

use common::{
    Child, Name, Net, Parent, Party, Random, Stage, memory_file, now_ns, obey, party, prompt, roles, signal_thread,
    touch, until, until_keepers_settled, until_stopped,
};

roles!(party, reopener, bookkeeper, victim, heir);

// Everyday behaviour.

#[test]
fn lock_of_a_free_mutex_succeeds() {
    let stage = Stage::create();
    let mut party = Party::join(&stage);

    assert_eq!(party.ask("lock"), "ok");
}

#[test]
fn try_lock_fails_at_once_while_another_process_holds_the_lock() {
    let stage = Stage::create();
    let [mut owner, mut other] = Party::join_many(Net::Off, &stage);
    owner.ask("lock");

    other.tell("try");
    let reply = other.reply();

    assert_eq!(reply.text, "WouldBlock");
    assert!(reply.took < prompt(), "{reply:?}");
}

#[test]
fn try_lock_fails_for_the_thread_that_holds_the_lock() {
    let stage = Stage::create();
    let mut owner = Party::join(&stage);
    owner.ask("lock");

    assert_eq!(owner.ask("try"), "WouldBlock");
}

#[test]
fn a_timed_second_lock_by_the_owning_thread_returns() {
    let stage = Stage::create();
    let mut owner = Party::join(&stage);
    owner.ask("lock");

    assert_eq!(owner.ask("timed 50"), "TimedOut");
    assert_eq!(owner.ask("unlock"), "unlocked");
    assert_eq!(owner.ask("lock"), "ok");
}

#[test]
fn a_timed_lock_fails_after_its_timeout_and_not_before() {
    let stage = Stage::create();
    let [mut owner, mut other] = Party::join_many(Net::Off, &stage);
    owner.ask("lock");

    for timeout in [Duration::from_millis(1), Duration::from_millis(50), Duration::from_millis(300)] {
        other.tell(format_args!("timed {}", timeout.as_millis()));
        let reply = other.reply();

        assert_eq!(reply.text, "TimedOut");
        assert!(reply.took >= timeout && reply.took < timeout + prompt(), "{reply:?}");
    }
}

#[test]
fn a_timed_lock_succeeds_when_the_owner_unlocks_in_time() {
    let stage = Stage::create();
    let [mut owner, mut other] = Party::join_many(Net::Off, &stage);
    owner.ask("lock");
    other.tell("timed 15000");
    other.until_asleep();

    let start = now_ns();
    owner.ask("unlock");
    let reply = other.reply();

    assert_eq!(reply.text, "ok");
    assert!(reply.since(start) < prompt(), "{reply:?}");
}

#[test]
fn a_waiter_that_timed_out_takes_nobodys_wake_up_along() {
    let stage = Stage::create();
    let [mut owner, mut patient, mut hasty] = Party::join_many(Net::Off, &stage);
    owner.ask("lock");
    hasty.tell("timed 200");
    hasty.until_asleep();
    patient.tell("lock");
    patient.until_asleep();
    assert_eq!(hasty.reply().text, "TimedOut");

    let start = now_ns();
    owner.ask("unlock");
    let reply = patient.reply();

    assert_eq!(reply.text, "ok");
    assert!(reply.since(start) < prompt(), "{reply:?}");
}

#[test]
fn unlocks_at_the_very_deadline_of_one_waiter_reach_the_other() {
    let stage = Stage::create();
    let [mut owner, mut patient, mut hasty] = Party::join_many(Net::Off, &stage);
    let mut random = Random::new();

    for _ in 0..100 {
        owner.ask("lock");
        hasty.tell("timed 5");
        patient.tell("pass");
        random.pause(Duration::from_millis(7));
        owner.ask("unlock");
        let start = now_ns();
        let hasty_got_it = hasty.reply().text == "ok";
        assert_eq!(hasty.ask("unlock"), "unlocked");
        let reply = patient.reply();

        assert_eq!(reply.text, "ok");
        assert!(reply.since(start) < prompt(), "hasty got it: {hasty_got_it}, {reply:?}");
    }
}

#[test]
fn what_was_written_under_the_lock_is_seen_by_the_next_holder() {
    let stage = Stage::create();
    let [mut one, mut other] = Party::join_many(Net::Off, &stage);
    one.ask("lock");
    other.tell("lock");
    other.until_asleep();

    one.ask("write 4711");
    one.ask("unlock");

    assert_eq!(other.reply().text, "ok");
    assert_eq!(other.ask("read"), "4711");
}

#[test]
fn eight_processes_count_exactly() {
    let stage = Stage::create();
    let mut parties: [Party; 8] = Party::join_many(Net::Off, &stage);

    parties.iter_mut().for_each(|party| party.tell("add 5000"));
    parties.iter_mut().for_each(|party| assert_eq!(party.reply().text, "added"));

    assert_eq!(stage.mutex.lock().expect("a sound mutex")[0], 8 * 5000);
}

#[test]
fn a_lock_given_up_by_a_panic_is_poisoned_for_every_process_until_that_is_cleared() {
    let stage = Stage::create();
    let [mut careless, mut one, mut other] = Party::join_many(Net::Off, &stage);
    careless.ask("lock");
    careless.ask("panic");

    assert_eq!(one.ask("poisoned"), "true");
    assert_eq!(one.ask("lock"), "poisoned Panicked");
    assert_eq!(one.ask("unlock"), "unlocked");
    assert_eq!(other.ask("try"), "poisoned Panicked");
    assert_eq!(other.ask("clear"), "cleared");
    assert_eq!(other.ask("unlock"), "unlocked");
    assert_eq!(one.ask("poisoned"), "false");
    assert_eq!(one.ask("lock"), "ok");
}

#[test]
fn a_killed_owner_leaves_poison_for_every_process_until_that_is_cleared() {
    let stage = Stage::create();
    let [mut owner, mut one, mut other] = Party::join_many(Net::Off, &stage);
    owner.ask("lock");
    owner.kill();
    owner.reap();

    assert_eq!(one.ask("lock"), "poisoned OwnerDied");
    assert_eq!(one.ask("unlock"), "unlocked");
    assert_eq!(other.ask("timed 10000"), "poisoned OwnerDied");
    assert_eq!(other.ask("clear"), "cleared");
    assert_eq!(other.ask("unlock"), "unlocked");
    assert_eq!(one.ask("lock"), "ok");
}

#[test]
fn try_lock_gets_the_lock_of_an_owner_that_is_known_to_be_dead() {
    let stage = Stage::create();
    let [mut owner, mut other] = Party::join_many(Net::Off, &stage);
    owner.ask("lock");
    owner.kill();
    owner.reap();

    until("the news of the death", || other.ask("try") == "poisoned OwnerDied");
}

#[test]
fn interrupting_signals_neither_surface_nor_cut_a_timed_wait() {
    let stage = Stage::create();
    let [mut owner, mut other] = Party::join_many(Net::Off, &stage);
    other.ask("interrupts");
    owner.ask("lock");

    other.tell("timed 400");
    let mut signals = 0;
    until("the end of the timed wait", || {
        signals += u32::from(signal_thread(other.pid(), other.thread(), libc::SIGUSR1));
        other.has_said()
    });
    let reply = other.reply();

    assert!(signals > 100, "only {signals} signals were sent");
    assert_eq!(reply.text, "TimedOut");
    let asked = Duration::from_millis(400);
    assert!(reply.took >= asked && reply.took < asked + prompt(), "{reply:?}");
}

#[test]
fn interrupting_signals_do_not_end_an_untimed_wait() {
    let stage = Stage::create();
    let [mut owner, mut other] = Party::join_many(Net::Off, &stage);
    other.ask("interrupts");
    owner.ask("lock");
    other.tell("lock");

    for _ in 0..200 {
        other.until_asleep();
        assert!(signal_thread(other.pid(), other.thread(), libc::SIGUSR1));
    }
    assert!(!other.has_said());
    owner.ask("unlock");

    assert_eq!(other.reply().text, "ok");
}

#[test]
fn a_stopped_owner_is_alive() {
    let stage = Stage::create();
    let [mut owner, mut other] = Party::join_many(Net::Same, &stage);
    owner.ask("lock");

    owner.signal(libc::SIGSTOP);
    until_stopped(owner.pid());
    assert_eq!(other.ask("try"), "WouldBlock");
    assert_eq!(other.ask("timed 1500"), "TimedOut");
    other.tell("lock");
    other.until_asleep();
    owner.signal(libc::SIGCONT);
    assert_eq!(owner.ask("unlock"), "unlocked");

    assert_eq!(other.reply().text, "ok");
}

#[test]
fn a_garbage_poison_word_is_an_error_until_it_is_cleared() {
    let stage = Stage::create();
    let mut party = Party::join(&stage);
    stage.poison_word().store(0xdead_beef, Relaxed);

    let error = party.ask("lock");
    assert!(error.starts_with("Failed(Corrupted") && error.contains("poison"), "{error}");
    assert!(party.ask("try").starts_with("Failed(Corrupted"));
    assert!(party.ask("timed 10").starts_with("Failed(Corrupted"));
    assert_eq!(party.ask("clear"), "cleared");
    assert_eq!(party.ask("lock"), "ok");
}

#[test]
fn a_lock_word_that_is_nobodys_token_is_that_of_a_dead_owner() {
    let stage = Stage::create();
    let mut party = Party::join(&stage);

    for word in [u64::MAX, u64::MAX - 1, 1 << 63, 1 << 28, 0x1234_5678_9abc_def1] {
        stage.lock_word().store(word, Relaxed);
        assert_eq!(party.ask("lock"), "poisoned OwnerDied", "{word:#x}");
        assert_eq!(party.ask("clear"), "cleared");
        assert_eq!(party.ask("unlock"), "unlocked");
        assert_eq!(party.ask("lock"), "ok", "{word:#x}");
        assert_eq!(party.ask("unlock"), "unlocked");
    }
}

#[test]
fn a_lock_word_without_a_token_is_a_free_lock() {
    let stage = Stage::create();
    let mut party = Party::join(&stage);

    for word in [1, 2, 3, (1 << 28) - 1] {
        stage.lock_word().store(word, Relaxed);
        assert_eq!(party.ask("try"), "ok", "{word:#x}");
        assert_eq!(party.ask("unlock"), "unlocked");
    }
}

// Leaves the lock to a guard that it forgets, closes the region, opens it again and goes on.
fn reopener(parent: &mut Parent) {
    let name = parent.argument(0).to_owned();
    let stage = Stage::open(&name);
    std::mem::forget(stage.mutex.lock().expect("a free mutex"));
    drop(stage);
    let stage = Stage::open(&name);
    parent.say("open again");
    obey(parent, &stage);
}

#[test]
fn a_forgotten_guard_is_that_of_a_dead_owner_once_its_process_has_left_and_come_back() {
    let stage = Stage::create();
    let mut other = Party::join(&stage);
    let mut reopener = Child::spawn("reopener", &[stage.name()]);
    reopener.expect("open again");

    assert_eq!(other.ask("lock"), "poisoned OwnerDied");
    reopener.tell("lock");
    reopener.until_asleep();
    assert_eq!(other.ask("clear"), "cleared");
    assert_eq!(other.ask("unlock"), "unlocked");

    assert!(reopener.hear().ends_with(" ok"));
}

// Deaths. Each scene is played without the safety net, where a lost wake-up is a hang, and with it, where it is a rescue.

fn with_and_without_the_net(scene: impl Fn(Net)) {
    scene(Net::Off);
    scene(Net::Same);
}

/// Lets each of the waiters ask for the lock and fall asleep, one after the other.
fn queue_up(waiters: &mut [Party]) {
    for waiter in waiters {
        waiter.tell("pass");
        waiter.until_asleep();
    }
}

/// Each of the survivors had the lock soon after `start`, after a death, and without the safety net.
#[track_caller]
fn all_get_on(stage: &Stage, start: u64, survivors: &mut [Party]) {
    for survivor in survivors {
        let reply = survivor.reply();
        assert_eq!(reply.text, "poisoned OwnerDied");
        assert!(reply.since(start) < prompt(), "after {:?}: {reply:?}", reply.since(start));
    }
    assert_eq!(stage.region.rescues(), 0);
    assert_eq!(stage.lock_word().load(Relaxed) & !1, 0, "the lock is free at the end");
}

#[test]
fn three_waiters_get_on_when_the_owner_is_killed() {
    with_and_without_the_net(|net| {
        let stage = Stage::create();
        let [owner, waiters @ ..] = &mut Party::join_many::<4>(net, &stage);
        owner.ask("lock");
        queue_up(waiters);

        let start = owner.kill();

        all_get_on(&stage, start, waiters);
    });
}

#[test]
fn waiters_get_on_when_owner_first_waiter_and_watcher_of_the_owner_are_killed_at_one_blow() {
    with_and_without_the_net(|net| {
        for _ in 0..10 {
            let stage = Stage::create();
            // In the order of the table: each one watches the next.
            let [watcher, owner, others @ ..] = &mut Party::join_many::<6>(net, &stage);
            owner.ask("lock");
            queue_up(others);
            let [first, survivors @ ..] = others;

            let start = now_ns();
            [&*watcher, owner, first].iter().for_each(|party| party.signal(libc::SIGKILL));

            all_get_on(&stage, start, survivors);
        }
    });
}

#[test]
fn waiters_get_on_when_all_but_they_are_killed_at_one_blow() {
    with_and_without_the_net(|net| {
        let stage = Stage::create();
        let parties = &mut Party::join_many::<8>(net, &stage);
        let (dead, survivors) = parties.split_at_mut(6);
        dead[5].ask("lock");
        queue_up(&mut dead[..5]);
        queue_up(survivors);

        let start = now_ns();
        dead.iter().for_each(|party| party.signal(libc::SIGKILL));

        all_get_on(&stage, start, survivors);
    });
}

#[test]
fn waiters_get_on_when_the_owner_that_was_handed_the_lock_is_killed() {
    with_and_without_the_net(|net| {
        let stage = Stage::create();
        let [first, second, waiters @ ..] = &mut Party::join_many::<4>(net, &stage);
        first.ask("lock");
        second.tell("lock");
        second.until_asleep();
        queue_up(waiters);
        first.ask("unlock");
        assert_eq!(second.reply().text, "ok");

        let start = second.kill();

        for waiter in waiters {
            let reply = waiter.reply();
            // One that looked by itself in that moment, as it does where the kernel cannot wait for several words, may have had the
            // lock before the one that was woken.
            let was_before = reply.text == "ok" && reply.at < start;
            assert!(was_before || reply.text == "poisoned OwnerDied", "{reply:?}");
            assert!(reply.since(start) < prompt(), "{reply:?}");
        }
        assert_eq!(stage.region.rescues(), 0);
    });
}

#[test]
fn waiters_get_on_when_one_heir_after_the_other_is_killed() {
    with_and_without_the_net(|net| {
        let stage = Stage::create();
        let mut owner = Party::join_as("party", net, &stage);
        let mut heirs = Vec::from(Party::join_many::<4>(net, &stage));
        let mut waiters: [Party; 2] = Party::join_many(net, &stage);
        owner.ask("lock");
        for heir in &mut heirs {
            heir.tell("lock");
            heir.until_asleep();
        }
        queue_up(&mut waiters);
        let start = owner.kill();

        while !heirs.is_empty() {
            let mut next = None;
            until("an heir with the lock", || {
                next = heirs.iter().position(|heir| heir.has_said());
                next.is_some()
            });
            let mut heir = heirs.remove(next.expect("the one found"));
            assert_eq!(heir.reply().text, "poisoned OwnerDied");
            heir.kill();
        }
        waiters.iter_mut().for_each(|waiter| assert_eq!(waiter.reply().text, "poisoned OwnerDied"));

        assert!(Duration::from_nanos(now_ns() - start) < 4 * prompt());
        assert_eq!(stage.region.rescues(), 0);
    });
}

#[test]
fn the_next_waiter_gets_on_when_the_one_that_was_woken_is_killed_before_it_ran() {
    with_and_without_the_net(|net| {
        let stage = Stage::create();
        let [mut owner, mut next] = Party::join_many(net, &stage);
        owner.ask("busy");

        for _ in 0..8 {
            let mut woken = Party::join_as("party", net, &stage);
            woken.ask("idle");
            owner.ask("lock");
            queue_up(std::slice::from_mut(&mut woken));
            queue_up(std::slice::from_mut(&mut next));

            let start = now_ns();
            owner.ask(&format!("unlock-and-kill {}", woken.pid()));
            let reply = next.reply();

            assert!(reply.since(start) < prompt(), "{reply:?}");
            assert_eq!(stage.region.rescues(), 0);
            // It is poisoned if the woken one was not as late as planned.
            stage.mutex.clear_poison();
        }
    });
}

#[test]
fn a_waiter_that_is_killed_asleep_disturbs_nobody() {
    with_and_without_the_net(|net| {
        let stage = Stage::create();
        let [mut owner, mut dead, mut other] = Party::join_many(net, &stage);
        owner.ask("lock");
        queue_up(std::slice::from_mut(&mut dead));
        queue_up(std::slice::from_mut(&mut other));
        dead.kill();
        dead.reap();
        until("the news of the death", || !stage.pids().contains(&dead.pid()));
        assert!(!other.has_said());

        let start = now_ns();
        owner.ask("unlock");
        let reply = other.reply();

        assert_eq!(reply.text, "ok");
        assert!(reply.since(start) < prompt(), "{reply:?}");
    });
}

#[test]
fn waiters_get_on_when_the_owner_exits_without_unlocking() {
    with_and_without_the_net(|net| {
        let stage = Stage::create();
        let [owner, waiters @ ..] = &mut Party::join_many::<4>(net, &stage);
        owner.ask("lock");
        owner.ask("forget");
        queue_up(waiters);

        let start = now_ns();
        owner.tell("exit");

        all_get_on(&stage, start, waiters);
        assert_eq!(owner.reap().code(), Some(7));
    });
}

#[test]
fn waiters_get_on_when_the_owner_becomes_another_program() {
    with_and_without_the_net(|net| {
        let stage = Stage::create();
        let [owner, waiters @ ..] = &mut Party::join_many::<4>(net, &stage);
        owner.ask("lock");
        queue_up(waiters);

        let start = now_ns();
        owner.tell("exec");

        all_get_on(&stage, start, waiters);
    });
}

#[test]
fn the_safety_net_saves_a_waiter_whose_watchers_are_stopped_and_says_so() {
    let stage = Stage::create();
    // With the net, and whatever the environment says, with everything else, too. The watcher of the owner does not see its death,
    // and this process, whose keeper would look some time, does not take part.
    let [watcher, owner, waiter] = &mut Party::join_many::<3>(Net::On, &stage);
    let name = stage.leave();
    owner.ask("lock");
    queue_up(std::slice::from_mut(waiter));
    until_keepers_settled(watcher.pid());
    watcher.signal(libc::SIGSTOP);
    until_stopped(watcher.pid());
    until_keepers_settled(waiter.pid());

    let start = owner.kill();
    let reply = waiter.reply();

    assert_eq!(reply.text, "poisoned OwnerDied");
    assert!(reply.since(start) < Duration::from_secs(1) + prompt(), "{reply:?}");
    assert_eq!(Stage::open(&name).region.rescues(), 1);
}

/// The books of several processes: how many entries there are, and how many each one has made.
const TOTAL: usize = 0;
const FIRST: usize = 1;
const KEEPERS: usize = 4;

fn is_balanced(books: &[u64; 16]) -> bool {
    books[TOTAL] == books[FIRST..FIRST + KEEPERS].iter().sum::<u64>()
}

// Makes entries for ever, and mends the books when a colleague died between the two halves of one.
fn bookkeeper(parent: &mut Parent) {
    let stage = Stage::open(parent.argument(0));
    let me: usize = parent.argument(1).parse().expect("a number");
    parent.say("working");
    loop {
        let mut books = match stage.mutex.lock() {
            Ok(books) => books,
            Err(LockError::Poisoned { guard: mut books, .. }) => {
                books[TOTAL] = books[FIRST..FIRST + KEEPERS].iter().sum();
                stage.mutex.clear_poison();
                stage.board[0].fetch_add(1, Relaxed);
                books
            }
            Err(error) => panic!("{error}"),
        };
        assert!(is_balanced(&books), "half an entry without poison: {books:?}");
        books[TOTAL] += 1;
        compiler_fence(AcqRel);
        for _ in 0..me * 20 {
            std::hint::spin_loop();
        }
        books[FIRST + me] += 1;
        drop(books);
        stage.board[1 + me].fetch_add(1, Relaxed);
    }
}

#[test]
fn books_balance_after_200_kills_at_random_moments() {
    let stage = Stage::create();
    let mut random = Random::new();
    let hire = |who: u64| {
        let mut child = Child::spawn("bookkeeper", &[stage.name(), &who.to_string()]);
        child.expect("working");
        child
    };
    let mut staff: Vec<Child> = (0..KEEPERS as u64).map(hire).collect();
    let made = |who: usize| stage.board[1 + who].load(Relaxed);
    let mut slowest = Duration::ZERO;

    for _ in 0..200 {
        let who = random.below(KEEPERS as u64);
        let before = made(who as usize);
        until("an entry of the victim", || made(who as usize) > before);
        random.pause(Duration::from_micros(500));
        staff[who as usize].kill();
        let killed = Instant::now();
        let others = (0..KEEPERS).filter(|other| *other != who as usize);
        let goals: Vec<_> = others.map(|other| (other, made(other) + 3)).collect();
        until("entries of the others", || goals.iter().all(|(other, goal)| made(*other) >= *goal));
        slowest = slowest.max(killed.elapsed());
        staff[who as usize] = hire(who);
    }
    staff.iter().for_each(|child| child.signal(libc::SIGKILL));
    drop(staff);

    println!("slowest: {slowest:?}, repairs: {}", stage.board[0].load(Relaxed));
    assert!(slowest < 4 * prompt(), "{slowest:?}");
    let mut books = stage.mutex.lock().or_else(LockError::into_guard).expect("the lock of the dead");
    books[TOTAL] = books[FIRST..FIRST + KEEPERS].iter().sum();
    for who in 0..KEEPERS {
        let (entries, told) = (books[FIRST + who], made(who));
        // Each of its deaths may have come between an entry and the note that it was made.
        assert!((told..=told + 201).contains(&entries), "{who}: {entries} entries, {told} told");
    }
    assert_eq!(stage.region.rescues(), 0);
}

// Takeover.

/// What the threads of a victim write until they are dead.
struct Scene {
    stage: Stage,
    counters: Shm<[AtomicU64; 4]>,
    bytes: Shm<[AtomicU8; BYTES]>,
}

const BYTES: usize = 1 << 18;

impl Scene {
    fn create() -> Self {
        let name = Name::new();
        let region = RegionOptions::new().participants(8).create(&name, BYTES + (1 << 16)).expect("a region");
        region.insert("counters", [const { AtomicU64::new(0) }; 4]).expect("counters");
        region.insert("bytes", [const { AtomicU8::new(0) }; BYTES]).expect("bytes");
        let stage = Stage::create_in(region, name);
        let name = stage.name().to_string();
        Self::open(&name, stage)
    }

    fn open(name: &str, stage: Stage) -> Self {
        let region = Region::open(name).expect("the region");
        let counters = region.get("counters").expect("counters");
        Self { stage, counters, bytes: region.get("bytes").expect("bytes") }
    }
}

// Holds the lock while four threads store into the region and a fifth one lets the kernel do it.
fn victim(parent: &mut Parent) {
    let name = parent.argument(0).to_owned();
    let _touched = touch(parent.argument(1).parse().expect("a number"));
    let scene = Scene::open(&name, Stage::open(&name));
    let _guard = scene.stage.mutex.lock().or_else(LockError::into_guard).expect("the lock");
    let files = [0x55, 0xaa].map(|byte| {
        let file = memory_file();
        file.write_all_at(&vec![byte; BYTES], 0).expect("a file in memory");
        file
    });
    let reads = &scene.stage.board[1];
    thread::scope(|scope| {
        for counter in &*scene.counters {
            scope.spawn(move || {
                loop {
                    counter.fetch_add(1, Relaxed);
                }
            });
        }
        let scene = &scene;
        scope.spawn(move || {
            loop {
                for file in &files {
                    read_into(file, &scene.bytes);
                    reads.fetch_add(1, Relaxed);
                }
            }
        });
        let before = reads.load(Relaxed);
        let counted: Vec<_> = scene.counters.iter().map(|counter| counter.load(Relaxed)).collect();
        until("all threads at work", || {
            reads.load(Relaxed) > before + 2
                && scene.counters.iter().zip(&counted).all(|(counter, before)| counter.load(Relaxed) > *before)
        });
        parent.say("ready");
        common::sleep_for_ever();
    });
}

fn read_into(file: &File, bytes: &[AtomicU8; BYTES]) {
    use std::os::fd::AsRawFd;
    // SAFETY: all of the array is written by the kernel, which is what atomics allow anybody to do.
    let read = unsafe { libc::pread(file.as_raw_fd(), bytes.as_ptr().cast_mut().cast(), BYTES, 0) };
    assert_eq!(read, BYTES as isize);
}

// Waits for the lock of the victim, and looks from then on whether anything changes.
fn heir(parent: &mut Parent) {
    let name = parent.argument(0).to_owned();
    let scene = Scene::open(&name, Stage::open(&name));
    let (counters, bytes) = (&*scene.counters, &*scene.bytes);
    let victim_is_gone = &scene.stage.board[0];
    loop {
        parent.expect("inherit");
        let guard = scene.stage.mutex.lock();
        let counted = counters.each_ref().map(|counter| counter.load(Acquire));
        // The kernel fills the array from its beginning, so a copy from its end is overtaken by any store that is still to come.
        let copy = copy_backwards(bytes);
        let at = now_ns();
        let poisoned = matches!(guard, Err(LockError::Poisoned { .. }));
        let same = || {
            counters.iter().zip(&counted).all(|(counter, before)| counter.load(Acquire) == *before)
                && is_same(bytes, &copy)
        };
        let mut late = !same();
        while victim_is_gone.load(Acquire) == 0 {
            late |= !same();
        }
        for _ in 0..3 {
            late |= !same();
        }
        scene.stage.mutex.clear_poison();
        drop(guard);
        parent.say(format_args!("{at} 0 poisoned={poisoned} late={late}"));
    }
}

fn copy_backwards(bytes: &[AtomicU8; BYTES]) -> Vec<u8> {
    const PART: usize = 1 << 16;
    let mut copy = vec![0u8; BYTES];
    for start in (0..BYTES).step_by(PART).rev() {
        // SAFETY: both ranges have at least `PART` bytes from `start`. If somebody still writes to the source, which is what the
        // test is there to find, the copy is a mixture.
        unsafe { libc::memcpy(copy.as_mut_ptr().add(start).cast(), bytes.as_ptr().add(start).cast(), PART) };
    }
    copy
}

fn is_same(bytes: &[AtomicU8; BYTES], copy: &[u8]) -> bool {
    assert_eq!(copy.len(), BYTES);
    // SAFETY: both have `BYTES` bytes; as in `copy_backwards`.
    unsafe { libc::memcmp(bytes.as_ptr().cast(), copy.as_ptr().cast(), BYTES) == 0 }
}

/// Kills victims of this size and returns the longest time to the lock.
#[track_caller]
fn kill_victims(times: u32, memory: usize, net: Net) -> Duration {
    let scene = Scene::create();
    let name: &str = scene.stage.name();
    let mut heir = Child::spawn_with(net, "heir", &[name]);
    let mut slowest = Duration::ZERO;
    for round in 0..times {
        scene.stage.board[0].store(0, Release);
        let mut victim = Child::spawn_with(net, "victim", &[name, &memory.to_string()]);
        victim.expect("ready");
        heir.tell("inherit");
        heir.until_asleep();

        let killed = victim.kill();
        victim.reap();
        scene.stage.board[0].store(1, Release);
        let reply = common::Reply::parse(&heir.hear());

        assert_eq!(reply.text, "poisoned=true late=false", "round {round}");
        slowest = slowest.max(reply.since(killed));
    }
    assert_eq!(scene.stage.region.rescues(), 0);
    slowest
}

#[test]
fn no_thread_of_a_small_victim_stores_after_the_new_owner_has_the_lock() {
    let slowest = kill_victims(100, 1 << 20, Net::Off);

    assert!(slowest < prompt(), "{slowest:?}");
}

#[test]
fn no_thread_of_a_victim_with_2_gib_stores_after_the_new_owner_has_the_lock() {
    let slowest = kill_victims(4, 2 << 30, Net::Off);

    assert!(slowest < 4 * prompt(), "{slowest:?}");
}
