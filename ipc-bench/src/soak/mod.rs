//! The soak: processes use every primitive of one region at random, while a supervisor kills, stops, continues and replaces them.
//!
//! Six layers: [`world`] is what lies in the region; [`acts`] are the operations, each with what must hold whenever it has been
//! done; [`lines`] are the channels that messages go through, [`stores`] the map and the vectors; [`pool`] is a pool of processes beside the region; [`worker`] does them and [`supervisor`] disturbs, watches for stalls and does the sums.
//!
//! What must hold in spite of all kills: what a lock protects is whole or poisoned, a permit has one holder at a time and comes back
//! from the dead, as many leave a barrier as belong to a round, a value that is initialised once is so for all, nothing is torn, messages come whole, in order and once, and what
//! was counted adds up. Where a kill falls between an operation and the note of it, the sum may be off by that one: workers note what
//! they are about to do, so the supervisor knows by how much.

pub mod acts;
pub mod lines;
pub mod pool;
pub mod stores;
pub mod supervisor;
pub mod worker;
pub mod world;

use std::time::Duration;

/// The longest that any act of a process may take which is neither killed nor stopped.
pub const LONGEST_STALL: Duration = Duration::from_secs(2);

/// Random numbers that a seed brings back (xorshift, by G. Marsaglia).
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// The numbers of this seed.
    pub fn new(seed: u64) -> Self {
        // Spread, so that seeds that differ by one make numbers that differ from the beginning. Never 0.
        let mut random = Self(seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        (0..8).for_each(|_| _ = random.below(2));
        random
    }

    /// The next number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % end
    }

    /// A time below `longest`.
    pub fn time(&mut self, longest: Duration) -> Duration {
        Duration::from_nanos(self.below(longest.as_nanos() as u64))
    }
}
