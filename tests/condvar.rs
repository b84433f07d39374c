//! The `Condvar` between real processes: whom a notification wakes, and what becomes of it when they die.

mod common;

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use shmkit::wait::Site;
use shmkit::{Condvar, Error, LockError, MutexGuard, Shm, identity};

use common::{
    Net, Parent, Party, Random, Stage, answer, fork, interrupt_on, now_ns, prompt, queue_up, roles, signal,
    stay_on_cpu_0, until, until_stopped, with_and_without_the_net,
};

roles!(player);

type Guard<'a> = MutexGuard<'a, [u64; 16]>;

/// The stage, with a condvar. The first number under the mutex is what is waited for.
fn create() -> (Stage, Shm<Condvar>) {
    let stage = Stage::create();
    let changed = stage.region.insert("changed", Condvar::new()).expect("room");
    (stage, changed)
}

fn set(stage: &Stage, count: u64) {
    stage.mutex.lock().or_else(LockError::into_guard).expect("the mutex")[0] = count;
}

/// Lets a thread take the CPU from nobody when it is woken.
fn let_others_run_first(thread: u32) {
    let param = libc::sched_param { sched_priority: 0 };
    // SAFETY: `param` is a plain number that lives over the call.
    let set = unsafe { libc::sched_setscheduler(thread as libc::pid_t, libc::SCHED_BATCH, &raw const param) };
    assert_eq!(set, 0);
}

// Does with mutex and condvar what it is told.
fn player(parent: &mut Parent) {
    let stage = Stage::open(parent.argument(0));
    answer(parent, now_ns(), "here");
    obey(parent, &stage);
}

fn obey(parent: &mut Parent, stage: &Stage) {
    let changed = stage.region.get::<Condvar>("changed").expect("the condvar");
    let mutex = &stage.mutex;
    let lock = || mutex.lock().or_else(LockError::into_guard).expect("the mutex");
    let mut kept: Option<Guard<'_>> = None;
    loop {
        let order = parent.hear();
        let (verb, number) = order.split_once(' ').unwrap_or((&order, "0"));
        let number: u64 = number.parse().expect("a number");
        let timeout = Duration::from_millis(number);
        let start = now_ns();
        let text = match verb {
            // One wait, without asking for anything.
            "plain" => outcome(changed.wait(lock()).map(|_| "woken")),
            // One timed wait; a notification that it may have got goes on to others.
            "plain-timed" => {
                let waited = changed.wait_timeout(lock(), timeout).map(|(_, result)| result.timed_out());
                if !matches!(waited, Ok(true)) {
                    changed.notify_one();
                }
                outcome(waited.map(|timed_out| if timed_out { "timed out" } else { "woken" }))
            }
            // Waits until there is one, and takes it.
            "take" => outcome(changed.wait_while(lock(), |numbers| numbers[0] == 0).map(|mut numbers| {
                numbers[0] -= 1;
                "taken"
            })),
            "take-timed" => {
                let waited = changed.wait_timeout_while(lock(), timeout, |numbers| numbers[0] == 0);
                outcome(waited.map(|(_, result)| if result.timed_out() { "timed out" } else { "taken" }))
            }
            // Waits, and keeps the mutex.
            "keep" => match changed.wait_timeout(lock(), timeout) {
                Ok((guard, result)) => {
                    kept = Some(guard);
                    format!("timed out: {}", result.timed_out())
                }
                Err(error) => format!("{error:?}"),
            },
            "lock" => {
                kept = Some(lock());
                "locked".to_owned()
            }
            "unlock" => {
                kept = None;
                "unlocked".to_owned()
            }
            // Waits as long as the process lives whose token is on the board.
            "outlive" => {
                let site = Site::of(&*changed).expect("a token");
                let token = identity::Token::from_word(stage.board[0].load(Relaxed)).expect("a token");
                outcome(changed.wait_while(lock(), |_| site.is_alive(token)).map(|_| "outlived"))
            }
            "token" => {
                stage.board[0].store(identity::current().expect("a token").word(), Relaxed);
                "told".to_owned()
            }
            "interrupts" => {
                interrupt_on(libc::SIGUSR1);
                "ready".to_owned()
            }
            "busy" => {
                stay_on_cpu_0(false);
                "busy".to_owned()
            }
            // Makes one, notifies one, and kills it before it has run, if both are on the same CPU.
            "notify-and-kill" => {
                lock()[0] = 1;
                changed.notify_one();
                signal(number as u32, libc::SIGKILL);
                "killed".to_owned()
            }
            // Forks a child with the guard, which says what waiting with it comes to.
            "fork" => {
                let guard = &mut kept;
                let child = fork(|| {
                    let waited = changed.wait(guard.take().expect("a guard"));
                    assert!(matches!(waited, Err(LockError::Failed(Error::Forked))), "{waited:?}");
                    assert!(matches!(mutex.try_lock(), Err(LockError::WouldBlock)));
                });
                child.reap().to_string()
            }
            other => panic!("no order {other:?}"),
        };
        answer(parent, start, &text);
    }
}

