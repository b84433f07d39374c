//! One process of the soak: acts at random until it is told to end, or killed.

use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::Ordering::Relaxed;

use super::Random;
use super::acts::{ACTS, Hand};
use super::lines::Lines;
use super::world::{MAX_WORKERS, World};
use crate::child::Orders;
use crate::clock;

/// The role.
pub const WORKER: &str = "soak-worker";

/// Works as told; the region is its standard input.
///
/// # Errors
/// A violation, in words; those of opening the region.
pub fn work_as_told(orders: &Orders) -> io::Result<()> {
    let me: usize = orders.number("worker")?;
    let random = Random::new(orders.number("seed")?);
    let world = World::open(io::stdin().as_fd().try_clone_to_owned()?).map_err(io::Error::other)?;
    let mut hand = Hand { world: &world, me, random, last: [0; MAX_WORKERS], lines: Lines::default() };
    let tally = &world.desk.tallies[me];
    while !world.is_over() {
        let at = hand.random.below(ACTS.len() as u64) as usize;
        let (name, act) = ACTS[at];
        tally.act.store(at as u32, Relaxed);
        let begin = clock::monotonic_ns();
        tally.since.store(begin, Relaxed);
        act(&mut hand).map_err(|violation| io::Error::other(format!("worker {me}, {name}: {violation}")))?;
        tally.longest.fetch_max(clock::monotonic_ns() - begin, Relaxed);
        tally.since.store(0, Relaxed);
        tally.acts.fetch_add(1, Relaxed);
    }
    Ok(())
}
