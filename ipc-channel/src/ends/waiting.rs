//! Waiting at an end, and telling the one who waits.
//!
//! # Telling without a fence
//!
//! Whoever has changed the ring looks whether the other side is asleep. For that look not to come before the change is seen, it would
//! take a fence, which for each message would cost as much as everything else together. So the first look, whether the other side is SLEEPY, is
//! a plain load; only if it is comes the fence, and the look at `asleep`. Two who stream or pass messages to and fro, and look so often that they do
//! not sleep, pay for no fence; those who sleep pay for one beside a system call.
//!
//! The plain load may miss a SLEEPY that was set meanwhile. The owner makes up for that by time: until it is `settled`, which is a [settling] after
//! it has set SLEEPY, it only [naps](nap), and looks again afterwards. `docs/MEMORY_MODEL.md` has the argument, in "A store without
//! a fence". In models there is a fence. Without the flag that stays, each sleep would have to settle, which takes half a microsecond.

use core::sync::atomic::Ordering::{Relaxed, SeqCst};
use core::sync::atomic::compiler_fence;

use shmkit_core::shim::{AtomicU64, fence, store_load_barrier};
use shmkit_core::spin::spin;
use shmkit_core::wait::{Armed, Site, nap, settles, settling, wake_all};
use shmkit_core::{Deadline, Error, crash_point};

use super::{Claim, Ends, SLEEPY, Side, garbage};

/// How often in a row an owner must have found what it waits for without sleeping, to be SLEEPY no longer.
const LUCKY: u32 = 16;

/// The owner sleeps, or is about to.
const ASLEEP: u32 = 1;

/// The owner waits in an event loop, and its bell is to be rung.
const BELL: u64 = 2;

/// Why a wait ended without what was waited for.
#[derive(Debug)]
pub(crate) enum Ended {
    TimedOut,
    /// The other end was closed, or its owner is dead.
    Gone,
    Failed(Error),
}

impl From<Error> for Ended {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl Ends {
    /// Tells the other side of a change on this `side`, if it is asleep. The change must have been made before, with Release.
    ///
    /// `true`: the other side waits in an event loop, so its bell is to be rung now.
    #[must_use]
    pub(crate) fn tell(&self, side: Side) -> bool {
        self.is_to_be_told(side.other()) && self.tell_sleepy(side.other())
    }

    /// Whether the owner of this `side` may be asleep, so that it is to be [told](Self::tell_sleepy) of a change that was made before.
    #[inline]
    pub(crate) fn is_to_be_told(&self, side: Side) -> bool {
        // See the module for what this may miss, and why that does no harm. It is for the processor only to miss it, not for the compiler.
        compiler_fence(SeqCst);
        let is_sleepy = || self.end(side).load(Relaxed) & SLEEPY != 0;
        // In models, a second look behind a fence stands for the time that the other side takes to settle.
        let looks_again = || {
            store_load_barrier();
            is_sleepy()
        };
        is_sleepy() || cfg!(ipc_loom) && looks_again()
    }

    /// Tells the owner of this `side`, if it is asleep; says what [`tell`](Self::tell) says.
    #[cold]
    #[must_use]
    pub(crate) fn tell_sleepy(&self, side: Side) -> bool {
        // SeqCst pairs with the exchange in `fall_asleep`: either this sees that it is asleep, or its look sees the change.
        fence(SeqCst);
        let asleep = self.asleep(side);
        if asleep.load(Relaxed) == 0 {
            return false;
        }
        crash_point!("ends.tell.before_swap");
        match asleep.swap(0, Relaxed) {
            // It has come back by itself.
            0 => false,
            BELL => true,
            _ => {
                crash_point!("ends.tell.before_wake");
                wake_all(asleep);
                crash_point!("ends.tell.after_wake");
                false
            }
        }
    }

    /// Waits until `look` finds something, or the other side is gone (which `is_gone` says) and `look` finds nothing after that either.
    ///
    /// `look` is asked once and then after each change that was [told](Self::tell) of.
    #[cold]
    pub(crate) fn wait<R>(
        &self,
        claim: &Claim,
        deadline: Option<Deadline>,
        mut look: impl FnMut() -> Option<R>,
        is_gone: impl Fn(&Site) -> Result<bool, Error>,
    ) -> Result<R, Ended> {
        // All deadlines of models have passed; there, they count only after a sleep.
        let mut is_over = !cfg!(ipc_loom) && deadline.is_some_and(Deadline::has_passed);
        // One without patience wants an answer at once.
        if !is_over {
            if let Some(found) = spin(&mut look) {
                self.count_luck(claim);
                return Ok(found);
            }
        }
        claim.luck.store(0, Relaxed);
        let site = Site::of(self)?;
        loop {
            if !claim.is_own() {
                return Err(Ended::Failed(Error::Forked));
            }
            let epoch = site.epoch();
            // Before the look, which is the last one if it is settled.
            let unsettled = self.fall_asleep(claim, ASLEEP.into())?;
            if let Some(ended) = Self::look_around(&site, is_over, &mut look, &is_gone) {
                self.wake_up(claim);
                return ended;
            }
            crash_point!("ends.wait.before_sleep");
            site.wait(self.asleep(claim.side), ASLEEP, epoch, nap(unsettled, deadline));
            // Then one last look.
            is_over = deadline.is_some_and(Deadline::has_passed);
            crash_point!("ends.wait.after_sleep");
        }
    }