fn outcome<G>(waited: Result<&str, LockError<G>>) -> String {
    match waited {
        Ok(what) => what.to_owned(),
        Err(LockError::Poisoned { cause, .. }) => format!("poisoned {cause:?}"),
        Err(error) => format!("{error:?}"),
    }
}

// Everyday behaviour.

#[test]
fn notify_one_of_two_wakes_one_and_notify_all_wakes_all() {
    let (stage, changed) = create();
    let mut waiters: [Party; 3] = Party::join_many_as("player", Net::Off, &stage);
    queue_up("plain", &mut waiters);

    let start = now_ns();
    changed.notify_one();
    until("one that is woken", || waiters.iter().any(|waiter| waiter.has_said()));
    let woken = waiters.iter().position(|waiter| waiter.has_said()).expect("the one found");
    assert_eq!(waiters[woken].soon(start), "woken");
    let mut others: Vec<_> =
        waiters.iter_mut().enumerate().filter(|(at, _)| *at != woken).map(|(_, waiter)| waiter).collect();
    others.iter().for_each(|other| other.until_asleep());
    assert!(others.iter().all(|other| !other.has_said()));

    let start = now_ns();
    changed.notify_all();
    others.iter_mut().for_each(|other| assert_eq!(other.soon(start), "woken"));
}

#[test]
fn a_notification_that_nobody_waits_for_is_not_remembered() {
    let (stage, changed) = create();
    let [mut waiter] = Party::join_many_as("player", Net::Off, &stage);

    for _ in 0..2 {
        changed.notify_one();
        changed.notify_all();
        waiter.tell("plain-timed 100");
        let reply = waiter.reply();

        assert_eq!(reply.text, "timed out");
        assert!(reply.took >= Duration::from_millis(100) && reply.took < Duration::from_millis(100) + prompt());
    }
}

#[test]
fn a_wait_gives_the_mutex_up_and_has_it_again_before_it_returns_also_on_timeout() {
    let (stage, changed) = create();
    let [mut waiter] = Party::join_many_as("player", Net::Off, &stage);
    for (order, notify) in [("keep 20000", true), ("keep 30", false)] {
        waiter.tell(order);
        waiter.until_asleep();
        drop(stage.mutex.lock_timeout(prompt()).expect("given up"));
        if notify {
            changed.notify_one();
        }

        assert_eq!(waiter.reply().text, format!("timed out: {}", !notify));
        assert!(matches!(stage.mutex.try_lock(), Err(LockError::WouldBlock)));
        assert_eq!(waiter.ask("unlock"), "unlocked");
    }
}

