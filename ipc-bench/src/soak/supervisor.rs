//! The supervisor: kills, stops, continues and replaces workers, watches for stalls, and does the sums.

use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use super::acts::ACTS;
use super::pool::Work;
use super::stores;
use super::worker::WORKER;
use super::world::{PARTIES, PERMITS, SUMS, Sum, World};
use super::{LONGEST_STALL, Random};
use crate::child::Child;
use crate::clock;

/// How to run the soak.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How long.
    pub seconds: u64,
    /// How many workers at a time.
    pub processes: usize,
    /// What decides who does what, and who is killed when; how they meet is up to the machine.
    pub seed: u64,
}

/// What the soak has come to, if nothing was violated.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outcome {
    /// Acts that came to their end.
    pub acts: u64,
    /// Tasks of the pool that have been accounted for.
    pub tasks: u64,
    /// Workers that were killed.
    pub kills: u64,
    /// Workers that were stopped for a while.
    pub stops: u64,
    /// How often something was found that a death had left.
    pub recoveries: u64,
    /// How often the safety net had to step in.
    pub rescues: u32,
    /// The longest act of a worker that came to its end.
    pub longest: Duration,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { acts, tasks, kills, stops, recoveries, rescues, longest } = self;
        let longest = longest.as_secs_f64() * 1e3;
        write!(
            f,
            "ops={acts} tasks={tasks} kills={kills} stops={stops} recoveries={recoveries} rescues={rescues} longest_stall={longest:.1}ms"
        )
    }
}

/// The longest pause between two disturbances, the longest stop, and how often to look for stalls.
const PAUSE: Duration = Duration::from_millis(20);
const STOP: Duration = Duration::from_millis(100);
/// The acts that hold something most of their time.
const HOLDING: &[&str] =
    &["mutex", "reentrant", "rwlock write", "permits", "condvar produce", "condvar consume", "map share", "vec share"];
/// The most that one act adds to a sum.
const MOST_AT_ONCE: u64 = 3;
/// How long the workers may take to end.
const END: Duration = Duration::from_secs(10);

/// Runs the soak; `progress` is called about once a second.
///
/// # Errors
/// A violation, in words; those of starting processes.
pub fn run(settings: &Settings, mut progress: impl FnMut(Duration, &Outcome)) -> io::Result<Outcome> {
    let world = World::create(settings.seconds).map_err(io::Error::other)?;
    let mut crew = Crew { world: &world, seed: settings.seed, started: 0, workers: Vec::new(), slack: [0; SUMS] };
    for me in 0..settings.processes {
        let worker = crew.start(me)?;
        crew.workers.push(worker);
    }
    let pool = Work::begin(settings.seed)?;
    let mut random = Random::new(settings.seed);
    let mut outcome = Outcome::default();
    let begin = Instant::now();
    let length = Duration::from_secs(settings.seconds);
    let mut told = 0;
    while begin.elapsed() < length {
        std::thread::sleep(random.time(PAUSE));
        crew.check()?;
        if !pool.is_at_work() {
            break;
        }
        // The first one lives through it all, so that a stall has the time to be seen.
        let victim = 1 + random.below(settings.processes as u64 - 1) as usize;
        if random.below(8) == 0 {
            pool.stop(&mut random, STOP);
        } else if random.below(4) == 0 {
            pool.kill(&mut random);
        }
        if random.below(4) == 0 {
            crew.stop(victim, random.time(STOP))?;
            outcome.stops += 1;
        } else {
            if random.below(2) == 0 {
                crew.await_something_held(victim);
            }
            crew.kill(victim)?;
            outcome.kills += 1;
        }
        if begin.elapsed().as_secs() > told {
            told = begin.elapsed().as_secs();
            crew.count(&mut outcome);
            outcome.tasks = pool.tasks();
            progress(begin.elapsed(), &outcome);
        }
    }
    outcome.tasks = pool.end()?;
    crew.end()?;
    crew.count(&mut outcome);
    if u64::from(outcome.rescues) > outcome.kills + outcome.stops {
        return Err(io::Error::other(format!("more rescues by the safety net than kills and stops: {outcome}")));
    }
    if outcome.longest > LONGEST_STALL {
        return Err(io::Error::other(format!("somebody stalled for too long: {outcome}")));
    }
    Ok(outcome)
}

struct Crew<'a> {
    world: &'a World,
    seed: u64,
    started: u64,
    workers: Vec<Child>,
    /// By how much each sum may be off, because somebody was killed between an act and the note of it.
    slack: [u64; SUMS],
}