    /// How a wait ends now, if it does; surely so if its time is over.
    pub(crate) fn look_around<R>(
        site: &Site,
        is_over: bool,
        mut look: impl FnMut() -> Option<R>,
        is_gone: impl Fn(&Site) -> Result<bool, Error>,
    ) -> Option<Result<R, Ended>> {
        if let Some(found) = look() {
            return Some(Ok(found));
        }
        if is_over {
            // One whose waits are too short to be told of deaths must hear of them, too.
            site.look();
        }
        match is_gone(site) {
            Ok(true) => Some(look().ok_or(Ended::Gone)),
            Ok(false) => is_over.then_some(Err(Ended::TimedOut)),
            Err(error) => Some(Err(error.into())),
        }
    }

    /// The word that an end sleeps on.
    pub(crate) fn word(&self, claim: &Claim) -> &AtomicU64 {
        self.asleep(claim.side)
    }

    /// Gets an end ready to sleep, as [`wait`](Self::wait) does.
    pub(crate) fn arm(&self, claim: &Claim) -> Result<Armed, Error> {
        if !claim.is_own() {
            return Err(Error::Forked);
        }
        let unsettled = self.fall_asleep(claim, ASLEEP.into())?;
        crash_point!("ends.arm.after_asleep");
        Ok(Armed::at(ASLEEP).unsettled(unsettled.is_some()))
    }

    /// Leaves word that the bell is to be rung at the next change; look for changes after that. `false`: it may not have been seen by everybody
    /// yet, so come back.
    ///
    /// Nobody sleeps then, so the word is not waited on, and stays until it is taken out by one who rings, or by the owner's next wait.
    pub(crate) fn arm_bell(&self, claim: &Claim) -> Result<bool, Error> {
        if !claim.is_own() {
            return Err(Error::Forked);
        }
        let unsettled = self.fall_asleep(claim, BELL)?;
        crash_point!("ends.arm_bell.after_asleep");
        Ok(unsettled.is_none())
    }

    /// Ends that. Does nothing in a forked child.
    pub(crate) fn disarm(&self, claim: &Claim) {
        if claim.is_own() {
            self.wake_up(claim);
        }
    }

    /// Sets `asleep` to what is said of `how`, and SLEEPY if it is not set; says how long that is to settle, if it has not done so.
    fn fall_asleep(&self, claim: &Claim, how: u64) -> Result<Option<Deadline>, Error> {
        let end = self.end(claim.side);
        let settled = &self.settled[claim.side as usize];
        let word = end.load(Relaxed);
        let unsettled = if word == claim.token.word() | SLEEPY {
            settles(settled.load(Relaxed))
        } else {
            // SeqCst: the look at the ring that follows must not come before it. An end that is closed, or another's, stays as it is.
            let own = claim.token.word();
            match end.compare_exchange(own, own | SLEEPY, SeqCst, Relaxed) {
                Err(now) if now != own | SLEEPY => return Err(garbage(now)),
                _ => {}
            }
            crash_point!("ends.wait.after_sleepy");
            settling().inspect(|until| settled.store(until.as_nanos(), Relaxed))
        };
        // SeqCst, and a fence, for the looks that follow need not be: they pair with the fence in `tell_sleepy`.
        self.asleep(claim.side).swap(how, SeqCst);
        fence(SeqCst);
        Ok(unsettled.filter(|until| !until.has_passed()))
    }

    /// Clears `asleep`. What it was set for has been seen.
    fn wake_up(&self, claim: &Claim) {
        self.asleep(claim.side).store(0, Relaxed);
    }