#[test]
fn a_wait_on_a_mutex_that_is_held_returns_when_that_is_free_however_long_the_time_is_over() {
    let (stage, _changed) = create();
    let [mut waiter] = Party::join_many_as("player", Net::Off, &stage);
    waiter.fall_asleep("plain-timed 20");
    let guard = stage.mutex.lock().expect("given up");
    let start = Instant::now();
    until("the waiter asleep on the mutex", || stage.has_sleeper());
    assert!(!waiter.has_said());
    assert!(start.elapsed() < prompt());
    drop(guard);

    assert_eq!(waiter.reply().text, "timed out");
}

#[test]
fn a_condition_is_asked_again_after_every_wake_up() {
    let (stage, changed) = create();
    let [mut waiter] = Party::join_many_as("player", Net::Off, &stage);
    waiter.tell("take");

    for _ in 0..20 {
        waiter.until_asleep();
        changed.notify_all();
        changed.notify_one();
    }
    assert!(!waiter.has_said());
    set(&stage, 1);
    let start = now_ns();
    changed.notify_one();

    assert_eq!(waiter.soon(start), "taken");
}

#[test]
fn the_timeout_bounds_all_waits_for_a_condition_together() {
    let (stage, changed) = create();
    let [mut waiter] = Party::join_many_as("player", Net::Off, &stage);
    waiter.tell("take-timed 300");

    until("the end of the wait", || {
        changed.notify_all();
        waiter.has_said()
    });
    let reply = waiter.reply();

    assert_eq!(reply.text, "timed out");
    let asked = Duration::from_millis(300);
    assert!(reply.took >= asked && reply.took < asked + prompt(), "{reply:?}");
}

#[test]
fn a_waiter_that_timed_out_swallows_no_later_notification() {
    let (stage, changed) = create();
    let [mut hasty, mut patient] = Party::join_many_as("player", Net::Off, &stage);
    hasty.fall_asleep("plain-timed 100");
    patient.fall_asleep("take");
    assert_eq!(hasty.reply().text, "timed out");

    set(&stage, 1);
    let start = now_ns();
    changed.notify_one();

    assert_eq!(patient.soon(start), "taken");
}

#[test]
fn notifications_at_the_very_deadline_of_one_waiter_reach_the_other() {
    let (stage, changed) = create();
    let [mut hasty, mut patient] = Party::join_many_as("player", Net::Off, &stage);
    let mut random = Random::new();

    for _ in 0..100 {
        hasty.tell("plain-timed 5");
        patient.tell("take");
        random.pause(Duration::from_millis(8));
        set(&stage, 1);
        let start = now_ns();
        changed.notify_one();

        assert_eq!(patient.soon(start), "taken");
        hasty.reply();
    }
}

#[test]
fn interrupting_signals_neither_surface_nor_cut_a_wait() {
    let (stage, changed) = create();
    let [mut waiter] = Party::join_many_as("player", Net::Off, &stage);
    waiter.ask("interrupts");
    waiter.tell("take-timed 300");
    let signals = waiter.interrupt_until_it_answers();
    let reply = waiter.reply();
    assert!(signals > 10, "only {signals} signals were sent");
    assert_eq!(reply.text, "timed out");
    assert!(reply.took >= Duration::from_millis(300) && reply.took < Duration::from_millis(300) + prompt());

    waiter.tell("take");
    waiter.interrupt_asleep(200);
    set(&stage, 1);
    changed.notify_one();
    assert_eq!(waiter.reply().text, "taken");
}

#[test]
fn a_stopped_waiter_keeps_nobody_else_waiting_and_is_woken_when_it_goes_on() {
    let (stage, changed) = create();
    let [mut stopped, mut other] = Party::join_many_as("player", Net::Same, &stage);
    stopped.fall_asleep("take");
    other.fall_asleep("take");
    stopped.signal(libc::SIGSTOP);
    until_stopped(stopped.pid());

    set(&stage, 2);
    let start = now_ns();
    changed.notify_all();
    assert_eq!(other.soon(start), "taken");
    stopped.signal(libc::SIGCONT);

    assert_eq!(stopped.reply().text, "taken");
}

