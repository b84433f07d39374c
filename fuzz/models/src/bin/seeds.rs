//! Makes the seeds of all fuzz targets anew: `cargo run --release -p shmkit-fuzz-models --bin seeds`.
//!
//! Random inputs are tried, short ones first, and those are kept that come to something which none before has come to. For targets whose runs
//! depend on their bytes alone, it is written down what all seeds together reach.

use std::fs;
use std::io;
use std::path::Path;

use shmkit_fuzz_models::{Seen, TARGETS, Target};

/// How many inputs are tried of each length.
const TRIES: usize = 1500;

fn main() -> io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../seeds");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    let mut reached = String::new();
    for target in TARGETS {
        let (seeds, seen) = choose(target);
        let folder = folder.join(target.name);
        fs::create_dir_all(&folder)?;
        for (number, seed) in seeds.iter().enumerate() {
            fs::write(folder.join(format!("{:02}", number + 1)), seed)?;
        }
        println!("{}: {} seeds, {} results", target.name, seeds.len(), seen.all().count());
        if target.is_exact {
            for (operation, result) in seen.all() {
                reached += &format!("{}: {operation}: {result}\n", target.name);
            }
        }
    }
    fs::write(folder.join("reached.txt"), reached)
}

fn choose(target: &Target) -> (Vec<Vec<u8>>, Seen) {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let (mut seeds, mut all) = (Vec::new(), Seen::default());
    for len in [0, 10, 20, 40, 80, 160, 320, 640] {
        for _ in 0..TRIES {
            let input: Vec<u8> = (0..len).map(|_| random.byte()).collect();
            let mut seen = Seen::default();
            (target.run)(&input, &mut seen);
            if all.merge(&seen) {
                seeds.push(input);
            }
            if len == 0 {
                break;
            }
        }
    }
    // Some of those that came first are not needed beside those that came later.
    let mut needed = Seen::default();
    seeds.reverse();
    seeds.retain(|seed| {
        let mut seen = Seen::default();
        (target.run)(seed, &mut seen);
        needed.merge(&seen)
    });
    (seeds, needed)
}

/// Random numbers (xorshift, by G. Marsaglia).
struct Random(u64);

impl Random {
    /// A byte; small ones are more likely.
    fn byte(&mut self) -> u8 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        let byte = (self.0 >> 32) as u8;
        if self.0 % 8 == 0 { byte % 8 } else { byte }
    }
}
