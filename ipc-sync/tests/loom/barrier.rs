//! Barriers: rounds, those who break them, and those who die in them.

#![allow(clippy::arc_with_non_send_sync, reason = "what the threads share unguarded is what loom watches")]

use core::time::Duration;
use std::sync::{Arc, Mutex};

use loom::cell::UnsafeCell;
use loom::thread;
use shmkit_core::shim::explore::{end, explore, explore_deaths, keeper, processes, spawn, spawn_mortal};
use shmkit_core::shim::futex;
use shmkit_core::shim::model::{Attachment, Process};
use shmkit_sync::{Barrier, BarrierError};

/// Deadlines pass when a model says so, and count as passed for whoever asks the clock.
const TIMED: Duration = Duration::ZERO;

fn barrier(parties: u32) -> Arc<Barrier> {
    Arc::new(Barrier::new(parties).unwrap())
}

/// What a round came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Came {
    Leader,
    Follower,
    Broken,
    TimedOut,
}

fn came(waited: Result<shmkit_sync::BarrierWaitResult, BarrierError>) -> Came {
    match waited {
        Ok(round) if round.is_leader() => Came::Leader,
        Ok(_) => Came::Follower,
        Err(BarrierError::Broken) => Came::Broken,
        Err(BarrierError::TimedOut) => Came::TimedOut,
        Err(error) => panic!("{error}"),
    }
}

/// As many parties as there are processes, in `rounds` rounds. Each writes its own number and, after the barrier, reads all.
fn lockstep<const N: usize>(rounds: u32) {
    let (_, [main, others @ ..]) = processes::<3>();
    let shared = Arc::new((Barrier::new(N as u32).unwrap(), [(); N].map(|()| UnsafeCell::new(0))));
    let leaders = Arc::new(Mutex::new(0));
    let life = |me: usize| {
        let (shared, leaders) = (Arc::clone(&shared), Arc::clone(&leaders));
        move || {
            let mut party = shared.0.join().unwrap();
            for round in 1..=rounds {
                // SAFETY: nobody else writes it, and others read it between the barriers only; loom tells if not.
                shared.1[me].with_mut(|number| unsafe { *number = round });
                let came = came(party.wait());
                assert!(came == Came::Leader || came == Came::Follower);
                *leaders.lock().unwrap() += u32::from(came == Came::Leader);
                // SAFETY: as above.
                shared.1.iter().for_each(|number| assert_eq!(number.with(|number| unsafe { *number }), round));
                if round < rounds {
                    party.wait().unwrap();
                }
            }
            // The seat is not to be taken by one who comes late.
            core::mem::forget(party);
        }
    };
    let threads: Vec<_> = (1..N).map(|me| spawn(&others[me - 1], life(me))).collect();
    main.act();
    life(0)();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(*leaders.lock().unwrap(), rounds, "one leader per round");
}

/// Whoever finds the token of a newcomer on a seat must find it among the participants, or would break the barrier.
#[test]
fn one_who_has_just_come_and_joined_is_not_taken_for_dead() {
    explore(3, || {
        let region = Attachment::new(2);
        let barrier = barrier(2);
        let resident = Process::join(&region, 1);
        let coming = thread::spawn({
            let (region, barrier) = (Arc::clone(&region), Arc::clone(&barrier));
            move || {
                Process::join(&region, 2).act();
                let mut party = barrier.join().unwrap();
                party.wait().unwrap();
                core::mem::forget(party);
            }
        });
        resident.act();
        let mut party = barrier.join().unwrap();
        party.wait().unwrap();
        coming.join().unwrap();
    });
}

#[test]
fn two_parties_go_from_round_to_round_in_lockstep() {
    explore(3, || lockstep::<2>(2));
}

#[test]
fn three_parties_see_what_each_wrote_and_one_leads() {
    explore(2, || lockstep::<3>(1));
}

/// Two parties, and something that may break their round: both learn the same, whatever happens at once.
fn agree(patience: Option<Duration>, meanwhile: impl FnOnce(&Barrier)) -> [Came; 2] {
    let (_, [main, one, other]) = processes();
    let barrier = barrier(2);
    let results = Arc::new(Mutex::new([None; 2]));
    let wait = |number: usize, patience: Option<Duration>| {
        let (barrier, results) = (Arc::clone(&barrier), Arc::clone(&results));
        move || {
            let mut party = barrier.join().unwrap();
            let came = came(match patience {
                None => party.wait(),
                Some(timeout) => party.wait_timeout(timeout),
            });
            results.lock().unwrap()[number] = Some(came);
            core::mem::forget(party);
        }
    };
    let threads = [spawn(&one, wait(0, patience)), spawn(&other, wait(1, None))];
    main.act();
    meanwhile(&barrier);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let results = results.lock().unwrap();
    results.map(|came| came.unwrap())
}

#[test]
fn a_time_out_breaks_the_round_for_both_or_for_none() {
    explore(2, || {
        let came = agree(Some(TIMED), |_| futex::expire());
        assert!(
            [[Came::Leader, Came::Follower], [Came::Follower, Came::Leader], [Came::TimedOut, Came::Broken]]
                .contains(&came),
            "{came:?}"
        );
    });
}

#[test]
fn an_abort_breaks_the_round_for_both_or_for_none() {
    explore(2, || {
        let came = agree(None, Barrier::abort);
        assert!(
            [[Came::Leader, Came::Follower], [Came::Follower, Came::Leader], [Came::Broken, Came::Broken]]
                .contains(&came),
            "{came:?}"
        );
    });
}