    /// Counts a wait that needed no sleep. After many in a row, the other side need not be so careful any more.
    fn count_luck(&self, claim: &Claim) {
        let luck = claim.luck.load(Relaxed) + 1;
        claim.luck.store(luck % LUCKY, Relaxed);
        let (end, sleepy) = (self.end(claim.side), claim.token.word() | SLEEPY);
        // Mostly it is not: an exchange that failed would take the line away from the other side, which looks at it with each message.
        if luck == LUCKY && end.load(Relaxed) == sleepy {
            let _ = end.compare_exchange(sleepy, claim.token.word(), Relaxed, Relaxed);
        }
    }

    /// Gets another thread of this process out of its wait, or keeps it from beginning one, if it finds by its `look` that it is to end: that
    /// sees what the calling thread has stored before.
    pub(crate) fn interrupt(&self, claim: &Claim) {
        let asleep = self.asleep(claim.side);
        // Whoever goes to sleep exchanges the word, too: before this, then it does not sleep on what is there now; or after it, then its Acquire
        // pairs with the Release in this.
        asleep.swap(0, SeqCst);
        wake_all(asleep);
    }

    fn asleep(&self, side: Side) -> &AtomicU64 {
        &self.asleep[side as usize]
    }
}

#[cfg(all(test, not(ipc_loom)))]
mod tests {
    use core::hint;
    use core::sync::atomic::Ordering::{Acquire, Release};
    use core::sync::atomic::{AtomicBool, AtomicUsize};
    use core::time::Duration;
    use std::thread;
    use std::time::Instant;

    use shmkit_core::spin::{Spinning, set_spinning};

    use super::*;

    #[test]
    fn a_sleeper_that_was_woken_early_looks_again_when_all_is_settled() {
        set_spinning(Spinning::Never);
        // Each has to settle once only.
        let all: Vec<_> = (0..300).map(|_| Ends::new(false, None)).collect();
        let bell = AtomicUsize::new(0);
        let (ringing, over) = (AtomicBool::new(false), AtomicBool::new(false));
        thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Relaxed) {
                    if ringing.load(Relaxed) {
                        wake_all(all[bell.load(Relaxed)].asleep(Side::Receiver));
                    }
                }
            });
            // Nobody wakes it after its second look, and what it waits for is there a little later, but not for long.
            let there = Duration::from_micros(100)..Duration::from_secs(1);
            let failed = all.iter().enumerate().find_map(|(number, ends)| {
                let claim = ends.claim(Side::Receiver).expect("an end that nobody has");
                bell.store(number, Relaxed);
                ringing.store(true, Relaxed);
                let (begin, mut looks) = (Instant::now(), 0);
                let look = || {
                    looks += 1;
                    ringing.store(looks < 2, Relaxed);
                    (looks > 1 && there.contains(&begin.elapsed())).then_some(())
                };
                ends.wait(&claim, Deadline::after(Duration::from_secs(2)), look, |_| Ok(false)).err()
            });
            over.store(true, Relaxed);
            assert!(failed.is_none(), "{failed:?}");
        });
    }

    /// What models cannot show, since they have a fence there: on a real processor, a store without one is seen late, and the look behind it comes before.
    #[test]
    fn no_wake_up_is_lost_although_the_look_for_the_sleeper_has_no_fence() {
        const ROUNDS: usize = 50_000;
        let all: Vec<_> = (0..ROUNDS).map(|_| (Ends::new(false, None), AtomicBool::new(false))).collect();
        let round = AtomicUsize::new(0);
        thread::scope(|scope| {
            scope.spawn(|| {
                for (number, (ends, is_there)) in all.iter().enumerate() {
                    ends.claim(Side::Sender).expect("an end that nobody has");
                    while round.load(Acquire) <= number {
                        hint::spin_loop();
                    }
                    // Now a little earlier, now a little later than the other one falls asleep; with the line at hand, as every sender has it.
                    let (begin, late) = (Instant::now(), Duration::from_nanos(number as u64 % 3001));
                    while begin.elapsed() < late {
                        hint::black_box(ends.other(Side::Sender));
                    }
                    is_there.store(true, Release);
                    assert!(!ends.tell(Side::Sender), "nobody has a bell");
                }
            });
            set_spinning(Spinning::Never);
            let patience = Duration::from_secs(2);
            let overslept = all.iter().enumerate().find(|(number, (ends, is_there))| {
                let claim = ends.claim(Side::Receiver).expect("an end that nobody has");
                round.store(number + 1, Release);
                let begin = Instant::now();
                let look = || is_there.load(Acquire).then_some(());
                ends.wait(&claim, Deadline::after(patience), look, |_| Ok(false)).expect("it is there in the end");
                begin.elapsed() >= patience
            });
            let overslept = overslept.map(|(number, _)| number);
            round.store(ROUNDS, Release);
            assert_eq!(overslept, None, "a wake-up was lost");
        });
    }
}
