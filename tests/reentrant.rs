//! The `ReentrantMutex` between real processes: whom it lets in again, and whom it keeps out.

mod common;

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use shmkit::{LockError, LockResult, ReentrantMutex, ReentrantMutexGuard, Shm};

use common::{
    Child, Net, Parent, Party, Stage, answer, fork, interrupt_on, now_ns, prompt, queue_up, roles, until,
    until_stopped, with_and_without_the_net,
};

roles!(player, reopener);

type Numbers = ReentrantMutex<[AtomicU64; 2]>;
type Guard<'a> = ReentrantMutexGuard<'a, [AtomicU64; 2]>;

fn create() -> (Stage, Shm<Numbers>) {
    let stage = Stage::create();
    let numbers = Numbers::new([const { AtomicU64::new(0) }; 2]);
    let numbers = stage.region.insert("numbers", numbers).expect("room");
    (stage, numbers)
}

/// Each of the survivors had the lock soon after `start`, after a death.
#[track_caller]
fn all_get_on(stage: &Stage, start: u64, survivors: &mut [Party]) {
    for survivor in survivors {
        assert_eq!(survivor.soon(start), "poisoned OwnerDied");
    }
    assert_eq!(stage.region.rescues(), 0);
}

// Locks and unlocks as it is told.
fn player(parent: &mut Parent) {
    let stage = Stage::open(parent.argument(0));
    answer(parent, now_ns(), "here");
    obey(parent, &stage);
}

