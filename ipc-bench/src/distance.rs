//! How far apart two CPUs are: what a cache line takes from one to the other and back.
//!
//! On a virtual machine that changes while it runs: its host moves the two between cores that share a cache and cores that do not, which makes a
//! transfer eight times as long. So every case on two CPUs asks in each of its rounds, and says what it has seen.

use std::hint;
use std::io;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::thread;
use std::time::Instant;

use crate::pin::{Pair, pin_to};
use crate::shared::Line;
use crate::stats;

/// How often there and back: for a tenth of a millisecond, or for one.
const TURNS: u64 = 2000;

/// What some rounds have seen.
#[derive(Debug, Default)]
pub struct Distance {
    /// There and back, in nanoseconds.
    rounds: Vec<f64>,
}

impl Distance {
    /// Measures once more.
    ///
    /// # Errors
    /// Those of pinning.
    pub fn measure(&mut self, pair: &Pair) -> io::Result<()> {
        self.rounds.push(there_and_back(pair)?);
        Ok(())
    }

    /// For the conditions of a case; empty if nothing was measured.
    pub fn describe(&self) -> String {
        let at = |percent| stats::percentile(&self.rounds, percent).map(f64::round);
        match (at(0.0), at(50.0), at(100.0)) {
            (Some(least), Some(middle), Some(most)) => {
                format!(
                    "; a cache line between the two takes {middle} ns there and back ({least} to {most} in the rounds)"
                )
            }
            _ => String::new(),
        }
    }
}

/// Hands a line to a thread on the other CPU and back, many times; returns how long once takes, in nanoseconds.
fn there_and_back(pair: &Pair) -> io::Result<f64> {
    let turn = Line(AtomicU64::new(0));
    let _pinned = pin_to(pair.first)?;
    thread::scope(|scope| {
        let other = scope.spawn(|| -> io::Result<()> {
            let _pinned = pin_to(pair.second)?;
            turn.0.store(1, Release);
            for number in 1..=TURNS {
                await_turn(&turn.0, 2 * number);
                turn.0.store(2 * number + 1, Release);
            }
            Ok(())
        });
        while turn.0.load(Acquire) == 0 {
            if other.is_finished() {
                return Err(other.join().expect("no panic").expect_err("it has not begun"));
            }
            thread::yield_now();
        }
        let begin = Instant::now();
        for number in 1..=TURNS {
            turn.0.store(2 * number, Release);
            await_turn(&turn.0, 2 * number + 1);
        }
        Ok(begin.elapsed().as_nanos() as f64 / TURNS as f64)
    })
}

fn await_turn(turn: &AtomicU64, number: u64) {
    while turn.load(Acquire) != number {
        hint::spin_loop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_is_told_by_its_middle_and_its_ends() {
        let distance = Distance { rounds: vec![46.2, 403.0, 45.4] };
        let told = "; a cache line between the two takes 46 ns there and back (45 to 403 in the rounds)";
        assert_eq!(distance.describe(), told);
        assert_eq!(Distance::default().describe(), "");
    }

    #[test]
    fn a_line_comes_back() {
        let pair = Pair::choose().unwrap();
        let mut distance = Distance::default();
        if pair.first != pair.second {
            distance.measure(&pair).unwrap();
            assert!(distance.rounds[0] > 1.0);
        }
    }
}