impl Crew<'_> {
    fn start(&mut self, me: usize) -> io::Result<Child> {
        self.started += 1;
        let seed = self.seed.wrapping_mul(1_000_003).wrapping_add(self.started);
        let orders = [("worker", me.to_string()), ("seed", seed.to_string())];
        Child::start_with_input(WORKER, &orders, self.world.region.as_fd().try_clone_to_owned()?)
    }

    /// Waits for a moment at which the victim may hold something: most of the time it waits.
    fn await_something_held(&self, victim: usize) {
        let tally = &self.world.desk.tallies[victim];
        let deadline = Instant::now() + PAUSE;
        let holds = || {
            let act = ACTS.get(tally.act.load(Relaxed) as usize);
            act.is_some_and(|(name, _)| HOLDING.contains(name)) && tally.since.load(Relaxed) != 0
        };
        while !holds() && Instant::now() < deadline {
            std::hint::spin_loop();
        }
    }

    fn kill(&mut self, victim: usize) -> io::Result<()> {
        self.workers[victim].kill()?;
        self.workers[victim].wait()?;
        let tally = &self.world.desk.tallies[victim];
        // What it was killed at, before its successor writes that itself.
        let intent = tally.intent.swap(0, Relaxed) as usize;
        if let Some(slack) = self.slack.get_mut(intent) {
            *slack += MOST_AT_ONCE;
        }
        tally.since.store(0, Relaxed);
        self.workers[victim] = self.start(victim)?;
        Ok(())
    }

    fn stop(&mut self, victim: usize, time: Duration) -> io::Result<()> {
        self.workers[victim].signal(libc::SIGSTOP)?;
        std::thread::sleep(time);
        self.workers[victim].signal(libc::SIGCONT).map(drop)
    }

    /// Whether everybody gets on.
    fn check(&mut self) -> io::Result<()> {
        for (me, worker) in self.workers.iter_mut().enumerate() {
            worker.check_alive()?;
            let tally = &self.world.desk.tallies[me];
            let since = tally.since.load(Relaxed);
            let stalled = Duration::from_nanos(clock::monotonic_ns().saturating_sub(since));
            if since != 0 && stalled > LONGEST_STALL {
                let act = ACTS.get(tally.act.load(Relaxed) as usize).map_or("?", |(name, _)| name);
                return Err(io::Error::other(format!("worker {me} has been in {act:?} for {stalled:?}")));
            }
        }
        Ok(())
    }

    fn count(&self, outcome: &mut Outcome) {
        outcome.acts = self.world.total(|tally| &tally.acts);
        outcome.recoveries = self.world.total(|tally| &tally.recoveries);
        outcome.rescues = self.world.region.rescues();
        let longest = self.world.desk.tallies.iter().map(|tally| tally.longest.load(Relaxed)).max();
        outcome.longest = Duration::from_nanos(longest.unwrap_or(0));
    }

    /// Ends all workers and does the sums.
    fn end(&mut self) -> io::Result<()> {
        self.world.desk.over.store(1, Relaxed);
        let deadline = Instant::now() + END;
        for (me, worker) in self.workers.drain(..).enumerate() {
            worker.finish(deadline).map_err(|error| io::Error::other(format!("worker {me} does not end: {error}")))?;
        }
        self.balance()
    }

    /// What must add up when nobody is there any more.
    fn balance(&self) -> io::Result<()> {
        let world = self.world;
        let sum = |sum| world.sum(sum);
        let slack = |sum: Sum| self.slack[sum as usize];
        let check = |holds: bool, what: fmt::Arguments<'_>| {
            if holds { Ok(()) } else { Err(io::Error::other(format!("the books do not balance: {what}"))) }
        };
        let free = world.permits.available();
        check(free == PERMITS, format_args!("{free} of {PERMITS} permits came back"))?;

        let (released, acquired, left) = (sum(Sum::Released), sum(Sum::Acquired), u64::from(world.goods.available()));
        let most = released + slack(Sum::Released);
        let least = released.saturating_sub(slack(Sum::Acquired));
        check(
            (least..=most).contains(&(acquired + left)),
            format_args!("{released} released, {acquired} acquired, {left} left, {least} to {most} expected"),
        )?;

        let (set, taken) = (sum(Sum::Set), sum(Sum::Taken));
        check(taken <= set, format_args!("an event was set {set} times and taken {taken} times"))?;

        for log in world.lines.iter() {
            log.balance().map_err(io::Error::other)?;
        }

        let (sent, received, left) = (sum(Sum::Sent), sum(Sum::Received), world.queue.len() as u64);
        let most = sent + slack(Sum::Sent);
        let least = sent.saturating_sub(slack(Sum::Received));
        check(
            (least..=most).contains(&(received + left)),
            format_args!("{sent} sent, {received} received, {left} left in the queue, {least} to {most} expected"),
        )?;

        let entries = stores::entries(world).map_err(io::Error::other)?;
        let elements = world.pile.len().map_err(io::Error::other)? as u64;
        for (what, came, went, left) in [
            ("entries of the map", Sum::Inserted, Sum::Removed, entries),
            ("elements of the vector", Sum::Pushed, Sum::Popped, elements),
        ] {
            let most = sum(came) + slack(came);
            let least = sum(came).saturating_sub(slack(went));
            let found = sum(went) + left;
            check(
                (least..=most).contains(&found),
                format_args!(
                    "{what}: {} came, {} went, {left} are left, {least} to {most} expected",
                    sum(came),
                    sum(went)
                ),
            )?;
        }
        stores::balance(world).map_err(io::Error::other)?;

        let numbers: u64 = world.numbers.iter().sum();
        let added = sum(Sum::Added);
        let most = added + slack(Sum::Added);
        check((added..=most).contains(&numbers), format_args!("{added} to {most} added, {numbers} found"))?;

        let (passed, led) = (sum(Sum::Passed), sum(Sum::Led));
        let off = passed.abs_diff(led * u64::from(PARTIES));
        let most = slack(Sum::Passed) * u64::from(PARTIES);
        check(
            off <= most,
            format_args!("{passed} passed a barrier of {PARTIES} with {led} leaders, {most} killed there"),
        )
    }
}
