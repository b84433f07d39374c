//! The `Mutex` between real processes: its everyday behaviour.

mod common;

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use common::{Child, Net, Parent, Party, Random, Stage, now_ns, obey, party, prompt, roles, until, until_stopped};

roles!(party, reopener);

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
    other.fall_asleep("timed 15000");

    let start = now_ns();
    owner.ask("unlock");

    assert_eq!(other.soon(start), "ok");
}

#[test]
fn a_waiter_that_timed_out_takes_nobodys_wake_up_along() {
    let stage = Stage::create();
    let [mut owner, mut patient, mut hasty] = Party::join_many(Net::Off, &stage);
    owner.ask("lock");
    hasty.fall_asleep("timed 200");
    patient.fall_asleep("lock");
    assert_eq!(hasty.reply().text, "TimedOut");

    let start = now_ns();
    owner.ask("unlock");

    assert_eq!(patient.soon(start), "ok");
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
    other.fall_asleep("lock");

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
    let signals = other.interrupt_until_it_answers();
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

    other.interrupt_asleep(200);
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
    other.fall_asleep("lock");
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
    reopener.fall_asleep("lock");
    assert_eq!(other.ask("clear"), "cleared");
    assert_eq!(other.ask("unlock"), "unlocked");

    assert!(reopener.hear().ends_with(" ok"));
}
