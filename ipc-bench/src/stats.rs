//! Rounds in which all candidates take their turn, and the numbers drawn from them.
//!
//! A ratio is the median of the ratios within each round: what slows the machine down for a while
//! slows both sides of a ratio down.

use std::io;
use std::time::{Duration, Instant};

use crate::progress;

/// The fewest rounds that a ratio may rest on.
pub const MIN_ROUNDS: usize = 15;

/// Returns the middle of `values`; `None` if there are none.
pub fn median(values: &[f64]) -> Option<f64> {
    let sorted = sorted(values);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        n if n % 2 == 1 => Some(sorted[middle]),
        _ => Some((sorted[middle - 1] + sorted[middle]) / 2.0),
    }
}

/// Returns the smallest value that at least `percent` of all values do not exceed; `None` if there
/// are none.
///
/// # Panics
/// If `percent` is not within 0 to 100.
pub fn percentile(values: &[f64], percent: f64) -> Option<f64> {
    assert!((0.0..=100.0).contains(&percent), "a percentile lies within 0 to 100, not {percent}");
    let sorted = sorted(values);
    let rank = (percent / 100.0 * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied()
}

/// Returns the median of `subject[i] / peer[i]` over the rounds that both have.
pub fn ratio_per_round(subject: &[f64], peer: &[f64]) -> Option<f64> {
    let ratios: Vec<f64> = subject.iter().zip(peer).map(|(s, p)| s / p).collect();
    median(&ratios)
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

/// What one candidate showed, round by round.
#[derive(Debug, Clone)]
pub struct Series<S> {
    /// The candidate.
    pub name: &'static str,
    /// One sample per round; the index is the round.
    pub rounds: Vec<S>,
}

impl<S> Series<S> {
    /// Draws one number from each sample.
    pub fn map(&self, number: impl Fn(&S) -> f64) -> Series<f64> {
        Series { name: self.name, rounds: self.rounds.iter().map(number).collect() }
    }
}

/// Finds the series of `name` and draws one number from each of its rounds.
pub fn numbers_of<S>(all: &[Series<S>], name: &str, number: impl Fn(&S) -> f64) -> Option<Vec<f64>> {
    let series = all.iter().find(|series| series.name == name)?;
    Some(series.rounds.iter().map(number).collect())
}

/// How many rounds to run, and what to say meanwhile.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The name of the case in messages.
    pub case: String,
    /// The number of rounds.
    pub rounds: usize,
    /// No round begins after this much time; the first always does.
    pub budget: Duration,
    /// Whether to say on the screen how far it is.
    pub verbose: bool,
}

/// One contestant of [`interleave`].
pub struct Candidate<'a, S> {
    name: &'static str,
    sample: Box<dyn FnMut() -> io::Result<S> + 'a>,
}

impl<'a, S> Candidate<'a, S> {
    /// Makes a candidate that takes one sample per call of `sample`.
    pub fn new(name: &'static str, sample: impl FnMut() -> io::Result<S> + 'a) -> Self {
        Candidate { name, sample: Box::new(sample) }
    }

    /// Its name in results.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Takes a sample.
    ///
    /// # Errors
    /// Those of the candidate.
    pub fn sample(&mut self) -> io::Result<S> {
        (self.sample)()
    }
}

/// Runs `plan.rounds` rounds with one sample of every candidate in each; who begins rotates.
///
/// # Errors
/// The first error of a candidate.
pub fn interleave<S>(plan: &Plan, mut candidates: Vec<Candidate<'_, S>>) -> io::Result<Vec<Series<S>>> {
    let mut all: Vec<Series<S>> =
        candidates.iter().map(|candidate| Series { name: candidate.name, rounds: Vec::new() }).collect();
    let begun = Instant::now();
    for round in 0..plan.rounds {
        if round > 0 && begun.elapsed() > plan.budget {
            if plan.verbose {
                progress::note(&format!("{}: out of time after {round} of {} rounds", plan.case, plan.rounds));
            }
            break;
        }
        for turn in 0..candidates.len() {
            let index = (round + turn) % candidates.len();
            all[index].rounds.push(candidates[index].sample()?);
        }
        if plan.verbose {
            progress::round(round + 1, plan.rounds);
        }
    }
    Ok(all)
}

/// Refuses a number of rounds that no ratio may rest on.
///
/// # Errors
/// `InvalidInput` below [`MIN_ROUNDS`].
pub fn check_rounds(rounds: usize) -> io::Result<()> {
    if rounds >= MIN_ROUNDS {
        return Ok(());
    }
    let message = format!("a ratio needs at least {MIN_ROUNDS} rounds, not {rounds}");
    Err(io::Error::new(io::ErrorKind::InvalidInput, message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    fn plan(rounds: usize, budget: Duration) -> Plan {
        Plan { case: "test".into(), rounds, budget, verbose: false }
    }

    #[test]
    fn median_is_the_middle_or_the_mean_of_the_two_middles() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(&[]), None);
    }

    #[test]
    fn percentile_is_the_nearest_rank() {
        let hundred: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(percentile(&hundred, 99.0), Some(99.0));
        assert_eq!(percentile(&hundred, 100.0), Some(100.0));
        assert_eq!(percentile(&hundred, 0.0), Some(1.0));
        assert_eq!(percentile(&[], 50.0), None);
    }

    #[test]
    fn ratio_is_the_median_of_the_ratios_and_not_the_ratio_of_the_medians() {
        assert_eq!(ratio_per_round(&[1.0, 20.0, 3.0], &[1.0, 10.0, 1.0]), Some(2.0));
    }

    #[test]
    fn every_candidate_takes_one_turn_in_each_round_and_the_beginner_rotates() {
        let order = RefCell::new(String::new());
        let candidate = |name: &'static str| {
            let order = &order;
            Candidate::new(name, move || {
                order.borrow_mut().push_str(name);
                Ok(())
            })
        };
        let all = interleave(&plan(3, Duration::MAX), vec![candidate("a"), candidate("b")]).unwrap();
        assert_eq!(*order.borrow(), "abbaab");
        assert!(all.iter().all(|series| series.rounds.len() == 3));
    }

    #[test]
    fn no_round_begins_when_the_budget_is_spent() {
        let all = interleave(&plan(3, Duration::ZERO), vec![Candidate::new("a", || Ok(()))]).unwrap();
        assert_eq!(all[0].rounds.len(), 1);
    }
}