#[test]
fn a_forked_child_does_not_wait_with_the_guard_of_its_parent_and_unlocks_nothing() {
    let (stage, _changed) = create();
    let [mut parent] = Party::join_many_as("player", Net::Off, &stage);
    parent.ask("lock");

    assert_eq!(parent.ask("fork"), "0");
    assert!(matches!(stage.mutex.try_lock(), Err(LockError::WouldBlock)));
    assert_eq!(parent.ask("unlock"), "unlocked");
    assert!(stage.mutex.lock_timeout(prompt()).is_ok());
}

// Deaths.

#[test]
fn a_waiter_killed_asleep_takes_no_notification_along() {
    with_and_without_the_net(|net| {
        let (stage, changed) = create();
        let [mut dead, mut other] = Party::join_many_as("player", net, &stage);
        dead.fall_asleep("take");
        other.fall_asleep("take");
        dead.kill();

        set(&stage, 1);
        let start = now_ns();
        changed.notify_one();

        assert_eq!(other.soon(start), "taken");
        assert_eq!(stage.region.rescues(), 0);
    });
}

#[test]
fn the_notification_of_a_waiter_killed_before_it_ran_reaches_the_next_one() {
    with_and_without_the_net(|net| {
        let (stage, _changed) = create();
        let [mut notifier, mut next] = Party::join_many_as("player", net, &stage);
        notifier.ask("busy");

        for _ in 0..8 {
            let [mut woken] = Party::join_many_as("player", net, &stage);
            woken.ask("busy");
            set(&stage, 0);
            woken.fall_asleep("plain");
            // Not before it sleeps: on a busy machine it would not come to that.
            let_others_run_first(woken.thread());
            next.fall_asleep("take");

            let start = now_ns();
            notifier.ask(&format!("notify-and-kill {}", woken.pid()));

            // It is poisoned if the woken one was not as late as planned.
            let text = next.soon(start);
            assert!(text == "taken" || text.starts_with("poisoned"), "{text}");
            stage.mutex.clear_poison();
            assert_eq!(stage.region.rescues(), 0);
        }
    });
}

#[test]
fn all_who_wait_learn_that_somebody_was_killed_with_the_mutex() {
    with_and_without_the_net(|net| {
        let (stage, _changed) = create();
        let [owner, waiters @ ..] = &mut Party::join_many_as::<4>("player", net, &stage);
        queue_up("take", waiters);
        owner.ask("lock");

        let start = owner.kill();

        waiters.iter_mut().for_each(|waiter| assert_eq!(waiter.soon(start), "poisoned OwnerDied"));
        assert_eq!(stage.region.rescues(), 0);
    });
}

#[test]
fn one_who_waits_as_long_as_somebody_lives_goes_on_when_that_is_killed() {
    with_and_without_the_net(|net| {
        let (stage, _changed) = create();
        let [mut mortal, mut waiter] = Party::join_many_as("player", net, &stage);
        mortal.ask("token");
        waiter.fall_asleep("outlive");

        let start = mortal.kill();

        assert_eq!(waiter.soon(start), "outlived");
        assert_eq!(stage.region.rescues(), 0);
    });
}

#[test]
fn two_who_hand_a_number_back_and_forth_survive_deaths_of_bystanders() {
    let (stage, changed) = create();
    let [mut taker] = Party::join_many_as("player", Net::Off, &stage);
    let mut random = Random::new();

    for _ in 0..20 {
        let [mut bystander] = Party::join_many_as("player", Net::Off, &stage);
        bystander.fall_asleep("take");
        taker.tell("take");
        random.pause(Duration::from_millis(1));
        bystander.kill();
        random.pause(Duration::from_millis(1));
        set(&stage, 1);
        let start = now_ns();
        changed.notify_one();

        assert_eq!(taker.soon(start), "taken");
    }
    assert_eq!(stage.region.rescues(), 0);
}
