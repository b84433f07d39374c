//! A stage with a barrier, and the role that takes part in it as it is told.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use shmkit::{Barrier, BarrierError, BarrierWaitResult, Party as Seat, Region, Shm};

use super::{Net, Parent, Party, Stage, answer, fork, interrupt_on, now_ns, until};

/// A stage with a barrier.
pub(crate) struct Meeting {
    pub(crate) stage: Stage,
    pub(crate) barrier: Shm<Barrier>,
}

impl Meeting {
    pub(crate) fn of(parties: u32) -> Self {
        let stage = Stage::create();
        let barrier = stage.region.insert("barrier", Barrier::new(parties).expect("1 to 64")).expect("room");
        Self { stage, barrier }
    }

    /// Starts a process that has not joined yet.
    #[track_caller]
    pub(crate) fn guest(&self, net: Net) -> Party {
        Party::join_as("barrier_party", net, &self.stage)
    }

    /// Starts processes that have joined.
    #[track_caller]
    pub(crate) fn parties<const N: usize>(&self, net: Net) -> [Party; N] {
        std::array::from_fn(|_| {
            let mut guest = self.guest(net);
            assert_eq!(guest.ask("join"), "joined");
            guest
        })
    }

    #[track_caller]
    pub(crate) fn until_told(&self, dead: &Party) {
        until("the news of the death", || {
            // Where nobody has a keeper, it comes to those who look.
            let _ = self.barrier.is_broken();
            !self.stage.pids().contains(&dead.pid())
        });
    }

    /// All who are there go through a round, with one leader.
    #[track_caller]
    pub(crate) fn has_a_round(parties: &mut [&mut Party]) {
        parties.iter_mut().for_each(|party| party.tell("wait"));
        let mut said: Vec<_> = parties.iter_mut().map(|party| party.reply().text).collect();
        said.sort();
        assert_eq!(said[0], if said.len() == 1 { "leader" } else { "follower" }, "{said:?}");
        assert_eq!(said.iter().filter(|said| *said == "leader").count(), 1, "{said:?}");
        assert!(said.iter().all(|said| said == "leader" || said == "follower"), "{said:?}");
    }
}

/// Does with the barrier what it is told.
pub(crate) fn barrier_party(parent: &mut Parent) {
    let name = parent.argument(0).to_owned();
    let region = Region::open(&name).expect("the region");
    let board = Stage::open(&name).board;
    let barrier = region.get::<Barrier>("barrier").expect("the barrier");
    let mut seat: Option<Seat<'_>> = None;
    answer(parent, now_ns(), "here");
    loop {
        let order = parent.hear();
        let (verb, number) = order.split_once(' ').unwrap_or((&order, "0"));
        let number: u64 = number.parse().expect("a number");
        let start = now_ns();
        let said = match verb {
            "join" => match barrier.join() {
                Ok(new) => {
                    seat = Some(new);
                    "joined".to_owned()
                }
                Err(error) => format!("{error:?}"),
            },
            "wait" => outcome(seat.as_mut().expect("a seat").wait()),
            "timed" => outcome(seat.as_mut().expect("a seat").wait_timeout(Duration::from_millis(number))),
            // So many rounds, in each of which all parties must find the same number on the board.
            "rounds" => {
                let seat = seat.as_mut().expect("a seat");
                let mut led = 0;
                for round in 1..=number {
                    if seat.wait().expect("a sound barrier").is_leader() {
                        led += 1;
                        board[0].store(round, Relaxed);
                    }
                    seat.wait().expect("a sound barrier");
                    assert_eq!(board[0].load(Relaxed), round);
                }
                led.to_string()
            }
            "leave" => {
                seat = None;
                "left".to_owned()
            }
            "panic" => {
                let held = seat.take();
                let panicked = catch_unwind(AssertUnwindSafe(|| {
                    let _held = held;
                    std::panic::resume_unwind(Box::new(()));
                }));
                assert!(panicked.is_err());
                "panicked".to_owned()
            }
            "abort" => {
                barrier.abort();
                "aborted".to_owned()
            }
            "reset" => format!("{:?}", barrier.reset()),
            // What a child can do with the seat of its parent: nothing.
            "fork" => {
                let mut held = seat.take();
                let child = fork(|| {
                    let seat = held.as_mut().expect("a seat");
                    assert!(matches!(seat.wait(), Err(BarrierError::NotJoined)));
                    drop(held.take());
                });
                let status = child.reap();
                seat = held;
                status.to_string()
            }
            "exit" => std::process::exit(7),
            "interrupts" => {
                interrupt_on(libc::SIGUSR1);
                "ready".to_owned()
            }
            other => panic!("no order {other:?}"),
        };
        answer(parent, start, &said);
    }
}

fn outcome(waited: Result<BarrierWaitResult, BarrierError>) -> String {
    match waited {
        Ok(round) if round.is_leader() => "leader".to_owned(),
        Ok(_) => "follower".to_owned(),
        Err(error) => format!("{error:?}"),
    }
}

/// Each of them learns soon after `start` that the barrier is broken.
#[track_caller]
pub(crate) fn all_are_told(parties: &mut [Party], start: u64) {
    for party in parties {
        assert_eq!(party.soon(start), "Broken");
    }
}
