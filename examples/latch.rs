//! A countdown latch that survives kills, made from public parts only, as a primitive of your own would be.
//!
//! Parties join a latch; whoever waits for it goes on when each of them has counted down or is dead.

use shmkit::identity::Token;
use shmkit::wait::{Site, wake_all};
use shmkit::{Deadline, Region, RegionOptions, ShmSafe};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU64, Ordering::*};
use std::time::Duration;

const PARTIES: usize = 8;

/// The states of a place. Any other value is the token of the party that has joined there.
const FREE: u64 = 0;
const COUNTED: u64 = 2;
const DIED: u64 = 4;

#[repr(C)]
#[derive(ShmSafe)]
struct Latch {
    /// One per party: FREE -> token by the party; token -> COUNTED by the party, or -> DIED by one who waits.
    places: [AtomicU64; PARTIES],
    /// Raised after a place has been counted down: those who wait sleep on it.
    changes: AtomicU64,
}

/// A party that has joined; counted down when dropped, by the process that has joined only.
struct Party<'a> {
    latch: &'a Latch,
    place: &'a AtomicU64,
    site: Site,
}

impl Latch {
    /// Joins. A kill before the exchange leaves a free place, one after it a place with the token of a dead.
    fn join(&self) -> shmkit::Result<Option<Party<'_>>> {
        let site = Site::of(self)?;
        let take = |place: &&AtomicU64| place.compare_exchange(FREE, site.token().word(), AcqRel, Relaxed).is_ok();
        Ok(self.places.iter().find(take).map(|place| Party { latch: self, place, site }))
    }

    /// Waits until all places are counted down; says how many of the parties died. `None`: the time is over.
    fn wait(&self, timeout: Duration) -> shmkit::Result<Option<usize>> {
        let site = Site::of(self)?;
        Ok(site.wait_for(&self.changes, Deadline::after(timeout), || {
            for place in &self.places {
                let word = place.load(Acquire);
                // The dead are counted down by those who wait; of several, one succeeds.
                if Token::from_word(word).is_some_and(|party| !site.is_alive(party)) {
                    let _ = place.compare_exchange(word, DIED, AcqRel, Relaxed);
                }
            }
            let count = |state| self.places.iter().filter(|place| place.load(Acquire) == state).count();
            (count(DIED) + count(COUNTED) == PARTIES).then(|| count(DIED))
        }))
    }
}

impl Drop for Party<'_> {
    fn drop(&mut self) {
        if self.site.is_own() {
            self.place.store(COUNTED, Release);
            // Killed here? Then all who wait are woken by the death.
            self.latch.changes.fetch_add(1, Release);
            wake_all(&self.latch.changes);
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    if let [_, name, fate] = &std::env::args().collect::<Vec<_>>()[..] {
        let latch = Region::open(name)?.get::<Latch>("latch")?;
        let _party = latch.join()?.ok_or("the latch is full")?;
        std::thread::sleep(Duration::from_millis(if fate == "dies" { 60_000 } else { 20 }));
        return Ok(());
    }
    let name = format!("shmkit-latch-{}", std::process::id());
    let region = RegionOptions::new().unlink_on_drop(true).create(&name, 4096)?;
    let places = [const { AtomicU64::new(FREE) }; PARTIES];
    let latch = region.insert("latch", Latch { places, changes: AtomicU64::new(0) })?;
    let start = |fate| Command::new(std::env::current_exe()?).args([&*name, fate]).spawn();
    let mut parties = (0..PARTIES).map(|i| start(["dies", "lives"][i % 2])).collect::<Result<Vec<Child>, _>>()?;
    while latch.places.iter().any(|place| place.load(Acquire) == FREE) {
        std::thread::sleep(Duration::from_millis(1));
    }
    parties.iter_mut().step_by(2).try_for_each(Child::kill)?;
    let died = latch.wait(Duration::from_secs(20))?.ok_or("the latch has never opened")?;
    parties.iter_mut().try_for_each(|party| party.wait().map(drop))?;
    println!("parties={PARTIES} killed={} died={died} {}", PARTIES / 2, if died == 4 { "ok" } else { "wrong" });
    Ok(())
}