#[test]
fn a_reset_sends_those_who_wait_away_and_into_the_new_round() {
    explore(2, || {
        let (_, [main, other]) = processes();
        let barrier = barrier(2);
        let thread = spawn(&other, {
            let barrier = Arc::clone(&barrier);
            move || {
                let mut party = barrier.join().unwrap();
                while came(party.wait()) == Came::Broken {
                    thread::yield_now();
                }
                core::mem::forget(party);
            }
        });
        main.act();
        let mut party = barrier.join().unwrap();
        barrier.reset().unwrap();
        party.wait().unwrap();
        thread.join().unwrap();
    });
}

/// A party dies anywhere. The other one is not kept, and after a reset the seat is free and has not arrived.
#[test]
fn a_party_that_dies_anywhere_breaks_the_barrier_and_a_reset_mends_it() {
    let points = [
        "barrier.join.after_cas",
        "barrier.wait.after_arrival",
        "barrier.wait.after_waiting",
        "barrier.wait.after_wait",
        "barrier.complete.before_wake",
        "barrier.complete.after_wake",
        "barrier.leave.before_free",
    ];
    explore_deaths(1, &points, |at| {
        let (region, [survivor, victim]) = processes();
        let barrier = barrier(2);
        survivor.act();
        let mut party = barrier.join().unwrap();
        let keeper = keeper(&survivor);
        let (thread, place) = spawn_mortal(&victim, at, {
            let barrier = Arc::clone(&barrier);
            move || _ = barrier.join().unwrap().wait()
        });
        let first = came(party.wait());
        thread.join().unwrap();
        let died = *place.lock().unwrap();
        assert!(first != Came::TimedOut && (first != Came::Broken || died.is_some()));
        if died.is_some() {
            assert!(matches!(party.wait(), Err(BarrierError::Broken)));
            assert!(barrier.is_broken());
            barrier.reset().unwrap();
        }
        assert!(!barrier.is_broken());
        let mut new = barrier.join().unwrap();
        assert!(matches!(barrier.join(), Err(BarrierError::Full)));
        futex::expire();
        assert!(matches!(party.wait_timeout(TIMED), Err(BarrierError::TimedOut)));
        barrier.reset().unwrap();
        assert!(matches!(new.wait_timeout(TIMED), Err(BarrierError::TimedOut)));
        end(&region, [keeper]);
        died
    });
}

#[test]
fn one_who_breaks_the_barrier_and_dies_before_the_wake_up_has_broken_it() {
    explore_deaths(2, &["barrier.break.before_wake"], |at| {
        let (region, [survivor, victim]) = processes();
        let barrier = barrier(2);
        let keeper = keeper(&survivor);
        let (thread, place) = spawn_mortal(&victim, at, {
            let barrier = Arc::clone(&barrier);
            move || barrier.abort()
        });
        survivor.act();
        assert_eq!(came(barrier.join().unwrap().wait()), Came::Broken);
        thread.join().unwrap();
        end(&region, [keeper]);
        *place.lock().unwrap()
    });
}

/// One party is dead, one waits, and somebody who repairs the barrier dies of it.
#[test]
fn a_reset_that_was_cut_short_leaves_a_barrier_that_the_next_one_repairs() {
    let points = ["barrier.reset.after_break", "barrier.reset.after_free", "barrier.reset.before_wake"];
    explore_deaths(1, &points, |at| {
        let (region, [survivor, dead, victim]) = processes();
        let barrier = barrier(2);
        dead.act();
        core::mem::forget(barrier.join().unwrap());
        dead.die();
        survivor.act();
        let mut party = barrier.join().unwrap();
        let keeper = keeper(&survivor);
        let (thread, place) = spawn_mortal(&victim, at, {
            let barrier = Arc::clone(&barrier);
            move || barrier.reset().unwrap()
        });
        // If the seat of the dead is free already, nobody comes, and nobody breaks the barrier for that.
        futex::expire();
        assert!(party.wait_timeout(TIMED).is_err());
        thread.join().unwrap();
        // The keeper may not have come to the first death yet.
        survivor.sweep();
        barrier.reset().unwrap();
        assert!(!barrier.is_broken());
        let _new = barrier.join().unwrap();
        assert!(matches!(party.wait_timeout(TIMED), Err(BarrierError::TimedOut)));
        end(&region, [keeper]);
        *place.lock().unwrap()
    });
}

/// Two repair the barrier at once, and a party arrives after one of them and dies. Whoever gets its seat has not arrived.
#[test]
fn a_seat_that_a_reset_has_freed_has_not_arrived() {
    explore_deaths(2, &["barrier.wait.after_arrival"], |at| {
        let (_, [survivor, victim, other]) = processes();
        let barrier = barrier(2);
        victim.act();
        let mut dying = barrier.join().unwrap();
        survivor.act();
        let mut party = barrier.join().unwrap();
        futex::expire();
        let thread = spawn(&other, {
            let barrier = Arc::clone(&barrier);
            move || barrier.reset().unwrap()
        });
        barrier.reset().unwrap();
        let died = victim.live_until(at, || _ = dying.wait_timeout(TIMED));
        core::mem::forget(dying);
        survivor.act();
        survivor.sweep();
        if let Ok(_new) = barrier.join() {
            assert!(party.wait_timeout(TIMED).is_err(), "the new one has not waited");
        }
        thread.join().unwrap();
        died
    });
}