fn obey(parent: &mut Parent, stage: &Stage) {
    let numbers = stage.region.get::<Numbers>("numbers").expect("the numbers");
    let mut guards = Vec::new();
    loop {
        let order = parent.hear();
        let (verb, number) = order.split_once(' ').unwrap_or((&order, "0"));
        let number: u64 = number.parse().expect("a number");
        let timeout = Duration::from_millis(number);
        let start = now_ns();
        let text = match verb {
            "lock" => outcome(numbers.lock(), &mut guards),
            "try" => outcome(numbers.try_lock(), &mut guards),
            "timed" => outcome(numbers.lock_timeout(timeout), &mut guards),
            "unlock" => {
                drop(guards.pop().expect("a guard"));
                guards.len().to_string()
            }
            // Locks twice and unlocks, and answers with the time in between.
            "pass" => {
                let text = outcome(numbers.lock(), &mut guards);
                let at = now_ns();
                outcome(numbers.lock(), &mut guards);
                guards.clear();
                parent.say(format_args!("{at} {} {text}", at - start));
                continue;
            }
            "add" => {
                for _ in 0..number {
                    let outer = numbers.lock().expect("sound");
                    let before = outer[0].load(Relaxed);
                    let inner = numbers.lock().expect("sound");
                    drop(outer);
                    inner[0].store(before + 1, Relaxed);
                }
                "added".to_owned()
            }
            "clear" => {
                numbers.clear_poison();
                "cleared".to_owned()
            }
            // What another thread of this process gets.
            "thread" => {
                let try_it = || outcome(numbers.try_lock(), &mut Vec::new());
                std::thread::scope(|scope| scope.spawn(try_it).join().expect("no panic"))
            }
            // What the thread of a forked child gets, which drops all guards.
            "fork" => {
                let child = fork(|| {
                    assert!(matches!(numbers.try_lock(), Err(LockError::WouldBlock)));
                    guards.clear();
                    assert!(matches!(numbers.lock_timeout(Duration::from_millis(20)), Err(LockError::TimedOut)));
                });
                child.reap().to_string()
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

fn outcome<'a>(locked: LockResult<Guard<'a>>, guards: &mut Vec<Guard<'a>>) -> String {
    match locked {
        Ok(guard) => {
            guards.push(guard);
            "ok".to_owned()
        }
        Err(LockError::Poisoned { guard, cause }) => {
            guards.push(guard);
            format!("poisoned {cause:?}")
        }
        Err(other) => format!("{other:?}"),
    }
}

// Everyday behaviour.

#[test]
fn n_locks_by_one_thread_need_n_unlocks_and_keep_all_others_out_meanwhile() {
    let (stage, _numbers) = create();
    let [mut owner, mut other] = Party::join_many_as("player", Net::Off, &stage);
    for order in ["lock", "try", "timed 0", "lock"] {
        assert_eq!(owner.ask(order), "ok");
    }

    for left in ["3", "2", "1"] {
        assert_eq!(other.ask("try"), "WouldBlock");
        assert_eq!(other.ask("timed 10"), "TimedOut");
        assert_eq!(owner.ask("thread"), "WouldBlock");
        assert_eq!(owner.ask("unlock"), left);
    }
    other.fall_asleep("pass");
    let start = now_ns();
    assert_eq!(owner.ask("unlock"), "0");

    assert_eq!(other.soon(start), "ok");
    assert_eq!(owner.ask("thread"), "ok");
}

#[test]
fn a_timed_lock_fails_after_its_timeout_and_not_before() {
    let (stage, _numbers) = create();
    let [mut owner, mut other] = Party::join_many_as("player", Net::Off, &stage);
    owner.ask("lock");

    for timeout in [Duration::from_millis(1), Duration::from_millis(100)] {
        other.tell(format_args!("timed {}", timeout.as_millis()));
        let reply = other.reply();
        assert_eq!(reply.text, "TimedOut");
        assert!(reply.took >= timeout && reply.took < timeout + prompt(), "{reply:?}");
    }
}

#[test]
fn eight_processes_count_exactly_with_two_guards_each() {
    let (stage, numbers) = create();
    let mut players: [Party; 8] = Party::join_many_as("player", Net::Off, &stage);

    players.iter_mut().for_each(|player| player.tell("add 3000"));
    players.iter_mut().for_each(|player| assert_eq!(player.reply().text, "added"));

    assert_eq!(numbers.lock().expect("sound")[0].load(Relaxed), 8 * 3000);
}

#[test]
fn a_stopped_owner_is_alive_and_still_the_owner_when_it_goes_on() {
    let (stage, _numbers) = create();
    let [mut owner, mut other] = Party::join_many_as("player", Net::Same, &stage);
    owner.ask("lock");
    owner.signal(libc::SIGSTOP);
    until_stopped(owner.pid());

    assert_eq!(other.ask("try"), "WouldBlock");
    assert_eq!(other.ask("timed 1500"), "TimedOut");
    owner.signal(libc::SIGCONT);

    assert_eq!(owner.ask("lock"), "ok");
    assert_eq!(owner.ask("unlock"), "1");
    assert_eq!(other.ask("try"), "WouldBlock");
    assert_eq!(owner.ask("unlock"), "0");
    assert_eq!(other.ask("try"), "ok");
}

#[test]
fn interrupting_signals_neither_surface_nor_cut_a_wait() {
    let (stage, _numbers) = create();
    let [mut owner, mut other] = Party::join_many_as("player", Net::Off, &stage);
    other.ask("interrupts");
    owner.ask("lock");
    other.tell("timed 300");
    other.interrupt_until_it_answers();
    let reply = other.reply();

    assert_eq!(reply.text, "TimedOut");
    assert!(reply.took >= Duration::from_millis(300) && reply.took < Duration::from_millis(300) + prompt());
}

#[test]
fn a_forked_child_is_not_its_parent_and_its_guards_unlock_nothing() {
    let (stage, _numbers) = create();
    let [mut parent, mut other] = Party::join_many_as("player", Net::Off, &stage);
    parent.ask("lock");
    parent.ask("lock");

    assert_eq!(parent.ask("fork"), "0");

    assert_eq!(parent.ask("lock"), "ok");
    for left in ["2", "1"] {
        assert_eq!(parent.ask("unlock"), left);
        assert_eq!(other.ask("try"), "WouldBlock");
    }
    assert_eq!(parent.ask("unlock"), "0");
    assert_eq!(other.ask("try"), "ok");
}

// Leaves the lock to guards that it forgets, closes the region, opens it again and goes on.
fn reopener(parent: &mut Parent) {
    let name = parent.argument(0).to_owned();
    let stage = Stage::open(&name);
    let numbers = stage.region.get::<Numbers>("numbers").expect("the numbers");
    (0..2).for_each(|_| std::mem::forget(numbers.lock().expect("a free mutex")));
    drop((numbers, stage));
    let stage = Stage::open(&name);
    parent.say("open again");
    obey(parent, &stage);
}

#[test]
fn a_forgotten_guard_is_that_of_a_dead_owner_once_its_process_has_left_and_come_back_also_to_its_own_thread() {
    let (stage, _numbers) = create();
    let mut reopener = Child::spawn("reopener", &[stage.name()]);
    reopener.expect("open again");
    let [mut other] = Party::join_many_as("player", Net::Off, &stage);
    let mut ask = |order: &str| {
        reopener.tell(order);
        common::Reply::parse(&reopener.hear()).text
    };

    assert_eq!(ask("lock"), "poisoned OwnerDied");
    assert_eq!(ask("clear"), "cleared");
    assert_eq!(other.ask("try"), "WouldBlock");
    assert_eq!(ask("thread"), "WouldBlock");
    // One guard, whatever had been forgotten.
    assert_eq!(ask("unlock"), "0");
    assert_eq!(other.ask("try"), "ok");
    assert_eq!(ask("try"), "WouldBlock");
}

// Deaths.

#[test]
fn waiters_get_on_when_the_owner_is_killed_with_several_guards() {
    with_and_without_the_net(|net| {
        let (stage, _numbers) = create();
        let [owner, waiters @ ..] = &mut Party::join_many_as::<4>("player", net, &stage);
        owner.ask("lock");
        owner.ask("lock");
        owner.ask("lock");
        queue_up("pass", waiters);

        let start = owner.kill();

        all_get_on(&stage, start, waiters);
        assert_eq!(waiters[0].ask("lock"), "poisoned OwnerDied");
        assert_eq!(waiters[0].ask("clear"), "cleared");
        assert_eq!(waiters[0].ask("lock"), "ok");
        assert_eq!(waiters[1].ask("try"), "WouldBlock");
        assert_eq!(waiters[0].ask("unlock"), "1");
        assert_eq!(waiters[0].ask("unlock"), "0");
        assert_eq!(waiters[1].ask("try"), "ok");
    });
}

#[test]
fn waiters_get_on_when_owner_and_first_waiter_are_killed_at_one_blow() {
    with_and_without_the_net(|net| {
        let (stage, _numbers) = create();
        let [owner, others @ ..] = &mut Party::join_many_as::<5>("player", net, &stage);
        owner.ask("lock");
        owner.ask("lock");
        queue_up("pass", others);
        let [first, survivors @ ..] = others;

        let start = now_ns();
        [&*owner, first].iter().for_each(|party| party.signal(libc::SIGKILL));

        all_get_on(&stage, start, survivors);
    });
}

#[test]
fn try_lock_gets_the_lock_of_an_owner_that_is_known_to_be_dead() {
    let (stage, _numbers) = create();
    let [mut owner, mut other] = Party::join_many_as("player", Net::Off, &stage);
    owner.ask("lock");
    owner.ask("lock");
    owner.kill();
    owner.reap();

    until("the news of the death", || other.ask("try") == "poisoned OwnerDied");
    assert_eq!(other.ask("unlock"), "0");
}
