//! Processes that do what they are told, and answer; and the role that does so with the mutex of a stage.

use std::ops::{Deref, DerefMut};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use shmkit::{LockError, LockResult, MutexGuard};

use super::process::{Channel, Child, Net, Parent};
use super::prompt;
use super::stage::Stage;
use super::sys::{self, now_ns};

type Guard<'a> = MutexGuard<'a, [u64; 16]>;

/// An answer, and when it was found.
#[derive(Debug)]
pub(crate) struct Reply {
    /// On the clock of `now_ns`.
    pub(crate) at: u64,
    pub(crate) took: Duration,
    pub(crate) text: String,
}

impl Reply {
    pub(crate) fn parse(line: &str) -> Self {
        let mut parts = line.splitn(3, ' ');
        let mut next = || parts.next().expect("three parts");
        let (at, took) = (next().parse().expect("a time"), next().parse().expect("a duration"));
        Self { at, took: Duration::from_nanos(took), text: next().to_owned() }
    }

    /// How long after `start` it was found.
    pub(crate) fn since(&self, start: u64) -> Duration {
        Duration::from_nanos(self.at.saturating_sub(start))
    }
}

/// A process that does what it is told and answers with the time: it plays [`party`], or another role that begins with the
/// answer "here".
#[derive(Debug)]
pub(crate) struct Party(Child);

impl Deref for Party {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.0
    }
}

impl DerefMut for Party {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.0
    }
}

impl Party {
    /// Starts a party without the safety net and waits until it takes part.
    #[track_caller]
    pub(crate) fn join(stage: &Stage) -> Self {
        Self::join_as("party", Net::Off, stage)
    }

    #[track_caller]
    pub(crate) fn join_as(role: &str, net: Net, stage: &Stage) -> Self {
        let mut party = Self(Child::spawn_with(net, role, &[stage.name()]));
        assert_eq!(party.reply().text, "here");
        party
    }

    /// Starts several one after the other: so they stand in the table, and so they watch one another.
    #[track_caller]
    pub(crate) fn join_many<const N: usize>(net: Net, stage: &Stage) -> [Self; N] {
        Self::join_many_as("party", net, stage)
    }

    #[track_caller]
    pub(crate) fn join_many_as<const N: usize>(role: &str, net: Net, stage: &Stage) -> [Self; N] {
        std::array::from_fn(|_| Self::join_as(role, net, stage))
    }

    /// Starts a party that has joined and then forked a child, which is the second.
    #[track_caller]
    pub(crate) fn join_and_fork(stage: &Stage) -> (Self, ForkedParty) {
        let (parent, channel) = Child::spawn_with_second(Net::Off, "forking_party", &[stage.name()]);
        let mut parent = Self(parent);
        let mut child = ForkedParty { channel, pid: 0 };
        assert_eq!(parent.reply().text, "here");
        child.pid = child.channel.hear().parse().expect("a process id");
        (parent, child)
    }

    #[track_caller]
    pub(crate) fn reply(&mut self) -> Reply {
        Reply::parse(&self.hear())
    }

    #[track_caller]
    pub(crate) fn ask(&mut self, what: &str) -> String {
        self.tell(what);
        self.reply().text
    }

    /// Its next answer, which it found soon after `start`.
    #[track_caller]
    pub(crate) fn soon(&mut self, start: u64) -> String {
        let reply = self.reply();
        assert!(reply.since(start) < prompt(), "after {:?}: {reply:?}", reply.since(start));
        reply.text
    }
}

/// Lets each of them fall asleep at the same order, one after the other.
#[track_caller]
pub(crate) fn queue_up(order: &str, parties: &mut [Party]) {
    parties.iter_mut().for_each(|party| party.fall_asleep(order));
}

/// Plays a scene without the safety net, where a lost wake-up is a hang, and with it, where it is a rescue.
pub(crate) fn with_and_without_the_net(scene: impl Fn(Net)) {
    scene(Net::Off);
    scene(Net::Same);
}

/// The forked child of a party, which is a party, too. It ends with the test.
#[derive(Debug)]
pub(crate) struct ForkedParty {
    channel: Channel,
    pub(crate) pid: u32,
}

impl ForkedParty {
    #[track_caller]
    pub(crate) fn tell(&mut self, what: &str) {
        self.channel.tell(what);
    }

    #[track_caller]
    pub(crate) fn reply(&mut self) -> Reply {
        Reply::parse(&self.channel.hear())
    }

    #[track_caller]
    pub(crate) fn ask(&mut self, what: &str) -> String {
        self.tell(what);
        self.reply().text
    }
}

impl Drop for ForkedParty {
    fn drop(&mut self) {
        // Its parent, which is not ours to know about, may have gone before it; it has not been reaped while that lives.
        sys::signal(self.pid, libc::SIGKILL);
    }
}

/// The role: joins the stage in its first argument and obeys.
pub(crate) fn party(parent: &mut Parent) {
    let stage = Stage::open(parent.argument(0));
    answer(parent, now_ns(), "here");
    obey(parent, &stage);
}

/// The role: joins the stage in its first argument, forks a child that obeys on the second channel, and obeys.
pub(crate) fn forking_party(parent: &mut Parent) {
    let stage = Stage::open(parent.argument(0));
    let _child = sys::fork(|| {
        sys::outlive_parent();
        let mut second = Parent::second();
        second.say(std::process::id());
        obey(&mut second, &stage);
    });
    answer(parent, now_ns(), "here");
    obey(parent, &stage);
}

/// Obeys until told to end, or until the parent is gone.
pub(crate) fn obey(parent: &mut Parent, stage: &Stage) {
    let mutex = &stage.mutex;
    let mut guard: Option<Guard<'_>> = None;
    loop {
        let order = parent.hear();
        let (verb, number) = order.split_once(' ').unwrap_or((&order, "0"));
        let number: u64 = number.parse().expect("a number");
        let start = now_ns();
        let text = match verb {
            "lock" => outcome(mutex.lock(), &mut guard),
            "try" => outcome(mutex.try_lock(), &mut guard),
            "timed" => outcome(mutex.lock_timeout(Duration::from_millis(number)), &mut guard),
            "unlock" => {
                guard = None;
                "unlocked".to_owned()
            }
            // Locks and unlocks, and answers with the time in between.
            "pass" => {
                let text = outcome(mutex.lock(), &mut guard);
                let at = now_ns();
                guard = None;
                parent.say(format_args!("{at} {} {text}", at - start));
                continue;
            }
            "write" => {
                guard.as_mut().expect("a guard")[0] = number;
                "written".to_owned()
            }
            "read" => guard.as_ref().expect("a guard")[0].to_string(),
            "add" => {
                for _ in 0..number {
                    mutex.lock().expect("a sound mutex")[0] += 1;
                }
                "added".to_owned()
            }
            "panic" => {
                let held = guard.take();
                let panicked = catch_unwind(AssertUnwindSafe(|| {
                    let _held = held;
                    std::panic::resume_unwind(Box::new(()));
                }));
                assert!(panicked.is_err());
                "panicked".to_owned()
            }
            "poisoned" => mutex.is_poisoned().to_string(),
            "clear" => {
                mutex.clear_poison();
                "cleared".to_owned()
            }
            "forget" => {
                std::mem::forget(guard.take());
                "forgotten".to_owned()
            }
            "thread" => {
                let locker = || std::mem::forget(mutex.lock().expect("a free mutex"));
                std::thread::scope(|scope| scope.spawn(locker).join().expect("no panic"));
                "locked".to_owned()
            }
            "interrupts" => {
                sys::interrupt_on(libc::SIGUSR1);
                "ready".to_owned()
            }
            "idle" => {
                sys::stay_on_cpu_0(true);
                "idle".to_owned()
            }
            "busy" => {
                sys::stay_on_cpu_0(false);
                "busy".to_owned()
            }
            // Unlocks, which wakes a sleeper, and kills it before it has run, if both are on the same CPU.
            "unlock-and-kill" => {
                guard = None;
                sys::signal(number as u32, libc::SIGKILL);
                "killed".to_owned()
            }
            "close-files" => {
                sys::close_from(3);
                "closed".to_owned()
            }
            "exit" => std::process::exit(7),
            "exec" => sys::exec_sleep(),
            "end" => return,
            other => panic!("no order {other:?}"),
        };
        answer(parent, start, &text);
    }
}

fn outcome<'a>(locked: LockResult<Guard<'a>>, guard: &mut Option<Guard<'a>>) -> String {
    match locked {
        Ok(held) => {
            *guard = Some(held);
            "ok".to_owned()
        }
        Err(LockError::Poisoned { guard: held, cause }) => {
            *guard = Some(held);
            format!("poisoned {cause:?}")
        }
        Err(other) => format!("{other:?}"),
    }
}

/// Says what was found, and when.
pub(crate) fn answer(parent: &mut Parent, start: u64, text: &str) {
    let at = now_ns();
    parent.say(format_args!("{at} {} {text}", at - start));
}
